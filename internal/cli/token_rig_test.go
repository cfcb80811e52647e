package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// office is an emulator over TLS in this process, with a user who may grant
// roles, an API token of today and one with a name of old.
type office struct {
	plant
	mu     sync.Mutex
	events []emulator.Event
	hook   func(emulator.Event) // called for each event, before the client sees the answer
}

const oldName = "my token/50% für;x"

func newOffice(t *testing.T, edit ...func(*emulator.Options)) *office {
	t.Helper()
	ca, err := emulator.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	o := new(office)
	options := emulator.Options{
		Users: []emulator.User{{Name: "batch", Password: canary, Roles: []string{"Admin", "User"}}},
		APITokens: []emulator.APIToken{
			{Name: "ci", Value: canary + "-token", User: "batch", Roles: []string{"Admin", "User"}},
			{Name: oldName, Value: canary + "-old", User: "batch", Roles: []string{"User"}},
		},
		Observe: o.observe,
	}
	for _, change := range edit {
		change(&options)
	}
	e := emulator.New(options)
	server, err := e.Listen("127.0.0.1:0", ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	o.plant = plant{e, server.URL(), write(t, filepath.Join(t.TempDir(), "ca.pem"), string(ca.PEM())), ca}
	return o
}

func (o *office) observe(e emulator.Event) {
	o.mu.Lock()
	o.events = append(o.events, e)
	hook := o.hook
	o.mu.Unlock()
	if hook != nil {
		hook(e)
	}
}

// on calls hook for each later event.
func (o *office) on(hook func(emulator.Event)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hook = hook
}

// apiToken is the environment of a command with an API token.
func (o *office) apiToken(t *testing.T) []string {
	t.Helper()
	return []string{
		"CTM_ENDPOINT=" + o.url, "CTM_CA_FILE=" + o.ca,
		"CTM_API_TOKEN_FILE=" + write(t, filepath.Join(t.TempDir(), "token"), canary+"-token\n"),
	}
}

// settled fails unless every session has been logged out, after n logins.
func (o *office) settled(t *testing.T, logins int) {
	t.Helper()
	if got := o.Stats(); got.LiveSessions != 0 || got.Logins != logins {
		t.Errorf("got %d logins and %d live sessions, want %d and none", got.Logins, got.LiveSessions, logins)
	}
}

// ask calls the emulator with an API token, and returns status and body.
func (o *office) ask(t *testing.T, token, method, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, o.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Api-Key", token)
	}
	return send(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: trusting(t, o.ca)}}, req)
}

// takes tells whether the emulator takes the password.
func (o *office) takes(t *testing.T, password string) bool {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"username": "batch", "password": password})
	status, answer := o.ask(t, "", http.MethodPost, "/session/login", string(body))
	if status == http.StatusOK {
		var login struct{ Token string }
		if err := json.Unmarshal([]byte(answer), &login); err != nil {
			t.Fatal(err)
		}
		o.ask(t, "", http.MethodPost, "/session/logout?token="+login.Token, "")
	}
	return status == http.StatusOK
}

// typed is what came of a command that somebody typed.
type typed struct {
	code        int
	out, errout string
}

// typed runs the program to its end, with standard input, and looks for
// secrets in all that it says.
func (h home) typed(t *testing.T, env []string, stdin string, args ...string) typed {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the program under test
	cmd.Env = h.environ(env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errout
	if err := cmd.Run(); err != nil {
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			t.Fatal(err)
		}
	}
	got := typed{cmd.ProcessState.ExitCode(), out.String(), errout.String()}
	if strings.Contains(got.out+got.errout, canary) {
		t.Errorf("a secret stands in the output of %q", args)
	}
	if strings.Contains(got.errout, "DATA RACE") || strings.Contains(got.errout, "panic") {
		t.Errorf("%q: %s", args, got.errout)
	}
	return got
}

// want fails unless the command ended with code, and said words somewhere.
func (g typed) want(t *testing.T, code int, words ...string) {
	t.Helper()
	if g.code != code {
		t.Errorf("it ended with %d, want %d:\n%s%s", g.code, code, g.out, g.errout)
	}
	for _, w := range words {
		if !strings.Contains(g.out+g.errout, w) {
			t.Errorf("it does not say %q:\n%s%s", w, g.out, g.errout)
		}
	}
}

// contentOf returns what is in a file.
func contentOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// modeOf is the mode of a file that is an ordinary one.
func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// scripted is an API whose answers a test writes, with login and logout as
// usual. It counts sessions.
type scripted struct {
	mu      sync.Mutex
	live    int
	headers []http.Header // of the calls
}

// newScripted serves answer for all but login and logout, over plain http, and
// returns the environment of a command that uses it.
func newScripted(t *testing.T, answer http.HandlerFunc) (*scripted, []string) {
	t.Helper()
	s := new(scripted)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /automation-api/session/login", func(w http.ResponseWriter, _ *http.Request) {
		s.count(1)
		_, _ = io.WriteString(w, `{ "username" : "batch", "token" : "`+canary+`-session", "version" : "9.21.220" }`)
	})
	mux.HandleFunc("POST /automation-api/session/logout", func(w http.ResponseWriter, _ *http.Request) {
		s.count(-1)
		_, _ = io.WriteString(w, `{ "message" : "done" }`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.headers = append(s.headers, r.Header)
		s.mu.Unlock()
		answer(w, r)
	})
	return s, []string{
		"CTM_ENDPOINT=" + serveHTTP(t, mux) + "/automation-api", "CTM_USERNAME=batch",
		"CTM_PASSWORD_FILE=" + write(t, filepath.Join(t.TempDir(), "password"), canary),
	}
}

func (s *scripted) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live += n
}

func (s *scripted) settled(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live != 0 {
		t.Errorf("%d sessions are left", s.live)
	}
}

// calls are the headers of what it was asked beside login and logout.
func (s *scripted) calls() []http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.headers)
}
