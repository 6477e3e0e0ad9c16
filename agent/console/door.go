package console

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultListen is where the console is shown if the configuration does not say.
const DefaultListen = "127.0.0.1:7480"

const (
	// doorRetry spaces the attempts to listen on an address that is in use, and
	// certificateEvery the looks at the files of the certificate.
	doorRetry        = 10 * time.Second
	certificateEvery = 30 * time.Second
	// maxConnections is how many there may be at a time at the door, and at the socket.
	maxConnections = 64
)

// Settings say where browsers may see the console.
type Settings struct {
	// Listen is HOST:PORT, the host an IP address; empty for nowhere.
	Listen string
	// Default says that nobody asked for it: then it is no problem if the address is in
	// use.
	Default bool
	// CertFile and KeyFile are the certificate and its key, UsersFile who may log in; all
	// or none. Without them it is HTTP, and nobody need log in.
	CertFile, KeyFile, UsersFile string
}

// Loopback reports whether only this box can come.
func (s Settings) Loopback() bool {
	at, err := netip.ParseAddrPort(s.Listen)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// door is where browsers come in.
type door struct {
	c        *Console
	settings Settings
	log      *slog.Logger
	server   *http.Server
	logins   *logins // nil if nobody need log in
	cross    *http.CrossOriginProtection
	cert     atomic.Pointer[certificate]
}

// certificate is one with the content of its files.
type certificate struct {
	tls.Certificate
	cert, key string
}

// Follow brings the door to what a configuration says.
func (c *Console) Follow(s Settings) {
	c.mu.Lock()
	c.wanted = s
	d := c.door
	c.mu.Unlock()
	if d != nil && d.logins != nil && d.settings == s {
		// Here and not in keepDoor: who is taken out of the file is out when the reload is
		// answered.
		d.logins.prune()
	}
	select {
	case c.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// keepDoor opens the door, and again when it can't be or has changed, until life ends.
func (c *Console) keepDoor() {
	tick := time.NewTicker(doorRetry)
	defer tick.Stop()
	looked := time.Now()
	logged := ""
	for {
		c.mu.Lock()
		d, s := c.door, c.wanted
		c.mu.Unlock()
		if d != nil && d.settings != s {
			c.setDoor(nil, "")
			stop(d.server)
			d = nil
		}
		if d == nil && s.Listen != "" {
			d, err := c.openDoor(s)
			switch {
			case err == nil:
				logged = ""
				c.setDoor(d, "")
				c.log.Info("this agent is shown to browsers", "url", d.url())
			case s.Default:
				c.setDoor(nil, "")
			default:
				c.setDoor(nil, fmt.Sprintf("browsers can't see this agent: %v; it is tried again", err))
			}
			if err != nil && err.Error() != logged {
				logged = err.Error()
				c.log.Warn("browsers can't see this agent; it is tried again", "err", err,
					"hint", "if another program has the address, set console.listen to another port, or to off")
			}
		} else if s.Listen == "" {
			c.setDoor(nil, "")
		}
		if d != nil && time.Since(looked) >= certificateEvery {
			looked = time.Now()
			d.renew()
		}
		select {
		case <-c.changed:
		case <-tick.C:
		case <-c.life.Done():
			c.mu.Lock()
			d := c.door
			c.door = nil
			c.mu.Unlock()
			if d != nil {
				stop(d.server)
			}
			return
		}
	}
}

func (c *Console) setDoor(d *door, problem string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.door, c.doorProblem = d, problem
}

// url is what a person types.
func (d *door) url() string {
	if d.settings.CertFile != "" {
		return "https://" + d.settings.Listen
	}
	return "http://" + d.settings.Listen
}

func (c *Console) openDoor(s Settings) (*door, error) {
	d := &door{c: c, settings: s, log: c.log, cross: http.NewCrossOriginProtection()}
	if s.UsersFile != "" {
		d.logins = newLogins(func() ([]user, error) { return readUsers(s.UsersFile) })
	}
	ln, err := net.Listen("tcp", s.Listen)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("another program listens on %s", s.Listen)
		}
		return nil, err
	}
	ln = atMost(maxConnections, ln)
	d.server = c.server(d)
	if s.CertFile != "" {
		cert, err := loadCertificate(s)
		if err != nil {
			_ = ln.Close()
			return nil, fmt.Errorf("the certificate %s: %w", s.CertFile, err)
		}
		d.cert.Store(cert)
		ln = tls.NewListener(ln, &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &d.cert.Load().Certificate, nil },
		})
	}
	c.group.Go(func() {
		if err := d.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			c.log.Error("browsers are not served any more", "err", err)
		}
	})
	return d, nil
}

