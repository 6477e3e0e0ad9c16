package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// What an HTTP link does unless its URL or profile says otherwise.
const (
	// defaultAnswerTimeout bounds the wait for the head of an answer. The body of
	// a stream has no end; the agent's watch for silence is for that.
	defaultAnswerTimeout = 15 * time.Second
	// defaultLoginPause is how long a rejected password is not tried again.
	// Cameras lock an address out after a handful of wrong logins.
	defaultLoginPause = 10 * time.Minute
	// maxRetryAfter bounds what a device may ask for with Retry-After.
	maxRetryAfter = 10 * time.Minute
	// maxAnswerHead bounds the head of an answer in bytes.
	maxAnswerHead = 64 << 10
	// maxDrained is how much of a body that nobody wants is read, so that the
	// connection can be used again: some cameras take one connection only.
	maxDrained = 64 << 10
	// maxSecretFile bounds a file with a password, in bytes.
	maxSecretFile = 4096
)

// Client is a link to an instrument that answers HTTP requests, a camera for
// instance. It asks only the host of its URL and follows no redirect. Of the methods that
// change something at an instrument it knows POST, which some want for a question
// with a body, and PUT, which some want to renew a subscription.
//
// It answers a Digest challenge. A password that was rejected is sent once, and
// then not again for a long time, over all connections.
type Client struct {
	meter
	*ending
	endpoint *httpEndpoint
	base     url.URL
	http     *http.Client
	clock    webClock
}

// ClientOver makes a client whose requests go to rt, for tests and scripts. It
// has no login.
func ClientOver(rt http.RoundTripper) *Client {
	e := &httpEndpoint{scheme: "http", host: "device.invalid", port: 80}
	return e.client(rt)
}

func (e *httpEndpoint) client(rt http.RoundTripper) *Client {
	c := &Client{endpoint: e, ending: newEnding(), base: url.URL{Scheme: e.scheme, Host: e.address(), Path: "/"}}
	c.http = &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Get asks for target, a path with a query that is sent byte for byte: some
// firmware takes brackets only as they are. The answer may have any status but
// 401; the caller closes its body. Reading the body ends when ctx does.
func (c *Client) Get(ctx context.Context, target string) (*http.Response, error) {
	return c.do(ctx, http.MethodGet, target, "", nil)
}

// Post asks with a body, as Get does.
func (c *Client) Post(ctx context.Context, target, contentType string, body []byte) (*http.Response, error) {
	return c.do(ctx, http.MethodPost, target, contentType, body)
}

// Put renews what a Post has made, as Get asks.
func (c *Client) Put(ctx context.Context, target, contentType string, body []byte) (*http.Response, error) {
	return c.do(ctx, http.MethodPut, target, contentType, body)
}

func (c *Client) do(ctx context.Context, method, target, contentType string, body []byte) (*http.Response, error) {
	if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") || strings.IndexFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f || r > 0x7e }) >= 0 {
		return nil, fmt.Errorf("ask %s: %q is no path to ask for", c.endpoint.place(), echo(target))
	}
	authorize, err := c.endpoint.login.begin()
	if err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		authorization, err := authorize(method, target)
		if err != nil {
			return nil, fmt.Errorf("log in at %s: %w", c.endpoint.place(), err)
		}
		resp, err := c.once(ctx, method, target, contentType, body, authorization)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			if authorization != "" {
				c.endpoint.login.accepted()
			}
			return resp, c.endpoint.later(resp)
		}
		// The challenge is answered on the same connection.
		said := drain(resp.Body)
		if err := c.endpoint.login.challenged(c.endpoint, resp.Header, authorization != "", attempt, said); err != nil {
			return nil, err
		}
	}
}

