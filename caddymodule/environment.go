package caddymodule

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/relay"
	"github.com/ctmgate/ctmgate/internal/secret"
	"github.com/ctmgate/ctmgate/internal/session"
)

// environment is an Environment in one running config.
type environment struct {
	name      string
	config    *Environment
	base      *url.URL // of the endpoint in use
	basePath  string
	transport wire
	rewriter  *relay.Rewriter
	accounts  map[string]*account
	logger    *zap.Logger
}

// account is an Account in one running config.
type account struct {
	name   string
	source session.Source
	entry  *entry         // of an account with a password
	token  *secret.Source // of an account with an API token
}

// nobody is the account of public calls: they are sent without a credential.
var nobody = &account{source: session.Standing{Secret: secret.Fixed(secret.Value{})}}

// newEnvironment builds what config, which has been checked, says.
func newEnvironment(ctx caddy.Context, name string, config *Environment, logger *zap.Logger) (_ *environment, err error) {
	env := &environment{name: name, config: config, logger: logger, accounts: make(map[string]*account)}
	defer func() {
		if err != nil {
			env.close()
		}
	}()
	if env.base, err = checkEndpoint(config.Endpoint[0], config.AllowPlainHTTP); err != nil {
		return nil, err
	}
	env.basePath = basePath(env.base)
	if env.rewriter, err = relay.NewRewriter(slices.Concat(config.Endpoint, env.publicURLs())); err != nil {
		return nil, fmt.Errorf("endpoint or public_url: %w", err)
	}
	if env.transport.HTTPTransport, err = config.newTransport(ctx); err != nil {
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
		env.warnLiteral(name, "api_token", spec)
		logger := env.accountLogger(name)
		if a.token, err = spec.Open(func(e secret.Event) { logSecret(logger, e) }); err != nil {
			return nil, fmt.Errorf("api_token: %w", err)
		}
		a.source = session.Standing{Secret: a.token}
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
	env.warnLiteral(name, "password", password)
	if a.entry, err = acquireEntry(ctx, env, name, username, password); err != nil {
		return nil, fmt.Errorf("password: %w", err)
	}
	a.source = a.entry.session
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

func (env *environment) warnLiteral(account, word string, spec secret.Spec) {
	if spec.Kind == secret.Literal {
		env.logger.Warn("a secret stands in the config itself, where everyone who can read the config sees it; "+
			"write {file./path/to/secret} or {env.NAME} in its place",
			zap.String("environment", env.name), zap.String("account", account), zap.String("word", word))
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

func (env *environment) start() {
	if env.config.TLSInsecureSkipVerify {
		env.logger.Warn("tls_insecure_skip_verify accepts any certificate: whoever answers in the endpoint's place gets the passwords; "+
			"use tls_ca_file instead", zap.String("environment", env.name))
	}
	for _, a := range env.accounts {
		if a.entry == nil {
			continue
		}
		// The config that made the session may have logged elsewhere.
		a.entry.logger.Store(env.accountLogger(a.name))
		if env.config.IdleTimeout == idleOff {
			a.entry.session.Warm()
		}
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
	if u, err := url.Parse(e.Endpoint[0]); err == nil && u.Scheme == "https" {
		if t.TLS, err = e.tlsConfig(); err != nil {
			return nil, err
		}
	}
	if err := t.Provision(ctx); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	return t, nil
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
		t.ClientCertificateFile, t.ClientCertificateKeyFile = c.Certificate, c.Key
	}
	return t, nil
}
