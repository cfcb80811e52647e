package emulator

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Targets of a Fault.
const (
	targetLogin   = "login"
	targetLogout  = "logout"
	targetExpired = "expired"
	targetCalls   = "calls"
)

// hugeLogin is far beyond what any client should read of a login answer.
const hugeLogin = 64 << 20

// Fault is one way in which the server misbehaves. Make it with ParseFault.
type Fault struct {
	Target string // login, logout, expired or calls
	Action string // see FaultHelp
	Times  int    // how often; 0: until the faults are replaced
}

// String is what ParseFault reads.
func (f Fault) String() string {
	s := f.Target + "=" + f.Action
	if f.Times > 0 {
		s += "x" + strconv.Itoa(f.Times)
	}
	return s
}

var faultTable = []struct{ target, action, help string }{
	{targetLogin, "401", "refuse every login, also with the right password"},
	{targetLogin, "500", "answer logins with an internal error"},
	{targetLogin, "503", "answer logins with 503 and an HTML page, as a balancer does"},
	{targetLogin, "hang", "take logins and never answer"},
	{targetLogin, "close", "end the connection without an answer"},
	{targetLogin, "garbage", "answer 200 with something that is no JSON"},
	{targetLogin, "empty", "answer 200 with an empty token"},
	{targetLogin, "redirect", "answer 307 to another origin"},
	{targetLogin, "huge", "answer 200 with 64 MiB of token"},
	{targetLogin, "echo", "answer 500 with the password in the message"},
	{targetLogout, "500", "answer logouts with an internal error; the session stays"},
	{targetLogout, "hang", "take logouts and never answer"},
	{targetLogout, "close", "end the connection without an answer"},
	{targetExpired, "401", "unknown or expired token: 401 with the words (healthy behaviour)"},
	{targetExpired, "500", "unknown or expired token: 500 with the words, seen on some servers"},
	{targetExpired, "401bare", "unknown or expired token: 401 without the words"},
	{targetExpired, "close", "unknown or expired token: end the connection"},
	{targetCalls, "401", "calls with a live token: 401 without the words, as for a missing right"},
	{targetCalls, "401words", "calls with a live token: 401 with the words"},
	{targetCalls, "403", "calls with a live token: 403"},
	{targetCalls, "500", "calls with a live token: an internal error"},
	{targetCalls, "500words", "calls with a live token: 500 with the words"},
	{targetCalls, "503", "calls with a live token: 503 and an HTML page"},
	{targetCalls, "hang", "take calls and never answer"},
	{targetCalls, "close", "end the connection without an answer"},
	{targetCalls, "truncate", "end the connection in the middle of the answer"},
	{targetCalls, "redirect", "answer 302 to another origin"},
}

// FaultHelp describes every fault, one a line, for a command's help.
func FaultHelp() string {
	var b strings.Builder
	for _, f := range faultTable {
		fmt.Fprintf(&b, "  %-16s %s\n", f.target+"="+f.action, f.help)
	}
	b.WriteString("  With xN at the end, as in login=500x3, only the next N times.\n")
	return b.String()
}

// ParseFault reads target=action or target=actionxN.
func ParseFault(s string) (Fault, error) {
	target, action, found := strings.Cut(strings.TrimSpace(s), "=")
	if !found {
		return Fault{}, errors.New("parsing fault: expected target=action, such as login=500")
	}
	times := 0
	if head, count, found := cutLast(action, 'x'); found && digits(count) {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return Fault{}, fmt.Errorf("parsing fault %q: expected a count of at least 1 after the x", s)
		}
		action, times = head, n
	}
	var actions []string
	for _, f := range faultTable {
		if f.target == target && f.action == action {
			return Fault{Target: target, Action: action, Times: times}, nil
		}
		if f.target == target {
			actions = append(actions, f.action)
		}
	}
	if actions == nil {
		return Fault{}, fmt.Errorf("parsing fault %q: expected login, logout, expired or calls before the =", s)
	}
	return Fault{}, fmt.Errorf("parsing fault %q: expected %s after %s=", s, strings.Join(actions, ", "), target)
}

