package caddymodule_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// pathSecret is what only the path of a call has.
const pathSecret = "s3cr3t-0f-a-p4th"

// TestTheAuditLogShowsNoSecretOfAPath has the two operations that have one,
// in spellings that Control-M may take for them, or that are refused.
func TestTheAuditLogShowsNoSecretOfAPath(t *testing.T) {
	_, g := startShare(t, "")
	for _, below := range []string{
		"/config/server/ctmprod/sshkey/mykey/SECRET", "/config/server/ctmprod/sshkey/mykey/SECRET/", "/config/server/ctmprod/sshkey/mykey/SECRET?a=SECRET",
		"/config/systemsettings/server/name/SECRET", "/config/systemsettings/SECRET",
		"/config/server/ctmprod/SSHKEY/mykey/SECRET", "/config/server/ctmprod/ssh%6Bey/mykey/SECRET", "/config/server/ctmprod/%73%73%68%6b%65%79/mykey/SECRET",
		"/config/server/ctmprod/ssh%256bey/mykey/SECRET", "/config/server/ctmprod/ssh%25256bey/mykey/SECRET", "/config/server/ctmprod%2Fsshkey%2Fmykey%2FSECRET",
		"/config/server/ctmprod%2fSshKey/mykey/SECRET", "/config%2Fserver%2Fctmprod%252Fsshkey%252Fmykey%252FSECRET", "/config/server/ctmprod/sshkey.json/mykey/SECRET",
		"/config/server/ctmprod/sshkey./mykey/SECRET", "/config/server/ctmprod/sshkey%20/mykey/SECRET", "/config/server/ctmprod/%20sshkey/mykey/SECRET",
		"/config/server/ctmprod/sshkey;a=b/mykey/SECRET", "/config/server/ctmprod/sshkey%3Ba=b/mykey/SECRET", "/config/server/ctmprod//sshkey//mykey//SECRET",
		"/config/server/ctmprod/x/../sshkey/mykey/SECRET", "/config/server/ctmprod/./sshkey/mykey/SECRET", "/config/server/ctmprod/sshkey/../sshkey/mykey/SECRET",
		`/config/server/ctmprod/sshkey\mykey\SECRET`, `/config/server/ctmprod\sshkey\mykey\SECRET`, "/config/server/ctmprod%5Csshkey%5Cmykey%5CSECRET",
		"/config/server/ctmprod/;/sshkey/mykey/SECRET", "/config/server/ctmprod/a;sshkey/mykey/SECRET", "/config/server/ctmprod/%C5%BFshkey/mykey/SECRET",
		"/config/server/ctmprod/ss%68%E2%84%AAey/mykey/SECRET", "/config/SystemSettings/server/name/SECRET", "/config/systemsettings%2Fserver%2Fname%2FSECRET",
		"/config/systemsettings.json/server/name/SECRET", "/config/%53ystem%73ettings/server/name/SECRET", "/Config/systemsettings/Server/name/SECRET",
		"/run/jobs/status?jobname=SECRET", "/run/jobs/status?token=SECRET&a=b", "/run/jobs/status?%74oken=SECRET", "/run/jobs/status?a=b;token=SECRET",
		"/session/logout?token=SECRET", "/elsewhere/../../config/server/x/sshkey/k/SECRET",
	} {
		t.Run(below, func(t *testing.T) {
			target := strings.ReplaceAll(base+below, "SECRET", pathSecret)
			for _, method := range []string{"GET", "POST"} {
				got := g.rawCall(method, target, "Authorization: Bearer "+nightlyKey, "Content-Length: 0")
				line := g.auditOf(got)
				if strings.Contains(line.text, pathSecret) || !strings.HasPrefix(line.Path, base) && !strings.Contains(below, "..") {
					t.Errorf("with %d, the line is %s", got.status, line.text)
				}
			}
		})
	}
	t.Run("nor outside the API, nor in absolute form", func(t *testing.T) {
		for _, target := range []string{
			"/other/config/server/x/sshkey/k/" + pathSecret, "http://{HOST}" + base + "/config/server/x/sshkey/k/" + pathSecret,
			"http://user:" + pathSecret + "@{HOST}" + base + "/config/servers", "http:http://{HOST}" + base + "/config/server/x/sshkey/k/" + pathSecret,
		} {
			got := g.raw("GET " + target + " HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer " + nightlyKey + "\r\n\r\n")
			if line := g.auditOf(got); strings.Contains(line.text, pathSecret) {
				t.Errorf("%s: the line is %s", target, line.text)
			}
		}
	})
	t.Run("while a job with such a name is told", func(t *testing.T) {
		for _, path := range []string{base + "/run/job/ctmprod:my-sshkey/status", base + "/config/server/ctmprod/sshKeysList"} {
			got := g.as(nightlyKey, "GET", path)
			if line := g.auditOf(got); strings.HasSuffix(path, "status") && line.Path != path {
				t.Errorf("the line is %s", line.text)
			}
		}
	})
}

