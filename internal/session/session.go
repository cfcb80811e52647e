// Package session keeps a valid token in hand for one account at one
// endpoint: it logs in when somebody first needs a token, renews in the
// background, notices rejections, and logs out what nobody uses any more. It
// knows neither HTTP nor Caddy.
package session

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// Issuer opens and ends sessions of one account at one endpoint.
type Issuer interface {
	// LogIn opens a session with password. It honours ctx, which has a
	// deadline, and may be called again while sessions that it opened live.
	LogIn(ctx context.Context, password secret.Value) (Login, error)
	// LogOut ends the session of token. Whatever it returns, the token is not
	// used again.
	LogOut(ctx context.Context, token secret.Value) error
	// Refused tells whether err, from LogIn, means that the password must not
	// be tried again.
	Refused(err error) bool
}

// Login is what a successful login gives.
type Login struct {
	Token   secret.Value
	Version string // of the API, for clients that ask
}

// Password yields the account's current password. Current does no I/O; its
// version changes when the password does.
type Password interface {
	Current() (secret.Value, uint64)
	// Recheck looks at once whether there is a newer password.
	Recheck()
}

// Config is what a session needs. Issuer, Password and Refusals are required.
type Config struct {
	Issuer   Issuer
	Password Password
	// Keys name endpoint and user for Refusals, so that two accounts with the
	// same user and password at one endpoint count as one. Where an
	// environment has several endpoints there is one for each: they share
	// their users.
	Keys     []string
	Refusals *Refusals
	// Budget bounds the logins that rejections cause. Sessions of one account
	// share one; nil makes one of its own.
	Budget *Budget
	// Lifetime of a token, from before its login was sent.
	Lifetime time.Duration
	// RenewBefore is how long before its end a token is due.
	RenewBefore time.Duration
	// IdleTimeout ends a session unused for so long; 0 keeps it for ever.
	IdleTimeout time.Duration
	// LoginTimeout bounds a login, however long its callers would wait.
	LoginTimeout time.Duration
	// Wanted tells whether the session is to be kept warm by itself now; nil
	// is always. Of several endpoints only the one in use is. Warm makes the
	// session ask again.
	Wanted func() bool
	// Observe hears of everything that happens; nil is allowed. It must
	// return quickly.
	Observe func(Event)
}

// logoutTimeout bounds a log-out; a session that is not logged out by then
// ends by itself within its lifetime.
const logoutTimeout = 5 * time.Second

// Logins caused by rejections draw on one budget: 1 in 2 s, with a burst of 2
// (contract.md, 3.7).
const (
	rejectionEvery = 2 * time.Second
	rejectionBurst = 2
)

// Budget bounds the logins of one account that rejections cause.
type Budget struct{ limiter *rate.Limiter }

// NewBudget returns a full budget.
func NewBudget() *Budget {
	return &Budget{rate.NewLimiter(rate.Every(rejectionEvery), rejectionBurst)}
}

// Bounds of one session. A caller that waits for a login holds its request in
// memory; a token that was replaced lives on while a long call uses it.
const (
	waitingMost = 4096
	grantsMost  = 64
)

// Session is the account's login at one endpoint. All methods are safe for
// concurrent use.
type Session struct {
	Config
	started time.Time // monotonic ages count from here
	current atomic.Pointer[grant]
	lastUse atomic.Int64 // a time.Duration since started
	// apiVersion is the string of the last login.
	apiVersion atomic.Value
	flights    singleflight.Group
	rights     *rights
	takes      atomic.Uint64
	logins     atomic.Uint64
	lastErr    atomic.Pointer[string] // of the last login; nil after one that succeeded

	ctx    context.Context // ends when the session is closed for good
	cancel context.CancelFunc
	wake   chan struct{}  // tells the keeper to look again
	quiet  chan struct{}  // tells Close that something ended
	work   sync.WaitGroup // flights, log-outs and the keeper

	mu          sync.Mutex
	grants      map[*grant]struct{} // not yet logged out
	flying      int
	waiting     int // Takes
	keeping     bool
	draining    bool
	closed      bool
	failures    int
	pausedUntil time.Time
	pauseCause  error
	rejected    bool   // the next login is caused by a rejection
	doubted     *grant // upstream may not take it: the next flight replaces it
	forced      bool   // the next flight logs in, however fresh the token is
}

