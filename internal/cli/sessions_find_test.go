package cli

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSessionsFindsTheGateway(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	listen, admin := freeAddress(t), freeAddress(t)
	p := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen)
	p.waitFor(up)
	get(t, "http://"+listen+"/automation-api/config/servers", "")
	socket := filepath.Join(h.runtime, "ctmgate-"+strings.ReplaceAll(listen, ":", "-")+".sock")
	for name, test := range map[string]struct{ env, args []string }{
		"by itself":                      {nil, nil},
		"by its listen address":          {nil, []string{"--listen", listen}},
		"by the port of that":            {nil, []string{"--listen", listen[strings.LastIndex(listen, ":"):]}},
		"by another name of that":        {nil, []string{"--listen", strings.Replace(listen, "127.0.0.1", "localhost", 1)}},
		"by the URL of that":             {nil, []string{"--listen", "http://" + listen + "/automation-api"}},
		"by a variable with the URL":     {[]string{"CTMGATE_LISTEN=http://" + listen}, nil},
		"by the variable of that":        {[]string{"CTMGATE_LISTEN=" + listen}, nil},
		"by its socket":                  {nil, []string{"--address", "unix/" + socket}},
		"by its socket, as in a config":  {nil, []string{"--address", "unix/" + socket + "|0600"}},
		"by CADDY_ADMIN":                 {[]string{"CADDY_ADMIN=unix/" + socket}, nil},
		"by CADDY_ADMIN, which counts":   {[]string{"CTMGATE_LISTEN=127.0.0.1:1", "CADDY_ADMIN=unix/" + socket}, nil},
		"by two variables for one place": {[]string{"CTMGATE_LISTEN=" + listen, "CADDY_ADMIN=unix/" + socket + "|0600"}, nil},
		"though CADDY_ADMIN is off":      {[]string{"CADDY_ADMIN=off"}, nil},
	} {
		code, out := h.run(t, test.env, append([]string{"sessions"}, test.args...)...)
		if code != 0 || !strings.Contains(out, "fresh  127.0.0.1/default") || !strings.Contains(out, "unix/"+socket) {
			t.Errorf("%s: got %d %s", name, code, out)
		}
	}

	// Another one, over TCP.
	second := h.start(t, upstream.passwordFile(t), "sidecar", "--listen", freeAddress(t), "--admin", admin)
	second.waitFor(up)
	for name, test := range map[string]struct{ env, args []string }{
		"an address":               {nil, []string{"--address", admin}},
		"another name":             {nil, []string{"--address", strings.Replace(admin, "127.0.0.1", "localhost", 1)}},
		"the variable":             {[]string{"CADDY_ADMIN=" + admin}, nil},
		"one that beats variables": {[]string{"CADDY_ADMIN=127.0.0.1:1", "CTMGATE_LISTEN=" + listen}, []string{"--address", admin}},
	} {
		if list := h.theSessions(t, test.env, test.args...); len(list) != 1 || list[0].State != "none" {
			t.Errorf("%s: got %+v", name, list)
		}
	}

	// Which of two is meant, only the caller knows.
	code, out := h.run(t, []string{"CADDY_ADMIN=" + admin, "CTMGATE_LISTEN=" + listen}, "sessions")
	if code != exitUsage || !strings.Contains(out, "--address unix/"+socket) || !strings.Contains(out, "--address "+admin) {
		t.Errorf("two variables for two places: got %d %s", code, out)
	}

	// A third one: now nobody knows which is meant, unless it is said.
	third := freeAddress(t)
	h.start(t, upstream.passwordFile(t), "sidecar", "--listen", third).waitFor(up)
	code, out = h.run(t, nil, "sessions")
	if code != exitUsage || !strings.Contains(out, "--address unix/"+socket) || !strings.Contains(out, strings.ReplaceAll(third, ":", "-")) {
		t.Errorf("got %d %s", code, out)
	}
	if list := h.theSessions(t, []string{"CTMGATE_LISTEN=" + third}); len(list) != 1 || list[0].State != "none" {
		t.Errorf("got %+v", list)
	}
}

