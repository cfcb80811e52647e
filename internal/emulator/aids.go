package emulator

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

const (
	// maxUpload bounds what one request can make the emulator read.
	maxUpload   = 4 << 30
	maxDownload = 4 << 30
	maxGates    = 1000
)

// echoed tells exactly what arrived, so that a test can see what a gateway sent.
type echoed struct {
	Method      string              `json:"method"`
	Target      string              `json:"target"` // as in the request line
	Proto       string              `json:"proto"`
	Headers     map[string][]string `json:"headers"` // with Host; credentials' values replaced
	Trailers    map[string][]string `json:"trailers,omitempty"`
	Length      int64               `json:"content_length"` // -1: chunked
	BodySHA256  string              `json:"body_sha256"`
	BodySize    int64               `json:"body_size"`
	SessionUser string              `json:"session_user"`
}

func (c *call) echo() answer {
	hash := sha256.New()
	size, err := io.Copy(hash, http.MaxBytesReader(c.w, c.r.Body, maxUpload))
	if err != nil {
		return *bodyFailure(err)
	}
	headers := map[string][]string(c.r.Header.Clone())
	headers["Host"] = []string{c.r.Host}
	for _, name := range []string{"Authorization", "X-Api-Key"} {
		for i := range headers[name] {
			headers[name][i] = "present"
		}
	}
	return ok(echoed{
		Method: c.r.Method, Target: c.r.RequestURI, Proto: c.r.Proto, Headers: headers, Trailers: c.r.Trailer,
		Length: c.r.ContentLength, BodySHA256: hex.EncodeToString(hash.Sum(nil)), BodySize: size, SessionUser: c.who.user,
	})
}

// download streams size bytes: with chunked=1 without a length, in chunks=N
// flushed pieces, and with gate=NAME held after the first byte until somebody
// asks for /emulator/open?gate=NAME.
func (c *call) download() answer {
	q := c.r.URL.Query()
	size, err := strconv.ParseInt(q.Get("size"), 10, 64)
	if err != nil || size < 0 || size > maxDownload {
		return fail(http.StatusBadRequest, "size must be a number of bytes up to 4 GiB")
	}
	chunks, err := strconv.ParseInt(cmp.Or(q.Get("chunks"), "1"), 10, 64)
	if err != nil || chunks < 1 {
		return fail(http.StatusBadRequest, "chunks must be a number from 1 on")
	}
	gate := c.e.gates.get(q.Get("gate"))
	if gate == nil && q.Get("gate") != "" {
		return fail(http.StatusBadRequest, "there are too many gates")
	}
	if q.Get("chunked") != "1" {
		c.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(c.w).Flush
	sent := int64(0)
	if size > 0 {
		sent, err = copyPattern(c.w, 0, 1)
	}
	if err != nil || flush() != nil {
		return answer{}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-c.r.Context().Done():
			return answer{}
		}
	}
	piece := max(1, (size-sent+chunks-1)/chunks)
	for sent < size && err == nil {
		var n int64
		n, err = copyPattern(c.w, sent, min(piece, size-sent))
		sent += n
		if err == nil {
			err = flush()
		}
	}
	return answer{}
}

// pattern is what downloads consist of: every byte can be told from its place.
var pattern = func() []byte {
	b := make([]byte, 32<<10)
	for i := range b {
		b[i] = "0123456789abcdefghijklmnopqrstuvwxyz\n"[i%37]
	}
	return b
}()

func copyPattern(w io.Writer, from, n int64) (int64, error) {
	done := int64(0)
	for done < n {
		block := pattern[(from+done)%int64(len(pattern)):]
		wrote, err := w.Write(block[:min(int64(len(block)), n-done)])
		done += int64(wrote)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

type gates struct {
	mu    sync.Mutex
	named map[string]chan struct{}
}

func newGates() *gates { return &gates{named: map[string]chan struct{}{}} }

func (g *gates) get(name string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name == "" {
		return nil
	}
	if g.named[name] == nil && len(g.named) < maxGates {
		g.named[name] = make(chan struct{})
	}
	return g.named[name]
}

// open may come before anybody waits; an opened gate stays open.
func (g *gates) open(name string) bool {
	gate := g.get(name)
	if gate == nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-gate:
	default:
		close(gate)
	}
	return true
}

func (c *call) openGate() answer {
	if !c.e.gates.open(c.r.URL.Query().Get("gate")) {
		return fail(http.StatusBadRequest, "gate must be a name, and not one too many")
	}
	return message("gate is open")
}

// hints sends an interim answer before the final one.
func (c *call) hints() answer {
	c.w.Header().Set("Link", "</automation-api/style.css>; rel=preload; as=style")
	c.w.WriteHeader(http.StatusEarlyHints)
	c.w.Header().Del("Link")
	return message("hints were sent")
}

// answerAsTold answers status=N with message=TEXT, or body=TEXT of type=KIND,
// and header=Name:Value as often as given. The faults do the same to everybody;
// this does it to one request.
func (c *call) answerAsTold() answer {
	q := c.r.URL.Query()
	status, err := strconv.Atoi(cmp.Or(q.Get("status"), "200"))
	if err != nil || status < 200 || status > 599 {
		return fail(http.StatusBadRequest, "status must be a number from 200 to 599")
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c.r.Body, maxUpload))
	for _, h := range q["header"] {
		name, value, _ := strings.Cut(h, ":")
		c.w.Header().Add(name, strings.TrimSpace(value))
	}
	if q.Has("body") {
		return answer{status: status, contentType: cmp.Or(q.Get("type"), "application/json"), raw: []byte(q.Get("body"))}
	}
	return fail(status, cmp.Or(q.Get("message"), "answered as told"))
}
