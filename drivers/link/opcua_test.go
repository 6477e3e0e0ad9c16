package link

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/opcua"
)

// opcuaPair is a certificate of a client or a server.
type opcuaPair struct {
	key       *rsa.PrivateKey
	der       []byte
	cert, pem string // files: the certificate and its key
	pin       string
}

func newOPCUAPair(t *testing.T, name string) opcuaPair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	uri, err := url.Parse("urn:" + name)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		URIs: []*url.URL{uri}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	p := opcuaPair{key: key}
	p.der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	sum := sha256.Sum256(p.der)
	p.pin = hex.EncodeToString(sum[:])
	dir := t.TempDir()
	p.cert, p.pem = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.der}), 0o600))
	require.NoError(t, os.WriteFile(p.pem, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600))
	return p
}

// What a server that is not ours said (node-opcua 2.186.4, asked by this link), chunk by
// chunk, is understood: endpoints, a session, a limit of four nodes, values of all sorts.
func TestOPCUAOfAnotherServer(t *testing.T) {
	recorded, err := os.ReadFile("testdata/node-opcua.hex")
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := background(func() error {
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		for line := range strings.FieldsSeq(string(recorded)) {
			if _, err := readChunk(conn); err != nil {
				return err
			}
			answer, err := hex.DecodeString(line)
			if err != nil {
				return err
			}
			if _, err := conn.Write(answer); err != nil {
				return err
			}
		}
		last, err := readChunk(conn)
		if err == nil && string(last[:3]) != "CLO" {
			err = fmt.Errorf("the last chunk is %q", last[:3])
		}
		return err
	})
	bus := openBus(t, "opcua://"+l.Addr().String()+"/UA/Scanner")
	var points []Point
	for _, name := range []string{"Scanning", "Count", "kV", "Word", "F", "Life", "Name", "Bad", "Uncertain", "No"} {
		points = append(points, Point{At: "ns=1;s=Scanner." + name})
	}
	for _, id := range []string{"i=2255", "i=84", "i=2256", "i=2258", "i=2267"} {
		points = append(points, Point{At: id})
	}
	got, err := bus.Sample(t.Context(), points)
	require.NoError(t, err)
	require.Len(t, got, len(points))
	for i, want := range []float64{1, -7, 160.5, 4, 1.5, 1 << 53} {
		require.NoError(t, got[i].Err)
		require.Equal(t, want, got[i].Value)
	}
	require.Equal(t, time.Date(2026, 11, 28, 0, 49, 3, 740932100, time.UTC), got[0].At)
	for i, want := range map[int]string{
		6: "of the type String", 7: "BadSensorFailure", 8: "doubts the value: UncertainLastUsableValue", 9: "BadNodeIdUnknown",
		10: "array of 2 elements", 11: "BadAttributeIdInvalid", 12: "ExtensionObject", 13: "DateTime",
	} {
		require.ErrorContains(t, got[i].Err, want)
	}
	require.Equal(t, 255.0, got[14].Value)
	require.NoError(t, bus.Close())
	require.NoError(t, await(t, done))
}

func readChunk(conn net.Conn) ([]byte, error) {
	chunk := make([]byte, opcua.HeadLength)
	if _, err := io.ReadFull(conn, chunk); err != nil {
		return nil, err
	}
	n, err := opcua.FrameLength(chunk)
	if err != nil {
		return nil, err
	}
	chunk = append(chunk, make([]byte, n-len(chunk))...)
	_, err = io.ReadFull(conn, chunk[opcua.HeadLength:])
	return chunk, err
}

// plc is a server of our own, whose behaviour a test decides.
type plc struct {
	address string

	mu       sync.Mutex
	values   map[string]opcua.DataValue
	requests []string
	hold     chan struct{} // a Read is answered when it is closed
	held     chan struct{} // a hint that a Read is held
	reads    []int
	hangUp   bool
	mangle   func([]byte) []byte
}

