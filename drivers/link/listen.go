package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of what pushes to the agent over HTTP.
const (
	// MaxDelivery is the largest body that is taken, in bytes.
	MaxDelivery = 32 << 20
	// maxDeliveries is how many bodies one server holds at a time.
	maxDeliveries = 8
	// maxRequestHead bounds the head of a request in bytes.
	maxRequestHead = 16 << 10
	// headTimeout and bodyTimeout bound how long a request may take to arrive,
	// replyTimeout how long until it is recorded; then the sender is asked to send
	// it again.
	headTimeout, bodyTimeout, replyTimeout = 10 * time.Second, time.Minute, time.Minute
	// pushRate is how many requests a second one address may send in the long
	// run, pushBurst how many at once.
	pushRate, pushBurst = 20, 60
	// maxAddresses bounds how many addresses a server keeps account of.
	maxAddresses = 1024
	// minSecret is how long a path must be to be no guess, without the slashes.
	minSecret = 16
	// maxAllowed bounds the list of addresses of one device.
	maxAllowed = 64
	// maxRefusals is how many refusals wait to be told.
	maxRefusals = 16
)

// Delivery is one request that a device sent. Reply answers it, once; a 2xx tells
// the device that it may forget what it sent, so it comes after the event is on
// disk.
type Delivery struct {
	Method string
	// Path is what follows the device's own path, "" for nothing.
	Path string
	// Target is the whole path.
	Target      string
	Query       url.Values
	Header      http.Header
	ContentType string
	Body        []byte
	Remote      netip.Addr
	// At is when it had arrived.
	At time.Time

	once  sync.Once
	reply chan reply
}

type reply struct {
	status      int
	contentType string
	body        []byte
}

// Reply answers the request. Later calls do nothing.
func (d *Delivery) Reply(status int, contentType string, body []byte) {
	d.once.Do(func() { d.reply <- reply{status, contentType, body} })
}

// Refusal is a request that did not reach a device.
type Refusal struct {
	At     time.Time
	Remote netip.Addr
	// Reason is "wrong_source" (the address is not on the device's list).
	Reason string
	// Belongs names the device on whose list the address is, as "LANE/DEVICE";
	// empty for none.
	Belongs string
}

// refusals collects what was refused, for the agent to tell.
type refusals struct {
	mu   sync.Mutex
	list []Refusal
	lost int
}

func (r *refusals) add(x Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) >= maxRefusals {
		r.lost++
		return
	}
	r.list = append(r.list, x)
}

// Refusals gives what was refused since the last call, and how many more there
// were.
func (r *refusals) Refusals() (list []Refusal, more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list, more = r.list, r.lost
	r.list, r.lost = nil, 0
	return list, more
}

// Inbox is a link to an instrument that sends HTTP requests to the agent. All
// inboxes of one address and port share one server.
type Inbox struct {
	meter
	refusals
	*ending
	endpoint *listenEndpoint
	server   *server // nil for one of a script
	queue    chan *Delivery
	done     chan struct{}
	once     sync.Once

	mu    sync.Mutex
	owner string
}

func newInbox(e *listenEndpoint) *Inbox {
	return &Inbox{endpoint: e, ending: newEnding(), queue: make(chan *Delivery), done: make(chan struct{})}
}

