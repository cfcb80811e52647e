package cli

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// The log that would take the warning may be the one that is turned off.
func TestALostAuditLogIsSaidWhereItIsSeen(t *testing.T) {
	const warning = "no log takes all lines of the audit log controlm.audit"
	for _, c := range []struct {
		name, log string
		warns     bool
	}{
		{"as it comes", "", false},
		{"without audits", "log {\nexclude controlm.audit\n}", true},
		{"without anything of ours", "log {\nexclude controlm\n}", true},
		{"of other modules alone", "log {\ninclude http.handlers\n}", true},
		{"that nobody reads", "log {\noutput discard\n}", true},
		{"of errors alone", "log {\nlevel ERROR\n}", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t)
			secret := write(t, filepath.Join(h.data, "password"), canary)
			config := write(t, filepath.Join(h.data, "Caddyfile"), fmt.Sprintf(
				"{\nadmin off\n%s\n}\nhttp://127.0.0.1:8080 {\ncontrolm http://127.0.0.1:9/automation-api {\nusername batch\npassword {file.%s}\n}\n}\n", c.log, secret))
			code, out := h.start(t, nil, "validate", "--config", config).exit()
			if n := strings.Count(out, warning); code != 0 || c.warns != (n == 1) || n > 1 {
				t.Errorf("it exits with %d and says\n%s", code, out)
			}
		})
	}
}
