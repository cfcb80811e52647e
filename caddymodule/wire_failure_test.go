package caddymodule_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestWireFailuresOfUpstreamHaveTheirCodes(t *testing.T) {
	const slow = "transport http {\n\t\t\tresponse_header_timeout 200ms\n\t\t}"
	for _, row := range []struct {
		name, fault, words string
		status             int
		code               string
		then               string // code of the next call
		logged             string // in the log: what an operator can do
	}{
		{name: "a call that is not answered", fault: "calls=hang", words: slow, status: 504, code: "ctmgate.upstream_timeout", then: "ctmgate.upstream_timeout"},
		{name: "a call that is broken off", fault: "calls=close", status: 502, code: "ctmgate.upstream_unreachable", then: "ctmgate.upstream_unreachable"},
		{name: "a login with an error", fault: "login=500", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused", logged: "status 500"},
		{name: "a login at a balancer without servers", fault: "login=503", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused", logged: "status 503"},
		{name: "a login that is not answered", fault: "login=hang", words: "login_timeout 200ms", status: 504, code: "ctmgate.login_timeout", then: "ctmgate.login_paused", logged: "no answer in time"},
		{name: "a login that the transport gives up", fault: "login=hang", words: slow, status: 504, code: "ctmgate.login_timeout", then: "ctmgate.login_paused", logged: "no answer in time"},
		{name: "a login that is broken off", fault: "login=close", status: 502, code: "ctmgate.upstream_unreachable", then: "ctmgate.login_paused"},
		{name: "a login with a page for an answer", fault: "login=garbage", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused", logged: "/automation-api"},
		{name: "a login with an empty token", fault: "login=empty", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused", logged: "no token"},
		{name: "a login with an endless token", fault: "login=huge", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused", logged: "larger than"},
		{name: "a login with a redirect", fault: "login=redirect", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused", logged: "redirect"},
		{name: "a login whose answer repeats the password", fault: "login=echo", status: 502, code: "ctmgate.login_failed", then: "ctmgate.login_paused"},
		{name: "a certificate for another name", words: "tls_server_name other.example", status: 502, code: "ctmgate.upstream_unreachable", then: "ctmgate.login_paused", logged: "tls_server_name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{})
			g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}", row.words))
			if row.fault != "" {
				wireFaults(t, up.Emulator, row.fault)
			}
			got := g.get(wireEcho)
			got.wantOwn(t, row.status, row.code)
			checkSaysNothingInternal(t, got, up.Addr().String())
			got = g.get(wireEcho)
			if row.then == "ctmgate.login_paused" {
				got.wantOwn(t, 503, row.then)
				if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
					t.Errorf("Retry-After is %q", got.header.Get("Retry-After"))
				}
			} else {
				got.wantOwn(t, row.status, row.then)
			}
			if !strings.Contains(g.logText(), row.logged) {
				t.Errorf("the log does not say %q", row.logged)
			}
			up.SetFaults()
		})
	}
}

func checkSaysNothingInternal(t *testing.T, got reply, addr string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range got.header {
		if text := strings.Join(values, " "); strings.Contains(text, host) || strings.Contains(text, port) {
			t.Errorf("header %s says %q", name, text)
		}
	}
	if strings.Contains(got.body, host) || strings.Contains(got.body, port) {
		t.Errorf("the answer names the endpoint: %s", got.body)
	}
}

func TestWireAnEndpointThatCannotBeReached(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "a", Value: canaryToken, User: "emuser"}}})
	closed := freeAddr(t)
	plain := startFront(t, nil)
	for _, row := range []struct{ name, endpoint, logged string }{
		{"a closed port", "https://" + closed + "/automation-api", "no connection"},
		{"an authority that is not trusted", up.URL(), "tls_ca_file"},
		{"a name that does not exist", "https://nowhere.invalid/automation-api", ""},
		{"a port without TLS", strings.Replace(plain.url, "http://", "https://", 1), "TLS"},
	} {
		for _, words := range []string{wireUser(t), "api_token {file." + secretFile(t, canaryToken) + "}"} {
			account, _, _ := strings.Cut(words, " ")
			t.Run(row.name+" for a "+account, func(t *testing.T) {
				g := startGateway(t, wireSite(row.endpoint, words))
				got := g.get(wireEcho)
				got.wantOwn(t, 502, "ctmgate.upstream_unreachable")
				checkSaysNothingInternal(t, got, closed)
				if strings.Contains(got.body, "nowhere") {
					t.Errorf("the answer names the endpoint: %s", got.body)
				}
				if !strings.Contains(g.logText(), row.logged) {
					t.Errorf("the log does not say %q", row.logged)
				}
			})
		}
	}
	if s := up.Stats(); s.Logins+s.FailedLogins+s.RefusedLogins+s.Calls > 0 {
		t.Errorf("an endpoint that is not trusted saw %+v", s)
	}
}

