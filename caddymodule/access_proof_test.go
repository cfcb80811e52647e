package caddymodule_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// caddysUsers has Caddy ask for a password, where the call says that it should.
const caddysUsers = "@asked header X-Asked *\nbasic_auth @asked {\nteam " + teamHash + "\nother " + teamHash + "\n}"

// teamHash is of teamPassword, at the lowest cost.
const (
	teamPassword = "team-password-of-the-test"
	teamHash     = "$2a$04$J374uJIPxWFn.H1Ho69yuu.or3qDyIXjYQmocfqoqlpSVh1rvgl6a"
)

// asked shows a user and password to Caddy.
func asked(user, password string) func(*http.Request) {
	return together(asHeader("X-Asked", "1"), asBasic(user, password))
}

func TestAClientProvesItselfInEachOfFourWays(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, accessFile(accessEnvironment(t, up.URL(), up.trusted())+
		accessClient("nightly", nightlyKey, "account prod/reports", "allow * /*")+
		accessClient("rolled", endedKey, "key_sha256 "+keyHash(readerKey)+" 2027-key expires 2999-12-31", "allow * /*"), "controlm prod"))
	token := g.logIn("nightly", nightlyKey)
	for _, c := range []struct {
		name, user string
		edit       func(*http.Request)
	}{
		{"a key as a bearer", "reporter", asBearer(nightlyKey)},
		{"a key as a bearer, whatever the case of the scheme", "reporter", asHeader("Authorization", "bEARER "+nightlyKey)},
		{"a key as x-api-key", "reporter", asAPIKey(nightlyKey)},
		{"a key in Basic", "reporter", asBasic("nightly", nightlyKey)},
		{"a token as a bearer", "reporter", asBearer(token)},
		{"a token as x-api-key", "reporter", asAPIKey(token)},
		{"a token in Basic", "reporter", asBasic("nightly", token)},
		{"the same key in two headers", "reporter", together(asBearer(nightlyKey), asAPIKey(nightlyKey))},
		{"the same key in three ways", "reporter", together(asAPIKey(nightlyKey), asBasic("nightly", nightlyKey), asBearer(nightlyKey))},
		{"the same key twice in one header", "reporter", together(asAPIKey(nightlyKey), asAPIKey(nightlyKey))},
		{"an old key of a client whose keys are rolled", "emuser", asBearer(endedKey)},
		{"a new key that has an end", "emuser", asBearer(readerKey)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := g.do(http.MethodGet, wireEcho, nil, c.edit).echoed(t)
			if got.SessionUser != c.user {
				t.Errorf("it was made as %s, expected %s", got.SessionUser, c.user)
			}
		})
	}
	if s := up.Stats(); s.Logins != 2 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login for each account", s)
	}
}

