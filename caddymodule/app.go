package caddymodule

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
)

// App holds the environments that sites refer to by name, and keeps their
// sessions from one config to the next.
type App struct {
	// Control-M Automation APIs by name.
	Environments map[string]*Environment `json:"environments,omitempty"`
	// Who may call, by name. Once there is one, sites admit clients only,
	// unless they say otherwise.
	Clients map[string]*Client `json:"clients,omitempty"`
	// Methods and paths that are open to callers without proof, as in
	// "GET /ctm-cli.tgz". They are forwarded without any credential.
	Public []string `json:"public,omitempty"`

	ctx      caddy.Context
	logger   *zap.Logger
	auditLog *zap.Logger
	live     map[string]*environment // named and inline
	exposed  map[string]bool         // secret files that were warned of
	known    *clients                // nil when there are none
	emitter  *emitter
	next     *atomic.Pointer[App] // to the one that runs in its place, if any

	warnedOfAdmin bool
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "controlm",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision builds the named environments. It reads secrets and touches no
// network.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger()
	a.auditLog = a.logger.Named("audit")
	warnUnaudited(a.auditLog, a.logger)
	a.live = make(map[string]*environment)
	a.exposed = make(map[string]bool)
	a.next = new(atomic.Pointer[App])
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the app events: %w", err)
	}
	a.emitter = newEmitter(a, events.(*caddyevents.App))
	if err := a.registerMetrics(ctx); err != nil {
		return err
	}
	if a.known, err = a.newClients(); err != nil {
		return err
	}
	a.warnClients()
	a.warnDebug()
	for name, config := range a.Environments {
		if config == nil {
			config = new(Environment)
		}
		if _, err := a.add(name, config); err != nil {
			return err
		}
	}
	return nil
}

// add builds the environment and keeps it for Start and Cleanup, unless it has
// it already.
func (a *App) add(name string, config *Environment) (*environment, error) {
	if err := config.checkName(name); err != nil {
		return nil, err
	}
	if other := a.live[name]; other != nil {
		if !other.config.sameAs(config) {
			return nil, twoOfOneName(name)
		}
		return other, nil
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("environment %s: %w", name, err)
	}
	env, err := newEnvironment(a.ctx, name, config, a.logger, a.exposed)
	if err != nil {
		return nil, fmt.Errorf("environment %s: %w", name, err)
	}
	a.live[name] = env
	a.warnTrust(env)
	return env, nil
}

// Start has accounts log in whose idle_timeout is off.
func (a *App) Start() error {
	a.emitter.start()
	for _, env := range a.live {
		env.adopt(a)
	}
	if slices.ContainsFunc(slices.Collect(maps.Values(a.live)), func(env *environment) bool { return env.config.IdleTimeout == idleOff }) {
		go a.warmInForce(a.ctx)
	}
	return nil
}

// warmInForce logs in once the config is the one that runs: another app of it
// may still fail to start, and then none of its passwords is to be spent.
func (a *App) warmInForce(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := activeApp(); err == nil && now == a {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	for _, env := range a.live {
		env.warm()
	}
}

// Stop does nothing: requests may still be under way, and sessions end with
// their last user, after Cleanup.
func (a *App) Stop() error { return nil }

// Cleanup closes the WebSockets of clients that the next config does not let
// in, and lets go of the sessions; those that no other config holds are
// logged out once their last request has ended.
func (a *App) Cleanup() error {
	if a.emitter != nil {
		a.emitter.stop()
		a.giveWay()
	}
	for _, env := range a.live {
		env.close()
	}
	return nil
}

// giveWay ends what the config that runs now does not know any more.
func (a *App) giveWay() {
	next, err := activeApp() // the next one, or the old one where this one failed to load
	if next == a {
		return
	}
	if err != nil {
		next = new(App) // which knows nobody
	}
	a.next.Store(next)
	for _, env := range next.live {
		env.adopt(next)
	}
	openSockets.review(next)
	a.forgetMetrics(next)
	a.forgetCalls(next)
}

// newest is the app of the config that runs now. The servers of an earlier one
// may still answer on connections that they hold.
func (a *App) newest() *App {
	for a.next != nil {
		next := a.next.Load()
		if next == nil {
			break
		}
		a = next
	}
	return a
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
