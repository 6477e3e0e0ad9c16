package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/opcua"
)

const (
	// opcuaLifetime is how long the keys of a channel are good, if the server agrees;
	// they are renewed when three quarters of it are over.
	opcuaLifetime = time.Hour
	// opcuaSession is how long the server keeps a session of an agent that vanished.
	opcuaSession = 2 * time.Minute
	// opcuaGoodbye bounds the end of a session.
	opcuaGoodbye = time.Second
	// nodeMaxRead is the node that says how many nodes one request may read, 0 for any
	// number: Server_ServerCapabilities_OperationLimits_MaxNodesPerRead.
	nodeMaxRead = 11705
)

// opcuaConn is an open session. It does one request after the other, in the
// goroutine of the one who asks, and has none of its own.
type opcuaConn struct {
	meter
	*ending
	e       *opcuaEndpoint
	conn    net.Conn
	unwatch func()

	// mu is held for a request and its answer.
	mu      sync.Mutex
	channel *opcua.Channel
	number  uint32
	token   opcua.NodeID
	renewAt time.Time
	most    int // nodes per request
	// broken: the link is of no use any more. lost: nor can the server be told so.
	broken error
	lost   bool

	closing sync.Once
}

func newOPCUAConn(conn net.Conn, channel *opcua.Channel, e *opcuaEndpoint) *opcuaConn {
	c := &opcuaConn{ending: newEnding(), e: e, conn: conn, channel: channel, most: opcua.MaxRead}
	channel.Rand, channel.Send = rand.Reader, opcua.MinFrame
	// Whatever ends the link ends a wait for an answer, too.
	c.unwatch = c.interrupt(c.over)
	return c
}

// interrupt ends what waits for the server when ctx ends. After release it does so no
// more.
func (c *opcuaConn) interrupt(ctx context.Context) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetDeadline(time.Unix(1, 0)) // what waits reports it
		close(done)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// Read and Write are those of a link of bytes, which this is not.
func (c *opcuaConn) Read([]byte) (int, error) {
	<-c.over.Done()
	return 0, context.Cause(c.over)
}

// Write implements Conn: nothing is ever written to the server.
func (c *opcuaConn) Write([]byte) (int, error) {
	return 0, errors.New("an OPC UA link is for reading nodes; nothing is written to it")
}

// Close ends the session and the connection. A read that goes on returns.
func (c *opcuaConn) Close() error {
	var err error
	c.closing.Do(func() {
		c.end(fmt.Errorf("reading from %s: %w", c.e.place(), ErrClosed))
		_ = c.SetReadDeadline(time.Time{}) // takes the timer away; cannot fail
		c.mu.Lock()
		defer c.mu.Unlock()
		c.unwatch()
		if !c.lost || errors.Is(c.broken, ErrClosed) {
			c.goodbye()
		}
		if err = c.conn.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	})
	return err
}

// goodbye frees the session at the server, which has only a few. That it did not
// work shows nowhere but there: the server frees it itself after opcuaSession.
func (c *opcuaConn) goodbye() {
	_ = c.conn.SetDeadline(time.Now().Add(opcuaGoodbye))
	if c.token != (opcua.NodeID{}) {
		if !c.lost {
			_, _ = exchange(c, opcua.Service, &opcua.CloseSessionRequest{DeleteSubscriptions: true})
		} else {
			_ = c.send(opcua.Service, &opcua.CloseSessionRequest{DeleteSubscriptions: true})
		}
	}
	if c.channel.ID != 0 {
		_ = c.send(opcua.Close, &opcua.CloseSecureChannelRequest{})
	}
}

// opening does one part of the opening, which ends with ctx.
func (c *opcuaConn) opening(ctx context.Context, f func() error) error {
	defer c.interrupt(ctx)()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.guarded(f)
}

// guarded makes an error of a panic: what comes from outside may find a mistake.
func (c *opcuaConn) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: it brought the decoder down: %v", errNotOPCUA, p)
			c.lost = true
		}
	}()
	return f()
}

