package opcua

import (
	"fmt"
	"time"
)

// Message is a request or a response of a service.
type Message interface {
	// encoding is the numeric id of the binary form, in namespace 0.
	encoding() uint32
	fields(c *coder)
}

// messages makes a message of each encoding (IEC 62541-6 annex A, NodeIds.csv).
var messages = map[uint32]func() Message{
	397: func() Message { return new(ServiceFault) },
	428: func() Message { return new(GetEndpointsRequest) },
	431: func() Message { return new(GetEndpointsResponse) },
	446: func() Message { return new(OpenSecureChannelRequest) },
	449: func() Message { return new(OpenSecureChannelResponse) },
	452: func() Message { return new(CloseSecureChannelRequest) },
	461: func() Message { return new(CreateSessionRequest) },
	464: func() Message { return new(CreateSessionResponse) },
	467: func() Message { return new(ActivateSessionRequest) },
	470: func() Message { return new(ActivateSessionResponse) },
	473: func() Message { return new(CloseSessionRequest) },
	476: func() Message { return new(CloseSessionResponse) },
	631: func() Message { return new(ReadRequest) },
	634: func() Message { return new(ReadResponse) },
}

// Encode writes a message with the id of its form before it.
func Encode(m Message) ([]byte, error) {
	c := &coder{}
	c.nodeID(&NodeID{Kind: 'i', Number: m.encoding()})
	m.fields(c)
	if c.err != nil {
		return nil, c.err
	}
	return c.b, nil
}

// An UnknownError is a message that this package does not know: another service.
type UnknownError struct{ ID NodeID }

func (e *UnknownError) Error() string { return "a message of the encoding " + e.ID.String() }

// Decode reads a message. What follows the last field is left alone, so that a later
// version of the protocol may add one.
func Decode(b []byte) (Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrBound, len(b))
	}
	c := &coder{b: b, reading: true}
	var id NodeID
	c.nodeID(&id)
	if c.err != nil {
		return nil, c.err
	}
	build := messages[id.Number]
	if id.Namespace != 0 || id.Kind != 'i' || build == nil {
		return nil, &UnknownError{id}
	}
	m := build()
	m.fields(c)
	if c.err != nil {
		return nil, fmt.Errorf("%T: %w", m, c.err)
	}
	return m, nil
}

// RequestHeader begins each request.
type RequestHeader struct {
	// Token is what CreateSession gave.
	Token  NodeID
	At     time.Time
	Handle uint32
	// Timeout is how long the client waits, in milliseconds.
	Timeout uint32
}

func (h *RequestHeader) fields(c *coder) {
	var diagnostics uint32
	var audit string
	c.nodeID(&h.Token)
	c.time(&h.At)
	c.u32(&h.Handle)
	c.u32(&diagnostics)
	c.text(&audit)
	c.u32(&h.Timeout)
	c.extension(&NodeID{}, new([]byte))
}

// ResponseHeader begins each response.
type ResponseHeader struct {
	At     time.Time
	Handle uint32
	Result Status
}

func (h *ResponseHeader) fields(c *coder) {
	c.time(&h.At)
	c.u32(&h.Handle)
	c.u32((*uint32)(&h.Result))
	c.diagnostics()
	var table []string
	list(c, &table, maxList, c.text)
	c.extension(&NodeID{}, new([]byte))
}

// Head gives the header of a response.
func (h *ResponseHeader) Head() *ResponseHeader { return h }

// Response is a message that a server sends.
type Response interface {
	Message
	Head() *ResponseHeader
}

// Request is a message that a client sends.
type Request interface {
	Message
	Header() *RequestHeader
}

// Header gives the header of a request.
func (h *RequestHeader) Header() *RequestHeader { return h }

// ServiceFault is the response to a request that failed as a whole.
type ServiceFault struct{ ResponseHeader }

func (*ServiceFault) encoding() uint32  { return 397 }
func (m *ServiceFault) fields(c *coder) { m.ResponseHeader.fields(c) }

// Modes of a secure channel.
const (
	ModeNone           uint32 = 1
	ModeSign           uint32 = 2
	ModeSignAndEncrypt uint32 = 3
)

// OpenSecureChannelRequest opens a channel, or renews its keys.
type OpenSecureChannelRequest struct {
	RequestHeader
	Version  uint32
	Renew    uint32 // 1 to renew
	Mode     uint32
	Nonce    []byte
	Lifetime uint32 // in milliseconds
}

func (*OpenSecureChannelRequest) encoding() uint32 { return 446 }
func (m *OpenSecureChannelRequest) fields(c *coder) {
	m.RequestHeader.fields(c)
	c.u32(&m.Version)
	c.u32(&m.Renew)
	c.u32(&m.Mode)
	c.bytes(&m.Nonce)
	c.u32(&m.Lifetime)
}

// OpenSecureChannelResponse gives the token that names the keys.
type OpenSecureChannelResponse struct {
	ResponseHeader
	Version  uint32
	Channel  uint32
	TokenID  uint32
	Created  time.Time
	Lifetime uint32 // in milliseconds
	Nonce    []byte
}

