package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/ctmgate/ctmgate/internal/endpoint"
	"github.com/ctmgate/ctmgate/internal/secret"
)

// check says what is wrong with an environment, by itself: no file is read
// and no name resolved.
func (e *Environment) check() error {
	if err := e.checkEndpoints(); err != nil {
		return &wordError{"endpoint", err}
	}
	for _, text := range e.PublicURL {
		if _, err := checkURL("public_url", text); err != nil {
			return &wordError{"public_url", err}
		}
	}
	switch name := e.TLSServerName; {
	case strings.ContainsAny(name, "{}"):
		return &wordError{"tls_server_name", errors.New("tls_server_name: placeholders are not read here; expected a host name")}
	case name != "" && !isHost(name):
		return &wordError{"tls_server_name", fmt.Errorf("tls_server_name: %q is no host name; expected one such as em.example.com", name)}
	}
	if err := e.checkTimes(); err != nil {
		return err
	}
	if _, err := e.transportConfig(); err != nil {
		return err
	}
	return e.checkAccounts()
}

// wordError is what is wrong with one word of an environment: its place in a
// Caddyfile is that of the word.
type wordError struct {
	word string
	error
}

func (e *wordError) Unwrap() error { return e.error }

var errNoEndpoint = errors.New("endpoint is missing; expected a URL such as https://em.example.com:8443/automation-api")

// CheckEndpoints says what is wrong with the endpoints of an environment, for
// commands that have them from elsewhere. Its errors show no password.
func CheckEndpoints(endpoints []string) error {
	return (&Environment{Endpoint: endpoints}).checkEndpoints()
}

func (e *Environment) checkEndpoints() error {
	if len(e.Endpoint) == 0 {
		return errNoEndpoint
	}
	if len(e.Endpoint) > endpoint.Most {
		return fmt.Errorf("endpoint: there are %d; expected at most %d", len(e.Endpoint), endpoint.Most)
	}
	var base string
	stated := make(map[string]string, len(e.Endpoint))
	for i, text := range e.Endpoint {
		u, err := checkEndpoint(text, e.AllowPlainHTTP)
		if err != nil {
			return err
		}
		same := sameEndpoint(u)
		if before, twice := stated[same]; twice {
			return fmt.Errorf("endpoint %s: it is stated twice, before as %s; expected each endpoint once", text, before)
		}
		stated[same] = text
		if i == 0 {
			base = basePath(u)
		} else if basePath(u) != base {
			return fmt.Errorf("endpoint %s: all endpoints of an environment share one base path; expected %q, as in the first",
				text, base)
		}
	}
	return nil
}

func (e *Environment) checkTimes() error {
	for word, d := range map[string]caddy.Duration{
		"login_timeout": e.LoginTimeout, "session_lifetime": e.SessionLifetime, "renew_before": e.RenewBefore,
	} {
		if d < 0 {
			return fmt.Errorf("%s: expected a duration above zero", word)
		}
	}
	if e.renewBefore() >= e.lifetime() {
		return &wordError{"renew_before", fmt.Errorf("renew_before is %s; expected less than session_lifetime, which is %s",
			e.renewBefore(), e.lifetime())}
	}
	return nil
}

func (e *Environment) checkAccounts() error {
	if len(e.Accounts) == 0 {
		return errors.New("there is no account; expected one with username and password, or with api_token")
	}
	for _, name := range slices.Sorted(maps.Keys(e.Accounts)) {
		if err := checkName("account", name); err != nil {
			return err
		}
		if err := e.Accounts[name].check(); err != nil {
			return fmt.Errorf("account %s: %w", name, err)
		}
	}
	if e.DefaultAccount != "" && e.Accounts[e.DefaultAccount] == nil {
		return &wordError{"default_account", fmt.Errorf("default_account %s: there is no such account; expected one of %s",
			e.DefaultAccount, names(e.Accounts))}
	}
	return nil
}

