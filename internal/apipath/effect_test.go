package apipath

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// beyondSpecification are the operations of the table that BMC's specification of the on-premises API lacks: of the
// SaaS edition, of the web server in front, and what real clients call all the same.
var beyondSpecification = []string{
	"GET /usage/report", "POST /config/authorization/role/import", "GET /config/authorization/role/{role}/export", "GET /yaml",
	"GET /swagger-ui.html", "GET /ctm-cli.tgz", "GET /build_time.txt", "GET /run/alerts/stream", "GET /run/job/{job}", "GET /run/variables/{server}",
}

// readingPosts are all POSTs that change nothing.
var readingPosts = []string{
	"/build", "/config/em/db/space", "/config/server/{server}/agent/{agent}/ping", "/config/server/{server}/agent/{agent}/test",
	"/config/server/{server}/agentlesshost/{host}/ping", "/config/server/{server}/agentlesshost/{host}/test",
	"/config/server/{server}/rename/preview", "/config/server/{server}/runasuser/{agent}/{user}/test",
	"/deploy/connectionprofile/centralized/test/{type}/{name}/{server}/{agent}", "/deploy/connectionprofile/test", "/deploy/transform",
	"/reporting/report",
}

func each(visit func(method, path string, effect Effect)) {
	for _, o := range operations {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			if effect := o.does.of(method); effect != 0 {
				visit(method, o.path, effect)
			}
		}
	}
}

func TestTheTableHasAsManyOperationsAsTheSpecification(t *testing.T) {
	// GET, POST, PUT, DELETE. The groups config, run, deploy and provision are counted in section 6 of the facts.
	want := map[string][4]int{
		"config": {70, 110, 11, 39}, "run": {19, 24, 0, 4}, "deploy": {16, 10, 0, 9}, "provision": {8, 5, 0, 2}, "authentication": {2, 2, 1, 1},
		"reporting": {4, 1, 0, 0}, "archive": {3, 0, 0, 0}, "session": {0, 3, 0, 0}, "build": {0, 1, 0, 0}, "status": {1, 0, 0, 0}, "usage": {1, 0, 0, 0},
	}
	got, beyond := map[string][4]int{}, 0
	each(func(method, path string, _ Effect) {
		if slices.Contains(beyondSpecification, method+" "+path) {
			beyond++
			return
		}
		group, _, _ := strings.Cut(path[1:], "/")
		counts := got[group]
		counts[slices.Index([]string{"GET", "POST", "PUT", "DELETE"}, method)]++
		got[group] = counts
	})
	if !maps.Equal(got, want) || beyond != len(beyondSpecification) {
		t.Errorf("%v and %d beyond it, want %v", got, beyond, want)
	}
}

func TestNoPathStandsInTheTableTwice(t *testing.T) {
	seen := map[string]string{}
	for _, o := range operations {
		var shape []string
		for segment := range strings.SplitSeq(o.path, "/") {
			if strings.HasPrefix(segment, "{") {
				segment = "{}"
			}
			shape = append(shape, strings.ToLower(segment))
		}
		key := strings.Join(shape, "/")
		if seen[key] != "" || o.does == (does{}) {
			t.Errorf("%s, and %q", o.path, seen[key])
		}
		seen[key] = o.path
	}
}

func TestEveryOperationHasOneEffectThatFitsItsMethod(t *testing.T) {
	var posts []string
	each(func(method, path string, effect Effect) {
		below := strings.NewReplacer("{", "a-", "}", "").Replace(path)
		p := read(t, method, below)
		protected := p.IsSession() || p.Protected()
		switch {
		case effect&(effect-1) != 0:
			t.Errorf("%s %s has several effects", method, path)
		case protected != (effect == Credentials):
			t.Errorf("%s %s: protected is %v, its effect is %d", method, path, protected, effect)
		case method == "GET" && effect&(Reads|Output|Credentials) == 0:
			t.Errorf("%s %s changes something", method, path)
		case method != "GET" && method != "POST" && effect&(Reads|Output|Builds) != 0:
			t.Errorf("%s %s only reads", method, path)
		case method == "GET" && effect == Reads && looksLikeOutput(p.Segments()):
			t.Errorf("%s %s looks like output", method, path)
		}
		if method == "POST" && effect&(Reads|Output|Builds) != 0 {
			posts = append(posts, path)
		}
		if got := p.Effects(); got != effect {
			t.Errorf("%s %s has the effects %d, want %d", method, below, got, effect)
		}
	})
	slices.Sort(posts)
	if !slices.Equal(posts, readingPosts) {
		t.Errorf("these POSTs only read: %q", posts)
	}
}

