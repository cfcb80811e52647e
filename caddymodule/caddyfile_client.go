package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/ctmgate/ctmgate/internal/access"
)

// parseClient reads one client of the global option.
func (a *App) parseClient(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("client: %d names; expected one, as in `client nightly {`", len(args))
	}
	name := args[0]
	if a.Clients[name] != nil {
		return d.Errf("client %s: there are two of this name", name)
	}
	c := new(Client)
	err := parseBlock(d, "client", words{
		"key_sha256":               c.parseKey,
		"user":                     someTexts(&c.User, "nightly@example.com"),
		"certificate_subject":      someTexts(&c.CertificateSubject, "CN=nightly,O=Example"),
		"account":                  someTexts(&c.Account, "prod/batch"),
		"allow":                    ruleLine(&c.Allow, func(words []string) error { return ruleError(false, words) }),
		"deny":                     ruleLine(&c.Deny, func(words []string) error { return ruleError(true, words) }),
		"allow_credential_changes": flag(&c.AllowCredentialChanges),
		"rate":                     rateLine(&c.Rate),
		"max_concurrent":           number(&c.MaxConcurrent, "50"),
		"max_body":                 bodySize(&c.MaxBody, "100MiB"),
		"annotate":                 annotation(&c.Annotate),
		"annotate_override":        flag(&c.AnnotateOverride),
	}, "key_sha256", "user", "certificate_subject", "account", "allow", "deny", "annotate")
	if err != nil {
		return err
	}
	if err := c.check(name); err != nil {
		return d.WrapErr(err)
	}
	a.Clients[name] = c
	return nil
}

// parseKey reads `key_sha256 <hash> [<name>] [expires <day>]`.
func (c *Client) parseKey(d *caddyfile.Dispenser) error {
	const expected = "expected `key_sha256 HASH [NAME] [expires 2027-06-30]`"
	args := d.RemainingArgs()
	var key ClientKey
	if n := len(args); n >= 2 && args[n-2] == "expires" {
		if key.Expires = args[n-1]; key.Expires == "" { // of a variable that is not set, say
			return d.Errf("key_sha256: there is no day after expires; %s", expected)
		}
		args = args[:n-2]
	}
	switch len(args) {
	case 1:
		key.Hash = args[0]
	case 2:
		key.Hash, key.Name = args[0], args[1]
	default:
		return d.Errf("key_sha256: %s", expected)
	}
	if _, err := key.key(); err != nil {
		return d.Errf("key_sha256: %w; %s", err, expected)
	}
	c.KeySHA256 = append(c.KeySHA256, key)
	return noBlock(d, "key_sha256")
}

// ruleLine keeps a line as it stands, once check finds nothing wrong with it.
func ruleLine(into *[]string, check func(words []string) error) word {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if err := check(args); err != nil {
			return d.Errf("%s: %w", name, err)
		}
		*into = append(*into, strings.Join(args, " "))
		return noBlock(d, name)
	}
}

func ruleError(deny bool, words []string) error {
	_, err := access.ParseRule(deny, words)
	return err
}

func publicLine(words []string) error {
	_, err := publicRules([]string{strings.Join(words, " ")})
	return err
}

// rateLine keeps a rate as it stands, once it can be read.
func rateLine(into *string) word {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if _, _, err := access.ParseRate(args); err != nil {
			return d.Errf("rate: %w", err)
		}
		*into = strings.Join(args, " ")
		return noBlock(d, "rate")
	}
}
