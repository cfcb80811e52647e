// Package cli is what an operator types: the commands that ctmgate has beside
// Caddy's own.
//
//	cli.go          registration, usage errors, exit codes
//	root.go         the program's own help
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
//	configfile.go   the config, or the variables of a sidecar, as commands read them
//	clientkey.go    makes gateway keys
//	explain*.go     what a client may, and why
//	check*.go       logs in and out with every account, and says what is wrong
//	sessions*.go, adminclient.go  what the running gateway holds
//	exec*.go        a private gateway for one command
//	token*.go       API tokens
//	password*.go, writefile*.go  an account's own password, and its file
package cli
