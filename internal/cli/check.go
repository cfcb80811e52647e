package cli

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

const checkHelp = `
Logs in with every account of a config at every endpoint of its environment,
makes one call that needs no right but that to the API, and logs out again.
Prints a table, and under it what is wrong, why, and what to do. Exit code 0
means that every account works at every endpoint, 1 that one does not.

The accounts are those of the config that --config names; else the one of the
variables that a sidecar reads, where CTM_ENDPOINT is set; else those of the
Caddyfile in this folder. Secrets are read where the config says that they
are, and shown nowhere. A gateway that runs is neither asked nor disturbed.

Control-M may lock a user after some refused logins, so each run spends one
login at most for an account and its password: accounts with the same user and
password share it, and a password that one endpoint refused is tried at no
other. Nothing is tried again by itself; do not run it in a loop.

Where a password file, or the file that it links to, has a FILE.pending beside
it, a ` + "`password update`" + ` did not come to its end. If the password in FILE is
refused, the pending one is tried once, and the result says which of the two
is in force.

An account with an API token does not log in: the call is made with the token,
and no API version is known. The latency is that of the login or of the call,
with name, connection and TLS. A clock that is off by more than a minute from
the server's is a warning, and no failure: sessions do not depend on it, the
dates of certificates, keys and logs do.

Results:
  ok                     logged in, called and logged out
  name_not_resolved      the endpoint's name has no address here
  no_connection          nobody takes the connection: refused, or no answer
  connection_lost        the connection ended before an answer came
  timed_out              no answer within login_timeout, 15s by default
  no_tls                 what answers does not speak TLS
  tls_failed             TLS could not be agreed upon
  certificate_untrusted  nothing here vouches for the certificate
  certificate_name       the certificate is for another name
  certificate_expired    the certificate is out of its dates
  not_http               what answers does not speak HTTP
  not_automation_api     a web server answers, but no Automation API
  refused                password or token wrong, or the user locked
  forbidden              the user has no right to use the API
  failed                 the API answered with an error
  not_tried              left out, to spend no further login, or by a signal
  not_opened             the secret or a certificate file cannot be read

--json prints one object: "ok", and "results" with an object for each line of
the table: "environment", "account", "endpoint", "ok", "result" as above, and
where they are known "status" of the answer, "version", "latency_ms",
"message" and "action" as under the table, "certificates" (of the server, its
own first: "subject", "issuer", "names", "not_before", "not_after", "sha256"),
"clock_offset_seconds" (the server's clock less this machine's), "warnings",
and "same_as", an account as ENV/ACCOUNT whose outcome this one shares. More
members may come; these stay.`

const checkExample = `  ctmgate check
  ctmgate check --config /etc/ctmgate/Caddyfile
  ctmgate check --account prod/batch --json

  With the variables of a sidecar:
    CTM_ENDPOINT=https://em.example.com:8443/automation-api \
      CTM_USERNAME=batch CTM_PASSWORD_FILE=/run/secrets/ctm_password ctmgate check

  A certificate that is not trusted yet, to a file (which trusts nothing):
    ctmgate check --account prod/batch --save-certificate em.pem`

// Bounds of what a check does beside logging in.
const (
	// checkLogoutTime is what a gateway gives a log-out at its end.
	checkLogoutTime = 5 * time.Second
	// checkSignalGrace is how long a login under way may still take when a
	// signal has come: without its answer there is a session that nobody can
	// log out.
	checkSignalGrace = 3 * time.Second
	// checkClock is how far two clocks may be apart.
	checkClock = time.Minute
)

// errCheck makes the exit code that of an account that does not work.
var errCheck = errors.New("an account does not work")

func buildCheck(cmd *cobra.Command) {
	cmd.Long = checkHelp
	cmd.Example = checkExample
	cmd.Flags().SortFlags = false
	configFlags(cmd)
	cmd.Flags().StringArray("account", nil, "check this account alone, as ENV/ACCOUNT; repeatable")
	cmd.Flags().Bool("json", false, "print the results as JSON")
	cmd.Flags().String("save-certificate", "", "write the certificate that is not trusted to this new file, as PEM")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		app, err := findApp(cmd)
		if err != nil {
			return err
		}
		wanted, err := checkAccounts(cmd, app)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		context.AfterFunc(ctx, stop) // a second signal does not wait
		c := newChecker(app, !cmd.Flags().Changed("config") && os.Getenv(envEndpoint) != "")
		for _, one := range wanted {
			c.account(ctx, one[0], one[1])
		}
		return c.finish(cmd)
	}
}

