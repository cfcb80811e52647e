//go:build unix

package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	ossignal "os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestSignalsPassToTheCommandAndTheGatewayStaysUntilItHasEnded(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "TERM": syscall.SIGTERM, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	} {
		t.Run(name, func(t *testing.T) {
			// Whoever runs the tests may ignore it, as nohup does, and the
			// program would then have to; what is caught is not passed on.
			caught := make(chan os.Signal, 1)
			ossignal.Notify(caught, signal)
			defer ossignal.Stop(caught)
			h, upstream := newHome(t), newPlant(t)
			// It tidies up when it is told to end, for which it needs the
			// gateway; so it waits at the gate in its trap.
			g := h.startGuest(t, upstream.passwordFile(t), `trap 'echo "told: `+name+`"; gate' `+name+`; `)
			g.works()
			if err := g.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			g.waitFor("told: " + name)
			g.works()
			code, out := g.release("40")
			if code != 40 || strings.Count(out, "told: ") != 1 {
				t.Errorf("got %d %s", code, out)
			}
			if got := upstream.Stats(); got.LiveSessions != 0 || got.Logouts != 1 {
				t.Errorf("it has not logged out: %+v", got)
			}
			nothingLeft(t, h)
		})
	}
}

func TestACommandThatDiesOfASignalIsLoggedOutFor(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	g := h.startGuest(t, upstream.passwordFile(t), "")
	g.works()
	if code, _ := g.end(syscall.SIGTERM); code != 128+int(syscall.SIGTERM) {
		t.Errorf("got %d", code)
	}
	if got := upstream.Stats(); got.LiveSessions != 0 || got.Logouts != 1 {
		t.Errorf("it has not logged out: %+v", got)
	}
}

func TestImpatienceWhileLoggingOutDoesNotCostTheCodeOfTheCommand(t *testing.T) {
	for name, impatience := range map[string][]syscall.Signal{
		"INT twice": {syscall.SIGINT, syscall.SIGINT, syscall.SIGINT}, "QUIT": {syscall.SIGQUIT},
	} {
		t.Run(name, func(t *testing.T) {
			asked, hold := make(chan struct{}, 1), make(chan struct{})
			release := sync.OnceFunc(func() { close(hold) })
			mux := http.NewServeMux()
			mux.HandleFunc("POST /automation-api/session/login", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, `{"username":"batch","token":"`+canary+`-session","version":"9.21.220"}`)
			})
			mux.HandleFunc("POST /automation-api/session/logout", func(http.ResponseWriter, *http.Request) {
				asked <- struct{}{}
				<-hold
			})
			mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") })
			h, url := newHome(t), serveHTTP(t, mux)
			t.Cleanup(release) // before the server waits for its calls
			g := h.startGuest(t, []string{
				"CTM_ENDPOINT=" + url + "/automation-api", "CTM_USERNAME=batch",
				"CTM_PASSWORD_FILE=" + write(t, filepath.Join(t.TempDir(), "password"), canary),
			}, "")
			g.works()
			write(t, g.gate, "41\n")
			await(t, asked)
			for _, signal := range impatience {
				if err := g.cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				// A signal that is pending swallows another of its kind.
				eventually(t, "the signal has come", func() bool { return !pending(t, g.cmd.Process.Pid, signal) })
			}
			release()
			if code, out := g.exit(); code != 41 {
				t.Errorf("got %d %s", code, out)
			}
		})
	}
}

// pending tells whether a signal waits to be delivered, where the system says.
func pending(t *testing.T, pid int, signal syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), "\nShdPnd:")
	var mask uint64
	if _, err := fmt.Sscanf(rest, "%x", &mask); err != nil {
		t.Fatal(err)
	}
	return mask&(1<<(uint(signal)-1)) != 0
}

func TestAnIgnoredSignalStaysIgnored(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	// As under nohup. A shell cannot trap what it has inherited as ignored, so
	// a trap that speaks would show that the command did not inherit it.
	p := h.startApart(t, upstream.passwordFile(t), "", "sh", "-c", `trap "" HUP; exec "$@"`, "sh",
		program, "exec", "--", "sh", "-c", `trap "echo told: HUP" HUP; trap "echo told: USR1; exit 6" USR1; echo ready; while :; do sleep 0.1; done`)
	p.waitFor("ready")
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1} {
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	if code, out := p.exit(); code != 6 || strings.Contains(out, "told: HUP") {
		t.Errorf("got %d %s", code, out)
	}
}

func TestNoHomeIsNoReasonForAWarning(t *testing.T) {
	upstream := newPlant(t)
	// The last of two that are the same counts.
	without := upstream.passwordFile(t, "HOME=", "XDG_CONFIG_HOME=", "XDG_DATA_HOME=")
	got := newHome(t).typed(t, without, "", "exec", "--", "sh", "-c", `echo "config: $XDG_CONFIG_HOME"`)
	got.want(t, 0)
	if got.out != "config: \n" || got.errout != "" {
		t.Errorf("got %q, %q", got.out, got.errout)
	}
}