// handshake says hello and opens the channel.
func (c *opcuaConn) handshake(url string) error {
	if err := c.write(opcua.EncodeHello(opcua.Ours, url)); err != nil {
		return err
	}
	chunk, err := c.chunk()
	if err != nil {
		return err
	}
	limits, err := opcua.DecodeAcknowledge(chunk)
	if err != nil {
		return c.refused(err)
	}
	c.channel.Send = int(min(limits.Receive, opcua.MaxFrame))
	return c.openChannel(0)
}

// openChannel opens the channel, or renews its keys.
func (c *opcuaConn) openChannel(renew uint32) error {
	nonce := make([]byte, opcua.NonceLength)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("make a nonce: %w", err)
	}
	m := &opcua.OpenSecureChannelRequest{Renew: renew, Mode: c.channel.Mode, Lifetime: uint32(opcuaLifetime.Milliseconds())}
	if c.channel.Policy != opcua.None {
		m.Nonce = nonce
	}
	answer, err := exchange(c, opcua.Open, m)
	if errors.Is(err, ErrUnplugged) && c.channel.Policy != opcua.None {
		return fmt.Errorf("open a channel: %w, or so it seems: %w", errServerCert, err)
	}
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	opened, ok := answer.(*opcua.OpenSecureChannelResponse)
	switch {
	case !ok:
		return fmt.Errorf("open a channel: %w: %T", errNotOPCUA, answer)
	case c.channel.Policy != opcua.None && len(opened.Nonce) != opcua.NonceLength:
		return fmt.Errorf("open a channel: %w: a nonce of %d bytes", errNotOPCUA, len(opened.Nonce))
	}
	c.channel.ID = opened.Channel
	c.channel.Rekey(opened.TokenID, nonce, opened.Nonce)
	life := min(time.Duration(opened.Lifetime)*time.Millisecond, opcuaLifetime)
	c.renewAt = time.Now().Add(life / 4 * 3)
	return nil
}

// request sends a request and gives the answer of the type that belongs to it.
func request[T opcua.Response](c *opcuaConn, m opcua.Request) (T, error) {
	var none T
	answer, err := exchange(c, opcua.Service, m)
	if err != nil {
		return none, err
	}
	wanted, ok := answer.(T)
	if !ok {
		return none, c.fail(fmt.Errorf("%w: %T where %T is expected", errNotOPCUA, answer, none))
	}
	return wanted, nil
}

// exchange sends a request and waits for its answer.
func exchange(c *opcuaConn, kind opcua.Kind, m opcua.Request) (opcua.Response, error) {
	if err := c.send(kind, m); err != nil {
		return nil, err
	}
	for {
		chunk, err := c.chunk()
		if err != nil {
			return nil, err
		}
		received, err := c.channel.Take(chunk)
		if err != nil {
			return nil, c.refused(err)
		}
		if received == nil {
			continue
		}
		if received.Kind != kind || received.Request != c.number {
			return nil, c.fail(fmt.Errorf("%w: %s %d answers %s %d", errNotOPCUA, received.Kind, received.Request, kind, c.number))
		}
		message, err := opcua.Decode(received.Body)
		if err != nil {
			return nil, c.fail(fmt.Errorf("%w: %w", errNotOPCUA, err))
		}
		answer, ok := message.(opcua.Response)
		if !ok {
			return nil, c.fail(fmt.Errorf("%w: %T is no answer", errNotOPCUA, message))
		}
		if result := answer.Head().Result; !result.IsGood() {
			return nil, meaning(result, result)
		}
		if _, fault := answer.(*opcua.ServiceFault); fault {
			return nil, c.fail(fmt.Errorf("%w: a fault that is none", errNotOPCUA))
		}
		return answer, nil
	}
}

// send sends a request.
func (c *opcuaConn) send(kind opcua.Kind, m opcua.Request) error {
	c.number++
	head := m.Header()
	head.Token, head.At, head.Handle, head.Timeout = c.token, time.Now(), c.number, uint32(c.e.answerTimeout.Milliseconds()) //nolint:gosec // bounded by the settings
	body, err := opcua.Encode(m)
	if err != nil {
		return fmt.Errorf("write %T: %w", m, err)
	}
	chunks, err := c.channel.Seal(kind, c.number, body)
	if err != nil {
		return fmt.Errorf("write %T: %w", m, err)
	}
	return c.write(chunks)
}

