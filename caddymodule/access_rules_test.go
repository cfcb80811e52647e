package caddymodule_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

const base = "/automation-api"

// startRules runs a gateway whose clients have these lines each, and a key
// made of their names.
func startRules(t testing.TB, up *upstream, clients map[string]string) *gateway {
	t.Helper()
	app := accessEnvironment(t, up.URL(), up.trusted())
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		app += accessClient(name, canaryKey+"-"+name, clients[name])
	}
	g := startGateway(t, accessFile(app, "controlm prod"))
	wantReply(t, g.get(base+"/config/servers"), 401, "ctmgate.client_unauthenticated")
	return g
}

// callAs calls as the client of this name, byte for byte as it stands.
func (g *gateway) callAs(client, method, target string) reply {
	g.t.Helper()
	return g.rawCall(method, target, "X-Api-Key: "+canaryKey+"-"+client, "Content-Length: 0")
}

func TestRulesAndSetsDecideWhatAClientMayCall(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startRules(t, up, map[string]string{
		"reader":   "allow read_only",
		"watcher":  "allow monitor",
		"orderer":  "allow order",
		"operator": "allow operate",
		"deployer": "allow deploy",
		"all":      "allow * /*",
		"both":     "allow read_only\nallow POST /run/event/*",
		"narrow":   "allow GET,POST /config/servers /run/job/*/output\nallow POST /emulator/*",
		"slash":    "allow GET /run/event%2Fone",
	})
	const no, yes = "ctmgate.forbidden", ""
	for _, c := range []struct {
		client, method, path, code string
	}{
		{"reader", "GET", "/config/servers", yes},
		{"reader", "HEAD", "/config/servers", yes},
		{"reader", "GET", "/config/servers/", yes},
		{"reader", "GET", "/config/servers?a=b&c", yes},
		{"reader", "GET", "/run/job/ctmtest:00001/output", yes},
		{"reader", "GET", "/moon", yes},
		{"reader", "POST", "/config/server/ctmtest/agent/test-app1/ping", yes},
		{"reader", "POST", "/build", yes},
		{"reader", "POST", "/moon", no},
		{"reader", "POST", "/config/servers", no},
		{"reader", "POST", "/run", no},
		{"reader", "POST", "/run/order", no},
		{"reader", "POST", "/deploy", no},
		{"reader", "DELETE", "/run/event/ctmtest/one/0101", no},
		{"reader", "PUT", "/config/servers", no},
		{"reader", "PATCH", "/config/servers", no},
		{"reader", "OPTIONS", "/config/servers", no},
		{"reader", "FETCH", "/config/servers", no},
		{"reader", "get", "/config/servers", no},
		{"reader", "POST", "/run/order?method=GET&/config/servers", no},
		{"watcher", "GET", "/config/servers", yes},
		{"watcher", "GET", "/run/jobs/status", yes},
		{"watcher", "POST", "/build", yes},
		{"watcher", "GET", "/run/job/ctmtest:00001/output", no},
		{"watcher", "GET", "/run/job/ctmtest:00001/log", no},
		{"watcher", "GET", "/reporting/download", no},
		{"watcher", "GET", "/run/job/ctmtest%3A00001/Output", no},
		{"orderer", "POST", "/run", yes},
		{"orderer", "POST", "/run/order", yes},
		{"orderer", "POST", "/run/ondemand", yes},
		{"orderer", "POST", "/run/job/ctmtest:00001/kill", no},
		{"orderer", "POST", "/run/event/ctmtest", no},
		{"orderer", "GET", "/run/job/ctmtest:00001/output", no},
		{"orderer", "POST", "/deploy", no},
		{"operator", "POST", "/run/order", yes},
		{"operator", "POST", "/run/job/ctmtest:00001/hold", yes},
		{"operator", "POST", "/run/event/ctmtest", yes},
		{"operator", "POST", "/deploy", no},
		{"operator", "POST", "/config/server/ctmtest/agent", no},
		{"deployer", "POST", "/deploy", yes},
		{"deployer", "POST", "/build", yes},
		{"deployer", "GET", "/deploy/jobs", yes},
		{"deployer", "POST", "/run/order", no},
		{"deployer", "DELETE", "/deploy/folder/ctmtest/one", no},
		{"all", "POST", "/moon", yes},
		{"all", "DELETE", "/run/event/ctmtest/one/0101", yes},
		{"all", "FETCH", "/config/servers", no},
		{"both", "GET", "/config/servers", yes},
		{"both", "POST", "/run/event/ctmtest", yes},
		{"both", "POST", "/run/order", no},
		{"narrow", "GET", "/config/servers", yes},
		{"narrow", "HEAD", "/config/servers", yes},
		{"narrow", "GET", "/config/servers/", yes},
		{"narrow", "GET", "/config/%73ervers", yes},
		{"narrow", "GET", "/run/job/ctmtest%3A00001/output", yes},
		{"narrow", "POST", "/emulator/echo", yes},
		{"narrow", "GET", "/emulator/echo", no},
		{"narrow", "POST", "/emulator", no},
		{"narrow", "PUT", "/config/servers", no},
		{"narrow", "GET", "/Config/servers", no},
		{"narrow", "GET", "/config/server", no},
		{"narrow", "GET", "/config/servers2", no},
		{"narrow", "GET", "/config/servers.json", no},
		{"narrow", "GET", "/config/servers/ctmtest", no},
		{"narrow", "GET", "/config%2Fservers", no},
		{"narrow", "GET", "/run/job/a/b/output", no},
		{"narrow", "GET", "/run/jobs/status", no},
		{"narrow", "GET", "/run?/config/servers", no},
		{"narrow", "GET", "", no},
		{"slash", "GET", "/run/event%2Fone", yes},
		{"slash", "GET", "/run/event%2fone", yes},
		{"slash", "GET", "/run/event/one", no},
	} {
		t.Run(c.client+" "+c.method+" "+c.path, func(t *testing.T) {
			before := up.Stats()
			got := g.callAs(c.client, c.method, base+c.path)
			if c.code != "" {
				got.wantOwn(t, 403, c.code)
				up.sawNothing(t, before)
			} else if got.code() != "" || up.Stats().Calls != before.Calls+1 {
				t.Errorf("it did not get through: %d %s", got.status, got.body)
			}
		})
	}
}

