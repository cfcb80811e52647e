package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// accessLine is a line of Caddy's access log.
type accessLine struct {
	Logger  string
	Msg     string
	Status  int
	Size    int
	Read    *int    `json:"bytes_read"`
	User    *string `json:"user_id"`
	Request struct {
		URI     string `json:"uri"`
		Headers map[string][]string
	}
}

// accessLines waits for n lines of the access log in a file, and fails when
// there are more.
func accessLines(t testing.TB, path string, n int) []accessLine {
	t.Helper()
	var lines []accessLine
	wireEventually(t, "the access log has its lines", func() bool {
		lines = nil
		for text := range strings.Lines(readLog(t, path)) {
			var line accessLine
			if json.Unmarshal([]byte(text), &line) == nil && strings.HasPrefix(line.Logger, "http.log.access") {
				lines = append(lines, line)
			}
		}
		return len(lines) >= n
	})
	if len(lines) != n {
		t.Errorf("the access log has %d lines, want %d: %+v", len(lines), n, lines)
	}
	return lines
}

// Keys of the gateway's own, and one of somebody's that goes on to upstream and
// so may be in an answer.
var ownKey, ownToken = access.NewKey(), access.NewTokens(nil).Issue("nightly", nil)

const shownKey = "key-of-somebody-83"

// holdsKey tells whether there is something of these keys in text.
func holdsKey(text string) bool {
	return strings.Contains(text, ownKey[8:]) || strings.Contains(text, ownToken[8:]) || strings.Contains(text, shownKey)
}

// withSecrets are the ways in which a client shows its own secret.
var withSecrets = []struct {
	name, query string
	header      map[string][]string
}{
	{"an API key", "", map[string][]string{"X-Api-Key": {canaryKey}}},
	{"two API keys", "", map[string][]string{"X-Api-Key": {canaryKey, canaryKey}}},
	{"a token in the query", "?token=" + canaryKey + "&a=1", nil},
	{"a token in disguise", "?a=1&%54oken=" + canaryKey, nil},
	{"a token after a semicolon", "?a=1;token=" + canaryKey, nil},
	{"an API key in the query", "?X-Api-Key=" + shownKey + "&a=1", nil},
	{"an API key in the query, in other spelling", "?a=1&x%5fapi%5Fkey=" + shownKey, nil},
	{"a secret by its name", "?a=1&password=" + shownKey, nil},
	{"a gateway key under any name", "?a=1&b=" + ownKey, nil},
	{"a gateway key as a name", "?a=1&" + ownKey, nil},
	{"a gateway token under any name", "?a=1&session=%63" + ownToken[1:], nil},
	{"a gateway key in any header", "?a=1", map[string][]string{"X-Mine": {"key " + ownKey}}},
	{"a gateway key as the id of a call", "?a=1", map[string][]string{"X-Request-Id": {ownKey}}},
	{"a bearer token", "?a=1", map[string][]string{"Authorization": {"Bearer " + canaryKey}}},
	{"the misprint of the manual", "?a=1", map[string][]string{"Authentication": {"Bearer " + canaryKey}}},
	// Caddy takes names with underscores and dots out of the request, though not
	// out of its log, before we can see them.
	{"an API key with other punctuation", "?a=1", map[string][]string{"X~Api~Key": {canaryKey}}},
	{"a cookie", "?a=1", map[string][]string{"Cookie": {"k=" + canaryKey}}},
	{"credentials for a proxy", "?a=1", map[string][]string{"Proxy-Authorization": {"Basic " + canaryKey}}},
	{"all of it", "?a=1&token=" + canaryKey, map[string][]string{"X-Api-Key": {canaryKey}, "Authorization": {canaryKey}}},
}

func showSecrets(g *gateway, path string, want int) {
	g.t.Helper()
	for _, row := range withSecrets {
		got := g.do(http.MethodGet, path+row.query, nil, func(r *http.Request) {
			for name, values := range row.header {
				r.Header[name] = values
			}
		})
		if got.status != want {
			g.t.Errorf("%s: got %d %s", row.name, got.status, got.body)
		}
	}
}

