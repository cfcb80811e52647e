package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestAValueGoesWhereOutSaysAndNowhereElse(t *testing.T) {
	h, o := newHome(t), newOffice(t)
	env, folder := o.passwordFile(t), t.TempDir()
	value := func(name string) string { return `{"tokenName":"` + name + `","roles":["User"]}` }

	got := h.typed(t, env, value("a"), "token", "create", "-f", "-", "--out", "-")
	got.want(t, 0, "went to standard output")
	if status, _ := o.ask(t, strings.TrimSuffix(got.out, "\n"), http.MethodGet, "/config/servers", ""); status != 200 {
		t.Errorf("standard output is %q", got.out)
	}
	if strings.Contains(got.errout, strings.TrimSpace(got.out)) {
		t.Error("standard error has it too")
	}

	out := write(t, filepath.Join(folder, "value"), "before")
	if err := os.Chmod(out, 0o644); err != nil {
		t.Fatal(err)
	}
	got = h.typed(t, env, value("b"), "token", "create", "-f", "-", "--out", out, "--force")
	got.want(t, 0, "token b is created")
	if text := contentOf(t, out); len(text) < 33 || strings.Contains(got.out+got.errout, strings.TrimSpace(text)) {
		t.Errorf("the file has %q", text)
	}
	if modeOf(t, out) != 0o600 {
		t.Errorf("its mode is %v", modeOf(t, out))
	}
	if left := entries(t, folder); len(left) != 1 {
		t.Errorf("got %q", left)
	}
	o.settled(t, 2)
}

func TestWhereNoTokenIsMadeNoFileIsLeft(t *testing.T) {
	for name, fault := range map[string]string{
		"the API says no": "calls=403", "it fails": "calls=500", "it breaks off": "calls=truncate", "it ends": "calls=close", "no login": "login=500", "refused": "login=401",
	} {
		h, o := newHome(t), newOffice(t)
		folder := t.TempDir()
		old := write(t, filepath.Join(folder, "old"), "before")
		f, err := emulator.ParseFault(fault)
		if err != nil {
			t.Fatal(err)
		}
		o.SetFaults(f)
		for _, args := range [][]string{{"--out", filepath.Join(folder, "new")}, {"--out", old, "--force"}} {
			h.typed(t, o.passwordFile(t), `{"tokenName":"x","roles":["User"]}`, append([]string{"token", "create", "-f", "-"}, args...)...).want(t, 1)
		}
		if left := entries(t, folder); len(left) != 1 || contentOf(t, old) != "before" {
			t.Errorf("%s: it left %q", name, left)
		}
		if o.Stats().LiveSessions != 0 {
			t.Errorf("%s: a session is left", name)
		}
	}
}

func TestATokenWithoutAValueIsAnErrorThatSaysWhatToDo(t *testing.T) {
	s, env := newScripted(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tokenName":"x"}`) })
	folder := t.TempDir()
	newHome(t).typed(t, env, `{"tokenName":"x","roles":["User"]}`, "token", "create", "-f", "-", "--out", filepath.Join(folder, "value")).want(t, 1, "ctmgate token delete x")
	if left := entries(t, folder); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	s.settled(t)
}

func TestAValueThatNobodyReadsIsSaidToBeLost(t *testing.T) {
	h, o := newHome(t), newOffice(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = reader.Close()
	var errout strings.Builder
	cmd := exec.Command(program, "token", "create", "-f", "-", "--out", "-")
	cmd.Env, cmd.Stdin = h.environ(o.passwordFile(t)...), strings.NewReader(`{"tokenName":"x","roles":["User"]}`)
	cmd.Stdout, cmd.Stderr = writer, &errout
	err = cmd.Run()
	_ = writer.Close()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errout.String(), "its value is lost") {
		t.Errorf("got %v: %s", err, errout.String())
	}
	o.settled(t, 1)
}

func TestASignalEndsALookAtOnceAndLogsOut(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		h, o := newHome(t), newOffice(t)
		asked := make(chan struct{}, 1)
		s, env := newScripted(t, func(_ http.ResponseWriter, r *http.Request) {
			asked <- struct{}{}
			<-r.Context().Done()
		})
		p := h.start(t, env, "token", "list")
		await(t, asked)
		code, out := p.end(signal)
		if code != 1 || !strings.Contains(out, "given up") {
			t.Errorf("got %d %s", code, out)
		}
		s.settled(t)

		// In the middle of a login there is a session to come.
		began, signalled := make(chan struct{}, 1), make(chan struct{})
		o.on(func(e emulator.Event) {
			if e.Kind == emulator.KindLogin {
				began <- struct{}{}
				await(t, signalled)
			}
		})
		p = h.start(t, o.passwordFile(t), "token", "list")
		await(t, began)
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		close(signalled)
		if code, out := p.exit(); code != 1 && !strings.Contains(out, oldName) { // the answer may overtake the signal
			t.Errorf("got %d %s", code, out)
		}
		o.settled(t, 1)
	}
}

func TestASignalDoesNotCostTheValueOfATokenThatIsBeingMade(t *testing.T) {
	asked, signalled := make(chan struct{}, 1), make(chan struct{})
	value := canary + "-value"
	s, env := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		await(t, signalled)
		fmt.Fprintf(w, `{"tokenName":"x","tokenValue":%q}`, value)
	})
	out := filepath.Join(t.TempDir(), "value")
	definition := write(t, filepath.Join(t.TempDir(), "x.json"), `{"tokenName":"x","roles":["User"]}`)
	p := newHome(t).start(t, env, "token", "create", "-f", definition, "--out", out)
	await(t, asked)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	close(signalled)
	if code, _ := p.exit(); code != 0 || contentOf(t, out) != value+"\n" {
		t.Errorf("got %d", code)
	}
	s.settled(t)
}

// await waits for another goroutine.
func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Error("nobody comes")
	}
}
