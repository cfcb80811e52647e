package automationapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Kind says what came of a call that did not succeed.
type Kind int

const (
	// Refused: the API said that the username or password is wrong, or the
	// user locked. Never to be repeated with the same password.
	Refused Kind = iota + 1
	// Failed: the API answered, but with an error or not understandably.
	Failed
	// TimedOut: no answer within the time that the caller gave.
	TimedOut
	// Unreachable: name, connection or TLS.
	Unreachable
)

func (k Kind) String() string {
	switch k {
	case Refused:
		return "refused"
	case Failed:
		return "failed"
	case TimedOut:
		return "timed out"
	case Unreachable:
		return "unreachable"
	}
	return "unknown"
}

// Error is a call that did not succeed. Its text holds no credential and
// nothing of an answer's body.
type Error struct {
	Kind   Kind
	Op     string // what was being done, such as "logging in"
	Status int    // of the answer; 0 when there was none
	Reason string // what happened and, where it is known, what to do
	Err    error  // the cause below, if any
}

func (e *Error) Error() string {
	if e.Err != nil && e.Reason == "" {
		return e.Op + ": " + e.Err.Error()
	}
	if e.Err != nil {
		return e.Op + ": " + e.Reason + ": " + e.Err.Error()
	}
	return e.Op + ": " + e.Reason
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err, or 0 when it is none of this package's.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return 0
}

// loginError tells a refusal from a failure. 401 is what a wrong password
// gets and 403 a user without the right to the API; the words are looked at
// as well, since the API gives 500 for plain mistakes of users
// (controlm-api.md, section 2).
func loginError(op string, status int, answer []byte) error {
	if refuses(status) || saysRefused(answer) {
		return &Error{
			Kind: Refused, Op: op, Status: status,
			Reason: fmt.Sprintf("the API refused the username or password with status %d", status),
		}
	}
	if status/100 == 3 {
		return &Error{
			Kind: Failed, Op: op, Status: status,
			Reason: fmt.Sprintf("the API answered with a redirect, status %d; is the endpoint right?", status),
		}
	}
	return &Error{Kind: Failed, Op: op, Status: status, Reason: fmt.Sprintf("the API answered with status %d", status)}
}

func refuses(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// saysRefused also knows a locked user, whose words are not documented: each
// further attempt might prolong the lock.
func saysRefused(answer []byte) bool {
	return says(answer, "incorrect username or password") || says(answer, "user", "locked") || says(answer, "account", "locked")
}

// says looks for words, in lower case, that stand in one message of an answer.
func says(answer []byte, words ...string) bool {
	var list struct {
		Errors []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(answer, &list) != nil {
		return false
	}
	for _, e := range list.Errors {
		message := strings.ToLower(e.Message)
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(message, word) }) {
			return true
		}
	}
	return false
}

// transportError sorts what net/http returns. The URL that url.Error repeats
// is dropped: the logger of the caller knows the endpoint. Once the endpoint
// was told a secret, so is every text that may quote its answer.
func transportError(ctx context.Context, op string, err error, told bool) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Kind: TimedOut, Op: op, Reason: "no answer in time", Err: ctx.Err()}
	case ctx.Err() != nil:
		return &Error{Kind: Failed, Op: op, Reason: "given up", Err: ctx.Err()}
	}
	timeout, ok := errors.AsType[net.Error](err)
	late := ok && timeout.Timeout() && !IsDial(err)
	if told {
		if err = Unquoting(err); err == nil && !late {
			return &Error{Kind: Failed, Op: op, Reason: "the answer is not HTTP; is the endpoint right?"}
		}
	}
	if late {
		return &Error{Kind: TimedOut, Op: op, Reason: "no answer in time", Err: err}
	}
	return &Error{Kind: Unreachable, Op: op, Reason: Diagnose(err), Err: err}
}

// Unquoting returns the cause of err that quotes no answer, if there is one:
// net/http repeats what it could not read, and a server may have put into it
// what was sent.
func Unquoting(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	for _, end := range []error{io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, end) {
			return end
		}
	}
	return nil
}

// IsDial tells whether err came before there was a connection: nothing was sent.
func IsDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// Diagnose says in a few words why an endpoint cannot be reached, and what to
// do where that is known. It returns "" when the error itself says it best.
func Diagnose(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the endpoint's certificate is not trusted; " +
			"name the certificate of its CA (or its own, if it is self-signed) with tls_ca_file, or --ca-file of the sidecar"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the endpoint's certificate is for another name; give that name with tls_server_name"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the endpoint's certificate is out of its dates; renew it, or check this machine's clock"
	}
	// net/http puts the second in place of the first when it sees an answer in
	// plain http.
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "the endpoint does not speak TLS; is it a plain http address?"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return "the endpoint's name does not resolve"
	}
	if IsDial(err) {
		return "no connection to the endpoint"
	}
	return ""
}
