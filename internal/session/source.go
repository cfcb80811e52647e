package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// Source gives tokens to requests: a Session, or a standing API token.
type Source interface {
	// Take returns a token to send, another than that of not; the zero Use is
	// none. Every Use is released once.
	Take(ctx context.Context, not Use) (Use, error)
	Release(u Use)
	// IsCurrent tells whether the next Take would give the token of u.
	IsCurrent(u Use) bool
	// Accepted, Reject, Replayed, Unreplayed and Passed tell what upstream made
	// of a token.
	Accepted(u Use)
	Reject(u Use, operation string, certain bool) (again bool)
	Replayed(operation string, unauthorized bool)
	Unreplayed(u Use, operation string)
	Passed(operation string)
}

// Use is one request's hold on a token.
type Use struct {
	Token   secret.Value
	g       *grant
	version uint64
	sent    time.Duration
}

var (
	_ Source = (*Session)(nil)
	_ Source = (*Standing)(nil)
)

// ErrClosed is what a session gives that has ended with its config.
var ErrClosed = errors.New("the session has ended with its config")

// RefusedError means that the password is wrong or the user locked, now or
// when it was last tried.
type RefusedError struct {
	Until time.Time // no login with this password before
	Err   error     // of the attempt itself; nil when none was made
}

func (e *RefusedError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("logging in: not tried, since this password was refused; next attempt at %s, or when it changes",
		e.Until.UTC().Format(time.RFC3339))
}

func (e *RefusedError) Unwrap() error { return e.Err }

// FailedError means that the login just made could not be had.
type FailedError struct {
	RetryAfter time.Duration
	Err        error
}

func (e *FailedError) Error() string { return e.Err.Error() }
func (e *FailedError) Unwrap() error { return e.Err }

// PausedError means that no login was made, since the last ones failed.
type PausedError struct {
	RetryAfter time.Duration
	Err        error // why
}

func (e *PausedError) Error() string {
	return fmt.Sprintf("logging in: paused for %s after: %v", e.RetryAfter.Round(time.Millisecond), e.Err)
}

// busyRetry is how long a caller should wait that met a bound.
const busyRetry = time.Second

// BusyError means that a bound of the session's own was met.
type BusyError struct {
	RetryAfter time.Duration
	What       string // that there are too many of
}

func (e *BusyError) Error() string { return "obtaining a token: too many " + e.What }

// Kind of an Event.
type Kind int

// What a session tells its observer.
const (
	LoggedIn Kind = iota + 1
	LoginRefused
	LoginFailed
	TokenRejected
	LoggedOut
)

// Event is something that happened to a session. It holds no secret.
type Event struct {
	Kind    Kind
	Number  uint64        // of the login that it is about
	Took    time.Duration // of a login
	Renewal bool          // a login that was made while there still was a token
	Version string        // of the API
	Until   time.Time     // no attempt before
	Err     error
}
