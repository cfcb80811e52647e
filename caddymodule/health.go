package caddymodule

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Health answers GET /healthz with 200 while the process serves. Other paths
// go on to the next handler. It asks nothing of Control-M: a wrong password
// must not take every gateway out of its balancer.
type Health struct{}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.controlm_health",
		New: func() caddy.Module { return new(Health) },
	}
}

// ServeHTTP answers the health path.
func (Health) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.URL.Path != "/healthz" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return next.ServeHTTP(w, r)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, "ok\n")
	return nil
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
