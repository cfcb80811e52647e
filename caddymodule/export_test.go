package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/ctmgate/ctmgate/internal/session"
)

// ForgetRefusals is for the time between two gateways: the next one's upstream
// may get the port at which the one before refused the same password.
func ForgetRefusals() { refusals = session.NewRefusals() }

// WaitForLogouts returns when every session that is on its way out has ended.
func WaitForLogouts() { closing.Wait() }

// ErrUnfit is the error for a call that net/http does not take.
var ErrUnfit = errUnfit

// RoundTrip sends r as the gateway's last hop does.
func RoundTrip(transport *reverseproxy.HTTPTransport, r *http.Request) (*http.Response, error) {
	return wire{transport}.RoundTrip(r)
}
