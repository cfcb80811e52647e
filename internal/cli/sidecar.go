package cli

import (
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

const sidecarHelp = `
Runs the gateway for one account, from flags and environment alone, for the
programs on this machine: they call http://127.0.0.1:8080/automation-api
without a password or session, and the gateway adds its own.

A flag beats its variable, which stands in brackets below. A password or API
token comes from a file (the better way: it is read again when it changes) or
from a variable, never from a flag, which everyone who lists processes sees.

By default only callers on this machine are admitted, by no browser page and
through no proxy. In a container whose port is published, or whose callers are
in other containers, that has to be --listen :8080 --admit anyone: then
whoever reaches the port acts as the account, so keep the network small.

Caddy's admin API is a Unix socket that only this user can open, named after
the listen address, in $XDG_RUNTIME_DIR or the folder for temporary files.
Stops on SIGINT and SIGTERM, and logs the session out.

GET /readyz says whether it is ready; ` + "`ctmgate healthcheck`" + ` asks that.`

const sidecarExample = `  With a user and a password file:
    CTM_USERNAME=batch CTM_PASSWORD_FILE=/run/secrets/ctm_password \
      ctmgate sidecar --endpoint https://em.example.com:8443/automation-api

  With an API token, and the CA of the endpoint's certificate:
    ctmgate sidecar --endpoint https://em.example.com:8443/automation-api \
      --api-token-file /run/secrets/ctm_api_token --ca-file em-ca.pem

  On a Unix socket, with metrics on a port of their own:
    ctmgate sidecar --listen unix//run/ctmgate/api.sock --status-listen 127.0.0.1:9100 \
      --endpoint https://em.example.com:8443/automation-api \
      --username batch --password-file /run/secrets/ctm_password

  Then, from the same machine:
    curl http://127.0.0.1:8080/automation-api/config/servers`

func buildSidecar(cmd *cobra.Command) {
	cmd.Long = sidecarHelp
	cmd.Example = sidecarExample
	addSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := readSettings(cmd, os.Getenv)
		if err != nil {
			return err
		}
		if err := s.claimAll(); err != nil {
			return err
		}
		return serve(s.config(), s.announce)
	}
}

// claimAll makes sure that the addresses are free, and puts real ports in
// place of port 0.
func (s *settings) claimAll() error {
	var err error
	if s.listen, err = claim("--"+flagListen, s.listen); err != nil {
		return err
	}
	if s.status != nil {
		status, err := claim("--"+flagStatus, *s.status)
		if err != nil {
			return err
		}
		s.status = &status
	}
	s.admin, err = claimAdmin(s.admin, s.listen)
	return err
}

// claimAdmin does the same for the admin API of the gateway at listen.
func claimAdmin(text string, listen caddy.NetworkAddress) (string, error) {
	switch text {
	case "off":
		return text, nil
	case "":
		return text, prepareSocket(adminSocket(listen))
	}
	admin, err := caddy.ParseNetworkAddress(text)
	if err != nil {
		return text, fmt.Errorf("reading the address of the admin API: %w", err)
	}
	admin, err = claim("--"+flagAdmin, admin)
	return admin.String(), err
}

// announce writes down where the sidecar is, once it runs.
func (s *settings) announce() {
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	logger := caddy.Log().Named("controlm")
	logger.Info("gateway is up",
		zap.String("listen", s.listen.String()),
		zap.String("url", scheme+"://"+authority(s.listen)),
		zap.Strings("endpoints", s.endpoints),
		zap.Strings("admit", s.admit))
	if !isLoopback(s.listen) && s.admit[0] == "loopback" {
		logger.Warn("this address can be reached from other machines, whose calls are refused: only callers on this machine are admitted; "+
			"listen on 127.0.0.1, or see --admit anyone", zap.String("listen", s.listen.String()))
	}
}
