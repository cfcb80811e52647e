package caddymodule_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// strangersHeaders are what a client may send and Control-M must never see.
var strangersHeaders = []struct {
	name  string
	lines []string
}{
	{"a bearer token", []string{"Authorization: Bearer " + canaryKey}},
	{"basic credentials", []string{"Authorization: Basic " + canaryKey}},
	{"an API key", []string{"X-Api-Key: " + canaryKey}},
	{"both kinds of credential", []string{"Authorization: Bearer " + canaryKey, "X-Api-Key: " + canaryKey}},
	{"each credential twice", []string{
		"Authorization: Bearer " + canaryKey, "X-Api-Key: " + canaryKey, "Authorization: " + canaryKey, "X-Api-Key: other",
	}},
	{"credentials in mixed case", []string{"aUTHORIZATION: Bearer " + canaryKey, "x-aPI-kEY: " + canaryKey}},
	{"an API key with underscores", []string{"X_Api_Key: " + canaryKey, "x_api_key: " + canaryKey, "X-Api_Key: " + canaryKey}},
	{"an API key with other punctuation", []string{"X.Api.Key: " + canaryKey, "X~Api~Key: " + canaryKey}},
	{"the misprint of the manual", []string{"Authentication: Bearer " + canaryKey}},
	{"cookies", []string{"Cookie: session=" + canaryKey, "Cookie: a=b"}},
	{"credentials for a proxy", []string{"Proxy-Authorization: Basic " + canaryKey, "Proxy_Authorization: Basic " + canaryKey}},
	{"claims about the client", []string{
		"Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https",
		"X-Forwarded-Prefix: /x", "X-Forwarded-User: admin", "X_Forwarded_For: 192.0.2.1", "X-Forwarded: yes",
	}},
	{"another method", []string{
		"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X_HTTP_Method_Override: DELETE",
	}},
	{"another path", []string{"X-Original-URL: /session/logout", "X-Rewrite-URL: /session/logout", "X_Original_URL: /x"}},
	{"leave to send twice", []string{"Idempotency-Key: 1", "X-Idempotency-Key: 1"}},
	{"a nomination of the credential", []string{"Connection: authorization, x-api-key"}},
	{"a nomination in mixed case", []string{"Connection: keep-alive, AuthorizatioN ,X-API-KEY"}},
	{"nominations on several lines", []string{"Connection: close", "Connection: authorization", "Connection: x-api-key"}},
	{"an empty nomination first", []string{"Connection: ", "Connection: authorization, x-api-key"}},
	{"a nomination with the credential", []string{
		"Connection: authorization, x-api-key", "Authorization: Bearer " + canaryKey, "X-Api-Key: " + canaryKey,
	}},
	{"an upgrade that is none", []string{"Connection: Upgrade, authorization, x-api-key", "Upgrade: h2c"}},
	{"an announcement of trailers", []string{"Trailer: Authorization, X-Api-Key", "TE: gzip", "Keep-Alive: 5", "Proxy-Connection: keep-alive"}},
}

func TestWireExactlyOneCredentialGoesUpstream(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser"}}})
	accounts := []struct{ name, words, header string }{
		{"with a password", wireUser(t), "Authorization"},
		{"with an API token", "api_token {file." + secretFile(t, canaryToken) + "}", "X-Api-Key"},
	}
	for _, account := range accounts {
		t.Run(account.name, func(t *testing.T) {
			g := startGateway(t, wireSite(up.URL(), "tls_ca_file "+up.caFile, account.words, "admit anyone"))
			allowed := []string{"Host", account.header, "X-Harmless", "X-Request-Id"}
			for _, row := range strangersHeaders {
				t.Run(row.name, func(t *testing.T) {
					checkCredential(t, g.rawGet(wireEcho, append(row.lines, "X-Harmless: yes")...).echoed(t), account.header, allowed)
				})
			}
			t.Run("a web socket that nominates", func(t *testing.T) {
				got := g.rawGet(wireEcho, "Connection: authorization, x-api-key, Upgrade", "Upgrade: websocket",
					"Authorization: Bearer "+canaryKey, "X-Harmless: yes")
				e := got.echoed(t)
				checkCredential(t, e, account.header, append(allowed, "Connection", "Upgrade"))
				if c := e.Headers["Connection"]; !slices.Equal(c, []string{"Upgrade"}) {
					t.Errorf("upstream got Connection %q", c)
				}
			})
			for _, announced := range []string{"", "Trailer: Authorization, X-Api-Key\r\n"} {
				t.Run("trailers "+announced, func(t *testing.T) {
					got := g.raw("POST " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\nX-Harmless: yes\r\n" + announced +
						"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nAuthorization: Bearer " + canaryKey +
						"\r\nX-Api-Key: " + canaryKey + "\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n")
					e := got.echoed(t)
					checkCredential(t, e, account.header, append(allowed, "Transfer-Encoding"))
					if len(e.Trailers) > 0 || e.BodySize != 5 {
						t.Errorf("upstream got %d bytes and trailers %v", e.BodySize, e.Trailers)
					}
				})
			}
			if s := up.Stats(); s.RejectedCalls != 0 || s.Logins > 1 {
				t.Errorf("upstream saw %+v", s)
			}
		})
	}
}

