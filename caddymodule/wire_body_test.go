package caddymodule_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// unsized hides how long a reader is, so that net/http sends chunks.
type unsized struct{ io.Reader }

func TestWireBodiesArriveAsSent(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("definitionsFile", "jobs.json")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(bytes.Repeat([]byte("{}\r\n"), 30<<10)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	object := []byte(`{"limit" : 10}`)
	for _, row := range []struct {
		name, method, kind string
		body               []byte
		chunked            bool
	}{
		{"GET with JSON", "GET", "application/json", object, false},
		{"GET without a body", "GET", "", nil, false},
		{"DELETE with JSON", "DELETE", "application/json", object, false},
		{"DELETE without a body", "DELETE", "", nil, false},
		{"POST with a length", "POST", "application/json", object, false},
		{"POST without a body", "POST", "", nil, false},
		{"POST in chunks", "POST", "application/octet-stream", bytes.Repeat(object, 20<<10), true},
		{"PUT in chunks", "PUT", "application/json", object, true},
		{"PATCH", "PATCH", "application/json", object, false},
		{"multipart with a length", "POST", w.FormDataContentType(), form.Bytes(), false},
		{"multipart in chunks", "POST", w.FormDataContentType(), form.Bytes(), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var body io.Reader
			length := int64(len(row.body))
			if row.body != nil {
				body = bytes.NewReader(row.body)
			}
			if row.chunked {
				body, length = unsized{body}, -1
			}
			got := g.do(row.method, wireEcho, body, func(r *http.Request) {
				if row.kind != "" {
					r.Header.Set("Content-Type", row.kind)
				}
			})
			e := got.echoed(t)
			if e.Method != row.method || e.Length != length || e.BodySHA256 != sha(row.body) {
				t.Errorf("upstream got %s, length %d, %d bytes; want length %d, %d bytes", e.Method, e.Length, e.BodySize, length, len(row.body))
			}
			if kinds := strings.Join(e.Headers["Content-Type"], ","); kinds != row.kind {
				t.Errorf("upstream got Content-Type %q", kinds)
			}
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		got := g.do(http.MethodHead, "/automation-api/emulator/download?size=70000", nil, nil)
		if got.status != 200 || got.body != "" || got.header.Get("Content-Length") != "70000" {
			t.Errorf("got %d %v %q", got.status, got.header, got.body)
		}
	})
	t.Run("a client that waits for leave to send", func(t *testing.T) {
		conn := g.dial()
		in := bufio.NewReader(conn)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", wireEcho, g.addr)
		line, err := in.ReadString('\n')
		if err != nil || !strings.Contains(line, "100") {
			t.Fatalf("got %q: %v", line, err)
		}
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if e := readReply(t, in, "POST").echoed(t); e.BodySHA256 != sha([]byte("hello")) {
			t.Errorf("upstream got %+v", e)
		}
	})
}

// A client that waits for leave to send its body must see what the gateway
// itself says without sending it.
func TestWireAnOwnAnswerDoesNotWaitForTheBody(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	for site, targets := range map[string][]string{
		wireSite(up.URL(), "tls_ca_file "+up.caFile, wireUser(t)): {
			"POST /automation-api/authentication/tokens", "POST /outside", "POST /automation-api/../x", "PUT /automation-api/session/login",
		},
		wireSite("https://"+freeAddr(t)+"/automation-api", wireUser(t)): {"POST /automation-api/run/order"},
	} {
		g := startGateway(t, site)
		for _, target := range targets {
			for _, length := range []string{"Content-Length: 5", "Content-Length: 5000000", "Transfer-Encoding: chunked"} {
				conn := g.dial()
				fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\n%s\r\n\r\n", target, g.addr, length)
				var text strings.Builder
				got := readReply(t, bufio.NewReader(io.TeeReader(conn, &text)), "POST")
				if got.status < 400 || !strings.HasPrefix(got.code(), "ctmgate.") {
					t.Errorf("%s, %s: got %d %s", target, length, got.status, got.body)
				}
				// The body is not coming, so what follows on this connection would be taken for it.
				if !strings.Contains(text.String(), "\r\nConnection: close\r\n") {
					t.Errorf("%s, %s: the client is not told that the connection ends", target, length)
				}
			}
		}
	}
}

// peak notes the most memory that was ever in use while bytes went past.
type peak struct {
	most, since uint64
	passed      int
	hash        hash.Hash
}

func newPeak() *peak {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return &peak{since: m.HeapAlloc, hash: sha256.New()}
}

func (p *peak) Write(b []byte) (int, error) {
	if p.passed/(4<<20) != (p.passed+len(b))/(4<<20) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		p.most = max(p.most, m.HeapAlloc)
	}
	p.passed += len(b)
	return p.hash.Write(b)
}