// checkAccounts are those that --account names, else all.
func checkAccounts(cmd *cobra.Command, app *caddymodule.App) ([][2]string, error) {
	names, _ := cmd.Flags().GetStringArray("account")
	if len(names) == 0 {
		known := app.AccountNames()
		if len(known) == 0 {
			return nil, errors.New("the config has no account")
		}
		return known, nil
	}
	var wanted [][2]string
	for _, name := range names {
		environment, account, err := chooseAccount(app, name)
		if err != nil {
			return nil, err
		}
		if one := [2]string{environment, account}; !slices.Contains(wanted, one) {
			wanted = append(wanted, one)
		}
	}
	return wanted, nil
}

// finish prints what was found, and says so by the exit code too.
func (c *checker) finish(cmd *cobra.Command) error {
	asJSON, _ := cmd.Flags().GetBool("json")
	printed := printCheckTable
	if asJSON {
		printed = printCheckJSON
	}
	if err := printed(cmd.OutOrStdout(), c.rows); err != nil {
		return err
	}
	if file, _ := cmd.Flags().GetString("save-certificate"); file != "" {
		if err := c.saveCertificate(cmd, file); err != nil {
			return err
		}
	}
	if checkFails(c.rows) {
		return silent(cmd, errCheck)
	}
	return nil
}

// checker goes through accounts, one after the other, so that what one has
// met spares the next an attempt.
type checker struct {
	app     *caddymodule.App
	sidecar bool // the account is of variables, not of a config
	rows    []checkRow
	// Rows by endpoint and the way there, where the trouble is the same for
	// every account, or for those of its kind; and by these and the credential.
	down, tried map[string]checkRow
	// refused has the account that was refused, by environment and by endpoint,
	// each with the credential.
	refused map[string]string
	secrets []secret.Value      // that were sent, so that no answer brings them back
	anchors []*x509.Certificate // of what was not trusted
}

func newChecker(app *caddymodule.App, sidecar bool) *checker {
	return &checker{
		app: app, sidecar: sidecar,
		down: make(map[string]checkRow), tried: make(map[string]checkRow), refused: make(map[string]string),
	}
}

// account checks one account at each endpoint.
func (c *checker) account(ctx context.Context, environment, account string) {
	door, err := c.app.Open(environment, account)
	// net/http logs what a server says unasked, which may be anything.
	log.SetOutput(io.Discard)
	if err != nil {
		c.rows = append(c.rows, checkRow{
			Environment: environment, Account: account, Result: resultNotOpened, Message: "Nothing was asked: " + err.Error() + ".",
			Action: "Mend that, and check again.",
		})
		return
	}
	defer door.Close()
	c.secrets = append(c.secrets, door.Secret)
	for _, endpoint := range door.Endpoints {
		row := c.endpoint(ctx, door, endpoint)
		row.Environment, row.Account, row.Endpoint = environment, account, endpoint
		row.OK = row.Result == resultOK
		c.rows = append(c.rows, row)
	}
}

// endpoint checks an account at one endpoint, or finds that this was done.
func (c *checker) endpoint(ctx context.Context, door *caddymodule.Door, endpoint string) checkRow {
	name := door.Environment + "/" + door.Account
	way := checkWay(door, endpoint)
	who := secret.Fingerprint(door.Username, door.Secret.Reveal())
	kind := fmt.Sprintf("%s, with a login: %t", way, door.Username != "")
	for _, before := range []checkRow{c.down[way], c.down[kind], c.tried[way+who]} {
		if before.of != "" {
			return before.again()
		}
	}
	if ctx.Err() != nil {
		return checkRow{Result: resultNotTried, Message: "A signal came before it was tried."}
	}
	a := &checkAttempt{checker: c, door: door, endpoint: endpoint, limit: time.Duration(door.LoginTimeout())}
	inEnvironment, atEndpoint := "environment "+door.Environment+who, "endpoint "+endpoint+who
	by := c.refused[inEnvironment]
	if by == "" {
		by = c.refused[atEndpoint]
	}
	if by != "" {
		a.look(ctx, by)
	} else {
		a.try(ctx)
	}
	a.noteClock()
	if a.insecure() {
		word := "tls_insecure_skip_verify"
		if c.sidecar {
			word = envInsecure
		}
		a.warn(word + " accepts any certificate: whoever answers in the endpoint's place gets the secret.")
	}
	if a.row.Result == resultRefused || a.row.Result == resultForbidden && !a.loggedIn {
		c.refused[inEnvironment], c.refused[atEndpoint] = name, name
	}
	a.row.of = name
	c.tried[way+who] = a.row
	switch {
	case a.row.unreached():
		c.down[way] = a.row
	case a.row.misunderstood():
		c.down[kind] = a.row
	}
	return a.row
}

