package cli

import (
	"strings"
	"testing"
)

func TestTheProgramsOwnHelpIsOfTheGateway(t *testing.T) {
	h := newHome(t)
	for _, args := range [][]string{{"--help"}, {"help"}, {}} {
		got := h.typed(t, nil, "", args...)
		got.want(t, 0, "authenticating gateway for the Control-M Automation API", "\n  ctmgate demo\n", "Commands of the gateway:\n  check ", "Commands of Caddy:\n  adapt ")
		if strings.Contains(got.out, "caddyserver.com") || strings.Contains(got.out, "$ caddy") || strings.Contains(got.out, "Additional Commands") ||
			strings.Contains(got.out, "upgrade") || strings.Contains(got.out, "-package") {
			t.Errorf("%q: got %s", args, got.out)
		}
	}
	h.typed(t, nil, "", "help", "sessions", "retry").want(t, 0, "Makes one attempt at logging in where")
	h.typed(t, nil, "", "run", "--help").want(t, 0, "https://caddyserver.com/docs/command-line") // of Caddy's, Caddy's manual
	h.typed(t, nil, "", "--version").want(t, 0, "v2.")
}

func TestMistakesInTheProgramsOwnLineAreUsageErrors(t *testing.T) {
	h := newHome(t)
	for line, want := range map[string]string{
		"nosuch":           `ctmgate: there is no command "nosuch"`,
		"sesions renew":    `there is no command "sesions"; did you mean sessions?`,
		"--nosuch":         "ctmgate: unknown flag: --nosuch\nSee `ctmgate --help`.\n",
		"--nosuch run":     "unknown flag: --nosuch",
		"-x":               "no such flag of one letter",
		"help nosuch":      `there is no command "nosuch"`,
		"validate --found": "ctmgate validate: unknown flag: --found",
	} {
		h.typed(t, nil, "", strings.Fields(line)...).want(t, exitUsage, want)
	}
}
