package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
)

const findHelp = `
Without --address or --listen it asks the gateway whose admin API is
CADDY_ADMIN, else the one whose listen address is CTMGATE_LISTEN. What is so
named, by flag or variable, and does not answer is an error: no other gateway
is asked in its place. Where nothing is named, it asks the sidecar or demo on
127.0.0.1:8080, else the gateway at unix/` + shippedAdminSocket + `, else the
only other sidecar or demo of this user, else what answers at ` + caddyAdmin + `,
where Caddy's admin API is by default. --listen and CTMGATE_LISTEN take what
the sidecar was given, such as :8080, or how it is called, such as
http://127.0.0.1:8080.`

const sessionsHelp = `
Shows the accounts of the running gateway: with which of them calls work, how
old their sessions are, and what to do about those that are in trouble.

  fresh     has a session
  due       has a session, which is being renewed; calls go on
  urgent    has a session that ends soon, and could not be renewed so far
  standing  has an API token, which needs no session
  none      has no session; the next call logs in
  PAUSED    logins fail; the next is tried after a pause
  FAILED    logins fail; the next call tries again
  REFUSED   the password was refused, and is not tried again until it changes
  ENDED     the API token has expired or was deleted; calls are answered 401

Age and end are those of the session, requests and logins those since the
gateway started. What needs attention stands first.
` + findHelp + `

--json prints the list that the admin API gave, one object for each account and
endpoint, times in seconds: environment, account, endpoint, in_use, state,
session, age, expires_in, calls, requests, logins, api_version, next_attempt,
last_error. Members may be added, and never a secret.

Exits with 0 once it has shown them, in trouble or not.`

const sessionsExample = `  ctmgate sessions
  ctmgate sessions --listen 127.0.0.1:9090
  ctmgate sessions --json | jq -r '.[] | select(.state == "refused") | .account'

  After the user was unlocked at Control-M, without waiting:
    ctmgate sessions retry prod/batch`

const argumentHelp = `
The account is named as in the table of ` + "`ctmgate sessions`" + `; it may be left out
where there is only one.
`

const exitHelp = `
Exits with 0 when it is done, with 1 and the reason when it could not be, and
with 2 where the gateway has no such account.
--json prints what the admin API gave: the account's part of the list that
` + "`ctmgate sessions --json`" + ` prints.`

// action is what can be done with the session of one account.
type action struct {
	name, short, method, path, help string
	done                            func(caddymodule.SessionInfo) string
	none                            string // in place of done, where there was no session to begin with
}

var actions = []action{
	{
		"renew", "Obtains a new session now", http.MethodPost, "/renew", `
Obtains a new session for an account at once, however fresh the present one is.
Calls go on meanwhile, and the old session is logged out after its last call.`,
		func(s caddymodule.SessionInfo) string {
			return fmt.Sprintf("renewed: session %d, which ends in %s", s.Session, brief(s.ExpiresIn))
		}, "",
	},
	{
		"logout", "Ends the session; the next call logs in", http.MethodDelete, "", `
Takes the session of an account out of use. It is logged out once its last call
has ended, and the next call logs in anew.`,
		func(caddymodule.SessionInfo) string {
			return "logged out, as soon as its last call has ended; the next call logs in"
		},
		"there was no session to log out; the next call logs in",
	},
	{
		"retry", "Makes one attempt at logging in after a refusal or failures", http.MethodPost, "/retry", `
Makes one attempt at logging in where a refusal or a pause forbids it. Use it
when the cause is mended: the user unlocked, or Control-M up again. A password
that is still wrong spends one of the attempts after which Control-M may lock
the user. Where there is a good session, nothing is tried.`,
		func(s caddymodule.SessionInfo) string {
			return fmt.Sprintf("can be used: session %d, which ends in %s", s.Session, brief(s.ExpiresIn))
		}, "",
	},
}

func buildSessions(cmd *cobra.Command) {
	cmd.Long = sessionsHelp
	cmd.Example = sessionsExample
	addSessionFlags(cmd)
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("there is no action %q; expected renew, logout or retry, with an account after it, as in "+
				"`ctmgate sessions retry prod/batch`", printable(args[0]))
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return showSessions(cmd) }
	for _, a := range actions {
		sub := &cobra.Command{
			Use: a.name + " [<env/account>] [flags]", Short: a.short, Long: a.help + "\n" + argumentHelp + exitHelp + "\n" + findHelp,
			Example: "  ctmgate sessions " + a.name + " prod/batch",
			Args: func(_ *cobra.Command, args []string) error {
				if len(args) > 1 || len(args) == 1 && !isAccount(args[0]) {
					return usagef("expected one account, as in `ctmgate sessions %s prod/batch`", a.name)
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd, strings.Join(args, "")) },
		}
		addSessionFlags(sub)
		finish(sub)
		cmd.AddCommand(sub)
	}
}

