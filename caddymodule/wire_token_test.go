package caddymodule_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// Control-M may print its URLs under a name that the config does not know, and
// then with the token of the session.
func TestWireTheSessionsTokenComesBackInNoParameter(t *testing.T) {
	var printed string
	f := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || !strings.HasSuffix(r.URL.Path, "/run/status/1") {
			next.ServeHTTP(w, r)
			return
		}
		printed = token
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Location", "//other.example/status/1?token="+token+"&page=2")
		_, _ = io.WriteString(w, `{"statusURI": "http://em/automation-api/run/status/1?token=`+token+`",
			"monitorPageURI": "https://other.example/ControlM/Monitor/?x=1&token=`+token+`&y=2", "next": "/automation-api/run?token=`+token+`",
			"message": "see http:\/\/em\/run?token=`+token+` for more"}`)
	})
	const shown = `{"statusURI": "http://em/automation-api/run/status/1?",
			"monitorPageURI": "https://other.example/ControlM/Monitor/?x=1&&y=2", "next": "/automation-api/run?",
			"message": "see http:\/\/em\/run? for more"}`
	for name, word := range map[string]string{"as it is": "", "with rewrite_urls off": "rewrite_urls off"} {
		g := startGateway(t, wireSite(f.url, wireUser(t), word))
		got := g.get("/automation-api/run/status/1")
		if got.status != 200 || got.body != shown || printed == "" {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
		if location := got.header.Get("Location"); location != "//other.example/status/1?&page=2" {
			t.Errorf("%s: got Location %q", name, location)
		}
	}
}
