package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestARefusedPasswordIsTriedSeldomAndEverMoreSeldom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.fail(errWrong)
		const m, h = time.Minute, time.Hour
		for n, pause := range []time.Duration{15 * m, 30 * m, h, 2 * h, 4 * h, 4 * h, 4 * h} {
			_, err := r.Take(t.Context(), Use{})
			refused := errorAs[*RefusedError](t, err)
			if !errors.Is(err, errWrong) {
				t.Errorf("attempt %d: error %v does not name its cause", n+1, err)
			}
			if got := time.Until(refused.Until); got != pause {
				t.Fatalf("after attempt %d: next in %v, want %v", n+1, got, pause)
			}
			r.wantLogins(t, n+1)
			pass(pause - 1)
			for range 100 {
				_, err = r.Take(t.Context(), Use{})
				known := errorAs[*RefusedError](t, err)
				if !known.Until.Equal(refused.Until) || known.Err != nil {
					t.Fatalf("got %v until %v, want no attempt before %v", known.Err, known.Until, refused.Until)
				}
			}
			r.wantLogins(t, n+1)
			pass(1)
		}
	})
}

func TestTheCountOfRefusalsEndsWithASuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = time.Minute })
		r.issuer.fail(errWrong)
		_, err := r.Take(t.Context(), Use{})
		errorAs[*RefusedError](t, err)
		pass(coolDown)
		_, err = r.Take(t.Context(), Use{})
		errorAs[*RefusedError](t, err)
		pass(2 * coolDown)
		r.issuer.fail(nil)
		r.use(t)
		pass(time.Hour)
		r.issuer.fail(errWrong)
		_, err = r.Take(t.Context(), Use{})
		if got := time.Until(errorAs[*RefusedError](t, err).Until); got != coolDown {
			t.Errorf("next attempt in %v, want %v again", got, coolDown)
		}
	})
}

func TestAChangedPasswordHasOneAttemptAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.fail(errWrong)
		_, err := r.Take(t.Context(), Use{})
		errorAs[*RefusedError](t, err)
		r.password.change("second")
		for range 10 {
			_, err = r.Take(t.Context(), Use{})
			errorAs[*RefusedError](t, err)
		}
		r.wantLogins(t, 2)
		r.password.change("first") // refused before, and still so
		_, err = r.Take(t.Context(), Use{})
		errorAs[*RefusedError](t, err)
		r.wantLogins(t, 2)
		r.password.change("third")
		r.issuer.fail(nil)
		wantToken(t, r.use(t), "token-3")
	})
}

func TestANewerPasswordFoundAfterARefusalIsTriedInTheSameFlight(t *testing.T) {
	for name, row := range map[string]struct {
		newer, right string
		attempts     int
		token        string
	}{
		"and is right":                {"newer", "newer", 2, "token-2"},
		"and is refused too":          {"newer", "neither", 2, ""},
		"but there is none to be had": {"", "neither", 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.password.newer = row.newer
				r.issuer.script(func(_ context.Context, _ int, password string) error {
					if password != row.right {
						return errWrong
					}
					return nil
				})
				u, err := r.Take(t.Context(), Use{})
				if row.token == "" {
					errorAs[*RefusedError](t, err)
				} else {
					wantToken(t, u.Token.Reveal(), row.token)
					r.Release(u)
				}
				r.wantLogins(t, row.attempts)
			})
		})
	}
}

func TestAPasswordThatChangesDuringARefusedLoginIsTriedInTheSameFlight(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.script(func(_ context.Context, _ int, password string) error {
			if password == "first" {
				r.password.change("second") // noticed by the watcher while the login is on its way
				return errWrong
			}
			return nil
		})
		wantToken(t, r.use(t), "token-2")
	})
}

func TestTheIssuerJudgesOnlyItsOwnErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		for _, err := range []error{errWrong, errDown} {
			r.issuer.fail(err)
			_, _ = r.Take(t.Context(), Use{})
			r.password.change("other")
		}
		for _, err := range r.issuer.judged {
			if _, ours := errors.AsType[*RefusedError](err); ours {
				t.Errorf("Refused was asked about %T, which LogIn did not return", err)
			}
		}
		if len(r.issuer.judged) == 0 {
			t.Error("Refused was never asked")
		}
	})
}

func TestALivingTokenServesOnWhileTheNewPasswordIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		r.issuer.fail(errWrong)
		r.password.change("second")
		for range 29 {
			wantToken(t, r.takeAndRelease(t), "token-1")
			pass(time.Minute)
		}
		r.wantLogins(t, 3) // the first, and two refusals with 15 min between them
		pass(time.Minute)
		_, err := r.Take(t.Context(), Use{})
		errorAs[*RefusedError](t, err)
		r.wantLogins(t, 3)
	})
}

func TestSessionsOfTheSameUserShareRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := NewRefusals()
		with := func(key string) *rig {
			r := newRig(t, func(c *Config) { c.Refusals, c.Keys = shared, []string{key} })
			r.issuer.fail(errWrong)
			_, err := r.Take(t.Context(), Use{})
			errorAs[*RefusedError](t, err)
			return r
		}
		with("em user").wantLogins(t, 1)
		with("em user").wantLogins(t, 0)
		with("em other").wantLogins(t, 1)
		with("other user").wantLogins(t, 1)
	})
}

func TestSessionsOfOneUserThatStartAtOnceTryAWrongPasswordOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := NewRefusals()
		var rigs []*rig
		var gates []chan<- error
		var wg sync.WaitGroup
		for range 4 {
			r := newRig(t, func(c *Config) { c.Refusals = shared })
			rigs = append(rigs, r)
			gates = append(gates, r.issuer.block())
			wg.Go(func() {
				_, err := r.Take(t.Context(), Use{})
				if refused, ok := errors.AsType[*RefusedError](err); !ok || time.Until(refused.Until) != coolDown {
					t.Errorf("got error %v, want a refusal for %v", err, coolDown)
				}
			})
		}
		synctest.Wait() // all are on their way before any is answered
		tried := 0
		for i, gate := range gates {
			select {
			case gate <- errWrong:
				tried++
				rigs[i].wantLogins(t, 1)
			default: // it waits for its turn
			}
		}
		wg.Wait()
		if tried != 1 {
			t.Errorf("%d sessions tried the password, want 1", tried)
		}
	})
}

func TestFailuresAreRetriedWithBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.issuer.fail(errDown)
		for n, base := range []time.Duration{1, 2, 4, 8, 16, 32, 48, 48, 48} {
			base *= time.Second
			_, err := r.Take(t.Context(), Use{})
			failed := errorAs[*FailedError](t, err)
			if failed.RetryAfter < base || failed.RetryAfter >= base+base/4 || failed.RetryAfter > time.Minute {
				t.Fatalf("after failure %d: retry after %v, want %v and up to a quarter more", n+1, failed.RetryAfter, base)
			}
			end := time.Now().Add(failed.RetryAfter)
			for _, wait := range []time.Duration{0, failed.RetryAfter / 2, failed.RetryAfter - failed.RetryAfter/2 - 1} {
				pass(wait)
				start := time.Now()
				_, err = r.Take(t.Context(), Use{})
				paused := errorAs[*PausedError](t, err)
				if paused.RetryAfter != time.Until(end) || time.Since(start) != 0 {
					t.Fatalf("paused for %v, told after %v; want %v, at once", paused.RetryAfter, time.Since(start), time.Until(end))
				}
				if !errors.Is(paused.Err, errDown) || !strings.Contains(err.Error(), errDown.Error()) {
					t.Fatalf("error %v does not name its cause", err)
				}
			}
			r.wantLogins(t, n+1)
			pass(1)
		}
		r.issuer.fail(nil)
		r.use(t)
		if r.failures != 0 {
			t.Errorf("%d failures are remembered after a success", r.failures)
		}
	})
}

func TestBackoffVaries(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for range 100 {
		seen[backoff(3)] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 pauses have %d lengths, want jitter", len(seen))
	}
	if last := backoff(1 << 40); last < 48*time.Second || last > time.Minute {
		t.Errorf("after very many failures: %v", last)
	}
}

func TestTheOldTokenServesOnWhileRenewalsFail(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		r.issuer.fail(errDown)
		pass(26 * time.Minute)
		if r.issuer.logins() < 3 {
			t.Fatal("the renewal was not retried")
		}
		for range 200 { // until a second short of the end, through due and urgent
			wantToken(t, r.takeAndRelease(t), "token-1")
			pass(1195 * time.Millisecond)
		}
		if n := r.issuer.logins(); n > 15 {
			t.Errorf("%d logins in 5 min, want backoff", n)
		}
		r.issuer.fail(nil)
		pass(2 * time.Minute)
		if token := r.use(t); token == "token-1" {
			t.Error("an ended token was used")
		}
	})
}
