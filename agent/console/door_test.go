package console

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"github.com/lanepost/lanepost/protocol/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// logText is a log that can be read while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// opened is a console of an agent that says little.
func opened(t *testing.T, s Settings) (*Console, *logText) {
	t.Helper()
	text := &logText{}
	logs := NewLogs(slog.NewTextHandler(text, nil))
	c := Open(Options{
		SpoolDir: t.TempDir(), Door: s, Events: &Events{}, Logs: logs, Log: slog.New(logs.Handler()),
		Status:    func() Status { return Status{Site: "test", At: event.At(time.Now()), Started: event.At(time.Now())} },
		Config:    func(context.Context) (ConfigFile, error) { return ConfigFile{Text: "site: test"}, nil },
		Reload:    func(context.Context) (Reloaded, error) { return Reloaded{Applied: true}, nil },
		Thumbnail: func(string) []byte { return nil },
		Listen:    func(string) (*Listener, error) { return (&Raw{}).Listen() },
	})
	t.Cleanup(c.Close)
	return c, text
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// await waits until the console listens.
func await(t *testing.T, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, patience, 5*time.Millisecond)
}

// certificateFor writes a certificate of its own with its key.
func certificateFor(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
	return certFile, keyFile
}

const password = "cold hands at four"

// writeUsers writes a file of users, whose hashes cost little.
func writeUsers(t *testing.T, file string, names ...string) {
	t.Helper()
	text := "# those of the shift\n\n"
	for _, n := range names {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		require.NoError(t, err)
		text += n + ":" + string(hash) + "\n"
	}
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

// locked is a console behind a login.
func locked(t *testing.T) (c *Console, base string, browser *http.Client, text *logText) {
	t.Helper()
	dir := t.TempDir()
	s := Settings{Listen: freeAddress(t), UsersFile: filepath.Join(dir, "users")}
	s.CertFile, s.KeyFile = certificateFor(t, dir, "first")
	writeUsers(t, s.UsersFile, "anna", "bo")
	c, text = opened(t, s)
	await(t, s.Listen)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	browser = &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, "https://" + s.Listen, browser, text
}

// ask gives the answer with its text.
func ask(t *testing.T, c *http.Client, method, to string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	return do(t, c, r)
}

func do(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	answer, err := c.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer, string(b)
}

func logIn(t *testing.T, c *http.Client, base, name, secret string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/login", strings.NewReader(url.Values{"user": {name}, "password": {secret}}.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, _ := do(t, c, r)
	return answer
}

func TestLogin(t *testing.T) {
	t.Parallel()
	c, base, browser, text := locked(t)
	// Without a login there is the way to it and nothing else.
	answer, _ := ask(t, browser, http.MethodGet, base+"/")
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	require.Equal(t, "/login", answer.Header.Get("Location"))
	answer, body := ask(t, browser, http.MethodGet, base+"/login")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, body, `name="password"`)
	for _, one := range routes {
		answer, body = ask(t, browser, one.method, base+one.path)
		require.Equal(t, http.StatusUnauthorized, answer.StatusCode, one.path)
		require.NotContains(t, body, "test")
	}

	answer = logIn(t, browser, base, "anna", "cold hands at five")
	require.Equal(t, "/login#wrong", answer.Header.Get("Location"))
	require.Empty(t, answer.Cookies())
	answer = logIn(t, browser, base, "nobody", password)
	require.Equal(t, "/login#wrong", answer.Header.Get("Location"), "the password of somebody else is of no use")

	answer = logIn(t, browser, base, "anna", password)
	require.Equal(t, "/", answer.Header.Get("Location"))
	require.Len(t, answer.Cookies(), 1)
	cookie := answer.Cookies()[0]
	require.True(t, cookie.Secure && cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	require.Len(t, cookie.Value, 64)
	answer, body = ask(t, browser, http.MethodGet, base+"/api/v1/status")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, body, `"site":"test"`)
	require.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"))
	require.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'self'")
	require.NotContains(t, answer.Header.Get("Content-Security-Policy"), "unsafe")
	answer, body = ask(t, browser, http.MethodGet, base+"/")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, body, "<title>")
	answer, _ = ask(t, browser, http.MethodGet, base+"/api/v1/raw?device=a/b")
	require.Equal(t, http.StatusForbidden, answer.StatusCode, "raw bytes are for the box")

	// Another site can't have the configuration reloaded, by a form or otherwise.
	for _, headers := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		answer, _ = ask(t, browser, http.MethodPost, base+"/api/v1/reload", headers...)
		require.Equal(t, http.StatusForbidden, answer.StatusCode, headers)
	}
	answer, _ = ask(t, browser, http.MethodPost, base+"/api/v1/reload", "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusOK, answer.StatusCode)

	// Who is taken out of the file is out at the next reload.
	c.mu.Lock()
	s := c.wanted
	c.mu.Unlock()
	writeUsers(t, s.UsersFile, "bo")
	c.Follow(s)
	answer, _ = ask(t, browser, http.MethodGet, base+"/api/v1/status")
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	answer = logIn(t, browser, base, "bo", password)
	require.Equal(t, "/", answer.Header.Get("Location"))
	answer, _ = ask(t, browser, http.MethodPost, base+"/logout")
	require.Equal(t, "/login", answer.Header.Get("Location"))
	require.Negative(t, answer.Cookies()[0].MaxAge)
	answer, _ = ask(t, browser, http.MethodGet, base+"/api/v1/status", "Cookie", cookieName+"="+cookie.Value)
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)

	require.Contains(t, text.String(), "somebody has logged in")
	require.NotContains(t, text.String(), password)
}

