package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sharing makes the session one of several with keys in common.
func sharing(refusals *Refusals, keys ...string) func(*Config) {
	return func(c *Config) { c.Refusals, c.Keys, c.LoginTimeout = refusals, keys, time.Hour }
}

func TestARefusalCountsWhereverAKeyIsShared(t *testing.T) {
	for name, row := range map[string]struct {
		keys  []string
		known bool
	}{
		"at the other endpoint of the account":              {[]string{"em1 user", "em2 user"}, true},
		"with the endpoints in another order":               {[]string{"em2 user", "em1 user"}, true},
		"for an account that has one of the endpoints":      {[]string{"em2 user"}, true},
		"for an account that has one and others":            {[]string{"em0 user", "em3 user", "em2 user", "em4 user"}, true},
		"not for another user":                              {[]string{"em1 other", "em2 other"}, false},
		"not for an account whose endpoints are all others": {[]string{"em3 user"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				shared := NewRefusals()
				first, second := newRig(t, sharing(shared, "em1 user", "em2 user")), newRig(t, sharing(shared, row.keys...))
				first.issuer.fail(errWrong)
				until := takeError[*RefusedError](t, first).Until
				if !row.known {
					second.use(t)
					second.wantLogins(t, 1)
					return
				}
				if known := takeError[*RefusedError](t, second); known.Err != nil || !known.Until.Equal(until) {
					t.Errorf("got %v until %v, want no attempt before %v", known.Err, known.Until, until)
				}
				second.wantLogins(t, 0)
				if status := second.Status(); status.State != "refused" || !status.NextAttempt.Equal(until) {
					t.Errorf("its state is %s until %v", status.State, status.NextAttempt)
				}
				second.password.change("second") // another password has an attempt of its own
				second.use(t)
				second.wantLogins(t, 1)
			})
		})
	}
}

func TestRefusalsAtSeveralKeysAreCountedAndForgottenTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := NewRefusals()
		one, two := newRig(t, sharing(shared, "em1 user", "em2 user")), newRig(t, sharing(shared, "em3 user", "em2 user"))
		refused := func(r *rig, pause time.Duration) {
			t.Helper()
			r.issuer.fail(errWrong)
			if got := takeError[*RefusedError](t, r); !errors.Is(got, errWrong) || time.Until(got.Until) != pause {
				t.Fatalf("%v, next attempt in %v; want %v", got, time.Until(got.Until), pause)
			}
			r.issuer.fail(nil)
		}
		refused(one, coolDown)
		pass(coolDown)
		refused(two, 2*coolDown) // it is the same user's second
		if takeError[*RefusedError](t, one).Err != nil {
			t.Error("tried again by the other account")
		}
		must(t, two.Retry(t.Context()))
		one.use(t) // what one succeeds with, the other need not wait for
		one.End()
		refused(one, coolDown)
	})
}

// TestTurnsOfOverlappingKeysNeverDeadlock: sessions whose keys overlap in
// rings and in every order log in one after the other, and all of them do.
func TestTurnsOfOverlappingKeysNeverDeadlock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := NewRefusals()
		var mu sync.Mutex
		held := make(map[string]bool)
		rings := [][]string{
			{"a", "b"}, {"b", "a"}, {"b", "c"}, {"c", "a"}, {"c", "b"}, {"a", "c"}, {"a", "b", "c"}, {"c", "b", "a"}, {"b", "b", "a"}, {"a"},
		}
		var wg sync.WaitGroup
		for _, keys := range rings {
			r := newRig(t, sharing(shared, keys...))
			r.issuer.script(func(context.Context, int, string) error {
				mark := func(on bool) {
					mu.Lock()
					defer mu.Unlock()
					unique := make(map[string]bool)
					for _, key := range keys {
						unique[key] = true
					}
					for key := range unique {
						if held[key] == on {
							t.Errorf("two logins at %s at once", key)
						}
						held[key] = on
					}
				}
				mark(true)
				<-time.After(time.Second)
				mark(false)
				return nil
			})
			wg.Go(func() {
				u, err := r.Take(t.Context(), Use{})
				if err != nil {
					t.Errorf("%v: %v", keys, err)
					return
				}
				r.Release(u)
			})
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took > time.Duration(len(rings))*time.Second {
			t.Errorf("%d logins of 1 s took %v", len(rings), took)
		}
	})
}