// TestACallerThatNobodyKnowsIsToldTheSameWhateverIsWrong has a proof of
// Caddy's own in front where that is said, to be fallen back on.
func TestACallerThatNobodyKnowsIsToldTheSameWhateverIsWrong(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	app := accessEnvironment(t, up.URL(), up.trusted()) +
		accessClient("nightly", nightlyKey, "key_sha256 "+keyHash("key-that-is-no-canary"), "allow * /*") +
		accessClient("reader", readerKey, "user team", "allow * /*") +
		"client ended {\nkey_sha256 " + keyHash(endedKey) + " old expires 2020-01-01\nallow * /*\n}\n" +
		"public GET /ctm-cli.tgz\n"
	g := startGateway(t, accessFile(app, caddysUsers, "controlm prod"))
	team := asked("team", teamPassword)
	missing := g.get(wireEcho)
	wantUnknown(t, missing)
	for _, c := range []struct {
		name, path string
		edit       func(*http.Request)
	}{
		{"a wrong key as a bearer", wireEcho, asBearer(wrongKey)},
		{"a wrong key as x-api-key", wireEcho, asAPIKey(wrongKey)},
		{"a wrong key in Basic", wireEcho, asBasic("nightly", wrongKey)},
		{"a key that has ended", wireEcho, asBearer(endedKey)},
		{"a key that has ended, in Basic", wireEcho, asBasic("ended", endedKey)},
		{"the hash of a key", wireEcho, asBearer(keyHash(nightlyKey))},
		{"a key without its last byte", wireEcho, asBearer(nightlyKey[:len(nightlyKey)-1])},
		{"a key with one byte more", wireEcho, asAPIKey(nightlyKey + "x")},
		{"a key in other case", wireEcho, asAPIKey(strings.ToUpper(nightlyKey))},
		{"an empty bearer", wireEcho, asHeader("Authorization", "Bearer ")},
		{"an empty x-api-key", wireEcho, asAPIKey("")},
		{"an empty Authorization", wireEcho, asHeader("Authorization", "")},
		{"the right key of another client in Basic", wireEcho, asBasic("reader", nightlyKey)},
		{"the right key of no client in Basic", wireEcho, asBasic("", nightlyKey)},
		{"the right key in place of the name in Basic", wireEcho, asBasic(nightlyKey, "")},
		{"the right key as all of Basic", wireEcho, asHeader("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(nightlyKey)))},
		{"the right key as text of Basic", wireEcho, asHeader("Authorization", "Basic "+nightlyKey)},
		{"the right key in another scheme", wireEcho, asHeader("Authorization", "Digest "+nightlyKey)},
		{"the right key without a scheme", wireEcho, asHeader("Authorization", nightlyKey)},
		{"the right key in a cookie", wireEcho, asHeader("Cookie", "key="+nightlyKey)},
		// Caddy itself drops this header, once it has logged it.
		{"the right key as x_api_key", wireEcho, asHeader("X_api_key", "key-that-is-no-canary")},
		{"the right key for a proxy", wireEcho, asHeader("Proxy-Authorization", "Bearer "+nightlyKey)},
		{"the right key in the query", wireEcho + "?token=" + nightlyKey, nil},
		{"the right key in the query in other case", wireEcho + "?%54oken=" + nightlyKey, nil},
		{"a wrong key and the right one in the query", wireEcho + "?token=" + nightlyKey, asBearer(wrongKey)},
		{"a wrong bearer and the right user", wireEcho, together(team, asBearer(wrongKey))},
		{"a wrong x-api-key and the right user", wireEcho, together(team, asAPIKey(wrongKey))},
		{"an empty x-api-key and the right user", wireEcho, together(team, asAPIKey(""))},
		{"a key that has ended and the right user", wireEcho, together(team, asAPIKey(endedKey))},
		{"a right user that is no client", wireEcho, asked("other", teamPassword)},
		{"a password of Caddy's where Caddy has not looked", wireEcho, asBasic("team", teamPassword)},
		{"a user in the header that another proxy may set", wireEcho, asHeader("X-Forwarded-User", "team")},
		{"a wrong key where no proof is needed", "/automation-api/ctm-cli.tgz", asBearer(wrongKey)},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := up.Stats()
			got := g.do(http.MethodGet, c.path, nil, c.edit)
			wantUnknown(t, got)
			if got.body != missing.body {
				t.Errorf("it is told %s, other than who shows nothing: %s", got.body, missing.body)
			}
			up.sawNothing(t, before)
		})
	}
	if log := g.logged(); !strings.Contains(log, "handled request") {
		t.Error("there is no access log, which the sweep is for")
	}
}

func TestTwoDifferentCredentialsAreAmbiguous(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, accessFile(accessEnvironment(t, up.URL(), up.trusted())+
		accessClient("nightly", nightlyKey, "key_sha256 "+keyHash(endedKey), "allow * /*")+accessClient("reader", readerKey, "user team", "allow * /*"),
		caddysUsers, "controlm prod"))
	token := g.logIn("nightly", nightlyKey)
	team := asked("team", teamPassword)
	for _, c := range []struct {
		name string
		edit func(*http.Request)
	}{
		{"keys of two clients", together(asBearer(nightlyKey), asAPIKey(readerKey))},
		{"two keys of one client", together(asBearer(nightlyKey), asAPIKey(endedKey))},
		{"a right one and a wrong one", together(asBearer(nightlyKey), asAPIKey(wrongKey))},
		{"a wrong one and a right one", together(asBearer(wrongKey), asAPIKey(nightlyKey))},
		{"two wrong ones", together(asBearer(wrongKey), asAPIKey(wrongKey+"2"))},
		{"a key and the token of one client", together(asBearer(token), asAPIKey(nightlyKey))},
		{"two lines of one header", together(asAPIKey(nightlyKey), asAPIKey(readerKey))},
		{"a right one and an empty one", together(asBearer(nightlyKey), asAPIKey(""))},
		{"one key under two names", together(asBasic("nightly", nightlyKey), asBasic("reader", nightlyKey))},
		{"one key under two names and under none", together(asAPIKey(nightlyKey), asBasic("nightly", nightlyKey), asBasic("reader", nightlyKey))},
		{"a key of one client and the user of another", together(team, asAPIKey(nightlyKey))},
		{"a token of one client and the user of another", together(team, asBearer(token))},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := up.Stats()
			g.do(http.MethodGet, wireEcho, nil, c.edit).wantOwn(t, 400, "ctmgate.ambiguous_credentials")
			up.sawNothing(t, before)
		})
	}
}

