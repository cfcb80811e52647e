package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
)

// settings is a sidecar as its flags and environment describe it. It holds no
// secret, only the places where one is found.
type settings struct {
	endpoints []string
	listen    caddy.NetworkAddress
	status    *caddy.NetworkAddress // nil: off

	username string // the name itself, or {env.NAME}
	password string // {env.NAME} or {file.PATH}
	apiToken string // {env.NAME} or {file.PATH}

	caFiles            []string
	insecureSkipVerify bool

	admit []string // as the handler's `admit`
	admin string   // as Caddy's admin address, or "off"
	tls   *tlsSettings
}

// tlsSettings are how a sidecar serves https: with certificate and key from
// files, or with a certificate of Caddy's internal CA where there are none.
type tlsSettings struct {
	certificate, key string
}

// The flags of a sidecar, and the variables that stand in for them.
const (
	flagEndpoint     = "endpoint"
	flagListen       = "listen"
	flagUsername     = "username"
	flagPasswordFile = "password-file"
	flagTokenFile    = "api-token-file"
	flagCAFile       = "ca-file"
	flagInsecure     = "insecure-skip-verify"
	flagAdmit        = "admit"
	flagHost         = "host"
	flagAdmin        = "admin"
	flagStatus       = "status-listen"
	flagTLS          = "tls"

	envEndpoint     = "CTM_ENDPOINT"
	envUsername     = "CTM_USERNAME"
	envUser         = "CTM_USER"
	envPassword     = "CTM_PASSWORD"       //nolint:gosec // a name
	envPasswordFile = "CTM_PASSWORD_FILE"  //nolint:gosec // a name
	envToken        = "CTM_API_TOKEN"      //nolint:gosec // a name
	envTokenFile    = "CTM_API_TOKEN_FILE" //nolint:gosec // a name
	envCAFile       = "CTM_CA_FILE"
	envInsecure     = "CTM_INSECURE_SKIP_VERIFY"
	envListen       = "CTMGATE_LISTEN"
	envAdmit        = "CTMGATE_ADMIT"
	envAdmin        = "CADDY_ADMIN"
)

const adminUsage = "address of Caddy's admin API, such as 127.0.0.1:2019, or off; default: a Unix socket of this user's (" + envAdmin + ")"

// addSettings gives cmd the flags that readSettings reads.
func addSettings(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSlice(flagEndpoint, nil, "base URL of the Automation API; several, repeated or with commas, in the order of preference ("+envEndpoint+")")
	f.String(flagListen, defaultListen, "address to listen on: host:port, or unix//path/to/socket ("+envListen+")")
	f.String(flagUsername, "", "Control-M user ("+envUsername+" or "+envUser+")")
	f.String(flagPasswordFile, "", "file with the user's password ("+envPasswordFile+", or the password itself in "+envPassword+")")
	f.String(flagTokenFile, "", "file with an API token, in place of user and password ("+envTokenFile+", or the token itself in "+envToken+")")
	f.StringArray(flagCAFile, nil, "PEM file with the CA of the endpoint's certificate, or that certificate; repeatable ("+envCAFile+")")
	f.Bool(flagInsecure, false, "accept any certificate of the endpoint; whoever answers in its place gets the password ("+envInsecure+")")
	f.String(flagAdmit, "loopback", "who may call: loopback, which is this machine, or anyone ("+envAdmit+")")
	f.StringArray(flagHost, nil, "another host name under which callers on this machine may call; repeatable")
	f.String(flagAdmin, "", adminUsage)
	f.String(flagStatus, "", "address that serves /metrics, /healthz and /readyz apart from the API; default: off")
	f.String(flagTLS, "", "serve https: internal, or CERT,KEY as paths of PEM files")
}

// reader looks a setting up in the flags, then in the environment.
type reader struct {
	cmd *cobra.Command
	env func(string) string
}

// text returns the value of flag, else of the variable, else the flag's
// default, and the name of where it comes from.
func (r reader) text(flag, variable string) (value, origin string) {
	value, _ = r.cmd.Flags().GetString(flag) // the flag exists
	if !r.cmd.Flags().Changed(flag) && variable != "" && r.env(variable) != "" {
		return r.env(variable), variable
	}
	return value, "--" + flag
}

