package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/session"
)

// answer is an error that the gateway itself gives. Its text is public: it
// says what happened and what to do, and never holds a secret, an upstream
// body or an internal address.
type answer struct {
	code   string
	status int
	text   string
	// lasting: a WebSocket client gets this status as it is. All others are
	// passing troubles, for which the vendor's listener must not be told to
	// end for good (contract.md, 3.9).
	lasting bool
	allow   string // methods, for a 405
}

// codePrefix is what the codes of all answers of the gateway begin with.
const codePrefix = "ctmgate."

// The answers of the gateway (contract.md, section 6).
var (
	notAdmitted = answer{"ctmgate.not_admitted", http.StatusForbidden,
		"This gateway answers only calls made on its own machine, to a local name, by no browser page and through no other proxy. " +
			"Call it at 127.0.0.1, or have its operator add this host to `admit loopback`.", true, ""}
	methodNotAllowed = answer{"ctmgate.method_not_allowed", http.StatusMethodNotAllowed,
		"This method is not part of the Automation API. Use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.", true,
		"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}
	postOnly = answer{"ctmgate.method_not_allowed", http.StatusMethodNotAllowed,
		"Logging in and out takes POST.", true, "POST"}
	bodyTooLarge = answer{"ctmgate.body_too_large", http.StatusRequestEntityTooLarge,
		"The body of this call is larger than the gateway takes. Send less, or ask its operator for a larger `max_body`.", true, ""}
	rateLimited = answer{"ctmgate.rate_limited", http.StatusTooManyRequests,
		"You make more calls than this gateway takes from you. Repeat this one after the time in Retry-After.", false, ""}
	outsideAPI = answer{"ctmgate.outside_api", http.StatusNotFound,
		"This path is not under the base path of the Automation API. Put the API's base path in front of it, as in %s/config/servers.", true, ""}
	badPath = answer{"ctmgate.bad_path", http.StatusBadRequest,
		"The path of this request is malformed: %s. Percent-encode what belongs into a segment, and leave the rest out.", true, ""}
	protectedOperation = answer{"ctmgate.protected", http.StatusForbidden,
		"This operation handles credentials, sessions or rights, and is not open through this gateway. " +
			"Its operator can open those that change credentials or rights with `allow_credential_changes`.", true, ""}
	badBody = answer{"ctmgate.bad_body", http.StatusBadRequest,
		"The body of this call is malformed or broke off. Send it again, whole.", true, ""}
	badRequest = answer{"ctmgate.bad_request", http.StatusBadRequest,
		"This request cannot be sent on: its method or one of its headers is not as HTTP wants it. Correct it where it is made.", true, ""}
	forbidden = answer{"ctmgate.forbidden", http.StatusForbidden,
		"No rule of this gateway allows you this operation. Ask its operator for an `allow` line if you need it.", true, ""}
	noAccount = answer{"ctmgate.no_account", http.StatusForbidden,
		"The gateway has no account for you in this environment. Ask its operator for an `account` line.", true, ""}
	unauthenticated = answer{"ctmgate.client_unauthenticated", http.StatusUnauthorized,
		"This gateway needs a key of its own: show yours as `Authorization: Bearer KEY` or `x-api-key: KEY`. " +
			"What was shown is missing, unknown or expired.", true, ""}
	endedToken = answer{"ctmgate.client_unauthenticated", http.StatusUnauthorized,
		"Session token is invalid or expired. Log in at the gateway again.", true, ""}
	wrongLogin = answer{"ctmgate.client_unauthenticated", http.StatusUnauthorized,
		"Failed to login: Incorrect username or password", true, ""}
	ambiguousCredentials = answer{"ctmgate.ambiguous_credentials", http.StatusBadRequest,
		"This request shows two different credentials. Show one.", true, ""}
	loginRefused = answer{"ctmgate.login_refused", http.StatusBadGateway,
		"Control-M refused the gateway's own username or password, or the user is locked. The gateway does not try that password again; " +
			"its operator has to mend the password or unlock the user.", false, ""}
	loginPaused = answer{"ctmgate.login_paused", http.StatusServiceUnavailable,
		"The gateway's login at Control-M failed a moment ago, and is tried again soon. Repeat this call after the time in Retry-After.", false, ""}
	loginFailed = answer{"ctmgate.login_failed", http.StatusBadGateway,
		"The gateway's login at Control-M was answered with an error, or not understandably. Repeat this call later; the gateway's log has the cause.", false, ""}
	loginTimeout = answer{"ctmgate.login_timeout", http.StatusGatewayTimeout,
		"The gateway's login at Control-M took too long. Repeat this call later; the gateway's log has more.", false, ""}
	upstreamUnreachable = answer{"ctmgate.upstream_unreachable", http.StatusBadGateway,
		"Control-M cannot be reached from this gateway: name, connection or TLS. Repeat this call later; the gateway's log has the cause.", false, ""}
	upstreamBroke = answer{"ctmgate.upstream_unreachable", http.StatusBadGateway,
		"The connection to Control-M broke during this call, or what came back is no HTTP. " +
			"The call may have been carried out: look before you repeat it.", false, ""}
	upstreamTimeout = answer{"ctmgate.upstream_timeout", http.StatusGatewayTimeout,
		"Control-M did not answer this call in time. It may have been carried out: look before you repeat it.", false, ""}
	replayImpossible = answer{"ctmgate.replay_impossible", http.StatusServiceUnavailable,
		"Control-M ended the gateway's session during this call, and its body is too large to be sent again by the gateway. Repeat this call now.", false, ""}
	overloaded = answer{"ctmgate.overloaded", http.StatusServiceUnavailable,
		"This gateway cannot take the call now. Repeat it after the time in Retry-After.", false, ""}
)

// clientGone is nginx's status for a caller that left; nobody reads it but
// the access log.
const clientGone = 499

// errReplayImpossible: the token was rejected, and the body cannot be sent
// again.
var errReplayImpossible = errors.New("sending the call again: its body is no longer at hand")

// answerFor finds the answer to an error of the way upstream, and how long
// the caller should wait; less than zero for "not said".
func answerFor(err error) (answer, time.Duration) {
	var (
		malformed *apipath.MalformedError
		refused   *session.RefusedError
		paused    *session.PausedError
		failed    *session.FailedError
		busy      *session.BusyError
	)
	switch {
	case errors.Is(err, apipath.ErrMethod):
		return methodNotAllowed, -1
	case errors.Is(err, apipath.ErrOutside):
		return outsideAPI, -1
	case errors.As(err, &malformed):
		return badPath.with(malformed.Reason), -1
	case errors.Is(err, errReplayImpossible):
		return replayImpossible, 0
	case errors.As(err, &refused):
		return loginRefused, -1
	case errors.As(err, &paused):
		return loginPaused, paused.RetryAfter
	case errors.As(err, &failed):
		return loginAnswer(failed.Err), -1
	case errors.As(err, &busy):
		return overloaded, busy.RetryAfter
	case errors.Is(err, session.ErrClosed), errors.Is(err, relay.ErrNoMemory):
		return overloaded, time.Second
	case isTimeout(err):
		return upstreamTimeout, -1
	case automationapi.IsDial(err):
		return upstreamUnreachable, -1
	}
	return upstreamBroke, -1 // nobody knows what was done
}

func loginAnswer(err error) answer {
	if errors.Is(err, context.DeadlineExceeded) { // also in waiting for another session of the user
		return loginTimeout
	}
	switch automationapi.KindOf(err) {
	case automationapi.Refused:
		return loginRefused
	case automationapi.TimedOut:
		return loginTimeout
	case automationapi.Unreachable:
		return upstreamUnreachable
	case automationapi.Failed:
	}
	return loginFailed
}

// bodyAnswer is the answer to a call whose own body could not be read.
func bodyAnswer(err error) answer {
	var tooLarge *http.MaxBytesError
	var caddyError caddyhttp.HandlerError
	if errors.As(err, &tooLarge) || errors.As(err, &caddyError) && caddyError.StatusCode == http.StatusRequestEntityTooLarge {
		return bodyTooLarge
	}
	return badBody
}

// isTimeout tells a call that was not answered in time from one that could
// not be made: a connection that was not had in time counts as the latter.
func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return (errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)) && !automationapi.IsDial(err)
}

