package automationapi

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// Phase is how far a request came.
type Phase int

// The phases, in their order.
const (
	Begun      Phase = iota
	Resolving        // the endpoint's name is looked up
	Connecting       // a connection is being made
	Securing         // TLS is being agreed upon
	Connected        // from here on the endpoint may have heard the request
	Answered         // the head of an answer has come
)

// Visit is what the last request of a watched client met on its way. It keeps
// nothing of a body.
type Visit struct {
	mu   sync.Mutex
	last *trip
}

// trip is one request. Attempts at a connection may tell of theirs when the
// request is long over.
type trip struct {
	phase        Phase
	lookup, dial error // of the name, and of the last address that was tried
	handshake    error // of TLS
	began, ended time.Time
	status       int
	contentType  string
	date         time.Time
	wantsToken   bool // the answer says that there is no session
}

// Watch returns a client like c, and what becomes of its requests. They must
// be made one after the other.
func (c *Client) Watch() (*Client, *Visit) {
	v := &Visit{last: new(trip)}
	watched, through := *c, *c.http
	through.Transport = watcher{through.Transport, v}
	watched.http = &through
	return &watched, v
}

type watcher struct {
	http.RoundTripper
	visit *Visit
}

// RoundTrip implements http.RoundTripper.
func (w watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	v := w.visit
	t := &trip{began: time.Now()}
	reach := func(p Phase, also func()) {
		v.mu.Lock()
		defer v.mu.Unlock()
		t.phase = max(t.phase, p) // several addresses may be tried at a time
		also()
	}
	reach(Begun, func() { v.last = t })
	nothing := func() {}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { reach(Resolving, nothing) },
		DNSDone:           func(info httptrace.DNSDoneInfo) { reach(Resolving, func() { t.lookup = info.Err }) },
		ConnectStart:      func(string, string) { reach(Connecting, nothing) },
		ConnectDone:       func(_, _ string, err error) { reach(Connecting, func() { t.dial = err }) },
		TLSHandshakeStart: func() { reach(Securing, nothing) },
		TLSHandshakeDone:  func(_ tls.ConnectionState, err error) { reach(Securing, func() { t.handshake = err }) },
		GotConn:           func(httptrace.GotConnInfo) { reach(Connected, nothing) },
	})
	res, err := w.RoundTripper.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	reach(Answered, func() {
		t.ended, t.status, t.contentType = time.Now(), res.StatusCode, res.Header.Get("Content-Type")
		t.date, _ = http.ParseTime(res.Header.Get("Date"))
	})
	if res.StatusCode == http.StatusUnauthorized {
		res.Body = &listener{ReadCloser: res.Body, heard: func(answer []byte) {
			expired := saysExpired(answer)
			reach(Answered, func() { t.wantsToken = expired })
		}}
	}
	return res, nil
}

// listener hears a body as it is read, and forgets it at the end.
type listener struct {
	io.ReadCloser
	heard  func([]byte)
	answer []byte
}

func (l *listener) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if len(l.answer) <= maxBody {
		l.answer = append(l.answer, p[:n]...)
	}
	return n, err
}

func (l *listener) Close() error {
	l.heard(l.answer)
	l.answer = nil
	return l.ReadCloser.Close()
}

// look is what is known by now.
func (v *Visit) look() trip {
	v.mu.Lock()
	defer v.mu.Unlock()
	return *v.last
}

// Phase is how far the request came.
func (v *Visit) Phase() Phase { return v.look().phase }

// Answer is the status and the Content-Type of the answer, 0 without one. The
// endpoint chose the text, and may have put into it what it was sent.
func (v *Visit) Answer() (status int, contentType string) {
	t := v.look()
	return t.status, t.contentType
}

// Trouble is why the name, or the last address of it that was tried, did not
// lead to a connection; nil where that is not known.
func (v *Visit) Trouble() error {
	t := v.look()
	if t.lookup != nil {
		return t.lookup
	}
	return t.dial
}

// Handshake is why TLS was not agreed upon before there was a connection; nil
// where it was, or where that is not known.
func (v *Visit) Handshake() error { return v.look().handshake }

// Offset is how far the endpoint's clock is ahead of this machine's, by the
// Date of its answer; negative when it is behind. A second or two, and half of
// the time that the answer took, are within the error. It is false when the
// answer had no Date.
func (v *Visit) Offset() (time.Duration, bool) {
	t := v.look()
	if t.date.IsZero() {
		return 0, false
	}
	return t.date.Sub(t.began.Add(t.ended.Sub(t.began) / 2)).Round(time.Second), true
}

// Cause is why a request did not succeed, finer than its Kind.
type Cause int

// The causes.
const (
	Unknown Cause = iota
	// NotResolved: the endpoint's name has no address, or no name server said.
	NotResolved
	// NotConnected: nobody took the connection.
	NotConnected
	// NoTLS: what answers speaks another protocol where TLS was expected.
	NoTLS
	// TLSFailed: both sides speak TLS, and did not agree.
	TLSFailed
	// BadCertificate: the certificate was not accepted; see Certificates.
	BadCertificate
	// Late: no answer in time.
	Late
	// Lost: the connection ended before the answer did.
	Lost
	// NotHTTP: the answer is none of HTTP's.
	NotHTTP
	// Denied: the API knows the caller and does not let it in.
	Denied
	// WrongSecret: the API refused the username and password, or the token.
	WrongSecret
	// NoLogin: an API answers, but what was asked for is not its login: it said
	// that the session is invalid or expired, where there was none.
	NoLogin
	// AnotherServer: the answer is not one of an Automation API.
	AnotherServer
	// Failure: the API, or what stands in front of it, answered with an error.
	Failure
	// GivenUp: the caller ended it.
	GivenUp
)

// CauseOf says why a request failed that v watched.
func CauseOf(err error, v *Visit) Cause {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return Unknown
	}
	t := v.look()
	switch e.Kind {
	case Refused:
		switch {
		case e.Status == http.StatusForbidden:
			return Denied
		case t.wantsToken && e.Reason != reasonExpired:
			return NoLogin
		}
		return WrongSecret
	case TimedOut:
		return t.late()
	case Unreachable:
		return t.unreachable(err)
	case Failed:
		return t.failed(e)
	}
	return Unknown
}

// late: nothing is known but how far it came.
func (t trip) late() Cause {
	switch t.phase {
	case Resolving:
		return NotResolved
	case Begun, Connecting:
		return NotConnected
	}
	return Late
}

func (t trip) unreachable(err error) Cause {
	if len(Certificates(err)) > 0 {
		return BadCertificate
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return NoTLS
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case t.phase == Resolving, t.phase < Securing && (t.lookup != nil || isDNS && dns.IsNotFound):
		return NotResolved
	case t.phase < Securing:
		return NotConnected
	case t.phase == Securing:
		if timeout, ok := errors.AsType[net.Error](t.handshake); ok && timeout.Timeout() {
			return Late
		}
		return TLSFailed
	case IsAlert(err):
		return TLSFailed
	}
	return Lost
}

func (t trip) failed(e *Error) Cause {
	switch {
	case errors.Is(e, context.Canceled):
		return GivenUp
	case e.Status == 0 && t.phase >= Connected:
		return NotHTTP
	}
	switch e.Status {
	case 0:
		return Unknown // nothing was sent: the reason says why
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return Failure
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return AnotherServer
	}
	if e.Status/100 == 4 && isJSON(t.contentType) {
		return Failure
	}
	return AnotherServer
}

// IsAlert tells whether the other side ended TLS with an alert, as it does for
// want of a client's certificate.
func IsAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
