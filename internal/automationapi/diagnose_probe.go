package automationapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
)

// probes are what is asked for, in turn, until one answer is clear. Listing
// one's own tokens needs the right to the API and no other (controlm-api.md,
// section 1), but there is no such service before 9.0.21; the list of servers
// is what monitors ask for first (section 5.5). /status will not do: nothing
// says that it looks at the credential.
var probes = []string{"/authentication/tokens", "/config/servers"}

// What probing says in Reason where the status does not say it all.
const (
	reasonExpired = "the API does not accept the token"
	reasonNotAPI  = "the answer is not the JSON of an Automation API"
)

// Probe makes a call that needs no right but that to the API, and returns nil
// if it succeeds. What the answer says is not kept: it may list tokens.
// Refused is 401 or 403, whichever the endpoint chose.
func (c *Client) Probe(ctx context.Context, who Credential) (told error) {
	if !visible(who.value.Reveal()) {
		return &Error{Kind: Failed, Op: opProbe, Reason: "the token holds characters that cannot stand in a header"}
	}
	for _, path := range probes {
		err := c.probe(ctx, path, who)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Status == 0 || e.Status == http.StatusUnauthorized || e.Reason == reasonExpired {
			return err // clear, or nothing that another path would change
		}
		// A path that is not there says least, a refusal most.
		if before, ok := errors.AsType[*Error](told); !ok || e.Kind == Refused || before.Status == http.StatusNotFound {
			told = err
		}
	}
	return told
}

// Look asks without a credential whether anything answers at all, and returns
// nil if it does, whatever it says.
func (c *Client) Look(ctx context.Context) error {
	err := c.probe(ctx, probes[len(probes)-1], Credential{})
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 {
		return nil
	}
	return err
}

const opProbe = "calling the API"

func (c *Client) probe(ctx context.Context, path string, who Credential) error {
	var told atomic.Bool // as in post
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { told.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		return &Error{Kind: Failed, Op: opProbe, Reason: "the endpoint is not a usable URL"}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ctmgate")
	if who.header != "" {
		req.Header.Set(who.header, who.scheme+who.value.Reveal())
	}
	res, err := c.http.Do(req)
	if err != nil {
		return transportError(ctx, opProbe, err, told.Load())
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil && !refuses(res.StatusCode) {
		return transportError(ctx, opProbe, err, true)
	}
	return probeError(res.StatusCode, answer)
}

func probeError(status int, answer []byte) error {
	switch {
	case (status == http.StatusUnauthorized || status == http.StatusInternalServerError) && saysExpired(answer):
		return &Error{Kind: Refused, Op: opProbe, Status: status, Reason: reasonExpired}
	case refuses(status):
		return &Error{Kind: Refused, Op: opProbe, Status: status, Reason: fmt.Sprintf("the API refused the call with status %d", status)}
	case status/100 != 2:
		return &Error{Kind: Failed, Op: opProbe, Status: status, Reason: fmt.Sprintf("the API answered with status %d", status)}
	case len(answer) <= maxBody && !json.Valid(answer):
		return &Error{Kind: Failed, Op: opProbe, Status: status, Reason: reasonNotAPI}
	}
	return nil
}

// IsExpired tells whether err is of a call whose token the API does not know,
// or no longer, in its own words: that is not about rights.
func IsExpired(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == reasonExpired
}

// saysExpired looks for the words that real servers say (controlm-api.md,
// section 2).
func saysExpired(answer []byte) bool { return says(answer, "session token is invalid or expired") }

func isJSON(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// Certificates are those that the endpoint showed, its own first, where err
// says that they were not accepted; else none. Nothing was sent then.
func Certificates(err error) []*x509.Certificate {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e.UnverifiedCertificates
	}
	return nil
}
