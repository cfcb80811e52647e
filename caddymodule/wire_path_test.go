package caddymodule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wirePrefixed is a site whose gateway is mounted under /prod.
func wirePrefixed(endpoint string, words ...string) string {
	return fmt.Sprintf("{ADDR} {\n\thandle_path /prod/* {\n\t\tcontrolm %s {\n\t\t\t%s\n\t\t}\n\t}\n\trespond 404\n}",
		endpoint, strings.Join(words, "\n\t\t\t"))
}

func TestWireTargetsArriveByteForByte(t *testing.T) {
	rows := []struct{ name, sent, arrives string }{
		{"the base path alone", "", ""},
		{"the base path with a slash", "/", "/"},
		{"an encoded colon", "/run/job/workbench%3A00001/status", ""},
		{"a colon", "/run/job/workbench:00001/status", ""},
		{"an encoded slash inside a segment", "/run/job/folder%2Fjob/status", ""},
		{"an encoded slash in lower case", "/run/job/folder%2fjob/status", ""},
		{"an escape that needs none", "/run/job/%41%2d/status", ""},
		{"an encoded blank", "/deploy/folder/ctmprod/A%20B", ""},
		{"letters outside ASCII", "/run/job/m%C3%BCller/status", ""},
		{"every byte that a path may hold", "/run/job/~!$&'()*+,=:@-._/status", ""},
		{"an encoded semicolon", "/run/job/a%3Bb/status", ""},
		{"an encoded question mark", "/run/job/a%3Fb%23c/status", ""},
		{"names with dots that are no dot segments", "/config/server/.a/a../b..c/d.", ""},
		{"a slash at the end", "/config/servers/", ""},
		{"a query that Go cannot parse", "/config/servers?b=2&a=1;c=3&z=%zz", ""},
		{"a query in its own order and escapes", "/config/servers?z=%2F&a=+&a=%20&=&&b", ""},
		{"a question mark alone", "/config/servers?", ""},
		{"a query with a path in it", "/config/servers?/../..//session/logout", ""},
		{"a token alone", "/config/servers?token=abc", "/config/servers"},
		{"a token among others", "/config/servers?b=2&token=abc&a=1;c=%zz", "/config/servers?b=2&a=1;c=%zz"},
		{"a token in disguise", "/config/servers?%74oken=abc&TOKEN=abc;a=1", "/config/servers?a=1"},
		{"what only looks like a token", "/config/servers?tokens=1&xtoken=2&a=token", ""},
	}
	up := startFront(t, nil)
	for _, mount := range []struct {
		name, prefix string
		site         func(string, ...string) string
	}{{"at the root", "", wireSite}, {"under a prefix", "/prod", wirePrefixed}} {
		t.Run(mount.name, func(t *testing.T) {
			g := startGateway(t, mount.site(up.url, wireUser(t)))
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					before := len(up.arrived())
					got := g.rawGet(mount.prefix + "/automation-api" + row.sent)
					want := "GET /automation-api" + row.sent
					if row.arrives != "" {
						want = "GET /automation-api" + row.arrives
					}
					if arrived := up.arrived()[before:]; !slices.Equal(arrived, []string{want}) || got.code() != "" {
						t.Errorf("upstream got %q, want %q; the client got %d %s", arrived, want, got.status, got.body)
					}
				})
			}
		})
	}
}

