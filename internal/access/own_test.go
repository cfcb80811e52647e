package access

import (
	"strings"
	"testing"
)

func TestWhatIsOneOfTheGatewaysOwn(t *testing.T) {
	key, token := NewKey(), NewTokens(nil).Issue("nightly", nil)
	for text, want := range map[string]bool{
		key: true, token: true,
		"": false, "ctmgate_nightly*": false, "ctmgt_x": false, key + "x": false, key[1:]: false, token[:20]: false,
		"ctmgate_" + strings.Repeat("a", 49): false, "ctmgt_" + strings.Repeat("a", 200): false, "a" + key: false,
	} {
		if IsOwn(text) != want {
			t.Errorf("IsOwn(%q) is %t", text, !want)
		}
	}
}

func TestLogsShowNoPartOfTheGatewaysOwn(t *testing.T) {
	escaped := func(text string) string {
		return strings.NewReplacer("c", "%63", "_", "%5F", "t", "%74").Replace(text)
	}
	key, token := NewKey(), NewTokens(nil).Issue("nightly", nil)
	for _, own := range []string{key, token, key[:40], "ctmgt_ctmgate_x" + key} {
		for _, text := range []string{
			own, "x" + own, own + "/y", "Bearer " + own, "a=" + own + "*", escaped(own), escaped(strings.ReplaceAll(escaped(own), "%", "%25")),
		} {
			if !Shows(text) {
				t.Errorf("%q passes", text)
			}
			path := "/run/" + text + "/status"
			if got := RedactPath(path); Shows(got) || strings.Contains(got, own[10:30]) || !strings.HasPrefix(got, "/run/REDACTED") {
				t.Errorf("%q is shown as %q", path, got)
			}
		}
	}
	for _, text := range []string{"", "/run/jobs/status", "jobname=ctmgate_nightly*", "ctmgt_x/ctmgate_", "ctmgate_a b c d e f g h i j k l m n o p", "100%zz", "workbench%3A00001"} {
		if Shows(text) || RedactPath(text) != text {
			t.Errorf("%q does not pass", text)
		}
	}
	if n := testing.AllocsPerRun(100, func() { RedactPath("/automation-api/run/jobs/status") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzRedactPath(f *testing.F) {
	f.Add("/run/ctmgate_0123456789012345678901234/x%2fy")
	f.Fuzz(func(t *testing.T, path string) {
		if got := RedactPath(path); Shows(got) || !Shows(path) && got != path {
			t.Errorf("%q became %q", path, got)
		}
	})
}
