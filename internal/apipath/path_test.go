package apipath

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const base = "/automation-api"

func read(t *testing.T, method, below string) Path {
	t.Helper()
	p, err := Read(method, "", base+below, base)
	if err != nil {
		t.Fatalf("%s %s: %v", method, below, err)
	}
	return p
}

func TestReadKeepsWhatClientsReallySend(t *testing.T) {
	for below, want := range map[string][]string{
		"":                             nil,
		"/":                            nil,
		"/run/jobs/status":             {"run", "jobs", "status"},
		"/run/jobs/":                   {"run", "jobs"},
		"/run/job/workbench%3A00001":   {"run", "job", "workbench:00001"},
		"/run/job/workbench:00001/log": {"run", "job", "workbench:00001", "log"},
		"/deploy/folder/ctm/a%2Fb%2Fc": {"deploy", "folder", "ctm", "a/b/c"},
		"/config/server/a%20b/x%3By":   {"config", "server", "a b", "x;y"},
		"/config/server/100%25":        {"config", "server", "100%"},
		"/config/server/%25zz":         {"config", "server", "%zz"},
		"/config/server/a%2541":        {"config", "server", "a%41"},
		"/run/%C3%A4%E2%82%AC":         {"run", "ä€"},
		"/ctm-cli.tgz":                 {"ctm-cli.tgz"},
		"/a/.x/b..c/d.":                {"a", ".x", "b..c", "d."},
		"/a/!$&'()*+,=:@-._~":          {"a", "!$&'()*+,=:@-._~"},
	} {
		p := read(t, "POST", below)
		if !slices.Equal(p.Segments(), want) || p.Below() != below {
			t.Errorf("%s: segments %q, below %q", below, p.Segments(), p.Below())
		}
	}
}

func TestReadRefusesWhatCouldBeReadInTwoWays(t *testing.T) {
	for reason, paths := range map[*MalformedError][]string{
		errDots: {
			"/..", "/../", "/./x", "/a/.", "/%2e%2e/", "/%2E./x", "/.%2e", "/a%2f..%2fb", "/..%2fb", "/a%2F..", "/a/..%2f", "/%252e%252e/x",
			"/%252e./", "/..%3b", "/..%3bx=1/y", "/%2e%3B", "/a%252f..%252fb", "/%25252e%25252e/x",
			"/..%20/x", "/%20../x", "/.%25%32%65/x",
		},
		errTwoDots:   {"/...", "/...json", "/..x", "/a/..x/b", "/%2e%2ex", "/%2E..", "/%20..x", "/..%253b/x", "/a%2f..x", "/%252e%252ex", "/..%20x"},
		errParameter: {"/;", "/a;b=c/d", "/..;/x", "/..;x=1/y", "/session;x/login", "/a/b;"},
		errEmpty: {
			"//", "//x", "/a//b", "/a//", "/%2F%2F", "/a%2F%2Fb", "/%2Fx", "/a/%2Fb", "/a%2F/b", "/a%2f", "/a%252F%252Fb", "/%3Bx/a",
			"/a/%20/b", "/a%2F/",
		},
		errBackslash: {`/\`, `/a\..\b`, "/a%5cb", "/..%5c..", "/a%5C..%5C", "/a%255cb"},
		errUTF8: {
			"/%c0%ae%c0%ae/x", "/%c0%af", "/%e0%80%ae", "/%f0%80%80%ae", "/%ff", "/%ed%a0%80", "/a%80", "/%25c0%25ae",
			"/%c3",
		},
		errControl: {
			"/\x00", "/a\nb", "/a\x7f", "/a\tb", "/%00", "/a%0d%0aX:y", "/a%7F", "/a%2500", "/a%250A", "/a%C2%85", "/session%00/login",
		},
		errEscape: {"/%", "/a%2", "/%zz", "/%u002e", "/a%%41", "/%2x"},
		errByte: {
			"/a b", "/a\"b", "/<a>", "/a[0]", "/a]", "/a^", "/a`", "/{a}", "/a|b", "/a}", "/a#b", "/a?b", "/\xc3\xa4", "/\xc0\xae",
			"/\xff",
		},
		errLong:   {"/" + strings.Repeat("a", mostBytes)},
		errLayers: {"/a%252525252541", "/" + strings.Repeat("%25", 1) + strings.Repeat("25", 50) + "41"},
	} {
		for _, path := range paths {
			if _, err := Read("GET", "", base+path, base); !errors.Is(err, reason) {
				t.Errorf("%q as escaped: %v, want %v", path, err, reason)
			}
			if strings.ContainsAny(path, "?") {
				continue // begins the query there
			}
			if _, err := Read("GET", base+path+"?/../x;y", base+"/x", base); !errors.Is(err, reason) {
				t.Errorf("%q as original: %v, want %v", path, err, reason)
			}
			if _, err := Read("GET", "http://[::1]:8080"+base+path, base+"/x", base); !errors.Is(err, reason) {
				t.Errorf("%q in absolute-form: %v, want %v", path, err, reason)
			}
		}
	}
}

