package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Not again and again until its context ends.
func TestRenewOfADrainingSessionMakesOneLogin(t *testing.T) {
	for name, drainFirst := range map[string]bool{"drained before": true, "drained meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.issuer.script(func(context.Context, int, string) error { <-time.After(time.Second); return nil })
				if drainFirst {
					r.Drain()
				} else {
					time.AfterFunc(500*time.Millisecond, r.Drain)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_ = r.Renew(ctx)
				if n := r.issuer.logins(); n > 1 {
					t.Errorf("%d logins", n)
				}
			})
		})
	}
}

// What an operator asks for counts as a use.
func TestRenewOfASessionThatWasIdleKeepsItsToken(t *testing.T) {
	for name, retry := range map[string]bool{"Renew": false, "Retry": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				pass(time.Hour)
				do := r.Renew
				if retry {
					do = r.Retry
				}
				if err := do(t.Context()); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if status := r.Status(); status.State != "fresh" {
					t.Errorf("state %q after %d logins", status.State, status.Logins)
				}
			})
		})
	}
}

// The budget is for logins that rejections cause.
func TestRetryInAPauseAfterRejectionsTriesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		for range 3 {
			u := r.take(t)
			r.Reject(u, "op", true)
			r.Release(u)
		}
		_, err := r.Take(t.Context(), Use{})
		errorAs[*PausedError](t, err)
		if err := r.Retry(t.Context()); err != nil {
			t.Errorf("Retry: %v", err)
		}
		r.wantLogins(t, 4)
	})
}

// With waitingMost callers waiting for an urgent renewal, a caller is told
// Busy, though the living token would serve.
func TestALivingTokenServesWhereTooManyWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.LoginTimeout = time.Hour })
		r.use(t)
		gate := r.issuer.block()
		pass(29*time.Minute + time.Second)
		var wg sync.WaitGroup
		for range waitingMost {
			wg.Go(func() {
				if u, err := r.Take(t.Context(), Use{}); err == nil {
					r.Release(u)
				}
			})
		}
		synctest.Wait()
		u, err := r.Take(t.Context(), Use{})
		if err != nil {
			t.Errorf("Take, with a token that lives for 59 s: %v", err)
		} else {
			r.Release(u)
		}
		gate <- nil
		wg.Wait()
	})
}

// The other endpoint's session may have waited for its turn since before the
// retry, and then makes the attempt.
func TestARetryAtSeveralEndpointsSpendsOneAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := NewRefusals()
		of := func(c *Config) { c.Refusals, c.Keys = shared, []string{"one", "two"} }
		first, second := newRig(t, of), newRig(t, of)
		first.issuer.fail(errWrong)
		second.issuer.fail(errWrong)
		if _, err := first.Take(t.Context(), Use{}); err == nil {
			t.Fatal("a refused login gave a token")
		}
		leave, err := shared.turn(t.Context(), first.Keys)
		if err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		calls.Go(func() { _, _ = second.Take(t.Context(), Use{}) })
		synctest.Wait()
		calls.Go(func() {
			if err := first.Retry(t.Context()); err == nil {
				t.Error("a refused retry gave no error")
			}
		})
		synctest.Wait()
		leave()
		calls.Wait()
		if n := first.issuer.logins() + second.issuer.logins(); n != 2 {
			t.Errorf("%d attempts, expected one before the retry and one for it", n)
		}
	})
}

// It was never asked, so there is nothing to back off from.
func TestALoginThatHadNoTurnIsNoFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := NewRefusals()
		hanging := newRig(t, func(c *Config) { c.Refusals, c.Keys = shared, []string{"one", "two"} })
		r := newRig(t, func(c *Config) { c.Refusals, c.Keys, c.LoginTimeout = shared, []string{"two"}, 2*time.Second })
		hanging.issuer.script(func(ctx context.Context, _ int, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		})
		var calls sync.WaitGroup
		calls.Go(func() { _, _ = hanging.Take(t.Context(), Use{}) })
		synctest.Wait()
		for range 3 {
			begun := time.Now()
			if failed := takeError[*FailedError](t, r); !errors.Is(failed, context.DeadlineExceeded) {
				t.Errorf("got %v", failed)
			}
			if waited := time.Since(begun); waited != 2*time.Second {
				t.Errorf("it waited for %v", waited)
			}
		}
		if n := r.count(LoginFailed); n != 0 || r.Status().State != "none" {
			t.Errorf("%d failures, and its state is %s", n, r.Status().State)
		}
		calls.Wait()
		wantToken(t, r.use(t), "token-1")
	})
}
