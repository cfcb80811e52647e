package cli

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ctmgate/ctmgate/caddymodule"
)

// lastErrorMost is how much of an error fits into the table.
const lastErrorMost = 60

// trouble is how much a row asks for attention.
type trouble int

const (
	inOrder  trouble = iota
	troubled         // something failed, and calls go on or are about to try
	unusable         // calls are answered with an error
)

func troubleOf(s caddymodule.SessionInfo) trouble {
	switch {
	case !s.Usable():
		if !s.InUse {
			return troubled
		}
		return unusable
	case s.LastError != "" || s.State == "urgent":
		return troubled
	}
	return inOrder
}

// screen is all that the command prints: the rows, and under them what to do.
func screen(list []caddymodule.SessionInfo, admin *adminClient, colour bool) string {
	if len(list) == 0 {
		return fmt.Sprintf("The gateway at %s has no account.\n", admin)
	}
	rows := slices.Clone(list)
	slices.SortStableFunc(rows, func(a, b caddymodule.SessionInfo) int { return cmp.Compare(troubleOf(b), troubleOf(a)) })
	var out strings.Builder
	for i, text := range strings.SplitAfter(table(rows), "\n") {
		if colour && i > 0 && i <= len(rows) {
			text = coloured(text, troubleOf(rows[i-1]))
		}
		out.WriteString(text)
	}
	out.WriteString("\n")
	for _, text := range advice(rows, admin.flags) {
		out.WriteString(text + "\n")
	}
	fmt.Fprintf(&out, "%s The gateway is at %s.\n", summary(rows), admin)
	return out.String()
}

func coloured(text string, t trouble) string {
	how := map[trouble]string{troubled: yellow, unusable: red}[t]
	if how == "" {
		return text
	}
	return how + strings.TrimSuffix(text, "\n") + reset + "\n"
}

func table(rows []caddymodule.SessionInfo) string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tENVIRONMENT/ACCOUNT\tAGE\tEXPIRES IN\tREQUESTS\tLOGINS\tENDPOINT\tLAST ERROR")
	for _, s := range rows {
		endpoint := s.Endpoint
		if !s.InUse {
			endpoint += " (not in use)"
		}
		age, left := "-", "-"
		if s.Session != 0 {
			age, left = brief(s.Age), brief(s.ExpiresIn)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", stateOf(s), accountOf(s), age, left, s.Requests, s.Logins, endpoint, shortError(s.LastError))
	}
	_ = w.Flush() // to memory
	lines := strings.SplitAfter(out.String(), "\n")
	for i, text := range lines {
		if strings.HasSuffix(text, "\n") {
			lines[i] = strings.TrimRight(text, " \n") + "\n"
		}
	}
	return strings.Join(lines, "")
}

// stateOf is the state as it is shown. The admin API calls an account paused
// as long as its logins fail; once the pause is over, nothing holds the next.
func stateOf(s caddymodule.SessionInfo) string {
	switch {
	case pauseIsOver(s):
		return "FAILED"
	case !s.Usable():
		return strings.ToUpper(s.State)
	}
	return s.State
}

func pauseIsOver(s caddymodule.SessionInfo) bool {
	return s.State == "paused" && (s.NextAttempt == nil || time.Until(*s.NextAttempt) <= 0)
}

// shortError is the beginning of an error, without what all of them begin
// with.
func shortError(text string) string {
	if text == "" {
		return "-"
	}
	runes := []rune(strings.TrimPrefix(text, "logging in: "))
	if len(runes) <= lastErrorMost {
		return string(runes)
	}
	if what, _, more := strings.Cut(string(runes), ": "); more {
		runes = []rune(what) // the cause below says the same to engineers
	}
	return string(runes[:min(len(runes), lastErrorMost-1)]) + "…"
}

// advice is a line for each account in trouble: what to do.
func advice(list []caddymodule.SessionInfo, flags string) (lines []string) {
	told := make(map[string]bool)
	for _, s := range list {
		text := adviceFor(s, flags)
		if text == "" || told[accountOf(s)] {
			continue
		}
		told[accountOf(s)] = true
		lines = append(lines, accountOf(s)+": "+text)
	}
	return lines
}

func adviceFor(s caddymodule.SessionInfo, flags string) string {
	retry := fmt.Sprintf("`%s sessions retry %s%s`", binary(), accountOf(s), flags)
	switch {
	case troubleOf(s) == inOrder:
		return ""
	case s.State == "refused" && s.InUse:
		return "the password was refused. Mend it where it is kept: a changed file is picked up by itself. " +
			"Or unlock the user, then " + retry + "." + nextAttempt(s)
	case pauseIsOver(s) && s.InUse:
		return loginsFail(s) + "The next call tries again, or " + retry + " now."
	case s.State == "paused" && s.InUse:
		return loginsFail(s) + "When the cause is mended, " + retry + " tries at once." + nextAttempt(s)
	case s.State == "ended" && s.InUse:
		return "the API token has expired, or was deleted. Make a new one, in Control-M or with `" + binary() + " token create`, " +
			"and put it where the old one is kept: a changed file is picked up by itself, a variable takes a restart."
	case !s.InUse:
		return "the endpoint " + s.Endpoint + " failed; calls go to another one meanwhile."
	case s.Session == 0:
		return "the last login failed. The next call tries again, or " + retry + " now."
	case s.LastError == "":
		return "the session ends in " + brief(s.ExpiresIn) + ", and is not renewed yet; look here again in a moment."
	}
	return "the last login failed, and calls go on with the session at hand for " + brief(s.ExpiresIn) +
		". When the cause is mended, " + retry + " tries at once." + nextAttempt(s)
}

func loginsFail(s caddymodule.SessionInfo) string {
	return "logins fail: " + cmp.Or(strings.TrimPrefix(s.LastError, "logging in: "), "see the gateway's log") + ". "
}

func nextAttempt(s caddymodule.SessionInfo) string {
	if s.NextAttempt == nil {
		return ""
	}
	return " Otherwise it is not tried before " + brief(time.Until(*s.NextAttempt).Seconds()) + " have passed."
}

// summary counts accounts, each by the row of the endpoint in use.
func summary(list []caddymodule.SessionInfo) string {
	usable := make(map[string]bool)
	for _, s := range list {
		if s.InUse {
			usable[accountOf(s)] = troubleOf(s) != unusable
		} else if _, known := usable[accountOf(s)]; !known {
			usable[accountOf(s)] = false
		}
	}
	good := 0
	for _, is := range usable {
		if is {
			good++
		}
	}
	switch {
	case good == len(usable) && good == 1:
		return "The account can be used."
	case good == len(usable):
		return fmt.Sprintf("All %d accounts can be used.", good)
	case len(usable) == 1:
		return "The account cannot be used."
	}
	return fmt.Sprintf("%d of %d accounts cannot be used.", len(usable)-good, len(usable))
}

// brief is a duration as people say it.
func brief(seconds float64) string {
	d := time.Duration(max(seconds, 0) * float64(time.Second)).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
}
