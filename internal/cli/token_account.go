package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

const (
	// callTimeout bounds one call of the Authentication service or a password
	// change.
	callTimeout = time.Minute
	// logoutTimeout is what a gateway gives a log-out at its end.
	logoutTimeout = 5 * time.Second
	// signalGrace is how long a call under way may still take when a signal has
	// come: without the answer to a login there is a session that nobody can
	// log out, and without that to a change nobody knows what is in force.
	signalGrace = 5 * time.Second
)

// errSignal is why a command ends before it has done anything.
var errSignal = errors.New("ended by a signal; nothing was changed")

// accountFlag adds --account, and the flags with which configs are found.
func accountFlag(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.Flags().String("account", "", "the account to act as, as ENV/ACCOUNT; may be left out where there is one")
	configFlags(cmd)
}

// openAccount opens the account that --account names.
func openAccount(cmd *cobra.Command) (*caddymodule.Door, error) {
	_, door, err := openAccountIn(cmd)
	return door, err
}

// openAccountIn is openAccount, and tells of the config too.
func openAccountIn(cmd *cobra.Command) (*caddymodule.App, *caddymodule.Door, error) {
	app, err := findApp(cmd)
	if err != nil {
		return nil, nil, err
	}
	wanted, _ := cmd.Flags().GetString("account")
	environment, account, err := chooseAccount(app, wanted)
	if err != nil {
		return nil, nil, err
	}
	door, err := app.Open(environment, account)
	return app, door, err
}

func accountName(door *caddymodule.Door) string { return door.Environment + "/" + door.Account }

// untilSignal returns a context that ends with the first signal. A second one
// ends the process at once, unless it follows so closely that nobody can have
// meant it: timeout(1) and terminals signal a process and its group.
func untilSignal(cmd *cobra.Command) (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	return ctx, stop
}

// outlasting returns a context that ends a while after ctx does.
func outlasting(ctx context.Context, grace, limit time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return out, func() { stop(); cancel() }
}

// apiSession is an account that acts at one endpoint.
type apiSession struct {
	endpoint string
	client   *automationapi.Client
	who      automationapi.Credential
	token    secret.Value // of the session; empty for an API token
}

// logInTo opens a session with password at the first endpoint that gives one.
// A password that was refused is not tried at another: users get locked.
func logInTo(ctx context.Context, door *caddymodule.Door, password secret.Value, endpoints []string) (*apiSession, error) {
	var failed []error
	for _, endpoint := range endpoints {
		client := door.Client(endpoint)
		step, cancel := outlasting(ctx, signalGrace, time.Duration(door.LoginTimeout()))
		login, err := client.LogIn(step, door.Username, password)
		cancel()
		if err == nil {
			return &apiSession{endpoint, client, automationapi.SessionToken(login.Token), login.Token}, nil
		}
		err = fmt.Errorf("%s: %w", endpoint, err)
		if automationapi.KindOf(err) == automationapi.Refused {
			return nil, err // whatever became of the endpoints before
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// logOut ends the session, and says so if it could not.
func (s *apiSession) logOut(cmd *cobra.Command) {
	if s.token.Empty() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), logoutTimeout)
	defer cancel()
	if err := s.client.LogOut(ctx, s.token); err != nil {
		cmd.PrintErrf("%s: warning: %v; the session ends by itself within 30 minutes\n", cmd.CommandPath(), err)
	}
}

// atAPI lets do act as the account, in a session of its own that is logged out
// afterwards, or with its API token. After a signal do has grace left. The
// error that it returns is for people.
func atAPI(ctx context.Context, cmd *cobra.Command, door *caddymodule.Door, grace time.Duration, do act) error {
	if door.Username == "" {
		return withWords(doWithToken(ctx, door, grace, do))
	}
	at, err := logInTo(ctx, door, door.Secret, door.Endpoints)
	if err != nil {
		return loginTrouble(door, err)
	}
	defer at.logOut(cmd)
	return withWords(doOnce(ctx, at, grace, do))
}

// act is what a command does at the API.
type act func(ctx context.Context, at *apiSession) error

// doWithToken goes on to the next endpoint only if one was not reached.
func doWithToken(ctx context.Context, door *caddymodule.Door, grace time.Duration, do act) error {
	var failed []error
	for _, endpoint := range door.Endpoints {
		err := doOnce(ctx, &apiSession{
			endpoint: endpoint, client: door.Client(endpoint), who: automationapi.APIToken(door.Secret),
		}, grace, do)
		if err == nil || !automationapi.IsDial(err) {
			return err
		}
		failed = append(failed, fmt.Errorf("%s: %w", endpoint, err))
	}
	return errors.Join(failed...)
}

func doOnce(ctx context.Context, at *apiSession, grace time.Duration, do act) error {
	if ctx.Err() != nil {
		return errSignal
	}
	step, cancel := outlasting(ctx, grace, callTimeout)
	defer cancel()
	return do(step, at)
}

// loginTrouble says what to do about a login that did not succeed.
func loginTrouble(door *caddymodule.Door, err error) error {
	if automationapi.KindOf(err) != automationapi.Refused {
		return fmt.Errorf("account %s: %w", accountName(door), err)
	}
	return fmt.Errorf("account %s: %w; nothing was changed, and the password is not tried again: "+
		"mend it where it stands (%s), or have the user unlocked", accountName(door), err, door.Source)
}

// worded is an error whose text has what the API says itself.
type worded struct{ error }

func (e worded) Unwrap() error { return e.error }

// withWords adds what the API says itself, once, where that is fit to be shown.
func withWords(err error) error {
	if _, done := errors.AsType[worded](err); done {
		return err
	}
	if e, ok := errors.AsType[*automationapi.AnswerError](err); ok && e.Said != "" {
		return worded{fmt.Errorf("%w; the API says: %q", err, e.Said)}
	}
	return err
}
