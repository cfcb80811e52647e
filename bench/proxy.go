package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/ctmgate/ctmgate/caddymodule"
)

const (
	upstreamUser     = "bench"
	upstreamPassword = "bench" // of an account that exists only while a comparison runs
)

// respondAnswer is as long as the upstream's answer. It has no braces, in which Caddy would look for placeholders.
var respondAnswer = strings.Repeat("x", len(serversAnswer))

// site is what a config is written for.
type site struct {
	addr     string // of the proxy
	upstream string // scheme and address
	caFile   string // of the upstream's certificate; "" for plain HTTP
}

// configs are the Caddyfiles of the proxies. The two that are compared keep connections in the same way: 256 idle ones
// for 2 minutes. reverse_proxy's own default of 32 would make it dial anew beyond 32 connections, and not below.
var configs = map[string]func(site) string{
	respond: func(s site) string {
		return s.around("respond " + respondAnswer)
	},
	reverseProxy: func(s site) string {
		trust := ""
		if s.caFile != "" {
			trust = "versions 1.1\n\t\ttls_trust_pool file " + s.caFile
		}
		return s.around(fmt.Sprintf(`reverse_proxy %s {
	header_up Authorization "Bearer %s"
	transport http {
		keepalive 2m
		keepalive_idle_conns_per_host 256
		%s
	}
}`, s.upstream, upstreamToken, trust))
	},
	controlm: func(s site) string {
		trust := ""
		if s.caFile != "" {
			trust = "tls_ca_file " + s.caFile
		}
		return s.around(fmt.Sprintf(`controlm %s/automation-api {
	username %s
	password %s
	transport http {
		keepalive 2m
		keepalive_idle_conns_per_host 256
	}
	%s
}`, s.upstream, upstreamUser, upstreamPassword, trust))
	},
}

// around puts a directive into a config that does nothing else. There is no access log and no audit line: what they
// cost would be the same on both sides, and hide the difference.
func (s site) around(directive string) string {
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 5s
	log default {
		exclude controlm.audit
	}
}
http://%s {
	%s
}
`, s.addr, strings.ReplaceAll(directive, "\n", "\n\t"))
}

// serveProxy runs Caddy with a Caddyfile.
func serveProxy(args []string, in io.Reader, out io.Writer) (err error) {
	set := flag.NewFlagSet("proxy", flag.ContinueOnError)
	path := set.String("config", "", "the Caddyfile")
	profile := set.String("cpuprofile", "", "write a CPU profile to this file at the end")
	if err := set.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*path)
	if err != nil {
		return err
	}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": *path})
	if err != nil {
		return fmt.Errorf("adapting %s: %w", *path, err)
	}
	if *profile != "" {
		file, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.Stop()) }()
	fmt.Fprintln(out, "ready")
	_, err = io.Copy(io.Discard, in)
	return err
}
