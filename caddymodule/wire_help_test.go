package caddymodule_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

const wireEcho = "/automation-api/emulator/echo"

// wireSite is the Caddyfile of one site in front of endpoint, with words in
// the block of `controlm`.
func wireSite(endpoint string, words ...string) string {
	return fmt.Sprintf("{ADDR} {\n\tcontrolm %s {\n\t\t%s\n\t}\n}", endpoint, strings.Join(words, "\n\t\t"))
}

// wireUser are the words of the account that every emulator here knows.
func wireUser(t testing.TB) string {
	t.Helper()
	return "username emuser\n\t\tpassword {file." + secretFile(t, canaryPassword) + "}"
}

// refusedPassword is one that an upstream does not take unless told to.
const refusedPassword = canaryPassword + "-refused"

// wireIdle runs a Caddy that does not yet listen at its address: connections
// that wait at a listener which a reload replaces are reset.
func wireIdle(t testing.TB) *gateway {
	t.Helper()
	return startGateway(t, "http://"+freeAddr(t)+" {\n\trespond 204\n}")
}

// wireStart runs a Caddyfile that needs to know where it runs: {ADDR} stands
// for the site's address, {PORT} for its port, {LOG} for the debug log.
func wireStart(t testing.TB, caddyfile string) *gateway {
	t.Helper()
	g := wireIdle(t)
	_, port, err := net.SplitHostPort(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.load(strings.NewReplacer("{PORT}", port, "{LOG}", g.log).Replace(caddyfile)); err != nil {
		t.Fatal(err)
	}
	return g
}

// wireAnyHost makes the site of a Caddyfile answer for every Host.
func wireAnyHost(caddyfile string) string {
	return strings.Replace(caddyfile, "{ADDR} {", "http://:{PORT} {\n\tbind 127.0.0.1", 1)
}

// wireEventually polls until something holds that another goroutine brings about.
func wireEventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// dial connects to the gateway for a client that speaks raw bytes.
func (g *gateway) dial() net.Conn {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

// raw sends bytes as they stand and reads the final answer. {HOST} stands for
// the gateway's address.
func (g *gateway) raw(request string) reply {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "{HOST}", g.addr)); err != nil {
		g.t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	return readReply(g.t, bufio.NewReader(conn), method)
}

func readReply(t testing.TB, in *bufio.Reader, method string) reply {
	t.Helper()
	for {
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		content, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		sweep(t, "the answer", content)
		return reply{res.StatusCode, res.Header, string(content)}
	}
}

// rawGet asks for a target exactly as it stands.
func (g *gateway) rawGet(target string, lines ...string) reply {
	g.t.Helper()
	return g.rawCall("GET", target, lines...)
}

func (g *gateway) rawCall(method, target string, lines ...string) reply {
	g.t.Helper()
	return g.raw(method + " " + target + " HTTP/1.1\r\nHost: {HOST}\r\n" + strings.Join(append(lines, "\r\n"), "\r\n"))
}

// echoed is what arrived upstream, as the emulator tells it.
type echoed struct {
	Method, Target, Proto string
	Headers, Trailers     map[string][]string
	Length                int64  `json:"content_length"`
	BodySHA256            string `json:"body_sha256"`
	BodySize              int64  `json:"body_size"`
	SessionUser           string `json:"session_user"`
}

func (r reply) echoed(t testing.TB) echoed {
	t.Helper()
	var e echoed
	if err := json.Unmarshal([]byte(r.body), &e); r.status != 200 || err != nil {
		t.Fatalf("no echo: %d %s (%v)", r.status, r.body, err)
	}
	return e
}

// wantOwn fails the test unless r is an error of the gateway's own with this
// status and code, in the vendor's shape, and says nothing internal.
func (r reply) wantOwn(t testing.TB, status int, code string) {
	t.Helper()
	if r.status != status || r.code() != code {
		t.Errorf("got %d %s, want %d %s", r.status, r.body, status, code)
		return
	}
	var shape struct{ Errors []map[string]any }
	if err := json.Unmarshal([]byte(r.body), &shape); err != nil || len(shape.Errors) != 1 {
		t.Fatalf("not the vendor's shape: %s", r.body)
	}
	for name := range shape.Errors[0] {
		if name != "message" && name != "id" {
			t.Errorf("the error has a member %s: %s", name, r.body)
		}
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type is %q", got)
	}
	for _, internal := range []string{"x509", "dial", "tcp", "emuser", "elsewhere"} {
		if strings.Contains(r.body, internal) {
			t.Errorf("the answer says %q: %s", internal, r.body)
		}
	}
}

// wireFront is an emulator over plain HTTP behind a handler of the test's own.
type wireFront struct {
	*emulator.Emulator
	url string

	mu      sync.Mutex
	targets []string
}

// startFront starts one. The hook may answer in the emulator's place; nil
// only takes down the targets of calls.
func startFront(t testing.TB, hook func(w http.ResponseWriter, r *http.Request, next http.Handler)) *wireFront {
	t.Helper()
	f := &wireFront{Emulator: emulator.New(emulator.Options{
		Users: []emulator.User{{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin"}}},
	})}
	if hook == nil {
		hook = func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := r.Header.Get("User-Agent") == "ctmgate" // the gateway's own logins and logouts
		if !own {
			f.mu.Lock()
			f.targets = append(f.targets, r.Method+" "+r.RequestURI)
			f.mu.Unlock()
			hook(w, r, f.Emulator)
			return
		}
		f.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL + "/automation-api"
	return f
}

// arrived are method and target of every call so far.
func (f *wireFront) arrived() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.targets)
}

// logText is the debug log as it is now.
func (g *gateway) logText() string { return readLog(g.t, g.log) }

func readLog(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(content)
}

// wireSocket is a WebSocket client.
type wireSocket struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// socket shakes hands for the alert stream. Without a 101 there is no socket
// but an answer.
func (g *gateway) socket(lines ...string) (*wireSocket, reply) {
	g.t.Helper()
	s := &wireSocket{t: g.t, conn: g.dial()}
	s.in = bufio.NewReader(s.conn)
	_, err := io.WriteString(s.conn, "GET /automation-api/run/alerts/stream HTTP/1.1\r\nHost: "+g.addr+
		"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\n"+strings.Join(append(lines, "\r\n"), "\r\n"))
	if err != nil {
		g.t.Fatal(err)
	}
	head, err := s.in.Peek(len("HTTP/1.1 101"))
	if err != nil {
		g.t.Fatal(err)
	}
	if !bytes.HasSuffix(head, []byte("101")) {
		return nil, readReply(g.t, s.in, "GET")
	}
	res, err := http.ReadResponse(s.in, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return s, reply{res.StatusCode, res.Header, ""}
}

func (s *wireSocket) send(text string) {
	s.t.Helper()
	out := binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(text)))
	mask := []byte{1, 2, 3, 4}
	out = append(out, mask...)
	for i := range len(text) {
		out = append(out, text[i]^mask[i%4])
	}
	if _, err := s.conn.Write(out); err != nil {
		s.t.Fatal(err)
	}
}

func (s *wireSocket) receive() string {
	s.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		s.t.Fatal(err)
	}
	size := uint64(head[1])
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(s.in, long[:]); err != nil {
			s.t.Fatal(err)
		}
		size = uint64(binary.BigEndian.Uint16(long[:]))
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(s.in, text); err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// pingPong sends a text and fails unless it comes back.
func (s *wireSocket) pingPong(text string) {
	s.t.Helper()
	s.send(text)
	if got := s.receive(); !strings.Contains(got, text) {
		s.t.Errorf("sent %q, got %q", text, got)
	}
}
