package caddymodule

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/dustin/go-humanize"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// word parses the line that begins with it; the dispenser stands on it.
type word func(d *caddyfile.Dispenser) error

// words are all that a block understands.
type words map[string]word

// parseBlock reads the block that follows. Words that are unknown, or stated
// twice and not repeatable, are errors that say what was expected.
func parseBlock(d *caddyfile.Dispenser, block string, known words, repeatable ...string) error {
	_, err := parsePlaced(d, block, known, repeatable...)
	return err
}

// places are where the words of a block stand, the last of each; "" is the
// line of the block itself.
type places map[string]caddyfile.Token

// wrap says with err where the word stands that it is about, for what is found
// only once the whole block is read.
func (p places) wrap(err error) error {
	place := p[""]
	if about, ok := errors.AsType[*wordError](err); ok {
		if token, stated := p[about.word]; stated {
			place = token
		}
	}
	d := caddyfile.NewDispenser([]caddyfile.Token{place})
	d.Next()
	return d.WrapErr(err)
}

// parsePlaced is parseBlock that tells where each word stands.
func parsePlaced(d *caddyfile.Dispenser, block string, known words, repeatable ...string) (places, error) {
	seen := places{"": d.Token()}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse, ok := known[name]
		if !ok {
			return nil, d.Errf("%s: unknown word %q; expected one of %s", block, name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if _, twice := seen[name]; twice && !slices.Contains(repeatable, name) {
			return nil, d.Errf("%s: %s is stated twice; expected it once", block, name)
		}
		seen[name] = d.Token()
		if err := parse(d); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// oneText reads exactly one argument.
func oneText(into *string, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if len(args) != 1 {
			return d.Errf("%s: %d arguments; expected one, as in `%s %s`", name, len(args), name, example)
		}
		if args[0] == "" {
			return d.Errf("%s: it is empty; expected text, as in `%s %s`", name, name, example)
		}
		*into = args[0]
		return noBlock(d, name)
	}
}

// someTexts reads one argument or more, and adds them.
func someTexts(into *[]string, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if len(args) == 0 {
			return d.Errf("%s: no argument; expected one or more, as in `%s %s`", name, name, example)
		}
		*into = append(*into, args...)
		return noBlock(d, name)
	}
}

// flag reads a word that takes nothing.
func flag(into *bool) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if args := d.RemainingArgs(); len(args) > 0 {
			return d.Errf("%s: takes no argument, found %q", name, args[0])
		}
		*into = true
		return noBlock(d, name)
	}
}

// onOff reads `on` or `off`.
func onOff(into **bool) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := oneText(&text, "off")(d); err != nil {
			return err
		}
		if text != "on" && text != "off" {
			return d.Errf("%s: %q is neither; expected on or off", name, text)
		}
		on := text == "on"
		*into = &on
		return nil
	}
}

// noBlock is for a word that has read its arguments: what then follows in its
// line opens a block, be it an empty one.
func noBlock(d *caddyfile.Dispenser, name string) error {
	if d.NextLine() {
		d.Prev()
		return nil
	}
	if !d.Next() { // the end of all
		return nil
	}
	d.Prev()
	return d.Errf("%s: takes no block", name)
}

func duration(into *caddy.Duration, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := oneText(&text, example)(d); err != nil {
			return err
		}
		parsed, err := caddy.ParseDuration(text)
		if err != nil || parsed <= 0 {
			return d.Errf("%s: %q is not a duration above zero; expected one such as %s", name, text, example)
		}
		*into = caddy.Duration(parsed)
		return nil
	}
}

func idleTimeout(into *IdleTimeout) word {
	return func(d *caddyfile.Dispenser) error {
		var text string
		if err := oneText(&text, "30m")(d); err != nil {
			return err
		}
		if text == "off" {
			*into = idleOff
			return nil
		}
		parsed, err := caddy.ParseDuration(text)
		if err != nil || parsed <= 0 {
			return d.Errf("idle_timeout: %q is not a duration above zero; expected one such as %s, or off", text, 30*time.Minute)
		}
		*into = IdleTimeout(parsed)
		return nil
	}
}

// number reads a number above zero.
func number(into *int, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := oneText(&text, example)(d); err != nil {
			return err
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return d.Errf("%s: %q is no number above zero; expected one such as %s", name, text, example)
		}
		*into = n
		return nil
	}
}

// bodySize reads a size above zero.
func bodySize(into *int64, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := oneText(&text, example)(d); err != nil {
			return err
		}
		n, err := humanize.ParseBytes(text)
		if err != nil || n < 1 || n > 1<<50 {
			return d.Errf("%s: %q is no size above zero; expected one such as %s", name, text, example)
		}
		*into = int64(n) //nolint:gosec // bounded above
		return nil
	}
}

// annotation reads `annotate <header> <template>`.
func annotation(into *map[string]string) word {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Errf("annotate: %d arguments; expected a header and its text, as in `annotate Annotation-Subject \"run by {controlm.client}\"`", len(args))
		}
		// Caddy expands its short placeholders in sites alone.
		text := caddyfile.Segment{{Text: args[1]}}
		httpcaddyfile.NewShorthandReplacer().ApplyToSegment(&text)
		args[1] = text[0].Text
		if err := checkAnnotation(args[0], args[1]); err != nil {
			return d.WrapErr(err)
		}
		name := http.CanonicalHeaderKey(args[0])
		if _, twice := (*into)[name]; twice {
			return d.Errf("annotate %s: it is stated twice; expected each header once", name)
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		(*into)[name] = args[1]
		return noBlock(d, "annotate")
	}
}

func size(into **int64, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		var text string
		if err := oneText(&text, example)(d); err != nil {
			return err
		}
		parsed, err := humanize.ParseBytes(text)
		if err != nil || parsed > maxReplayMemory {
			return d.Errf("%s: %q is not a size up to 64MiB; expected one such as %s", name, text, example)
		}
		n := int64(parsed) //nolint:gosec // bounded above
		*into = &n
		return nil
	}
}

// environmentWords are the words of an environment, but for its accounts.
func environmentWords(e *Environment) words {
	return words{
		"endpoint": func(d *caddyfile.Dispenser) error {
			from := len(e.Endpoint)
			if err := someTexts(&e.Endpoint, "https://em.example.com:8443/automation-api")(d); err != nil {
				return err
			}
			return checkURLs(d, "endpoint", e.Endpoint[from:])
		},
		"tls_ca_file":     someTexts(&e.TLSCAFile, "/run/secrets/em-ca.pem"),
		"tls_server_name": oneText(&e.TLSServerName, "em.example.com"),
		"tls_client_certificate": func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) != 2 {
				return d.Errf("tls_client_certificate: %d arguments; expected two, as in `tls_client_certificate cert.pem key.pem`", len(args))
			}
			e.TLSClientCertificate = &ClientCertificate{Certificate: args[0], Key: args[1]}
			return noBlock(d, "tls_client_certificate")
		},
		"tls_insecure_skip_verify": flag(&e.TLSInsecureSkipVerify),
		"allow_plain_http":         flag(&e.AllowPlainHTTP),
		"login_timeout":            duration(&e.LoginTimeout, "15s"),
		"session_lifetime":         duration(&e.SessionLifetime, "30m"),
		"renew_before":             duration(&e.RenewBefore, "5m"),
		"idle_timeout":             idleTimeout(&e.IdleTimeout),
		"public_url": func(d *caddyfile.Dispenser) error {
			from := len(e.PublicURL)
			if err := someTexts(&e.PublicURL, "https://controlm.example.com")(d); err != nil {
				return err
			}
			return checkURLs(d, "public_url", e.PublicURL[from:])
		},
		"transport": func(d *caddyfile.Dispenser) error { return parseTransport(d, e) },
	}
}

// environmentRepeats are the words of an environment that may stand again.
var environmentRepeats = []string{"tls_ca_file", "account"}

func checkURLs(d *caddyfile.Dispenser, name string, texts []string) error {
	for _, text := range texts {
		if _, err := checkURL(name, text); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// accountWords are the words of an account, with values that text reads.
func accountWords(a *Account, text func(into *string, example string) word) words {
	return words{
		"username":  text(&a.Username, "{env.CTM_USERNAME}"),
		"password":  text(&a.Password, "{file./run/secrets/ctm_password}"),
		"api_token": text(&a.APIToken, "{file./run/secrets/ctm_api_token}"),
	}
}

// secretText reads a value that may be {file.PATH} or {env.NAME}.
func secretText(into *string, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := oneText(into, example)(d); err != nil {
			return err
		}
		if _, err := secret.Parse(*into); err != nil {
			return d.Errf("%s: %w", name, err)
		}
		return nil
	}
}

// siteSecretText is secretText in a site block. {host} and its like have become
// {http.request.host} there by now, and what stood in their place cannot be
// told any more: a literal would be wrong.
func siteSecretText(into *string, example string) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := secretText(into, example)(d); err != nil {
			return err
		}
		if spec, err := secret.Parse(*into); err == nil && spec.Kind == secret.Literal && strings.Contains(*into, "{http.") {
			return d.Errf("%s: Caddy replaces such placeholders in a site block; write the secret to a file, as in {file./path/to/secret}", name)
		}
		return nil
	}
}
