package caddymodule_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// leavers is how many clients break off: a goroutine that each leaves behind
// shows in the count.
const leavers = 25

// slack is what comes and goes by itself: idle connections, the keeper of a
// session, Caddy's own.
const slack = 8

func TestWireClientsThatLeaveLeaveNothingBehind(t *testing.T) {
	for _, row := range []struct {
		name, fault, request string
		before               func(t *testing.T, up *upstream, conns []net.Conn)
	}{
		{
			name: "during a login", fault: "login=hang", request: "GET " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
			before: func(t *testing.T, up *upstream, _ []net.Conn) {
				wireEventually(t, "the login has begun", func() bool { return up.Stats().FailedLogins > 0 })
			},
		},
		{
			name: "during a download", request: "GET /automation-api/emulator/download?size=9000&gate=g HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
			before: func(t *testing.T, _ *upstream, conns []net.Conn) {
				for _, conn := range conns {
					if _, err := io.ReadFull(conn, make([]byte, 20)); err != nil {
						t.Fatal(err)
					}
				}
			},
		},
		{
			name: "during a call", fault: "calls=hang", request: "GET " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
			before: func(t *testing.T, up *upstream, conns []net.Conn) {
				wireEventually(t, "the calls are under way", func() bool { return up.Stats().Calls >= len(conns) })
			},
		},
		{
			name: "during an upload", request: "POST " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 5000),
			before: func(t *testing.T, up *upstream, conns []net.Conn) {
				wireEventually(t, "the calls are under way", func() bool { return up.Stats().Calls >= len(conns) })
			},
		},
		{
			name: "with an open socket", request: "GET /automation-api/run/alerts/stream HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n" +
				"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
			before: func(t *testing.T, _ *upstream, conns []net.Conn) {
				for _, conn := range conns {
					if _, err := io.ReadFull(conn, make([]byte, 20)); err != nil {
						t.Fatal(err)
					}
				}
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{})
			g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
			if row.fault != "" {
				wireFaults(t, up.Emulator, row.fault)
			}
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			baseline := runtime.NumGoroutine()
			conns := make([]net.Conn, leavers)
			for i := range conns {
				conns[i] = g.dial()
				if _, err := io.WriteString(conns[i], strings.ReplaceAll(row.request, "{HOST}", g.addr)); err != nil {
					t.Fatal(err)
				}
			}
			row.before(t, up, conns)
			for _, conn := range conns {
				_ = conn.Close()
			}
			wireEventually(t, fmt.Sprintf("all but %d goroutines end", baseline+slack), func() bool {
				return runtime.NumGoroutine() <= baseline+slack
			})
			up.SetFaults()
			if row.fault != "login=hang" {
				g.get(wireEcho).echoed(t)
			}
		})
	}
}

// net/http says of both that the caller has left, and it has not.
func TestWireACallerWhoseBodyStopsIsToldSo(t *testing.T) {
	// One that does not answer half a request, as it might in time.
	up := startFront(t, func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	g := startGateway(t, "{\n\tservers {\n\t\ttimeouts {\n\t\t\tread_body_idle 300ms\n\t\t}\n\t}\n}\n"+wireSite(up.url, wireUser(t)))
	for name, row := range map[string]struct{ head, part string }{
		"of a known length":  {"Content-Length: 100", "hello"},
		"in chunks":          {"Transfer-Encoding: chunked", "5\r\nhello\r\n"},
		"in a chunk":         {"Transfer-Encoding: chunked", "50\r\nhello"},
		"of much":            {"Content-Length: 5000000", strings.Repeat("x", 300_000)},
		"before it begins":   {"Content-Length: 100", ""},
		"after a permission": {"Expect: 100-continue\r\nContent-Length: 100", "hello"},
	} {
		for _, ends := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ends %t", name, ends), func(t *testing.T) {
				g := g.in(t)
				conn := g.dial()
				if _, err := io.WriteString(conn, "POST "+wireEcho+" HTTP/1.1\r\nHost: "+g.addr+"\r\n"+row.head+"\r\n\r\n"+row.part); err != nil {
					t.Fatal(err)
				}
				if ends {
					if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				got := readReply(t, bufio.NewReader(conn), http.MethodPost)
				got.wantOwn(t, http.StatusBadRequest, "ctmgate.bad_body")
				if line := g.auditOf(got); line.Status != 400 || line.Code != "ctmgate.bad_body" {
					t.Errorf("the audit line is %s", line.text)
				}
			})
		}
	}
}
