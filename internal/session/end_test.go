package session

import (
	"context"
	"crypto/rand"
	"errors"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// closeWithin closes r and returns how long that took.
func (r *rig) closeWithin(patience time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	r.Close(ctx)
	return time.Since(start)
}

func TestDrainLogsOutWhatNobodyUses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		r.Drain()
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") {
			t.Error("not logged out")
		}
	})
}

func TestDrainWaitsForTheLastUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		one, two := r.take(t), r.take(t)
		r.Drain()
		r.Release(one)
		late := r.takeAtOnce(t) // of the same session, since it still lives
		wantToken(t, late.Token.Reveal(), "token-1")
		r.Release(late)
		synctest.Wait()
		if r.issuer.loggedOut("token-1") {
			t.Fatal("logged out while in use")
		}
		r.Release(two)
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") {
			t.Error("not logged out after the last use")
		}
	})
}

func TestALateTakeAfterDrainStillWorksAndIsLoggedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		r.Drain()
		synctest.Wait()
		late := r.take(t)
		wantToken(t, late.Token.Reveal(), "token-2")
		synctest.Wait()
		if r.issuer.loggedOut("token-2") {
			t.Fatal("logged out while in use")
		}
		r.Release(late)
		synctest.Wait()
		if !r.issuer.loggedOut("token-2") {
			t.Error("not logged out after its use")
		}
	})
}

func TestNothingIsRenewedAfterDrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		u := r.take(t)
		r.Drain()
		pass(29 * time.Minute)
		r.wantLogins(t, 1)
		r.Release(u)
	})
}

func TestALoginUnderWayAtDrainIsLoggedOutWhenItsCallerHasLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Take(ctx, Use{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got error %v", err)
		}
		r.Drain()
		gate <- nil
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") {
			t.Error("the token that nobody waits for was not logged out")
		}
		if took := r.closeWithin(time.Minute); took != 0 {
			t.Errorf("Close took %v with nothing left to wait for", took)
		}
	})
}

func TestARenewalUnderWayAtDrainIsLoggedOutWhenItLands(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.LoginTimeout = 10 * time.Minute })
		r.use(t)
		gate := r.issuer.block()
		pass(26 * time.Minute)
		r.wantLogins(t, 2)
		r.Drain()
		gate <- nil
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") || !r.issuer.loggedOut("token-2") {
			t.Errorf("logged out: %v, want both", r.issuer.ended)
		}
	})
}

func TestManyWaitersAtDrainShareOneLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		gate := r.issuer.block()
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				u, err := r.Take(t.Context(), Use{})
				if err != nil {
					t.Errorf("a request on its way failed: %v", err)
					return
				}
				r.Release(u)
			})
		}
		synctest.Wait()
		r.Drain()
		gate <- nil
		r.issuer.fail(nil)
		wg.Wait()
		synctest.Wait()
		r.wantLogins(t, 1)
		if !r.issuer.loggedOut("token-1") {
			t.Error("not logged out after the last use")
		}
	})
}

func TestCloseWaitsForTheLastUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		u := r.take(t)
		time.AfterFunc(3*time.Second, func() { r.Release(u) })
		if took := r.closeWithin(time.Minute); took != 3*time.Second {
			t.Errorf("Close took %v, want 3s", took)
		}
		if !r.issuer.loggedOut("token-1") {
			t.Error("not logged out")
		}
		if _, err := r.Take(t.Context(), Use{}); !errors.Is(err, ErrClosed) {
			t.Errorf("a Take after Close got %v, want ErrClosed", err)
		}
		r.wantLogins(t, 1)
	})
}

func TestCloseIsBoundedWhenAUseIsNeverReleased(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		u := r.take(t)
		if took := r.closeWithin(5 * time.Second); took != 5*time.Second {
			t.Errorf("Close took %v, want 5s", took)
		}
		if !r.issuer.loggedOut("token-1") {
			t.Error("not logged out")
		}
		r.Release(u) // long after; allEnded proves that it logs nothing out again
		synctest.Wait()
	})
}

func TestCloseIsBoundedWhenALogOutHangs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.onLogOut = func(ctx context.Context) { <-ctx.Done() }
		r.use(t)
		if took := r.closeWithin(time.Second); took > time.Second+logoutTimeout {
			t.Errorf("Close took %v", took)
		}
		for _, e := range r.events {
			if e.Kind == LoggedOut && !errors.Is(e.Err, context.DeadlineExceeded) {
				t.Errorf("the event says %v, want the deadline", e.Err)
			}
		}
		if r.count(LoggedOut) != 1 {
			t.Error("no event of the log-out")
		}
	})
}

func TestCloseEndsALoginUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.block()
		failed := make(chan error, 1)
		go func() { _, err := r.Take(context.Background(), Use{}); failed <- err }()
		synctest.Wait()
		if took := r.closeWithin(2 * time.Second); took != 2*time.Second {
			t.Errorf("Close took %v, want 2s", took)
		}
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("the waiter got %v, want ErrClosed", err)
		}
		if n := r.count(LoginFailed); n != 0 {
			t.Errorf("%d failures were told of a login that was given up", n)
		}
	})
}

func TestALoginThatSucceedsAfterCloseIsLoggedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.script(func(ctx context.Context, _ int, _ string) error {
			<-ctx.Done() // the answer was on the wire already
			return nil
		})
		failed := make(chan error, 1)
		go func() { _, err := r.Take(context.Background(), Use{}); failed <- err }()
		synctest.Wait()
		r.closeWithin(2 * time.Second)
		if !r.issuer.loggedOut("token-1") {
			t.Error("the token of the late login was not logged out")
		}
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("the waiter got %v, want ErrClosed", err)
		}
		if r.current.Load() != nil {
			t.Error("the closed session has a token")
		}
	})
}

func TestCloseCanBeCalledTwiceAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		u := r.take(t)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if took := r.closeWithin(time.Hour); took != 3*time.Second {
					t.Errorf("Close took %v, want 3s", took)
				}
			})
		}
		pass(3 * time.Second)
		r.Release(u)
		wg.Wait()
	})
}

func TestAClosedWarmSessionDoesNothingMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 0 })
		r.Warm()
		synctest.Wait()
		r.closeWithin(time.Second)
		r.Warm()
		pass(24 * time.Hour)
		r.wantLogins(t, 1)
	})
}

func TestAnAPITokenIsGivenAsItIs(t *testing.T) {
	p := &password{text: "api-token-1", version: 1}
	told := 0
	s := &Standing{Secret: p, Over: func() { told++ }}
	u, err := s.Take(t.Context(), Use{})
	if err != nil || u.Token.Reveal() != "api-token-1" {
		t.Fatalf("got %s, error %v", u.Token.Reveal(), err)
	}
	if s.Reject(u, "op", true) {
		t.Error("a second try with the same API token was thought worth it")
	}
	if p.rechecks != 1 {
		t.Errorf("looked %d times for a newer one, want once", p.rechecks)
	}
	if !s.IsCurrent(u) {
		t.Error("the API token is not taken for the one in force")
	}
	p.newer = "api-token-2"
	if !s.Reject(u, "op", true) || s.IsCurrent(u) {
		t.Error("a newer API token was not found")
	}
	again, _ := s.Take(t.Context(), Use{})
	if again.Token.Reveal() != "api-token-2" {
		t.Errorf("got %s after the change", again.Token.Reveal())
	}
	if !s.Reject(u, "op", true) || p.rechecks != 2 {
		t.Errorf("a token that has changed meanwhile was looked up again (%d times)", p.rechecks)
	}
	s.Accepted(again)
	if told != 1 || s.IsOver() {
		t.Errorf("told %d times that a token is over", told)
	}
	for range 3 {
		s.Reject(again, "op", true)
		s.Reject(again, "op", false)
	}
	s.Accepted(u) // of the token before
	if told != 2 || !s.IsOver() {
		t.Errorf("told %d times that a token is over, and now: %t", told, s.IsOver())
	}
	s.Accepted(again)
	if s.IsOver() {
		t.Error("a token that was taken is held for over")
	}
	s.Replayed("op", true)
	s.Release(again)
	s.Release(u)
}

func TestErrorsSayWhatHappenedAndWhatComesNext(t *testing.T) {
	until := time.Date(2026, 11, 21, 12, 15, 0, 0, time.UTC)
	for _, row := range []struct {
		err   error
		words string
		cause error
	}{
		{&RefusedError{Until: until, Err: errWrong}, "wrong username or password", errWrong},
		{&RefusedError{Until: until}, "next attempt at 2026-11-21T12:15:00Z", nil},
		{&FailedError{Err: errDown}, "connection refused", errDown},
		{&PausedError{RetryAfter: 1500 * time.Millisecond, Err: errDown}, "paused for 1.5s after: connection refused", nil},
	} {
		if !strings.Contains(row.err.Error(), row.words) || !errors.Is(errors.Unwrap(row.err), row.cause) {
			t.Errorf("%T: %q with cause %v, want %q with cause %v", row.err, row.err, errors.Unwrap(row.err), row.words, row.cause)
		}
	}
}

// TestEverythingAtOnce lets callers, rejections, failures and password changes
// meet, and drains in the middle of it; newRig proves that every session which
// was opened has ended once.
func TestEverythingAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Lifetime, c.RenewBefore, c.IdleTimeout = 6*time.Second, time.Second, 2*time.Second })
		r.issuer.script(func(_ context.Context, n int, _ string) error {
			<-time.After(50 * time.Millisecond)
			if n%7 == 0 {
				return errDown
			}
			return nil
		})
		var wg sync.WaitGroup
		var given atomic.Int64
		for i := range 20 {
			wg.Go(func() {
				for end := time.Now().Add(time.Minute); time.Now().Before(end); {
					<-time.After(mrand.N(400 * time.Millisecond))
					u, err := r.Take(t.Context(), Use{})
					if err != nil {
						_, failed := errors.AsType[*FailedError](err)
						_, paused := errors.AsType[*PausedError](err)
						if !failed && !paused {
							t.Errorf("got error %T %v", err, err)
						}
						continue
					}
					given.Add(1)
					if r.issuer.loggedOut(u.Token.Reveal()) || r.issuer.age(u.Token.Reveal()) >= r.Lifetime {
						t.Errorf("got %s, which has ended", u.Token.Reveal())
					}
					<-time.After(mrand.N(100 * time.Millisecond))
					switch mrand.N(200) {
					case 0:
						r.Reject(u, "op", i%2 == 0)
					case 1:
						r.password.change(rand.Text())
					default:
						r.Accepted(u)
					}
					r.Release(u)
				}
			})
		}
		pass(50 * time.Second)
		r.Drain()
		wg.Wait()
		if n := given.Load(); n < 1000 {
			t.Errorf("only %d Takes of some 5,000 succeeded", n)
		}
	})
}