func (c *opcuaConn) write(b []byte) error {
	if _, err := c.conn.Write(b); err != nil {
		return c.failed(err)
	}
	return nil
}

// chunk reads one chunk.
func (c *opcuaConn) chunk() ([]byte, error) {
	b := make([]byte, opcua.HeadLength)
	n, err := io.ReadFull(c.conn, b)
	c.count(n)
	if err != nil {
		return nil, c.failed(err)
	}
	length, err := opcua.FrameLength(b)
	if err != nil {
		return nil, c.fail(fmt.Errorf("%w: %w", errNotOPCUA, err))
	}
	b = append(b, make([]byte, length-len(b))...)
	n, err = io.ReadFull(c.conn, b[opcua.HeadLength:])
	c.count(n)
	if err != nil {
		return nil, c.failed(err)
	}
	return b, nil
}

// fail notes that nothing can be said to the server any more.
func (c *opcuaConn) fail(err error) error {
	c.lost = true
	return err
}

// failed maps the errors of package net.
func (c *opcuaConn) failed(err error) error {
	if cause := context.Cause(c.over); cause != nil {
		return c.fail(cause)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	t := &tcpConn{address: c.e.place()}
	return c.fail(t.failed("reading from", err))
}

// refused maps what the server says before it ends the connection.
func (c *opcuaConn) refused(err error) error {
	var said *opcua.FailureError
	if errors.As(err, &said) {
		return c.fail(meaning(said.Status, said))
	}
	return c.fail(fmt.Errorf("%w: %w", errNotOPCUA, err))
}

// meanings are the errors that something can be done about.
var meanings = map[opcua.Status]error{
	opcua.BadCertificateInvalid:       errServerCert,
	opcua.BadCertificateTimeInvalid:   errServerCert,
	opcua.BadCertificateURIInvalid:    errServerCert,
	opcua.BadCertificateUseNotAllowed: errServerCert,
	opcua.BadCertificateUntrusted:     errServerCert,
	opcua.BadSecurityChecksFailed:     errServerCert,
	opcua.BadSecurityPolicyRejected:   errNoEndpoint,
	opcua.BadSecurityModeRejected:     errNoEndpoint,
	opcua.BadTCPEndpointURLInvalid:    errNoEndpoint,
	opcua.BadTooManySessions:          errManySession,
}

func meaning(status opcua.Status, said error) error {
	if m := meanings[status.Code()]; m != nil {
		return fmt.Errorf("%w: %w", m, said)
	}
	return fmt.Errorf("the server says %w", said)
}

// logIn opens the session.
func (e *opcuaEndpoint) logIn(c *opcuaConn, offer *opcua.Endpoint, id opcuaIdentity) error {
	nonce := make([]byte, opcua.NonceLength)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("make a nonce: %w", err)
	}
	host, _ := os.Hostname() // the server shows it to people
	created, err := request[*opcua.CreateSessionResponse](c, &opcua.CreateSessionRequest{
		Client:      opcua.Application{URI: id.uri, Product: "urn:lanepost", Name: "lanepost", Kind: 1},
		URL:         e.url(),
		Name:        "lanepost " + host,
		Nonce:       nonce,
		Certificate: id.certificate,
		Timeout:     float64(opcuaSession.Milliseconds()),
		MaxResponse: opcua.MaxMessage,
	})
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	activate := &opcua.ActivateSessionRequest{User: e.login.user}
	peer := c.channel.Peer
	if peer != nil {
		if err := freshNonce(created.Nonce); err != nil {
			return fmt.Errorf("open a session: %w", err)
		}
		if !bytes.HasPrefix(created.Certificate, peer.Raw) {
			return fmt.Errorf("open a session: %w: it shows another one than before", errUntrusted)
		}
		if err := opcua.VerifySession(peer, id.certificate, nonce, created.Signature); err != nil {
			return fmt.Errorf("open a session: %w: %w", errUntrusted, err)
		}
		if activate.Signature, err = opcua.SignSession(id.key, peer.Raw, created.Nonce); err != nil {
			return fmt.Errorf("open a session: %w", err)
		}
	}
	if err := e.identify(activate, offer, created, peer); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	c.token = created.Token
	_, err = request[*opcua.ActivateSessionResponse](c, activate)
	switch {
	case errors.Is(err, opcua.BadIdentityTokenRejected), errors.Is(err, opcua.BadIdentityTokenInvalid), errors.Is(err, opcua.BadUserAccessDenied):
		if e.login.user == "" {
			return fmt.Errorf("%w anonymously: %w; set username and password_file beside connect", errNoToken, err)
		}
		e.login.mu.Lock()
		defer e.login.mu.Unlock()
		return e.login.reject(fmt.Errorf("%w: %w", ErrLogin, err))
	case err != nil:
		return fmt.Errorf("log in: %w", err)
	}
	e.login.accepted()
	return c.learnLimit()
}