func (*OpenSecureChannelResponse) encoding() uint32 { return 449 }
func (m *OpenSecureChannelResponse) fields(c *coder) {
	m.ResponseHeader.fields(c)
	c.u32(&m.Version)
	c.u32(&m.Channel)
	c.u32(&m.TokenID)
	c.time(&m.Created)
	c.u32(&m.Lifetime)
	c.bytes(&m.Nonce)
}

// CloseSecureChannelRequest ends a channel. It is not answered.
type CloseSecureChannelRequest struct{ RequestHeader }

func (*CloseSecureChannelRequest) encoding() uint32  { return 452 }
func (m *CloseSecureChannelRequest) fields(c *coder) { m.RequestHeader.fields(c) }

// GetEndpointsRequest asks how a server may be reached.
type GetEndpointsRequest struct {
	RequestHeader
	URL string
}

func (*GetEndpointsRequest) encoding() uint32 { return 428 }
func (m *GetEndpointsRequest) fields(c *coder) {
	m.RequestHeader.fields(c)
	c.text(&m.URL)
	var locales, profiles []string
	list(c, &locales, maxList, c.text)
	list(c, &profiles, maxList, c.text)
}

// GetEndpointsResponse says how a server may be reached.
type GetEndpointsResponse struct {
	ResponseHeader
	Endpoints []Endpoint
}

func (*GetEndpointsResponse) encoding() uint32 { return 431 }
func (m *GetEndpointsResponse) fields(c *coder) {
	m.ResponseHeader.fields(c)
	list(c, &m.Endpoints, MaxEndpoints, func(e *Endpoint) { e.fields(c) })
}

// Application describes a client or a server.
type Application struct {
	URI, Product, Name string
	// Kind is 0 for a server and 1 for a client.
	Kind uint32
	URLs []string
}

func (a *Application) fields(c *coder) {
	var gateway, discovery string
	c.text(&a.URI)
	c.text(&a.Product)
	c.localizedText(&a.Name)
	c.u32(&a.Kind)
	c.text(&gateway)
	c.text(&discovery)
	list(c, &a.URLs, maxList, c.text)
}

// Endpoint is one way of reaching a server.
type Endpoint struct {
	URL         string
	Server      Application
	Certificate []byte
	Mode        uint32
	// Policy is the URI of the security policy.
	Policy string
	Tokens []UserToken
	// Transport is TransportTCP, or another one that is none of ours.
	Transport string
	Level     byte
}

// TransportTCP is the transport of this package.
const TransportTCP = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"

func (e *Endpoint) fields(c *coder) {
	c.text(&e.URL)
	e.Server.fields(c)
	c.bytes(&e.Certificate)
	c.u32(&e.Mode)
	c.text(&e.Policy)
	list(c, &e.Tokens, maxList, func(t *UserToken) { t.fields(c) })
	c.text(&e.Transport)
	c.u8(&e.Level)
}

// Kinds of a user token.
const (
	TokenAnonymous uint32 = 0
	TokenUserName  uint32 = 1
)

// UserToken is one way for a user to log in.
type UserToken struct {
	ID   string
	Kind uint32
	// Policy is the URI of the security policy that a password is encrypted by; the
	// one of the channel if it is empty.
	Policy string
}

func (t *UserToken) fields(c *coder) {
	var issued, issuer string
	c.text(&t.ID)
	c.u32(&t.Kind)
	c.text(&issued)
	c.text(&issuer)
	c.text(&t.Policy)
}

// Signature proves that one has the key of a certificate.
type Signature struct {
	Algorithm string
	Value     []byte
}

func (s *Signature) fields(c *coder) {
	c.text(&s.Algorithm)
	c.bytes(&s.Value)
}

// CreateSessionRequest begins a session.
type CreateSessionRequest struct {
	RequestHeader
	Client      Application
	URL         string
	Name        string
	Nonce       []byte
	Certificate []byte
	// Timeout is how long the server keeps the session without a request, in
	// milliseconds.
	Timeout     float64
	MaxResponse uint32
}

func (*CreateSessionRequest) encoding() uint32 { return 461 }
func (m *CreateSessionRequest) fields(c *coder) {
	m.RequestHeader.fields(c)
	m.Client.fields(c)
	var server string
	c.text(&server)
	c.text(&m.URL)
	c.text(&m.Name)
	c.bytes(&m.Nonce)
	c.bytes(&m.Certificate)
	c.f64(&m.Timeout)
	c.u32(&m.MaxResponse)
}

// CreateSessionResponse gives the token that names the session.
type CreateSessionResponse struct {
	ResponseHeader
	Session     NodeID
	Token       NodeID
	Timeout     float64
	Nonce       []byte
	Certificate []byte
	Endpoints   []Endpoint
	Signature   Signature
	MaxRequest  uint32
}

func (*CreateSessionResponse) encoding() uint32 { return 464 }
func (m *CreateSessionResponse) fields(c *coder) {
	m.ResponseHeader.fields(c)
	c.nodeID(&m.Session)
	c.nodeID(&m.Token)
	c.f64(&m.Timeout)
	c.bytes(&m.Nonce)
	c.bytes(&m.Certificate)
	list(c, &m.Endpoints, MaxEndpoints, func(e *Endpoint) { e.fields(c) })
	c.softwareCertificates()
	m.Signature.fields(c)
	c.u32(&m.MaxRequest)
}

