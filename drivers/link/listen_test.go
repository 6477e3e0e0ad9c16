package link

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const secretPath = "/hik/Zm9vYmFyYmF6cXV4"

func openInbox(t *testing.T, connect string) *Inbox {
	t.Helper()
	e, err := Parse(connect, nil)
	require.NoError(t, err)
	conn, err := e.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	i, ok := As[*Inbox](conn)
	require.True(t, ok)
	return i
}

// freePort is a port that nobody listens on; two inboxes can share it.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func post(t *testing.T, url, contentType, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, contentType, strings.NewReader(body)) //nolint:gosec // loopback
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// echoAll answers every request with what it got.
func echoAll(i *Inbox, done chan<- struct{}) {
	for {
		d, err := i.Next(context.Background())
		if err != nil {
			close(done)
			return
		}
		d.Reply(http.StatusOK, "text/plain", fmt.Appendf(nil, "%s|%s|%s|%s", d.Method, d.Path, d.Query.Get("q"), d.Body))
		d.Reply(http.StatusTeapot, "", nil) // a second answer is none
	}
}

func TestInbox(t *testing.T) {
	address := freePort(t)
	one := openInbox(t, "http-listen://"+address+secretPath)
	two := openInbox(t, "http-listen://"+address+secretPath+"/two")
	done := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	go echoAll(one, done[0])
	go echoAll(two, done[1])
	status, body := post(t, "http://"+address+secretPath+"/NotificationInfo/KeepAlive?q=1", "text/plain", "hello")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "POST|/NotificationInfo/KeepAlive|1|hello", body)
	status, body = post(t, "http://"+address+secretPath+"/two/", "text/plain", "x")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "POST|||x", body)
	for _, path := range []string{"/", "/hik", secretPath + "x", "/other"} {
		status, _ = post(t, "http://"+address+path, "text/plain", "x")
		require.Equal(t, http.StatusNotFound, status, path)
	}
	// Who is gone is asked to come again; the other goes on.
	require.NoError(t, two.Close())
	<-done[1]
	status, body = post(t, "http://"+address+secretPath+"/two", "text/plain", "x")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "POST|/two||x", body, "it is below the path of the first")
	require.NoError(t, one.Close())
	<-done[0]
	_, err := net.Dial("tcp", address)
	require.Error(t, err, "nobody listens any more")
}

// A request is answered only after the driver has answered; one that it does not
// answer gets a 503 and comes again.
func TestInboxAnswersLast(t *testing.T) {
	address := freePort(t)
	i := openInbox(t, "http-listen://"+address+secretPath)
	got := make(chan int, 1)
	go func() {
		status, _ := post(t, "http://"+address+secretPath, "text/plain", "x")
		got <- status
	}()
	d, err := i.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", d.Remote.String())
	select {
	case <-got:
		t.Fatal("answered before the driver did")
	default:
	}
	require.NoError(t, i.Close())
	require.Equal(t, http.StatusServiceUnavailable, <-got)
	d.Reply(http.StatusOK, "", nil) // too late, and harmless
}

func TestInboxWakes(t *testing.T) {
	i := openInbox(t, "http-listen://127.0.0.1:0"+secretPath)
	require.NoError(t, i.SetReadDeadline(time.Unix(1, 0)))
	_, err := i.Next(t.Context())
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i = openInbox(t, "http-listen://127.0.0.1:0"+secretPath+"/two")
	_, err = i.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, err = i.Read(nil)
	require.ErrorContains(t, err, "do not fit")
}

// A camera that posts to another lane's path is refused and told.
func TestInboxSources(t *testing.T) {
	address := freePort(t)
	right := openInbox(t, "http-listen://"+address+"/a?allow=127.0.0.1")
	right.SetOwner("entry-4/anpr-1")
	wrong := openInbox(t, "http-listen://"+address+"/b?allow=10.0.3.0/24,10.0.4.7")
	wrong.SetOwner("entry-3/anpr-1")
	status, _ := post(t, "http://"+address+"/b", "text/plain", "x")
	require.Equal(t, http.StatusForbidden, status)
	list, more := wrong.Refusals()
	require.Zero(t, more)
	require.Len(t, list, 1)
	require.Equal(t, "127.0.0.1", list[0].Remote.String())
	require.Equal(t, "wrong_source", list[0].Reason)
	require.Equal(t, "entry-4/anpr-1", list[0].Belongs)
	list, _ = wrong.Refusals()
	require.Empty(t, list)
	for range maxRefusals + 3 {
		post(t, "http://"+address+"/b", "text/plain", "x")
	}
	list, more = wrong.Refusals()
	require.Len(t, list, maxRefusals)
	require.Equal(t, 3, more)
}