// A caller may not write into the log what looks like another line.
func TestNoCallerCanForgeALineOfTheAuditLog(t *testing.T) {
	_, g := startShare(t, "")
	const forged = `","decision":"allowed","client":"admin`
	before := len(audited(t, g.log))
	sent := 0
	for _, row := range []struct {
		name, method, target string
		lines                []string
	}{
		{"a quote in the path", "GET", base + `/run/a"b` + forged, nil},
		{"an encoded line break in the path", "GET", base + "/run/a%0d%0a%7B%22logger%22:%22controlm.audit%22%7D", nil},
		{"an encoded quote", "GET", base + "/run/a%22" + "b", nil},
		{"a backslash", "GET", base + `/run/a\u0022,\"b`, nil},
		{"bytes that are no UTF-8", "GET", base + "/run/\xff\xfe\xc0\xae", nil},
		{"line separators of Unicode", "GET", base + "/run/\u2028\u2029\u0085", nil},
		{"a placeholder", "GET", base + "/run/{env.PATH}/{controlm.client}", nil},
		{"a quote in the id", "GET", base + "/config/servers", []string{"X-Request-Id: a" + forged}},
		{"an escape of a terminal in the id", "GET", base + "/config/servers", []string{"X-Request-Id: \x1b[2Jx"}},
		{"a method in quotes", `G'E|T`, base + "/config/servers", nil},
		{"a method that nobody knows", "FROBNICATE-EVERYTHING-1234567", base + "/config/servers", nil},
		{"a path without end", "GET", base + "/" + strings.Repeat("long/", 20_000) + "x", nil},
		{"a user in quotes", "GET", base + "/config/servers", []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("a\n\""+forged+":b"))}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := g.rawCall(row.method, row.target, row.lines...)
			if got.header.Get("X-Request-Id") == "" {
				return // the HTTP server itself has refused it
			}
			sent++
			line := g.auditOf(got)
			if line.Client != "" || line.Decision != "denied" || len(line.text) > 4096 || strings.Contains(line.text, "\x1b") {
				t.Errorf("the line has %d bytes: %.600s", len(line.text), line.text)
			}
			if strings.ContainsAny(strings.TrimSuffix(line.text, "\n"), "\n\r") {
				t.Errorf("the line breaks: %q", line.text)
			}
		})
	}
	if n := len(audited(t, g.log)) - before; n != sent || sent == 0 {
		t.Errorf("%d requests made %d lines", sent, n)
	}
	for text := range strings.Lines(g.logged()) {
		if !json.Valid([]byte(text)) {
			t.Errorf("a line is no JSON: %.300q", text)
		}
	}
}

// unheldKey is a key in headers that Caddy drops and shows in its own access
// log before a handler runs, as is documented: it must be no canary.
const unheldKey = "key-in-a-header-of-another-name"

