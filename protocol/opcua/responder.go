package opcua

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Responder is the server's side of one connection: chunks come in and chunks go out.
// It serves what reading takes, and answers everything else by BadServiceUnsupported.
// It is used by one goroutine.
type Responder struct {
	// URL is where the server is reached, URI who it is.
	URL, URI string
	// Key and Certificate (DER) let it offer Basic256Sha256; without them there is
	// only a channel that secures nothing. SecuredOnly takes that one away, but for
	// asking what there is.
	Key         *rsa.PrivateKey
	Certificate []byte
	SecuredOnly bool
	// Login checks a user; nil lets in whoever says no name.
	Login func(user, password string) bool
	// MaxNodes is how many nodes one Read takes, 0 for MaxRead.
	MaxNodes int
	// Read gives the values of nodes, in their order.
	Read func(nodes []ReadNode) []DataValue
	// Heard, if set, is told each request.
	Heard func(m Message)
	Rand  io.Reader
	Now   func() time.Time
	// ID is the number of the connection, which its channel is named by.
	ID uint32

	send      int
	channel   *Channel
	token     NodeID
	nonce     []byte
	activated bool
	client    *x509.Certificate
}

// lifetime is how long keys are good, in milliseconds.
const lifetime = 3600_000

// Respond takes a chunk and gives what is to be sent; nothing while a request is not
// complete. An error ends the connection; what is to be sent before it is given too.
func (r *Responder) Respond(chunk []byte) ([]byte, error) {
	out, err := r.respond(chunk)
	if err != nil && !errors.Is(err, io.EOF) {
		status := BadUnexpectedError
		if errors.Is(err, ErrSecurity) {
			status = BadSecurityChecksFailed
		}
		errors.As(err, &status)
		return EncodeFailure(status, ""), err
	}
	return out, err
}

func (r *Responder) respond(chunk []byte) ([]byte, error) {
	if n, err := FrameLength(chunk); err != nil || n != len(chunk) {
		return nil, errors.Join(err, ErrFormat)
	}
	if r.send == 0 {
		l, _, err := DecodeHello(chunk)
		if err != nil {
			return nil, err
		}
		if r.send = int(min(l.Receive, MaxFrame)); r.send < MinFrame {
			return nil, fmt.Errorf("%w: a buffer of %d bytes", ErrBound, r.send)
		}
		return EncodeAcknowledge(Ours), nil
	}
	if Kind(chunk[:3]) == Open && r.channel == nil {
		if err := r.open(chunk); err != nil {
			return nil, err
		}
	}
	if r.channel == nil {
		return nil, fmt.Errorf("%w: there is no channel yet", ErrFormat)
	}
	received, err := r.channel.Take(chunk)
	if err != nil || received == nil {
		return nil, err
	}
	m, err := Decode(received.Body)
	var unknown *UnknownError
	if errors.As(err, &unknown) {
		return r.answer(Service, received.Request, 0, &ServiceFault{ResponseHeader{Result: BadServiceUnsupported}})
	}
	request, ok := m.(Request)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("%w: %T is no request", ErrFormat, m)
	}
	if r.Heard != nil {
		r.Heard(m)
	}
	handle := request.Header().Handle
	if o, ok := m.(*OpenSecureChannelRequest); ok && received.Kind == Open {
		return r.opened(o, received.Request)
	}
	if _, ok := m.(*CloseSecureChannelRequest); ok || received.Kind != Service {
		return nil, io.EOF
	}
	response, err := r.serve(m)
	if status := Status(0); errors.As(err, &status) {
		response, err = &ServiceFault{ResponseHeader{Result: status}}, nil
	}
	if err != nil {
		return nil, err
	}
	return r.answer(Service, received.Request, handle, response)
}

func (r *Responder) answer(kind Kind, request, handle uint32, m Response) ([]byte, error) {
	head := m.Head()
	head.At, head.Handle = r.Now(), handle
	body, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return r.channel.Seal(kind, request, body)
}

// open makes a channel as the client wants it.
func (r *Responder) open(chunk []byte) error {
	head := &coder{b: chunk[HeadLength:], reading: true}
	var uri string
	var certificate []byte
	head.take(4)
	head.text(&uri)
	head.bytes(&certificate)
	if head.err != nil {
		return head.err
	}
	c := &Channel{Policy: Policy{uri}, Mode: ModeNone, Server: true, Rand: r.Rand, Send: r.send}
	switch {
	case uri == None.URI:
	case uri != Basic256Sha256.URI || r.Key == nil:
		return BadSecurityPolicyRejected
	default:
		peer, err := x509.ParseCertificate(certificate)
		if err != nil {
			return BadCertificateInvalid
		}
		if _, err := CheckKey(peer); err != nil {
			return BadCertificateInvalid
		}
		c.Key, c.Certificate, c.Peer, r.client = r.Key, r.Certificate, peer, peer
	}
	r.channel = c
	return nil
}

// opened answers the request for a channel or for new keys.
func (r *Responder) opened(m *OpenSecureChannelRequest, request uint32) ([]byte, error) {
	c := r.channel
	secured := !c.Policy.none()
	if secured != (m.Mode == ModeSign || m.Mode == ModeSignAndEncrypt) || secured && len(m.Nonce) != NonceLength {
		return nil, BadSecurityModeRejected
	}
	nonce, err := r.random()
	if err != nil {
		return nil, err
	}
	c.Mode, c.ID = m.Mode, r.ID
	token := c.Token + 1
	out, err := r.answer(Open, request, m.Handle, &OpenSecureChannelResponse{
		Channel: r.ID, TokenID: token, Created: r.Now(), Lifetime: min(m.Lifetime, lifetime), Nonce: nonce,
	})
	c.Rekey(token, m.Nonce, nonce)
	return out, err
}

