package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func at(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t
}

// manyClients makes clients with a key and 20 rules each; client-7 of them is like all others.
func manyClients(t testing.TB, n int) (*Directory, []string) {
	t.Helper()
	var text strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, "deny DELETE /run/event/server-%d/*\nallow POST /run/event/server-%d /run/job/*/hold\n", i, i)
	}
	rules := lines(t, strings.Replace(text.String(), "allow POST /run/event/server-9 /run/job/*/hold", "allow read_only", 1))
	var keys []string
	var clients []*Client
	for i := range n {
		keys = append(keys, NewKey())
		clients = append(clients, &Client{Name: fmt.Sprintf("client-%d", i), Keys: []Key{{Hash: HashKey(keys[i])}}, Rules: rules})
	}
	directory, err := NewDirectory(clients)
	if err != nil {
		t.Fatal(err)
	}
	return directory, keys
}

func TestAClientIsFoundByEachOfItsProofs(t *testing.T) {
	reading := lines(t, "allow read_only")
	old, current, other := NewKey(), "a key of the operator's own", NewKey()
	nightly := &Client{
		Name: "nightly", Users: []string{"nightly@example.com", "batch"}, Subjects: []string{"CN=nightly,O=Example"}, Rules: reading,
		Keys: []Key{{Hash: HashKey(old), Name: "2026", Ends: at("2026-12-01")}, {Hash: HashKey(current), Name: "2027"}},
	}
	team := &Client{Name: "team", Keys: []Key{{Hash: HashKey(other)}}, Rules: reading}
	d, err := NewDirectory([]*Client{nightly, team})
	if err != nil {
		t.Fatal(err)
	}
	now := at("2026-11-21")
	for key, want := range map[string]string{old: "nightly 2026", current: "nightly 2027", other: "team "} {
		if c, found, err := d.ByKey(key, now); err != nil || c.Name+" "+found.Name != want {
			t.Errorf("%s: %v, %+v, %v", want, c, found, err)
		}
	}
	for _, c := range []struct {
		got  *Client
		ok   bool
		want *Client
	}{
		found(d.ByUser("batch"))(nightly), found(d.ByUser("nightly@example.com"))(nightly), found(d.ByUser("Batch"))(nil), found(d.ByUser(""))(nil),
		found(d.ByUser("nightly"))(nil), found(d.BySubject("CN=nightly,O=Example"))(nightly), found(d.BySubject("CN=nightly"))(nil),
		found(d.BySubject(""))(nil), found(d.ByName("team"))(team), found(d.ByName("batch"))(nil), found(d.ByName(""))(nil),
	} {
		if c.got != c.want || c.ok != (c.want != nil) {
			t.Errorf("found %+v, %v", c.got, c.ok)
		}
	}
}

func found(got *Client, ok bool) func(*Client) struct {
	got  *Client
	ok   bool
	want *Client
} {
	return func(want *Client) struct {
		got  *Client
		ok   bool
		want *Client
	} {
		return struct {
			got  *Client
			ok   bool
			want *Client
		}{got, ok, want}
	}
}

