package link

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/digest"
)

// passwordFile holds a password of these tests.
func passwordFile(t *testing.T, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte(password+"\n"), 0o600))
	return path
}

// digestCamera is a camera that wants a Digest login.
type digestCamera struct {
	password  string
	nonce     atomic.Pointer[string]
	logins    atomic.Int32 // answers to a challenge
	wrong     atomic.Int32
	challenge func(nonce string, stale bool) []string
	serve     http.HandlerFunc
}

func (c *digestCamera) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nonce := *c.nonce.Load()
	refuse := func(stale bool) {
		for _, v := range c.challenge(nonce, stale) {
			w.Header().Add("WWW-Authenticate", v)
		}
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "<userCheck><lockStatus>lock</lockStatus></userCheck>")
	}
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		refuse(false)
		return
	}
	c.logins.Add(1)
	field := func(name string) string {
		_, after, _ := strings.Cut(authorization, name+"=")
		after = strings.TrimPrefix(after, `"`)
		return after[:strings.IndexAny(after+`"`, `",`)]
	}
	if field("nonce") != nonce {
		refuse(true)
		return
	}
	var count uint32
	_, err := fmt.Sscanf(field("nc"), "%x", &count)
	ch := digest.Challenge{Realm: "IP Camera(C2183)", Nonce: nonce, Auth: true}
	want, err2 := ch.Response("lane", c.password, r.Method, r.RequestURI, field("cnonce"), count)
	if err != nil || err2 != nil || field("response") != want || field("uri") != r.RequestURI {
		c.wrong.Add(1)
		refuse(false)
		return
	}
	c.serve(w, r)
}

func startDigestCamera(t *testing.T, serve http.HandlerFunc) (*digestCamera, string) {
	t.Helper()
	c := &digestCamera{password: "hunter2", serve: serve, challenge: func(nonce string, stale bool) []string {
		word := "FALSE"
		if stale {
			word = "TRUE"
		}
		return []string{fmt.Sprintf(`Digest qop="auth", realm="IP Camera(C2183)", nonce="%s", stale="%s"`, nonce, word), `Basic realm="x"`}
	}}
	first := "4e6f6e6365"
	c.nonce.Store(&first)
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return c, s.URL
}

func openClient(t *testing.T, connect string) *Client {
	t.Helper()
	e, err := Parse(connect, nil)
	require.NoError(t, err)
	conn, err := e.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	c, ok := As[*Client](conn)
	require.True(t, ok)
	return c
}

func TestClientDigest(t *testing.T) {
	var targets []string
	camera, base := startDigestCamera(t, func(w http.ResponseWriter, r *http.Request) {
		targets = append(targets, r.Method+" "+r.RequestURI)
		fmt.Fprint(w, "ok")
	})
	c := openClient(t, base+"?username=lane&password_file="+passwordFile(t, "hunter2"))
	ask := func(target string) {
		resp, err := c.Get(t.Context(), target)
		require.NoError(t, err)
		require.NoError(t, StatusError(resp))
		b, err := ReadBody(resp, 10)
		require.NoError(t, err)
		require.Equal(t, "ok", string(b))
	}
	// Brackets go out as they are: some firmware takes no others.
	ask("/cgi-bin/snapManager.cgi?action=attachFileProc&Flags[0]=Event&Events=[TrafficJunction]")
	ask("/b")
	require.EqualValues(t, 2, camera.logins.Load(), "the nonce is used again")
	// A stale nonce is no rejected password.
	next := "6e657874"
	camera.nonce.Store(&next)
	ask("/c")
	require.EqualValues(t, 4, camera.logins.Load())
	require.Zero(t, camera.wrong.Load())
	require.Equal(t, []string{"GET /cgi-bin/snapManager.cgi?action=attachFileProc&Flags[0]=Event&Events=[TrafficJunction]", "GET /b", "GET /c"}, targets)
	resp, err := c.Post(t.Context(), "/d", "text/xml", []byte("<AfterTime/>"))
	require.NoError(t, err)
	_, err = ReadBody(resp, 1)
	require.ErrorContains(t, err, "more than 1 bytes")
}

