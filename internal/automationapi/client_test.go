package automationapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/secret"
)

const goodAnswer = `{
  "username" : "gateway",
  "token" : "` + token + `",
  "version" : "9.22.30"
}`

func TestLogInSendsWhatTheAPIExpects(t *testing.T) {
	for _, slash := range []string{"", "/"} {
		s, _ := serveTLS(t, say(200, goodAnswer))
		c := New(s.Client().Transport, s.URL+"/automation-api"+slash)
		login, err := logIn(t, c)
		if err != nil || login.Token.Reveal() != token || login.Version != "9.22.30" {
			t.Fatalf("got version %q, error %v", login.Version, err)
		}
		seen := s.requests()
		if len(seen) != 1 {
			t.Fatalf("%d requests, want 1", len(seen))
		}
		r := seen[0]
		if r.method != http.MethodPost || r.uri != "/automation-api/session/login" {
			t.Errorf("got %s %s", r.method, r.uri)
		}
		var members map[string]any
		if err := json.Unmarshal([]byte(r.body), &members); err != nil || len(members) != 2 ||
			members["username"] != user || members["password"] != password {
			t.Errorf("the body has %v, error %v", slices.Sorted(maps.Keys(members)), err)
		}
		want := map[string]string{"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "ctmgate"}
		for name, value := range want {
			if got := r.header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
		}
		for name := range r.header {
			if _, known := want[name]; !known && name != "Content-Length" && name != "Accept-Encoding" {
				t.Errorf("an unexpected header %s", name)
			}
		}
	}
}

func TestLogInSendsEveryPasswordAsItIs(t *testing.T) {
	for _, text := range []string{`p{ss}w0rd`, `"quoted\"`, "<&>", "ümläut", "tab\tand\nline", "日本語", "\u2028"} {
		s, c := serveTLS(t, say(200, goodAnswer))
		if _, err := c.LogIn(t.Context(), "user "+text, secret.New(text)); err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got struct{ Username, Password string }
		if err := json.Unmarshal([]byte(s.requests()[0].body), &got); err != nil || got.Password != text || got.Username != "user "+text {
			t.Errorf("%q arrived as %q", text, got.Password)
		}
	}
}

// A password that JSON cannot carry would arrive as another one, and be
// refused: an attempt that counts towards the lock of the user.
func TestAPasswordThatJSONCannotCarryIsNotSent(t *testing.T) {
	s, c := serveTLS(t, say(200, goodAnswer))
	for _, row := range [][2]string{{user, password + "\xe4"}, {"b\xfcrger", password}} {
		_, err := c.LogIn(t.Context(), row[0], secret.New(row[1]))
		wantError(t, err, Failed, "UTF-8")
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestNoCookieIsKept(t *testing.T) {
	s, c := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: "1"})
		say(200, goodAnswer)(w, r)
	})
	for range 2 {
		if _, err := logIn(t, c); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range s.requests() {
		if r.header.Get("Cookie") != "" {
			t.Error("a cookie was sent back")
		}
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	const words = `{"errors":[{"message":"Failed to login: Incorrect username or password"}]}`
	const other = `{"errors":[{"message":"` + bodyCanary + `","id":"x"}]}`
	for name, row := range map[string]struct {
		status int
		body   string
		kind   Kind
		words  string
	}{
		"401 with the words":               {401, words, Refused, "refused the username or password with status 401"},
		"401 with other words":             {401, other, Refused, "status 401"},
		"401 with nothing":                 {401, "", Refused, "status 401"},
		"401 with a page":                  {401, "<html>" + bodyCanary, Refused, "status 401"},
		"401 with a page past 1 MiB":       {401, strings.Repeat(bodyCanary, 100_000), Refused, "status 401"},
		"403":                              {403, other, Refused, "status 403"},
		"500 with the words":               {500, words, Refused, "refused the username or password with status 500"},
		"500 with the words in the second": {500, `{"errors":[{"message":"a"},{"message":"INCORRECT USERNAME OR PASSWORD"}]}`, Refused, "status 500"},
		"400 with the words":               {400, words, Refused, "status 400"},
		"200 with the words and no token":  {200, words, Refused, "status 200"},
		"500":                              {500, other, Failed, "answered with status 500"},
		"500 with a locked user":           {500, `{"errors":[{"message":"User is LOCKED"}]}`, Refused, "status 500"},
		"500 with something else locked":   {500, `{"errors":[{"message":"The table is locked"}]}`, Failed, "status 500"},
		"500 with the words in a page":     {500, "<p>Incorrect username or password " + bodyCanary, Failed, "status 500"},
		"404":                              {404, other, Failed, "status 404"},
		"429":                              {429, other, Failed, "status 429"},
		"503":                              {503, bodyCanary, Failed, "status 503"},
		"201 with a token":                 {201, goodAnswer, Failed, "status 201"},
		"500 past 1 MiB":                   {500, strings.Repeat(bodyCanary, 100_000), Failed, "larger than 1 MiB"},
		"200 with 2 MiB":                   {200, `{"token":"` + strings.Repeat("a", 2<<20) + `"}`, Failed, "larger than 1 MiB"},
		"200 with nothing":                 {200, "", Failed, "not the JSON of an Automation API"},
		"200 with a page":                  {200, "<html>" + bodyCanary + "</html>", Failed, "/automation-api?"},
		"200 with half an answer":          {200, goodAnswer[:40], Failed, "not the JSON"},
		"200 with two answers":             {200, goodAnswer + goodAnswer, Failed, "not the JSON"},
		"200 with a list":                  {200, "[" + goodAnswer + "]", Failed, "not the JSON"},
		"200 with a string":                {200, `"` + bodyCanary + `"`, Failed, "not the JSON"},
		"200 with null":                    {200, "null", Failed, "no token"},
		"200 that echoes the password":     {200, `{"token":{"` + password + `":1}}`, Failed, "not the JSON"},
		"no token":                         {200, `{"username":"gateway","version":"9.22.30"}`, Failed, "no token"},
		"an empty token":                   {200, `{"token":""}`, Failed, "no token"},
		"a token that is null":             {200, `{"token":null}`, Failed, "no token"},
		"a token that is a number":         {200, `{"token":123}`, Failed, "not the JSON"},
		"a token with a line break":        {200, `{"token":"` + token + `\r\nX-Evil: 1"}`, Failed, "could not stand in a header"},
		"a token with a blank":             {200, `{"token":"` + token + ` x"}`, Failed, "could not stand in a header"},
		"a token with NUL":                 {200, `{"token":"` + token + `\u0000"}`, Failed, "could not stand in a header"},
		"a token with DEL":                 {200, `{"token":"` + token + `\u007f"}`, Failed, "could not stand in a header"},
		"a token beyond ASCII":             {200, `{"token":"` + token + `ä"}`, Failed, "could not stand in a header"},
		"a token of 16 KiB and one":        {200, `{"token":"` + strings.Repeat("a", maxToken+1) + `"}`, Failed, "could not stand in a header"},
		"a version with a line break":      {200, `{"token":"` + token + `","version":"9\r\n"}`, Failed, "not a version"},
		"a version of 65 characters":       {200, `{"token":"` + token + `","version":"` + strings.Repeat("9", 65) + `"}`, Failed, "not a version"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := serveTLS(t, say(row.status, row.body))
			login, err := logIn(t, c)
			e := wantError(t, err, row.kind, row.words)
			if e.Op != "logging in" || e.Status != row.status {
				t.Errorf("op %q, status %d, want status %d", e.Op, e.Status, row.status)
			}
			if !login.Token.Empty() {
				t.Error("a failed login gave a token")
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests, want one attempt", n)
			}
		})
	}
}

