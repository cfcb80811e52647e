package emulator

import (
	"maps"
	"sync"
	"time"
)

// Kinds of Event.
const (
	KindLogin        = "login"
	KindLoginRefused = "login_refused"
	KindLoginFailed  = "login_failed" // malformed, or answered by a fault other than a refusal
	KindLogout       = "logout"
	KindCall         = "call"
	KindCallRejected = "call_rejected"
	KindPublic       = "public" // an operation that needs no token, such as /ctm-cli.tgz
	KindRestart      = "restart"
)

// Event tells an observer what a client did. It is given before the client can
// see the answer, so that a test which has the answer has the event too. It
// never holds a password, a token, a query string or a header.
type Event struct {
	Kind    string `json:"kind"`
	User    string `json:"user,omitempty"`    // as the session or API token says; at a login, as the client says
	Method  string `json:"method,omitempty"`  //
	Path    string `json:"path,omitempty"`    // as received, without query; secrets that the API has in paths are cut out
	Status  int    `json:"status,omitempty"`  // 0: the connection was ended without an answer
	Session int    `json:"session,omitempty"` // number of the session, 1 for the first login; 0 for an API token
}

// Stats are counters since New, and what is alive now.
type Stats struct {
	Logins        int            `json:"logins"`
	RefusedLogins int            `json:"refused_logins"`
	FailedLogins  int            `json:"failed_logins"` // malformed, or answered by a fault other than a refusal
	Logouts       int            `json:"logouts"`
	Calls         int            `json:"calls"`          // with a live session or API token, also those that a fault answered
	RejectedCalls int            `json:"rejected_calls"` // without one
	LiveSessions  int            `json:"live_sessions"`
	MaxTokenAge   time.Duration  `json:"max_token_age_ns"` // oldest session token that a call was accepted with
	UserLogins    map[string]int `json:"user_logins"`
}

type counters struct {
	mu    sync.Mutex
	stats Stats
}

func (n *counters) count(change func(*Stats)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.stats)
}

// Stats returns a copy of the counters.
func (e *Emulator) Stats() Stats {
	live := e.accounts.live(time.Now())
	e.counters.mu.Lock()
	defer e.counters.mu.Unlock()
	s := e.counters.stats
	s.LiveSessions = live
	s.UserLogins = maps.Clone(s.UserLogins)
	return s
}

func (e *Emulator) observe(ev Event) {
	if e.options.Observe != nil {
		e.options.Observe(ev)
	}
}
