package caddymodule

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/endpoint"
	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/secret"
)

// lastHop is the last hop of a call: only between here and the wire is there
// a credential in it.
type lastHop struct{ wire http.RoundTripper }

// RoundTrip sends the call, and sends it once more if its token turns out to
// be rejected; twice, if that token had been replaced by then, or the second
// one was of another endpoint: what it is sent with next may be as old as what
// ended it, such as a restart of upstream.
func (t lastHop) RoundTrip(req *http.Request) (*http.Response, error) {
	c := req.Context().Value(callKey{}).(*call)
	if c.body != nil {
		defer c.body.Settle() // the answer is there: nothing is sent again
	}
	res, err := t.send(req, c)
	for replays, most := 0, 1; err == nil; {
		unauthorized, expired := rejection(res)
		rejected := unauthorized || expired
		if !rejected {
			c.taken()
		}
		if !c.source.IsCurrent(c.use) && replays == 0 || replays == 1 && c.source != c.rejectedBy {
			most = 2
		}
		if !rejected || replays >= most || !c.source.Reject(c.use, c.operation(), expired) {
			if replays > 0 {
				c.visit.rejected = rejected
				c.source.Replayed(c.operation(), unauthorized)
			}
			return res, nil
		}
		c.rejected, c.rejectedBy = c.use, c.source
		c.handler.env.fleet.Report(c.endpoint, c.outcome)
		discard(res)
		c.end()
		res, err = t.send(req, c)
		if replays++; err == nil || isWireError(err) {
			c.visit.replays++
		}
		if !expired && errors.Is(err, errReplayImpossible) {
			c.rejectedBy.Unreplayed(c.rejected, c.operation())
		}
	}
	return nil, err
}

// taken notes an answer that is no rejection. A balancer's page says nothing
// of the token.
func (c *call) taken() {
	if c.outcome != endpoint.Answered {
		return
	}
	c.source.Accepted(c.use)
	if c.body != nil {
		c.source.Passed(c.operation())
	}
}

// operation is what rights are had or lacked for.
func (c *call) operation() string { return c.path.Judged() + " " + c.path.Template() }

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

// send sends the call to the endpoint in use, and to the others in turn where
// it is known not to have been received.
func (t lastHop) send(req *http.Request, c *call) (*http.Response, error) {
	fleet := c.handler.env.fleet
	var (
		tried   endpoint.Tried
		soonest error
	)
	i, _ := fleet.Next(&tried)
	for {
		res, err := t.try(req, c, i)
		if err == nil {
			c.endpoint, c.outcome = i, outcomeOf(res)
			return res, nil
		}
		if c.body != nil && c.body.Err() != nil {
			return nil, err // the caller's doing: that says nothing of the endpoint
		}
		elsewhere := fleet.learn(req.Context(), i, err, c.onlyReads())
		soonest = sooner(soonest, err)
		if !elsewhere {
			return nil, err
		}
		c.end()
		next, ok := fleet.Next(&tried)
		if !ok {
			return nil, soonest
		}
		i = next
	}
}

// onlyReads tells whether the call may reach upstream twice and do no harm.
func (c *call) onlyReads() bool {
	return c.path.Judged() == http.MethodGet && c.path.Effects()&^(apipath.Reads|apipath.Output) == 0
}

// try sends the call to one endpoint, with a token of that endpoint that is in
// use until the end of the call.
func (t lastHop) try(req *http.Request, c *call, i int) (*http.Response, error) {
	out := *req
	if base := c.handler.env.bases[i]; base.Host != req.URL.Host || base.Scheme != req.URL.Scheme {
		target := *req.URL
		target.Scheme, target.Host = base.Scheme, base.Host
		out.URL = &target
	}
	if c.body != nil {
		body, err := c.body.Attempt()
		if errors.Is(err, relay.ErrNoMemory) {
			return nil, err
		}
		if err != nil {
			// The next call is to find another token than the rejected one.
			if source, use, err := c.handler.take(req.Context(), c.account, i, c.rejected); err == nil {
				source.Release(use)
			}
			return nil, errReplayImpossible
		}
		out.Body = body
		// For a connection that upstream closed before anything was written;
		// net/http sends a POST again in no other case.
		out.GetBody = c.body.Attempt
	}
	source, use, err := c.handler.take(req.Context(), c.account, i, c.rejected)
	if err != nil {
		if out.Body != nil {
			_ = out.Body.Close()
		}
		return nil, err
	}
	c.source, c.use, c.using = source, use, true
	if c.account.calls != nil {
		c.account.calls.Add(1)
	}
	out.Header = withCredential(req.Header, c.account, use.Token)
	res, err := t.wire.RoundTrip(&out)
	if errors.Is(err, errUnfit) {
		return nil, err
	}
	if err != nil {
		return nil, &wireError{err}
	}
	c.answer = res.Body
	return res, nil
}

// wireError is the error of a call that had its token: of the call itself,
// not of a login.
type wireError struct{ error }

func (e *wireError) Unwrap() error { return e.error }

func isWireError(err error) bool {
	_, ok := errors.AsType[*wireError](err)
	return ok
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
