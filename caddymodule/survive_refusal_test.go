package caddymodule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// swift is how soon an answer that needs no login is to be there, at the
// median. A machine that does other things besides has more time; with
// CTMGATE_SOAK=1 there should be none.
const swift = 50 * time.Millisecond

func swiftly(shots []shot) bool { return median(shots) < soaking(10*swift, swift) }

// refusing are emulators on which emuser has another password than the
// gateway, and is locked after three logins that are refused.
func refusing(t *testing.T, n int) (machines []*machine) {
	t.Helper()
	for range n {
		machines = append(machines, startMachine(t, emulator.Options{
			LockAfter: 3, LoginDelay: 100 * time.Millisecond, // so that many wait for the one attempt
			Users: []emulator.User{{Name: "emuser", Password: canaryPassword, Roles: []string{"Admin"}}},
		}))
	}
	return machines
}

// wantOneAttempt fails the test unless all machines together saw one login,
// and returns when that was over.
func wantOneAttempt(t *testing.T, machines []*machine) (over time.Time) {
	t.Helper()
	var seen []witnessed
	for _, m := range machines {
		seen = append(seen, m.attempts()...)
	}
	if len(seen) != 1 || seen[0].Kind != emulator.KindLoginRefused {
		t.Fatalf("upstream saw %d logins, expected one that is refused: %+v", len(seen), seen)
	}
	return seen[0].at
}

// wantRefused fails the test unless every shot was told of the refusal, and
// those that had not to wait for the attempt were told at once.
func wantRefused(t *testing.T, shots []shot, attempt time.Time) {
	t.Helper()
	var later []shot
	slow, slowest := 0, time.Duration(0)
	for _, s := range shots {
		if s.err != nil || s.code != "ctmgate.login_refused" || s.status != 502 || s.retryAfter() >= 0 {
			t.Fatalf("got %v, %s", s, s.header)
		}
		if s.sent.Before(attempt) {
			continue
		}
		later = append(later, s)
		slowest = max(slowest, s.took)
		if s.took > swift {
			slow++
		}
	}
	t.Logf("%d calls, %d after the attempt: median %s, slowest %s, %d above %s",
		len(shots), len(later), median(later), slowest, slow, swift)
	if len(later) < 50 || !swiftly(later) || slowest > soaking(10*time.Second, time.Minute) {
		t.Errorf("they were not told at once")
	}
}

func TestFiftyClientsWithAWrongPasswordCostOneAttempt(t *testing.T) {
	machines := refusing(t, 1)
	file := secretFile(t, refusedPassword)
	config := surviveSite(machines, asEmuser(file))
	g := startGateway(t, config)
	load := g.fire(50, 50*time.Millisecond, onlyGets)
	surviveFor(t, soaking(time.Second, 30*time.Second))
	if err := g.load(config); err != nil {
		t.Error(err)
	}
	if err := g.load(surviveSite(machines, asEmuser(file), "session_lifetime 20m")); err != nil { // another session of the same account
		t.Error(err)
	}
	surviveFor(t, soaking(time.Second, 30*time.Second))
	shots := load.stop()
	wantRefused(t, shots, wantOneAttempt(t, machines))
	if n := tally(shots)["sent anew"]; n > 100 {
		t.Errorf("%d connections were reset by two reloads", n)
	}

	rewriteSecret(t, file, canaryPassword)
	waitUntil(t, "the right password is used", func() bool { return g.getAfterLoad(surviveGet, nil).status == 200 })
	if s := machines[0].Stats(); s.RefusedLogins != 1 || s.Logins != 1 {
		t.Errorf("after the file was mended upstream saw %+v", s)
	}
}

