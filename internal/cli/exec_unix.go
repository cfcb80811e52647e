//go:build unix

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// catchSignals returns those that are for the command. One that is ignored, as
// by nohup, stays so: the command inherits that.
func catchSignals() <-chan os.Signal {
	caught := make(chan os.Signal, 16)
	for _, s := range []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
	} {
		if !signal.Ignored(s) {
			signal.Notify(caught, s)
		}
	}
	// A reader of our warnings that has gone must not end us before we have
	// logged out. Ignoring it instead would be inherited.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return caught
}

// leave ends the process with code, by way of Caddy's own exit, which logs
// out. Caddy has no function for that, only a signal.
func (private) leave(code int) {
	// These are called in the order in which they were registered, and the
	// gateway's log-outs were when the program began.
	caddy.OnExit(func(context.Context) { os.Exit(code) })
	caddy.TrapSignals()
	self, err := os.FindProcess(os.Getpid())
	if err != nil { // never, on Unix
		os.Exit(code)
	}
	// Until Caddy has begun to listen for signals, in the background, they are
	// caught above and come to nothing. It would leave with a code of its own at
	// a second SIGINT, or a SIGQUIT, so it gets neither, as soon as it listens;
	// logging out takes a few seconds at most.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := false; ; began = true {
		<-tick.C
		signal.Ignore(syscall.SIGINT, syscall.SIGQUIT)
		if began && !caddy.Exiting() {
			_ = self.Signal(syscall.SIGTERM)
		}
	}
}
