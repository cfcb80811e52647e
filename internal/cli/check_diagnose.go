package cli

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/ctmgate/ctmgate/internal/automationapi"
	"github.com/ctmgate/ctmgate/internal/secret"
)

// conclude says in the row why a request failed, and what to do.
func (a *checkAttempt) conclude(err error) {
	a.noteStatus(err)
	switch automationapi.CauseOf(err, a.visit) {
	case automationapi.NotResolved:
		a.set(resultNotResolved, fmt.Sprintf("The name %s could not be resolved%s.", a.host(), a.because()),
			"Check how the endpoint is spelt, and what the name server of this machine knows: `getent hosts "+a.host()+"`. In a container, ask inside of it.")
	case automationapi.NotConnected:
		a.concludeConnection()
	case automationapi.NoTLS:
		a.set(resultNoTLS, fmt.Sprintf("What answers at %s does not speak TLS. Nothing was sent.", a.address()),
			"Check the port: that of Control-M's web server is 8443 by default. If plain http is meant, write http:// (beyond this machine only with "+
				"allow_plain_http, since the password then crosses the network in the clear).")
	case automationapi.TLSFailed:
		a.concludeTLS(err)
	case automationapi.BadCertificate:
		a.concludeCertificate(automationapi.Certificates(err), time.Now())
	case automationapi.Late:
		a.concludeLate()
	case automationapi.Lost:
		a.set(resultLost, fmt.Sprintf("%s took the connection and ended it before it answered.", a.address()),
			"Look into the log of EM's web server, and of a proxy or firewall in between. The secret was not refused.")
	case automationapi.NotHTTP:
		action := "Check host and port: that of Control-M's web server is 8443 by default."
		if a.scheme() == "http" {
			action += " If it speaks TLS, write https://."
		}
		a.set(resultNotHTTP, fmt.Sprintf("What answers at %s does not speak HTTP.", a.address()), action)
	case automationapi.WrongSecret:
		a.concludeRefused()
	case automationapi.Denied:
		a.set(resultForbidden, fmt.Sprintf("%s is known to the API and has no right to use it: it answered with status 403%s.",
			a.who(), a.unlikeAPI()), actionRights)
	case automationapi.AnotherServer, automationapi.NoLogin:
		a.concludeAnotherServer()
	case automationapi.Failure:
		a.set(resultFailed, fmt.Sprintf("The API, or a proxy in front of it, answered with %s.", a.answer()),
			"The secret was not refused. Look at the load of EM and into its log, and into that of a proxy or balancer; then check again.")
	case automationapi.GivenUp:
		a.set(resultNotTried, "A signal came before the answer.", "")
	case automationapi.Unknown:
		a.set(resultFailed, "It failed before anything was sent: "+a.said(err.Error())+".", "Mend that, and check again.")
	}
	unconnected := a.row.Result == resultNotResolved || a.row.Result == resultNotConnected
	if transport := string(a.door.Config.Transport); unconnected && strings.Contains(transport, "proxy") {
		a.row.Action += " The way leads through the forward proxy that `transport http` names: look there as well."
	}
}

const actionRights = "Have an administrator of Control-M give a role of the user access to the interface Automation API " +
	"(in older releases: to Control-M Configuration Manager or Utilities)."

func (a *checkAttempt) noteStatus(err error) {
	if e, ok := errors.AsType[*automationapi.Error](err); ok {
		a.row.Status = e.Status
	}
}

func (a *checkAttempt) set(result, message, action string) {
	a.row.Result, a.row.Message, a.row.Action = result, message, action
}

func (a *checkAttempt) concludeConnection() {
	trouble := a.visit.Trouble()
	timeout, ok := errors.AsType[net.Error](trouble)
	switch {
	case errors.Is(trouble, syscall.ECONNREFUSED):
		a.set(resultNotConnected, fmt.Sprintf("Nobody listens at %s: the connection was refused.", a.address()),
			"Check host and port: that of Control-M's web server is 8443 by default. Is it running?")
	case trouble == nil, ok && timeout.Timeout(), errors.Is(trouble, context.DeadlineExceeded), errors.Is(trouble, context.Canceled):
		a.set(resultNotConnected, fmt.Sprintf("No answer from %s: the connection timed out.", a.address()),
			"Check host and port, whether the machine is up, and the firewalls between here and there.")
	default:
		a.set(resultNotConnected, fmt.Sprintf("There is no connection to %s%s.", a.address(), a.because()),
			"Check host and port, and the way there from this machine.")
	}
}

func (a *checkAttempt) concludeTLS(err error) {
	message := fmt.Sprintf("TLS could not be agreed upon with %s", a.address())
	if why := a.visit.Handshake(); why != nil {
		err = why
		message += ": " + a.said(why.Error())
	} else if op, ok := errors.AsType[*net.OpError](err); ok {
		message += ": " + a.said(op.Error())
	}
	action := "Does the server speak TLS 1.2 or newer? Does a proxy in between end the connection?"
	if automationapi.IsAlert(err) && a.door.Config.TLSClientCertificate == nil {
		action = "The server may want a certificate of its clients: give one with tls_client_certificate. Else: " + action
	} else if automationapi.IsAlert(err) {
		action = "Is the certificate of tls_client_certificate one that the server accepts? Else: " + action
	}
	a.set(resultTLS, message+".", action)
}

