package caddymodule_test

import (
	"testing"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// TestInlineEnvironmentsThatSayTheSameAreOne: Caddy makes a handler for each
// server, so that what is written once is provisioned twice.
func TestInlineEnvironmentsThatSayTheSameAreOne(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	wantNoSessionLeft(t, up)
	second := freeAddr(t)
	block := "controlm " + up.URL() + " {\ntls_ca_file " + up.caFile + "\nusername emuser\npassword {file." + secretFile(t, canaryPassword) + "}\n"
	for _, c := range []struct{ name, caddyfile string }{
		{"a site with two addresses", "{ADDR}, http://" + second + " {\n" + block + "}\n}\n"},
		{"a snippet in two sites", "(gate) {\n" + block + "}\n}\n{ADDR} {\nimport gate\n}\nhttp://" + second + " {\nimport gate\n}\n"},
		{"sites that differ beside the environment", "{ADDR} {\n" + block + "replay_buffer 2MiB\n}\n}\nhttp://" + second + " {\n" + block + "admit anyone\n}\n}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := up.Stats().Logins
			g := startGateway(t, c.caddyfile)
			other := *g
			other.addr = second
			wantReply(t, g.get("/automation-api/config/servers"), 200, "")
			wantReply(t, other.get("/automation-api/config/servers"), 200, "")
			if err := g.load(c.caddyfile); err != nil {
				t.Fatal(err)
			}
			wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
			wantReply(t, other.getAfterLoad("/automation-api/config/servers", nil), 200, "")
			if logins := up.Stats().Logins - before; logins != 1 {
				t.Errorf("logged in %d times, expected once", logins)
			}
			config, err := g.adapt(c.caddyfile)
			if err != nil {
				t.Fatal(err)
			}
			app, err := caddymodule.ReadApp(config)
			if err != nil {
				t.Fatal(err)
			}
			if names := app.AccountNames(); len(names) != 1 {
				t.Errorf("the commands see the accounts %v, expected one", names)
			}
		})
	}
}
