package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// Canaries: secrets that must never be seen outside of the wire they are for.
const (
	canaryPassword = "canary-pässword-{1}-7d3f"
	canaryKey      = "canary-client-key-91ac"
	canaryToken    = "canary-api-token-55e0"
)

// upstream is an emulator that listens, and what a gateway needs to trust it.
type upstream struct {
	*emulator.Emulator
	*emulator.Server
	caFile string
}

func startUpstream(t testing.TB, o emulator.Options) *upstream {
	t.Helper()
	if len(o.Users) == 0 {
		o.Users = []emulator.User{{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin", "User"}}}
	}
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{Emulator: emulator.New(o), caFile: filepath.Join(t.TempDir(), "ca.pem")}
	if err := os.WriteFile(u.caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if u.Server, err = u.Listen("127.0.0.1:0", ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

// secretFile writes a secret the way an operator does, and returns its path.
func secretFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// gateway is a running Caddy with our modules. One runs at a time.
type gateway struct {
	t     testing.TB
	addr  string
	log   string // path of the debug log
	loads int
}

// freeAddr finds a loopback address that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// startGateway runs a Caddyfile in which {ADDR} stands for the site's address.
// Everything is logged at DEBUG, to a file that is swept for canaries at the
// end, like the autosaved config.
func startGateway(t testing.TB, caddyfile string) *gateway {
	t.Helper()
	caddymodule.ForgetRefusals()
	g := &gateway{t: t, addr: freeAddr(t), log: filepath.Join(t.TempDir(), "caddy.log")}
	caddy.ConfigAutosavePath = filepath.Join(t.TempDir(), "autosave.json")
	if err := g.load(caddyfile); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		caddymodule.WaitForLogouts()
		g.sweep(g.log)
		g.sweep(caddy.ConfigAutosavePath)
		keepCapture(t, g.log, caddy.ConfigAutosavePath)
	})
	return g
}

// keepCapture leaves what a test captured where CI sweeps it once more, for
// encoded forms too.
func keepCapture(t testing.TB, paths ...string) {
	t.Helper()
	folder := os.Getenv("CTMGATE_CAPTURE")
	if folder == "" {
		return
	}
	name := strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name+"-"+filepath.Base(path)), content, 0o600)
		}
		if err != nil {
			t.Errorf("keeping the capture: %v", err)
		}
	}
	list := strings.Join([]string{canaryPassword, canaryKey, canaryToken}, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(folder, "canaries"), []byte(list), 0o600); err != nil {
		t.Errorf("keeping the canaries: %v", err)
	}
}

// load makes the Caddyfile the running config.
func (g *gateway) load(caddyfile string) error {
	config, err := g.adapt(caddyfile)
	if err != nil {
		return err
	}
	g.loads++
	return caddy.Load(config, true)
}

func (g *gateway) adapt(caddyfile string) ([]byte, error) {
	caddyfile = strings.ReplaceAll(caddyfile, "{ADDR}", "http://"+g.addr)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		return nil, err
	}
	admin, _ := config["admin"].(map[string]any)
	if admin == nil {
		config["admin"] = map[string]any{"disabled": true, "config": map[string]any{"persist": true}}
	}
	logs, _ := config["logging"].(map[string]any)
	if logs == nil {
		config["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{
			"level": "DEBUG", "writer": map[string]any{"output": "file", "filename": g.log, "roll": false},
		}}}
	}
	return json.Marshal(config)
}

// sweep fails the test when a file holds a canary.
func (g *gateway) sweep(path string) {
	g.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		g.t.Errorf("sweeping for canaries: %v", err)
	}
	sweep(g.t, path, content)
}

func sweep(t testing.TB, what string, content []byte) {
	t.Helper()
	for _, canary := range []string{canaryPassword, canaryKey, canaryToken, "pässword-{1}", "client-key-91ac", "api-token-55e0"} {
		if bytes.Contains(content, []byte(canary)) {
			t.Errorf("%s holds the canary %q", what, canary)
		}
	}
}

func (g *gateway) url(path string) string { return "http://" + g.addr + path }

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// code is the code of an error of the gateway's own, or "".
func (r reply) code() string {
	var list struct {
		Errors []struct{ Message, ID, Item string }
	}
	if json.Unmarshal([]byte(r.body), &list) != nil || len(list.Errors) != 1 {
		return ""
	}
	return list.Errors[0].ID
}

// do sends a request and reads the answer; edit may change the request.
func (g *gateway) do(method, path string, body io.Reader, edit func(*http.Request)) reply {
	g.t.Helper()
	req, err := http.NewRequest(method, g.url(path), body)
	if err != nil {
		g.t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	// A connection of its own, since the port may have been another gateway's
	// a moment ago.
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	// Caddy resets connections that wait at the listener which a reload
	// replaces: a new one reaches the new listener.
	for try := 0; err != nil && g.loads > 1 && method == http.MethodGet && try < 5; try++ {
		res, err = client.Do(req)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	sweep(g.t, "the answer", content)
	return reply{res.StatusCode, res.Header, string(content)}
}

func (g *gateway) get(path string) reply {
	g.t.Helper()
	return g.do(http.MethodGet, path, nil, nil)
}

// sidecar is the Caddyfile of an inline site with more words in its block.
func (u *upstream) sidecar(password string, more ...string) string {
	return fmt.Sprintf(`
{ADDR} {
	controlm %s {
		tls_ca_file %s
		username emuser
		password %s
		%s
	}
}`, u.URL(), u.caFile, password, strings.Join(more, "\n\t\t"))
}
