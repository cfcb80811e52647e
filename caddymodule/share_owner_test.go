package caddymodule_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// underRace tells whether this program looks for data races, and is slow.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// owners are clients, and the user that upstream must take each call of theirs
// for.
var owners = map[string]string{"nightly": "emuser", "reader": "reporter"}

// ownership checks what upstream saw: the client stands in the path, and
// Control-M says the user.
type ownership struct {
	t        testing.TB
	calls    atomic.Int64
	rejected atomic.Int64
}

func (o *ownership) observe(e emulator.Event) {
	if e.Kind != emulator.KindCall && e.Kind != emulator.KindCallRejected || strings.HasSuffix(e.Path, "/session/logout") {
		return // the gateway's own
	}
	rest, ok := strings.CutPrefix(e.Path, "/automation-api/config/server/of-")
	client, _, _ := strings.Cut(rest, "-")
	if !ok || owners[client] == "" {
		o.t.Errorf("upstream saw %+v", e)
		return
	}
	if e.Kind == emulator.KindCallRejected {
		o.rejected.Add(1)
		if e.User == "" {
			return // of a session that a restart has made it forget
		}
	} else {
		o.calls.Add(1)
	}
	if e.User != owners[client] {
		o.t.Errorf("a call of %s came with the session of %q: %+v", client, e.User, e)
	}
}

// TestEachOfTenThousandCallsIsMadeAsItsClientsAccount has the two clients take
// turns on shared connections, while sessions are renewed and rejected.
func TestEachOfTenThousandCallsIsMadeAsItsClientsAccount(t *testing.T) {
	most := int64(10_000)
	if underRace() {
		most = 2000
	}
	const renewals = 2
	owned := &ownership{t: t}
	up := startUpstream(t, emulator.Options{Users: twoUsers, TokenLifetime: 4 * time.Second, Observe: owned.observe})
	file := quietFile(accessEnvironment(t, up.URL(), up.trusted(), "session_lifetime 4s", "renew_before 3s")+
		accessClient("nightly", nightlyKey, "account prod/batch", "allow * /*")+accessClient("reader", readerKey, "account prod/reports", "allow * /*"), "controlm prod")
	g := startGateway(t, file)
	proofs := map[string][]func(*http.Request){
		"nightly": {asBearer(nightlyKey), asAPIKey(nightlyKey), asBasic("nightly", nightlyKey)},
		"reader":  {asBearer(readerKey), asAPIKey(readerKey), asBasic("reader", readerKey)},
	}
	for name, key := range map[string]string{"nightly": nightlyKey, "reader": readerKey} {
		proofs[name] = append(proofs[name], asBearer(g.logIn(name, key)))
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	call := func(n int64) error {
		name := []string{"nightly", "reader"}[n%2]
		method, body := http.MethodGet, ""
		if n%5 == 0 {
			method, body = http.MethodPost, strings.Repeat("x", 3000)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, g.url(fmt.Sprintf("%s/config/server/of-%s-%d/agents", base, name, n)), strings.NewReader(body))
		if err != nil {
			return err
		}
		proofs[name][n/2%4](req)
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		content, err := io.ReadAll(res.Body)
		if want := map[string]int{"GET": 404, "POST": 405}[method]; err != nil || res.StatusCode != want || strings.Contains(string(content), "ctmgate.") {
			return fmt.Errorf("a call of %s got %d %.300s (%w)", name, res.StatusCode, content, err)
		}
		return nil
	}
	var made atomic.Int64
	restarts := map[int64]func(){most / 3: sync.OnceFunc(up.Restart), most / 3 * 2: sync.OnceFunc(up.Restart)}
	deadline := time.Now().Add(2 * time.Minute)
	enough := func() bool {
		s := up.Stats()
		return made.Load() >= most && s.UserLogins["emuser"] > renewals && s.UserLogins["reporter"] > renewals || time.Now().After(deadline) || t.Failed()
	}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for !enough() {
				n := made.Add(1)
				if restart := restarts[n]; restart != nil {
					restart()
				}
				if err := call(n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	s := up.Stats()
	if made.Load() < most || owned.calls.Load() < made.Load() || owned.rejected.Load() == 0 || s.UserLogins["emuser"] <= renewals ||
		s.UserLogins["reporter"] <= renewals {
		t.Errorf("after %d calls upstream saw %d, rejected %d, %+v", made.Load(), owned.calls.Load(), owned.rejected.Load(), s)
	}
	t.Logf("%d calls, %d rejected, %d logins", made.Load(), owned.rejected.Load(), s.Logins)
}