// A rejected password is sent once, over all connections, and the error says when
// it will be tried again.
func TestClientRejectedPassword(t *testing.T) {
	camera, base := startDigestCamera(t, func(http.ResponseWriter, *http.Request) {})
	e, err := Parse(base+"?username=lane&password_file="+passwordFile(t, "wrong-one"), nil)
	require.NoError(t, err)
	conn, err := e.Open(t.Context())
	require.NoError(t, err)
	_, err = conn.(*Client).Get(t.Context(), "/a")
	var later *RetryError
	require.ErrorAs(t, err, &later)
	require.ErrorIs(t, err, ErrLogin)
	require.Greater(t, time.Until(later.Until), 9*time.Minute)
	require.ErrorContains(t, err, "does not take the user name and password, and has locked this address out for a while; next try at ")
	require.NotContains(t, err.Error(), "wrong-one")
	require.Contains(t, Hint(err), "password")
	_, err = conn.(*Client).Get(t.Context(), "/b")
	require.ErrorIs(t, err, ErrLogin)
	require.NoError(t, conn.Close())
	_, err = e.Open(t.Context())
	require.ErrorIs(t, err, ErrLogin)
	require.EqualValues(t, 1, camera.logins.Load())
}

func TestClientLoginThatCannotBe(t *testing.T) {
	camera, base := startDigestCamera(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		options   string
		challenge []string
		want      string
	}{
		{"", nil, "wants a login and none is configured"},
		{"?username=lane&password_env=LANEPOST_TEST_NONE", nil, "LANEPOST_TEST_NONE is not set"},
		{"?username=lane&password_file=/nonexistent/password", nil, "password_file"},
		{"?username=lane&password_file=" + passwordFile(t, "x"), []string{`Basic realm="x"`}, "set auth=basic"},
		{"?username=lane&password_file=" + passwordFile(t, "x"), []string{`Digest realm="" qop="auth-int"`}, "can't be answered"},
		{"?username=lane&auth=basic&password_file=" + passwordFile(t, "x"), []string{`Basic realm="x"`}, "does not take"},
	} {
		if c.challenge != nil {
			camera.challenge = func(string, bool) []string { return c.challenge }
		}
		client := openClient(t, base+c.options)
		_, err := client.Get(t.Context(), "/")
		require.ErrorContains(t, err, c.want)
	}
}

func TestClientRetryAfter(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", r.URL.Query().Get("after"))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer s.Close()
	c := openClient(t, s.URL)
	_, err := c.Get(t.Context(), "/?after=90")
	var later *RetryError
	require.ErrorAs(t, err, &later)
	require.InDelta(t, 90, time.Until(later.Until).Seconds(), 5)
	_, err = c.Get(t.Context(), "/?after=999999")
	require.ErrorAs(t, err, &later)
	require.LessOrEqual(t, time.Until(later.Until), maxRetryAfter)
	resp, err := c.Get(t.Context(), "/?after=soon")
	require.NoError(t, err)
	require.ErrorContains(t, StatusError(resp), "status 503 (Service Unavailable)")
	require.NoError(t, resp.Body.Close())
}

// A client asks its own host only, and what is no path is no request.
func TestClientStaysAtItsHost(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer s.Close()
	c := openClient(t, s.URL)
	resp, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.Equal(t, http.StatusFound, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
	for _, target := range []string{"", "x", "//evil/x", elsewhere.URL, "/a b", "/a\r\nX: y", "/\xff"} {
		_, err := c.Get(t.Context(), target)
		require.ErrorContains(t, err, "is no path", target)
	}
}

// Stopping a device ends a stream that says nothing.
func TestClientWakes(t *testing.T) {
	for name, stop := range map[string]func(c *Client, cancel context.CancelFunc) error{
		"deadline": func(c *Client, _ context.CancelFunc) error {
			_ = c.SetReadDeadline(time.Unix(1, 0))
			return os.ErrDeadlineExceeded
		},
		"close":   func(c *Client, _ context.CancelFunc) error { _ = c.Close(); return ErrClosed },
		"context": func(_ *Client, cancel context.CancelFunc) error { cancel(); return context.Canceled },
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "one")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			defer s.Close()
			c := openClient(t, s.URL)
			var counted atomic.Int64
			c.CountBytes(func(n int) { counted.Add(int64(n)) })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := c.Get(ctx, "/")
			require.NoError(t, err)
			b := make([]byte, 3)
			_, err = io.ReadFull(resp.Body, b)
			require.NoError(t, err)
			want := stop(c, cancel)
			_, err = resp.Body.Read(b)
			require.ErrorIs(t, err, want)
			require.NoError(t, resp.Body.Close())
			require.EqualValues(t, 3, counted.Load())
			if name != "context" {
				_, err = c.Get(t.Context(), "/")
				require.ErrorIs(t, err, want)
			}
		})
	}
}