// newPLC starts a server.
func newPLC(t *testing.T, setup func(*opcua.Responder)) *plc {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &plc{address: l.Addr().String(), held: make(chan struct{}, 16)}
	var running sync.WaitGroup
	over := make(chan struct{})
	running.Go(func() {
		for id := uint32(1); ; id++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := &opcua.Responder{URL: "opc.tcp://" + s.address, URI: "urn:plc", Rand: rand.Reader, Now: time.Now, ID: id}
			r.Read = func(nodes []opcua.ReadNode) []opcua.DataValue { return s.read(nodes, over) }
			if setup != nil {
				setup(r)
			}
			running.Go(func() { s.serve(conn, r) })
			running.Go(func() {
				<-over
				_ = conn.Close() // it may be closed already
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		close(over)
		running.Wait()
	})
	return s
}

func (s *plc) read(nodes []opcua.ReadNode, over chan struct{}) []opcua.DataValue {
	s.mu.Lock()
	hold := s.hold
	s.reads = append(s.reads, len(nodes))
	var out []opcua.DataValue
	for _, n := range nodes {
		v, ok := s.values[n.ID.String()]
		if !ok {
			v = opcua.DataValue{Status: opcua.BadNodeIDUnknown}
		}
		out = append(out, v)
	}
	s.mu.Unlock()
	if hold != nil {
		s.held <- struct{}{}
		select {
		case <-hold:
		case <-over:
		}
	}
	return out
}

func (s *plc) set(id string, v opcua.DataValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = map[string]opcua.DataValue{}
	}
	s.values[id] = v
}

// with changes the server under its lock.
func (s *plc) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// services are the numbers of the requests that are for reading, by hand from the
// Foundation's NodeIds.csv, and what the other chunks begin with.
var services = map[uint16]string{428: "GetEndpoints", 446: "OpenSecureChannel", 452: "CloseSecureChannel", 461: "CreateSession", 467: "ActivateSession", 473: "CloseSession", 631: "Read"}

func (s *plc) serve(conn net.Conn, r *opcua.Responder) {
	defer conn.Close()
	for {
		chunk, err := readChunk(conn)
		if err != nil {
			return
		}
		s.with(func() {
			name := string(chunk[:3])
			if name == "MSG" && r.Key == nil {
				// Not by our decoder: header, channel, token, sequence, request, 01 00, number.
				number := binary.LittleEndian.Uint16(chunk[26:])
				if name = services[number]; name == "" {
					name = fmt.Sprint("service ", number)
				}
			}
			s.requests = append(s.requests, name)
		})
		out, err := r.Respond(chunk)
		s.mu.Lock()
		hangUp, mangle := s.hangUp, s.mangle
		s.mu.Unlock()
		if mangle != nil {
			out = mangle(out)
		}
		if hangUp {
			return
		}
		if _, failed := conn.Write(out); err != nil || failed != nil {
			return
		}
	}
}

func number(t opcua.Type, bits uint64) opcua.DataValue {
	return opcua.DataValue{Value: opcua.Variant{Type: t, Bits: bits}}
}

var scanning = Point{At: "ns=1;s=scanning"}

// Every byte that the agent sends is one of opening, reading and closing.
func TestOPCUAOnlyReads(t *testing.T) {
	s := newPLC(t, nil)
	s.set(scanning.At, number(opcua.Boolean, 1))
	e, err := Parse("opcua://"+s.address, nil)
	require.NoError(t, err)
	c, err := e.Open(t.Context())
	require.NoError(t, err)
	bus, ok := c.(Bus)
	require.True(t, ok)
	for range 2 {
		_, err = bus.Sample(t.Context(), []Point{scanning})
		require.NoError(t, err)
	}
	c.(*opcuaConn).renewAt = time.Now().Add(-time.Second)
	_, err = bus.Sample(t.Context(), []Point{scanning, {At: "not a node"}, {At: "ns=1;s=none"}})
	require.NoError(t, err)
	_, err = c.Write([]byte("x"))
	require.Error(t, err)
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.requests[len(s.requests)-1] == "CLO"
	}, 10*time.Second, time.Millisecond)
	s.with(func() {
		require.Equal(t, []string{
			"HEL", "OPN", "GetEndpoints", "CreateSession", "ActivateSession", "Read", // the limit
			"Read", "Read", "OPN", "Read", "CloseSession", "CLO",
		}, s.requests)
	})
}

