// Command bench compares the gateway with Caddy's reverse_proxy in one run on one machine. It starts an upstream and
// the proxies as processes of their own, loads one of them at a time, and prints what a call costs in each. README.md
// says what the figures mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the flags of the comparison.
type options struct {
	requests    int
	connections int
	rounds      int
	tls         bool
	profiles    string
	timeout     time.Duration
}

func main() {
	if play, ok := roleOf(os.Args); ok {
		exit(play(os.Args[2:], os.Stdin, os.Stdout))
	}
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		os.Exit(2) // the flag set has said why
	}
	exit(compare(o, os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// role is what a process that the driver starts does, until its standard input ends. It writes one line when it is
// ready.
type role func(args []string, in io.Reader, out io.Writer) error

// roleOf tells which role a process has been started in. The program starts itself in another role, so that what is
// compared is one binary.
func roleOf(args []string) (role, bool) {
	if len(args) < 2 {
		return nil, false
	}
	switch args[1] {
	case "upstream":
		return serveUpstream, true
	case "proxy":
		return serveProxy, true
	}
	return nil, false
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(out)
	set.IntVar(&o.requests, "requests", 20000, "counted requests in a phase; below some 10000 the CPU figures are coarse")
	set.IntVar(&o.connections, "connections", 32, "keep-alive connections that send them, each one request at a time")
	set.IntVar(&o.rounds, "rounds", 3, "rounds; each loads the two that are compared twice, in the order A B B A")
	set.BoolVar(&o.tls, "tls", false, "speak TLS to the upstream, with HTTP/1.1")
	set.StringVar(&o.profiles, "cpuprofile", "", "folder for CPU profiles of the proxies; makes them slower, so compare without it")
	set.DurationVar(&o.timeout, "timeout", 2*time.Minute, "the longest a phase may take")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 || o.requests < 1 || o.connections < 1 || o.rounds < 1 || o.timeout <= 0 {
		err := errors.New("expected flags alone, and numbers above zero")
		fmt.Fprintln(out, "bench:", err)
		return o, err
	}
	return o, nil
}

// compare runs the comparison and prints its table.
func compare(o options, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	return r.print(out)
}
