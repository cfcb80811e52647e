package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

// ReadApp reads what a Caddy config in JSON says of controlm: the app, and the
// environments that stand inline in sites. It starts nothing, reads no secret
// and asks nothing of the network.
func ReadApp(config []byte) (*App, error) {
	var top struct {
		Apps map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(config, &top); err != nil {
		return nil, fmt.Errorf("reading the config, which is no JSON of Caddy's: %w", err)
	}
	app := new(App)
	raw := top.Apps["controlm"]
	stated := raw != nil && string(raw) != "null"
	if stated {
		if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
			return nil, fmt.Errorf("reading the config: the app controlm: %w", err)
		}
	}
	if err := app.addInline(top.Apps["http"]); err != nil {
		return nil, err
	}
	if !stated && len(app.Environments) == 0 {
		return nil, errors.New("the config has no global option controlm, and no controlm with an endpoint in a site")
	}
	return app, nil
}

// addInline looks for handlers with an environment of their own, at any depth:
// they may stand in subroutes.
func (a *App) addInline(raw json.RawMessage) error {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) == nil {
		if string(members["handler"]) == `"controlm"` && members["inline"] != nil {
			return a.addOneInline(members["inline"])
		}
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if err := a.addInline(members[name]); err != nil {
				return err
			}
		}
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for _, one := range list {
			if err := a.addInline(one); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *App) addOneInline(raw json.RawMessage) error {
	inline := new(Inline)
	if err := json.Unmarshal(raw, inline); err != nil {
		return fmt.Errorf("reading an inline environment: %w", err)
	}
	name, config, err := inline.environment()
	if err != nil {
		return err
	}
	if other := a.Environments[name]; other != nil {
		if !other.sameAs(config) {
			return twoOfOneName(name)
		}
		return nil
	}
	if a.Environments == nil {
		a.Environments = make(map[string]*Environment)
	}
	a.Environments[name] = config
	return nil
}

// Door is one account of a config, opened for a command: without a running
// gateway, and without a session.
type Door struct {
	Environment, Account string
	// Endpoints in the order of the config.
	Endpoints []string
	// Username is empty for an account with an API token.
	Username string
	// Secret is the password or the API token, and Source where it stands.
	Secret secret.Value
	Source secret.Spec
	// Config is what the config says of the environment.
	Config *Environment

	transport wire
	cancel    context.CancelFunc
}

// Open opens an account. Close it after use.
func (a *App) Open(environment, account string) (*Door, error) {
	config := a.Environments[environment]
	if config == nil {
		return nil, fmt.Errorf("there is no environment %q; expected one of %s", environment, names(a.Environments))
	}
	if err := config.check(); err != nil {
		return nil, fmt.Errorf("environment %s: %w", environment, err)
	}
	held := config.Accounts[account]
	if held == nil {
		return nil, fmt.Errorf("there is no account %q in environment %s; expected one of %s", account, environment, names(config.Accounts))
	}
	d := &Door{Environment: environment, Account: account, Endpoints: config.Endpoint, Config: config}
	if err := d.readSecret(held); err != nil {
		return nil, fmt.Errorf("account %s/%s: %w", environment, account, err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	d.cancel = cancel
	transport, err := config.newTransport(ctx)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("environment %s: %w", environment, err)
	}
	transport.Transport.DisableKeepAlives = true
	d.transport = wire{transport}
	return d, nil
}

func (d *Door) readSecret(config *Account) (err error) {
	word, text := "password", config.Password
	if config.APIToken != "" {
		word, text = "api_token", config.APIToken
	} else if d.Username, err = readOnce(config.Username); err != nil {
		return fmt.Errorf("username: %w", err)
	}
	if d.Source, err = secret.Parse(text); err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	d.Source.Header = config.APIToken != ""
	source, err := d.Source.Open(nil)
	if err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	defer source.Close()
	d.Secret, _ = source.Current()
	return nil
}

// Client speaks to one of the endpoints, as logins of a running gateway do.
func (d *Door) Client(endpoint string) *automationapi.Client {
	return automationapi.New(d.transport, endpoint)
}

// Close ends what Open began.
func (d *Door) Close() {
	if d.transport.HTTPTransport != nil {
		_ = d.transport.Cleanup()
	}
	d.cancel()
}

// AccountNames are the accounts of a config, as environment and account, in
// order.
func (a *App) AccountNames() (list [][2]string) {
	for _, environment := range slices.Sorted(maps.Keys(a.Environments)) {
		config := a.Environments[environment]
		if config == nil {
			continue
		}
		for _, account := range slices.Sorted(maps.Keys(config.Accounts)) {
			list = append(list, [2]string{environment, account})
		}
	}
	return list
}

// LoginTimeout is the environment's, with its default.
func (d *Door) LoginTimeout() caddy.Duration { return caddy.Duration(d.Config.loginTimeout()) }
