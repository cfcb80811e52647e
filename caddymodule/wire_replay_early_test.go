package caddymodule_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// The emulator, like any server, answers a dead token before it has read the
// body. How much of it was sent by then is chance.
func TestWireAnEarlyRejectionNeverMixesBytes(t *testing.T) {
	body := make([]byte, 3<<20)
	_, _ = io.ReadFull(new(pattern), body)
	up := startUpstream(t, emulator.Options{})
	for range 3 {
		g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
		for range 2 { // more would spend the budget for rejections
			g.get(wireEcho).echoed(t)
			up.Restart()
			got := g.do(http.MethodPost, wireEcho, bytes.NewReader(body), nil)
			if got.status == 200 {
				if e := got.echoed(t); e.BodySHA256 != sha(body) || e.Length != int64(len(body)) {
					t.Errorf("upstream got %d bytes, length %d", e.BodySize, e.Length)
				}
			} else {
				got.wantOwn(t, 503, "ctmgate.replay_impossible")
			}
		}
	}
}

func TestWireABodyGoesOnStreamingAfterAReplay(t *testing.T) {
	var next atomic.Int64
	rejected := make(chan struct{})
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, emulator http.Handler) {
		if next.Add(-1) < 0 {
			emulator.ServeHTTP(w, r)
			return
		}
		defer close(rejected)
		_ = http.NewResponseController(w).EnableFullDuplex() // or net/http waits for the body before it answers
		_, _ = io.ReadFull(r.Body, make([]byte, len("hello")))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"message":"Session token is invalid or expired"}]}`)
	})
	g := startGateway(t, wireSite(up.url, wireUser(t)))
	g.get(wireEcho).echoed(t)
	next.Store(1)
	in, out := io.Pipe()
	done := make(chan reply)
	go func() { done <- g.do(http.MethodPost, wireEcho, in, nil) }()
	if _, err := out.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	<-rejected
	wireEventually(t, "the call arrives again", func() bool { return len(up.arrived()) == 3 })
	if _, err := out.Write([]byte(" world")); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	if e := (<-done).echoed(t); e.BodySHA256 != sha([]byte("hello world")) {
		t.Errorf("upstream got %d bytes", e.BodySize)
	}
}

func TestWireManyCallersOfARejectedTokenCostOneLogin(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	g := startGateway(t, up.sidecar("{file."+secretFile(t, canaryPassword)+"}"))
	g.get(wireEcho).echoed(t)
	up.Restart()
	var group sync.WaitGroup
	for range 40 {
		group.Go(func() {
			res, err := http.Post(g.url(wireEcho), "text/plain", bytes.NewReader([]byte("hello")))
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("got %d", res.StatusCode)
			}
		})
	}
	group.Wait()
	if n := up.Stats().Logins; n != 2 {
		t.Errorf("there were %d logins", n)
	}
}

func TestWireWhatIsLeftOfABodyIsNeverTakenForARequest(t *testing.T) {
	var next atomic.Int64
	up := startFront(t, func(w http.ResponseWriter, r *http.Request, emulator http.Handler) {
		if next.Add(-1) < 0 {
			emulator.ServeHTTP(w, r)
			return
		}
		_, _ = io.CopyN(io.Discard, r.Body, 100_000)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"errors":[{"message":"Session token is invalid or expired"}]}`)
	})
	hidden := "GET /automation-api/run/job/hidden HTTP/1.1\r\nHost: localhost\r\nX: "
	for _, row := range []struct {
		name string
		site string
		path string
		want int
	}{
		{"when the call cannot be sent again", "replay_buffer 1KiB", wireEcho, 503},
		{"when the path is refused", "", "/automation-api/..", 400},
		{"when the operation is protected", "", "/automation-api/authentication/token", 403},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := startGateway(t, wireSite(up.url, wireUser(t), row.site))
			g.get(wireEcho).echoed(t)
			if row.want == 503 {
				next.Store(1)
			}
			before := len(up.arrived())
			conn := g.dial()
			// The line of hidden requests is as long as the body, so that one begins wherever reading stops.
			body := strings.Repeat(hidden+strings.Repeat("x", 64-len(hidden)%64-4)+"\r\n\r\n", 8<<10)
			go func() {
				_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", row.path, g.addr, len(body), body)
			}()
			in := bufio.NewReader(conn)
			got := readReply(t, in, "POST")
			if got.status != row.want {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if rest, _ := io.ReadAll(in); len(rest) > 0 {
				t.Errorf("then came %.200q", rest)
			}
			for _, call := range up.arrived()[before:] {
				if strings.Contains(call, "hidden") {
					t.Fatalf("upstream got %q", call)
				}
			}
		})
	}
}
