package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
	"github.com/ctmgate/ctmgate/internal/session"
)

// entries holds the sessions of all configs of this process: an account that
// a reload leaves as it was keeps its session.
var entries = caddy.NewUsagePool()

// refusals outlives every config: a reload is no reason to try a refused
// password again.
var refusals = session.NewRefusals()

// gatewayTokens are those that clients get who log in here; a reload does not
// end them.
var gatewayTokens = access.NewTokens(nil)

// entry is one account's sessions, with all they need of their own, so that
// it borrows nothing from a config that ends.
type entry struct {
	key       string
	logger    atomic.Pointer[zap.Logger] // of the config that runs
	app       atomic.Pointer[App]        // that runs, to tell its events
	fleet     *fleet
	sessions  []*session.Session // by endpoint
	password  *secret.Source
	transport wire
	lifetime  time.Duration
	unwatch   func() // ends the watch for another endpoint
	leaving   atomic.Bool
}

// acquireEntry returns the entry of the account, made now or by an earlier
// config. Its key holds the source of the password, never the password.
func acquireEntry(ctx caddy.Context, env *environment, name, username string, password secret.Spec) (*entry, error) {
	c := env.config
	settings, err := json.Marshal([]any{
		env.key, name, c.loginTimeout(), c.lifetime(), c.renewBefore(), c.idleTimeout(), username, password.Identity(),
	})
	if err != nil {
		return nil, fmt.Errorf("comparing accounts: %w", err)
	}
	key := string(settings)
	held, _, err := entries.LoadOrNew(key, func() (caddy.Destructor, error) {
		return newEntry(ctx, key, env, name, username, password)
	})
	if err != nil {
		return nil, err
	}
	return held.(*entry), nil
}

// trust stands for the contents of the TLS files: a login must trust whom the
// calls of the same config trust, and show what they show.
func (e *Environment) trust() ([]string, error) {
	var prints []string
	add := func(word string, paths ...string) error {
		for _, path := range paths {
			content, err := os.ReadFile(path) //nolint:gosec // the operator names the path
			if err != nil {
				return fmt.Errorf("%s: %w", word, err)
			}
			prints = append(prints, secret.Fingerprint(string(content)))
		}
		return nil
	}
	if err := add("tls_ca_file", e.TLSCAFile...); err != nil {
		return nil, err
	}
	if c := e.TLSClientCertificate; c != nil {
		if err := add("tls_client_certificate", c.Certificate, c.Key); err != nil {
			return nil, err
		}
	}
	return prints, nil
}

func newEntry(ctx caddy.Context, key string, env *environment, name, username string, password secret.Spec) (*entry, error) {
	e := &entry{key: key, lifetime: env.config.lifetime()}
	e.logger.Store(env.accountLogger(name))
	// A session that is kept warm tries a new password at once.
	var live atomic.Bool
	src, err := password.Open(func(event secret.Event) {
		logSecret(e.logger.Load(), event)
		if event.Changed && live.Load() {
			e.warm()
		}
	})
	if err != nil {
		return nil, err
	}
	transport, err := env.config.newTransport(ctx)
	if err != nil {
		src.Close()
		return nil, err
	}
	// A login is a POST that net/http does not send again when the server has
	// just closed an idle connection, and seldom enough for a new one each.
	transport.Transport.DisableKeepAlives = true
	e.password, e.transport = src, wire{transport}
	// A reference of its own: the entry may outlive the config's.
	if e.fleet, err = acquireFleet(ctx, env); err != nil {
		src.Close()
		_ = transport.Cleanup()
		return nil, err
	}
	e.open(env, name, username)
	e.unwatch = e.fleet.OnMove(e.warm)
	live.Store(true)
	return e, nil
}

// open makes a session for each endpoint, which share what an account has
// once: its password, and what is known of that.
func (e *entry) open(env *environment, name, username string) {
	c, budget := env.config, session.NewBudget()
	var keys []string
	for _, base := range e.fleet.bases {
		keys = append(keys, sameEndpoint(base)+" "+username)
	}
	for i, base := range e.fleet.bases {
		observe := func(event session.Event) {
			logger := e.logger.Load()
			if len(e.fleet.bases) > 1 {
				logger = logger.With(zap.Stringer("endpoint", base))
			}
			logSession(logger, event)
			app := e.app.Load()
			if app == nil || app.newest().knows(env.name, name, "") {
				countSession(env.name, name, event)
			}
			if app != nil {
				app.emitSession(env.name, name, base.String(), event)
			}
			e.fleet.learnLogin(i, event)
		}
		e.sessions = append(e.sessions, session.New(session.Config{
			Issuer:       issuer{automationapi.New(e.transport, base.String()), username},
			Password:     e.password,
			Keys:         keys,
			Refusals:     refusals,
			Budget:       budget,
			Lifetime:     c.lifetime(),
			RenewBefore:  c.renewBefore(),
			IdleTimeout:  c.idleTimeout(),
			LoginTimeout: c.loginTimeout(),
			Wanted:       func() bool { return e.fleet.Current() == i },
			Observe:      observe,
		}))
	}
}