// From one address five logins may fail in a minute, whatever the names; then the right
// password does not help either, and bcrypt is not asked.
func TestLoginsAreCounted(t *testing.T) {
	t.Parallel()
	now := time.Now()
	asked := 0
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	l := newLogins(func() ([]user, error) { asked++; return []user{{"anna", hash}}, nil })
	l.now = func() time.Time { return now }
	one, other := addressOf("192.0.2.1:50000"), addressOf("192.0.2.2:50000")
	for i := range failuresOfOne {
		_, err := l.login(one, fmt.Sprint("name", i), "wrong")
		require.ErrorIs(t, err, errWrong)
	}
	_, err = l.login(one, "anna", password)
	require.ErrorIs(t, err, errTooFast)
	made, err := l.login(other, "anna", password)
	require.NoError(t, err, "another address is none the worse for it")
	for range 20 {
		_, err = l.login(other, "anna", password)
		require.NoError(t, err, "what succeeds does not count")
	}
	now = now.Add(failureWindow)
	_, err = l.login(one, "anna", password)
	require.NoError(t, err)

	// In total fifty.
	failed := 0
	for i := range 200 {
		_, err := l.login(addressOf(fmt.Sprintf("198.51.100.%d:1", i)), "anna", "wrong")
		if err == errWrong {
			failed++
		}
	}
	require.Equal(t, failuresOfAll, failed)
	require.LessOrEqual(t, len(l.failures), maxAddresses)
	require.Equal(t, addressOf("[2001:db8::1]:1"), addressOf("[2001:db8::ffff:2]:2"), "one customer's network")

	// A session ends when it is not used, and in any case.
	require.True(t, l.session(made, true))
	now = now.Add(sessionIdle - time.Second)
	require.True(t, l.session(made, false))
	now = now.Add(time.Second)
	require.False(t, l.session(made, false), "to look whether it goes on is not to use it")
	now = now.Add(failureWindow)
	made, err = l.login(one, "anna", password)
	require.NoError(t, err)
	for range int(sessionLife/(sessionIdle/2)) - 1 {
		now = now.Add(sessionIdle / 2)
		require.True(t, l.session(made, true))
	}
	now = now.Add(sessionIdle / 2)
	require.False(t, l.session(made, true))
	for range maxSessions + 5 {
		_, err = l.login(one, "anna", password)
		require.NoError(t, err)
	}
	require.Len(t, l.sessions, maxSessions)
	require.False(t, l.session("zz", true))
	require.False(t, l.session("", true))
}

