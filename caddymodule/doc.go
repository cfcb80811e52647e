// Package caddymodule is ctmgate as modules of Caddy.
//
//	controlm                        app.go, config.go, clients.go, check.go, caddyfile_app.go, caddyfile_client.go
//	http.handlers.controlm          handler.go, caddyfile.go
//	http.handlers.controlm_health   health.go
//	admin.api.controlm              admin.go
//
// A call goes through admit.go, permit.go, authenticate.go, signin.go, proxy.go,
// transport.go and wire.go, in this order; its answer through urls.go and
// broken.go, and what the gateway says itself through errors.go. What survives a
// reload stands in pool.go, and fleet.go for endpoints; what keeps a client's
// own secrets out of Caddy's logs, in accesslog.go.
package caddymodule
