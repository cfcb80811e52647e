package session

import (
	"context"
	"slices"
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

// turn waits until no other session of one of the keys logs in, so that all
// of them see what comes of it before they try: one attempt, not one for each.
// Keys come from the config, so there are few.
func (r *Refusals) turn(ctx context.Context, keys []string) (leave func(), err error) {
	var places []chan struct{}
	leave = func() {
		for _, place := range places {
			<-place
		}
	}
	for _, key := range slices.Compact(slices.Sorted(slices.Values(keys))) { // in one order, so that nobody waits in a ring
		held, _ := r.turns.LoadOrStore(key, make(chan struct{}, 1))
		place := held.(chan struct{})
		select {
		case place <- struct{}{}:
			places = append(places, place)
		case <-ctx.Done():
			leave()
			return nil, ctx.Err()
		}
	}
	return leave, nil
}

// refused tells whether and until when password is not to be tried, at any of
// the keys.
func (r *Refusals) refused(keys []string, password secret.Value) (until time.Time, refused bool) {
	for _, key := range keys {
		seen, _, ok := r.seen.Get(secret.Fingerprint(key, password.Reveal()))
		if ok && time.Now().Before(seen.until) && seen.until.After(until) {
			until, refused = seen.until, true
		}
	}
	return until, refused
}

// add is called by who has the turn of keys.
func (r *Refusals) add(keys []string, password secret.Value) (until time.Time) {
	count := 0
	for _, key := range keys {
		seen, _, _ := r.seen.Get(secret.Fingerprint(key, password.Reveal()))
		count = max(count, seen.count)
	}
	pause := min(coolDown<<min(count, 8), coolDownMost)
	until = time.Now().Add(pause)
	for _, key := range keys {
		r.seen.Set(secret.Fingerprint(key, password.Reveal()), refusal{until, count + 1}, pause+refusalMemory)
	}
	return until
}

// allow opens one more attempt with a refused password. If that is refused
// too, the pauses go on growing where they were.
func (r *Refusals) allow(keys []string, password secret.Value) {
	for _, key := range keys {
		id := secret.Fingerprint(key, password.Reveal())
		if seen, _, ok := r.seen.Get(id); ok {
			r.seen.Set(id, refusal{time.Now(), seen.count}, refusalMemory)
		}
	}
}

func (r *Refusals) forget(keys []string, password secret.Value) {
	for _, key := range keys {
		r.seen.Delete(secret.Fingerprint(key, password.Reveal()))
	}
}