// Caddy has looked at the password of its basic_auth, so that it is no
// credential of the gateway's.
func TestAUserOfCaddysBasicAuthIsTheClientThatNamesIt(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, accessFile(accessEnvironment(t, up.URL(), up.trusted())+
		accessClient("reader", readerKey, "user someone team", "account prod/reports", "allow * /*"),
		caddysUsers, "controlm prod"))
	team := asked("team", teamPassword)
	for _, c := range []struct {
		name string
		edit func(*http.Request)
	}{
		{"by itself", team},
		{"with the client's own key beside it", together(team, asAPIKey(readerKey))},
		{"another user with the client's key beside it", together(asked("other", teamPassword), asBearer(readerKey))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := g.do(http.MethodGet, wireEcho, nil, c.edit).echoed(t); got.SessionUser != "reporter" || got.Headers["Authorization"][0] != "present" {
				t.Errorf("upstream saw %+v", got)
			}
		})
	}
	t.Run("a wrong password gets no further than Caddy", func(t *testing.T) {
		got := g.do(http.MethodGet, wireEcho, nil, asked("team", wrongKey))
		if got.status != 401 || got.code() != "" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
}

func TestKeysAreIgnoredWhereCallersHaveNoNames(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	app := accessEnvironment(t, up.URL(), up.trusted()) + accessClient("reader", readerKey, "account prod/reports", "allow GET /config/servers")
	for _, admit := range []string{"loopback", "anyone"} {
		t.Run(admit, func(t *testing.T) {
			g := startGateway(t, accessFile(app, "controlm prod {\nadmit "+admit+"\n}"))
			for _, edit := range []func(*http.Request){nil, asBearer(readerKey), asBearer(wrongKey), together(asBearer(wrongKey), asAPIKey(readerKey))} {
				if got := g.do(http.MethodPost, wireEcho, nil, edit).echoed(t); got.SessionUser != "emuser" {
					t.Errorf("it was made as %s, expected the default account's emuser", got.SessionUser)
				}
			}
		})
	}
}

// A WebSocket client is told as it is that it may not: asking again is of no
// use to it.
func TestAWebSocketNeedsAProofAndARuleToo(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startGateway(t, accessFile(accessEnvironment(t, up.URL(), up.trusted())+
		accessClient("nightly", nightlyKey, "allow read_only")+accessClient("reader", readerKey, "allow GET /config/*"), "controlm prod"))
	for _, c := range []struct {
		name   string
		lines  []string
		status int
		code   string
	}{
		{"without a key", nil, 401, "ctmgate.client_unauthenticated"},
		{"with a wrong key", []string{"Authorization: Bearer " + wrongKey}, 401, "ctmgate.client_unauthenticated"},
		{"with two keys", []string{"Authorization: Bearer " + wrongKey, "X-Api-Key: " + nightlyKey}, 400, "ctmgate.ambiguous_credentials"},
		{"without a rule", []string{"X-Api-Key: " + readerKey}, 403, "ctmgate.forbidden"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, got := g.socket(c.lines...)
			if s != nil {
				t.Fatal("there is a socket")
			}
			got.wantOwn(t, c.status, c.code)
		})
	}
	up.sawNothing(t, emulator.Stats{})
	s, got := g.socket("X-Api-Key: " + nightlyKey)
	if s == nil {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if first := s.receive(); !strings.Contains(first, "alertFields") {
		t.Errorf("the first message is %s", first)
	}
	s.pingPong("hello")
}
