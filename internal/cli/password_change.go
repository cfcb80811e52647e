package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ctmgate/ctmgate/caddymodule"
	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

const (
	// proofs is how often a login that failed, and was not refused, is tried
	// until it is settled which password is in force.
	proofs = 3
	// proofPause is the time between two of them: a server that has just failed
	// needs a moment.
	proofPause = time.Second
	// rotationLimit bounds all that comes after the change was asked for.
	rotationLimit = 3 * time.Minute
	// rotationGrace is what is left of it when a signal has come: enough for a
	// healthy server to answer, and for the proof.
	rotationGrace = 10 * time.Second
)

// change changes the password. Whatever happens, the error says which
// password is in force, as far as can be known.
func (r *rotation) change(ctx context.Context) error {
	if r.write != "" {
		var err error
		if r.pending, err = preparePending(r.write, r.next, r.whichWorks()); err != nil {
			return err
		}
	}
	at, err := logInTo(ctx, r.door, r.door.Secret, r.door.Endpoints)
	if err == nil && ctx.Err() != nil {
		at.logOut(r.cmd)
		err = errSignal
	}
	if err != nil {
		r.drop()
		return loginTrouble(r.door, err)
	}
	defer at.logOut(r.cmd)
	// From here on nothing is broken off in the middle.
	work, cancel := outlasting(ctx, rotationGrace, rotationLimit)
	defer cancel()
	silence := context.AfterFunc(ctx, func() {
		r.cmd.PrintErrf("%s: the change has begun; ending once it is known which password is in force\n", r.cmd.CommandPath())
	})
	defer silence()
	return r.changeAt(work, at)
}

func (r *rotation) changeAt(ctx context.Context, at *apiSession) error {
	step, cancel := context.WithTimeout(ctx, callTimeout)
	err := at.client.ChangePassword(step, at.who, automationapi.PasswordChange{
		User: r.door.Username, Current: r.door.Secret, New: r.next, NewSecret: r.newSecret,
	})
	cancel()
	switch {
	case err == nil:
		return r.prove(ctx, at)
	case automationapi.Undone(err):
		r.drop()
		return fmt.Errorf("%w; nothing was changed: the current password is still in force", withWords(err))
	default:
		return r.settle(ctx, at, withWords(err))
	}
}

// prove logs in with the new password after the API has said that it is
// changed.
func (r *rotation) prove(ctx context.Context, at *apiSession) error {
	if r.next.Empty() {
		return r.tellUnproved()
	}
	err := r.try(ctx, at, r.next)
	if err == nil {
		return r.take("")
	}
	const said = "the API said that the password is changed"
	if automationapi.KindOf(err) != automationapi.Refused {
		return fmt.Errorf("%s, but the new one could not be proved: %w%s", said, err, r.leave("most likely the new password is in force"))
	}
	old := r.try(ctx, at, r.door.Secret)
	switch {
	case old == nil:
		r.drop()
		return fmt.Errorf("%s, but it refuses the new one, and still takes the current one: the current password is in force", said)
	case automationapi.KindOf(old) != automationapi.Refused:
		return fmt.Errorf("%s, but it refuses the new one; whether it still takes the current one could not be found out: %w%s", said, old, r.leave(""))
	case r.newSecret != "":
		return fmt.Errorf("%s to what the secret %s holds, and it refuses both what --new-password-file holds and the current one: "+
			"they differ, or the user is locked%s", said, r.newSecret, r.leave("have an administrator look at the user"))
	}
	return fmt.Errorf("%s, but it refuses the new one and the current one: the user may be locked%s", said, r.leave("have an administrator look at the user"))
}

// settle finds out what became of a change to which the API gave no answer,
// or none that says. The current password is tried first: most likely it is
// in force, and then no login is refused.
func (r *rotation) settle(ctx context.Context, at *apiSession, cause error) error {
	_, answered := errors.AsType[*automationapi.AnswerError](cause)
	old := r.try(ctx, at, r.door.Secret)
	switch {
	case old == nil && answered:
		r.drop()
		return fmt.Errorf("%w; nothing was changed: the current password is still in force", cause)
	case old == nil:
		return fmt.Errorf("%w; the current password is still in force, but the API may be at it yet%s", cause, r.leave("look again in a minute"))
	case automationapi.KindOf(old) != automationapi.Refused:
		return fmt.Errorf("%w; which password is in force could not be found out: %w%s", cause, old, r.leave(""))
	case r.next.Empty():
		return fmt.Errorf("%w; the current password is refused now, so most likely the one of the secret %s is in force%s", cause, r.newSecret, r.leave(""))
	}
	next := r.try(ctx, at, r.next)
	switch {
	case next == nil:
		return r.take(fmt.Sprintf("the API gave an error or no answer (%v), and has changed the password all the same\n", cause))
	case automationapi.KindOf(next) != automationapi.Refused:
		return fmt.Errorf("%w; the current password is refused now, so most likely the new one is in force, which could not be proved: %w%s", cause, next, r.leave(""))
	}
	return fmt.Errorf("%w; both passwords are refused now: the user may be locked%s", cause, r.leave("have an administrator look at the user"))
}

