package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// source is a body that tells what was done to it.
type source struct {
	io.Reader
	reads  int
	closed bool
}

func (s *source) Read(p []byte) (int, error) { s.reads++; return s.Reader.Read(p) }
func (s *source) Close() error               { s.closed = true; return nil }

func attemptOf(t *testing.T, b *Body) io.ReadCloser {
	t.Helper()
	a, err := b.Attempt()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestBodyIsGivenWholeToEveryAttempt(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1000)
	for taken := range []int{0, 1, 4096, 15_999, 16_000} {
		src := &source{Reader: strings.NewReader(text)}
		b := NewBody(src, 16_000)
		first := attemptOf(t, b)
		if _, err := io.CopyN(io.Discard, first, int64(taken)); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil || src.closed {
			t.Fatalf("closing an attempt: %v, source closed: %v", err, src.closed)
		}
		second := attemptOf(t, b)
		if got, err := io.ReadAll(second); err != nil || string(got) != text {
			t.Fatalf("after %d bytes, the second attempt gave %d bytes, %v", taken, len(got), err)
		}
		if got, err := io.ReadAll(attemptOf(t, b)); err != nil || string(got) != text {
			t.Fatalf("the third attempt gave %d bytes, %v", len(got), err)
		}
		if err := b.Close(); err != nil || !src.closed {
			t.Fatalf("closing the body: %v, source closed: %v", err, src.closed)
		}
	}
}

func TestBodyReadsNothingAheadOfItsReader(t *testing.T) {
	src := &source{Reader: strings.NewReader("abcdef")}
	b := NewBody(src, 100)
	a := attemptOf(t, b)
	if src.reads != 0 {
		t.Fatal("the source was read before anybody asked")
	}
	p := make([]byte, 2)
	if n, err := a.Read(p); n != 2 || err != nil || src.reads != 1 {
		t.Fatalf("read %d, %v with %d reads of the source", n, err, src.reads)
	}
}

