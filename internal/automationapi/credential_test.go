package automationapi

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// Secrets of these tests, beside those of the rig.
const (
	newPassword = "c4n4ry-n3w+p4ss&w0rd"
	tokenValue  = "c4n4ry-v4lue"
)

var session = SessionToken(secret.New(token))

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// operations are all calls with a credential.
var operations = map[string]func(context.Context, *Client, Credential) error{
	"list": func(ctx context.Context, c *Client, who Credential) error {
		_, err := c.Tokens(ctx, who, TokenKind{})
		return err
	},
	"get": func(ctx context.Context, c *Client, who Credential) error {
		_, err := c.Token(ctx, who, "ci", TokenKind{})
		return err
	},
	"create": func(ctx context.Context, c *Client, who Credential) error {
		_, err := c.CreateToken(ctx, who, []byte(`{"tokenName":"ci","tokenValue":"`+tokenValue+`"}`), nil)
		return err
	},
	"update": func(ctx context.Context, c *Client, who Credential) error {
		_, err := c.UpdateToken(ctx, who, []byte(`{"tokenName":"ci","tokenValue":"`+tokenValue+`"}`), nil)
		return err
	},
	"delete": func(ctx context.Context, c *Client, who Credential) error {
		return c.DeleteToken(ctx, who, "ci", TokenKind{}, nil)
	},
	"password": func(ctx context.Context, c *Client, who Credential) error {
		return c.ChangePassword(ctx, who, PasswordChange{User: user, Current: secret.New(password), New: secret.New(newPassword)})
	},
}

func TestACallShowsOneCredentialInItsOwnHeader(t *testing.T) {
	for what, do := range operations {
		for header, test := range map[string]struct {
			who  Credential
			want string
		}{
			"Authorization": {session, "Bearer " + token},
			"X-Api-Key":     {APIToken(secret.New(token)), token},
		} {
			s, c := serveTLS(t, say(200, `{"tokens":[],"tokenName":"ci","tokenValue":"x"}`))
			if err := do(within(t), c, test.who); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			seen := s.requests()
			if len(seen) != 1 {
				t.Fatalf("%s: got %d requests", what, len(seen))
			}
			for _, name := range []string{"Authorization", "X-Api-Key", "Cookie"} {
				got := seen[0].header.Values(name)
				if name == header && (len(got) != 1 || got[0] != test.want) || name != header && len(got) > 0 {
					t.Errorf("%s: %s is %q", what, name, got)
				}
			}
			if strings.Contains(seen[0].uri, token) {
				t.Errorf("%s: the token is in %s", what, seen[0].uri)
			}
		}
	}
}

func TestATokenThatCannotStandInAHeaderIsSentNowhere(t *testing.T) {
	for _, bad := range []string{"", "c4n4ry\r\nX-Other: 1", "c4n4ry 2", "c4n4rÿ"} {
		s, c := serveTLS(t, say(200, `{"tokens":[]}`))
		_, err := c.Tokens(within(t), APIToken(secret.New(bad)), TokenKind{})
		wantError(t, err, Failed, "cannot stand in a header")
		if len(s.requests()) > 0 {
			t.Errorf("%q: it was sent", bad)
		}
	}
}

func TestEveryCodeOfTheVendorHasAMeaning(t *testing.T) {
	for status, words := range map[int]string{
		400: "mistake", 401: "does not accept this credential", 403: "no right", 404: "knows no such thing",
		405: "9.0.21", 406: "does not accept this change", 409: "conflicts", 500: "mistakes of users too", 503: "switched off",
		302: "redirect", 418: "an error",
	} {
		_, c := serveTLS(t, say(status, `{"errors":[{"message":"said by the API `+bodyCanary+`","item":"no 7"}]}`))
		_, err := c.Tokens(within(t), session, TokenKind{})
		e := wantAnswer(t, err, status, words)
		if e.Said != "said by the API "+bodyCanary+" no 7" {
			t.Errorf("%d: it says %q", status, e.Said)
		}
		if e.Op == "" || !strings.HasPrefix(e.Error(), e.Op) {
			t.Errorf("%d: %v does not say what was done", status, e)
		}
	}
	for what, words := range map[string]string{
		"get": "no API token of this name", "update": "no API token of this name", "delete": "no API token of this name",
		"password": "does not know the user",
	} {
		_, c := serveTLS(t, say(404, `{"errors":[{"message":"x"}]}`))
		wantAnswer(t, operations[what](within(t), c, session), 404, words)
	}
	_, c := serveTLS(t, say(400, `{"errors":[{"message":"x"}]}`))
	wantAnswer(t, operations["password"](within(t), c, session), 400, "rules for passwords")
}