// Somebody who names a gateway means no other one, least of all to log it out.
func TestSessionsActsOnNoOtherGatewayThanTheNamedOne(t *testing.T) {
	h, upstream := newHome(t), newPlant(t)
	listen := freeAddress(t)
	h.start(t, upstream.passwordFile(t), "sidecar", "--listen", listen).waitFor(up)
	get(t, "http://"+listen+"/automation-api/config/servers", "")
	for name, test := range map[string]struct {
		env, args []string
		code      int
		want      string
	}{
		"a listen address":             {nil, []string{"--listen", "127.0.0.1:1"}, 1, "ctmgate-127.0.0.1-1.sock (for the gateway that listens on 127.0.0.1:1, by --listen): there is no such socket"},
		"an admin address":             {nil, []string{"--address", "127.0.0.1:1"}, 1, "127.0.0.1:1: nobody listens there"},
		"the variable of a listener":   {[]string{"CTMGATE_LISTEN=127.0.0.1:1"}, nil, 1, "ctmgate-127.0.0.1-1.sock (for the gateway that listens on 127.0.0.1:1, by CTMGATE_LISTEN): there is no such socket"},
		"the variable, and admin off":  {[]string{"CTMGATE_LISTEN=127.0.0.1:1", "CADDY_ADMIN=off"}, nil, 1, "by CTMGATE_LISTEN): there is no such socket"},
		"the variable of an admin API": {[]string{"CADDY_ADMIN=127.0.0.1:1"}, nil, 1, "127.0.0.1:1 (by CADDY_ADMIN): nobody listens there"},
		"the variable that counts":     {[]string{"CADDY_ADMIN=127.0.0.1:1", "CTMGATE_LISTEN=" + listen}, nil, 1, "127.0.0.1:1 (by CADDY_ADMIN): nobody listens there"},
		"a listen address elsewhere":   {nil, []string{"--listen", strings.Replace(listen, "127.0.0.1", "192.0.2.7", 1)}, 1, "there is no such socket"},
		"a URL that is none":           {nil, []string{"--listen", "ftp://" + listen}, exitUsage, "--listen is no URL of a gateway"},
		"a URL with a user":            {nil, []string{"--listen", "http://u:" + canary + "@" + listen}, exitUsage, "--listen is no URL of a gateway"},
		"an empty listen address":      {nil, []string{"--listen", ""}, exitUsage, "--listen"},
		"an empty admin address":       {nil, []string{"--address", ""}, exitUsage, "--address"},
	} {
		for _, args := range [][]string{{"sessions"}, {"sessions", "renew"}, {"sessions", "logout", "127.0.0.1/default"}, {"sessions", "retry"}} {
			code, out := h.run(t, test.env, append(args, test.args...)...)
			if code != test.code || !strings.Contains(out, test.want) || strings.Contains(out, "8080") && code == 1 {
				t.Errorf("%s: %q: got %d %s", name, args, code, out)
			}
		}
	}
	if got := upstream.Stats(); got.Logins != 1 || got.Logouts != 0 {
		t.Errorf("it acted on another one: %+v", got)
	}
}

func TestSessionsFindsTheDemo(t *testing.T) {
	h := newHome(t)
	p := h.start(t, nil, "demo", "--listen", freeAddress(t))
	p.waitFor("sent on as session 1")
	code, out := h.run(t, nil, "sessions")
	if code != 0 || !strings.Contains(out, "fresh  demo/default") || strings.Contains(out, "\x1b") {
		t.Errorf("got %d %s", code, out)
	}
	if code, out := h.run(t, nil, "sessions", "renew"); code != 0 || !strings.Contains(out, "demo/default: renewed: session 2, which ends in ") {
		t.Errorf("got %d %s", code, out)
	}
	p.end(syscall.SIGTERM)
}

func TestSessionsSaysWhereItLookedWhenNothingAnswers(t *testing.T) {
	h := newHome(t)
	stale := filepath.Join(h.runtime, "ctmgate-127.0.0.1-9090.sock")
	closedSocket(t, stale)
	for name, test := range map[string]struct {
		args []string
		env  []string
		want []string
	}{
		"nothing named": {nil, []string{"CADDY_ADMIN=off"}, []string{
			"ctmgate-127.0.0.1-8080.sock", "unix//run/ctmgate/admin.sock", "ctmgate-*.sock: no other gateway of this user",
			"localhost:2019 (where Caddy's own is by default): nobody listens there", "--address", "--listen",
		}},
		"a listen address":         {[]string{"--listen", "127.0.0.1:9090"}, nil, []string{"unix/" + stale, "127.0.0.1:9090", "nobody listens there"}},
		"a listen address by name": {nil, []string{"CTMGATE_LISTEN=:7070"}, []string{"ctmgate-any-7070.sock (for the gateway that listens on :7070, by CTMGATE_LISTEN): there is no such socket"}},
		"an address":               {[]string{"--address", "unix//nowhere/at/all"}, nil, []string{"unix//nowhere/at/all: there is no such socket"}},
	} {
		code, out := h.run(t, test.env, append([]string{"sessions"}, test.args...)...)
		if code != 1 {
			t.Errorf("%s: got %d %s", name, code, out)
		}
		for _, want := range test.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: there is no %q in %s", name, want, out)
			}
		}
		// What was named is not replaced by something else.
		if name != "nothing named" && strings.Contains(out, "8080") {
			t.Errorf("%s: it looked elsewhere: %s", name, out)
		}
	}
	for _, args := range [][]string{
		{"--address", "127.0.0.1"}, {"--listen", "x"}, {"--address", "a:1", "--listen", "b:1"}, {"list"}, {"--verbose"},
		{"renew", "prod"}, {"renew", "prod/"}, {"retry", "/batch"}, {"logout", "a/b/c"}, {"retry", "a/b", "c/d"},
	} {
		if code, out := h.run(t, nil, append([]string{"sessions"}, args...)...); code != exitUsage || !strings.Contains(out, "--help") {
			t.Errorf("%q: got %d %s", args, code, out)
		}
	}
}

func TestSessionsComesToCaddysDefaultAtLast(t *testing.T) {
	h := newHome(t)
	t.Setenv("XDG_RUNTIME_DIR", h.runtime)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	last := ln.Addr().String()
	if found, err := lookAround(last); err != nil || found.String() != last {
		t.Errorf("got %v, %v", found, err)
	}
	socket := filepath.Join(h.runtime, "ctmgate-127.0.0.1-9090.sock")
	adminServer(t, socket, http.NotFoundHandler())
	if found, err := lookAround(last); err != nil || found.String() != "unix/"+socket {
		t.Errorf("beside a sidecar: got %v, %v", found, err)
	}
}

// closedSocket leaves a socket at path that nobody listens at.
func closedSocket(t *testing.T, path string) {
	t.Helper()
	server := adminServer(t, path, http.NotFoundHandler())
	server.Listener.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	server.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
}