// readSettings reads flags and environment. Its errors are usage errors.
func readSettings(cmd *cobra.Command, env func(string) string) (settings, error) {
	r := reader{cmd, env}
	var s settings
	for _, read := range []func(*settings) error{r.endpoints, r.account, r.trust, r.admission, r.addresses, r.serving} {
		if err := read(&s); err != nil {
			return settings{}, err
		}
	}
	return s, nil
}

func (r reader) endpoints(s *settings) error {
	s.endpoints, _ = r.cmd.Flags().GetStringSlice(flagEndpoint)
	if len(s.endpoints) == 0 {
		s.endpoints = strings.FieldsFunc(r.env(envEndpoint), func(c rune) bool { return c == ',' || c == ' ' || c == '\n' })
	}
	if len(s.endpoints) == 0 {
		return usagef("there is no endpoint; set %s or --%s to the base URL of the Automation API, as in "+
			"--endpoint https://em.example.com:8443/automation-api", envEndpoint, flagEndpoint)
	}
	if err := caddymodule.CheckEndpoints(s.endpoints); err != nil {
		return usageError{err}
	}
	return nil
}

// secretSource is one place where a secret may be.
type secretSource struct {
	origin   string // what the operator set
	word     string // what kind of secret that is
	value    string // as the operator wrote it; of a variable that is itself a secret, its name
	variable bool   // value is the name of a variable
}

// placeholder is how Caddy's config says where the secret is.
func (s secretSource) placeholder() (string, error) {
	if s.variable {
		return "{env." + s.value + "}", nil
	}
	path, err := filepath.Abs(s.value)
	if err != nil || strings.ContainsAny(path, "{}") {
		return "", usagef("%s: the path of a secret cannot have braces in it, and has to exist", s.origin)
	}
	return "{file." + path + "}", nil
}

const (
	wordPassword = "password"
	wordToken    = "API token"
)

func (r reader) secretSources() []secretSource {
	var flags, variables []secretSource
	for _, c := range []secretSource{
		{origin: "--" + flagPasswordFile, word: wordPassword, value: flagPasswordFile},
		{origin: "--" + flagTokenFile, word: wordToken, value: flagTokenFile},
	} {
		if path, _ := r.cmd.Flags().GetString(c.value); path != "" {
			c.value = path
			flags = append(flags, c)
		}
	}
	if len(flags) > 0 {
		return flags // a flag beats the environment, whatever kind of secret that has
	}
	for _, c := range []secretSource{
		{origin: envPassword, word: wordPassword, variable: true},
		{origin: envPasswordFile, word: wordPassword},
		{origin: envToken, word: wordToken, variable: true},
		{origin: envTokenFile, word: wordToken},
	} {
		switch text := r.env(c.origin); {
		case text == "":
			continue
		case c.variable:
			c.value = c.origin
		default:
			c.value = text
		}
		variables = append(variables, c)
	}
	return variables
}

func (r reader) account(s *settings) error {
	found := r.secretSources()
	if len(found) > 1 {
		return usagef("%s and %s are both set; expected one of them", found[0].origin, found[1].origin)
	}
	username, usernameFrom, err := r.username()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return usagef("there is no password and no API token; set %s and %s, or %s (or %s, or %s), as in\n"+
			"  CTM_USERNAME=batch CTM_PASSWORD_FILE=/run/secrets/ctm_password %s sidecar --endpoint https://em.example.com:8443/automation-api",
			envUsername, envPasswordFile, envTokenFile, envPassword, envToken, binary())
	}
	secret := found[0]
	text, err := secret.placeholder()
	if err != nil {
		return err
	}
	if secret.word == wordToken {
		// A user in the environment does not count where a flag names a token.
		beaten := strings.HasPrefix(secret.origin, "--") && !strings.HasPrefix(usernameFrom, "--")
		if username != "" && !beaten {
			return usagef("%s and %s are both set; an API token stands alone, without a user", usernameFrom, secret.origin)
		}
		s.apiToken = text
		return nil
	}
	if username == "" {
		return usagef("there is a password in %s, and no user; set %s or --%s", secret.origin, envUsername, flagUsername)
	}
	s.username, s.password = username, text
	return nil
}