// sameEndpoint is the same text for URLs that lead to the same endpoint.
func sameEndpoint(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Scheme+"://"+strings.TrimSuffix(u.Hostname(), ".")) + ":" + port + basePath(u)
}

// warm has the session of the endpoint in use look whether it is to log in by
// itself.
func (e *entry) warm() { e.current().Warm() }

// current is the session at the endpoint in use.
func (e *entry) current() *session.Session { return e.sessions[e.fleet.Current()] }

// version is the API's own release, as it said at the last login; of the
// endpoint in use, else of any.
func (e *entry) version() string {
	if v := e.current().Version(); v != "" {
		return v
	}
	for _, s := range e.sessions {
		if v := s.Version(); v != "" {
			return v
		}
	}
	return ""
}

func releaseEntry(e *entry) { _, _ = entries.Delete(e.key) }

// draining are the entries of earlier configs whose last calls are under way.
var draining sync.Map // *entry

// closing counts the sessions that are on their way out. At exit, exiting is
// cancelled once those that are still used have had their time.
var (
	closing       outgoing
	exiting, rush = context.WithCancel(context.Background())
)

// outgoing counts work until the process waits for it. Servers tell of their
// end in goroutines for which nobody waits, so more may come at any moment.
type outgoing struct {
	mu    sync.Mutex
	ended bool
	work  sync.WaitGroup
}

// Go runs f, unless end was called: whoever held a session has let go of it by
// then, and what is left to do is under way.
func (o *outgoing) Go(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.work.Go(f)
	}
}

func (o *outgoing) Wait() { o.work.Wait() }

func (o *outgoing) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

// Destruct marks the sessions as draining and returns, since it is called
// under Caddy's config lock. They are logged out when their last call has
// ended, at the latest at the end of their lifetime.
func (e *entry) Destruct() error {
	e.unwatch()
	for _, s := range e.sessions {
		s.Drain()
	}
	draining.Store(e, nil)
	closing.Go(func() {
		e.close(exiting, e.lifetime)
		draining.Delete(e)
		e.password.Close()
		_ = e.transport.Cleanup()
		e.fleet.release()
	})
	return nil
}

// close ends the sessions, with their last call or after a while.
func (e *entry) close(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var group sync.WaitGroup
	for _, s := range e.sessions {
		group.Go(func() { s.Close(ctx) })
	}
	group.Wait()
}

// leave is called at exit once the servers take no more calls. Caddy then
// waits for those under way, without any bound where grace_period is not set,
// and only afterwards are the apps stopped: the sessions do not wait for that.
func (e *entry) leave() {
	if e.leaving.CompareAndSwap(false, true) {
		closing.Go(func() { e.close(context.Background(), exitGrace) })
	}
}

// exitGrace is how long a session may still be in use at exit before it is
// logged out all the same (contract.md, 7).
const exitGrace = 5 * time.Second

// waitForLogouts runs at the end of the process, after all apps have stopped.
func waitForLogouts(ctx context.Context) {
	closing.end()
	timer := time.AfterFunc(exitGrace, rush)
	defer timer.Stop()
	done := make(chan struct{})
	go func() {
		closing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(2 * exitGrace):
	}
}

// issuer is the Session service of an endpoint for one user.
type issuer struct {
	*automationapi.Client
	username string
}

func (i issuer) LogIn(ctx context.Context, password secret.Value) (session.Login, error) {
	login, err := i.Client.LogIn(ctx, i.username, password)
	return session.Login{Token: login.Token, Version: login.Version}, err
}

func (issuer) Refused(err error) bool { return automationapi.KindOf(err) == automationapi.Refused }

// logSession writes down what happened to a session.
func logSession(logger *zap.Logger, e session.Event) {
	switch e.Kind {
	case session.LoggedIn:
		logger.Info("logged in", zap.Uint64("session", e.Number), zap.Duration("took", e.Took), zap.String("api_version", e.Version))
	case session.LoginRefused:
		logger.Error("login refused: this password is not tried again until it changes or the time below; "+
			"mend it where it is kept, or unlock the user",
			zap.Error(e.Err), zap.Duration("took", e.Took), zap.Time("next_attempt", e.Until))
	case session.LoginFailed:
		logger.Error("login failed", zap.Error(e.Err), zap.Duration("took", e.Took), zap.Time("next_attempt", e.Until))
	case session.TokenRejected:
		logger.Warn("upstream rejected the token before its time", zap.Uint64("session", e.Number))
	case session.LoggedOut:
		if e.Err != nil {
			logger.Warn("logging out did not succeed; the session ends by itself", zap.Uint64("session", e.Number), zap.Error(e.Err))
			return
		}
		logger.Info("logged out", zap.Uint64("session", e.Number))
	}
}
