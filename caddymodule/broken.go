package caddymodule

import (
	"context"
	"errors"
	"io"

	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/endpoint"
)

// passed is the body of an answer on its way to the caller. It lies in its
// call, so that it costs no allocation.
type passed struct {
	io.ReadCloser
	call *call
}

// Read implements io.Reader, and notes how the body ends.
func (p *passed) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	if err != nil {
		p.call.ended(err)
	}
	return n, err
}

// ended learns from how the body of an answer ended: an endpoint has answered
// when all of its answer is there. Of one that broke off, the caller has the
// status and maybe the beginning, and nothing but its end can tell it.
func (c *call) ended(err error) {
	h, v := c.handler, c.visit
	switch {
	case err == io.EOF: //nolint:errorlint // another error that wraps it is no end
		h.env.fleet.Report(c.endpoint, c.outcome)
		return
	case v.gone() || errors.Is(err, context.Canceled):
		return // the caller left, or its WebSocket was closed
	}
	h.env.fleet.Report(c.endpoint, endpoint.Troubled)
	a := upstreamBroke
	if isTimeout(err) {
		a = upstreamTimeout
	}
	v.code, v.broken = a.code, a.status
	a.status = v.w.Status
	h.log(zapcore.ErrorLevel, "an answer broke off", v, a, quotable(err))
}

// showBroken sends what there is of an answer that broke off. ReverseProxy
// aborts it, and net/http would drop a small one with all that stands in its
// buffer: then the caller sees a connection that ended before any answer, and
// many libraries send such a call again by themselves. Over HTTP/1.0 what has
// come could be taken for all.
func (v *visit) showBroken() {
	if v.broken != 0 && v.r.ProtoAtLeast(1, 1) {
		_ = v.w.FlushError() // the caller may have left as well
	}
}
