package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	caddy.RegisterModule(App{})
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(Health{})
	caddy.RegisterModule(AdminAPI{})

	httpcaddyfile.RegisterGlobalOption("controlm", parseApp)
	httpcaddyfile.RegisterHandlerDirective("controlm", parseHandler)
	httpcaddyfile.RegisterHandlerDirective("controlm_health", parseHealth)
	// Relative to Caddy's own directives only: to name another plugin's would
	// panic in a build without it.
	httpcaddyfile.RegisterDirectiveOrder("controlm", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("controlm_health", httpcaddyfile.Before, "respond")

	caddy.OnExit(waitForLogouts)
}
