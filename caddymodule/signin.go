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
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/access"
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
func (h *Handler) signIn(v *visit) {
	if v.r.Method != http.MethodPost {
		v.answer(postOnly, -1)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(v.w, v.r.Body, maxSignInBody))
	if err != nil && h.known() == nil && v.path.IsLogout() {
		err = nil        // there is nothing to end, so nothing to look for
		defer v.linger() // what is left of the body
	}
	if err != nil {
		h.refuse(v, bodyAnswer(err), errors.New("the call's own body broke off"))
		return
	}
	if v.path.IsLogout() {
		h.logout(v, body)
		return
	}
	h.login(v, body)
}

// logout ends the token that was shown. Where callers have names, what shows
// no living token is told so, as Control-M would.
func (h *Handler) logout(v *visit, body []byte) {
	known := h.known()
	ended, dead := known == nil, false
	for _, token := range shownTokens(v.r, body) {
		switch name, tag, err := gatewayTokens.Check(token); {
		case err == nil:
			gatewayTokens.End(token)
			ended = true
			if known != nil {
				v.who.client, v.who.key, _ = known.directory.ByTag(name, tag, time.Now())
				v.who.source = byToken
			}
		case errors.Is(err, access.ErrEnded):
			dead = true
		}
	}
	if !ended {
		who, err := known.authenticate(v.r)
		v.who = who
		if dead && errors.Is(err, errNoProof) {
			err = errEndedToken
		}
		if err != nil {
			h.refuse(v, refusalOf(err), err)
			return
		}
	}
	v.allowed = true
	writeVendor(v.w, [2]string{"message", "Successfully logged out from session"})
}

// login makes sure of a live session upstream first, so that trouble shows
// where a client looks for it, and the version is upstream's own.
func (h *Handler) login(v *visit, body []byte) {
	var shown struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	// Where callers have no names, who may call was settled by admission: what
	// is shown here is not looked at, and a body that is none is as good as
	// any.
	_ = json.Unmarshal(body, &shown)
	v.account = h.account
	name := ""
	if known := h.known(); known != nil {
		who, err := known.byLogin(shown.Username, shown.Password)
		if err != nil {
			v.account = nil
			h.refuse(v, wrongLogin, err)
			return
		}
		v.who, name = who, who.client.Name
		if v.account = h.accountOf(who.client); v.account == nil {
			h.refuse(v, noAccount, errors.New("client "+name+" has no account here"))
			return
		}
	}
	v.allowed = true
	if !h.enter(v) {
		return
	}
	defer v.leave()
	err := h.ensure(v.r.Context(), v.account)
	if err != nil && v.gone() {
		v.w.WriteHeader(clientGone)
		return
	}
	if err != nil {
		a, retryAfter := answerFor(err)
		h.log(zapcore.ErrorLevel, "could not answer a login", v, a, err)
		v.answer(a, retryAfter)
		return
	}
	writeVendor(v.w, [2]string{"username", shown.Username}, [2]string{"token", gatewayTokens.Issue(name, v.who.key)},
		[2]string{"version", v.account.version()})
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
		if v := a.entry.version(); v != "" {
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
	kind := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(kind); kind == "" || err == nil && media == "application/x-www-form-urlencoded" {
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
	h.Set("Cache-Control", asItIs)
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
