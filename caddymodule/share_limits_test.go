package caddymodule_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// wantLimited fails the test unless got is the 429 of a client over its
// limits, and returns what it is told to wait.
func wantLimited(t testing.TB, got reply) time.Duration {
	t.Helper()
	got.wantOwn(t, 429, "ctmgate.rate_limited")
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	if err != nil || seconds < 1 {
		t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
	}
	return time.Duration(seconds) * time.Second
}

func TestAClientOverItsRateIsToldWhenToCallAgain(t *testing.T) {
	up, g := startShare(t, "rate 1/h burst 3\ndeny * /config/secret/*")
	for _, refused := range []reply{
		g.as(nightlyKey, "GET", base+"/config/secret/one"), g.as(nightlyKey, "GET", base+"/authentication/tokens"),
		g.as(nightlyKey, "GET", "/elsewhere"), g.as(nightlyKey, "TRACE", base+"/config/servers"), g.get(wireEcho), g.as(wrongKey, "GET", wireEcho),
		g.tryLogIn("nightly", wrongKey),
	} {
		if refused.status == 200 || refused.status == 429 {
			t.Errorf("got %d %s", refused.status, refused.body)
		}
	}
	// What was refused did not count.
	for range 3 {
		g.as(nightlyKey, "GET", wireEcho).echoed(t)
	}
	calls := up.Stats().Calls
	for i, edit := range []func(*http.Request){asBearer(nightlyKey), asAPIKey(nightlyKey), asBasic("nightly", nightlyKey)} {
		got := g.do(http.MethodGet, wireEcho, nil, edit)
		if wait := wantLimited(t, got); wait < 59*time.Minute || wait > time.Hour {
			t.Errorf("it is to wait %s, and an hour is true", wait)
		}
		if line := g.auditOf(got); line.Decision != "denied" || line.Code != "ctmgate.rate_limited" || line.Status != 429 || line.Client != "nightly" || line.Rule != "allow * /*" {
			t.Errorf("the audit line of call %d is %s", i, line.text)
		}
	}
	if n := up.Stats().Calls; n != calls {
		t.Errorf("%d calls went upstream beyond the rate", n-calls)
	}
	for range 20 {
		g.as(readerKey, "GET", wireEcho).echoed(t)
	}
}

func TestACallerThatWaitsAsItWasToldIsLetIn(t *testing.T) {
	_, g := startShare(t, "rate 2/s burst 1")
	g.as(nightlyKey, "GET", wireEcho).echoed(t)
	for range 2 {
		got := g.as(nightlyKey, "GET", wireEcho)
		for n := 0; got.status == 200 && n < 50; n++ { // a slow machine may leave a second between two calls
			got = g.as(nightlyKey, "GET", wireEcho)
		}
		<-time.After(wantLimited(t, got))
		g.as(nightlyKey, "GET", wireEcho).echoed(t)
	}
}

func TestAClientsRateHoldsForAllItsProofsSitesAndLogins(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, shareClients(t, up.URL(), up.trusted(), "key_sha256 "+keyHash(endedKey)+" second\nuser team\nrate 1/h burst 6", "",
		caddysUsers, "handle_path /other/* {\ncontrolm prod\n}", "controlm prod"))
	token := g.logIn("nightly", nightlyKey)
	g.as(nightlyKey, "GET", wireEcho).echoed(t)
	g.as(endedKey, "GET", wireEcho).echoed(t)
	g.as(token, "GET", "/other"+wireEcho).echoed(t)
	g.do(http.MethodGet, wireEcho, nil, asked("team", teamPassword)).echoed(t)
	g.logIn("nightly", endedKey)
	wantLimited(t, g.tryLogIn("nightly", nightlyKey))
	wantLimited(t, g.as(token, "GET", wireEcho))
	wantLimited(t, g.as(endedKey, "GET", "/other"+wireEcho))
	wantLimited(t, g.do(http.MethodGet, wireEcho, nil, asked("team", teamPassword)))
	wantUnknown(t, g.tryLogIn("nightly", wrongKey))
	// A logout is let in, or a token would live on for want of a call.
	wantReply(t, g.do(http.MethodPost, logoutPath, nil, asBearer(token)), 200, "")
	wantUnknown(t, g.as(token, "GET", wireEcho))
	if s := up.Stats(); s.Logins != 1 || s.Calls != 4 {
		t.Errorf("upstream saw %+v", s)
	}
}

