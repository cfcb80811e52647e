package caddymodule_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// sharedExample runs docker/shared.Caddyfile, with a certificate of the test's
// in place of one from the internet, and its listeners on loopback.
type sharedExample struct {
	*gateway
	keys, people string // addresses
	audit        string // path
}

func startSharedExample(t *testing.T, up *upstream, d *department) sharedExample {
	t.Helper()
	e := sharedExample{keys: freeAddr(t), people: freeAddr(t), audit: filepath.Join(t.TempDir(), "audit.log")}
	port := func(addr string) string {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	ca, cert, key := d.files()
	for name, value := range map[string]string{
		"CTMGATE_ADMIN": adminSocket(t), "CTMGATE_AUDIT_LOG": e.audit,
		"CTMGATE_HTTP_PORT": port(e.people), "CTMGATE_HTTPS_PORT": port(e.keys),
		"CTMGATE_SITE": "https://localhost", "CTMGATE_PEOPLE_SITE": "http://people.example.com", "CTMGATE_CLIENT_CA": ca,
		// Of "team-password-of-the-test", at the lowest cost.
		"CTMGATE_OPERATOR_HASH": "$2a$04$J374uJIPxWFn.H1Ho69yuu.or3qDyIXjYQmocfqoqlpSVh1rvgl6a",
		"CTMGATE_NIGHTLY_HASH":  keyHash(nightlyKey),
		"CTM_ENDPOINT":          up.URL(), "CTM_CA_FILE": up.caFile, "CTM_USERNAME": "emuser",
		"CTM_PASSWORD_FILE": secretFile(t, canaryPassword), "CTM_API_TOKEN_FILE": secretFile(t, canaryToken),
	} {
		t.Setenv(name, value)
	}
	text, err := os.ReadFile("../docker/shared.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	config, err := adapt(strings.Replace(string(text), "\ttls {\n", "\ttls "+cert+" "+key+" {\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{e.keys, e.people} {
		config = strings.ReplaceAll(config, `":`+port(addr)+`"`, `"`+addr+`"`)
	}
	e.gateway = &gateway{t: t, addr: e.people, log: filepath.Join(t.TempDir(), "caddy.log")}
	var members map[string]any
	if err := json.Unmarshal([]byte(config), &members); err != nil {
		t.Fatal(err)
	}
	logs := members["logging"].(map[string]any)["logs"].(map[string]any)
	logs["default"].(map[string]any)["writer"] = map[string]any{"output": "file", "filename": e.log, "roll": false}
	delete(logs, "audit_stream") // standard output is the test's
	e.run(members, e.log, e.audit)
	return e
}

func TestTheExampleOfASharedGatewayRuns(t *testing.T) {
	up := startUpstream(t, emulator.Options{APITokens: []emulator.APIToken{{Name: "reports", Value: canaryToken, User: "emuser", Roles: []string{"User"}}}})
	wantNoSessionLeft(t, up)
	d := newDepartment(t)
	e := startSharedExample(t, up, d)

	// With a key, with a certificate, and with neither.
	certificate := d.sign(d.clientCertificate("monitoring"), 1e12)
	if got, err := d.call(e.keys, nil, asBearer(nightlyKey)); err != nil || got.status != 200 {
		t.Errorf("with a key: %d %s %v", got.status, got.body, err)
	}
	if got, err := d.call(e.keys, &certificate, nil); err != nil || got.status != 200 {
		t.Errorf("with a certificate: %d %s %v", got.status, got.body, err)
	}
	if got, err := d.call(e.keys, nil, nil); err != nil || got.status != 401 {
		t.Errorf("with neither: %d %s %v", got.status, got.body, err)
	}
	// People have a site of their own.
	asPerson := func(password string) func(*http.Request) {
		return func(r *http.Request) {
			r.Host = "people.example.com"
			r.SetBasicAuth("alice", password)
		}
	}
	const right = "team-password-of-the-test"
	wantReply(t, e.do(http.MethodGet, "/automation-api/config/servers", nil, asPerson(right)), 200, "")
	// Of a user that there is: for others Caddy takes its time.
	if got := e.do(http.MethodGet, "/automation-api/config/servers", nil, asPerson("another")); got.status != 401 {
		t.Errorf("with a wrong password: %d", got.status)
	}
	wantReply(t, e.do(http.MethodPost, "/automation-api/deploy", strings.NewReader("{}"), asPerson(right)), 403, "ctmgate.forbidden")

	trace, err := os.ReadFile(e.audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"client":"nightly","key":"2026-key"`, `"client":"monitoring"`, `"client":"operators"`, `"user":"alice"`,
		`"code":"ctmgate.client_unauthenticated"`, `"code":"ctmgate.forbidden"`,
	} {
		if !strings.Contains(string(trace), want) {
			t.Errorf("the audit log does not say %s:\n%s", want, trace)
		}
	}
}