func (r *Responder) random() ([]byte, error) {
	b := make([]byte, NonceLength)
	if _, err := io.ReadFull(r.Rand, b); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	return b, nil
}

func (r *Responder) serve(m Message) (Response, error) {
	switch m := m.(type) {
	case *GetEndpointsRequest:
		return &GetEndpointsResponse{Endpoints: r.endpoints()}, nil
	case *CreateSessionRequest:
		return r.createSession(m)
	case *ActivateSessionRequest:
		return r.activate(m)
	case *CloseSessionRequest:
		if !r.knows(m.Token) {
			return nil, BadSessionIDInvalid
		}
		r.token, r.activated = NodeID{}, false
		return &CloseSessionResponse{}, nil
	case *ReadRequest:
		most := r.MaxNodes
		if most == 0 {
			most = MaxRead
		}
		switch {
		case !r.knows(m.Token) || !r.activated:
			return nil, BadSessionIDInvalid
		case len(m.Nodes) > most:
			return nil, BadTooManyOperations
		}
		return &ReadResponse{Results: r.Read(m.Nodes)}, nil
	}
	return nil, BadServiceUnsupported
}

func (r *Responder) knows(token NodeID) bool { return token != (NodeID{}) && token == r.token }

func (r *Responder) endpoints() []Endpoint {
	all := []Endpoint{{Policy: None.URI, Mode: ModeNone, Level: 0}}
	if r.Key != nil {
		secured := []Endpoint{{Policy: Basic256Sha256.URI, Mode: ModeSign, Level: 1}, {Policy: Basic256Sha256.URI, Mode: ModeSignAndEncrypt, Level: 2}}
		if all = append(all, secured...); r.SecuredOnly {
			all = secured
		}
	}
	for i := range all {
		e := &all[i]
		e.URL, e.Transport, e.Certificate = r.URL, TransportTCP, r.Certificate
		e.Server = Application{URI: r.URI, Product: r.URI, Name: r.URI, URLs: []string{r.URL}}
		if e.Tokens = []UserToken{{ID: "anonymous", Kind: TokenAnonymous, Policy: None.URI}}; r.Login != nil {
			e.Tokens = []UserToken{{ID: "username", Kind: TokenUserName, Policy: r.passwordPolicy()}}
		}
	}
	return all
}

// passwordPolicy encrypts passwords if there is a key to do it with.
func (r *Responder) passwordPolicy() string {
	if r.Key != nil {
		return Basic256Sha256.URI
	}
	return None.URI
}

func (r *Responder) createSession(m *CreateSessionRequest) (Response, error) {
	if r.channel.Policy.none() && r.SecuredOnly {
		return nil, BadSecurityPolicyRejected
	}
	var err error
	if r.nonce, err = r.random(); err != nil {
		return nil, err
	}
	token, err := r.random()
	if err != nil {
		return nil, err
	}
	r.token, r.activated = NodeID{Kind: 'b', Name: string(token)}, false
	out := &CreateSessionResponse{
		Session: NodeID{Namespace: 1, Kind: 'i', Number: r.ID}, Token: r.token, Timeout: m.Timeout, Nonce: r.nonce,
		Certificate: r.Certificate, Endpoints: r.endpoints(), MaxRequest: MaxMessage,
	}
	if r.client != nil {
		if out.Signature, err = SignSession(r.Key, m.Certificate, m.Nonce); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *Responder) activate(m *ActivateSessionRequest) (Response, error) {
	if !r.knows(m.Token) {
		return nil, BadSessionIDInvalid
	}
	if r.client != nil && VerifySession(r.client, r.Certificate, r.nonce, m.Signature) != nil {
		return nil, BadSecurityChecksFailed
	}
	switch {
	case m.Other:
		return nil, BadIdentityTokenRejected
	case r.Login == nil && m.User == "":
	case r.Login == nil || m.User == "":
		return nil, BadIdentityTokenRejected
	default:
		password, err := r.password(m)
		if err != nil || !r.Login(m.User, password) {
			return nil, BadUserAccessDenied
		}
	}
	nonce, err := r.random()
	if err != nil {
		return nil, err
	}
	r.nonce, r.activated = nonce, true
	return &ActivateSessionResponse{Nonce: nonce}, nil
}

// password opens an encrypted password, behind which is the nonce that was given.
func (r *Responder) password(m *ActivateSessionRequest) (string, error) {
	if m.Algorithm == "" {
		return string(m.Password), nil
	}
	if r.Key == nil {
		return "", ErrSecurity
	}
	plain, err := decryptOAEP(r.Key, m.Password)
	if err != nil {
		return "", err
	}
	if len(plain) < 4+len(r.nonce) || int64(binary.LittleEndian.Uint32(plain)) != int64(len(plain)-4) || string(plain[len(plain)-len(r.nonce):]) != string(r.nonce) {
		return "", ErrSecurity
	}
	return string(plain[4 : len(plain)-len(r.nonce)]), nil
}
