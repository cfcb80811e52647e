package automationapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// The secrets of every test; none may be seen in an error.
const (
	user       = "gateway"
	password   = "c4n4ry-p4ssw0rd"
	token      = "C4N4RY0123456789ABCDEF"
	bodyCanary = "c4n4ry-b0dy"
)

// request is what reached a server, read to its end.
type request struct {
	method, uri, body string
	header            http.Header
	length            int64
}

// server is an Automation API over real TCP that remembers its requests.
type server struct {
	*httptest.Server
	mu   sync.Mutex
	seen []request
}

func serve(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.seen = append(s.seen, request{r.Method, r.RequestURI, string(body), r.Header, r.ContentLength})
		s.mu.Unlock()
		answer(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	t.Cleanup(s.Close)
	return s
}

// serveTLS serves with a certificate of its own that the returned client trusts.
func serveTLS(t *testing.T, answer http.HandlerFunc) (*server, *Client) {
	t.Helper()
	s := serve(t, answer)
	s.StartTLS()
	return s, New(s.Client().Transport, s.URL+"/automation-api")
}

func (s *server) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.seen...)
}

// say answers with status and body.
func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// recite reads a request and writes back raw bytes, whatever they are.
func recite(t *testing.T, answer string) *Client {
	t.Helper()
	return talk(t, func(conn net.Conn) {
		buf := make([]byte, 4096)
		for got := ""; !strings.Contains(got, password) && !strings.Contains(got, token); {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			got += string(buf[:n])
		}
		_, _ = io.WriteString(conn, answer)
	})
}

// talk serves each connection with say, and closes it.
func talk(t *testing.T, say func(net.Conn)) *Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			say(conn)
			conn.Close()
		}
	})
	rt := &http.Transport{}
	t.Cleanup(func() { l.Close(); wg.Wait(); rt.CloseIdleConnections() })
	return New(rt, "http://"+l.Addr().String()+"/automation-api")
}

// certificate returns a certificate of its own making, signed by itself.
func certificate(t *testing.T, edit func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "em"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	edit(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func logIn(t *testing.T, c *Client) (Login, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c.LogIn(ctx, user, secret.New(password))
}

// wantError fails unless err is an *Error of kind that says words and nothing
// secret, all the way down its chain.
func wantError(t *testing.T, err error, kind Kind, words string) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != kind || KindOf(err) != kind {
		t.Fatalf("got %T, kind %v: %v; want kind %v", err, KindOf(err), err, kind)
	}
	if !strings.Contains(err.Error(), words) {
		t.Errorf("error %q does not say %q", err, words)
	}
	for below := err; below != nil; below = errors.Unwrap(below) {
		for _, canary := range []string{password, token, bodyCanary} {
			if strings.Contains(strings.ToLower(below.Error()), strings.ToLower(canary)) {
				t.Errorf("error %q shows %s", below, canary)
			}
		}
	}
	if len(err.Error()) > 400 {
		t.Errorf("an error of %d characters", len(err.Error()))
	}
	return e
}

// nameserver answers every question with "no such name".
func nameserver(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			answer := bytes.Clone(buf[:n])
			answer[2], answer[3] = answer[2]|0x80, 0x83 // a response: recursion available, NXDOMAIN
			_, _ = conn.WriteTo(answer, from)
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}
