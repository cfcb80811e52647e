package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the checkout, as seen from the folder in which `go test` runs this package.
const root = "../.."

func TestEveryPackageKeepsTheImportLaw(t *testing.T) {
	g, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	// A walk that went wrong would find no breach either.
	if _, ok := g["cmd/ctmgate"]; !ok {
		t.Fatalf("the walk found %d packages and cmd/ctmgate is not among them", len(g))
	}
	for _, breach := range check(g, law, soleImporters, soleInits) {
		t.Error(breach)
	}
}

func TestTheLawNamesOnlyPackagesThatHaveARow(t *testing.T) {
	for _, breach := range unused(law) {
		t.Errorf("%s, which has no row", breach)
	}
	for library, sole := range soleImporters {
		if !slices.Contains(law[sole].foreign, library) {
			t.Errorf("%s alone may import %s, and its row does not let it", sole, library)
		}
	}
	if got := unused(map[string]row{"a": {ours: []string{"b"}}}); len(got) != 1 {
		t.Errorf("a name without a row was found %d times, not once", len(got))
	}
}

func TestGoModHasNoReplaceDirective(t *testing.T) {
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if found := replaced(string(gomod)); len(found) > 0 {
		t.Errorf("go.mod replaces modules, which `go install …@version` ignores or refuses:\n%s", strings.Join(found, "\n"))
	}
}

func TestReplaceDirectivesAreFoundInEveryForm(t *testing.T) {
	for name, test := range map[string]struct {
		gomod string
		want  int
	}{
		"none":                        {"module m\n\nrequire a v1.0.0\n", 0},
		"one line":                    {"module m\nreplace a => ../a\n", 1},
		"a block":                     {"replace (\n\ta => ../a\n\tb => ../b\n)\nrequire c v1.0.0\n", 3},
		"a block without a space":     {"replace(\n\ta => ../a\n)\n", 2},
		"only in a comment":           {"// replace a => ../a\n", 0},
		"a module of that name":       {"require replace.example/a v1.0.0\n", 0},
		"in a block of another sort":  {"require (\n\treplace.example/a v1.0.0\n)\n", 0},
		"after a block of its own":    {"replace (\n\ta => b v1\n)\nreplace c => ../c\n", 3},
		"with a comment that follows": {"replace a => ../a // for now\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := replaced(test.gomod); len(got) != test.want {
				t.Errorf("found %d lines, want %d: %q", len(got), test.want, got)
			}
		})
	}
}

func TestABrokenLawIsNoticed(t *testing.T) {
	of := func(imports ...string) []file { return []file{{name: "x.go", imports: imports}} }
	for name, test := range map[string]struct {
		graph graph
		want  string // part of the only breach; empty: none
	}{
		"a package may use the standard library": {graph{"internal/secret": of("fmt", "crypto/sha256")}, ""},
		"a package may use what its row names": {
			graph{"internal/session": of(module+"/internal/secret", module+"/internal/ttlmap", singleflight)}, ""},
		"a package may use a folder of a library that its row names": {graph{"caddymodule": of(caddy + "/modules/caddyhttp")}, ""},
		"cli may use everything of ours":                             {graph{"internal/cli": of(module+"/internal/emulator", module+"/caddymodule")}, ""},
		"a package below imports one above":                          {graph{"internal/secret": of(module + "/caddymodule")}, "does not name it"},
		"the session imports net/http":                               {graph{"internal/session": of("net/http")}, "never"},
		"the session imports a folder of net/http":                   {graph{"internal/session": of("net/http/httptrace")}, "never"},
		"the session imports the client of the API":                  {graph{"internal/session": of(module + "/internal/automationapi")}, "never"},
		"the session imports zap":                                    {graph{"internal/session": of(zap)}, "does not name it"},
		"the session imports Caddy":                                  {graph{"internal/session": of(caddy)}, "does not name it"},
		"the session imports go-cache past its wrapper":              {graph{"internal/session": of(goCache)}, "only internal/ttlmap"},
		"the adapter imports go-redis past the store":                {graph{"caddymodule": of(goRedis)}, "only internal/sessionstore"},
		"the adapter imports the emulator":                           {graph{"caddymodule": of(module + "/internal/emulator")}, "never"},
		"the emulator imports a library":                             {graph{"internal/emulator": of(zap)}, "does not name it"},
		"the emulator imports anything of ours":                      {graph{"internal/emulator": of(module + "/internal/secret")}, "does not name it"},
		"the emulator imports the client":                            {graph{"internal/emulator": of(module + "/internal/automationapi")}, "never"},
		"a library whose name begins like an allowed one":            {graph{"internal/cli": of("github.com/spf13/cobra-cli")}, "does not name it"},
		"the main package imports the domain":                        {graph{"cmd/ctmgate": of(module + "/internal/session")}, "does not name it"},
		"a package is linked with C":                                 {graph{"internal/relay": of("C")}, "static"},
		"a package without a row":                                    {graph{"internal/helpers": of()}, "has no row"},
		"a folder of a package has no row of its own":                {graph{"internal/session/fake": of()}, "has no row"},
		"an init function where it belongs":                          {graph{"caddymodule": {{name: "register.go", inits: 1}}}, ""},
		"an init function elsewhere in the adapter":                  {graph{"caddymodule": {{name: "app.go", inits: 1}}}, "belongs in register.go"},
	} {
		t.Run(name, func(t *testing.T) {
			got := check(test.graph, law, soleImporters, soleInits)
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("unexpected: %q", got)
			case test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)):
				t.Errorf("got %q, want one breach with %q", got, test.want)
			}
		})
	}
}

func TestTheWalkReadsWhatTheBuildReads(t *testing.T) {
	tree := t.TempDir()
	for name, source := range map[string]string{
		"a/a.go":              "package a\n\nimport f \"fmt\"\n\nfunc init() { f.Print() }\n",
		"a/a_windows.go":      "package a\n\nimport _ \"net/http\"\n",
		"a/a_test.go":         "package a\n\nimport _ \"testing\"\n",
		"a/script.go":         "//go:build ignore\n\npackage main\n\nimport _ \"os/exec\"\n",
		"a/testdata/t.go":     "package t\n",
		".hidden/h.go":        "package h\n",
		"nested/go.mod":       "module nested\n",
		"nested/n/n.go":       "package n\n",
		"onlytests/x_test.go": "package onlytests\n",
	} {
		file := filepath.Join(tree, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g, err := read(tree)
	if err != nil {
		t.Fatal(err)
	}
	if len(g) != 1 || len(g["a"]) != 2 {
		t.Fatalf("got %+v, want package a with two files alone", g)
	}
	first, second := g["a"][0], g["a"][1]
	if first.name != "a.go" || !slices.Equal(first.imports, []string{"fmt"}) || first.inits != 1 {
		t.Errorf("a.go was read as %+v", first)
	}
	if second.name != "a_windows.go" || !slices.Equal(second.imports, []string{"net/http"}) || second.inits != 0 {
		t.Errorf("a_windows.go was read as %+v", second)
	}
}