// try logs in and out, and tries again what failed without a refusal.
func (r *rotation) try(ctx context.Context, at *apiSession, password secret.Value) error {
	for n := 1; ; n++ {
		proof, err := logInTo(ctx, r.door, password, []string{at.endpoint})
		if err == nil {
			proof.logOut(r.cmd)
			return nil
		}
		if automationapi.KindOf(err) == automationapi.Refused || n == proofs || ctx.Err() != nil {
			return err
		}
		pause := time.NewTimer(proofPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// take ends a change that succeeded. note is told before the rest.
func (r *rotation) take(note string) error {
	user := r.door.Username
	if r.pending == nil {
		return tell(r.cmd, false, "%sthe password of %s is changed, and the new one works\n%s", note, user, r.todo())
	}
	if err := r.pending.take(); err != nil {
		return fmt.Errorf("%sthe password of %s is changed, and the new one works, but %s could not be replaced: %w; "+
			"the new password is in %s: put it there, and remove that file", note, user, r.pending.path, err, r.pending.pending)
	}
	return tell(r.cmd, false, "%sthe password of %s is changed, and the new one works\nit is in %s now\n%s", note, user, r.pending.path, r.todo())
}

func (r *rotation) tellUnproved() error {
	return tell(r.cmd, false, "the API says that the password of %s is now what the secret %s holds\n"+
		"that was not proved, since only Control-M knows it; to prove it, give --new-password-file as well\n%s",
		r.door.Username, r.newSecret, r.todo())
}

// todo says what is left to do for the account to have the new password, and
// for others that log in as the same user.
func (r *rotation) todo() string {
	name, source := accountName(r.door), r.door.Source
	var text string
	switch {
	case r.wrote(source):
		text = "running gateways pick it up by themselves within 5 s\n"
	case source.Kind == secret.File:
		text = fmt.Sprintf("account %s reads %s, which this command did not write: put the new password there now, "+
			"or its next login is refused; running gateways pick it up by themselves\n", name, source.Name)
	case source.Kind == secret.Env:
		text = fmt.Sprintf("account %s has its password from the environment variable %s, which this command cannot change: "+
			"set the new one where that is set, and restart the gateway, or its next login is refused\n", name, source.Name)
	default:
		text = fmt.Sprintf("account %s has its password in the config itself, which this command does not change: "+
			"put the new one there and reload the gateway, or its next login is refused\n", name)
	}
	for _, other := range r.sharers {
		if !r.wrote(other.source) {
			text += fmt.Sprintf("account %s logs in as %s too, with the password in %s: put the new one there as well, "+
				"or its next login is refused, and may lock the user for both\n", other.name, r.door.Username, other.source)
		}
	}
	return text
}

// wrote tells whether this command has put the new password into source.
func (r *rotation) wrote(source secret.Spec) bool {
	return source.Kind == secret.File && r.pending != nil && sameFile(r.pending.path, source.Name)
}

// sharer is another account that logs in as the same user.
type sharer struct {
	name   string
	source secret.Spec // of its password
}

// sharersOf are the accounts of the config, beside that of door, that log in as
// the same user at one of the same endpoints, and have their password elsewhere.
func sharersOf(app *caddymodule.App, door *caddymodule.Door) (list []sharer) {
	for _, one := range app.AccountNames() {
		config := app.Environments[one[0]]
		account := config.Accounts[one[1]]
		if account == nil || account.APIToken != "" || !slices.ContainsFunc(config.Endpoint, func(e string) bool {
			return slices.ContainsFunc(door.Endpoints, func(own string) bool { return strings.TrimSuffix(e, "/") == strings.TrimSuffix(own, "/") })
		}) {
			continue
		}
		user := account.Username
		source, err := secret.Parse(account.Password)
		if other, opened := app.Open(one[0], one[1]); opened == nil {
			user = other.Username
			other.Close()
		}
		if err == nil && user == door.Username && source.Identity() != door.Source.Identity() {
			list = append(list, sharer{one[0] + "/" + one[1], source})
		}
	}
	return list
}

// leave says, as the end of an error, what is left behind and what to do.
func (r *rotation) leave(advice string) string {
	text := ""
	if advice != "" {
		text = "; " + advice
	}
	if r.pending == nil {
		return text
	}
	return fmt.Sprintf("%s; the new password is kept in %s: %s", text, r.pending.pending, r.whichWorks())
}

// whichWorks is how to find out which of the two passwords does. `check` looks
// beside the account's own file alone.
func (r *rotation) whichWorks() string {
	if source := r.door.Source; source.Kind == secret.File && sameFile(r.write, source.Name) {
		return fmt.Sprintf("`%s check` tells which of the two passwords works", binary())
	}
	return fmt.Sprintf("log in by hand, once, to find out which of the two passwords works (%s does not read it for account %s)", binary(), accountName(r.door))
}

// drop removes the new password, which is not in force.
func (r *rotation) drop() {
	if r.pending != nil {
		r.pending.drop()
	}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
