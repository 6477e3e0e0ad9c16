package link

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/opcua"
)

const (
	// opcuaPort is the port that IANA has for OPC UA.
	opcuaPort = 4840
	// defaultOPCUAAnswer bounds one request and its answer.
	defaultOPCUAAnswer = 10 * time.Second
	// maxOffers is how many of a server's endpoints an error names.
	maxOffers = 6
)

// Errors of an OPC UA server.
var (
	errNotOPCUA    = errors.New("it does not answer as an OPC UA server does")
	errNoEndpoint  = errors.New("the server offers no such security")
	errNoToken     = errors.New("the server does not let such a user in")
	errClearText   = errors.New("the server would have the password sent readable")
	errUntrusted   = errors.New("nothing vouches for the server's certificate")
	errServerCert  = errors.New("the server does not take the agent's certificate")
	errNoNode      = errors.New("the server has no such node")
	errManySession = errors.New("the server has no session to spare")
)

type opcuaEndpoint struct {
	host           string
	port           int
	path           string // with its slash, or empty
	security       opcua.Policy
	mode           uint32
	certFile       string
	keyFile        string
	trust          trust
	login          login
	connectTimeout time.Duration
	answerTimeout  time.Duration
}

// opcuaModes are the words for the modes of a channel.
var opcuaModes = map[string]uint32{"none": opcua.ModeNone, "sign": opcua.ModeSign, "sign_and_encrypt": opcua.ModeSignAndEncrypt}

func opcuaModeName(mode uint32) string {
	for name, m := range opcuaModes {
		if m == mode {
			return name
		}
	}
	return fmt.Sprintf("mode %d", mode)
}

func parseOPCUA(rest string, s *settings) (Endpoint, error) {
	example := schemes()["opcua"].example
	authority, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return nil, fmt.Errorf("connect: opcua: needs two slashes before the host, for example %s", example)
	}
	authority, path, _ := strings.Cut(authority, "/")
	host, own, err := splitHostPort(authority)
	if err != nil {
		return nil, err
	}
	if own != "" {
		s.values["port"], s.origin["port"] = own, "connect"
	}
	e := &opcuaEndpoint{host: host, port: opcuaPort, certFile: s.values["cert_file"], keyFile: s.values["key_file"]}
	if path != "" {
		if e.path, err = url.PathUnescape("/" + path); err != nil {
			return nil, errors.New("connect: the path has a % that two hexadecimal digits do not follow; write % itself as %25")
		}
	}
	var errs [6]error
	if _, ok := s.values["port"]; ok {
		e.port, errs[0] = s.number("port", 1, 65535)
	}
	e.connectTimeout, errs[1] = s.duration("connect_timeout", defaultConnectTimeout, 100*time.Millisecond, 5*time.Minute, false)
	e.answerTimeout, errs[2] = s.duration("answer_timeout", defaultOPCUAAnswer, 100*time.Millisecond, 5*time.Minute, false)
	e.trust, errs[3] = s.trust()
	errs[4] = s.credentials(&e.login)
	e.login.pause, errs[5] = s.duration("login_pause", defaultLoginPause, time.Minute, 24*time.Hour, false)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return e, e.parseSecurity(s)
}

// parseSecurity reads how the channel is secured. Nothing is sent readable but where
// there is no password, or where the URL says so.
func (e *opcuaEndpoint) parseSecurity(s *settings) error {
	usual := "none"
	if e.login.user != "" || s.values["mode"] != "" && s.values["mode"] != "none" || e.certFile != "" {
		usual = "Basic256Sha256"
	}
	security, err := s.choice("security", usual, []string{"none", "Basic256Sha256"})
	if err != nil {
		return err
	}
	usual = "none"
	e.security = opcua.None
	if security != "none" {
		e.security, usual = opcua.Basic256Sha256, "sign_and_encrypt"
	}
	mode, err := s.choice("mode", usual, []string{"none", "sign", "sign_and_encrypt"})
	if err != nil {
		return err
	}
	e.mode = opcuaModes[mode]
	switch {
	case (security == "none") != (mode == "none"):
		return fmt.Errorf("connect: security=%s and mode=%s do not go together; without security the mode is none, with it sign or sign_and_encrypt", security, mode)
	case (e.certFile == "") != (e.keyFile == ""):
		return errors.New("connect: cert_file and key_file belong together; set both or none")
	case security != "none" && e.certFile == "":
		return fmt.Errorf("connect: %s needs a certificate of the agent's own: make one (%s) and set cert_file and key_file, or write security=none, by which everything is sent readable", security, makeCertificate)
	case security == "none" && e.certFile != "":
		return errors.New("connect: cert_file says who the agent is on a secured channel, and security=none has none; take it out")
	case e.trust.pin != "" && e.certFile == "" && e.login.user == "":
		return errors.New("connect: pin is checked on a secured channel and before a password is sent, and here is neither; take it out, or set security")
	case e.trust.caFile != "" && e.certFile == "":
		return errors.New("connect: ca_file is for a secured channel; take it out, or set security")
	}
	return nil
}

