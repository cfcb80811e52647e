package caddymodule_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestPlaceholdersAreNotReadByAdapting(t *testing.T) {
	t.Setenv("CTM_PASSWORD", canaryPassword)
	t.Setenv("CTM_API_TOKEN", canaryToken)
	password := secretFile(t, canaryPassword)
	for _, caddyfile := range []string{
		environmentWith("account a {\nusername emuser\npassword {file."+password+"}\n}", "account b {\napi_token {env.CTM_API_TOKEN}\n}", "default_account a") + namedSite,
		inlineSite("username emuser", "password {env.CTM_PASSWORD}"),
	} {
		config, err := adapt(caddyfile)
		if err != nil {
			t.Fatal(err)
		}
		sweep(t, "the adapted config", []byte(config))
		if !strings.Contains(config, "{env.CTM_") {
			t.Errorf("the placeholder is gone:\n%s", config)
		}
	}
}

// adminSocket returns the path of a Unix socket: short, since the system
// allows 108 bytes.
func adminSocket(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "ctm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return filepath.Join(folder, "admin.sock")
}

// fromAdmin asks the admin API at a Unix socket.
func fromAdmin(t *testing.T, socket, path string) string {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("got %d, %v", res.StatusCode, err)
	}
	return string(content)
}

// batchAndReports is a Caddyfile with an account that has a password and one,
// under /reports, that has an API token.
func batchAndReports(global, endpoints, trust, password, token string) string {
	return `
{
	` + global + `
	controlm {
		environment prod {
			endpoint ` + endpoints + `
			tls_ca_file ` + trust + `
			account batch {
				username emuser
				password {file.` + password + `}
			}
			account reports {
				api_token ` + token + `
			}
			default_account batch
		}
	}
}

{ADDR} {
	handle_path /reports/* {
		controlm prod {
			account reports
		}
	}
	handle {
		controlm prod
	}
}`
}

func TestTheAdminAPIAndTheAutosavedConfigShowThePlaceholderOnly(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	t.Setenv("CTM_API_TOKEN", canaryToken)
	password, socket := secretFile(t, canaryPassword), adminSocket(t)
	g := startGateway(t, batchAndReports("admin unix/"+socket+"|0600", up.URL(), up.caFile, password, "{env.CTM_API_TOKEN}"))
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
	wantReply(t, g.get("/reports/automation-api/config/servers"), 200, "")
	autosaved, err := os.ReadFile(caddy.ConfigAutosavePath)
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string]string{"the admin API": fromAdmin(t, socket, "/config/"), "the autosaved config": string(autosaved)} {
		sweep(t, what, []byte(content))
		for _, placeholder := range []string{"{file." + password + "}", "{env.CTM_API_TOKEN}"} {
			if !strings.Contains(content, placeholder) {
				t.Errorf("%s does not show %s:\n%s", what, placeholder, content)
			}
		}
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin socket has mode %v, %v; expected 0600", info.Mode(), err)
	}
}

func TestALiteralWarnsWithoutBeingShown(t *testing.T) {
	// Braces and all: what is no whole placeholder is the password itself.
	for _, c := range []struct{ name, literal string }{
		{"braces inside", "p{ss}w0rd"},
		{"braces around", "{literal}"},
		{"text before a placeholder", "x{env.CTM_PASSWORD}"},
		{"text after a placeholder", "{file./run/secrets/ctm}x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{Users: []emulator.User{{Name: "emuser", Password: c.literal}}})
			g := startGateway(t, up.sidecar(c.literal))
			wantReply(t, g.get("/automation-api/config/servers"), 200, "")
			if s := up.Stats(); s.Logins != 1 || s.RefusedLogins != 0 {
				t.Errorf("upstream saw %+v; expected one login with the literal as it was written", s)
			}
			logged := g.logged()
			if !strings.Contains(logged, "a secret stands in the config itself") || !strings.Contains(logged, `"word":"password"`) {
				t.Error("the literal did not warn")
			}
			g.wantNotLogged(c.literal)
		})
	}
}

func TestAPlaceholderDoesNotWarn(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	if strings.Contains(g.logged(), "a secret stands in the config itself") {
		t.Error("a placeholder warned as if it were the secret")
	}
}

func TestALiteralAPITokenWarnsWithoutBeingShown(t *testing.T) {
	const literal = "literal-{token}-44"
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "a", Value: literal, User: "emuser", Roles: []string{"User"}}}})
	g := startGateway(t, "{ADDR} {\n\tcontrolm "+up.URL()+" {\n\t\ttls_ca_file "+up.caFile+"\n\t\tapi_token "+literal+"\n\t}\n}")
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
	logged := g.logged()
	if !strings.Contains(logged, "a secret stands in the config itself") || !strings.Contains(logged, `"word":"api_token"`) {
		t.Error("the literal did not warn")
	}
	g.wantNotLogged(literal)
}

