package emulator

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	tokenTypeUser  = "user"
	tokenTypeAgent = "agent"
	dateLayout     = "2006-01-02"
)

// tokenName: the characters that names may have since 9.0.22.110; older names
// stay as they are (controlm-api.md 1).
var tokenName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// apiToken prints as a TokenDataResponse. Its value is shown only where it is
// made: whether a real GET repeats it is not stated (controlm-api.md 1).
type apiToken struct {
	Name       string   `json:"tokenName"`
	Type       string   `json:"tokenType"`
	Value      string   `json:"tokenValue,omitempty"`
	User       string   `json:"user"`
	Roles      []string `json:"roles,omitempty"`
	Expiration string   `json:"expirationDate,omitempty"`
	Created    string   `json:"createdDate,omitempty"`
	Updated    string   `json:"lastUpdatedDate,omitempty"`
	Server     string   `json:"server,omitempty"`
	ServerHost string   `json:"serverHost,omitempty"`
	ServerID   string   `json:"serverId,omitempty"`
	Tag        string   `json:"tag,omitempty"`

	value string
	ends  time.Time // zero: never
}

// expired: the last day counts in full, in UTC (controlm-api.md 1).
func (t *apiToken) expired(now time.Time) bool { return !t.ends.IsZero() && !now.Before(t.ends) }

type tokenRequest struct {
	Name       string   `json:"tokenName"`
	Roles      []string `json:"roles"`
	Expiration string   `json:"expirationDate"`
	Type       string   `json:"tokenType"`
	Server     string   `json:"server"`
	ServerHost string   `json:"serverHost"`
	ServerID   string   `json:"serverId"`
	Tag        string   `json:"tag"`
}

// check answers when the token ends, or why the request cannot be granted.
func (in *tokenRequest) check(who caller, now time.Time) (time.Time, *answer) {
	refuse := func(status int, text string) (time.Time, *answer) {
		a := fail(status, text)
		return time.Time{}, &a
	}
	in.Type = strings.ToLower(cmp.Or(in.Type, tokenTypeUser))
	if in.Type != tokenTypeUser && in.Type != tokenTypeAgent {
		return refuse(http.StatusBadRequest, "tokenType is invalid")
	}
	if in.Name == "" {
		return refuse(http.StatusBadRequest, "tokenName is required")
	}
	if in.Type == tokenTypeUser && len(in.Roles) == 0 {
		return refuse(http.StatusBadRequest, "roles: at least one role is required")
	}
	if !who.holds(in.Roles) {
		return refuse(http.StatusForbidden, "User is not a member of all specified roles")
	}
	if in.Expiration == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(dateLayout, in.Expiration)
	if err != nil {
		return refuse(http.StatusBadRequest, "expirationDate must have the format YYYY-MM-DD")
	}
	ends := day.AddDate(0, 0, 1)
	if !now.Before(ends) {
		return refuse(http.StatusBadRequest, "expirationDate must be a future date")
	}
	return ends, nil
}

func (who caller) holds(roles []string) bool {
	return !slices.ContainsFunc(roles, func(r string) bool { return !slices.Contains(who.roles, r) })
}

func (a *accounts) addToken(t *apiToken) {
	a.tokens[t.Name] = t
	a.byValue[t.value] = t
}

func (c *call) createToken() answer {
	var in tokenRequest
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	now := time.Now()
	ends, bad := in.check(c.who, now)
	if bad != nil {
		return *bad
	}
	if !tokenName.MatchString(in.Name) {
		return fail(http.StatusBadRequest, "tokenName may contain only letters, digits, underscores and hyphens")
	}
	stamp := now.UTC().Format(time.RFC3339)
	t := &apiToken{
		Name: in.Name, Type: in.Type, User: c.who.user, Roles: in.Roles, Expiration: in.Expiration,
		Created: stamp, Updated: stamp, Server: in.Server, ServerHost: in.ServerHost, ServerID: in.ServerID, Tag: in.Tag,
		value: newAPITokenValue(), ends: ends,
	}
	a := c.e.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.tokens[t.Name] != nil:
		// POST declares no 409, unlike PUT (controlm-api.md 1).
		return fail(http.StatusBadRequest, "A token with this name already exists")
	case len(a.tokens) >= maxAPITokens:
		return fail(http.StatusBadRequest, "There are too many tokens")
	}
	a.addToken(t)
	shown := *t
	shown.Value = t.value
	return ok(shown)
}

// updateToken takes all parameters anew; the name cannot change (SEED2 in
// controlm-api.md).
func (c *call) updateToken() answer {
	var in tokenRequest
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	now := time.Now()
	ends, bad := in.check(c.who, now)
	if bad != nil {
		return *bad
	}
	a := c.e.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tokens[in.Name]
	if t == nil || t.User != c.who.user {
		return fail(http.StatusNotFound, "Token not found")
	}
	if t.Type != in.Type {
		// Only PUT declares 409; what for is not stated, this is assumed.
		return fail(http.StatusConflict, "tokenType cannot be changed")
	}
	// Replaced, not edited: callers that were admitted hold the old roles.
	next := *t
	next.Roles, next.Expiration, next.ends = in.Roles, in.Expiration, ends
	next.Server, next.ServerHost, next.ServerID, next.Tag = in.Server, in.ServerHost, in.ServerID, in.Tag
	next.Updated = now.UTC().Format(time.RFC3339)
	a.addToken(&next)
	return ok(next)
}

// withToken runs do on a token of the caller's own. Other users' tokens need
// rights that nobody has here.
func (c *call) withToken(name string, do func(*accounts, *apiToken) answer) answer {
	a := c.e.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tokens[name]
	if t == nil || t.User != c.who.user || !c.wantsType(t) {
		return fail(http.StatusNotFound, "Token not found")
	}
	return do(a, t)
}

// wantsType honours the queries forAgent and type.
func (c *call) wantsType(t *apiToken) bool {
	q := c.r.URL.Query()
	want := strings.ToLower(q.Get("type"))
	if q.Get("forAgent") == "true" {
		want = tokenTypeAgent
	}
	return want == "" || want == t.Type
}

func (c *call) getToken() answer {
	return c.withToken(c.param(0), func(_ *accounts, t *apiToken) answer { return ok(*t) })
}

func (c *call) deleteToken() answer {
	return c.withToken(c.param(0), func(a *accounts, t *apiToken) answer {
		delete(a.tokens, t.Name)
		delete(a.byValue, t.value)
		return message("Token was deleted successfully")
	})
}

func (c *call) listTokens() answer {
	a := c.e.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []apiToken{}
	for _, t := range a.tokens {
		if t.User == c.who.user && c.wantsType(t) {
			list = append(list, *t)
		}
	}
	slices.SortFunc(list, func(x, y apiToken) int { return cmp.Compare(x.Name, y.Name) })
	return ok(map[string]any{"tokens": list})
}

func (c *call) tokenByValue() answer {
	var in struct {
		Value string `json:"tokenValue"`
		Type  string `json:"tokenType"`
	}
	if bad := c.readJSON(&in, maxLoginBody); bad != nil {
		return *bad
	}
	if in.Value == "" || in.Type == "" {
		return fail(http.StatusBadRequest, "tokenValue and tokenType are required")
	}
	a := c.e.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.byValue[in.Value]
	if t == nil || t.User != c.who.user || !strings.EqualFold(t.Type, in.Type) {
		return fail(http.StatusNotFound, "Token not found")
	}
	return ok(*t)
}

func newAPITokenValue() string {
	var b [48]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}