// username returns the user as the config has it, and where it comes from.
func (r reader) username() (value, origin string, err error) {
	if name, _ := r.cmd.Flags().GetString(flagUsername); name != "" {
		return name, "--" + flagUsername, nil
	}
	name, other := r.env(envUsername), r.env(envUser)
	switch {
	case name != "" && other != "" && name != other:
		return "", "", usagef("%s and %s name different users; expected one of them", envUsername, envUser)
	case name != "":
		return "{env." + envUsername + "}", envUsername, nil
	case other != "":
		return "{env." + envUser + "}", envUser, nil
	}
	return "", "", nil
}

func (r reader) trust(s *settings) error {
	s.caFiles, _ = r.cmd.Flags().GetStringArray(flagCAFile)
	origin := "--" + flagCAFile
	if path := r.env(envCAFile); len(s.caFiles) == 0 && path != "" {
		s.caFiles, origin = []string{path}, envCAFile
	}
	for i, path := range s.caFiles {
		absolute, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(absolute)
		}
		if err != nil {
			return usagef("%s: %w", origin, err)
		}
		s.caFiles[i] = absolute
	}
	s.insecureSkipVerify, _ = r.cmd.Flags().GetBool(flagInsecure)
	text := r.env(envInsecure)
	if r.cmd.Flags().Changed(flagInsecure) || text == "" {
		return nil
	}
	switch strings.ToLower(text) {
	case "1", "true", "yes":
		s.insecureSkipVerify = true
	case "0", "false", "no":
		s.insecureSkipVerify = false
	default:
		return usagef("%s is %q; expected 1, true or yes, or 0, false or no", envInsecure, text)
	}
	return nil
}

func (r reader) admission(s *settings) error {
	text, origin := r.text(flagAdmit, envAdmit)
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != "loopback" && words[0] != "anyone" {
		return usagef("%s is %q; expected loopback or anyone", origin, text)
	}
	hosts, _ := r.cmd.Flags().GetStringArray(flagHost)
	s.admit = slices.Concat(words, hosts)
	if words[0] == "anyone" && len(s.admit) > 1 {
		return usagef("%s is anyone, which takes no host names; expected loopback beside --%s", origin, flagHost)
	}
	if err := caddymodule.CheckAdmission(s.admit); err != nil {
		return usagef("%s and --%s: %w", origin, flagHost, err)
	}
	return nil
}

func (r reader) addresses(s *settings) error {
	var err error
	if s.listen, err = r.address(flagListen, envListen); err != nil {
		return err
	}
	var status, admin caddy.NetworkAddress
	if text, _ := r.text(flagStatus, ""); text != "" {
		if status, err = r.address(flagStatus, ""); err != nil {
			return err
		}
		s.status = &status
	}
	if s.admin, admin, err = r.adminAddress(); err != nil {
		return err
	}
	return apart(r.named(flagListen, envListen, s.listen), r.named(flagStatus, "", status), r.named(flagAdmin, envAdmin, admin))
}

func (r reader) named(flag, variable string, addr caddy.NetworkAddress) named {
	_, origin := r.text(flag, variable)
	return named{origin, addr}
}

// address reads one to listen on.
func (r reader) address(flag, variable string) (caddy.NetworkAddress, error) {
	text, origin := r.text(flag, variable)
	return parseListen(origin, text)
}

// adminAddress reads where the admin API is to be. The address is empty where
// none is named.
func (r reader) adminAddress() (text string, addr caddy.NetworkAddress, err error) {
	text, origin := r.text(flagAdmin, envAdmin)
	if text != "" && text != "off" {
		addr, err = parseListen(origin, text)
	}
	return text, addr, err
}

func (r reader) serving(s *settings) error {
	text, _ := r.text(flagTLS, "")
	switch text {
	case "":
		return nil
	case "internal":
		s.tls = new(tlsSettings)
		return nil
	}
	paths := strings.Split(text, ",")
	if len(paths) != 2 || slices.Contains(paths, "") {
		return usagef("--%s is %q; expected internal, or CERT,KEY as two paths, as in cert.pem,key.pem", flagTLS, text)
	}
	for i, path := range paths {
		absolute, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(absolute)
		}
		if err != nil {
			return usagef("--%s: %w", flagTLS, err)
		}
		paths[i] = absolute
	}
	s.tls = &tlsSettings{certificate: paths[0], key: paths[1]}
	return nil
}
