package caddymodule

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ctmgate/ctmgate/internal/relay"
)

// Caddy's access log keeps Authorization and Cookie back, but neither
// X-Api-Key nor a token in the query, and it has taken its copy of the request
// before any handler runs. So a call that shows such a secret is left out of
// it, and its line is written here instead, in the same place and shape.

// showsSecret tells whether Caddy's access log would show a secret of r.
func showsSecret(r *http.Request) bool {
	return len(r.Header["X-Api-Key"]) > 0 || len(r.Header["Authentication"]) > 0 || relay.HasToken(r.URL.RawQuery) ||
		r.RequestURI != "" && strings.IndexByte(r.RequestURI, '?') >= 0 && relay.HasToken(r.RequestURI[strings.IndexByte(r.RequestURI, '?')+1:])
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
	return func() {
		loggers := accessLoggers(server.Logs, h.accessLog, r.Host)
		level := zapcore.InfoLevel
		if w.Status >= 500 {
			level = zapcore.ErrorLevel
		}
		for _, logger := range loggers {
			if c := logger.Check(level, "handled request"); c != nil {
				c.Write(
					zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: redacted(r)}),
					zap.Duration("duration", time.Since(begun)),
					zap.Int64("size", w.Bytes),
					zap.Int("status", w.Status),
					zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: w.Unwrap().Header()}),
				)
			}
		}
	}
}

// redacted is r as a log may show it, with its original target.
func redacted(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.RequestURI = originalTarget(r)
	if path, query, ok := strings.Cut(out.RequestURI, "?"); ok {
		out.RequestURI = path
		if kept := relay.StripQuery(query); kept != "" {
			out.RequestURI += "?" + kept
		}
	}
	for _, name := range []string{"X-Api-Key", "Authentication"} {
		if _, ok := out.Header[name]; ok {
			out.Header[name] = []string{"REDACTED"}
		}
	}
	return out
}

// accessLoggers are the loggers that Caddy would have used for host; none if
// it would not have logged.
func accessLoggers(logs *caddyhttp.ServerLogConfig, logger *zap.Logger, host string) []*zap.Logger {
	host = strings.ToLower(host)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for pattern, loggerNames := range logs.LoggerNames {
		if !certmagic.MatchWildcard(host, pattern) {
			continue
		}
		named := make([]*zap.Logger, 0, len(loggerNames))
		for _, name := range loggerNames {
			named = append(named, logger.Named(name))
		}
		return named
	}
	for _, pattern := range logs.SkipHosts {
		if certmagic.MatchWildcard(host, pattern) {
			return nil
		}
	}
	if logs.SkipUnmappedHosts {
		return nil
	}
	return []*zap.Logger{logger.Named(logs.DefaultLoggerName)}
}