// wantAnswer fails unless err is an *AnswerError whose text says words, and
// nothing of the answer.
func wantAnswer(t *testing.T, err error, status int, words string) *AnswerError {
	t.Helper()
	e, ok := errors.AsType[*AnswerError](err)
	if !ok || e.Status != status || !strings.Contains(e.Meaning(), words) {
		t.Fatalf("got %T %v, want %d and %q", err, err, status, words)
	}
	for _, canary := range []string{bodyCanary, token, password, newPassword, tokenValue} {
		if strings.Contains(err.Error(), canary) {
			t.Errorf("the error shows %q", canary)
		}
	}
	return e
}

func TestAnswersThatSayYesAndNoAreNo(t *testing.T) {
	for what, do := range operations {
		_, c := serveTLS(t, say(200, `{"tokens":[],"tokenName":"ci","tokenValue":"x","errors":[{"message":"no"}]}`))
		if e := wantAnswer(t, do(within(t), c, session), 200, "all the same"); e.Said != "no" {
			t.Errorf("%s: it says %q", what, e.Said)
		}
	}
}

func TestAnswersThatAreNoneOfTheAPIAreNoSuccess(t *testing.T) {
	for _, body := range []string{"", "<html>Sign in</html>", `"yes"`, "null", "[]", `{"tokens":7,"tokenName":7,"tokenValue":7`, `{"tokens":{}} x`} {
		for what, do := range operations {
			_, c := serveTLS(t, say(200, body))
			err := do(within(t), c, session)
			if body == "" && (what == "delete" || what == "password") {
				if err != nil { // that gives nothing back
					t.Errorf("%s of nothing: got %v", what, err)
				}
				continue
			}
			if KindOf(err) != Failed || Undone(err) {
				t.Errorf("%s of %q: got %v", what, body, err)
			}
		}
	}
}

func TestAnAnswerWithoutABodyIsAYesToWhatGivesNothingBack(t *testing.T) {
	for what, do := range operations {
		_, c := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		if err := do(within(t), c, session); (err == nil) != (what == "delete" || what == "password") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestTheAPIsWordsAreNotShownWhereTheyHoldASecret(t *testing.T) {
	for _, canary := range map[string]string{"get": token, "create": tokenValue, "password": newPassword, "update": password} {
		quoted, _ := json.Marshal("<" + canary + ">")
		for name, spelling := range map[string]string{
			"as it is":           canary,
			"in capitals":        strings.ToUpper(canary),
			"cut off":            canary[:9],
			"its end":            canary[len(canary)-9:],
			"percent-encoded":    url.QueryEscape(canary),
			"as in a path":       url.PathEscape(canary),
			"as JSON":            strings.Trim(string(quoted), `"<>`),
			"in hexadecimal":     hex.EncodeToString([]byte(canary)),
			"in base64":          base64.StdEncoding.EncodeToString([]byte(canary)),
			"in a Basic header":  base64.StdEncoding.EncodeToString([]byte("gateway:" + canary)),
			"in base64, shifted": base64.StdEncoding.EncodeToString([]byte("u:" + canary)),
			"with bytes between": canary[:5] + "\u200b\x00" + canary[5:],
		} {
			message, _ := json.Marshal("cannot use " + spelling + " here")
			_, c := serveTLS(t, say(500, `{"errors":[{"message":"one"},{"message":`+string(message)+`}]}`))
			change := PasswordChange{User: user, Current: secret.New(password), New: secret.New(newPassword)}
			var err error
			if canary == tokenValue {
				_, err = c.CreateToken(within(t), session, []byte(`{"tokenValue":"`+tokenValue+`"}`), nil)
			} else {
				err = c.ChangePassword(within(t), session, change)
			}
			if e := wantAnswer(t, err, 500, ""); e.Said != "" {
				t.Errorf("%s %s: it shows %q", canary, name, e.Said)
			}
		}
	}
}

func TestTheAPIsWordsSteerNoTerminalAndHaveAnEnd(t *testing.T) {
	long := strings.Repeat("é", 5000)
	for body, want := range map[string]string{
		`{"errors":[{"message":"a\u001b[31m\nb\tc\u202e\u0000"}]}`:     "a[31m b c",
		`{"errors":[{"message":"one","item":null},{"message":"two"}]}`: "one; two",
		`{"errors":[{"message":"one"},{"message":"one","item":""}]}`:   "one",
		`{"message":"alone"}`:                     "alone",
		`{"errors":[{"message":"` + long + `"}]}`: strings.Repeat("é", maxSaid) + "…",
		`<html>`:            "",
		`{"errors":"none"}`: "",
		`{"errors":[{"message":"` + strings.Repeat("x", maxBody) + `long"}]`: "",
	} {
		_, c := serveTLS(t, say(400, body))
		_, err := c.Tokens(within(t), session, TokenKind{})
		if e := wantAnswer(t, err, 400, "mistake"); e.Said != want {
			t.Errorf("%.60s: got %q", body, e.Said)
		}
	}
}

func TestNoCallFollowsARedirect(t *testing.T) {
	other, _ := serveTLS(t, say(200, `{"tokens":[],"tokenName":"ci","tokenValue":"x"}`))
	for what, do := range operations {
		s, c := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
		})
		err := do(within(t), c, session)
		if wantAnswer(t, err, 307, "is the endpoint right?"); !Undone(err) {
			t.Errorf("%s: a redirect has done something", what)
		}
		if len(s.requests()) != 1 {
			t.Errorf("%s: got %d requests", what, len(s.requests()))
		}
	}
	if seen := other.requests(); len(seen) > 0 {
		t.Errorf("%d requests, with the credential, went elsewhere", len(seen))
	}
}

