package session

import (
	"time"

	"github.com/ctmgate/ctmgate/internal/ttlmap"
)

// IsCurrent tells whether the token of u is the one that is in force.
func (s *Session) IsCurrent(u Use) bool { return s.current.Load() == u.g }

// Accepted tells that upstream took the token of u.
func (s *Session) Accepted(u Use) {
	for {
		last := u.g.accepted.Load()
		if last >= int64(u.sent) || u.g.accepted.CompareAndSwap(last, int64(u.sent)) {
			return
		}
	}
}

// Reject tells that upstream did not take the token of u for operation.
// Certain means that upstream named the token as the cause; a bare 401 may be
// about rights, so the token stays in force for others until Take, with u, has
// brought another. It returns whether a second try with that is worth it
// (contract.md, 3.7).
func (s *Session) Reject(u Use, operation string, certain bool) bool {
	if s.current.Load() != u.g {
		return true // another request was first; the next token differs
	}
	if !certain {
		return s.now().mono-u.g.born.mono >= rejectionEvery && u.g.accepted.Load() <= int64(u.sent) &&
			!s.rights.lacks(operation, u.g.number)
	}
	s.mu.Lock()
	before := s.rejected
	s.rejected = true // before a flight can find that there is no token
	first := s.current.CompareAndSwap(u.g, nil)
	if !first {
		s.rejected = before
	}
	s.mu.Unlock()
	if first {
		s.Observe(Event{Kind: TokenRejected, Number: u.g.number})
		s.retire(u.g)
		poke(s.wake) // a warm session does not wait for a next call
	}
	return true
}

// doubt makes the next flight log in although g is in force, as after a
// rejection.
func (s *Session) doubt(g *grant) {
	if g == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubted = g
}

// trust ends what doubt began, and tells which token was doubted.
func (s *Session) trust() *grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.doubted
	s.doubted = nil
	return g
}

// Replayed tells how the second try of operation ended. Another 401 is about
// rights: it is remembered, so that it does not cost a login each time, until
// a second try ends otherwise.
func (s *Session) Replayed(operation string, unauthorized bool) {
	if unauthorized {
		s.rights.note(operation)
	} else {
		s.rights.forget(operation)
	}
}

// Unreplayed tells that a second try of operation was worth it and could not
// be made. Another bare 401 for it, with a newer token than that of u, is about
// rights then.
func (s *Session) Unreplayed(u Use, operation string) { s.rights.suspect(operation, u.g.number) }

// Passed tells that upstream let operation pass: what Unreplayed said of it was
// about the token.
func (s *Session) Passed(operation string) { s.rights.clear(operation) }

// rights remembers which operations ended in 401 with a new token as well:
// there the account lacks a right, and a login would not help. Of operations
// that are suspected of it, it holds the number of the login that they ended
// in 401 with; 0 is for those that are known.
type rights struct{ seen *ttlmap.Map[uint64] }

const (
	rightsMemory = 10 * time.Minute
	rightsMost   = 1_000
)

func newRights() *rights { return &rights{ttlmap.New[uint64](rightsMost)} }

// lacks is asked after a 401 with the token of login number.
func (r *rights) lacks(operation string, number uint64) bool {
	before, _, ok := r.seen.Get(operation)
	if ok && 0 < before && before < number {
		r.note(operation)
		return true
	}
	return ok && before == 0
}

func (r *rights) note(operation string) { r.seen.Set(operation, 0, rightsMemory) }

func (r *rights) forget(operation string) { r.seen.Delete(operation) }

func (r *rights) suspect(operation string, number uint64) {
	if _, _, known := r.seen.Get(operation); !known {
		r.seen.Set(operation, number, rightsMemory)
	}
}

func (r *rights) clear(operation string) {
	if before, _, ok := r.seen.Get(operation); ok && before > 0 {
		r.forget(operation)
	}
}
