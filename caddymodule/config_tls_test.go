package caddymodule_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestAnUnknownCertificateIsRefusedBeforeAnythingIsSent(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	password := "{file." + secretFile(t, canaryPassword) + "}"
	for _, c := range []struct{ name, caddyfile, hint string }{
		{"no tls_ca_file", strings.Replace(up.sidecar(password), "tls_ca_file "+up.caFile, "", 1), "name the certificate of its CA"},
		{"another CA", strings.Replace(up.sidecar(password), up.caFile, withSecretFiles(t, secretsFolder)+"/other-ca.pem", 1), "name the certificate of its CA"},
		{"another name", up.sidecar(password, "tls_server_name em.example.com"), "give that name with tls_server_name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startGateway(t, c.caddyfile)
			wantReply(t, g.get("/automation-api/config/servers"), 502, "ctmgate.upstream_unreachable")
			if !strings.Contains(g.logged(), c.hint) {
				t.Errorf("the log does not say %q", c.hint)
			}
		})
	}
	if s := up.Stats(); s.Logins+s.RefusedLogins+s.FailedLogins+s.Calls+s.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected nothing at all", s)
	}
}

func TestTLSServerNameIsTheNameThatIsChecked(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}", "tls_server_name localhost"))
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
}

func TestTheTLSWordsHoldForASchemeInCapitals(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, strings.Replace(up.sidecar("{file."+secretFile(t, canaryPassword)+"}"), "https://", "HTTPS://", 1))
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
}

func TestSkippingVerificationWorksAndWarnsAtEachStart(t *testing.T) {
	const warning = "tls_insecure_skip_verify accepts any certificate"
	up := startUpstream(t, emulator.Options{})
	caddyfile := strings.Replace(up.sidecar("{file."+secretFile(t, canaryPassword)+"}"), "tls_ca_file "+up.caFile, "tls_insecure_skip_verify", 1)
	g := startGateway(t, caddyfile)
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
	if n := strings.Count(g.logged(), warning); n != 1 {
		t.Errorf("warned %d times, expected once", n)
	}
	if err := g.load(caddyfile); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(g.logged(), warning); n != 2 {
		t.Errorf("warned %d times after a reload, expected twice", n)
	}
}

func TestAdmitAnyoneWarnsAndLoopbackDoesNot(t *testing.T) {
	const warning = "admit anyone: whoever reaches this address acts as the account"
	up := startUpstream(t, emulator.Options{})
	password := "{file." + secretFile(t, canaryPassword) + "}"
	g := startGateway(t, up.sidecar(password))
	if strings.Contains(g.logged(), warning) {
		t.Error("loopback warned as if anyone were admitted")
	}
	if err := g.load(up.sidecar(password, "admit anyone")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(g.logged(), warning) {
		t.Error("admit anyone did not warn")
	}
	got := g.getAfterLoad("/automation-api/config/servers", func(r *http.Request) {
		r.Host = "em.example.com"
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
	})
	wantReply(t, got, 200, "")
}

// TestTheClientCertificateIsShownAtLoginsAndCalls has an upstream of its own,
// since the emulator asks for no certificate.
func TestTheClientCertificateIsShownAtLoginsAndCalls(t *testing.T) {
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	serverPair, err := ca.Certificate("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	folder := withSecretFiles(t, secretsFolder)
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	api := emulator.New(emulator.Options{Users: []emulator.User{{Name: "emuser", Password: canaryPassword}}})
	var shown sync.Map // path → the certificate that came with it, DER
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Store(r.URL.Path, r.TLS.PeerCertificates[0].Raw)
		api.ServeHTTP(w, r)
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{serverPair}, ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)

	g := startGateway(t, "{ADDR} {\n\tcontrolm "+server.URL+"/automation-api {\n"+
		"\t\ttls_ca_file "+caFile+"\n\t\tusername emuser\n\t\tpassword {file."+folder+"/ctm_password}\n"+
		"\t\ttls_client_certificate "+folder+"/client.pem "+folder+"/client-key.pem\n\t}\n}")
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")

	content, err := os.ReadFile(filepath.Join(folder, "client.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/automation-api/session/login", "/automation-api/config/servers"} {
		if der, ok := shown.Load(path); !ok || !bytes.Equal(der.([]byte), block.Bytes) {
			t.Errorf("%s came without the client certificate", path)
		}
	}
}