// with fills the one blank of the text.
func (a answer) with(detail string) answer {
	a.text = strings.Replace(a.text, "%s", detail, 1)
	return a
}

// asItIs is the Cache-Control of the gateway's own answers: they are not kept,
// and no handler in front compresses them. The length of what is compressed
// tells how alike its parts are, and a login's answer has a token beside what
// the caller chose.
const asItIs = "no-store, no-transform"

// write answers r in Control-M's own shape. A retryAfter of less than zero is
// not said.
func (a answer) write(w http.ResponseWriter, r *http.Request, retryAfter time.Duration) {
	if isWebSocket(r) && !a.lasting && (a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests) {
		a.status = http.StatusBadGateway
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", asItIs)
	switch {
	case a.status == http.StatusUnauthorized:
		h.Set("Www-Authenticate", `Bearer realm="ctmgate"`)
	case a.status == http.StatusMethodNotAllowed:
		h.Set("Allow", a.allow)
	case retryAfter >= 0:
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retryAfter.Seconds()))))
	}
	// The vendor's shape, without `item`, which its own client cannot read as
	// null (controlm-api.md, 5.5).
	type failure struct {
		Message string `json:"message"`
		ID      string `json:"id"`
	}
	body, err := json.Marshal(struct {
		Errors []failure `json:"errors"`
	}{[]failure{{a.text, a.code}}})
	if err != nil { // two strings always marshal
		body = nil
	}
	body = append(body, '\n')
	// So that a client that is still sending need not wait for the end.
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(body)
}

// isWebSocket tells whether r asks for a WebSocket.
func isWebSocket(r *http.Request) bool { return saysWebSocket(r.Header) }

// saysWebSocket minds the length, since there are letters outside ASCII that
// EqualFold takes for an s or a k, and ReverseProxy for an error.
func saysWebSocket(h http.Header) bool {
	upgrade := h.Get("Upgrade")
	return len(upgrade) == len("websocket") && strings.EqualFold(upgrade, "websocket")
}