func TestWhatALoginMayLookLike(t *testing.T) {
	for body, version := range map[string]string{
		`{"token":"` + token + `"}`:                             "",
		`{"token":"` + token + `","version":null}`:              "",
		`{"token":"` + token + `","version":""}`:                "",
		`{"token":"` + token + `","new":{"member":[1]}}`:        "",
		`{"version":"9.0.21","token":"` + token + `"}`:          "9.0.21",
		"\n " + goodAnswer + "\r\n":                             "9.22.30",
		`{"token":"` + token + `","version":"9.21.220-beta+1"}`: "9.21.220-beta+1",
	} {
		_, c := serveTLS(t, say(200, body))
		login, err := logIn(t, c)
		if err != nil || login.Token.Reveal() != token || login.Version != version {
			t.Errorf("%s: version %q, error %v", strings.ReplaceAll(body, token, "…"), login.Version, err)
		}
	}
}

func TestARefusalWhoseBodyBreaksOffIsARefusal(t *testing.T) {
	_, err := logIn(t, recite(t, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\n{"+password))
	wantError(t, err, Refused, "status 401")
}

func TestNoRedirectIsFollowed(t *testing.T) {
	target := serve(t, say(200, goodAnswer))
	target.Start()
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, call := range []string{"login", "logout"} {
			s, c := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", target.URL+"/"+bodyCanary)
				w.WriteHeader(status)
			})
			var err error
			words := "redirect"
			if call == "login" {
				_, err = logIn(t, c)
			} else {
				err = c.LogOut(t.Context(), secret.New(token))
				words = "status 3"
			}
			wantError(t, err, Failed, words)
			if n := len(s.requests()); n != 1 {
				t.Errorf("%s, %d: %d requests, want 1", call, status, n)
			}
		}
	}
	if n := len(target.requests()); n != 0 {
		t.Errorf("%d requests reached the target of a redirect", n)
	}
}