// loadCertificate reads the files of the certificate.
func loadCertificate(s Settings) (*certificate, error) {
	cert, err := os.ReadFile(s.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	return &certificate{Certificate: pair, cert: string(cert), key: string(key)}, nil
}

// renew takes up a certificate that was renewed on disk. Files that don't fit are half
// written, or wrong: the old one goes on.
func (d *door) renew() {
	old := d.cert.Load()
	if old == nil {
		return
	}
	cert, err := loadCertificate(d.settings)
	switch {
	case err != nil:
		d.log.Warn("the console's certificate files can't be used; the old certificate goes on", "file", d.settings.CertFile, "err", err)
	case cert.cert != old.cert || cert.key != old.key:
		d.cert.Store(cert)
		d.log.Info("the console uses a renewed certificate", "file", d.settings.CertFile)
	}
}

// limited is a listener with so many connections at a time.
type limited struct {
	net.Listener
	places chan struct{}
}

func atMost(n int, ln net.Listener) *limited {
	return &limited{Listener: ln, places: make(chan struct{}, n)}
}

// Accept implements net.Listener. Who finds no place is turned away, so that those who
// hold connections open can't make the others wait.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &placed{Conn: c, places: l.places}, nil
		default:
			_ = c.Close() // there is no place for it
		}
	}
}

// placed gives its place back once.
type placed struct {
	net.Conn
	places chan struct{}
	closed atomic.Bool
}

// Close implements net.Conn.
func (p *placed) Close() error {
	if !p.closed.Swap(true) {
		<-p.places
	}
	return p.Conn.Close()
}

// securityHeaders go with each answer to a browser.
var securityHeaders = [][2]string{
	{"Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
}

// ServeHTTP implements http.Handler.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	extend(w)
	for _, h := range securityHeaders {
		w.Header().Set(h[0], h[1])
	}
	secure := d.settings.CertFile != ""
	if secure {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	} else if !ownHost(r.Host) {
		// A page from elsewhere whose name was made to lead to this box.
		fail(w, http.StatusMisdirectedRequest, "this is for the box itself: use "+d.url())
		return
	}
	if err := d.cross.Check(r); err != nil {
		fail(w, http.StatusForbidden, "another site asks for this")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if d.logins == nil {
		if r.URL.Path == "/login" {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		d.serve(w, r)
		return
	}
	switch {
	case r.URL.Path == "/login" && r.Method == http.MethodPost:
		d.loginForm(w, r)
	case r.URL.Path == "/logout" && r.Method == http.MethodPost:
		d.logoutForm(w, r)
	case r.URL.Path == "/metrics":
		d.basic(w, r)
	case d.logins.session(token(r), true):
		d.serve(w, r.WithContext(context.WithValue(r.Context(), aliveKey{}, func() bool { return d.logins.session(token(r), false) })))
	case strings.HasPrefix(r.URL.Path, "/api/"):
		fail(w, http.StatusUnauthorized, "log in first")
	case r.URL.Path == "/":
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	default: // the files of the page hold no secret
		d.serve(w, r)
	}
}

// aliveKey is where the context of a request has what tells whether its session goes on.
type aliveKey struct{}

// alive reports whether whoever asked may still be answered.
func alive(ctx context.Context) bool {
	still, ok := ctx.Value(aliveKey{}).(func() bool)
	return !ok || still()
}

func (d *door) serve(w http.ResponseWriter, r *http.Request) { d.c.routes(false).ServeHTTP(w, r) }

// basic lets a program in that has no session: one that collects metrics.
func (d *door) basic(w http.ResponseWriter, r *http.Request) {
	if d.logins.session(token(r), false) {
		d.serve(w, r)
		return
	}
	name, password, ok := r.BasicAuth()
	if ok {
		var err error
		if _, err = d.logins.check(addressOf(r.RemoteAddr), name, password); err == nil {
			d.serve(w, r)
			return
		}
		if errors.Is(err, errTooFast) {
			fail(w, http.StatusTooManyRequests, err.Error())
			return
		}
		if errors.Is(err, errUsers) {
			fail(w, http.StatusServiceUnavailable, errUsers.Error())
			return
		}
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="lanepost", charset="UTF-8"`)
	fail(w, http.StatusUnauthorized, "user name and password are needed")
}

// ownHost reports whether a request names this box by a name that nobody else can make
// lead here.
func ownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
