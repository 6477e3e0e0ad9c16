package link

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

// trust is how a device's certificate is checked: by its fingerprint, by an
// authority of the site's, or by the system's.
type trust struct {
	pin    string // SHA-256 of the certificate, lower-case hexadecimal
	caFile string
}

func (s *settings) trust() (t trust, err error) {
	if t.pin, err = s.fingerprint("pin"); err != nil {
		return t, err
	}
	if t.caFile = s.values["ca_file"]; t.pin != "" && t.caFile != "" {
		return t, errors.New("connect: pin and ca_file are both set; keep one of them")
	}
	return t, nil
}

// fingerprint reads the SHA-256 of a certificate as openssl prints it, with or
// without colons.
func (s *settings) fingerprint(key string) (string, error) {
	text, ok := s.values[key]
	if !ok {
		return "", nil
	}
	digits := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if b, err := hex.DecodeString(digits); err != nil || len(b) != sha256.Size {
		return "", fmt.Errorf("%s: %s=%s is not a SHA-256 fingerprint; it has 64 hexadecimal digits, as openssl x509 -fingerprint -sha256 prints them", s.origin[key], key, echo(text))
	}
	return digits, nil
}

// config is for a connection to host; place names the device in errors.
func (t trust) config(host, place string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	switch {
	case t.caFile != "":
		text, err := os.ReadFile(t.caFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file of %s: %w", place, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca_file of %s: %s holds no certificate in PEM form", place, t.caFile)
		}
	case t.pin != "":
		// Cameras sign their certificates themselves, for a name that nobody uses:
		// the certificate as a whole is what is known.
		c.InsecureSkipVerify = true //nolint:gosec // VerifyConnection compares the whole certificate
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 {
				return errors.New("the device shows no certificate")
			}
			sum := sha256.Sum256(state.PeerCertificates[0].Raw)
			if got := hex.EncodeToString(sum[:]); got != t.pin {
				return &pinError{got: got}
			}
			return nil
		}
	}
	return c, nil
}

// pinError: the device shows another certificate than the one that is expected.
type pinError struct{ got string }

func (e *pinError) Error() string {
	return "the device shows another certificate than the pinned one, with the fingerprint " + e.got
}