func TestReadKnowsWhatLiesOutside(t *testing.T) {
	for _, c := range []struct{ original, escaped, base string }{
		{"", "/", base}, {"", "", base}, {"", "/x", base}, {"", "/automation-apix", base}, {"", "/Automation-Api/x", base},
		{"", "/automation%2Dapi/x", base}, {"", "/automation-ap%69/x", base}, {"", "/x/automation-api/run", base},
		{"", "/automation-api%2Frun", base}, {"", "*", base}, {"*", "*", ""}, {"*", "*", base}, {"*", "/automation-api/x", base},
		{"example.com:443", "", base}, {"http:/x", "/automation-api/x", base}, {"mailto:x", "/automation-api", base},
	} {
		if _, err := Read("GET", c.original, c.escaped, c.base); !errors.Is(err, ErrOutside) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []struct{ original, escaped, base, below string }{
		{"", "/automation-api", base, ""}, {"", "/automation-api/", base, "/"}, {"", "/", "", "/"}, {"", "", "", ""},
		{"", "/x", "", "/x"}, {"", "/x", "/", "/x"}, {"/prod/automation-api/x?y=;", "/automation-api/x", base, "/x"},
		{"https://other.example/automation-api/x", "/automation-api/x", base, "/x"}, {"http://host", "/", "", "/"},
		{"HTTP://host?a/../b", "/x", "", "/x"}, {"", "/a/b/x", "/a/b", "/x"}, {"/x?a#b", "/x", "", "/x"},
	} {
		if p, err := Read("GET", c.original, c.escaped, c.base); err != nil || p.Below() != c.below {
			t.Errorf("%+v: %q, %v", c, p.Below(), err)
		}
	}
}

func TestReadRefusesTraceAndConnectBeforeAllElse(t *testing.T) {
	for _, method := range []string{"TRACE", "CONNECT", "trace", "Connect"} {
		if _, err := Read(method, "example.com:443", "//", base); !errors.Is(err, ErrMethod) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestHeadIsJudgedAsGet(t *testing.T) {
	for method, want := range map[string]string{"HEAD": "GET", "GET": "GET", "POST": "POST", "head": "head", "": ""} {
		if p := read(t, method, "/x"); p.Judged() != want || p.Method() != method {
			t.Errorf("%q is judged as %q", p.Method(), p.Judged())
		}
	}
}

func TestErrorsNeverShowThePath(t *testing.T) {
	for _, path := range []string{"/canary/../x", "/canary;x", "/canary%zz", "/x"} {
		if _, err := Read("GET", path, path, base); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestReadingAnOrdinaryPathAllocatesOnlyItsSegments(t *testing.T) {
	path := base + "/run/job/workbench:00001/output"
	n := testing.AllocsPerRun(100, func() {
		p, err := Read("GET", path+"", path, base)
		if err != nil || p.Protected() || p.IsSession() || p.Template() == "" {
			t.Fail()
		}
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestTemplateHidesParametersAndIsBounded(t *testing.T) {
	for below, want := range map[string]string{
		"":                                 "/",
		"/":                                "/",
		"/session/login/":                  "/session/login",
		"/run":                             "/run",
		"/run/job/a%2Fb:1/output":          "/run/job/{job}/output",
		"/run/jobs/status":                 "/run/jobs/status",
		"/run/job/x/canary":                "/run/job/*",
		"/run/canary":                      "/run/*",
		"/canary/canary":                   "/*",
		"/config/server/define":            "/config/server/define",
		"/config/server/ctm":               "/config/server/{server}",
		"/config/server/ctm/sshkey/k/pass": "/config/server/{server}/sshkey/{key}/{passphrase}",
		"/config/server/ctm/canary/k":      "/config/server/*",
		"/config/em/db":                    "/config/em/*",
		"/config/user/bob/password":        "/config/user/*",
		"/archive/canary/canary":           "/archive/*",
	} {
		if got := read(t, "GET", below).Template(); got != want {
			t.Errorf("%s: %s, want %s", below, got, want)
		}
	}
	for _, operation := range operations {
		below := strings.NewReplacer("{", "a-", "}", "").Replace(operation.path)
		if got := read(t, "GET", below).Template(); got != operation.path {
			t.Errorf("%s has the template %s", operation.path, got)
		}
	}
}
