package caddymodule_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

const examplePath = "../Caddyfile.example"

func readExample(t *testing.T) []byte {
	t.Helper()
	content, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestTheExampleIsFormatted(t *testing.T) {
	content := readExample(t)
	if formatted := caddyfile.Format(content); !bytes.Equal(formatted, content) {
		t.Errorf("`caddy fmt` would make it\n%s", formatted)
	}
}

func TestTheExampleAdaptsAsItStands(t *testing.T) {
	config, err := adapt(string(readExample(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"unix//run/ctmgate/admin.sock|0600"`, `"{file./run/secrets/ctm_password}"`, `"{file./run/secrets/ctm_api_token}"`,
		`"{env.CTM_USERNAME}"`, `"gateway.example.com"`, `"grace_period": 25000000000`,
	} {
		if !strings.Contains(config, part) {
			t.Errorf("the adapted example lacks %s:\n%s", part, config)
		}
	}
}

// A Caddyfile takes no block in one line: `{ controlm prod }` would be three
// arguments.
func TestNoDocumentShowsABlockInOneLine(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../docs/*/*.md", "../Caddyfile.example", "*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: found %d files, %v", pattern, len(found), err)
		}
		paths = append(paths, found...)
	}
	block := regexp.MustCompile("`[a-z][^`=\n]* \\{ [a-z][^`=\n]*\\}`")
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range block.FindAll(content, -1) {
			t.Errorf("%s shows %s, which does not load as pasted", path, shown)
		}
	}
}

// example is the example, running, with its variables set.
type example struct {
	*gateway
	sidecar, shared, tls string // addresses
	admin                string // path of the socket
}

// startExample sets the variables of the example, and changes nothing in it
// but to keep its listeners on loopback and to log everything to a file.
func startExample(t *testing.T, up *upstream) example {
	t.Helper()
	e := example{sidecar: freeAddr(t), shared: freeAddr(t), tls: freeAddr(t), admin: adminSocket(t)}
	port := func(addr string) string {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	for name, value := range map[string]string{
		"CTMGATE_ADMIN": e.admin, "CTMGATE_SIDECAR_PORT": port(e.sidecar),
		"CTMGATE_HTTP_PORT": port(e.shared), "CTMGATE_HTTPS_PORT": port(e.tls), "CTMGATE_SITE": "http://gateway.example.com",
		// Of "team-password-of-the-test", at the lowest cost.
		"CTMGATE_TEAM_HASH": "$2a$04$J374uJIPxWFn.H1Ho69yuu.or3qDyIXjYQmocfqoqlpSVh1rvgl6a",
		"CTM_ENDPOINT":      up.URL(), "CTM_CA_FILE": up.caFile, "CTM_USERNAME": "emuser",
		"CTM_PASSWORD_FILE": secretFile(t, canaryPassword), "CTM_API_TOKEN_FILE": secretFile(t, canaryToken),
	} {
		t.Setenv(name, value)
	}
	e.gateway = &gateway{t: t, addr: e.sidecar, log: filepath.Join(t.TempDir(), "caddy.log")}
	config, err := adapt(string(readExample(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{e.shared, e.tls} {
		open := `":` + port(addr) + `"`
		if !strings.Contains(config, open) {
			t.Fatalf("nothing listens on %s:\n%s", open, config)
		}
		config = strings.ReplaceAll(config, open, `"`+addr+`"`)
	}
	// Its own filters stay; only level and file are the test's.
	var members map[string]any
	if err := json.Unmarshal([]byte(config), &members); err != nil {
		t.Fatal(err)
	}
	for _, log := range members["logging"].(map[string]any)["logs"].(map[string]any) {
		log.(map[string]any)["level"] = "DEBUG"
		log.(map[string]any)["writer"] = map[string]any{"output": "file", "filename": e.log, "roll": false}
	}
	e.run(members, e.log)
	return e
}

// run runs a config as it stands until the end of the test, and then sweeps
// what it has written.
func (g *gateway) run(config map[string]any, written ...string) {
	g.t.Helper()
	whole, err := json.Marshal(config)
	if err != nil {
		g.t.Fatal(err)
	}
	caddy.ConfigAutosavePath = filepath.Join(g.t.TempDir(), "autosave.json")
	if err := caddy.Load(whole, true); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			g.t.Error(err)
		}
		caddymodule.WaitForLogouts()
		for _, path := range append(written, caddy.ConfigAutosavePath) {
			g.sweep(path)
		}
	})
}

func TestTheExampleRuns(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	wantNoSessionLeft(t, up)
	e := startExample(t, up)
	asTeam := func(r *http.Request) {
		r.Host = "gateway.example.com"
		r.SetBasicAuth("team", "team-password-of-the-test")
	}
	for _, c := range []struct {
		name, addr, path string
		edit             func(*http.Request)
		status           int
		code             string
	}{
		{"the sidecar without a credential", e.sidecar, "/automation-api/config/servers", nil, 200, ""},
		{"the sidecar's health", e.sidecar, "/healthz", nil, 200, ""},
		{"the sidecar beside the API", e.sidecar, "/", nil, 404, "ctmgate.outside_api"},
		{"the sidecar under a foreign name", e.sidecar, "/automation-api/config/servers", func(r *http.Request) { r.Host = "attacker.example.com" }, 403, "ctmgate.not_admitted"},
		{"the shared site with a password", e.shared, "/prod/automation-api/config/servers?token=" + canaryKey, asTeam, 200, ""},
		{"the shared site without a password", e.shared, "/prod/automation-api/config/servers", func(r *http.Request) { r.Host = "gateway.example.com" }, 401, ""},
		{"the shared site's health", e.shared, "/healthz", func(r *http.Request) { r.Host = "gateway.example.com" }, 200, ""},
		{"the shared site beside the prefix", e.shared, "/automation-api/config/servers", asTeam, 404, ""},
		{"a host that no site names", e.shared, "/prod/automation-api/config/servers", nil, 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.addr = c.addr
			got := e.do(http.MethodGet, c.path, nil, func(r *http.Request) {
				r.Header.Set("X-Api-Key", canaryKey)
				if c.edit != nil {
					c.edit(r)
				}
			})
			wantReply(t, got, c.status, c.code)
		})
	}
	if s := up.Stats(); s.Logins != 1 || s.Calls != 2 || s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login and two calls", s)
	}
	shown := fromAdmin(t, e.admin, "/config/")
	sweep(t, "the admin API", []byte(shown))
	if !strings.Contains(shown, "{env.CTM_USERNAME}") {
		t.Errorf("the admin API does not show the running config:\n%s", shown)
	}
	if !strings.Contains(e.logged(), "handled request") {
		t.Error("the shared site has no access log")
	}
}

// At DEBUG Caddy writes what it has rewritten before any handler of ours runs,
// and a call without a password never gets to one: the filters alone hide what
// was shown.
func TestTheFiltersOfTheExampleHideWhatClientsShow(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	e := startExample(t, up)
	e.addr = e.shared
	targets := []string{wireEcho + "?TOKEN=" + canaryKey, base + "/config/servers?proxy_authorization=" + canaryKey}
	for _, secret := range []string{
		"server/c/sshkey/k/" + canaryKey, "server/c/SSHKey/k/" + canaryKey, "server/c/%73shkey/k/" + canaryKey, "server/c/%2573shkey/k/" + canaryKey,
		"server/c/sshkey%2Fk%2F" + canaryKey, "systemsettings/server/name/" + canaryKey + "?a=1", "systemsettings%2fserver/" + canaryKey,
	} {
		targets = append(targets, base+"/config/"+secret)
	}
	// Without a password, and with it.
	for _, line := range []string{"Accept: */*", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("team:team-password-of-the-test"))} {
		for _, target := range append(targets, wireEcho) {
			e.raw("GET /prod" + target + " HTTP/1.1\r\nHost: gateway.example.com\r\nX_Api_Key: " + canaryKey + "\r\n" + line + "\r\n\r\n")
		}
	}
	for _, row := range withSecrets {
		if row.header["X~Api~Key"] != nil {
			continue // ctmgate alone knows all of the spellings
		}
		e.do(http.MethodGet, "/prod"+wireEcho+row.query, nil, func(r *http.Request) {
			r.Host = "gateway.example.com"
			for name, values := range row.header {
				r.Header[name] = values
			}
		})
	}
	log := e.logged()
	if n := strings.Count(log, `"rewrote request"`); n < 2*len(targets) {
		t.Errorf("Caddy wrote %d lines of what it has rewritten", n)
	}
	for _, kept := range []string{`"uri":"/prod/automation-api/config/server/c/sshkey/REDACTED"`, `"uri":"/prod` + wireEcho + `?a=1&x%5fapi%5Fkey=REDACTED"`} {
		if !strings.Contains(log, kept) {
			t.Errorf("the log does not say %s", kept)
		}
	}
}
