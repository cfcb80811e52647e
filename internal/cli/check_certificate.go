package cli

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// concludeCertificate says all that is wrong with the certificate at once: who
// mends one thing after the other is told of the next each time.
func (a *checkAttempt) concludeCertificate(chain []*x509.Certificate, now time.Time) {
	const mostShown = 4
	for _, one := range chain[:min(len(chain), mostShown)] {
		a.row.Certificates = append(a.row.Certificates, a.describeCertificate(one))
	}
	faults := a.judge(chain, now)
	a.row.Result = faults[0].result
	messages, actions := []string{"Nothing was sent."}, []string(nil)
	for _, f := range faults {
		messages = append(messages, f.message)
		actions = append(actions, f.action)
		if anchor := anchorOf(chain); f.result == resultUntrusted && !slices.ContainsFunc(a.anchors, anchor.Equal) {
			a.anchors = append(a.anchors, anchor)
		}
	}
	a.row.Message, a.row.Action = strings.Join(messages, " "), strings.Join(actions, " ")
}

// certificateFault is one thing that is wrong with a certificate.
type certificateFault struct{ result, message, action string }

// judge finds at least one fault: the certificate was not accepted.
func (a *checkAttempt) judge(chain []*x509.Certificate, now time.Time) (faults []certificateFault) {
	leaf := chain[0]
	outdated, untrusted := a.verify(chain, now)
	if outdated != nil {
		faults = append(faults, a.outdatedFault(leaf, outdated, now))
	}
	misnamed := leaf.VerifyHostname(a.serverName())
	if untrusted != nil || outdated == nil && misnamed == nil {
		faults = append(faults, a.untrustedFault(chain, untrusted))
	}
	if misnamed != nil {
		faults = append(faults, a.misnamedFault(leaf))
	}
	return faults
}

// verify finds what is out of its dates, and whether the chain is trusted but
// for that and for its name.
func (a *checkAttempt) verify(chain []*x509.Certificate, now time.Time) (outdated *x509.Certificate, untrusted error) {
	options := x509.VerifyOptions{CurrentTime: now, Intermediates: x509.NewCertPool()}
	for _, one := range chain {
		if now.Before(one.NotBefore) || now.After(one.NotAfter) {
			outdated = one
			options.CurrentTime = one.NotBefore.Add(time.Second)
			break
		}
	}
	for _, one := range chain[1:] {
		options.Intermediates.AddCert(one)
	}
	if files := a.door.Config.TLSCAFile; len(files) > 0 {
		options.Roots = x509.NewCertPool()
		for _, file := range files {
			content, _ := os.ReadFile(file) // it was read a moment ago
			options.Roots.AppendCertsFromPEM(content)
		}
	}
	_, err := chain[0].Verify(options)
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		if outdated == nil {
			outdated = invalid.Cert
		}
		return outdated, nil
	}
	return outdated, err
}

func (a *checkAttempt) outdatedFault(leaf, outdated *x509.Certificate, now time.Time) certificateFault {
	which := "The certificate"
	if outdated != leaf {
		which = "The certificate of its CA, " + a.said(outdated.Subject.String()) + ","
	}
	state := "has expired"
	if now.Before(outdated.NotBefore) {
		state = "is not valid yet"
	}
	return certificateFault{
		resultExpired,
		fmt.Sprintf("%s %s: it is valid from %s to %s, and the clock of this machine says %s.", which, state,
			outdated.NotBefore.UTC().Format(time.RFC3339), outdated.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
		"Set the clock if it is wrong; else have the certificate renewed at the server.",
	}
}

func (a *checkAttempt) untrustedFault(chain []*x509.Certificate, why error) certificateFault {
	leaf, compared := chain[0], "the server's certificate"
	if anchor := anchorOf(chain); anchor != leaf {
		compared = "the certificate of the CA " + a.said(anchor.Subject.String())
	}
	message := "Nothing here vouches for the certificate: it was issued by " + a.said(leaf.Issuer.String())
	if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		message = "Nothing here vouches for the certificate: it was issued by itself, as that of Control-M is by default"
	}
	if _, usual := errors.AsType[x509.UnknownAuthorityError](why); why != nil && !usual {
		message += " (" + a.said(why.Error()) + ")"
	}
	if files := a.door.Config.TLSCAFile; len(files) > 0 {
		message += ", and is none of those in " + strings.Join(files, ", ") + ", nor issued by one"
	}
	step := "name it with tls_ca_file FILE beside the endpoint, in environment " + a.door.Environment
	if a.sidecar {
		step = "name it with CTM_CA_FILE=FILE, or --ca-file FILE of the sidecar"
	}
	return certificateFault{
		resultUntrusted, message + ".",
		fmt.Sprintf("Ask the administrator of Control-M, by another way than this connection, for the SHA-256 fingerprint of %s, and compare it with the one "+
			"above. If they differ, somebody answers in the server's place: stop. If they are the same, write the certificate to a file with "+
			"`%s check --account %s/%s --save-certificate FILE`, and %s.",
			compared, binary(), a.door.Environment, a.door.Account, step),
	}
}

