// Command ctmgate is Caddy with the Control-M gateway built in.
package main

import (
	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/cli"
)

func main() {
	caddy.CustomBinaryName = "ctmgate"
	caddy.CustomLongDescription = cli.Description
	cli.Register()
	caddycmd.Main()
}
