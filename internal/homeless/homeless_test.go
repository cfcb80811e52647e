package homeless

import (
	"os"
	"testing"
)

func TestOnlyWhereThereIsNoHomeAndNoConfigToKeepIsThereAStandIn(t *testing.T) {
	for name, test := range map[string]struct {
		home, config string
		args         []string
		want         bool
	}{
		"no home":                       {"", "", []string{"ctmgate", "exec", "--", "run"}, true},
		"no home, no command":           {"", "", []string{"ctmgate"}, true},
		"a home":                        {"/home/x", "", []string{"ctmgate", "exec"}, false},
		"a folder":                      {"", "/etc/x", []string{"ctmgate", "exec"}, false},
		"a command that keeps a config": {"", "", []string{"ctmgate", "run"}, false},
	} {
		t.Setenv("HOME", test.home)
		t.Setenv(variable, test.config)
		if stood = standIn(test.args); stood != test.want {
			t.Errorf("%s: got %v", name, stood)
		}
		if got := os.Getenv(variable); test.want != (got == ".") {
			t.Errorf("%s: it is %q", name, got)
		}
		Undo()
		if got := os.Getenv(variable); got != test.config {
			t.Errorf("%s: then it is %q", name, got)
		}
	}
}
