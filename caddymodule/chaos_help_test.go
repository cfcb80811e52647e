package caddymodule_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

// chaosAnswer is a header of answers from upstream, which passes through the
// gateway: the number of the arrival that is answered.
const chaosAnswer = "X-Chaos-Answer"

// chaos is a run: what was done to the gateway, and what was seen of it. The
// fronts see each request before an emulator does, and each answer before the
// gateway does.
type chaos struct {
	t          *testing.T
	seed       uint64
	began      time.Time
	g          *gateway
	client     *http.Client
	fronts     [2]*chaosFront
	caFile     string
	background sync.WaitGroup // reloads, and what the admin API is asked

	sync.Mutex       // guards what follows
	violations       int
	accounts         map[string]*chaosAccount
	tokens           map[string]*chaosToken
	calls            map[string]*chaosCall
	figures          map[string]int
	reloading        int       // under way
	reloaded, closed time.Time // when a reload last ended, and a front was closed
}

// chaosAccount is an account of the gateway; its Control-M user has its name.
type chaosAccount struct {
	file           string // of its secret
	standing       bool   // an API token, not a password
	refused        map[string]time.Time
	logins         [2]chaosLogins
	changes, asked int           // of the password; and how often the admin API is being asked
	budget         *rate.Limiter // see charge
	spare          int
}

// chaosLogins is what an account did at one endpoint.
type chaosLogins struct {
	flying        bool
	arrived, good time.Time // the last attempt, and the last that succeeded
	failures      int       // in a row, not counting refusals
	refused       bool      // that is how the last one ended
	pardoned      bool      // the run has asked for an attempt out of turn
}

type chaosToken struct {
	front           int
	account         string
	made            time.Time
	ended, rejected time.Time // when a log-out arrived, and when upstream first said so in words; zero if never
}

// chaosCall is one call of a worker.
type chaosCall struct {
	account  string
	method   string        // "": GET
	size     int           // of the body
	leaves   time.Duration // when the client leaves, if there is no answer yet; 0: it waits
	began    time.Time
	arrivals []*chaosArrival
}

// chaosArrival is one time that a call reached an emulator.
type chaosArrival struct {
	status   int  // 0: no answer
	rejected bool // the token was not taken, so nothing was carried out
	cut      bool // the answer breaks off
}

// with has the lock.
func (c *chaos) with(do func()) {
	c.Lock()
	defer c.Unlock()
	do()
}

// newChaos has two emulators, and a Caddy that does nothing yet.
func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{
		t: t, seed: seed, began: time.Now(), accounts: map[string]*chaosAccount{}, tokens: map[string]*chaosToken{},
		calls: map[string]*chaosCall{}, figures: map[string]int{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 12}, Timeout: 30 * time.Second},
	}
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var users []emulator.User
	for _, name := range chaosNames {
		a := &chaosAccount{standing: name == "robot", refused: map[string]time.Time{}, budget: rate.NewLimiter(0.5, 3)}
		if a.file = secretFile(t, chaosPassword(name, 0)); a.standing {
			a.file = secretFile(t, canaryToken)
		}
		c.accounts[name] = a
		users = append(users, emulator.User{Name: name, Password: chaosPassword(name, 0), Roles: []string{"Admin"}})
	}
	// The first lets tokens live, so that only the gateway knows their end; the
	// second ends them early, which shows when a renewal is late.
	for i, lifetime := range []time.Duration{time.Hour, chaosLifetime - chaosRenewBefore/2} {
		c.fronts[i] = &chaosFront{c: c, at: i, addr: "127.0.0.1:0", Emulator: emulator.New(emulator.Options{
			Users: users, TokenLifetime: lifetime, LoginDelay: 20 * time.Millisecond, LockAfter: 3,
			APITokens: []emulator.APIToken{{Name: "robot", Value: canaryToken, User: "robot", Roles: []string{"Admin"}}},
		})}
		c.fronts[i].open()
		t.Cleanup(c.fronts[i].close)
	}
	certificate := &pem.Block{Type: "CERTIFICATE", Bytes: c.fronts[0].server.Certificate().Raw} // of both
	c.caFile = secretFile(t, string(pem.EncodeToMemory(certificate)))
	c.g = wireIdle(t)
	return c
}

func chaosPassword(name string, change int) string {
	return fmt.Sprintf("%s-%s-%d", canaryPassword, name, change)
}

// violated reports, for who has the lock, that an invariant does not hold.
func (c *chaos) violated(format string, args ...any) {
	if c.violations++; c.violations <= 20 {
		c.t.Errorf("seed %d, at %s: %s", c.seed, time.Since(c.began).Round(time.Millisecond), fmt.Sprintf(format, args...))
	}
}

