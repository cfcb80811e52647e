package cli

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestHealthTargetComesFromURLElseFromTheListenAddress(t *testing.T) {
	for name, test := range map[string]struct{ url, listen, want, socket string }{
		"nothing is set":             {"", "", "http://127.0.0.1:8080/readyz", ""},
		"all addresses":              {"", ":9090", "http://127.0.0.1:9090/readyz", ""},
		"one address":                {"", "192.0.2.7:80", "http://192.0.2.7:80/readyz", ""},
		"a socket with a mode":       {"", "unix//run/x.sock|0660", "http://localhost/readyz", "/run/x.sock"},
		"a URL":                      {"https://127.0.0.1:1", ":9090", "https://127.0.0.1:1/readyz", ""},
		"a URL with a path":          {"http://127.0.0.1:1/readyz", "", "http://127.0.0.1:1/readyz", ""},
		"a socket as URL":            {"unix//run/x.sock", "", "http://localhost/readyz", "/run/x.sock"},
		"a URL with a question":      {"http://127.0.0.1:1?accounts", "", "http://127.0.0.1:1/readyz?accounts", ""},
		"a URL with slash and more":  {"http://127.0.0.1:1/?account=a/b&account=c%2Fd#top", "", "http://127.0.0.1:1/readyz?account=a/b&account=c%2Fd", ""},
		"a URL in capitals":          {"HTTP://LOCALHOST:1//", "", "http://LOCALHOST:1/readyz", ""},
		"a URL with an IPv6 address": {"http://[::1]:1", "", "http://[::1]:1/readyz", ""},
		"a URL with an escaped path": {"http://127.0.0.1/a%2Fb%20c", "", "http://127.0.0.1/a%2Fb%20c", ""},
		"an address with a question": {"127.0.0.1:1?accounts", "", "http://127.0.0.1:1/readyz?accounts", ""},
		"a socket with a question":   {"unix//run/x.sock?accounts", "", "http://localhost/readyz?accounts", "/run/x.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := healthTarget(test.url, test.listen)
			if err != nil || got.url != test.want || got.socket != test.socket {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for _, url := range []string{"ftp://x", "http://", "http://u:" + canary + "@x", "http://x?token=" + canary + "\x00", "http://:80", "127.0.0.1"} {
		_, err := healthTarget(url, "")
		var usage usageError
		if !errors.As(err, &usage) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v, want a usage error without a secret", url, err)
		}
	}
}

func TestHealthcheckTellsReadyFromNot(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "accounts" {
			http.Error(w, "prod/a: refused\nprod/b: \x1bpaused", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/readyz", http.StatusFound) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	plainServer, tlsServer := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plainServer.Close()
	defer tlsServer.Close()
	socket := filepath.Join(shortFolder(t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	unixServer := httptest.NewUnstartedServer(mux)
	_ = unixServer.Listener.Close()
	unixServer.Listener = ln
	unixServer.Start()
	defer unixServer.Close()

	for url, why := range map[string]string{
		plainServer.URL:                             "",
		tlsServer.URL:                               "", // its certificate is unknown, and it is a loopback address
		"unix/" + socket:                            "",
		plainServer.URL + "/redirect":               "answered 302",
		plainServer.URL + "/broken":                 "answered 503",
		plainServer.URL + "/none":                   "answered 404: controlm_health is missing there; add it to that site",
		plainServer.URL + "?accounts":               "/readyz answered 503: prod/a: refused prod/b: paused",
		plainServer.URL + "/broken?token=" + canary: "/broken answered 503",
		"http://127.0.0.1:1":                        "refused",
		"unix/" + socket + "x":                      "no such file",
	} {
		target, err := healthTarget(url, "")
		if err != nil {
			t.Fatal(err)
		}
		err = target.check()
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), canary)) {
			t.Errorf("%s: got %v, want %q", url, err, why)
		}
	}
}
