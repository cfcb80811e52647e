package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseApp reads the global option:
//
//	controlm {
//		environment <name> {
//			endpoint <url...>
//			tls_ca_file <path...>
//			tls_server_name <name>
//			tls_client_certificate <certificate> <key>
//			tls_insecure_skip_verify
//			allow_plain_http
//			login_timeout <duration>
//			session_lifetime <duration>
//			renew_before <duration>
//			idle_timeout <duration>|off
//			public_url <url...>
//			transport http {…}
//			account <name> {
//				username <user>
//				password <secret>
//				api_token <secret>
//			}
//			default_account <name>
//		}
//		client <name> {
//			key_sha256 <hash> [<key name>] [expires <day>]
//			user <user>
//			certificate_subject <subject>
//			account <environment>/<account>
//			allow <set> | <methods> <path...>
//			deny <methods> <path...>
//			allow_credential_changes
//		}
//		public <methods> <path...>
//	}
func parseApp(d *caddyfile.Dispenser, before any) (any, error) {
	d.Next() // the option's name
	if before != nil {
		return nil, d.Err("controlm: the global option is stated twice; expected it once, with all environments in it")
	}
	app := App{Environments: make(map[string]*Environment), Clients: make(map[string]*Client)}
	if d.NextArg() {
		return nil, d.Errf("controlm: takes no argument here, found %q; expected a block with environments", d.Val())
	}
	err := parseBlock(d, "controlm", words{
		"environment": app.parseEnvironment,
		"client":      app.parseClient,
		"public":      ruleLine(&app.Public, publicLine),
	}, "environment", "client", "public")
	if err != nil {
		return nil, err
	}
	// What refers to environments can only be checked now that all are known.
	if _, err := app.newClients(); err != nil {
		return nil, d.WrapErr(err)
	}
	return httpcaddyfile.App{Name: "controlm", Value: caddyconfig.JSON(app, nil)}, nil
}

func (a *App) parseEnvironment(d *caddyfile.Dispenser) error {
	var name string
	if args := d.RemainingArgs(); len(args) != 1 {
		return d.Errf("environment: %d names; expected one, as in `environment prod {`", len(args))
	} else if name = args[0]; a.Environments[name] != nil {
		return d.Errf("environment %s: there are two of this name", name)
	}
	if err := checkName("environment", name); err != nil {
		return d.WrapErr(err)
	}
	e := &Environment{Accounts: make(map[string]*Account)}
	known := environmentWords(e)
	known["account"] = func(d *caddyfile.Dispenser) error { return e.parseAccount(d) }
	known["default_account"] = oneText(&e.DefaultAccount, "batch")
	at, err := parsePlaced(d, "environment", known, environmentRepeats...)
	if err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return at.wrap(fmt.Errorf("environment %s: %w", name, err))
	}
	a.Environments[name] = e
	return nil
}

func (e *Environment) parseAccount(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("account: %d names; expected one, as in `account batch {`", len(args))
	}
	name := args[0]
	if e.Accounts[name] != nil {
		return d.Errf("account %s: there are two of this name", name)
	}
	if err := checkName("account", name); err != nil {
		return d.WrapErr(err)
	}
	account := new(Account)
	if err := parseBlock(d, "account", accountWords(account, secretText)); err != nil {
		return err
	}
	if err := account.check(); err != nil {
		return d.Errf("account %s: %w", name, err)
	}
	e.Accounts[name] = account
	return nil
}
