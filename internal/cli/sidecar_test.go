package cli

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// plant is an emulator over TLS in this process, with a user whose password is
// the canary.
type plant struct {
	*emulator.Emulator
	url, ca string
	issuer  *emulator.CA
}

func newPlant(t *testing.T) plant {
	t.Helper()
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	e := emulator.New(emulator.Options{
		Users:     []emulator.User{{Name: "batch", Password: canary}},
		APITokens: []emulator.APIToken{{Name: "ci", Value: canary + "-token", User: "batch"}},
	})
	server, err := e.Listen("127.0.0.1:0", ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return plant{e, server.URL(), write(t, filepath.Join(t.TempDir(), "ca.pem"), string(ca.PEM())), ca}
}

// passwordFile is the environment of a sidecar that has its password from one.
func (p plant) passwordFile(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{
		"CTM_ENDPOINT=" + p.url, "CTM_CA_FILE=" + p.ca, "CTM_USERNAME=batch",
		"CTM_PASSWORD_FILE=" + write(t, filepath.Join(t.TempDir(), "password"), canary+"\n"),
	}, more...)
}

const up = "gateway is up"

func TestSidecarForwardsHidesItsSecretAndLogsOut(t *testing.T) {
	for name, test := range map[string]struct {
		env    func(t *testing.T, p plant) []string
		signal syscall.Signal
		logins int
	}{
		"a password file, and SIGINT": {func(t *testing.T, p plant) []string { return p.passwordFile(t) }, syscall.SIGINT, 1},
		"a password variable, and SIGTERM": {func(_ *testing.T, p plant) []string {
			return []string{"CTM_ENDPOINT=" + p.url, "CTM_CA_FILE=" + p.ca, "CTM_USER=batch", "CTM_PASSWORD=" + canary}
		}, syscall.SIGTERM, 1},
		"an API token": {func(_ *testing.T, p plant) []string {
			return []string{"CTM_ENDPOINT=" + p.url, "CTM_CA_FILE=" + p.ca, "CTM_API_TOKEN=" + canary + "-token"}
		}, syscall.SIGTERM, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h, upstream, listen := newHome(t), newPlant(t), freeAddress(t)
			p := h.start(t, append(test.env(t, upstream), "CTMGATE_LISTEN="+listen), "sidecar")
			p.waitFor(up)
			if status, body := get(t, "http://"+listen+"/automation-api/config/servers", ""); status != 200 {
				t.Errorf("got %d %s", status, body)
			}
			if code, out := h.run(t, []string{"CTMGATE_LISTEN=" + listen}, "healthcheck"); code != 0 {
				t.Errorf("healthcheck: got %d %s", code, out)
			}
			h.checkAdmin(t, listen)
			if got := upstream.Stats(); got.Logins != test.logins || got.Calls != 1 {
				t.Errorf("got %+v", got)
			}
			if code, _ := p.end(test.signal); code != 0 {
				t.Errorf("it ended with %d", code)
			}
			if got := upstream.Stats(); got.LiveSessions != 0 || got.Logouts != test.logins {
				t.Errorf("it has not logged out: %+v", got)
			}
			nothingLeft(t, h)
		})
	}
}

// checkAdmin looks for the admin API of the sidecar at listen, and for secrets
// in what it tells.
func (h home) checkAdmin(t *testing.T, listen string) {
	t.Helper()
	path := filepath.Join(h.runtime, "ctmgate-"+strings.ReplaceAll(listen, ":", "-")+".sock")
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("got %v, %v", info, err)
	}
	for _, page := range []string{"/config/", "/metrics", "/debug/vars"} {
		status, body := get(t, "http://localhost"+page, path)
		if status != 200 || strings.Contains(body, canary) {
			t.Errorf("%s: got %d %s", page, status, body)
		}
	}
}

