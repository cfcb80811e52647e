package caddymodule_test

import (
	"crypto/tls"
	"fmt"
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

func TestWireAnAnswerThatBreaksOffIsAFailureInLogAndMetrics(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		name := strings.TrimPrefix(r.URL.Path, "/automation-api/cut/")
		switch answer, ok := cutAnswers[name]; {
		case ok:
			answerRaw(w, answer)
		case name == "with what it was sent":
			answerRaw(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"+r.Header.Get("Authorization")+"\r\n")
		case name == "late for ever":
			_, _ = io.WriteString(w, "abc")
			_ = http.NewResponseController(w).Flush()
			<-over
		default:
			next.ServeHTTP(w, r)
		}
	})
	g := wireStart(t, "{ADDR} {\n\tmetrics /metrics\n\t"+strings.Replace(
		strings.TrimPrefix(wireSite(up.url, "name cut", "transport http {\n\t\t\tread_timeout 500ms\n\t\t}", wireUser(t)), "{ADDR} {"), "controlm", "controlm /automation-api/*", 1))
	const unreachable = "ctmgate.upstream_unreachable"
	type row struct{ code, logged string }
	rows := map[string]row{
		"with what it was sent": {unreachable, "the answer is not HTTP"},
		"late for ever":         {"ctmgate.upstream_timeout", "timeout"},
	}
	for name := range cutAnswers {
		rows[name] = row{unreachable, "unexpected EOF"}
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			g := g.in(t)
			id := strings.ReplaceAll(name, " ", "-")
			conn := g.dial()
			fmt.Fprintf(conn, "GET /automation-api/cut/%s HTTP/1.1\r\nHost: %s\r\nX-Request-Id: %s\r\n\r\n", strings.ReplaceAll(name, " ", "%20"), g.addr, id)
			if _, err := io.ReadAll(conn); err != nil {
				t.Fatal(err)
			}
			if line := g.auditOfID(id); line.Status != 200 || line.Code != row.code || line.Decision != "allowed" {
				t.Errorf("the audit line is %s", line.text)
			}
			var found string
			for line := range strings.Lines(g.logText()) {
				if strings.Contains(line, `"an answer broke off"`) && strings.Contains(line, `"request_id":"`+id+`"`) {
					found += line
				}
			}
			for _, text := range []string{`"level":"error"`, `"status":200`, `"code":"` + row.code + `"`, row.logged} {
				if strings.Count(found, "\n") != 1 || !strings.Contains(found, text) {
					t.Errorf("the log does not say %s once: %s", text, found)
				}
			}
		})
	}
	const calls = `caddy_controlm_requests_total{account="default",client="",code="%d",environment="cut"}`
	for code, want := range map[int]int{200: 0, 502: len(rows) - 1, 504: 1} {
		if got := g.metric(fmt.Sprintf(calls, code)); got != want {
			t.Errorf("%d calls were counted under %d, want %d", got, code, want)
		}
	}
	t.Run("but not when the caller leaves", func(t *testing.T) {
		g := g.in(t)
		conn := g.dial()
		fmt.Fprintf(conn, "GET /automation-api/emulator/download?size=9000&gate=g HTTP/1.1\r\nHost: %s\r\nX-Request-Id: gone\r\n\r\n", g.addr)
		if _, err := io.ReadFull(conn, make([]byte, 20)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if line := g.auditOfID("gone"); line.Status != 200 || line.Code != "" || strings.Count(g.logText(), `"an answer broke off"`) != len(rows) {
			t.Errorf("the audit line is %s", line.text)
		}
	})
}

// Three in a row, as with calls that are not answered.
func TestWireAnEndpointWhoseAnswersBreakOffIsLeftAside(t *testing.T) {
	first, second := startCutter(t), startCutter(t)
	g := startGateway(t, wireSite(first.url+" "+second.url, wireUser(t), "name pair"))
	for range 3 {
		res, err := http.Get(g.url("/automation-api/cut/late"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the answer is whole")
		}
		_ = res.Body.Close()
	}
	g.get(wireEcho).echoed(t)
	if a, b := len(first.arrived()), len(second.arrived()); a < 3 || b != 1 {
		t.Errorf("%d calls arrived at the first endpoint and %d at the second", a, b)
	}
}

// metric is the value of a series, 0 where there is none.
func (g *gateway) metric(series string) (value int) {
	g.t.Helper()
	for line := range strings.Lines(g.get("/metrics").body) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	return value
}
