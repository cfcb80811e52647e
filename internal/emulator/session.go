package emulator

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxLoginBody = 64 << 10
	maxJSONBody  = 1 << 20
	// maxNameInEvent keeps a stranger's "username" from filling an observer's log.
	maxNameInEvent = 128
)

type credential struct {
	value  string
	apiKey bool // came in x-api-key
}

// credentials lists what a request shows. Every operation takes Bearer or
// x-api-key (controlm-api.md 1); the scheme is read without minding case, since
// published collections send "bearer" (controlm-api.md 3).
func credentials(h http.Header) []credential {
	var all []credential
	for _, v := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(strings.TrimSpace(v), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			token = "" // still a credential, though one that opens nothing
		}
		all = append(all, credential{value: strings.TrimSpace(token)})
	}
	for _, v := range h.Values("X-Api-Key") {
		all = append(all, credential{value: strings.TrimSpace(v), apiKey: true})
	}
	return all
}

type loginResult struct {
	Username string `json:"username"`
	Token    string `json:"token"`
	Version  string `json:"version"`
}

// login ignores any credential in the headers: real clients send the previous
// token along (controlm-api.md 0.6).
func (c *call) login() answer {
	c.kind = KindLoginFailed
	var in struct {
		Username *string `json:"username"`
		Password *string `json:"password"`
	}
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return c.loginFailed(*bad)
	}
	if in.Username == nil || in.Password == nil {
		return c.loginFailed(fail(http.StatusBadRequest, "Failed to login: username and password are required"))
	}
	c.who.user = (*in.Username)[:min(len(*in.Username), maxNameInEvent)]
	if !c.pause(c.e.options.LoginDelay) {
		panic(http.ErrAbortHandler)
	}
	if action := c.fault(targetLogin); action == "401" {
		return c.loginRefused()
	} else if action != "" {
		c.loginFailed(answer{}) // counted first: the fault may hang or panic
		return c.loginFault(action, *in.Password)
	}
	s := c.e.accounts.login(*in.Username, *in.Password, time.Now())
	if s == nil {
		return c.loginRefused()
	}
	c.kind, c.who.session = KindLogin, s.number
	c.e.counters.count(func(n *Stats) { n.Logins++; n.UserLogins[s.user]++ })
	return ok(loginResult{Username: s.user, Token: s.token, Version: c.e.options.Version})
}

func (c *call) loginRefused() answer {
	c.kind = KindLoginRefused
	c.e.counters.count(func(s *Stats) { s.RefusedLogins++ })
	return fail(http.StatusUnauthorized, wordsRefused)
}

func (c *call) loginFailed(a answer) answer {
	c.e.counters.count(func(s *Stats) { s.FailedLogins++ })
	return a
}

// pause waits, or tells false when the client or the server goes first.
func (c *call) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.r.Context().Done():
		return false
	}
}

// logout takes the token from where any known client puts it: a header, a form
// body, or the query, the last two without any header (controlm-api.md 0.5, 5.4).
func (c *call) logout() answer {
	c.kind = KindCallRejected
	token, bad := c.logoutToken()
	if bad != nil {
		return *bad
	}
	if action := c.fault(targetLogout); action != "" {
		c.kind = KindCall
		return c.callFault(action)
	}
	s := c.e.accounts.logout(token, time.Now())
	if s == nil {
		c.e.counters.count(func(n *Stats) { n.RejectedCalls++ })
		// The only error code that logout declares is 500 (controlm-api.md 1).
		return fail(http.StatusInternalServerError, wordsExpired)
	}
	c.kind, c.who = KindLogout, caller{user: s.user, session: s.number}
	c.e.counters.count(func(n *Stats) { n.Logouts++ })
	// The real text repeats the token (controlm-api.md 0.4): so does this one,
	// or nobody would notice a gateway that passes it on.
	return message(wordsLogout + s.token)
}

func (c *call) logoutToken() (string, *answer) {
	shown := credentials(c.r.Header)
	if len(shown) > 1 {
		return "", c.ambiguous()
	}
	if len(shown) == 1 {
		return shown[0].value, nil
	}
	kind, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" {
		body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxLoginBody))
		if err != nil {
			return "", bodyFailure(err)
		}
		form, _ := url.ParseQuery(string(body))
		if t := form.Get("token"); t != "" {
			return t, nil
		}
	}
	return c.r.URL.Query().Get("token"), nil
}

func (c *call) ambiguous() *answer {
	a := fail(http.StatusBadRequest, "ambiguous credentials")
	return &a
}

// updatePassword changes the caller's own password. Either password may be
// "Secret:<key>", which the server looks up in its vault (controlm-api.md 8).
func (c *call) updatePassword() answer {
	var in struct {
		User            string `json:"user"`
		CurrentPassword string `json:"currentPassword"`
		NewPassword     string `json:"newPassword"`
	}
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	if in.User == "" || in.CurrentPassword == "" || in.NewPassword == "" {
		return fail(http.StatusBadRequest, "user, currentPassword and newPassword are required")
	}
	if in.User != c.who.user {
		return fail(http.StatusNotFound, "User not found")
	}
	current, found := c.e.vault.resolve(in.CurrentPassword)
	next, foundNext := c.e.vault.resolve(in.NewPassword)
	if !found || !foundNext {
		return fail(http.StatusBadRequest, "Secret does not exist")
	}
	switch known, changed := c.e.accounts.changePassword(in.User, current, next); {
	case !known:
		return fail(http.StatusNotFound, "User not found")
	case !changed:
		return fail(http.StatusBadRequest, "Failed to update password: current password is incorrect")
	}
	return message("Password was updated successfully")
}

// adminUpdatePassword sets another user's password.
func (c *call) adminUpdatePassword() answer {
	var in struct {
		NewPassword string `json:"newPassword"`
	}
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	if !c.who.holds([]string{roleAdmin}) {
		return fail(http.StatusForbidden, "User is not permitted to update passwords")
	}
	next, found := c.e.vault.resolve(in.NewPassword)
	if next == "" || !found {
		return fail(http.StatusBadRequest, "newPassword is required")
	}
	if !c.e.accounts.setPassword(c.param(0), next) {
		return fail(http.StatusNotFound, "User not found")
	}
	return message("Password was updated successfully")
}

// readJSON reads a bounded JSON body. The Content-Type is not minded: clients
// send octet-stream and nothing at all (controlm-api.md 5.5).
func (c *call) readJSON(into any, limit int64) *answer {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if err != nil {
		return bodyFailure(err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		a := fail(http.StatusBadRequest, "failed to parse json") // the parser's text would repeat the body
		return &a
	}
	return nil
}

func bodyFailure(err error) *answer {
	a := fail(http.StatusBadRequest, "failed to read the request")
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		a = fail(http.StatusRequestEntityTooLarge, "request is too large")
	}
	return &a
}
