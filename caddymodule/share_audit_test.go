package caddymodule_test

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// auditFields are those of every line.
var auditFields = []string{
	"level", "ts", "logger", "msg", "request_id", "client", "key", "user", "proof", "source", "environment", "account", "method", "path", "operation",
	"decision", "rule", "status", "code", "replayed", "duration",
}

// wantAudit fails the test unless the line of got says this, and has all
// fields.
func (g *gateway) wantAudit(got reply, want auditLine) {
	g.t.Helper()
	line := g.auditOf(got)
	if fields := slices.Sorted(maps.Keys(line.members)); !slices.Equal(fields, slices.Sorted(slices.Values(auditFields))) {
		g.t.Errorf("the line has the fields %q", fields)
	}
	if line.Level != "info" || line.Msg != "call" || line.Duration <= 0 || line.Duration > 60 {
		g.t.Errorf("the line is %s", line.text)
	}
	want.Level, want.Logger, want.Msg, want.RequestID, want.Duration = line.Level, line.Logger, line.Msg, line.RequestID, line.Duration
	want.members, want.text = nil, ""
	if want.Source == "" {
		want.Source = "127.0.0.1"
	}
	if want.Environment == "" {
		want.Environment = "prod"
	}
	if want.Decision == "" {
		want.Decision = "denied"
	}
	if want.Status == 0 {
		want.Status = got.status
	}
	text := line.text
	line.members, line.text = nil, ""
	if a, b := want, line; !sameAudit(a, b) {
		g.t.Errorf("got %s\nwant %+v", text, want)
	}
}

func sameAudit(a, b auditLine) bool {
	texts := func(l auditLine) []string {
		return []string{
			l.Client, l.Key, l.User, l.Proof, l.Source, l.Environment, l.Account, l.Method, l.Path, l.Operation, l.Decision, l.Rule, l.Code,
		}
	}
	return slices.Equal(texts(a), texts(b)) && a.Status == b.Status && a.Replayed == b.Replayed
}

// auditApp has clients for each way to be denied.
func auditApp(t testing.TB, up *upstream) string {
	t.Helper()
	prod := accessEnvironment(t, up.URL(), up.trusted())
	undecided := strings.Replace(strings.Replace(prod, "environment prod", "environment undecided", 1), "default_account batch\n", "", 1)
	return prod + undecided + "client nightly {\nkey_sha256 " + keyHash(nightlyKey) + " 2026-key\nkey_sha256 " + keyHash(endedKey) + " old expires 2020-01-01\n" +
		"account prod/batch undecided/batch\nallow read_only\nallow POST /run/order /emulator/*\ndeny * /config/secret/*\n}\n" +
		accessClient("reader", readerKey, "user team", "account prod/reports", "allow * /*", "rate 1/h burst 20", "max_body 10B") +
		accessClient("limited", canaryKey+"-limited", "rate 1/h burst 1", "allow * /*") + "public GET /ctm-cli.tgz\n"
}

// auditSites are the ways to mount the environments.
func auditSites() []string {
	return []string{
		"handle_path /undecided/* {\ncontrolm undecided\n}", "handle_path /here/* {\ncontrolm prod {\nadmit loopback\n}\n}",
		"handle_path /anyone/* {\ncontrolm prod {\nadmit anyone\naccount reports\n}\n}", "handle_path /bare/* {\ncontrolm prod {\nreplay_buffer 0B\n}\n}",
		caddysUsers, "controlm prod",
	}
}

func startAudited(t testing.TB) (*upstream, *gateway) {
	t.Helper()
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	return up, startGateway(t, quietFile(auditApp(t, up), auditSites()...))
}