func TestBodyCannotBeReplayedPastItsLimit(t *testing.T) {
	for _, limit := range []int{0, 9} {
		b := NewBody(io.NopCloser(strings.NewReader("0123456789")), limit)
		if got, err := io.ReadAll(attemptOf(t, b)); err != nil || len(got) != 10 {
			t.Fatalf("limit %d: the first attempt gave %q, %v", limit, got, err)
		}
		if b.kept != nil {
			t.Errorf("limit %d: %d bytes are kept in vain", limit, len(b.kept))
		}
		if _, err := b.Attempt(); !errors.Is(err, ErrNotReplayable) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestBodyThatWasNotReadCanBeReplayedWithAnyLimit(t *testing.T) {
	b := NewBody(io.NopCloser(strings.NewReader("abc")), 0)
	attemptOf(t, b)
	if got, err := io.ReadAll(attemptOf(t, b)); err != nil || string(got) != "abc" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBodyTellsEveryAttemptHowTheSourceEnded(t *testing.T) {
	broken := errors.New("client went away")
	b := NewBody(io.NopCloser(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken))), 10)
	for range 2 {
		if got, err := io.ReadAll(attemptOf(t, b)); string(got) != "abc" || !errors.Is(err, broken) {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestBodyLosesNothingThatAnOldAttemptWasJustReading: the first attempt hangs in a read of the source, the second
// begins, and what the first is given then belongs to the second, even past the limit.
func TestBodyLosesNothingThatAnOldAttemptWasJustReading(t *testing.T) {
	for _, limit := range []int{1 << 20, 4, 3} {
		synctest.Test(t, func(t *testing.T) {
			client, src := io.Pipe()
			b := NewBody(client, limit)
			first := attemptOf(t, b)
			firstDone := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, first)
				firstDone <- err
			}()
			write(t, src, "abc")
			synctest.Wait() // now the first attempt waits in the source
			second := attemptOf(t, b)
			got := make(chan string, 1)
			go func() {
				all, err := io.ReadAll(second)
				if err != nil {
					t.Error(err)
				}
				got <- string(all)
			}()
			synctest.Wait()
			write(t, src, "def")
			if err := <-firstDone; !errors.Is(err, errAttemptOver) {
				t.Errorf("the first attempt ended with %v", err)
			}
			write(t, src, "ghi")
			if err := src.Close(); err != nil {
				t.Error(err)
			}
			if all := <-got; all != "abcdefghi" {
				t.Errorf("limit %d: the second attempt got %q", limit, all)
			}
			if _, err := b.Attempt(); (limit > 9) != (err == nil) {
				t.Errorf("limit %d: the third attempt: %v", limit, err)
			}
		})
	}
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Error(err)
	}
}

func TestClosingAnAttemptEndsItsWaitForAnOlderOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, src := io.Pipe()
		b := NewBody(client, 10)
		first := attemptOf(t, b)
		go io.Copy(io.Discard, first) //nolint:errcheck // it ends with the pipe
		synctest.Wait()
		second := attemptOf(t, b)
		done := make(chan error, 1)
		go func() {
			_, err := second.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, errBodyClosed) {
			t.Errorf("the read ended with %v", err)
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestBodyGivesItsMemoryBackWhenAllHasClosed(t *testing.T) {
	b := NewBody(io.NopCloser(strings.NewReader("abc")), 10)
	first := attemptOf(t, b)
	if _, err := io.ReadAll(first); err != nil {
		t.Fatal(err)
	}
	second := attemptOf(t, b)
	for _, c := range []io.Closer{first, first, b, b} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(second); string(got) != "abc" || !errors.Is(err, errBodyClosed) {
		t.Errorf("an attempt that goes on gave %q, %v", got, err)
	}
	if err := second.Close(); err != nil || b.kept != nil {
		t.Errorf("%v, %d bytes kept", err, len(b.kept))
	}
	if _, err := b.Attempt(); err == nil {
		t.Error("a closed body gave another attempt")
	}
}

func TestASettledBodyKeepsNothingMore(t *testing.T) {
	b := NewBody(io.NopCloser(strings.NewReader("abcdef")), 10)
	a := attemptOf(t, b)
	if _, err := io.ReadFull(a, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	b.Settle()
	if got, err := io.ReadAll(a); string(got) != "def" || err != nil || b.kept != nil {
		t.Errorf("got %q, %v, %d bytes kept", got, err, len(b.kept))
	}
	if _, err := b.Attempt(); !errors.Is(err, ErrNotReplayable) {
		t.Errorf("another attempt: %v", err)
	}
}

func TestKeptBytesGrowOnlyUpToTheLimit(t *testing.T) {
	const limit = 100_000
	b := NewBody(io.NopCloser(bytes.NewReader(make([]byte, limit))), limit)
	if _, err := io.Copy(io.Discard, iotest.OneByteReader(attemptOf(t, b))); err != nil {
		t.Fatal(err)
	}
	if len(b.kept) != limit || cap(b.kept) > 1<<17 {
		t.Errorf("%d bytes kept in %d", len(b.kept), cap(b.kept))
	}
}

// replayer sends once more what was answered with 401, as the gateway does.
type replayer struct {
	next   http.RoundTripper
	bodies atomic.Int64
}

func (rt *replayer) RoundTrip(req *http.Request) (*http.Response, error) {
	body := NewBody(req.Body, 1<<20)
	for try := 0; ; try++ {
		out := req.Clone(req.Context())
		a, err := body.Attempt()
		if err != nil {
			return nil, err
		}
		rt.bodies.Add(1)
		out.Body = a
		res, err := rt.next.RoundTrip(out)
		if err != nil || res.StatusCode != http.StatusUnauthorized || try == 1 {
			body.Settle()
			return res, err
		}
		if err := res.Body.Close(); err != nil {
			return nil, err
		}
	}
}

// TestAReplayIsTheSameBodyWhileTheFirstTryIsStillSending: Control-M answers 401 to the headers alone, while
// http.Transport still reads the body and the client still sends it.
func TestAReplayIsTheSameBodyWhileTheFirstTryIsStillSending(t *testing.T) {
	var calls atomic.Int64
	var mu sync.Mutex
	sums := map[[32]byte]int64{}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 1 {
			rc := http.NewResponseController(w)
			if err := rc.EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusUnauthorized)
			if err := rc.Flush(); err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, r.Body) // net/http wants it read; the gateway may hang up meanwhile
			return
		}
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		if err != nil || r.ContentLength >= 0 && r.ContentLength != n {
			t.Errorf("read %d of %d, %v", n, r.ContentLength, err)
		}
		mu.Lock()
		sums[[32]byte(hash.Sum(nil))] = r.ContentLength
		mu.Unlock()
	}))
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	rt := &replayer{next: transport}
	gateway := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }, Transport: rt,
	})
	defer gateway.Close()

	random := rand.NewChaCha8([32]byte{1})
	for i := range 40 {
		content := make([]byte, i*20_000+i%3)
		if _, err := random.Read(content); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		req, err := http.NewRequest("POST", gateway.URL, bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		want := int64(len(content))
		if i%2 == 1 {
			req.Body, req.GetBody, req.ContentLength, want = io.NopCloser(iotest.HalfReader(bytes.NewReader(content))), nil, -1, -1
		}
		if i == 0 {
			continue // no body at all: nothing to replay here
		}
		res, err := gateway.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("body %d: %v, %s", i, err, res.Status)
		}
		mu.Lock()
		length, arrived := sums[sum]
		mu.Unlock()
		if !arrived || length != want {
			t.Fatalf("body %d: arrived %v, Content-Length %d, want %d", i, arrived, length, want)
		}
	}
	if rt.bodies.Load() < 78 {
		t.Errorf("only %d attempts, nothing was replayed", rt.bodies.Load())
	}
}
