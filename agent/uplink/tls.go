package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSOptions name the files of a TLS connection. They are read at each connect,
// so a renewed certificate counts from the next session on. The broker's name is
// always verified.
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
}

// tlsConfig reads the files.
func tlsConfig(o *TLSOptions, host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if o == nil {
		return config, nil
	}
	if o.ServerName != "" {
		config.ServerName = o.ServerName
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, &localError{fmt.Errorf("read the certificate authorities: %w", err)}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &localError{fmt.Errorf("%s holds no certificate in PEM form", o.CAFile)}
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, &localError{errors.New("a client certificate needs both its file and its key's file")}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, &localError{fmt.Errorf("read the client certificate %s with key %s: %w", o.CertFile, o.KeyFile, err)}
		}
		// Given by function, it is shown even if the broker's list of authorities
		// does not name its issuer; the broker's refusal then says why.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config, nil
}

// localError is a failure on this box, before anything was sent.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }
