package emulator

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestControlFromThisMachine(t *testing.T) {
	l := start(t, Options{})
	token := bearer(l.login())
	var s Stats
	if err := json.Unmarshal([]byte(l.do("GET", "^/emulator/stats", "").body), &s); err != nil || s.Logins != 1 || s.UserLogins["emuser"] != 1 {
		t.Errorf("stats %+v, %v", s, err)
	}
	want(t, l.do("POST", "^/emulator/restart", ""), 200, "dropped")
	want(t, l.do("GET", "/config/servers", "", token), 401, wordsExpired)
	want(t, l.do("POST", "^/emulator/faults", "login=500\n\nexpired=500\n"), 200, "replaced")
	want(t, l.do("POST", "/session/login", goodLogin), 500, "Internal")
	want(t, l.do("GET", "/config/servers", "", token), 500, wordsExpired)
	want(t, l.do("POST", "^/emulator/faults", "login=moon"), 400, "expected 401")
	want(t, l.do("POST", "/session/login", goodLogin), 500, "Internal") // unchanged
	want(t, l.do("POST", "^/emulator/faults", ""), 200, "replaced")
	want(t, l.do("POST", "^/emulator/password?user=emuser", "new pass\n"), 200, "replaced")
	want(t, l.do("POST", "/session/login", `{"username":"emuser","password":"new pass"}`), 200, "token")
	want(t, l.do("POST", "^/emulator/password?user=nobody", "x"), 404, "not found")
	want(t, l.do("POST", "^/emulator/password?user=emuser", "\n"), 400, "expected")
	want(t, l.do("GET", "^/emulator/restart", ""), 405, "not supported")
	want(t, l.do("POST", "^/emulator/stats", ""), 405, "not supported")
	want(t, l.do("POST", "^/emulator/restart", "", "Origin: https://page.example.com"), 403, "this machine")
}

func TestControlRefusesOtherMachines(t *testing.T) {
	e := New(Options{})
	for remote, status := range map[string]int{
		"192.0.2.1:1234": 403, "[2001:db8::1]:1": 403, "garbage": 403, "127.0.0.1:1": 200, "[::1]:1": 200, "127.9.9.9:1": 200,
	} {
		for _, path := range []string{"/emulator/restart", "/emulator/faults"} {
			r := httptest.NewRequest("POST", path, strings.NewReader(""))
			r.RemoteAddr = remote
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code != status {
				t.Errorf("%s from %s: %d", path, remote, w.Code)
			}
		}
	}
}