func TestRejectionsAtBothEndpointsDrawOnOneBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		budget := NewBudget()
		sharing := func(c *Config) { c.Budget = budget }
		one, two := newRig(t, sharing), newRig(t, sharing)
		reject := func(r *rig) { u := r.take(t); r.Reject(u, "op", true); r.Release(u) }
		for _, r := range []*rig{one, two} {
			reject(r)
			r.use(t)
			reject(r)
		}
		for _, r := range []*rig{one, two} {
			if paused := takeError[*PausedError](t, r); !errors.Is(paused.Err, ErrRejections) {
				t.Errorf("got %v", paused)
			}
			r.wantLogins(t, 2) // the first, and one of the burst of two
		}
		pass(2 * time.Second)
		one.use(t)
		if _, err := two.Take(t.Context(), Use{}); err == nil {
			t.Error("the budget gave two logins in 2 s")
		}
	})
}

// TestAWarmSessionIsKeptOnlyWhileItIsWanted: of several endpoints, sessions are
// kept at the one in use.
func TestAWarmSessionIsKeptOnlyWhileItIsWanted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var unwanted atomic.Bool
		r := newRig(t, func(c *Config) {
			c.IdleTimeout, c.Wanted = 0, func() bool { return !unwanted.Load() }
		})
		unwanted.Store(true)
		r.Warm()
		pass(time.Hour)
		r.wantLogins(t, 0)
		unwanted.Store(false)
		r.Warm()
		synctest.Wait()
		r.wantLogins(t, 1)
		pass(time.Minute)
		unwanted.Store(true)
		r.Warm() // as its owner does at every move
		pass(10 * time.Minute)
		wantToken(t, r.takeAndRelease(t), "token-1") // what there is serves on
		r.password.change("second")
		r.Warm()
		pass(24 * time.Hour)
		r.wantLogins(t, 1)
		if status := r.Status(); status.State != "none" {
			t.Errorf("its token is %s after a day", status.State)
		}
		wantToken(t, r.use(t), "token-2") // a call that comes here all the same
		u := r.takeAtOnce(t)
		r.Reject(u, "op", true)
		r.Release(u)
		pass(time.Hour)
		r.wantLogins(t, 2)
		unwanted.Store(false)
		r.Warm()
		synctest.Wait()
		r.wantLogins(t, 3)
		pass(26 * time.Minute)
		r.wantLogins(t, 4) // and is renewed again
		r.End()
		synctest.Wait()
		r.wantLogins(t, 5)
		wantToken(t, r.takeAndRelease(t), "token-5")
	})
}

func TestMoreTakesThanMayWaitAreToldSoAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		var wg sync.WaitGroup
		r.storm(t, &wg, waitingMost-1)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { _, err := r.Take(ctx, Use{}); left <- err }()
		synctest.Wait()
		start := time.Now()
		for range 10 {
			busy := takeError[*BusyError](t, r)
			if busy.RetryAfter != time.Second || time.Since(start) != 0 || !strings.Contains(busy.Error(), "wait for a login") {
				t.Fatalf("got %v, retry after %v, told after %v", busy, busy.RetryAfter, time.Since(start))
			}
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got error %v", err)
		}
		r.storm(t, &wg, 1) // in its place
		synctest.Wait()
		gate <- nil
		wg.Wait()
		r.wantLogins(t, 1)
		wantToken(t, r.takeAndRelease(t), "token-1")
	})
}

// hold makes n logins whose tokens stay in use.
func (r *rig) hold(t *testing.T, n int) (uses []Use) {
	t.Helper()
	for range n {
		uses = append(uses, r.take(t))
		r.End()
	}
	return uses
}

func TestMoreTokensThanMayBeInUseAreNotObtained(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		held := r.hold(t, grantsMost-1)
		current := r.takeAndRelease(t)
		busy := errorAs[*BusyError](t, r.Renew(t.Context()))
		if busy.RetryAfter != time.Second || !strings.Contains(busy.Error(), "long calls") {
			t.Errorf("got %v, retry after %v", busy, busy.RetryAfter)
		}
		wantToken(t, r.takeAndRelease(t), current) // serves on
		held = append(held, r.hold(t, 1)...)
		start := time.Now()
		for range 10 {
			takeError[*BusyError](t, r)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("told so after %v", waited)
		}
		r.wantLogins(t, grantsMost)
		r.Release(held[7])
		r.use(t)
		r.wantLogins(t, grantsMost+1)
		for i, u := range held {
			if i != 7 {
				r.Release(u)
			}
		}
	})
}

