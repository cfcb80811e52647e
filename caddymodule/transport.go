package caddymodule

import (
	"io"
	"net/http"
	"time"

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
		c.account.source.Accepted(use)
		return res, nil
	}
	if !c.account.source.Reject(use, c.path.Template(), expired) {
		return res, nil
	}
	discard(res)
	c.end()

	res, use, err = t.try(req, c)
	if err != nil {
		return nil, err
	}
	unauthorized, expired = rejection(res)
	if !unauthorized && !expired {
		c.account.source.Accepted(use)
	}
	c.account.source.Replayed(c.path.Template(), unauthorized)
	return res, nil
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

// try sends the call with a token of its own, which is in use until the end
// of the call.
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
	use, err := c.account.source.Take(req.Context())
	if err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, session.Use{}, err
	}
	c.use, c.using = use, true
	out.Header = withCredential(req.Header, c.account, use.Token)
	res, err := t.wire.RoundTrip(&out)
	if err != nil {
		return nil, session.Use{}, err
	}
	c.answer = res.Body
	return res, use, nil
}

// withCredential copies the header and sets the one credential in the copy;
// nobody has none.
func withCredential(h http.Header, a *account, token secret.Value) http.Header {
	out := make(http.Header, len(h)+1)
	for name, values := range h {
		out[name] = values
	}
	switch {
	case a.token != nil:
		out["X-Api-Key"] = []string{token.Reveal()}
	case a.entry != nil:
		out["Authorization"] = []string{"Bearer " + token.Reveal()}
	}
	return out
}

// maxDiscard is how much of an answer that is not passed on is read, so that
// its connection can be used again, and how long that may take. One that is
// longer or dawdles costs the connection.
const (
	maxDiscard  = 64 << 10
	discardTime = time.Second
)

func discard(res *http.Response) {
	if 0 <= res.ContentLength && res.ContentLength <= maxDiscard {
		cut := time.AfterFunc(discardTime, func() { _ = res.Body.Close() })
		_, _ = io.Copy(io.Discard, res.Body)
		cut.Stop()
	}
	_ = res.Body.Close()
}
