package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/endpoint"
	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/secret"
	"github.com/ctmgate/ctmgate/internal/session"
)

// environment is an Environment in one running config.
type environment struct {
	name      string
	config    *Environment
	key       string // identity
	bases     []*url.URL
	basePath  string
	fleet     *fleet
	transport wire
	rewriter  *relay.Rewriter
	accounts  map[string]*account
	logger    *zap.Logger
	exposed   map[string]bool // secret files that this load has warned of
}

// account is an Account in one running config.
type account struct {
	name    string
	sources []session.Source // by endpoint
	entry   *entry           // of an account with a password
	token   *secret.Source   // of an account with an API token
	stands  *session.Standing
	calls   *atomic.Uint64 // made with that
}

// standingCalls counts the calls of accounts with an API token, over reloads
// as sessions do for theirs. Only names of configs come in, so there are few.
var standingCalls sync.Map // [2]string of environment and account → *atomic.Uint64

// nobody is the account of public calls: they are sent without a credential.
var nobody = &account{sources: standing(&session.Standing{Secret: secret.Fixed(secret.Value{})}, endpoint.Most)}

// standing is one token that is good at every endpoint.
func standing(token *session.Standing, endpoints int) []session.Source {
	return slices.Repeat([]session.Source{token}, endpoints)
}

// newEnvironment builds what config, which has been checked, says.
func newEnvironment(ctx caddy.Context, name string, config *Environment, logger *zap.Logger, exposed map[string]bool) (_ *environment, err error) {
	env := &environment{name: name, config: config, logger: logger, accounts: make(map[string]*account), exposed: exposed}
	defer func() {
		if err != nil {
			env.close()
		}
	}()
	for _, text := range config.Endpoint {
		base, err := checkEndpoint(text, config.AllowPlainHTTP)
		if err != nil {
			return nil, err
		}
		env.bases = append(env.bases, base)
	}
	env.basePath = basePath(env.bases[0])
	if env.rewriter, err = relay.NewRewriter(slices.Concat(config.Endpoint, env.publicURLs())); err != nil {
		return nil, fmt.Errorf("endpoint or public_url: %w", err)
	}
	if env.transport.HTTPTransport, err = config.newTransport(ctx); err != nil {
		return nil, err
	}
	if env.key, err = env.identity(); err != nil {
		return nil, err
	}
	if env.fleet, err = acquireFleet(ctx, env); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(config.Accounts)) {
		a, err := env.newAccount(ctx, name, config.Accounts[name])
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", name, err)
		}
		env.accounts[name] = a
	}
	return env, nil
}

// publicURLs are the public URLs with their base path: one that is written
// without a path has the endpoint's.
func (env *environment) publicURLs() []string {
	urls := make([]string, 0, len(env.config.PublicURL))
	for _, text := range env.config.PublicURL {
		if u, err := url.Parse(text); err == nil && basePath(u) == "" {
			text = strings.TrimSuffix(text, "/") + env.basePath
		}
		urls = append(urls, text)
	}
	return urls
}

func (env *environment) newAccount(ctx caddy.Context, name string, config *Account) (*account, error) {
	a := &account{name: name}
	if config.APIToken != "" {
		spec, err := secret.Parse(config.APIToken)
		if err != nil {
			return nil, fmt.Errorf("api_token: %w", err)
		}
		spec.Header = true
		env.warnSecret(name, "api_token", spec)
		logger := env.accountLogger(name)
		if a.token, err = spec.Open(func(e secret.Event) { logSecret(logger, e) }); err != nil {
			return nil, fmt.Errorf("api_token: %w", err)
		}
		a.stands = &session.Standing{Secret: a.token, Over: func() {
			logger.Error("Control-M says that the API token is invalid or expired; make a new one, and put it where this one is kept",
				zap.Stringer("kept_in", spec))
		}}
		a.sources = standing(a.stands, len(env.bases))
		calls, _ := standingCalls.LoadOrStore([2]string{env.name, name}, new(atomic.Uint64))
		a.calls = calls.(*atomic.Uint64)
		return a, nil
	}
	username, err := readOnce(config.Username)
	if err != nil {
		return nil, fmt.Errorf("username: %w", err)
	}
	password, err := secret.Parse(config.Password)
	if err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	env.warnSecret(name, "password", password)
	if a.entry, err = acquireEntry(ctx, env, name, username, password); err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	for _, s := range a.entry.sessions {
		a.sources = append(a.sources, s)
	}
	return a, nil
}

