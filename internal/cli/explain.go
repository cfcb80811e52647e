package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
)

const explainHelp = `
Tells whether a client of a config may make a call, and which of its lines says
so: "yes" and exit code 0, or "no" and exit code 1. It decides as the running
gateway would, from the config alone: it reads no secret, and asks nothing of
the network. Whether the client has an account there is not looked at.

Without either word, exit code 1 says that the config cannot be used, and 2
that it has no such client, or that the command was called wrongly.

The path is relative to the base path of the API; one with the base path in
front will do as well.`

const explainExample = `  ctmgate explain --client nightly GET /run/jobs/status
  ctmgate explain --client nightly --config /etc/ctmgate/Caddyfile POST /run/order`

// errDenied makes the exit code that of a call that is not allowed.
var errDenied = errors.New("denied")

func buildExplain(cmd *cobra.Command) {
	cmd.Long = explainHelp
	cmd.Example = explainExample
	cmd.Flags().String("client", "", "name of the client; required")
	configFlags(cmd)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if client, _ := cmd.Flags().GetString("client"); client == "" || len(args) != 2 {
			return usagef("expected a client, a method and a path, as in `ctmgate explain --client nightly GET /run/jobs/status`")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		app, err := readApp(cmd)
		if err != nil {
			return err
		}
		client, _ := cmd.Flags().GetString("client")
		why, err := app.Explain(client, args[0], args[1])
		if errors.Is(err, caddymodule.ErrUnknownClient) {
			return usageError{err}
		}
		if err != nil {
			return err
		}
		verdict, reason := "no", why.Reason
		if why.Allowed {
			verdict = "yes"
		}
		if why.Line != "" {
			reason = "by the line `" + why.Line + "`"
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", verdict, reason); err != nil {
			return err
		}
		if !why.Allowed {
			return silent(cmd, errDenied)
		}
		return nil
	}
}

// silent returns an error that has been told already.
func silent(cmd *cobra.Command, err error) error {
	cmd.SilenceErrors = true
	return told{err}
}

// told is an error that is for the exit code alone.
type told struct{ error }
