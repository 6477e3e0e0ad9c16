package link

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookAgain is how often the files of a server's certificate are looked at, at the
// most: whoever connects must not make the agent read files all the time.
const lookAgain = 5 * time.Second

// ServerCertificate is what a TLS server of the agent shows. A renewed one is taken up
// without a restart, with the next connection.
type ServerCertificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	pair   *tls.Certificate
	of     [2]stamp // the files that pair was read from
	looked time.Time
	// refused are files that have changed and can't be used, which is said once.
	refused [2]stamp
}

// stamp tells whether a file was replaced.
type stamp struct {
	modified time.Time
	size     int64
}

// ReadServerCertificate reads a certificate with its chain, and its key. Both files
// are PEM.
func ReadServerCertificate(certFile, keyFile string) (*ServerCertificate, error) {
	c := &ServerCertificate{certFile: certFile, keyFile: keyFile, looked: time.Now()}
	c.of = c.stamps()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s with the key %s: %w", certFile, keyFile, err)
	}
	c.pair = &pair
	return c, nil
}

func (c *ServerCertificate) stamps() (s [2]stamp) {
	for i, path := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(path); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// Get is for tls.Config.GetCertificate. While files that have changed do not fit
// together (certificate and key are never replaced at once) the old pair is shown.
func (c *ServerCertificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookAgain {
		return c.pair, nil
	}
	c.looked = now
	of := c.stamps()
	if of == c.of {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		if c.refused != of {
			slog.Warn("a renewed certificate can't be used, the old one is still shown", "cert_file", c.certFile, "key_file", c.keyFile,
				"err", err, "hint", "put a certificate and its own key in their places, both in PEM")
		}
		c.refused = of
		return c.pair, nil
	}
	c.pair, c.of = &pair, of
	return c.pair, nil
}
