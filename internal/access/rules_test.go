package access

import (
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/apipath"
)

func read(t testing.TB, method, below string) apipath.Path {
	t.Helper()
	p, err := apipath.Read(method, "", "/automation-api"+below, "/automation-api")
	if err != nil {
		t.Fatalf("%s %s: %v", method, below, err)
	}
	return p
}

// lines makes rules as an operator writes them, one a line.
func lines(t testing.TB, text string) Rules {
	t.Helper()
	var rules []Rule
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		rule, err := ParseRule(words[0] == "deny", words[1:])
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, rule)
	}
	return NewRules(rules...)
}

func TestARuleAllowsWhatItSaysAndNothingElse(t *testing.T) {
	for _, c := range []struct{ rule, yes, no string }{
		{"allow GET /run/jobs/status", "GET /run/jobs/status|HEAD /run/jobs/status|GET /run/jobs/status/|GET /run/jobs/st%61tus",
			"POST /run/jobs/status|GET /run/jobs|GET /run/jobs/status/x|GET /run/jobs/statusX|GET /Run/jobs/status|GET /run/jobs/status.json|" +
				"GET /run/jobs%2Fstatus|get /run/jobs/status|GET /x/run/jobs/status|GET "},
		{"allow GET,POST /run/order /run/event/*", "GET /run/order|POST /run/order|POST /run/event/ctm|POST /run/event/ctm/e/1201|POST /run/event/a%2Fb",
			"DELETE /run/event/ctm|POST /run/event|POST /run/event/|POST /run/orderX|POST /run|PATCH /run/order"},
		{"allow * /run/job/*/hold", "POST /run/job/ctm:00001/hold|GET /run/job/a%2Fb/hold|PATCH /run/job/workbench%3A00001/hold",
			"POST /run/job/hold|POST /run/job/a/b/hold|POST /run/job/x/kill|POST /run/job/x/Hold|PURGE /run/job/x/hold|post /run/job/x/hold"},
		{"allow * /*", "GET /x|DELETE /config/server/x|OPTIONS /run", "GET |GET /|PURGE /x|PROPFIND /x|delete /x"},
		{"allow GET /", "GET |GET /|HEAD /", "GET /x|POST /"},
		{"allow GET /run/*/*", "GET /run/x/y|GET /run/x/y/z", "GET /run/x|GET /run"},
		{"allow GET /deploy/folder/ctm/a%2Fb", "GET /deploy/folder/ctm/a%2Fb|GET /deploy/folder/ctm/a%2fb",
			"GET /deploy/folder/ctm/a/b|GET /deploy/folder/ctm/a%252Fb"},
		{"allow GET /a%2Ab", "GET /a*b|GET /a%2ab", "GET /axb|GET /a"},
	} {
		rules := lines(t, c.rule)
		for request := range strings.SplitSeq(c.yes, "|") {
			method, below, _ := strings.Cut(request, " ")
			if ok, line := rules.Decide(read(t, method, below)); !ok || line != c.rule {
				t.Errorf("%s: %s is %v by %q", c.rule, request, ok, line)
			}
		}
		for request := range strings.SplitSeq(c.no, "|") {
			method, below, _ := strings.Cut(request, " ")
			if ok, line := rules.Decide(read(t, method, below)); ok || line != "" {
				t.Errorf("%s: %s is %v by %q", c.rule, request, ok, line)
			}
		}
	}
}

func TestADenyBeatsEveryAllowInEveryDisguise(t *testing.T) {
	for _, c := range []struct{ deny, requests string }{
		{"* /config/*", "GET /config/servers|POST /CONFIG/servers|GET /config%2Fservers|GET /config.json/servers|GET /config./servers|" +
			"GET /config%252Fservers|GET /c%256Fnfig/servers|GET /config%3Bx/servers|GET /.x/config/servers|purge /config/x|GET /config%20/x|" +
			"GET /config%253Bx%252Fy|GET /conf%25252569g/x|GET /conf%C4%B1g/x|GET /CONF%C4%B0G/x"},
		{"POST /run/job/*/kill", "POST /run/job/x/kill|POST /run/job/x/Kill/|POST /run/job/x/kill.json|POST /run/job/x/kill.|POST /run/job%2Fx%2Fkill|" +
			"POST /run/job/x%2Fkill|post /run/job/x/kill|POST /run/job/x/%6Bill|POST /run/job/x/%E2%84%AAill|POST /run/job/x/kill%3Fy/hold|" +
			"POST /run/job/x%2Fkill%23/hold|POST /run/job/x%2Fkill%3F/hold|POST /run/job/x/.y/kill|POST /run/job/x/kill%20.json|" +
			"POST /run/job/x%252Fkill%253F%2Fhold|POST /run/job/x/kill%3Ba=b|POST /run/job/x/kill.tar.gz|POST /run/job/x/.y%2Fkill"},
		{"GET /ctm-cli.tgz", "GET /ctm-cli.tgz|HEAD /CTM-CLI.TGZ|GET /ctm-cli.tgz.|GET /ctm-cli.tgz.x"},
		{"GET /deploy/folder/ctm/a%2Fb", "GET /deploy/folder/ctm/a%2Fb|GET /deploy/folder/ctm/A%2FB.xml|GET /deploy/folder/ctm/a%252Fb"},
	} {
		rules := lines(t, "allow * /*\nallow read_only\ndeny "+c.deny)
		for request := range strings.SplitSeq(c.requests, "|") {
			method, below, _ := strings.Cut(request, " ")
			if ok, line := rules.Decide(read(t, method, below)); ok || line != "deny "+c.deny {
				t.Errorf("deny %s: %s is %v by %q", c.deny, request, ok, line)
			}
		}
	}
	rules := lines(t, "deny * /config/*\ndeny POST /run/job/*/kill\ndeny GET /run\nallow * /*")
	for _, request := range []string{
		"GET /config", "GET /configs/x", "GET /x/config/y", "GET /run/job/x/kill", "POST /run/job/x/killer", "POST /run/job/kill", "POST /run/job/x/kill/y",
		"GET /run/x", "POST /run", "POST /run/job/x%3Fkill/hold", "GET /conf/ig",
	} {
		method, below, _ := strings.Cut(request, " ")
		if ok, line := rules.Decide(read(t, method, below)); !ok || line != "allow * /*" {
			t.Errorf("%s is %v by %q", request, ok, line)
		}
	}
}

