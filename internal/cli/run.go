package cli

import (
	"errors"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// serve runs config until a signal ends the process, by way of Caddy's own
// exit, which logs sessions out. It returns only if the config cannot run.
// ready is called once it runs.
func serve(config *caddy.Config, ready func()) error {
	caddy.TrapSignals()
	return serveOn(config, ready)
}

// serveOn is serve where signals are trapped already.
func serveOn(config *caddy.Config, ready func()) error {
	if err := caddy.Run(config); err != nil {
		// Caddy opens its admin API before it looks at the rest.
		if path, ok := strings.CutPrefix(config.Admin.Listen, "unix/"); ok {
			path, _, _ = strings.Cut(path, "|")
			_ = os.Remove(path)
		}
		return plainError(err)
	}
	ready()
	select {}
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
