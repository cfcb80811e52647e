package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStatusNamesTheState(t *testing.T) {
	const m = time.Minute
	failing := func(cause error) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			r.issuer.fail(cause)
			if _, err := r.Take(t.Context(), Use{}); !errors.Is(err, cause) {
				t.Fatalf("got error %v", err)
			}
		}
	}
	// aged brings a token to an age, while renewals fail.
	aged := func(age time.Duration) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			r.use(t)
			r.issuer.fail(errDown)
			pass(age)
		}
	}
	type row struct {
		happened func(*testing.T, *rig)
		state    string
		usable   bool
		token    bool
	}
	inBubbles(t, map[string]row{
		"nothing yet":                         {func(*testing.T, *rig) {}, "none", true, false},
		"a new token":                         {aged(0), "fresh", true, true},
		"a moment before it may be due":       {aged(25*m - 1), "fresh", true, true},
		"past the moment when it is due":      {aged(25*m + 30*time.Second), "due", true, true},
		"less than a fifth of early is left":  {aged(29 * m), "urgent", true, true},
		"a moment before its end":             {aged(30*m - 1), "urgent", true, true},
		"its end, after renewals that failed": {aged(32 * m), "paused", false, false},
		"a failed login":                      {failing(errDown), "paused", false, false},
		"a refused login":                     {failing(errWrong), "refused", false, false},
		"the cool-down is over": {func(t *testing.T, r *rig) {
			failing(errWrong)(t, r)
			pass(coolDown)
		}, "none", true, false},
		"the refused password has changed": {func(t *testing.T, r *rig) {
			failing(errWrong)(t, r)
			r.password.change("second")
		}, "none", true, false},
		"a token lives on while the new password is refused": {func(t *testing.T, r *rig) {
			r.use(t)
			r.issuer.fail(errWrong)
			r.password.change("second")
			r.use(t)
			synctest.Wait()
		}, "fresh", true, true},
	}, func(t *testing.T, row row) {
		r := newRig(t)
		row.happened(t, r)
		status := r.Status()
		if status.State != row.state || status.Usable() != row.usable {
			t.Errorf("state %q, usable %v; want %q, %v", status.State, status.Usable(), row.state, row.usable)
		}
		if hasToken := status.Number != 0 && status.Left > 0; hasToken != row.token {
			t.Errorf("number %d with %v left, want a token: %v", status.Number, status.Left, row.token)
		}
	})
}

func TestStatusCountsWhatHappened(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		want := func(want Status) {
			t.Helper()
			if got := r.Status(); got != want {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
		}
		want(Status{State: "none"})
		one, two := r.take(t), r.take(t)
		pass(10 * time.Minute)
		status := Status{
			State: "fresh", Number: one.g.number, Age: 10 * time.Minute, Left: 20 * time.Minute,
			InUse: 2, Requests: 2, Logins: 1, Version: "9.22.30",
		}
		want(status)
		r.Release(one)
		status.InUse = 1
		want(status)
		must(t, r.Renew(t.Context())) // which is no request
		three := r.take(t)
		want(Status{
			State: "fresh", Number: three.g.number, Left: 30 * time.Minute,
			InUse: 1, Requests: 3, Logins: 2, Version: "9.22.30",
		})
		r.Release(two)
		r.Release(three)
		r.End()
		want(Status{State: "none", Requests: 3, Logins: 2, Version: "9.22.30"})
	})
}

// takeError returns the error of a Take, which must be an E.
func takeError[E error](t *testing.T, r *rig) E {
	t.Helper()
	_, err := r.Take(t.Context(), Use{})
	return errorAs[E](t, err)
}

// inBubbles runs a test for each row, on a clock of its own.
func inBubbles[R any](t *testing.T, rows map[string]R, test func(t *testing.T, row R)) {
	t.Helper()
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { test(t, row) })
		})
	}
}

