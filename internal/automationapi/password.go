package automationapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// SecretPrefix is how a password begins that is not one, but the name of a
// secret in Control-M's vault: the server puts that in its place
// (controlm-api.md, section 8).
const SecretPrefix = "Secret:"

// PasswordChange is a user's change of the user's own password.
type PasswordChange struct {
	User    string
	Current secret.Value
	New     secret.Value
	// NewSecret, in place of New, names a secret in Control-M's vault. New is
	// then what the caller believes it holds, and is not sent.
	NewSecret string
}

// ChangePassword changes the password of the user whose session shows who. See
// Undone for what an error says of the password.
func (c *Client) ChangePassword(ctx context.Context, who Credential, change PasswordChange) error {
	const op = "changing the password"
	next := change.New.Reveal()
	for _, text := range []string{change.User, change.Current.Reveal(), next, change.NewSecret} {
		if !utf8.ValidString(text) {
			return &Error{Kind: Failed, Op: op, Reason: "a password, or the username, is not UTF-8, which the API needs"}
		}
	}
	if change.NewSecret != "" {
		next = ""
	}
	for _, text := range []string{change.Current.Reveal(), next} {
		if strings.HasPrefix(text, SecretPrefix) {
			return &Error{Kind: Failed, Op: op, Reason: "a password begins with " + SecretPrefix + ", which the API takes for the name of a secret"}
		}
	}
	if change.NewSecret != "" {
		next = SecretPrefix + change.NewSecret
	}
	body, err := json.Marshal(map[string]string{
		"user": change.User, "currentPassword": change.Current.Reveal(), "newPassword": next,
	})
	if err != nil {
		return &Error{Kind: Failed, Op: op, Reason: "the passwords cannot be written as JSON"}
	}
	answer, err := c.ask(ctx, who, call{
		op: op, method: http.MethodPost, path: "/session/user/password/update", body: body,
		secrets: []secret.Value{change.Current, change.New},
		meanings: map[int]string{
			http.StatusBadRequest: "the API does not take the passwords; the new one may break its rules for passwords",
			http.StatusNotFound:   "the API does not know the user, or cannot change a password that is kept elsewhere, as in LDAP",
		},
	})
	if err == nil && !saysDone(answer) {
		return notUnderstood(op)
	}
	return err
}

// Undone tells whether err says for sure that the API has not done what it was
// asked for: it said no, or was not reached. A failure of its own, or no
// answer, says nothing.
func Undone(err error) bool {
	if e, ok := errors.AsType[*AnswerError](err); ok {
		return e.Status/100 == 3 || e.Status/100 == 4 && e.Status != http.StatusRequestTimeout
	}
	return IsDial(err)
}
