package caddymodule

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/endpoint"
	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/session"
)

// call is one request on its way upstream.
type call struct {
	handler *Handler
	visit   *visit
	in      *http.Request // as it came to the handler
	account *account
	path    apipath.Path
	body    *relay.Body // nil when the request has none
	answer  io.Closer   // body of upstream's answer
	passed  passed
	source  session.Source // of the endpoint that is tried
	use     session.Use
	using   bool // use is to be released
	// What upstream did not take of this call, and whose it was.
	rejected   session.Use
	rejectedBy session.Source

	endpoint int              // that has answered
	outcome  endpoint.Outcome // what its status says of it
}

type callKey struct{}

// someServer stands where net/http puts its server, and HTTP/3 nothing:
// without one, ReverseProxy ends an answer that broke off as if it were whole.
var someServer = new(http.Server)

// forward sends the call upstream and streams the answer back.
func (h *Handler) forward(v *visit) {
	r := v.r
	c := &call{handler: h, visit: v, in: r, account: v.account, path: v.path}
	defer c.end()
	ctx := context.WithValue(r.Context(), callKey{}, c)
	if ctx.Value(http.ServerContextKey) == nil {
		ctx = context.WithValue(ctx, http.ServerContextKey, someServer)
	}
	if isWebSocket(r) && v.who.client != nil {
		var done func()
		ctx, done = openSockets.open(ctx, v, h.app)
		defer done()
	}
	out := r.WithContext(ctx)
	if r.Header["Upgrade"] != nil && !isWebSocket(r) {
		// No other protocol is switched to: its bytes would pass unjudged.
		out.Header = maps.Clone(r.Header)
		delete(out.Header, "Upgrade")
	}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		// Nobody but net/http may close the body. Caddy's wrapper hides from it
		// that somebody did, and then net/http takes what the client has not
		// yet sent of the body for the next request.
		out.Body = io.NopCloser(r.Body)
		c.body = replayMemory.NewBody(out.Body, h.replay)
		defer func() { _ = c.body.Close() }()
	}
	defer v.showBroken()
	h.proxy.ServeHTTP(v.w, out)
	c.end() // before the lingering: the token has done its work
	if c.body != nil && r.ProtoMajor == 1 && !c.body.Ended() {
		linger(v.w, c.body.Drain)
	}
}

// lingering is how long a client may go on sending a body after its answer:
// nginx's lingering_timeout.
const lingering = 5 * time.Second

// linger sends the answer and reads what is left of the body. Closed under a
// client that is still sending, a connection is reset, and many clients then
// never look at the answer.
func linger(w http.ResponseWriter, drain func()) {
	rc := http.NewResponseController(w)
	if rc.SetReadDeadline(time.Now().Add(lingering)) == nil && rc.Flush() == nil {
		drain()
	}
}

// unreadMost is how much of a body net/http itself reads after an answer.
const unreadMost = 256 << 10

// linger does the same for a call that was refused before its body was read.
func (v *visit) linger() {
	r := v.r
	if r.ProtoMajor != 1 || r.Body == nil || r.Body == http.NoBody || 0 <= r.ContentLength && r.ContentLength <= unreadMost ||
		r.Header.Get("Expect") != "" || isWebSocket(r) {
		return
	}
	linger(v.w, func() { _, _ = io.Copy(io.Discard, r.Body) })
}

// end gives the token back. ReverseProxy leaves the body of some answers
// open, as of a switch of protocols that fails.
func (c *call) end() {
	if c.answer != nil {
		_ = c.answer.Close()
		c.answer = nil
	}
	if c.using {
		c.using = false
		c.source.Release(c.use)
	}
}

// flushInterval is how long the beginning of an answer may wait for more of
// it. Flushing at once would cost each call a write and a goroutine more, a
// fifth of its CPU.
const flushInterval = 10 * time.Millisecond

// newProxy builds the forwarder of a site.
func newProxy(h *Handler) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       h.rewrite,
		Transport:     lastHop{h.env.transport},
		FlushInterval: flushInterval,
		BufferPool:    copyBuffers{},
		// Of copies that broke off, with errors that may quote what was sent.
		ErrorLog:       log.New(io.Discard, "", 0),
		ModifyResponse: h.modifyResponse,
		ErrorHandler:   failed,
	}
}

var identity = []string{"identity"}

// rewrite turns the caller's request into the one that goes upstream, but for
// the credential.
func (h *Handler) rewrite(r *httputil.ProxyRequest) {
	out, env := r.Out, h.env
	relay.Strip(out.Header)
	// URLs and tokens are looked for in plain JSON, and in the whole of it.
	// With `compression on`, the transport itself asks for gzip and unpacks it.
	delete(out.Header, "Accept-Encoding")
	if env.transport.Transport.DisableCompression {
		out.Header["Accept-Encoding"] = identity
	}
	if !h.keepURLs {
		delete(out.Header, "Range")
		delete(out.Header, "If-Range")
	}
	c := r.In.Context().Value(callKey{}).(*call)
	out.Header[requestID] = []string{c.visit.id}
	c.annotate(out.Header)
	out.Trailer = nil
	out.Host = ""
	base := env.bases[env.fleet.Current()]
	out.URL.Scheme = base.Scheme
	out.URL.Host = base.Host
	out.URL.Opaque = "" // beats the path where there is one
	// ReverseProxy has dropped the pairs that Go cannot parse.
	out.URL.RawQuery = relay.StripParams(r.In.URL.RawQuery, isOwnValue)
	out.URL.ForceQuery = r.In.URL.ForceQuery
}

// isOwnValue tells of a parameter that it holds a key of a client's: such a way
// to show one is none, and Control-M is not to see it either.
func isOwnValue(_, value string) bool { return access.IsOwn(value) }

// errSwitched: upstream speaks another protocol than the one it was asked for.
var errSwitched = errors.New("forwarding a call: upstream switched to a protocol that was not asked for")

// errStatus: net/http reads such a status, and panics when it is to be sent.
var errStatus = errors.New("forwarding a call: the answer has a status below 100")

func (h *Handler) modifyResponse(res *http.Response) error {
	if res.StatusCode < 100 {
		return errStatus
	}
	relay.StripResponse(res.Header)
	delete(res.Header, requestID) // the call has one
	c := res.Request.Context().Value(callKey{}).(*call)
	if res.StatusCode != http.StatusSwitchingProtocols {
		relay.StripResponseTrailers(res)
		h.rewriteURLs(c.in, res, c.use.Token)
		// ReverseProxy flushes at once where the length is unknown, and asks
		// nothing else of this field: the header says what is sent.
		res.ContentLength = max(res.ContentLength, 0)
		c.passed = passed{res.Body, c}
		res.Body = &c.passed
		return nil
	}
	// ReverseProxy lets a switch without any Upgrade pass when none was asked
	// for.
	if !saysWebSocket(res.Header) || !saysWebSocket(res.Request.Header) {
		return errSwitched
	}
	h.env.fleet.Report(c.endpoint, c.outcome)
	res.Header[requestID] = []string{c.visit.id} // ReverseProxy writes these headers alone
	return nil
}

// failed answers a call that got no answer from upstream.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	c := r.Context().Value(callKey{}).(*call)
	h, v := c.handler, c.visit
	gone := v.gone()
	if err := c.bodyErr(gone); err != nil && (!gone || stillListens(err)) {
		a := bodyAnswer(err)
		if a.code == bodyTooLarge.code {
			v.allowed = false // as where the length is told
		}
		h.refuse(v, a, errors.New("the call's own body broke off"))
		return
	}
	if gone {
		w.WriteHeader(clientGone)
		return
	}
	if errors.Is(err, errUnfit) {
		h.refuse(v, badRequest, err)
		return
	}
	a, retryAfter := answerFor(err)
	if hint := automationapi.Diagnose(err); hint != "" && a.code == upstreamUnreachable.code && automationapi.KindOf(err) == 0 {
		err = &hinted{hint, err}
	}
	h.log(zapcore.ErrorLevel, "could not forward a call", v, a, err)
	v.answer(a, retryAfter)
}

// bodyErr is how the call's own body broke off, nil if it did not. When the
// caller is said to have left, the read that met it may not have returned yet.
func (c *call) bodyErr(gone bool) error {
	if c.body == nil {
		return nil
	}
	if gone {
		c.body.Drain() // to the error that ends it
	}
	return c.body.Err()
}

// stillListens tells whether a caller may be there whose body broke off with
// err: net/http takes each error of the connection for its end, also that the
// caller sends nothing more, or nothing for a while.
func stillListens(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) || isTimeout(err) }

// hinted puts what to do in front of an error.
type hinted struct {
	hint string
	error
}

func (h *hinted) Error() string { return h.hint + ": " + h.error.Error() }

// copyBuffers are the buffers that bodies are copied through.
type copyBuffers struct{}

const copyBufferSize = 32 << 10

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

func (copyBuffers) Get() []byte  { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }
func (copyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }
