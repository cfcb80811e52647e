package caddymodule_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// updateFixtures writes what adapting gives into the fixtures; read the
// difference before you keep it.
var updateFixtures = flag.Bool("update-fixtures", false, "rewrite the JSON in testdata/adapt")

var dashes = regexp.MustCompile(`(?m)^-{10,}\n`)

// TestEachFixtureAdaptsToItsJSON runs testdata/adapt: a Caddyfile, a line of
// dashes, and the JSON that it becomes or `error: ` and what the error says.
// What adapts is loaded as well, with files in place of /run/secrets.
func TestEachFixtureAdaptsToItsJSON(t *testing.T) {
	t.Setenv("CTM_USERNAME", "emuser")
	t.Setenv("CTM_PASSWORD", canaryPassword)
	paths, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %d fixtures, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			parts := dashes.Split(string(content), 2)
			if len(parts) != 2 {
				t.Fatal("there is no line of dashes")
			}
			caddyfile, want := parts[0], parts[1]
			got, err := adapt(caddyfile)
			if text, ok := strings.CutPrefix(want, "error: "); ok {
				wantError(t, err, strings.TrimSpace(text))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sweep(t, "the adapted config", []byte(got))
			if *updateFixtures && got != want {
				if err := os.WriteFile(path, []byte(caddyfile+"----------\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				want = got
			}
			if got != want {
				t.Errorf("adapted to\n%s\nexpected\n%s", got, want)
			}
			if again, err := adapt(caddyfile); err != nil || again != got {
				t.Errorf("adapted again to something else: %v\n%s", err, again)
			}
			if _, err := validate(t, withSecretFiles(t, got)); err != nil {
				t.Errorf("what it adapted to does not load: %v", err)
			}
		})
	}
}
