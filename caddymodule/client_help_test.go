package caddymodule_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// clientUpstream is an emulator over plain HTTP that keeps what arrives.
type clientUpstream struct {
	*emulator.Emulator
	url, host string

	mu   sync.Mutex
	kept []arrival
}

// arrival is one request as it arrived upstream.
type arrival struct {
	method, target, body string
	header               http.Header // with Host and, where there is a body, Content-Length
	own                  bool        // a login or logout of the gateway's own
}

func startClientUpstream(t testing.TB, o emulator.Options) *clientUpstream {
	t.Helper()
	if len(o.Users) == 0 {
		o.Users = []emulator.User{{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin"}}}
	}
	u := &clientUpstream{Emulator: emulator.New(o)}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	u.url, u.host = server.URL+"/automation-api", strings.TrimPrefix(server.URL, "http://")
	return u
}

// ServeHTTP takes down r and leaves the answer to the emulator.
func (u *clientUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "reading the body failed", http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	header := r.Header.Clone()
	header["Host"] = []string{r.Host}
	u.mu.Lock()
	u.kept = append(u.kept, arrival{r.Method, r.RequestURI, string(body), header, r.Header.Get("User-Agent") == "ctmgate"})
	u.mu.Unlock()
	u.Emulator.ServeHTTP(w, r)
}

// calls are the arrivals so far but for the gateway's own logins and logouts.
func (u *clientUpstream) calls() []arrival {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(u.kept), func(a arrival) bool { return a.own })
}

// logins are the bodies of the logins so far, whoever made them.
func (u *clientUpstream) logins() (bodies []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.kept {
		if strings.Contains(a.target, "/session/login") {
			bodies = append(bodies, a.body)
		}
	}
	return bodies
}

// clientView is a client's way to a gateway: the one base URL that it was
// given, and how its connections get there.
type clientView struct {
	t    testing.TB
	base string
	http *http.Client
}

// call sends a request to an absolute URL, as a client does that follows what
// an answer told it. The URL must lead back to the gateway.
func (v clientView) call(method, url, contentType, body string) reply {
	v.t.Helper()
	if !strings.HasPrefix(url, v.base+"/") {
		v.t.Fatalf("this URL leaves the gateway at %s: %s", v.base, url)
	}
	req, err := http.NewRequestWithContext(v.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := v.http.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	sweep(v.t, "the answer", content)
	return reply{res.StatusCode, res.Header, string(content)}
}

func (v clientView) get(url string) reply {
	v.t.Helper()
	return v.call(http.MethodGet, url, "", "")
}

// clientHTTP is a client with connections of its own, through transport if
// that is given, which follows no redirect.
func clientHTTP(t testing.TB, transport http.RoundTripper) *http.Client {
	t.Helper()
	if transport == nil {
		own := &http.Transport{}
		t.Cleanup(own.CloseIdleConnections)
		transport = own
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// decode reads the JSON of a body into v.
func (r reply) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("no JSON: %d %s (%v)", r.status, r.body, err)
	}
}

// definitionsForm is a multipart upload of one file, byte for byte as
// Python's urllib3 lays it out.
func definitionsForm(field, file, contentType, content string) (form, kind string) {
	const boundary = "f1a6c4d0b8e24c0f9b7f6d1e5a3c2b10"
	return "--" + boundary + "\r\nContent-Disposition: form-data; name=\"" + field + "\"; filename=\"" + file +
		"\"\r\nContent-Type: " + contentType + "\r\n\r\n" + content + "\r\n--" + boundary + "--\r\n", "multipart/form-data; boundary=" + boundary
}

// clientFolder is a folder as jobs-as-code.
const clientFolder = `{"ClientTest": {"Type": "SimpleFolder", "ControlmServer": "ctmtest", "Hello": {"Type": "Job:Command", "Command": "echo hello", "RunAs": "ctm"}}}`

// newLocalServer serves plain HTTP and returns where.
func newLocalServer(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL
}
