// Package emulator speaks the Control-M Automation API without a Control-M: for
// the demo, for this project's tests, and for the CI of people who have no
// Control-M at hand.
//
// It is written from public descriptions of the API (controlm-api.md, cited by
// section where a fact drives code), not from the gateway's own client, so that
// the two cannot share a mistake. It imports nothing of this project. Where no
// source says what a real server does, the comment says "assumed".
//
// An Emulator is an http.Handler with no goroutine of its own: sessions end and
// jobs move on as a function of the clock at the moment somebody asks.
//
//	emulator.go        options, construction, and the way of one request
//	routes.go          which path and method leads where
//	answer.go          Control-M's layout of JSON and of errors
//	session.go         login, logout, password
//	accounts.go        users, sessions and API tokens
//	authentication.go  the Authentication service
//	config.go          the Config service: servers, agents, host groups, vault
//	deploy.go          build and deploy
//	folders.go         the definitions that exist from the start
//	jobs.go            what a job's state is at a moment
//	run.go  jobcalls.go  events.go    the Run service
//	reporting.go       reports and archive
//	aids.go            what only tests need, below {base}/emulator
//	control.go         restart, faults, counters: /emulator, loopback only
//	fault.go           misbehaviour on request
//	websocket.go       the alert stream
//	stats.go           counters and events
//	ca.go  server.go   TLS and listening
package emulator
