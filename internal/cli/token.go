package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

const tokenHelp = `
Manages standing API tokens at Control-M's Authentication service (release
9.0.21 and later), as the user of an account of the config: those of that user.

The account is one of the config that --config names; else the one of the
variables that a sidecar reads, where CTM_ENDPOINT is set; else one of the
Caddyfile in this folder. With several, name it with --account. A session of
its own is opened for the command and logged out at its end; an account with
an API token uses that. A gateway that runs is neither asked nor disturbed.

The value of a token is given once, when it is created. It goes where --out
says, and nowhere else.`

//nolint:gosec // a help text
const tokenExample = `  ctmgate token list
  ctmgate token create -f ci.json --out /run/secrets/ci_token
  ctmgate token delete ci --account prod/batch

  A definition, ci.json:
    {"tokenName": "ci", "expirationDate": "2027-06-30", "roles": ["User"]}`

func buildToken(cmd *cobra.Command) {
	cmd.Long = tokenHelp
	cmd.Example = tokenExample
	withSubcommands(cmd, []subcommand{
		{"list [flags]", "Lists the API tokens of the account's user", buildTokenList},
		{"get <name> [flags]", "Shows one API token, without its value", buildTokenGet},
		{"create -f <file> --out <file> [flags]", "Creates an API token, and writes its value to a file", buildTokenCreate},
		{"update -f <file> [flags]", "Gives an API token the properties of a definition", buildTokenUpdate},
		{"delete <name> [flags]", "Deletes an API token", buildTokenDelete},
	})
}

// subcommand is a command below another.
type subcommand struct {
	usage, short string
	build        func(*cobra.Command)
}

// withSubcommands makes cmd one that does nothing itself.
func withSubcommands(cmd *cobra.Command, list []subcommand) {
	var names string
	for _, one := range list {
		sub := &cobra.Command{Use: one.usage, Short: one.short}
		one.build(sub)
		finish(sub)
		cmd.AddCommand(sub)
		names += ", " + sub.Name()
	}
	cmd.Args = func(*cobra.Command, []string) error { return usagef("expected one of: %s", names[len(", "):]) }
	cmd.RunE = func(*cobra.Command, []string) error { return nil } // Args has said no
}

const definitionHelp = `
The definition is JSON in a file, or on standard input with -f -:
  tokenName       the name
  roles           what the token may, at least one role for a user's token; the
                  user must hold each of them
  expirationDate  its last day, as YYYY-MM-DD in UTC; without it, it never ends
Any other member is passed on as it stands. Name, date and roles are checked
before anything is sent.`

const annotateUsage = `header that tells Control-M why, as "Header: text"; repeatable; goes with this change alone`

const createTokenHelp = `
Creates an API token, and writes its value to the file of --out, which only
its owner can read, or to standard output with --out -. That is the only time
that the API gives the value. The file is made before the API is asked, and
removed if there is no token; one that exists is only replaced with --force.
` + definitionHelp + `

A new token's name has letters, digits, _ and - only.`

//nolint:gosec // a help text
const createTokenExample = `  ctmgate token create -f ci.json --out /run/secrets/ci_token

  With the definition in place, and the value into a secret of Kubernetes:
    echo '{"tokenName": "ci", "expirationDate": "2027-06-30", "roles": ["User"]}' |
      ctmgate token create -f - --out - |
      kubectl create secret generic ci --from-file=token=/dev/stdin

  Where Control-M wants a reason:
    ctmgate token create -f ci.json --out ci.token --annotate "Annotation-Subject: CI of team billing"`

func buildTokenCreate(cmd *cobra.Command) {
	cmd.Long = createTokenHelp
	cmd.Example = createTokenExample
	changeFlags(cmd, "the new file for the token's value, or - for standard output; required")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return putToken(cmd, tokenVerb{true, "created", (*automationapi.Client).CreateToken})
	}
}

const updateTokenHelp = `
Gives the API token that the definition names all the properties of that
definition; its name cannot change. What the definition leaves out is lost, so
begin with ` + "`token get NAME --definition`" + `. Where the API gives the token a new
value, that goes to the file of --out, as with ` + "`token create`" + `.
` + definitionHelp

//nolint:gosec // a help text
const updateTokenExample = `  ctmgate token get ci --definition > ci.json
  ctmgate token update -f ci.json`

func buildTokenUpdate(cmd *cobra.Command) {
	cmd.Long = updateTokenHelp
	cmd.Example = updateTokenExample
	changeFlags(cmd, "file for a new value, if the API gives one, or - for standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return putToken(cmd, tokenVerb{false, "updated", (*automationapi.Client).UpdateToken})
	}
}

