package session

import (
	"context"
	"sync"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
	"github.com/ctmgate/ctmgate/internal/ttlmap"
)

// A refused password is not tried again for coolDown, doubling with each
// refusal up to coolDownMost: often enough to come back by itself after a
// user was unlocked, seldom enough to lock nobody.
const (
	coolDown     = 15 * time.Minute
	coolDownMost = 4 * time.Hour
	// refusalMemory is how long the number of refusals is remembered.
	refusalMemory = 24 * time.Hour
	refusalsMost  = 10_000
)

type refusal struct {
	until time.Time
	count int
}

// Refusals remembers, for the whole process and over reloads, which passwords
// were refused. It holds fingerprints only.
type Refusals struct {
	seen  *ttlmap.Map[refusal]
	turns sync.Map // key → chan struct{} of one place: whose turn it is to log in
}

// NewRefusals returns an empty memory.
func NewRefusals() *Refusals {
	return &Refusals{seen: ttlmap.New[refusal](refusalsMost)}
}

// turn waits until no other session of the same key logs in, so that all of
// them see what comes of it before they try: one attempt, not one for each.
// Keys come from the config, so there are few.
func (r *Refusals) turn(ctx context.Context, key string) (leave func(), err error) {
	held, _ := r.turns.LoadOrStore(key, make(chan struct{}, 1))
	place := held.(chan struct{})
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Refusals) refused(key string, password secret.Value) (until time.Time, refused bool) {
	seen, _, ok := r.seen.Get(secret.Fingerprint(key, password.Reveal()))
	return seen.until, ok && time.Now().Before(seen.until)
}

// add is called by who has the turn of key.
func (r *Refusals) add(key string, password secret.Value) (until time.Time) {
	id := secret.Fingerprint(key, password.Reveal())
	seen, _, _ := r.seen.Get(id)
	pause := min(coolDown<<min(seen.count, 8), coolDownMost)
	seen = refusal{until: time.Now().Add(pause), count: seen.count + 1}
	r.seen.Set(id, seen, pause+refusalMemory)
	return seen.until
}

func (r *Refusals) forget(key string, password secret.Value) {
	r.seen.Delete(secret.Fingerprint(key, password.Reveal()))
}

// rights remembers which operations ended in 401 with a new token as well:
// there the account lacks a right, and a login would not help.
type rights struct{ seen *ttlmap.Map[struct{}] }

const (
	rightsMemory = 10 * time.Minute
	rightsMost   = 1_000
)

func newRights() *rights { return &rights{ttlmap.New[struct{}](rightsMost)} }

func (r *rights) lacks(operation string) bool {
	_, _, ok := r.seen.Get(operation)
	return ok
}

func (r *rights) note(operation string) { r.seen.Set(operation, struct{}{}, rightsMemory) }

func (r *rights) forget(operation string) { r.seen.Delete(operation) }
