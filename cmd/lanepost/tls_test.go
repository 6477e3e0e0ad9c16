package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// authority is a private certificate authority whose files lie in a directory.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.cert = a.make("ca", template, nil)
	return a
}

// make signs a certificate and writes it and its key.
func (a *authority) make(file string, template *x509.Certificate, by *authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	a.write(file+".pem", "CERTIFICATE", der)
	a.write(file+".key", "PRIVATE KEY", keyDER)
	return key, cert
}

func (a *authority) write(file, kind string, der []byte) {
	require.NoError(a.t, os.WriteFile(a.path(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

func (a *authority) issue(file, name string) {
	a.make(file, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
}

// A broker with a private authority that wants a client certificate and a
// password, reached by nothing but what stands in the configuration.
func TestTLSFromTheConfiguration(t *testing.T) {
	t.Parallel()
	const password = "correct-horse"
	own, foreign := newAuthority(t, "the post"), newAuthority(t, "somebody else")
	own.issue("broker", "broker.test")
	own.issue("lane", "lane-box-1")
	foreign.issue("lane", "lane-box-1")

	secure, open := freePort(t), freePort(t)
	passwords := own.path("passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", passwords, "lane", password).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mosquitto_passwd: %v: %s", err, out)
		}
		t.Skipf("mosquitto_passwd: %v: %s", err, out)
	}
	mosquitto(t, secure,
		"user root", "password_file "+passwords,
		"cafile "+own.path("ca.pem"), "certfile "+own.path("broker.pem"), "keyfile "+own.path("broker.key"), "require_certificate true",
		fmt.Sprintf("listener %d 127.0.0.1", open))

	secret := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(secret, []byte(password+"\n"), 0o600))
	wrong := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(wrong, []byte("wrong-"+password+"\n"), 0o600))

	sim := quietLane(t, 20)
	configured := func(ca, cert, name, password string) string {
		section := fmt.Sprintf("mqtt:\n  brokers: [tls://127.0.0.1:%d]\n  username: lane\n  password_file: %s\n  ca_file: %s\n", secure, password, ca)
		if cert != "" {
			section += fmt.Sprintf("  cert_file: %s.pem\n  key_file: %s.key\n", cert, cert)
		}
		if name != "" {
			section += "  server_name: " + name + "\n"
		}
		return writeConfig(t, devicesOf(sim), section)
	}
	good := configured(own.path("ca.pem"), own.path("lane"), "broker.test", secret)
	text, code := output(t, "check", "--config", good)
	require.Zero(t, code, text)
	require.Regexp(t, `broker +login +ok`, text)

	for _, c := range []struct{ why, path, says string }{
		{"another authority", configured(foreign.path("ca.pem"), own.path("lane"), "broker.test", secret), "unknown authority"},
		{"another name", configured(own.path("ca.pem"), own.path("lane"), "", secret), "127.0.0.1"},
		{"no client certificate", configured(own.path("ca.pem"), "", "broker.test", secret), "certificate"},
		{"a foreign client certificate", configured(own.path("ca.pem"), foreign.path("lane"), "broker.test", secret), "certificate"},
		{"another password", configured(own.path("ca.pem"), own.path("lane"), "broker.test", wrong), "password"},
	} {
		text, code := output(t, "check", "--config", c.path)
		require.Equal(t, 1, code, "%s: %s", c.why, text)
		require.Regexp(t, `broker +(TLS|login) +FAILED .*`, text, c.why)
		require.Contains(t, text, c.says, c.why)
		require.Contains(t, text, "-> ", "%s: no hint", c.why)
		require.NotContains(t, text, password, c.why)
	}

	s := subscribeTo(t, open)
	p := start(t, good)
	first := p.waitFor("lanepost.device.online.v1", 2)
	seq, err := event.ParseSequence(first.Sequence)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.has(first.Priority, seq) }, patience, 10*time.Millisecond)
	p.stop()
	require.NotContains(t, p.log.String(), password)
}