// softwareCertificates are there for older versions of the protocol.
func (c *coder) softwareCertificates() {
	var none []Signature
	list(c, &none, maxList, func(*Signature) {
		c.skipBytes()
		c.skipBytes()
	})
}

// Identities of a user.
const (
	anonymousIdentity = 321
	userNameIdentity  = 324
)

// ActivateSessionRequest says who the user is.
type ActivateSessionRequest struct {
	RequestHeader
	Signature Signature
	// TokenID is the ID of the UserToken that the server offers.
	TokenID string
	// User is empty for an anonymous one.
	User string
	// Password is encrypted by Algorithm, or plain if that is empty.
	Password  []byte
	Algorithm string
	// Other: the server is told who the user is by a token that this package lacks.
	Other bool
}

func (*ActivateSessionRequest) encoding() uint32 { return 467 }
func (m *ActivateSessionRequest) fields(c *coder) {
	m.RequestHeader.fields(c)
	m.Signature.fields(c)
	c.softwareCertificates()
	var locales []string
	list(c, &locales, maxList, c.text)
	id := NodeID{Kind: 'i', Number: anonymousIdentity}
	if m.User != "" {
		id.Number = userNameIdentity
	}
	identity := &coder{}
	if !c.reading {
		m.identity(identity, id.Number)
	}
	c.extension(&id, &identity.b)
	if c.reading {
		identity.reading = true
		m.identity(identity, id.Number)
	}
	if identity.err != nil {
		c.fail(identity.err)
	}
	var token Signature
	token.fields(c)
}

func (m *ActivateSessionRequest) identity(c *coder, number uint32) {
	switch number {
	case 0:
		// No token at all is that of an anonymous user.
	case anonymousIdentity:
		c.text(&m.TokenID)
	case userNameIdentity:
		c.text(&m.TokenID)
		c.text(&m.User)
		c.bytes(&m.Password)
		c.text(&m.Algorithm)
	default:
		m.Other = true
	}
}

// ActivateSessionResponse lets the user in.
type ActivateSessionResponse struct {
	ResponseHeader
	Nonce []byte
}

func (*ActivateSessionResponse) encoding() uint32 { return 470 }
func (m *ActivateSessionResponse) fields(c *coder) {
	m.ResponseHeader.fields(c)
	c.bytes(&m.Nonce)
	c.results()
}

// results are those of the single parts of a request that has none here.
func (c *coder) results() {
	var codes []uint32
	list(c, &codes, maxList, c.u32)
	c.diagnosticInfos()
}

func (c *coder) diagnosticInfos() {
	var infos []struct{}
	list(c, &infos, maxList, func(*struct{}) { c.diagnostics() })
}

// CloseSessionRequest ends a session.
type CloseSessionRequest struct {
	RequestHeader
	DeleteSubscriptions bool
}

func (*CloseSessionRequest) encoding() uint32 { return 473 }
func (m *CloseSessionRequest) fields(c *coder) {
	m.RequestHeader.fields(c)
	c.flag(&m.DeleteSubscriptions)
}

// CloseSessionResponse says that the session is over.
type CloseSessionResponse struct{ ResponseHeader }

func (*CloseSessionResponse) encoding() uint32  { return 476 }
func (m *CloseSessionResponse) fields(c *coder) { m.ResponseHeader.fields(c) }

// AttributeValue is the attribute of a node that holds its value.
const AttributeValue uint32 = 13

// Which times a server gives with a value.
const (
	TimestampsSource uint32 = 0
	TimestampsBoth   uint32 = 2
)

// ReadRequest asks for attributes of nodes.
type ReadRequest struct {
	RequestHeader
	// MaxAge is how old a value may be, in milliseconds; 0 asks for the newest.
	MaxAge     float64
	Timestamps uint32
	Nodes      []ReadNode
}

// ReadNode is an attribute of a node.
type ReadNode struct {
	ID        NodeID
	Attribute uint32
	// Range picks elements of an array.
	Range string
}

func (*ReadRequest) encoding() uint32 { return 631 }
func (m *ReadRequest) fields(c *coder) {
	m.RequestHeader.fields(c)
	c.f64(&m.MaxAge)
	c.u32(&m.Timestamps)
	list(c, &m.Nodes, MaxRead, func(n *ReadNode) {
		var encoding uint16
		var name string
		c.nodeID(&n.ID)
		c.u32(&n.Attribute)
		c.text(&n.Range)
		c.u16(&encoding)
		c.text(&name)
	})
}

// ReadResponse has one result for each node of the request, in its order.
type ReadResponse struct {
	ResponseHeader
	Results []DataValue
}

func (*ReadResponse) encoding() uint32 { return 634 }
func (m *ReadResponse) fields(c *coder) {
	m.ResponseHeader.fields(c)
	list(c, &m.Results, MaxRead, c.dataValue)
	c.diagnosticInfos()
}