// makeCertificate makes what an OPC UA server wants of a client: RSA, and a URI that
// names the application.
const makeCertificate = `openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=lanepost -addext "subjectAltName=URI:urn:lanepost" -addext "keyUsage=digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment" -keyout key.pem -out cert.pem`

func (e *opcuaEndpoint) Scheme() string { return "opcua" }

func (e *opcuaEndpoint) address() string { return net.JoinHostPort(e.host, strconv.Itoa(e.port)) }

// url is what the server knows itself by.
func (e *opcuaEndpoint) url() string {
	return "opc.tcp://" + e.address() + (&url.URL{Path: e.path}).EscapedPath()
}

// place is the URL without options, for errors.
func (e *opcuaEndpoint) place() string {
	return "opcua://" + strings.ReplaceAll(e.address(), "%", "%25") + (&url.URL{Path: e.path}).EscapedPath()
}

func (e *opcuaEndpoint) String() string {
	var options []string
	add := func(key, value, usual string) {
		if value != usual {
			options = append(options, key+"="+url.QueryEscape(value))
		}
	}
	security := "none"
	if e.security != opcua.None {
		security = opcua.PolicyName(e.security.URI)
	}
	add("username", e.login.user, "")
	add("password_file", e.login.file, "")
	add("password_env", e.login.env, "")
	add("security", security, map[bool]string{true: "none"}[e.login.user == ""])
	add("mode", opcuaModeName(e.mode), map[bool]string{true: "none", false: "sign_and_encrypt"}[security == "none"])
	add("cert_file", e.certFile, "")
	add("key_file", e.keyFile, "")
	add("pin", e.trust.pin, "")
	add("ca_file", e.trust.caFile, "")
	add("connect_timeout", e.connectTimeout.String(), defaultConnectTimeout.String())
	add("answer_timeout", e.answerTimeout.String(), defaultOPCUAAnswer.String())
	add("login_pause", e.login.pause.String(), defaultLoginPause.String())
	if len(options) > 0 {
		return e.place() + "?" + strings.Join(options, "&")
	}
	return e.place()
}

// identity is who the agent is on a secured channel.
type opcuaIdentity struct {
	key         *rsa.PrivateKey
	certificate []byte
	uri         string
}

func (e *opcuaEndpoint) identity() (opcuaIdentity, error) {
	// The name of an application that has no certificate to tell it.
	id := opcuaIdentity{uri: "urn:lanepost"}
	if e.certFile == "" {
		return id, nil
	}
	pair, err := tls.LoadX509KeyPair(e.certFile, e.keyFile)
	if err != nil {
		return id, fmt.Errorf("cert_file and key_file: %w", err)
	}
	key, isRSA := pair.PrivateKey.(*rsa.PrivateKey)
	_, err = opcua.CheckKey(pair.Leaf)
	switch {
	case !isRSA || err != nil:
		return id, fmt.Errorf("cert_file %s: its key is not one of RSA with 2048 to 4096 bits; make one: %s", e.certFile, makeCertificate)
	case len(pair.Leaf.URIs) == 0:
		return id, fmt.Errorf("cert_file %s: it has no URI that names the application, which servers look for; make one: %s", e.certFile, makeCertificate)
	}
	return opcuaIdentity{key: key, certificate: pair.Leaf.Raw, uri: pair.Leaf.URIs[0].String()}, nil
}