// malformedPaths are paths that two servers may read in two ways. Where raw is
// set, Go's own server refuses them before any handler.
var malformedPaths = []struct {
	path string
	raw  bool
}{
	{path: "/automation-api/../automation-api/config/servers"},
	{path: "/../automation-api/config/servers"},
	{path: "/automation-api/.."},
	{path: "/automation-api/run/%2e%2e/config/servers"},
	{path: "/automation-api/run/%2E./config/servers"},
	{path: "/automation-api/run/..%2fconfig%2fservers"},
	{path: "/automation-api/run/..%2Fsession%2Flogout"},
	{path: "/automation-api/run/..;/session/logout"},
	{path: "/automation-api/run/..;x=1/session/logout"},
	{path: "/automation-api/run/..%3B/session/logout"},
	{path: "/automation-api/run/%252e%252e/session/logout"},
	{path: "/automation-api/run/%25252e%25252e/session/logout"},
	{path: "/automation-api/run/..%252fsession"},
	{path: "/automation-api/run/..%5csession"},
	{path: `/automation-api/run/..\session`},
	{path: "/automation-api/run/a%5Cb"},
	{path: "/automation-api/run/a%255Cb"},
	{path: "/automation-api/run/%c0%ae%c0%ae/session"},
	{path: "/automation-api/run/%e0%80%ae/x"},
	{path: "/automation-api/run/%ff"},
	{path: "/automation-api/run/a%00"},
	{path: "/automation-api/run/a%2500"},
	{path: "/automation-api/run/a%0d%0ab"},
	{path: "/automation-api/run/a%7f"},
	{path: "/automation-api//session/logout"},
	{path: "//automation-api/config/servers"},
	{path: "/automation-api/config/servers//"},
	{path: "/automation-api/config/%2Fservers"},
	{path: "/automation-api/config/servers%2F"},
	{path: "/automation-api/./config/servers"},
	{path: "/automation-api/%2e/config/servers"},
	{path: "/automation-api/config/.../servers"},
	{path: "/automation-api/config/server/..a"},
	{path: "/automation-api/config/server/%2e%2ea"},
	{path: "/automation-api/config/servers;a=b"},
	{path: "/automation-api/config;a=b/servers"},
	{path: "/automation-api/;/config/servers"},
	{path: "/automation-api/run/x%2F..%2Fy/{"},
	{path: "/automation-api/run/{x}"},
	{path: "/automation-api/run/a|b^c`d"},
	{path: "/automation-api/run/a\"b<c>"},
	{path: "/automation-api/run/[x]"},
	{path: "/automation-api/run/m\xc3\xbcller"},
	{path: "/automation-api/run/\xff"},
	{path: "/automation-api/config/servers#x"},
	{path: "/automation-api/run/%20"},
	{path: "/automation-api/run/a%zz", raw: true},
	{path: "/automation-api/run/a%2", raw: true},
	{path: "/automation-api/run/a\x00b", raw: true},
	{path: "/automation-api/run/a\x7fb", raw: true},
	{path: "/automation-api/run/a\tb", raw: true},
	{path: "/automation-api/run/a b", raw: true},
	{path: "automation-api/config/servers", raw: true},
}

func TestWireMalformedPathsNeverReachUpstream(t *testing.T) {
	up := startFront(t, nil)
	t.Run("at the root", func(t *testing.T) {
		g := startGateway(t, wireSite(up.url, wireUser(t), "allow_credential_changes"))
		for _, row := range malformedPaths {
			t.Run(fmt.Sprintf("%q", row.path), func(t *testing.T) {
				got := g.rawGet(row.path)
				if row.raw {
					if got.status != 400 {
						t.Errorf("got %d %s", got.status, got.body)
					}
				} else {
					got.wantOwn(t, 400, "ctmgate.bad_path")
				}
			})
		}
	})
	t.Run("under a prefix", func(t *testing.T) {
		g := startGateway(t, wirePrefixed(up.url, wireUser(t), "allow_credential_changes"))
		for _, row := range malformedPaths {
			t.Run(fmt.Sprintf("%q", row.path), func(t *testing.T) {
				// Caddy's matcher may take some of them out of the prefix.
				if got := g.rawGet("/prod" + row.path); got.status != 400 && got.status != 404 {
					t.Errorf("got %d %s", got.status, got.body)
				}
			})
		}
		for _, target := range []string{"/prod/../prod/automation-api/config/servers", "/x/..%2fprod/automation-api/config/servers", "/prod;/automation-api/config/servers"} {
			t.Run(target, func(t *testing.T) {
				if got := g.rawGet(target); got.status != 400 && got.status != 404 {
					t.Errorf("got %d %s", got.status, got.body)
				}
			})
		}
	})
	if arrived := up.arrived(); len(arrived) > 0 || up.Stats().Logins > 0 {
		t.Errorf("upstream got %q and %d logins", arrived, up.Stats().Logins)
	}
}

