package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// Keys of the clients here. Each holds a canary, so that all are swept for.
const (
	nightlyKey = canaryKey + "-nightly"
	readerKey  = canaryKey + "-reader"
	endedKey   = canaryKey + "-ended"
	wrongKey   = canaryKey + "-wrong"
)

// twoUsers are the users that two accounts act as.
var twoUsers = []emulator.User{
	{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin"}},
	{Name: "reporter", Password: canaryPassword, Roles: []string{"User"}},
}

// accessEnvironment is the environment prod with the accounts batch, of
// emuser, and reports, of reporter; batch is the default.
func accessEnvironment(t testing.TB, endpoint string, more ...string) string {
	t.Helper()
	account := func(name, user string) string {
		return fmt.Sprintf("account %s {\nusername %s\npassword {file.%s}\n}\n", name, user, secretFile(t, canaryPassword))
	}
	return "environment prod {\nendpoint " + endpoint + "\n" + account("batch", "emuser") + account("reports", "reporter") +
		"default_account batch\n" + strings.Join(more, "\n") + "\n}\n"
}

// trusted are the words that let a gateway trust the emulator.
func (u *upstream) trusted() string { return "tls_ca_file " + u.caFile }

// accessClient is a client with one key.
func accessClient(name, key string, lines ...string) string {
	return "client " + name + " {\nkey_sha256 " + keyHash(key) + "\n" + strings.Join(lines, "\n") + "\n}\n"
}

// accessFile is a Caddyfile: the words of the global option, and what stands
// in the one site, which logs access.
func accessFile(app string, site ...string) string {
	return "{\ncontrolm {\n" + app + "}\n}\n{ADDR} {\nlog\n" + strings.Join(site, "\n") + "\n}\n"
}

// asBearer, asAPIKey, asBasic and asUser show a credential.
func asBearer(text string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+text) }
}

func asAPIKey(text string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("X-Api-Key", text) }
}

func asBasic(name, text string) func(*http.Request) {
	return func(r *http.Request) {
		other := &http.Request{Header: http.Header{}}
		other.SetBasicAuth(name, text)
		r.Header.Add("Authorization", other.Header.Get("Authorization"))
	}
}

func asHeader(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

// together shows several.
func together(edits ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		for _, edit := range edits {
			edit(r)
		}
	}
}

// logIn logs a client in at the gateway and returns its token.
func (g *gateway) logIn(username, password string) (token string) {
	g.t.Helper()
	got := g.tryLogIn(username, password)
	var in struct{ Token string }
	if err := json.Unmarshal([]byte(got.body), &in); got.status != 200 || err != nil || in.Token == "" {
		g.t.Fatalf("logging in got %d %s", got.status, got.body)
	}
	return in.Token
}

func (g *gateway) tryLogIn(username, password string) reply {
	g.t.Helper()
	body, err := json.Marshal(map[string]string{"username": username, "password": password})
	if err != nil {
		g.t.Fatal(err)
	}
	return g.do(http.MethodPost, "/automation-api/session/login", strings.NewReader(string(body)), asHeader("Content-Type", "application/json"))
}

// wantUnknown fails the test unless got is the 401 for a caller that nobody
// knows, and nothing but what is the same for all of them.
func wantUnknown(t testing.TB, got reply) {
	t.Helper()
	got.wantOwn(t, 401, "ctmgate.client_unauthenticated")
	if got.header.Get("Www-Authenticate") != `Bearer realm="ctmgate"` {
		t.Errorf("WWW-Authenticate is %q", got.header.Get("Www-Authenticate"))
	}
}

// message is the text of an error of the gateway's own.
func (r reply) message(t testing.TB) string {
	t.Helper()
	var list struct{ Errors []struct{ Message string } }
	if err := json.Unmarshal([]byte(r.body), &list); err != nil || len(list.Errors) != 1 {
		t.Fatalf("no error of the gateway's own: %s", r.body)
	}
	return list.Errors[0].Message
}

// sawNothing fails the test if upstream heard of anything since before.
func (u *upstream) sawNothing(t testing.TB, before emulator.Stats) {
	t.Helper()
	s := u.Stats()
	if s.Calls != before.Calls || s.RejectedCalls != before.RejectedCalls || s.Logins != before.Logins ||
		s.RefusedLogins != before.RefusedLogins || s.FailedLogins != before.FailedLogins || s.Logouts != before.Logouts {
		t.Errorf("upstream saw %+v, before %+v", s, before)
	}
}
