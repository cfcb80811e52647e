package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/apipath"
)

// Client is a script, team or tool that calls the gateway: how it proves
// itself, and what it may call. It needs one proof at least, and one `allow`.
type Client struct {
	// Gateway keys, by their hash. Several, so that they can be rolled.
	KeySHA256 []ClientKey `json:"key_sha256,omitempty"`
	// Users of Caddy's own authentication that are this client: what
	// {http.auth.user.id} is after basic_auth or another module in front.
	User []string `json:"user,omitempty"`
	// Subjects of certificates that are this client, such as
	// CN=nightly,O=Example. Caddy must have verified the certificate.
	CertificateSubject []string `json:"certificate_subject,omitempty"`
	// The accounts it acts as, each as environment/account, one for an
	// environment. Default: the site's, else the environment's.
	Account []string `json:"account,omitempty"`
	// What it may call: a named set (read_only, monitor, order, operate,
	// deploy), or methods and paths as in "GET,POST /run/*". What no line
	// allows is denied.
	Allow []string `json:"allow,omitempty"`
	// What it may not call, whatever is allowed: methods and paths.
	Deny []string `json:"deny,omitempty"`
	// Opens the operations that handle credentials and rights to it, as far as
	// its lines allow them. With them it can make an API token that needs no
	// gateway any more.
	AllowCredentialChanges bool `json:"allow_credential_changes,omitempty"`
	// How many calls it may make, as in "20/s burst 40": per second (s), minute
	// (m) or hour (h); the burst is what may come at once, by default what the
	// rate allows in a second. Beyond it calls are answered 429. Default: no
	// bound.
	Rate string `json:"rate,omitempty"`
	// How many of its calls may be under way at once, WebSockets included.
	// Beyond it calls are answered 429. Default: no bound.
	MaxConcurrent int `json:"max_concurrent,omitempty"`
	// The most bytes of a call's body. A longer one is answered 413, or broken
	// off where its length was not told. Default: no bound.
	MaxBody int64 `json:"max_body,omitempty"`
	// Headers that are set on its calls that change something: see the site's.
	Annotate map[string]string `json:"annotate,omitempty"`
	// Lets its annotations win over what the caller sent.
	AnnotateOverride bool `json:"annotate_override,omitempty"`
}

// ClientKey is one gateway key.
type ClientKey struct {
	// The SHA-256 of the key's text, in hexadecimal.
	Hash string `json:"hash"`
	// Tells the keys of a client apart in logs. It may be anything but "expires".
	Name string `json:"name,omitempty"`
	// The last day, as 2027-06-30 in UTC, on which the key is honoured.
	// Default: it does not end.
	Expires string `json:"expires,omitempty"`
}

// clients are the Clients of one config. Nil when there are none.
type clients struct {
	directory   *access.Directory
	public      access.Rules
	annotations map[string]annotations // by client
}

// newClients reads what the config says of clients.
func (a *App) newClients() (*clients, error) {
	public, err := publicRules(a.Public)
	if err != nil {
		return nil, fmt.Errorf("public: %w", err)
	}
	if len(a.Clients) == 0 {
		if len(a.Public) > 0 {
			return nil, errors.New("public: there are no clients that it could be an exception from; expected a client beside it")
		}
		return nil, nil
	}
	list := make([]*access.Client, 0, len(a.Clients))
	annotated := make(map[string]annotations)
	for _, name := range slices.Sorted(maps.Keys(a.Clients)) {
		client, err := a.newClient(name, a.Clients[name])
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", name, err)
		}
		list = append(list, client)
		if config := a.Clients[name]; config != nil && len(config.Annotate) > 0 {
			if annotated[name], err = newAnnotations(config.Annotate, config.AnnotateOverride); err != nil {
				return nil, fmt.Errorf("client %s: %w", name, err)
			}
		}
	}
	directory, err := access.NewDirectory(list)
	if err != nil {
		return nil, err
	}
	return &clients{directory: directory, public: public, annotations: annotated}, nil
}

// noClients know nobody.
var noClients = &clients{directory: new(access.Directory)}

// opens tells whether a path is open without proof, and by which line.
func (c *clients) opens(path apipath.Path) (line string, ok bool) {
	if path.Protected() {
		return "", false
	}
	ok, line = c.public.Decide(path)
	return "public" + strings.TrimPrefix(line, "allow"), ok
}

// warnClients tells the operator what cannot be meant as it stands.
func (a *App) warnClients() {
	if a.known == nil {
		return
	}
	now := time.Now()
	for _, name := range slices.Sorted(maps.Keys(a.Clients)) {
		client, _ := a.known.directory.ByName(name)
		for _, line := range client.Warnings() {
			a.logger.Warn("a rule has no effect", zap.String("client", name), zap.String("rule", line))
		}
		for i := range client.Keys {
			if key := &client.Keys[i]; key.Ended(now) {
				a.logger.Warn("a key has ended and is not honoured any more; take it out, or give the client a new one",
					zap.String("client", name), zap.String("key", key.Name), zap.String("expires", a.Clients[name].KeySHA256[i].Expires))
			}
		}
	}
	idle, wide := a.known.public.PublicWarnings()
	for _, line := range idle {
		a.logger.Warn("a rule has no effect", zap.String("rule", line))
	}
	for _, line := range wide {
		a.logger.Warn("a public line opens much to callers without proof", zap.String("rule", line))
	}
}

func (a *App) newClient(name string, config *Client) (*access.Client, error) {
	if config == nil {
		config = new(Client)
	}
	client, err := config.client(name)
	if err != nil {
		return nil, err
	}
	client.Accounts, err = a.clientAccounts(config.Account)
	return client, err
}

// client is what the config says of one client, but for its accounts.
func (c *Client) client(name string) (*access.Client, error) {
	// The name is a user name in HTTP Basic too, where a colon ends it.
	if strings.Contains(name, ":") {
		return nil, fmt.Errorf("client name %q: expected a name without a colon", name)
	}
	if err := checkName("client", name); err != nil {
		return nil, err
	}
	rules, err := c.rules()
	if err != nil {
		return nil, err
	}
	limits, err := c.limits()
	if err != nil {
		return nil, err
	}
	if _, err := newAnnotations(c.Annotate, c.AnnotateOverride); err != nil {
		return nil, err
	}
	client := &access.Client{
		Name: name, Users: c.User, Subjects: c.CertificateSubject, Rules: rules,
		AllowCredentialChanges: c.AllowCredentialChanges, Limits: limits,
	}
	for _, k := range c.KeySHA256 {
		key, err := k.key()
		if err != nil {
			return nil, fmt.Errorf("key_sha256: %w", err)
		}
		client.Keys = append(client.Keys, key)
	}
	return client, nil
}

func (c *Client) limits() (l access.Limits, err error) {
	if c.Rate != "" {
		if l.PerSecond, l.Burst, err = access.ParseRate(strings.Fields(c.Rate)); err != nil {
			return l, fmt.Errorf("rate: %w", err)
		}
	}
	if c.MaxConcurrent < 0 {
		return l, errors.New("max_concurrent: expected a number above zero")
	}
	if c.MaxBody < 0 {
		return l, errors.New("max_body: expected a size above zero, such as 100MiB")
	}
	l.Concurrent, l.Body = c.MaxConcurrent, c.MaxBody
	return l, nil
}

// check says what is wrong with a client by itself.
func (c *Client) check(name string) error {
	client, err := c.client(name)
	if err != nil {
		return err
	}
	_, err = access.NewDirectory([]*access.Client{client})
	return err
}

func (k ClientKey) key() (key access.Key, err error) {
	// Whoever forgot the day would have a key that never ends.
	if strings.EqualFold(k.Name, "expires") {
		return key, fmt.Errorf("a key cannot be named %s; expected its last day after that, as in expires 2027-06-30", k.Name)
	}
	key.Name = k.Name
	if key.Hash, err = access.ParseKeyHash(k.Hash); err != nil {
		return key, err
	}
	key.Used = usesOf(key.Hash)
	if k.Expires != "" {
		key.Ends, err = access.ParseKeyEnd(k.Expires)
	}
	return key, err
}

func (c *Client) rules() (access.Rules, error) {
	var lines []access.Rule
	for word, texts := range map[string][]string{"allow": c.Allow, "deny": c.Deny} {
		for _, text := range texts {
			rule, err := access.ParseRule(word == "deny", strings.Fields(text))
			if err != nil {
				return access.Rules{}, fmt.Errorf("%s: %w", word, err)
			}
			lines = append(lines, rule)
		}
	}
	return access.NewRules(lines...), nil
}

// clientAccounts reads lines of environment/account.
func (a *App) clientAccounts(lines []string) (map[string]string, error) {
	accounts := make(map[string]string, len(lines))
	for _, line := range lines {
		env, account, ok := strings.Cut(line, "/")
		if !ok || env == "" || account == "" {
			return nil, fmt.Errorf("account %q: expected environment/account, as in prod/batch", line)
		}
		config := a.Environments[env]
		if config == nil {
			return nil, fmt.Errorf("account %s: there is no environment %s in the global option controlm; expected one of: %s", line, env, names(a.Environments))
		}
		if config.Accounts[account] == nil {
			return nil, fmt.Errorf("account %s: there is no such account in environment %s; expected one of %s", line, env, names(config.Accounts))
		}
		if accounts[env] != "" {
			return nil, fmt.Errorf("account %s: there are two for environment %s; expected one", line, env)
		}
		accounts[env] = account
	}
	return accounts, nil
}

// publicRules reads the lines of `public`, which name paths and no set: what
// anybody may call without proof should be there to be read.
func publicRules(texts []string) (access.Rules, error) {
	var lines []access.Rule
	for _, text := range texts {
		words := strings.Fields(text)
		if len(words) < 2 {
			return access.Rules{}, fmt.Errorf("%q: expected methods and paths, as in `public GET /ctm-cli.tgz`", text)
		}
		rule, err := access.ParseRule(false, words)
		if err != nil {
			return access.Rules{}, err
		}
		lines = append(lines, rule)
	}
	return access.NewRules(lines...), nil
}
