package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// load calls the gateway from several clients until enough says so, and
// returns how many calls were made. Every answer but 200 fails the test.
func (g *gateway) underLoad(clients int, enough func() bool) int64 {
	g.t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	deadline := time.Now().Add(3 * time.Minute)
	var calls atomic.Int64
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			for n := 0; !enough(); n++ {
				if time.Now().After(deadline) {
					g.t.Error("the load did not come to its end in time")
					return
				}
				path, body := "/automation-api/config/servers", ""
				if (n+i)%3 == 0 {
					path, body = "/automation-api/emulator/echo", strings.Repeat("x", 2000)
				}
				method := http.MethodGet
				if body != "" {
					method = http.MethodPost
				}
				req, err := http.NewRequest(method, g.url(path), strings.NewReader(body))
				if err != nil {
					g.t.Error(err)
					return
				}
				res, err := client.Do(req)
				if err != nil {
					g.t.Errorf("calling: %v", err)
					return
				}
				content, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK {
					g.t.Errorf("call answered %d %.300s %v", res.StatusCode, content, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	group.Wait()
	return calls.Load()
}

func TestAThousandFirstCallsMakeOneLogin(t *testing.T) {
	up := startUpstream(t, emulator.Options{LoginDelay: 300 * time.Millisecond})
	// A thousand TLS handshakes at once, on both sides of one process, would be
	// a test of something else.
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}", "transport http {", "max_conns_per_host 64", "}"))
	var started atomic.Int64
	calls := g.underLoad(1000, func() bool { return started.Add(1) > 1000 })
	if s := up.Stats(); s.Logins != 1 || int64(s.Calls) != calls || calls < 1000 {
		t.Errorf("%d calls, upstream saw %+v", calls, s)
	}
}

// Runs until a number of renewals has been seen; with CTMGATE_SOAK=1, for a
// minute with a lifetime of 6 s.
func TestSteadyLoadSurvivesRenewals(t *testing.T) {
	lifetime, early, logins := 2*time.Second, time.Second, 4
	if os.Getenv("CTMGATE_SOAK") != "" {
		lifetime, early, logins = 6*time.Second, time.Second, 13
	}
	up := startUpstream(t, emulator.Options{TokenLifetime: lifetime, LoginDelay: 100 * time.Millisecond})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}",
		fmt.Sprintf("session_lifetime %s", lifetime), fmt.Sprintf("renew_before %s", early)))
	calls := g.underLoad(8, func() bool { return up.Stats().Logins >= logins })
	s := up.Stats()
	if s.RejectedCalls != 0 || s.MaxTokenAge >= lifetime || s.Logins != logins {
		t.Errorf("after %d calls upstream saw %+v", calls, s)
	}
	t.Logf("%d calls over %d logins, oldest token %s of %s", calls, s.Logins, s.MaxTokenAge, lifetime)
}

func TestARestartOfUpstreamUnderLoadFailsNoCall(t *testing.T) {
	for _, style := range []string{"expired=401", "expired=500"} {
		t.Run(style, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{})
			fault, err := emulator.ParseFault(style)
			if err != nil {
				t.Fatal(err)
			}
			up.SetFaults(fault)
			g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
			restart := sync.OnceFunc(up.Restart)
			g.underLoad(16, func() bool {
				calls := up.Stats().Calls
				if calls > 300 {
					restart()
				}
				return calls > 1500
			})
			if s := up.Stats(); s.Logins != 2 || s.RejectedCalls == 0 {
				t.Errorf("upstream saw %+v, expected two logins in all", s)
			}
		})
	}
}

func TestStoppingLogsOut(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	g.get("/automation-api/config/servers")
	if s := up.Stats(); s.LiveSessions != 1 {
		t.Fatalf("before: %+v", s)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	caddymodule.WaitForLogouts()
	if s := up.Stats(); s.LiveSessions != 0 || s.Logouts != 1 {
		t.Errorf("after: %+v", s)
	}
}

func TestAnIdleSessionIsLoggedOut(t *testing.T) {
	loggedOut := make(chan struct{}, 8)
	up := startUpstream(t, emulator.Options{Observe: func(e emulator.Event) {
		if e.Kind == emulator.KindLogout {
			loggedOut <- struct{}{}
		}
	}})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}", "idle_timeout 300ms"))
	g.get("/automation-api/config/servers")
	select {
	case <-loggedOut:
	case <-time.After(20 * time.Second):
		t.Fatal("the session was not logged out")
	}
	if got := g.get("/automation-api/config/servers"); got.status != 200 {
		t.Errorf("the call after it: %d", got.status)
	}
}

func TestAPasswordThatChangesCostsNoCall(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	file := secretFile(t, canaryPassword)
	g := startGateway(t, up.sidecar("{file."+file+"}"))
	const next = "canary-next-7d3f"
	change := sync.OnceFunc(func() {
		up.SetPassword("emuser", next)
		if err := os.WriteFile(file+".new", []byte(next), 0o600); err != nil {
			t.Error(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Error(err)
		}
		up.Restart()
	})
	g.underLoad(4, func() bool {
		if up.Stats().Calls > 100 {
			change()
		}
		return up.Stats().Logins >= 2 && up.Stats().Calls > 300
	})
	if s := up.Stats(); s.RefusedLogins > 1 || s.LiveSessions != 1 {
		t.Errorf("upstream saw %+v", s)
	}
}