// Next waits for a request. The caller answers each by Reply.
func (i *Inbox) Next(ctx context.Context) (*Delivery, error) {
	select {
	case d := <-i.queue:
		return d, nil
	case <-i.over.Done():
		return nil, context.Cause(i.over)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Offer hands a request to whoever calls Next, and returns the answer: for tests
// and scripts. It fails when the inbox is closed or ctx ends.
func (i *Inbox) Offer(ctx context.Context, d *Delivery) (status int, contentType string, body []byte, err error) {
	d.reply = make(chan reply, 1)
	i.count(len(d.Body))
	select {
	case i.queue <- d:
	case <-i.done:
		return 0, "", nil, ErrClosed
	case <-ctx.Done():
		return 0, "", nil, context.Cause(ctx)
	}
	select {
	case r := <-d.reply:
		return r.status, r.contentType, r.body, nil
	case <-i.done:
		// The answer may have been given in the same moment.
		select {
		case r := <-d.reply:
			return r.status, r.contentType, r.body, nil
		default:
		}
		return 0, "", nil, ErrClosed
	case <-ctx.Done():
		return 0, "", nil, context.Cause(ctx)
	}
}

// NewInbox makes an inbox without a server, for tests and scripts.
func NewInbox() *Inbox { return newInbox(&listenEndpoint{address: "device.invalid:80", path: "/"}) }

// SetOwner names the device, "LANE/DEVICE", for the refusals of others.
func (i *Inbox) SetOwner(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.owner = name
}

// Read implements Conn; an inbox is not read.
func (i *Inbox) Read([]byte) (int, error) {
	return 0, errors.New("an http-listen link is not read: the driver and the link do not fit")
}

// Write implements Conn; an inbox is not written to.
func (i *Inbox) Write([]byte) (int, error) {
	return 0, errors.New("an http-listen link is not written to: the driver and the link do not fit")
}

// Close takes the inbox from its server. Requests that are not answered get a
// 503, and the device sends them again.
func (i *Inbox) Close() error {
	i.once.Do(func() { close(i.done) })
	i.end(ErrClosed)
	if i.server != nil {
		return i.server.leave(i)
	}
	return nil
}

// listenEndpoint is where a device posts to.
type listenEndpoint struct {
	address           string // HOST:PORT
	path              string // begins with a slash, has none at its end unless it is the root
	allow             []netip.Prefix
	certFile, keyFile string
	maxBody           int
}

func parseHTTPListen(rest string, s *settings) (Endpoint, error) {
	const example = "http-listen://0.0.0.0:8080/PATH"
	address, path, err := listenAddress("http-listen", rest, example)
	if err != nil {
		return nil, err
	}
	e := &listenEndpoint{address: address, path: "/" + strings.Trim(path, "/"), certFile: s.values["cert_file"], keyFile: s.values["key_file"]}
	if strings.IndexFunc(e.path, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/", r)
	}) >= 0 || strings.Contains(e.path, "//") || strings.Contains(e.path, "/.") {
		return nil, fmt.Errorf("connect: %q is no path for a device to post to; take letters, digits, dashes and slashes", echo(e.path))
	}
	if e.allow, err = s.addresses("allow"); err != nil {
		return nil, err
	}
	if (e.certFile == "") != (e.keyFile == "") {
		return nil, errors.New("connect: cert_file and key_file belong together; set both or none")
	}
	e.maxBody = MaxDelivery
	if _, ok := s.values["max_body"]; ok {
		if e.maxBody, err = s.number("max_body", 1024, MaxDelivery); err != nil {
			return nil, err
		}
	}
	// Cameras can't prove who they are: who knows the path or sits at the address
	// can send plates.
	if len(strings.ReplaceAll(e.path, "/", "")) < minSecret && len(e.allow) == 0 {
		return nil, fmt.Errorf("connect: anybody could guess the path %q and send plates; add allow=ADDRESS of the camera, or take a path like /%s", echo(e.path), suggestPath())
	}
	return e, nil
}

func suggestPath() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// listenAddress takes HOST:PORT and a path out of a URL.
func listenAddress(scheme, rest, example string) (address, path string, err error) {
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "", "", fmt.Errorf("connect: %s: needs two slashes before the address to listen on, for example %s", scheme, example)
	}
	authority, path, _ = strings.Cut(authority, "/")
	host, port, err := splitHostPort(authority)
	if err != nil {
		return "", "", err
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return "", "", fmt.Errorf("connect: %s: needs the port to listen on, for example %s", scheme, example)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", "", fmt.Errorf("connect: %q is no address of this machine; write 0.0.0.0 for all of them", echo(host))
	}
	return net.JoinHostPort(host, port), path, nil
}

