// Package cli is what an operator types: the commands that ctmgate has beside
// Caddy's own.
//
//	cli.go          registration, usage errors, exit codes
//	sidecar.go      the gateway from flags and environment alone
//	settings.go     reading and checking those flags and variables
//	config.go       settings as a config of Caddy's
//	run.go          Caddy in the foreground
//	listen.go       addresses to listen on, and where to call them
//	socket.go       where the admin API of a sidecar or demo is
//	emulator.go     the Automation API emulator
//	demo.go         emulator and gateway in one process
//	timeline.go     what happens, one line per event
//	story.go        the same, as the demo tells it
//	healthcheck.go  is the local gateway ready?
package cli