func TestStatusTellsTheLastErrorAndWhenTheNextAttemptMayBeMade(t *testing.T) {
	inBubbles(t, map[string]error{"paused": errDown, "refused": errWrong}, func(t *testing.T, cause error) {
		r := newRig(t)
		r.issuer.fail(cause)
		for n := range 6 {
			if next := r.Status().NextAttempt; !next.IsZero() {
				t.Fatalf("attempt %d may be made, but not before %v", n+1, next)
			}
			_, _ = r.Take(t.Context(), Use{})
			left := time.Until(r.Status().NextAttempt)
			for _, wait := range []time.Duration{0, left - 1} { // makes no attempt, and hides no reason
				pass(wait)
				_, _ = r.Take(t.Context(), Use{})
				r.wantLogins(t, n+1)
				if got := r.Status().LastError; got != cause.Error() {
					t.Errorf("last error %q, want %q", got, cause)
				}
			}
			pass(1)
		}
		r.issuer.fail(nil)
		r.use(t)
		if got := r.Status(); got.LastError != "" || !got.NextAttempt.IsZero() {
			t.Errorf("after a success: last error %q, next attempt %v", got.LastError, got.NextAttempt)
		}
	})
}

// must fails the test with an error that should not be.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRenewReplacesAFreshToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		must(t, r.Renew(t.Context()))
		r.wantLogins(t, 1)
		one, two := r.take(t), r.take(t)
		must(t, r.Renew(t.Context()))
		r.wantLogins(t, 2)
		wantToken(t, r.use(t), "token-2")
		r.Release(one)
		synctest.Wait()
		if r.issuer.loggedOut("token-1") {
			t.Fatal("the old session was logged out while in use")
		}
		r.Release(two)
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") || r.issuer.loggedOut("token-2") {
			t.Error("of both sessions, not the old one alone was logged out after its last use")
		}
	})
}

// TestRenewInAStormOfTakesMakesOneLogin: whoever comes first, there is one
// flight, and the token that it brings is new to all.
func TestRenewInAStormOfTakesMakesOneLogin(t *testing.T) {
	inBubbles(t, map[string]time.Duration{
		"with a fresh token":    time.Minute,
		"with one that is due":  26 * time.Minute,
		"with an urgent one":    29*time.Minute + time.Second,
		"with one that is dead": 31 * time.Minute,
	}, func(t *testing.T, age time.Duration) {
		r := newRig(t, func(c *Config) { c.LoginTimeout = time.Hour })
		r.use(t)
		gate := r.issuer.block() // and so hangs the renewal in the background, too
		pass(age)
		var wg sync.WaitGroup
		for range 3 {
			r.storm(t, &wg, 100)
			wg.Go(func() {
				if err := r.Renew(t.Context()); err != nil {
					t.Errorf("Renew: %v", err)
				}
			})
		}
		synctest.Wait()
		r.wantLogins(t, 2)
		gate <- nil
		wg.Wait()
		r.wantLogins(t, 2)
		r.wantNoForcedFlight(t)
		wantToken(t, r.use(t), "token-2")
	})
}

// storm has n Takes begin, each of which must succeed.
func (r *rig) storm(t *testing.T, wg *sync.WaitGroup, n int) {
	for range n {
		wg.Go(func() {
			u, err := r.Take(t.Context(), Use{})
			if err != nil {
				t.Errorf("a Take that could wait: %v", err)
				return
			}
			r.Release(u)
		})
	}
}

// wantNoForcedFlight fails unless the next flight sees that the token is fresh
// and makes no login.
func (r *rig) wantNoForcedFlight(t *testing.T) {
	t.Helper()
	before := r.issuer.logins()
	if err := r.obtain(t.Context()); err != nil {
		t.Fatalf("the next flight: %v", err)
	}
	r.wantLogins(t, before)
}

func TestARenewThatCannotBeHadLeavesAllAsItWas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		r.issuer.fail(errDown)
		errorAs[*FailedError](t, r.Renew(t.Context()))
		for range 3 {
			paused := errorAs[*PausedError](t, r.Renew(t.Context()))
			if !errors.Is(paused.Err, errDown) || paused.RetryAfter <= 0 {
				t.Errorf("got %v, retry after %v", paused, paused.RetryAfter)
			}
		}
		r.wantLogins(t, 2)
		wantToken(t, r.takeAndRelease(t), "token-1")
		r.issuer.fail(nil)
		pass(2 * time.Second)
		r.wantNoForcedFlight(t)
		must(t, r.Renew(t.Context()))
		wantToken(t, r.use(t), "token-3")
	})
}

func TestARenewHonoursItsCallerAndItsLoginLandsAllTheSame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		gate := r.issuer.block()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.Renew(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Fatalf("got error %v after %v, want the deadline after 3s", err, time.Since(start))
		}
		gate <- nil
		synctest.Wait()
		r.wantLogins(t, 2)
		wantToken(t, r.use(t), "token-2")
		r.wantNoForcedFlight(t)
	})
}

