package caddymodule_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// cutAnswers are answers that end before they should, as upstream writes them.
var cutAnswers = map[string]string{
	"at once":     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n",
	"in a length": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/octet-stream\r\n\r\nabc",
	"in JSON":     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n[{\"a\":1}",
	"in chunks":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n3\r\nabc\r\n",
	"in a chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n8\r\n[{\"a\"",
	"late":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n10000\r\n" + strings.Repeat("x", 0x10000) + "\r\n",
}

// startCutter is an upstream that answers the path /cut/NAME with one of
// cutAnswers, and ends the connection.
func startCutter(t testing.TB) *wireFront {
	t.Helper()
	return startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if answer, ok := cutAnswers[strings.TrimPrefix(r.URL.Path, "/automation-api/cut/")]; ok {
			answerRaw(w, answer)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestWireAnAnswerThatBreaksOffIsNotTakenForWholeByAnyProtocol(t *testing.T) {
	certFile, keyFile, roots := certificate(t)
	up := startCutter(t)
	g := wireStart(t, "{\n\tauto_https disable_redirects\n}\nhttps://127.0.0.1:{PORT} {\n\tbind 127.0.0.1\n\ttls "+certFile+" "+keyFile+
		strings.TrimPrefix(wireSite(up.url, wireUser(t)), "{ADDR} {"))
	trust := func(protocol string) *tls.Config { return &tls.Config{RootCAs: roots, NextProtos: []string{protocol}} }
	three := &http3.Transport{TLSClientConfig: trust(http3.NextProtoH3)}
	defer three.Close()
	for protocol, transport := range map[string]http.RoundTripper{
		"HTTP/1.1": &http.Transport{TLSClientConfig: trust("http/1.1"), DisableKeepAlives: true},
		"HTTP/2.0": &http.Transport{TLSClientConfig: trust("h2"), ForceAttemptHTTP2: true},
		"HTTP/3.0": three,
	} {
		t.Run(protocol, func(t *testing.T) {
			client := clientHTTP(t, transport)
			defer client.CloseIdleConnections()
			for name := range cutAnswers {
				res, err := client.Get("https://" + g.addr + "/automation-api/cut/" + strings.ReplaceAll(name, " ", "%20"))
				if err != nil {
					continue // before its beginning was passed on
				}
				content, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err == nil || res.Proto != protocol {
					t.Errorf("%s: got %d %.20q over %s, and %v", name, res.StatusCode, content, res.Proto, err)
				}
			}
			res, err := client.Get("https://" + g.addr + wireEcho)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || res.Proto != protocol {
				t.Errorf("a whole answer: got %d over %s, and %v", res.StatusCode, res.Proto, err)
			}
		})
	}
}
