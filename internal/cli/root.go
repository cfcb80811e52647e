package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The two groups of commands in the help of the program.
const (
	groupGateway = "gateway"
	groupCaddy   = "caddy"
)

// replacing are commands of Caddy's that put a Caddy without the gateway in the
// place of this binary, so the help does not offer them.
var replacing = []string{"upgrade", "add-package", "remove-package"}

const rootExample = `  ctmgate demo
  ctmgate sidecar --endpoint https://em.example.com:8443/automation-api
  ctmgate validate --config Caddyfile
  ctmgate run --config Caddyfile
  ctmgate sessions`

// finishRoot gives the program itself a help of its own, and the exit code of
// usage errors. It does nothing the second time. Caddy's own commands keep
// their pointer to its manual.
func finishRoot(root *cobra.Command) {
	if root.ContainsGroup(groupGateway) {
		return
	}
	root.AddGroup(&cobra.Group{ID: groupGateway, Title: "Commands of the gateway:"}, &cobra.Group{ID: groupCaddy, Title: "Commands of Caddy:"})
	for _, cmd := range root.Commands() {
		cmd.Hidden = cmd.Hidden || slices.Contains(replacing, cmd.Name())
		if cmd.GroupID == "" {
			cmd.GroupID = groupCaddy
			cmd.SetHelpTemplate(root.HelpTemplate())
		}
	}
	root.SetHelpTemplate(helpTemplate)
	root.SetHelpCommand(helpCommand(root))
	root.Long = strings.TrimSpace(root.Long)
	root.Example = rootExample
	root.DisableFlagsInUseLine = true
	root.Args = func(cmd *cobra.Command, args []string) error { return report(cmd, knownCommand(root, args)) }
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return report(cmd, flagError(err)) })
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Shows the help of a command", GroupID: groupCaddy,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, _ := root.Find(args)
			if about == root {
				if err := knownCommand(root, rest); err != nil {
					return report(cmd, err)
				}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// knownCommand says no to a word that is no command, and names those that it
// may have been meant for.
func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	word := printable(args[0])
	if root.SuggestionsMinimumDistance <= 0 {
		root.SuggestionsMinimumDistance = 2
	}
	if like := root.SuggestionsFor(word); len(like) > 0 {
		slices.Sort(like)
		return usagef("there is no command %q; did you mean %s?", word, strings.Join(like, " or "))
	}
	return usagef("there is no command %q", word)
}
