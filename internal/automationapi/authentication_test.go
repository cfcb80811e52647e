package automationapi

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestTheAuthenticationServiceIsAskedAsDocumented(t *testing.T) {
	definition := []byte(`{"tokenName":"ci", "roles":["Admin"], "future": 1e400}`)
	notes := http.Header{"Annotation-Subject": {"why"}, "Authorization": {"Bearer other"}, "Content-Type": {"text/plain"}}
	for name, test := range map[string]struct {
		do                         func(*Client) error
		method, uri, body, content string
		noted                      bool
	}{
		"list": {func(c *Client) error {
			_, err := c.Tokens(within(t), session, TokenKind{})
			return err
		}, "GET", "/automation-api/authentication/tokens", "", "", false},
		"list of agents' tokens": {func(c *Client) error {
			_, err := c.Tokens(within(t), session, TokenKind{ForAgent: true, Type: "a&b"})
			return err
		}, "GET", "/automation-api/authentication/tokens?forAgent=true&type=a%26b", "", "", false},
		"get": {func(c *Client) error {
			_, err := c.Token(within(t), session, "ci", TokenKind{Type: "agent"})
			return err
		}, "GET", "/automation-api/authentication/token/ci?type=agent", "", "", false},
		"get of an old name": {func(c *Client) error {
			_, err := c.Token(within(t), session, "my token/50% für#1?;x", TokenKind{})
			return err
		}, "GET", "/automation-api/authentication/token/my%20token%2F50%25%20f%C3%BCr%231%3F%3Bx", "", "", false},
		"create": {func(c *Client) error {
			_, err := c.CreateToken(within(t), session, definition, notes)
			return err
		}, "POST", "/automation-api/authentication/token", string(definition), "application/json", true},
		"update": {func(c *Client) error {
			_, err := c.UpdateToken(within(t), session, definition, notes)
			return err
		}, "PUT", "/automation-api/authentication/token", string(definition), "application/json", true},
		"delete": {func(c *Client) error {
			return c.DeleteToken(within(t), session, "a b", TokenKind{ForAgent: true}, notes)
		}, "DELETE", "/automation-api/authentication/token/a%20b?forAgent=true", "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := serveTLS(t, say(200, `{"tokens":[],"tokenName":"ci","tokenValue":"x"}`))
			if err := test.do(c); err != nil {
				t.Fatal(err)
			}
			seen := s.requests()
			if len(seen) != 1 {
				t.Fatalf("got %d requests", len(seen))
			}
			got := seen[0]
			if got.method != test.method || got.uri != test.uri || got.body != test.body || got.header.Get("Accept") != "application/json" {
				t.Errorf("got %s %s %s", got.method, got.uri, got.body)
			}
			if noted := got.header.Get("Annotation-Subject") == "why"; noted != test.noted {
				t.Errorf("annotated: %v", noted)
			}
			if got.header.Get("Authorization") != "Bearer "+token || test.content != "" && got.header.Get("Content-Type") != test.content {
				t.Errorf("an annotation took the place of %q", got.header)
			}
		})
	}
}

func TestAValueIsNotLostOverAnythingElseInTheAnswer(t *testing.T) {
	for body, want := range map[string]string{
		`{"tokenValue":"c4n4ry-v4lue","roles":7,"tokenName":null}`: tokenValue,
		`{"tokenName":"ci"}`:                                "",
		`{"tokenName":"ci","tokenValue":null}`:              "",
		`{"tokenName":"ci","tokenValue":"with blank+/=é€"}`: "with blank+/=é€",
	} {
		_, c := serveTLS(t, say(201, body))
		value, err := c.CreateToken(within(t), session, []byte(`{}`), nil)
		if err != nil || value.Reveal() != want {
			t.Errorf("%s: got %q, %v", body, value.Reveal(), err)
		}
	}
	for _, body := range []string{`{"tokenValue":7}`, `{"tokenValue":"a\nb"}`, `{"tokenValue":"` + strings.Repeat("x", maxToken+1) + `"}`} {
		_, c := serveTLS(t, say(200, body))
		_, err := c.CreateToken(within(t), session, []byte(`{}`), nil)
		wantError(t, err, Failed, "not the JSON")
		if _, ok := errors.AsType[*AnswerError](err); ok || Undone(err) {
			t.Errorf("%.40s: got %v", body, err)
		}
	}
}