func TestOPCUASecured(t *testing.T) {
	own := newOPCUAPair(t, "lanepost-test")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("not so secret\n"), 0o600))
	var login atomic.Pointer[func(user, password string) bool]
	pair := newOPCUAPair(t, "plc")
	s := newPLC(t, func(r *opcua.Responder) {
		r.Key, r.Certificate, r.Login = pair.key, pair.der, *login.Load()
	})
	s.set(scanning.At, number(opcua.Boolean, 1))
	base := "opcua://" + s.address + "?"
	identity := "cert_file=" + own.cert + "&key_file=" + own.pem
	user := "&username=lane&password_file=" + secret
	lane := func(user, password string) bool { return user == "lane" && password == "not so secret" }
	for name, test := range map[string]struct {
		options string
		login   func(user, password string) bool
		err     error
	}{
		"encrypted":                {identity + "&pin=" + pair.pin, nil, nil},
		"signed":                   {identity + "&mode=sign&pin=" + pair.pin, nil, nil},
		"authority":                {identity + "&ca_file=" + pair.cert, nil, nil},
		"a user":                   {identity + "&pin=" + pair.pin + user, lane, nil},
		"a user, signed":           {identity + "&mode=sign&pin=" + pair.pin + user, lane, nil},
		"a user, open by word":     {"security=none" + user, lane, nil},
		"a user, open, pinned":     {"security=none&pin=" + pair.pin + user, lane, nil},
		"a user, another server":   {"security=none&pin=" + own.pin + user, lane, &pinError{got: pair.pin}},
		"nothing vouches":          {identity, nil, errUntrusted},
		"another pin":              {identity + "&pin=" + own.pin, nil, &pinError{got: pair.pin}},
		"another authority":        {identity + "&ca_file=" + own.cert, nil, errUntrusted},
		"wrong user":               {identity + "&pin=" + pair.pin + user, func(string, string) bool { return false }, ErrLogin},
		"a user where none is":     {identity + "&pin=" + pair.pin + user, nil, errNoToken},
		"nobody, but one is asked": {identity + "&pin=" + pair.pin, lane, errNoToken},
	} {
		t.Run(name, func(t *testing.T) {
			login.Store(&test.login)
			e, err := Parse(base+test.options, nil)
			require.NoError(t, err)
			c, err := e.Open(t.Context())
			if test.err == nil {
				require.NoError(t, err)
				for _, again := range []bool{false, true} {
					if again { // the keys of a channel are renewed
						c.(*opcuaConn).renewAt = time.Now().Add(-time.Second)
					}
					got, err := c.(Bus).Sample(t.Context(), []Point{scanning})
					require.NoError(t, err)
					require.Equal(t, []Sample{{Value: 1}}, got)
				}
				require.NoError(t, c.Close())
				return
			}
			var pin, want *pinError
			if errors.As(test.err, &want) {
				require.ErrorAs(t, err, &pin)
				require.Equal(t, want.got, pin.got)
			} else {
				require.ErrorIs(t, err, test.err)
			}
			require.NotEmpty(t, Hint(err))
			if errors.Is(err, ErrLogin) {
				s.with(func() { s.requests = nil })
				_, err = e.Open(t.Context())
				require.ErrorIs(t, err, ErrLogin)
				s.with(func() { require.Empty(t, s.requests, "a password that was rejected is not tried again at once") })
			}
			if errors.Is(err, errUntrusted) {
				require.ErrorContains(t, err, pair.pin, "the technician is told what to compare")
			}
		})
	}
}

// Whoever answers in place of a pinned server and offers to take the password readable does
// not get it.
func TestOPCUAPinIsNotPassedBy(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("not so secret\n"), 0o600))
	pair := newOPCUAPair(t, "the real one")
	for name, pinned := range map[string]bool{"pinned": true, "anybody, by word": false} {
		t.Run(name, func(t *testing.T) {
			var heard atomic.Bool
			s := newPLC(t, func(r *opcua.Responder) { // it has no certificate, so that it offers no encryption
				r.Login = func(string, string) bool { return true }
				r.Heard = func(m opcua.Message) {
					if a, ok := m.(*opcua.ActivateSessionRequest); ok && len(a.Password) > 0 {
						heard.Store(true)
					}
				}
			})
			connect := "opcua://" + s.address + "?security=none&username=lane&password_file=" + secret
			if pinned {
				connect += "&pin=" + pair.pin
			}
			e, err := Parse(connect, nil)
			require.NoError(t, err)
			c, err := e.Open(t.Context())
			require.Equal(t, !pinned, heard.Load())
			if pinned {
				require.ErrorIs(t, err, errClearText)
				require.NotEmpty(t, Hint(err))
				return
			}
			require.NoError(t, err)
			require.NoError(t, c.Close())
		})
	}
}

