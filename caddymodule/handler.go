package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/relay"
)

// Handler is the whole gateway: it admits a call, judges its path, and
// forwards it with a credential of the account. It answers every call itself,
// its own errors too: handlers behind it and handle_errors see nothing.
type Handler struct {
	// The environment to forward to, by its name in the app `controlm`.
	Environment string `json:"environment,omitempty"`
	// An environment with one account that is used only here, in place of
	// `environment`.
	Inline *Inline `json:"inline,omitempty"`

	// The account to act as. Default: the environment's default_account, or
	// its only one.
	Account string `json:"account,omitempty"`
	// Who may call: "clients"; "loopback", with further host names after it;
	// or "anyone". Loopback means: from this machine, to a local name or one
	// of those given, by no web page and through no proxy. Default:
	// ["clients"] if any client is declared, else ["loopback"].
	Admit []string `json:"admit,omitempty"`
	// The most bytes of a request body that are kept, to send the call again
	// after its token was rejected. Default: 1 MiB. 0 keeps none.
	ReplayBuffer *int64 `json:"replay_buffer,omitempty"`
	// Whether the API's own URLs in its answers become the gateway's, as the
	// client called it, so that whoever follows them comes back here. A token
	// in such a URL is taken out in any case. Default: true.
	RewriteURLs *bool `json:"rewrite_urls,omitempty"`
	// Opens the operations that handle credentials and rights. Whoever may
	// call can then make an API token that needs no gateway any more.
	AllowCredentialChanges bool `json:"allow_credential_changes,omitempty"`
	// Headers that are set on calls that change something, by name, as text
	// with Caddy's placeholders, such as {controlm.client}. What the caller sent
	// wins. A client's own come before the site's.
	Annotate map[string]string `json:"annotate,omitempty"`
	// Lets the annotations win over what the caller sent.
	AnnotateOverride bool `json:"annotate_override,omitempty"`

	logger      *zap.Logger
	accessLog   *zap.Logger
	auditLog    *zap.Logger
	annotations annotations
	app         *App
	env         *environment
	account     *account // nil where each client needs one of its own
	clients     *clients // nil where callers have no names
	admission   admission
	proxy       *httputil.ReverseProxy
	replay      int
	keepURLs    bool
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.controlm",
		New: func() caddy.Module { return new(Handler) },
	}
}

// maxReplayMemory bounds what is kept of all bodies in this process together,
// and so of each. A body for which nothing is left is sent without being kept.
const maxReplayMemory = 64 << 20

var replayMemory = relay.NewMemory(maxReplayMemory)

// Provision finds or makes the environment and builds the forwarder.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.accessLog = ctx.Logger(&caddyhttp.App{}).Named("log.access")
	loaded, err := ctx.App("controlm")
	if err != nil {
		return fmt.Errorf("loading the app controlm: %w", err)
	}
	h.app = loaded.(*App)
	if h.env, err = h.findEnvironment(h.app); err != nil {
		return err
	}
	if err := h.provisionAccess(h.app); err != nil {
		return err
	}
	h.replay = defaultReplayBuffer
	if h.ReplayBuffer != nil {
		if *h.ReplayBuffer < 0 || *h.ReplayBuffer > maxReplayMemory {
			return errors.New("replay_buffer: expected a size from 0 to 64MiB, such as 1MiB")
		}
		h.replay = int(*h.ReplayBuffer)
	}
	h.keepURLs = h.RewriteURLs != nil && !*h.RewriteURLs
	if h.annotations, err = newAnnotations(h.Annotate, h.AnnotateOverride); err != nil {
		return err
	}
	h.auditLog = h.app.auditLog
	h.proxy = newProxy(h)
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(h.env.leaveAtExit)
	}
	if h.admission.anyone {
		h.logger.Warn("admit anyone: whoever reaches this address acts as the account, without showing who they are",
			zap.String("environment", h.env.name), zap.String("account", h.account.name))
	}
	return nil
}

// provisionAccess settles who may call, and as whom.
func (h *Handler) provisionAccess(app *App) (err error) {
	if h.admission, err = parseAdmission(h.Admit); err != nil {
		return err
	}
	if len(h.Admit) == 0 && app.known != nil {
		h.admission.clients = true
	}
	if h.admission.clients {
		if h.clients = app.known; h.clients == nil {
			return errors.New("admit clients: there is no client; expected one in the global option controlm")
		}
		if h.AllowCredentialChanges {
			return errors.New("allow_credential_changes: where there are clients, it belongs to the client that needs it")
		}
	}
	h.account, err = h.env.choose(h.Account)
	if err != nil && h.clients != nil && h.Account == "" {
		for _, client := range app.Clients {
			if slices.ContainsFunc(client.Account, func(line string) bool { return strings.HasPrefix(line, h.env.name+"/") }) {
				return nil // a client makes the choice
			}
		}
	}
	return err
}