func (a *Account) check() error {
	if a == nil {
		a = &Account{}
	}
	const either = "expected username and password, or api_token alone"
	switch {
	case a.APIToken != "" && (a.Password != "" || a.Username != ""):
		return errors.New("it has both kinds of secret; " + either)
	case a.APIToken != "":
		return checkSecret("api_token", a.APIToken)
	case a.Username == "" && a.Password == "":
		return errors.New("it has no secret; expected username and password, or api_token")
	case a.Username == "":
		return errors.New("username is missing beside password; " + either)
	case a.Password == "":
		return errors.New("password is missing beside username; " + either)
	}
	if err := checkSecret("username", a.Username); err != nil {
		return err
	}
	return checkSecret("password", a.Password)
}

func checkSecret(word, text string) error {
	if _, err := secret.Parse(text); err != nil {
		return fmt.Errorf("%s: %w", word, err)
	}
	return nil
}

// maxName bounds names, in bytes: that of a client goes into every gateway token.
const maxName = 128

// checkName keeps names fit for URLs of the admin API, labels and log lines.
func checkName(what, name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%s name %q: expected at most %d characters", what, name, maxName)
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:", r)
	}) {
		return fmt.Errorf("%s name %q: expected letters, digits, and - _ . or : alone", what, name)
	}
	return nil
}

// checkName is checkName for the name of the environment, which the operator
// may not have written.
func (e *Environment) checkName(name string) error {
	err := checkName("environment", name)
	if err != nil && e.inline {
		return fmt.Errorf("%w; the name is what `name` says, else the endpoint's host", err)
	}
	return err
}

// looksLikeHost tells whether the name of an environment may have been meant as
// an endpoint.
func looksLikeHost(name string) bool { return strings.ContainsAny(name, ".:") }

func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

func checkEndpoint(text string, allowPlainHTTP bool) (*url.URL, error) {
	u, err := checkURL("endpoint", text)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" && !allowPlainHTTP && !isLoopbackName(u.Hostname()) {
		return nil, fmt.Errorf("endpoint %s: plain http would send passwords in the clear; "+
			"expected https, or allow_plain_http beside it", text)
	}
	return u, nil
}

func checkURL(word, text string) (*url.URL, error) {
	fail := func(why string) (*url.URL, error) {
		return nil, fmt.Errorf("%s: %s; expected a URL such as https://em.example.com:8443/automation-api", word, why)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		// The parser's text repeats the URL, which may hold a password.
		return fail("it is no URL")
	case u.User != nil:
		return fail("it holds a user name or password")
	case u.Scheme != "http" && u.Scheme != "https":
		return fail(mention(text) + " is no absolute http or https URL")
	case u.Hostname() == "" || strings.ContainsAny(text, "{} \\"):
		return fail(mention(text) + " names no host")
	case !isHost(strings.Map(asLetter, u.Hostname())):
		return fail("its host is no host name")
	case strings.HasSuffix(u.Host, ":") || !isPort(u.Port()):
		return fail("its port is no number from 1 to 65535")
	case u.RawQuery != "" || u.ForceQuery:
		return fail("it has a query")
	case strings.Contains(text, "#"):
		return fail("it has a fragment")
	case strings.Contains(u.EscapedPath(), "//") || strings.ContainsAny(u.EscapedPath(), ";%"):
		return fail("its path is not plain")
	case slices.ContainsFunc(strings.Split(u.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
		return fail("its path has dot segments")
	}
	return u, nil
}

var hostName = regexp.MustCompile(`^([\w-]{1,63}\.)*[\w-]{1,63}\.?$`)

// isHost tells whether text can be a host, without a port: an IP address, or a
// name as DNS has it. An underscore is none of a host's by the book, and many
// have one.
func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || hostName.MatchString(text)
}

// asLetter is for hosts of URLs, which may have the letters of all scripts:
// net/http writes them as DNS does.
func asLetter(r rune) rune {
	if r > unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r)) {
		return 'x'
	}
	return r
}

// withoutUser is what can hold no user name and password: a colon in it stands
// after a scheme or before a port.
var withoutUser = regexp.MustCompile(`^([a-z]+://)?[\w.-]*(:\d*)?(/[\w./-]*)?$`)