// New returns a session that has not logged in.
func New(c Config) *Session {
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Budget == nil {
		c.Budget = NewBudget()
	}
	if c.Wanted == nil {
		c.Wanted = func() bool { return true }
	}
	s := &Session{
		Config:  c,
		started: time.Now(),
		rights:  newRights(),
		wake:    make(chan struct{}, 1),
		quiet:   make(chan struct{}, 1),
		grants:  make(map[*grant]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Warm logs in without waiting for a first call, and keeps trying in the
// background: for accounts that are to be kept warm.
func (s *Session) Warm() {
	s.keep()
	poke(s.wake)
}

// Take returns a token to send, another than that of not. It waits for a login
// only when there is no such token, and no longer than ctx. The caller
// releases the Use when the request that carries the token has ended.
func (s *Session) Take(ctx context.Context, not Use) (Use, error) {
	now := s.now()
	s.takes.Add(1)
	s.lastUse.Store(int64(now.mono))
	g := s.current.Load()
	if state := g.stateAt(now); g != not.g && (state == Fresh || state == Due) {
		if state == Due || g.version != s.passwordVersion() {
			poke(s.wake)
		}
		if g.hold() {
			return Use{Token: g.token, g: g, sent: now.mono}, nil
		}
	}
	if !s.await() {
		if g != not.g && g.stateAt(now) != Dead && g.hold() {
			return Use{Token: g.token, g: g, sent: now.mono}, nil
		}
		return Use{}, &BusyError{RetryAfter: busyRetry, What: "calls that wait for a login"}
	}
	defer s.awaited()
	for {
		s.doubt(not.g)
		err := s.obtain(ctx)
		g := s.current.Load()
		usable := g != not.g && g.stateAt(s.now()) != Dead
		// A failed renewal costs nothing while the old token lives.
		if err != nil && (ctx.Err() != nil || !usable) {
			return Use{}, err
		}
		// Between the look and the hold, g may have been replaced, rejected or
		// ended; each time round needs another login's worth of bad luck.
		if usable && g.hold() {
			return Use{Token: g.token, g: g, sent: s.now().mono}, nil
		}
		if err := ctx.Err(); err != nil {
			return Use{}, err
		}
	}
}

// Version returns the API's version as the last login gave it.
func (s *Session) Version() string {
	version, _ := s.apiVersion.Load().(string)
	return version
}

// Release ends u: the request that carried its token is over.
func (s *Session) Release(u Use) {
	s.lastUse.Store(int64(s.now().mono))
	s.letGo(u.g, true)
}

// Drain begins the end: nothing is renewed any more, and tokens are logged
// out as soon as nobody uses them. Requests that are still on their way can
// take tokens as before.
func (s *Session) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	poke(s.wake) // ends the keeper
	s.endUnused()
}

// Close drains, waits until every token is logged out or ctx ends, then logs
// out what is still used and stops. When it returns, no goroutine of the
// session is left; that is at most logoutTimeout after ctx.
func (s *Session) Close(ctx context.Context) {
	s.Drain()
	for !s.isQuiet() && ctx.Err() == nil {
		select {
		case <-s.quiet:
		case <-ctx.Done():
		}
	}
	poke(s.quiet) // for another Close
	s.mu.Lock()
	s.closed = true
	s.current.Store(nil)
	left := slices.Collect(maps.Keys(s.grants))
	s.mu.Unlock()
	for _, g := range left {
		s.logOut(g, g.holds.Load() > 1)
	}
	s.cancel()
	s.work.Wait()
}

func (s *Session) isQuiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.grants) == 0 && s.flying == 0
}

// await counts a Take that waits for a token, from before it asks for one
// until it holds it or gives up. It is false where too many wait.
func (s *Session) await() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= waitingMost {
		return false
	}
	s.waiting++
	return true
}

func (s *Session) awaited() {
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
	s.endUnused()
}

// endUnused ends a draining session's token that nobody uses or waits for.
func (s *Session) endUnused() {
	s.mu.Lock()
	over := s.draining && s.waiting == 0
	s.mu.Unlock()
	if g := s.current.Load(); over && g != nil && g.holds.Load() == 1 {
		s.end(g)
	}
}

// end takes g out of use; its last user logs it out.
func (s *Session) end(g *grant) {
	if s.current.CompareAndSwap(g, nil) {
		s.retire(g)
	}
}

// retire gives up the session's own hold on g.
func (s *Session) retire(g *grant) {
	if g != nil && g.retired.CompareAndSwap(false, true) {
		s.letGo(g, false)
	}
}

// letGo gives up one hold on g, and logs it out if that was the last: also one
// past its lifetime if it was used to the end, since it is not documented that
// use does not prolong a session. (controlm-api.md, section 3)
func (s *Session) letGo(g *grant, used bool) {
	switch g.holds.Add(-1) {
	case 0:
		s.logOut(g, used)
	case 1:
		s.endUnused()
	}
}

// logOut ends g upstream, once, in the background, unless it has ended by
// itself. One that was used to the end may not have.
func (s *Session) logOut(g *grant, used bool) {
	s.mu.Lock()
	_, known := s.grants[g]
	delete(s.grants, g)
	if known && (used || g.stateAt(s.now()) != Dead) {
		s.work.Go(func() { s.askLogOut(g) })
	}
	s.mu.Unlock()
	poke(s.quiet)
}

func (s *Session) askLogOut(g *grant) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), logoutTimeout)
	defer cancel()
	dead := g.stateAt(s.now()) == Dead
	err := s.Issuer.LogOut(ctx, g.token)
	if err != nil && dead {
		return // as was to be expected
	}
	s.Observe(Event{Kind: LoggedOut, Err: err, Number: g.number})
}

func (s *Session) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Session) passwordVersion() uint64 {
	_, version := s.Password.Current()
	return version
}

// poke leaves a note in a channel of one place, unless there is one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
