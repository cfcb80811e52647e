package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// obtain joins or starts the one flight that brings a usable token. The
// flight outlives the caller that started it.
func (s *Session) obtain(ctx context.Context) error {
	select {
	case r := <-s.flights.DoChan("", s.fly):
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fly is the flight: look again, log in, swap.
func (s *Session) fly() (any, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.flying++
	s.work.Add(1)
	s.mu.Unlock()
	defer func() {
		s.endUnused() // those who asked for it may have left
		s.mu.Lock()
		s.flying--
		s.mu.Unlock()
		poke(s.quiet)
		s.work.Done()
	}()

	g := s.current.Load()
	doubted := g != nil && s.trust() == g
	if !s.force(false) && !doubted && g.stateAt(s.now()) == Fresh && g.version == s.passwordVersion() {
		return nil, nil
	}
	if err := s.mayLogIn(doubted); err != nil {
		return nil, err
	}
	tried, err := s.logIn()
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Err != nil {
		// The password may have been changed where it is kept, and upstream,
		// since it was last read: then the newer one has an attempt of its own.
		s.Password.Recheck()
		if s.passwordVersion() != tried {
			_, err = s.logIn()
		}
	}
	if doubted && err == nil {
		s.Observe(Event{Kind: TokenRejected, Number: g.number})
	}
	return nil, err
}

// errSlow is a login that took longer than its token would have lasted.
var errSlow = errors.New("logging in took longer than session_lifetime")

// ErrRejections is the cause of a pause after too many rejections.
var ErrRejections = errors.New("upstream keeps rejecting new tokens")

// mayLogIn says why a login must not be tried now, or nil. Doubted means that a
// rejection causes it, beside s.rejected.
func (s *Session) mayLogIn(doubted bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if wait := time.Until(s.pausedUntil); wait > 0 {
		return &PausedError{RetryAfter: wait, Err: s.pauseCause}
	}
	if s.tooMany() {
		return &BusyError{RetryAfter: busyRetry, What: "sessions of this account that long calls still use"}
	}
	if !s.rejected && !doubted {
		return nil
	}
	password, _ := s.Password.Current()
	if _, refused := s.Refusals.refused(s.Keys, password); refused {
		return nil // it will be said, and costs no login
	}
	r := s.Budget.limiter.Reserve()
	if wait := r.Delay(); wait > 0 {
		r.Cancel()
		s.pausedUntil, s.pauseCause = time.Now().Add(wait), ErrRejections
		return &PausedError{RetryAfter: wait, Err: ErrRejections}
	}
	return nil
}

// tooMany tells whether so many tokens are in use that another login would
// open sessions without bound. Those past their lifetime have ended upstream,
// and do not count. The caller holds the lock.
func (s *Session) tooMany() bool {
	if len(s.grants) < grantsMost {
		return false
	}
	now := s.now()
	maps.DeleteFunc(s.grants, func(g *grant, _ struct{}) bool { return g.stateAt(now) == Dead && g != s.current.Load() })
	return len(s.grants) >= grantsMost
}

// logIn makes one attempt with the current password, unless that password is
// known to be refused. It returns the version of that password.
func (s *Session) logIn() (version uint64, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.LoginTimeout)
	defer cancel()
	leave, err := s.Refusals.turn(ctx, s.Keys)
	if err != nil {
		// Nothing was asked of the API, so there is nothing to back off from.
		if s.ctx.Err() != nil {
			return 0, ErrClosed
		}
		return 0, &FailedError{Err: fmt.Errorf("waiting for another login of the same user: %w", err)}
	}
	defer leave()
	password, version := s.Password.Current()
	if until, refused := s.Refusals.refused(s.Keys, password); refused {
		return version, &RefusedError{Until: until}
	}
	born := s.now()
	renewal := s.current.Load().stateAt(born) != Dead
	login, err := s.Issuer.LogIn(ctx, password)
	took := s.now().mono - born.mono
	if err != nil {
		return version, s.noteFailure(password, err, took, renewal)
	}
	g := newGrant(login, version, born, s.Lifetime, s.RenewBefore)
	if g.stateAt(s.now()) == Dead {
		s.askLogOut(g)
		return version, s.noteFailure(password, errSlow, took, renewal)
	}
	s.mu.Lock()
	if s.closed { // and what Close could not see, it could not log out
		s.mu.Unlock()
		s.askLogOut(g)
		return version, ErrClosed
	}
	s.failures, s.pausedUntil, s.pauseCause, s.rejected = 0, time.Time{}, nil, false
	s.grants[g] = struct{}{}
	old := s.current.Swap(g)
	s.mu.Unlock()
	s.apiVersion.Store(login.Version)
	s.logins.Add(1)
	s.lastErr.Store(nil)
	s.Refusals.forget(s.Keys, password)
	s.retire(old)
	s.keep()
	poke(s.wake)
	s.Observe(Event{Kind: LoggedIn, Took: took, Renewal: renewal, Number: g.number, Version: login.Version})
	return version, nil
}

func (s *Session) noteFailure(password secret.Value, err error, took time.Duration, renewal bool) error {
	text := err.Error()
	s.lastErr.Store(&text)
	if s.Issuer.Refused(err) {
		until := s.Refusals.add(s.Keys, password)
		s.Observe(Event{Kind: LoginRefused, Took: took, Renewal: renewal, Err: err, Until: until})
		return &RefusedError{Until: until, Err: err}
	}
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	s.mu.Lock()
	s.failures++
	wait := backoff(s.failures)
	s.pausedUntil, s.pauseCause = time.Now().Add(wait), err
	s.mu.Unlock()
	s.Observe(Event{Kind: LoginFailed, Took: took, Renewal: renewal, Err: err, Until: time.Now().Add(wait)})
	return &FailedError{RetryAfter: wait, Err: err}
}

// backoff grows from 1 s to 60 s, up to a quarter of it jitter.
func backoff(failures int) time.Duration {
	const first, last = time.Second, 48 * time.Second
	wait := last
	if failures < 7 { // 2^6 s is past the last step already
		wait = min(first<<(failures-1), last)
	}
	return wait + rand.N(wait/4)
}
