package caddymodule

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/relay"
)

// visit is one request from its arrival to its answer, and what was found out
// about it on the way.
type visit struct {
	w     *relay.Writer
	r     *http.Request
	begun time.Time
	id    string // of the request, in through and out
	shown string // of the path, as a log may show it

	path    apipath.Path // once it was read
	known   bool         // path was read
	who     caller
	account *account
	rule    string // the line that decided
	allowed bool
	// Of a call that was sent a second time: whether that was rejected too.
	replays  int
	rejected bool
	code     string // of an answer of the gateway's own, or of one that broke off
	broken   int    // status of that code, where an answer broke off
}

// requestID is the header that follows a call from its caller through the
// gateway to Control-M, and back.
const requestID = "X-Request-Id"

func newVisit(w http.ResponseWriter, r *http.Request) *visit {
	v := &visit{w: relay.NewWriter(w), r: r, begun: time.Now(), shown: shownPath(originalTarget(r))}
	v.id = r.Header.Get(requestID)
	if !fitID(v.id) || access.Shows(v.id) {
		v.id = rand.Text()
	}
	w.Header().Set(requestID, v.id)
	return v
}

// shownPath is the path of a target as a log may show it.
func shownPath(target string) string { return access.RedactPath(apipath.Redact(target)) }

// mostID bounds an id that a caller chose.
const mostID = 128

// fitID tells whether an id may stand in logs and headers as it is.
func fitID(id string) bool {
	if id == "" || len(id) > mostID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=', c == '@':
		default:
			return false
		}
	}
	return true
}

// placeholders offers what is known of the visit to the rest of the
// Caddyfile: {controlm.client}, {controlm.account}, {controlm.environment},
// {controlm.operation} and {controlm.request_id}.
func (v *visit) placeholders(env *environment) {
	repl, ok := v.r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return
	}
	repl.Map(func(key string) (any, bool) {
		switch key {
		case "controlm.client":
			return v.client(), true
		case "controlm.account":
			return v.accountName(), true
		case "controlm.environment":
			return env.name, true
		case "controlm.operation":
			return v.operation(), true
		case "controlm.request_id":
			return v.id, true
		}
		return nil, false
	})
}

func (v *visit) client() string {
	if v.who.client == nil {
		return ""
	}
	return v.who.client.Name
}

func (v *visit) accountName() string {
	if v.account == nil {
		return ""
	}
	return v.account.name
}

// operation is the method and the template of the path, of which there are as
// many as the API has operations.
func (v *visit) operation() string {
	if !v.known {
		return ""
	}
	method := v.path.Judged()
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions:
	default:
		method = "OTHER"
	}
	return method + " " + v.path.Template()
}

// source is the address of the caller: of the one in front of a proxy that
// Caddy trusts.
func (v *visit) source() string {
	if ip, ok := caddyhttp.GetVar(v.r.Context(), caddyhttp.ClientIPVarKey).(string); ok && ip != "" {
		return ip
	}
	return v.r.RemoteAddr
}

// gone tells whether the caller has left.
func (v *visit) gone() bool { return v.r.Context().Err() == context.Canceled }
