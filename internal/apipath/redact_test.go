package apipath

import (
	"strings"
	"testing"
)

func TestRedactTakesSecretsOutOfPaths(t *testing.T) {
	const base = "/automation-api/config/server/IN01/"
	for target, want := range map[string]string{
		"/automation-api/run/jobs/status?token=secret":             "/automation-api/run/jobs/status",
		base + "sshkey/key1/secret":                                base + "REDACTED",
		base + "SSHKey/key1/secret":                                base + "REDACTED",
		base + "ssh%6bey/key1/secret":                              base + "REDACTED",
		base + "ssh%256bey/key1/secret":                            base + "REDACTED",
		base + "sshkey;x=1/key1/secret":                            base + "REDACTED",
		"/automation-api/config/server/IN01%2Fsshkey%2Fk%2Fsecret": "/automation-api/config/server/REDACTED",
		"/automation-api/config/systemsettings/server/name/secret": "/automation-api/config/REDACTED",
		"/automation-api/config/systemsettings":                    "/automation-api/config/systemsettings",
		"/automation-api/run/job/IN01%3A00001/output":              "/automation-api/run/job/IN01%3A00001/output",
		"*":                                 "*",
		"":                                  "",
		"/%zz/" + base + "sshkey%zz/secret": "/%zz/" + base + "REDACTED",
	} {
		got := Redact(target)
		if got != want {
			t.Errorf("Redact(%q) is %q, expected %q", target, got, want)
		}
		if strings.Contains(got, "secret") {
			t.Errorf("Redact(%q) shows the secret: %q", target, got)
		}
		if ShowsSecret(target) != strings.HasSuffix(want, Redacted) {
			t.Errorf("ShowsSecret(%q) is %v", target, ShowsSecret(target))
		}
	}
}

func TestRedactBoundsWhatIsShown(t *testing.T) {
	if got := Redact("/" + strings.Repeat("x", 100_000)); len(got) > mostShown+10 {
		t.Errorf("%d bytes", len(got))
	}
	for _, length := range []int{mostShown - 20, mostShown - 4, mostShown, 2 * mostShown} {
		target := "/" + strings.Repeat("x", length) + "/sshkey/k/secret"
		if got := Redact(target); len(got) > mostShown+len("…") || Redact(got) != got || strings.Contains(got, "sshkey") || !ShowsSecret(target) {
			t.Errorf("%d bytes before a secret are shown as %d, ending with %.40q; it has a secret: %v", length, len(got), got[len(got)-20:], ShowsSecret(target))
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("/config/server/x/sshkey/k/secret?token=1")
	f.Add("/" + strings.Repeat("x", mostShown) + "/sshkey/k")
	f.Add("/config/%73ystemsettings%2fserver/a/b")
	f.Fuzz(func(t *testing.T, target string) {
		got := Redact(target)
		if strings.Contains(got, "?") {
			t.Errorf("Redact(%q) shows the query: %q", target, got)
		}
		if again := Redact(got); again != got {
			t.Errorf("Redact(%q) is %q, and of that %q", target, got, again)
		}
	})
}
