package caddymodule_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// knownOperations are the paths of the one table of operations, with something in
// the place of each parameter that the emulator may know.
func knownOperations(t testing.TB) (paths []string) {
	t.Helper()
	source, err := os.ReadFile("../internal/apipath/operations.go")
	if err != nil {
		t.Fatal(err)
	}
	parameters := strings.NewReplacer("{server}", "ctmprod", "{agent}", "billing-app1", "{user}", "emuser", "{token}", "reports", "{host}", "billing-app1",
		"{hostgroup}", "billing_hosts", "{name}", "reports", "{role}", "Admin")
	other := regexp.MustCompile(`\{[^}]*\}`)
	for _, found := range regexp.MustCompile(`(?m)^\t\{"(/[^"]*)", does`).FindAllSubmatch(source, -1) {
		paths = append(paths, other.ReplaceAllString(parameters.Replace(string(found[1])), "one"))
	}
	if len(paths) < 250 || !slices.Contains(paths, "/authentication/token") || !slices.Contains(paths, "/session/logout") {
		t.Fatalf("only %d operations were found", len(paths))
	}
	return append(paths, "", "/", "/emulator/echo", "/emulator/answer", "/emulator/hints", "/emulator/download?size=10", "/authentication", "/session", "/session/anything",
		"/authentication/tokens/", "/Authentication/token", "/session/user/password", "/config/authorization", "/moon")
}

// everyMethod are those of HTTP, and some that are none.
var everyMethod = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY", "get", "Post"}

// credentialBodies are what would make a credential at an open operation.
var credentialBodies = map[string]string{
	"POST": `{"tokenName": "walked-out", "expirationDate": "2030-01-01", "roles": ["Admin"], "user": "emuser", "currentPassword": "` + canaryPassword + `",
		"newPassword": "walked-out", "username": "nightly", "password": "` + nightlyKey + `", "token": "x", "tokenValue": "` + canaryToken + `", "name": "a", "value": "b"}`,
	"PUT": `{"tokenName": "reports", "expirationDate": "2031-01-01", "roles": ["Admin"]}`,
}

// vault is an upstream that notes which tokens calls came with, and puts them
// where a real one may: into cookies, and into URLs of its own.
type vault struct {
	*emulator.Emulator
	url   string
	mu    sync.Mutex
	seen  map[string]bool
	calls int
}

func startVault(t testing.TB) *vault {
	t.Helper()
	v := &vault{seen: map[string]bool{}, Emulator: emulator.New(emulator.Options{
		Users:     twoUsers,
		APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"Admin"}}},
	})}
	v.url = newLocalServer(t, v.serve) + "/automation-api"
	return v
}

func (v *vault) serve(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.Header.Get("X-Api-Key")
	if r.Header.Get("User-Agent") == "ctmgate" || token == "" {
		v.ServeHTTP(w, r)
		return
	}
	v.mu.Lock()
	v.seen[token] = true
	v.calls++
	v.mu.Unlock()
	w.Header().Set("Set-Cookie", "JSESSIONID="+token)
	w.Header().Set("Location", v.url+"/run/status/1?token="+token+"&a=b")
	v.ServeHTTP(w, r)
}

// secrets are all that opens this Control-M.
func (v *vault) secrets() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := []string{canaryPassword, canaryToken, url.QueryEscape(canaryPassword), "tokenValue", "JSESSIONID"}
	for token := range v.seen {
		all = append(all, token, strings.ToLower(token))
	}
	return all
}

// TestAClientThatMayCallAllCannotWalkOutWithACredential tries each operation of the API
// with each method.
func TestAClientThatMayCallAllCannotWalkOutWithACredential(t *testing.T) {
	for _, account := range []struct {
		name, words string
		methods     []string
	}{
		{"with a session", "", everyMethod}, {"with an API token", "api_token {file." + secretFile(t, canaryToken) + "}", everyMethod[:3]},
	} {
		t.Run(account.name, func(t *testing.T) {
			up := startVault(t)
			app := accessEnvironment(t, up.url) + accessClient("nightly", nightlyKey, "allow * /*")
			if account.words != "" {
				app = "environment prod {\nendpoint " + up.url + "\naccount batch {\n" + account.words + "\n}\n}\n" + accessClient("nightly", nightlyKey, "allow * /*")
			}
			g := startGateway(t, quietFile(app, "controlm prod"))
			client := clientHTTP(t, nil)
			var answers strings.Builder
			count := 0
			for _, path := range knownOperations(t) {
				for _, method := range account.methods {
					req, err := http.NewRequestWithContext(t.Context(), method, g.url(base+path), strings.NewReader(credentialBodies[method]))
					if err != nil {
						t.Fatal(err)
					}
					asBearer(nightlyKey)(req)
					req.Header.Set("Content-Type", "application/json")
					res, err := client.Do(req)
					if err != nil {
						t.Fatalf("%s %s: %v", method, path, err)
					}
					content, err := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err != nil {
						t.Fatalf("%s %s: %v", method, path, err)
					}
					count++
					fmt.Fprintf(&answers, "%s %s\n%d %v %v\n%s\n", method, path, res.StatusCode, res.Header, res.Trailer, content)
				}
			}
			up.mu.Lock()
			forwarded := up.calls
			up.mu.Unlock()
			if forwarded < count/4 || forwarded == count {
				t.Errorf("%d of %d calls reached upstream", forwarded, count)
			}
			secrets := up.secrets()
			if len(secrets) < 6 {
				t.Fatal("no token was seen")
			}
			for _, secret := range secrets {
				if i := strings.Index(answers.String(), secret); i >= 0 {
					text := answers.String()
					t.Errorf("an answer holds %.12s…: %s", secret, text[max(0, i-400):min(len(text), i+100)])
				}
			}
			up.wantUnchanged(t)
		})
	}
}

// wantUnchanged looks, as a user of this Control-M, for what was made there.
func (v *vault) wantUnchanged(t testing.TB) {
	t.Helper()
	ask := func(method, path, token, body string) (content string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, v.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "ctmgate") // as one that is not looked at
		if token != "" {
			asBearer(token)(req)
		}
		res, err := clientHTTP(t, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		all, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s %s got %d %s (%v)", method, path, res.StatusCode, all, err)
		}
		return string(all)
	}
	var in struct{ Token string }
	if err := json.Unmarshal([]byte(ask("POST", "/session/login", "", `{"username": "emuser", "password": "`+canaryPassword+`"}`)), &in); err != nil {
		t.Fatal(err) // the password was changed
	}
	if tokens := ask("GET", "/authentication/tokens", in.Token, ""); strings.Contains(tokens, "walked-out") || !strings.Contains(tokens, "reports") || strings.Contains(tokens, "2031") {
		t.Errorf("the API tokens are %s", tokens)
	}
	if s := v.Stats(); s.Logouts != 0 || s.RefusedLogins != 0 {
		t.Errorf("upstream saw %+v", s)
	}
}
