// Package caddymodule is ctmgate as modules of Caddy.
//
//	controlm                        app.go, config.go, check.go, caddyfile_app.go
//	http.handlers.controlm          handler.go, admit.go, proxy.go, transport.go, errors.go, caddyfile.go
//	http.handlers.controlm_health   health.go
//
// What survives a reload stands in pool.go; what keeps a client's own secrets
// out of Caddy's logs, in accesslog.go.
package caddymodule
