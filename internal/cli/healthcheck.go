package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/internal/automationapi"
)

// healthTimeout bounds the whole check: it is less than the time-out that
// container runtimes commonly give one.
const healthTimeout = 3 * time.Second

// healthTextMost is how much of a reason is shown.
const healthTextMost = 500

const healthcheckHelp = `
Asks the local gateway whether it is ready, and exits with 0 if it is, else
with 1 and one line on standard error that says why. For containers, which
often have neither a shell nor curl.

Asks GET /readyz at the address of CTMGATE_LISTEN, else at 127.0.0.1:8080;
where the gateway listens on all addresses, at 127.0.0.1. It speaks https only
if --url says so, and then verifies the certificate, except that of a loopback
address: there the gateway's own CA is unknown, and nobody is in between.
Follows no redirect, and uses no proxy and no secret.

A question after the address is asked with it: ?accounts is ready only if every
account can be used, ?account=ENV/ACCOUNT if that one can.`

const healthcheckExample = `  ctmgate healthcheck
  CTMGATE_LISTEN=unix//run/ctmgate/api.sock ctmgate healthcheck
  ctmgate healthcheck --url https://127.0.0.1:8443
  ctmgate healthcheck --url "http://127.0.0.1:8080?accounts"

  In a Dockerfile:
    HEALTHCHECK CMD ["ctmgate", "healthcheck"]`

func buildHealthcheck(cmd *cobra.Command) {
	cmd.Long = healthcheckHelp
	cmd.Example = healthcheckExample
	cmd.Flags().String("url", "", "where to ask, such as http://127.0.0.1:8080 or unix//run/ctmgate/api.sock; default: "+envListen)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, _ := cmd.Flags().GetString("url")
		target, err := healthTarget(text, os.Getenv(envListen))
		if err != nil {
			return err
		}
		return target.check()
	}
}

// target is where the gateway's health is asked for.
type target struct {
	url    string
	socket string // path of the Unix socket to dial; "" for the URL's own host
}

// healthTarget finds it, from --url or from the address to listen on.
func healthTarget(text, listen string) (target, error) {
	origin := "--url"
	if text == "" {
		text, origin = listen, envListen
	}
	if text == "" {
		text = defaultListen
	}
	if !strings.Contains(text, "://") {
		text, query, _ := strings.Cut(text, "?")
		addr, err := parseListen(origin, text)
		if err != nil {
			return target{}, err
		}
		t := localTarget(addr)
		if query != "" {
			t.url += "?" + query
		}
		return t, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return target{}, usagef("%s is no URL that can be asked; expected one such as http://127.0.0.1:8080, without a user", origin)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path, u.RawPath = "/readyz", ""
	}
	u.Fragment, u.RawFragment = "", ""
	return target{url: u.String()}, nil
}

func localTarget(addr caddy.NetworkAddress) target {
	t := target{url: "http://" + authority(addr) + "/readyz"}
	if addr.IsUnixNetwork() {
		t.socket = socketPath(addr)
	}
	return t
}

func (t target) check() error {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	resp, err := t.client(isLoopbackHost(req.URL.Hostname())).Do(req)
	if err != nil {
		// The URL is said in the shorter way.
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return fmt.Errorf("not ready: asking %s: %w", t, err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("not ready: %s answered 404: controlm_health is missing there; add it to that site of the config, "+
			"or name a place that has it with --url", t)
	case http.StatusServiceUnavailable:
		if text, _ := io.ReadAll(io.LimitReader(resp.Body, healthTextMost)); len(text) > 0 {
			return fmt.Errorf("not ready: %s answered 503: %s", t, automationapi.OneLine(string(text)))
		}
	}
	return fmt.Errorf("not ready: %s answered %d", t, resp.StatusCode)
}

// client makes one request, and keeps nothing for a second.
func (t target) client(loopback bool) *http.Client {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: loopback, MinVersion: tls.VersionTLS12},
	}
	if t.socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", t.socket)
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// String leaves the question out, which anything may stand in.
func (t target) String() string {
	if t.socket != "" {
		return "unix/" + t.socket
	}
	where, _, _ := strings.Cut(t.url, "?")
	return where
}