func TestEachRequestHasOneLineInTheAuditLogThatSaysWhatWasDecided(t *testing.T) {
	_, g := startAudited(t)
	const read, all, orders = "allow read_only", "allow * /*", "allow POST /run/order /emulator/*"
	nightly := auditLine{Client: "nightly", Key: "2026-key", Proof: "key", Account: "batch"}
	with := func(l auditLine, change func(*auditLine)) auditLine { change(&l); return l }
	token := g.logIn("nightly", nightlyKey)
	long := strings.NewReader("more than ten bytes")
	rows := []struct {
		name, method, path string
		edit               func(*http.Request)
		body               io.Reader
		want               auditLine
	}{
		{"allowed by a set", "GET", base + "/config/servers?token=secret&a=b", asBearer(nightlyKey), nil,
			with(nightly, func(l *auditLine) { l.Decision, l.Rule, l.Operation = "allowed", read, "GET /config/servers" })},
		{"allowed by a path", "POST", base + "/run/order", asBasic("nightly", nightlyKey), nil,
			with(nightly, func(l *auditLine) { l.Decision, l.Rule, l.Operation = "allowed", orders, "POST /run/order" })},
		{"a HEAD", "HEAD", base + "/run/job/ctmprod%3A00001/status/", asAPIKey(nightlyKey), nil,
			with(nightly, func(l *auditLine) { l.Decision, l.Rule, l.Operation = "allowed", read, "GET /run/job/{job}/status" })},
		{"by a gateway token", "GET", base + "/config/servers", asBearer(token), nil,
			with(nightly, func(l *auditLine) {
				l.Decision, l.Rule, l.Operation, l.Proof = "allowed", read, "GET /config/servers", "token"
			})},
		{"by a user of Caddy's", "GET", base + "/config/servers", asked("team", teamPassword), nil,
			auditLine{Client: "reader", User: "team", Proof: "user", Account: "reports", Decision: "allowed", Rule: all, Operation: "GET /config/servers"}},
		{"by a key, with a user of Caddy's in front", "GET", base + "/config/servers", together(asked("other", teamPassword), asAPIKey(readerKey)), nil,
			auditLine{Client: "reader", User: "other", Proof: "key", Account: "reports", Decision: "allowed", Rule: all, Operation: "GET /config/servers"}},
		{"public", "GET", base + "/ctm-cli.tgz", nil, nil,
			auditLine{Decision: "allowed", Rule: "public GET /ctm-cli.tgz", Operation: "GET /ctm-cli.tgz"}},
		{"where callers have no names", "GET", "/here" + base + "/config/servers", asAPIKey("not looked at"), nil,
			auditLine{Account: "batch", Decision: "allowed", Operation: "GET /config/servers"}},
		{"not admitted", "GET", "/here" + base + "/config/servers", asHeader("Origin", "https://evil.example"), nil,
			auditLine{Code: "ctmgate.not_admitted"}},
		{"a bad path", "GET", base + "/run/..%2Fconfig", asBearer(nightlyKey), nil, auditLine{Code: "ctmgate.bad_path"}},
		{"outside the API", "GET", "/elsewhere", asBearer(nightlyKey), nil, auditLine{Code: "ctmgate.outside_api"}},
		{"a method that is none", "TRACE", base + "/config/servers", asBearer(nightlyKey), nil, auditLine{Code: "ctmgate.method_not_allowed"}},
		{"no proof", "GET", base + "/config/servers", nil, nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "GET /config/servers"}},
		{"a wrong key", "GET", base + "/config/servers", asBearer(wrongKey), nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "GET /config/servers"}},
		{"a key that has ended", "GET", base + "/config/servers", asBearer(endedKey), nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "GET /config/servers"}},
		{"a token that is none", "GET", base + "/config/servers", asBearer(token + "x"), nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "GET /config/servers"}},
		{"two credentials", "GET", base + "/config/servers", together(asBearer(nightlyKey), asAPIKey(readerKey)), nil,
			auditLine{Code: "ctmgate.ambiguous_credentials", Operation: "GET /config/servers"}},
		{"no rule", "POST", base + "/run/job/ctmprod:00001/kill", asBearer(nightlyKey), nil,
			with(nightly, func(l *auditLine) {
				l.Code, l.Operation, l.Account = "ctmgate.forbidden", "POST /run/job/{job}/kill", ""
			})},
		{"a deny", "GET", base + "/Config/SECRET/one", asBearer(nightlyKey), nil,
			with(nightly, func(l *auditLine) {
				l.Code, l.Rule, l.Operation, l.Account = "ctmgate.forbidden", "deny * /config/secret/*", "GET /*", ""
			})},
		{"protected", "GET", base + "/authentication/tokens", asBearer(nightlyKey), nil,
			with(nightly, func(l *auditLine) {
				l.Code, l.Operation, l.Account = "ctmgate.protected", "GET /authentication/tokens", ""
			})},
		{"a session in disguise", "POST", base + "/Session/logout", asBearer(nightlyKey), nil,
			auditLine{Code: "ctmgate.protected", Operation: "POST /*"}},
		{"no account", "GET", "/undecided" + base + "/config/servers", asBearer(readerKey), nil,
			auditLine{Client: "reader", Proof: "key", Code: "ctmgate.no_account", Rule: all, Operation: "GET /config/servers", Environment: "undecided"}},
		{"within the rate", "GET", base + "/config/servers", asBearer(canaryKey + "-limited"), nil,
			auditLine{Client: "limited", Proof: "key", Account: "batch", Decision: "allowed", Rule: all, Operation: "GET /config/servers"}},
		{"over the rate", "GET", base + "/config/servers", asBearer(canaryKey + "-limited"), nil,
			auditLine{Client: "limited", Proof: "key", Account: "batch", Code: "ctmgate.rate_limited", Rule: all, Operation: "GET /config/servers"}},
		{"too large", "POST", base + "/run/order", asBearer(readerKey), long,
			auditLine{Client: "reader", Proof: "key", Account: "reports", Code: "ctmgate.body_too_large", Rule: all, Operation: "POST /run/order"}},
		{"a login", "POST", loginPath, nil, strings.NewReader(`{"username": "nightly", "password": "` + nightlyKey + `"}`),
			with(nightly, func(l *auditLine) { l.Decision, l.Operation = "allowed", "POST /session/login" })},
		{"a wrong login", "POST", loginPath, nil, strings.NewReader(`{"username": "nightly", "password": "` + wrongKey + `"}`),
			auditLine{Code: "ctmgate.client_unauthenticated", Operation: "POST /session/login"}},
		{"a login without an account", "POST", "/undecided" + loginPath, nil, strings.NewReader(`{"username": "reader", "password": "` + readerKey + `"}`),
			auditLine{Client: "reader", Proof: "key", Code: "ctmgate.no_account", Operation: "POST /session/login", Environment: "undecided"}},
		{"a login over the rate", "POST", loginPath, nil, strings.NewReader(`{"username": "limited", "password": "` + canaryKey + `-limited"}`),
			auditLine{Client: "limited", Proof: "key", Account: "batch", Code: "ctmgate.rate_limited", Operation: "POST /session/login"}},
		{"a login by another method", "GET", loginPath, asBearer(nightlyKey), nil, auditLine{Code: "ctmgate.method_not_allowed", Operation: "GET /session/login"}},
		{"a login where callers have no names", "POST", "/here" + loginPath, nil, nil, auditLine{Account: "batch", Decision: "allowed", Operation: "POST /session/login"}},
		{"a logout by token", "POST", logoutPath + "?token=" + token, nil, nil,
			auditLine{Client: "nightly", Key: "2026-key", Proof: "token", Decision: "allowed", Operation: "POST /session/logout"}},
		{"a logout once more", "POST", logoutPath, asBearer(token), nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "POST /session/logout"}},
		{"a logout by key", "POST", logoutPath, asBearer(nightlyKey), nil,
			auditLine{Client: "nightly", Key: "2026-key", Proof: "key", Decision: "allowed", Operation: "POST /session/logout"}},
		{"a logout by nobody", "POST", logoutPath, nil, nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "POST /session/logout"}},
	}
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			got := g.do(c.method, c.path, c.body, c.edit)
			c.want.Method = c.method
			c.want.Path, _, _ = strings.Cut(c.path, "?")
			if got.code() != c.want.Code && c.method != "HEAD" {
				t.Errorf("got %d %s", got.status, got.body)
			}
			g.in(t).wantAudit(got, c.want)
		})
	}
	if lines := audited(t, g.log); len(lines) != len(rows)+1 { // and the first login
		t.Errorf("there are %d lines for %d requests", len(lines), len(rows)+1)
	}
}