func TestARefusalHoldsForEveryAccountOfTheUser(t *testing.T) {
	for _, row := range []struct {
		name      string
		endpoints int
		accounts  int
		names     []string // of environments with the same endpoints
		spelled   string   // how the second writes what ends the first's URLs
	}{
		{name: "two accounts", endpoints: 1, accounts: 2, names: []string{"prod"}},
		{name: "two environments", endpoints: 1, accounts: 1, names: []string{"prod", "again"}},
		{name: "two endpoints", endpoints: 2, accounts: 1, names: []string{"prod"}},
		{name: "two of each", endpoints: 2, accounts: 2, names: []string{"prod", "again"}},
		{name: "two spellings of one endpoint", endpoints: 1, accounts: 1, names: []string{"prod", "again"}, spelled: "/"},
	} {
		t.Run(row.name, func(t *testing.T) {
			machines := refusing(t, row.endpoints)
			var app, sites strings.Builder
			var prefixes []string
			for n, name := range row.names {
				fmt.Fprintf(&app, "environment %s {\nendpoint", name)
				for _, m := range machines {
					fmt.Fprintf(&app, " %s%s", m.url, strings.Repeat(row.spelled, n))
				}
				for _, m := range machines {
					fmt.Fprintf(&app, "\ntls_ca_file %s\n", m.caFile)
				}
				for i := range row.accounts {
					fmt.Fprintf(&app, "account a%d {\nusername emuser\npassword {file.%s}\n}\n", i, secretFile(t, refusedPassword))
					prefix := fmt.Sprintf("/%s/a%d", name, i)
					prefixes = append(prefixes, prefix)
					fmt.Fprintf(&sites, "handle_path %s/* {\ncontrolm %s {\naccount a%d\n}\n}\n", prefix, name, i)
				}
				app.WriteString("default_account a0\n}\n")
			}
			g := startGateway(t, "{\ncontrolm {\n"+app.String()+"}\n}\n{ADDR} {\n"+sites.String()+"}\n")
			load := g.fire(8, 10*time.Millisecond, func(n int) (method, path, body string) {
				return "GET", prefixes[n%len(prefixes)] + surviveGet, ""
			})
			surviveFor(t, soaking(600*time.Millisecond, 5*time.Second))
			shots := load.stop()
			wantRefused(t, shots, wantOneAttempt(t, machines))
		})
	}
}

// An administrator changes the password, which ends the sessions, and puts the
// new one into the file a little later.
func TestAPasswordThatChangesUpstreamFirstCostsOneRefusalAndNoHuman(t *testing.T) {
	const next = canaryPassword + "-next"
	up := startMachine(t, emulator.Options{LockAfter: 3})
	file := secretFile(t, canaryPassword)
	g := startGateway(t, surviveSite([]*machine{up}, asEmuser(file)))
	load := g.fire(4, 200*time.Millisecond, onlyGets) // 20 calls a second
	waitUntil(t, "calls arrive", func() bool { return len(load.sofar()) > 8 })
	changed := time.Now()
	up.SetPassword("emuser", next)
	up.Restart()
	surviveFor(t, soaking(300*time.Millisecond, 3*time.Second))
	rewriteSecret(t, file, next)
	written := time.Now()
	waitUntil(t, "a login with the new password", func() bool { return up.Stats().Logins == 2 })
	seen := up.saw(emulator.KindLogin)[1].at
	surviveFor(t, soaking(500*time.Millisecond, 5*time.Second))
	failed := 0
	for _, s := range load.stop() {
		switch {
		case s.err == nil && s.status == 200 && !s.again:
			continue
		case s.err != nil || s.again || s.code != "ctmgate.login_refused":
			t.Errorf("got %v", s)
		case s.sent.After(seen) || s.over().Before(changed):
			t.Errorf("%v, sent %s after the new password was in use", s, s.sent.Sub(seen))
		}
		failed++
	}
	t.Logf("%d calls failed; the file was seen after %s", failed, seen.Sub(written).Round(time.Millisecond))
	if s := up.Stats(); s.RefusedLogins > 1 || s.Logins != 2 || s.LiveSessions != 1 {
		t.Errorf("upstream saw %+v", s)
	}
	if d := seen.Sub(written); d > 15*time.Second { // 5 s, by the contract
		t.Errorf("the new file was seen after %s", d)
	}
}

// checkBackoff fails the test unless the attempts are as far apart as pauses
// that double from 1 s, with up to a quarter of jitter, allow.
func checkBackoff(t *testing.T, attempts []witnessed) {
	t.Helper()
	pause := time.Second
	for i := 1; i < len(attempts); i++ {
		apart := attempts[i].at.Sub(attempts[i-1].at)
		// The pause runs from the answer, which comes after what is seen.
		if apart < pause-10*time.Millisecond || apart > pause*5/4+2*time.Second {
			t.Errorf("attempt %d came %s after the one before, expected %s and up to a quarter more", i+1, apart, pause)
		}
		pause = min(2*pause, 48*time.Second)
	}
}