func (c *Client) once(ctx context.Context, method, target, contentType string, body []byte, authorization string) (*http.Response, error) {
	if over := context.Cause(c.over); over != nil { // what follows would hear of it a moment later
		return nil, c.endpoint.failed(over)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.over, func() { cancel(context.Cause(c.over)) })
	end := func() { stop(); cancel(nil) }
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.String(), content)
	if err != nil {
		end()
		return nil, fmt.Errorf("ask %s: %w", c.endpoint.place(), err)
	}
	req.URL.Opaque = target // sent as it stands
	req.Header.Set("User-Agent", "lanepost")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		cause := context.Cause(ctx)
		end()
		if cause != nil {
			err = cause
		}
		return nil, c.endpoint.failed(err)
	}
	c.clock.answered(resp.Header.Get("Date"), time.Now())
	resp.Body = &answer{ReadCloser: resp.Body, c: c, ctx: ctx, end: end}
	return resp, nil
}

// answer is the body of an answer. Its errors are those of a link.
type answer struct {
	io.ReadCloser
	c   *Client
	ctx context.Context
	end func()
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.c.count(n)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if cause := context.Cause(a.ctx); cause != nil {
		return n, cause
	}
	return n, fmt.Errorf("read from %s: %w: %w", a.c.endpoint.place(), ErrUnplugged, err)
}

func (a *answer) Close() error {
	err := a.ReadCloser.Close()
	a.end()
	return err
}

// drain reads a little of a body that is in the way, and gives its beginning.
func drain(body io.ReadCloser) []byte {
	said, _ := io.ReadAll(io.LimitReader(body, maxDrained)) // what it says is a courtesy
	_ = body.Close()
	return said
}

// ReadBody reads the whole body of an answer and closes it. It refuses one of
// more than most bytes.
func ReadBody(resp *http.Response, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	closeErr := resp.Body.Close()
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > most:
		return nil, fmt.Errorf("the answer has more than %d bytes", most)
	}
	return b, closeErr
}

// StatusError says what the status of an answer means; nil for 200 to 299.
func StatusError(resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	return &statusError{code: resp.StatusCode}
}

type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the device answered with status %d (%s)", e.code, http.StatusText(e.code))
}

// RetryError is a failure after which the device must be left alone for a while.
type RetryError struct {
	Err error
	// Until is when it may be tried again.
	Until time.Time
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("%v; next try at %s", e.Err, e.Until.UTC().Format("15:04:05 MST"))
}

func (e *RetryError) Unwrap() error { return e.Err }

// later makes an error of an answer that asks to come again later.
func (e *httpEndpoint) later(resp *http.Response) error {
	if resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusTooManyRequests {
		return nil
	}
	after, ok := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	if !ok {
		return nil
	}
	drain(resp.Body)
	return &RetryError{
		Err:   fmt.Errorf("ask %s: %w", e.place(), StatusError(resp)),
		Until: time.Now().Add(after),
	}
}

func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	} else {
		return 0, false
	}
	return min(max(wait, 0), maxRetryAfter), true
}

// Read implements Conn; a client is asked, not read.
func (c *Client) Read([]byte) (int, error) {
	return 0, errors.New("an HTTP link is not read but asked: the driver and the link do not fit")
}

// Write implements Conn; a client is asked, not written to.
func (c *Client) Write([]byte) (int, error) {
	return 0, errors.New("an HTTP link is not written to but asked: the driver and the link do not fit")
}

// Close ends every request.
func (c *Client) Close() error {
	c.end(ErrClosed)
	c.http.CloseIdleConnections()
	return nil
}

type httpEndpoint struct {
	scheme, host   string
	port           int
	connectTimeout time.Duration
	answerTimeout  time.Duration
	trust          trust
	login          login
}

func parseHTTP(rest string, s *settings) (Endpoint, error) { return parseWeb("http", 80, rest, s) }

func parseHTTPS(rest string, s *settings) (Endpoint, error) { return parseWeb("https", 443, rest, s) }

