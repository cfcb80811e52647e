package caddymodule_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// auditLine is a line of the audit log.
type auditLine struct {
	Level, Logger, Msg                 string
	RequestID                          string `json:"request_id"`
	Client, Key, User, Proof, Source   string
	Environment, Account, Method, Path string
	Operation, Decision, Rule, Code    string
	Status                             int
	Replayed                           bool
	Duration                           float64
	members                            map[string]any
	text                               string
}

// audited are all lines of the audit log so far, in a log of JSON lines.
func audited(t testing.TB, path string) (lines []auditLine) {
	t.Helper()
	for text := range strings.Lines(readLog(t, path)) {
		if !strings.HasSuffix(text, "\n") {
			continue // it is still being written
		}
		line := auditLine{text: text}
		if json.Unmarshal([]byte(text), &line) == nil && line.Logger == "controlm.audit" {
			if err := json.Unmarshal([]byte(text), &line.members); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// auditOf waits for the line of the request that got this answer, which has
// the request's id. It fails the test when there are two.
func (g *gateway) auditOf(got reply) auditLine {
	g.t.Helper()
	id := got.header.Get("X-Request-Id")
	if id == "" {
		g.t.Fatalf("the answer has no X-Request-Id: %d %v %.300s", got.status, got.header, got.body)
	}
	return g.auditOfID(id)
}

func (g *gateway) auditOfID(id string) auditLine {
	g.t.Helper()
	var found []auditLine
	wireEventually(g.t, "the audit line of "+id, func() bool {
		found = nil
		for _, line := range audited(g.t, g.log) {
			if line.RequestID == id {
				found = append(found, line)
			}
		}
		return len(found) > 0
	})
	if len(found) > 1 {
		g.t.Errorf("there are %d audit lines of %s", len(found), id)
	}
	return found[0]
}

// in is the gateway for a test below the one that started it.
func (g *gateway) in(t testing.TB) *gateway {
	below := *g
	below.t = t
	return &below
}

// quietFile is accessFile without the access log. Caddy counts for that what a
// WebSocket has read while another goroutine may still be reading.
func quietFile(app string, site ...string) string {
	return strings.Replace(accessFile(app, site...), "{ADDR} {\nlog\n", "{ADDR} {\n", 1)
}

// shareClients is a Caddyfile with the environment prod, two clients that have
// a key each, and what stands in the site.
func shareClients(t testing.TB, endpoint, trust, nightly, reader string, site ...string) string {
	t.Helper()
	if len(site) == 0 {
		site = []string{"controlm prod"}
	}
	return quietFile(accessEnvironment(t, endpoint, trust)+accessClient("nightly", nightlyKey, "allow * /*", nightly)+
		accessClient("reader", readerKey, "account prod/reports", "allow * /*", reader), site...)
}

// startShare runs a gateway with nightly, of these lines, and reader, of none.
func startShare(t testing.TB, nightly string, site ...string) (*upstream, *gateway) {
	t.Helper()
	up := startUpstream(t, emulator.Options{Users: twoUsers})
	return up, startGateway(t, shareClients(t, up.URL(), up.trusted(), nightly, "", site...))
}

// upload sends a body as many clients do: all of it, or as much as is taken,
// before they look at the answer. A size in the header is told, else it comes
// in chunks.
func (g *gateway) upload(key string, size int, told bool) reply {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	head, piece := "Transfer-Encoding: chunked", func(n int) string { return fmt.Sprintf("%x\r\n%s\r\n", n, strings.Repeat("x", n)) }
	if told {
		head, piece = fmt.Sprintf("Content-Length: %d", size), func(n int) string { return strings.Repeat("x", n) }
	}
	_, err := io.WriteString(conn, "POST "+wireEcho+" HTTP/1.1\r\nHost: "+g.addr+"\r\nX-Api-Key: "+key+"\r\n"+head+"\r\n\r\n")
	for sent := 0; err == nil && sent < size; sent += 8 << 10 {
		_, err = io.WriteString(conn, piece(min(8<<10, size-sent)))
	}
	if err == nil && !told {
		_, _ = io.WriteString(conn, "0\r\n\r\n")
	}
	return readReply(g.t, bufio.NewReader(conn), http.MethodPost)
}

// as calls with a key.
func (g *gateway) as(key, method, path string) reply {
	g.t.Helper()
	return g.do(method, path, nil, asBearer(key))
}

// asWith calls with a key and more headers, each as a line.
func (g *gateway) asWith(key, method, path string, lines ...string) reply {
	g.t.Helper()
	return g.do(method, path, nil, func(r *http.Request) {
		asBearer(key)(r)
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Add(name, value)
		}
	})
}

// held is a call that upstream keeps open after its first byte.
type held struct {
	g    *gateway
	body io.ReadCloser
}

// hold begins such a call, which may have to wait for its place.
func (g *gateway) hold(key, gate string) (h held) {
	g.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	wireEventually(g.t, "there is a place for a call", func() bool {
		req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url(base+"/emulator/download?size=100&gate="+gate), nil)
		if err != nil {
			g.t.Fatal(err)
		}
		asBearer(key)(req)
		res, err := client.Do(req)
		if err != nil {
			g.t.Fatal(err)
		}
		if res.StatusCode != http.StatusOK {
			_ = res.Body.Close()
			return false
		}
		h = held{g, res.Body}
		return true
	})
	g.t.Cleanup(h.leave)
	if _, err := io.ReadFull(h.body, make([]byte, 1)); err != nil {
		g.t.Fatal(err)
	}
	return h
}

// leave is what a caller does that has had enough.
func (h held) leave() { _ = h.body.Close() }

// open ends all calls that are held at a gate.
func (g *gateway) open(key, gate string) {
	g.t.Helper()
	wantReply(g.t, g.as(key, http.MethodGet, base+"/emulator/open?gate="+gate), 200, "")
}

// rest reads the call to its end, once its gate is open.
func (h held) rest() {
	h.g.t.Helper()
	if rest, err := io.ReadAll(h.body); err != nil || len(rest) != 99 {
		h.g.t.Errorf("the call that was held got %d bytes more, %v", len(rest), err)
	}
}

// adminStatus asks the admin API at a Unix socket with any method.
func adminStatus(t testing.TB, socket, method, path string) int {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}
