package caddymodule

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/session"
)

// call is one request on its way upstream.
type call struct {
	handler *Handler
	source  session.Source
	path    apipath.Path
	body    *relay.Body // nil when the request has none
	answer  io.Closer   // body of upstream's answer
	use     session.Use
	using   bool // use is to be released
}

type callKey struct{}

// forward sends the call upstream and streams the answer back.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, path apipath.Path) {
	c := &call{handler: h, source: h.account.source, path: path}
	defer c.end()
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		c.body = relay.NewBody(r.Body, h.replay)
		defer func() { _ = c.body.Close() }()
	}
	h.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
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

// newProxy builds the forwarder of an environment.
func newProxy(env *environment, logger *zap.Logger) *httputil.ReverseProxy {
	// Body copies that a caller broke off end here: news only when debugging.
	stdLogger, _ := zap.NewStdLogAt(logger, zapcore.DebugLevel)
	return &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { rewrite(env, r) },
		Transport:      lastHop{env.transport},
		FlushInterval:  flushInterval,
		BufferPool:     copyBuffers{},
		ErrorLog:       stdLogger,
		ModifyResponse: modifyResponse,
		ErrorHandler:   failed,
	}
}

// rewrite turns the caller's request into the one that goes upstream, but for
// the credential.
func rewrite(env *environment, r *httputil.ProxyRequest) {
	out := r.Out
	relay.Strip(out.Header)
	if !isWebSocket(r.In) {
		// No other protocol is switched to: its bytes would pass unjudged.
		delete(out.Header, "Upgrade")
		delete(out.Header, "Connection")
	}
	out.Trailer = nil
	out.Host = ""
	out.URL.Scheme = env.base.Scheme
	out.URL.Host = env.base.Host
	// ReverseProxy has dropped the pairs that Go cannot parse.
	out.URL.RawQuery = relay.StripQuery(r.In.URL.RawQuery)
	out.URL.ForceQuery = r.In.URL.ForceQuery
}

// errSwitched: upstream speaks another protocol than the one it was asked for.
var errSwitched = errors.New("forwarding a call: upstream switched to a protocol that was not asked for")

func modifyResponse(res *http.Response) error {
	relay.StripResponse(res.Header)
	if res.StatusCode != http.StatusSwitchingProtocols {
		relay.StripResponseTrailers(res)
		// ReverseProxy flushes at once where the length is unknown, and asks
		// nothing else of this field: the header says what is sent.
		res.ContentLength = max(res.ContentLength, 0)
		return nil
	}
	// ReverseProxy lets a switch without any Upgrade pass when none was asked
	// for.
	if !strings.EqualFold(res.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(res.Request.Header.Get("Upgrade"), "websocket") {
		return errSwitched
	}
	return nil
}

// failed answers a call that got no answer from upstream.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	c := r.Context().Value(callKey{}).(*call)
	if errors.Is(context.Cause(r.Context()), context.Canceled) {
		w.WriteHeader(clientGone)
		return
	}
	a, retryAfter := answerFor(err)
	if hint := automationapi.Diagnose(err); hint != "" && a == upstreamUnreachable {
		err = &hinted{hint, err}
	}
	c.handler.log(zapcore.ErrorLevel, "could not forward a call", r, a, err)
	a.write(w, r, retryAfter)
}

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