func TestClientLosesTheDevice(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			fmt.Fprint(w, "one")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}))
	c := openClient(t, s.URL)
	_, err := c.Get(t.Context(), "/")
	require.ErrorIs(t, err, ErrUnplugged)
	resp, err := c.Get(t.Context(), "/stream")
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, ErrUnplugged)
	require.NoError(t, resp.Body.Close())
	s.Close()
	_, err = c.Get(t.Context(), "/")
	require.ErrorContains(t, err, "connection refused")
	require.Contains(t, Hint(err), "takes no connection")
}

func TestClientCertificate(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	defer s.Close()
	sum := sha256.Sum256(s.Certificate().Raw)
	pin := strings.ToUpper(hex.EncodeToString(sum[:]))
	c := openClient(t, s.URL+"?pin="+pin[:2]+":"+pin[2:])
	resp, err := c.Get(t.Context(), "/")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())

	c = openClient(t, s.URL+"?pin="+strings.Repeat("00", 32))
	_, err = c.Get(t.Context(), "/")
	require.ErrorContains(t, err, "another certificate than the pinned one, with the fingerprint "+strings.ToLower(pin))
	c = openClient(t, s.URL)
	_, err = c.Get(t.Context(), "/")
	require.Error(t, err, "a certificate that nobody vouches for")
	require.Contains(t, Hint(err), "pin=")
	require.False(t, errors.Is(err, ErrUnplugged))
}

func TestParseHTTP(t *testing.T) {
	for connect, want := range map[string]string{
		"http://10.0.3.31":       "http://10.0.3.31",
		"http://10.0.3.31:80":    "http://10.0.3.31",
		"http://10.0.3.31:8080/": "http://10.0.3.31:8080",
		"https://cam.lane:8443?pin=" + strings.Repeat("ab", 32):                                                                          "https://cam.lane:8443?pin=" + strings.Repeat("ab", 32),
		"http://10.0.3.31?username=lane&password_file=/etc/lanepost/cam&auth=basic&login_pause=30m&connect_timeout=3s&answer_timeout=4s": "http://10.0.3.31?username=lane&password_file=%2Fetc%2Flanepost%2Fcam&auth=basic&login_pause=30m0s&connect_timeout=3s&answer_timeout=4s",
	} {
		e, err := Parse(connect, nil)
		require.NoError(t, err, connect)
		require.Equal(t, want, e.String())
		again, err := Parse(e.String(), nil)
		require.NoError(t, err, want)
		require.Equal(t, want, again.String())
	}
	for connect, want := range map[string]string{
		"http:10.0.3.31":                                              "two slashes",
		"http://10.0.3.31/ISAPI":                                      "comes from the profile",
		"http://lane:pw@10.0.3.31":                                    "takes no user name or password",
		"http://10.0.3.31?username=lane":                              "no password",
		"http://10.0.3.31?password_env=X":                             "without a user name",
		"http://10.0.3.31?username=a&password_env=X&password_file=b":  "both set",
		"http://10.0.3.31?auth=ntlm":                                  "none of digest or basic",
		"http://10.0.3.31?login_pause=1s":                             "not a duration from",
		"https://10.0.3.31?pin=abcd":                                  "64 hexadecimal digits",
		"https://10.0.3.31?ca_file=x&pin=" + strings.Repeat("ab", 32): "both set",
		"http://10.0.3.31?pin=" + strings.Repeat("ab", 32):            "no option",
	} {
		_, err := Parse(connect, nil)
		require.ErrorContains(t, err, want, connect)
	}
}