func TestTwoSidecarsLiveOnOneMachineButNotAtOneAddress(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	first, second := freeAddress(t), freeAddress(t)
	for _, listen := range []string{first, second} {
		h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen).waitFor(up)
	}
	for _, listen := range []string{first, second} {
		if status, body := get(t, "http://"+listen+"/automation-api/config/servers", ""); status != 200 {
			t.Errorf("%s: got %d %s", listen, status, body)
		}
		h.checkAdmin(t, listen)
	}
	code, out := h.run(t, upstream.passwordFile(t), "sidecar", "--listen", first)
	if code != 1 || !strings.Contains(out, "something else listens there already") {
		t.Errorf("got %d %s", code, out)
	}
	socket := filepath.Join(h.runtime, "ctmgate-"+strings.ReplaceAll(first, ":", "-")+".sock")
	code, out = h.run(t, upstream.passwordFile(t), "sidecar", "--listen", freeAddress(t), "--admin", "unix/"+socket)
	if code != 1 || !strings.Contains(out, "choose another address with --admin") {
		t.Errorf("got %d %s", code, out)
	}
	h.checkAdmin(t, first) // neither took anything from the first
}

func TestAdminAddressOfOnesOwnIsKept(t *testing.T) {
	h, upstream, admin := newHome(t), newPlant(t), freeAddress(t)
	p := h.start(t, upstream.passwordFile(t, "CADDY_ADMIN="+admin), "sidecar", "--listen", "127.0.0.1:0")
	p.waitFor(up)
	if status, body := get(t, "http://"+admin+"/config/", ""); status != 200 || strings.Contains(body, canary) {
		t.Errorf("got %d %s", status, body)
	}
	if code, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	nothingLeft(t, h)
}

func TestAnAdminSocketOfOnesOwnIsItsUsersAlone(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	for mode, given := range map[os.FileMode]string{0o600: "", 0o660: "|0660"} {
		socket := filepath.Join(h.runtime, "own.sock")
		for _, env := range [][]string{
			upstream.passwordFile(t, "CADDY_ADMIN=unix/"+socket+given, "CTMGATE_LISTEN="+freeAddress(t)),
			{"CADDY_ADMIN=unix/" + socket + given, "CTMGATE_LISTEN=" + freeAddress(t)},
		} {
			command, ready := "sidecar", up
			if len(env) == 2 {
				command, ready = "demo", "sent on as session 1"
			}
			p := h.start(t, env, command)
			p.waitFor(ready)
			if info, err := os.Lstat(socket); err != nil || info.Mode() != os.ModeSocket|mode {
				t.Errorf("%s: got %v, %v, want %v", command, info, err, mode)
			}
			if code, out := h.run(t, env, "sessions"); code != 0 || !strings.Contains(out, "unix/"+socket) {
				t.Errorf("%s: got %d %s", command, code, out)
			}
			if code, out := h.run(t, env, "healthcheck"); code != 0 { // at CTMGATE_LISTEN
				t.Errorf("%s: got %d %s", command, code, out)
			}
			p.end(syscall.SIGTERM)
		}
	}
	nothingLeft(t, h)
}

func TestSidecarStartsAfterOneThatWasKilled(t *testing.T) {
	h, upstream, listen := newHome(t), newPlant(t), freeAddress(t)
	p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
	p.waitFor(up)
	p.end(syscall.SIGKILL)
	if len(entries(t, h.runtime)) != 1 {
		t.Fatal("the killed one has left no socket, so this proves nothing")
	}
	p = h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
	p.waitFor(up)
	h.checkAdmin(t, listen)
	if code, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d", code)
	}
}