func TestWireOnlyTheAPIIsForwarded(t *testing.T) {
	up := startFront(t, nil)
	g := startGateway(t, wireSite(up.url, wireUser(t), "allow_credential_changes"))
	for _, target := range []string{
		"/", "/other", "/automation-apix/config/servers", "/automation-ap", "/AUTOMATION-API/config/servers",
		"/automation%2Dapi/config/servers", "/automation-api%2Fconfig%2Fservers", "/prod/automation-api/config/servers",
		"/?/automation-api/config/servers", "/automation-api%3Fx", "/automation-api%23x", "/emulator/stats",
	} {
		t.Run("outside "+target, func(t *testing.T) { g.rawGet(target).wantOwn(t, 404, "ctmgate.outside_api") })
	}
	for _, method := range []string{"TRACE", "trace", "CONNECT", "Connect"} {
		t.Run("method "+method, func(t *testing.T) {
			got := g.rawCall(method, "/automation-api/config/servers")
			got.wantOwn(t, 405, "ctmgate.method_not_allowed")
			if allow := got.header.Get("Allow"); !strings.Contains(allow, "GET") || strings.Contains(allow, "TRACE") {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
	t.Run("a tunnel", func(t *testing.T) {
		g.raw("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").wantOwn(t, 405, "ctmgate.method_not_allowed")
	})
	t.Run("the server as a whole", func(t *testing.T) {
		if got := g.rawCall("OPTIONS", "*"); got.code() == "" && got.body != "" {
			t.Errorf("got %d %s", got.status, got.body)
		}
	})
	if arrived := up.arrived(); len(arrived) > 0 || up.Stats().Logins > 0 {
		t.Errorf("upstream got %q and %d logins", arrived, up.Stats().Logins)
	}
}

func TestWireAForeignHostInTheTargetIsNeverCalled(t *testing.T) {
	up := startFront(t, nil)
	other := startFront(t, nil)
	foreign := strings.TrimSuffix(other.url, "/automation-api")
	t.Run("and refused where only this machine is admitted", func(t *testing.T) {
		g := wireStart(t, wireAnyHost(wireSite(up.url, wireUser(t))))
		g.rawGet("http://evil.example/automation-api/config/servers").wantOwn(t, 403, "ctmgate.not_admitted")
		g.rawGet("https://em.example.com:8443/automation-api/config/servers").wantOwn(t, 403, "ctmgate.not_admitted")
		if arrived := up.arrived(); len(arrived) > 0 {
			t.Errorf("upstream got %q", arrived)
		}
	})
	t.Run("and the endpoint is, where anyone is admitted", func(t *testing.T) {
		g := wireStart(t, wireAnyHost(wireSite(up.url, wireUser(t), "admit anyone")))
		e := g.rawGet(foreign + wireEcho + "?a=1").echoed(t)
		if e.Target != wireEcho+"?a=1" || !strings.Contains(up.url, e.Headers["Host"][0]) {
			t.Errorf("upstream got %s with Host %q", e.Target, e.Headers["Host"])
		}
		g.rawGet(foreign+"/automation-api/../x").wantOwn(t, 400, "ctmgate.bad_path")
	})
	if arrived := other.arrived(); len(arrived) > 0 {
		t.Errorf("the foreign host got %q", arrived)
	}
}

// credentialCalls are operations that make or change credentials and rights,
// in disguises; sessionCalls end or make the session itself.
var (
	credentialCalls = []string{
		"POST /authentication/token", "GET /authentication/tokens", "GET /AUTHENTICATION/tokens", "HEAD /authentication/tokens",
		"GET /authentication%2Ftokens", "GET /authentication%252Ftokens", "GET /%61uthentication/tokens",
		"GET /authentication.json/tokens", "GET /authentication./tokens", "GET /authentication", "GET /authentication/",
		"POST /authentication%3Bx/token", "POST /authentication%20/token",
		"POST /config/user/bob/password/adminUpdate", "POST /config/USER/bob/PASSWORD/adminupdate",
		"POST /config/user/a%2Fb/password/adminUpdate", "POST /config%2Fuser%2Fbob%2Fpassword%2FadminUpdate",
		"POST /config/user/bob/password/adminUpdate/", "POST /config/user/bob/password/adminUpdate.json",
		"PUT /config/user/bob/password/adminUpdate.", "POST /config/user/bob/password/%61dminUpdate",
		"POST /config/authorization/role", "PUT /config/authorization/role/r", "DELETE /config/Authorization/user/bob",
		"POST /config%2fauthorization/user", "PATCH /config/authorization", "OPTIONS /config/authorization/user",
		"POST /config/authorization.json/user", "QUERY /config/authorization/users",
	}
	sessionCalls = []string{
		"GET /session", "GET /session/", "POST /SESSION/logout", "POST /Session/Logout/", "POST /session%2Flogout",
		"POST /session%252Flogout", "POST /session/logout.json", "POST /session/logout.", "POST /session/logout%3Bx",
		"POST /session/%6Cogout%20", "POST /session.json/login", "POST /session/login/x",
		"POST /SESSION/user/password/update", "POST /session%2Fuser/password/update", "DELETE /session/anything",
		"POST /session/login.json", "POST /session%3Fx/login", "POST /session%23x/login",
	}
)

func TestWireProtectedOperationsAreRefusedInEveryDisguise(t *testing.T) {
	up := startFront(t, nil)
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	for _, call := range slices.Concat(credentialCalls, sessionCalls, []string{"POST /session/user/password/update"}) {
		t.Run(call, func(t *testing.T) {
			method, path, _ := strings.Cut(call, " ")
			got := g.rawCall(method, "/automation-api"+path, "Content-Length: 0")
			if method == "HEAD" {
				if got.status != 403 {
					t.Errorf("got %d", got.status)
				}
				return
			}
			got.wantOwn(t, 403, "ctmgate.protected")
		})
	}
	if arrived := up.arrived(); len(arrived) > 0 || up.Stats().Logins > 0 {
		t.Errorf("upstream got %q and %d logins", arrived, up.Stats().Logins)
	}
	t.Run("but rights can be read", func(t *testing.T) {
		for _, method := range []string{"GET", "HEAD"} {
			g.rawCall(method, "/automation-api/config/authorization/roles")
		}
		if arrived := up.arrived(); len(arrived) != 2 {
			t.Errorf("upstream got %q", arrived)
		}
	})
}

func TestWireCredentialChangesAreOpenOnlyWhereAllowed(t *testing.T) {
	up := startFront(t, nil)
	g := startGateway(t, wireSite(up.url, wireUser(t), "allow_credential_changes"))
	for _, call := range append(credentialCalls, "POST /session/user/password/update") {
		t.Run("open "+call, func(t *testing.T) {
			before := len(up.arrived())
			method, path, _ := strings.Cut(call, " ")
			g.rawCall(method, "/automation-api"+path, "Content-Length: 0")
			want := []string{method + " /automation-api" + path}
			if arrived := up.arrived()[before:]; !slices.Equal(arrived, want) {
				t.Errorf("upstream got %q", arrived)
			}
		})
	}
	before := len(up.arrived())
	for _, call := range sessionCalls {
		t.Run("closed "+call, func(t *testing.T) {
			method, path, _ := strings.Cut(call, " ")
			g.rawCall(method, "/automation-api"+path, "Content-Length: 0").wantOwn(t, 403, "ctmgate.protected")
		})
	}
	if arrived := up.arrived()[before:]; len(arrived) > 0 || up.Stats().Logouts > 0 {
		t.Errorf("upstream got %q and %d logouts", arrived, up.Stats().Logouts)
	}
}

func TestWireLoginAndLogoutOfClientsNeverReachUpstream(t *testing.T) {
	up := startFront(t, nil)
	for _, words := range []string{"", "allow_credential_changes"} {
		t.Run("with "+words, func(t *testing.T) {
			g := startGateway(t, wireSite(up.url, wireUser(t), words))
			g.rawGet(wireEcho).echoed(t)
			before := up.arrived()
			for _, call := range []string{
				"POST /session/login", "POST /session/logout", "GET /session/logout?token=x", "DELETE /session/login",
				"POST /%73ession/logout", "POST /session/%6Cogin", "POST /session/logout/",
			} {
				method, path, _ := strings.Cut(call, " ")
				got := g.rawCall(method, "/automation-api"+path, "Authorization: Bearer "+canaryKey, "Content-Length: 0")
				if got.status >= 500 {
					t.Errorf("%s: got %d %s", call, got.status, got.body)
				}
			}
			if arrived := up.arrived(); len(arrived) != len(before) {
				t.Errorf("upstream got %q", arrived)
			}
			if got := g.rawGet(wireEcho); got.status != 200 {
				t.Errorf("after that, a call got %d %s", got.status, got.body)
			}
		})
	}
}
