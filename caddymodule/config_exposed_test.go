package caddymodule_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestAFileThatEveryUserCanReadWarnsOnceALoad(t *testing.T) {
	folder, err := os.MkdirTemp("/tmp", "ctm") // which everybody can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	const words = "every user of this machine can read this secret file"
	config, err := adapt(`
{
	controlm {
		environment prod {
			endpoint https://em.example.com:8443/automation-api
			account batch {
				username {file.` + folder + `/username}
				password {file.` + folder + `/password}
			}
			account nightly {
				username nightly
				password {file.` + folder + `/password}
			}
			account reports {
				api_token {file.` + folder + `/token}
			}
			default_account batch
		}
	}
}
` + namedSite + `:8081 {
	controlm https://em.example.com:8443/automation-api {
		name test
		api_token {file.` + folder + `/token}
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		file, folder os.FileMode
		warns        bool
	}{
		{"files that everybody can read", 0o644, 0o755, true},
		{"files of their owner", 0o600, 0o755, false},
		{"files in a folder of their owner", 0o644, 0o700, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, content := range map[string]string{"username": "emuser", "password": canaryPassword, "token": canaryToken} {
				path := filepath.Join(folder, name)
				if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, c.file); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(folder, c.folder); err != nil {
				t.Fatal(err)
			}
			for range 2 { // loads
				logged, err := validate(t, config)
				if err != nil {
					t.Fatal(err)
				}
				var warned []string
				for line := range strings.Lines(logged) {
					if strings.Contains(line, words) && strings.Contains(line, `"level":"warn"`) {
						_, file, _ := strings.Cut(line, `"file":"`+folder+"/")
						warned = append(warned, strings.TrimSpace(file))
					}
				}
				slices.Sort(warned)
				var want []string
				if c.warns {
					want = []string{`password"}`, `token"}`}
				}
				if !slices.Equal(warned, want) || strings.Count(logged, words) != len(want) {
					t.Errorf("it warned of %q, want %q:\n%s", warned, want, logged)
				}
			}
		})
	}
}
