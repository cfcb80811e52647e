package caddymodule

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/apipath"
)

// caller is a client that has proven itself.
type caller struct {
	client *access.Client
	key    *access.Key // that it has shown, or with which it logged in
	user   string      // whom Caddy's own authentication has found
	source string      // how it proved itself
}

// Ways to prove oneself, as the audit log names them.
const (
	byKey         = "key"
	byToken       = "token"
	byUser        = "user"
	byCertificate = "certificate"
)

// shown is one credential of a request, and the name it came with in Basic.
type shown struct {
	text, name string
}

// Why a caller is not known.
var (
	errAmbiguous  = errors.New("the request shows two different credentials")
	errNoProof    = errors.New("the request shows no credential")
	errWrongProof = errors.New("the credential is wrong, unknown or expired")
	errEndedToken = errors.New("the gateway token is invalid or expired")
)

// authenticate says who calls. A credential that is there but wrong is never
// made up for by another, and one in the query is none (contract.md, 4).
func (c *clients) authenticate(r *http.Request) (caller, error) {
	user := authenticatedUser(r)
	credential, found, err := shownCredential(r, user)
	if err != nil {
		return caller{}, err
	}
	var who caller
	if found {
		if who, err = c.byCredential(credential); err != nil {
			return caller{}, err
		}
	}
	// What Caddy itself has proven must not contradict what was shown.
	if client, ok := c.directory.ByUser(user); ok {
		if who.client != nil && who.client != client {
			return caller{}, errAmbiguous
		}
		if who.client == nil {
			who = caller{client: client, source: byUser}
		}
	}
	if client, ok := c.directory.BySubject(verifiedSubject(r)); ok {
		if who.client != nil && who.client != client {
			return caller{}, errAmbiguous
		}
		if who.client == nil {
			who = caller{client: client, source: byCertificate}
		}
	}
	if who.client == nil {
		return caller{}, errNoProof
	}
	who.user = user
	return who, nil
}

func (c *clients) byCredential(s shown) (caller, error) {
	name, tag, err := gatewayTokens.Check(s.text)
	if err == nil {
		client, key, err := c.directory.ByTag(name, tag, time.Now())
		if err != nil || s.name != "" && s.name != name {
			return caller{}, errEndedToken
		}
		key.Use(time.Now())
		return caller{client: client, key: key, source: byToken}, nil
	}
	if errors.Is(err, access.ErrEnded) {
		return caller{}, errEndedToken
	}
	return c.byKey(s)
}

func (c *clients) byKey(s shown) (caller, error) {
	client, key, err := c.directory.ByKey(s.text, time.Now())
	if err != nil || s.name != "" && s.name != client.Name {
		return caller{}, errWrongProof
	}
	key.Use(time.Now())
	return caller{client: client, key: key, source: byKey}, nil
}

// shownCredential finds the one credential among the headers.
func shownCredential(r *http.Request, user string) (credential shown, found bool, err error) {
	add := func(s shown) {
		if found && s != credential && !(s.text == credential.text && (s.name == "" || credential.name == "")) {
			err = errAmbiguous
		}
		if !found || credential.name == "" {
			credential = s
		}
		found = true
	}
	for _, value := range r.Header["Authorization"] {
		scheme, text, _ := strings.Cut(strings.TrimSpace(value), " ")
		text = strings.TrimSpace(text)
		if !strings.EqualFold(scheme, "Basic") {
			if !strings.EqualFold(scheme, "Bearer") {
				text = "" // a scheme that is none of ours proves nothing
			}
			add(shown{text: text})
			continue
		}
		name, key, ok := basicCredential(text)
		if ok && user != "" && name == user {
			continue // Caddy's basic_auth has looked at this one
		}
		add(shown{text: key, name: name})
	}
	for _, value := range r.Header["X-Api-Key"] {
		add(shown{text: value})
	}
	return credential, found, err
}

func basicCredential(text string) (name, key string, ok bool) {
	decoded, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", "", false
	}
	name, key, ok = strings.Cut(string(decoded), ":")
	if !ok || name == "" {
		return "", "", false // nobody, with no key
	}
	return name, key, true
}

// authenticatedUser is whom Caddy's own authentication has found in front.
func authenticatedUser(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	user, _ := repl.GetString("http.auth.user.id")
	return user
}

// verifiedSubject is the subject of the client's certificate, if Caddy has
// verified it: {http.request.tls.client.subject} is there without that too.
func verifiedSubject(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return r.TLS.PeerCertificates[0].Subject.String()
}

// verdict is what was decided about a call of a proven client.
type verdict struct {
	allowed bool
	public  bool   // as to everybody, without any credential
	line    string // that decided; empty where none did
	refusal answer
}

// decide judges a call of a proven client. Where none of its own lines speaks
// of the path, it may call what everybody may.
func (c *clients) decide(client *access.Client, path apipath.Path) verdict {
	if path.Protected() && !client.AllowCredentialChanges {
		return verdict{refusal: protectedOperation}
	}
	allowed, line := client.Rules.Decide(path)
	if !allowed && line == "" {
		if public, ok := c.opens(path); ok {
			return verdict{allowed: true, public: true, line: public}
		}
	}
	return verdict{allowed: allowed, line: line, refusal: forbidden}
}

// refusalOf is the answer to a caller that is not known.
func refusalOf(err error) answer {
	switch {
	case errors.Is(err, errAmbiguous):
		return ambiguousCredentials
	case errors.Is(err, errEndedToken):
		return endedToken
	}
	return unauthenticated
}
