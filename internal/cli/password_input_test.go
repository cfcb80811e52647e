package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestANewPasswordThatCannotBeMeantIsRefusedBeforeAnythingIsSent(t *testing.T) {
	r := newRotating(t)
	vars := func(more ...string) []string {
		return append([]string{"CTM_ENDPOINT=" + r.url, "CTM_CA_FILE=" + r.ca}, more...)
	}
	stdin := []string{"--new-password-file", "-", "--write", r.file}
	for name, test := range map[string]struct {
		env   []string
		stdin string
		args  []string
		want  string
	}{
		"none, and nobody to ask":        {nil, "", nil, "no terminal to ask"},
		"an empty one":                   {nil, "\n", stdin, "standard input is empty"},
		"a line break inside":            {nil, canary + "\n2", stdin, "a line break or another control character"},
		"a carriage return inside":       {nil, canary + "\r2", stdin, "a line break or another control character"},
		"the keys of an arrow":           {nil, canary + "\x1b[A", stdin, "a line break or another control character"},
		"no UTF-8":                       {nil, canary + "\xff", stdin, "not UTF-8"},
		"the current one":                {nil, canary + "\r\n", stdin, "is the current one"},
		"the current one from Windows":   {nil, "\xef\xbb\xbf" + canary + "\r\n", stdin, "is the current one"},
		"one that looks like a secret's": {nil, "Secret:" + canary, stdin, "see --new-secret"},
		"a book":                         {nil, strings.Repeat(canary, 10_000), stdin, "larger than 64 KiB"},
		"a file that is not there":       {nil, "", []string{"--new-password-file", "/nowhere/x"}, "/nowhere/x"},
		"an empty file":                  {nil, "", []string{"--new-password-file", write(t, filepath.Join(t.TempDir(), "x"), "\n")}, "the file is empty"},
		"a file of two lines":            {nil, "", []string{"--new-password-file", write(t, filepath.Join(t.TempDir(), "x"), canary+"\n2\n")}, "a line break or another control character"},
		"a folder":                       {nil, "", []string{"--new-password-file", r.folder}, "is a folder"},
		"a secret without a name":        {nil, "", []string{"--new-secret", "Secret:"}, "--new-secret is empty"},
		"a secret that is to be written": {nil, "", []string{"--new-secret", "x", "--write", r.file}, "only Control-M knows it"},
		"a file without a name":          {nil, canary + "2", []string{"--new-password-file", "-", "--write", ""}, "--write is empty"},
		"a password as a flag":           {nil, "", []string{"--new-password", canary}, "unknown flag"},
		"a password as an argument":      {nil, "", []string{canary}, "flags only"},
		"an account with an API token":   {vars("CTM_API_TOKEN=" + canary + "-token"), canary + "2", stdin, "has an API token, and no password"},
		"an account that is not there":   {nil, "", []string{"--account", "x/y"}, "no account"},
		"no config at all":               {[]string{"HOME=/"}, "", nil, "there is no config"},
	} {
		env := r.env
		if test.env != nil {
			env = test.env
		}
		r.typed(t, env, test.stdin, append([]string{"password", "update"}, test.args...)...).want(t, 2, test.want)
		if left := entries(t, r.folder); len(left) != 1 || t.Failed() {
			t.Fatalf("%s: it left %q", name, left)
		}
	}
	r.typed(t, vars("CTM_USERNAME=batch", "CTM_PASSWORD=Secret:x"), canary, "password", "update", "--new-password-file", "-").want(t, 1, "have an administrator change it")
	if got := r.Stats(); got.Logins+got.RefusedLogins+got.FailedLogins+got.Calls != 0 {
		t.Errorf("something was sent: %+v", got)
	}
}

func TestPasswordHelpTellsWhereSecretsComeFrom(t *testing.T) {
	h := newHome(t)
	h.typed(t, nil, "", "password", "--help").want(t, 0, "update")
	h.typed(t, nil, "", "password").want(t, 2, "expected one of: update")
	h.typed(t, nil, "", "password", "update", "--help").want(t, 0, "FILE.pending", "Secret:KEY", "Examples:", "--write", "--new-password-file")
}
