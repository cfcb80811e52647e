package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ctmgate/ctmgate/internal/session"
)

// AdminSessions is the base of the routes that the app `controlm` adds to
// Caddy's admin API:
//
//	GET    /controlm/sessions
//	POST   /controlm/sessions/{environment}/{account}/renew
//	POST   /controlm/sessions/{environment}/{account}/retry
//	DELETE /controlm/sessions/{environment}/{account}
//
// Each answers with a list of SessionInfo: all of them, or the account's.
// Renew obtains a new session at once; retry makes one attempt where a refusal
// or a pause forbids logins; DELETE logs the session out, after its last call,
// and the next call logs in anew. No answer holds a secret.
const AdminSessions = "/controlm/sessions"

// SessionInfo is what the admin API tells of one account at one endpoint.
// Times are in seconds.
type SessionInfo struct {
	Environment string `json:"environment"`
	Account     string `json:"account"`
	Endpoint    string `json:"endpoint"`
	// Whether the endpoint is the one in use.
	InUse bool `json:"in_use"`
	// "fresh", "due" or "urgent" with a session; "none" before the first login
	// and after the last log-out; "paused" after failures, "refused" after a
	// refusal; "standing" for an account with an API token, which needs no
	// session, and "ended" once Control-M has said that it is invalid or expired.
	State string `json:"state"`
	// Number of the session, as in the log.
	Session   uint64  `json:"session,omitempty"`
	Age       float64 `json:"age"`
	ExpiresIn float64 `json:"expires_in"`
	// Calls under way with this session.
	Calls int `json:"calls"`
	// Calls that asked for a token, and logins that succeeded, since the
	// account came into the config.
	Requests uint64 `json:"requests"`
	Logins   uint64 `json:"logins"`
	// The API's release, as the last login gave it.
	APIVersion string `json:"api_version,omitempty"`
	// No login is tried before, unless the secret changes.
	NextAttempt *time.Time `json:"next_attempt,omitempty"`
	// Why the last login failed, if it did.
	LastError string `json:"last_error,omitempty"`
}

// stateEnded is the state of an API token that Control-M does not take.
const stateEnded = "ended"

// Usable tells whether a call would get a token that Control-M takes, as far
// as is known.
func (i SessionInfo) Usable() bool {
	return i.State != "refused" && i.State != "paused" && i.State != stateEnded
}

// AdminClients is the route that lists clients with their keys:
//
//	GET /controlm/clients
const AdminClients = "/controlm/clients"

// ClientInfo is what the admin API tells of one client.
type ClientInfo struct {
	Client string    `json:"client"`
	Keys   []KeyInfo `json:"keys"`
}

// KeyInfo is what the admin API tells of one gateway key.
type KeyInfo struct {
	Name string `json:"name"`
	// The first instant at which it is not honoured any more.
	Ends *time.Time `json:"ends,omitempty"`
	// When it was last shown, or a token that was had with it, since this
	// process began.
	LastUsed *time.Time `json:"last_used,omitempty"`
}

// AdminAPI adds the routes of AdminSessions to Caddy's admin API.
type AdminAPI struct{}

// CaddyModule returns the Caddy module information.
func (AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.controlm",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// Routes implements caddy.AdminRouter.
func (a AdminAPI) Routes() []caddy.AdminRoute {
	handler := caddy.AdminHandlerFunc(a.serve)
	return []caddy.AdminRoute{
		{Pattern: AdminSessions, Handler: handler},
		{Pattern: AdminSessions + "/", Handler: handler},
		{Pattern: AdminClients, Handler: caddy.AdminHandlerFunc(serveClients)},
	}
}

func serveClients(w http.ResponseWriter, r *http.Request) error {
	app, err := activeApp()
	if err != nil {
		return err
	}
	if r.Method != http.MethodGet {
		return wrongMethod(w, http.MethodGet)
	}
	return writeList(w, app.clientInfos())
}

// adminTime bounds a login that the admin API asks for, beyond login_timeout:
// it may wait for another account's attempt with the same user.
const adminTime = time.Minute

func (a AdminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	app, err := activeApp()
	if err != nil {
		return err
	}
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, AdminSessions), "/")
	if path == "" {
		if r.Method != http.MethodGet {
			return wrongMethod(w, http.MethodGet)
		}
		return writeList(w, app.sessions())
	}
	parts := strings.Split(path, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return adminError(http.StatusNotFound, "expected %s/{environment}/{account}, with /renew or /retry after it, or neither", AdminSessions)
	}
	env := app.live[parts[0]]
	if env == nil {
		return adminError(http.StatusNotFound, "there is no environment %q; expected one of %s", parts[0], names(app.live))
	}
	account := env.accounts[parts[1]]
	if account == nil {
		return adminError(http.StatusNotFound, "there is no account %q in environment %s; expected one of %s", parts[1], env.name, names(env.accounts))
	}
	if len(parts) == 2 {
		return a.end(w, r, env, account)
	}
	return a.logIn(w, r, parts[2], env, account)
}

