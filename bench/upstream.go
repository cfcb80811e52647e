package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// upstreamToken is the token of every session: reverse_proxy has it in its config, and the gateway gets it by logging
// in. It is as long as a real one (controlm-api.md, section 1).
var upstreamToken = strings.Repeat("0123456789ABCDEF", 8)

// serversAnswer is what the upstream answers a call with, some 600 bytes in the API's own layout.
var serversAnswer = func() string {
	var servers []string
	for i := range 4 {
		servers = append(servers, fmt.Sprintf(`{
  "name" : "ctmprod%d",
  "host" : "ctm%d.example.com",
  "state" : "Up",
  "message" : "Connected since 2026-11-21",
  "version" : "9.0.21.200"
}`, i, i))
	}
	return "[ " + strings.Join(servers, ", ") + " ]"
}()

// serveUpstream is the API as far as the comparison needs it: plain, fast, and the same for all.
func serveUpstream(args []string, in io.Reader, out io.Writer) error {
	set := flag.NewFlagSet("upstream", flag.ContinueOnError)
	caFile := set.String("tls", "", "serve TLS, and write the certificate to this file")
	if err := set.Parse(args); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: newUpstream(), ReadHeaderTimeout: time.Minute}
	scheme := "http"
	if *caFile != "" {
		scheme = "https"
		if server.TLSConfig, err = newCertificate(*caFile); err != nil {
			return err
		}
		ln = tls.NewListener(ln, server.TLSConfig)
	}
	fmt.Fprintf(out, "%s://%s\n", scheme, ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = server.Close()
	}()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newUpstream answers the one call that is measured, and what a gateway needs to get there.
func newUpstream() http.Handler {
	mux := http.NewServeMux()
	length := []string{strconv.Itoa(len(serversAnswer))}
	kind := []string{"application/json"}
	authorized := "Bearer " + upstreamToken
	mux.HandleFunc("GET "+callPath, func(w http.ResponseWriter, r *http.Request) {
		got := r.Header["Authorization"]
		if !slices.Equal(got, []string{authorized}) || len(r.Header["X-Api-Key"]) > 0 {
			http.Error(w, "expected exactly one Authorization, with the token", http.StatusBadRequest)
			return
		}
		w.Header()["Content-Type"] = kind
		w.Header()["Content-Length"] = length
		_, _ = io.WriteString(w, serversAnswer)
	})
	mux.HandleFunc("POST /automation-api/session/login", func(w http.ResponseWriter, r *http.Request) {
		var login struct{ Username, Password string }
		if err := json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&login); err != nil || login.Password != upstreamPassword {
			http.Error(w, `{"errors":[{"message":"Failed to login: Incorrect username or password"}]}`, http.StatusUnauthorized)
			return
		}
		w.Header()["Content-Type"] = kind
		fmt.Fprintf(w, "{\n  \"username\" : %q,\n  \"token\" : %q,\n  \"version\" : \"9.21.220\"\n}", login.Username, upstreamToken)
	})
	mux.HandleFunc("POST /automation-api/session/logout", func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = kind
		fmt.Fprint(w, "{\n  \"message\" : \"Successfully logged out from session\"\n}")
	})
	return mux
}

// newCertificate makes a certificate for loopback that signs itself, and writes it where the callers read it.
func newCertificate(caFile string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "ctmgate bench"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.ParseIP(loopback)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(caFile, block, 0o600); err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"http/1.1"},
		MinVersion:   tls.VersionTLS12,
	}, nil
}
