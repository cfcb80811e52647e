package caddymodule_test

import (
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