func TestNoLogShowsAGatewayKey(t *testing.T) {
	file := func(endpoint, trust string) string {
		return shareClients(t, endpoint, trust, "key_sha256 "+keyHash(unheldKey), "user team", "log", caddysUsers,
			"log_append client {controlm.client}", "log_append op {controlm.operation}", `header >X-Client "{controlm.client}"`, "controlm prod")
	}
	show := func(t *testing.T, g *gateway, status int) {
		t.Helper()
		for name, call := range map[string]func(key string) reply{
			"a bearer":                func(key string) reply { return g.do("POST", wireEcho, nil, asBearer(key)) },
			"a bearer in other case":  func(key string) reply { return g.do("POST", wireEcho, nil, asHeader("Authorization", "bEARER  "+key)) },
			"x-api-key":               func(key string) reply { return g.do("POST", wireEcho, nil, asAPIKey(key)) },
			"x-api-key twice":         func(key string) reply { return g.do("POST", wireEcho, nil, together(asAPIKey(key), asAPIKey(key))) },
			"both":                    func(key string) reply { return g.do("POST", wireEcho, nil, together(asAPIKey(key), asBearer(key))) },
			"Basic":                   func(key string) reply { return g.do("POST", wireEcho, nil, asBasic("nightly", key)) },
			"a right one and a token": func(key string) reply { return g.do("POST", wireEcho+"?token="+key+"&a=b", nil, asBearer(key)) },
			"under a method of its own": func(key string) reply {
				return g.rawCall("FETCH", wireEcho+"?a=b&token="+key, "x-api-key: "+key, "Content-Length: 0")
			},
		} {
			got := call(nightlyKey)
			if want := status; got.status != want && name != "under a method of its own" {
				t.Errorf("%s: got %d %s", name, got.status, got.body)
			}
			wantReply(t, call(wrongKey), 401, "ctmgate.client_unauthenticated")
		}
		for name, got := range map[string]reply{
			"the query":          g.do("GET", wireEcho+"?token="+nightlyKey, nil, nil),
			"the query, hidden":  g.do("GET", wireEcho+"?a=b;%54oken="+nightlyKey, nil, nil),
			"a cookie":           g.do("GET", wireEcho, nil, asHeader("Cookie", "key="+nightlyKey)),
			"for a proxy":        g.do("GET", wireEcho, nil, asHeader("Proxy-Authorization", "Bearer "+nightlyKey)),
			"as Authentication":  g.do("GET", wireEcho, nil, asHeader("Authentication", "Bearer "+nightlyKey)),
			"with tildes":        g.do("GET", wireEcho, nil, asHeader("X~Api~Key", nightlyKey)),
			"with underscores":   g.rawCall("GET", wireEcho, "x_api_key: "+unheldKey),
			"with dots":          g.rawCall("GET", wireEcho, "X.Api.Key: "+unheldKey),
			"mixed":              g.rawCall("GET", wireEcho, "X-Api_Key: "+unheldKey),
			"a wrong login":      g.tryLogIn("nightly", wrongKey),
			"a login without":    g.tryLogIn(nightlyKey, ""),
			"a logout":           g.do("POST", logoutPath+"?token="+wrongKey, nil, nil),
			"a form of a logout": g.do("POST", logoutPath, strings.NewReader("token="+wrongKey), asHeader("Content-Type", "application/x-www-form-urlencoded")),
		} {
			if got.status != 401 {
				t.Errorf("%s: got %d %s", name, got.status, got.body)
			}
		}
	}
	t.Run("when upstream answers", func(t *testing.T) {
		up := startUpstream(t, emulator.Options{Users: twoUsers})
		g := startGateway(t, file(up.URL(), up.trusted()))
		show(t, g, 200)
		token := g.logIn("nightly", nightlyKey)
		g.as(token, "POST", wireEcho).echoed(t)
		wantReply(t, g.do("POST", logoutPath+"?token="+token, nil, nil), 200, "")
		if strings.Contains(g.logged(), token) {
			t.Error("the log shows a gateway token")
		}
		wantLogged(t, g, `"client":"nightly"`, `"msg":"handled request"`, `"op":"POST /*"`)
	})
	t.Run("when upstream is down", func(t *testing.T) {
		g := startGateway(t, file("https://"+freeAddr(t)+"/automation-api", ""))
		g.as(readerKey, "GET", wireEcho).wantOwn(t, 502, "ctmgate.upstream_unreachable")
		g.as(nightlyKey, "GET", wireEcho).wantOwn(t, 502, "ctmgate.upstream_unreachable")
		show(t, g, 503) // the login is paused
		wantReply(t, g.tryLogIn("nightly", nightlyKey), 503, "ctmgate.login_paused")
	})
	t.Run("when upstream breaks off", func(t *testing.T) {
		up := startUpstream(t, emulator.Options{Users: twoUsers, Faults: []emulator.Fault{{Target: "calls", Action: "close"}}})
		g := startGateway(t, file(up.URL(), up.trusted()))
		show(t, g, 502)
	})
}

// wantLogged waits until a line of the log, after what the test did, says
// each of texts.
func wantLogged(t testing.TB, g *gateway, texts ...string) {
	t.Helper()
	for _, text := range texts {
		wireEventually(t, "the log says "+text, func() bool { return strings.Contains(g.logged(), text) })
	}
}

