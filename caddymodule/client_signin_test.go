package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

const (
	clientLogin  = "/automation-api/session/login"
	clientLogout = "/automation-api/session/logout"
)

// signIn logs in at the gateway and returns the answer and its token.
func (g *gateway) signIn(body string, edit func(*http.Request)) (got reply, token string) {
	g.t.Helper()
	got = g.do(http.MethodPost, clientLogin, strings.NewReader(body), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		if edit != nil {
			edit(r)
		}
	})
	var result struct{ Token string }
	if got.status == 200 {
		got.decode(g.t, &result)
	}
	return got, result.Token
}

const someLogin = `{"username": "whoever", "password": "` + canaryKey + `"}`

// bearer shows token as clients do.
func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func TestClientLoginIsLaidOutAsShellParsersWantIt(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{Version: "9.20.110"})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	got, token := g.signIn(someLogin, nil)
	layout := regexp.MustCompile(`^\{\n  "username" : "whoever",\n  "token" : "ctmgt_[0-9A-Za-z_-]+",\n  "version" : "9\.20\.110"\n\}\n$`)
	if got.status != 200 || !layout.MatchString(got.body) {
		t.Fatalf("got %d\n%s", got.status, got.body)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store, no-transform"} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q", name, got.header.Get(name))
		}
	}
	for _, row := range []struct {
		name  string
		parse func(string) string
		want  string
	}{
		{"bash, as the vendor's quick start does it", cutTokenOut, token},
		{"expr, as the vendor's community samples do it", func(s string) string {
			return regexp.MustCompile(`(?s)^.*"token" : "([^"]*)"`).FindStringSubmatch(s)[1]
		}, token},
		{"awk at quotes", func(s string) string { return strings.Split(s, `"`)[7] }, token},
		{"a JSON parser", func(s string) string {
			var result map[string]string
			if err := json.Unmarshal([]byte(s), &result); err != nil {
				t.Fatal(err)
			}
			return result["token"]
		}, token},
		// As printed in the vendor's 9.0.21 page: it strips the very blanks that
		// it then looks for, and no layout can help it.
		{"bash after stripping blanks", func(s string) string {
			return cutTokenOut(strings.NewReplacer("\t", "", "\r", "", "\n", "", " ", "").Replace(s))
		}, "{"},
	} {
		t.Run(row.name, func(t *testing.T) {
			found := row.parse(got.body)
			if found != row.want {
				t.Errorf("found the token %q, want %q", found, row.want)
			}
			// Whatever was found: here, what is shown is not looked at.
			if call := g.do(http.MethodGet, "/automation-api/config/servers", nil, bearer(found)); call.status != 200 {
				t.Errorf("the call got %d %s", call.status, call.body)
			}
		})
	}
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}

// cutTokenOut does what `${login##*token\" : \"}` and `cut -d '"' -f 1` do.
func cutTokenOut(login string) string {
	const mark = `token" : "`
	if i := strings.LastIndex(login, mark); i >= 0 {
		login = login[i+len(mark):]
	}
	token, _, _ := strings.Cut(login, `"`)
	return token
}

func TestClientLoginSaysTheUsernameAsSent(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for name, username := range map[string]string{
		"of a user that is another than the account's": "nightly@example.com",
		"empty":                      "",
		"with a domain":              `DOMAIN\user`,
		"with quotes":                `a "user"`,
		"that looks like an answer":  `x", "token" : "y`,
		"with HTML":                  `<b>&'</b>`,
		"with umlauts":               "Jürgen Müller",
		"of four-byte characters":    "👷🏽 builder",
		"with control characters":    "tab\tline\r\nnul\x00",
		"with a line separator":      "a\u2028b",
		"with a placeholder":         "{env.HOME} {http.request.host} %s",
		"of ten thousand characters": strings.Repeat("u", 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(map[string]string{"username": username, "password": canaryKey})
			if err != nil {
				t.Fatal(err)
			}
			got, token := g.signIn(string(body), nil)
			var result map[string]string
			got.decode(t, &result)
			if len(result) != 3 || result["username"] != username {
				t.Errorf("sent %q, got %s", username, got.body)
			}
			if cutTokenOut(got.body) != token {
				t.Errorf("a shell finds the token %q in %s", cutTokenOut(got.body), got.body)
			}
			if username == `<b>&'</b>` && !strings.Contains(got.body, username) {
				t.Errorf("the real server leaves these characters alone: %s", got.body)
			}
		})
	}
}

