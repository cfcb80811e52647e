package caddymodule_test

import (
	"strings"
	"testing"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// wantNoSessionLeft looks, once the gateway has stopped, whether every
// session was logged out. Call it before startGateway.
func wantNoSessionLeft(t *testing.T, up *upstream) {
	t.Helper()
	t.Cleanup(func() {
		if s := up.Stats(); s.LiveSessions != 0 {
			t.Errorf("%d sessions were left behind: %+v", s.LiveSessions, s)
		}
	})
}

func TestAFailedReloadKeepsTheOldConfigRunning(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	wantNoSessionLeft(t, up)
	password := "{file." + secretFile(t, canaryPassword) + "}"
	good := up.sidecar(password)
	g := startGateway(t, good)
	wantReply(t, g.get("/automation-api/config/servers"), 200, "")
	before := up.Stats()

	another := strings.Replace(good, "{ADDR}", "http://"+freeAddr(t), 1)
	for _, bad := range []struct{ name, caddyfile, want string }{
		{"an unknown word", strings.Replace(good, "username", "usrname", 1), `unknown word "usrname"`},
		{"a missing secret", up.sidecar("{file./nowhere/secret}"), "/nowhere/secret"},
		{"an unset variable", up.sidecar("{env.CTMGATE_TEST_UNSET}"), "CTMGATE_TEST_UNSET is unset"},
		{"a missing CA", strings.Replace(good, up.caFile, "/nowhere/ca.pem", 1), "/nowhere/ca.pem"},
		// The first site is provisioned by then, and has taken the session again.
		{"a mistake after a good site", good + strings.Replace(another, "username emuser", "name other\n\t\tusername {env.CTMGATE_TEST_UNSET}", 1), "CTMGATE_TEST_UNSET is unset"},
		{"a clash of names", good + strings.Replace(another, "username emuser", "username emuser\n\t\tlogin_timeout 7s", 1), "there are two of this name"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			wantError(t, g.load(bad.caddyfile), bad.want)
			wantReply(t, g.get("/automation-api/config/servers"), 200, "")
		})
	}
	if after := up.Stats(); after.Logins != 1 || after.Logouts != before.Logouts || after.RejectedCalls != 0 {
		t.Errorf("upstream saw %+v; expected one login, no logout, no rejected call", after)
	}
	if err := g.load(good); err != nil {
		t.Errorf("loading a good config after bad ones: %v", err)
	}
	wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
}

func TestAReloadOfTheSameConfigKeepsTheSession(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	wantNoSessionLeft(t, up)
	t.Setenv("CTM_PASSWORD", canaryPassword)
	for _, c := range []struct{ name, password string }{
		{"a password from a file", "{file." + secretFile(t, canaryPassword) + "}"},
		{"a password from the environment", "{env.CTM_PASSWORD}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			logins := up.Stats().Logins
			g := startGateway(t, up.sidecar(c.password))
			for range 3 {
				wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
				if err := g.load(up.sidecar(c.password)); err != nil {
					t.Fatal(err)
				}
			}
			wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
			if s := up.Stats(); s.Logins != logins+1 {
				t.Errorf("logged in %d times, expected once", s.Logins-logins)
			}
		})
	}
}

func TestWordsThatDoNotConcernTheSessionLeaveItAlone(t *testing.T) {
	up := startUpstream(t, emulator.Options{})
	wantNoSessionLeft(t, up)
	password := "{file." + secretFile(t, canaryPassword) + "}"
	g := startGateway(t, up.sidecar(password))
	wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
	if err := g.load(up.sidecar(password, "admit loopback em.example.com", "replay_buffer 2MiB", "public_url https://controlm.example.com")); err != nil {
		t.Fatal(err)
	}
	wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
	if s := up.Stats(); s.Logins != 1 || s.Logouts != 0 {
		t.Errorf("upstream saw %+v; expected one login and no logout", s)
	}
}

func TestAChangedLiteralPasswordMakesANewSession(t *testing.T) {
	const before, after = "literal-one-{1}", "literal-two-{2}"
	up := startUpstream(t, emulator.Options{Users: []emulator.User{{Name: "emuser", Password: before}}})
	wantNoSessionLeft(t, up)
	g := startGateway(t, up.sidecar(before))
	wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
	up.SetPassword("emuser", after)
	if err := g.load(up.sidecar(after)); err != nil {
		t.Fatal(err)
	}
	wantReply(t, g.getAfterLoad("/automation-api/config/servers", nil), 200, "")
	if s := up.Stats(); s.Logins != 2 || s.RefusedLogins != 0 {
		t.Errorf("upstream saw %+v; expected two logins and no refusal", s)
	}
	waitUntil(t, "the old session is logged out", func() bool { return up.Stats().Logouts == 1 })
	for _, literal := range []string{before, after} {
		g.wantNotLogged(literal)
	}
}
