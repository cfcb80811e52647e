package cli

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// watchedPlant is a plant that keeps when a session began or ended.
type watchedPlant struct {
	plant

	mu     sync.Mutex
	logins []time.Time
	outs   []time.Time
}

func newWatchedPlant(t *testing.T) *watchedPlant {
	t.Helper()
	w := new(watchedPlant)
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	e := emulator.New(emulator.Options{Users: []emulator.User{{Name: "batch", Password: canary}}, Observe: w.observe})
	server, err := e.Listen("127.0.0.1:0", ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w.plant = plant{e, server.URL(), write(t, filepath.Join(t.TempDir(), "ca.pem"), string(ca.PEM())), ca}
	return w
}

func (w *watchedPlant) observe(e emulator.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Kind {
	case emulator.KindLogin:
		w.logins = append(w.logins, time.Now())
	case emulator.KindLogout:
		w.outs = append(w.outs, time.Now())
	}
}

// loggedOut are the times of all log-outs so far.
func (w *watchedPlant) loggedOut() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.outs...)
}

// openCall sends the head of a request and waits for the beginning of its
// answer, which must have this status. The connection stays open.
func openCall(t *testing.T, addr string, status int, lines ...string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "%s\r\nHost: %s\r\n%s\r\n", lines[0], addr, strings.Join(append(lines[1:], ""), "\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, fmt.Sprintf(" %d ", status)) {
		t.Fatalf("got %q, %v", line, err)
	}
	return conn
}

func openSocket(t *testing.T, addr string) net.Conn {
	t.Helper()
	return openCall(t, addr, http.StatusSwitchingProtocols, "GET /automation-api/run/alerts/stream HTTP/1.1",
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
}

// openDownload begins a download that never ends.
func openDownload(t *testing.T, addr string) net.Conn {
	t.Helper()
	return openCall(t, addr, http.StatusOK, "GET /automation-api/emulator/download?size=1000000&gate=never HTTP/1.1")
}

// The contract gives a session 5 s from the end of new calls, and what ships
// ends calls after 25 s. The bounds here leave room for a slow machine.
const (
	logOutWithin = 12 * time.Second
	endWithin    = 40 * time.Second
)

// With CTMGATE_SOAK=1 the download is not ended from outside, and takes the
// process all of its grace period.
func TestSIGTERMLogsOutWhateverIsOpen(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, addr string) net.Conn{
		"with nothing open":               nil,
		"with an open socket":             openSocket,
		"with a download that never ends": openDownload,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, upstream, listen := newHome(t), newWatchedPlant(t), freeAddress(t)
			p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
			p.waitFor(up)
			if status, body := get(t, "http://"+listen+"/automation-api/config/servers", ""); status != http.StatusOK {
				t.Fatalf("got %d %s", status, body)
			}
			var conn net.Conn
			if open != nil {
				conn = open(t, listen)
			}
			signalled := time.Now()
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the session is logged out", func() bool { return len(upstream.loggedOut()) > 0 })
			out := upstream.loggedOut()[0].Sub(signalled)
			if conn != nil && os.Getenv("CTMGATE_SOAK") == "" {
				_ = conn.Close()
			}
			code, _ := p.exit()
			ended := time.Since(signalled)
			t.Logf("logged out after %s, ended after %s", out.Round(10*time.Millisecond), ended.Round(10*time.Millisecond))
			if out > logOutWithin || ended > endWithin || code != 0 {
				t.Errorf("it ended with %d", code)
			}
			if open == nil && ended > logOutWithin {
				t.Error("it did not end promptly")
			}
			if s := upstream.Stats(); s.Logins != 1 || s.Logouts != 1 || s.LiveSessions != 0 {
				t.Errorf("upstream saw %+v; expected that the session is logged out once", s)
			}
			nothingLeft(t, h)
		})
	}
}

func TestAKilledSidecarLeavesOneSessionAndTheNextMakesOne(t *testing.T) {
	h, upstream, listen := newHome(t), newWatchedPlant(t), freeAddress(t)
	for n := 1; n <= 3; n++ {
		p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
		p.waitFor(up)
		for range 3 {
			if status, body := get(t, "http://"+listen+"/automation-api/config/servers", ""); status != http.StatusOK {
				t.Fatalf("got %d %s", status, body)
			}
		}
		openSocket(t, listen)
		if s := upstream.Stats(); s.Logins != n || s.LiveSessions != n {
			t.Errorf("start %d: upstream saw %+v", n, s)
		}
		p.end(syscall.SIGKILL)
		if s := upstream.Stats(); s.LiveSessions != n || s.Logouts != 0 {
			t.Errorf("after kill %d upstream saw %+v", n, s)
		}
	}
}

// A call that outlives its config keeps its session, but not beyond the stop.
func TestSIGTERMLogsOutTheSessionOfAnEarlierConfigToo(t *testing.T) {
	h, upstream, listen := newHome(t), newWatchedPlant(t), freeAddress(t)
	socket := filepath.Join(h.runtime, "admin.sock")
	config := func(lifetime string) string {
		return write(t, filepath.Join(h.data, "Caddyfile"), fmt.Sprintf(`{
	admin "unix/%s|0600"
	grace_period 25s
}
http://%s {
	controlm %s {
		tls_ca_file %s
		username batch
		password {env.CTM_PASSWORD}
		session_lifetime %s
	}
}
`, socket, listen, upstream.url, upstream.ca, lifetime))
	}
	call := func() {
		t.Helper()
		if status, body := get(t, "http://"+listen+"/automation-api/config/servers", ""); status != http.StatusOK {
			t.Fatalf("got %d %s", status, body)
		}
	}
	env := []string{"CTM_PASSWORD=" + canary}
	p := h.start(t, env, "run", "--adapter", "caddyfile", "--config", config("30m"))
	p.waitFor("serving initial configuration")
	call()
	openDownload(t, listen)
	if code, out := h.run(t, env, "reload", "--adapter", "caddyfile", "--config", config("20m"), "--address", "unix/"+socket); code != 0 {
		t.Fatalf("reload ended with %d: %s", code, out)
	}
	call()
	signalled := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both sessions are logged out", func() bool { return len(upstream.loggedOut()) == 2 })
	if last := upstream.loggedOut()[1].Sub(signalled); last > logOutWithin {
		t.Errorf("the last log-out came after %s", last)
	}
	p.end(syscall.SIGKILL)
}