func TestClientLoginTakesWhateverIsShown(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for name, body := range map[string]string{
		"with the vendor's members":      someLogin,
		"with the account's own name":    `{"username":"emuser","password":"wrong"}`,
		"without a password":             `{"username":"whoever"}`,
		"with further members":           `{"username":"whoever","password":"x","other":[1,2,{"a":null}]}`,
		"with a username that is none":   `{"username":5}`,
		"without a body":                 "",
		"with a body that is no object":  `["whoever"]`,
		"with a body that is no JSON":    "username=whoever&password=" + canaryKey,
		"with a body that ends too soon": `{"username":"whoever","password":"` + canaryKey,
	} {
		t.Run(name, func(t *testing.T) {
			if got, token := g.signIn(body, nil); got.status != 200 || token == "" {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	for name, edit := range map[string]func(*http.Request){
		"with an old token beside it":  bearer("ctmgt_AAAA"),
		"with two old tokens":          func(r *http.Request) { bearer("a")(r); r.Header.Set("X-Api-Key", canaryKey) },
		"with Basic credentials":       func(r *http.Request) { r.SetBasicAuth("client", canaryKey) },
		"with a cookie":                func(r *http.Request) { r.Header.Set("Cookie", "JSESSIONID="+canaryKey) },
		"with an unknown content type": func(r *http.Request) { r.Header.Set("Content-Type", "text/json; charset=none") },
		"without a content type":       func(r *http.Request) { r.Header.Del("Content-Type") },
		"with a slash at the end":      func(r *http.Request) { r.URL.Path += "/" },
		"with a query":                 func(r *http.Request) { r.URL.RawQuery = "a=b&token=" + canaryKey },
		"in chunks": func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(unsized{strings.NewReader(someLogin)}), -1
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, token := g.signIn(someLogin, edit); got.status != 200 || token == "" {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	t.Run("upstream sees one login, the gateway's own", func(t *testing.T) {
		logins := up.logins()
		if len(logins) != 1 || strings.Contains(logins[0], "whoever") || len(up.calls()) != 0 {
			t.Errorf("it saw the logins %q and %d calls", logins, len(up.calls()))
		}
	})
	t.Run("nobody's name is in the log", func(t *testing.T) {
		if strings.Contains(g.logText(), "whoever") {
			t.Error("the log shows the username of a login")
		}
	})
	t.Run("but no body beyond 64 KiB", func(t *testing.T) {
		got, _ := g.signIn(`{"username":"`+strings.Repeat("u", 64<<10)+`"}`, nil)
		got.wantOwn(t, 413, "ctmgate.body_too_large")
	})
	t.Run("and by POST alone", func(t *testing.T) {
		for _, path := range []string{clientLogin, clientLogout} {
			for _, method := range []string{"GET", "PUT", "DELETE", "OPTIONS", "HEAD"} {
				got := g.do(method, path, nil, nil)
				if got.status != 405 || got.header.Get("Allow") != "POST" {
					t.Errorf("%s %s got %d, Allow %q", method, path, got.status, got.header.Get("Allow"))
				}
			}
		}
		g.get(clientLogin).wantOwn(t, 405, "ctmgate.method_not_allowed")
	})
}

func TestClientLogoutEndsNothingUpstream(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for name, way := range map[string]struct {
		query, body string
		edit        func(*http.Request, string)
	}{
		"in Authorization": {edit: func(r *http.Request, token string) { bearer(token)(r) }},
		"in x-api-key":     {edit: func(r *http.Request, token string) { r.Header.Set("X-Api-Key", token) }},
		"in a form body without a header": {body: "token={TOKEN}&username=whoever", edit: func(r *http.Request, _ string) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}},
		"in the query without a header": {query: "?token={TOKEN}"},
		"in a body that is too long":    {body: strings.Repeat("token={TOKEN}&", 20_000)},
		"nowhere":                       {},
	} {
		t.Run(name, func(t *testing.T) {
			_, token := g.signIn(someLogin, nil)
			for range 2 { // the second time it has ended already
				var body io.Reader
				if way.body != "" {
					body = strings.NewReader(strings.ReplaceAll(way.body, "{TOKEN}", token))
				}
				got := g.do(http.MethodPost, clientLogout+strings.ReplaceAll(way.query, "{TOKEN}", token), body, func(r *http.Request) {
					if way.edit != nil {
						way.edit(r, token)
					}
				})
				if got.status != 200 || got.body != "{\n  \"message\" : \"Successfully logged out from session\"\n}\n" {
					t.Errorf("got %d %s", got.status, got.body)
				}
				if got.header.Get("Cache-Control") != "no-store, no-transform" || got.header.Get("Content-Type") != "application/json" {
					t.Errorf("got the header %v", got.header)
				}
			}
			if got := g.do(http.MethodGet, "/automation-api/config/servers", nil, bearer(token)); got.status != 200 {
				t.Errorf("a call after it got %d %s", got.status, got.body)
			}
			if strings.Contains(g.logText(), token) {
				t.Error("the log shows the gateway token")
			}
		})
	}
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 || s.LiveSessions != 1 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}

func TestClientTokensAreWorthNothingUpstream(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	_, token := g.signIn(someLogin, nil)
	direct := clientView{t, up.url, clientHTTP(t, nil)}
	for _, name := range []string{"Authorization", "X-Api-Key"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, up.url+"/config/servers", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(name, strings.TrimPrefix("Bearer "+token, map[string]string{"X-Api-Key": "Bearer "}[name]))
		res, err := direct.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 401 {
			t.Errorf("upstream itself answers %d to a gateway token in %s", res.StatusCode, name)
		}
	}
}

func TestClientLoginShowsTroubleUpstream(t *testing.T) {
	for _, row := range []struct {
		name, password, words string
		faults                []string
		status                int
		code                  string
		then                  string // the code of a second login right after
	}{
		{"a wrong password", "wrong", "", nil, 502, "ctmgate.login_refused", "ctmgate.login_refused"},
		{"an internal error", canaryPassword, "", []string{"login=500"}, 502, "ctmgate.login_failed", "ctmgate.login_paused"},
		{"a balancer without servers", canaryPassword, "", []string{"login=503"}, 502, "ctmgate.login_failed", "ctmgate.login_paused"},
		{"an answer that is none", canaryPassword, "", []string{"login=garbage"}, 502, "ctmgate.login_failed", "ctmgate.login_paused"},
		{"an error that repeats the password", canaryPassword, "", []string{"login=echo"}, 502, "ctmgate.login_failed", "ctmgate.login_paused"},
		{"no answer in time", canaryPassword, "login_timeout 200ms", []string{"login=hang"}, 504, "ctmgate.login_timeout", "ctmgate.login_paused"},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{})
			for _, text := range row.faults {
				fault, err := emulator.ParseFault(text)
				if err != nil {
					t.Fatal(err)
				}
				up.SetFaults(fault)
			}
			t.Cleanup(func() { up.SetFaults() })
			g := startGateway(t, up.sidecar("{file."+secretFile(t, row.password)+"}", row.words))
			got, _ := g.signIn(someLogin, nil)
			got.wantOwn(t, row.status, row.code)
			again, _ := g.signIn(someLogin, nil)
			if again.code() != row.then {
				t.Errorf("a second login got %d %s", again.status, again.body)
			}
			if row.then == "ctmgate.login_paused" && again.header.Get("Retry-After") == "" {
				t.Error("there is no Retry-After")
			}
			if s := up.Stats(); s.RefusedLogins+s.FailedLogins != 1 {
				t.Errorf("upstream saw %+v", s)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		up := startUpstream(t, emulator.Options{})
		g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
		_ = up.Close()
		got, _ := g.signIn(someLogin, nil)
		got.wantOwn(t, 502, "ctmgate.upstream_unreachable")
		if got := g.do(http.MethodPost, clientLogout, nil, nil); got.status != 200 {
			t.Errorf("a logout got %d %s", got.status, got.body)
		}
	})
}

func TestClientLoginOfAnAPITokenAccountTellsADefaultVersion(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{
		APITokens: []emulator.APIToken{{Name: "nightly", Value: canaryToken, User: "emuser", Roles: []string{"Admin"}}},
	})
	g := startGateway(t, wireSite(up.url, "api_token {file."+secretFile(t, canaryToken)+"}"))
	got, token := g.signIn(someLogin, nil)
	if got.status != 200 || !strings.Contains(got.body, "\n  \"version\" : \"9.21.0\"\n") || cutTokenOut(got.body) != token {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := g.do(http.MethodGet, "/automation-api/config/servers", nil, bearer(token)); got.status != 200 {
		t.Errorf("the call got %d %s", got.status, got.body)
	}
	calls := up.calls()
	if len(up.logins()) != 0 || len(calls) != 1 || calls[0].header["X-Api-Key"][0] != canaryToken || calls[0].header["Authorization"] != nil {
		t.Errorf("upstream got %d logins and %d calls", len(up.logins()), len(calls))
	}
}

func TestClientTenThousandLoginsLeaveTheHeapWhereItWas(t *testing.T) {
	up := startClientUpstream(t, emulator.Options{})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	v := clientView{t, g.url("/automation-api"), clientHTTP(t, &http.Transport{MaxIdleConnsPerHost: 4})}
	t.Cleanup(v.http.CloseIdleConnections)
	logins := func(n int) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range n / 4 {
					res, err := v.http.Post(g.url(clientLogin), "application/json", strings.NewReader(someLogin))
					if err != nil {
						t.Error(err)
						return
					}
					body, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil || res.StatusCode != 200 || !bytes.Contains(body, []byte("ctmgt_")) {
						t.Errorf("got %d %s (%v)", res.StatusCode, body, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	heap := func() uint64 {
		for range 3 { // what pools hold goes with the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	logins(400) // connections, pools and the session
	before := heap()
	logins(10_000)
	// Were each token stored, its text alone would take a megabyte.
	if after := heap(); after > before+512<<10 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if s := up.Stats(); s.Logins != 1 {
		t.Errorf("upstream saw %+v", s)
	}
}