// Whom Caddy has found in front stands there also where that is no client.
func TestTheAuditLogNamesTheUserWhoIsNoClient(t *testing.T) {
	_, g := startAudited(t)
	for _, c := range []struct {
		name, path string
		edit       func(*http.Request)
		want       auditLine
	}{
		{"denied", base + "/config/servers", nil, auditLine{Code: "ctmgate.client_unauthenticated", Operation: "GET /config/servers"}},
		{"denied for a wrong key", base + "/config/servers", asAPIKey(wrongKey), auditLine{Code: "ctmgate.client_unauthenticated", Operation: "GET /config/servers"}},
		{"let in with anyone", "/anyone" + base + "/config/servers", nil, auditLine{Account: "reports", Decision: "allowed", Operation: "GET /config/servers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			edit := asked("other", teamPassword)
			if c.edit != nil {
				edit = together(edit, c.edit)
			}
			got := g.do(http.MethodGet, c.path, nil, edit)
			c.want.Method, c.want.Path, c.want.User = "GET", c.path, "other"
			g.in(t).wantAudit(got, c.want)
		})
	}
}

func TestTheAuditLogTellsHowACallEnded(t *testing.T) {
	up, g := startAudited(t)
	echo := auditLine{
		Client: "nightly", Key: "2026-key", Proof: "key", Account: "batch", Decision: "allowed", Rule: "allow POST /run/order /emulator/*",
		Method: "POST", Path: wireEcho, Operation: "POST /*",
	}
	call := func(path string, body io.Reader) reply {
		return g.do(http.MethodPost, path, body, asBearer(nightlyKey))
	}
	call(wireEcho, nil).echoed(t)
	for _, row := range []struct {
		fault  string
		status int
		code   string
	}{
		{"calls=500", 500, ""},
		{"calls=403", 403, ""},
		{"calls=401", 401, ""},
		{"calls=503", 503, ""},
		{"calls=redirect", 302, ""},
		{"calls=closex2", 502, "ctmgate.upstream_unreachable"},
	} {
		t.Run("with "+row.fault, func(t *testing.T) {
			wireFaults(t, up.Emulator, row.fault)
			defer up.SetFaults()
			want := echo
			want.Status, want.Code = row.status, row.code
			got := call(wireEcho, nil)
			g.in(t).wantAudit(got, want)
		})
	}
	t.Run("with a replay", func(t *testing.T) {
		up.Restart()
		want := echo
		want.Replayed = true
		g.in(t).wantAudit(call(wireEcho, strings.NewReader("sent twice")), want)
	})
	t.Run("with a replay that was not possible", func(t *testing.T) {
		up.Restart()
		got := call("/bare"+wireEcho, strings.NewReader(strings.Repeat("sent once", 10_000)))
		got.wantOwn(t, 503, "ctmgate.replay_impossible")
		want := echo
		want.Path, want.Status, want.Code = "/bare"+wireEcho, 503, "ctmgate.replay_impossible"
		g.in(t).wantAudit(got, want)
	})
	t.Run("without the caller", func(t *testing.T) {
		call(wireEcho, nil).echoed(t)
		wireFaults(t, up.Emulator, "calls=hangx1")
		calls := up.Stats().Calls
		conn := g.dial()
		if _, err := io.WriteString(conn, "POST "+wireEcho+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+nightlyKey+"\r\nX-Request-Id: gone\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		wireEventually(t, "the call is under way", func() bool { return up.Stats().Calls > calls })
		_ = conn.Close()
		want := echo
		want.Status = 499
		g.in(t).wantAudit(reply{header: http.Header{"X-Request-Id": {"gone"}}}, want)
	})
	t.Run("as a WebSocket, at its end", func(t *testing.T) {
		s, got := g.socket("X-Api-Key: "+nightlyKey, "X-Request-Id: socket")
		if s == nil {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		s.receive()
		_ = s.conn.Close()
		want := echo
		want.Method, want.Path, want.Operation, want.Rule, want.Status = "GET", base+"/run/alerts/stream", "GET /run/alerts/stream", "allow read_only", 101
		g.in(t).wantAudit(reply{header: http.Header{"X-Request-Id": {"socket"}}}, want)
	})
}

func TestTheAuditLogTellsOfACallWithoutALoginUpstream(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: []emulator.User{{Name: "emuser", Password: refusedPassword}, {Name: "reporter", Password: refusedPassword}}})
	g := startGateway(t, quietFile(auditApp(t, up), auditSites()...))
	want := auditLine{
		Client: "nightly", Key: "2026-key", Proof: "key", Account: "batch", Decision: "allowed", Rule: "allow POST /run/order /emulator/*",
		Method: "POST", Path: wireEcho, Operation: "POST /*", Code: "ctmgate.login_refused",
	}
	g.wantAudit(g.do(http.MethodPost, wireEcho, nil, asBearer(nightlyKey)), want)
	want.Operation, want.Path, want.Rule = "POST /session/login", loginPath, ""
	g.wantAudit(g.tryLogIn("nightly", nightlyKey), want)
}

// The source is the caller's own word only where Caddy trusts who says it.
func TestTheAuditLogNamesTheCallerInFrontOfATrustedProxyOnly(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	file := quietFile(auditApp(t, up), auditSites()...)
	for _, row := range []struct{ name, options, source string }{
		{"nobody is trusted", "", "127.0.0.1"}, {"the proxy is trusted", "servers {\ntrusted_proxies static 127.0.0.1/32\n}\n", "192.0.2.7"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := startGateway(t, strings.Replace(file, "{\n", "{\n"+row.options, 1))
			got := g.asWith(nightlyKey, "GET", base+"/config/servers", "X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.8", "Forwarded: for=192.0.2.9", "X-Forwarded-User: team")
			g.in(t).wantAudit(got, auditLine{
				Client: "nightly", Key: "2026-key", Proof: "key", Account: "batch", Decision: "allowed", Rule: "allow read_only", Source: row.source,
				Method: "GET", Path: base + "/config/servers", Operation: "GET /config/servers",
			})
		})
	}
}
