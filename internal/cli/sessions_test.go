package cli

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/emulator"
)

// theSessions is what `sessions --json` gives.
func (h home) theSessions(t *testing.T, env []string, args ...string) []caddymodule.SessionInfo {
	t.Helper()
	code, out := h.run(t, env, append([]string{"sessions", "--json"}, args...)...)
	var list []caddymodule.SessionInfo
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		t.Fatalf("got %d %s: %v", code, out, err)
	}
	return list
}

func TestSessionsActOnOneAccount(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	listen := freeAddress(t)
	p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
	p.waitFor(up)
	get(t, "http://"+listen+"/automation-api/config/servers", "")
	for _, step := range []struct {
		args     []string
		want     string
		sessions int // opened so far
	}{
		{[]string{"renew", "127.0.0.1/default"}, "127.0.0.1/default: renewed: session 2, which ends in 30m00s\n", 2},
		{[]string{"renew", "--listen", listen}, "127.0.0.1/default: renewed: session 3, which ends in 30m00s\n", 3},
		{[]string{"--listen", listen, "logout", "127.0.0.1/default"}, "127.0.0.1/default: logged out, as soon as its last call has ended; the next call logs in\n", 3},
		{[]string{"logout"}, "127.0.0.1/default: there was no session to log out; the next call logs in\n", 3},
		{[]string{"retry"}, "127.0.0.1/default: can be used: session 4, which ends in 30m00s\n", 4},
		{[]string{"retry"}, "127.0.0.1/default: can be used: session 4, which ends in ", 4},
	} {
		code, out := h.run(t, nil, append([]string{"sessions"}, step.args...)...)
		if code != 0 || !strings.HasPrefix(out, step.want) {
			t.Errorf("%q: got %d %s", step.args, code, out)
		}
		if got := upstream.Stats(); got.Logins != step.sessions {
			t.Errorf("%q: got %+v", step.args, got)
		}
	}
	eventually(t, "one session", func() bool { return upstream.Stats().LiveSessions == 1 })
	code, out := h.run(t, nil, "sessions", "renew", "--json")
	var list []caddymodule.SessionInfo
	if err := json.Unmarshal([]byte(out), &list); code != 0 || err != nil || len(list) != 1 || list[0].Session != 5 {
		t.Errorf("got %d %s", code, out)
	}
	for _, unknown := range []string{"prod/default", "127.0.0.1/batch"} {
		if code, out := h.run(t, nil, "sessions", "retry", unknown); code != exitUsage || !strings.Contains(out, "there is no") || !strings.Contains(out, "expected one of") {
			t.Errorf("%s: got %d %s", unknown, code, out)
		}
	}
	p.end(syscall.SIGTERM)
}

func TestSessionsHelpsARefusedAccountUp(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	listen := freeAddress(t)
	upstream.SetPassword("batch", "another one")
	p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
	p.waitFor(up)
	get(t, "http://"+listen+"/automation-api/config/servers", "")
	code, out := h.run(t, nil, "sessions")
	if code != 0 || !strings.Contains(out, "\nREFUSED  127.0.0.1/default") || !strings.Contains(out, "\n127.0.0.1/default: the password was refused.") ||
		!strings.Contains(out, "`ctmgate sessions retry 127.0.0.1/default`") || !strings.Contains(out, "\nThe account cannot be used.") {
		t.Errorf("got %d %s", code, out)
	}
	if got := upstream.Stats(); got.RefusedLogins != 1 {
		t.Errorf("looking has spent an attempt: %+v", got)
	}
	code, out = h.run(t, nil, "sessions", "retry", "--listen", listen)
	if code != 1 || !strings.Contains(out, "127.0.0.1/default: logging in: the API refused the username or password with status 401\n") ||
		!strings.Contains(out, "`ctmgate sessions retry 127.0.0.1/default --listen "+listen+"`") {
		t.Errorf("got %d %s", code, out)
	}
	upstream.SetPassword("batch", canary)
	if code, out := h.run(t, nil, "sessions", "retry"); code != 0 || !strings.Contains(out, "can be used: session 1") {
		t.Errorf("got %d %s", code, out)
	}
	if got := upstream.Stats(); got.RefusedLogins != 2 || got.Logins != 1 {
		t.Errorf("got %+v", got)
	}

	// A renewal that fails harms nothing, and is told.
	fault, err := emulator.ParseFault("login=500")
	if err != nil {
		t.Fatal(err)
	}
	upstream.SetFaults(fault)
	if code, out := h.run(t, nil, "sessions", "renew"); code != 1 || !strings.Contains(out, "the API answered with status 500") || !strings.Contains(out, "calls go on with the session at hand for ") {
		t.Errorf("got %d %s", code, out)
	}
	if code, out := h.run(t, nil, "sessions"); code != 0 || !strings.Contains(out, "\nfresh  127.0.0.1/default") || !strings.Contains(out, "the last login failed") {
		t.Errorf("got %d %s", code, out)
	}
	if status, body := get(t, "http://"+listen+"/automation-api/config/servers", ""); status != 200 {
		t.Errorf("got %d %s", status, body)
	}
	p.end(syscall.SIGTERM)
}

