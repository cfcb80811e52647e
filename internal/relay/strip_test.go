package relay

import (
	"maps"
	"net/http"
	"testing"
)

func TestStripRemovesWhatAClientMustNotSay(t *testing.T) {
	for _, name := range []string{
		"Authorization", "authorization", "AUTHORIZATION", "X-Api-Key", "X_Api_Key", "x.api.key", "x_API.kEy", "x~api-key",
		"Authentication", "Proxy-Authorization", "proxy_authorization", "Cookie", "cookie",
		"X-Http-Method", "X-Http-Method-Override", "x_http_method_override", "X-HTTP-Methods", "X-Method-Override",
		"X-Original-Url", "X.Original.Url", "X-Rewrite-Url", "Forwarded", "X-Forwarded-For", "X_Forwarded_Proto",
		"X-Forwarded-Uri", "x.forwarded.anything", "Idempotency-Key", "X-Idempotency-Key", "x_idempotency_key", "Trailer",
		"Connection",
	} {
		h := http.Header{name: {"canary"}, "Accept": {"*/*"}}
		Strip(h)
		if _, there := h[name]; there || len(h) != 1 {
			t.Errorf("%s is still there: %v", name, h)
		}
	}
}

func TestStripLeavesOrdinaryHeadersAlone(t *testing.T) {
	h := http.Header{
		"Accept": {"a", "b"}, "Content-Type": {"application/json"}, "X-Request-Id": {"1"}, "Annotation-Subject": {"s"},
		"Authorizations": {"x"}, "Xapikey": {"x"}, "X-Api-Keys": {"x"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"User-Agent": {""}, "Te": {"trailers"}, "Cookies": {"x"}, "Authxrization": {"x"}, "X1api1key": {"x"}, "": {"x"},
	}
	want := maps.Clone(h)
	Strip(h)
	if !maps.EqualFunc(h, want, func(a, b []string) bool { return len(a) == len(b) }) {
		t.Errorf("got %v, want %v", h, want)
	}
}

func TestStripLeavesNoNominationInConnection(t *testing.T) {
	h := http.Header{"Connection": {"", "x-api-key, uPGRADE", "Authorization"}, "Upgrade": {"websocket"}}
	Strip(h)
	if got := h["Connection"]; len(got) != 1 || got[0] != "Upgrade" {
		t.Errorf("Connection is %q", got)
	}
	h = http.Header{"Connection": {"upgrade, x-api-key"}}
	Strip(h)
	if len(h) != 0 {
		t.Errorf("a Connection without Upgrade stays: %v", h)
	}
}

func TestStripDoesNotAllocate(t *testing.T) {
	h := http.Header{
		"Accept": {"*/*"}, "Content-Type": {"application/json"}, "X-Request-Id": {"1"}, "User-Agent": {"curl"},
		"Authorization": {"Bearer x"}, "Accept-Encoding": {"gzip"},
	}
	secret := h["Authorization"]
	if n := testing.AllocsPerRun(100, func() { h["Authorization"] = secret; Strip(h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestStripResponseRemovesCookiesAlsoOnTheirWayToTrailers(t *testing.T) {
	h := http.Header{
		"Set-Cookie": {"a"}, "set-cookie": {"b"}, "Set-Cookie2": {"c"}, "Trailer:Set-Cookie": {"d"},
		"Trailer:set-cookie2": {"e"}, "Content-Type": {"text/plain"}, "Trailer:Digest": {"f"},
	}
	StripResponse(h)
	if len(h) != 2 || h.Get("Content-Type") == "" || h["Trailer:Digest"] == nil {
		t.Errorf("left: %v", h)
	}
}
