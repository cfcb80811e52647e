package caddymodule_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// wireFaults replaces the faults of an emulator.
func wireFaults(t testing.TB, e *emulator.Emulator, texts ...string) {
	t.Helper()
	var faults []emulator.Fault
	for _, text := range texts {
		f, err := emulator.ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		faults = append(faults, f)
	}
	e.SetFaults(faults...)
}

func TestWireARejectedTokenCostsOneLoginAndTheCallIsSentAgain(t *testing.T) {
	for _, style := range []string{"expired=401", "expired=500"} {
		t.Run(style, func(t *testing.T) {
			up := startFront(t, nil)
			g := startGateway(t, wireSite(up.url, wireUser(t)))
			g.get(wireEcho).echoed(t)
			wireFaults(t, up.Emulator, style)
			body := bytes.Repeat([]byte("definition"), 20<<10)
			for n, chunked := range []bool{false, true} {
				up.Restart()
				var sent io.Reader = bytes.NewReader(body)
				if chunked {
					sent = unsized{sent}
				}
				e := g.do(http.MethodPost, wireEcho, sent, nil).echoed(t)
				if e.BodySHA256 != sha(body) || e.Length != int64(len(body)) && !chunked {
					t.Errorf("upstream got %d bytes, length %d", e.BodySize, e.Length)
				}
				if arrived := up.arrived(); up.Stats().Logins != n+2 || len(arrived) != 1+2*(n+1) {
					t.Errorf("upstream got %q and %d logins", arrived, up.Stats().Logins)
				}
			}
		})
	}
}

// A call that is under way with a token that has been renewed meanwhile knows
// nothing of the new one, which may be as dead: after a restart, say.
func TestWireACallWithAReplacedTokenIsWorthAnotherReplay(t *testing.T) {
	for _, renewed := range []bool{true, false} {
		t.Run(fmt.Sprintf("renewed %t", renewed), func(t *testing.T) {
			arrived, goOn := make(chan struct{}), make(chan struct{})
			var held atomic.Bool
			up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.Method == http.MethodPost && held.CompareAndSwap(false, true) {
					arrived <- struct{}{}
					<-goOn
				}
				next.ServeHTTP(w, r)
			})
			o := &operated{socket: adminSocket(t)}
			o.gateway = startGateway(t, "{\nadmin \"unix/"+o.socket+"|0600\"\n}\n"+wireSite(up.url, wireUser(t)))
			o.get(wireEcho).echoed(t)
			answer := make(chan reply, 1)
			go func() { answer <- o.do(http.MethodPost, wireEcho, strings.NewReader("order"), nil) }()
			<-arrived
			logins := 2
			if renewed {
				o.ask(http.MethodPost, caddymodule.AdminSessions+"/127.0.0.1/default/renew").sessions(t)
				logins++
			}
			up.Restart()
			close(goOn)
			got := <-answer
			if got.status != 200 || !strings.Contains(got.body, sha([]byte("order"))) {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if n := len(up.arrived()); up.Stats().Logins != logins || n != logins+1 {
				t.Errorf("upstream got %d calls and %d logins, expected %d and %d", n, up.Stats().Logins, logins+1, logins)
			}
		})
	}
}

func TestWireASocketIsReplayedToo(t *testing.T) {
	up := startFront(t, nil)
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	g.get(wireEcho).echoed(t)
	up.Restart()
	s, answer := g.socket()
	if s == nil {
		t.Fatalf("got %d %s", answer.status, answer.body)
	}
	s.receive()
	s.pingPong("hello")
	if arrived := up.arrived(); up.Stats().Logins != 2 || len(arrived) != 3 {
		t.Errorf("upstream got %q and %d logins", arrived, up.Stats().Logins)
	}
}

