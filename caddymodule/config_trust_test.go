package caddymodule_test

import (
	"os"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// TestACAThatChangedInItsFileIsReadByAReload: calls and logins make their
// connections apart from each other, and must agree in whom they trust.
func TestACAThatChangedInItsFileIsReadByAReload(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	good, err := os.ReadFile(up.caFile)
	if err != nil {
		t.Fatal(err)
	}
	other, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(up.caFile, other.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	caddyfile := up.sidecar("{file." + secretFile(t, canaryPassword) + "}")
	g := startGateway(t, caddyfile)
	wantReply(t, g.get("/automation-api/config/servers"), 502, "ctmgate.upstream_unreachable")
	if err := os.WriteFile(up.caFile, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.load(caddyfile); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "a call succeeds", func() bool { return g.get("/automation-api/config/servers").status == 200 })
}
