package automationapi

import (
	"maps"
	"testing"

	"github.com/ctmgate/ctmgate/internal/secret"
)

func TestAPasswordIsChangedAsDocumented(t *testing.T) {
	for name, test := range map[string]struct {
		change PasswordChange
		want   string
	}{
		"to another one": {PasswordChange{New: secret.New(newPassword)}, newPassword},
		// SEED0 and SEED1 in controlm-api.md have exactly this.
		"to a secret of the vault":               {PasswordChange{NewSecret: "secretKey"}, "Secret:secretKey"},
		"to a secret whose content is known too": {PasswordChange{NewSecret: "secretKey", New: secret.New(newPassword)}, "Secret:secretKey"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := serveTLS(t, say(200, `{"message":"done"}`))
			test.change.User, test.change.Current = user, secret.New(password)
			if err := c.ChangePassword(within(t), session, test.change); err != nil {
				t.Fatal(err)
			}
			got := s.requests()[0]
			if got.method != "POST" || got.uri != "/automation-api/session/user/password/update" || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("got %s %s", got.method, got.uri)
			}
			want := map[string]any{"user": user, "currentPassword": password, "newPassword": test.want}
			if sent := decode(t, got.body); !maps.Equal(sent, want) {
				t.Errorf("got %v", sent)
			}
		})
	}
}

func TestAPasswordThatTheAPIWouldMisreadIsNotSent(t *testing.T) {
	for name, change := range map[string]PasswordChange{
		"a new one that looks like a reference": {New: secret.New("Secret:" + newPassword)},
		"a current one that does":               {Current: secret.New("Secret:" + password), New: secret.New("x")},
		"a new one that is not UTF-8":           {New: secret.New(newPassword + "\xff")},
		"a current one that is not UTF-8":       {Current: secret.New(password + "\xff"), New: secret.New("x")},
		"a user that is not UTF-8":              {User: "\xff", New: secret.New("x")},
	} {
		s, c := serveTLS(t, say(200, `{"message":"done"}`))
		wantError(t, c.ChangePassword(within(t), session, change), Failed, "")
		if len(s.requests()) > 0 {
			t.Errorf("%s: it was sent", name)
		}
	}
}

func TestOnlyANoOrAMissingConnectionMeansUndone(t *testing.T) {
	for status, undone := range map[int]bool{
		302: true, 400: true, 401: true, 403: true, 404: true, 405: true, 406: true, 409: true,
		408: false, 500: false, 502: false, 503: false, 504: false,
	} {
		_, c := serveTLS(t, say(status, `{}`))
		if err := operations["password"](within(t), c, session); Undone(err) != undone {
			t.Errorf("%d: got %v of %v", status, !undone, err)
		}
	}
	s, c := serveTLS(t, say(200, `{}`))
	s.Close()
	if err := operations["password"](within(t), c, session); KindOf(err) != Unreachable || !Undone(err) {
		t.Errorf("a closed port: got %v", err)
	}
	if Undone(nil) {
		t.Error("no error is taken for undone")
	}
}