func TestRetrySpendsOneAttemptAndTheCoolDownGoesOnGrowing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.fail(errWrong)
		takeError[*RefusedError](t, r)
		for n, pause := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 4 * time.Hour} {
			pass(time.Minute)
			refused := errorAs[*RefusedError](t, r.Retry(t.Context()))
			if got := time.Until(refused.Until); !errors.Is(refused, errWrong) || got != pause {
				t.Errorf("Retry %d: %v, next attempt in %v; want %v", n+1, refused, got, pause)
			}
			if known := takeError[*RefusedError](t, r); known.Err != nil || !known.Until.Equal(refused.Until) {
				t.Errorf("after Retry %d, a Take got %v until %v", n+1, known.Err, known.Until)
			}
			r.wantLogins(t, n+2)
		}
		r.issuer.fail(nil)
		must(t, r.Retry(t.Context()))
		wantToken(t, r.takeAndRelease(t), "token-7")
		r.End()
		r.issuer.fail(errWrong)
		if got := time.Until(takeError[*RefusedError](t, r).Until); got != coolDown {
			t.Errorf("refused after a success: next attempt in %v, want %v as at first", got, coolDown)
		}
	})
}

func TestRetryInAPauseTriesAtOnceAndWithAGoodTokenNotAtAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.fail(errDown)
		takeError[*FailedError](t, r)
		for n := range 5 { // and the pauses go on growing
			failed := errorAs[*FailedError](t, r.Retry(t.Context()))
			if base := time.Second << (n + 1); failed.RetryAfter < base || failed.RetryAfter > base*5/4 {
				t.Errorf("Retry %d: the next pause is %v, want %v and some jitter", n+1, failed.RetryAfter, base)
			}
			r.wantLogins(t, n+2)
		}
		takeError[*PausedError](t, r)
		r.issuer.fail(nil)
		must(t, r.Retry(t.Context()))
		r.wantLogins(t, 7)
		pass(20 * time.Minute)
		must(t, r.Retry(t.Context()))
		wantToken(t, r.takeAndRelease(t), "token-7")
		r.wantLogins(t, 7)
	})
}

func TestRetryLooksForANewerPasswordFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.fail(errWrong)
		takeError[*RefusedError](t, r)
		r.password.newer = "newer"
		r.issuer.script(func(_ context.Context, _ int, password string) error {
			if password != "newer" {
				return errWrong
			}
			return nil
		})
		must(t, r.Retry(t.Context()))
		r.wantLogins(t, 2) // the old one was not tried again
	})
}

func TestRenewAndRetryAreNotContentWithAFlightThatLookedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		join := func(do func(context.Context) error, cameTo error) {
			landing, result := make(chan struct{}), make(chan error)
			r.flights.DoChan("", func() (any, error) { <-landing; return nil, cameTo })
			go func() { result <- do(t.Context()) }()
			synctest.Wait()
			close(landing)
			must(t, <-result)
		}
		join(r.Renew, nil)
		r.wantLogins(t, 2)
		r.End()
		join(r.Retry, &RefusedError{})
		r.wantLogins(t, 3)
	})
}

func TestEndLogsOutAfterTheLastUseAndTheNextTakeLogsIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.End() // of nothing
		one, two := r.take(t), r.take(t)
		r.End()
		r.Release(one)
		pass(time.Minute)
		r.wantLogins(t, 1) // nothing follows by itself
		if r.issuer.loggedOut("token-1") {
			t.Fatal("logged out while in use")
		}
		wantToken(t, r.use(t), "token-2")
		r.Release(two)
		synctest.Wait()
		if !r.issuer.loggedOut("token-1") || r.issuer.loggedOut("token-2") {
			t.Error("of both sessions, not the ended one alone was logged out")
		}
		r.End()
		synctest.Wait()
		if !r.issuer.loggedOut("token-2") {
			t.Error("a session that nobody uses was not logged out at once")
		}
		r.closeWithin(time.Second)
		r.End()
		for verb, do := range map[string]func(context.Context) error{"Renew": r.Renew, "Retry": r.Retry} {
			if err := do(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: got error %v", verb, err)
			}
		}
		r.wantLogins(t, 2)
	})
}