func (h *Handler) findEnvironment(app *App) (*environment, error) {
	switch {
	case h.Inline != nil && h.Environment != "":
		return nil, errors.New("environment and inline are both given; expected one of them")
	case h.Inline != nil:
		name, config, err := h.Inline.environment()
		if err != nil {
			return nil, err
		}
		return app.add(name, config)
	case h.Environment == "":
		return nil, errors.New("no environment; expected the name of one, or its endpoint")
	case checkName("environment", h.Environment) != nil:
		return nil, fmt.Errorf("environment: %s is no name of one; expected one of the app controlm, or inline with its endpoint", mention(h.Environment))
	}
	env := app.live[h.Environment]
	if env == nil || app.Environments[h.Environment] == nil {
		known := "there is none in the global option controlm"
		if len(app.Environments) > 0 {
			known = "expected one of " + names(app.Environments)
		}
		if looksLikeHost(h.Environment) {
			known += "; an endpoint would begin with https://"
		}
		return nil, fmt.Errorf("environment %s: there is no such environment; %s", h.Environment, known)
	}
	return env, nil
}

// environment turns an inline environment into a named one with one account.
func (i *Inline) environment() (string, *Environment, error) {
	config := i.Environment
	config.inline = true
	if len(config.Accounts) > 0 || config.DefaultAccount != "" {
		return "", nil, errors.New("an inline environment has one account; expected username and password, or api_token, without account")
	}
	account := i.Account
	config.Accounts = map[string]*Account{inlineAccount: &account}
	name := i.Name
	if name == "" {
		if len(config.Endpoint) == 0 {
			return "", nil, fmt.Errorf("inline: %w", errNoEndpoint)
		}
		u, err := checkURL("endpoint", config.Endpoint[0])
		if err != nil {
			return "", nil, err
		}
		name = strings.ToLower(u.Hostname())
	}
	return name, &config, nil
}

// ServeHTTP takes a call through the steps of contract.md, section 3.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	v := newVisit(w, r)
	defer h.close(v) // last, and also when the answer breaks off
	v.placeholders(h.env)
	if showsSecret(r) {
		defer h.hideFromAccessLog(v.w, r)()
	}
	if reason, ok := h.admission.admits(r); !ok {
		h.refuse(v, notAdmitted, errors.New(reason))
		return nil
	}
	if r.URL.Opaque != "" {
		// A target such as http:http://… has no path to judge, and net/http
		// would send it as it is.
		h.refuse(v, outsideAPI.with(h.env.basePath), errors.New("the target is no path"))
		return nil
	}
	path, err := apipath.Read(r.Method, originalTarget(r), r.URL.EscapedPath(), h.env.basePath)
	if err != nil {
		a, _ := answerFor(err)
		h.refuse(v, a.with(h.env.basePath), err)
		return nil
	}
	v.path, v.known = path, true
	if path.IsLogin() || path.IsLogout() {
		h.signIn(v)
		return nil
	}
	if a, err := h.permit(v); err != nil {
		h.refuse(v, a, err)
		return nil
	}
	v.allowed = true
	if !h.enter(v) {
		return nil
	}
	defer v.leave()
	h.forward(v)
	return nil
}

// close writes down what became of a call.
func (h *Handler) close(v *visit) {
	h.audit(v)
	h.count(v)
}

// enter counts the call against its client's limits, and answers it if it is
// over one.
func (h *Handler) enter(v *visit) bool {
	client := v.who.client
	if client == nil {
		return true
	}
	if most := client.Limits.Body; most > 0 && v.r.ContentLength > most {
		v.allowed = false
		h.refuse(v, bodyTooLarge, fmt.Errorf("client %s is over its max_body", client.Name))
		return false
	}
	retryAfter, why, ok := client.Enter()
	if !ok {
		v.allowed = false
		h.refuseFor(v, rateLimited, retryAfter, fmt.Errorf("client %s is over its %s", client.Name, why))
		return false
	}
	if most := client.Limits.Body; most > 0 && v.r.Body != nil {
		v.r.Body = http.MaxBytesReader(v.w, v.r.Body, most)
	}
	return true
}

// leave ends what enter began.
func (v *visit) leave() {
	if v.who.client != nil {
		v.who.client.Leave()
	}
}

// originalTarget is the target as it came over the wire, whatever handlers
// in front of this one have made of it.
func originalTarget(r *http.Request) string {
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return o.RequestURI
	}
	return r.RequestURI
}

// refuse answers a call that goes nowhere.
func (h *Handler) refuse(v *visit, a answer, why error) { h.refuseFor(v, a, -1, why) }

// refuseFor also says when to call again.
func (h *Handler) refuseFor(v *visit, a answer, retryAfter time.Duration, why error) {
	h.log(zapcore.InfoLevel, "refused a call", v, a, why)
	v.answer(a, retryAfter)
	v.linger()
}

// answer gives an answer of the gateway's own.
func (v *visit) answer(a answer, retryAfter time.Duration) {
	v.code = a.code
	if v.r.ProtoMajor == 1 && v.r.Header.Get("Expect") != "" {
		// Otherwise net/http waits for the body, and the client for this answer.
		v.w.Header().Set("Connection", "close")
	}
	a.write(v.w, v.r, retryAfter)
}

func (h *Handler) log(level zapcore.Level, message string, v *visit, a answer, err error) {
	if c := h.logger.Check(level, message); c != nil {
		c.Write(
			zap.String("environment", h.env.name),
			zap.String("code", a.code),
			zap.Int("status", a.status),
			zap.String("method", v.r.Method),
			zap.String("remote", v.r.RemoteAddr),
			zap.String("request_id", v.id),
			zap.Error(err),
		)
	}
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