// addresses reads a list of addresses and networks.
func (s *settings) addresses(key string) ([]netip.Prefix, error) {
	text, ok := s.values[key]
	if !ok {
		return nil, nil
	}
	var list []netip.Prefix
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		p, err := netip.ParsePrefix(part)
		if err != nil {
			a, err := netip.ParseAddr(part)
			if err != nil {
				return nil, fmt.Errorf("%s: %s=%s is not a list of IP addresses; write for example %s=10.0.3.31 or %s=10.0.3.0/24,10.0.4.7", s.origin[key], key, echo(text), key, key)
			}
			p = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
		}
		if len(list) == maxAllowed {
			return nil, fmt.Errorf("%s: %s names more than %d addresses; name a network", s.origin[key], key, maxAllowed)
		}
		list = append(list, p.Masked())
	}
	return list, nil
}

// allows reports whether a list of addresses has one; an empty list has all.
func allows(list []netip.Prefix, a netip.Addr) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func (e *listenEndpoint) Scheme() string { return "http-listen" }

func (e *listenEndpoint) String() string {
	text := "http-listen://" + e.address + e.path
	var options []string
	if len(e.allow) > 0 {
		options = append(options, "allow="+prefixes(e.allow))
	}
	if e.certFile != "" {
		options = append(options, "cert_file="+url.QueryEscape(e.certFile), "key_file="+url.QueryEscape(e.keyFile))
	}
	if e.maxBody != MaxDelivery && e.maxBody != 0 {
		options = append(options, "max_body="+strconv.Itoa(e.maxBody))
	}
	if len(options) > 0 {
		text += "?" + strings.Join(options, "&")
	}
	return text
}

func prefixes(list []netip.Prefix) string {
	var words []string
	for _, p := range list {
		if p.IsSingleIP() {
			words = append(words, p.Addr().String())
		} else {
			words = append(words, p.String())
		}
	}
	return strings.Join(words, ",")
}

// Open takes the place of the device at the server of the address, and starts the
// server if it is the first.
func (e *listenEndpoint) Open(context.Context) (Conn, error) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	s := servers.at[e.address]
	if s == nil {
		var err error
		if s, err = serve(e); err != nil {
			return nil, err
		}
		servers.at[e.address] = s
	}
	i, err := s.join(e)
	if err != nil && s.empty() {
		delete(servers.at, e.address)
		return nil, errors.Join(err, s.close())
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}

// servers are the HTTP servers of the process, one for each address: what is
// listened on belongs to the process, however many devices post to it.
var servers = struct {
	mu sync.Mutex
	at map[string]*server
}{at: map[string]*server{}}

// server takes requests for the inboxes of one address.
type server struct {
	address           string
	certFile, keyFile string
	listener          net.Listener
	http              *http.Server
	ended             chan struct{}
	bodies            chan struct{}

	mu      sync.Mutex
	inboxes []*Inbox
	rates   map[netip.Addr]*bucket
}

// bucket is what an address may still send.
type bucket struct {
	tokens float64
	at     time.Time
}

func serve(e *listenEndpoint) (*server, error) {
	s := &server{
		address: e.address, certFile: e.certFile, keyFile: e.keyFile,
		ended: make(chan struct{}), bodies: make(chan struct{}, maxDeliveries), rates: map[netip.Addr]*bucket{},
	}
	var config *tls.Config
	if e.certFile != "" {
		shown, err := ReadServerCertificate(e.certFile, e.keyFile)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", e.address, err)
		}
		config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: shown.Get}
	}
	ln, err := net.Listen("tcp", e.address)
	if err != nil {
		return nil, fmt.Errorf("listen for cameras on %s: %w", e.address, err)
	}
	s.listener = ln
	if config != nil {
		ln = tls.NewListener(ln, config)
	}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: headTimeout, ReadTimeout: bodyTimeout, WriteTimeout: bodyTimeout + replyTimeout + headTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxRequestHead,
		// What scanners and broken TLS handshakes say would fill the log.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	go func() {
		defer close(s.ended)
		_ = s.http.Serve(ln) // it ends by close
	}()
	return s, nil
}

// Addr is the address that the inbox listens on, with the port that was chosen.
func (i *Inbox) Addr() net.Addr {
	if i.server == nil {
		return nil
	}
	return i.server.listener.Addr()
}

