package automationapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

func TestACertificateThatIsNotTrustedIsDiagnosed(t *testing.T) {
	for name, row := range map[string]struct {
		edit  func(*x509.Certificate)
		trust bool
		words string
	}{
		"unknown CA":   {func(*x509.Certificate) {}, false, "tls_ca_file"},
		"another name": {func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"em.example.com"} }, true, "tls_server_name"},
		"another address": {func(c *x509.Certificate) {
			c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
		}, true, "tls_server_name"},
		"expired":   {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, true, "out of its dates"},
		"not begun": {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, true, "out of its dates"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, pool := certificate(t, row.edit)
			if !row.trust {
				pool = x509.NewCertPool()
			}
			s := serve(t, say(200, goodAnswer))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
			s.StartTLS()
			c := New(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, s.URL)
			_, err := logIn(t, c)
			wantError(t, err, Unreachable, row.words)
			if n := len(s.requests()); n != 0 {
				t.Errorf("%d requests were made to a server that is not trusted", n)
			}
		})
	}
}

func TestAnEndpointThatCannotBeReachedIsDiagnosed(t *testing.T) {
	plain := serve(t, say(200, goodAnswer))
	plain.Start()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	noName := &http.Transport{DialContext: (&net.Dialer{Resolver: nameserver(t)}).DialContext}
	noTLS := talk(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "SSH-2.0-"+bodyCanary+"\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	opaque := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("dialling the way of some proxy: no")
	}}
	for name, row := range map[string]struct {
		rt    http.RoundTripper
		base  string
		words string
	}{
		"plain http where TLS was expected":   {&http.Transport{}, strings.Replace(plain.URL, "http:", "https:", 1), "plain http"},
		"no TLS and no http":                  {&http.Transport{}, strings.Replace(noTLS.base, "http:", "https:", 1), "does not speak TLS"},
		"nobody listens":                      {&http.Transport{}, "https://" + closed.Addr().String(), "no connection to the endpoint"},
		"the name does not exist":             {noName, "https://em.invalid:8443/automation-api", "name does not resolve"},
		"a dialler whose errors nobody knows": {opaque, "https://em.example.com", "dialling the way of some proxy: no"},
		"TLS where plain http was expected":   {&http.Transport{}, strings.Replace(tlsOnly(t), "https:", "http:", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := logIn(t, New(row.rt, row.base))
			if name == "TLS where plain http was expected" {
				wantError(t, err, Failed, "status 400") // Go's own answer to that mistake
				return
			}
			if e := wantError(t, err, Unreachable, row.words); e.Status != 0 {
				t.Errorf("status %d without an answer", e.Status)
			}
		})
	}
	if n := len(plain.requests()); n != 0 {
		t.Errorf("the plain server got %d requests", n)
	}
}

func tlsOnly(t *testing.T) string {
	t.Helper()
	s, _ := serveTLS(t, say(200, goodAnswer))
	return s.URL
}

func TestAHangingEndpointEndsWithTheContext(t *testing.T) {
	for name, begin := range map[string]string{
		"before any answer":     "",
		"in the middle of it":   `{"token" : "` + token,
		"after its first bytes": "{",
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			_, c := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
				if begin != "" {
					_, _ = w.Write([]byte(begin))
					_ = http.NewResponseController(w).Flush()
				}
				<-over // not the request's context, at whose end the answer would be finished
			})
			t.Cleanup(func() { close(over) })
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := c.LogIn(ctx, user, secret.New(password))
			wantError(t, err, TimedOut, "no answer in time")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the cause of %v is not the deadline", err)
			}
			err = c.LogOut(ctx, secret.New(token))
			wantError(t, err, TimedOut, "logging out: no answer in time")
		})
	}
}

func TestACallThatIsGivenUpIsNoTimeOut(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	_, c := serveTLS(t, func(http.ResponseWriter, *http.Request) {
		cancel()
		<-over
	})
	t.Cleanup(func() { close(over) })
	_, err := c.LogIn(ctx, user, secret.New(password))
	wantError(t, err, Failed, "given up")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the cause of %v is not the cancellation", err)
	}
}

func TestATransportsOwnTimeOutIsATimeOut(t *testing.T) {
	over := make(chan struct{})
	s, _ := serveTLS(t, func(http.ResponseWriter, *http.Request) { <-over })
	t.Cleanup(func() { close(over) })
	rt := s.Client().Transport.(*http.Transport).Clone()
	rt.ResponseHeaderTimeout = 50 * time.Millisecond
	_, err := logIn(t, New(rt, s.URL))
	wantError(t, err, TimedOut, "no answer in time")
}

// net/http repeats in its errors what it could not read, and a broken or
// hostile endpoint may say what it was told.
func TestAnAnswerThatIsNotHTTPIsNotRepeated(t *testing.T) {
	const said = password + " " + token + " " + bodyCanary
	for name, row := range map[string]struct {
		answer string
		kind   Kind
	}{
		"an echo":                    {said + "\r\n\r\n", Failed},
		"another protocol":           {"+OK " + said + "\r\n", Failed},
		"an odd version":             {"HTTP/" + password + " 200 OK\r\n\r\n", Failed},
		"an odd status":              {"HTTP/1.1 " + password + " OK\r\n\r\n", Failed},
		"an odd header":              {"HTTP/1.1 200 OK\r\n" + said + "\r\n\r\n", Failed},
		"an odd length":              {"HTTP/1.1 200 OK\r\nContent-Length: " + password + "\r\n\r\n", Failed},
		"an odd encoding":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + password + "\r\n\r\n", Failed},
		"an odd chunk":               {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + said + "\r\n", Failed},
		"an odd place to be sent to": {"HTTP/1.1 302 Found\r\nLocation: http://[" + password + "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", Failed},
		"nothing":                    {"", Unreachable},
		"an answer that breaks off":  {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"token\":\"" + token, Unreachable},
		"a header that breaks off":   {"HTTP/1.1 200 OK\r\nX: " + said, Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			c := recite(t, row.answer)
			_, err := logIn(t, c)
			wantError(t, err, row.kind, "logging in: ")
			err = c.LogOut(t.Context(), secret.New(token))
			wantError(t, err, row.kind, "logging out: ")
		})
	}
}

func TestAnEndpointThatIsNoURLIsNotRepeated(t *testing.T) {
	_, err := logIn(t, New(&http.Transport{}, "https://user:"+password+"@[::1"))
	wantError(t, err, Failed, "not a usable URL")
}

func TestErrorsReadWell(t *testing.T) {
	for want, e := range map[string]*Error{
		"logging in: the answer has no token":            {Op: "logging in", Reason: "the answer has no token"},
		"logging in: connection reset":                   {Op: "logging in", Err: errors.New("connection reset")},
		"logging in: no answer in time: deadline passed": {Op: "logging in", Reason: "no answer in time", Err: errors.New("deadline passed")},
	} {
		if e.Error() != want || !errors.Is(e, e.Err) && e.Err != nil {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}
