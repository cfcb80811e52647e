package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

const passwordHelp = `
Changes the password of a Control-M user whose account stands in the config.`

//nolint:gosec // a help text
const passwordExample = `  ctmgate password update --account prod/batch --write /run/secrets/ctm_password`

func buildPassword(cmd *cobra.Command) {
	cmd.Long = passwordHelp
	cmd.Example = passwordExample
	withSubcommands(cmd, []subcommand{
		{"update [flags]", "Changes an account's own password, and proves the new one", buildPasswordUpdate},
	})
}

const updatePasswordHelp = `
Changes the password of an account's own Control-M user. The current password
is read from where the config says that it is; the new one is asked for twice
on the terminal, or comes from --new-password-file. Neither is shown, nor ever
taken from a flag.

The account is one of the config that --config names; else the one of the
variables that a sidecar reads, where CTM_ENDPOINT is set; else one of the
Caddyfile in this folder. With several, name it with --account.

It logs in with the current password, changes it, and logs in with the new one
to prove it, before the old one is forgotten. Should that fail, it finds out
which of the two is in force and says so. A signal does not break off a change
that has begun: it is given a few seconds to come to its end.

--write FILE replaces the account's password file, in one step. The new
password is first written to FILE.pending, which only its owner can read, and
that takes the place of FILE after the proof, with the owner and mode that FILE
had. Running gateways pick it up by themselves within 5 s, and no call fails.
If something breaks off in between, FILE.pending stays, and where FILE is the
account's own, ` + "`ctmgate check`" + ` tells which of the two passwords is in force.
FILE must be an ordinary file that can be replaced: secrets that Kubernetes or a
container's engine mounts are changed at their source instead. Without --write,
and where the password stands in a variable or in the config itself, put the
new one there yourself: the command says where, also for other accounts of the
config that log in as the same user.

--new-secret KEY makes the new password what the secret KEY in Control-M's own
vault holds ("Secret:KEY": the server looks it up). Then the new password is
not known here, so it cannot be proved or written, unless --new-password-file
holds it too.`

//nolint:gosec // a help text
const updatePasswordExample = `  Asks for the new password, and replaces the password file:
    ctmgate password update --account prod/batch --write /run/secrets/ctm_password

  With the variables of a sidecar, and a new password that nobody has seen:
    openssl rand -base64 24 | ctmgate password update --new-password-file - \
      --write /run/secrets/ctm_password

  From a secret in Control-M's vault:
    ctmgate password update --account prod/batch --new-secret batch-2027`

func buildPasswordUpdate(cmd *cobra.Command) {
	cmd.Long = updatePasswordHelp
	cmd.Example = updatePasswordExample
	accountFlag(cmd)
	cmd.Flags().String("new-password-file", "", "file with the new password, or - for standard input; default: asks on the terminal")
	cmd.Flags().String("new-secret", "", "name of a secret in Control-M's vault that is to be the new password")
	cmd.Flags().String("write", "", "password file to replace with the new password")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r := rotation{cmd: cmd}
		r.newFile, _ = cmd.Flags().GetString("new-password-file")
		r.newSecret, _ = cmd.Flags().GetString("new-secret")
		r.newSecret = strings.TrimPrefix(r.newSecret, automationapi.SecretPrefix)
		r.write, _ = cmd.Flags().GetString("write")
		if err := r.checkFlags(); err != nil {
			return err
		}
		app, door, err := openAccountIn(cmd)
		if err != nil {
			return err
		}
		defer door.Close()
		r.door, r.sharers = door, sharersOf(app, door)
		return r.run()
	}
}

// rotation is one change of a password.
type rotation struct {
	cmd                       *cobra.Command
	newFile, newSecret, write string // the flags
	door                      *caddymodule.Door
	sharers                   []sharer
	next                      secret.Value // empty when only Control-M knows it
	pending                   *pendingFile // nil without --write
}

func (r *rotation) checkFlags() error {
	if r.cmd.Flags().Changed("new-secret") && r.newSecret == "" {
		return usagef("--new-secret is empty; expected the name of a secret in Control-M's vault")
	}
	if r.newSecret != "" && r.newFile == "" && r.write != "" {
		return usagef("--write needs the new password itself, and of --new-secret only Control-M knows it: " +
			"give --new-password-file too, or leave --write out")
	}
	if r.write == "" && r.cmd.Flags().Changed("write") {
		return usagef("--write is empty; expected the password file")
	}
	return nil
}