func TestCallsUnderWayAreBoundedForEachClient(t *testing.T) {
	up, g := startShare(t, "max_concurrent 2")
	full := func(t *testing.T) {
		t.Helper()
		calls := up.Stats().Calls
		got := g.as(nightlyKey, "GET", wireEcho)
		wantLimited(t, got)
		if line := g.auditOf(got); line.Decision != "denied" || line.Code != "ctmgate.rate_limited" {
			t.Errorf("the audit line is %s", line.text)
		}
		wantLimited(t, g.tryLogIn("nightly", nightlyKey))
		if n := up.Stats().Calls; n != calls {
			t.Errorf("%d calls went upstream beyond the bound", n-calls)
		}
		g.as(readerKey, "GET", wireEcho).echoed(t)
	}
	t.Run("until they end", func(t *testing.T) {
		for _, gate := range []string{"one", "two", "three"} {
			first, second := g.hold(nightlyKey, gate), g.hold(nightlyKey, gate)
			full(t)
			g.open(readerKey, gate)
			first.rest()
			second.rest()
		}
	})
	t.Run("until the caller leaves", func(t *testing.T) {
		for range 3 {
			first, second := g.hold(nightlyKey, "never"), g.hold(nightlyKey, "never")
			full(t)
			first.leave()
			second.leave()
		}
	})
	t.Run("until the caller leaves, before there is an answer", func(t *testing.T) {
		last := g.hold(nightlyKey, "never")
		wireFaults(t, up.Emulator, "calls=hangx1")
		calls := up.Stats().Calls
		conn := g.dial()
		if _, err := io.WriteString(conn, "GET "+wireEcho+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+nightlyKey+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		wireEventually(t, "the call is under way", func() bool { return up.Stats().Calls > calls })
		full(t)
		_ = conn.Close()
		g.hold(nightlyKey, "never").leave()
		last.leave()
	})
	t.Run("until upstream breaks off", func(t *testing.T) {
		last := g.hold(nightlyKey, "never")
		wireFaults(t, up.Emulator, "calls=closex2")
		wireEventually(t, "a place is free", func() bool { return g.as(nightlyKey, "POST", wireEcho).code() == "ctmgate.upstream_unreachable" })
		wireFaults(t, up.Emulator, "calls=truncatex1")
		conn := g.dial()
		if _, err := io.WriteString(conn, "GET "+wireEcho+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+nightlyKey+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
		up.SetFaults()
		g.hold(nightlyKey, "never").leave()
		last.leave()
	})
	t.Run("of which what is refused is none", func(t *testing.T) {
		first := g.hold(nightlyKey, "never")
		for range 5 {
			g.as(nightlyKey, "GET", base+"/authentication/tokens").wantOwn(t, 403, "ctmgate.protected")
		}
		first.leave()
	})
}

// A WebSocket client is told of it with a status that does not end it for good.
func TestAWebSocketOverALimitIsRefusedWith502(t *testing.T) {
	for _, limit := range []string{"rate 1/h burst 1", "max_concurrent 1"} {
		t.Run(limit, func(t *testing.T) {
			up, g := startShare(t, limit)
			s, got := g.socket("X-Api-Key: " + nightlyKey)
			if s == nil {
				t.Fatalf("the first got %d %s", got.status, got.body)
			}
			s.receive()
			calls := up.Stats().Calls
			other, got := g.socket("X-Api-Key: " + nightlyKey)
			if other != nil {
				t.Fatal("there is another")
			}
			got.wantOwn(t, 502, "ctmgate.rate_limited")
			if line := g.auditOf(got); line.Status != 502 || line.Code != "ctmgate.rate_limited" || line.Decision != "denied" {
				t.Errorf("the audit line is %s", line.text)
			}
			wantLimited(t, g.as(nightlyKey, "GET", wireEcho))
			if n := up.Stats().Calls; n != calls {
				t.Errorf("%d calls went upstream", n-calls)
			}
			s.pingPong("the first goes on")
			third, got := g.socket("X-Api-Key: " + readerKey)
			if third == nil {
				t.Fatalf("another client got %d %s", got.status, got.body)
			}
			if limit == "max_concurrent 1" {
				_ = s.conn.Close()
				wireEventually(t, "its place is free", func() bool { return g.as(nightlyKey, "GET", wireEcho).status == 200 })
			}
		})
	}
}

func TestABodyOverItsBoundThatIsAnnouncedGoesNowhere(t *testing.T) {
	up, g := startShare(t, "max_body 1000B")
	t.Run("with a line in the audit log that says so", func(t *testing.T) {
		got := g.in(t).upload(nightlyKey, 1001, true)
		got.wantOwn(t, 413, "ctmgate.body_too_large")
		if line := g.auditOf(got); line.Decision != "denied" || line.Code != "ctmgate.body_too_large" || line.Status != 413 || line.Client != "nightly" {
			t.Errorf("the audit line is %s", line.text)
		}
	})
	t.Run("and a caller that still sends can read why", func(t *testing.T) {
		g.in(t).upload(nightlyKey, 64<<20, true).wantOwn(t, 413, "ctmgate.body_too_large")
	})
	up.sawNothing(t, emulator.Stats{}) // nor was there a login
	t.Run("while one of just that size passes", func(t *testing.T) {
		if e := g.in(t).upload(nightlyKey, 1000, true).echoed(t); e.BodySize != 1000 {
			t.Errorf("upstream got %d bytes", e.BodySize)
		}
	})
	t.Run("and so does any of a client without a bound", func(t *testing.T) {
		if e := g.in(t).upload(readerKey, 5<<20, true).echoed(t); e.BodySize != 5<<20 {
			t.Errorf("upstream got %d bytes", e.BodySize)
		}
	})
}

func TestABodyOverItsBoundThatStreamsIsBrokenOff(t *testing.T) {
	type upload struct {
		size int64
		err  error
	}
	uploads := make(chan upload, 10)
	front := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		size, err := io.Copy(io.Discard, r.Body)
		uploads <- upload{size, err}
		next.ServeHTTP(w, r)
	})
	g := startGateway(t, strings.ReplaceAll(shareClients(t, front.url, "", "max_body 1MiB", ""), "username reporter", "username emuser"))
	for _, size := range []int{1<<20 + 1, 64 << 20} {
		t.Run("as one of "+strconv.Itoa(size), func(t *testing.T) {
			got := g.in(t).upload(nightlyKey, size, false)
			got.wantOwn(t, 413, "ctmgate.body_too_large")
			if u := <-uploads; u.err == nil || u.size > 1<<20 {
				t.Errorf("upstream got %d bytes and %v; expected that its call breaks off", u.size, u.err)
			}
			if line := g.auditOf(got); line.Decision != "denied" || line.Code != "ctmgate.body_too_large" || line.Status != 413 {
				t.Errorf("the audit line is %s", line.text)
			}
		})
	}
	for _, row := range []struct {
		name, key string
		size      int
	}{{"one of just that size", nightlyKey, 1 << 20}, {"one of a client without a bound", readerKey, 20 << 20}} {
		t.Run("but not "+row.name, func(t *testing.T) {
			if got := g.in(t).upload(row.key, row.size, false); got.code() != "" {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if u := <-uploads; u.err != nil || u.size != int64(row.size) {
				t.Errorf("upstream got %d bytes, %v", u.size, u.err)
			}
		})
	}
}
