package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnAgeIsTheLargerOfBothClocks(t *testing.T) {
	wall := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	born := instant{wall: wall, mono: time.Hour}
	at := func(wallPassed, monoPassed time.Duration) instant {
		return instant{wall: wall.Add(wallPassed), mono: time.Hour + monoPassed}
	}
	g := &grant{born: born, due: 25 * time.Minute, urgent: 29 * time.Minute, dead: 30 * time.Minute}
	const m = time.Minute
	for name, row := range map[string]struct {
		now  instant
		age  time.Duration
		want State
	}{
		"both clocks agree":                            {at(20*m, 20*m), 20 * m, Fresh},
		"the wall clock was set back 10 min":           {at(10*m, 20*m), 20 * m, Fresh},
		"set back, and due":                            {at(16*m, 26*m), 26 * m, Due},
		"set back, and dead":                           {at(20*m, 30*m), 30 * m, Dead},
		"set back before the login":                    {at(-10*m, 1), 1, Fresh},
		"the wall clock was set forward 10 min":        {at(30*m, 20*m), 30 * m, Dead},
		"set forward, still fresh":                     {at(14*m, 4*m), 14 * m, Fresh},
		"set forward at once":                          {at(10*m, 0), 10 * m, Fresh},
		"the machine slept an hour, one clock stopped": {at(61*m, m), 61 * m, Dead},
		"a moment before due":                          {at(0, 25*m-1), 25*m - 1, Fresh},
		"due":                                          {at(0, 25*m), 25 * m, Due},
		"a moment before urgent":                       {at(0, 29*m-1), 29*m - 1, Due},
		"urgent":                                       {at(0, 29*m), 29 * m, Urgent},
		"a moment before the end":                      {at(0, 30*m-1), 30*m - 1, Urgent},
		"the end":                                      {at(0, 30*m), 30 * m, Dead},
	} {
		if got := row.now.since(born); got != row.age {
			t.Errorf("%s: age %v, want %v", name, got, row.age)
		}
		if got := g.stateAt(row.now); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
	if got := (*grant)(nil).stateAt(born); got != Dead {
		t.Errorf("no token is %v, want dead", got)
	}
}

func TestNowReadsBothClocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		before := r.now()
		pass(time.Minute)
		now := r.now()
		if now.mono-before.mono != time.Minute || now.wall.Sub(before.wall) != time.Minute {
			t.Errorf("%v and %v passed, want a minute on both", now.mono-before.mono, now.wall.Sub(before.wall))
		}
		if now.wall != now.wall.Round(0) {
			t.Error("the wall time has a monotonic reading, which would hide a clock that was set")
		}
	})
}

func TestNewTokensHaveTheirStatesInOrder(t *testing.T) {
	for range 1000 {
		g := newGrant(Login{}, 1, instant{}, 30*time.Minute, 5*time.Minute)
		if g.due < 25*time.Minute || g.due >= 25*time.Minute+30*time.Second || g.urgent != 29*time.Minute || g.dead != 30*time.Minute {
			t.Fatalf("due %v, urgent %v, dead %v", g.due, g.urgent, g.dead)
		}
	}
	if g := newGrant(Login{}, 1, instant{}, 2, 1); g.due > g.urgent || g.urgent > g.dead {
		t.Errorf("tiny timings: due %d, urgent %d, dead %d", g.due, g.urgent, g.dead)
	}
}