func (r *rotation) run() error {
	if r.door.Username == "" {
		return usagef("account %s has an API token, and no password; expected --account with one that logs in", accountName(r.door))
	}
	if strings.HasPrefix(r.door.Secret.Reveal(), automationapi.SecretPrefix) {
		return fmt.Errorf("the current password, in %s, begins with %s, which the API takes for the name of a secret: "+
			"have an administrator change it", r.door.Source, automationapi.SecretPrefix)
	}
	if err := r.readNext(); err != nil {
		return err
	}
	ctx, stop := untilSignal(r.cmd)
	defer stop()
	if r.next.Empty() && r.newSecret == "" {
		var err error
		if r.next, err = askTwice(ctx, r.cmd, r.door.Username); err != nil {
			return err
		}
	}
	if err := r.checkNext(); err != nil {
		return err
	}
	return r.change(ctx)
}

// readNext reads --new-password-file.
func (r *rotation) readNext() error {
	switch r.newFile {
	case "":
		return nil
	case "-":
		in := r.cmd.InOrStdin()
		if isTerminal(in) {
			return usagef("standard input is a terminal, which would show the password; leave --new-password-file out to be asked for it")
		}
		const most = 64 << 10 // as of a password file
		text, err := io.ReadAll(io.LimitReader(in, most+1))
		if err != nil {
			return fmt.Errorf("reading the new password: %w", err)
		}
		if len(text) > most {
			return usagef("what comes on standard input is larger than 64 KiB; expected a password")
		}
		if r.next = secret.New(secret.Trim(string(text))); r.next.Empty() {
			return usagef("standard input is empty; expected the new password")
		}
		return nil
	}
	source, err := secret.Spec{Kind: secret.File, Name: r.newFile}.Open(nil)
	if err != nil {
		return usagef("--new-password-file: %w", err)
	}
	defer source.Close()
	r.next, _ = source.Current()
	return nil
}

// checkNext says no to what is surely a mistake, before anything is asked.
func (r *rotation) checkNext() error {
	text := r.next.Reveal()
	switch {
	case text == "" && r.newSecret != "":
		return nil
	case text == "":
		return usagef("the new password is empty")
	case !utf8.ValidString(text):
		return usagef("the new password is not UTF-8, which the API needs")
	case strings.ContainsFunc(text, unicode.IsControl):
		return usagef("the new password holds a line break or another control character")
	case r.newSecret == "" && strings.HasPrefix(text, automationapi.SecretPrefix):
		return usagef("the new password begins with %s, which the API takes for the name of a secret; see --new-secret", automationapi.SecretPrefix)
	case r.next.Equal(r.door.Secret):
		return usagef("the new password is the current one")
	}
	return nil
}

// errTyping is two passwords that should be the same.
var errTyping = errors.New("the two are not the same; nothing was changed")

// askTwice asks for the new password on the terminal, without showing it.
func askTwice(ctx context.Context, cmd *cobra.Command, user string) (secret.Value, error) {
	if !isTerminal(cmd.InOrStdin()) {
		return secret.Value{}, usagef("there is no terminal to ask for the new password on; expected --new-password-file, or --new-secret")
	}
	first, err := ask(ctx, cmd, "New password for "+user+": ")
	if err != nil {
		return secret.Value{}, err
	}
	second, err := ask(ctx, cmd, "The new password again: ")
	if err != nil {
		return secret.Value{}, err
	}
	if !first.Equal(second) {
		return secret.Value{}, errTyping
	}
	return first, nil
}

type descriptor interface{ Fd() uintptr }

func isTerminal(in io.Reader) bool {
	f, ok := in.(descriptor)
	return ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // a descriptor
}

func ask(ctx context.Context, cmd *cobra.Command, prompt string) (secret.Value, error) {
	fd := int(cmd.InOrStdin().(descriptor).Fd()) //nolint:gosec // a descriptor
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Value{}, fmt.Errorf("asking for the new password: %w", err)
	}
	cmd.PrintErr(prompt)
	defer cmd.PrintErrln() // the line that was not shown
	type answer struct {
		text []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		answered <- answer{text, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return secret.Value{}, fmt.Errorf("asking for the new password: %w", a.err)
		}
		return secret.New(string(a.text)), nil
	case <-ctx.Done():
		_ = term.Restore(fd, before) // the reader has switched the echo off, and waits on
		return secret.Value{}, errSignal
	}
}
