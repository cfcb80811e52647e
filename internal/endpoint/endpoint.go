// Package endpoint chooses among the endpoints of one environment. What calls
// meet teaches it which of them answers; one that does not is left aside and
// probed until it has answered for a while. It knows neither HTTP nor Caddy.
package endpoint

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is what a call or a login met at an endpoint.
type Outcome int

// The outcomes.
const (
	// Answered: the API answered, whatever it said.
	Answered Outcome = iota
	// Troubled: a time-out, a connection that broke, or an answer of 502, 503
	// or 504. One may be the call's own fault; troubledMost in a row are not.
	Troubled
	// Unreachable: no connection could be made.
	Unreachable
)

// Most is how many endpoints an environment may have.
const Most = 16

const (
	troubledMost = 3
	// probeTime bounds a probe.
	probeTime = 5 * time.Second
	// An endpoint that is left aside is probed after probeFirst, then at
	// growing intervals up to probeLast: it may be gone for days.
	probeFirst, probeLast = time.Second, 15 * time.Second
	// One that answers again is probed every probeGood, and used again once it
	// has answered for steadyFirst; for twice as long after each relapse within
	// relapseMemory, up to steadyMost, so that one that comes and goes does not
	// cost logins each time.
	probeGood               = 2 * time.Second
	steadyFirst, steadyMost = 10 * time.Second, 5 * time.Minute
	relapseMemory           = 10 * time.Minute
)

// Config is what a Set needs.
type Config struct {
	// Count of endpoints, in the order of preference; at most Most.
	Count int
	// Probe asks endpoint i whether it answers, without any credential.
	Probe func(ctx context.Context, i int) error
	// Observe hears when an endpoint is left aside or used again; it must
	// return quickly. Nil is allowed.
	Observe func(Event)
}

// Event is something that happened to endpoint Index.
type Event struct {
	Index int
	Up    bool
	// Current is the endpoint in use from now on.
	Current int
}

// Set is the endpoints of one environment. All methods are safe for
// concurrent use.
type Set struct {
	Config
	current  atomic.Int32
	troubles [Most]atomic.Int32 // in a row
	aside    atomic.Uint32      // a bit for each endpoint that is left aside

	mu      sync.Mutex
	states  [Most]state
	closed  bool
	movers  map[*func()]struct{}
	ctx     context.Context // ends with the set
	cancel  context.CancelFunc
	probers sync.WaitGroup
}

// state is of one endpoint, under the lock.
type state struct {
	probed   bool      // a prober runs
	downs    int       // how often it was left aside
	relapses int       // how often that was shortly after it was back
	back     time.Time // when it was last used again
}

// New returns a set in which all endpoints are good.
func New(c Config) *Set {
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	s := &Set{Config: c, movers: make(map[*func()]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends the probes. When it returns, no goroutine of the set is left.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.probers.Wait()
}

// Current is the endpoint in use.
func (s *Set) Current() int { return int(s.current.Load()) }

// IsAside tells whether endpoint i is left aside.
func (s *Set) IsAside(i int) bool { return s.aside.Load()&(1<<i) != 0 }

// OnMove has f called, quickly and in no order, whenever another endpoint
// comes into use, until stop is called.
func (s *Set) OnMove(f func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.movers[&f] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.movers, &f)
	}
}

// Tried is the endpoints that a call has tried.
type Tried uint32

// Next is where a call goes that has tried some endpoints in vain: the one in
// use, then the good ones in order, then those that are left aside, since one
// of them may be back. It is false when all were tried.
func (s *Set) Next(tried *Tried) (i int, ok bool) {
	aside := s.aside.Load()
	take := func(i int, among uint32) bool {
		bit := uint32(1) << i
		if uint32(*tried)&bit != 0 || among&bit == 0 {
			return false
		}
		*tried |= Tried(bit)
		return true
	}
	if i := s.Current(); take(i, ^uint32(0)) {
		return i, true
	}
	for _, among := range [...]uint32{^aside, aside} {
		for i := range s.Count {
			if take(i, among) {
				return i, true
			}
		}
	}
	return 0, false
}

// Report tells what was met at endpoint i.
func (s *Set) Report(i int, o Outcome) {
	if s.Count == 1 {
		return // there is no choice
	}
	switch o {
	case Answered:
		if s.troubles[i].Load() != 0 {
			s.troubles[i].Store(0)
		}
		// It was called since there was nothing better, or has been taken back
		// by a call that was under way.
		if s.IsAside(i) && s.IsAside(s.Current()) {
			s.up(i)
		}
	case Troubled:
		if s.troubles[i].Add(1) >= troubledMost {
			s.down(i)
		}
	case Unreachable:
		s.down(i)
	}
}

// down leaves endpoint i aside.
func (s *Set) down(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.IsAside(i) {
		return
	}
	st := &s.states[i]
	st.downs++
	if !st.back.IsZero() && time.Since(st.back) < relapseMemory {
		st.relapses++
	} else {
		st.relapses = 0
	}
	s.aside.Or(1 << i)
	s.settle(Event{Index: i})
	if !st.probed {
		st.probed = true
		s.probers.Go(func() { s.probe(i) })
	}
}

// up uses endpoint i again.
func (s *Set) up(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.IsAside(i) {
		return
	}
	s.troubles[i].Store(0)
	s.states[i].back = time.Now()
	s.aside.And(^uint32(1 << i))
	s.settle(Event{Index: i, Up: true})
}

// settle chooses the endpoint in use: the one that is, while it is good, or a
// better one; else the first good one. The caller holds the lock.
func (s *Set) settle(e Event) {
	now := s.Current()
	next := now
	for i := range s.Count {
		if !s.IsAside(i) {
			next = i
			break
		}
	}
	s.current.Store(int32(next)) //nolint:gosec // at most Most
	e.Current = next
	s.Observe(e)
	if next != now {
		for f := range s.movers {
			(*f)()
		}
	}
}

// probe asks endpoint i until it is used again.
func (s *Set) probe(i int) {
	wait := probeFirst
	var since time.Time // when it began to answer
	downs := 0
	for s.pause(wait) {
		s.mu.Lock()
		if !s.IsAside(i) { // a call has shown that it is back
			s.states[i].probed = false
			s.mu.Unlock()
			return
		}
		relapses := s.states[i].relapses
		if downs != s.states[i].downs {
			since, downs = time.Time{}, s.states[i].downs
		}
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(s.ctx, probeTime)
		err := s.Probe(ctx, i)
		cancel()
		now := time.Now()
		switch {
		case err != nil:
			since = time.Time{}
			wait = min(2*wait, probeLast)
			continue
		case since.IsZero():
			since = now
		}
		wait = probeGood
		// With nothing better, there is no reason to wait.
		if now.Sub(since) >= steady(relapses) || s.IsAside(s.Current()) {
			s.up(i)
			wait = 0 // and look whether it still is
		}
	}
}

// steady is how long an endpoint must have answered before it is used again.
func steady(relapses int) time.Duration {
	return min(steadyFirst<<min(relapses, 8), steadyMost)
}

// pause waits, with jitter, and tells whether the set goes on.
func (s *Set) pause(wait time.Duration) bool {
	if wait > 0 {
		wait += rand.N(wait / 4)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return s.ctx.Err() == nil
	case <-s.ctx.Done():
		return false
	}
}
