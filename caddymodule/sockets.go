package caddymodule

import (
	"context"
	"sync"
	"time"
)

// openSockets are the WebSockets of all configs' clients. They outlive their
// config; those whose client may not have them by a later one are closed.
var openSockets sockets

type sockets struct {
	mu   sync.Mutex
	live map[*socket]struct{}
}

type socket struct {
	visit *visit
	end   context.CancelFunc
}

// open notes a WebSocket until done is called. Its context ends when it is to
// be closed: at once, if app has been replaced by one that does not allow it.
func (s *sockets) open(ctx context.Context, v *visit, app *App) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(ctx)
	one := &socket{v, cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live == nil {
		s.live = make(map[*socket]struct{})
	}
	s.live[one] = struct{}{}
	if now := app.newest(); now != app && !now.stillAllows(v) {
		cancel()
	}
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.live, one)
	}
}

// review closes those that next does not allow.
func (s *sockets) review(next *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for one := range s.live {
		if !next.stillAllows(one.visit) {
			one.end()
		}
	}
}

// stillAllows tells whether a client that was let in by another config would
// be let in by this one, by the same proof and for the same path.
func (a *App) stillAllows(v *visit) bool {
	if a.known == nil {
		return false
	}
	d := a.known.directory
	client, ok := d.ByName(v.client())
	if !ok {
		return false
	}
	switch {
	case v.who.key != nil:
		_, _, err := d.ByTag(client.Name, v.who.key.Tag(), time.Now())
		ok = err == nil
	case v.who.source == byUser:
		found, known := d.ByUser(v.who.user)
		ok = known && found == client
	case v.who.source == byCertificate:
		found, known := d.BySubject(verifiedSubject(v.r))
		ok = known && found == client
	}
	if !ok {
		return false
	}
	return a.known.decide(client, v.path).allowed
}
