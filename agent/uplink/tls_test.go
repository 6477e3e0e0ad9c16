package uplink

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// authority is a certificate authority of a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	dir  string
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), next: 1}
	a.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.file = filepath.Join(a.dir, "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue makes a certificate for a name (or 127.0.0.1 if it is that) and writes
// it with its key under the file name given.
func (a *authority) issue(file, name string, notAfter time.Time) (certFile, keyFile string) {
	a.t.Helper()
	a.next++
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: notAfter.Add(-2 * time.Hour), NotAfter: notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	certFile, keyFile = filepath.Join(a.dir, file+".pem"), filepath.Join(a.dir, file+".key")
	writePEM(a.t, certFile, "CERTIFICATE", der)
	writePEM(a.t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

// server is a TLS configuration for a broker that wants client certificates of
// the authority, if clients is not nil.
func (a *authority) server(certFile, keyFile string, clients *authority) *tls.Config {
	a.t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(a.t, err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AddCert(clients.cert)
	}
	return config
}

func tlsBroker(t testing.TB, config *tls.Config, login func(*mochi.Client, packets.Packet) bool) *embedded {
	t.Helper()
	return embed(t, "127.0.0.1:0", &listeners.Config{TLSConfig: config}, login)
}

func TestTLSMutual(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "127.0.0.1", time.Now().Add(time.Hour))
	clientCert, clientKey := ca.issue("client", "lane-1", time.Now().Add(time.Hour))
	b := tlsBroker(t, ca.server(cert, key, ca), nil)
	s := newSpool(t)
	record(t, s, event.Urgent, 500, 600)
	o := (&agent{}).options(t, "tls://"+b.addr)
	o.TLS = &TLSOptions{CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey}
	o.StopTimeout = patience
	_, stop := start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	stop()
	requireEvents(t, b.all(), event.Urgent, 500, 600)
	require.Equal(t, string(stateBody(false, 1)), b.retained(stateTopic))
	require.Empty(t, b.willsSent())
}

func TestTLSFailures(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	later, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	good, goodKey := ca.issue("broker", "127.0.0.1", later)
	expired, expiredKey := ca.issue("expired", "127.0.0.1", past)
	named, namedKey := ca.issue("named", "mqtt.example", later)
	client, _ := ca.issue("client", "lane-1", later)
	oldClient, oldClientKey := ca.issue("old-client", "lane-1", past)
	strange, strangeKey := other.issue("strange", "lane-1", later)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))

	for _, c := range []struct {
		name         string
		server       *tls.Config // nil for a plain broker
		scheme       string
		tls          *TLSOptions
		reason, hint string // empty: it must work
	}{
		{"good", ca.server(good, goodKey, nil), "tls", &TLSOptions{CAFile: ca.file}, "", ""},
		{"ssl is the same", ca.server(good, goodKey, nil), "ssl", &TLSOptions{CAFile: ca.file}, "", ""},
		{"other authority", ca.server(good, goodKey, nil), "tls", &TLSOptions{CAFile: other.file},
			"the broker's certificate comes from an authority that is not trusted here", "set the CA file"},
		{"no authority given", ca.server(good, goodKey, nil), "tls", nil,
			"the broker's certificate comes from an authority that is not trusted here", "set the CA file"},
		{"expired", ca.server(expired, expiredKey, nil), "tls", &TLSOptions{CAFile: ca.file},
			"the broker's certificate is not valid at this time", "compare the clock of this box"},
		{"wrong name", ca.server(named, namedKey, nil), "tls", &TLSOptions{CAFile: ca.file},
			"the broker's certificate is made out to another name", "set it as the server name"},
		{"server name given", ca.server(named, namedKey, nil), "tls", &TLSOptions{CAFile: ca.file, ServerName: "mqtt.example"}, "", ""},
		{"no client certificate", ca.server(good, goodKey, ca), "tls", &TLSOptions{CAFile: ca.file},
			"the broker refused the TLS connection", "client certificate"},
		{"expired client certificate", ca.server(good, goodKey, ca), "tls",
			&TLSOptions{CAFile: ca.file, CertFile: oldClient, KeyFile: oldClientKey},
			"the broker refused the TLS connection", "its expiry"},
		{"client certificate of another authority", ca.server(good, goodKey, ca), "tls",
			&TLSOptions{CAFile: ca.file, CertFile: strange, KeyFile: strangeKey},
			"the broker refused the TLS connection", "its issuer"},
		{"the key of another certificate", ca.server(good, goodKey, ca), "tls",
			&TLSOptions{CAFile: ca.file, CertFile: client, KeyFile: strangeKey},
			"read the client certificate", "what is in it"},
		{"missing file", ca.server(good, goodKey, nil), "tls", &TLSOptions{CAFile: "/nowhere/ca.pem"},
			"read the certificate authorities: open /nowhere/ca.pem: no such file", "check the file's name"},
		{"empty file", ca.server(good, goodKey, nil), "tls", &TLSOptions{CAFile: empty},
			"holds no certificate in PEM form", "what is in it"},
		{"certificate without key", ca.server(good, goodKey, ca), "tls", &TLSOptions{CAFile: ca.file, CertFile: client},
			"a client certificate needs both", "check the file's name"},
		{"TLS on a plain port", nil, "tls", &TLSOptions{CAFile: ca.file}, "TLS", "usually 8883"},
		{"plain on a TLS port", ca.server(good, goodKey, nil), "tcp", nil, "closed the connection at the login", "one that wants TLS"},
		{"only TLS 1.1", func() *tls.Config {
			c := ca.server(good, goodKey, nil)
			c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
			return c
		}(), "tls", &TLSOptions{CAFile: ca.file}, "no TLS version or cipher in common", "TLS 1.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b *embedded
			if c.server != nil {
				b = tlsBroker(t, c.server, nil)
			} else {
				b = embed(t, "127.0.0.1:0", nil, nil)
			}
			o := (&agent{}).options(t, c.scheme+"://"+b.addr)
			o.TLS = c.tls
			u, _ := start(t, newSpool(t), o)
			if c.reason == "" {
				eventuallyStatus(t, u, online)
				require.Empty(t, u.Status().LastError)
				return
			}
			eventuallyStatus(t, u, func(s Status) bool { return s.LastError != "" })
			s := u.Status()
			require.Contains(t, s.LastError, c.reason)
			require.Contains(t, s.Hint, c.hint)
			require.Zero(t, b.count(), "it must not have logged in")
		})
	}
}