// rejecting is an upstream that reads the whole body of the next calls and
// answers them with the words of an expired token.
func rejecting(next *atomic.Int64, status int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, emulator http.Handler) {
		if next.Add(-1) < 0 {
			emulator.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"errors":[{"message":"Session token is invalid or expired"}]}`)
	}
}

func TestWireTheReplayBufferBoundsWhatIsSentAgain(t *testing.T) {
	for _, row := range []struct {
		name, words string
		size        int
		replayed    bool
	}{
		{"a body as large as the default", "", 1 << 20, true},
		{"a body of one byte more", "", 1<<20 + 1, false},
		{"a body as large as a buffer of one's own", "replay_buffer 64KiB", 64 << 10, true},
		{"a body larger than a buffer of one's own", "replay_buffer 64KiB", 200 << 10, false},
		{"a body without a buffer", "replay_buffer 0", 1, false},
		{"no body without a buffer", "replay_buffer 0", 0, true},
	} {
		for _, status := range []int{401, 500} {
			t.Run(fmt.Sprintf("%s, rejected with %d", row.name, status), func(t *testing.T) {
				var next atomic.Int64
				up := startFront(t, rejecting(&next, status))
				g := startGateway(t, wireSite(up.url, wireUser(t), row.words))
				g.get(wireEcho).echoed(t)
				next.Store(1)
				body := bytes.Repeat([]byte("x"), row.size)
				got := g.do(http.MethodPost, wireEcho, bytes.NewReader(body), nil)
				if row.replayed {
					if e := got.echoed(t); e.BodySHA256 != sha(body) || e.Length != int64(row.size) {
						t.Errorf("upstream got %d bytes, length %d", e.BodySize, e.Length)
					}
				} else {
					got.wantOwn(t, 503, "ctmgate.replay_impossible")
					if after := got.header.Get("Retry-After"); after != "0" {
						t.Errorf("Retry-After is %q", after)
					}
					if e := g.do(http.MethodPost, wireEcho, bytes.NewReader(body), nil).echoed(t); e.BodySHA256 != sha(body) {
						t.Errorf("the next call arrived with %d bytes", e.BodySize)
					}
				}
				if n := up.Stats().Logins; n != 2 {
					t.Errorf("there were %d logins", n)
				}
			})
		}
	}
}

func TestWireWhatIsSentTwice(t *testing.T) {
	for _, row := range []struct {
		fault            string
		status           int
		arrives, logins  int
		withIdempotence  bool
		code, whatItSays string
	}{
		{fault: "calls=500x1", status: 500, arrives: 1, logins: 1, whatItSays: "Internal server error"},
		{fault: "calls=503x1", status: 503, arrives: 1, logins: 1, whatItSays: "503 Service Unavailable"},
		{fault: "calls=403x1", status: 403, arrives: 1, logins: 1},
		{fault: "calls=401x1", status: 401, arrives: 1, logins: 1, whatItSays: "not authorized"},
		{fault: "calls=redirectx1", status: 302, arrives: 1, logins: 1},
		{fault: "calls=closex1", status: 502, arrives: 1, logins: 1, code: "ctmgate.upstream_unreachable"},
		{fault: "calls=closex1", status: 502, arrives: 1, logins: 1, code: "ctmgate.upstream_unreachable", withIdempotence: true},
		{fault: "calls=401wordsx1", status: 200, arrives: 2, logins: 2},
		{fault: "calls=500wordsx1", status: 200, arrives: 2, logins: 2},
		{fault: "calls=401words", status: 401, arrives: 2, logins: 2, whatItSays: "Session token is invalid or expired"},
		{fault: "calls=500words", status: 500, arrives: 2, logins: 2, whatItSays: "Session token is invalid or expired"},
	} {
		for _, body := range []string{"", `{"ctm":"ctmprod","folder":"MonthEnd"}`} {
			t.Run(fmt.Sprintf("%s, %d bytes, idempotent %t", row.fault, len(body), row.withIdempotence), func(t *testing.T) {
				up := startFront(t, nil)
				g := startGateway(t, wireSite(up.url, wireUser(t)))
				g.get(wireEcho).echoed(t) // leaves a connection for use
				wireFaults(t, up.Emulator, row.fault)
				path := "/automation-api/run/order"
				if body == "" {
					path = wireEcho
				}
				got := g.do(http.MethodPost, path, strings.NewReader(body), func(r *http.Request) {
					if row.withIdempotence {
						r.Header.Set("Idempotency-Key", "1")
						r.Header.Set("X-Idempotency-Key", "1")
					}
				})
				if got.status != row.status || got.code() != row.code || !strings.Contains(got.body, row.whatItSays) {
					t.Errorf("got %d %s", got.status, got.body)
				}
				if arrived := up.arrived()[1:]; len(arrived) != row.arrives {
					t.Errorf("upstream got %q", arrived)
				}
				if n := up.Stats().Logins; n != row.logins {
					t.Errorf("there were %d logins", n)
				}
			})
		}
	}
}

func TestWireABareUnauthorizedIsReplayedOnlyOnceTheTokenIsOlder(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	g.get(wireEcho).echoed(t)
	wireFaults(t, up.Emulator, "expired=401bare")
	up.Restart()
	if got := g.get(wireEcho); got.status != 401 || up.Stats().Logins != 1 {
		t.Fatalf("a token younger than 2 s: got %d %s after %d logins", got.status, got.body, up.Stats().Logins)
	}
	wireEventually(t, "the token is old enough to be doubted", func() bool { return g.get(wireEcho).status == 200 })
	if n := up.Stats().Logins; n != 2 {
		t.Errorf("there were %d logins", n)
	}
}

func TestWireUpstreamThatRejectsEveryTokenIsNotFloodedWithLogins(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	g.get(wireEcho).echoed(t)
	wireFaults(t, up.Emulator, "calls=401words")
	paused := false
	for range 30 {
		got := g.get(wireEcho)
		switch {
		case got.status == 401 && strings.Contains(got.body, "Session token is invalid or expired"):
		case got.code() == "ctmgate.login_paused" && got.header.Get("Retry-After") != "":
			paused = true
		default:
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	// One at first, a burst of two, and one each 2 s, of which this takes few.
	if n := up.Stats().Logins; n > 6 || !paused {
		t.Errorf("%d logins, paused: %t", n, paused)
	}
}