// Nobody's token is named by its own id, wherever it stands and whatever it would be
// encrypted by.
func TestOPCUAAnonymousToken(t *testing.T) {
	e, err := Parse("opcua://plc", nil)
	require.NoError(t, err)
	m := &opcua.ActivateSessionRequest{}
	require.NoError(t, e.(*opcuaEndpoint).identify(m, &opcua.Endpoint{Tokens: []opcua.UserToken{
		{ID: "username", Kind: opcua.TokenUserName, Policy: opcua.Basic256Sha256.URI},
		{ID: "anonymous", Kind: opcua.TokenAnonymous, Policy: "http://opcfoundation.org/UA/SecurityPolicy#Aes256_Sha256_RsaPss"},
	}}, &opcua.CreateSessionResponse{}, nil))
	require.Equal(t, "anonymous", m.TokenID)
}

// A nonce that is too short to be new each time is refused before anything is signed or
// encrypted with it.
func TestOPCUAShortNonce(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("not so secret\n"), 0o600))
	pair := newOPCUAPair(t, "plc")
	e, err := Parse("opcua://plc?security=none&username=lane&password_file="+secret, nil)
	require.NoError(t, err)
	for n, ok := range map[int]bool{0: false, 31: false, 32: true, 64: true} {
		m := &opcua.ActivateSessionRequest{}
		err = e.(*opcuaEndpoint).identify(m, &opcua.Endpoint{Tokens: []opcua.UserToken{{ID: "u", Kind: opcua.TokenUserName, Policy: opcua.Basic256Sha256.URI}}},
			&opcua.CreateSessionResponse{Certificate: pair.der, Nonce: make([]byte, n)}, nil)
		require.Equal(t, ok, len(m.Password) > 0, n)
		if !ok {
			require.ErrorContains(t, err, "the nonce of the session")
		}
	}
}

// A value that the server doubts, or has not, or that is no number, is none.
func TestOPCUAWhatIsNoValue(t *testing.T) {
	at := time.Date(2026, 1, 5, 6, 0, 0, 100, time.UTC)
	for name, test := range map[string]struct {
		v     opcua.DataValue
		bit   int // minus one
		value float64
		err   string
	}{
		"true":            {number(opcua.Boolean, 1), 0, 1, ""},
		"with its time":   {opcua.DataValue{Value: opcua.Variant{Type: opcua.Int16, Bits: math.MaxUint64}, Source: at}, 0, -1, ""},
		"good, clamped":   {opcua.DataValue{Value: opcua.Variant{Type: opcua.Byte, Bits: 7}, Status: 0x00300000}, 0, 7, ""},
		"float":           {number(opcua.Float, math.Float64bits(1.5)), 0, 1.5, ""},
		"bit":             {number(opcua.UInt32, 0x80000000), 32, 1, ""},
		"bit beyond":      {number(opcua.UInt16, 1), 17, 0, "bit 16 of a value of the type UInt16"},
		"bit of a Bool":   {number(opcua.Boolean, 1), 1, 0, "has no bits"},
		"unknown":         {opcua.DataValue{Status: opcua.BadNodeIDUnknown}, 0, 0, "check the node id in the settings"},
		"a folder":        {opcua.DataValue{Status: opcua.BadAttributeIDInvalid}, 0, 0, "name the variable in it"},
		"not allowed":     {opcua.DataValue{Status: opcua.BadUserAccessDenied}, 0, 0, "does not let this user read"},
		"by hand":         {opcua.DataValue{Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Status: 0x00960000}, 0, 0, "GoodLocalOverride: take the override off"},
		"by hand, bits":   {opcua.DataValue{Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Status: 0x00960480}, 0, 0, "not what the input shows now"},
		"edited":          {opcua.DataValue{Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Status: 0x00dc0000}, 0, 0, "GoodEdited"},
		"fault state":     {opcua.DataValue{Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Status: 0x04070000}, 0, 0, "GoodFaultStateActive"},
		"good, overload":  {opcua.DataValue{Value: opcua.Variant{Type: opcua.Byte, Bits: 7}, Status: 0x002f0000}, 0, 7, ""},
		"good, cascade":   {opcua.DataValue{Value: opcua.Variant{Type: opcua.Byte, Bits: 7}, Status: 0x04090000}, 0, 7, ""},
		"bad with value":  {opcua.DataValue{Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Status: opcua.BadSensorFailure}, 0, 0, "BadSensorFailure"},
		"uncertain":       {opcua.DataValue{Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Status: opcua.UncertainLastUsableValue}, 0, 0, "doubts the value: UncertainLastUsableValue"},
		"none":            {opcua.DataValue{}, 0, 0, "gives none"},
		"not a number":    {number(opcua.Double, math.Float64bits(math.NaN())), 0, 0, "no number"},
		"infinite":        {number(opcua.Double, math.Float64bits(math.Inf(-1))), 0, 0, "no number"},
		"text":            {opcua.DataValue{Value: opcua.Variant{Type: opcua.String, Text: "auto"}}, 0, 0, "type String"},
		"status as value": {number(opcua.StatusCodeType, 0), 0, 0, "type StatusCode"},
	} {
		t.Run(name, func(t *testing.T) {
			p := scanning
			if test.bit > 0 {
				bit := test.bit - 1
				p.Bit = &bit
			}
			got := sampleOf(p, test.v)
			require.Equal(t, test.v.Source, got.At)
			require.Equal(t, test.value, got.Value)
			if test.err == "" {
				require.NoError(t, got.Err)
			} else {
				require.ErrorContains(t, got.Err, test.err)
				require.ErrorContains(t, got.Err, scanning.At)
			}
		})
	}
}

