package caddymodule_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

const (
	loginPath  = "/automation-api/session/login"
	logoutPath = "/automation-api/session/logout"
)

// startSignIn runs a gateway with the clients nightly and reader.
func startSignIn(t testing.TB) (*upstream, *gateway) {
	t.Helper()
	up := startUpstream(t, emulator.Options{Users: twoUsers, Version: "9.20.110"})
	g := startGateway(t, accessFile(accessEnvironment(t, up.URL(), up.trusted())+
		accessClient("nightly", nightlyKey, "key_sha256 "+keyHash(endedKey)+" old expires 2020-01-01", "allow GET,POST /emulator/echo")+
		accessClient("reader", readerKey, "account prod/reports", "allow read_only"), "controlm prod"))
	return up, g
}

func TestAClientLogsInWithItsNameAndItsKey(t *testing.T) {
	up, g := startSignIn(t)
	got := g.tryLogIn("nightly", nightlyKey)
	if got.status != 200 || !strings.HasPrefix(got.body, "{\n  \"username\" : \"nightly\",\n  \"token\" : \"ctmgt_") ||
		!strings.HasSuffix(got.body, "\",\n  \"version\" : \"9.20.110\"\n}\n") || got.header.Get("Cache-Control") != "no-store, no-transform" {
		t.Fatalf("got %d %v\n%s", got.status, got.header, got.body)
	}
	token := g.logIn("nightly", nightlyKey)
	for name, edit := range map[string]func(*http.Request){"a bearer": asBearer(token), "x-api-key": asAPIKey(token)} {
		if user := g.do(http.MethodPost, wireEcho, nil, edit).echoed(t).SessionUser; user != "emuser" {
			t.Errorf("as %s it was made as %s", name, user)
		}
		// It is worth what the client may, and no more.
		g.do(http.MethodGet, "/automation-api/config/servers", nil, edit).wantOwn(t, 403, "ctmgate.forbidden")
	}
	g.do(http.MethodGet, wireEcho, nil, asBasic("reader", token)).wantOwn(t, 401, "ctmgate.client_unauthenticated")
	if user := g.do(http.MethodGet, wireEcho, nil, asBearer(g.logIn("reader", readerKey))).echoed(t).SessionUser; user != "reporter" {
		t.Errorf("the other client's was made as %s", user)
	}
	if s := up.Stats(); s.Logins != 2 || s.Logouts != 0 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login for each account", s)
	}
	if strings.Contains(g.logged(), token) {
		t.Error("the log shows the gateway token")
	}
}

// What is wrong is not told, and the emulator's own words are: clients look
// for them.
func TestAWrongLoginGetsTheAPIsOwnWordsAndGoesNowhere(t *testing.T) {
	up, g := startSignIn(t)
	for _, c := range []struct{ name, username, password string }{
		{"a wrong key", "nightly", wrongKey},
		{"no key", "nightly", ""},
		{"an unknown name", "nobody", nightlyKey},
		{"no name", "", nightlyKey},
		{"another client's name", "reader", nightlyKey},
		{"a name in other case", "Nightly", nightlyKey},
		{"a key that has ended", "nightly", endedKey},
		{"a hash in place of the key", "nightly", keyHash(nightlyKey)},
		{"name and key the wrong way round", nightlyKey, "nightly"},
		{"user and password of Control-M", "emuser", canaryPassword},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := g.tryLogIn(c.username, c.password)
			wantUnknown(t, got)
			if text := got.message(t); text != "Failed to login: Incorrect username or password" {
				t.Errorf("it says %q", text)
			}
		})
	}
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "username=nightly&password=" + nightlyKey, "a list": `["nightly", "` + nightlyKey + `"]`,
		"a number for a name": `{"username": 1, "password": "` + nightlyKey + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			wantUnknown(t, g.do(http.MethodPost, loginPath, strings.NewReader(body), nil))
		})
	}
	t.Run("a right key in a header does not make up for it", func(t *testing.T) {
		wantUnknown(t, g.do(http.MethodPost, loginPath, strings.NewReader(`{"username": "nightly", "password": "`+wrongKey+`"}`), asBearer(nightlyKey)))
	})
	t.Run("another method", func(t *testing.T) {
		got := g.do(http.MethodGet, loginPath, nil, asBearer(nightlyKey))
		got.wantOwn(t, 405, "ctmgate.method_not_allowed")
		if got.header.Get("Allow") != http.MethodPost {
			t.Errorf("Allow is %q", got.header.Get("Allow"))
		}
	})
	t.Run("a body without end", func(t *testing.T) {
		g.do(http.MethodPost, loginPath, strings.NewReader(`{"username": "`+strings.Repeat("a", 70_000)+`"}`), nil).wantOwn(t, 413, "ctmgate.body_too_large")
	})
	up.sawNothing(t, emulator.Stats{})
}

