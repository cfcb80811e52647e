//go:build unix

package cli

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// guest is a command under `ctmgate exec` that tells its environment, and ends
// when the test lets it.
type guest struct {
	*process
	t             *testing.T
	endpoint, key string
	lines         []string // its environment
	gate          string
}

// guestScript is what it does; more of it may stand between its lines. The
// gate is a file that the test writes an exit code into.
const (
	guestGate   = `gate() { while ! test -s "$0"; do sleep 0.05; done; read line < "$0"; exit "$line"; }; `
	guestScript = `env; echo "that is all"; gate`
)

// startGuest runs it in h. before is shell that it runs first.
func (h home) startGuest(t *testing.T, env []string, before string, flags ...string) guest {
	t.Helper()
	gate := filepath.Join(t.TempDir(), "gate")
	args := append(append([]string{"exec"}, flags...), "--", "sh", "-c", guestGate+before+guestScript, gate)
	g := guest{process: h.startApart(t, env, "", append([]string{program}, args...)...), t: t, gate: gate}
	for line := range strings.Lines(g.waitFor("that is all")) {
		line = strings.TrimSuffix(line, "\n")
		g.lines = append(g.lines, line)
		if value, ok := strings.CutPrefix(line, "CTM_ENDPOINT="); ok {
			g.endpoint = value
		}
		if value, ok := strings.CutPrefix(line, "CTM_GATEWAY_KEY="); ok {
			g.key = value
		}
	}
	if g.endpoint == "" || g.key == "" {
		t.Fatalf("the command has no endpoint or no key: %q", g.lines)
	}
	return g
}

// startApart is start without a terminal, on which it depends who gets which
// signal, and in a folder of the caller's choice.
func (h home) startApart(t *testing.T, env []string, folder string, command ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = exec.Command(command[0], command[1:]...) //nolint:noctx,gosec // ended below; the program under test
	p.cmd.Env = h.environ(env...)
	p.cmd.Dir = folder
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // and what it has started
		<-p.done
		out, _ := p.look()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(command[1:], " "), out)
		}
		if strings.Contains(out, canary) {
			t.Error("a secret stands in the output")
		}
		if strings.Contains(out, "DATA RACE") {
			t.Error("a data race")
		}
	})
	return p
}

// release lets the command end with code, and returns the exit code of all.
func (g guest) release(code string) (int, string) {
	g.t.Helper()
	write(g.t, g.gate, code+"\n")
	return g.exit()
}

// call makes a call at the gateway of the command.
func (g guest) call(method, path, body string, header ...string) (int, string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, g.endpoint+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return send(g.t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, req)
}

// works fails the test unless a call with the key does.
func (g guest) works() {
	g.t.Helper()
	if status, body := g.call(http.MethodGet, "/config/servers", "", "Authorization", "Bearer "+g.key); status != 200 {
		g.t.Errorf("got %d %s", status, body)
	}
}