// The nodes of one poll go out by as few requests as the server allows.
func TestOPCUALimitOfTheServer(t *testing.T) {
	s := newPLC(t, func(r *opcua.Responder) { r.MaxNodes = 4 })
	s.set("i=11705", number(opcua.UInt32, 4))
	var points []Point
	for i := range 10 {
		p := Point{At: fmt.Sprintf("ns=3;i=%d", 1000+i)}
		points = append(points, p, p)
		s.set(p.At, number(opcua.UInt16, uint64(i)))
	}
	got, err := openBus(t, "opcua://"+s.address).Sample(t.Context(), points)
	require.NoError(t, err)
	for i := range got {
		require.NoError(t, got[i].Err)
		require.Equal(t, float64(i/2), got[i].Value)
	}
	s.with(func() { require.Equal(t, []int{1, 4, 4, 2}, s.reads) })
	_, err = openBus(t, "opcua://"+s.address).Sample(t.Context(), make([]Point, MaxPoints+1))
	require.Error(t, err)
}

// Whatever ends a link ends a read that waits for a server that does not answer.
func TestOPCUAEndsWhileItWaits(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(c Conn, cancel func(), s *plc)
		want error
	}{
		"close":    {func(c Conn, _ func(), _ *plc) { _ = c.Close() }, ErrClosed},
		"deadline": {func(c Conn, _ func(), _ *plc) { _ = c.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		"context":  {func(_ Conn, cancel func(), _ *plc) { cancel() }, context.Canceled},
		"slow":     {func(Conn, func(), *plc) {}, os.ErrDeadlineExceeded},
		"dropped": {func(_ Conn, _ func(), s *plc) {
			s.with(func() {
				s.hangUp = true
				close(s.hold)
			})
		}, ErrUnplugged},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPLC(t, nil)
			e, err := Parse("opcua://"+s.address+"?answer_timeout="+map[bool]string{true: "200ms", false: "1m"}[name == "slow"], nil)
			require.NoError(t, err)
			c, err := e.Open(t.Context())
			require.NoError(t, err)
			s.with(func() { s.hold = make(chan struct{}) })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := background(func() error {
				_, err := c.(Bus).Sample(ctx, []Point{scanning})
				return err
			})
			<-s.held
			test.end(c, cancel, s)
			require.ErrorIs(t, await(t, done), test.want)
			s.with(func() { s.hold, s.hangUp = nil, false })
			// What came too late is not taken for an answer to what is asked next.
			_, err = c.(Bus).Sample(t.Context(), []Point{scanning})
			require.ErrorIs(t, err, test.want)
			require.NoError(t, c.Close())
			_, err = c.Read(make([]byte, 1))
			require.Error(t, err)
		})
	}
}