// Of two endpoints, neither is left aside for it.
func TestWireACallThatCannotBeSentIsNoTroubleOfTheEndpoint(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	transport := new(reverseproxy.HTTPTransport)
	if err := transport.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = transport.Cleanup() }()
	for name, spoil := range map[string]func(*http.Request){
		"a header": func(r *http.Request) { r.Header["X-Api-Key"] = []string{"a\nb"} },
		"a method": func(r *http.Request) { r.Method = "G T" },
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+freeAddr(t)+"/automation-api", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := caddymodule.RoundTrip(transport, req); err == nil || errors.Is(err, caddymodule.ErrUnfit) { //nolint:bodyclose // there is none
			t.Errorf("nobody listens: got %v", err)
		}
		spoil(req)
		if _, err := caddymodule.RoundTrip(transport, req); !errors.Is(err, caddymodule.ErrUnfit) || errors.As(err, new(*net.OpError)) { //nolint:bodyclose // there is none
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestWireAWrongPasswordIsTriedOnce(t *testing.T) {
	up := startUpstream(t, emulator.Options{LockAfter: 2, Users: []emulator.User{{Name: "emuser", Password: "another"}}})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, refusedPassword)+"}"))
	const clients = 50
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			res, err := http.Get(g.url(wireEcho))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != 502 {
				t.Errorf("got %d", res.StatusCode)
			}
		})
	}
	group.Wait()
	for range 3 {
		got := g.get(wireEcho)
		got.wantOwn(t, 502, "ctmgate.login_refused")
		if got.header.Get("Retry-After") != "" {
			t.Errorf("it invites to repeat: %v", got.header)
		}
	}
	if s := up.Stats(); s.RefusedLogins != 1 || s.Calls+s.RejectedCalls > 0 {
		t.Errorf("upstream saw %+v", s)
	}
	t.Run("nor again after a reload", func(t *testing.T) {
		g.addr = freeAddr(t) // a reload resets connections that wait at the old listener
		if err := g.load(up.sidecar("{file."+secretFile(t, refusedPassword)+"}", "session_lifetime 20m")); err != nil {
			t.Fatal(err)
		}
		g.get(wireEcho).wantOwn(t, 502, "ctmgate.login_refused")
		if n := up.Stats().RefusedLogins; n != 1 {
			t.Errorf("%d logins were refused", n)
		}
	})
}

func TestWireManyClientsAtAColdStartCostOneLogin(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			res, err := http.Get(g.url(wireEcho))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("got %d", res.StatusCode)
			}
		})
	}
	group.Wait()
	if s := up.Stats(); s.Logins != 1 || s.Calls != 50 {
		t.Errorf("upstream saw %+v", s)
	}
}

func TestWireAnAnswerThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	g.get(wireEcho).echoed(t)
	wireFaults(t, up.Emulator, "calls=truncatex1")
	res, err := http.Get(g.url(wireEcho))
	if err != nil {
		t.Fatalf("the client got nothing of it: %v", err)
	}
	content, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 200 || len(content) == 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client got %d %q and then %v", res.StatusCode, content, err)
	}
	wireFaults(t, up.Emulator, "calls=truncatex1")
	conn := g.dial()
	if _, err := io.WriteString(conn, "GET "+wireEcho+" HTTP/1.0\r\nHost: "+g.addr+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(conn); err == nil && len(all) > 0 {
		t.Errorf("a client of HTTP/1.0 cannot know that this is not all: %q", all)
	}
	g.get(wireEcho).echoed(t)
	t.Run("and redirects are passed on, not followed", func(t *testing.T) {
		wireFaults(t, up.Emulator, "calls=redirectx1")
		got := g.get(wireEcho)
		if got.status != 302 || !strings.HasPrefix(got.header.Get("Location"), "https://elsewhere.invalid/") {
			t.Errorf("got %d %v", got.status, got.header)
		}
	})
}

// Else three such calls would leave an endpoint aside, and more of them all.
func TestWireABodyThatBreaksOffIsNoTroubleOfTheEndpoint(t *testing.T) {
	first, second := startFront(t, nil), startFront(t, nil)
	g := startGateway(t, wireSite(first.url+" "+second.url, wireUser(t), "name pair"))
	for range 4 {
		g.rawCall("POST", wireEcho, "Transfer-Encoding: chunked", "", "ZZ\r\nhello").wantOwn(t, http.StatusBadRequest, "ctmgate.bad_body")
	}
	g.get(wireEcho).echoed(t)
	if n := len(second.arrived()); n != 0 {
		t.Errorf("%d calls arrived at the second endpoint", n)
	}
}