func TestUnknownWrongAndEndedKeysAreOneAndTheSameError(t *testing.T) {
	ended, good := NewKey(), NewKey()
	d, err := NewDirectory([]*Client{{
		Name: "nightly", Rules: lines(t, "allow read_only"), Keys: []Key{{Hash: HashKey(ended), Ends: at("2026-11-21")}, {Hash: HashKey(good)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	hash := HashKey(good)
	for name, shown := range map[string]string{
		"ended": ended, "unknown": NewKey(), "empty": "", "cut": good[:len(good)-1], "with a line break": good + "\n", "the hash": string(hash[:]),
		"long": strings.Repeat("x", 1<<20),
	} {
		for _, directory := range []*Directory{d, {}} {
			if c, key, err := directory.ByKey(shown, at("2026-11-21")); c != nil || key != nil || !errors.Is(err, ErrKey) || err.Error() != ErrKey.Error() {
				t.Errorf("%s: %v, %v, %v", name, c, key, err)
			}
		}
	}
}

func TestClientsThatCannotBeMeantAreErrors(t *testing.T) {
	hash := HashKey("canary")
	key := []Key{{Hash: hash}}
	reading := lines(t, "allow read_only")
	for want, clients := range map[string][]*Client{
		`reading client "": expected a name`:                     {{Keys: key, Rules: reading}},
		"at most 128 bytes":                                      {{Name: strings.Repeat("n", 129), Keys: key, Rules: reading}},
		`reading client "a\nb": expected a name without control`: {{Name: "a\nb", Keys: key, Rules: reading}},
		"in UTF-8":                             {{Name: "a\xff", Keys: key, Rules: reading}},
		`"a": there is another one`:            {{Name: "a", Keys: key, Rules: reading}, {Name: "a", Users: []string{"u"}, Rules: reading}},
		`"b": a key is also one of client "a"`: {{Name: "a", Keys: key, Rules: reading}, {Name: "b", Keys: key, Rules: reading}},
		`"c": a key is also one of client "c"`: {{Name: "c", Keys: []Key{key[0], {Hash: hash, Name: "again"}}, Rules: reading}},
		`"d": a key has no hash`:               {{Name: "d", Keys: []Key{{Name: "forgotten"}}, Rules: reading}},
		`"e": a key has no hash`:               {{Name: "e", Keys: []Key{{Hash: HashKey("")}}, Rules: reading}},
		`"f": it cannot prove itself: expected key_sha256, user or certificate_subject`: {{Name: "f", Rules: reading}},
		`"h": user "u" is also one of client "g"`:                                       {{Name: "g", Users: []string{"u"}, Rules: reading}, {Name: "h", Users: []string{"u"}, Rules: reading}},
		`"i": user "u" is also one of client "i"`:                                       {{Name: "i", Users: []string{"u", "u"}, Rules: reading}},
		`certificate_subject "CN=x" is also one of client "j"`:                          {{Name: "j", Subjects: []string{"CN=x"}, Rules: reading}, {Name: "k", Subjects: []string{"CN=x"}, Rules: reading}},
		`"l": an empty user`:                {{Name: "l", Users: []string{""}, Rules: reading}},
		`"m": an empty certificate_subject`: {{Name: "m", Subjects: []string{""}, Rules: reading}},
		"`allow read_only` for what changes nothing, or `allow * /*` for everything": {{Name: "n", Keys: key, Rules: lines(t, "deny GET /x")}},
	} {
		d, err := NewDirectory(clients)
		if d != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), fmt.Sprintf("%x", hash[:4])) {
			t.Errorf("the error shows a hash: %v", err)
		}
	}
}

func TestTenThousandClientsAreToldApart(t *testing.T) {
	d, keys := manyClients(t, 10_000)
	for i, key := range keys {
		if c, _, err := d.ByKey(key, time.Now()); err != nil || c.Name != fmt.Sprintf("client-%d", i) {
			t.Fatalf("%d: %v, %v", i, c, err)
		}
	}
}

func TestLinesThatCannotHaveBeenMeantAreWarnedOf(t *testing.T) {
	for line, want := range map[string]string{
		"allow read_only":                                   "",
		"allow * /*":                                        "",
		"allow GET /":                                       "",
		"allow GET,POST /run/*":                             "",
		"allow POST /run/order /run/event/*":                "",
		"allow GET /run/job/*/output":                       "",
		"allow GET /*/*/*/output":                           "",
		"deny * /Config/*":                                  "",
		"deny * /session/* /authentication/*":               "",
		"allow * /config/authorization/*":                   "",
		"allow POST /run/ordr":                              "/run/ordr: the API has no such path",
		"allow POST /run/order /runs/*":                     "/runs/*: the API has no such path",
		"allow POST /Run/order":                             "/Run/order: the API has no such path",
		"deny * /configs":                                   "/configs: the API has no such path",
		"allow GET /run/jobs/status/*":                      "/run/jobs/status/*: the API has no such path",
		"allow POST /run/jobs/status":                       "/run/jobs/status: the API has no POST there",
		"allow PATCH,OPTIONS /run/*":                        "/run/*: the API has no PATCH,OPTIONS there",
		"allow POST /session/login":                         "/session/login: the gateway answers it itself",
		"deny POST /session/logout":                         "/session/logout: the gateway answers it itself",
		"allow GET /authentication/tokens":                  "protected, so refused without allow_credential_changes",
		"allow * /session/*":                                "protected, so refused without allow_credential_changes",
		"allow POST /config/user/*/password/adminUpdate":    "protected, so refused without allow_credential_changes",
		"allow PUT,DELETE /config/authorization/*":          "no PUT,DELETE there|protected, so refused",
		"allow GET /run/status/*\ndeny GET /run/*":          "allow GET /run/status/*: /run/status/*: deny GET /run/* beats it",
		"allow GET /run/status/*\ndeny GET /RUN/*/*":        "deny GET /RUN/*/* beats it",
		"allow GET /run/job/*/log\ndeny * /run/job/*/log":   "deny * /run/job/*/log beats it",
		"allow * /run/status/*\ndeny GET /run/*":            "",
		"allow GET /run/*\ndeny GET /run/status/*":          "",
		"allow GET /run/job/*/log\ndeny GET /run/job/x/log": "",
		"allow GET /run/job/*\ndeny GET /run/job/*/log":     "",
	} {
		c := &Client{Name: "nightly", Rules: lines(t, line)}
		got := strings.Join(c.Warnings(), "\n")
		if want == "" && got != "" || want != "" && !slices.ContainsFunc(strings.Split(want, "|"), func(w string) bool { return strings.Contains(got, w) }) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	trusted := &Client{Rules: lines(t, "allow * /authentication/*"), AllowCredentialChanges: true}
	if got := trusted.Warnings(); len(got) > 0 {
		t.Errorf("with allow_credential_changes: %q", got)
	}
}

func TestPublicLinesThatCannotBeMeantAreKnown(t *testing.T) {
	for line, want := range map[string][2]string{ // what has no effect, and what opens much
		"allow GET /ctm-cli.tgz /build_time.txt":           {},
		"allow GET /config/servers":                        {},
		"allow GET /config/*":                              {},
		"allow GET /config/authorization/*":                {},
		"allow GET /authentication/tokens":                 {"public GET /authentication/tokens: /authentication/tokens: protected, so open to nobody without proof"},
		"allow * /authentication/*":                        {"/authentication/*: protected"},
		"allow GET /session/login":                         {"public GET /session/login: /session/login: the gateway answers it itself"},
		"allow POST /session/logout":                       {"the gateway answers it itself"},
		"allow GET /ctm-cli.tar":                           {"/ctm-cli.tar: the API has no such path"},
		"allow POST /ctm-cli.tgz":                          {"/ctm-cli.tgz: the API has no POST there"},
		"allow GET /ctm-cli.tgz /ctm-cli.tar":              {"public GET /ctm-cli.tgz /ctm-cli.tar: /ctm-cli.tar: the API has no such path"},
		"allow * /*":                                       {"", "public * /*: /*: everything below, with every method"},
		"allow GET /*":                                     {"", "public GET /*: /*: everything below"},
		"allow GET /*/*":                                   {"", "public GET /*/*: /*/*: everything below"},
		"allow GET /*/servers":                             {},
		"allow * /build_time.txt":                          {"", "public * /build_time.txt: /build_time.txt: every method"},
		"allow GET,POST /run/order":                        {"", "/run/order: GET,POST"},
		"allow POST /authentication/token /run/order":      {"/authentication/token: protected", "/run/order: POST"},
		"allow GET /ctm-cli.tgz\nallow POST /build":        {"", "public POST /build: /build: POST"},
		"allow POST /config/authorization/role /run/ordre": {"/config/authorization/role: protected|/run/ordre: the API has no such path"},
	} {
		idle, wide := lines(t, line).PublicWarnings()
		for i, got := range [][]string{idle, wide} {
			parts := strings.Split(want[i], "|")
			if want[i] == "" {
				parts = nil
			}
			if len(got) != len(parts) {
				t.Errorf("%s: %q, want %q", line, got, parts)
				continue
			}
			for j, part := range parts {
				if !strings.Contains(got[j], part) {
					t.Errorf("%s: %q, want %q", line, got[j], part)
				}
			}
		}
	}
}
