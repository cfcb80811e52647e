package caddymodule

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/ctmgate/ctmgate/internal/automationapi"
)

// wire is Caddy's transport to an endpoint, with errors that can be told
// apart: Caddy's DialError hides its cause from errors.As.
type wire struct{ *reverseproxy.HTTPTransport }

// RoundTrip implements http.RoundTripper.
func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if slices.Contains(w.Versions, "3") { // which tells less
		res, err := w.HTTPTransport.RoundTrip(req)
		if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
			return nil, dialError{dial}
		}
		return res, quotable(err)
	}
	// A connection that was not had, TLS included, has carried nothing.
	var asked, had atomic.Bool
	ctx := req.Context()
	if ctx.Value(caddy.ReplacerCtxKey) == nil { // of a login, say; network_proxy may be a placeholder
		ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	}
	traced := req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true); had.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { had.Store(true) },
	}))
	res, err := w.HTTPTransport.RoundTrip(traced)
	switch {
	case err == nil || had.Load() || ctx.Err() != nil:
		return res, quotable(err)
	case !asked.Load() && !errors.Is(err, errNoProxy):
		return nil, errUnfit
	}
	return nil, dialError{err}
}

// quotable is err, or errNotHTTP in its place.
func quotable(err error) error {
	if err != nil && !quotesNothing(err) {
		return errNotHTTP
	}
	return err
}

// errUnfit is a call that net/http does not take: no endpoint is to blame.
var errUnfit = errors.New("the call cannot be sent: its method or a header of it is not as HTTP wants it")

// errNoProxy stands for errors about the URL of the forward proxy, which may
// hold a password.
var errNoProxy = errors.New("network_proxy: its URL cannot be used; expected one such as http://proxy.example.com:3128")

// nameProxy has t say when the forward proxy is to blame.
func nameProxy(t *http.Transport) {
	proxy := t.Proxy
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		u, err := proxy(r)
		if err != nil {
			return nil, errNoProxy
		}
		return u, nil
	}
}

// errNotHTTP stands for errors of net/http that repeat what upstream sent.
var errNotHTTP = errors.New("the answer is not HTTP; is the endpoint right?")

// quotesNothing tells whether the text of err is fit for a log: upstream may
// have put the credential that it was sent into what net/http quotes.
func quotesNothing(err error) bool {
	var timeout net.Error
	return automationapi.Unquoting(err) != nil || automationapi.Diagnose(err) != "" ||
		errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// dialError is a connection that could not be made: nothing was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// As makes it a *net.OpError of "dial", and a *net.DNSError where the name
// was not found.
func (e dialError) As(target any) bool {
	switch target := target.(type) {
	case **net.OpError:
		*target = &net.OpError{Op: "dial", Err: e.error}
		return true
	case **net.DNSError:
		if strings.Contains(e.Error(), "no such host") {
			*target = &net.DNSError{Err: e.Error(), IsNotFound: true}
			return true
		}
	}
	return false
}