func checkCredential(t *testing.T, e echoed, header string, allowed []string) {
	t.Helper()
	if got := e.Headers[header]; len(got) != 1 {
		t.Errorf("upstream got %s %d times", header, len(got))
	}
	if e.SessionUser != "emuser" {
		t.Errorf("upstream took the call for %q", e.SessionUser)
	}
	for name, values := range e.Headers {
		if name != "Accept-Encoding" && !slices.Contains(allowed, name) {
			t.Errorf("upstream got %s: %q", name, values)
		}
	}
	if len(e.Headers["X-Harmless"]) != 1 {
		t.Error("a harmless header was lost")
	}
}

func TestWireMalformedHeadersAndFramingGoNowhereOrArePlain(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	head := "POST " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\n"
	for _, row := range []struct{ name, request string }{
		{"a space before the colon", head + "X-Api-Key : k\r\n\r\n"},
		{"a carriage return in a value", head + "X-A: a\rb\r\n\r\n"},
		{"a name that is no token", head + "X(A: b\r\n\r\n"},
		{"two hosts", head + "Host: evil.example\r\n\r\n"},
		{"no host", "GET " + wireEcho + " HTTP/1.1\r\n\r\n"},
		{"a length that is no number", head + "Content-Length: +5\r\n\r\nhello"},
		{"two transfer encodings", head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"a transfer encoding after chunked", head + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := up.Stats().Calls
			if got := g.raw(row.request); got.status != 400 && got.status != 501 {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if n := up.Stats().Calls - before; n != 0 {
				t.Errorf("%d calls reached upstream", n)
			}
		})
	}
	t.Run("a length beside chunks", func(t *testing.T) {
		got := g.raw(head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
		if got.status == 400 {
			return
		}
		if e := got.echoed(t); e.BodySize != 5 || e.Headers["Content-Length"] != nil {
			t.Errorf("upstream got %d bytes, headers %v", e.BodySize, e.Headers)
		}
	})
	t.Run("a folded header", func(t *testing.T) {
		e := g.raw("GET " + wireEcho + " HTTP/1.1\r\nHost: {HOST}\r\nX-A: a\r\n X-Api-Key: k\r\n\r\n").echoed(t)
		if !slices.Equal(e.Headers["X-A"], []string{"a X-Api-Key: k"}) {
			t.Errorf("upstream got headers %v", e.Headers)
		}
	})
}

func TestWireCookiesOfUpstreamStayThere(t *testing.T) {
	const cookie = "JSESSIONID=shared"
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		h := w.Header()
		switch r.URL.Path {
		case "/automation-api/header":
			h.Add("Set-Cookie", cookie)
			h["set-cookie2"] = []string{cookie}
		case "/automation-api/interim":
			h.Set("Set-Cookie", cookie)
			h.Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("Set-Cookie")
		case "/automation-api/trailer":
			h.Set("Trailer", "Set-Cookie, X-Sum")
			_, _ = io.WriteString(w, "body")
			h.Set("Set-Cookie", cookie)
			h.Set("X-Sum", "1")
			return
		case "/automation-api/unannounced":
			_, _ = io.WriteString(w, strings.Repeat("body", 4<<10))
			_ = http.NewResponseController(w).Flush()
			h.Set(http.TrailerPrefix+"Set-Cookie", cookie)
			h.Set(http.TrailerPrefix+"X-Sum", "1")
			return
		default:
			next.ServeHTTP(w, r)
			return
		}
		_, _ = io.WriteString(w, "body")
	})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for _, row := range []struct {
		name    string
		trailer bool
	}{{"header", false}, {"interim", false}, {"trailer", true}, {"unannounced", true}} {
		t.Run("in "+row.name, func(t *testing.T) {
			var interim []textproto.MIMEHeader
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
				Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
					interim = append(interim, h)
					return nil
				},
			})
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url("/automation-api/"+row.name), nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || !strings.HasPrefix(string(body), "body") {
				t.Fatalf("got %d %q: %v", res.StatusCode, body, err)
			}
			seen := []http.Header{res.Header, res.Trailer}
			for _, h := range interim {
				seen = append(seen, http.Header(h))
			}
			for _, h := range seen {
				for name, values := range h {
					if strings.Contains(strings.ToLower(name), "cookie") || strings.Contains(strings.Join(values, ""), cookie) {
						t.Errorf("the client got %s: %q", name, values)
					}
				}
			}
			if row.trailer && res.Trailer.Get("X-Sum") != "1" {
				t.Errorf("the client got trailers %v", res.Trailer)
			}
			if row.name == "interim" && (len(interim) != 1 || interim[0].Get("Link") == "") {
				t.Errorf("the client got interim answers %v", interim)
			}
		})
	}
}