func TestALogoutEndsTheGatewayTokenInEachWayThatClientsShowIt(t *testing.T) {
	up, g := startSignIn(t)
	form := func(token string) string { return url.Values{"token": {token}}.Encode() }
	const urlencoded = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name string
		call func(token string) reply
	}{
		{"a bearer", func(token string) reply { return g.do(http.MethodPost, logoutPath, nil, asBearer(token)) }},
		{"x-api-key", func(token string) reply { return g.do(http.MethodPost, logoutPath, nil, asAPIKey(token)) }},
		{"a form", func(token string) reply {
			return g.do(http.MethodPost, logoutPath, strings.NewReader(form(token)), asHeader("Content-Type", urlencoded))
		}},
		{"a form that says its characters", func(token string) reply {
			return g.do(http.MethodPost, logoutPath, strings.NewReader(form(token)), asHeader("Content-Type", urlencoded+"; charset=UTF-8"))
		}},
		{"a form that does not say that it is one", func(token string) reply {
			return g.do(http.MethodPost, logoutPath, strings.NewReader(form(token)), nil)
		}},
		{"the query", func(token string) reply { return g.do(http.MethodPost, logoutPath+"?"+form(token), nil, nil) }},
		{"Basic", func(token string) reply { return g.do(http.MethodPost, logoutPath, nil, asBasic("nightly", token)) }},
		{"a form, with the client's key beside it", func(token string) reply {
			return g.do(http.MethodPost, logoutPath, strings.NewReader(form(token)), together(asHeader("Content-Type", urlencoded), asBearer(nightlyKey)))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, other := g.logIn("nightly", nightlyKey), g.logIn("nightly", nightlyKey)
			g.do(http.MethodGet, wireEcho, nil, asBearer(token)).echoed(t)
			got := c.call(token)
			if got.status != 200 || !strings.Contains(got.body, "Successfully logged out") {
				t.Errorf("got %d %s", got.status, got.body)
			}
			for _, edit := range []func(*http.Request){asBearer(token), asAPIKey(token)} {
				after := g.do(http.MethodGet, wireEcho, nil, edit)
				wantUnknown(t, after)
				// Clients log in again on these words.
				if text := after.message(t); !strings.HasPrefix(text, "Session token is invalid or expired") {
					t.Errorf("it says %q", text)
				}
			}
			g.do(http.MethodGet, wireEcho, nil, asBearer(other)).echoed(t)
			again := c.call(token)
			if c.name == "a form, with the client's key beside it" {
				wantReply(t, again, 200, "")
				return
			}
			wantUnknown(t, again)
			if text := again.message(t); !strings.HasPrefix(text, "Session token is invalid or expired") {
				t.Errorf("the second logout says %q", text)
			}
		})
	}
	t.Run("who shows nothing is not told that it is out", func(t *testing.T) {
		wantUnknown(t, g.do(http.MethodPost, logoutPath, nil, nil))
		wantUnknown(t, g.do(http.MethodPost, logoutPath, nil, asBearer(wrongKey)))
	})
	t.Run("a key outlives it", func(t *testing.T) {
		wantReply(t, g.do(http.MethodPost, logoutPath, nil, asBearer(nightlyKey)), 200, "")
		g.do(http.MethodGet, wireEcho, nil, asBearer(nightlyKey)).echoed(t)
	})
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 {
		t.Errorf("upstream saw %+v; expected that the shared session goes on", s)
	}
	if strings.Contains(g.logged(), "ctmgt_") {
		t.Error("the log shows a gateway token")
	}
}

func TestWhatLooksLikeAGatewayTokenIsToldThatItHasEnded(t *testing.T) {
	up, g := startSignIn(t)
	token := g.logIn("nightly", nightlyKey)
	foreign := access.NewTokens(nil).Issue("nightly", nil) // of a gateway with another key
	before := up.Stats()
	for name, text := range map[string]string{
		"of another gateway": foreign, "cut short": token[:len(token)-4], "with one byte more": token + "A", "its prefix alone": "ctmgt_",
		"of another version": "ctmgt_" + strings.ToLower(token[6:7]) + token[7:],
	} {
		for way, edit := range map[string]func(*http.Request){"a bearer": asBearer(text), "x-api-key": asAPIKey(text), "Basic": asBasic("nightly", text)} {
			t.Run(name+" as "+way, func(t *testing.T) {
				got := g.do(http.MethodGet, wireEcho, nil, edit)
				wantUnknown(t, got)
				if text := got.message(t); !strings.HasPrefix(text, "Session token is invalid or expired") {
					t.Errorf("it says %q", text)
				}
			})
		}
	}
	t.Run("in the query it is not looked at", func(t *testing.T) {
		wantUnknown(t, g.get(wireEcho+"?token="+token))
	})
	up.sawNothing(t, before)
}
