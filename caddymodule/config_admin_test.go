package caddymodule_test

import (
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

const adminWarning = "the admin API listens on TCP, and whoever reaches it can read the secrets"

func TestAnAdminAPIOnTCPWarnsWhereTheConfigNamesSecrets(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	file := "{file." + secretFile(t, canaryPassword) + "}"
	socket := adminSocket(t)
	for _, c := range []struct {
		name, admin, password string
		warns                 int
	}{
		{"a port", freeAddr(t), file, 1},
		{"a port that a placeholder names", "{env.CTMGATE_TEST_ADMIN}", file, 1},
		{"a socket", "unix/" + socket + "|0600", file, 0},
		{"a socket that a placeholder names", "{env.CTMGATE_TEST_SOCKET}", file, 0},
		{"no admin API", "off", file, 0},
		{"a port and no secret but a literal", freeAddr(t), "literal-44", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CTMGATE_TEST_ADMIN", freeAddr(t))
			t.Setenv("CTMGATE_TEST_SOCKET", "unix/"+socket+"|0600")
			g := startGateway(t, "{\nadmin "+c.admin+"\n}\n"+up.sidecar(c.password))
			if n := strings.Count(g.logged(), adminWarning); n != c.warns {
				t.Errorf("warned %d times, expected %d", n, c.warns)
			}
		})
	}
}
