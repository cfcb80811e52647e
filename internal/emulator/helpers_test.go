package emulator

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

var testCA = sync.OnceValues(NewCA)

// live is an emulator over real TCP and TLS, and a client that trusts it.
type live struct {
	t      *testing.T
	e      *Emulator
	server *Server
	client *http.Client
	events *recorded
}

type recorded struct {
	mu   sync.Mutex
	list []Event
}

func (r *recorded) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
}

func (r *recorded) last() Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return Event{}
	}
	return r.list[len(r.list)-1]
}

func start(t *testing.T, o Options) *live {
	t.Helper()
	ca, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	l := &live{t: t, events: &recorded{}}
	o.Observe = l.events.add
	l.e = New(o)
	if l.server, err = l.e.Listen("127.0.0.1:0", ca); err != nil {
		t.Fatal(err)
	}
	l.client = trusting(t, ca)
	t.Cleanup(func() {
		l.client.CloseIdleConnections()
		if err := l.server.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func trusting(t *testing.T, ca *CA) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca.PEM()) {
		t.Fatal("the CA's PEM holds no certificate")
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
}

type reply struct {
	status int
	body   string
	header http.Header
}

func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("answer is no JSON object: %v in %q", err, r.body)
	}
	return m
}

// try sends a request; headers are "Name: value".
func (l *live) try(method, path, body string, headers ...string) (reply, error) {
	url := l.server.URL() + path
	if rest, outside := strings.CutPrefix(path, "^"); outside { // beside the base path
		url = strings.TrimSuffix(l.server.URL(), l.e.base) + rest
	}
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, body: string(text), header: resp.Header}, err
}

func (l *live) do(method, path, body string, headers ...string) reply {
	l.t.Helper()
	r, err := l.try(method, path, body, headers...)
	if err != nil {
		l.t.Fatalf("%s %s: %v", method, path, err)
	}
	return r
}

const goodLogin = `{"username":"emuser","password":"empass"}`

func (l *live) login() string {
	l.t.Helper()
	r := l.do("POST", "/session/login", goodLogin)
	token, _ := r.json(l.t)["token"].(string)
	if r.status != 200 || token == "" {
		l.t.Fatalf("login: status %d", r.status)
	}
	return token
}

func bearer(token string) string { return "Authorization: Bearer " + token }

func want(t *testing.T, r reply, status int, text string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, text) {
		t.Errorf("got %d %q, want %d with %q", r.status, r.body, status, text)
	}
}

// upload makes a multipart body and its Content-Type header.
func upload(t *testing.T, field, file, content string) (body, header string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	p, err := w.CreateFormFile(field, file)
	if err == nil {
		_, err = io.WriteString(p, content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), "Content-Type: " + w.FormDataContentType()
}

// pass lets the clock of a synctest bubble move on. It takes no real time, and is
// of no use outside a bubble.
func pass(d time.Duration) { <-time.After(d) }