func TestFailedLoginsFollowTheBackoffAndRetryAfterIsTrue(t *testing.T) {
	for _, fault := range []string{"login=503", "login=close"} {
		t.Run(fault, func(t *testing.T) {
			up := startMachine(t, emulator.Options{})
			wireFaults(t, up.Emulator, fault)
			g := startGateway(t, surviveSite([]*machine{up}, wireUser(t)))
			load := g.fire(6, 20*time.Millisecond, onlyGets)
			surviveFor(t, soaking(2500*time.Millisecond, 15*time.Second))
			ended := time.Now()
			shots := load.stop()
			attempts := up.attempts()
			checkBackoff(t, attempts)
			if len(attempts) < 2 || len(attempts) > soaking(3, 6) {
				t.Errorf("there were %d attempts", len(attempts))
			}
			var paused []shot
			for _, s := range shots {
				if s.err != nil || s.status == 200 || !strings.HasPrefix(s.code, "ctmgate.") {
					t.Errorf("got %v", s)
				}
				if s.code != "ctmgate.login_paused" {
					continue // it has waited for an attempt
				}
				paused = append(paused, s)
				due := s.over().Add(s.retryAfter())
				if s.retryAfter() <= 0 || s.status != 503 {
					t.Errorf("got %v with Retry-After %q", s, s.header.Get("Retry-After"))
				}
				// A second is for the time between the call and its attempt.
				if due.Add(time.Second).Before(ended) && !slices.ContainsFunc(attempts, func(a witnessed) bool {
					return a.at.After(s.sent) && a.at.Before(due.Add(time.Second))
				}) {
					t.Errorf("%v said Retry-After %s, and no attempt was made by then", s, s.retryAfter())
				}
			}
			t.Logf("%d attempts, %v, pauses answered within %s at the median", len(attempts), tally(shots), median(paused))
			if len(paused) < 50 || !swiftly(paused) {
				t.Errorf("%d calls were told of a pause, within %s at the median", len(paused), median(paused))
			}
		})
	}
}

func TestTheFirstCallSucceedsSoonAfterUpstreamReturns(t *testing.T) {
	for _, row := range []struct {
		name   string
		logins int // before it goes
	}{
		{"which was there before", 1},
		{"which was down from the start", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := startMachine(t, emulator.Options{})
			if row.logins == 0 {
				up.off()
			}
			g := startGateway(t, surviveSite([]*machine{up}, wireUser(t)))
			load := g.fire(6, 20*time.Millisecond, onlyGets)
			waitUntil(t, "calls are answered", func() bool { return len(load.sofar()) > 20 })
			up.off()
			up.Restart()
			down := time.Now()
			surviveFor(t, soaking(1500*time.Millisecond, 30*time.Second))
			back := time.Now()
			up.on()
			waitUntil(t, "a login after the return", func() bool { return up.Stats().Logins > row.logins })
			attempt := up.saw(emulator.KindLogin)[row.logins].at
			waitUntil(t, "calls succeed again", func() bool {
				return slices.ContainsFunc(load.sofar(), func(s shot) bool { return s.status == 200 && s.over().After(attempt) })
			})
			surviveFor(t, 200*time.Millisecond)
			shots := load.stop()
			first := time.Now()
			for _, s := range shots {
				switch {
				case s.err != nil || s.again:
					t.Errorf("got %v", s)
				case s.status == 200 && s.over().After(back) && s.over().Before(first):
					first = s.over()
				case s.status == 200 && s.sent.After(down) && s.over().Before(back):
					t.Errorf("got %v while upstream was down", s)
				case s.status != 200 && s.sent.After(attempt.Add(time.Second)):
					t.Errorf("got %v, sent %s after the login", s, s.sent.Sub(attempt))
				}
			}
			t.Logf("%v; the attempt came %s after the return, the first success %s after the attempt",
				tally(shots), attempt.Sub(back).Round(time.Millisecond), first.Sub(attempt).Round(time.Millisecond))
			if first.Sub(attempt) > 2*time.Second {
				t.Errorf("the first success came %s after the attempt", first.Sub(attempt))
			}
			if s := up.Stats(); s.Logins != row.logins+1 || s.RefusedLogins != 0 || s.LiveSessions != 1 {
				t.Errorf("upstream saw %+v", s)
			}
		})
	}
}