func addSessionFlags(cmd *cobra.Command) {
	addAdminFlags(cmd)
	cmd.Flags().Bool("json", false, "print what the admin API gave")
}

func isAccount(text string) bool {
	environment, account, _ := strings.Cut(text, "/")
	return environment != "" && account != "" && !strings.Contains(account, "/")
}

func showSessions(cmd *cobra.Command) error {
	admin, err := findAdmin(cmd)
	if err != nil {
		return err
	}
	content, list, err := admin.sessions(cmd.Context(), http.MethodGet, "")
	if err != nil {
		return err
	}
	if asJSON(cmd) {
		return printRaw(cmd, content)
	}
	_, err = io.WriteString(cmd.OutOrStdout(), screen(list, admin, wantsColour(cmd.OutOrStdout())))
	return err
}

func (a action) run(cmd *cobra.Command, account string) error {
	admin, err := findAdmin(cmd)
	if err != nil {
		return err
	}
	if account == "" {
		if account, err = admin.onlyAccount(cmd.Context()); err != nil {
			return err
		}
	}
	environment, name, _ := strings.Cut(account, "/")
	path := "/" + url.PathEscape(environment) + "/" + url.PathEscape(name)
	had := a.none == "" || admin.hasSession(cmd.Context(), path)
	content, list, err := admin.sessions(cmd.Context(), a.method, path+a.path)
	if err != nil {
		if admin.knowsNot(cmd.Context(), err) {
			return usageError{fmt.Errorf("%s: %w", account, err)}
		}
		err = fmt.Errorf("%s: %w", account, unprefixed(err, a.name))
		// What to do is told by how the account stands now.
		if _, now, asked := admin.sessions(cmd.Context(), http.MethodGet, path); asked == nil {
			for _, line := range advice(now, admin.flags) {
				err = fmt.Errorf("%w\n%s", err, line)
			}
		}
		return err
	}
	if asJSON(cmd) {
		return printRaw(cmd, content)
	}
	i := slices.IndexFunc(list, func(s caddymodule.SessionInfo) bool { return s.InUse })
	text := a.none
	if had {
		text = a.done(list[max(i, 0)])
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", account, text)
	return err
}

// hasSession tells whether the account at path has one, at any endpoint, as
// far as that can be found out.
func (a *adminClient) hasSession(ctx context.Context, path string) bool {
	_, list, err := a.sessions(ctx, http.MethodGet, path)
	return err != nil || slices.ContainsFunc(list, func(s caddymodule.SessionInfo) bool { return s.Session != 0 })
}

// knowsNot tells whether err says that the gateway has no such environment or
// account. That it runs without any has the same status.
func (a *adminClient) knowsNot(ctx context.Context, err error) bool {
	told, ok := errors.AsType[*adminError](err)
	if !ok || told.status != http.StatusNotFound {
		return false
	}
	_, _, err = a.sessions(ctx, http.MethodGet, "")
	return err == nil
}

// unprefixed leaves out the verb that the admin API puts before a reason, as
// the command's own name says it.
func unprefixed(err error, verb string) error {
	if told, ok := errors.AsType[*adminError](err); ok {
		return &adminError{told.status, strings.TrimPrefix(told.text, verb+": ")}
	}
	return err
}

// sessions asks for the list, or does something that is answered with one.
func (a *adminClient) sessions(ctx context.Context, method, path string) ([]byte, []caddymodule.SessionInfo, error) {
	content, err := a.ask(ctx, method, caddymodule.AdminSessions+path)
	if err != nil {
		return nil, nil, err
	}
	var list []caddymodule.SessionInfo
	if err := json.Unmarshal(content, &list); err != nil || path != "" && len(list) == 0 {
		return nil, nil, fmt.Errorf("what answers at %s is no gateway: it gave no list of sessions; name the gateway's admin API with --address", a)
	}
	for i := range list {
		s := &list[i]
		for _, text := range []*string{&s.Environment, &s.Account, &s.Endpoint, &s.State, &s.LastError} {
			*text = printable(*text)
		}
	}
	return content, list, nil
}

// onlyAccount is for commands that name none.
func (a *adminClient) onlyAccount(ctx context.Context) (string, error) {
	_, list, err := a.sessions(ctx, http.MethodGet, "")
	if err != nil {
		return "", err
	}
	var known []string
	for _, s := range list {
		known = append(known, accountOf(s))
	}
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	switch len(known) {
	case 0:
		return "", errors.New("the running config has no account")
	case 1:
		return known[0], nil
	}
	return "", usagef("there are several accounts; expected one of %s", strings.Join(known, ", "))
}

func accountOf(s caddymodule.SessionInfo) string { return s.Environment + "/" + s.Account }

func asJSON(cmd *cobra.Command) bool {
	is, _ := cmd.Flags().GetBool("json")
	return is
}

func printRaw(cmd *cobra.Command, content []byte) error {
	_, err := cmd.OutOrStdout().Write(content)
	return err
}
