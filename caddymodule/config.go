package caddymodule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Defaults of an environment and of a site.
const (
	defaultLoginTimeout    = 15 * time.Second
	defaultSessionLifetime = 30 * time.Minute
	defaultRenewBefore     = 5 * time.Minute
	defaultIdleTimeout     = 30 * time.Minute
	defaultReplayBuffer    = 1 << 20
)

// Environment is one Control-M Automation API: its endpoints, how they are
// trusted, and the accounts that the gateway acts as there.
type Environment struct {
	// The base URLs of the API, such as
	// https://em.example.com:8443/automation-api, in the order of preference, 16
	// at most. All share one base path, and lead to one Control-M. The first
	// that answers is used; each has a session of its own. Required.
	Endpoint []string `json:"endpoint,omitempty"`

	// PEM files with the certificates to trust instead of the system's: of the
	// CA that signed the endpoint's certificate, or that certificate itself.
	// Read at load. Default: the system's.
	TLSCAFile []string `json:"tls_ca_file,omitempty"`
	// The name that the endpoint's certificate must bear, where it is not the
	// host of the endpoint.
	TLSServerName string `json:"tls_server_name,omitempty"`
	// The certificate that the gateway shows to the endpoint.
	TLSClientCertificate *ClientCertificate `json:"tls_client_certificate,omitempty"`
	// Accepts any certificate: whoever can answer in the endpoint's place gets
	// the passwords. Warns at every load. Prefer tls_ca_file.
	TLSInsecureSkipVerify bool `json:"tls_insecure_skip_verify,omitempty"`
	// Allows an endpoint with plain http that is not a loopback address: its
	// passwords cross the network in the clear.
	AllowPlainHTTP bool `json:"allow_plain_http,omitempty"`

	// The longest a login may take. Default: 15s.
	LoginTimeout caddy.Duration `json:"login_timeout,omitempty"`
	// How long a token lasts. Control-M documents 30 minutes and does not say
	// whether use prolongs it, so it is counted from the login
	// (controlm-api.md, section 3). Default: 30m.
	SessionLifetime caddy.Duration `json:"session_lifetime,omitempty"`
	// How long before its end a token is renewed in the background. Must be
	// less than session_lifetime. Default: 5m, or a sixth of session_lifetime
	// where that is less.
	RenewBefore caddy.Duration `json:"renew_before,omitempty"`
	// A session unused for so long is logged out and not renewed. "off" logs
	// in at start and keeps the session for good. Default: 30m.
	IdleTimeout IdleTimeout `json:"idle_timeout,omitempty"`

	// Other URLs under which the API prints itself in its answers, such as that
	// of a balancer in front of it. One without a path has the endpoint's.
	PublicURL []string `json:"public_url,omitempty"`

	// How connections are made, in the words of Caddy's reverse_proxy
	// transport "http", for logins and calls alike. What it says of TLS is an
	// error: the words above say it. So is proxy_protocol, since calls of
	// several callers share a connection. Other defaults than Caddy's: HTTP/1.1
	// only, no compression, no forward proxy from the environment,
	// response_header_timeout 2m, 256 idle connections for 30s.
	Transport json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// Who the gateway is at the API, by name. At least one.
	Accounts map[string]*Account `json:"accounts,omitempty"`
	// The account of a site that names none. May be left out when there is one
	// account only.
	DefaultAccount string `json:"default_account,omitempty"`

	inline bool // it stands in a handler
}

// ClientCertificate is a certificate and its key, as paths of PEM files.
type ClientCertificate struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Account is a Control-M user or an API token. Exactly one of password and
// api_token is given. Each value that is as a whole {file.PATH} or {env.NAME}
// is read from there: a variable at load, a file whenever it changes, within
// 5 s. Anything else is the value itself, and visible to everyone who can
// read the config.
type Account struct {
	// The Control-M user.
	Username string `json:"username,omitempty"`
	// The user's password.
	Password string `json:"password,omitempty"`
	// A standing API token, sent as x-api-key. The gateway never logs in with
	// it and never ends it.
	APIToken string `json:"api_token,omitempty"`
}

// Inline is an environment with one account, written where it is used.
type Inline struct {
	// The environment's name, for logs, metrics and the command line. Default:
	// the endpoint's host, in lower case. Inline environments of one name and with the same
	// settings are one; else two of one name are an error.
	Name string `json:"name,omitempty"`
	Environment
	Account
}

// sameAs tells whether two environments of one name are one: inline ones
// that say the same, since a site with two addresses, or a snippet that two
// sites import, states each of its handlers twice.
func (e *Environment) sameAs(other *Environment) bool {
	if !e.inline || !other.inline {
		return false
	}
	one, err := json.Marshal(e)
	if err != nil {
		return false
	}
	two, err := json.Marshal(other)
	return err == nil && bytes.Equal(one, two)
}

func twoOfOneName(name string) error {
	return fmt.Errorf("environment %s: there are two of this name; give this one another with `name`, state both alike, "+
		"or state it once in the global options and refer to it by name", name)
}

// inlineAccount is the name of an inline environment's account.
const inlineAccount = "default"

// IdleTimeout is a duration, or "off".
type IdleTimeout caddy.Duration

// idleOff is the IdleTimeout "off"; zero is "not stated".
const idleOff IdleTimeout = -1

// UnmarshalJSON reads a duration as Caddy does, or "off".
func (t *IdleTimeout) UnmarshalJSON(b []byte) error {
	if string(b) == `"off"` {
		*t = idleOff
		return nil
	}
	var d caddy.Duration
	if err := json.Unmarshal(b, &d); err != nil {
		return fmt.Errorf(`reading idle_timeout: expected a duration, such as "30m", or "off": %w`, err)
	}
	if d <= 0 {
		return fmt.Errorf(`reading idle_timeout: expected a duration above zero, or "off"`)
	}
	*t = IdleTimeout(d)
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (t IdleTimeout) MarshalJSON() ([]byte, error) {
	if t == idleOff {
		return []byte(`"off"`), nil
	}
	return json.Marshal(caddy.Duration(t))
}