func TestTokensPastTheirLifetimeDoNotCountAsInUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		held := r.hold(t, grantsMost/2)
		pass(10 * time.Minute)
		held = append(held, r.hold(t, grantsMost/2)...)
		pass(20*time.Minute - 1)
		takeError[*BusyError](t, r)
		pass(1) // and the first half ends
		held = append(held, r.hold(t, grantsMost/2)...)
		takeError[*BusyError](t, r)
		r.wantLogins(t, grantsMost*3/2)
		for _, u := range held {
			r.Release(u)
		}
		synctest.Wait()
		if r.issuer.loggedOut("token-1") {
			t.Error("a session that had ended was logged out")
		}
		r.use(t)
	})
}

func TestAWarmSessionAtItsBoundGoesOnWhenThereIsRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 0 })
		held := r.hold(t, grantsMost)
		pass(10 * time.Minute)
		r.wantLogins(t, grantsMost)
		for _, u := range held {
			r.Release(u)
		}
		pass(2 * time.Second)
		r.wantLogins(t, grantsMost+1)
		r.takeAndRelease(t)
	})
}

// clock does to the token in hand what a change of the clocks does: the wall
// clock has gone wall further than the monotonic one. It really is older by
// slept.
func (r *rig) clock(wall, slept time.Duration) {
	synctest.Wait()
	old := r.current.Load()
	g := &grant{
		token: old.token, version: old.version, number: old.number, due: old.due, urgent: old.urgent, dead: old.dead,
		born: instant{wall: old.born.wall.Add(-wall), mono: old.born.mono},
	}
	g.holds.Store(1)
	r.issuer.mu.Lock()
	r.issuer.born[g.token.Reveal()] = r.issuer.born[g.token.Reveal()].Add(-slept)
	r.issuer.mu.Unlock()
	r.Session.mu.Lock()
	defer r.Session.mu.Unlock()
	delete(r.grants, old)
	r.grants[g] = struct{}{}
	r.current.Store(g)
}

func TestClocksThatJumpGiveNoDeadTokenAndNoLoginLoop(t *testing.T) {
	const m = time.Minute
	for name, row := range map[string]struct{ wall, slept time.Duration }{
		"the wall clock is set forward 10 min": {10 * m, 0},
		"the wall clock is set back 10 min":    {-10 * m, 0},
		"the wall clock is set back a day":     {-24 * time.Hour, 0},
		"the wall clock is set forward a day":  {24 * time.Hour, 0},
		"the machine sleeps for 10 min":        {10 * m, 10 * m},
		"the machine sleeps for an hour":       {time.Hour, time.Hour},
	} {
		for _, age := range []time.Duration{0, 10 * m, 20*m - 1, 20 * m, 24 * m, 26 * m, 51 * m} {
			t.Run(name+" at "+age.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					r := newRig(t)
					load := func(d time.Duration) {
						for end := time.Now().Add(d); time.Now().Before(end); pass(5 * time.Second) {
							token := r.takeAndRelease(t)
							if age := r.issuer.age(token); age >= r.Lifetime || r.issuer.loggedOut(token) {
								t.Fatalf("got %s, %v old", token, age)
							}
						}
					}
					r.use(t)
					load(age)
					r.clock(row.wall, row.slept)
					before := r.issuer.logins()
					load(2 * time.Hour)
					if n := r.issuer.logins() - before; n < 4 || n > 6 {
						t.Errorf("%d logins in 2 h, want one in about 25 min and one for the jump at most", n)
					}
				})
			})
		}
	}
}

func TestAClockThatJumpsDuringALoginCostsOneFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		got := make(chan error, 1)
		go func() { _, err := r.Take(t.Context(), Use{}); got <- err }()
		synctest.Wait()
		r.started = r.started.Add(-time.Hour) // for the session, an hour has passed
		gate <- nil
		if failed := errorAs[*FailedError](t, <-got); !errors.Is(failed, errSlow) {
			t.Errorf("got %v", failed)
		}
		r.issuer.fail(nil)
		takeError[*PausedError](t, r)
		r.wantLogins(t, 1)
		pass(2 * time.Second)
		for range 25 * 60 {
			wantToken(t, r.takeAndRelease(t), "token-2")
			pass(time.Second)
		}
		r.wantLogins(t, 2)
	})
}
