package session

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAHundredRejectionsOfOneTokenCostOneLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		uses := make([]Use, 100)
		for i := range uses {
			uses[i] = r.take(t)
		}
		var wg sync.WaitGroup
		for _, u := range uses {
			wg.Go(func() {
				defer r.Release(u)
				if !r.Reject(u, "GET /run/jobs/status", true) {
					t.Error("a second try was not thought worth it")
				}
				again, err := r.Take(t.Context())
				if err != nil || again.Token.Reveal() != "token-2" {
					t.Errorf("got %s, error %v", again.Token.Reveal(), err)
					return
				}
				r.Release(again)
			})
		}
		wg.Wait()
		synctest.Wait()
		r.wantLogins(t, 2)
		if !r.issuer.loggedOut("token-1") {
			t.Error("the rejected session was not logged out")
		}
		if n := r.count(TokenRejected); n != 1 {
			t.Errorf("%d events of rejections, want 1", n)
		}
	})
}

func TestWhatARejectionIsWorth(t *testing.T) {
	const op, certain = "GET /deploy/folders", true
	for name, row := range map[string]struct {
		happened func(r *rig, u Use)
		age      time.Duration
		certain  bool
		want     bool
	}{
		"a named cause counts at any age":          {nil, 0, certain, true},
		"a bare 401 within the first 2 s does not": {nil, 2*time.Second - 1, !certain, false},
		"a bare 401 from 2 s on does":              {nil, 2 * time.Second, !certain, true},
		"a bare 401 after the token passed for a later one does not": {func(r *rig, _ Use) {
			pass(1)
			later, _ := r.Take(context.Background())
			r.Accepted(later)
			r.Release(later)
		}, time.Minute, !certain, false},
		"a named cause after that does": {func(r *rig, _ Use) {
			pass(1)
			later, _ := r.Take(context.Background())
			r.Accepted(later)
			r.Release(later)
		}, time.Minute, certain, true},
		"a bare 401 after the token passed for this same one does": {func(r *rig, u Use) { r.Accepted(u) }, time.Minute, !certain, true},
		"a bare 401 where a replay has just failed does not":       {func(r *rig, _ Use) { r.Replayed(op, true) }, 10*time.Minute - 1, !certain, false},
		"a named cause there does":                                 {func(r *rig, _ Use) { r.Replayed(op, true) }, time.Minute, certain, true},
		"a bare 401 ten minutes after that does":                   {func(r *rig, _ Use) { r.Replayed(op, true) }, 10*time.Minute + 1, !certain, true},
		"a bare 401 where another operation's replay failed does":  {func(r *rig, _ Use) { r.Replayed("GET /other", true) }, time.Minute, !certain, true},
		"a bare 401 where the replay succeeded does":               {func(r *rig, _ Use) { r.Replayed(op, false) }, time.Minute, !certain, true},
		"a bare 401 where only the last replay succeeded does": {func(r *rig, _ Use) {
			r.Replayed(op, true)
			r.Replayed(op, false)
		}, time.Minute, !certain, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				u := r.take(t)
				defer r.Release(u)
				if row.happened != nil {
					row.happened(r, u)
				}
				pass(row.age - r.issuer.age("token-1"))
				if got := r.Reject(u, op, row.certain); got != row.want {
					t.Fatalf("worth a second try: %v, want %v", got, row.want)
				}
				if want := map[bool]string{false: "token-1", true: "token-2"}[row.want]; r.use(t) != want {
					t.Errorf("the next token is not %s", want)
				}
			})
		})
	}
}

func TestAcceptedKeepsTheLatestMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		early := r.take(t)
		pass(10 * time.Second)
		middle := r.take(t)
		pass(10 * time.Second)
		late := r.take(t)
		r.Accepted(late)
		r.Accepted(early) // its answer came after that of late
		if r.Reject(middle, "op", false) {
			t.Error("an older acceptance has hidden the newer one")
		}
		for _, u := range []Use{early, middle, late} {
			r.Release(u)
		}
	})
}

func TestARejectionOfAReplacedTokenCostsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		u := r.take(t)
		pass(26 * time.Minute)
		r.wantLogins(t, 2)
		if !r.Reject(u, "op", false) {
			t.Error("a second try with the newer token is worth it")
		}
		r.Release(u)
		wantToken(t, r.use(t), "token-2")
		r.wantLogins(t, 2)
	})
}

func TestLoginsCausedByRejectionsHaveABudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		reject := func() { u := r.take(t); r.Reject(u, "op", true); r.Release(u) }
		reject() // the first login was caused by no rejection
		reject()
		reject()
		r.wantLogins(t, 3)
		start := time.Now()
		_, err := r.Take(t.Context())
		paused := errorAs[*PausedError](t, err)
		if paused.RetryAfter != 2*time.Second || time.Since(start) != 0 || !errors.Is(paused.Err, ErrRejections) {
			t.Fatalf("got %v after %v, want a pause of 2s at once", err, time.Since(start))
		}
		pass(2*time.Second - 1)
		_, err = r.Take(t.Context())
		if wait := errorAs[*PausedError](t, err).RetryAfter; wait != 1 {
			t.Errorf("paused for %v, want 1ns", wait)
		}
		r.wantLogins(t, 3)
		pass(1)
		wantToken(t, r.use(t), "token-4")
		for range 30 { // upstream rejects whatever it is shown, as fast as it can
			u, err := r.Take(t.Context())
			if err == nil {
				r.Reject(u, "op", true)
				r.Release(u)
			}
			pass(time.Second)
		}
		if n := r.issuer.logins(); n < 18 || n > 20 {
			t.Errorf("%d logins in all, want one in 2 s", n)
		}
	})
}

func TestAnOrdinaryLoginIsOutsideTheBudgetOfRejections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		for range 3 {
			u := r.take(t)
			r.Reject(u, "op", true)
			r.Release(u)
		}
		pass(2 * time.Second)
		r.use(t)
		for _, text := range []string{"a", "b", "c", "d", "e"} {
			r.password.change(text)
			r.use(t)
			synctest.Wait()
		}
		r.wantLogins(t, 9)
	})
}

func TestAWarmSessionLogsInAgainByItselfAfterARejection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.IdleTimeout = 0 })
		r.Warm()
		synctest.Wait()
		u := r.takeAtOnce(t)
		r.Reject(u, "op", true) // of a request that cannot be replayed
		r.Release(u)
		synctest.Wait()
		r.wantLogins(t, 2)
		wantToken(t, r.takeAndRelease(t), "token-2")
	})
}
