package emulator

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
)

func TestEchoTellsWhatArrived(t *testing.T) {
	l := start(t, Options{})
	token := l.login()
	body := strings.Repeat("0123456789", 300_000)
	sum := sha256.Sum256([]byte(body))
	r := l.do("DELETE", "/emulator/echo?a=1;b=%zz&c", body, bearer(token), "X-Twice: 1", "X-Twice: 2")
	var got echoed
	if err := json.Unmarshal([]byte(r.body), &got); err != nil {
		t.Fatal(err)
	}
	if r.status != 200 || got.Method != "DELETE" || got.Target != "/automation-api/emulator/echo?a=1;b=%zz&c" ||
		got.BodySHA256 != hex.EncodeToString(sum[:]) || got.BodySize != int64(len(body)) || got.Length != int64(len(body)) ||
		got.SessionUser != "emuser" || got.Proto != "HTTP/1.1" {
		t.Errorf("got %+v", got)
	}
	if h := got.Headers; len(h["X-Twice"]) != 2 || len(h["Host"]) != 1 || len(h["Authorization"]) != 1 || h["Authorization"][0] != "present" {
		t.Errorf("headers %v", h)
	}
	if strings.Contains(r.body, token) {
		t.Error("the token is echoed")
	}
}

func TestEchoTellsTrailersOfAChunkedBody(t *testing.T) {
	l := start(t, Options{})
	req, err := http.NewRequest("POST", l.server.URL()+"/emulator/echo", io.MultiReader(strings.NewReader("chunked")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", l.login())
	req.Trailer = http.Header{"X-End": {"done"}}
	resp, err := l.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var got echoed
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Length != -1 || got.BodySize != 7 || got.Trailers["X-End"][0] != "done" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDownloadsHaveLengthOrChunks(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	plainly := l.do("GET", "/emulator/download?size=100000", "", token)
	if len(plainly.body) != 100000 || plainly.header.Get("Content-Length") != "100000" {
		t.Errorf("got %d bytes, length %q", len(plainly.body), plainly.header.Get("Content-Length"))
	}
	chunked := l.do("GET", "/emulator/download?size=100000&chunked=1&chunks=7", "", token)
	if chunked.body != plainly.body || chunked.header.Get("Content-Length") != "" {
		t.Errorf("got %d bytes, length %q", len(chunked.body), chunked.header.Get("Content-Length"))
	}
	if got := l.do("GET", "/emulator/download?size=0", "", token); got.status != 200 || got.body != "" {
		t.Errorf("empty download: %d", got.status)
	}
	for _, bad := range []string{"", "?size=-1", "?size=x", "?size=99999999999999", "?size=1&chunks=0"} {
		want(t, l.do("GET", "/emulator/download"+bad, "", token), 400, "must be")
	}
}

func TestAGateHoldsADownloadAfterItsFirstByte(t *testing.T) {
	l := start(t, Options{})
	token := l.login()
	req, err := http.NewRequest("GET", l.server.URL()+"/emulator/download?size=1000&gate=one", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := l.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	in := bufio.NewReader(resp.Body)
	if b, err := in.ReadByte(); err != nil || b != '0' {
		t.Fatalf("first byte: %q, %v", b, err)
	}
	if in.Buffered() != 0 {
		t.Errorf("%d bytes passed the gate", in.Buffered())
	}
	want(t, l.do("GET", "/emulator/open?gate=one", "", bearer(token)), 200, "open")
	rest, err := io.ReadAll(in)
	if err != nil || len(rest) != 999 {
		t.Errorf("rest: %d bytes, %v", len(rest), err)
	}
	// An open gate stays open.
	if got := l.do("GET", "/emulator/download?size=10&gate=one", "", bearer(token)); len(got.body) != 10 {
		t.Errorf("got %d bytes", len(got.body))
	}
	want(t, l.do("GET", "/emulator/open", "", bearer(token)), 400, "gate")
}

func TestHintsComeBeforeTheAnswer(t *testing.T) {
	l := start(t, Options{})
	var link string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints {
			link = h.Get("Link")
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", l.server.URL()+"/emulator/hints", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", l.login())
	resp, err := l.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if link == "" || resp.StatusCode != 200 || resp.Header.Get("Link") != "" || l.events.last().Status != 200 {
		t.Errorf("hint %q, then %d; observed %+v", link, resp.StatusCode, l.events.last())
	}
}

func TestAnswerAsTold(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	want(t, l.do("POST", "/emulator/answer?status=401&message=no+rights", "x", token), 401, `"message" : "no rights"`)
	r := l.do("GET", "/emulator/answer?body=abc&type=text/plain&header=Set-Cookie:a%3Db", "", token)
	want(t, r, 200, "abc")
	if r.header.Get("Set-Cookie") != "a=b" || r.header.Get("Content-Type") != "text/plain" {
		t.Errorf("headers %v", r.header)
	}
	if got := l.do("GET", "/emulator/answer?status=204", "", token); got.status != 204 || got.body != "" {
		t.Errorf("got %d %q", got.status, got.body)
	}
	want(t, l.do("GET", "/emulator/answer?status=99", "", token), 400, "status must")
}
