package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// parseTransport reads `transport http {…}` with the parser of reverse_proxy.
func parseTransport(d *caddyfile.Dispenser, e *Environment) error {
	if !d.NextArg() || d.Val() != "http" {
		return d.Err("transport: expected `transport http {…}`")
	}
	// Caddy's parser takes what follows for the end of the block.
	if n := d.CountRemainingArgs(); n > 0 {
		return d.Errf("transport: %d arguments; expected one, as in `transport http {…}`", n+1)
	}
	segment := d.NextSegment()
	compressed, err := checkTransportWords(caddyfile.NewDispenser(segment))
	if err != nil {
		return err
	}
	again := caddyfile.NewDispenser(segment)
	again.Next()
	unmarshaler, err := caddyfile.UnmarshalModule(again, "http.reverse_proxy.transport.http")
	if err != nil {
		return err
	}
	t, ok := unmarshaler.(*reverseproxy.HTTPTransport)
	if !ok {
		return d.Err("transport: this build's transport http is not Caddy's")
	}
	if compressed { // Caddy's default, for which its parser has no word
		t.Compression = &compressed
	}
	e.Transport = caddyconfig.JSONModuleObject(t, "protocol", "http", nil)
	if _, err := e.transportConfig(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// checkTransportWords finds in their lines the words of the block that Caddy's
// parser takes and we do not. Of its words, none is to be repeated: the last
// would count. It also tells whether there is `compression on`.
func checkTransportWords(d *caddyfile.Dispenser) (compressed bool, _ error) {
	d.Next() // http
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		switch {
		case name == "tls" || strings.HasPrefix(name, "tls_"):
			return false, d.WrapErr(errTransportTLS)
		case name == "proxy_protocol":
			return false, d.WrapErr(errTransportProxyProtocol)
		case seen[name]:
			return false, d.Errf("transport http: %s is stated twice; expected it once", name)
		}
		seen[name] = true
		args := d.RemainingArgs()
		if name == "compression" {
			if compressed = slices.Equal(args, []string{"on"}); !compressed && !slices.Equal(args, []string{"off"}) {
				return false, d.Err("transport http: compression: expected on or off")
			}
		}
		if len(args) > 0 && isTransportDuration(name) {
			// Zero would come out as if it were not stated.
			if parsed, err := caddy.ParseDuration(args[0]); err == nil && parsed <= 0 {
				return false, d.Errf("transport http: %s: %q is not a duration above zero; expected one such as 30s", name, args[0])
			}
		}
		for inner := d.Nesting(); d.NextBlock(inner); { // of a module
		}
	}
	return compressed, nil
}

func isTransportDuration(word string) bool {
	return slices.ContainsFunc(transportDurations(new(reverseproxy.HTTPTransport)), func(d transportDuration) bool { return d.word == word })
}
