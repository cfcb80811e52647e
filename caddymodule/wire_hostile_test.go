package caddymodule_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func TestWireATargetWithoutAPathIsNeverSent(t *testing.T) {
	for name, row := range map[string]struct{ base, site, target string }{
		"an endpoint without a base path": {"/", "", "http:http://h/session/logout"},
		"a path that is set in front":     {"", "rewrite * /automation-api{path}", "http:http://h/automation-api/session/logout"},
		"a plain site":                    {"", "", "http:http://h/automation-api/authentication/tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			up := startUpstream(t, emulator.Options{BasePath: row.base})
			g := startGateway(t, fmt.Sprintf("{ADDR} {\n\t%s\n\tcontrolm %s {\n\t\ttls_ca_file %s\n\t\t%s\n\t}\n}",
				row.site, up.URL(), up.caFile, wireUser(t)))
			for _, method := range []string{"GET", "POST"} {
				g.rawCall(method, row.target).wantOwn(t, http.StatusNotFound, "ctmgate.outside_api")
			}
			if s := up.Stats(); s.Logins != 0 || s.Logouts != 0 || s.Calls != 0 || s.RejectedCalls != 0 {
				t.Errorf("upstream saw %+v", s)
			}
		})
	}
}

func TestWireAnAnswerThatQuotesTheTokenLeavesItOutOfTheLog(t *testing.T) {
	var token string
	front := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.HasSuffix(r.URL.Path, "/config/servers") {
			next.ServeHTTP(w, r)
			return
		}
		token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		answerRaw(w, "HTTP/1.1 200 OK\r\nbad line "+token+"\r\n\r\n")
	})
	g := startGateway(t, wireSite(front.url, wireUser(t)))
	g.rawGet("/automation-api/config/servers").wantOwn(t, http.StatusBadGateway, "ctmgate.upstream_unreachable")
	if log := g.logText(); token == "" || strings.Contains(log, token) || !strings.Contains(log, "the answer is not HTTP") {
		t.Errorf("token of %d characters; the log is %s", len(token), log)
	}
}

func TestWireInterimAnswersWithoutEndEndWithTheTimeout(t *testing.T) {
	front := startFront(t, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		for r.Context().Err() == nil {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	g := startGateway(t, wireSite(front.url, wireUser(t), "transport http {\n response_header_timeout 200ms\n }"))
	g.rawGet("/automation-api/config/servers").wantOwn(t, http.StatusGatewayTimeout, "ctmgate.upstream_timeout")
}

func TestWireABodyThatBreaksOffIsNotBlamedOnUpstream(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, strings.Replace(up.sidecar(wirePassword(t)), "controlm ", "request_body {\n\t\tmax_size 4\n\t}\n\tcontrolm ", 1))
	chunked := func(path, body string) reply {
		return g.raw("POST " + path + " HTTP/1.1\r\nHost: " + g.addr + "\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body)
	}
	chunked(wireEcho, "ZZ\r\nhello\r\n0\r\n\r\n").wantOwn(t, http.StatusBadRequest, "ctmgate.bad_body")
	chunked(wireEcho, "8\r\nhellohel\r\n0\r\n\r\n").wantOwn(t, http.StatusRequestEntityTooLarge, "ctmgate.body_too_large")
	chunked("/automation-api/session/login", "ZZ\r\n").wantOwn(t, http.StatusBadRequest, "ctmgate.bad_body")
	if strings.Contains(g.logText(), "could not forward") {
		t.Error("the log blames upstream")
	}
}

func wirePassword(t testing.TB) string { return "{file." + secretFile(t, canaryPassword) + "}" }

func TestAKeptSessionLogsWhereTheRunningConfigSays(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	folder, password := t.TempDir(), wirePassword(t)
	config := func(log string) string {
		return "{\n\tlog default {\n\t\toutput file " + filepath.Join(folder, log) + "\n\t}\n}\n" + up.sidecar(password)
	}
	g := wireIdle(t)
	for _, log := range []string{"first.log", "second.log"} {
		if err := g.load(config(log)); err != nil {
			t.Fatal(err)
		}
	}
	wireEventually(t, "a call is answered", func() bool {
		res, err := http.Get(g.url("/automation-api/config/servers"))
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	content, err := os.ReadFile(filepath.Join(folder, "second.log"))
	if err != nil || !strings.Contains(string(content), `"logged in"`) {
		t.Errorf("the second log: %v %s", err, content)
	}
}
