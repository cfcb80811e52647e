package caddymodule

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/session"
)

// Events for Caddy's `events` app, with the app controlm as their origin.
// Their data holds `environment`, `account`, `endpoint` and, where there is
// one, `session`: its number as in the log.
const (
	// EventLogin: a session was opened.
	EventLogin = "login"
	// EventLoginRefused: Control-M refused the password. Data: `next_attempt`,
	// as RFC 3339, unless the password changes before.
	EventLoginRefused = "login_refused"
	// EventSessionRejected: Control-M no longer accepts a session before its
	// time.
	EventSessionRejected = "session_rejected"
)

// eventsMost bounds the events that wait for their handlers. What handlers do
// can take long, and no login waits for it.
const eventsMost = 256

// emitter hands events to Caddy, one after another.
type emitter struct {
	app     *App
	events  *caddyevents.App
	waiting chan emitted
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

type emitted struct {
	name string
	data map[string]any
}

func newEmitter(app *App, events *caddyevents.App) *emitter {
	e := &emitter{app: app, events: events, waiting: make(chan emitted, eventsMost)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

func (e *emitter) start() {
	e.done.Go(func() {
		for {
			select {
			case one := <-e.waiting:
				e.events.Emit(e.app.ctx, one.name, one.data)
			case <-e.ctx.Done():
				return
			}
		}
	})
}

// stop does not wait for a handler that is at work: it may be what stops us.
func (e *emitter) stop() { e.cancel() }

// emit does not wait.
func (e *emitter) emit(name string, data map[string]any) {
	if !e.events.ShouldEmit(name) {
		return
	}
	select {
	case e.waiting <- emitted{name, data}:
	default:
		e.app.logger.Error("dropped an event, since handlers of events are slower than events come", zap.String("event", name))
	}
}

// emitSession tells of what happened to a session.
func (a *App) emitSession(environment, account, endpoint string, e session.Event) {
	name := ""
	switch e.Kind {
	case session.LoggedIn:
		name = EventLogin
	case session.LoginRefused:
		name = EventLoginRefused
	case session.TokenRejected:
		name = EventSessionRejected
	default:
		return
	}
	data := map[string]any{"environment": environment, "account": account, "endpoint": endpoint}
	if e.Number != 0 {
		data["session"] = e.Number
	}
	if !e.Until.IsZero() {
		data["next_attempt"] = e.Until.UTC().Format(time.RFC3339)
	}
	a.emitter.emit(name, data)
}
