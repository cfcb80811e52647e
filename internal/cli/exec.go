package cli

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/internal/access"
)

const execHelp = `
Runs a command with a gateway of its own, that nobody else can use: for scripts
of cron or CI. The command finds in its environment

  CTM_ENDPOINT     the gateway, on a free port of 127.0.0.1, with the base path
  CTM_GATEWAY_KEY  a key that is made for this one run

and shows the key with each call, as "Authorization: Bearer" or "x-api-key". A
program that insists on logging in does so at the gateway, as user "exec" with
the key as its password. A call without the key is answered 401.

The gateway is configured as that of "sidecar" is: a flag beats its variable,
which stands in brackets below, and a password or API token comes from a file
or a variable, never from a flag. Those variables are taken out of the
command's environment: CTM_USERNAME, CTM_USER, CTM_PASSWORD, CTM_PASSWORD_FILE,
CTM_API_TOKEN, CTM_API_TOKEN_FILE, CTM_CA_FILE and CTM_INSECURE_SKIP_VERIFY.
Where the environment names a proxy, 127.0.0.1 is added to no_proxy and to
NO_PROXY; one of them that is missing gets what the other has. This keeps
secrets out of what a command prints and passes on. It is no wall: the command
runs as the same user, and can read what files that user can read.

Standard input, output and error are the command's own; the gateway writes
there warnings and errors alone, to standard error. SIGHUP, SIGINT, SIGQUIT,
SIGTERM, SIGUSR1 and SIGUSR2 pass to the command. When it has ended, the
gateway logs out. It leaves nothing on disk, and has no admin API.

Exits with the command's code, or 128 and the signal's number; with 127 if the
command is not found, and 126 if it cannot be run; with 1, and without having
run it, if the gateway cannot start. Control-M is not asked before the first
call: a refused password is answered to that.`

const execExample = `  CTM_ENDPOINT=https://em.example.com:8443/automation-api CTM_USERNAME=batch \
    CTM_PASSWORD_FILE=/run/secrets/ctm_password ctmgate exec -- ./nightly.sh

  where nightly.sh says:
    curl -fsS -H "Authorization: Bearer $CTM_GATEWAY_KEY" "$CTM_ENDPOINT/run/jobs/status"`

// What a shell's exit codes say of a command that did not run.
const (
	exitCannotRun = 126
	exitNotFound  = 127
	exitSignal    = 128 // and the signal's number
)

// envGatewayKey is where the command finds its key.
const envGatewayKey = "CTM_GATEWAY_KEY"

// execFlags are those of a sidecar's flags that concern a private gateway.
var execFlags = []string{flagEndpoint, flagUsername, flagPasswordFile, flagTokenFile, flagCAFile, flagInsecure}

func buildExec(cmd *cobra.Command) {
	cmd.Long = execHelp
	cmd.Example = execExample
	cmd.Flags().SortFlags = false
	all := new(cobra.Command)
	addSettings(all)
	for _, name := range execFlags {
		cmd.Flags().AddFlag(all.Flags().Lookup(name))
	}
	// What follows the command's name is the command's.
	cmd.Flags().SetInterspersed(false)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 || args[0] == "" {
			return usagef("there is no command; expected one after --, as in `ctmgate exec -- ./nightly.sh`")
		}
		return nil
	}
	cmd.RunE = runExec
}

func runExec(cmd *cobra.Command, args []string) error {
	s, err := readExecSettings(cmd, os.Getenv)
	if err != nil {
		return err
	}
	command, err := lookUp(args)
	if err != nil {
		cmd.PrintErrf("%s: %v\n", cmd.CommandPath(), err)
		os.Exit(notRunCode(err))
	}
	// From here on a signal is the command's.
	signals := catchSignals()
	gateway, err := startPrivate(s)
	if err != nil {
		return err
	}
	command.Env = childEnviron(os.Environ(), gateway.url, gateway.key)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	code, err := attend(command, signals)
	if err != nil {
		cmd.PrintErrf("%s: %v\n", cmd.CommandPath(), err)
	}
	gateway.leave(code)
	return nil // not reached
}

// readExecSettings reads of a sidecar's settings those that a private gateway
// has. Its errors are usage errors.
func readExecSettings(cmd *cobra.Command, env func(string) string) (settings, error) {
	r := reader{cmd, env}
	var s settings
	for _, read := range []func(*settings) error{r.endpoints, r.execAccount, r.trust} {
		if err := read(&s); err != nil {
			return settings{}, err
		}
	}
	return s, nil
}