// The audit log is for whoever asks afterwards: an operator that turns it off,
// or down, should know.
func TestAConfigInWhichNoLogTakesEachAuditLineWarnsAtLoad(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	for _, c := range []struct {
		name, logs string
		warns      bool
	}{
		{"none", "", false},
		{"one at DEBUG", "log {\noutput file {LOG}\nlevel DEBUG\n}", false},
		{"one at INFO", "log {\noutput file {LOG}\nlevel INFO\n}", false},
		{"one at WARN", "log {\noutput file {LOG}\nlevel WARN\n}", true},
		{"one at ERROR, and another for audits", "log {\noutput file {LOG}\nlevel WARN\n}\nlog audit {\noutput file {LOG}.audit\ninclude controlm.audit\n}", false},
		{"one at ERROR, and another for audits at ERROR", "log {\noutput file {LOG}\nlevel WARN\n}\nlog audit {\noutput file {LOG}.audit\ninclude controlm.audit\nlevel ERROR\n}", true},
		{"one without audits", "log {\noutput file {LOG}\nexclude controlm.audit\n}", true},
		{"one without audits, and another for them", "log {\noutput file {LOG}\nexclude controlm.audit\n}\nlog audit {\noutput file {LOG}.audit\ninclude controlm.audit\n}", false},
		{"one without audits, and another for the app", "log {\noutput file {LOG}\nexclude controlm.audit\n}\nlog app {\noutput file {LOG}.audit\ninclude controlm\n}", false},
		{"one without audits, and another for the rest", "log {\noutput file {LOG}\nexclude controlm.audit\n}\nlog rest {\noutput file {LOG}.audit\ninclude http\n}", true},
		{"one that samples", "log {\noutput file {LOG}\nsampling {\ninterval 1s\nfirst 100\nthereafter 100\n}\n}", true},
		{"one that samples rarely", "log {\noutput file {LOG}\nsampling {\ninterval 1s\nfirst 5000\nthereafter 100\n}\n}", true},
		{"one that samples, and another for audits", "log {\noutput file {LOG}\nsampling {\ninterval 1s\nfirst 100\nthereafter 100\n}\n}\nlog audit {\noutput file {LOG}.audit\ninclude controlm.audit\n}", false},
		{"one for audits that samples", "log {\noutput file {LOG}\nexclude controlm.audit\n}\nlog audit {\noutput file {LOG}.audit\ninclude controlm.audit\nsampling {\ninterval 1s\nfirst 1\nthereafter 0\n}\n}", true},
		{"one for audits that nobody can read", "log {\noutput file {LOG}\nexclude controlm.audit\n}\nlog audit {\noutput discard\ninclude controlm.audit\n}", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := strings.Replace(shareClients(t, up.URL(), up.trusted(), "", ""), "{\n", "{\n"+c.logs+"\n", 1)
			g := wireStart(t, file)
			g.as(nightlyKey, "GET", base+"/config/servers")
			const warning = "no log takes all lines of the audit log controlm.audit"
			var warnings []string
			for line := range strings.Lines(g.logged()) {
				if strings.Contains(line, warning) {
					warnings = append(warnings, line)
				}
			}
			if c.warns != (len(warnings) == 1) || len(warnings) > 1 || c.warns && !strings.Contains(warnings[0], `"level":"warn"`) {
				t.Errorf("warned %q", warnings)
			}
			if lines := len(audited(t, g.log)); !c.warns && !strings.Contains(c.logs, "LOG}.audit") && lines != 1 {
				t.Errorf("there are %d lines for one call", lines)
			}
		})
	}
}

// At DEBUG Caddy writes whole requests, keys included, before a handler of
// ours can keep them back.
func TestAConfigWithClientsWarnsAtLoadOfALogAtDEBUG(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	clients, none := shareClients(t, up.URL(), up.trusted(), "", ""), up.sidecar(wirePassword(t))
	for _, c := range []struct {
		name, file, logs string
		warns            int
	}{
		{"at INFO", clients, "log {\noutput file {LOG}\n}", 0},
		{"at DEBUG", clients, "log {\noutput file {LOG}\nlevel DEBUG\n}", 1},
		{"at DEBUG, of others than Caddy's handlers", clients, "log {\noutput file {LOG}\nlevel DEBUG\nexclude http.handlers\n}", 0},
		{"at DEBUG, into another file", clients, "log {\noutput file {LOG}\n}\nlog more {\noutput file {LOG}.more\nlevel DEBUG\n}", 1},
		{"at DEBUG, without clients", "{\n}\n" + none, "log {\noutput file {LOG}\nlevel DEBUG\n}", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := wireStart(t, strings.Replace(c.file, "{\n", "{\n"+c.logs+"\n", 1))
			const warning = "Caddy writes requests at level DEBUG"
			if n := strings.Count(g.logged(), warning); n != c.warns {
				t.Errorf("warned %d times, want %d", n, c.warns)
			}
		})
	}
}