// identify says who the user is, in a way that the server offers.
func (e *opcuaEndpoint) identify(m *opcua.ActivateSessionRequest, offer *opcua.Endpoint, created *opcua.CreateSessionResponse, peer *x509.Certificate) error {
	kind := opcua.TokenUserName
	if e.login.user == "" {
		kind = opcua.TokenAnonymous
		i := slices.IndexFunc(offer.Tokens, func(t opcua.UserToken) bool { return t.Kind == kind })
		if i < 0 {
			return fmt.Errorf("%w: it wants a user name or a certificate; set username and password_file beside connect", errNoToken)
		}
		m.TokenID = offer.Tokens[i].ID // nothing of it is encrypted, so its policy is of no matter
		return nil
	}
	var policies []string
	var token *opcua.UserToken
	for i := range offer.Tokens {
		t := &offer.Tokens[i]
		if t.Kind != kind {
			continue
		}
		policy := t.Policy
		if policy == "" {
			policy = e.security.URI
		}
		policies = append(policies, opcua.PolicyName(policy))
		// The best is the one by which a password is encrypted.
		if opcua.CanEncryptPassword(policy) && (token == nil || token.Policy == opcua.None.URI) {
			token = &opcua.UserToken{ID: t.ID, Kind: kind, Policy: policy}
		}
	}
	switch {
	case token == nil && len(policies) == 0:
		return fmt.Errorf("%w: it takes no user name and password on this channel", errNoToken)
	case token == nil:
		return fmt.Errorf("%w: it wants the password encrypted by %s, and there is Basic256Sha256", errNoToken, echo(strings.Join(policies, ", ")))
	case token.Policy == opcua.None.URI && (e.mode == opcua.ModeSign || peer == nil && e.trust.pin != ""):
		// On a channel that only signs, or for the pinned server alone: whoever answers can
		// offer to take it readable. security=none without a pin says itself that all is.
		return errClearText
	}
	password, err := e.login.password()
	if err != nil {
		return err
	}
	if peer == nil && token.Policy != opcua.None.URI {
		if err = freshNonce(created.Nonce); err != nil {
			return err
		}
		if peer, err = e.passwordPeer(created.Certificate); err != nil {
			return err
		}
	}
	m.TokenID = token.ID
	m.Password, m.Algorithm, err = opcua.EncryptPassword(rand.Reader, token.Policy, peer, password, created.Nonce)
	return err
}

// freshNonce checks that what is signed or encrypted with a server's nonce can't be used again
// (IEC 62541-4 5.6.2: at least 32 bytes).
func freshNonce(nonce []byte) error {
	if len(nonce) < opcua.NonceLength {
		return fmt.Errorf("%w: the nonce of the session has %d bytes, and at least %d are needed", errNotOPCUA, len(nonce), opcua.NonceLength)
	}
	return nil
}

// passwordPeer is the certificate that a password is encrypted for on a channel that
// is not secured. Without a pin anybody's is taken: security=none says so.
func (e *opcuaEndpoint) passwordPeer(der []byte) (*x509.Certificate, error) {
	if e.trust.pin != "" {
		return e.trusted(der)
	}
	chain, err := x509.ParseCertificates(der)
	if err != nil || len(chain) == 0 {
		return nil, fmt.Errorf("%w: it wants the password encrypted and shows no certificate", errNoToken)
	}
	return chain[0], nil
}
