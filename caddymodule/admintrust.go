package caddymodule

import (
	"os"
	"reflect"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/ctmgate/ctmgate/internal/secret"
)

// warnTrust tells the operator, at each load and in `validate`, whom an
// environment trusts that it should not.
func (a *App) warnTrust(env *environment) {
	if env.config.TLSInsecureSkipVerify {
		env.logger.Warn("tls_insecure_skip_verify accepts any certificate: whoever answers in the endpoint's place gets the passwords; "+
			"use tls_ca_file instead", zap.String("environment", env.name))
	}
	if !a.warnedOfAdmin && env.readsSecrets() {
		a.warnedOfAdmin = true
		a.warnAdmin()
	}
}

// warnAdmin tells the operator that the admin API is as open as a port of this
// machine is: whoever reaches it can load a config that shows them what
// {file.…} and {env.…} hold.
func (a *App) warnAdmin() {
	if address, on := adminAddress(a.ctx); on {
		a.logger.Warn("the admin API listens on TCP, and whoever reaches it can read the secrets that this config names; "+
			"put it on a socket: `admin unix//run/ctmgate/admin.sock|0600`", zap.String("admin", address))
	}
}

func (env *environment) readsSecrets() bool {
	for _, account := range env.config.Accounts {
		for _, text := range []string{account.Password, account.APIToken} {
			if spec, err := secret.Parse(text); err == nil && spec.Kind != secret.Literal {
				return true
			}
		}
	}
	return false
}

// adminAddress is where the admin API of the config listens, if that is on
// TCP. Caddy tells modules nothing of it, so it is read where Caddy keeps it;
// should that place move, there is no warning.
func adminAddress(ctx caddy.Context) (address string, tcp bool) {
	config := reflect.ValueOf(ctx).FieldByName("cfg")
	if !config.IsValid() || config.Kind() != reflect.Pointer || config.IsNil() {
		return "", false
	}
	admin := config.Elem().FieldByName("Admin")
	if !admin.IsValid() || admin.Kind() != reflect.Pointer {
		return "", false
	}
	if !admin.IsNil() {
		if disabled := admin.Elem().FieldByName("Disabled"); disabled.Kind() == reflect.Bool && disabled.Bool() {
			return "", false
		}
		if listen := admin.Elem().FieldByName("Listen"); listen.Kind() == reflect.String {
			var err error
			if address, err = caddy.NewReplacer().ReplaceOrErr(listen.String(), true, true); err != nil {
				return "", false // it will not start
			}
		}
	}
	if address == "" {
		address = os.Getenv("CADDY_ADMIN")
	}
	if address == "" {
		address = caddy.DefaultAdminListen
	}
	return address, !strings.HasPrefix(address, "unix") && !strings.HasPrefix(address, "fd")
}
