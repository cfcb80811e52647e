package caddymodule

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Health answers GET /healthz with 200 while the process serves, and GET
// /readyz with 200 once the config runs, with 503 from the beginning of
// Caddy's shutdown_delay. Other paths go on to the next handler. Neither asks
// anything of Control-M: a wrong password must not take every gateway out of
// its balancer.
//
// GET /readyz?accounts is 503 also when an account is not usable: its password
// was refused, or its logins are paused after failures. GET
// /readyz?account=ENV/NAME looks at one account; repeated, at several. Both are
// for alerts and for start-up probes, and make no login: with idle_timeout off,
// the gateway has made one at its start. The accounts are named to callers on
// this machine only, and not to those that came through a proxy on it.
type Health struct{}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.controlm_health",
		New: func() caddy.Module { return new(Health) },
	}
}

// ServeHTTP answers the health paths.
func (Health) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path != "/healthz" && r.URL.Path != "/readyz" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	status, text := http.StatusOK, "ok\n"
	if r.URL.Path == "/readyz" {
		if trouble := unready(r); trouble != "" {
			status, text = http.StatusServiceUnavailable, trouble
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", asItIs)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	return nil
}

// unready says why the gateway is not ready, or "".
func unready(r *http.Request) string {
	if shuttingDown(r) {
		return "shutting down\n"
	}
	query := r.URL.Query()
	if !query.Has("accounts") && !query.Has("account") {
		return ""
	}
	app, err := activeApp()
	if err != nil {
		return "there is no account\n"
	}
	wanted := make(map[string]bool) // and not found yet
	for _, name := range query["account"] {
		wanted[name] = true
	}
	some := len(wanted) > 0
	trouble, found := "", false
	for _, info := range app.sessions() {
		name := info.Environment + "/" + info.Account
		if !info.InUse || some && !wanted[name] {
			continue
		}
		found = true
		delete(wanted, name)
		if !info.Usable() {
			trouble += name + ": " + info.State + "\n"
		}
	}
	if trouble != "" && (!fromHere(r) || throughProxy(r) != "") {
		trouble = "an account is not usable\n"
	}
	if !found || len(wanted) > 0 {
		trouble += "there is no such account\n"
	}
	return trouble
}

// shuttingDown tells whether the server has begun its shutdown delay.
func shuttingDown(r *http.Request) bool {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return false
	}
	value, _ := repl.Get("http.shutting_down")
	down, _ := value.(bool)
	return down
}

// parseHealth reads the directive:
//
//	controlm_health [<matcher>]
func parseHealth(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // the directive's name
	if h.NextArg() {
		return nil, h.Errf("controlm_health: takes no argument, found %q", h.Val())
	}
	if err := noBlock(h.Dispenser, "controlm_health"); err != nil {
		return nil, err
	}
	return Health{}, nil
}

var _ caddyhttp.MiddlewareHandler = Health{}
