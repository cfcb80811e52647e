package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"

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
	// Who may call: "loopback", with further host names after it, or "anyone".
	// Loopback means: from this machine, to a local name or one of those
	// given, by no web page and through no proxy. Default: ["loopback"].
	Admit []string `json:"admit,omitempty"`
	// The most bytes of a request body that are kept, to send the call again
	// after its token was rejected. Default: 1 MiB. 0 keeps none.
	ReplayBuffer *int64 `json:"replay_buffer,omitempty"`
	// Opens the operations that handle credentials and rights. Whoever may
	// call can then make an API token that needs no gateway any more.
	AllowCredentialChanges bool `json:"allow_credential_changes,omitempty"`

	logger    *zap.Logger
	accessLog *zap.Logger
	env       *environment
	account   *account
	admission admission
	proxy     *httputil.ReverseProxy
	replay    int
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.controlm",
		New: func() caddy.Module { return new(Handler) },
	}
}

// maxReplayBuffer keeps a slip of the operator's from filling the memory.
const maxReplayBuffer = 1 << 30

// Provision finds or makes the environment and builds the forwarder.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.accessLog = ctx.Logger(&caddyhttp.App{}).Named("log.access")
	loaded, err := ctx.App("controlm")
	if err != nil {
		return fmt.Errorf("loading the app controlm: %w", err)
	}
	if h.env, err = h.findEnvironment(loaded.(*App)); err != nil {
		return err
	}
	if h.account, err = h.env.choose(h.Account); err != nil {
		return err
	}
	if h.admission, err = parseAdmission(h.Admit); err != nil {
		return err
	}
	h.replay = defaultReplayBuffer
	if h.ReplayBuffer != nil {
		if *h.ReplayBuffer < 0 || *h.ReplayBuffer > maxReplayBuffer {
			return errors.New("replay_buffer: expected a size from 0 to 1GiB, such as 1MiB")
		}
		h.replay = int(*h.ReplayBuffer)
	}
	h.proxy = newProxy(h.env, h.logger)
	if h.admission.anyone {
		h.logger.Warn("admit anyone: whoever reaches this address acts as the account, without showing who they are",
			zap.String("environment", h.env.name), zap.String("account", h.account.name))
	}
	return nil
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
	}
	env := app.live[h.Environment]
	if env == nil || app.Environments[h.Environment] == nil {
		known := "there is none in the global option controlm"
		if len(app.Environments) > 0 {
			known = "expected one of " + names(app.Environments)
		}
		return nil, fmt.Errorf("environment %s: there is no such environment; %s", h.Environment, known)
	}
	return env, nil
}

// environment turns an inline environment into a named one with one account.
func (i *Inline) environment() (string, *Environment, error) {
	config := i.Environment
	if len(config.Accounts) > 0 || config.DefaultAccount != "" {
		return "", nil, errors.New("an inline environment has one account; expected username and password, or api_token, without account")
	}
	account := i.Account
	config.Accounts = map[string]*Account{inlineAccount: &account}
	name := i.Name
	if name == "" && len(config.Endpoint) > 0 {
		u, err := checkURL("endpoint", config.Endpoint[0])
		if err != nil {
			return "", nil, err
		}
		name = u.Hostname()
	}
	return name, &config, nil
}

// ServeHTTP takes a call through the steps of contract.md, section 3.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	out := relay.NewWriter(w)
	if showsSecret(r) {
		defer h.hideFromAccessLog(out, r)()
	}
	if reason, ok := h.admission.admits(r); !ok {
		h.refuse(out, r, notAdmitted, errors.New(reason))
		return nil
	}
	path, err := apipath.Read(r.Method, originalTarget(r), r.URL.EscapedPath(), h.env.basePath)
	if err != nil {
		a, _ := answerFor(err)
		h.refuse(out, r, a.with(h.env.basePath), err)
		return nil
	}
	if !h.open(path) {
		h.refuse(out, r, protectedOperation, errors.New("protected operation"))
		return nil
	}
	h.forward(out, r, path)
	return nil
}

// open tells whether the operation is one that this site forwards. Of
// /session only the password update ever is: a log-in or log-out, in whatever
// disguise, would be one of the gateway's own session.
func (h *Handler) open(path apipath.Path) bool {
	if path.IsSession() && !path.IsPasswordUpdate() {
		return false
	}
	return h.AllowCredentialChanges || !path.Protected()
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
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, a answer, why error) {
	h.log(zapcore.InfoLevel, "refused a call", r, a, why)
	a.write(w, r, -1)
}

func (h *Handler) log(level zapcore.Level, message string, r *http.Request, a answer, err error) {
	if c := h.logger.Check(level, message); c != nil {
		c.Write(
			zap.String("environment", h.env.name),
			zap.String("account", h.account.name),
			zap.String("code", a.code),
			zap.Int("status", a.status),
			zap.String("method", r.Method),
			zap.String("remote", r.RemoteAddr),
			zap.Error(err),
		)
	}
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