func TestInboxBounds(t *testing.T) {
	address := freePort(t)
	i := openInbox(t, "http-listen://"+address+secretPath+"?max_body=1024")
	done := make(chan struct{})
	go echoAll(i, done)
	status, _ := post(t, "http://"+address+secretPath, "text/plain", strings.Repeat("x", 1024))
	require.Equal(t, http.StatusOK, status)
	status, _ = post(t, "http://"+address+secretPath, "text/plain", strings.Repeat("x", 1025))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	// Without a length, the same.
	resp, err := http.Post("http://"+address+secretPath, "text/plain", io.MultiReader(bytes.NewReader(make([]byte, 800)), bytes.NewReader(make([]byte, 800)))) //nolint:gosec // loopback
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	list, _ := i.Refusals()
	require.Len(t, list, 2)
	require.Equal(t, "too_large", list[0].Reason)
	// One address can't keep the server busy.
	limited := 0
	for range 2 * pushBurst {
		if status, _ := post(t, "http://"+address+secretPath, "text/plain", "x"); status == http.StatusTooManyRequests {
			limited++
		}
	}
	require.Positive(t, limited)
}

// certificate writes a certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certificate, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certificate))
	return certFile, keyFile, pool
}

func TestInboxTLS(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	address := freePort(t)
	connect := "http-listen://" + address + secretPath + "?cert_file=" + certFile + "&key_file=" + keyFile
	i := openInbox(t, connect)
	done := make(chan struct{})
	go echoAll(i, done)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("https://"+address+secretPath, "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	for connect, want := range map[string]string{
		"http-listen://" + address + secretPath + "/other": "with another certificate",
		connect: "another device has the path",
	} {
		e, err := Parse(connect, nil)
		require.NoError(t, err)
		_, err = e.Open(t.Context())
		require.ErrorContains(t, err, want)
	}
}

func TestParseListeners(t *testing.T) {
	for connect, want := range map[string]string{
		"http-listen://0.0.0.0:8080" + secretPath + "/":                 "http-listen://0.0.0.0:8080" + secretPath,
		"http-listen://[::1]:8080/?allow=10.0.3.31/32,10.0.3.77/24":     "http-listen://[::1]:8080/?allow=10.0.3.31,10.0.3.0/24",
		"http-listen://0.0.0.0:8080" + secretPath + "?max_body=1048576": "http-listen://0.0.0.0:8080" + secretPath + "?max_body=1048576",
		"tcp-listen://0.0.0.0:5000?allow=10.0.3.31":                     "tcp-listen://0.0.0.0:5000?allow=10.0.3.31",
		"tcp-listen://127.0.0.1:5000":                                   "tcp-listen://127.0.0.1:5000",
	} {
		e, err := Parse(connect, nil)
		require.NoError(t, err, connect)
		require.Equal(t, want, e.String())
	}
	for connect, want := range map[string]string{
		"http-listen://0.0.0.0:8080/lane2":                        "anybody could guess the path",
		"http-listen://0.0.0.0" + secretPath:                      "needs the port",
		"http-listen://camera:8080" + secretPath:                  "no address of this machine",
		"http-listen://0.0.0.0:8080/a%2e%2e/b?allow=10.0.3.31":    "no path for a device",
		"http-listen://0.0.0.0:8080/a/../b?allow=10.0.3.31":       "no path for a device",
		"http-listen://0.0.0.0:8080/a?allow=camera":               "not a list of IP addresses",
		"http-listen://0.0.0.0:8080/a?allow=10.0.0.1&cert_file=x": "belong together",
		"tcp-listen://0.0.0.0:5000":                               "anybody could connect",
		"tcp-listen://0.0.0.0:5000/x?allow=10.0.0.1":              "has no path",
	} {
		_, err := Parse(connect, nil)
		require.ErrorContains(t, err, want, connect)
	}
}

func TestAcceptor(t *testing.T) {
	e, err := Parse("tcp-listen://127.0.0.1:0", nil)
	require.NoError(t, err)
	conn, err := e.Open(t.Context())
	require.NoError(t, err)
	a, ok := As[*Acceptor](conn)
	require.True(t, ok)
	defer a.Close()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", a.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	client := dial()
	server, err := a.Accept(t.Context())
	require.NoError(t, err)
	_, err = client.Write([]byte("hello"))
	require.NoError(t, err)
	b := make([]byte, 16)
	n, err := server.Read(b)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b[:n]))
	// One instrument does not make more connections than a few.
	for range maxAccepted {
		dial()
	}
	for range maxAccepted - 1 {
		_, err := a.Accept(t.Context())
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = a.Accept(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	list, _ := a.Refusals()
	require.Len(t, list, 1)
	require.Equal(t, "too_many", list[0].Reason)
	// The agent's wake reaches every connection.
	require.NoError(t, a.SetReadDeadline(time.Unix(1, 0)))
	_, err = server.Read(b)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, server.SetReadDeadline(time.Time{}))
	_, err = server.Read(b)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "for good")
	require.NoError(t, a.Close())
	_, err = a.Accept(t.Context())
	require.ErrorIs(t, err, ErrClosed)
}
