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
// Caddy's shutdown_delay. Other paths go on to the next handler. It asks
// nothing of Control-M: a wrong password must not take every gateway out of
// its balancer.
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
	if r.URL.Path == "/readyz" && shuttingDown(r) {
		status, text = http.StatusServiceUnavailable, "shutting down\n"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
	return nil
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
	if h.NextBlock(0) {
		return nil, h.Errf("controlm_health: takes no block, found %q", h.Val())
	}
	return Health{}, nil
}

var _ caddyhttp.MiddlewareHandler = Health{}
