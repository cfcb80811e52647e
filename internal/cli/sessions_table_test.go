package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/ctmgate/ctmgate/caddymodule"
)

const (
	firstEndpoint  = "https://em1.example.com:8443/automation-api"
	secondEndpoint = "https://em2.example.com:8443/automation-api"
)

// at is a time to come, and half a second more for a slow machine.
func at(d time.Duration) *time.Time {
	then := time.Now().Add(d + 500*time.Millisecond)
	return &then
}

func TestTheScreenTellsTroubleFirstAndWhatToDo(t *testing.T) {
	list := []caddymodule.SessionInfo{
		{Environment: "prod", Account: "batch", Endpoint: firstEndpoint, InUse: true, State: "fresh", Session: 3, Age: 61.4, ExpiresIn: 1738.6, Requests: 12044, Logins: 3},
		{Environment: "prod", Account: "orders", Endpoint: firstEndpoint, InUse: true, State: "refused", Requests: 7, Logins: 2,
			NextAttempt: at(10 * time.Minute), LastError: "logging in: the API refused the username or password with status 401"},
		{Environment: "prod", Account: "reports", Endpoint: firstEndpoint, InUse: true, State: "standing"},
		{Environment: "test", Account: "batch", Endpoint: secondEndpoint, InUse: true, State: "paused", Requests: 1,
			NextAttempt: at(20 * time.Second), LastError: "logging in: no connection to the endpoint: dial tcp 192.0.2.7:8443: connect: connection refused"},
		{Environment: "test", Account: "idle", Endpoint: secondEndpoint, InUse: true, State: "none"},
		{Environment: "test", Account: "late", Endpoint: secondEndpoint, InUse: true, State: "due", Session: 9, Age: 1600, ExpiresIn: 200, Requests: 5, Logins: 1,
			NextAttempt: at(4 * time.Second), LastError: "logging in: no answer in time: context deadline exceeded"},
	}
	want := `STATE     ENVIRONMENT/ACCOUNT  AGE     EXPIRES IN  REQUESTS  LOGINS  ENDPOINT                                     LAST ERROR
REFUSED   prod/orders          -       -           7         2       https://em1.example.com:8443/automation-api  the API refused the username or password with status 401
PAUSED    test/batch           -       -           1         0       https://em2.example.com:8443/automation-api  no connection to the endpoint…
due       test/late            26m40s  3m20s       5         1       https://em2.example.com:8443/automation-api  no answer in time: context deadline exceeded
fresh     prod/batch           1m01s   28m59s      12044     3       https://em1.example.com:8443/automation-api  -
standing  prod/reports         -       -           0         0       https://em1.example.com:8443/automation-api  -
none      test/idle            -       -           0         0       https://em2.example.com:8443/automation-api  -

prod/orders: the password was refused. Mend it where it is kept: a changed file is picked up by itself. Or unlock the user, then ` + "`ctmgate sessions retry prod/orders --listen 127.0.0.1:9090`" + `. Otherwise it is not tried before 10m00s have passed.
test/batch: logins fail: no connection to the endpoint: dial tcp 192.0.2.7:8443: connect: connection refused. When the cause is mended, ` + "`ctmgate sessions retry test/batch --listen 127.0.0.1:9090`" + ` tries at once. Otherwise it is not tried before 20s have passed.
test/late: the last login failed, and calls go on with the session at hand for 3m20s. When the cause is mended, ` + "`ctmgate sessions retry test/late --listen 127.0.0.1:9090`" + ` tries at once. Otherwise it is not tried before 4s have passed.
2 of 6 accounts cannot be used. The gateway is at 127.0.0.1:2019.
`
	admin := &adminClient{address(t, "127.0.0.1:2019"), " --listen 127.0.0.1:9090"}
	if got := screen(list, admin, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	// Colour changes nothing but the colour, and is on the rows in trouble.
	got := screen(list, admin, true)
	for i, line := range strings.Split(got, "\n") {
		how := map[int]string{1: red, 2: red, 3: yellow}[i]
		if strings.HasPrefix(line, "\x1b") != (how != "") || !strings.HasPrefix(line, how) || how != "" && !strings.HasSuffix(line, reset) {
			t.Errorf("line %d is %q", i, line)
		}
	}
	if strings.NewReplacer(red, "", yellow, "", reset, "").Replace(got) != want {
		t.Errorf("with colour: got\n%s", got)
	}
}

func TestAnAccountThatWorksAtAnotherEndpointCanBeUsed(t *testing.T) {
	list := []caddymodule.SessionInfo{
		{Environment: "prod", Account: "batch", Endpoint: firstEndpoint, State: "paused", NextAttempt: at(time.Minute), LastError: "logging in: no answer in time"},
		{Environment: "prod", Account: "batch", Endpoint: secondEndpoint, InUse: true, State: "fresh", Session: 2, Age: 1, ExpiresIn: 3700, Requests: 3, Logins: 1},
	}
	got := screen(list, &adminClient{addr: socketAddress("/x")}, false)
	for _, want := range []string{
		"PAUSED  prod/batch           -    -           0         0       " + firstEndpoint + " (not in use)  no answer in time\n",
		"fresh   prod/batch           1s   1h01m       3         1       " + secondEndpoint + "               -\n",
		"\nprod/batch: the endpoint " + firstEndpoint + " failed; calls go to another one meanwhile.\n",
		"\nThe account can be used. The gateway is at unix//x.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

func TestAdviceFitsTheState(t *testing.T) {
	for name, test := range map[string]struct {
		session caddymodule.SessionInfo
		want    string // "" for none
	}{
		"in order":                  {caddymodule.SessionInfo{State: "fresh", Session: 1}, ""},
		"being renewed":             {caddymodule.SessionInfo{State: "due", Session: 1}, ""},
		"not renewed in time":       {caddymodule.SessionInfo{State: "urgent", Session: 1, ExpiresIn: 42}, "ends in 42s"},
		"no session":                {caddymodule.SessionInfo{State: "none"}, ""},
		"no session after failures": {caddymodule.SessionInfo{State: "none", LastError: "x"}, "The next call tries again"},
		"paused without a reason":   {caddymodule.SessionInfo{State: "paused", NextAttempt: at(time.Minute)}, "logins fail: see the gateway's log. When"},
		"a pause that is over":      {caddymodule.SessionInfo{State: "paused", LastError: "x"}, "logins fail: x. The next call tries again, or `"},
		"an attempt is due":         {caddymodule.SessionInfo{State: "refused", NextAttempt: at(-time.Hour)}, "not tried before 0s"},
		"an API token":              {caddymodule.SessionInfo{State: "standing"}, ""},
		"an API token that ended":   {caddymodule.SessionInfo{State: "ended", LastError: "x"}, "Make a new one"},
	} {
		test.session.InUse = true
		got := adviceFor(test.session, "")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestAPauseThatIsOverIsNone(t *testing.T) {
	list := []caddymodule.SessionInfo{
		{Environment: "prod", Account: "a", InUse: true, State: "paused", NextAttempt: at(time.Minute)},
		{Environment: "prod", Account: "b", InUse: true, State: "paused"},
		{Environment: "prod", Account: "c", InUse: true, State: "paused", NextAttempt: at(-time.Minute)},
	}
	got := screen(list, &adminClient{addr: socketAddress("/x")}, false)
	for _, want := range []string{"\nPAUSED  prod/a ", "\nFAILED  prod/b ", "\nFAILED  prod/c ", "\n3 of 3 accounts cannot be used."} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

func TestSummaryCountsAccounts(t *testing.T) {
	row := func(account, state string) caddymodule.SessionInfo {
		return caddymodule.SessionInfo{Environment: "prod", Account: account, State: state, InUse: true}
	}
	for want, list := range map[string][]caddymodule.SessionInfo{
		"The account can be used.":        {row("a", "fresh")},
		"The account cannot be used.":     {row("a", "refused")},
		"All 2 accounts can be used.":     {row("a", "fresh"), row("b", "none")},
		"1 of 2 accounts cannot be used.": {row("a", "fresh"), row("b", "paused")},
		"2 of 2 accounts cannot be used.": {row("a", "refused"), row("b", "paused")},
		"2 of 3 accounts cannot be used.": {row("a", "ended"), row("b", "fresh"), row("c", "ended")},
	} {
		if got := summary(list); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestShortErrorKeepsWhatPeopleRead(t *testing.T) {
	long := strings.Repeat("ü", 100)
	for text, want := range map[string]string{
		"":                              "-",
		"logging in: no answer":         "no answer",
		"logging in: " + long:           strings.Repeat("ü", 59) + "…",
		"logging in: what: " + long:     "what…",
		"logging in: " + long + ": why": strings.Repeat("ü", 59) + "…",
	} {
		if got := shortError(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
