package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/internal/automationapi"
)

const tokenMembers = `"tokenName" and, where the API gives them, "tokenType",
"user", "roles", "expirationDate", "createdDate", "lastUpdatedDate", "server",
"serverHost", "serverId" and "tag", as the API writes them. Never a value.`

const listTokensHelp = `
Lists the API tokens of the account's user: name, type, user, roles, the last
day in UTC, and when it was created. A token that has ended is marked.

--json prints {"tokens": […]}, each with ` + tokenMembers

//nolint:gosec // a help text
const listTokensExample = `  ctmgate token list
  ctmgate token list --account prod/batch --json`

func buildTokenList(cmd *cobra.Command) {
	cmd.Long = listTokensHelp
	cmd.Example = listTokensExample
	accountFlag(cmd)
	kindFlags(cmd)
	cmd.Flags().Bool("json", false, "print the tokens as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var tokens []automationapi.TokenInfo
		err := lookAtAPI(cmd, 0, func(ctx context.Context, at *apiSession) (err error) {
			tokens, err = at.client.Tokens(ctx, at.who, tokenKind(cmd))
			return err
		})
		if err != nil {
			return err
		}
		if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
			return printJSON(cmd, map[string]any{"tokens": tokens})
		}
		return printTokens(cmd.OutOrStdout(), tokens, time.Now())
	}
}

const getTokenHelp = `
Shows one API token of the account's user, without its value.

--json prints an object with ` + tokenMembers + `

--definition prints what ` + "`token update`" + ` takes, as JSON: all members as the API
writes them, also those that are not known here, but for "user", "createdDate"
and "lastUpdatedDate".`

//nolint:gosec // a help text
const getTokenExample = `  ctmgate token get ci
  ctmgate token get ci --definition > ci.json`

func buildTokenGet(cmd *cobra.Command) {
	cmd.Long = getTokenHelp
	cmd.Example = getTokenExample
	accountFlag(cmd)
	kindFlags(cmd)
	cmd.Flags().Bool("json", false, "print the token as JSON")
	cmd.Flags().Bool("definition", false, "print what `token update` takes")
	cmd.Args = oneTokenName
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, _ := cmd.Flags().GetBool("json")
		definition, _ := cmd.Flags().GetBool("definition")
		if asJSON && definition {
			return usagef("--json and --definition are two forms; expected one of them")
		}
		var info automationapi.TokenInfo
		err := lookAtAPI(cmd, 0, func(ctx context.Context, at *apiSession) (err error) {
			info, err = at.client.Token(ctx, at.who, args[0], tokenKind(cmd))
			return err
		})
		if err != nil {
			return err
		}
		switch {
		case definition:
			return printJSON(cmd, info.Definition())
		case asJSON:
			return printJSON(cmd, info)
		}
		return printToken(cmd.OutOrStdout(), info, time.Now())
	}
}

//nolint:gosec // a help text
const deleteTokenHelp = `
Deletes an API token of the account's user. What still shows it is refused from
then on, and there is no way back.`

//nolint:gosec // a help text
const deleteTokenExample = `  ctmgate token delete ci
  ctmgate token delete ci --annotate "Annotation-Subject: the team has moved"`

func buildTokenDelete(cmd *cobra.Command) {
	cmd.Long = deleteTokenHelp
	cmd.Example = deleteTokenExample
	accountFlag(cmd)
	kindFlags(cmd)
	cmd.Flags().StringArray("annotate", nil, annotateUsage)
	cmd.Args = oneTokenName
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		texts, _ := cmd.Flags().GetStringArray("annotate")
		annotations, err := parseAnnotations(texts)
		if err != nil {
			return err
		}
		err = lookAtAPI(cmd, signalGrace, func(ctx context.Context, at *apiSession) error {
			err := at.client.DeleteToken(ctx, at.who, args[0], tokenKind(cmd), annotations)
			if err != nil && !automationapi.Undone(err) {
				return fmt.Errorf("%w; whether it was deleted is not known: look with `%s token list`", withWords(err), binary())
			}
			return err
		})
		if err != nil {
			return err
		}
		return tell(cmd, false, "token %s is deleted\n", args[0])
	}
}

