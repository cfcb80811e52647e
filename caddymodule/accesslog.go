package caddymodule

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/access"
	"github.com/ctmgate/ctmgate/internal/apipath"
	"github.com/ctmgate/ctmgate/internal/relay"
)

// Caddy's access log keeps Authorization and Cookie back, but neither
// X-Api-Key nor a token or key in the query, and it has taken its copy of the
// request before any handler runs. So a call that shows such a secret is left out of
// it, and its line is written here instead, in the same place and shape.

// warnDebug tells the operator when keys may get into a log before a handler
// of ours runs: whether a filter hides them there cannot be seen from here.
func (a *App) warnDebug() {
	rewrites := a.ctx.Logger(&caddyhttp.App{}).Named("handlers.rewrite") // as handle_path does
	if a.known != nil && rewrites.Check(zapcore.DebugLevel, "rewrote request") != nil {
		a.logger.Warn("Caddy writes requests at level DEBUG before the gateway sees them, with keys and tokens that clients show; " +
			"set the logs to INFO, or give them the filter of docs/security.md")
	}
}

// showsSecret tells whether Caddy's access log would show a secret of r.
func showsSecret(r *http.Request) bool {
	for name, values := range r.Header {
		if caddyShows(name, values) {
			return true
		}
	}
	target := originalTarget(r)
	_, query, _ := strings.Cut(target, "?")
	return relay.HasParam(query, isSecretParam) || apipath.ShowsSecret(target) || hasUser(target) || access.Shows(target)
}

// caddyShows tells whether a header holds a secret that Caddy's access log
// would show: in the spellings that Caddy does not know, too.
func caddyShows(name string, values []string) bool {
	switch name {
	case "Authorization", "Cookie", "Proxy-Authorization":
		return false
	}
	return relay.IsCredential(name) || slices.ContainsFunc(values, access.Shows)
}

// secretParams are names under which callers put keys of their own into a
// query, beside those of headers.
var secretParams = []string{"key", "apikey", "api_key", "api-key", "access_token", "password", "passwd", "secret"}

func isSecretParam(name, value string) bool {
	return relay.IsCredential(name) || foldedIn(secretParams, name) || access.Shows(name) || access.Shows(value)
}

// hasUser tells whether a target in absolute form may have a name and a key in
// front of its host.
func hasUser(target string) bool {
	_, rest, absolute := strings.Cut(target, "://")
	authority, _, _ := strings.Cut(rest, "/")
	return absolute && target[0] != '/' && strings.Contains(authority, "@")
}

// hideFromAccessLog takes r out of Caddy's access log and returns what writes
// its line in place of Caddy's.
func (h *Handler) hideFromAccessLog(w *relay.Writer, r *http.Request) func() {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Logs == nil {
		return func() {}
	}
	if skip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.LogSkipVar).(bool); ok && skip {
		return func() {}
	}
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	begun := time.Now()
	body := &countedBody{ReadCloser: r.Body}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = body
	}
	return func() {
		loggers := accessLoggers(server.Logs, h.accessLog, r)
		level := zapcore.InfoLevel
		if w.Status >= 500 {
			level = zapcore.ErrorLevel
		}
		for _, logger := range loggers {
			if c := logger.Check(level, "handled request"); c != nil {
				c.Write(
					zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: loggable(r)}),
					zap.Int64("bytes_read", body.n.Load()),
					zap.String("user_id", authenticatedUser(r)),
					zap.Duration("duration", time.Since(begun)),
					zap.Int64("size", w.Bytes),
					zap.Int("status", w.Status),
					zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: w.Unwrap().Header()}),
				)
			}
		}
	}
}

// countedBody counts what was read of a body.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (c *countedBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// loggable is r as a log may show it, with its original target.
func loggable(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	path, query, _ := strings.Cut(originalTarget(r), "?")
	if apipath.ShowsSecret(path) || hasUser(path) || access.Shows(path) {
		path = shownPath(path)
	}
	out.RequestURI = path
	if kept := relay.StripParams(query, isSecretParam); kept != "" {
		out.RequestURI += "?" + kept
	}
	for name, values := range out.Header {
		if caddyShows(name, values) {
			out.Header[name] = []string{apipath.Redacted}
		}
	}
	return out
}

// accessLoggers are the loggers that Caddy would have used for r; none if it
// would not have logged.
func accessLoggers(logs *caddyhttp.ServerLogConfig, logger *zap.Logger, r *http.Request) []*zap.Logger {
	host := strings.ToLower(r.Host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !logsHost(logs, host) {
		return nil
	}
	names := loggerNames(logs, host)
	// `log_name` says it for this request.
	if chosen, ok := caddyhttp.GetVar(r.Context(), caddyhttp.AccessLoggerNameVarKey).([]any); ok {
		names = nil
		for _, name := range chosen {
			if text, ok := name.(string); ok {
				names = append(names, text)
			}
		}
	}
	loggers := make([]*zap.Logger, 0, len(names))
	for _, name := range names {
		loggers = append(loggers, logger.Named(name))
	}
	return loggers
}

func logsHost(logs *caddyhttp.ServerLogConfig, host string) bool {
	matches := func(pattern string) bool { return certmagic.MatchWildcard(host, pattern) }
	for pattern := range logs.LoggerNames {
		if matches(pattern) {
			return true
		}
	}
	return !slices.ContainsFunc(logs.SkipHosts, matches) && !logs.SkipUnmappedHosts
}

// loggerNames looks for the host itself, then for ever wider wildcards.
func loggerNames(logs *caddyhttp.ServerLogConfig, host string) []string {
	if names, ok := logs.LoggerNames[host]; ok {
		return names
	}
	labels := strings.Split(host, ".")
	for i := range labels {
		if labels[i] == "" {
			continue
		}
		labels[i] = "*"
		if names, ok := logs.LoggerNames[strings.Join(labels, ".")]; ok {
			return names
		}
	}
	return []string{logs.DefaultLoggerName}
}
