package caddymodule_test

import (
	"net/http"
	"strings"
	"testing"
)

// The length of a compressed answer tells how alike its parts are: of what a
// caller chose, and of a token or a key beside it.
func TestWireNoAnswerOfTheGatewaysOwnIsCompressed(t *testing.T) {
	up := startFront(t, nil)
	g := startGateway(t, strings.Replace(wireSite(up.url, wireUser(t)), "controlm ", "encode gzip {\n\t\tminimum_length 1\n\t}\n\tcontrolm_health\n\tcontrolm ", 1))
	ask := func(method, path, body string) reply {
		return g.do(method, path, strings.NewReader(body), asHeader("Accept-Encoding", "gzip"))
	}
	for _, row := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"a login", http.MethodPost, clientLogin, `{"username": "` + strings.Repeat("whoever", 300) + `"}`, 200},
		{"a logout", http.MethodPost, clientLogout, "", 200},
		{"a refusal", http.MethodGet, "/automation-api/authentication/tokens", "", 403},
		{"readiness", http.MethodGet, "/readyz?accounts", "", 200},
	} {
		got := ask(row.method, row.path, row.body)
		if got.status != row.status || got.header.Get("Content-Encoding") != "" || got.header.Get("Cache-Control") != "no-store, no-transform" {
			t.Errorf("%s: got %d %v", row.name, got.status, got.header)
		}
	}
	if got := ask(http.MethodGet, wireEcho, ""); got.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("Control-M's own answer is not compressed: %d %v", got.status, got.header)
	}
}