// oneTokenName takes any name that a token may have had before there were
// rules, but for the two that are no name in a path.
func oneTokenName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" || args[0] == "." || args[0] == ".." {
		return usagef("expected the name of one token, as in `%s ci`", cmd.CommandPath())
	}
	return nil
}

func kindFlags(cmd *cobra.Command) {
	cmd.Flags().Bool("for-agent", false, "ask for tokens of agents, as the API's own forAgent")
	cmd.Flags().String("type", "", "ask for tokens of this tokenType, as the API's own type")
}

func tokenKind(cmd *cobra.Command) automationapi.TokenKind {
	var k automationapi.TokenKind
	k.ForAgent, _ = cmd.Flags().GetBool("for-agent")
	k.Type, _ = cmd.Flags().GetString("type")
	return k
}

// lookAtAPI is atAPI for commands that keep nothing.
func lookAtAPI(cmd *cobra.Command, grace time.Duration, do act) error {
	door, err := openAccount(cmd)
	if err != nil {
		return err
	}
	defer door.Close()
	ctx, stop := untilSignal(cmd)
	defer stop()
	return atAPI(ctx, cmd, door, grace, do)
}

// printJSON escapes what could steer a terminal, which in JSON stands in
// strings alone.
func printJSON(cmd *cobra.Command, value any) error {
	var text, shown bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(value); err != nil {
		return err
	}
	for _, r := range text.String() {
		if r == '\n' || unicode.IsPrint(r) {
			shown.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&shown, `\u%04x`, unit)
		}
	}
	_, err := shown.WriteTo(cmd.OutOrStdout())
	return err
}

// printTokens prints a table, with the tokens that have ended in red on a
// terminal.
func printTokens(out io.Writer, tokens []automationapi.TokenInfo, now time.Time) error {
	if len(tokens) == 0 {
		_, err := fmt.Fprintln(out, "the user has no API token")
		return err
	}
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tTYPE\tUSER\tROLES\tEXPIRES\tCREATED")
	for _, t := range tokens {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(t.Name), cell(t.Type), cell(t.User),
			cell(strings.Join(t.Roles, ",")), expires(t, now), cell(t.Created))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	colour, i := wantsColour(out), 0
	for line := range strings.Lines(text.String()) {
		line = strings.TrimRight(line, " \n")
		if i > 0 && colour && ended(tokens[i-1], now) {
			line = red + line + reset
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
		i++
	}
	return nil
}

func printToken(out io.Writer, t automationapi.TokenInfo, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"name", cell(t.Name)},
		{"type", cell(t.Type)},
		{"user", cell(t.User)},
		{"roles", cell(strings.Join(t.Roles, ","))},
		{"expires", expires(t, now)},
		{"created", cell(t.Created)},
		{"updated", cell(t.Updated)},
		{"server", cell(t.Server)},
		{"server host", cell(t.ServerHost)},
		{"server id", cell(t.ServerID)},
		{"tag", cell(t.Tag)},
	} {
		if row[1] != "-" {
			fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
		}
	}
	return table.Flush()
}

func expires(t automationapi.TokenInfo, now time.Time) string {
	switch {
	case t.Expires == "":
		return "never"
	case ended(t, now):
		return cell(t.Expires) + " (ended)"
	}
	return cell(t.Expires)
}

// ended tells whether the last day of the token, in UTC, has passed.
func ended(t automationapi.TokenInfo, now time.Time) bool {
	day, err := time.Parse(time.DateOnly, t.Expires)
	return err == nil && !now.Before(day.AddDate(0, 0, 1))
}

// cell is text of the API's as one cell of a table: it steers no terminal.
func cell(text string) string {
	if text = automationapi.OneLine(text); text == "" {
		return "-"
	}
	return text
}
