package session

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// State is how a token stands in time.
type State int

// The states of a token.
const (
	Fresh  State = iota // good, nothing to do
	Due                 // good, to be renewed in the background
	Urgent              // good for so short a time that requests wait for the renewal
	Dead                // past its lifetime, or none
)

func (s State) String() string {
	return [...]string{"fresh", "due", "urgent", "dead"}[s]
}

// instant is a moment on both clocks. The wall clock can be set and the
// monotonic one stops while the machine sleeps, so an age is the larger of
// the two differences.
type instant struct {
	wall time.Time // without monotonic reading
	mono time.Duration
}

func (s *Session) now() instant {
	t := time.Now()
	return instant{wall: t.Round(0), mono: t.Sub(s.started)}
}

func (i instant) since(born instant) time.Duration {
	return max(i.mono-born.mono, i.wall.Sub(born.wall))
}

// number tells sessions apart in logs without showing anything of a token.
var number atomic.Uint64

// grant is one login: immutable but for its counters.
type grant struct {
	token   secret.Value
	version uint64 // of the password
	number  uint64
	born    instant // before the login was sent
	// Ages from which the token is due, urgent and dead.
	due, urgent, dead time.Duration

	holds    atomic.Int64 // the session's own and one for each request under way
	retired  atomic.Bool  // the session's own hold is given up
	accepted atomic.Int64 // when the latest request was sent that upstream accepted
}

// newGrant spreads the moment of renewal over a tenth of early, so that the
// accounts of a gateway that started at once do not renew at once.
func newGrant(l Login, version uint64, born instant, lifetime, early time.Duration) *grant {
	g := &grant{
		token:   l.Token,
		version: version,
		number:  number.Add(1),
		born:    born,
		due:     lifetime - early,
		urgent:  lifetime - early/5,
		dead:    lifetime,
	}
	if spread := early / 10; spread > 0 {
		g.due += rand.N(spread)
	}
	g.holds.Store(1)
	return g
}

// stateAt tells how the token stands; no grant at all is dead.
func (g *grant) stateAt(now instant) State {
	if g == nil {
		return Dead
	}
	switch age := now.since(g.born); {
	case age >= g.dead:
		return Dead
	case age >= g.urgent:
		return Urgent
	case age >= g.due:
		return Due
	}
	return Fresh
}

// hold takes part in using g, unless its last user has left.
func (g *grant) hold() bool {
	for {
		n := g.holds.Load()
		if n <= 0 {
			return false
		}
		if g.holds.CompareAndSwap(n, n+1) {
			return true
		}
	}
}