// A server that is more lenient than a rule must not do what the rule denies.
func TestADenyBeatsEachAllowInEachSpelling(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startRules(t, up, map[string]string{
		"one": "allow * /*\nallow POST /run/order\nallow order\ndeny POST /run/order\ndeny * /config/secret/*",
		"two": "deny GET,POST /run/Order\nallow operate\ndeny * /CONFIG/secret/*",
	})
	for _, client := range []string{"one", "two"} {
		for _, path := range []string{
			"/run/order", "/run/order/", "/run/order?a=b", "/run/ORDER", "/Run/order", "/run/%6frder", "/%72un/order",
			"/run%2Forder", "/run%2forder", "/run%252Forder", "/RUN%2FOrder", "/run/order.json", "/run/order.", "/run/order..", "/run./order",
			"/run/order%3Ba=b", "/run%3Ba/order", "/run/order%20", "/run/order%3Fa", "/run/order%23a", "/run/order.a.b",
			"/config/secret/one", "/config/secret/one/two", "/Config/SECRET/one", "/config%2Fsecret%2Fone", "/config/secret.json/one",
		} {
			t.Run(client+" "+path, func(t *testing.T) {
				before := up.Stats()
				g.callAs(client, "POST", base+path).wantOwn(t, 403, "ctmgate.forbidden")
				up.sawNothing(t, before)
			})
		}
		t.Run(client+" in a method of other case", func(t *testing.T) {
			g.callAs(client, "post", base+"/run/order").wantOwn(t, 403, "ctmgate.forbidden")
		})
		t.Run(client+" what is beside it", func(t *testing.T) {
			for _, path := range []string{"/run/orders", "/run", "/config/secret"} {
				method := "POST"
				if path == "/config/secret" || path == "/run/orders" {
					method = "GET"
				}
				if got := g.callAs(client, method, base+path); got.code() != "" {
					t.Errorf("%s %s got %d %s", method, path, got.status, got.body)
				}
			}
		})
	}
	if !strings.Contains(g.logged(), "deny POST /run/order") {
		t.Error("the log does not name the line that decided")
	}
}

