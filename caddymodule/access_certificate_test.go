package caddymodule_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// department is a CA that signs certificates of servers and clients.
type department struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newDepartment(t testing.TB) *department {
	t.Helper()
	d := &department{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Department CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	pair := d.sign(template, time.Hour)
	d.cert, d.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	return d
}

// sign makes a certificate that lasts for so long; a self-signed one at first.
func (d *department) sign(template *x509.Certificate, lasts time.Duration) tls.Certificate {
	d.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(lasts)
	parent, signer := d.cert, d.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		d.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// clientCertificate is one for CN=name,O=Example.
func (d *department) clientCertificate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"Example"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

// files writes the CA and a server's certificate for localhost, and returns
// their paths.
func (d *department) files() (ca, cert, key string) {
	d.t.Helper()
	server := d.sign(&x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, time.Hour)
	private, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		d.t.Fatal(err)
	}
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(d.t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			d.t.Fatal(err)
		}
		return path
	}
	return write("ca.pem", "CERTIFICATE", d.cert.Raw), write("server.pem", "CERTIFICATE", server.Certificate[0]), write("server-key.pem", "PRIVATE KEY", private)
}

// call asks the site https://localhost at addr with a certificate, if given.
func (d *department) call(addr string, certificate *tls.Certificate, edit func(*http.Request)) (got reply, err error) {
	d.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(d.cert)
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if certificate != nil {
		// Sent whatever the server says it takes.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: config,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		d.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, "https://localhost:"+port+wireEcho, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	sweep(d.t, "the answer", content)
	return reply{res.StatusCode, res.Header, string(content)}, err
}

// site serves https://localhost at addr, with client_auth in
// this mode.
func (d *department) site(t testing.TB, up *upstream, addr, mode string) string {
	t.Helper()
	ca, cert, key := d.files()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return "{\nauto_https off\ncontrolm {\n" + accessEnvironment(t, up.URL(), up.trusted()) +
		accessClient("nightly", nightlyKey, "certificate_subject CN=nightly,O=Example CN=nachts,O=Example", "account prod/reports", "allow * /*") +
		accessClient("reader", readerKey, "allow * /*") +
		"}\n}\nhttps://localhost:" + port + " {\nbind 127.0.0.1\ntls " + cert + " " + key + " {\nclient_auth {\nmode " + mode +
		"\ntrust_pool file " + ca + "\n}\n}\ncontrolm prod\n}\n"
}

func TestAClientProvesItselfByACertificateThatCaddyHasVerified(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	d, strangers, addr := newDepartment(t), newDepartment(t), freeAddr(t)
	startGateway(t, d.site(t, up, addr, "require_and_verify"))
	signed := func(by *department, template *x509.Certificate, lasts time.Duration) *tls.Certificate {
		pair := by.sign(template, lasts)
		return &pair
	}
	nightly := signed(d, d.clientCertificate("nightly"), time.Hour)
	for _, c := range []struct {
		name        string
		certificate *tls.Certificate
		edit        func(*http.Request)
		status      int // 0: no handshake
		code        string
	}{
		{"its certificate", nightly, nil, 200, ""},
		{"its other certificate", signed(d, d.clientCertificate("nachts"), time.Hour), nil, 200, ""},
		{"its certificate and its key", nightly, asBearer(nightlyKey), 200, ""},
		{"a certificate that is no client's, and its key", signed(d, d.clientCertificate("printer"), time.Hour), asAPIKey(nightlyKey), 200, ""},
		{"a certificate that is no client's", signed(d, d.clientCertificate("printer"), time.Hour), nil, 401, "ctmgate.client_unauthenticated"},
		{"a name in other case", signed(d, d.clientCertificate("Nightly"), time.Hour), nil, 401, "ctmgate.client_unauthenticated"},
		{"a name that has the other inside", signed(d, d.clientCertificate("nightly,O=Example"), time.Hour), nil, 401, "ctmgate.client_unauthenticated"},
		{"its certificate and a wrong key", nightly, asBearer(wrongKey), 401, "ctmgate.client_unauthenticated"},
		{"its certificate and an empty key", nightly, asAPIKey(""), 401, "ctmgate.client_unauthenticated"},
		{"its certificate and another client's key", nightly, asBearer(readerKey), 400, "ctmgate.ambiguous_credentials"},
		{"no certificate", nil, asBearer(nightlyKey), 0, ""},
		{"a certificate of another CA", signed(strangers, d.clientCertificate("nightly"), time.Hour), nil, 0, ""},
		{"a certificate that has ended", signed(d, d.clientCertificate("nightly"), -time.Hour), nil, 0, ""},
		{"a server's certificate", signed(d, &x509.Certificate{Subject: d.clientCertificate("nightly").Subject,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, time.Hour), nil, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := up.Stats()
			got, err := d.call(addr, c.certificate, c.edit)
			if (err != nil) != (c.status == 0) {
				t.Fatalf("got %d %s, %v", got.status, got.body, err)
			}
			switch c.status {
			case 0:
				up.sawNothing(t, before)
			case 200:
				if user := got.echoed(t).SessionUser; user != "reporter" {
					t.Errorf("it was made as %s, expected nightly's reporter", user)
				}
			default:
				got.wantOwn(t, c.status, c.code)
				up.sawNothing(t, before)
			}
		})
	}
}

// {http.request.tls.client.subject} is there for every certificate, also for
// one that anybody made for themselves.
func TestACertificateThatNobodyVerifiedProvesNothing(t *testing.T) {
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	d, strangers := newDepartment(t), newDepartment(t)
	forged := strangers.sign(d.clientCertificate("nightly"), time.Hour)
	genuine := d.sign(d.clientCertificate("nightly"), time.Hour)
	for _, mode := range []string{"request", "require"} {
		t.Run(mode, func(t *testing.T) {
			addr := freeAddr(t)
			startGateway(t, d.site(t, up, addr, mode))
			for name, certificate := range map[string]*tls.Certificate{"a forged one": &forged, "a genuine one": &genuine} {
				before := up.Stats()
				got, err := d.call(addr, certificate, nil)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				wantUnknown(t, got)
				up.sawNothing(t, before)
				if got, err = d.call(addr, certificate, asBearer(nightlyKey)); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if user := got.echoed(t).SessionUser; user != "reporter" {
					t.Errorf("%s beside the key: made as %s", name, user)
				}
			}
		})
	}
	t.Run("verify_if_given", func(t *testing.T) {
		addr := freeAddr(t)
		startGateway(t, d.site(t, up, addr, "verify_if_given"))
		got, err := d.call(addr, &genuine, nil)
		if err != nil {
			t.Fatal(err)
		}
		got.echoed(t)
		if got, err = d.call(addr, nil, nil); err != nil {
			t.Fatal(err)
		}
		wantUnknown(t, got)
		if _, err = d.call(addr, &forged, nil); err == nil {
			t.Error("a forged certificate got through the handshake")
		}
	})
}