func TestWithoutALineThatMatchesEverythingIsRefused(t *testing.T) {
	for _, rules := range []Rules{{}, NewRules(), lines(t, "deny GET /x")} {
		if ok, line := rules.Decide(read(t, "GET", "/run")); ok || line != "" || rules.HasAllow() {
			t.Errorf("%v by %q", ok, line)
		}
	}
	if ok, _ := lines(t, "allow * /*").Decide(apipath.Path{}); ok {
		t.Error("no path at all is allowed")
	}
}

func TestALineThatIsNoRuleSaysWhatWasExpected(t *testing.T) {
	for text, want := range map[string]string{
		"allow":                       "read_only, monitor, order, operate, deploy",
		"deny":                        "methods and paths",
		"allow readonly":              "got \"readonly\"",
		"allow GET":                   "a path after GET",
		"allow *":                     "a path after *",
		"allow read_only /run":        "stands alone",
		"allow read_only monitor":     "stands alone",
		"deny operate":                "would deny reading",
		"allow get /run":              "expected *",
		"allow GET, /run":             "GET,POST",
		"allow GET,GET /run":          "twice",
		"allow GET,* /run":            "with commas",
		"allow PURGE /run":            "GET,POST,PUT,DELETE,PATCH,OPTIONS",
		"allow HEAD /run":             "write GET",
		"allow TRACE /run":            "never forwarded",
		"allow GET,CONNECT /run":      "never forwarded",
		"allow /run GET":              "with commas",
		"allow GET run":               "begins with a slash",
		"allow GET *":                 "begins with a slash",
		"allow GET https://x/run":     "begins with a slash",
		"allow GET /run/../config":    "dot segment",
		"allow GET /run/%2e%2e":       "dot segment",
		"allow GET //run":             "empty segment",
		"allow GET /run//x":           "empty segment",
		"allow GET /run?x=y":          "percent-encoded",
		"allow GET /run#x":            "percent-encoded",
		"allow GET /run;x":            "semicolon",
		`allow GET /run\x`:            "backslash",
		"allow GET /run%5Cx":          "backslash",
		"allow GET /run%zz":           "percent sign",
		"allow GET /run%":             "percent sign",
		"allow GET /rün":              "percent-encoded",
		"allow GET /run/job* /x":      "inside a segment",
		"allow GET /run/**":           "inside a segment",
		"allow GET /run/":             "write /run/* for what lies below, /run for itself",
		"allow GET /run/ok /run/bad/": "ends in a slash",
	} {
		words := strings.Fields(text)
		rule, err := ParseRule(words[0] == "deny", words[1:])
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "reading the "+words[0]+" line: ") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if ok, _ := NewRules(rule).Decide(read(t, "GET", "/run")); ok {
			t.Errorf("%s: what came with the error allows", text)
		}
	}
}

func TestADecisionDoesNotAllocate(t *testing.T) {
	directory, keys := manyClients(t, 100)
	p := read(t, "GET", "/run/job/workbench:00001/output")
	now := at("2026-11-21")
	n := testing.AllocsPerRun(100, func() {
		c, _, err := directory.ByKey(keys[7], now)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := c.Rules.Decide(p); !ok {
			t.Fatal("not allowed")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	directory, keys := manyClients(b, 10_000)
	now := at("2026-11-21")
	for name, p := range map[string]apipath.Path{
		"set":     read(b, "GET", "/run/job/workbench:00001/output"),
		"escaped": read(b, "GET", "/run/job/workbench%3A00001/output"),
		"refused": read(b, "DELETE", "/config/server/ctm/agent/a"),
	} {
		c, _ := directory.ByName("client-7")
		b.Run("rules/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Rules.Decide(p)
			}
		})
	}
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i = (i + 4999) % len(keys)
			if _, _, err := directory.ByKey(keys[i], now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