func cutLast(s string, sep byte) (head, tail string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// faults holds what is wrong at present.
type faults struct {
	mu      sync.Mutex
	active  []Fault
	changed chan struct{} // closed when hanging requests must end
}

func newFaults(active []Fault) *faults {
	f := &faults{changed: make(chan struct{})}
	f.active = append(f.active, active...)
	return f
}

func (f *faults) set(active []Fault) {
	f.mu.Lock()
	f.active = append([]Fault(nil), active...)
	f.mu.Unlock()
	f.release()
}

func (f *faults) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// fault answers what is to go wrong with this request, "" for nothing.
func (c *call) fault(target string) string {
	action, released := c.e.faults.take(target)
	c.released = released
	return action
}

// take answers the action for a target and uses up one of its times. The channel
// is closed when the faults change after this moment.
func (f *faults) take(target string) (string, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.active {
		fault := &f.active[i]
		if fault.Target != target {
			continue
		}
		action := fault.Action
		if fault.Times == 1 {
			f.active = append(f.active[:i:i], f.active[i+1:]...)
		} else if fault.Times > 1 {
			fault.Times--
		}
		return action, f.changed
	}
	return "", f.changed
}

// loginFault answers a login wrongly. The password is for the one fault that
// tries whether somebody logs what a server says.
func (c *call) loginFault(action, password string) answer {
	switch action {
	case "garbage":
		return rawAnswer("text/html", []byte("<html><body>Sign in to continue</body></html>"))
	case "empty":
		return ok(loginResult{Username: c.who.user, Version: c.e.options.Version})
	case "redirect":
		c.w.Header().Set("Location", "https://elsewhere.invalid/automation-api/session/login")
		return answer{status: http.StatusTemporaryRedirect}
	case "echo":
		return fail(http.StatusInternalServerError, "Failed to login: cannot use "+password)
	case "huge":
		return c.hugeToken()
	}
	return c.callFault(action)
}

func (c *call) hugeToken() answer {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	block := []byte(strings.Repeat("A", 32<<10))
	_, err := io.WriteString(c.w, `{ "token" : "`)
	for sent := 0; err == nil && sent < hugeLogin; sent += len(block) {
		_, err = c.w.Write(block)
	}
	if err == nil {
		_, _ = io.WriteString(c.w, `", "username" : "u", "version" : "1" }`)
	}
	return answer{}
}

// callFault answers what any operation could answer.
func (c *call) callFault(action string) answer {
	switch action {
	case "401":
		return fail(http.StatusUnauthorized, "User is not authorized to perform this action")
	case "401words":
		return fail(http.StatusUnauthorized, wordsExpired)
	case "403":
		return fail(http.StatusForbidden, "User is not permitted to perform this action")
	case "500":
		return fail(http.StatusInternalServerError, "Internal server error")
	case "500words":
		return fail(http.StatusInternalServerError, wordsExpired)
	case "503":
		a := rawAnswer("text/html", []byte("<html><body><h1>503 Service Unavailable</h1></body></html>"))
		a.status = http.StatusServiceUnavailable
		return a
	case "redirect":
		c.w.Header().Set("Location", "https://elsewhere.invalid/automation-api/")
		return answer{status: http.StatusFound}
	case "truncate":
		c.w.Header().Set("Content-Type", "application/json")
		c.w.Header().Set("Content-Length", "4096")
		_, _ = io.WriteString(c.w, `{ "statuses" : [ `)
		_ = http.NewResponseController(c.w).Flush()
	case "hang":
		// Without reading the body to its end, the server does not notice that
		// the client has gone.
		_, _ = io.Copy(io.Discard, io.LimitReader(c.r.Body, maxUpload))
		select {
		case <-c.r.Context().Done():
		case <-c.released:
		}
	}
	panic(http.ErrAbortHandler)
}

// expiredFault answers a call with a dead token. 401 is what most sources say;
// 500 with the same words is reported too (controlm-api.md 2).
func (c *call) expiredFault(action string) answer {
	switch action {
	case "500":
		return c.callFault("500words")
	case "401bare":
		return c.callFault("401")
	case "close":
		return c.callFault("close")
	}
	return fail(http.StatusUnauthorized, wordsExpired)
}
