package automationapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// TokenKind says which tokens are meant, beside those of users. The zero
// value adds nothing to a call.
type TokenKind struct {
	ForAgent bool
	Type     string
}

func (k TokenKind) query() url.Values {
	q := make(url.Values)
	if k.ForAgent {
		q.Set("forAgent", "true")
	}
	if k.Type != "" {
		q.Set("type", k.Type)
	}
	return q
}

const (
	oneToken  = "/authentication/token" //nolint:gosec // a path
	allTokens = "/authentication/tokens"
)

// noToken is what 404 means where a token is named. Other users' tokens need
// a right of their own.
var noToken = map[int]string{http.StatusNotFound: "the user has no API token of this name"}

func tokenPath(name string) string { return oneToken + "/" + url.PathEscape(name) }

// Tokens lists the API tokens of the caller.
func (c *Client) Tokens(ctx context.Context, who Credential, kind TokenKind) ([]TokenInfo, error) {
	const op = "listing the API tokens"
	answer, err := c.ask(ctx, who, call{op: op, method: http.MethodGet, path: allTokens, query: kind.query()})
	if err != nil {
		return nil, err
	}
	var list map[string]json.RawMessage
	tokens := []TokenInfo{}
	if json.Unmarshal(answer, &list) != nil || json.Unmarshal(list["tokens"], &tokens) != nil {
		return nil, notUnderstood(op)
	}
	return tokens, nil
}

// Token tells of one.
func (c *Client) Token(ctx context.Context, who Credential, name string, kind TokenKind) (TokenInfo, error) {
	const op = "looking at the API token"
	answer, err := c.ask(ctx, who, call{op: op, method: http.MethodGet, path: tokenPath(name), query: kind.query(), meanings: noToken})
	if err != nil {
		return TokenInfo{}, err
	}
	var info TokenInfo
	if err := json.Unmarshal(answer, &info); err != nil || info.Name == "" {
		return TokenInfo{}, notUnderstood(op)
	}
	return info, nil
}

// DeleteToken deletes one.
func (c *Client) DeleteToken(ctx context.Context, who Credential, name string, kind TokenKind, annotations http.Header) error {
	const op = "deleting the API token"
	answer, err := c.ask(ctx, who, call{
		op: op, method: http.MethodDelete, path: tokenPath(name), query: kind.query(), annotations: annotations, meanings: noToken,
	})
	if err == nil && !saysDone(answer) {
		return notUnderstood(op)
	}
	return err
}

// CreateToken makes an API token from a definition, the JSON of a
// TokenDataRequest, and returns its value, which the API gives this once.
func (c *Client) CreateToken(ctx context.Context, who Credential, definition []byte, annotations http.Header) (secret.Value, error) {
	const op = "creating the API token"
	return c.putToken(ctx, who, call{op: op, method: http.MethodPost, body: definition, annotations: annotations})
}

// UpdateToken gives a token the properties of a definition, all of them. The
// value is empty where the API gives none.
func (c *Client) UpdateToken(ctx context.Context, who Credential, definition []byte, annotations http.Header) (secret.Value, error) {
	const op = "updating the API token"
	return c.putToken(ctx, who, call{op: op, method: http.MethodPut, body: definition, annotations: annotations, meanings: noToken})
}

func (c *Client) putToken(ctx context.Context, who Credential, r call) (secret.Value, error) {
	var sent, given struct {
		Value string `json:"tokenValue"`
	}
	_ = json.Unmarshal(r.body, &sent) // the caller has checked it
	r.path, r.secrets = oneToken, []secret.Value{secret.New(sent.Value)}
	answer, err := c.ask(ctx, who, r)
	if err != nil {
		return secret.Value{}, err
	}
	// Nothing but the value is looked at: it must not get lost over another
	// member that is not as expected.
	if err := json.Unmarshal(answer, &given); err != nil || !isObject(answer) || len(given.Value) > maxToken || strings.ContainsAny(given.Value, "\r\n") {
		return secret.Value{}, notUnderstood(r.op)
	}
	return secret.New(given.Value), nil
}

// saysDone takes no body at all for a yes, too: there is nothing to give back.
func saysDone(answer []byte) bool { return len(bytes.TrimSpace(answer)) == 0 || isObject(answer) }

func isObject(answer []byte) bool {
	var object map[string]json.RawMessage
	return json.Unmarshal(answer, &object) == nil && object != nil
}

func notUnderstood(op string) error {
	return &Error{
		Kind: Failed, Op: op, Status: http.StatusOK,
		Reason: "the answer is not the JSON that an Automation API gives; does the endpoint end in /automation-api?",
	}
}
