//go:build !unix

package cli

import (
	"os"
	"os/signal"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func catchSignals() <-chan os.Signal {
	caught := make(chan os.Signal, 16)
	signal.Notify(caught, os.Interrupt)
	return caught
}

// hasBeenTold: the console tells all of its processes.
func hasBeenTold(os.Signal) bool { return true }

// logoutTime is what log-outs get here, where a process cannot have Caddy's
// own exit wait for them.
const logoutTime = 2 * time.Second

func (private) leave(code int) {
	_ = caddy.Stop()
	<-time.After(logoutTime)
	os.Exit(code)
}
