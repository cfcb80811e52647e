package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
)

const defaultConfigFile = "Caddyfile"

// configFlags are those with which Caddy's own commands find a config.
func configFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "the config file; default: the Caddyfile in this folder")
	cmd.Flags().StringP("adapter", "a", "", "how to read it, such as caddyfile; default: by its name")
}

// readConfig reads the config that the flags name, as JSON, and starts
// nothing.
func readConfig(cmd *cobra.Command) ([]byte, error) {
	file, _ := cmd.Flags().GetString("config")
	adapter, _ := cmd.Flags().GetString("adapter")
	if file == "" {
		file = defaultConfigFile
	}
	content, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("reading the config (name it with --config): %w", err)
	}
	if adapter == "" && isCaddyfile(filepath.Base(file)) {
		adapter = "caddyfile"
	}
	if adapter == "" {
		return content, nil
	}
	with := caddyconfig.GetAdapter(adapter)
	if with == nil {
		return nil, usagef("there is no adapter %q; expected one such as caddyfile", adapter)
	}
	adapted, warnings, err := with.Adapt(content, map[string]any{"filename": file})
	if err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	for _, w := range warnings {
		cmd.PrintErrf("%s: %s:%d: %s\n", cmd.CommandPath(), w.File, w.Line, w.Message)
	}
	return adapted, nil
}

// isCaddyfile tells by its name, as Caddy does, whether a file is one.
func isCaddyfile(name string) bool {
	name = strings.ToLower(name)
	return !strings.HasSuffix(name, ".json") && (strings.HasPrefix(name, "caddyfile") || strings.HasSuffix(name, ".caddyfile"))
}

// readApp reads what the config that the flags name says of controlm.
func readApp(cmd *cobra.Command) (*caddymodule.App, error) {
	content, err := readConfig(cmd)
	if err != nil {
		return nil, err
	}
	app, err := caddymodule.ReadApp(content)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, fmt.Errorf("reading the config, which is no JSON of Caddy's; name its format with --adapter, as in --adapter caddyfile: %w", syntax)
	}
	return app, err
}

// findApp is for commands that act on accounts: those of the config that the
// flags name; else the one of the variables that a sidecar reads, where
// CTM_ENDPOINT is set; else those of the Caddyfile in this folder.
func findApp(cmd *cobra.Command) (*caddymodule.App, error) {
	if !cmd.Flags().Changed("config") && os.Getenv(envEndpoint) != "" {
		sidecar := new(cobra.Command)
		addSettings(sidecar)
		s, err := readSettings(sidecar, os.Getenv)
		if err != nil {
			return nil, err
		}
		content, err := json.Marshal(s.config())
		if err != nil {
			return nil, fmt.Errorf("reading the variables of a sidecar: %w", err)
		}
		return caddymodule.ReadApp(content)
	}
	if _, err := os.Stat(defaultConfigFile); err != nil && !cmd.Flags().Changed("config") {
		return nil, usagef("there is no config: name one with --config, or set %s and the other variables of a sidecar", envEndpoint)
	}
	return readApp(cmd)
}

// chooseAccount is the account that text names, as ENV/ACCOUNT; the only one
// where it names none.
func chooseAccount(app *caddymodule.App, text string) (environment, account string, err error) {
	known := app.AccountNames()
	if text == "" && len(known) == 1 {
		return known[0][0], known[0][1], nil
	}
	if len(known) == 0 {
		return "", "", errors.New("the config has no account")
	}
	var list []string
	for _, one := range known {
		if name := one[0] + "/" + one[1]; name == text {
			return one[0], one[1], nil
		}
		list = append(list, one[0]+"/"+one[1])
	}
	if text == "" {
		return "", "", usagef("there are several accounts; expected --account with one of %s", strings.Join(list, ", "))
	}
	return "", "", usagef("there is no account %q; expected --account with one of %s", text, strings.Join(list, ", "))
}
