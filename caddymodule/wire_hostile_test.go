package caddymodule_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
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

// hostileRows are requests that one server may read in another way than the
// next. What one of them might take for a second request asks for /smuggled.
// {N} stands for the number of the row.
func hostileRows() []hostileRow {
	const (
		path     = "/automation-api/config/server/{N}"
		host     = "Host: {HOST}\r\n"
		get      = "GET " + path + " HTTP/1.1\r\n" + host
		post     = "POST " + path + " HTTP/1.1\r\n" + host
		chunked  = post + "Transfer-Encoding: chunked\r\n"
		smuggled = "GET /automation-api/smuggled/{N} HTTP/1.1\r\n" + host + "\r\n"
	)
	long := strings.Repeat("a", 2<<20)
	return []hostileRow{
		{"chunks and a length that goes on", chunked + "Content-Length: 150\r\n\r\n0\r\n\r\n" + smuggled, 200,
			[]string{"POST " + path, "GET /automation-api/smuggled/{N}"}}, // the chunks count; what follows is judged as any request
		{"a length and chunks that go on", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, []string{"POST " + path}},
		{"two lengths", post + "Content-Length: 0\r\nContent-Length: 150\r\n\r\n" + smuggled, 400, nil},
		{"a list of lengths", post + "Content-Length: 0, 150\r\n\r\n" + smuggled, 400, nil},
		{"a negative length", post + "Content-Length: -1\r\n\r\n" + smuggled, 400, nil},
		{"a length in hexadecimal", post + "Content-Length: 0x10\r\n\r\n" + smuggled, 400, nil},
		{"a transfer encoding that is none", post + "Content-Length: 150\r\nTransfer-Encoding: xchunked\r\n\r\n" + smuggled, 501, nil},
		{"a tab before chunked", post + "Content-Length: 150\r\nTransfer-Encoding:\x0bchunked\r\n\r\n" + smuggled, 400, nil},
		{"a space before the colon of Transfer-Encoding", post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"chunks in HTTP/1.0", "POST " + path + " HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 200, []string{"POST " + path}},
		{"a negative size of a chunk", chunked + "\r\n-1\r\n" + smuggled, 400, nil},
		{"a size of a chunk that overflows", chunked + "\r\n10000000000000000\r\n" + smuggled, 400, nil},
		{"a size of a chunk with a prefix", chunked + "\r\n0x0\r\n\r\n" + smuggled, 400, nil},
		{"a bare LF after the size of a chunk", chunked + "\r\n0\n\r\n" + smuggled, 400, nil},
		{"a bare LF in the extension of a chunk", chunked + "\r\n0;a\nb\r\n\r\n" + smuggled, 400, nil},
		{"a chunk that is longer than it says", chunked + "\r\n1\r\nab\r\n0\r\n\r\n" + smuggled, 400, nil},
		{"a trailer that frames", chunked + "Trailer: Content-Length\r\n\r\n0\r\nContent-Length: 150\r\n\r\n" + smuggled, 400, nil},
		{"a name with a space", get + "X A: b\r\n\r\n", 400, nil},
		{"a line without a name", get + ": b\r\n\r\n", 400, nil},
		{"a line without a colon", get + "Authorization\r\n\r\n", 400, nil},
		{"a first line that is folded", "GET " + path + " HTTP/1.1\r\n Host: x\r\n" + host + "\r\n", 400, nil},
		{"a NUL in a value", get + "X-A: a\x00b\r\n\r\n", 400, nil},
		{"a NUL in a name", get + "X-\x00A: b\r\n\r\n", 400, nil},
		{"a header of two megabytes", get + "X-A: " + long + "\r\n\r\n", 431, nil},
		{"a target of two megabytes", "GET " + path + "?" + long + " HTTP/1.1\r\n" + host + "\r\n", 431, nil},
		{"another host in the target", "GET http://evil.example" + path + " HTTP/1.1\r\n" + host + "\r\n", 403, nil},
		{"our host in the target, another beside it", "GET http://{HOST}" + path + " HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, []string{"GET " + path}},
		{"user and password in the target", "GET http://a:b@{HOST}" + path + " HTTP/1.1\r\n" + host + "\r\n", 200, []string{"GET " + path}},
		{"another scheme in the target", "GET gopher://{HOST}" + path + " HTTP/1.1\r\n" + host + "\r\n", 200, []string{"GET " + path}},
		{"CONNECT to another server", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 403, nil},
		{"CONNECT to ourselves", "CONNECT {HOST} HTTP/1.1\r\n" + host + "\r\n", 405, nil},
		{"CONNECT to a path", "CONNECT " + path + " HTTP/1.1\r\n" + host + "\r\n", 405, nil},
		{"TRACE", "TRACE " + path + " HTTP/1.1\r\n" + host + "\r\n", 405, nil},
		{"OPTIONS of the server", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", 200, nil},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, nil},
		{"HTTP/1.2", "GET " + path + " HTTP/1.2\r\n" + host + "\r\n", 200, []string{"GET " + path}},
		{"no version", "GET " + path + "\r\n" + host + "\r\n", 400, nil},
		{"bare LFs", strings.ReplaceAll(get+"\r\n", "\r\n", "\n"), 200, []string{"GET " + path}},
		{"a bare CR", "GET " + path + " HTTP/1.1\rHost: {HOST}\r\r\n\r\n", 400, nil},
		{"a method in lower case", "get " + path + " HTTP/1.1\r\n" + host + "\r\n", 200, []string{"get " + path}},
		{"a method that is no token", "G(T " + path + " HTTP/1.1\r\n" + host + "\r\n", 400, nil},
		{"a nomination of each credential", get + "Connection: Authorization, X-Api-Key\r\n\r\n", 200, []string{"GET " + path}},
		{"a nomination of the host", get + "Connection: Host, close\r\n\r\n", 200, []string{"GET " + path}},
		{"a nomination of the length", post + "Content-Length: 5\r\nConnection: Content-Length, Transfer-Encoding\r\n\r\nhello", 200, []string{"POST " + path}},
	}
}

type hostileRow struct {
	name, request string
	status        int      // 0 where the answer is not in HTTP/1
	arrive        []string // method and target of each whole request that upstream sees
}

// rawToTheEnd sends bytes as they stand, reads the first answer, and waits
// until the gateway has done with all that came.
func (g *gateway) rawToTheEnd(request string) (status int) {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	// What is too long is not read to its end.
	go func() { _, _ = io.WriteString(conn, request) }()
	method, _, _ := strings.Cut(request, " ")
	in := bufio.NewReader(conn)
	if head, _ := in.Peek(len("HTTP/1.1")); strings.HasPrefix(string(head), "HTTP/1.") {
		status = readReply(g.t, in, method).status
	}
	// Requests on a connection are answered in turn, this one without upstream.
	// Where the connection is closed already, nothing follows.
	_, _ = io.WriteString(conn, "GET /last HTTP/1.1\r\nHost: "+g.addr+"\r\nConnection: close\r\n\r\n")
	if _, err := io.Copy(io.Discard, in); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		g.t.Errorf("the connection ended with %v", err)
	}
	return status
}

func TestWireHostileRequestsArriveOnceWithOurCredentialOrNotAtAll(t *testing.T) {
	var (
		mu   sync.Mutex
		seen []*http.Request
	)
	front := startFront(t, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		// What breaks off is no request.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			mu.Lock()
			seen = append(seen, r)
			mu.Unlock()
		}
		_, _ = io.WriteString(w, "{}")
	})
	host := strings.TrimSuffix(strings.TrimPrefix(front.url, "http://"), "/automation-api")
	g := wireStart(t, wireAnyHost(wireSite(front.url, wireUser(t))))
	for n, row := range hostileRows() {
		t.Run(row.name, func(t *testing.T) {
			fill := strings.NewReplacer("{HOST}", g.addr, "{N}", strconv.Itoa(n))
			if status := g.in(t).rawToTheEnd(fill.Replace(row.request)); status != row.status {
				t.Errorf("got %d, want %d", status, row.status)
			}
			var arrived []string
			mu.Lock()
			defer mu.Unlock()
			for _, r := range seen {
				arrived = append(arrived, r.Method+" "+r.RequestURI)
				if values := r.Header["Authorization"]; len(values) != 1 || !sessionToken.MatchString(values[0]) || r.Header["X-Api-Key"] != nil || r.Host != host || len(r.Trailer) > 0 {
					t.Errorf("upstream got %d credentials, or not ours, another host (%s), or trailers: %v", len(values), r.Host, r.Trailer)
				}
			}
			if want := fill.Replace(strings.Join(row.arrive, ", ")); strings.Join(arrived, ", ") != want {
				t.Errorf("upstream got %q, want %s", arrived, want)
			}
			seen = nil
		})
	}
	if s := front.Stats(); s.Logins != 1 {
		t.Errorf("upstream saw %+v", s)
	}
}
