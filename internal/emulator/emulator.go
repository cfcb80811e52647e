package emulator

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

const roleAdmin = "Admin"

// User is a Control-M user.
type User struct {
	Name     string
	Password string
	Roles    []string // what the user may grant to an API token
	Locked   bool     // refused like a wrong password
}

// APIToken is a standing token that exists from the start. Its name may hold
// characters that the API refuses in new ones, as old names on real servers do.
type APIToken struct {
	Name  string
	Value string
	User  string
	Roles []string
}

// Options say what is emulated. The zero value is a healthy server.
type Options struct {
	Users         []User        // none: "emuser" with password "empass" and roles Admin, User
	APITokens     []APIToken    //
	TokenLifetime time.Duration // of a session token from its login on; 0: 30 minutes
	LoginDelay    time.Duration // how long a login takes
	LockAfter     int           // refused logins in a row that lock a user; 0: never
	Version       string        // in the login answer; "": 9.21.220
	BasePath      string        // "": /automation-api; "/": none
	PublicURL     string        // base URL that answers print, with base path; "": as the client called
	HTTP2         bool          // also offer HTTP/2 over TLS; a WebSocket needs HTTP/1.1
	Faults        []Fault
	// Observe is called for every login, refused login, logout, call, rejected
	// call and restart, in the goroutine of the request, before the client can
	// see the answer. It must be quick and safe for concurrent use.
	Observe func(Event)
}

// Emulator is a Control-M Automation API. It is safe for concurrent use.
type Emulator struct {
	options  Options
	base     string // "" or "/automation-api"
	accounts *accounts
	vault    *vault
	plant    *plant
	reports  *reports
	gates    *gates
	faults   *faults
	counters counters
}

// New makes an emulator. It starts nothing: serve it with Listen or as any other
// http.Handler.
func New(o Options) *Emulator {
	if len(o.Users) == 0 {
		o.Users = []User{{Name: "emuser", Password: "empass", Roles: []string{roleAdmin, "User"}}}
	}
	if o.TokenLifetime <= 0 {
		o.TokenLifetime = 30 * time.Minute // controlm-api.md 3
	}
	if o.Version == "" {
		o.Version = "9.21.220" // three numbers, no leading zero: controlm-api.md 1
	}
	if o.BasePath == "" {
		o.BasePath = "/automation-api"
	}
	now := time.Now()
	e := &Emulator{
		options: o,
		base:    strings.TrimRight("/"+strings.TrimLeft(o.BasePath, "/"), "/"),
		vault:   newVault(), plant: newPlant(now), reports: newReports(), gates: newGates(),
		faults: newFaults(o.Faults), accounts: newAccounts(o),
	}
	e.counters.stats.UserLogins = map[string]int{}
	return e
}

// Restart drops all sessions, as a restart of EM's web server is expected to do
// (controlm-api.md 3), and ends requests that a fault keeps hanging. API tokens,
// passwords, folders and jobs stay.
func (e *Emulator) Restart() {
	e.accounts.dropSessions()
	e.faults.release()
	e.observe(Event{Kind: KindRestart})
}

// SetPassword changes a user's password and unlocks the user, as an
// administrator would. An unknown user is ignored.
func (e *Emulator) SetPassword(user, password string) { e.accounts.setPassword(user, password) }

// SetFaults replaces the faults; none makes the server healthy. Requests that a
// fault keeps hanging are ended.
func (e *Emulator) SetFaults(f ...Fault) { e.faults.set(f) }

// call is one request below the base path.
type call struct {
	e      *Emulator
	w      *observedWriter
	r      *http.Request
	kind   string
	who    caller
	params []string // decoded path segments that a route's {} stands for
	path   string   // for the observer
	// released ends a fault that keeps this request hanging.
	released <-chan struct{}
}

func (c *call) param(i int) string { return c.params[i] }

// ServeHTTP implements http.Handler.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.serveControl(w, r) {
		return
	}
	// Segments are cut before they are decoded: folder paths are one segment
	// with %2F inside (controlm-api.md 0.10).
	rest, below := strings.CutPrefix(r.URL.EscapedPath(), e.base)
	if !below || (rest != "" && rest[0] != '/') {
		fail(http.StatusNotFound, "not found").write(w)
		return
	}
	c := &call{e: e, r: r, kind: KindCall}
	c.w = &observedWriter{ResponseWriter: w, call: c}
	defer c.observed()
	segments, err := cutSegments(rest)
	if err != nil {
		c.kind = KindPublic
		fail(http.StatusBadRequest, "failed to read the path").write(c.w)
		return
	}
	c.path = pathForObserver(r.URL.EscapedPath(), segments)
	c.serve(segments).write(c.w)
}

func (c *call) serve(segments []string) answer {
	route, params, allowed := findRoute(c.r.Method, segments)
	c.params = params
	if route != nil && route.open {
		c.kind = KindPublic
		return route.handle(c)
	}
	if openPath(segments) {
		c.kind = KindPublic
		return c.methodNotAllowed(allowed)
	}
	if refused := c.admit(); refused != nil {
		return *refused
	}
	if action := c.fault(targetCalls); action != "" {
		return c.callFault(action)
	}
	switch {
	case route != nil:
		return route.handle(c)
	case len(allowed) > 0:
		return c.methodNotAllowed(allowed)
	default:
		return fail(http.StatusNotFound, "not found")
	}
}

// admit finds out who calls, or answers why nobody does. A request without any
// credential is answered like one with a dead token: assumed, controlm-api.md 2.
func (c *call) admit() *answer {
	shown := credentials(c.r.Header)
	if len(shown) > 1 {
		c.kind = KindCallRejected
		c.e.counters.count(func(s *Stats) { s.RejectedCalls++ })
		return c.ambiguous()
	}
	live := false
	if len(shown) == 1 {
		c.who, live = c.e.accounts.identify(shown[0], time.Now())
	}
	if !live {
		c.kind = KindCallRejected
		c.e.counters.count(func(s *Stats) { s.RejectedCalls++ })
		a := c.expiredFault(c.fault(targetExpired))
		return &a
	}
	c.e.counters.count(func(s *Stats) {
		s.Calls++
		s.MaxTokenAge = max(s.MaxTokenAge, c.who.age)
	})
	return nil
}

func (c *call) methodNotAllowed(allowed []string) answer {
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return fail(http.StatusMethodNotAllowed, "Request method is not supported")
}

// publicBase is the absolute base URL that answers print in statusURI, outputURI
// and the like (controlm-api.md 5.3).
func (c *call) publicBase() string {
	if c.e.options.PublicURL != "" {
		return strings.TrimRight(c.e.options.PublicURL, "/")
	}
	scheme := "http"
	if c.r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + c.r.Host + c.e.base
}

func (c *call) observed() {
	if !c.w.wrote {
		c.w.wrote = true
		c.report(0)
	}
}

func (c *call) report(status int) {
	c.e.observe(Event{
		Kind: c.kind, User: c.who.user, Method: c.r.Method, Path: c.path, Status: status, Session: c.who.session,
	})
}

// observedWriter reports the status before the first byte leaves.
type observedWriter struct {
	http.ResponseWriter
	call  *call
	wrote bool
}

func (w *observedWriter) WriteHeader(status int) {
	final := status >= http.StatusOK || status == http.StatusSwitchingProtocols
	if final && !w.wrote {
		w.wrote = true
		w.call.report(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *observedWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush and hijack.
func (w *observedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// cutSegments splits an escaped path at its slashes and decodes each segment by
// itself. One trailing slash is ignored.
func cutSegments(rest string) ([]string, error) {
	rest = strings.TrimSuffix(strings.TrimPrefix(rest, "/"), "/")
	if rest == "" {
		return nil, nil
	}
	segments := strings.Split(rest, "/")
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, err
		}
		segments[i] = decoded
	}
	return segments, nil
}

// pathForObserver cuts out the two secrets that the API has in paths: an SSH
// key's passphrase and a system setting's value (controlm-api.md 6).
func pathForObserver(escaped string, segments []string) string {
	n := len(segments)
	secret := n == 6 && segments[0] == "config" && segments[3] == "sshkey" ||
		n == 5 && segments[0] == "config" && segments[1] == "systemsettings"
	if !secret {
		return escaped
	}
	escaped = strings.TrimSuffix(escaped, "/")
	return escaped[:strings.LastIndexByte(escaped, '/')+1] + "***"
}
