package caddymodule

import (
	"fmt"
	"maps"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// parseHandler reads the directive, with a named environment:
//
//	controlm [<matcher>] <environment> {
//		account <name>
//		admit clients | loopback [<host...>] | anyone
//		replay_buffer <size>
//		rewrite_urls on|off
//		allow_credential_changes
//		annotate <header> <template>
//		annotate_override
//	}
//
// or with an environment of its own, whose block takes the words of an
// environment and those of one account as well:
//
//	controlm [<matcher>] <endpoint...> {
//		name <name>
//		username <user>
//		password <secret>
//		api_token <secret>
//	}
func parseHandler(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h := new(Handler)
	d := helper.Dispenser
	d.Next() // the directive's name
	args := d.RemainingArgs()
	if len(args) == 0 {
		return nil, d.Err("controlm: expected the name of an environment, or its endpoint, as in `controlm prod` " +
			"or `controlm https://em.example.com:8443/automation-api {`")
	}
	known := h.words()
	repeatable := []string{"annotate"}
	block := "controlm"
	inline := strings.Contains(args[0], "://")
	switch {
	case inline:
		h.Inline = &Inline{Environment: Environment{Endpoint: args}}
		if err := checkURLs(d, "endpoint", args); err != nil {
			return nil, err
		}
		more := environmentWords(&h.Inline.Environment)
		delete(more, "endpoint") // it stands in the directive's line
		maps.Copy(known, more)
		maps.Copy(known, accountWords(&h.Inline.Account, siteSecretText))
		known["name"] = oneText(&h.Inline.Name, "prod")
		delete(known, "account")
		repeatable = append(repeatable, environmentRepeats...)
	case len(args) > 1:
		return nil, d.Errf("controlm: %d arguments; expected the name of one environment, or endpoints that begin with https://", len(args))
	case checkName("environment", args[0]) != nil:
		return nil, d.Errf("controlm: %s is no name of an environment, and an endpoint begins with https://; expected "+
			"`controlm prod` or `controlm https://em.example.com:8443/automation-api {`", mention(args[0]))
	default:
		h.Environment = args[0]
		if looksLikeHost(args[0]) { // then the words of its block are those of an inline environment
			block += " " + args[0] + " (an endpoint would begin with https://)"
		}
	}
	at, err := parsePlaced(d, block, known, repeatable...)
	if err != nil {
		return nil, err
	}
	if _, err := newAnnotations(h.Annotate, h.AnnotateOverride); err != nil {
		return nil, d.WrapErr(err)
	}
	if inline {
		name, config, err := h.Inline.environment()
		if err != nil {
			return nil, at.wrap(err)
		}
		if err := config.checkName(name); err != nil {
			return nil, at.wrap(&wordError{"name", err})
		}
		if err := config.check(); err != nil {
			return nil, at.wrap(fmt.Errorf("environment %s: %w", name, err))
		}
	}
	return h, nil
}

// words are those of a site.
func (h *Handler) words() words {
	return words{
		"account": oneText(&h.Account, "batch"),
		"admit": func(d *caddyfile.Dispenser) error {
			h.Admit = d.RemainingArgs()
			if len(h.Admit) == 0 {
				return d.Err("admit: expected `admit clients`, `admit loopback`, with host names after it where wanted, or `admit anyone`")
			}
			if _, err := parseAdmission(h.Admit); err != nil {
				return d.WrapErr(err)
			}
			return noBlock(d, "admit")
		},
		"replay_buffer":            size(&h.ReplayBuffer, "1MiB"),
		"rewrite_urls":             onOff(&h.RewriteURLs),
		"allow_credential_changes": flag(&h.AllowCredentialChanges),
		"annotate":                 annotation(&h.Annotate),
		"annotate_override":        flag(&h.AnnotateOverride),
	}
}