// accessProtectedCalls are protected operations, and their disguises.
var accessProtectedCalls = []string{
	"GET /authentication/tokens", "GET /authentication/token/a", "POST /authentication/token", "PUT /authentication/token",
	"DELETE /authentication/token/a", "GET /authentication", "POST /session/user/password/update", "POST /config/user/emuser/password/adminUpdate",
	"POST /config/authorization/role", "DELETE /config/authorization/user/a", "PUT /config/authorization/anything", "OPTIONS /config/authorization/users",
	"GET /Authentication/tokens", "GET /authentication/tokens/", "GET /AUTHENTICATION/TOKENS", "GET /authentication%2Ftokens", "GET /authentication%252Ftokens",
	"GET /%61uthentication/tokens", "GET /authentication.json/tokens", "GET /authentication./tokens", "GET /authentication%3Ba/tokens",
	"GET /authentication%20/tokens", "GET /authentication%3F/tokens", "HEAD /authentication/tokens", "get /authentication/tokens",
	"POST /Session/User/Password/Update", "POST /session%2Fuser%2Fpassword%2Fupdate", "POST /config/user/a%2Fb/password/adminUpdate",
	"POST /config/user/a/password/adminUpdate.json", "POST /config/User/a/Password/AdminUpdate", "POST /config%2Fauthorization%2Frole",
	"POST /config/authorization.json/role", "post /config/Authorization/role",
}

// accessSessionCalls are what no client and no site can open.
var accessSessionCalls = []string{
	"POST /Session/login", "POST /session/login.json", "POST /session/LOGOUT", "POST /session%2Flogin", "POST /session%2Flogout",
	"POST /session./logout", "POST /session/logout.", "POST /session%3Ba/logout", "GET /session", "DELETE /session/anything", "POST /session/login/a",
}

func TestProtectedOperationsStayClosedWhateverTheRulesAllow(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	g := startRules(t, up, map[string]string{
		"all":   "allow * /*",
		"named": "allow * /authentication/* /session/* /config/authorization/*\nallow POST /config/user/*/password/adminUpdate",
	})
	for _, client := range []string{"all", "named"} {
		for _, call := range slices.Concat(accessProtectedCalls, accessSessionCalls) {
			t.Run(client+" "+call, func(t *testing.T) {
				before := up.Stats()
				method, path, _ := strings.Cut(call, " ")
				got := g.callAs(client, method, base+path)
				if got.status != 403 || method != "HEAD" && got.code() != "ctmgate.protected" {
					t.Errorf("got %d %s", got.status, got.body)
				}
				up.sawNothing(t, before)
			})
		}
		t.Run(client+" reads who has which rights", func(t *testing.T) {
			if got := g.callAs(client, "GET", base+"/config/authorization/roles"); got.code() != "" {
				t.Errorf("got %d %s", got.status, got.body)
			}
		})
	}
	t.Run("strangers are not told what is protected", func(t *testing.T) {
		wantUnknown(t, g.get(base+"/authentication/tokens"))
	})
}

func TestCredentialChangesAreOpenAsFarAsTheClientsRulesAllow(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	const open = "\nallow_credential_changes"
	g := startRules(t, up, map[string]string{
		"all":    "allow * /*" + open,
		"one":    "allow read_only\nallow POST /authentication/token" + open,
		"sets":   "allow read_only\nallow operate\nallow deploy" + open,
		"denied": "allow * /*\ndeny * /authentication/*" + open,
		"closed": "allow * /*",
	})
	const forbidden, protected, yes = "ctmgate.forbidden", "ctmgate.protected", ""
	type row struct{ client, call, code string }
	rows := []row{
		{"one", "POST /authentication/token", yes},
		{"one", "GET /authentication/tokens", forbidden},
		{"one", "POST /Authentication/token", forbidden},
		{"one", "POST /authentication%2Ftoken", forbidden},
		{"one", "POST /session/user/password/update", forbidden},
		{"one", "POST /config/authorization/role", forbidden},
		{"sets", "GET /authentication/tokens", forbidden},
		{"sets", "POST /authentication/token", forbidden},
		{"sets", "POST /config/authorization/role", forbidden},
		{"sets", "POST /config/user/emuser/password/adminUpdate", forbidden},
		{"denied", "GET /authentication/tokens", forbidden},
		{"denied", "GET /AUTHENTICATION/tokens", forbidden},
		{"denied", "POST /config/authorization/role", yes},
		{"all", "GET /authentication/tokens", yes},
		{"all", "POST /config/authorization/role", yes},
		{"all", "POST /session/user/password/update", yes},
		{"closed", "GET /authentication/tokens", protected},
	}
	for _, call := range accessSessionCalls {
		rows = append(rows, row{"all", call, protected})
	}
	for _, c := range rows {
		t.Run(c.client+" "+c.call, func(t *testing.T) {
			before := up.Stats()
			method, path, _ := strings.Cut(c.call, " ")
			got := g.callAs(c.client, method, base+path)
			if c.code != "" {
				got.wantOwn(t, 403, c.code)
				up.sawNothing(t, before)
			} else if got.code() != "" || up.Stats().Calls != before.Calls+1 {
				t.Errorf("it did not get through: %d %s", got.status, got.body)
			}
		})
	}
}

