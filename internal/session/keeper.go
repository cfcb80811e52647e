package session

import "time"

// action is what the keeper does next.
type action int

const (
	wait  action = iota // until something happens
	renew               // log in, and swap
	end                 // take the token out of use
)

// plan is an action and how long from now it is to be done.
type plan struct {
	do    action
	after time.Duration
}

// view is all that a plan depends on.
type view struct {
	has       bool // there is a token
	age       time.Duration
	due, dead time.Duration // ages
	stale     bool          // the password has changed since
	used      bool          // by a request under way
	idle      time.Duration // since the last use
	idleLimit time.Duration // 0: never idle
	hold      time.Duration // until a login may be tried: a pause or a refusal
	unwanted  bool          // another endpoint is in use: what there is may end
}

// next decides what a keeper does and when. It is pure.
func next(v view) plan {
	warm := v.idleLimit == 0 && !v.unwanted
	if !v.has {
		if warm {
			return plan{renew, v.hold}
		}
		return plan{do: wait}
	}
	after := max(v.due-v.age, v.hold)
	if v.stale {
		after = v.hold
	}
	p := plan{renew, after}
	if left := v.dead - v.age; (after >= left || v.unwanted) && !warm {
		p = plan{end, left}
	}
	switch left := v.idleLimit - v.idle; {
	case v.idleLimit == 0:
	case v.used && v.idleLimit <= p.after:
		p = plan{wait, v.idleLimit} // look again: nobody wakes the keeper when the last use ends
	case !v.used && left <= p.after:
		p = plan{end, left}
	}
	return plan{p.do, max(p.after, 0)}
}

// keep starts the keeper, once; it runs until the session drains.
func (s *Session) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeping || s.draining || s.closed {
		return
	}
	s.keeping = true
	s.work.Go(s.run)
}

// run is the keeper: it renews tokens before they end and ends idle ones.
func (s *Session) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for !s.isDraining() {
		g := s.current.Load()
		p := next(s.view(g))
		if p.after == 0 {
			switch p.do {
			case renew:
				if s.obtain(s.ctx) != nil {
					// The reason stands in view.hold from now on; the pause is
					// for what may have no reason there.
					p = plan{wait, time.Second}
				}
			case end:
				s.end(g)
			case wait:
			}
		}
		if p.after == 0 && p.do != wait {
			continue
		}
		var ring <-chan time.Time
		if p.after > 0 {
			timer.Reset(p.after)
			ring = timer.C
		}
		select {
		case <-ring:
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Session) view(g *grant) view {
	now := s.now()
	password, version := s.Password.Current()
	v := view{
		idle:      now.mono - time.Duration(s.lastUse.Load()),
		idleLimit: s.IdleTimeout,
		unwanted:  !s.Wanted(),
	}
	if g != nil {
		v.has, v.age, v.due, v.dead = true, now.since(g.born), g.due, g.dead
		v.stale = g.version != version
		v.used = g.holds.Load() > 1
	}
	s.mu.Lock()
	v.hold = max(time.Until(s.pausedUntil), 0)
	s.mu.Unlock()
	if until, refused := s.Refusals.refused(s.Keys, password); refused {
		v.hold = max(v.hold, time.Until(until))
	}
	return v
}
