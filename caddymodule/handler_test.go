package caddymodule_test

import (
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestACallWithoutACredentialIsAnswered(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	got := g.get("/automation-api/config/servers")
	if got.status != 200 || !strings.Contains(got.body, "ctmprod") {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if s := up.Stats(); s.Logins != 1 || s.Calls != 1 {
		t.Errorf("upstream saw %+v", s)
	}
}