// A server that is damaged, or is none, gives an error and nothing worse.
func TestOPCUADamaged(t *testing.T) {
	for name, test := range map[string]struct {
		mangle func([]byte) []byte
		want   error
	}{
		"another protocol":  {func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }, errNotOPCUA},
		"small buffers":     {func([]byte) []byte { return append([]byte("ACKF\x1c\x00\x00\x00"), make([]byte, 20)...) }, errNotOPCUA},
		"a chunk too large": {func(b []byte) []byte { return append(b[:4:4], 0xff, 0xff, 0xff, 0x7f) }, errNotOPCUA},
		"refused":           {func([]byte) []byte { return opcua.EncodeFailure(opcua.BadTCPEndpointURLInvalid, "no such path") }, errNoEndpoint},
		"silent":            {func([]byte) []byte { return nil }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPLC(t, nil)
			s.mangle = test.mangle
			e, err := Parse("opcua://"+s.address+"?connect_timeout=500ms", nil)
			require.NoError(t, err)
			_, err = e.Open(t.Context())
			require.ErrorIs(t, err, test.want)
			require.NotEmpty(t, Hint(err))
		})
	}
	t.Run("every byte of an answer", func(t *testing.T) {
		s := newPLC(t, nil)
		s.set(scanning.At, number(opcua.Boolean, 1))
		e, err := Parse("opcua://"+s.address+"?answer_timeout=100ms", nil)
		require.NoError(t, err)
		refused := 0
		for i := 0; i < 80; i += 3 {
			s.with(func() { s.mangle = nil })
			c, err := e.Open(t.Context())
			require.NoError(t, err)
			s.with(func() {
				s.mangle = func(b []byte) []byte {
					if i < len(b) {
						b[i] ^= 0x41
					}
					return b
				}
			})
			if got, err := c.(Bus).Sample(t.Context(), []Point{scanning}); err != nil || got[0].Err != nil {
				refused++
			}
			s.with(func() { s.mangle = nil })
			require.NoError(t, c.Close())
		}
		require.Greater(t, refused, 10)
	})
}

func TestOPCUANoSuchSecurity(t *testing.T) {
	s := newPLC(t, nil)
	own := newOPCUAPair(t, "lanepost-test")
	e, err := Parse("opcua://"+s.address+"?cert_file="+own.cert+"&key_file="+own.pem, nil)
	require.NoError(t, err)
	_, err = e.Open(t.Context())
	require.ErrorIs(t, err, errNoEndpoint)
	require.ErrorContains(t, err, "not security=Basic256Sha256 mode=sign_and_encrypt, but security=None mode=none")
}

func TestOPCUAParse(t *testing.T) {
	for connect, want := range map[string]string{
		"opcua://10.0.3.63":                                            "opcua://10.0.3.63:4840",
		"opcua://10.0.3.63:48010/UA/x":                                 "opcua://10.0.3.63:48010/UA/x",
		"opcua://plc?security=none":                                    "opcua://plc:4840",
		"opcua://plc?answer_timeout=3s":                                "opcua://plc:4840?answer_timeout=3s",
		"opcua://plc?security=none&username=u&password_env=P":          "opcua://plc:4840?username=u&password_env=P&security=none",
		"opcua://plc?cert_file=c&key_file=k&mode=sign":                 "opcua://plc:4840?security=Basic256Sha256&mode=sign&cert_file=c&key_file=k",
		"opcua://plc?username=u&password_env=P&cert_file=c&key_file=k": "opcua://plc:4840?username=u&password_env=P&security=Basic256Sha256&cert_file=c&key_file=k",
		"opcua://[fd00::3]?connect_timeout=1s&login_pause=1h":          "opcua://[fd00::3]:4840?connect_timeout=1s&login_pause=1h0m0s",
		"opcua:plc":                                        "two slashes",
		"opcua://u:p@plc":                                  "takes no user name or password",
		"opcua://plc?security=Basic256":                    "none of none or Basic256Sha256",
		"opcua://plc?mode=sign":                            "needs a certificate of the agent's own",
		"opcua://plc?username=u&password_env=P":            "needs a certificate of the agent's own",
		"opcua://plc?security=none&mode=sign":              "do not go together",
		"opcua://plc?cert_file=c":                          "belong together",
		"opcua://plc?security=none&cert_file=c&key_file=k": "take it out",
		"opcua://plc?pin=" + strings.Repeat("ab", 32):      "here is neither",
		"opcua://plc?ca_file=x":                            "for a secured channel",
		"opcua://plc?username=u":                           "no password",
	} {
		t.Run(connect, func(t *testing.T) {
			e, err := Parse(connect, nil)
			if !strings.HasPrefix(want, "opcua://") {
				require.ErrorContains(t, err, want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, want, e.String())
			again, err := Parse(e.String(), nil)
			require.NoError(t, err)
			require.Equal(t, e, again)
		})
	}
}