func TestLogOutSendsTheTokenInItsHeaderAlone(t *testing.T) {
	s, c := serveTLS(t, say(200, `{"message":"Successfully logged out from session `+token+`"}`))
	if err := c.LogOut(t.Context(), secret.New(token)); err != nil {
		t.Fatal(err)
	}
	r := s.requests()[0]
	if r.method != http.MethodPost || r.uri != "/automation-api/session/logout" || r.body != "" || r.length != 0 {
		t.Errorf("got %s %s with a body of %d", r.method, r.uri, r.length)
	}
	if got := r.header.Values("Authorization"); len(got) != 1 || got[0] != "Bearer "+token {
		t.Errorf("%d values of Authorization, or not the token", len(got))
	}
	if r.header.Get("Content-Type") != "" {
		t.Error("a content type for no content")
	}
}

func TestALogOutThatFailsSaysSo(t *testing.T) {
	for _, status := range []int{204, 400, 401, 403, 500, 503} {
		_, c := serveTLS(t, say(status, ""))
		if status != 204 {
			_, c = serveTLS(t, say(status, token+bodyCanary))
		}
		err := c.LogOut(t.Context(), secret.New(token))
		if status == 204 {
			if err != nil {
				t.Errorf("204: %v", err)
			}
			continue
		}
		if e := wantError(t, err, Failed, fmt.Sprintf("status %d", status)); e.Op != "logging out" || e.Status != status {
			t.Errorf("op %q, status %d", e.Op, e.Status)
		}
	}
}

func TestKindOfFindsTheKindInAChain(t *testing.T) {
	for _, kind := range []Kind{Refused, Failed, TimedOut, Unreachable} {
		if got := KindOf(fmt.Errorf("checking: %w", &Error{Kind: kind})); got != kind {
			t.Errorf("got %v, want %v", got, kind)
		}
		if kind.String() == "unknown" {
			t.Errorf("kind %d has no name", kind)
		}
	}
	if KindOf(nil) != 0 || KindOf(errors.New("other")) != 0 || KindOf(context.Canceled) != 0 || Kind(0).String() != "unknown" {
		t.Error("other errors have a kind")
	}
}

func FuzzParseLogin(f *testing.F) {
	for _, seed := range []string{
		goodAnswer, "", "{}", "null", `{"token":""}`, `{"token":"a b"}`, `{"token":"a\u0000"}`, `{"token":1}`, `{"TOKEN":"x"}`,
		`{"token":"x","version":"9.0.21"}`, `{"token":"x","version":" "}`, `{"token":"x","token":"y\r\n"}`, `{"token":"\ud800"}`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		login, err := parseLogin(answer)
		if err != nil {
			if KindOf(err) != Failed || !login.Token.Empty() || login.Version != "" {
				t.Errorf("kind %v, with a login beside the error", KindOf(err))
			}
			if len(err.Error()) > 150 {
				t.Errorf("an error of %d characters", len(err.Error()))
			}
			return
		}
		text := login.Token.Reveal()
		if text == "" || len(text) > maxToken || len(login.Version) > maxVersion {
			t.Errorf("a token of %d and a version of %d characters", len(text), len(login.Version))
		}
		for _, s := range []string{text, login.Version} {
			for _, b := range []byte(s) {
				if b < '!' || b > '~' {
					t.Fatalf("%q could not stand in a header", s)
				}
			}
		}
	})
}