// Open connects, looks what the server offers, and opens a session for reading.
func (e *opcuaEndpoint) Open(ctx context.Context) (Conn, error) {
	if err := e.login.mayTry(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.connectTimeout)
	defer cancel()
	id, err := e.identity()
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", e.place(), err)
	}
	c, err := e.open(ctx, id)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, fmt.Errorf("connect to %s: %w", e.place(), err)
	}
	return c, nil
}

func (e *opcuaEndpoint) open(ctx context.Context, id opcuaIdentity) (*opcuaConn, error) {
	c, err := e.dial(ctx, &opcua.Channel{Policy: opcua.None, Mode: opcua.ModeNone})
	if err != nil {
		return nil, err
	}
	var offer *opcua.Endpoint
	if err = c.opening(ctx, func() (err error) {
		offer, err = e.discover(c)
		return err
	}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if e.security != opcua.None {
		// What was asked in the clear is known; the rest goes over a channel of its own.
		if err := c.Close(); err != nil {
			return nil, err
		}
		peer, err := e.trusted(offer.Certificate)
		if err != nil {
			return nil, err
		}
		if c, err = e.dial(ctx, &opcua.Channel{Policy: e.security, Mode: e.mode, Key: id.key, Certificate: id.certificate, Peer: peer}); err != nil {
			return nil, err
		}
	}
	if err = c.opening(ctx, func() error { return e.logIn(c, offer, id) }); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// dial connects and opens the channel.
func (e *opcuaEndpoint) dial(ctx context.Context, channel *opcua.Channel) (*opcuaConn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: defaultKeepalive, Interval: keepaliveEvery, Count: keepaliveProbes,
	}}
	conn, err := dialer.DialContext(ctx, "tcp", e.address())
	if err != nil {
		return nil, plain(err)
	}
	c := newOPCUAConn(conn, channel, e)
	if err = c.opening(ctx, func() error { return c.handshake(e.url()) }); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// discover asks what the server offers and picks the endpoint of the settings.
func (e *opcuaEndpoint) discover(c *opcuaConn) (*opcua.Endpoint, error) {
	answer, err := request[*opcua.GetEndpointsResponse](c, &opcua.GetEndpointsRequest{URL: e.url()})
	if err != nil {
		return nil, fmt.Errorf("ask what it offers: %w", err)
	}
	var offers []string
	for i := range answer.Endpoints {
		offered := &answer.Endpoints[i]
		if offered.Transport != opcua.TransportTCP && offered.Transport != "" {
			continue
		}
		if offered.Policy == e.security.URI && offered.Mode == e.mode {
			return offered, nil
		}
		if text := "security=" + opcua.PolicyName(offered.Policy) + " mode=" + opcuaModeName(offered.Mode); !slices.Contains(offers, text) && len(offers) < maxOffers {
			offers = append(offers, echo(text))
		}
	}
	if len(offers) == 0 {
		offers = []string{"nothing that can be reached by opc.tcp"}
	}
	return nil, fmt.Errorf("%w: not security=%s mode=%s, but %s", errNoEndpoint, opcua.PolicyName(e.security.URI), opcuaModeName(e.mode), list(offers, "and"))
}

// trusted checks the certificate that the server shows.
func (e *opcuaEndpoint) trusted(der []byte) (*x509.Certificate, error) {
	chain, err := x509.ParseCertificates(der)
	if err != nil || len(chain) == 0 {
		return nil, fmt.Errorf("%w: it shows none that can be read", errUntrusted)
	}
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	got := hex.EncodeToString(sum[:])
	config, err := e.trust.config(e.host, e.place())
	switch {
	case err != nil:
		return nil, err
	case e.trust.pin != "" && got != e.trust.pin:
		return nil, &pinError{got: got}
	case e.trust.pin == "" && e.trust.caFile == "":
		return nil, fmt.Errorf("%w: it is that of %s with the fingerprint %s", errUntrusted, echo(leaf.Subject.String()), got)
	case e.trust.caFile != "":
		others := x509.NewCertPool()
		for _, c := range chain[1:] {
			others.AddCert(c)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: config.RootCAs, Intermediates: others, DNSName: e.host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			return nil, fmt.Errorf("%w: ca_file does not: %w; its fingerprint is %s", errUntrusted, err, got)
		}
	}
	if _, err := opcua.CheckKey(leaf); err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	return leaf, nil
}