func changeFlags(cmd *cobra.Command, outUsage string) {
	accountFlag(cmd)
	cmd.Flags().StringP("file", "f", "", "the definition: a file, or - for standard input; required")
	cmd.Flags().String("out", "", outUsage)
	cmd.Flags().Bool("force", false, "let --out replace a file")
	cmd.Flags().StringArray("annotate", nil, annotateUsage)
}

// tokenVerb is what create and update differ in.
type tokenVerb struct {
	fresh bool // a token that does not exist yet
	done  string
	call  func(*automationapi.Client, context.Context, automationapi.Credential, []byte, http.Header) (secret.Value, error)
}

// tokenChange is a creation or an update that was checked.
type tokenChange struct {
	tokenVerb
	definition  tokenDefinition
	annotations http.Header
	out         string // as --out
	force       bool
}

func putToken(cmd *cobra.Command, verb tokenVerb) error {
	c := tokenChange{tokenVerb: verb}
	c.out, _ = cmd.Flags().GetString("out")
	c.force, _ = cmd.Flags().GetBool("force")
	if verb.fresh && c.out == "" {
		return usagef("expected --out FILE for the token's value, which the API gives only once (or --out - for standard output)")
	}
	if c.force && (c.out == "" || c.out == "-") {
		return usagef("--force is for a file that --out names")
	}
	annotate, _ := cmd.Flags().GetStringArray("annotate")
	var err error
	if c.annotations, err = parseAnnotations(annotate); err != nil {
		return err
	}
	path, _ := cmd.Flags().GetString("file")
	text, err := readTokenDefinition(path, cmd.InOrStdin())
	if err != nil {
		return err
	}
	if c.definition, err = parseTokenDefinition(text, verb.fresh, time.Now()); err != nil {
		return err
	}
	door, err := openAccount(cmd)
	if err != nil {
		return err
	}
	defer door.Close()
	return c.run(cmd, door)
}

func (c tokenChange) run(cmd *cobra.Command, door *caddymodule.Door) error {
	ctx, stop := untilSignal(cmd)
	defer stop()
	var place *outFile
	if c.out != "" && c.out != "-" {
		var err error
		if place, err = claimFile(c.out, c.force); err != nil {
			return err
		}
	}
	kept := false
	err := atAPI(ctx, cmd, door, signalGrace, func(ctx context.Context, at *apiSession) error {
		value, err := c.call(at.client, ctx, at.who, c.definition.json, c.annotations)
		if err != nil {
			return c.trouble(err)
		}
		kept, err = c.keep(cmd, place, value)
		return err
	})
	if place != nil && !kept {
		place.drop()
	}
	return err
}

// keep puts the value where it belongs, and tells what was done.
func (c tokenChange) keep(cmd *cobra.Command, place *outFile, value secret.Value) (kept bool, err error) {
	name := c.definition.name
	switch {
	case value.Empty() && c.fresh:
		return false, fmt.Errorf("the API created the token, and gave no value; delete it with `%s token delete %s`", binary(), quote(name))
	case value.Empty():
		err = tell(cmd, c.out == "-", "token %s is updated, and its value is as before\n", name)
	case c.out == "":
		err = tell(cmd, false, "token %s is updated; the API gave a value with its answer, which was not kept for want of --out: "+
			"if the token is no longer taken, update it again with --out\n", name)
	case place != nil:
		if err := place.keep(value); err != nil {
			return true, fmt.Errorf("token %s is %s, but %w", name, c.done, err) // what there is to keep is kept
		}
		return true, tell(cmd, false, "token %s is %s; its value is in %s, which only its owner can read\n", name, c.done, c.out)
	default:
		// A reader that has gone is an error to say something about.
		signal.Ignore(syscall.SIGPIPE)
		if _, err := fmt.Fprintln(os.Stdout, value.Reveal()); err != nil {
			return true, fmt.Errorf("token %s is %s, but its value is lost: writing it to standard output: %w", name, c.done, err)
		}
		return true, tell(cmd, true, "token %s is %s; its value went to standard output\n", name, c.done)
	}
	return false, err
}

// tell prints a result; on standard error where standard output is for a value.
func tell(cmd *cobra.Command, aside bool, format string, args ...any) error {
	out := cmd.OutOrStdout()
	if aside {
		out = cmd.ErrOrStderr()
	}
	_, err := fmt.Fprintf(out, format, args...)
	return err
}

// trouble adds what is not known after err, if that is so.
func (c tokenChange) trouble(err error) error {
	if automationapi.Undone(err) {
		return err
	}
	if c.fresh {
		return fmt.Errorf("%w; whether there is a token now is not known: look with `%s token list`, and delete it, as nobody has its value", withWords(err), binary())
	}
	return fmt.Errorf("%w; whether it was updated is not known: look with `%s token get %s`", withWords(err), binary(), quote(c.definition.name))
}