// loggingIn is told of a login when it arrives, and holds it against
// contract.md, 3.7 and 7. All times are of arrival: a pause begins after the
// login that caused it has arrived and ends before the next is sent, so that a
// slow machine only makes gaps longer.
func (c *chaos) loggingIn(front int, name, password string) *chaosAccount {
	c.Lock()
	defer c.Unlock()
	c.figures["login attempts"]++
	now, a := time.Now(), cmp.Or(c.accounts[name], &chaosAccount{refused: map[string]time.Time{}})
	e := &a.logins[front]
	gap := now.Sub(e.arrived)
	since, refused := a.refused[password]
	pause := min(time.Second<<min(max(e.failures-1, 0), 6), 48*time.Second) // without jitter
	switch {
	case a.file == "" || a.standing:
		c.violated("somebody logs in as %q", name)
	case e.flying && !e.pardoned && gap < chaosLoginTimeout/2:
		c.violated("two logins of %s at endpoint %d at once, %s apart", name, front, gap)
	case e.failures > 0 && gap < pause && !e.refused && !e.pardoned:
		c.violated("%s tried endpoint %d again %s after failure %d; expected at least %s", name, front, gap, e.failures, pause)
	case refused && a.asked == 0: // else the refusal may be of an attempt from before a retry
		c.violated("a password of %s is tried at endpoint %d, which was refused %s ago", name, front, now.Sub(since))
	default:
		c.charge(front, name, a, now.Sub(e.good))
	}
	e.flying, e.arrived, e.refused, e.pardoned = true, now, false, false
	e.failures++ // until it turns out otherwise
	return a
}

// charge takes a login from the account's budget. One that comes when a
// renewal is due, session_lifetime - renew_before after the last at that
// endpoint, is free. Earlier ones are caused by rejections, 1 in 2 s with a
// burst of 2, and here one more since they arrive later than they are sent;
// or by what the run did, which spare counts. In a time of T, this bounds an
// account's logins at two endpoints by 2 T/1.5 s + 3 + T/2 s + spare.
func (c *chaos) charge(front int, name string, a *chaosAccount, since time.Duration) {
	if since >= chaosLifetime-chaosRenewBefore-500*time.Millisecond {
		return
	}
	c.figures["login attempts before a renewal was due"]++
	switch {
	case a.budget.Allow():
	case a.spare > 0:
		a.spare--
	default:
		c.violated("%s is above its login budget: one at endpoint %d %s after the last", name, front, since)
	}
}

// loginAnswered is told what a login gets, before the gateway is; status 0 is
// no answer. Where it comes so late that the gateway may not have waited for
// it, the next one is no fault.
func (c *chaos) loginAnswered(front int, name, password string, a *chaosAccount, status int, body []byte) {
	var login struct{ Token string }
	_ = json.Unmarshal(body, &login)
	c.Lock()
	defer c.Unlock()
	e := &a.logins[front]
	e.flying = false
	late := time.Since(e.arrived) > chaosLoginTimeout/2
	switch {
	case status == http.StatusOK && login.Token != "":
		e.good, e.failures = e.arrived, 0
		c.tokens[login.Token] = &chaosToken{front: front, account: name, made: time.Now()}
		c.figures["logins"]++
		if late {
			a.spare++
		}
	case status == http.StatusUnauthorized && !late:
		e.refused = true
		e.failures--
		a.refused[password] = time.Now()
		c.figures["logins refused"]++
	}
}

// arrive is told of a call before the emulator is. It looks at the credential,
// and whether a POST has been received before and may have been carried out.
func (c *chaos) arrive(front int, r *http.Request) (a *chaosArrival, number int) {
	c.Lock()
	defer c.Unlock()
	c.figures["arrivals"]++
	id := r.URL.RawQuery
	call := c.calls[id]
	if call == nil {
		c.violated("%s %s arrived, which nobody sent", r.Method, r.RequestURI)
		return new(chaosArrival), -1
	}
	for _, before := range call.arrivals {
		if r.Method == http.MethodPost && !before.rejected {
			c.violated("POST %s arrived again after it had been answered %d", id, before.status)
		}
	}
	c.checkCredential(front, r, call)
	a = new(chaosArrival)
	call.arrivals = append(call.arrivals, a)
	return a, len(call.arrivals) - 1
}

func chaosBearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// checkCredential wants the account's own, live credential for this endpoint,
// and nothing else.
func (c *chaos) checkCredential(front int, r *http.Request, call *chaosCall) {
	bearers, keys := r.Header.Values("Authorization"), r.Header.Values("X-Api-Key")
	token, standing := c.tokens[chaosBearer(r)], c.accounts[call.account].standing
	switch {
	case len(bearers)+len(keys) != 1 || standing != (len(keys) == 1) || standing && keys[0] != canaryToken:
		c.violated("a call of %s shows %d bearers and %d keys, or another key", call.account, len(bearers), len(keys))
	case standing:
	case token == nil:
		c.violated("a call of %s shows a token that nobody issued", call.account)
	case token.front != front:
		c.violated("a call of %s at endpoint %d shows a token of endpoint %d", call.account, front, token.front)
	case token.account != call.account:
		c.violated("a call of %s shows a token of %s", call.account, token.account)
	// The gateway took the token after the call began, however long the way
	// was from there.
	case call.began.Sub(token.made) > chaosLifetime:
		c.violated("a call of %s that began when a token had age %s shows it", call.account, call.began.Sub(token.made))
	case !token.ended.IsZero() && call.began.After(token.ended):
		c.violated("a call of %s shows a token that was logged out before", call.account)
	case !token.rejected.IsZero() && call.began.Sub(token.rejected) > chaosSlack:
		c.violated("a call of %s shows a token that was rejected %s before", call.account, call.began.Sub(token.rejected))
	}
}

// answered is told what a call gets, before the gateway is.
func (c *chaos) answered(a *chaosArrival, number int, r *http.Request, status int, body []byte) {
	words := bytes.Contains(body, []byte("Session token is invalid or expired"))
	c.Lock()
	defer c.Unlock()
	a.status, a.cut = status, status == http.StatusOK && !json.Valid(body)
	a.rejected = status == http.StatusUnauthorized || status == http.StatusInternalServerError && words
	token, call := c.tokens[chaosBearer(r)], c.calls[r.URL.RawQuery]
	// What a second try gets is passed on, and rejects no token.
	if token != nil && words && number == 0 && call.leaves == 0 && token.rejected.IsZero() {
		token.rejected = time.Now()
	}
}

// chaosFront is an emulator that can be closed and opened again, and tells the
// run what reaches it.
type chaosFront struct {
	*emulator.Emulator
	c      *chaos
	at     int // 0 or 1
	addr   string
	server *httptest.Server // nil while it is closed
}

// open listens, later at the same address, which others may have for a moment.
func (f *chaosFront) open() {
	if f.server != nil {
		return
	}
	f.server = httptest.NewUnstartedServer(f)
	_ = f.server.Listener.Close()
	wireEventually(f.c.t, "listening at the address again", func() bool {
		ln, err := net.Listen("tcp", f.addr)
		f.server.Listener = ln
		return err == nil
	})
	if strings.HasSuffix(f.addr, ":0") { // else reloads read it meanwhile
		f.addr = f.server.Listener.Addr().String()
	}
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.server.StartTLS()
}

// close ends the listener and every connection, with the answers in them: the
// gateway need not have heard of what was just answered.
func (f *chaosFront) close() {
	if f.server == nil {
		return
	}
	_ = f.server.Listener.Close()
	f.server.CloseClientConnections()
	f.server.Close()
	f.server = nil
	f.c.Lock()
	defer f.c.Unlock()
	f.c.closed = time.Now()
	for _, a := range f.c.accounts {
		if time.Since(a.logins[f.at].arrived) < chaosSlack {
			a.spare++
			clear(a.refused)
		}
	}
	for _, token := range f.c.tokens {
		if time.Since(token.rejected) < chaosSlack {
			token.rejected = time.Time{}
		}
	}
}

func (f *chaosFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := &chaosWriter{ResponseWriter: w, status: http.StatusOK}
	switch strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/automation-api"), "/") {
	case "": // a probe
	case "/session/login":
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return // it never came
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		var in struct{ Username, Password string }
		_ = json.Unmarshal(body, &in)
		a := f.c.loggingIn(f.at, in.Username, in.Password)
		out.tell = func(status int, body []byte) { f.c.loginAnswered(f.at, in.Username, in.Password, a, status, body) }
		defer func() { out.status = 0; out.told(nil) }() // no answer
	case "/session/logout":
		f.c.with(func() {
			if token := f.c.tokens[chaosBearer(r)]; token != nil {
				token.ended = time.Now()
			}
		})
	default:
		a, number := f.c.arrive(f.at, r)
		w.Header().Set(chaosAnswer, strconv.Itoa(number))
		out.tell = func(status int, body []byte) { f.c.answered(a, number, r, status, body) }
	}
	f.Emulator.ServeHTTP(out, r)
}

// chaosWriter tells the status and the beginning of an answer before the
// first of it leaves.
type chaosWriter struct {
	http.ResponseWriter
	tell   func(status int, body []byte) // nil: nobody asks, or it has been told
	status int
}

func (w *chaosWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *chaosWriter) Write(p []byte) (int, error) {
	w.told(p)
	return w.ResponseWriter.Write(p)
}

func (w *chaosWriter) told(body []byte) {
	if tell := w.tell; tell != nil {
		w.tell = nil
		tell(w.status, body)
	}
}

func (w *chaosWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
