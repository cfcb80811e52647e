package emulator

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoginAnswersInTheLayoutThatShellClientsParse(t *testing.T) {
	l := start(t, Options{})
	r := l.do("POST", "/session/login", goodLogin)
	form := regexp.MustCompile(`^\{\n  "username" : "emuser",\n  "token" : "[0-9A-F]{128}",\n  "version" : "9\.21\.220"\n\}$`)
	if r.status != 200 || !form.MatchString(r.body) || r.header.Get("Content-Type") != "application/json" {
		t.Fatalf("login: status %d, type %q, layout of %d bytes is not the expected one", r.status, r.header.Get("Content-Type"), len(r.body))
	}
	// As the vendor's sample does: ${login##*token\" : \"} and cut -d '"' -f 1.
	_, tail, found := strings.Cut(r.body, `token" : "`)
	token, _, _ := strings.Cut(tail, `"`)
	if !found {
		t.Fatal("the sample's pattern does not fit")
	}
	want(t, l.do("GET", "/config/servers", "", bearer(token)), 200, "ctmprod")
}

func TestLoginRefusals(t *testing.T) {
	users := []User{
		{Name: "good", Password: "right"},
		{Name: "locked", Password: "right", Locked: true},
	}
	l := start(t, Options{Users: users})
	for name, test := range map[string]struct {
		body   string
		status int
		text   string
		kind   string
	}{
		"a wrong password is refused":         {`{"username":"good","password":"wrong"}`, 401, wordsRefused, KindLoginRefused},
		"an unknown user is refused alike":    {`{"username":"nobody","password":"right"}`, 401, wordsRefused, KindLoginRefused},
		"a locked user is refused alike":      {`{"username":"locked","password":"right"}`, 401, wordsRefused, KindLoginRefused},
		"a body that is no JSON is an error":  {`username=good`, 400, "failed to parse json", KindLoginFailed},
		"a missing password is an error":      {`{"username":"good"}`, 400, "required", KindLoginFailed},
		"a password of another type is one":   {`{"username":"good","password":7}`, 400, "failed to parse json", KindLoginFailed},
		"a body beyond the limit is cut off":  {`{"username":"` + strings.Repeat("x", maxLoginBody) + `"}`, 413, "too large", KindLoginFailed},
		"the right password is not a refusal": {`{"username":"good","password":"right"}`, 200, "token", KindLogin},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, l.do("POST", "/session/login", test.body), test.status, test.text)
			if got := l.events.last(); got.Kind != test.kind || got.Status != test.status {
				t.Errorf("observed %+v", got)
			}
		})
	}
	refusal := l.do("POST", "/session/login", `{"username":"good","password":"wrong"}`)
	if refusal.body != "{\n  \"errors\" : [ {\n    \"message\" : \""+wordsRefused+"\"\n  } ]\n}" {
		t.Errorf("refusal is laid out as %q", refusal.body)
	}
	if s := l.e.Stats(); s.Logins != 1 || s.RefusedLogins != 4 || s.FailedLogins != 4 || s.UserLogins["good"] != 1 {
		t.Errorf("counted %+v", s)
	}
	want(t, l.do("GET", "/session/login", ""), 405, "not supported")
}

func TestRefusedLoginsLockTheUserUntilAnAdministratorActs(t *testing.T) {
	l := start(t, Options{LockAfter: 2})
	for range 2 {
		want(t, l.do("POST", "/session/login", `{"username":"emuser","password":"x"}`), 401, wordsRefused)
	}
	want(t, l.do("POST", "/session/login", goodLogin), 401, wordsRefused)
	l.e.SetPassword("emuser", "empass")
	want(t, l.do("POST", "/session/login", goodLogin), 200, "token")
}

func TestGoodLoginsForgetRefusedOnes(t *testing.T) {
	l := start(t, Options{LockAfter: 2})
	for range 3 {
		want(t, l.do("POST", "/session/login", `{"username":"emuser","password":"x"}`), 401, wordsRefused)
		want(t, l.do("POST", "/session/login", goodLogin), 200, "token")
	}
}

func TestCredentialsOfCalls(t *testing.T) {
	l := start(t, Options{APITokens: []APIToken{{Name: "old name", Value: "api-value", User: "emuser", Roles: []string{"User"}}}})
	token := l.login()
	for name, test := range map[string]struct {
		headers []string
		status  int
		text    string
	}{
		"a session token as Bearer is accepted":        {[]string{bearer(token)}, 200, "ctmprod"},
		"the scheme may be in lower case":              {[]string{"Authorization: bearer " + token}, 200, "ctmprod"},
		"a session token as x-api-key is accepted":     {[]string{"x-api-key: " + token}, 200, "ctmprod"},
		"an API token as x-api-key is accepted":        {[]string{"x-api-key: api-value"}, 200, "ctmprod"},
		"an API token as Bearer is not":                {[]string{bearer("api-value")}, 401, wordsExpired},
		"another scheme is not":                        {[]string{"Authorization: Basic " + token}, 401, wordsExpired},
		"a misspelt Authentication header is not read": {[]string{"Authentication: Bearer " + token}, 401, wordsExpired},
		"no credential at all is refused":              {nil, 401, wordsExpired},
		"an empty key is refused":                      {[]string{"x-api-key: "}, 401, wordsExpired},
		"an unknown token is refused":                  {[]string{bearer("ABC")}, 401, wordsExpired},
		"both headers are ambiguous":                   {[]string{bearer(token), "x-api-key: " + token}, 400, "ambiguous credentials"},
		"two Authorization lines are ambiguous":        {[]string{bearer(token), bearer(token)}, 400, "ambiguous credentials"},
		"two keys are ambiguous":                       {[]string{"x-api-key: a", "x-api-key: b"}, 400, "ambiguous credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, l.do("GET", "/config/servers", "", test.headers...), test.status, test.text)
			kind := map[bool]string{true: KindCall, false: KindCallRejected}[test.status == 200]
			if got := l.events.last(); got.Kind != kind || got.Status != test.status || got.Path != "/automation-api/config/servers" {
				t.Errorf("observed %+v", got)
			}
		})
	}
	want(t, l.do("GET", "/config/servers?token="+token, ""), 401, wordsExpired)
	if s := l.e.Stats(); s.Calls != 4 || s.RejectedCalls != 10 {
		t.Errorf("counted %+v", s)
	}
}

func TestLogoutTakesTheTokenFromAnywhere(t *testing.T) {
	l := start(t, Options{})
	for name, send := range map[string]func(token string) reply{
		"Authorization": func(k string) reply { return l.do("POST", "/session/logout", "", bearer(k)) },
		"x-api-key":     func(k string) reply { return l.do("POST", "/session/logout", "", "x-api-key: "+k) },
		"form body": func(k string) reply {
			return l.do("POST", "/session/logout", "username=emuser&token="+k, "Content-Type: application/x-www-form-urlencoded")
		},
		"query": func(k string) reply { return l.do("POST", "/session/logout?token="+k, "") },
	} {
		t.Run(name, func(t *testing.T) {
			token := l.login()
			want(t, send(token), 200, `"message" : "Successfully logged out from session `+token)
			want(t, l.do("GET", "/config/servers", "", bearer(token)), 401, wordsExpired)
			want(t, send(token), 500, wordsExpired)
		})
	}
	token := l.login()
	want(t, l.do("POST", "/session/logout", "", bearer(token), "x-api-key: "+token), 400, "ambiguous")
	if s := l.e.Stats(); s.Logouts != 4 || s.LiveSessions != 1 {
		t.Errorf("counted %+v", s)
	}
}

func TestSessionsEndByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{})
		call := func(method, path, body, token string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "/automation-api"+path, strings.NewReader(body))
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			return w
		}
		login := call("POST", "/session/login", goodLogin, "")
		_, tail, _ := strings.Cut(login.Body.String(), `"token" : "`)
		token := tail[:128]
		pass(29 * time.Minute)
		if got := call("GET", "/config/servers", "", token).Code; got != http.StatusOK {
			t.Errorf("after 29 minutes: %d", got)
		}
		pass(time.Minute)
		if got := call("GET", "/config/servers", "", token).Code; got != http.StatusUnauthorized {
			t.Errorf("use must not lengthen a session, after 30 minutes: %d", got)
		}
		if s := e.Stats(); s.MaxTokenAge != 29*time.Minute || s.LiveSessions != 0 || s.RejectedCalls != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

func TestTheOldestSessionsGoWhenThereAreTooMany(t *testing.T) {
	a := newAccounts(Options{Users: []User{{Name: "u", Password: "p"}}, TokenLifetime: time.Hour})
	now := time.Now()
	oldest := a.login("u", "p", now)
	for range maxSessions {
		a.login("u", "p", now)
	}
	if _, live := a.identify(credential{value: oldest.token}, now); live || len(a.sessions) != maxSessions {
		t.Errorf("oldest is live: %v, sessions: %d", live, len(a.sessions))
	}
	for range 3 * maxSessions {
		a.logout(a.login("u", "p", now).token, now)
	}
	if len(a.order) > 2*maxSessions+1 {
		t.Errorf("logged-out sessions are kept: %d", len(a.order))
	}
}

func TestRestartDropsSessionsAndKeepsAPITokens(t *testing.T) {
	l := start(t, Options{APITokens: []APIToken{{Name: "t", Value: "api-value", User: "emuser"}}})
	token := l.login()
	l.e.Restart()
	if got := l.events.last(); got.Kind != KindRestart {
		t.Errorf("observed %+v", got)
	}
	want(t, l.do("GET", "/config/servers", "", bearer(token)), 401, wordsExpired)
	want(t, l.do("GET", "/config/servers", "", "x-api-key: api-value"), 200, "ctmprod")
}

func TestPasswordUpdate(t *testing.T) {
	l := start(t, Options{Users: []User{{Name: "emuser", Password: "empass", Roles: []string{"User"}}, {Name: "other", Password: "o"}}})
	token := l.login()
	want(t, l.do("POST", "/config/secret", `{"name":"next","value":"from-vault"}`, bearer(token)), 200, "added")
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"a wrong current password changes nothing": {`{"user":"emuser","currentPassword":"x","newPassword":"y"}`, 400},
		"an unknown secret changes nothing":        {`{"user":"emuser","currentPassword":"empass","newPassword":"Secret:nope"}`, 400},
		"another user's password is out of reach":  {`{"user":"other","currentPassword":"o","newPassword":"y"}`, 404},
		"an empty password is refused":             {`{"user":"emuser","currentPassword":"empass","newPassword":""}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, l.do("POST", "/session/user/password/update", test.body, bearer(token)), test.status, "message")
			want(t, l.do("POST", "/session/login", goodLogin), 200, "token")
		})
	}
	update := `{"user":"emuser","currentPassword":"empass","newPassword":"Secret:next"}`
	want(t, l.do("POST", "/session/user/password/update", update), 401, wordsExpired)
	want(t, l.do("POST", "/session/user/password/update", update, bearer(token)), 200, "updated")
	want(t, l.do("POST", "/session/login", goodLogin), 401, wordsRefused)
	want(t, l.do("POST", "/session/login", `{"username":"emuser","password":"from-vault"}`), 200, "token")
	want(t, l.do("POST", "/config/user/other/password/adminUpdate", `{"newPassword":"n"}`, bearer(token)), 403, "permitted")
}

func TestAnAdministratorSetsOtherUsersPasswords(t *testing.T) {
	l := start(t, Options{Users: []User{{Name: "emuser", Password: "empass", Roles: []string{roleAdmin}}, {Name: "other", Password: "o"}}})
	token := l.login()
	want(t, l.do("POST", "/config/user/other/password/adminUpdate", `{"newPassword":"n"}`, bearer(token)), 200, "updated")
	want(t, l.do("POST", "/session/login", `{"username":"other","password":"n"}`), 200, "token")
	want(t, l.do("POST", "/config/user/nobody/password/adminUpdate", `{"newPassword":"n"}`, bearer(token)), 404, "not found")
}

func TestEventsAndCountersHoldNoSecret(t *testing.T) {
	l := start(t, Options{})
	token := l.login()
	const canary = "canary-7f3a"
	l.do("POST", "/session/login", `{"username":"emuser","password":"`+canary+`"}`)
	l.do("GET", "/config/servers?token="+canary, "", bearer(token))
	l.do("GET", "/config/server/ctmprod/sshkey/deploy/"+canary, "", bearer(token))
	l.do("POST", "/config/systemsettings/server/SomePassword/"+canary, "", bearer(token))
	l.do("POST", "/session/logout?token="+token, "")
	l.events.mu.Lock()
	defer l.events.mu.Unlock()
	for _, ev := range l.events.list {
		text := ev.User + ev.Path + ev.Method
		if strings.Contains(text, canary) || strings.Contains(text, token) {
			t.Errorf("a secret shows in %+v", ev)
		}
	}
	if len(l.events.list) != 6 {
		t.Errorf("observed %d events", len(l.events.list))
	}
}