func parseWeb(scheme string, port int, rest string, s *settings) (Endpoint, error) {
	example := scheme + "://10.0.3.31"
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return nil, fmt.Errorf("connect: %s: needs two slashes before the host, for example %s", scheme, example)
	}
	authority, path, _ := strings.Cut(authority, "/")
	if path != "" {
		return nil, fmt.Errorf("connect: the path of an %s: link comes from the profile; take out %q", scheme, echo("/"+path))
	}
	host, own, err := splitHostPort(authority)
	if err != nil {
		return nil, err
	}
	if own != "" {
		s.values["port"], s.origin["port"] = own, "connect"
	}
	e := &httpEndpoint{scheme: scheme, host: host, port: port}
	var errs [7]error
	if _, ok := s.values["port"]; ok {
		e.port, errs[0] = s.number("port", 1, 65535)
	}
	e.connectTimeout, errs[1] = s.duration("connect_timeout", defaultConnectTimeout, 100*time.Millisecond, 5*time.Minute, false)
	e.answerTimeout, errs[2] = s.duration("answer_timeout", defaultAnswerTimeout, 100*time.Millisecond, 5*time.Minute, false)
	e.login.pause, errs[3] = s.duration("login_pause", defaultLoginPause, time.Minute, 24*time.Hour, false)
	e.login.auth, errs[4] = s.choice("auth", "digest", []string{"digest", "basic"})
	e.trust, errs[5] = s.trust()
	errs[6] = s.credentials(&e.login)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if scheme == "http" && e.trust != (trust{}) {
		return nil, errors.New("connect: pin and ca_file are for https:; an http: link is not encrypted")
	}
	return e, nil
}

func (e *httpEndpoint) Scheme() string { return e.scheme }

func (e *httpEndpoint) address() string {
	host := net.JoinHostPort(e.host, strconv.Itoa(e.port))
	if e.scheme == "http" && e.port == 80 || e.scheme == "https" && e.port == 443 {
		host = strings.TrimSuffix(host, ":"+strconv.Itoa(e.port))
	}
	return host
}

// place is the URL without its options, for errors.
func (e *httpEndpoint) place() string { return e.scheme + "://" + e.address() }

// String names everything that the link depends on, and no secret: where the
// password is found is none.
func (e *httpEndpoint) String() string {
	text := e.place()
	var options []string
	for _, o := range []struct{ key, value string }{
		{"username", e.login.user}, {"password_file", e.login.file}, {"password_env", e.login.env},
		{"pin", e.trust.pin}, {"ca_file", e.trust.caFile},
	} {
		if o.value != "" {
			options = append(options, o.key+"="+url.QueryEscape(o.value))
		}
	}
	if e.login.auth == "basic" {
		options = append(options, "auth=basic")
	}
	if e.login.pause != defaultLoginPause && e.login.pause != 0 {
		options = append(options, "login_pause="+e.login.pause.String())
	}
	if e.connectTimeout != defaultConnectTimeout && e.connectTimeout != 0 {
		options = append(options, "connect_timeout="+e.connectTimeout.String())
	}
	if e.answerTimeout != defaultAnswerTimeout && e.answerTimeout != 0 {
		options = append(options, "answer_timeout="+e.answerTimeout.String())
	}
	if len(options) > 0 {
		text += "?" + strings.Join(options, "&")
	}
	return text
}

// Open makes a client. It connects with the first request, so that a camera
// which takes one connection is not asked for two.
func (e *httpEndpoint) Open(context.Context) (Conn, error) {
	if err := e.login.mayTry(); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: e.connectTimeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: defaultKeepalive, Interval: keepaliveEvery, Count: keepaliveProbes,
	}}
	transport := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    e.connectTimeout,
		ResponseHeaderTimeout:  e.answerTimeout,
		MaxResponseHeaderBytes: maxAnswerHead,
		IdleConnTimeout:        time.Minute,
		MaxIdleConnsPerHost:    2,
		DisableCompression:     true,
		ForceAttemptHTTP2:      false,
	}
	if e.scheme == "https" {
		var err error
		if transport.TLSClientConfig, err = e.trust.config(e.host, e.place()); err != nil {
			return nil, err
		}
	}
	return e.client(transport), nil
}

// failed gives an error of a request the form of a link's.
func (e *httpEndpoint) failed(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // it repeats the URL
	}
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, os.ErrDeadlineExceeded) && !isTimeout(err), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("ask %s: %w without an answer", e.place(), ErrUnplugged)
	}
	return fmt.Errorf("ask %s: %w", e.place(), plain(err))
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout() && err != os.ErrDeadlineExceeded //nolint:errorlint // the very value that SetReadDeadline gives
}