func (a *checkAttempt) concludeLate() {
	if a.visit.Phase() == automationapi.Securing {
		a.set(resultLate, fmt.Sprintf("%s took the connection, and TLS found no beginning in time.", a.address()),
			"Does the port speak TLS? Is EM's web server stuck, or something in between that takes connections and passes none on?")
		return
	}
	a.set(resultLate, fmt.Sprintf("%s gave no answer within %s, which is login_timeout.", a.address(), a.limit),
		"Look at the load of EM, and for something in between that takes requests and passes none on. If logins take so long there, raise "+
			"login_timeout. A session that was opened after all ends by itself.")
}

func (a *checkAttempt) concludeRefused() {
	status := a.row.Status
	if a.door.Username == "" {
		a.set(resultRefused, fmt.Sprintf("The API did not accept the API token, with status %d%s: it is unknown, expired or deleted, or the role of its "+
			"owner has ended. It stands in %s.", status, a.unlikeAPI(), a.door.Source),
			"Have the token made anew or regenerated, write it where the old one stands, and check again.")
		return
	}
	a.set(resultRefused, fmt.Sprintf("The API refused %s, with status %d%s: the password is wrong, or the user is locked or expired; it does not say "+
		"which. The password stands in %s.", a.who(), status, a.unlikeAPI(), a.door.Source),
		"It was tried once, and is tried no second time by itself: each refusal may count toward a lock. Log in to Control-M by hand as that user; have "+
			"an administrator unlock it, or mend the password where it stands; then check again.")
}

func (a *checkAttempt) concludeAnotherServer() {
	status := a.row.Status
	message := fmt.Sprintf("A web server answers at %s, but no Automation API: with %s.", a.endpoint, a.answer())
	if status == http.StatusUnauthorized {
		message = fmt.Sprintf("An Automation API answers at %s, but has no login there: it wants the token of a session first, with %s.", a.endpoint, a.answer())
	}
	const base = "/automation-api"
	u, _ := url.Parse(a.endpoint) // it has been checked
	action := "Check host and port: that of Control-M's web server is 8443 by default."
	if !strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), base) {
		before, _, found := strings.Cut(u.Path, base)
		if u.Path = base; found {
			u.Path = before + base
		}
		action = "The API of Control-M lies under " + base + ": write " + u.String() + " as endpoint, if that is the host."
	}
	switch {
	case status/100 == 3:
		action += " Redirects are not followed, since the secret would go with them: the endpoint has to be where they lead."
	case u.Scheme == "http" && status == http.StatusBadRequest:
		action += " If the port speaks TLS, write https://."
	case status == http.StatusNotFound && a.door.Username != "":
		action += " Control-M SaaS has no logins with a password: it takes an api_token alone."
	}
	a.set(resultNotAPI, message, action)
}

// concludeCall is for the call after a login that succeeded.
func (a *checkAttempt) concludeCall(err error) {
	if err == nil {
		return
	}
	a.noteStatus(err)
	switch {
	case automationapi.IsExpired(err):
		a.set(resultFailed, "The login succeeded, but the API does not accept the token that it gave.",
			"Does a balancer spread calls over several servers? A token holds at the server that gave it: name the servers themselves as endpoints, "+
				"or have the balancer keep to one of them.")
	case automationapi.KindOf(err) == automationapi.Refused:
		a.set(resultForbidden, fmt.Sprintf("The login of %s succeeded, but a call that needs no right but that to the API was refused, with status %d%s.",
			a.who(), a.row.Status, a.unlikeAPI()), actionRights)
	default:
		a.conclude(err)
		a.row.Message = "The login succeeded, the call after it did not. " + a.row.Message
	}
}

// pending explains what a change of the password left behind that did not come
// to its end: `password update` writes the new one to FILE.pending before it
// asks the API, and renames it to FILE when it has proved it.
func (a *checkAttempt) pending(ctx context.Context, client *automationapi.Client) {
	if a.door.Source.Kind != secret.File {
		return
	}
	file, name := findPending(a.door.Source.Name)
	if name == "" {
		return
	}
	source, err := secret.Spec{Kind: secret.File, Name: name}.Open(nil)
	if err != nil {
		a.warn("A change of the password did not come to its end, and what it left cannot be read: " + err.Error() + ".")
		return
	}
	defer source.Close()
	password, _ := source.Current()
	a.secrets = append(a.secrets, password)
	switch {
	case password.Equal(a.door.Secret):
		a.warn(fmt.Sprintf("%s holds the same password as %s: remove it.", name, file))
	case a.loggedIn:
		a.warn(fmt.Sprintf("%s is left from a change of the password that did not come to its end. The password in %s is the one in force: "+
			"unless a `password update` runs just now, remove the former.", name, file))
	case a.row.Result == resultRefused && ctx.Err() == nil:
		a.tryPending(ctx, client, password, file, name)
	default:
		a.warn(fmt.Sprintf("%s is left from a change of the password that did not come to its end. Which of the two passwords is in force shows "+
			"when the endpoint answers.", name))
	}
}

