package caddymodule

import (
	"io"
	"net/http"
	"sync"

	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/secret"
	"github.com/ctmgate/ctmgate/internal/session"
)

// lastHop is the last hop of a call: only between here and the wire is there
// a credential in it.
type lastHop struct{ wire http.RoundTripper }

// RoundTrip takes a token, sends the call, and sends it once more if the
// token turns out to be rejected.
func (t lastHop) RoundTrip(req *http.Request) (*http.Response, error) {
	c := req.Context().Value(callKey{}).(*call)
	if c.body != nil {
		defer c.body.Settle() // the answer is there: nothing is sent again
	}
	res, use, err := t.try(req, c)
	if err != nil {
		return nil, err
	}
	unauthorized, expired := rejection(res)
	if !unauthorized && !expired {
		c.source.Accepted(use)
		return c.hand(res, use), nil
	}
	if !c.source.Reject(use, c.path.Template(), expired) {
		return c.hand(res, use), nil
	}
	discard(res)
	c.source.Release(use)

	res, use, err = t.try(req, c)
	if err != nil {
		return nil, err
	}
	unauthorized, expired = rejection(res)
	if !unauthorized && !expired {
		c.source.Accepted(use)
	}
	c.source.Replayed(c.path.Template(), unauthorized)
	return c.hand(res, use), nil
}

// rejection tells whether an answer is a 401, and whether it says that the
// token is invalid or expired (controlm-api.md, section 2).
func rejection(res *http.Response) (unauthorized, expired bool) {
	switch res.StatusCode {
	case http.StatusUnauthorized:
		return true, relay.PeekUnauthorized(res)
	case http.StatusInternalServerError:
		return false, relay.PeekExpired(res)
	}
	return false, false
}

// try sends the call with a token of its own.
func (t lastHop) try(req *http.Request, c *call) (*http.Response, session.Use, error) {
	out := *req
	if c.body != nil {
		body, err := c.body.Attempt()
		if err != nil {
			return nil, session.Use{}, errReplayImpossible
		}
		out.Body = body
		// For a connection that upstream closed before anything was written;
		// net/http sends a POST again in no other case.
		out.GetBody = c.body.Attempt
	}
	use, err := c.source.Take(req.Context())
	if err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, session.Use{}, err
	}
	out.Header = withCredential(req.Header, c.handler.account, use.Token)
	res, err := t.wire.RoundTrip(&out)
	if err != nil {
		c.source.Release(use)
		return nil, session.Use{}, err
	}
	return res, use, nil
}

// withCredential copies the header and sets the one credential in the copy.
func withCredential(h http.Header, a *account, token secret.Value) http.Header {
	out := make(http.Header, len(h)+1)
	for name, values := range h {
		out[name] = values
	}
	if a.token != nil {
		out["X-Api-Key"] = []string{token.Reveal()}
	} else {
		out["Authorization"] = []string{"Bearer " + token.Reveal()}
	}
	return out
}

// maxDiscard is how much of an answer that is not passed on is read, so that
// its connection can be used again.
const maxDiscard = 64 << 10

func discard(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, maxDiscard)
	_ = res.Body.Close()
}

// hand passes an answer on; the token is in use until its body is closed.
func (c *call) hand(res *http.Response, use session.Use) *http.Response {
	release := sync.OnceFunc(func() { c.source.Release(use) })
	if conn, ok := res.Body.(io.ReadWriteCloser); ok {
		res.Body = &heldConn{conn, release}
	} else {
		res.Body = &heldBody{res.Body, release}
	}
	return res
}

// heldBody holds a token until it is closed.
type heldBody struct {
	io.ReadCloser
	release func()
}

func (b *heldBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// heldConn is a heldBody of a connection that has switched protocols.
type heldConn struct {
	io.ReadWriteCloser
	release func()
}

func (c *heldConn) Close() error {
	defer c.release()
	return c.ReadWriteCloser.Close()
}
