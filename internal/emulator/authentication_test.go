package emulator

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTokensAreCreatedUsedChangedAndDeleted(t *testing.T) {
	l := start(t, Options{})
	session := bearer(l.login())
	r := l.do("POST", "/authentication/token", `{"tokenName":"ci-1","roles":["User"],"expirationDate":"2999-12-31"}`, session)
	made := r.json(t)
	value, _ := made["tokenValue"].(string)
	if r.status != 200 || value == "" || made["user"] != "emuser" || made["expirationDate"] != "2999-12-31" {
		t.Fatalf("created: %d", r.status)
	}
	key := "x-api-key: " + value
	want(t, l.do("GET", "/config/servers", "", key), 200, "ctmprod")
	got := l.do("GET", "/authentication/token/ci-1", "", key)
	want(t, got, 200, `"tokenName" : "ci-1"`)
	if strings.Contains(got.body, value) {
		t.Error("the value is shown again")
	}
	want(t, l.do("GET", "/authentication/tokens", "", session), 200, `"tokens" : [ {`)
	want(t, l.do("POST", "/authentication/tokenbyvalue", `{"tokenValue":"`+value+`","tokenType":"user"}`, session), 200, "ci-1")
	want(t, l.do("PUT", "/authentication/token", `{"tokenName":"ci-1","roles":["Admin"],"tag":"x"}`, session), 200, `"Admin"`)
	want(t, l.do("GET", "/config/servers", "", key), 200, "ctmprod")
	want(t, l.do("DELETE", "/authentication/token/ci-1", "", session), 200, "deleted")
	want(t, l.do("GET", "/config/servers", "", key), 401, wordsExpired)
	want(t, l.do("GET", "/authentication/token/ci-1", "", session), 404, "not found")
}

func TestTokenRequestsThatAreRefused(t *testing.T) {
	l := start(t, Options{
		Users:     []User{{Name: "emuser", Password: "empass", Roles: []string{"User", "Viewer"}}, {Name: "other", Password: "o"}},
		APITokens: []APIToken{{Name: "theirs", Value: "v1", User: "other"}, {Name: "old name/1", Value: "v2", User: "emuser", Roles: []string{"User"}}},
	})
	session := bearer(l.login())
	for name, test := range map[string]struct {
		method, path, body string
		status             int
	}{
		"a name is required":                          {"POST", "/authentication/token", `{"roles":["User"]}`, 400},
		"new names have few characters":               {"POST", "/authentication/token", `{"tokenName":"a b","roles":["User"]}`, 400},
		"names are unique":                            {"POST", "/authentication/token", `{"tokenName":"theirs","roles":["User"]}`, 400},
		"roles are required":                          {"POST", "/authentication/token", `{"tokenName":"a"}`, 400},
		"every role must be held":                     {"POST", "/authentication/token", `{"tokenName":"a","roles":["User","Admin"]}`, 403},
		"a date has one format":                       {"POST", "/authentication/token", `{"tokenName":"a","roles":["User"],"expirationDate":"31.12.2999"}`, 400},
		"a date must exist":                           {"POST", "/authentication/token", `{"tokenName":"a","roles":["User"],"expirationDate":"2999-02-30"}`, 400},
		"a date must not have passed":                 {"POST", "/authentication/token", `{"tokenName":"a","roles":["User"],"expirationDate":"2020-12-02"}`, 400},
		"an unknown type is refused":                  {"POST", "/authentication/token", `{"tokenName":"a","roles":["User"],"tokenType":"moon"}`, 400},
		"an unknown token cannot be changed":          {"PUT", "/authentication/token", `{"tokenName":"a","roles":["User"]}`, 404},
		"another user's token cannot be changed":      {"PUT", "/authentication/token", `{"tokenName":"theirs","roles":["User"]}`, 404},
		"the type of a token stays":                   {"PUT", "/authentication/token", `{"tokenName":"old name/1","roles":["User"],"tokenType":"agent"}`, 409},
		"another user's token cannot be read":         {"GET", "/authentication/token/theirs", "", 404},
		"another user's token cannot be deleted":      {"DELETE", "/authentication/token/theirs", "", 404},
		"an old name is one encoded segment":          {"GET", "/authentication/token/old%20name%2F1", "", 200},
		"agent tokens are asked for":                  {"GET", "/authentication/token/old%20name%2F1?forAgent=true", "", 404},
		"a type is asked for":                         {"GET", "/authentication/token/old%20name%2F1?type=user", "", 200},
		"a value needs a type":                        {"POST", "/authentication/tokenbyvalue", `{"tokenValue":"v2"}`, 400},
		"another user's value is unknown":             {"POST", "/authentication/tokenbyvalue", `{"tokenValue":"v1","tokenType":"user"}`, 404},
		"another method is not supported":             {"PATCH", "/authentication/token", `{}`, 405},
		"another method on the list is not supported": {"POST", "/authentication/tokens", `{}`, 405},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, l.do(test.method, test.path, test.body, session), test.status, "")
		})
	}
	// A token grants no more than its own roles, whoever made it.
	want(t, l.do("POST", "/authentication/token", `{"tokenName":"more","roles":["Viewer"]}`, "x-api-key: v2"), 403, "roles")
	want(t, l.do("POST", "/authentication/token", `{"tokenName":"same","roles":["User"]}`, "x-api-key: v2"), 200, "tokenValue")
}

func TestTokensWorkUntilTheirDayEndsInUTC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC of 2000-01-01
		e := New(Options{TokenLifetime: 240 * time.Hour})
		call := func(method, path, body, header, value string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, "/automation-api"+path, strings.NewReader(body))
			r.Header.Set(header, value)
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			return w
		}
		cut := func(w *httptest.ResponseRecorder, name string) string {
			_, tail, _ := strings.Cut(w.Body.String(), `"`+name+`" : "`)
			value, _, _ := strings.Cut(tail, `"`)
			return value
		}
		session := "Bearer " + cut(call("POST", "/session/login", goodLogin, "Accept", "*/*"), "token")
		body := `{"tokenName":"two-days","roles":["User"],"expirationDate":"2000-01-02"}`
		key := cut(call("POST", "/authentication/token", body, "Authorization", session), "tokenValue")
		pass(48*time.Hour - time.Second)
		if got := call("GET", "/config/servers", "", "X-Api-Key", key).Code; got != 200 {
			t.Errorf("at the end of its last day: %d", got)
		}
		pass(time.Second)
		if got := call("GET", "/config/servers", "", "X-Api-Key", key).Code; got != 401 {
			t.Errorf("on the day after: %d", got)
		}
		if got := call("PUT", "/authentication/token", strings.Replace(body, "-02", "-03", 1), "Authorization", session).Code; got != 200 {
			t.Errorf("putting the end off: %d", got)
		}
		if got := call("GET", "/config/servers", "", "X-Api-Key", key).Code; got != 200 {
			t.Errorf("after putting the end off: %d", got)
		}
	})
}

func TestTokensCannotBeMadeWithoutEnd(t *testing.T) {
	a := newAccounts(Options{})
	for range maxAPITokens {
		v := newAPITokenValue()
		a.addToken(&apiToken{Name: v, value: v})
	}
	l := start(t, Options{})
	session := bearer(l.login())
	l.e.accounts.mu.Lock()
	l.e.accounts.tokens = a.tokens
	l.e.accounts.mu.Unlock()
	want(t, l.do("POST", "/authentication/token", `{"tokenName":"a","roles":["User"]}`, session), 400, "too many")
}