// execAccount says in its own words that there is no account: an example with
// sidecar in it would lead astray.
func (r reader) execAccount(s *settings) error {
	if len(r.secretSources()) == 0 {
		return usagef("there is no password and no API token; set %s and %s, or %s (or %s, or %s), as in\n"+
			"  CTM_USERNAME=batch CTM_PASSWORD_FILE=/run/secrets/ctm_password %s exec --endpoint https://em.example.com:8443/automation-api -- ./nightly.sh",
			envUsername, envPasswordFile, envTokenFile, envPassword, envToken, binary())
	}
	return r.account(s)
}

// lookUp finds the command before anything is started for it.
func lookUp(args []string) (*exec.Cmd, error) {
	command := exec.Command(args[0], args[1:]...) //nolint:noctx,gosec // it ends when it ends; the person names it
	// A path is not looked at by the line above.
	if _, err := exec.LookPath(args[0]); err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, notRun(args[0], err)
	}
	command.Err = nil // a PATH with a dot in it is the person's wish, as in a shell
	return command, nil
}

func notRun(name string, err error) error {
	// Without the operations, which are not what went wrong.
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return fmt.Errorf("running %s: %w", quote(printable(name)), err)
}

// notRunCode is the exit code for a command that could not be run.
func notRunCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return exitNotFound
	}
	return exitCannotRun
}

// attend runs the command, passes signals to it, and returns its exit code. An
// error says that it did not run.
func attend(command *exec.Cmd, signals <-chan os.Signal) (code int, err error) {
	if err := command.Start(); err != nil {
		err = notRun(command.Path, err)
		return notRunCode(err), err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // what came of it is in ProcessState
	}()
	for {
		select {
		case s := <-signals:
			if !hasBeenTold(s) {
				_ = command.Process.Signal(s) // it may have ended meanwhile
			}
		case <-ended:
			return exitCode(command.ProcessState), nil
		}
	}
}

func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return state.ExitCode()
}

// withheld are the variables that say how the gateway gets in; the command has
// no use for them.
var withheld = []string{
	envUsername, envUser, envPassword, envPasswordFile, envToken, envTokenFile, envCAFile, envInsecure,
	envEndpoint, envGatewayKey, // set anew
}

// childEnviron is the environment of the command, from our own.
func childEnviron(ours []string, url, key string) []string {
	var environ []string
	proxied := false
	for _, one := range ours {
		name, value, _ := strings.Cut(one, "=")
		switch name {
		case "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY":
			proxied = proxied || value != ""
		}
		if !slices.ContainsFunc(withheld, func(w string) bool { return strings.EqualFold(w, name) }) {
			environ = append(environ, one)
		}
	}
	if proxied {
		environ = pastProxies(environ)
	}
	return append(environ, envEndpoint+"="+url, envGatewayKey+"="+key)
}

// pastProxies makes sure that calls to the gateway, with their key, do not go
// to a proxy: many programs ask one even for an address of this machine. Of
// the two names that the list goes by, some programs look at one, and some at
// the other if the first is not there; so where one is missing, it says what
// the other does.
func pastProxies(environ []string) []string {
	names := [2]string{"no_proxy", "NO_PROXY"}
	var at [2]int
	var values [2]string
	for i, name := range names {
		at[i] = slices.IndexFunc(environ, func(one string) bool { return strings.HasPrefix(one, name+"=") })
		if at[i] >= 0 {
			values[i] = strings.TrimPrefix(environ[at[i]], name+"=")
		}
	}
	for i, name := range names {
		one := name + "=" + withoutProxy(cmp.Or(values[i], values[1-i]))
		if at[i] < 0 {
			environ = append(environ, one)
		} else {
			environ[at[i]] = one
		}
	}
	return environ
}

// withoutProxy is a list of hosts, as in NO_PROXY, with privateHost in it.
func withoutProxy(list string) string {
	hosts := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(hosts, privateHost) || slices.Contains(hosts, "*") {
		return list
	}
	return strings.Join(append(hosts, privateHost), ",")
}

// private is a gateway for one command.
type private struct{ url, key string }

// startPrivate runs it. It asks nothing of the network.
func startPrivate(s settings) (private, error) {
	listener, err := openPrivate()
	if err != nil {
		return private{}, fmt.Errorf("listening on %s: %w", privateHost, err)
	}
	key := access.NewKey()
	hash := access.HashKey(key)
	if err := caddy.Run(s.privateConfig(listener.listen, hex.EncodeToString(hash[:]))); err != nil {
		return private{}, plainStart(err)
	}
	return private{"http://" + listener.authority + basePath(s.endpoints[0]), key}, nil
}