func (p *peak) check(t *testing.T, most uint64) {
	t.Helper()
	if p.most == 0 || p.most > p.since+most {
		t.Errorf("memory grew from %d MiB to %d MiB over %d MiB", p.since>>20, p.most>>20, p.passed>>20)
	}
}

// pattern is an endless body.
type pattern struct{ at byte }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = p.at
		p.at += 7
	}
	return len(b), nil
}

func TestWireLargeBodiesPassInConstantMemory(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("an upload of 100 MiB, chunked %t", chunked), func(t *testing.T) {
			const size = 100 << 20
			p := newPeak()
			body := io.TeeReader(io.LimitReader(new(pattern), size), p)
			e := g.do(http.MethodPost, wireEcho, body, func(r *http.Request) {
				if !chunked {
					r.ContentLength = size
				}
			}).echoed(t)
			if e.BodySize != size || e.BodySHA256 != hex.EncodeToString(p.hash.Sum(nil)) || e.Length == size == chunked {
				t.Errorf("upstream got %d bytes, length %d", e.BodySize, e.Length)
			}
			p.check(t, 40<<20)
		})
	}
	t.Run("a download of 200 MiB", func(t *testing.T) {
		const size = 200 << 20
		res, err := http.Get(g.url("/automation-api/emulator/download?size=" + fmt.Sprint(size)))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		p := newPeak()
		n, err := io.Copy(p, res.Body)
		if n != size || err != nil || res.ContentLength != size {
			t.Errorf("got %d bytes, length %d: %v", n, res.ContentLength, err)
		}
		p.check(t, 40<<20)
	})
}

func TestWireBothWaysStream(t *testing.T) {
	first := make(chan byte)
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPost {
			var b [1]byte
			_, _ = io.ReadFull(r.Body, b[:])
			first <- b[0]
		}
		next.ServeHTTP(w, r)
	})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	t.Run("the first byte of an answer comes before the last is sent", func(t *testing.T) {
		res, err := http.Get(g.url("/automation-api/emulator/download?size=70000&chunked=1&gate=down"))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if n, err := io.ReadFull(res.Body, make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(err)
		}
		g.get("/automation-api/emulator/open?gate=down")
		if n, err := io.Copy(io.Discard, res.Body); n != 69999 || err != nil {
			t.Errorf("then %d bytes: %v", n, err)
		}
	})
	t.Run("the first byte of a body arrives before the last is sent", func(t *testing.T) {
		in, out := io.Pipe()
		done := make(chan reply)
		go func() { done <- g.do(http.MethodPost, wireEcho, in, nil) }()
		if _, err := out.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if b := <-first; b != 'h' {
			t.Errorf("upstream got %q", b)
		}
		if _, err := out.Write([]byte(" world")); err != nil {
			t.Fatal(err)
		}
		_ = out.Close()
		if e := (<-done).echoed(t); e.BodySize != int64(len("ello world")) {
			t.Errorf("upstream got %d bytes after the first", e.BodySize)
		}
	})
}

func TestWireEarlyHintsAndHeadersOfOtherHandlers(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	site := up.sidecar("{file." + secretFile(t, canaryPassword) + "}")
	g := startGateway(t, strings.Replace(site, "controlm ", "header X-Earlier kept\n\theader Vary Origin\n\tcontrolm ", 1))
	for _, path := range []string{"hints", "answer?header=Server:Apache&header=Vary:Accept", "echo"} {
		t.Run(path, func(t *testing.T) {
			var interim []http.Header
			got := g.do(http.MethodGet, "/automation-api/emulator/"+path, nil, func(r *http.Request) {
				*r = *r.WithContext(httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
					Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
						interim = append(interim, http.Header(h))
						return nil
					},
				}))
			})
			if got.status != 200 || got.header.Get("X-Earlier") != "kept" || !strings.Contains(strings.Join(got.header["Vary"], ","), "Origin") {
				t.Errorf("got %d %v", got.status, got.header)
			}
			if servers := got.header["Server"]; len(servers) != 1 {
				t.Errorf("got Server %q", servers)
			}
			if path != "hints" {
				return
			}
			if len(interim) != 1 || interim[0].Get("Link") == "" || interim[0].Get("X-Earlier") != "" {
				t.Errorf("got interim answers %v", interim)
			}
			if got.header.Get("Link") != "" {
				t.Errorf("the hint came again: %v", got.header)
			}
		})
	}
}
