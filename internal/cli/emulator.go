package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/ctmgate/ctmgate/internal/emulator"
)

const emulatorHelp = `
Speaks the Control-M Automation API, for trying things out and for tests where
there is no Control-M: logins, sessions that end, API tokens, jobs that run,
and misbehaviour on request. It runs nothing and forgets everything at its end.

It is a toy server: that is why passwords may stand on its command line, where
everyone who lists processes sees them. Give it none that opens anything else.

It serves https with a certificate of a CA of its own, which is kept in the
data folder, so that clients can go on trusting it: see --print-ca.

While it runs, callers on this machine can steer it, beside the API:
  GET  /emulator/stats               counters
  POST /emulator/restart             drops all sessions
  POST /emulator/faults              replaces the faults: one a line as body
  POST /emulator/password?user=NAME  replaces a password: the body is the new one

Faults, for --fault:
`

const emulatorExample = `  ctmgate emulator
  ctmgate emulator --listen 127.0.0.1:9443 --user batch:batchpass --token-lifetime 2m
  ctmgate emulator --http --listen 127.0.0.1:8081 --fault login=503x3 --fault expired=500
  ctmgate emulator --print-ca > emulator-ca.pem`

// emulatorRoles are what a user of the emulator may grant to an API token.
func emulatorRoles() []string { return []string{"Admin", "User"} }

func buildEmulator(cmd *cobra.Command) {
	cmd.Long = emulatorHelp + strings.TrimRight(emulator.FaultHelp(), "\n")
	cmd.Example = emulatorExample
	f := cmd.Flags()
	f.SortFlags = false
	f.String("listen", "127.0.0.1:8443", "address to listen on: host:port")
	f.Bool("http", false, "serve plain http")
	f.StringArray("user", nil, "name:password of a user; repeatable; default: emuser:empass")
	f.StringArray("api-token", nil, "name:token of an API token, which belongs to the first user; repeatable")
	f.Duration("token-lifetime", 30*time.Minute, "how long a session lasts")
	f.Duration("login-delay", 0, "how long a login takes")
	f.Int("lock-after", 0, "refused logins in a row that lock a user; 0: never")
	f.StringArray("fault", nil, "misbehave: see above; repeatable")
	f.Bool("print-ca", false, "print the CA's certificate as PEM, and exit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if printCA, _ := f.GetBool("print-ca"); printCA {
			ca, _, err := emulatorCA()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(ca.PEM())
			return err
		}
		options, err := emulatorOptions(cmd)
		if err != nil {
			return err
		}
		listen, _ := f.GetString("listen")
		plainHTTP, _ := f.GetBool("http")
		return runEmulator(options, listen, plainHTTP)
	}
}

// emulatorOptions reads the flags. Errors name the flag, never its value,
// which holds a password.
func emulatorOptions(cmd *cobra.Command) (emulator.Options, error) {
	f := cmd.Flags()
	var o emulator.Options
	users, _ := f.GetStringArray("user")
	if len(users) == 0 {
		users = []string{"emuser:empass"}
	}
	for i, text := range users {
		name, password, ok := strings.Cut(text, ":")
		if !ok || name == "" || password == "" {
			return o, usagef("--user number %d: expected name:password", i+1)
		}
		o.Users = append(o.Users, emulator.User{Name: name, Password: password, Roles: emulatorRoles()})
	}
	tokens, _ := f.GetStringArray("api-token")
	for i, text := range tokens {
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" || value == "" {
			return o, usagef("--api-token number %d: expected name:token", i+1)
		}
		o.APITokens = append(o.APITokens, emulator.APIToken{Name: name, Value: value, User: o.Users[0].Name, Roles: emulatorRoles()})
	}
	faults, _ := f.GetStringArray("fault")
	for _, text := range faults {
		fault, err := emulator.ParseFault(text)
		if err != nil {
			return o, usagef("--fault: %w", err)
		}
		o.Faults = append(o.Faults, fault)
	}
	o.TokenLifetime, _ = f.GetDuration("token-lifetime")
	o.LoginDelay, _ = f.GetDuration("login-delay")
	o.LockAfter, _ = f.GetInt("lock-after")
	if o.TokenLifetime <= 0 || o.LoginDelay < 0 || o.LockAfter < 0 {
		return o, usagef("--token-lifetime has to be above zero, and --login-delay and --lock-after not below it")
	}
	return o, nil
}

// emulatorCA is the CA that is kept in the data folder, and the path of its
// certificate alone, without the key, for the trust settings of clients.
func emulatorCA() (ca *emulator.CA, certificate string, err error) {
	folder := filepath.Join(caddy.AppDataDir(), "emulator")
	if ca, err = emulator.LoadOrCreateCA(folder); err != nil {
		return nil, "", err
	}
	certificate = filepath.Join(folder, "ca.pem")
	if err := writeWhole(certificate, ca.PEM()); err != nil {
		return nil, "", fmt.Errorf("writing the CA's certificate: %w", err)
	}
	return ca, certificate, nil
}

// writeWhole makes content the file's in one step, since a client may be
// reading it for an emulator that runs already.
func writeWhole(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func runEmulator(o emulator.Options, listen string, plainHTTP bool) error {
	if addr, err := parseListen("--listen", listen); err != nil {
		return err
	} else if addr.IsUnixNetwork() {
		return usagef("--listen: the emulator listens on host:port only")
	}
	var ca *emulator.CA
	var trust string
	if !plainHTTP {
		var err error
		if ca, trust, err = emulatorCA(); err != nil {
			return err
		}
	}
	// Before the banner, since who reads that may send a signal at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	events := newTimeline(os.Stdout, describeEvent)
	o.Observe = events.observe
	server, err := emulator.New(o).Listen(listen, ca)
	if err != nil {
		return listenError(err, listen, "--listen")
	}
	events.begin(emulatorBanner(o, server.URL(), trust))
	<-ctx.Done()
	return server.Close()
}

// listenError says plainly when an address is taken.
func listenError(err error, address, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listening on %s: something else listens there already; stop it, or choose another address with %s", address, flag)
	}
	return err
}

func emulatorBanner(o emulator.Options, url, trust string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Emulating the Control-M Automation API at\n\n  %s\n\nThese open it (it is a toy server; they are no secrets):\n\n", url)
	for _, u := range o.Users {
		fmt.Fprintf(&b, "  user %q, password %q\n", u.Name, u.Password)
	}
	for _, t := range o.APITokens {
		fmt.Fprintf(&b, "  API token %q, named %q\n", t.Value, t.Name)
	}
	login, err := json.Marshal(map[string]string{"username": o.Users[0].Name, "password": o.Users[0].Password})
	if err != nil { // two strings always marshal
		login = nil
	}
	trustFlag := ""
	if trust != "" {
		trustFlag = "--cacert " + quote(trust) + " "
	}
	fmt.Fprintf(&b, "\nTry:\n\n  curl %s-H 'Content-Type: application/json' -d %s %s/session/login\n\n", trustFlag, quote(string(login)), url)
	return b.String()
}

// quote makes text one word of a shell.
func quote(text string) string {
	if text != "" && strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.-_:+@") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
