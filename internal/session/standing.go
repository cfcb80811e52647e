package session

import (
	"context"
	"sync/atomic"
)

// Standing is the source of an account with an API token: it never logs in.
type Standing struct {
	Secret Password
	// Over hears, once, of each API token that upstream has named invalid or
	// expired; nil is allowed. It must return quickly.
	Over func()

	over atomic.Uint64 // version of the token of which that is true; 0 for none
}

// Take returns the API token as it is now.
func (s *Standing) Take(context.Context, Use) (Use, error) {
	token, version := s.Secret.Current()
	return Use{Token: token, version: version}, nil
}

// Release does nothing: an API token needs no end.
func (*Standing) Release(Use) {}

// IsCurrent tells whether the API token is the one of u.
func (s *Standing) IsCurrent(u Use) bool { return s.version() == u.version }

// Accepted tells that upstream took the API token of u.
func (s *Standing) Accepted(u Use) {
	if s.over.Load() == u.version {
		s.over.CompareAndSwap(u.version, 0)
	}
}

// Reject tells whether the API token has changed since u, where it is kept.
func (s *Standing) Reject(u Use, _ string, certain bool) bool {
	if version := s.version(); version != u.version || !certain {
		return version != u.version // what may be about rights is not worth a look at the file
	}
	s.Secret.Recheck()
	if s.version() != u.version {
		return true
	}
	if s.over.Swap(u.version) != u.version && s.Over != nil {
		s.Over()
	}
	return false
}

// IsOver tells whether upstream has named the API token invalid or expired, the
// last time that it looked at it.
func (s *Standing) IsOver() bool { return s.over.Load() == s.version() }

func (s *Standing) version() uint64 {
	_, version := s.Secret.Current()
	return version
}

// Replayed does nothing.
func (*Standing) Replayed(string, bool) {}

// Unreplayed does nothing.
func (*Standing) Unreplayed(Use, string) {}

// Passed does nothing.
func (*Standing) Passed(string) {}
