package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestNoCheckIsPromisedWhereItDoesNotLook(t *testing.T) {
	r := newRotating(t)
	variable := []string{"CTM_ENDPOINT=" + r.url, "CTM_CA_FILE=" + r.ca, "CTM_USERNAME=batch", "CTM_PASSWORD=" + canary}
	out := filepath.Join(t.TempDir(), "new")
	r.on(func(e emulator.Event) {
		if strings.HasSuffix(e.Path, updatePath) {
			r.SetFaults(emulator.Fault{Target: "login", Action: "401"})
		}
	})
	for _, words := range []string{"it refuses the new one and the current one", out + ".pending exists already"} {
		got := r.typed(t, variable, changed, "password", "update", "--new-password-file", "-", "--write", out)
		got.want(t, 1, words, "log in by hand, once, to find out which of the two passwords works (ctmgate does not read it for account 127.0.0.1/default)")
		if strings.Contains(got.errout, "ctmgate check") {
			t.Errorf("got %s", got.errout)
		}
	}
}

func TestAChangeNamesTheOtherAccountsOfTheUser(t *testing.T) {
	r := newRotating(t)
	other := write(t, filepath.Join(t.TempDir(), "other"), canary)
	same := filepath.Join(t.TempDir(), "same")
	if err := os.Symlink(r.file, same); err != nil {
		t.Fatal(err)
	}
	account := func(user, file string) object { return object{"username": user, "password": "{file." + file + "}"} }
	environment := func(url string, accounts object) object {
		return object{"endpoint": []string{url}, "tls_ca_file": []string{r.ca}, "accounts": accounts, "default_account": "a"}
	}
	config := checkConfig(t, object{
		"prod": environment(r.url, object{
			"a": account("batch", r.file), "b": account("{env.SAME_USER}", other), "c": account("batch", same),
			"d": account("batch", filepath.Join(r.data, "none")), "e": account("another", other), "f": object{"api_token": "{file." + other + "}"},
		}),
		"twin":  environment(r.url+"/", object{"a": account("batch", other)}),
		"other": environment("https://other.example.com/automation-api", object{"a": account("batch", other)}),
	})
	got := r.typed(t, []string{"SAME_USER=batch"}, changed, "password", "update", "--config", config, "--account", "prod/a", "--new-password-file", "-", "--write", r.file)
	got.want(t, 0, "account prod/b logs in as batch too, with the password in file "+other+": put the new one there as well", "account prod/d logs in as batch too", "account twin/a logs in")
	if n := strings.Count(got.out, " logs in as batch too"); n != 3 {
		t.Errorf("it names %d accounts: %s", n, got.out)
	}
}
