package emulator

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxSessions bounds the memory that logins can take. A real server has no
	// known limit (controlm-api.md 3); this one lets the oldest session go.
	maxSessions = 4096
	// maxAPITokens bounds what POST /authentication/token can make.
	maxAPITokens = 1000
)

type user struct {
	User
	failed int // logins refused in a row
}

type liveSession struct {
	number  int
	user    string
	token   string
	created time.Time
}

// accounts holds users and the credentials that stand for them.
type accounts struct {
	mu        sync.Mutex
	lifetime  time.Duration
	lockAfter int
	users     map[string]*user
	sessions  map[string]*liveSession
	order     []*liveSession // by age, oldest first; may hold sessions that were logged out
	number    int
	tokens    map[string]*apiToken // by name
	byValue   map[string]*apiToken
}

// caller is who a request acts as.
type caller struct {
	user    string
	roles   []string
	session int
	age     time.Duration // of the session token
}

func newAccounts(o Options) *accounts {
	a := &accounts{
		lifetime: o.TokenLifetime, lockAfter: o.LockAfter,
		users: map[string]*user{}, sessions: map[string]*liveSession{},
		tokens: map[string]*apiToken{}, byValue: map[string]*apiToken{},
	}
	for _, u := range o.Users {
		u.Roles = slices.Clone(u.Roles)
		a.users[u.Name] = &user{User: u}
	}
	for _, t := range o.APITokens {
		a.addToken(&apiToken{Name: t.Name, value: t.Value, User: t.User, Roles: slices.Clone(t.Roles), Type: tokenTypeUser})
	}
	return a
}

// login answers a new session, or nil when username or password is wrong or the
// user is locked: a client cannot tell the two apart.
func (a *accounts) login(name, password string, now time.Time) *liveSession {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[name]
	if u == nil || u.Locked {
		return nil
	}
	if u.Password != password {
		u.failed++
		// Failed logins before the lock: set by an administrator, off by default
		// (controlm-api.md 3).
		u.Locked = a.lockAfter > 0 && u.failed >= a.lockAfter
		return nil
	}
	u.failed = 0
	a.number++
	s := &liveSession{number: a.number, user: name, token: newSessionToken(), created: now}
	a.sessions[s.token] = s
	a.order = append(a.order, s)
	a.forget(now)
	return s
}

// forget drops sessions that have ended, and the oldest while there are too many.
func (a *accounts) forget(now time.Time) {
	drop := 0
	for _, s := range a.order {
		known := a.sessions[s.token] == s
		if known && !a.ended(s, now) && len(a.sessions) <= maxSessions {
			break
		}
		if known {
			delete(a.sessions, s.token)
		}
		drop++
	}
	a.order = slices.Delete(a.order, 0, drop)
	if len(a.order) > 2*maxSessions {
		a.order = slices.DeleteFunc(a.order, func(s *liveSession) bool { return a.sessions[s.token] != s })
	}
}

// ended: 30 minutes after login, used or not. No source says whether the
// lifetime slides; absolute is the stricter reading (controlm-api.md 0.8, 3).
func (a *accounts) ended(s *liveSession, now time.Time) bool {
	return now.Sub(s.created) >= a.lifetime
}

func (a *accounts) logout(token string, now time.Time) *liveSession {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.sessions[token]
	if s == nil {
		return nil
	}
	delete(a.sessions, token)
	if a.ended(s, now) {
		return nil
	}
	return s
}

// identify finds the caller behind a credential. For a session that has ended it
// still tells whose it was, for the observer.
func (a *accounts) identify(c credential, now time.Time) (caller, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.value == "" {
		return caller{}, false
	}
	if s := a.sessions[c.value]; s != nil {
		who := caller{user: s.user, session: s.number, age: now.Sub(s.created)}
		if u := a.users[s.user]; u != nil {
			who.roles = u.Roles
		}
		return who, !a.ended(s, now)
	}
	// Vendor documents show API tokens in x-api-key only (controlm-api.md 3).
	if t := a.byValue[c.value]; t != nil && c.apiKey {
		return caller{user: t.User, roles: t.Roles}, !t.expired(now)
	}
	return caller{}, false
}

func (a *accounts) live(now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, s := range a.sessions {
		if !a.ended(s, now) {
			n++
		}
	}
	return n
}

func (a *accounts) dropSessions() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.sessions)
	a.order = nil
}

// setPassword is an administrator's act, so it unlocks as well. Live sessions
// stay; whether a real server ends them is not known (controlm-api.md 8).
func (a *accounts) setPassword(name, password string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[name]
	if u == nil {
		return false
	}
	u.Password, u.failed, u.Locked = password, 0, false
	return true
}

// changePassword is the user's own act: known tells whether there is such a
// user, changed whether current was right.
func (a *accounts) changePassword(name, current, next string) (known, changed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[name]
	if u == nil {
		return false, false
	}
	if u.Password != current {
		return true, false
	}
	u.Password = next
	return true, true
}

// newSessionToken: real session tokens that were seen have 128 upper-case
// hexadecimal characters (controlm-api.md 1).
func newSessionToken() string {
	var b [64]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return strings.ToUpper(hex.EncodeToString(b[:]))
}
