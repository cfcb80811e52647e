package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/internal/homeless"
)

// Exit codes: 0 done, 1 the thing asked about failed, 2 usage.
const exitUsage = 2

// Register adds the commands to Caddy's. It is called once, before Caddy's
// main.
func Register() {
	homeless.Undo()
	var before *cobra.Command // the root is known by one that was added to it
	for _, c := range []struct {
		name, usage, short string
		build              func(*cobra.Command)
	}{
		{"sidecar", "--endpoint <url> [flags]", "Gateway from flags and environment, without a config file", buildSidecar},
		{"emulator", "[flags]", "Emulates the Control-M Automation API", buildEmulator},
		{"demo", "[flags]", "Emulator and gateway in one process, to try things out", buildDemo},
		{"client-key", "<name>", "Makes a gateway key, and the client block for it", buildClientKey},
		{"explain", "--client <name> [flags] <method> <path>", "Tells whether a client may make a call, and which line says so", buildExplain},
		{"sessions", "[flags]", "Shows the sessions of the running gateway, renews and ends them", buildSessions},
		{"exec", "[flags] -- <command> [<argument>...]", "Runs one command with a gateway of its own", buildExec},
		{"check", "[flags]", "Logs in and out with every account of a config, and says what to mend", buildCheck},
		{"token", "<command>", "Manages API tokens at Control-M's Authentication service", buildToken},
		{"password", "<command>", "Changes an account's own Control-M password", buildPassword},
		{"healthcheck", "[flags]", "Tells by its exit code whether the local gateway is ready", buildHealthcheck},
	} {
		caddycmd.RegisterCommand(caddycmd.Command{
			Name: c.name, Usage: c.usage, Short: c.short,
			CobraFunc: func(cmd *cobra.Command) {
				c.build(cmd)
				finish(cmd)
				cmd.GroupID = groupGateway
				if before != nil {
					finishRoot(before.Root())
				}
				before = cmd
			},
		})
	}
}

// usageError is a mistake in how a command was called; everything else that a
// command returns is about the thing it was asked to do.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// helpTemplate is that of cobra without Caddy's pointer to its own manual.
const helpTemplate = "{{.Long}}\n\n{{.UsageString}}"

// finish gives cmd the habits of all our commands: no arguments unless it says
// otherwise, errors as one plain message, exit codes 1 and 2 told apart.
func finish(cmd *cobra.Command) {
	run := cmd.RunE
	cmd.DisableFlagsInUseLine = true
	cmd.Long = strings.TrimSpace(cmd.Long)
	cmd.SetHelpTemplate(helpTemplate)
	check := cmd.Args
	if check == nil {
		check = func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("it takes flags only, and found %d argument(s) beside them", len(args))
			}
			return nil
		}
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error { return report(cmd, check(cmd, args)) }
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return report(cmd, run(cmd, args)) }
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return report(cmd, flagError(err)) })
}

// flagError says the same as the flag parser, but repeats nothing that
// somebody typed as a value: it may be a secret.
func flagError(err error) error {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "unknown flag: --password"):
		return usagef("there is no flag --password: whoever lists processes would see it; " +
			"set CTM_PASSWORD, or write it to a file and name that with --password-file")
	case strings.HasPrefix(text, "unknown flag: --api-token"):
		return usagef("there is no flag --api-token here: whoever lists processes would see it; " +
			"set CTM_API_TOKEN, or write it to a file and name that with --api-token-file")
	case strings.HasPrefix(text, "unknown shorthand flag"):
		return usagef("there is no such flag of one letter; expected flags such as --listen")
	}
	return usageError{err}
}

// report prints err, once, and returns what makes Caddy's main exit with the
// code that belongs to it.
func report(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	cmd.SilenceErrors = true
	if _, ok := errors.AsType[told](err); ok {
		return err
	}
	cmd.PrintErrf("%s: %v\n", cmd.CommandPath(), err)
	var usage usageError
	if !errors.As(err, &usage) {
		return err
	}
	cmd.PrintErrf("See `%s --help`.\n", cmd.CommandPath())
	// The type that carries an exit code is Caddy's own secret, and this is
	// the way to one.
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
		return exitUsage, nil
	})(cmd, nil)
}

// Description is the long help of the program itself.
const Description = `ctmgate is an authenticating gateway for the Control-M Automation API, and a
complete Caddy with it. It logs in, keeps the session alive and adds it to the
calls that pass, so that scripts and tools need neither a password nor a
session of their own.

To see it work, with no Control-M at hand:

	$ ctmgate demo

To run it beside a program, with no config file:

	$ CTM_USERNAME=batch CTM_PASSWORD_FILE=/run/secrets/ctm_password \
	    ctmgate sidecar --endpoint https://em.example.com:8443/automation-api

To run it with a Caddyfile:

	$ ctmgate run --config Caddyfile

Not affiliated with BMC. Control-M is a trademark of BMC Software.
`

// binary is the name of this program in help texts.
func binary() string {
	if caddy.CustomBinaryName != "" {
		return caddy.CustomBinaryName
	}
	return "ctmgate"
}
