package session

import (
	"context"
	"errors"
	"time"
)

// Status is what an operator is told of a session. It holds no secret.
type Status struct {
	State       string        // fresh, due, urgent; none, paused or refused where there is no token
	Number      uint64        // of the login; 0 where there is no token
	Age         time.Duration // of the token
	Left        time.Duration // of its lifetime
	InUse       int           // calls under way with it
	Requests    uint64        // that asked for a token, since the start
	Logins      uint64        // that succeeded, since the start
	Version     string        // of the API, as the last login gave it
	NextAttempt time.Time     // no login before; zero where one may be made
	LastError   string        // of the last login, if that did not succeed
}

// Usable tells whether a call would get a token, as far as is known.
func (s Status) Usable() bool { return s.State != "paused" && s.State != "refused" }

// Status tells how the session stands now.
func (s *Session) Status() Status {
	now := s.now()
	g := s.current.Load()
	status := Status{State: "none", Requests: s.takes.Load(), Logins: s.logins.Load(), Version: s.Version()}
	if text := s.lastErr.Load(); text != nil {
		status.LastError = *text
	}
	if state := g.stateAt(now); state != Dead {
		status.State, status.Number = state.String(), g.number
		status.Age = now.since(g.born)
		status.Left = g.dead - status.Age
		status.InUse = max(int(g.holds.Load())-1, 0)
	}
	held := "paused"
	s.mu.Lock()
	if time.Now().Before(s.pausedUntil) {
		status.NextAttempt = s.pausedUntil
	}
	failing := s.failures > 0
	s.mu.Unlock()
	password, _ := s.Password.Current()
	if until, refused := s.Refusals.refused(s.Keys, password); refused {
		held, status.NextAttempt = "refused", until
	}
	// A pause that is over ends the trouble no more than one that lasts.
	if status.State == "none" && (failing || !status.NextAttempt.IsZero()) {
		status.State = held
	}
	return status
}

// Renew obtains a new token, however fresh the present one is. The old one is
// logged out after its last call.
func (s *Session) Renew(ctx context.Context) error {
	defer s.operate()()
	before := s.logins.Load()
	defer s.force(false)
	for {
		s.force(true)
		if err := s.obtain(ctx); err != nil {
			return err
		}
		// A flight that was under way may have looked before it was forced.
		if s.logins.Load() != before {
			return nil
		}
	}
}

// operate begins what an operator asks for, which counts as a use: nobody
// ends the token in the middle, and it is not idle at once.
func (s *Session) operate() (done func()) {
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	s.lastUse.Store(int64(s.now().mono))
	return func() {
		s.lastUse.Store(int64(s.now().mono))
		s.awaited()
	}
}

// force makes the next flight log in or not, and tells what was said before.
func (s *Session) force(on bool) (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.forced = s.forced, on
	return before
}

// Retry makes one attempt at logging in where a refusal or a pause would
// forbid it. Where there is a good token, it makes none.
func (s *Session) Retry(ctx context.Context) error {
	defer s.operate()()
	s.Password.Recheck()
	for {
		password, _ := s.Password.Current()
		before, _ := s.Refusals.refused(s.Keys, password)
		s.Refusals.allow(s.Keys, password)
		s.mu.Lock()
		s.pausedUntil, s.pauseCause = time.Time{}, nil
		s.rejected = false // no rejection causes this login
		s.mu.Unlock()
		err := s.obtain(ctx)
		// A flight that was under way may have looked before it was allowed. A
		// refusal since then is the attempt, whoever of the account made it.
		if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Err != nil || !refused.Until.Equal(before) {
			return err
		}
	}
}

// End takes the present token out of use: it is logged out after its last
// call, and the next one logs in anew.
func (s *Session) End() {
	if g := s.current.Load(); g != nil {
		s.end(g)
		poke(s.wake)
	}
}