// checkAccess looks at the lines of showSecrets. The harness looks for the
// secret itself, at the end.
func checkAccess(t *testing.T, lines []accessLine, path string, status int) {
	t.Helper()
	for i, line := range lines {
		row := withSecrets[i%len(withSecrets)]
		if line.Msg != "handled request" || line.Status != status {
			t.Errorf("%s: the line says %q, status %d", row.name, line.Msg, line.Status)
		}
		if line.Read == nil || line.User == nil {
			t.Errorf("%s: the line lacks bytes_read or user_id, which Caddy's have", row.name)
		}
		if !strings.HasPrefix(line.Request.URI, path) || strings.Contains(row.query, "a=1") && !strings.Contains(line.Request.URI, "a=1") {
			t.Errorf("%s: the line has URI %q", row.name, line.Request.URI)
		}
		if text := fmt.Sprint(line); holdsKey(text) {
			t.Errorf("%s: the line shows a key: %s", row.name, text)
		}
		for name := range row.header {
			if got := strings.Join(line.Request.Headers[http.CanonicalHeaderKey(name)], ""); got != "REDACTED" && got != "REDACTEDREDACTED" {
				t.Errorf("%s: the line has %s %q", row.name, name, got)
			}
		}
	}
}

func TestWireTheAccessLogShowsNoSecretOfClients(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	words := []string{"tls_ca_file " + up.caFile, wireUser(t)}
	logged := func(site, log string) string { return strings.Replace(site, "controlm ", log+"\n\tcontrolm ", 1) }
	t.Run("in a line each", func(t *testing.T) {
		g := startGateway(t, logged(wireSite(up.URL(), words...), "log"))
		showSecrets(g, wireEcho, 200)
		checkAccess(t, accessLines(t, g.log, len(withSecrets)), wireEcho, 200)
	})
	t.Run("under a prefix, with the URI as it came", func(t *testing.T) {
		// At DEBUG, Caddy's own rewriting logs the request before we see it.
		g := wireStart(t, "{\n\tlog default {\n\t\toutput file {LOG}\n\t\tlevel INFO\n\t}\n}\n{ADDR} {\n\tlog\n\thandle_path /prod/* {\n"+strings.TrimPrefix(wireSite(up.URL(), words...), "{ADDR} {")+"\n}")
		showSecrets(g, "/prod"+wireEcho, 200)
		checkAccess(t, accessLines(t, g.log, len(withSecrets)), "/prod"+wireEcho, 200)
	})
	t.Run("when upstream is down", func(t *testing.T) {
		g := startGateway(t, logged(wireSite("https://"+freeAddr(t)+"/automation-api", wireUser(t)), "log"))
		g.get(wireEcho) // the others are told to wait
		showSecrets(g, wireEcho, 503)
		checkAccess(t, accessLines(t, g.log, len(withSecrets)+1)[1:], wireEcho, 503)
	})
	t.Run("when the call is refused", func(t *testing.T) {
		g := startGateway(t, logged(wireSite(up.URL(), words...), "log"))
		showSecrets(g, "/automation-api/authentication/tokens", 403)
		checkAccess(t, accessLines(t, g.log, len(withSecrets)), "/automation-api/authentication/tokens", 403)
	})
	t.Run("on the logger of its site, at any level", func(t *testing.T) {
		g := wireStart(t, "{\n\tlog default {\n\t\toutput file {LOG}\n\t\tlevel DEBUG\n\t}\n}\n"+
			logged(wireSite(up.URL(), words...), "log special {\n\t\toutput file {LOG}.special\n\t}"))
		showSecrets(g, wireEcho, 200)
		lines := accessLines(t, g.log+".special", len(withSecrets))
		checkAccess(t, lines, wireEcho, 200)
		for _, line := range lines {
			if line.Logger != "http.log.access.special" {
				t.Errorf("a line is of logger %s", line.Logger)
			}
		}
		accessLines(t, g.log, 0)
		g.sweep(g.log + ".special")
	})
	t.Run("on the logger of the nearest name", func(t *testing.T) {
		site := func(name, host, log string) string {
			site := wireSite(up.URL(), append(words, "name "+name, "admit anyone")...)
			return strings.Replace(logged(site, "bind 127.0.0.1\n\tlog "+log+" {\n\t\toutput file {LOG}."+log+"\n\t}"), "{ADDR}", "http://"+host+":{PORT}", 1)
		}
		g := wireStart(t, "{\n\tlog default {\n\t\toutput file {LOG}\n\t\tlevel DEBUG\n\t}\n}\n"+
			site("wide", "*.example", "wide")+"\n"+site("near", "gw.example", "near"))
		const times = 20 // Go walks through a map as it likes
		for range times {
			g.raw("GET " + wireEcho + "?token=" + canaryKey + " HTTP/1.1\r\nHost: gw.example\r\n\r\n").echoed(t)
		}
		g.raw("GET " + wireEcho + "?token=" + canaryKey + " HTTP/1.1\r\nHost: other.example\r\n\r\n").echoed(t)
		accessLines(t, g.log+".near", times)
		accessLines(t, g.log+".wide", 1)
		g.sweep(g.log + ".near")
		g.sweep(g.log + ".wide")
	})
	t.Run("on the logger that the request is given", func(t *testing.T) {
		g := wireStart(t, "{\n\tlog default {\n\t\toutput file {LOG}\n\t\tlevel DEBUG\n\t}\n}\n"+
			logged(wireSite(up.URL(), words...), "log\n\tlog given {\n\t\tno_hostname\n\t\toutput file {LOG}.given\n\t}\n\tlog_name given"))
		showSecrets(g, wireEcho, 200)
		checkAccess(t, accessLines(t, g.log+".given", len(withSecrets)), wireEcho, 200)
		accessLines(t, g.log, 0)
		g.sweep(g.log + ".given")
	})
	t.Run("not for hosts that are not logged", func(t *testing.T) {
		other := strings.Replace(wireSite(up.URL(), append(words, "name other", "admit anyone")...), "{ADDR}", "http://logged.example:{PORT}", 1)
		g := wireStart(t, logged(other, "bind 127.0.0.1\n\tlog")+"\n"+wireAnyHost(wireSite(up.URL(), words...)))
		showSecrets(g, wireEcho, 200)
		g.raw("GET " + wireEcho + "?token=" + canaryKey + " HTTP/1.1\r\nHost: logged.example\r\n\r\n").echoed(t)
		accessLines(t, g.log, 1)
	})
	t.Run("not for hosts that are skipped", func(t *testing.T) {
		g := wireIdle(t)
		config, err := g.adapt(logged(wireSite(up.URL(), words...), "log"))
		if err != nil {
			t.Fatal(err)
		}
		// As written, the host's own log goes before; the Caddyfile knows no other way.
		const written, skipped = `"logs":{"logger_names":{"127.0.0.1":[""]}}`, `"logs":{"skip_hosts":["*.0.0.1"]}`
		if !bytes.Contains(config, []byte(written)) {
			t.Fatalf("the config is not as expected: %s", config)
		}
		config = bytes.Replace(config, []byte(written), []byte(skipped), 1)
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
		showSecrets(g, wireEcho, 200)
		accessLines(t, g.log, 0)
	})
	t.Run("not where the site skips it", func(t *testing.T) {
		g := startGateway(t, logged(wireSite(up.URL(), words...), "log\n\tlog_skip /automation-api/emulator/*"))
		showSecrets(g, wireEcho, 200)
		g.do(http.MethodGet, "/automation-api/config/servers?token="+canaryKey, nil, nil)
		if lines := accessLines(t, g.log, 1); lines[0].Request.URI != "/automation-api/config/servers" {
			t.Errorf("the line has URI %q", lines[0].Request.URI)
		}
	})
	t.Run("and no line at all without an access log", func(t *testing.T) {
		g := startGateway(t, wireSite(up.URL(), words...))
		showSecrets(g, wireEcho, 200)
		accessLines(t, g.log, 0)
	})
	t.Run("and the same with an API token of the gateway's own", func(t *testing.T) {
		up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "a", Value: canaryToken, User: "emuser"}}})
		g := startGateway(t, logged(wireSite(up.URL(), "tls_ca_file "+up.caFile, "api_token {file."+secretFile(t, canaryToken)+"}"), "log"))
		showSecrets(g, wireEcho, 200)
		checkAccess(t, accessLines(t, g.log, len(withSecrets)), wireEcho, 200)
	})
}
