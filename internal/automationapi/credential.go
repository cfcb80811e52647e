package automationapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// Credential is what a call shows, in exactly one header.
type Credential struct {
	header, scheme string
	value          secret.Value
}

// SessionToken is the credential of a session (controlm-api.md, section 3).
func SessionToken(token secret.Value) Credential {
	return Credential{header: "Authorization", scheme: "Bearer ", value: token}
}

// APIToken is the credential of a standing API token.
func APIToken(token secret.Value) Credential {
	return Credential{header: "X-Api-Key", value: token}
}

// call is a request with a credential.
type call struct {
	op, method, path string // the path is escaped
	query            url.Values
	body             []byte         // JSON, or nil
	annotations      http.Header    // headers that say why something is changed
	secrets          []secret.Value // in the body
	meanings         map[int]string // of codes that mean something special here
}

// ask sends r and returns the body of an answer that says yes. Any other
// answer is an *AnswerError, and none at all an *Error.
func (c *Client) ask(ctx context.Context, who Credential, r call) ([]byte, error) {
	if who.value.Empty() || !visible(who.value.Reveal()) {
		return nil, &Error{Kind: Failed, Op: r.op, Reason: "the token is empty, or holds characters that cannot stand in a header"}
	}
	var told atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { told.Store(true) }})
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader = http.NoBody
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, &Error{Kind: Failed, Op: r.op, Reason: "the endpoint is not a usable URL"}
	}
	for name, values := range r.annotations {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ctmgate")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(who.header, who.scheme+who.value.Reveal())
	res, err := c.http.Do(req)
	if err != nil {
		return nil, transportError(ctx, r.op, err, told.Load())
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	good := res.StatusCode/100 == 2
	switch {
	case err != nil && good:
		return nil, transportError(ctx, r.op, err, true)
	case len(answer) > maxBody && good:
		return nil, &Error{
			Kind: Failed, Op: r.op, Status: res.StatusCode,
			Reason: "the answer is larger than 1 MiB, which no Authentication or Session service sends",
		}
	case err != nil || len(answer) > maxBody:
		answer = nil // the status says enough
	}
	if words, failed := errorsIn(answer); !good || failed {
		return nil, &AnswerError{
			Op: r.op, Status: res.StatusCode, Said: unlessSecret(words, append(r.secrets, who.value)), special: r.meanings[res.StatusCode],
		}
	}
	return answer, nil
}

// AnswerError is an answer of the API that is no success.
type AnswerError struct {
	Op     string
	Status int
	// Said is what the API says itself, in one line without control
	// characters, fit for the person who gave the command: it is empty where it
	// would show a secret that was sent. It is no part of Error().
	Said    string
	special string
}

func (e *AnswerError) Error() string { return e.Op + ": " + e.Meaning() }

// meanings are what the codes mean that the Authentication service and the
// password update declare (controlm-api.md, sections 1 and 2).
var meanings = map[int]string{
	http.StatusBadRequest: "the API found a mistake in what it was sent",
	http.StatusUnauthorized: "the API does not accept this credential, or not for this operation; " +
		"look at the roles of the user, or at the end of the API token",
	http.StatusForbidden:        "the user has no right to this; who calls must hold every role that is asked for",
	http.StatusNotFound:         "the API knows no such thing",
	http.StatusMethodNotAllowed: "the API does not take this operation; does the endpoint end in /automation-api, and is the release 9.0.21 or later?",
	http.StatusNotAcceptable:    "the API does not accept this change of the token",
	http.StatusConflict:         "the change conflicts with the token as it is; look at it, and try again",
	http.StatusInternalServerError: "the API failed, or found a mistake that it has no other code for " +
		"(it uses this one for mistakes of users too)",
	http.StatusServiceUnavailable: "the service is switched off, or not up at present; try again later",
}

// Meaning is a sentence on the status.
func (e *AnswerError) Meaning() string {
	text := e.special
	switch known := meanings[e.Status]; {
	case text != "":
	case known != "":
		text = known
	case e.Status/100 == 3:
		text = "the API answered with a redirect; is the endpoint right?"
	case e.Status/100 == 2:
		text = "the API answered with errors all the same"
	default:
		text = "the API answered with an error"
	}
	return fmt.Sprintf("%s (status %d)", text, e.Status)
}

// maxSaid bounds what is shown of the API's own words, in characters.
const maxSaid = 300

// errorsIn returns what an answer says went wrong: an ErrorList or, as newer
// servers have it, a lone message beside a status (controlm-api.md, section 2).
// Failed tells whether there are errors whatever the status.
func errorsIn(answer []byte) (words string, failed bool) {
	var list struct {
		Errors []struct {
			Message string `json:"message"`
			Item    string `json:"item"`
		} `json:"errors"`
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &list) != nil {
		return "", false
	}
	if len(list.Errors) == 0 {
		return OneLine(list.Message), false
	}
	var all []string
	for _, e := range list.Errors {
		if one := strings.TrimSpace(OneLine(e.Message) + " " + OneLine(e.Item)); !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return strings.Join(all, "; "), true
}

// OneLine leaves out what could steer a terminal, and makes one blank of
// several.
func OneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return -1
	}, text)
}

// unlessSecret returns text, or nothing if any of the secrets stands in it,
// also in part or in another spelling.
func unlessSecret(text string, secrets []secret.Value) string {
	if letters := []rune(text); len(letters) > maxSaid {
		text = string(letters[:maxSaid]) + "…"
	}
	folded := strings.ToLower(text)
	for _, s := range secrets {
		for _, spelling := range append(spellings(s.Reveal()), spellings(OneLine(s.Reveal()))...) {
			if holdsPart(folded, strings.ToLower(spelling)) {
				return ""
			}
		}
	}
	return text
}

// partOfSecret is how many bytes of a secret in a row count as the secret: a
// server may have cut it off.
const partOfSecret = 8

func holdsPart(text, secret string) bool {
	n := min(len(secret), partOfSecret)
	for i := 0; n > 0 && i+n <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+n]) {
			return true
		}
	}
	return false
}

// spellings are ways in which a server may write a secret.
func spellings(text string) []string {
	list := []string{text, url.QueryEscape(text), url.PathEscape(text), hex.EncodeToString([]byte(text))}
	if quoted, err := json.Marshal(text); err == nil {
		list = append(list, strings.Trim(string(quoted), `"`))
	}
	for shift := range 3 { // within a longer text that is encoded as a whole
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + text))
		if cut := (shift*4 + 2) / 3; len(coded) > cut {
			list = append(list, strings.TrimRight(coded[cut:], "="))
		}
	}
	return list
}
