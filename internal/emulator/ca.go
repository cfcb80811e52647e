package emulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	caFile     = "emulator-ca.pem"
	caLifetime = 10 * 365 * 24 * time.Hour
	// certLifetime: some TLS stacks refuse server certificates beyond 398 days.
	certLifetime = 397 * 24 * time.Hour
	// backdate lets machines whose clocks differ a little trust each other.
	backdate = time.Hour
)

// CA is a certificate authority of the emulator's own. Real servers come with
// self-signed certificates, too (controlm-api.md 5.1); unlike those, this one is
// meant to be trusted explicitly, so that clients verify.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA that lives as long as the process.
func NewCA() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making CA key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "ctmgate emulator CA", Organization: []string{"ctmgate emulator, not for production"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making CA certificate: %w", err)
	}
	return &CA{cert: cert, key: key}, nil
}

// LoadOrCreateCA reads the CA kept in dir, or makes one there. Certificate and
// key are in one file that appears as a whole or not at all, so several starts
// at the same time end up with the same CA.
func LoadOrCreateCA(dir string) (*CA, error) {
	path := filepath.Join(dir, caFile)
	ca, err := loadCA(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	if ca, err = NewCA(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making folder for the CA: %w", err)
	}
	won, err := ca.store(path)
	if err != nil {
		return nil, fmt.Errorf("storing CA: %w", err)
	}
	if won {
		return ca, nil
	}
	return loadCA(path)
}

func loadCA(path string) (*CA, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading CA: %w", err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		// Not %w of anything secret: the parser names block types only.
		return nil, fmt.Errorf("reading CA from %s (remove the file to have a new one): %w", path, err)
	}
	key, isECDSA := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !isECDSA || !pair.Leaf.IsCA || time.Now().After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("reading CA from %s: not a CA of the emulator, or expired (remove the file to have a new one)", path)
	}
	return &CA{cert: pair.Leaf, key: key}, nil
}

// store links a finished file to its name: a link, unlike a rename, fails when
// another start was first.
func (c *CA) store(path string) (won bool, err error) {
	keyDER, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return false, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), caFile+".*") // mode 0600
	if err != nil {
		return false, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(append(c.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, err
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil { // a file system without links: the last start wins
		err = os.Rename(f.Name(), path)
	}
	return err == nil, err
}

// PEM is the CA's certificate, for the trust settings of clients.
func (c *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw})
}

// Certificate issues a server certificate for names and addresses; none means
// localhost, 127.0.0.1 and ::1.
func (c *CA) Certificate(hosts ...string) (tls.Certificate, error) {
	if len(hosts) == 0 {
		hosts = defaultHosts()
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making server key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: hosts[0]},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(certLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making server certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key}, nil
}

func defaultHosts() []string { return []string{"localhost", "127.0.0.1", "::1"} }

func newSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[0] &= 0x7f           // serial numbers are positive
	return new(big.Int).SetBytes(b[:])
}
