package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// What a start would warn of is to be seen before it.
func TestValidateWarnsOfMisplacedTrust(t *testing.T) {
	h := newHome(t)
	secret := write(t, filepath.Join(h.data, "password"), canary)
	config := write(t, filepath.Join(h.data, "Caddyfile"), fmt.Sprintf(
		"{\nadmin {env.CTMGATE_TEST_ADMIN}\n}\nhttp://127.0.0.1:8080 {\ncontrolm https://em.example.com/automation-api {\n"+
			"tls_insecure_skip_verify\nusername batch\npassword {file.%s}\n}\n}\n", secret))
	code, out := h.start(t, []string{"CTMGATE_TEST_ADMIN=127.0.0.1:2019"}, "validate", "--config", config).exit()
	for _, warning := range []string{"the admin API listens on TCP", "tls_insecure_skip_verify accepts any certificate"} {
		if n := strings.Count(out, warning); code != 0 || n != 1 {
			t.Errorf("it exits with %d and says %d times that %s:\n%s", code, n, warning, out)
		}
	}
}
