package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// gate is an emulator that keeps requests to one path waiting.
type gate struct {
	*emulator.Emulator
	path    string
	arrived chan struct{}
	open    chan struct{}
	once    sync.Once
}

func newGate(t *testing.T, path string) (*gate, []string) {
	t.Helper()
	g := &gate{
		Emulator: emulator.New(emulator.Options{Users: []emulator.User{{Name: "batch", Password: canary}}}),
		path:     path, arrived: make(chan struct{}), open: make(chan struct{}),
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	return g, []string{"CTM_ENDPOINT=" + server.URL + "/automation-api", "CTM_USERNAME=batch", "CTM_PASSWORD=" + canary}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, g.path) {
		g.once.Do(func() { close(g.arrived) })
		<-g.open
	}
	g.Emulator.ServeHTTP(w, r)
}

func TestASignalDuringTheCallEndsACheckWithALogOut(t *testing.T) {
	h := newHome(t)
	g, env := newGate(t, "/authentication/tokens")
	p := h.start(t, env, "check", "--json")
	<-g.arrived
	code, out := p.end(syscall.SIGINT)
	close(g.open)
	if code != 1 || !strings.Contains(out, `"not_tried"`) {
		t.Errorf("exit %d, %s", code, out)
	}
	if s := g.Stats(); s.Logins != 1 || s.LiveSessions != 0 {
		t.Errorf("got %+v", s)
	}
}

// It goes on for as long as it takes to have the token that is logged out.
func TestASignalDuringTheLoginEndsACheckWithALogOut(t *testing.T) {
	h := newHome(t)
	g, env := newGate(t, "/session/login")
	p := h.start(t, env, "check", "--json")
	<-g.arrived
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	if code, out := p.exit(); code < 0 || code > 1 { // on a slow machine the signal comes when all is done
		t.Errorf("exit %d, %s", code, out)
	}
	if s := g.Stats(); s.Logins != 1 || s.LiveSessions != 0 {
		t.Errorf("got %+v", s)
	}
}
