package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestTheAccountIsTheClientsElseTheSitesElseTheDefault(t *testing.T) {
	up, second := startUpstream(t, emulator.Options{Users: twoUsers}), startUpstream(t, emulator.Options{Users: twoUsers})
	prod := accessEnvironment(t, up.URL(), up.trusted())
	test := strings.Replace(accessEnvironment(t, second.URL(), second.trusted()), "environment prod", "environment test", 1)
	undecided := strings.Replace(strings.Replace(prod, "environment prod", "environment undecided", 1), "default_account batch\n", "", 1)
	g := startGateway(t, accessFile(prod+test+undecided+
		accessClient("nightly", nightlyKey, "account prod/reports test/batch undecided/batch", "allow * /*")+
		accessClient("reader", readerKey, "account test/reports", "allow * /*"),
		"handle_path /prod/* {\ncontrolm prod\n}", "handle_path /chosen/* {\ncontrolm prod {\naccount reports\n}\n}",
		"handle_path /test/* {\ncontrolm test {\naccount batch\n}\n}", "handle_path /undecided/* {\ncontrolm undecided\n}"))
	for _, c := range []struct{ name, key, prefix, user string }{
		{"the client's", nightlyKey, "/prod", "reporter"},
		{"the client's, though the site has another", readerKey, "/test", "reporter"},
		{"the client's of another environment", nightlyKey, "/test", "emuser"},
		{"the client's where nothing else decides", nightlyKey, "/undecided", "emuser"},
		{"the site's", readerKey, "/chosen", "reporter"},
		{"the default", readerKey, "/prod", "emuser"},
		{"none", readerKey, "/undecided", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := up.Stats()
			// As a bearer, since Caddy shows an x-api-key in what handle_path
			// says at DEBUG.
			got := g.do(http.MethodGet, c.prefix+wireEcho, nil, asBearer(c.key))
			if c.user == "" {
				got.wantOwn(t, 403, "ctmgate.no_account")
				up.sawNothing(t, before)
			} else if user := got.echoed(t).SessionUser; user != c.user {
				t.Errorf("it was made as %s, expected %s", user, c.user)
			}
		})
	}
	t.Run("a login where there is none", func(t *testing.T) {
		before := up.Stats()
		body := `{"username": "reader", "password": "` + readerKey + `"}`
		g.do(http.MethodPost, "/undecided/automation-api/session/login", strings.NewReader(body), nil).wantOwn(t, 403, "ctmgate.no_account")
		up.sawNothing(t, before)
	})
}

// TestNoTokenIsEverUsedForAnotherClientsAccount has upstream say whose
// session each call came with, while sessions are renewed and rejected.
func TestNoTokenIsEverUsedForAnotherClientsAccount(t *testing.T) {
	const lifetime = 2 * time.Second
	up := startUpstream(t, emulator.Options{Users: twoUsers, TokenLifetime: lifetime})
	g := startGateway(t, strings.Replace(accessFile(accessEnvironment(t, up.URL(), up.trusted(), "session_lifetime 2s", "renew_before 1s")+
		accessClient("nightly", nightlyKey, "account prod/batch", "allow * /*")+
		accessClient("reader", readerKey, "account prod/reports", "allow * /*"), "controlm prod"), "\nlog\n", "\n", 1))
	clients := []struct{ key, user string }{{nightlyKey, "emuser"}, {readerKey, "reporter"}}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	call := func(n int) error {
		who := clients[n%2]
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.url(wireEcho), strings.NewReader(who.user))
		if err != nil {
			return err
		}
		if n%3 == 0 {
			asAPIKey(who.key)(req)
		} else {
			asBearer(who.key)(req)
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		content, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		var e echoed
		if err := json.Unmarshal(content, &e); err != nil || res.StatusCode != 200 || e.SessionUser != who.user || e.BodySize != int64(len(who.user)) {
			return fmt.Errorf("a call of %s got %d %.300s (%w)", who.user, res.StatusCode, content, err)
		}
		return nil
	}
	const calls, renewals = 2000, 3
	var made atomic.Int64
	restart := sync.OnceFunc(up.Restart)
	deadline := time.Now().Add(time.Minute)
	enough := func() bool {
		if made.Load() > calls/2 {
			restart()
		}
		s := up.Stats()
		return made.Load() >= calls && s.UserLogins["emuser"] > renewals && s.UserLogins["reporter"] > renewals && s.RejectedCalls > 0 ||
			time.Now().After(deadline) || t.Failed()
	}
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			// One more each time, so that clients take turns on a connection.
			for n := i; !enough(); n++ {
				if err := call(n); err != nil {
					t.Error(err)
					return
				}
				made.Add(1)
			}
		})
	}
	group.Wait()
	s := up.Stats()
	if made.Load() < calls || s.UserLogins["emuser"] <= renewals || s.UserLogins["reporter"] <= renewals || s.RejectedCalls == 0 || s.MaxTokenAge >= lifetime {
		t.Errorf("after %d calls upstream saw %+v", made.Load(), s)
	}
}
