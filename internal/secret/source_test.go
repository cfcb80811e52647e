package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseTellsPlaceholdersFromLiterals(t *testing.T) {
	for text, want := range map[string]struct {
		kind Kind
		name string
	}{
		"{file./run/secrets/ctm_password}": {File, "/run/secrets/ctm_password"},
		"{file./with blank/and.dots}":      {File, "/with blank/and.dots"},
		"{file./a//b/../c}":                {File, "/a/c"},
		"{env.CTM_PASSWORD}":               {Env, "CTM_PASSWORD"},
		"p{ss}w0rd":                        {Literal, ""},
		"plain":                            {Literal, ""},
		"{":                                {Literal, ""},
		"{}":                               {Literal, ""},
		"{file.}":                          {Literal, ""},
		"{env.}":                           {Literal, ""},
		"{env.A}{env.B}":                   {Literal, ""},
		"x{env.A}":                         {Literal, ""},
		"{env.A}x":                         {Literal, ""},
		" {env.A}":                         {Literal, ""},
		"{env.A":                           {Literal, ""},
		"{ENV.A}":                          {Literal, ""},
		"{file./a{b}}":                     {Literal, ""},
		"{vault.x}":                        {Literal, ""},
		"{$VAR}":                           {Literal, ""},
		"{http.request.uri.path}":          {Literal, ""},
	} {
		spec, err := Parse(text)
		if err != nil || spec.Kind != want.kind || spec.Name != want.name {
			t.Errorf("%s: kind %d, name %q, error %v; want kind %d, name %q", text, spec.Kind, spec.Name, err, want.kind, want.name)
			continue
		}
		if spec.Kind != Literal {
			continue
		}
		src, err := spec.Open(nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if v, version := src.Current(); v.Reveal() != text || version != 1 {
			t.Errorf("%s: the literal became %q, version %d", text, v.Reveal(), version)
		}
		src.Recheck()
		src.Close()
	}
}

func TestParseFailsWithWordsThatHelp(t *testing.T) {
	for text, words := range map[string]string{
		"":                                "write {file./path/to/secret} or {env.NAME}",
		"{http.request.uri.path.file.x}":  "{file./run/secrets/x}",
		"{http.request.uri.path.file.pw}": "{file.pw} names a file without a folder",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got error %v, want %q", text, err, words)
		}
	}
}

func TestARelativePathIsMadeAbsoluteAtLoad(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	spec, err := Parse("{file.sub/password}")
	if err != nil || !filepath.IsAbs(spec.Name) || filepath.Base(spec.Name) != "password" {
		t.Errorf("got %q, error %v", spec.Name, err)
	}
}

func TestIdentityNamesTheSourceAndNotTheValue(t *testing.T) {
	identity := func(text string) string {
		spec, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return spec.Identity()
	}
	if a, b := identity("{file./x/../run/p}"), identity("{file./run/p}"); a != b || a != "file:/run/p" {
		t.Errorf("one file has the identities %s and %s", a, b)
	}
	if got := identity("{env.NAME}"); got != "env:NAME" {
		t.Errorf("a variable has the identity %s", got)
	}
	if again := identity(canary); again != identity(canary) || again == identity(canary+"x") {
		t.Error("literals are told apart wrongly")
	}
	wantHidden(t, "identity", identity(canary))
	if identity("env:NAME") == identity("{env.NAME}") {
		t.Error("a literal passes for a variable")
	}
}

func TestSpecNamesItsSourceForTheOperator(t *testing.T) {
	for text, want := range map[string]string{
		"{file./run/p}": "file /run/p",
		"{env.NAME}":    "environment variable NAME",
		canary:          "the config itself",
	} {
		if spec, _ := Parse(text); spec.String() != want {
			t.Errorf("got %q, want %q", spec.String(), want)
		}
	}
}

func TestAVariableIsReadAtLoad(t *testing.T) {
	const name = "SECRET_TEST_VARIABLE"
	t.Setenv(name, "\ufeffone\n")
	src, err := Spec{Kind: Env, Name: name}.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	t.Setenv(name, "two")
	src.Recheck()
	if v, version := src.Current(); v.Reveal() != "one" || version != 1 {
		t.Errorf("got %q, version %d", v.Reveal(), version)
	}
	for _, value := range []string{"", "\n", "unset"} {
		t.Setenv(name, value)
		if value == "unset" {
			os.Unsetenv(name)
		}
		if _, err := (Spec{Kind: Env, Name: name}).Open(nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: got error %v, want one that names the variable", value, err)
		}
	}
}

func TestFixedIsWhatItWasMadeOf(t *testing.T) {
	src := Fixed(New(canary))
	src.Recheck()
	src.Close()
	src.Close()
	if v, version := src.Current(); v.Reveal() != canary || version != 1 {
		t.Errorf("got version %d, or another text", version)
	}
}

func TestAFileIsReadAtLoadOrNamedInTheError(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "password")
	for content, want := range map[string]string{
		"p":                                     "p",
		"p\n":                                   "p",
		"p\r\n":                                 "p",
		"p\n\n\r\n":                             "p",
		"\xef\xbb\xbfp\r\n":                     "p",
		"p\ufeff\n":                             "p\ufeff",
		"\xef\xbb\xbf\r\n":                      "is empty",
		" p  " + "\n":                           " p  ",
		"p\u00e4ss\u00a0w\u200brd \U0001f511\n": "p\u00e4ss\u00a0w\u200brd \U0001f511",
		"p{ss}w0rd":                             "p{ss}w0rd",
		strings.Repeat("a", maxBytes):           strings.Repeat("a", maxBytes),
		"":                                      "is empty",
		"\n":                                    "is empty",
		"\r\n\r\n":                              "is empty",
		"\n" + canary:                           "a line break or another control character; expected one line of text",
		strings.Repeat("a", maxBytes+1):         "larger than 64 KiB",
		canary + strings.Repeat("\n", 1<<17):    "larger than 64 KiB",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		src, err := Spec{Kind: File, Name: path}.Open(nil)
		if err != nil {
			wantHidden(t, "error", err.Error())
			if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%.20q: got error %v, want one that names the file and says %.20q", content, err, want)
			}
			continue
		}
		if v, _ := src.Current(); v.Reveal() != want {
			t.Errorf("%.20q became %.20q, want %.20q", content, v.Reveal(), want)
		}
		src.Close()
	}
	for _, missing := range []string{filepath.Join(dir, "none"), dir, filepath.Join(path, "below-a-file")} {
		if _, err := (Spec{Kind: File, Name: missing}).Open(nil); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: got error %v, want one that names it", missing, err)
		}
	}
	if watcher.stop != nil || len(watcher.files) != 0 {
		t.Errorf("%d files are watched that could not be opened or were closed", len(watcher.files))
	}
}