// mention is text as an error says it, or "it" where that could show a password
// to whoever reads the error.
func mention(text string) string {
	if !withoutUser.MatchString(text) {
		return "it"
	}
	return strconv.Quote(text)
}

// isPort tells whether text is a port as one writes it, or none.
func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return text == "" || err == nil && 0 < n && n <= 65535 && text == strconv.Itoa(n)
}

// basePath is the path of an endpoint without its last slash; "" for none.
func basePath(u *url.URL) string { return strings.TrimSuffix(u.EscapedPath(), "/") }

// isLoopbackName tells whether host, without a port, can only be this machine.
func isLoopbackName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func (e *Environment) loginTimeout() time.Duration {
	return orDefault(e.LoginTimeout, defaultLoginTimeout)
}

func (e *Environment) lifetime() time.Duration {
	return orDefault(e.SessionLifetime, defaultSessionLifetime)
}

func (e *Environment) renewBefore() time.Duration {
	return orDefault(e.RenewBefore, min(defaultRenewBefore, e.lifetime()/6))
}

// idleTimeout is 0 for "off", as the session wants it.
func (e *Environment) idleTimeout() time.Duration {
	if e.IdleTimeout == idleOff {
		return 0
	}
	return orDefault(caddy.Duration(e.IdleTimeout), defaultIdleTimeout)
}

func orDefault(d caddy.Duration, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

var (
	errTransportTLS = errors.New("transport http: TLS is not said here; expected tls_ca_file, tls_server_name, " +
		"tls_client_certificate or tls_insecure_skip_verify beside endpoint")
	errTransportProxyProtocol = errors.New("transport http: proxy_protocol cannot be used here, since calls of several callers " +
		"share a connection, and logins have no caller: leave it out")
)

// transportConfig reads the words of `transport http`.
func (e *Environment) transportConfig() (*reverseproxy.HTTPTransport, error) {
	t := new(reverseproxy.HTTPTransport)
	if len(e.Transport) == 0 {
		return t, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Transport, &members); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if protocol, ok := members["protocol"]; ok && string(protocol) != `"http"` {
		return nil, fmt.Errorf("transport %s: expected transport http", protocol)
	}
	delete(members, "protocol")
	rest, err := json.Marshal(members)
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	if err := caddy.StrictUnmarshalJSON(rest, t); err != nil {
		return nil, fmt.Errorf("transport http: %w", err)
	}
	// Names of members mind no case, so what they became is asked.
	if t.TLS != nil {
		return nil, errTransportTLS
	}
	if t.ProxyProtocol != "" {
		return nil, errTransportProxyProtocol
	}
	for _, d := range transportDurations(t) {
		if d.value < 0 {
			return nil, fmt.Errorf("transport http: %s: expected a duration above zero", d.member)
		}
	}
	return t, nil
}

// transportDuration is a duration of `transport http`, with its names in a
// Caddyfile and in JSON.
type transportDuration struct {
	word, member string
	value        caddy.Duration
}

// transportDurations are those that are above zero. Of dial_fallback_delay, a
// negative one is Caddy's word for off.
func transportDurations(t *reverseproxy.HTTPTransport) []transportDuration {
	alive := t.KeepAlive
	if alive == nil {
		alive = new(reverseproxy.KeepAlive)
	}
	return []transportDuration{
		{"dial_timeout", "dial_timeout", t.DialTimeout},
		{"response_header_timeout", "response_header_timeout", t.ResponseHeaderTimeout},
		{"expect_continue_timeout", "expect_continue_timeout", t.ExpectContinueTimeout},
		{"read_timeout", "read_timeout", t.ReadTimeout},
		{"write_timeout", "write_timeout", t.WriteTimeout},
		{"keepalive", "keep_alive.idle_timeout", alive.IdleConnTimeout},
		{"keepalive_interval", "keep_alive.probe_interval", alive.ProbeInterval},
	}
}
