package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
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

// entry is one account's session, with all it needs of its own, so that it
// borrows nothing from a config that ends.
type entry struct {
	key       string
	logger    atomic.Pointer[zap.Logger] // of the config that runs
	session   *session.Session
	password  *secret.Source
	transport wire
	lifetime  time.Duration
}

// acquireEntry returns the entry of the account, made now or by an earlier
// config. Its key holds the source of the password, never the password.
func acquireEntry(ctx caddy.Context, env *environment, name, username string, password secret.Spec) (*entry, error) {
	c := env.config
	trust, err := c.trust()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal([]any{
		env.name, name, c.Endpoint, c.TLSCAFile, c.TLSServerName, c.TLSClientCertificate, c.TLSInsecureSkipVerify,
		c.loginTimeout(), c.lifetime(), c.renewBefore(), c.idleTimeout(), username, password.Identity(),
		c.Transport, trust,
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
	paths := slices.Clone(e.TLSCAFile)
	if c := e.TLSClientCertificate; c != nil {
		paths = append(paths, c.Certificate, c.Key)
	}
	prints := make([]string, 0, len(paths))
	for _, path := range paths {
		content, err := os.ReadFile(path) //nolint:gosec // the operator names the path
		if err != nil {
			return nil, fmt.Errorf("comparing accounts: %w", err)
		}
		prints = append(prints, secret.Fingerprint(string(content)))
	}
	return prints, nil
}

func newEntry(ctx caddy.Context, key string, env *environment, name, username string, password secret.Spec) (*entry, error) {
	e := &entry{key: key, lifetime: env.config.lifetime()}
	e.logger.Store(env.accountLogger(name))
	// A session that is kept warm tries a new password at once.
	var live atomic.Pointer[session.Session]
	src, err := password.Open(func(event secret.Event) {
		logSecret(e.logger.Load(), event)
		if s := live.Load(); s != nil && event.Changed {
			s.Warm()
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
	e.session = session.New(session.Config{
		Issuer:       issuer{automationapi.New(e.transport, env.base.String()), username},
		Password:     src,
		Key:          env.base.String() + " " + username,
		Refusals:     refusals,
		Lifetime:     env.config.lifetime(),
		RenewBefore:  env.config.renewBefore(),
		IdleTimeout:  env.config.idleTimeout(),
		LoginTimeout: env.config.loginTimeout(),
		Observe:      func(event session.Event) { logSession(e.logger.Load(), event) },
	})
	live.Store(e.session)
	return e, nil
}

func releaseEntry(e *entry) { _, _ = entries.Delete(e.key) }

// closing counts the sessions that are on their way out. At exit, exiting is
// cancelled once those that are still used have had their time.
var (
	closing       sync.WaitGroup
	exiting, rush = context.WithCancel(context.Background())
)

// Destruct marks the session as draining and returns, since it is called
// under Caddy's config lock. The session is logged out when its last request
// has ended, at the latest at the end of its lifetime.
func (e *entry) Destruct() error {
	e.session.Drain()
	closing.Go(func() {
		ctx, cancel := context.WithTimeout(exiting, e.lifetime)
		defer cancel()
		e.session.Close(ctx)
		e.password.Close()
		_ = e.transport.Cleanup()
	})
	return nil
}

// exitGrace is how long a session may still be in use at exit before it is
// logged out all the same (contract.md, 7).
const exitGrace = 5 * time.Second

// waitForLogouts runs at the end of the process, after all apps have stopped.
func waitForLogouts(ctx context.Context) {
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
