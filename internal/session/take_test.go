package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAThousandFirstTakesShareOneLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				u, err := r.Take(t.Context(), Use{})
				if err != nil || u.Token.Reveal() != "token-1" {
					t.Errorf("got %s, error %v", u.Token.Reveal(), err)
					return
				}
				r.Release(u)
			})
		}
		synctest.Wait()
		r.wantLogins(t, 1)
		gate <- nil
		wg.Wait()
		r.wantLogins(t, 1)
	})
}

func TestAThousandWaitersShareOneFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				_, err := r.Take(t.Context(), Use{})
				if _, ok := errors.AsType[*FailedError](err); !ok || !errors.Is(err, errDown) {
					t.Errorf("got error %v, want the failure of the shared login", err)
				}
			})
		}
		synctest.Wait()
		gate <- errDown
		wg.Wait()
		r.wantLogins(t, 1)
	})
}

func TestASharedLoginOutlivesTheCallerThatStartedIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := r.Take(ctx, Use{}); first <- err }()
		synctest.Wait()
		go func() {
			u, err := r.Take(t.Context(), Use{})
			if err == nil {
				r.Release(u)
			}
			second <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the starter got %v, want its own cancellation", err)
		}
		gate <- nil
		if err := <-second; err != nil {
			t.Errorf("the other waiter got %v", err)
		}
		r.wantLogins(t, 1)
	})
}

func TestAWaiterHonoursItsOwnDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := r.Take(ctx, Use{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got error %v, want the deadline", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %v, want 3s", waited)
		}
		gate <- nil
		wantToken(t, r.use(t), "token-1")
		r.wantLogins(t, 1)
	})
}

func TestAHangingLoginEndsAtTheLoginTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.block()
		start := time.Now()
		_, err := r.Take(t.Context(), Use{})
		if errorAs[*FailedError](t, err); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want the deadline as its cause", err)
		}
		if waited := time.Since(start); waited != 15*time.Second {
			t.Errorf("waited %v, want 15s", waited)
		}
	})
}

func TestATokenIsRenewedInTheBackgroundWhenDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		wantToken(t, r.use(t), "token-1")
		pass(25*time.Minute - time.Second)
		r.wantLogins(t, 1)
		pass(31 * time.Second) // early is 5 min, its jitter a tenth of that
		r.wantLogins(t, 2)
		wantToken(t, r.use(t), "token-2")
		if !r.issuer.loggedOut("token-1") {
			t.Error("the old session was not logged out")
		}
		if n := r.count(LoggedIn); n != 2 {
			t.Errorf("%d events of logins, want 2", n)
		}
	})
}

func TestRenewalsOfManyAccountsAreSpread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		start := time.Now()
		moments := make(map[time.Duration]bool)
		var rigs []*rig
		for range 200 {
			r := newRig(t)
			r.use(t)
			rigs = append(rigs, r)
		}
		pass(26 * time.Minute)
		for _, r := range rigs {
			r.wantLogins(t, 2)
			at := r.issuer.times()[1].Sub(start)
			if at < 25*time.Minute || at >= 25*time.Minute+30*time.Second {
				t.Errorf("renewed at %v", at)
			}
			moments[at.Truncate(time.Second)] = true
		}
		if len(moments) < 15 {
			t.Errorf("200 renewals fell into %d seconds, want them spread over 30", len(moments))
		}
	})
}

func TestNobodyWaitsForARenewalThatIsOnlyDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.LoginTimeout = 10 * time.Minute })
		r.use(t)
		gate := r.issuer.block()
		pass(26 * time.Minute)
		r.wantLogins(t, 2) // under way, and stuck
		for range 100 {
			u := r.takeAtOnce(t)
			wantToken(t, u.Token.Reveal(), "token-1")
			r.Release(u)
		}
		gate <- nil
		synctest.Wait()
		wantToken(t, r.takeAndRelease(t), "token-2")
		r.wantLogins(t, 2)
	})
}

func (r *rig) takeAndRelease(t *testing.T) string {
	t.Helper()
	u := r.takeAtOnce(t)
	r.Release(u)
	return u.Token.Reveal()
}