func TestSidecarServesHTTPS(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	cert, key := upstream.certificate(t)
	for name, flag := range map[string]string{"with a certificate of its own": "internal", "with a certificate from files": cert + "," + key} {
		t.Run(name, func(t *testing.T) {
			listen := freeAddress(t)
			p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen, "--tls", flag)
			p.waitFor(up)
			for _, host := range []string{listen, strings.Replace(listen, "127.0.0.1", "localhost", 1)} {
				// A certificate of its own is made in the background.
				eventually(t, "healthy at "+host, func() bool {
					return target{url: "https://" + host + "/healthz"}.check() == nil
				})
				if status, body := get(t, "https://"+host+"/automation-api/config/servers", ""); status != 200 {
					t.Errorf("got %d %s", status, body)
				}
			}
			if code, out := h.run(t, nil, "healthcheck", "--url", "https://"+listen); code != 0 {
				t.Errorf("healthcheck: got %d %s", code, out)
			}
			if code, _ := p.end(syscall.SIGTERM); code != 0 {
				t.Errorf("it ended with %d", code)
			}
		})
	}
}

// certificate is one of the plant's CA, as files.
func (p plant) certificate(t *testing.T) (cert, key string) {
	t.Helper()
	pair, err := p.issuer.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	return write(t, filepath.Join(folder, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))),
		write(t, filepath.Join(folder, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestStatusAddressServesNothingOfTheAPI(t *testing.T) {
	h, upstream, status := newHome(t), newPlant(t), freeAddress(t)
	socket := filepath.Join(h.runtime, "api.sock")
	p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", "unix/"+socket, "--status-listen", status)
	p.waitFor(up)
	if got, body := get(t, "http://localhost/automation-api/config/servers", socket); got != 200 {
		t.Errorf("the socket: got %d %s", got, body)
	}
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/automation-api/config/servers": 404, "/": 404} {
		if got, body := get(t, "http://"+status+path, ""); got != want || strings.Contains(body, canary) {
			t.Errorf("%s: got %d %s, want %d", path, got, body, want)
		}
	}
	if code, out := h.run(t, []string{"CTMGATE_LISTEN=unix/" + socket}, "healthcheck"); code != 0 {
		t.Errorf("healthcheck: got %d %s", code, out)
	}
	if code, _ := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if got := upstream.Stats(); got.LiveSessions != 0 {
		t.Errorf("it has not logged out: %+v", got)
	}
	nothingLeft(t, h)
}

func TestSidecarThatCannotStartSaysWhy(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	env := func(more ...string) []string { return append(upstream.passwordFile(t), more...) }
	for name, test := range map[string]struct {
		env  []string
		args []string
		code int
		want string
	}{
		"a password file that is not there": {env("CTM_PASSWORD_FILE=/nowhere/password"), nil, 1, "/nowhere/password"},
		"a CA file without a certificate":   {env("CTM_CA_FILE=" + write(t, filepath.Join(t.TempDir(), "x"), "x")), nil, 1, "BEGIN CERTIFICATE"},
		"endpoints that do not fit":         {env("CTM_ENDPOINT=https://a/x,https://b/y"), nil, 2, "one base path"},
		"an endpoint with a query":          {env(), []string{"--endpoint", "https://a/x?q=1"}, 2, "it has a query"},
		"a password as a flag":              {env(), []string{"--password", canary}, 2, "CTM_PASSWORD"},
		"two secrets":                       {env("CTM_PASSWORD=" + canary), nil, 2, "CTM_PASSWORD and CTM_PASSWORD_FILE"},
		"nothing at all":                    {nil, nil, 2, "CTM_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := h.run(t, test.env, append([]string{"sidecar", "--listen", "127.0.0.1:0"}, test.args...)...)
			if code != test.code || !strings.Contains(out, test.want) || strings.Contains(out, "provision http") {
				t.Errorf("got %d %s", code, out)
			}
			nothingLeft(t, h)
		})
	}
}

func TestSidecarWarnsOfAnAddressFromWhichItAdmitsNobody(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", ":0", "--admin", "off")
	p.waitFor("see --admit anyone")
	if slices.ContainsFunc(entries(t, h.runtime), func(name string) bool { return strings.HasSuffix(name, ".sock") }) {
		t.Error("there is an admin socket although it is off")
	}
}