// checkWay tells endpoints apart by all that decides whether they are reached.
func checkWay(door *caddymodule.Door, endpoint string) string {
	e := door.Config
	settings, _ := json.Marshal([]any{
		endpoint, e.TLSCAFile, e.TLSServerName, e.TLSClientCertificate, e.TLSInsecureSkipVerify, e.Transport, e.LoginTimeout,
	})
	return string(settings)
}

// checkAttempt is one account at one endpoint.
type checkAttempt struct {
	*checker
	door     *caddymodule.Door
	endpoint string
	limit    time.Duration
	visit    *automationapi.Visit
	offset   *time.Duration
	loggedIn bool
	row      checkRow
}

func (a *checkAttempt) warn(text string) { a.row.Warnings = append(a.row.Warnings, text) }

func (a *checkAttempt) insecure() bool {
	return a.door.Config.TLSInsecureSkipVerify && a.scheme() == "https"
}

// client is one whose requests are watched.
func (a *checkAttempt) client() (client *automationapi.Client) {
	client, a.visit = a.door.Client(a.endpoint).Watch()
	return client
}

// try logs in, calls and logs out; with an API token it calls alone.
func (a *checkAttempt) try(ctx context.Context) {
	client := a.client()
	if a.door.Username == "" {
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, a.limit)
		defer cancel()
		err := client.Probe(within, automationapi.APIToken(a.door.Secret))
		a.took(began)
		if a.row.Result = resultOK; err != nil {
			a.conclude(err)
		}
		return
	}
	err := a.logIn(ctx, client, a.door.Secret)
	if err != nil {
		a.conclude(err)
	}
	a.pending(ctx, client)
}

// logIn opens a session with password, calls and logs out. It returns the
// error of the login; whatever else goes wrong stands in the row.
func (a *checkAttempt) logIn(ctx context.Context, client *automationapi.Client, password secret.Value) error {
	began := time.Now()
	within, cancel := checkStep(ctx, a.limit)
	defer cancel()
	login, err := client.LogIn(within, a.door.Username, password)
	a.took(began)
	a.noteClock()
	if err != nil {
		return err
	}
	a.secrets = append(a.secrets, login.Token)
	a.loggedIn = true
	a.row.Result, a.row.Version = resultOK, a.said(login.Version)
	calling, cancelCall := context.WithTimeout(ctx, a.limit)
	defer cancelCall()
	a.concludeCall(client.Probe(calling, automationapi.SessionToken(login.Token)))
	// Also when a signal has come.
	leaving, cancelLeave := context.WithTimeout(context.WithoutCancel(ctx), checkLogoutTime)
	defer cancelLeave()
	if err := client.LogOut(leaving, login.Token); err != nil {
		a.warn("The session could not be logged out, and ends by itself: " + a.said(err.Error()) + ".")
	}
	return nil
}

func (a *checkAttempt) took(began time.Time) {
	ms := time.Since(began).Milliseconds()
	a.row.Latency = &ms
}

// look asks whether the endpoint is there, where no further login is to be
// spent.
func (a *checkAttempt) look(ctx context.Context, refused string) {
	within, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	if err := a.client().Look(within); err != nil {
		a.conclude(err)
		return
	}
	a.row.Result = resultNotTried
	a.row.Message = fmt.Sprintf("The endpoint answers. No login was spent: the same secret was refused for %s.", refused)
}

// checkStep bounds a login; a signal leaves it a little time to end.
func checkStep(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(checkSignalGrace, cancel) })
	return within, func() { stop(); cancel() }
}

// noteClock compares the clocks by the last answer that had a date.
func (a *checkAttempt) noteClock() {
	if a.visit == nil {
		return
	}
	if offset, known := a.visit.Offset(); known && a.offset == nil {
		a.offset = &offset
		seconds := offset.Seconds()
		a.row.Offset = &seconds
		if offset.Abs() > checkClock {
			a.warn(clockWarning(offset))
		}
	}
}
