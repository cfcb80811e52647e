package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// timeline prints what happens at an emulator, one aligned line per event. It
// is safe for concurrent use.
type timeline struct {
	describe func(emulator.Event) line

	mu     sync.Mutex
	out    io.Writer
	colour bool
	open   bool
	held   []string // lines from before open
}

// line is one event as people read it.
type line struct {
	what   string // call, login…
	colour string
	detail string
}

// Colours of a terminal.
const (
	plain  = ""
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
)

func newTimeline(out io.Writer, describe func(emulator.Event) line) *timeline {
	return &timeline{out: out, colour: wantsColour(out), describe: describe}
}

// wantsColour: on a terminal, unless its user asks for none (no-color.org).
func wantsColour(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd())) //nolint:gosec // a descriptor
}

// begin prints the banner, then what has happened meanwhile.
func (t *timeline) begin(banner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.out, banner+strings.Join(t.held, ""))
	t.held, t.open = nil, true
}

// observe prints e.
func (t *timeline) observe(e emulator.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(t.describe(e), e.Status)
}

// say prints a line that is no event of the emulator's.
func (t *timeline) say(l line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.print(l, 0)
}

func (t *timeline) print(l line, status int) {
	code := "   "
	if status > 0 {
		code = fmt.Sprint(status)
	}
	what := fmt.Sprintf("%-14s", l.what)
	stamp := time.Now().Format(time.TimeOnly)
	if t.colour {
		what, stamp = l.colour+what+reset, faint+stamp+reset
	}
	text := fmt.Sprintf("%s  %s  %s  %s\n", stamp, what, code, strings.TrimRight(l.detail, " "))
	if !t.open {
		t.held = append(t.held, text)
		return
	}
	_, _ = io.WriteString(t.out, text)
}

// request is method and path of e, as one column. The path comes escaped, so
// that a caller cannot write to our terminal.
func request(e emulator.Event) string { return fmt.Sprintf("%-6s %-44s", e.Method, e.Path) }

// describeEvent is for the emulator alone. User names are what a client sent,
// hence the quotes.
func describeEvent(e emulator.Event) line {
	switch e.Kind {
	case emulator.KindLogin:
		return line{"login", green, fmt.Sprintf("user %q has session %d", e.User, e.Session)}
	case emulator.KindLoginRefused:
		return line{"login refused", red, fmt.Sprintf("user %q", e.User)}
	case emulator.KindLoginFailed:
		return line{"login failed", red, fmt.Sprintf("user %q", e.User)}
	case emulator.KindLogout:
		return line{"log-out", yellow, fmt.Sprintf("session %d of user %q", e.Session, e.User)}
	case emulator.KindCall:
		if e.Session == 0 {
			return line{"call", plain, request(e) + fmt.Sprintf("  an API token of user %q", e.User)}
		}
		return line{"call", plain, request(e) + fmt.Sprintf("  session %d of user %q", e.Session, e.User)}
	case emulator.KindCallRejected:
		return line{"call rejected", red, request(e) + "  no live session or API token"}
	case emulator.KindRestart:
		return line{"restart", yellow, "all sessions are gone"}
	}
	return line{e.Kind, plain, request(e)}
}