func TestSessionsOfAnAccountWithAnAPIToken(t *testing.T) {
	h, upstream, listen := newHome(t), newPlant(t), freeAddress(t)
	p := h.start(t, []string{"CTM_ENDPOINT=" + upstream.url, "CTM_CA_FILE=" + upstream.ca, "CTM_API_TOKEN=" + canary + "-unknown"},
		"sidecar", "--listen", listen)
	p.waitFor(up)
	if code, out := h.run(t, nil, "sessions"); code != 0 || !strings.Contains(out, "\nstanding  127.0.0.1/default") {
		t.Errorf("got %d %s", code, out)
	}
	if code, out := h.run(t, nil, "sessions", "renew"); code != 1 || !strings.Contains(out, "an API token, which needs no session") {
		t.Errorf("got %d %s", code, out)
	}
	// The emulator knows no such token, so that the first call shows it.
	get(t, "http://"+listen+"/automation-api/config/servers", "")
	code, out := h.run(t, nil, "sessions")
	if code != 0 || !strings.Contains(out, "\nENDED  127.0.0.1/default") || !strings.Contains(out, "\n127.0.0.1/default: the API token has expired, or was deleted.") ||
		!strings.Contains(out, "\nThe account cannot be used.") || strings.Contains(out, "retry") {
		t.Errorf("got %d %s", code, out)
	}
}

// adminServer answers at a socket.
func adminServer(t *testing.T, path string, handler http.Handler) *httptest.Server {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = ln
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func TestSessionsTrustsNoStrangerWithTheTerminal(t *testing.T) {
	h := newHome(t)
	socket := filepath.Join(h.runtime, "s")
	var mu sync.Mutex
	var status int
	var body string
	var asked []*http.Request
	answer := func(s int, b string) {
		mu.Lock()
		defer mu.Unlock()
		status, body = s, b
	}
	adminServer(t, socket, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r)
		w.Header().Set("Location", "http://example.com/")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	for name, test := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"no JSON":          {200, "<html>", "it gave no list of sessions"},
		"another JSON":     {200, `{"apps":{}}`, "it gave no list of sessions"},
		"a redirect":       {302, "", "it said 302"},
		"an empty 404":     {404, "", "it said 404"},
		"no such app":      {404, `{"error":"the running config has no controlm"}`, "the running config has no controlm"},
		"a hostile reason": {502, `{"error":"x\u001b[2J\u009by"}`, "x?[2J?y"},
		"an older Caddy":   {500, `{"message":"x"}`, "an older one"},
	} {
		answer(test.status, test.body)
		code, out := h.run(t, nil, "sessions", "--address", "unix/"+socket)
		if code != 1 || !strings.Contains(out, test.want) || strings.ContainsAny(out, "\x1b\u009b") {
			t.Errorf("%s: got %d %q", name, code, out)
		}
	}
	answer(200, `[{"environment":"e\u001b[2J","account":"a","endpoint":"\u009b","in_use":true,"state":"fresh\u0007","last_error":"\u001b]0;x\u0007"}]`)
	if code, out := h.run(t, nil, "sessions", "--address", "unix/"+socket); code != 0 || strings.ContainsAny(out, "\x1b\x07\u009b") {
		t.Errorf("got %d %q", code, out)
	}
	answer(200, "[]\n")
	if code, out := h.run(t, nil, "sessions", "--address", "unix/"+socket); code != 0 || !strings.Contains(out, "has no account") {
		t.Errorf("got %d %q", code, out)
	}
	if code, out := h.run(t, nil, "sessions", "renew", "--address", "unix/"+socket); code != 1 || !strings.Contains(out, "has no account") {
		t.Errorf("got %d %q", code, out)
	}
	answer(200, `[{"environment":"a","account":"b","in_use":true,"state":"none"},{"environment":"a","account":"c","in_use":true,"state":"none"}]`)
	if code, out := h.run(t, nil, "sessions", "logout", "--address", "unix/"+socket); code != exitUsage || !strings.Contains(out, "one of a/b, a/c") {
		t.Errorf("got %d %q", code, out)
	}
	answer(404, `{"error":"the running config has no controlm"}`)
	if code, out := h.run(t, nil, "sessions", "renew", "a/b", "--address", "unix/"+socket); code != 1 || !strings.Contains(out, "a/b: the running config has no controlm") {
		t.Errorf("got %d %q", code, out)
	}
	mu.Lock()
	defer mu.Unlock()
	// No browser is behind a socket, and Caddy lets in none that claims one.
	if slices.ContainsFunc(asked, func(r *http.Request) bool { return r.Header.Get("Origin") != "" || r.Host != "127.0.0.1" }) {
		t.Error("a request has an Origin, or another Host")
	}
}

func TestUnprefixedLeavesOtherErrorsAlone(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&adminError{502, "renew: logging in: x"}, "logging in: x"},
		{&adminError{404, "there is no environment"}, "there is no environment"},
		{errors.New("renew: x"), "renew: x"},
	} {
		if got := unprefixed(test.err, "renew").Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