func (a AdminAPI) end(w http.ResponseWriter, r *http.Request, env *environment, account *account) error {
	switch {
	case r.Method == http.MethodGet:
	case r.Method != http.MethodDelete:
		return wrongMethod(w, "GET, DELETE")
	case account.entry == nil:
		return errStanding
	default:
		for _, s := range account.entry.sessions {
			s.End()
		}
	}
	return writeList(w, env.sessions(account))
}

func (a AdminAPI) logIn(w http.ResponseWriter, r *http.Request, verb string, env *environment, account *account) error {
	var do func(*session.Session, context.Context) error
	switch verb {
	case "renew":
		do = (*session.Session).Renew
	case "retry":
		do = (*session.Session).Retry
	default:
		return adminError(http.StatusNotFound, "there is no %q; expected renew or retry", verb)
	}
	if r.Method != http.MethodPost {
		return wrongMethod(w, http.MethodPost)
	}
	if account.entry == nil {
		return errStanding
	}
	ctx, cancel := context.WithTimeout(r.Context(), env.config.loginTimeout()+adminTime)
	defer cancel()
	if err := do(account.entry.current(), ctx); err != nil {
		return adminError(http.StatusBadGateway, "%s: %w", verb, err)
	}
	return writeList(w, env.sessions(account))
}

var errStanding = adminError(http.StatusBadRequest, "the account has an API token, which needs no session")

func adminError(status int, format string, args ...any) caddy.APIError {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

func wrongMethod(w http.ResponseWriter, allow string) error {
	w.Header().Set("Allow", allow)
	return adminError(http.StatusMethodNotAllowed, "expected %s", allow)
}

// activeApp is the app of the config that runs.
func activeApp() (*App, error) {
	loaded, err := caddy.ActiveContext().AppIfConfigured("controlm")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, adminError(http.StatusNotFound, "the running config has no controlm")
	}
	if err != nil {
		return nil, adminError(http.StatusInternalServerError, "%w", err)
	}
	return loaded.(*App), nil
}

func writeList[T any](w http.ResponseWriter, list []T) error {
	content, err := json.Marshal(list)
	if err != nil {
		return adminError(http.StatusInternalServerError, "printing a list: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(content, '\n'))
	return nil
}

func (a *App) sessions() []SessionInfo {
	list := []SessionInfo{}
	for _, name := range slices.Sorted(maps.Keys(a.live)) {
		env := a.live[name]
		for _, account := range slices.Sorted(maps.Keys(env.accounts)) {
			list = append(list, env.sessions(env.accounts[account])...)
		}
	}
	return list
}

// sessions tells of the account at the endpoint in use, and at others if
// there is something to tell.
func (env *environment) sessions(a *account) (list []SessionInfo) {
	inUse := env.fleet.Current()
	for i, base := range env.bases {
		info := SessionInfo{
			Environment: env.name, Account: a.name, Endpoint: base.String(), InUse: i == inUse, State: "standing",
		}
		switch {
		case a.entry != nil:
			status := a.entry.sessions[i].Status()
			if i != inUse && status.Number == 0 && status.LastError == "" {
				continue
			}
			info.State, info.Session, info.Calls = status.State, status.Number, status.InUse
			info.Age, info.ExpiresIn = seconds(status.Age), seconds(status.Left)
			info.Requests, info.Logins, info.APIVersion = status.Requests, status.Logins, status.Version
			info.LastError = status.LastError
			if !status.NextAttempt.IsZero() {
				next := status.NextAttempt.UTC().Truncate(time.Second)
				info.NextAttempt = &next
			}
		case i != inUse:
			continue
		default:
			info.Requests = a.calls.Load()
			if a.stands.IsOver() {
				info.State, info.LastError = stateEnded, "the API says that the API token is invalid or expired"
			}
		}
		list = append(list, info)
	}
	return list
}

// seconds, to the tenth.
func seconds(d time.Duration) float64 { return d.Round(100 * time.Millisecond).Seconds() }

var _ caddy.AdminRouter = AdminAPI{}