func TestWhatTheKeeperDoesNext(t *testing.T) {
	const m = time.Minute
	living := func(age time.Duration) view {
		return view{has: true, age: age, due: 25 * m, dead: 30 * m, idleLimit: 30 * m}
	}
	with := func(v view, edit func(*view)) view { edit(&v); return v }
	for name, row := range map[string]struct {
		v    view
		want plan
	}{
		"no token, not warm: wait for a Take":              {view{idleLimit: m}, plan{wait, 0}},
		"no token, warm: log in":                           {view{}, plan{renew, 0}},
		"no token, warm, paused: log in after the pause":   {view{hold: m}, plan{renew, m}},
		"fresh: renew when due":                            {living(0), plan{renew, 25 * m}},
		"due: renew":                                       {living(26 * m), plan{renew, 0}},
		"due and paused: renew after the pause":            {with(living(26*m), func(v *view) { v.hold = m }), plan{renew, m}},
		"paused until the end: end":                        {with(living(26*m), func(v *view) { v.hold = 4 * m }), plan{end, 4 * m}},
		"paused past the end: end":                         {with(living(26*m), func(v *view) { v.hold = 15 * m }), plan{end, 4 * m}},
		"past the end and paused: end":                     {with(living(31*m), func(v *view) { v.hold = m }), plan{end, 0}},
		"past the end: end, and let a Take log in":         {living(31 * m), plan{end, 0}},
		"warm, paused past the end: renew after the pause": {with(living(26*m), func(v *view) { v.hold, v.idleLimit = 15*m, 0 }), plan{renew, 15 * m}},
		"warm, past the end: renew":                        {with(living(40*m), func(v *view) { v.idleLimit = 0 }), plan{renew, 0}},
		"the password changed: renew":                      {with(living(m), func(v *view) { v.stale = true }), plan{renew, 0}},
		"the password changed and is refused: renew later": {with(living(m), func(v *view) { v.stale, v.hold = true, 15*m }), plan{renew, 15 * m}},
		"idle before it is due: end":                       {with(living(0), func(v *view) { v.idleLimit = 10 * m }), plan{end, 10 * m}},
		"idle: end":                                        {with(living(12*m), func(v *view) { v.idle, v.idleLimit = 11*m, 10*m }), plan{end, 0}},
		"idle and due: end":                                {with(living(26*m), func(v *view) { v.idle = 30 * m }), plan{end, 0}},
		"idle but in use: renew when due":                  {with(living(12*m), func(v *view) { v.idle, v.idleLimit, v.used = 11*m, 10*m, true }), plan{wait, 10 * m}},
		"idle but in use, and due sooner: renew":           {with(living(20*m), func(v *view) { v.idle, v.idleLimit, v.used = 11*m, 10*m, true }), plan{renew, 5 * m}},
		"warm is never idle":                               {with(living(12*m), func(v *view) { v.idle, v.idleLimit = 99*m, 0 }), plan{renew, 13 * m}},
	} {
		if got := next(row.v); got != row.want {
			t.Errorf("%s: got %+v, want %+v", name, got, row.want)
		}
	}
}

// TestTheKeeperNeverSpins walks over all kinds of views: what is done at once
// must lead to a view in which something is waited for.
func TestTheKeeperNeverSpins(t *testing.T) {
	const m = time.Minute
	bools := []bool{false, true}
	views := 0
	check := func(v view) {
		views++
		start := fmt.Sprintf("%+v", v)
		for range 2 { // end, then a login when warm
			p := next(v)
			if p.after < 0 {
				t.Fatalf("%s: negative wait %v", start, p.after)
			}
			if p.do == wait || p.after > 0 {
				return
			}
			switch p.do {
			case renew: // and it succeeds; a failed one is followed by a pause of its own
				if v.hold > 0 {
					t.Fatalf("%s: a login in a pause", start)
				}
				v.has, v.age, v.stale, v.used = true, 0, false, false
			case end:
				v.has, v.used = false, false
			}
		}
		if p := next(v); p.do != wait && p.after == 0 {
			t.Fatalf("%s: comes to %+v at once", start, p)
		}
	}
	for _, has := range bools {
		for _, stale := range bools {
			for _, used := range bools {
				for _, age := range []time.Duration{0, 1, 25*m - 1, 25 * m, 29 * m, 30*m - 1, 30 * m, 90 * m} {
					for _, idle := range []time.Duration{0, 10*m - 1, 10 * m, 30 * m, 90 * m} {
						for _, limit := range []time.Duration{0, 10 * m, 30 * m} {
							for _, hold := range []time.Duration{0, 1, m, 4 * time.Hour} {
								for _, unwanted := range bools {
									check(view{has, age, 25 * m, 30 * m, stale, used, idle, limit, hold, unwanted})
								}
							}
						}
					}
				}
			}
		}
	}
	if views < 1000 {
		t.Errorf("only %d views", views)
	}
}

func TestAnIdleSessionIsLoggedOutAndNotRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 10 * time.Minute })
		r.use(t)
		pass(5 * time.Minute)
		u := r.take(t)
		pass(5 * time.Minute)
		r.Release(u) // idle counts from here
		pass(10*time.Minute - 1)
		if r.issuer.loggedOut("token-1") {
			t.Fatal("logged out before it was idle")
		}
		pass(1)
		if !r.issuer.loggedOut("token-1") {
			t.Fatal("not logged out when idle")
		}
		pass(24 * time.Hour)
		r.wantLogins(t, 1)
		wantToken(t, r.use(t), "token-2") // and lives on at the next call
		pass(10 * time.Minute)
		if !r.issuer.loggedOut("token-2") {
			t.Error("the second session was not logged out when idle")
		}
	})
}

func TestALongUseKeepsItsSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 5 * time.Minute })
		socket := r.take(t)
		pass(12 * time.Minute)
		r.Release(socket)
		pass(5*time.Minute - 1)
		if r.issuer.loggedOut("token-1") {
			t.Fatal("a session that was in use was logged out before it was idle")
		}
		pass(1)
		if !r.issuer.loggedOut("token-1") {
			t.Error("not logged out once it was idle")
		}
		r.wantLogins(t, 1)
	})
}

func TestASessionInSteadyUseLivesForDays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		for range 48 * 60 {
			pass(time.Minute)
			r.takeAndRelease(t)
		}
		if n := r.issuer.logins(); n < 48*60/26 || n > 48*60/25+1 {
			t.Errorf("%d logins in 2 days, want one in about 25 min", n)
		}
	})
}

func TestAWarmSessionLogsInAtOnceAndIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 0 })
		r.Warm()
		r.Warm()
		synctest.Wait()
		r.wantLogins(t, 1)
		pass(24 * time.Hour)
		if n := r.issuer.logins(); n < 56 || n > 58 {
			t.Errorf("%d logins in a day, want one in about 25 min", n)
		}
		r.takeAndRelease(t)
	})
}

func TestAWarmSessionIsRetriedWithBackoffUntilItLivesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 0 })
		r.issuer.fail(errDown)
		r.Warm()
		pass(time.Hour)
		at := r.issuer.times()
		if len(at) < 60 || len(at) > 85 {
			t.Errorf("%d attempts in an hour, want one in 48 to 60 s", len(at))
		}
		for i, base := range []time.Duration{1, 2, 4, 8, 16, 32, 48, 48} {
			if gap := at[i+1].Sub(at[i]); gap < base*time.Second || gap > base*time.Second*5/4+time.Second {
				t.Errorf("gap %d is %v, want %d s and some jitter", i+1, gap, base)
			}
		}
		r.issuer.fail(nil)
		pass(time.Minute)
		r.takeAndRelease(t)
	})
}

func TestAWarmSessionDoesNotInsistOnARefusedPassword(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 0 })
		r.issuer.fail(errWrong)
		r.Warm()
		pass(coolDown - 1)
		r.wantLogins(t, 1)
		pass(1 + time.Second)
		r.wantLogins(t, 2)
		pass(2*coolDown + time.Second)
		r.wantLogins(t, 3)
		r.issuer.fail(nil)
		r.password.change("second")
		r.Warm() // as its owner does when it hears of the change
		synctest.Wait()
		r.wantLogins(t, 4)
		r.takeAndRelease(t)
	})
}