func TestAnAnswerWithoutAnEndIsNotRead(t *testing.T) {
	for what, do := range operations {
		_, c := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat(" ", 64<<10))
			for range 10 * maxBody / len(block) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
		wantError(t, do(within(t), c, session), Failed, "larger than 1 MiB")
		if t.Failed() {
			t.Fatal(what)
		}
	}
}

func TestAnAnswerThatDoesNotComeIsATimeOut(t *testing.T) {
	for what, do := range operations {
		block := make(chan struct{})
		_, c := serveTLS(t, func(http.ResponseWriter, *http.Request) { <-block })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := do(ctx, c, session)
		cancel()
		close(block)
		wantError(t, err, TimedOut, "no answer in time")
		if Undone(err) {
			t.Errorf("%s: it is taken for undone", what)
		}
	}
}

func TestErrorsQuoteNothingOfAnAnswerThatIsNotHTTP(t *testing.T) {
	for what, do := range operations {
		for _, canary := range []string{token, newPassword, bodyCanary} {
			err := do(within(t), recite(t, "HTTP/1.1 "+canary+"\r\nX: "+canary+"\r\n\r\n"), session)
			if e := wantError(t, err, Failed, "not HTTP"); strings.Contains(e.Error(), newPassword) || Undone(err) {
				t.Errorf("%s: got %v", what, e)
			}
		}
	}
}

func FuzzWordsOfAnAnswer(f *testing.F) {
	f.Add(`{"errors":[{"message":"no `+password+`","item":"x"}]}`, password)
	f.Add(`{"message":"a\u001bb"}`, "short")
	f.Add(`{"errors":[]}`, "")
	f.Fuzz(func(t *testing.T, answer, hidden string) {
		words, _ := errorsIn([]byte(answer))
		shown := unlessSecret(words, []secret.Value{secret.New(hidden)})
		if strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("it shows %q", shown)
		}
		if hidden != "" && strings.Contains(shown, hidden) {
			t.Errorf("%q shows %q", shown, hidden)
		}
	})
}

// decode reads what a server was sent.
func decode(t *testing.T, body string) map[string]any {
	t.Helper()
	var sent map[string]any
	if err := json.NewDecoder(io.LimitReader(strings.NewReader(body), maxBody)).Decode(&sent); err != nil {
		t.Fatal(err)
	}
	return sent
}
