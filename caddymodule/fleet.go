package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/endpoint"
	"github.com/ctmgate/ctmgate/internal/session"
)

// fleets holds what is known of the endpoints of all configs' environments: a
// reload is no reason to forget which of them answers.
var fleets = caddy.NewUsagePool()

// fleet is the endpoints of one environment.
type fleet struct {
	*endpoint.Set
	key       string
	bases     []*url.URL
	transport wire // for probes
	logger    atomic.Pointer[zap.Logger]
}

// identity is what two configs must have in common for an environment to be
// the same one: where calls go, how, and whom they trust there.
func (env *environment) identity() (string, error) {
	c := env.config
	trust, err := c.trust()
	if err != nil {
		return "", err
	}
	identity, err := json.Marshal([]any{
		env.name, c.Endpoint, c.TLSCAFile, c.TLSServerName, c.TLSClientCertificate, c.TLSInsecureSkipVerify, c.Transport, trust,
	})
	if err != nil {
		return "", fmt.Errorf("comparing environments: %w", err)
	}
	return string(identity), nil
}

// acquireFleet returns the fleet of the environment, made now or by an
// earlier config.
func acquireFleet(ctx caddy.Context, env *environment) (*fleet, error) {
	held, _, err := fleets.LoadOrNew(env.key, func() (caddy.Destructor, error) {
		transport, err := env.config.newTransport(ctx)
		if err != nil {
			return nil, err
		}
		transport.Transport.DisableKeepAlives = true // a probe that finds an old connection alive proves little
		f := &fleet{key: env.key, bases: env.bases, transport: wire{transport}}
		f.logger.Store(env.logger)
		f.Set = endpoint.New(endpoint.Config{Count: len(f.bases), Probe: f.probe, Observe: f.observe})
		return f, nil
	})
	if err != nil {
		return nil, err
	}
	return held.(*fleet), nil
}

func (f *fleet) release() { _, _ = fleets.Delete(f.key) }

// Destruct ends the probes.
func (f *fleet) Destruct() error {
	f.Close()
	return f.transport.Cleanup()
}

// probe asks for the base path, without any credential: what answers, if only
// with a redirect or a refusal, is there.
func (f *fleet) probe(ctx context.Context, i int) error {
	u := *f.bases[i]
	u.Path = basePath(&u) + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return fmt.Errorf("probing: %w", err)
	}
	res, err := f.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if outcomeOf(res) != endpoint.Answered {
		return fmt.Errorf("probing: answered %d", res.StatusCode)
	}
	return nil
}

func (f *fleet) observe(e endpoint.Event) {
	fields := []zap.Field{zap.Stringer("endpoint", f.bases[e.Index]), zap.Stringer("in_use", f.bases[e.Current])}
	if e.Up {
		f.logger.Load().Info("an endpoint answers again", fields...)
		return
	}
	f.logger.Load().Warn("an endpoint does not answer; it is left aside until it has answered for a while", fields...)
}

// outcomeOf tells what an answer says of the endpoint: a server in front of
// the API answers 502, 503 and 504 where the API itself does not.
func outcomeOf(res *http.Response) endpoint.Outcome {
	switch res.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return endpoint.Troubled
	}
	return endpoint.Answered
}

// learnLogin reports what a login met at endpoint i: once, however many calls
// waited for it, and also where none did.
func (f *fleet) learnLogin(i int, e session.Event) {
	switch e.Kind {
	case session.LoggedIn, session.LoginRefused:
		f.Report(i, endpoint.Answered)
	case session.LoginFailed:
		if automationapi.KindOf(e.Err) == automationapi.Unreachable {
			f.Report(i, endpoint.Unreachable)
		} else {
			f.Report(i, endpoint.Troubled)
		}
	default:
	}
}

// learn reports what a call met at endpoint i, and tells whether
// the call may be made at another one: only if it is known that this one has
// not received it, or if it reads and nothing more.
func (f *fleet) learn(ctx context.Context, i int, err error, reads bool) (elsewhere bool) {
	var (
		failed *session.FailedError
		paused *session.PausedError
	)
	switch {
	case ctx.Err() != nil:
		return false // the caller left: that says nothing of the endpoint
	case errors.As(err, &failed): // the login, not the call: see learnLogin
		return true
	case errors.As(err, &paused):
		return !errors.Is(paused.Err, session.ErrRejections)
	case !isWireError(err):
		return false
	case automationapi.IsDial(err):
		f.Report(i, endpoint.Unreachable)
		return true
	case isTimeout(err):
		f.Report(i, endpoint.Troubled)
		return false
	}
	f.Report(i, endpoint.Troubled)
	return reads
}

// ensure makes sure of a live session of the account, at the endpoint in use
// or, where that cannot be had, at another.
func (h *Handler) ensure(ctx context.Context, a *account) error {
	env := h.env
	var tried endpoint.Tried
	i, _ := env.fleet.Next(&tried)
	var soonest error
	for {
		source, use, err := h.take(ctx, a, i, session.Use{})
		if err == nil {
			source.Release(use)
			return nil
		}
		elsewhere := env.fleet.learn(ctx, i, err, false)
		soonest = sooner(soonest, err)
		if !elsewhere {
			return err
		}
		next, ok := env.fleet.Next(&tried)
		if !ok {
			return soonest
		}
		i = next
	}
}

// sooner chooses, of what was met at two endpoints, what is answered: an
// endpoint that is not waited for may be back at any time, and of those that
// are the one that is asked again first.
func sooner(one, other error) error {
	a, waits := errors.AsType[*session.PausedError](one)
	b, alsoWaits := errors.AsType[*session.PausedError](other)
	switch {
	case one == nil || !alsoWaits:
		return other
	case !waits || a.RetryAfter < b.RetryAfter:
		return one
	}
	return other
}

// take takes a token of the account at endpoint i, another than that of not. A
// session that a reload has ended is not opened again for a call that comes
// late to the old config: it goes with the new one's, if that still leads to
// the same place.
func (h *Handler) take(ctx context.Context, a *account, i int, not session.Use) (session.Source, session.Use, error) {
	use, err := a.sources[i].Take(ctx, not)
	if !errors.Is(err, session.ErrClosed) {
		return a.sources[i], use, err
	}
	env := h.app.newest().live[h.env.name]
	if env == nil || env.key != h.env.key || env.accounts[a.name] == nil || env.accounts[a.name].entry == nil {
		return a.sources[i], use, err
	}
	source := env.accounts[a.name].sources[i]
	use, err = source.Take(ctx, session.Use{})
	return source, use, err
}
