package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestWireASocketOutlivesItsSession(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}", "session_lifetime 20s", "renew_before 19s"))
	s, answer := g.socket("Authorization: Bearer "+canaryKey, "Origin-Of-Nothing: 1")
	if s == nil {
		t.Fatalf("got %d %s", answer.status, answer.body)
	}
	if got := s.receive(); !strings.Contains(got, "alertFields") {
		t.Errorf("the first message is %s", got)
	}
	s.pingPong("hello")
	s.pingPong(strings.Repeat("long", 10_000))

	t.Run("over a renewal, which does not log it out", func(t *testing.T) {
		wireEventually(t, "the session is renewed", func() bool {
			g.get(wireEcho).echoed(t)
			return up.Stats().Logins >= 2
		})
		s.pingPong("renewed")
		if stats := up.Stats(); stats.LiveSessions != stats.Logins-stats.Logouts || stats.LiveSessions < 2 {
			t.Errorf("upstream saw %+v", stats)
		}
	})
	t.Run("over a restart of the sessions", func(t *testing.T) {
		up.Restart()
		s.pingPong("restarted")
	})
}

func TestWireASocketsSessionIsLoggedOutWhenItCloses(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}", "session_lifetime 30s", "renew_before 28s"))
	s, _ := g.socket()
	s.receive()
	wireEventually(t, "the session is renewed", func() bool { return up.Stats().Logins == 2 })
	if n := up.Stats().Logouts; n != 0 {
		t.Errorf("%d logouts while the socket is open", n)
	}
	s.pingPong("still here")
	_ = s.conn.Close()
	wireEventually(t, "its session is logged out", func() bool { return up.Stats().Logouts == 1 })
	g.get(wireEcho).echoed(t)
}

func TestWirePassingTroublesDoNotEndTheVendorsListener(t *testing.T) {
	for _, row := range []struct {
		fault, words string
		status       int
		code, then   string
	}{
		{"login=500", "", 502, "ctmgate.login_failed", "ctmgate.login_paused"},
		{"login=401", "", 502, "ctmgate.login_refused", "ctmgate.login_refused"},
		{"login=close", "", 502, "ctmgate.upstream_unreachable", "ctmgate.login_paused"},
		{"login=hang", "login_timeout 200ms", 504, "ctmgate.login_timeout", "ctmgate.login_paused"},
		{"calls=close", "", 502, "ctmgate.upstream_unreachable", "ctmgate.upstream_unreachable"},
		{"calls=hang", "transport http {\n response_header_timeout 200ms\n }", 504, "ctmgate.upstream_timeout", "ctmgate.upstream_timeout"},
	} {
		t.Run(row.fault, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{Users: []emulator.User{{Name: "emuser", Password: refusedPassword}}})
			g := startGateway(t, up.sidecar("{file."+secretFile(t, refusedPassword)+"}", row.words))
			wireFaults(t, up.Emulator, row.fault)
			s, answer := g.socket()
			if s != nil {
				t.Fatal("there is a socket")
			}
			answer.wantOwn(t, row.status, row.code)
			if _, answer = g.socket(); answer.code() != row.then || answer.status != 502 && answer.status != 504 {
				t.Errorf("then it got %d %s", answer.status, answer.body)
			}
			up.SetFaults()
		})
	}
	t.Run("but what lasts keeps its status", func(t *testing.T) {
		up := startUpstream(t, emulator.Options{})
		g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
		_, answer := g.socket("Origin: https://evil.example")
		answer.wantOwn(t, 403, "ctmgate.not_admitted")
	})
}

func TestWireNoOtherProtocolIsSwitchedTo(t *testing.T) {
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switched := map[string]string{
			"/automation-api/switch": "Connection: Upgrade\r\nUpgrade: h2c\r\n", "/automation-api/silently": "",
			"/automation-api/unasked": "Connection: Upgrade\r\nUpgrade: websocket\r\n",
		}
		lines, ok := switched[r.URL.Path]
		if !ok || r.URL.Path == "/automation-api/unasked" && r.Header.Get("Upgrade") == "websocket" {
			next.ServeHTTP(w, r)
			return
		}
		answerRaw(w, "HTTP/1.1 101 Switching Protocols\r\n"+lines+"\r\nanything")
	})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for _, lines := range [][]string{
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"},
		{"Connection: upgrade", "Upgrade: TLS/1.0"},
		{"Connection: Upgrade", "Upgrade: websocket, h2c"},
		{"Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket"},
		{"Connection: Upgrade", "Upgrade: caf\xe9"},
		{"Connection: Upgrade", "Upgrade: caf\xc3\xa9, websocket"},
		{"Connection: Upgrade", "Upgrade: web\u017foc\u212aet"}, // which are an s and a k to those who fold
		{"Upgrade: h2c"},
		{"Upgrade: websocket"},
	} {
		t.Run(fmt.Sprintf("%q", lines), func(t *testing.T) {
			e := g.rawGet(wireEcho, lines...).echoed(t)
			if e.Headers["Upgrade"] != nil || e.Headers["Connection"] != nil {
				t.Errorf("upstream got %v", e.Headers)
			}
			for _, path := range []string{"switch", "silently", "unasked"} {
				wantUncertain(t, g.rawGet("/automation-api/"+path, lines...))
			}
		})
	}
	t.Run("nor from a web socket to another", func(t *testing.T) {
		for _, path := range []string{"switch", "silently"} {
			got := g.rawGet("/automation-api/"+path, "Connection: Upgrade", "Upgrade: websocket",
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")
			wantUncertain(t, got)
		}
	})
}

// answerRaw answers with what net/http would not, and ends the connection.
func answerRaw(w http.ResponseWriter, answer string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, answer)
}

// wantUncertain wants the answer to a call that upstream may have carried out.
func wantUncertain(t *testing.T, got reply) {
	t.Helper()
	got.wantOwn(t, 502, "ctmgate.upstream_unreachable")
	if !strings.Contains(got.message(t), "look before you repeat it") {
		t.Errorf("it invites to repeat the call: %s", got.body)
	}
}

func TestWireAStatusThatIsNoneIsNoPanic(t *testing.T) {
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		status, odd := strings.CutPrefix(r.URL.Path, "/automation-api/status/")
		if !odd {
			next.ServeHTTP(w, r)
			return
		}
		answerRaw(w, "HTTP/1.1 "+status+" Odd\r\nContent-Length: 3\r\n\r\nabc")
	})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for _, status := range []string{"000", "001", "099"} {
		wantUncertain(t, g.get("/automation-api/status/"+status))
	}
	if got := g.get("/automation-api/status/999"); got.status != 999 || got.body != "abc" {
		t.Errorf("a status that is only odd: got %d %s", got.status, got.body)
	}
	if strings.Contains(g.logText(), "panic") {
		t.Error("the log tells of a panic")
	}
}