func (s *server) join(e *listenEndpoint) (*Inbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certFile != e.certFile || s.keyFile != e.keyFile {
		return nil, fmt.Errorf("listen for cameras on %s: another device listens there with another certificate; give both the same cert_file and key_file, or another port", s.address)
	}
	for _, other := range s.inboxes {
		if other.endpoint.path == e.path {
			return nil, fmt.Errorf("listen for cameras on %s: another device has the path %s; give each its own", s.address, e.path)
		}
	}
	i := newInbox(e)
	i.server = s
	s.inboxes = append(s.inboxes, i)
	return i, nil
}

func (s *server) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.inboxes) == 0
}

func (s *server) leave(i *Inbox) error {
	servers.mu.Lock()
	s.mu.Lock()
	s.inboxes = slices.DeleteFunc(s.inboxes, func(o *Inbox) bool { return o == i })
	last := len(s.inboxes) == 0 && servers.at[s.address] == s
	s.mu.Unlock()
	if last {
		delete(servers.at, s.address)
	}
	servers.mu.Unlock()
	if last {
		return s.close()
	}
	return nil
}

func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.ended
	return err
}

// find gives the inbox of a path, the longest that fits, and what follows.
func (s *server) find(path string) (found *Inbox, rest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.inboxes {
		own := strings.TrimSuffix(i.endpoint.path, "/")
		after, ok := strings.CutPrefix(path, own)
		if !ok || after != "" && after[0] != '/' {
			continue
		}
		if found == nil || len(i.endpoint.path) > len(found.endpoint.path) {
			found, rest = i, strings.TrimSuffix(after, "/")
		}
	}
	return found, rest
}

// ownerOf names the device on whose list an address is.
func (s *server) ownerOf(a netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.inboxes {
		if len(i.endpoint.allow) > 0 && allows(i.endpoint.allow, a) {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.owner
		}
	}
	return ""
}

// within takes one request off what an address may send.
func (s *server) within(a netip.Addr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.rates[a]
	if b == nil {
		if len(s.rates) >= maxAddresses {
			clear(s.rates) // better a burst more than an account without end
		}
		b = &bucket{tokens: pushBurst, at: now}
		s.rates[a] = b
	}
	b.tokens = min(pushBurst, b.tokens+now.Sub(b.at).Seconds()*pushRate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	remote := netip.Addr{}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		remote = at.Addr().Unmap()
	}
	refuse := func(status int) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(status)
	}
	if !s.within(remote, time.Now()) {
		w.Header().Set("Retry-After", "1")
		refuse(http.StatusTooManyRequests)
		return
	}
	inbox, rest := s.find(r.URL.Path)
	if inbox == nil {
		refuse(http.StatusNotFound)
		return
	}
	if !allows(inbox.endpoint.allow, remote) {
		inbox.add(Refusal{At: time.Now(), Remote: remote, Reason: "wrong_source", Belongs: s.ownerOf(remote)})
		refuse(http.StatusForbidden)
		return
	}
	if r.ContentLength > int64(inbox.endpoint.maxBody) {
		inbox.add(Refusal{At: time.Now(), Remote: remote, Reason: "too_large"})
		refuse(http.StatusRequestEntityTooLarge)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), bodyTimeout+replyTimeout)
	defer cancel()
	select {
	case s.bodies <- struct{}{}:
		defer func() { <-s.bodies }()
	case <-ctx.Done():
		refuse(http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(inbox.endpoint.maxBody)))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		inbox.add(Refusal{At: time.Now(), Remote: remote, Reason: "too_large"})
		refuse(http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		refuse(http.StatusBadRequest)
		return
	}
	status, contentType, answer, err := inbox.Offer(ctx, &Delivery{
		Method: r.Method, Path: rest, Target: r.URL.Path, Query: r.URL.Query(), Header: r.Header, ContentType: r.Header.Get("Content-Type"),
		Body: body, Remote: remote, At: time.Now(),
	})
	if err != nil {
		w.Header().Set("Retry-After", "5")
		refuse(http.StatusServiceUnavailable)
		return
	}
	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a sender that does not hear it sends again
}