// For a name that nobody has bcrypt is asked as for one that somebody has: once, with a
// hash of the file. Even the password of that hash lets nobody in.
func TestUnknownUserTakesAsLong(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	l := newLogins(func() ([]user, error) { return []user{{"anna", hash}}, nil })
	var asked []string
	l.compare = func(hash, password []byte) error {
		asked = append(asked, string(hash))
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	from := addressOf("192.0.2.1:1")
	for _, one := range [][2]string{{"anna", "wrong"}, {"nobody", "wrong"}, {"nobody", password}, {"", strings.Repeat("x", MaxPassword+1)}} {
		asked = nil
		_, err := l.check(from, one[0], one[1])
		require.ErrorIs(t, err, errWrong)
		require.Equal(t, []string{string(hash)}, asked, one[0])
	}
}

// On this box nobody need log in, and no page from elsewhere gets in by a name that was
// made to lead here.
func TestLoopback(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	opened(t, Settings{Listen: address})
	await(t, address)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	base := "http://" + address
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	for _, host := range []string{address, "localhost:" + port, "localhost", "[::1]:8080", "127.0.0.1", "LOCALHOST:1"} {
		answer, body := ask(t, client, http.MethodGet, base+"/api/v1/status", "Host", host)
		require.Equal(t, http.StatusOK, answer.StatusCode, host)
		require.Contains(t, body, "test")
	}
	for _, host := range []string{"evil.example", "evil.example:" + port, "10.0.0.1:" + port, "localhost.evil.example", "127.0.0.1.evil.example"} {
		answer, body := ask(t, client, http.MethodGet, base+"/api/v1/status", "Host", host)
		require.Equal(t, http.StatusMisdirectedRequest, answer.StatusCode, host)
		require.NotContains(t, body, `"site"`)
	}
	answer, _ := ask(t, client, http.MethodPost, base+"/api/v1/reload", "Origin", "http://evil.example")
	require.Equal(t, http.StatusForbidden, answer.StatusCode)
	answer, _ = ask(t, client, http.MethodPost, base+"/api/v1/reload")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	answer, body := ask(t, client, http.MethodGet, base+"/metrics")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Contains(t, body, "lanepost_build_info{")
	answer, _ = ask(t, client, http.MethodGet, base+"/login")
	require.Equal(t, "/", answer.Request.URL.Path, "there is nothing to log in to")
	for _, name := range []string{"/nope", "/../console.go", "/packed/index.html.gz", "/index.html.gz", "/.."} {
		answer, _ = ask(t, client, http.MethodGet, base+name)
		require.Equal(t, http.StatusNotFound, answer.StatusCode, name)
	}
	answer, body = ask(t, client, http.MethodGet, base+"/style.css", "Accept-Encoding", "identity")
	require.Equal(t, "text/css; charset=utf-8", answer.Header.Get("Content-Type"))
	source, err := os.ReadFile("page/style.css")
	require.NoError(t, err)
	require.Equal(t, string(source), body)
	answer, _ = ask(t, client, http.MethodGet, base+"/style.css", "If-None-Match", answer.Header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, answer.StatusCode)
}

// A program that collects metrics logs in with each request.
func TestMetricsBehindLogin(t *testing.T) {
	t.Parallel()
	_, base, browser, _ := locked(t)
	get := func(name, secret string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", nil)
		require.NoError(t, err)
		if name != "" {
			r.SetBasicAuth(name, secret)
		}
		answer, _ := do(t, browser, r)
		return answer
	}
	answer := get("", "")
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	require.Contains(t, answer.Header.Get("WWW-Authenticate"), "Basic")
	for range 2 * failuresOfOne { // what is right does not count as failed
		require.Equal(t, http.StatusOK, get("anna", password).StatusCode)
	}
	for range failuresOfOne {
		require.Equal(t, http.StatusUnauthorized, get("anna", "wrong").StatusCode)
	}
	require.Equal(t, http.StatusTooManyRequests, get("bo", password).StatusCode)
	require.Equal(t, http.StatusOK, get("anna", password).StatusCode, "it is known to be right without being checked anew")
	// No other path is open to it.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/api/v1/status", nil)
	require.NoError(t, err)
	r.SetBasicAuth("anna", password)
	answer, _ = do(t, browser, r)
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
}

// A renewed certificate is taken up, one that is half written is not.
func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	c, base, _, text := locked(t)
	shown := func() string {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(base, "https://"), &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	require.Equal(t, "first", shown())
	c.mu.Lock()
	d := c.door
	c.mu.Unlock()
	before, err := os.ReadFile(d.settings.CertFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.settings.CertFile, before[:len(before)/2], 0o600))
	d.renew()
	require.Equal(t, "first", shown())
	require.Contains(t, text.String(), "the old certificate goes on")
	certificateFor(t, filepath.Dir(d.settings.CertFile), "second")
	d.renew()
	require.Equal(t, "second", shown())
}

