package caddymodule_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// startAnnotated runs a gateway in front of an upstream that keeps what
// arrives, with annotations of nightly and of the site.
func startAnnotated(t testing.TB, nightly string, site ...string) (*clientUpstream, *gateway) {
	t.Helper()
	up := startClientUpstream(t, emulator.Options{Users: twoUsers})
	return up, startGateway(t, shareClients(t, up.url, "", nightly, "", "controlm prod {\n"+strings.Join(site, "\n")+"\n}"))
}

// arrives makes a call and returns the header that it arrives with.
func (u *clientUpstream) arrives(g *gateway, key, call string, lines ...string) http.Header {
	g.t.Helper()
	before := len(u.calls())
	method, path, _ := strings.Cut(call, " ")
	got := g.asWith(key, method, base+path, lines...)
	calls := u.calls()[before:]
	if len(calls) != 1 {
		g.t.Fatalf("%s: %d calls arrived; the caller got %d %s", call, len(calls), got.status, got.body)
	}
	return calls[0].header
}

func TestAnnotationsSayWhoChangedSomething(t *testing.T) {
	up, g := startAnnotated(t, `annotate Annotation-Subject "{controlm.client} as {controlm.account} of {controlm.environment}"`,
		`annotate annotation-DESCRIPTION "{controlm.operation} by {controlm.request_id}"`, `annotate Annotation-Subject "of the site: {controlm.client}"`,
		`annotate Annotation-Plain "100% sure"`)
	h := up.arrives(g, nightlyKey, "POST /run/event/ctmprod", "X-Request-Id: change-1")
	for name, want := range map[string]string{
		"Annotation-Subject": "nightly as batch of prod", "Annotation-Description": "POST /run/event/{server} by change-1", "Annotation-Plain": "100% sure",
	} {
		if got := h[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	h = up.arrives(g, readerKey, "POST /run/event/ctmprod")
	if got := h["Annotation-Subject"]; !slices.Equal(got, []string{"of the site: reader"}) {
		t.Errorf("the other client's is %q", got)
	}
}

func TestOnlyCallsThatChangeSomethingAreAnnotated(t *testing.T) {
	up, g := startAnnotated(t, "annotate X-Client-Why because\nallow_credential_changes", "annotate X-Site-Why because")
	for _, c := range []struct {
		call    string
		changes bool
	}{
		{"GET /config/servers", false},
		{"HEAD /config/servers", false},
		{"GET /run/job/ctmprod:00001/output", false},
		{"GET /moon", false},
		{"OPTIONS /run/order", false},
		{"POST /build", false},
		{"POST /deploy/transform", false},
		{"POST /reporting/report", false},
		{"POST /config/server/ctmprod/agent/billing-app1/ping", false},
		{"POST /deploy/connectionprofile/test", false},
		{"GET /config/authorization/roles", false},
		{"GET /authentication/tokens", false},
		{"GET /authentication/token/one", false},
		{"POST /deploy", true},
		{"POST /run", true},
		{"POST /run/order", true},
		{"POST /run/job/ctmprod:00001/hold", true},
		{"POST /run/job/ctmprod:00001/kill", true},
		{"POST /run/event/ctmprod", true},
		{"DELETE /run/event/ctmprod/one/0101", true},
		{"POST /config/secret", true},
		{"DELETE /deploy/folder/ctmprod/one", true},
		{"PUT /config/servers", true},
		{"POST /moon", true},
		{"PATCH /moon", true},
		{"POST /authentication/token", true},
		{"DELETE /authentication/token/one", true},
		{"POST /session/user/password/update", true},
		{"POST /Build", true}, // not known as the harmless one
	} {
		t.Run(c.call, func(t *testing.T) {
			h := up.arrives(g, nightlyKey, c.call)
			for _, name := range []string{"X-Client-Why", "X-Site-Why"} {
				if got := len(h[name]) > 0; got != c.changes {
					t.Errorf("it arrives with %s %q", name, h[name])
				}
			}
		})
	}
	t.Run("a WebSocket", func(t *testing.T) {
		before := len(up.calls())
		s, got := g.socket("X-Api-Key: " + nightlyKey)
		if s == nil {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		if h := up.calls()[before].header; h["X-Client-Why"] != nil || h["X-Site-Why"] != nil {
			t.Errorf("it arrives with %v", h)
		}
	})
}

func TestWhatTheCallerSentWinsUnlessItIsOverridden(t *testing.T) {
	const own = "annotate X-Why gateway\nannotate X-Where gateway"
	for _, c := range []struct {
		name, client, site string
		sent               []string
		why, where         []string
	}{
		{"nothing sent", own, "", nil, []string{"gateway"}, []string{"gateway"}},
		{"the caller's own, of a client's", own, "", []string{"X-Why: mine"}, []string{"mine"}, []string{"gateway"}},
		{"the caller's own, of a site's", "", own, []string{"X-Why: mine"}, []string{"mine"}, []string{"gateway"}},
		{"in other case", own, "", []string{"x-wHY: mine"}, []string{"mine"}, []string{"gateway"}},
		{"several of one name", own, "", []string{"X-Why: one", "X-Why: two"}, []string{"one", "two"}, []string{"gateway"}},
		{"an empty one", own, "", []string{"X-Why: "}, []string{"gateway"}, []string{"gateway"}},
		{"an empty one, and another", own, "", []string{"X-Why: ", "X-Why: mine"}, []string{"", "mine"}, []string{"gateway"}},
		{"overridden by the client", own + "\nannotate_override", "", []string{"X-Why: mine", "X-Why: two"}, []string{"gateway"}, []string{"gateway"}},
		{"overridden by the site", "", own + "\nannotate_override", []string{"X-Why: mine", "x-where: mine"}, []string{"gateway"}, []string{"gateway"}},
		{"overridden by the site alone", "annotate X-Why client", own + "\nannotate_override", []string{"X-Why: mine", "X-Where: mine"}, []string{"mine"}, []string{"gateway"}},
		{"overridden by the client alone", "annotate X-Why client\nannotate_override", own, []string{"X-Why: mine", "X-Where: mine"}, []string{"client"}, []string{"mine"}},
		{"nominated in Connection", own, "", []string{"Connection: X-Why"}, []string{"gateway"}, []string{"gateway"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			up, g := startAnnotated(t, c.client, c.site)
			h := up.arrives(g, nightlyKey, "POST /run/order", c.sent...)
			if !slices.Equal(h["X-Why"], c.why) || !slices.Equal(h["X-Where"], c.where) {
				t.Errorf("it arrives with %q and %q, want %q and %q", h["X-Why"], h["X-Where"], c.why, c.where)
			}
			if read := up.arrives(g, nightlyKey, "GET /config/servers", "X-Why: mine"); !slices.Equal(read["X-Why"], []string{"mine"}) {
				t.Errorf("a call that only reads arrives with %q", read["X-Why"])
			}
		})
	}
}

// What a caller chooses gets into annotations by placeholders.
func TestAnAnnotationCannotBreakOutOfItsHeader(t *testing.T) {
	up, g := startAnnotated(t, "", `annotate X-Why "of {http.request.uri.query.why}, {http.request.header.X-Note}"`, `annotate X-After yes`)
	for _, c := range []struct{ name, query, note, want string }{
		{"ASCII", "tuesday%20night", "a note", "of tuesday night, a note"},
		{"a percent sign alone", "100%25", "", "of 100%, "},
		{"a line break", "a%0d%0aX-Api-Key:%20b", "", "of a%0D%0AX-Api-Key: b, "},
		{"a line feed", "a%0aTransfer-Encoding:%20chunked%0a%0a", "", "of a%0ATransfer-Encoding: chunked%0A%0A, "},
		{"a percent sign beside a line break", "100%25%0d", "", "of 100%25%0D, "},
		{"NUL, tab and DEL", "a%00b%09c%7f", "", "of a%00b%09c%7F, "},
		{"letters outside ASCII", "m%C3%BCller", "", "of m%C3%BCller, "},
		{"bytes that are no UTF-8", "a%FFb", "", "of a%FFb, "},
		{"letters outside ASCII, raw in a header", "", "müller", "of , m%C3%BCller"},
		{"a placeholder", "{env.PATH}", "{controlm.client} {file./etc/passwd}", "of {env.PATH}, {controlm.client} {file./etc/passwd}"},
		{"a quote and a backslash", "%22%5C", "", `of "\, `},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := up.arrives(g, nightlyKey, "POST /run/order?why="+c.query, "X-Note: "+c.note)
			if got := h["X-Why"]; len(got) != 1 || strings.TrimSpace(got[0]) != strings.TrimSpace(c.want) {
				t.Errorf("it arrives as %q, want %q", got, c.want)
			}
			if h["X-Api-Key"] != nil || h["Transfer-Encoding"] != nil || !slices.Equal(h["X-After"], []string{"yes"}) {
				t.Errorf("it arrives with %v", h)
			}
		})
	}
}

// A client's annotation takes the same placeholders as a site's.
func TestAClientsAnnotationTakesCaddysPlaceholders(t *testing.T) {
	for _, row := range []struct{ name, template, want string }{
		{"in full", "{http.request.remote.host}", "127.0.0.1"},
		{"of variables", "{http.vars.client_ip}", "127.0.0.1"},
		{"in short", "{client_ip}", "127.0.0.1"},
		{"in short, of the connection", "{remote_host}", "127.0.0.1"},
		{"in short, of the call", "{method} {path}", "POST /automation-api/run/order"},
	} {
		t.Run(row.name, func(t *testing.T) {
			line := `annotate X-Why "from ` + row.template + `"`
			up, g := startAnnotated(t, "", line)
			if got := up.arrives(g, nightlyKey, "POST /run/order")["X-Why"]; !slices.Equal(got, []string{"from " + row.want}) {
				t.Errorf("the site's arrives as %q", got)
			}
			up, g = startAnnotated(t, line)
			if got := up.arrives(g, nightlyKey, "POST /run/order")["X-Why"]; !slices.Equal(got, []string{"from " + row.want}) {
				t.Errorf("the client's arrives as %q", got)
			}
		})
	}
}

// ownedHeaders are the gateway's, or describe the message.
var ownedHeaders = []string{
	"Authorization", "authorization", "X-Api-Key", "x-API-key", "Authentication", "Proxy-Authorization", "Cookie", "X-Forwarded-For", "X-Forwarded-Host",
	"x-forwarded-anything", "Forwarded", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Request-Id", "x-request-id",
	"Host", "host", "Connection", "Upgrade", "TE", "Trailer", "Transfer-Encoding", "Content-Length", "Content-Type", "Content-Encoding", "Accept",
	"Accept-Encoding", "Expect", "Range", "If-Range", "Idempotency-Key",
}

func TestMistakesInAnnotationsAreNamedWithTheirLine(t *testing.T) {
	const own, example = "this header is the gateway's own; expected one that Control-M reads annotations from", `annotate Annotation-Subject "run by {controlm.client}"`
	mistakes := []mistake{
		{"no header", "annotate", 11, []string{"annotate: 0 arguments", example}},
		{"no text", "annotate X-Why", 11, []string{"annotate: 1 arguments", example}},
		{"text without quotes", "annotate X-Why run by me", 11, []string{"annotate: 4 arguments", example}},
		{"an empty text", `annotate X-Why ""`, 11, []string{"annotate X-Why: it is empty; expected text, with placeholders such as {controlm.client}"}},
		{"a header twice", "annotate X-Why a\nannotate x-why b", 12, []string{"annotate X-Why: it is stated twice; expected each header once"}},
		{"a block", "annotate X-Why a {\nb\n}", 11, []string{"annotate: takes no block"}},
		{"an override with an argument", "annotate X-Why a\nannotate_override on", 12, []string{`annotate_override: takes no argument, found "on"`}},
		{"an override twice", "annotate X-Why a\nannotate_override\nannotate_override", 13, []string{"annotate_override is stated twice"}},
	}
	for _, name := range []string{`""`, "X:Why", `"X Why"`, "X_Why", "-X", "1X", "Wärum", "{env.HEADER}", "{controlm.client}", "X-" + strings.Repeat("y", 128), `"X\r"`} {
		mistakes = append(mistakes, mistake{"the name " + name, "annotate " + name + " a", 11, []string{"expected the name of a header", example}})
	}
	for _, name := range ownedHeaders {
		mistakes = append(mistakes, mistake{name, "annotate " + name + " a", 11, []string{"annotate " + name + ": " + own}})
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, "{\ncontrolm {\n"+goodEnvironment+"client nightly {\n"+m.lines+"\nuser a\nallow read_only\n}\n}\n}\n:8080 {\ncontrolm prod\n}\n")
			// The site's block begins at line 14.
			m.line += 3
			m.check(t, "{\ncontrolm {\n"+goodEnvironment+"}\n}\n:8080 {\ncontrolm prod {\n"+m.lines+"\n}\n}\n")
		})
	}
	t.Run("an override of nothing", func(t *testing.T) {
		const want = "annotate_override: there is no annotate that it could be about"
		mistake{want: []string{want}, line: 14}.check(t, "{\ncontrolm {\n"+goodEnvironment+"client nightly {\nannotate_override\nuser a\nallow read_only\n}\n}\n}\n")
		_, err := adapt("{\ncontrolm {\n" + goodEnvironment + "}\n}\n:8080 {\ncontrolm prod {\nannotate_override\n}\n}\n")
		wantError(t, err, want, "at Caddyfile:")
	})
}

func TestMistakesInAnnotationsOfJSONAreErrorsAtLoad(t *testing.T) {
	config := func(client, site string) string {
		return `{"apps": {"controlm": {"clients": {"nightly": {"user": ["a"], "allow": ["read_only"]` + client + `}},
			"environments": {"prod": {"endpoint": ["https://em.example.com:8443/automation-api"], "accounts": {"batch": {"api_token": "{file./run/secrets/ctm_api_token}"}}}}},
			"http": {"servers": {"s": {"listen": ["127.0.0.1:8080"], "routes": [{"handle": [{"handler": "controlm", "environment": "prod"` + site + `}]}]}}}}}`
	}
	rows := []struct{ name, members, want string }{
		{"nothing wrong", `, "annotate": {"x-why": "by {controlm.client}"}, "annotate_override": true`, ""},
		{"an override of nothing", `, "annotate_override": true`, "annotate_override: there is no annotate"},
		{"an empty text", `, "annotate": {"X-Why": ""}`, "annotate X-Why: it is empty"},
		{"a header twice", `, "annotate": {"X-Why": "a", "x-why": "b"}`, "it is stated twice"},
		{"a list of texts", `, "annotate": {"X-Why": ["a"]}`, "cannot unmarshal"},
		{"a name that is none", `, "annotate": {"X Why": "a"}`, "expected the name of a header"},
		{"a name with a line break", `, "annotate": {"X-Why\r\nX-Other": "a"}`, "expected the name of a header"},
	}
	for _, name := range ownedHeaders {
		rows = append(rows, struct{ name, members, want string }{name, fmt.Sprintf(`, "annotate": {%q: "a"}`, name), "annotate " + name + ": this header is the gateway's own"})
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			for _, text := range []string{config(row.members, ""), config("", row.members)} {
				_, err := validate(t, withSecretFiles(t, text))
				if row.want != "" {
					wantError(t, err, row.want)
				} else if err != nil {
					t.Error(err)
				}
			}
		})
	}
}
