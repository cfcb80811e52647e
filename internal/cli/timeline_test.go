package cli

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestTimelineHoldsEventsBackUntilItsBanner(t *testing.T) {
	var out bytes.Buffer
	events := newTimeline(&out, describeEvent)
	events.observe(emulator.Event{Kind: emulator.KindLogin, User: "a", Status: 200, Session: 1})
	if out.Len() > 0 {
		t.Fatalf("too early: %q", out.String())
	}
	events.begin("BANNER\n")
	events.observe(emulator.Event{Kind: emulator.KindCall, User: "a", Method: "GET", Path: "/x", Status: 200, Session: 1})
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || lines[0] != "BANNER" || !strings.Contains(lines[1], `login           200  user "a" has session 1`) ||
		!strings.Contains(lines[2], "call            200  GET    /x") {
		t.Errorf("got %q", lines)
	}
}

func TestTimelineLetsNobodyWriteToTheTerminal(t *testing.T) {
	for _, kind := range []string{emulator.KindLogin, emulator.KindLoginRefused, emulator.KindLoginFailed, emulator.KindLogout} {
		if l := describeEvent(emulator.Event{Kind: kind, User: "\x1b[2J\nx"}); strings.ContainsAny(l.detail, "\x1b\n") {
			t.Errorf("%s: got %q", kind, l.detail)
		}
	}
}

func TestStoryTellsARenewalFromALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStory()
		login := func(session int) string {
			return s.describe(emulator.Event{Kind: emulator.KindLogin, Session: session}).what
		}
		steps := []struct {
			name string
			do   func() string
			want string
		}{
			{"the first", func() string { return login(1) }, "login"},
			{"while the first lives", func() string { return login(2) }, "renewal"},
			{"the first ends", func() string {
				return s.describe(emulator.Event{Kind: emulator.KindLogout, Session: 1}).what
			}, "log-out"},
			{"still a renewal", func() string { return login(3) }, "renewal"},
			{"after a restart", func() string {
				s.describe(emulator.Event{Kind: emulator.KindRestart})
				return login(4)
			}, "login"},
			{"after its end", func() string {
				select {
				case <-time.After(demoLifetime + time.Second):
				case <-t.Context().Done():
				}
				return login(5)
			}, "login"},
			{"after a log-out", func() string {
				s.describe(emulator.Event{Kind: emulator.KindLogout, Session: 5})
				return login(6)
			}, "login"},
		}
		for _, step := range steps {
			if got := step.do(); got != step.want {
				t.Errorf("%s: got %s, want %s", step.name, got, step.want)
			}
		}
		if s.renewed() != 2 {
			t.Errorf("got %d renewals, want 2", s.renewed())
		}
	})
}

func TestQuoteMakesOneWordOfAShell(t *testing.T) {
	for text, want := range map[string]string{
		"/a/b.pem": "/a/b.pem", "a b": "'a b'", "": "''", "it's": `'it'\''s'`, "$x": "'$x'",
	} {
		if got := quote(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