func TestEffectsAreThoseOfEveryReading(t *testing.T) {
	for request, want := range map[string]Effect{
		"GET /": Reads, "GET ": Reads, "POST /": Changes, "GET /new": Reads, "HEAD /status": Reads, "head /status": Changes, "PATCH /run": Changes,
		"GET /run/job/x/output": Output, "GET /run/job/x/OUTPUT": Output, "GET /new/x.log": Output, "GET /run/job/log/status": Reads,
		"GET /run/job/a%2Foutput/status": Reads | Output, "POST /run/job/a%2Fb/hold": Operates, "POST /run/job/a%2Fkill%3F/hold": Operates,
		"POST /config/server/a%2Fctl%3F/rename/preview": Reads | Changes, "POST /config/server/a%2FCTL.x%3F/rename/preview": Reads | Changes,
		"POST /config/server/gateway/agent/a/ping": Reads, "POST /config/server/define": Changes, "GET /session/x": Credentials,
		"GET /authentication/tokens": Credentials, "DELETE /config/authorization/role/x": Credentials, "GET /config/authorization/role/x": Reads,
		"GET /authentication%2Ftokens": Credentials, "POST /run/orders": Changes, "POST /run/order/": Orders,
	} {
		method, below, _ := strings.Cut(request, " ")
		if got := read(t, method, below).Effects(); got != want {
			t.Errorf("%s: %b, want %b", request, got, want)
		}
	}
}

func TestEffectsOfAnOrdinaryPathDoNotAllocate(t *testing.T) {
	p := read(t, "GET", "/run/job/workbench%3A00001/new")
	if n := testing.AllocsPerRun(100, func() { p.Effects() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAPathWithOneReadingIsPlain(t *testing.T) {
	for below, want := range map[string]bool{
		"": true, "/": true, "/run/job/workbench%3A00001": true, "/a%20b": true, "/100%25": true, "/a.b/c.": true, "/x%3By": true,
		"/a%2Fb": false, "/a%3Fb": false, "/a%23b": false, "/a%2541": false, "/.x/a": false, "/a/.x": false, "/x%20/%2Ex": false,
	} {
		if got := read(t, "GET", below).Plain(); got != want {
			t.Errorf("%s: plain is %v", below, got)
		}
	}
}

func TestLenientReadingsAreWhatServersMightMakeOfAPath(t *testing.T) {
	for below, want := range map[string][]string{
		"":                {},
		"/a/b":            {"a|b"},
		"/a%2Fb":          {"a/b", "a|b"},
		"/a/.x/b":         {"a|.x|b", "a|b"},
		"/a%3Fb/c":        {"a?b|c", "a"},
		"/a/%3Fb/c":       {"a|?b|c", "a|c", "a"},
		"/a%252Fb%2Fc":    {"a%2Fb/c", "a/b/c", "a%2Fb|c", "a/b|c", "a|b|c"},
		"/x/a%252F.b%23c": {"x|a%2F.b#c", "x|a%2F.b", "x|a/.b#c", "x|a/.b", "x|a|.b#c", "x|a", "x|a|.b"},
	} {
		got := map[string]bool{}
		for reading := range read(t, "GET", below).Lenient() {
			got[strings.Join(reading, "|")] = true
		}
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, want %q", below, keys, want)
		}
	}
	for range read(t, "GET", "/a%2Fb%3Fc/.x").Lenient() {
		break // must be heeded
	}
}

func TestOffersKnowsWhatAPatternCouldMatch(t *testing.T) {
	for _, c := range []struct {
		method, pattern string
		below, mindCase bool
		want            bool
	}{
		{"GET", "", false, true, true}, {"POST", "", false, true, false}, {"", "", true, true, true}, {"PATCH", "", true, true, false},
		{"POST", "run|order", false, true, true}, {"GET", "run|order", false, true, false}, {"", "run|Order", false, true, false},
		{"", "RUN|Order", false, false, true}, {"", "run|order", true, true, false}, {"DELETE", "run", true, true, true}, {"PUT", "run", true, true, false},
		{"", "run|job|*|hold", false, true, true}, {"", "run|job|x|hold", false, true, true}, {"", "run|*", false, true, true},
		{"", "*|*|*|hold", false, true, true}, {"", "*|*|*|*|*|*|*|*|*|*", false, true, false}, {"", "runs", true, true, false},
		{"", "config|server|define|agents", false, true, true}, {"", "config|em|db", false, true, false},
	} {
		var pattern []string
		if c.pattern != "" {
			pattern = strings.Split(strings.ReplaceAll(c.pattern, "*", ""), "|")
		}
		if got := Offers(c.method, pattern, c.below, c.mindCase); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
