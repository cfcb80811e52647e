package cli

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// serve runs config until a signal ends the process, by way of Caddy's own
// exit, which logs sessions out. It returns only if the config cannot run.
// ready is called once it runs.
func serve(config *caddy.Config, ready func()) error {
	return holdSignals().serve(config, ready)
}

// heldSignals are SIGINT and SIGTERM that come before Caddy runs: its exit and
// its start would get into each other's way.
type heldSignals chan os.Signal

func holdSignals() heldSignals {
	held := make(heldSignals, 1)
	signal.Notify(held, os.Interrupt, syscall.SIGTERM)
	return held
}

func (h heldSignals) serve(config *caddy.Config, ready func()) error {
	if err := caddy.Run(config); err != nil {
		// Caddy opens its admin API before it looks at the rest.
		if path, ok := strings.CutPrefix(config.Admin.Listen, "unix/"); ok {
			path, _, _ = strings.Cut(path, "|")
			_ = os.Remove(path)
		}
		return plainError(err)
	}
	caddy.TrapSignals()
	go h.pass()
	ready()
	select {}
}

// pass sends Caddy what it has not heard, as it begins to listen in the
// background.
func (h heldSignals) pass() {
	<-h
	self, err := os.FindProcess(os.Getpid())
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for err == nil {
		<-tick.C
		if caddy.Exiting() {
			return
		}
		err = self.Signal(syscall.SIGTERM) // a second SIGINT would be impatience
	}
}

// plainError leaves out the way that Caddy took through its modules to what
// is wrong: the operator wrote none of it.
func plainError(err error) error {
	const marker = "provision http.handlers.controlm: "
	text := err.Error()
	if i := strings.LastIndex(text, marker); i >= 0 {
		return errors.New(text[i+len(marker):])
	}
	return err
}