// findPending looks for what `password update` leaves beside a file, or beside
// the one that it links to, as that command takes no link. The file returned is
// the one that the other was to replace; there is no name where nothing is left.
func findPending(file string) (path, name string) {
	paths := []string{file}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		paths = append(paths, target)
	}
	for _, path := range paths {
		if _, err := os.Lstat(path + pendingSuffix); err == nil {
			return path, path + pendingSuffix
		}
	}
	return file, ""
}

// tryPending spends one login on the pending password: it is another one than
// that which was refused.
func (a *checkAttempt) tryPending(ctx context.Context, client *automationapi.Client, password secret.Value, file, name string) {
	other := &checkAttempt{checker: a.checker, door: a.door, endpoint: a.endpoint, limit: a.limit, visit: a.visit}
	who := secret.Fingerprint(a.door.Username, password.Reveal())
	for _, where := range []string{"environment " + a.door.Environment, "endpoint " + a.endpoint} {
		if by := a.refused[where+who]; by != "" {
			a.warn(fmt.Sprintf("%s is left from a change of the password; the password in it was refused for %s, and is not tried again.", name, by))
			return
		}
	}
	err := other.logIn(ctx, client, password)
	switch {
	case err == nil:
		a.row.Message = fmt.Sprintf("A change of the password did not come to its end: the password in %s was refused, and the one in %s is in force.", file, name)
		a.row.Action = fmt.Sprintf("Put it in place: `mv %s %s`. Its owner and mode have to let the gateway read it; one that runs picks it up by itself.", quote(name), quote(file))
		a.row.Warnings = append(a.row.Warnings, other.row.Warnings...)
	case automationapi.KindOf(err) == automationapi.Refused:
		a.refused["environment "+a.door.Environment+who] = a.door.Environment + "/" + a.door.Account
		a.refused["endpoint "+a.endpoint+who] = a.door.Environment + "/" + a.door.Account
		a.row.Message += fmt.Sprintf(" A change of the password did not come to its end: the one in %s was tried once as well, and refused.", name)
		a.row.Action = "Neither password works, or the user is locked. Each was tried once, and is tried no second time by itself. " +
			"Have an administrator of Control-M unlock the user or set a password, write it to " + file + ", and remove " + name + "."
	default:
		a.row.Message += fmt.Sprintf(" A change of the password did not come to its end: the one in %s was tried once as well, which failed: %s.",
			name, a.said(err.Error()))
		a.row.Action = "Check again when the endpoint answers: then it shows which of the two is in force."
	}
}

func clockWarning(offset time.Duration) string {
	side := "behind"
	if offset < 0 {
		side = "ahead of"
	}
	return fmt.Sprintf("By the date of its answer, the clock of this machine is about %s %s the server's. Sessions do not depend on it; the dates of "+
		"certificates, gateway keys and log lines do: set the clock that is wrong.", offset.Abs().Round(10*time.Second), side)
}

func (a *checkAttempt) scheme() string {
	u, _ := url.Parse(a.endpoint)
	return u.Scheme
}

// host is the endpoint's name or address, without the port.
func (a *checkAttempt) host() string {
	u, _ := url.Parse(a.endpoint)
	return u.Hostname()
}

// address is the endpoint's host and port.
func (a *checkAttempt) address() string {
	u, _ := url.Parse(a.endpoint)
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// who is the account's user, for a sentence.
func (a *checkAttempt) who() string {
	if a.door.Username == "" {
		return "the owner of the API token"
	}
	return "user " + a.said(a.door.Username)
}

// because is the reason that the network gave, if it gave one.
func (a *checkAttempt) because() string {
	if err := a.visit.Trouble(); err != nil {
		return ": " + a.said(err.Error())
	}
	return ""
}

// answer is status and content type.
func (a *checkAttempt) answer() string {
	status, contentType := a.visit.Answer()
	kind, _, err := mime.ParseMediaType(contentType)
	switch {
	case status != a.row.Status: // of an earlier call
		return fmt.Sprintf("status %d", a.row.Status)
	case err != nil || kind == "":
		return fmt.Sprintf("status %d and no content type", status)
	}
	return fmt.Sprintf("status %d and content of type %s", status, a.said(kind))
}

// unlikeAPI is a hint where a refusal has not the form of the API's.
func (a *checkAttempt) unlikeAPI() string {
	_, contentType := a.visit.Answer()
	if kind, _, _ := mime.ParseMediaType(contentType); strings.HasSuffix(kind, "json") {
		return ""
	}
	return " (in another form than the API's own: it may come from a proxy in front of it)"
}

// said is a text that the endpoint chose, or that may quote it: fit for a
// terminal, short, and without anything that it was told.
func (a *checkAttempt) said(text string) string {
	for _, s := range a.secrets {
		if known := s.Reveal(); known != "" && strings.Contains(strings.ToLower(text), strings.ToLower(known)) {
			return "(not shown: it repeats a secret)"
		}
	}
	const most = 300
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