// readOnce resolves a placeholder for something that is no secret.
func readOnce(text string) (string, error) {
	spec, err := secret.Parse(text)
	if err != nil {
		return "", err
	}
	src, err := spec.Open(nil)
	if err != nil {
		return "", err
	}
	defer src.Close()
	value, _ := src.Current()
	return value.Reveal(), nil
}

// warnSecret tells of a secret that more can read than should.
func (env *environment) warnSecret(account, word string, spec secret.Spec) {
	if spec.Kind == secret.Literal {
		env.logger.Warn("a secret stands in the config itself, where everyone who can read the config sees it; "+
			"write {file./path/to/secret} or {env.NAME} in its place",
			zap.String("environment", env.name), zap.String("account", account), zap.String("word", word))
	}
	if spec.Exposed() && !env.exposed[spec.Name] {
		env.exposed[spec.Name] = true
		env.logger.Warn("every user of this machine can read this secret file; have the user of this process own it, and chmod 600 it",
			zap.String("file", spec.Name))
	}
}

func (env *environment) accountLogger(account string) *zap.Logger {
	return env.logger.With(zap.String("environment", env.name), zap.String("account", account))
}

// logSecret writes down what happened to the file of an account's secret.
func logSecret(logger *zap.Logger, e secret.Event) {
	switch {
	case e.Err != nil:
		logger.Error("keeping the last good secret, since its file cannot be used", zap.String("file", e.Path), zap.Error(e.Err))
	case e.Changed:
		logger.Info("secret changed", zap.String("file", e.Path))
	default:
		logger.Info("the file of a secret can be read again", zap.String("file", e.Path))
	}
}

// choose returns the account for a site that names account, or none.
func (env *environment) choose(name string) (*account, error) {
	if name == "" {
		name = env.config.DefaultAccount
	}
	if name == "" && len(env.accounts) == 1 {
		for only := range env.accounts {
			name = only
		}
	}
	if name == "" {
		return nil, fmt.Errorf("environment %s has several accounts; expected `default_account` there or `account` here, one of %s",
			env.name, names(env.accounts))
	}
	a := env.accounts[name]
	if a == nil {
		return nil, fmt.Errorf("account %s: there is no such account in environment %s; expected one of %s",
			name, env.name, names(env.accounts))
	}
	return a, nil
}

// warm has the accounts log in whose idle_timeout is off.
func (env *environment) warm() {
	for _, a := range env.accounts {
		if a.entry != nil && env.config.IdleTimeout == idleOff {
			a.entry.warm()
		}
	}
}

// adopt has what survives configs log as this one says, and tell its app: the
// one that made it, or one that failed to load, may have logged elsewhere.
func (env *environment) adopt(app *App) {
	env.fleet.logger.Store(env.logger.With(zap.String("environment", env.name)))
	for _, a := range env.accounts {
		if a.entry == nil {
			continue
		}
		a.entry.logger.Store(env.accountLogger(a.name))
		a.entry.app.Store(app)
		expectLogins(env.name, a.name)
	}
}

// leaveAtExit is called when a server that uses the environment stops taking
// calls: at a reload too, which is no reason to leave.
func (env *environment) leaveAtExit() {
	if !caddy.Exiting() {
		return
	}
	for _, a := range env.accounts {
		if a.entry != nil {
			a.entry.leave()
		}
	}
	for e := range draining.Range {
		e.(*entry).leave()
	}
}

// close tolerates an environment that was built by half.
func (env *environment) close() {
	for _, a := range env.accounts {
		if a.entry != nil {
			releaseEntry(a.entry)
		}
		if a.token != nil {
			a.token.Close()
		}
	}
	if env.fleet != nil {
		env.fleet.release()
	}
	if env.transport.HTTPTransport != nil {
		_ = env.transport.Cleanup()
	}
}

// newTransport builds the way to the endpoint, for calls or for logins.
func (e *Environment) newTransport(ctx caddy.Context) (*reverseproxy.HTTPTransport, error) {
	t, err := e.transportConfig()
	if err != nil {
		return nil, err
	}
	off := false
	if t.Compression == nil {
		t.Compression = &off
	}
	if len(t.Versions) == 0 {
		t.Versions = []string{"1.1"}
	}
	if len(t.NetworkProxyRaw) == 0 {
		t.NetworkProxyRaw = caddyconfig.JSON(map[string]string{"from": "none"}, nil)
	}
	setDefault(&t.DialTimeout, 3*time.Second)
	setDefault(&t.ResponseHeaderTimeout, 2*time.Minute)
	if t.KeepAlive == nil {
		t.KeepAlive = new(reverseproxy.KeepAlive)
	}
	setDefault(&t.KeepAlive.IdleConnTimeout, 30*time.Second)
	if t.KeepAlive.MaxIdleConnsPerHost == 0 {
		t.KeepAlive.MaxIdleConnsPerHost = 256
	}
	if slices.ContainsFunc(e.Endpoint, isHTTPS) {
		if t.TLS, err = e.tlsConfig(); err != nil {
			return nil, err
		}
	}
	if err := t.Provision(ctx); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	nameProxy(t.Transport)
	return t, nil
}

// isHTTPS goes by the scheme, which may stand in capitals.
func isHTTPS(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && u.Scheme == "https"
}

func setDefault(d *caddy.Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = caddy.Duration(otherwise)
	}
}

// checkCertificates wants PEM with certificates in it: without any, no
// endpoint would be trusted, and only the first call would show it.
func checkCertificates(content []byte) error {
	found := false
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("holds a certificate that cannot be read: %w", err)
		}
		found = true
	}
	if !found {
		return errors.New("holds no certificate; expected PEM, beginning with -----BEGIN CERTIFICATE-----")
	}
	return nil
}

func (e *Environment) tlsConfig() (*reverseproxy.TLSConfig, error) {
	t := &reverseproxy.TLSConfig{
		ServerName:         e.TLSServerName,
		InsecureSkipVerify: e.TLSInsecureSkipVerify,
		HandshakeTimeout:   caddy.Duration(10 * time.Second),
	}
	for _, path := range e.TLSCAFile {
		content, err := os.ReadFile(path) //nolint:gosec // the operator names the path
		if err != nil {
			return nil, fmt.Errorf("tls_ca_file: %w", err)
		}
		if err := checkCertificates(content); err != nil {
			return nil, fmt.Errorf("tls_ca_file: %s %w", path, err)
		}
	}
	if len(e.TLSCAFile) > 0 {
		t.CARaw = caddyconfig.JSONModuleObject(caddytls.FileCAPool{TrustedCACertPEMFiles: e.TLSCAFile}, "provider", "file", nil)
	}
	if c := e.TLSClientCertificate; c != nil {
		if c.Certificate == "" || c.Key == "" {
			return nil, errors.New("tls_client_certificate: expected the paths of a certificate and of its key")
		}
		if _, err := tls.LoadX509KeyPair(c.Certificate, c.Key); err != nil {
			return nil, fmt.Errorf("tls_client_certificate: %w", err)
		}
		t.ClientCertificateFile, t.ClientCertificateKeyFile = c.Certificate, c.Key
	}
	return t, nil
}
