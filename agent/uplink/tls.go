package uplink

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxTLSFile bounds a file of certificates or a key, in bytes.
const maxTLSFile = 1 << 20

// TLSOptions name the files of a TLS connection. They are read at each connect,
// and looked at while a session lasts: when they have changed and fit together,
// the session ends in good order and the next one uses them. TLS 1.2 is the
// least, with Go's choice of ciphers. The broker's name is always verified; no
// option switches that off.
type TLSOptions struct {
	// CAFile holds the certificates (PEM) of the authorities that are trusted,
	// instead of the system's; empty for the system's.
	CAFile string
	// CertFile and KeyFile are the client's certificate with its chain, and its
	// key, in PEM; both or neither.
	CertFile, KeyFile string
	// ServerName is what the broker's certificate must be made out to, if not to
	// the host in the URL.
	ServerName string
	// ALPN are the protocol names offered in the handshake, for brokers that
	// share a port with something else: "mqtt" in general, "x-amzn-mqtt-ca" for
	// AWS with client certificates on port 443. For tls:// only: a websocket
	// goes by its path.
	ALPN []string

	// every is how often the files are looked at; renewEvery if zero.
	every time.Duration
}

// check tells of options that can't be right.
func (o *TLSOptions) check() error {
	if o == nil {
		return nil
	}
	for _, name := range o.ALPN {
		if len(name) == 0 || len(name) > 255 {
			return fmt.Errorf("a protocol name (ALPN) has 1 to 255 bytes, not %d", len(name))
		}
	}
	return nil
}

// material is what the files hold.
type material struct {
	// sum is of all the files as they are.
	sum         [sha256.Size]byte
	authorities []*x509.Certificate // of CAFile
	chain       []*x509.Certificate // of CertFile
	pair        *tls.Certificate    // nil for no client certificate
	cut         string              // a file that ends within a certificate, or in one that can't be read
}

// load reads the files.
func (o *TLSOptions) load() (*material, error) {
	m := &material{}
	if o == nil {
		return m, nil
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, &localError{errors.New("a client certificate needs both its file and its key's file")}
	}
	hash := sha256.New()
	read := func(path string) ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		b, err := io.ReadAll(io.LimitReader(f, maxTLSFile+1))
		if err == nil && len(b) > maxTLSFile {
			err = fmt.Errorf("%s has more than %d bytes", path, maxTLSFile)
		}
		fmt.Fprintf(hash, "%d ", len(b))
		hash.Write(b)
		return b, err
	}
	if o.CAFile != "" {
		text, err := read(o.CAFile)
		if err != nil {
			return nil, &localError{fmt.Errorf("read the certificate authorities: %w", err)}
		}
		if m.authorities = m.certificates(text, o.CAFile); len(m.authorities) == 0 {
			return nil, &localError{fmt.Errorf("%s holds no certificate in PEM form", o.CAFile)}
		}
	}
	if o.CertFile != "" {
		var key []byte
		cert, err := read(o.CertFile)
		if err == nil {
			key, err = read(o.KeyFile)
		}
		var pair tls.Certificate
		if err == nil {
			pair, err = tls.X509KeyPair(cert, key)
		}
		if err != nil {
			return nil, &localError{fmt.Errorf("read the client certificate %s with key %s: %w", o.CertFile, o.KeyFile, err)}
		}
		m.pair, m.chain = &pair, m.certificates(cert, o.CertFile)
	}
	hash.Sum(m.sum[:0])
	return m, nil
}

// certificates reads the certificates of a PEM file. Like crypto/x509 it passes
// over what it can't read, but notes it.
func (m *material) certificates(text []byte, path string) (list []*x509.Certificate) {
	want := bytes.Count(text, []byte("-----BEGIN CERTIFICATE-----"))
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
	if len(list) != want {
		m.cut = path
	}
	return list
}

// config is the TLS configuration for a broker.
func (m *material) config(o *TLSOptions, host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if o == nil {
		return config
	}
	if o.ServerName != "" {
		config.ServerName = o.ServerName
	}
	config.NextProtos = o.ALPN
	if m.authorities != nil {
		config.RootCAs = x509.NewCertPool()
		for _, c := range m.authorities {
			config.RootCAs.AddCert(c)
		}
	}
	if m.pair != nil {
		// Given by function, it is shown even if the broker's list of authorities
		// does not name its issuer; the broker's refusal then says why.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.pair, nil }
	}
	return config
}

// fits tells whether the files, which have changed, can take the place of those
// in use.
func (m *material) fits(now time.Time) error {
	if m.cut != "" {
		return fmt.Errorf("%s ends within a certificate or holds one that can't be read", m.cut)
	}
	for _, c := range m.chain {
		if now.Before(c.NotBefore) {
			return fmt.Errorf("the certificate of %s is not valid before %s", subject(c), c.NotBefore.UTC().Format(time.RFC3339))
		}
		if now.After(c.NotAfter) {
			return fmt.Errorf("the certificate of %s has expired on %s", subject(c), day(c.NotAfter))
		}
	}
	return nil
}

// localError is a failure on this box, before anything was sent.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }
