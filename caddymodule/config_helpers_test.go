package caddymodule_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// secretsFolder is where the config tests say that secrets lie; withSecrets
// puts a folder of the test's own in its place.
const secretsFolder = "/run/secrets"

// withSecretFiles returns text with secretsFolder replaced by a folder that holds
// a password, an API token, a CA, and a client certificate with its key.
func withSecretFiles(t testing.TB, text string) string {
	t.Helper()
	folder := t.TempDir()
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Certificate("gateway.example.com")
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"ctm_password":   []byte(canaryPassword + "\n"),
		"ctm_api_token":  []byte(canaryToken + "\n"),
		"empty":          []byte("\n"),
		"two_lines":      []byte(canaryToken + "\n" + canaryPassword + "\n"),
		"latin1":         []byte("p\xe4ss\n"),
		"not_ascii":      []byte("t\u00f6ken\n"),
		"em-ca.pem":      ca.PEM(),
		"other-ca.pem":   ca.PEM(),
		"no-ca.pem":      []byte("this is no certificate\n"),
		"request.pem":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("anything")}),
		"broken-ca.pem":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("anything")}),
		"client.pem":     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		"client-key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.ReplaceAll(text, secretsFolder, folder)
}

// adapt turns a Caddyfile into JSON with one tab a level.
func adapt(caddyfile string) (string, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = json.Indent(&out, config, "", "\t")
	return out.String() + "\n", err
}

// validate loads a JSON config as far as one can without starting it, and
// returns what it logged.
func validate(t testing.TB, config string) (logged string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "caddy.log")
	var members map[string]any
	if err := json.Unmarshal([]byte(config), &members); err != nil {
		t.Fatalf("%v in %s", err, config)
	}
	members["admin"] = map[string]any{"disabled": true}
	members["logging"] = logEverythingTo(path)
	whole, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(whole, &c); err != nil {
		return "", err
	}
	err = caddy.Validate(&c)
	caddymodule.WaitForLogouts()
	if err != nil {
		sweep(t, "the error", []byte(err.Error()))
	}
	content, readErr := os.ReadFile(path)
	if readErr != nil {
		t.Fatal(readErr)
	}
	sweep(t, "the log", content)
	return string(content), err
}

// logEverythingTo is Caddy's `logging` with one log at DEBUG, in a file.
func logEverythingTo(path string) map[string]any {
	return map[string]any{"logs": map[string]any{"default": map[string]any{
		"level": "DEBUG", "writer": map[string]any{"output": "file", "filename": path, "roll": false},
	}}}
}

// wantError fails the test unless err says every one of parts.
func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; expected one that says %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%v", part, err)
		}
	}
	sweep(t, "the error", []byte(err.Error()))
}

// waitUntil looks again and again until done, for what the test can only see
// from outside, and fails the test after 20 s.
func waitUntil(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// getAfterLoad is get for the moment after a load. The old server ends while
// load returns, and may take connections with it: its listener's queue, and
// those that it believes idle. So a call that got no answer is made again, on
// a connection of its own.
func (g *gateway) getAfterLoad(path string, edit func(*http.Request)) (got reply) {
	g.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	waitUntil(g.t, "an answer after the load", func() bool {
		req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url(path), nil)
		if err != nil {
			g.t.Fatal(err)
		}
		if edit != nil {
			edit(req)
		}
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		content, err := io.ReadAll(res.Body)
		got = reply{res.StatusCode, res.Header, string(content)}
		return err == nil
	})
	sweep(g.t, "the answer", []byte(got.body))
	return got
}

// logged returns the debug log so far.
func (g *gateway) logged() string {
	g.t.Helper()
	content, err := os.ReadFile(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(content)
}

// wantNotLogged fails the test when the log shows literal, but for the line
// in which Caddy itself prints the whole config at DEBUG: a literal is part
// of the config.
func (g *gateway) wantNotLogged(literal string) {
	g.t.Helper()
	for line := range strings.Lines(g.logged()) {
		if strings.Contains(line, literal) && !strings.Contains(line, `"logger":"http.auto_https","msg":"adjusted config"`) {
			g.t.Errorf("the log shows the literal %s", literal)
		}
	}
}

// wantReply fails the test unless got has the status and, for an error of
// the gateway's own, the code.
func wantReply(t testing.TB, got reply, status int, code string) {
	t.Helper()
	if got.status != status || got.code() != code {
		t.Errorf("got %d %s, expected %d %s", got.status, got.body, status, code)
	}
}