func TestAnUrgentRenewalIsWaitedFor(t *testing.T) {
	for name, row := range map[string]struct {
		outcome error
		want    string
	}{
		"and gives the new token when it succeeds":        {nil, "token-2"},
		"and the living old token is used when it failed": {errDown, "token-1"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, func(c *Config) { c.LoginTimeout = 10 * time.Minute })
				r.use(t)
				gate := r.issuer.block()
				pass(29*time.Minute + time.Second)
				r.wantLogins(t, 2)
				time.AfterFunc(7*time.Second, func() { gate <- row.outcome })
				start := time.Now()
				token := r.use(t)
				if waited := time.Since(start); waited != 7*time.Second {
					t.Errorf("waited %v, want 7s", waited)
				}
				wantToken(t, token, row.want)
				r.wantLogins(t, 2)
			})
		})
	}
}

func TestAWaiterForAnUrgentRenewalHonoursItsOwnDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.LoginTimeout = 10 * time.Minute })
		r.use(t)
		r.issuer.block()
		pass(29*time.Minute + time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if _, err := r.Take(ctx, Use{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got error %v after %v, want the deadline after 1s", err, time.Since(start))
		}
	})
}

func TestAnEndedTokenIsNeverGivenOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		r.issuer.fail(errDown)
		pass(30*time.Minute - 1)
		wantToken(t, r.use(t), "token-1")
		pass(1)
		if u, err := r.Take(t.Context(), Use{}); err == nil {
			t.Fatalf("got %s at the end of its lifetime", u.Token.Reveal())
		}
	})
}

// TestSteadyLoadNeverMeetsARenewal is the promise of the whole package: with
// lifetime 6 s and 1 s early, nobody waits, fails, gets a token past its
// lifetime, or has its session ended under it.
func TestSteadyLoadNeverMeetsARenewal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Lifetime, c.RenewBefore = 6*time.Second, time.Second })
		slow := func(ctx context.Context, _ int, _ string) error {
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		r.issuer.script(slow)
		r.use(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for end := time.Now().Add(time.Minute); time.Now().Before(end); {
					u := r.takeAtOnce(t)
					token := u.Token.Reveal()
					if age := r.issuer.age(token); age >= r.Lifetime {
						t.Errorf("got %s at the age of %v", token, age)
					}
					<-time.After(rand.N(40 * time.Millisecond))
					if r.issuer.loggedOut(token) {
						t.Errorf("%s was logged out while in use", token)
					}
					r.Release(u)
				}
			})
		}
		wg.Wait()
		if n := r.issuer.logins(); n < 11 || n > 13 {
			t.Errorf("%d logins in 60 s, want one in about 5 s", n)
		}
	})
}

func TestTheOldSessionEndsAfterItsLastUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		one, two := r.take(t), r.take(t)
		pass(26 * time.Minute)
		r.wantLogins(t, 2)
		r.Release(one)
		synctest.Wait()
		if r.issuer.loggedOut("token-1") {
			t.Fatal("logged out while a request still used it")
		}
		r.Release(two)
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") || r.issuer.loggedOut("token-2") {
			t.Errorf("logged out: %v, want token-1 alone", r.issuer.ended)
		}
	})
}

// Use may prolong a session: the API does not say.
func TestASessionThatIsOverIsLoggedOutIfItWasUsedToTheEnd(t *testing.T) {
	for name, used := range map[string]bool{"used": true, "unused": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, func(c *Config) { c.IdleTimeout = time.Hour })
				u := r.take(t)
				r.issuer.fail(errDown) // so that it is not renewed
				if !used {
					r.Release(u)
				}
				pass(31 * time.Minute)
				if used {
					r.Release(u)
				}
				synctest.Wait()
				if got := r.issuer.loggedOut("token-1"); got != used {
					t.Errorf("logged out: %v", got)
				}
			})
		})
	}
}

func TestAChangedPasswordMakesANewSessionAndFailsNoTake(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		held := r.take(t)
		gate := r.issuer.block()
		r.password.change("second")
		wantToken(t, r.takeAndRelease(t), "token-1") // wakes the keeper, waits for nobody
		synctest.Wait()
		r.wantLogins(t, 2)
		wantToken(t, r.takeAndRelease(t), "token-1")
		gate <- nil
		synctest.Wait()
		wantToken(t, r.takeAndRelease(t), "token-2")
		if r.issuer.loggedOut("token-1") {
			t.Error("the old session was logged out while in use")
		}
		r.Release(held)
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") {
			t.Error("the old session was not logged out after its last use")
		}
		if got := r.issuer.attempts[1].password; got != "second" {
			t.Errorf("logged in with the password %q", got)
		}
		pass(time.Minute)
		r.wantLogins(t, 2)
	})
}