func TestPublicPathsNeedNoProofAndGetNoCredential(t *testing.T) {
	var mu sync.Mutex
	var headers []http.Header
	f := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		mu.Lock()
		headers = append(headers, r.Header.Clone())
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
	app := strings.ReplaceAll(accessEnvironment(t, f.url), "username reporter", "username emuser") +
		accessClient("nightly", nightlyKey, "allow GET /config/servers /ctm-cli.tgz") + accessClient("reader", readerKey, "allow GET /config/servers", "deny GET /build_time.txt") +
		"public GET /ctm-cli.tgz /build_time.txt\npublic * /authentication/* /session/*\npublic POST /config/authorization/*\n"
	g := startGateway(t, accessFile(app, "controlm prod"))
	for _, c := range []struct {
		name, method, path string
		edit               func(*http.Request)
		status             int
		code               string
	}{
		{"a public path", "GET", "/ctm-cli.tgz", nil, 200, ""},
		{"another", "GET", "/build_time.txt", nil, 200, ""},
		{"the head of one", "HEAD", "/ctm-cli.tgz", nil, 200, ""},
		{"one with a token in the query", "GET", "/ctm-cli.tgz?token=" + nightlyKey, nil, 200, ""},
		{"one with a cookie", "GET", "/ctm-cli.tgz", asHeader("Cookie", "a="+nightlyKey), 200, ""},
		{"another method", "POST", "/ctm-cli.tgz", nil, 401, "ctmgate.client_unauthenticated"},
		{"another case", "GET", "/Ctm-cli.tgz", nil, 401, "ctmgate.client_unauthenticated"},
		{"below it", "GET", "/ctm-cli.tgz/a", nil, 401, "ctmgate.client_unauthenticated"},
		{"another path", "GET", "/config/servers", nil, 401, "ctmgate.client_unauthenticated"},
		{"with a wrong key", "GET", "/ctm-cli.tgz", asBearer(wrongKey), 401, "ctmgate.client_unauthenticated"},
		{"with two keys", "GET", "/ctm-cli.tgz", together(asBearer(nightlyKey), asAPIKey(readerKey)), 400, "ctmgate.ambiguous_credentials"},
		{"a protected path that is called public", "GET", "/authentication/tokens", nil, 401, "ctmgate.client_unauthenticated"},
		{"another one", "POST", "/config/authorization/role", nil, 401, "ctmgate.client_unauthenticated"},
		{"a change of a password", "POST", "/session/user/password/update", nil, 401, "ctmgate.client_unauthenticated"},
		{"a session in disguise", "POST", "/Session/logout", nil, 403, "ctmgate.protected"},
		{"a client whose lines lack it", "GET", "/ctm-cli.tgz", asAPIKey(readerKey), 200, ""},
		{"one whose lines deny it", "GET", "/build_time.txt", asAPIKey(readerKey), 403, "ctmgate.forbidden"},
		{"a client at a protected path", "GET", "/authentication/tokens", asAPIKey(readerKey), 403, "ctmgate.protected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(f.arrived())
			got := g.do(c.method, base+c.path, nil, c.edit)
			wantReply(t, got, c.status, c.code)
			if arrived := len(f.arrived()) - before; (arrived == 1) != (c.status == 200) {
				t.Errorf("%d calls arrived upstream", arrived)
			}
		})
	}
	mu.Lock()
	public := slices.Clone(headers)
	mu.Unlock()
	for _, h := range public {
		for name, values := range h {
			if name != "Accept-Encoding" && name != "User-Agent" && name != "X-Request-Id" {
				t.Errorf("upstream got %s: %s", name, values)
			}
		}
	}
	if s := f.Stats(); s.Logins != 0 {
		t.Errorf("upstream saw %+v; expected no login", s)
	}
	t.Run("a client gets it with its account", func(t *testing.T) {
		wantReply(t, g.do(http.MethodGet, base+"/ctm-cli.tgz", nil, asAPIKey(nightlyKey)), 200, "")
		if s := f.Stats(); s.Logins != 1 {
			t.Errorf("upstream saw %+v; expected a login", s)
		}
	})
}