// An address that is in use is no problem if nobody asked for it, and one that is told if
// somebody did. When it is free, it is taken; when it is turned off, it is left.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	address := taken.Addr().String()
	c, text := opened(t, Settings{Listen: address, Default: true})
	require.Eventually(t, func() bool { return strings.Contains(text.String(), "another program listens on "+address) }, patience, time.Millisecond)
	require.Empty(t, c.Problems())
	c.Follow(Settings{Listen: address})
	require.Eventually(t, func() bool { return len(c.Problems()) == 1 }, patience, time.Millisecond)
	require.Contains(t, c.Problems()[0].What, address)
	require.NoError(t, taken.Close())
	c.Follow(Settings{Listen: address}) // or after doorRetry
	await(t, address)
	require.Eventually(t, func() bool { return len(c.Problems()) == 0 }, patience, time.Millisecond)
	c.Follow(Settings{})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, patience, time.Millisecond)
}

func TestUsers(t *testing.T) {
	t.Parallel()
	line, err := UserLine("anna", password)
	require.NoError(t, err)
	list, err := parseUsers([]byte("\n# shift\n  " + line + "  \r\n"))
	require.NoError(t, err)
	require.Equal(t, "anna", list[0].name)
	require.NoError(t, bcrypt.CompareHashAndPassword(list[0].hash, []byte(password)))
	for text, want := range map[string]string{
		"":                                  "there is no user in it",
		"hunter2":                           "line 1 is not a name and a hash",
		"\nanna:hunter2":                    "line 2: what stands behind anna is no bcrypt hash",
		line + "\n" + line:                  "line 2: anna is there twice",
		"a b:" + line[5:]:                   "line 1 is not a name and a hash",
		"anna:$2a$15$" + line[5+7:]:         "has the cost 15",
		strings.Repeat("#", MaxUsersFile+1): "more than 16384 bytes",
	} {
		_, err := parseUsers([]byte(text))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
		require.Contains(t, err.Error(), "; ", "the mend")
	}
	for _, wrong := range [][2]string{{"a:b", password}, {"", password}, {"anna", "short"}, {"anna", strings.Repeat("long", 19)}} {
		_, err := UserLine(wrong[0], wrong[1])
		require.Error(t, err)
	}
}

func FuzzUsers(f *testing.F) {
	f.Add([]byte("anna:$2a$10$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n#\n"))
	f.Add([]byte(":\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseUsers(b)
		if err == nil && (len(list) == 0 || len(list) > maxUsers) {
			t.Fatalf("%d users", len(list))
		}
	})
}

// The packed files are those of the page.
func TestPageIsPacked(t *testing.T) {
	t.Parallel()
	sources, err := os.ReadDir("page")
	require.NoError(t, err)
	inside, err := packed.ReadDir("packed")
	require.NoError(t, err)
	require.Len(t, inside, len(sources), "run make generate")
	for _, f := range sources {
		source, err := os.ReadFile(filepath.Join("page", f.Name()))
		require.NoError(t, err)
		w := &answered{header: http.Header{}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/"+f.Name(), nil)
		require.NoError(t, err)
		require.True(t, page(w, r), "%s: run make generate; its ending must be in mediaTypes", f.Name())
		require.Equal(t, string(source), w.b.String(), "%s: run make generate", f.Name())
	}
}

type answered struct {
	header http.Header
	code   int
	b      bytes.Buffer
}

func (a *answered) Header() http.Header         { return a.header }
func (a *answered) WriteHeader(code int)        { a.code = code }
func (a *answered) Write(b []byte) (int, error) { return a.b.Write(b) }
