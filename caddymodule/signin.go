package caddymodule

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/apipath"
)

// maxSignInBody bounds what is read of a client's login or logout: a name, a
// key, a token.
const maxSignInBody = 64 << 10

// defaultVersion is told to clients that log in at an account that never logs
// in itself, having an API token. Clients take the release apart at its dots;
// 9.21 is the first that has API tokens (controlm-api.md, section 3).
const defaultVersion = "9.21.0"

// signIn answers the login and the logout of clients that insist on them
// (contract.md, 5). Nothing of either reaches upstream.
func (h *Handler) signIn(w http.ResponseWriter, r *http.Request, path apipath.Path) {
	if r.Method != http.MethodPost {
		postOnly.write(w, r, -1)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSignInBody))
	if err != nil {
		h.refuse(w, r, bodyAnswer(err), errors.New("the call's own body broke off"))
		return
	}
	if path.IsLogout() {
		h.logout(w, r, body)
		return
	}
	h.login(w, r, body)
}

// logout ends the token that was shown. Where callers have names, what shows
// no living token is told so, as Control-M would.
func (h *Handler) logout(w http.ResponseWriter, r *http.Request, body []byte) {
	ended, dead := h.clients == nil, false
	for _, token := range shownTokens(r, body) {
		switch _, err := gatewayTokens.Check(token); {
		case err == nil:
			gatewayTokens.End(token)
			ended = true
		case errors.Is(err, access.ErrEnded):
			dead = true
		}
	}
	if !ended {
		_, err := h.clients.authenticate(r)
		if dead && errors.Is(err, errNoProof) {
			err = errEndedToken
		}
		if err != nil {
			h.refuse(w, r, refusalOf(err), err)
			return
		}
	}
	writeVendor(w, [2]string{"message", "Successfully logged out from session"})
}

// login makes sure of a live session upstream first, so that trouble shows
// where a client looks for it, and the version is upstream's own.
func (h *Handler) login(w http.ResponseWriter, r *http.Request, body []byte) {
	var shown struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	// Where callers have no names, who may call was settled by admission: what
	// is shown here is not looked at, and a body that is none is as good as
	// any.
	_ = json.Unmarshal(body, &shown)
	acting, name := h.account, ""
	if h.clients != nil {
		who, err := h.clients.byLogin(shown.Username, shown.Password)
		if err != nil {
			h.refuse(w, r, wrongLogin, err)
			return
		}
		name = who.client.Name
		if acting = h.accountOf(who.client); acting == nil {
			h.refuse(w, r, noAccount, errors.New("client "+name+" has no account here"))
			return
		}
	}
	use, err := acting.source.Take(r.Context())
	if err != nil && r.Context().Err() != nil {
		w.WriteHeader(clientGone)
		return
	}
	if err != nil {
		a, retryAfter := answerFor(err)
		h.log(zapcore.ErrorLevel, "could not answer a login", r, a, err)
		a.write(w, r, retryAfter)
		return
	}
	acting.source.Release(use)
	writeVendor(w, [2]string{"username", shown.Username}, [2]string{"token", gatewayTokens.Issue(name)}, [2]string{"version", acting.version()})
}

// byLogin is the client whose name and key a login shows.
func (c *clients) byLogin(username, password string) (caller, error) {
	if username == "" {
		return caller{}, errWrongProof
	}
	return c.byKey(shown{text: password, name: username})
}

// version is the API's own release, as it said at the last login.
func (a *account) version() string {
	if a.entry != nil {
		if v := a.entry.session.Version(); v != "" {
			return v
		}
	}
	return defaultVersion
}

// shownTokens finds the token in all the places where clients put it when
// they log out (controlm-api.md, 5.4).
func shownTokens(r *http.Request, body []byte) []string {
	var tokens []string
	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(strings.TrimSpace(value), " ")
		token = strings.TrimSpace(token)
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			tokens = append(tokens, token)
		case strings.EqualFold(scheme, "Basic"):
			if _, password, ok := basicCredential(token); ok {
				tokens = append(tokens, password)
			}
		}
	}
	tokens = append(tokens, r.Header.Values("X-Api-Key")...)
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == "application/x-www-form-urlencoded" {
		if form, err := url.ParseQuery(string(body)); err == nil {
			tokens = append(tokens, form["token"]...)
		}
	}
	return append(tokens, r.URL.Query()["token"]...)
}

// writeVendor answers 200 with members, each a name and a value, in the layout
// of the real server. Shell clients cut the token out of it by the text
// `"token" : "`, so each blank counts (controlm-api.md, 5.4).
func writeVendor(w http.ResponseWriter, members ...[2]string) {
	var out bytes.Buffer
	out.WriteString("{\n")
	for i, member := range members {
		if i > 0 {
			out.WriteString(",\n")
		}
		out.WriteString("  ")
		out.Write(quoted(member[0]))
		out.WriteString(" : ")
		out.Write(quoted(member[1]))
	}
	out.WriteString("\n}\n")
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(out.Bytes())
}

// quoted is text as a JSON string in which, as in the real server's, nothing
// is escaped that need not be: encoding/json by itself guards <, > and & too.
func quoted(text string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always encodes
	return bytes.TrimRight(out.Bytes(), "\n")
}
