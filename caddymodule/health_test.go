package caddymodule_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestHealthAsksNothingOfControlM(t *testing.T) {
	g := startGateway(t, "{ADDR} {\n\tcontrolm_health\n\trespond 404\n}")
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/healthz/": 404, "/other": 404} {
		if got := g.get(path); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	if got := g.do(http.MethodPost, "/healthz", nil, nil); got.status != 404 {
		t.Errorf("POST: %d", got.status)
	}
	if got := g.do(http.MethodHead, "/readyz", nil, nil); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}

func TestReadinessEndsWithTheShutdownDelay(t *testing.T) {
	g := startGateway(t, "{\n\tshutdown_delay 2s\n}\n{ADDR} {\n\tcontrolm_health\n\trespond 404\n}")
	if got := g.get("/readyz"); got.status != 200 {
		t.Fatalf("before: %d", got.status)
	}
	stopped := make(chan error)
	go func() { stopped <- caddy.Stop() }()
	deadline := time.Now().Add(2 * time.Second)
	for g.get("/readyz").status != 503 {
		if time.Now().After(deadline) {
			t.Fatal("still ready in the shutdown delay")
		}
	}
	if got := g.get("/healthz"); got.status != 200 {
		t.Errorf("alive in the shutdown delay: %d", got.status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// unwell is a gateway with the accounts first and second, whose passwords were
// refused, and good, which can be used.
func unwell(t *testing.T) *gateway {
	t.Helper()
	up := startUpstream(t, emulator.Options{})
	app := "environment prod {\nendpoint " + up.URL() + "\ntls_ca_file " + up.caFile + "\ndefault_account good\n" +
		"account good {\napi_token {file." + secretFile(t, canaryToken) + "}\n}\n"
	sites := "controlm_health\n"
	for _, name := range []string{"first", "second"} {
		app += "account " + name + " {\nusername " + name + "\npassword {file." + secretFile(t, canaryPassword) + "}\n}\n"
		sites += "handle_path /" + name + "/* {\ncontrolm prod {\naccount " + name + "\n}\n}\n"
	}
	g := startGateway(t, "{\nservers {\nlistener_wrappers {\nproxy_protocol {\nallow 127.0.0.1/32\n}\n}\n}\ncontrolm {\n"+app+"}\n}\n}\n"+
		"{ADDR} {\n"+sites+"}\n")
	for _, name := range []string{"first", "second"} {
		wantReply(t, g.get("/"+name+"/automation-api/config/servers"), 502, "ctmgate.login_refused")
	}
	return g
}

func TestReadinessLooksAtTheAccountsThatAreAsked(t *testing.T) {
	g := unwell(t)
	const first, second, unknown = "prod/first: refused\n", "prod/second: refused\n", "there is no such account\n"
	for query, want := range map[string]string{
		"":                    "",
		"?accounts":           first + second,
		"?account=prod/good":  "",
		"?account=prod/first": first,
		"?account=prod/second&account=prod/second":        second,
		"?account=prod/good&account=prod/second":          second,
		"?account=prod/second&account=prod/good":          second,
		"?account=prod/second&account=prod/first":         first + second,
		"?account=prod/good&account=prod/good":            "",
		"?account=prod/third":                             unknown,
		"?account=":                                       unknown,
		"?account=prod/good&account=prod/third":           unknown,
		"?account=prod/third&account=prod/good":           unknown,
		"?account=prod/third&account=prod/second":         second + unknown,
		"?account=prod%2Fgood&account=prod%2Ffirst&other": first,
	} {
		status := 503
		if want == "" {
			status, want = 200, "ok\n"
		}
		if got := g.get("/readyz" + query); got.status != status || got.body != want {
			t.Errorf("%q: %d %q, want %q", query, got.status, got.body, want)
		}
	}
}

// A proxy or tunnel on this machine lets the world in, as it would at
// `admit loopback`.
func TestReadinessNamesAccountsOnThisMachineOnly(t *testing.T) {
	g := unwell(t)
	for line, named := range map[string]bool{
		"":                           true,
		"Accept: */*":                true,
		"x-forwarded-for: 192.0.2.1": false,
		"X-Forwarded-For: 127.0.0.1": false,
		"X-Forwarded-Proto: https":   false,
		"Forwarded: for=192.0.2.1":   false,
		"X-Real-IP: 192.0.2.1":       false,
		"Via: 1.1 tunnel":            false,
		"PROXY TCP4 192.0.2.7 127.0.0.1 40000 80": false,
		"PROXY TCP4 127.0.0.9 127.0.0.1 40000 80": true,
	} {
		for query, details := range map[string]string{"accounts": "prod/first: refused\nprod/second: refused\n", "account=prod/first": "prod/first: refused\n"} {
			head, request := "", "GET /readyz?"+query+" HTTP/1.1\r\nHost: "+g.addr+"\r\n"
			switch {
			case strings.HasPrefix(line, "PROXY"):
				head = line + "\r\n"
			case line != "":
				request += line + "\r\n"
			}
			conn := g.dial()
			if _, err := io.WriteString(conn, head+request+"\r\n"); err != nil {
				t.Fatal(err)
			}
			got := readReply(t, bufio.NewReader(conn), http.MethodGet)
			if !named {
				details = "an account is not usable\n"
			}
			if got.status != 503 || got.body != details {
				t.Errorf("%q, %s: %d %q, want %q", line, query, got.status, got.body, details)
			}
		}
	}
}