// TestCertificateSwap: a renewed certificate counts from the next session on.
func TestCertificateSwap(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "127.0.0.1", time.Now().Add(time.Hour))
	clientCert, clientKey := ca.issue("client", "first", time.Now().Add(time.Hour))
	var mu sync.Mutex
	var names []string
	b := tlsBroker(t, ca.server(cert, key, ca), func(cl *mochi.Client, _ packets.Packet) bool {
		state := cl.Net.Conn.(*tls.Conn).ConnectionState()
		mu.Lock()
		defer mu.Unlock()
		names = append(names, state.PeerCertificates[0].Subject.CommonName)
		return true
	})
	o := (&agent{}).options(t, "tls://"+b.addr)
	o.TLS = &TLSOptions{CAFile: ca.file, CertFile: clientCert, KeyFile: clientKey}
	u, _ := start(t, newSpool(t), o)
	eventuallyStatus(t, u, online)
	ca.issue("client", "second", time.Now().Add(time.Hour)) // over the same files
	b.kick(t, "lanepost-a-1")
	eventuallyStatus(t, u, func(s Status) bool { return s.State == Online && s.Session == 2 })
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"first", "second"}, names)
}

func TestWebsocketOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("broker", "mqtt.example", time.Now().Add(time.Hour))
	b := embed(t, "127.0.0.1:0", &listeners.Config{Type: listeners.TypeWS, TLSConfig: ca.server(cert, key, nil)}, nil)
	s := newSpool(t)
	record(t, s, event.Urgent, 20, 600)
	o := (&agent{}).options(t, "wss://"+b.addr)
	o.TLS = &TLSOptions{CAFile: ca.file}
	u, stop := start(t, s, o)
	eventuallyStatus(t, u, func(s Status) bool { return strings.Contains(s.LastError, "made out to another name") })
	stop()
	o.TLS.ServerName = "mqtt.example"
	start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	requireEvents(t, b.all(), event.Urgent, 20, 600)
}

// TestSecretsStayOut: no text of a failure holds the password.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	b := newRawBroker(t)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Username = func() (string, error) { return "lane", nil }
	o.Password = func() (string, error) { return "hunter2", nil }
	var log bytes.Buffer
	var mu sync.Mutex
	o.Log = textLog(&mu, &log)
	u, stop := start(t, newSpool(t), o)
	b.accept().connack(4)
	eventuallyStatus(t, u, func(s Status) bool { return s.LastError != "" })
	stop()
	mu.Lock()
	defer mu.Unlock()
	require.NotContains(t, log.String()+u.Status().LastError+u.Status().Hint, "hunter2")
}
