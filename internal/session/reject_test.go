package session

import (
	"context"
	"errors"
	"fmt"
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
				again, err := r.Take(t.Context(), Use{})
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
			later, _ := r.Take(context.Background(), Use{})
			r.Accepted(later)
			r.Release(later)
		}, time.Minute, !certain, false},
		"a named cause after that does": {func(r *rig, _ Use) {
			pass(1)
			later, _ := r.Take(context.Background(), Use{})
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
				var not Use
				if row.want {
					not = u
				}
				next, err := r.Take(t.Context(), not)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Release(next)
				wantToken(t, next.Token.Reveal(), map[bool]string{false: "token-1", true: "token-2"}[row.want])
			})
		})
	}
}

// A bare 401 may be about the rights of one client: whatever becomes of the
// login that it causes, all others go on with the token that they have.
func TestABareRejectionTakesTheTokenFromNobody(t *testing.T) {
	for name, row := range map[string]struct {
		answer func(ctx context.Context) error
		first  func(err error) bool
	}{
		"a login that fails":      {func(context.Context) error { return errDown }, isA[*FailedError]},
		"a login that is refused": {func(context.Context) error { return errWrong }, isA[*RefusedError]},
		"a login that hangs": {func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, isA[*FailedError]},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				u := r.take(t)
				defer r.Release(u)
				pass(time.Minute)
				r.issuer.script(func(ctx context.Context, _ int, _ string) error { return row.answer(ctx) })
				for i := range 3 { // the second and third are held back
					if !r.Reject(u, "op", false) {
						t.Fatal("a second try was not thought worth it")
					}
					done := make(chan error)
					go func() {
						_, err := r.Take(t.Context(), u)
						done <- err
					}()
					synctest.Wait()
					other := r.takeAtOnce(t)
					wantToken(t, other.Token.Reveal(), "token-1")
					r.Release(other)
					if err := <-done; err == nil || i == 0 && !row.first(err) {
						t.Fatalf("got %v", err)
					}
				}
				r.wantLogins(t, 2)
				if r.count(TokenRejected) != 0 || r.issuer.loggedOut("token-1") {
					t.Error("the token that is in force was given up")
				}
				r.issuer.script(nil)
				pass(time.Minute)
				wantToken(t, r.use(t), "token-1")
			})
		})
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestBareRejectionsAtOnceCostOneLogin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		var wg sync.WaitGroup
		uses := make([]Use, 100)
		for i := range uses {
			uses[i] = r.take(t)
		}
		pass(time.Minute)
		for _, u := range uses {
			wg.Go(func() {
				defer r.Release(u)
				if !r.Reject(u, "op", false) {
					t.Error("a second try was not thought worth it")
				}
				again, err := r.Take(t.Context(), u)
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
		if n := r.count(TokenRejected); n != 1 || !r.issuer.loggedOut("token-1") {
			t.Errorf("%d events of rejections, want 1", n)
		}
	})
}

// Whoever has no right must not cost a login with each call, nor hold others
// up: beyond the budget it is held back alone.
func TestBareRejectionsHaveTheBudgetToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.use(t)
		logins := 1
		for i := range 20 {
			pass(2 * time.Second)
			for j := range 3 {
				u := r.take(t)
				if r.Reject(u, fmt.Sprintf("op %d %d", i, j), false) {
					again, err := r.Take(t.Context(), u)
					if err == nil {
						logins++
						r.Release(again)
					} else if paused := errorAs[*PausedError](t, err); !errors.Is(paused.Err, ErrRejections) {
						t.Errorf("got %v", err)
					}
				}
				r.Release(u)
			}
			r.Release(r.takeAtOnce(t))
		}
		r.wantLogins(t, logins)
		if logins < 10 || logins > 22 {
			t.Errorf("%d logins in 40 s, want one in 2 s and a burst of 2", logins)
		}
	})
}

// A call whose body is too large is not sent again: what it was rejected for is
// seen when its caller repeats it.
func TestACallThatCannotBeSentAgainCostsOneLoginWhereARightIsLacking(t *testing.T) {
	const op = "POST /deploy"
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		rejected := func() (again bool) {
			u := r.take(t)
			defer r.Release(u)
			pass(3 * time.Second) // for as long as its body takes
			if again = r.Reject(u, op, false); !again {
				return false
			}
			next, err := r.Take(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			r.Release(next)
			r.Unreplayed(u, op)
			return true
		}
		if !rejected() {
			t.Fatal("the first was not thought worth a login")
		}
		for range 5 {
			if rejected() {
				t.Fatal("another one was")
			}
		}
		r.wantLogins(t, 2)
		pass(10 * time.Minute)
		if !rejected() {
			t.Error("it is held for lacking for ever")
		}
		r.Passed(op)
		if !rejected() {
			t.Error("it has passed meanwhile, and is held for lacking")
		}
	})
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
		_, err := r.Take(t.Context(), Use{})
		paused := errorAs[*PausedError](t, err)
		if paused.RetryAfter != 2*time.Second || time.Since(start) != 0 || !errors.Is(paused.Err, ErrRejections) {
			t.Fatalf("got %v after %v, want a pause of 2s at once", err, time.Since(start))
		}
		pass(2*time.Second - 1)
		_, err = r.Take(t.Context(), Use{})
		if wait := errorAs[*PausedError](t, err).RetryAfter; wait != 1 {
			t.Errorf("paused for %v, want 1ns", wait)
		}
		r.wantLogins(t, 3)
		pass(1)
		wantToken(t, r.use(t), "token-4")
		for range 30 { // upstream rejects whatever it is shown, as fast as it can
			u, err := r.Take(t.Context(), Use{})
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