func (a *checkAttempt) misnamedFault(leaf *x509.Certificate) certificateFault {
	names := certificateNames(leaf)
	for i, name := range names {
		names[i] = a.said(name)
	}
	if len(names) == 0 {
		return certificateFault{
			resultOtherName,
			fmt.Sprintf("The certificate bears no name for %s: it has a common name alone, at which nobody looks any more.", a.serverName()),
			"Have it issued with the server's name as subject alternative name; tls_server_name does not help here.",
		}
	}
	example := "NAME"
	if i := slices.IndexFunc(names, func(name string) bool { return !strings.Contains(name, "*") }); i >= 0 {
		example = names[i]
	}
	action := fmt.Sprintf("If one of these is the server's own name, write tls_server_name %s beside the endpoint, or use that name in the endpoint.", example)
	if a.sidecar {
		action = "If one of these is the server's own name, use it in CTM_ENDPOINT; in a Caddyfile, tls_server_name gives it beside the endpoint."
	}
	return certificateFault{
		resultOtherName,
		fmt.Sprintf("The certificate is for another name than %s: for %s.", a.serverName(), strings.Join(names, ", ")),
		action + " Else the endpoint leads to another server.",
	}
}

func certificateNames(c *x509.Certificate) []string {
	var names []string
	for _, name := range c.DNSNames {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, ip := range c.IPAddresses {
		if name := ip.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// serverName is what the certificate has to bear.
func (a *checkAttempt) serverName() string {
	if name := a.door.Config.TLSServerName; name != "" {
		return name
	}
	return a.host()
}

func (a *checkAttempt) describeCertificate(c *x509.Certificate) certificateInfo {
	info := certificateInfo{
		Subject: a.said(c.Subject.String()), Issuer: a.said(c.Issuer.String()),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), SHA256: certificatePrint(c),
	}
	for _, name := range certificateNames(c) {
		info.Names = append(info.Names, a.said(name))
	}
	return info
}

// certificatePrint is the fingerprint as keytool and openssl print it.
func certificatePrint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// anchorOf is the certificate that would have to be trusted: the last CA that
// the server showed with its own, or its own.
func anchorOf(chain []*x509.Certificate) *x509.Certificate {
	anchor := chain[0]
	for _, one := range chain[1:] {
		if !one.IsCA || anchor.CheckSignatureFrom(one) != nil {
			break
		}
		anchor = one
	}
	return anchor
}

// saveCertificate writes what is not trusted to a new file. That trusts
// nothing: it takes the operator's own words in a config.
func (c *checker) saveCertificate(cmd *cobra.Command, file string) error {
	if len(c.anchors) == 0 {
		cmd.PrintErrf("%s: no certificate was found that lacks trust, so %s is not written\n", cmd.CommandPath(), file)
		return nil
	}
	var content bytes.Buffer
	prints := make([]string, 0, len(c.anchors))
	for _, one := range c.anchors {
		_ = pem.Encode(&content, &pem.Block{Type: "CERTIFICATE", Bytes: one.Raw})
		prints = append(prints, certificatePrint(one))
	}
	// Everyone may read a certificate, and the gateway's user has to.
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // no secret
	if err != nil {
		return fmt.Errorf("saving the certificate to a new file: %w", err)
	}
	_, err = f.Write(content.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(file)
		return fmt.Errorf("saving the certificate: %w", err)
	}
	cmd.PrintErrf("%s: %s is written, and trusted by nothing yet. Before a config names it, compare with the administrator of Control-M, by another "+
		"way than this connection, the SHA-256 fingerprint of what is in it:\n  %s\n", cmd.CommandPath(), file, strings.Join(prints, "\n  "))
	return nil
}
