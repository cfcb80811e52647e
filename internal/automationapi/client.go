// Package automationapi is a client of the Session service of Control-M's
// Automation API: it logs in and out, and says in types what came of it.
package automationapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/ctmgate/ctmgate/internal/secret"
)

const (
	// maxBody bounds what is read of an answer. A login answer has some 250
	// bytes; a proxy's error page can be large.
	maxBody = 1 << 20
	// maxToken bounds a token: real ones have 128 characters.
	maxToken = 16 << 10
	// maxVersion bounds the version that is handed on to clients.
	maxVersion = 64
)

// Client speaks to one endpoint. It follows no redirect, keeps no cookie and
// has no time-out of its own: every call ends with its context.
type Client struct {
	http *http.Client
	base string
}

// New returns a client of the endpoint at base, such as
// https://em.example.com:8443/automation-api, that sends through rt.
func New(rt http.RoundTripper, base string) *Client {
	return &Client{
		base: strings.TrimSuffix(base, "/"),
		http: &http.Client{
			Transport:     rt,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Login is what the Session service gives for a username and password.
type Login struct {
	Token secret.Value
	// Version is the API's own release, such as 9.21.220; empty when it gave
	// none (controlm-api.md, section 1).
	Version string
}

// LogIn opens a session. A failed one returns an *Error whose Kind says what
// to do: only Refused concerns the credentials.
func (c *Client) LogIn(ctx context.Context, username string, password secret.Value) (Login, error) {
	const op = "logging in"
	// JSON would carry another password than this one, and the API refuse it.
	if !utf8.ValidString(username) || !utf8.ValidString(password.Reveal()) {
		return Login{}, &Error{Kind: Failed, Op: op, Reason: "the username or password is not UTF-8, which the API needs"}
	}
	body, err := json.Marshal(map[string]string{"username": username, "password": password.Reveal()})
	if err != nil {
		return Login{}, &Error{Kind: Failed, Op: op, Reason: "the username or password cannot be written as JSON"}
	}
	status, answer, err := c.post(ctx, op, "/session/login", body, nil)
	if err != nil {
		return Login{}, err
	}
	if status == http.StatusOK && !saysRefused(answer) {
		return parseLogin(answer)
	}
	return Login{}, loginError(op, status, answer)
}

// LogOut ends the session of token.
func (c *Client) LogOut(ctx context.Context, token secret.Value) error {
	const op = "logging out"
	status, _, err := c.post(ctx, op, "/session/logout", nil, http.Header{
		"Authorization": {"Bearer " + token.Reveal()},
	})
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return &Error{Kind: Failed, Op: op, Status: status, Reason: fmt.Sprintf("the API answered with status %d", status)}
	}
	return nil
}

func (c *Client) post(ctx context.Context, op, path string, body []byte, header http.Header) (int, []byte, error) {
	var told atomic.Bool // from here on the endpoint may have heard the secret, and may repeat it
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { told.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, &Error{Kind: Failed, Op: op, Reason: "the endpoint is not a usable URL"}
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ctmgate")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, transportError(ctx, op, err, told.Load())
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if refuses(res.StatusCode) && (err != nil || len(answer) > maxBody) {
		return res.StatusCode, nil, nil // the status says it, whatever became of the body
	}
	if err != nil {
		return 0, nil, transportError(ctx, op, err, true)
	}
	if len(answer) > maxBody {
		return 0, nil, &Error{
			Kind: Failed, Op: op, Status: res.StatusCode,
			Reason: "the answer is larger than 1 MiB, which no Automation API sends",
		}
	}
	return res.StatusCode, answer, nil
}

// parseLogin reads a LoginResult. Unknown members are ignored; a token that
// is missing or could not stand in a header is a failure.
func parseLogin(answer []byte) (Login, error) {
	fail := func(reason string) (Login, error) {
		return Login{}, &Error{Kind: Failed, Op: "logging in", Status: http.StatusOK, Reason: reason}
	}
	var result struct {
		Token   *string `json:"token"`
		Version *string `json:"version"`
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		return fail("the answer is not the JSON of an Automation API; does the endpoint end in /automation-api?")
	}
	if result.Token == nil || *result.Token == "" {
		return fail("the answer has no token")
	}
	if len(*result.Token) > maxToken || !visible(*result.Token) {
		return fail("the token in the answer could not stand in a header")
	}
	login := Login{Token: secret.New(*result.Token)}
	if v := result.Version; v != nil {
		if len(*v) > maxVersion || (*v != "" && !visible(*v)) {
			return fail("the version in the answer is not a version")
		}
		login.Version = *v
	}
	return login, nil
}

// visible tells whether s is visible ASCII without blanks.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
