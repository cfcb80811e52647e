package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ctmgate/ctmgate/internal/session"
)

// The metrics live as long as the process, so that a reload loses no count;
// each config registers them with its own registry. All labels but codes are
// names from the config. Client and account are "" where nobody has proven to
// be a client, and where there is no account.
const metricPrefix = "caddy_controlm_"

var (
	requestsTotal = counter("requests_total",
		"Calls that were answered, by status; 502 or 504 where the answer broke off.", "environment", "account", "client", "code")
	requestSeconds = histogram("request_duration_seconds",
		"From the arrival of a call to the end of its answer; WebSockets are left out.", "environment")
	loginsTotal = counter("logins_total",
		"Logins at Control-M, by result: ok, refused (wrong password or locked user) or failed.", "environment", "account", "result")
	loginSeconds = histogram("login_duration_seconds",
		"How long logins at Control-M took, whatever came of them.", "environment")
	renewalsTotal = counter("session_renewals_total",
		"Logins that were made while there still was a session, by result.", "environment", "account", "result")
	replaysTotal = counter("replays_total",
		"Calls sent a second time after Control-M had rejected their token, by result: accepted, rejected or failed.",
		"environment", "account", "result")
	deniedTotal = counter("denied_requests_total",
		"Calls that the gateway did not let through, by reason: the part of the error's code after ctmgate.", "client", "reason")

	usableDesc = prometheus.NewDesc(metricPrefix+"account_usable",
		"1 if a call would get a token as far as is known, 0 after a refusal, while logins are paused, and with an API token that has ended.",
		[]string{"environment", "account"}, nil)
	expiryDesc = prometheus.NewDesc(metricPrefix+"session_expiry_timestamp_seconds",
		"When the session at the endpoint in use ends, unless it is renewed; missing without a session.",
		[]string{"environment", "account"}, nil)
)

// counted are all vectors, with the labels that names are under.
var counted = []interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}{requestsTotal, requestSeconds, loginsTotal, loginSeconds, renewalsTotal, replaysTotal, deniedTotal}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricPrefix + name, Help: help}, labels)
}

// durations reach from a call that is answered at once to one that is as slow
// as response_header_timeout allows.
var durations = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricPrefix + name, Help: help, Buckets: durations}, labels)
}

// registerMetrics puts the metrics into the registry of the config.
func (a *App) registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	collectors := []prometheus.Collector{accountCollector{a}}
	for _, c := range counted {
		collectors = append(collectors, c)
	}
	for _, c := range collectors {
		err := registry.Register(c)
		if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	return nil
}

// accountCollector tells how the accounts of a config stand when it is asked.
type accountCollector struct{ app *App }

// Describe implements prometheus.Collector.
func (accountCollector) Describe(to chan<- *prometheus.Desc) {
	to <- usableDesc
	to <- expiryDesc
}

// Collect implements prometheus.Collector.
func (c accountCollector) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	for _, env := range c.app.live {
		for name, account := range env.accounts {
			usable := 1.0
			if account.stands != nil && account.stands.IsOver() {
				usable = 0
			}
			if account.entry != nil {
				status := account.entry.current().Status()
				if !status.Usable() {
					usable = 0
				}
				if status.Number != 0 {
					to <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue,
						float64(now.Add(status.Left).Unix()), env.name, name)
				}
			}
			to <- prometheus.MustNewConstMetric(usableDesc, prometheus.GaugeValue, usable, env.name, name)
		}
	}
}

// forgetMetrics drops what was counted under names that next no longer has.
func (a *App) forgetMetrics(next *App) {
	forget := func(labels prometheus.Labels) {
		for _, vector := range counted {
			vector.DeletePartialMatch(labels)
		}
	}
	for name := range a.Clients {
		if next.Clients[name] == nil {
			forget(prometheus.Labels{"client": name})
		}
	}
	for name, env := range a.live {
		if next.live[name] == nil {
			forget(prometheus.Labels{"environment": name})
			continue
		}
		for account := range env.accounts {
			if next.live[name].accounts[account] == nil {
				forget(prometheus.Labels{"environment": name, "account": account})
			}
		}
	}
}

// forgetCalls does the same for what was counted of API tokens.
func (a *App) forgetCalls(next *App) {
	for name, env := range a.live {
		for account := range env.accounts {
			if next.live[name] == nil || next.live[name].accounts[account] == nil {
				standingCalls.Delete([2]string{name, account})
			}
		}
	}
}

// knows tells whether the names are of this config; account and client may be
// "".
func (a *App) knows(environment, account, client string) bool {
	env := a.live[environment]
	return env != nil && (account == "" || env.accounts[account] != nil) && (client == "" || a.Clients[client] != nil)
}

// count counts a call that has ended, unless a reload has taken its names
// away meanwhile.
func (h *Handler) count(v *visit) {
	if now := h.app.newest(); now != h.app && !now.knows(h.env.name, v.accountName(), v.client()) {
		return
	}
	status := v.w.Status
	if v.broken != 0 {
		status = v.broken
	}
	requestsTotal.WithLabelValues(h.env.name, v.accountName(), v.client(), statusText(status)).Inc()
	if status != http.StatusSwitchingProtocols {
		requestSeconds.WithLabelValues(h.env.name).Observe(time.Since(v.begun).Seconds())
	}
	if !v.allowed && v.code != "" {
		deniedTotal.WithLabelValues(v.client(), strings.TrimPrefix(v.code, codePrefix)).Inc()
	}
	if v.replays > 0 {
		result := "accepted"
		switch {
		case v.code != "":
			result = "failed"
		case v.rejected:
			result = "rejected"
		}
		replaysTotal.WithLabelValues(h.env.name, v.accountName(), result).Inc()
	}
}

// statusText spells the usual ones without an allocation.
func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// expectLogins makes the series of an account begin at 0: what begins at 1 is
// no increase.
func expectLogins(environment, account string) {
	for _, result := range []string{"ok", "refused", "failed"} {
		loginsTotal.WithLabelValues(environment, account, result)
		renewalsTotal.WithLabelValues(environment, account, result)
	}
}

// countSession counts what happened to a session.
func countSession(environment, account string, e session.Event) {
	result := ""
	switch e.Kind {
	case session.LoggedIn:
		result = "ok"
	case session.LoginRefused:
		result = "refused"
	case session.LoginFailed:
		result = "failed"
	default:
		return
	}
	loginsTotal.WithLabelValues(environment, account, result).Inc()
	loginSeconds.WithLabelValues(environment).Observe(e.Took.Seconds())
	if e.Renewal {
		renewalsTotal.WithLabelValues(environment, account, result).Inc()
	}
}