// rewriteSecret replaces a secret file the way that tools do: at once, by
// another file.
func rewriteSecret(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestARewrittenPasswordFileIsPickedUp(t *testing.T) {
	const next = canaryPassword + "-next"
	up := startUpstream(t, emulator.Options{})
	wantNoSessionLeft(t, up)
	path := secretFile(t, canaryPassword)
	g := startGateway(t, up.sidecar("{file."+path+"}"))
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")

	up.SetPassword("emuser", next)
	rewriteSecret(t, path, next)
	waitUntil(t, "a login with the new password", func() bool {
		wantReply(t, g.get("/automation-api/config/servers"), 200, "")
		return up.Stats().Logins == 2
	})
	waitUntil(t, "the old session is logged out", func() bool { return up.Stats().Logouts == 1 })
	if s := up.Stats(); s.RefusedLogins != 0 {
		t.Errorf("upstream saw %+v; expected no refusal", s)
	}
}

func TestAnEmptiedPasswordFileKeepsTheLastGoodPassword(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	path := secretFile(t, canaryPassword)
	g := startGateway(t, up.sidecar("{file."+path+"}"))
	rewriteSecret(t, path, "")
	waitUntil(t, "the log says so", func() bool {
		return strings.Contains(g.logged(), "keeping the last good secret")
	})
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
	if err := g.load(up.sidecar("{file." + path + "}")); err != nil {
		t.Errorf("a reload meanwhile: %v", err)
	}
	wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
	rewriteSecret(t, path, canaryPassword)
	waitUntil(t, "the log says that it is mended", func() bool {
		return strings.Contains(g.logged(), "the file of a secret can be read again")
	})
	if s := up.Stats(); s.Logins != 1 {
		t.Errorf("upstream saw %+v; expected one login", s)
	}
}

// What could not be sent would fail every call, and look as if no endpoint
// could be reached.
func TestAFileThatTurnsIntoNoSecretFailsNoCall(t *testing.T) {
	machines := pair(t)
	password, token := secretFile(t, canaryPassword), secretFile(t, canaryToken)
	g := startGateway(t, batchAndReports("", machines[0].url+" "+machines[1].url, machines[0].caFile+" "+machines[1].caFile, password, "{file."+token+"}"))
	calls := 0
	wantCallsOfBoth := func() {
		t.Helper()
		for range 5 {
			wantReply(t, g.get(surviveGet), 200, "")
			wantReply(t, g.get("/reports"+surviveGet), 200, "")
			calls += 2
		}
	}
	keeping := func(path string) int {
		lines := 0
		for line := range strings.Lines(g.logged()) {
			if strings.Contains(line, "keeping the last good secret") && strings.Contains(line, path) {
				lines++
			}
		}
		return lines
	}
	wantCallsOfBoth()
	for _, path := range []string{token, password} {
		rewriteSecret(t, path, canaryToken+"\n"+canaryPassword)
		waitUntil(t, "the log says that the last good one is kept", func() bool { return keeping(path) > 0 })
		wantCallsOfBoth()
	}
	rewriteSecret(t, token, canaryToken)
	rewriteSecret(t, password, canaryPassword)
	waitUntil(t, "the log says that both are mended", func() bool {
		return strings.Count(g.logged(), "the file of a secret can be read again") == 2
	})
	wantCallsOfBoth()
	if strings.Contains(g.logged(), "an endpoint does not answer") {
		t.Error("an endpoint was left aside")
	}
	if keeping(token) != 1 || keeping(password) != 1 {
		t.Errorf("the log said %d times that the token is kept and %d times that the password is; expected once each", keeping(token), keeping(password))
	}
	wantCalls(t, machines, calls, 0)
	if s := machines[0].Stats(); s.Logins != 1 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login, and no token rejected", s)
	}
}

func TestARewrittenAPITokenFileIsPickedUp(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "a", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	path := secretFile(t, canaryToken+"-ended")
	g := startGateway(t, "{ADDR} {\n\tcontrolm "+up.URL()+" {\n\t\ttls_ca_file "+up.caFile+"\n\t\tapi_token {file."+path+"}\n\t}\n}")
	wantReply(t, g.get("/automation-api/config/servers"), 401, "")
	rewriteSecret(t, path, canaryToken)
	waitUntil(t, "a call with the new token", func() bool { return g.get("/automation-api/config/servers").status == 200 })
}

// What goes wrong at a login is told to operator and caller without what was
// sent or received; startGateway sweeps the log, do sweeps the answers.
func TestTroubleAtALoginShowsNoSecret(t *testing.T) {
	for _, c := range []struct{ fault, code string }{
		{"login=echo", "ctmgate.login_failed"},
		{"login=401", "ctmgate.login_refused"},
		{"login=garbage", "ctmgate.login_failed"},
		{"login=redirect", "ctmgate.login_failed"},
		{"login=close", "ctmgate.upstream_unreachable"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			fault, err := emulator.ParseFault(c.fault)
			if err != nil {
				t.Fatal(err)
			}
			up := startUpstream(t, emulator.Options{Faults: []emulator.Fault{fault}})
			g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
			wantReply(t, g.get("/automation-api/config/servers"), 502, c.code)
			if !strings.Contains(g.logged(), "could not forward a call") {
				t.Error("the log does not tell the operator")
			}
		})
	}
}
