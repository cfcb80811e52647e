package caddymodule_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// doubted is how old a token must be for a bare 401 to be about it.
const doubted = 2100 * time.Millisecond

// bare answers as an API that says nothing of the token: it may mean that, or
// a right.
func bare(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = w.Write([]byte(`{"errors":[{"message":"User is not authorized"}]}`))
}

// One client calls what the account has no right to, at a time when there is
// no login to be had.
func TestARightThatIsLackingTakesTheTokenFromNobody(t *testing.T) {
	for _, row := range []struct {
		fault, words string
		status       int
		code         string
	}{
		{"login=500", "", 502, "ctmgate.login_failed"},
		{"login=401", "", 502, "ctmgate.login_refused"},
		{"login=hang", "login_timeout 1s", 504, "ctmgate.login_timeout"},
	} {
		t.Run(row.fault, func(t *testing.T) {
			up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if r.URL.Path == "/automation-api/config/secrets" {
					bare(w)
					return
				}
				next.ServeHTTP(w, r)
			})
			g := startGateway(t, wireSite(up.url, wireUser(t), row.words))
			g.get(wireEcho).echoed(t)
			surviveFor(t, doubted)
			wireFaults(t, up.Emulator, row.fault)
			answer := make(chan reply, 1)
			go func() { answer <- g.get("/automation-api/config/secrets") }()
			others := g.fire(4, 20*time.Millisecond, onlyGets)
			got := <-answer
			got.wantOwn(t, row.status, row.code)
			surviveFor(t, 300*time.Millisecond)
			for _, s := range others.stop() {
				if s.status != 200 || s.took > 10*time.Second {
					t.Errorf("got %v", s)
				}
			}
			if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 {
				t.Errorf("upstream saw %+v", s)
			}
			up.SetFaults()
		})
	}
}

func TestACallTooLargeToBeSentAgainCostsOneLoginWhereARightIsLacking(t *testing.T) {
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost {
			bare(w)
			return
		}
		next.ServeHTTP(w, r)
	})
	g := startGateway(t, wireSite(up.url, wireUser(t), "replay_buffer 1KiB"))
	g.get(wireEcho).echoed(t)
	for n := range 3 {
		surviveFor(t, doubted)
		got := g.do(http.MethodPost, "/automation-api/deploy", bytes.NewReader(make([]byte, 5000)), nil)
		if n == 0 {
			got.wantOwn(t, 503, "ctmgate.replay_impossible")
		} else if got.status != 401 || got.code() != "" {
			t.Errorf("call %d got %d %s", n+1, got.status, got.body)
		}
	}
	if s := up.Stats(); s.Logins != 2 {
		t.Errorf("upstream saw %+v", s)
	}
}

func TestARightIsLackingForAMethodAlone(t *testing.T) {
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet && r.URL.Path == "/automation-api/config/secrets" {
			bare(w)
			return
		}
		next.ServeHTTP(w, r)
	})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	g.get(wireEcho).echoed(t)
	surviveFor(t, doubted)
	wantReply(t, g.get("/automation-api/config/secrets"), 401, "")
	surviveFor(t, doubted)
	wireFaults(t, up.Emulator, "expired=401bare")
	up.Restart()
	got := g.do(http.MethodPost, "/automation-api/config/secrets", strings.NewReader("{}"), nil)
	if got.status == 401 || up.Stats().Logins != 3 {
		t.Errorf("got %d %s after %d logins", got.status, got.body, up.Stats().Logins)
	}
}
