package opcua

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// raw is hexadecimal text with spaces and comments, typed from IEC 62541-6.
func raw(t testing.TB, text string) []byte {
	t.Helper()
	var all string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		all += strings.Join(strings.Fields(line), "")
	}
	b, err := hex.DecodeString(all)
	require.NoError(t, err)
	return b
}

func TestHello(t *testing.T) {
	want := raw(t, `
		48454c46 37000000             # HELF, 55 bytes
		00000000 00000100 00000100    # version 0, 65536, 65536
		00001000 80000000             # 1 MiB, 128 chunks
		17000000 6f70632e7463703a2f2f706c633a343834302f41424344 # opc.tcp://plc:4840/ABCD
	`)
	require.Equal(t, want, EncodeHello(Ours, "opc.tcp://plc:4840/ABCD"))
}

func TestAcknowledge(t *testing.T) {
	good := raw(t, "41434b46 1c000000 00000000 00200000 00200000 00000000 00000000")
	l, err := DecodeAcknowledge(good)
	require.NoError(t, err)
	require.Equal(t, Limits{Receive: 8192, Send: 8192}, l)
	require.Equal(t, good, EncodeAcknowledge(l))
	// A server that says it takes four bytes would have its chunks read into a buffer of four.
	_, err = DecodeAcknowledge(raw(t, "41434b46 1c000000 00000000 00200000 04000000 00000000 00000000"))
	require.ErrorIs(t, err, ErrBound)
	_, err = DecodeAcknowledge(raw(t, "45525246 10000000 00008380 00000000"))
	require.ErrorIs(t, err, BadTCPEndpointURLInvalid)
	_, err = DecodeAcknowledge([]byte("HTTP/1.1 400 Bad Request"))
	require.ErrorIs(t, err, ErrFormat)
	_, err = FrameLength(raw(t, "4d534746 ffffffff"))
	require.ErrorIs(t, err, ErrBound)
	_, err = FrameLength(raw(t, "4d534746 07000000"))
	require.ErrorIs(t, err, ErrBound)
}

func TestNodeID(t *testing.T) {
	// The first five are examples of IEC 62541-6 5.2.2.9, or built like them.
	for text, want := range map[string]string{
		"i=72":        "00 48",
		"ns=5;i=1025": "01 05 0104",
		"ns=300;i=1":  "02 2c01 01000000",
		"i=70000":     "02 0000 70110100",
		"ns=1;s=Hot水": "03 0100 06000000 486f74e6b0b4",
		"ns=1;g=09087e75-8e5e-499b-954f-f2a9603db28a": "04 0100 757e0809 5e8e 9b49 954ff2a9603db28a",
		"ns=1;b=M/RbKBsRVkePCePcx24oRA==":             "05 0100 10000000 33f45b281b115647 8f09e3dcc76e2844",
		`ns=3;s="DB"."arr"[3];x=1`:                    "03 0300 11000000 22444222 2e 2261727222 5b335d 3b783d31",
	} {
		t.Run(text, func(t *testing.T) {
			id, err := ParseNodeID(text)
			require.NoError(t, err)
			require.Equal(t, text, id.String())
			c := &coder{}
			c.nodeID(&id)
			require.Equal(t, raw(t, want), c.b)
			var back NodeID
			c.reading = true
			c.nodeID(&back)
			require.NoError(t, c.err)
			require.Empty(t, c.b)
			require.Equal(t, id, back)
		})
	}
	for _, text := range []string{"", "ns=1", "ns=x;i=1", "ns=70000;i=1", "i=", "i=-1", "i=4294967296", "i=0", "x=1", "g=1", "b=%", "s=", "scanning", "ns=1;s=" + strings.Repeat("x", MaxNodeID+1)} {
		_, err := ParseNodeID(text)
		require.Error(t, err, text)
	}
}

// A response of Read, typed from IEC 62541-6 5.2 and IEC 62541-4 5.10.2.
func TestReadResponse(t *testing.T) {
	b := raw(t, `
		01 00 7a02                          # i=634
		0000283cd67ddc01                    # 2026-01-05 00:00:00
		07000000 00000000                   # handle, Good
		00 ffffffff 00 00 00                # diagnostics, no table, no header
		08000000                            # eight results
		01 01 01                            # Boolean, true
		05 06 f9ffffff 0000283cd67ddc01     # Int32 -7 and its time
		03 0b 0000000000106440 00009040     # Double 160.5, UncertainLastUsableValue
		02 00008c80                         # BadSensorFailure
		01 86 02000000 0100000002000000     # an array of two Int32
		01 16 01 00 2a01 01 03000000 aabbcc # an ExtensionObject
		3f 0c 02000000 6f6b 00000000 0000283cd67ddc01 0100 0000283cd67ddc01 0200 # String and all that there can be
		01 c3 04000000 01020304 02000000 0200000002000000 # two by two bytes
		00000000                            # no diagnostics
	`)
	m, err := Decode(b)
	require.NoError(t, err)
	at := time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)
	r, ok := m.(*ReadResponse)
	require.True(t, ok)
	require.Equal(t, ResponseHeader{At: at, Handle: 7}, r.ResponseHeader)
	require.Equal(t, []DataValue{
		{Value: Variant{Type: Boolean, Bits: 1}},
		{Value: Variant{Type: Int32, Bits: 0xfffffffffffffff9}, Source: at},
		{Value: Variant{Type: Double, Bits: 0x4064100000000000}, Status: UncertainLastUsableValue},
		{Status: BadSensorFailure},
		{Value: Variant{Type: Int32, Array: true, Length: 2}},
		{Value: Variant{Type: ExtensionObject}},
		{Value: Variant{Type: String, Text: "ok"}, Source: at, Server: at},
		{Value: Variant{Type: Byte, Array: true, Length: 4}},
	}, r.Results)
	n, err := r.Results[1].Value.Number()
	require.NoError(t, err)
	require.Equal(t, -7.0, n)
	for i := range b {
		_, err := Decode(b[:i])
		require.Error(t, err, "it ends at %d", i)
	}
}

// What would bring a decoder down that makes room before it looks.
func TestDecodeIsBounded(t *testing.T) {
	head := "01 00 7a02 0000000000000000 00000000 00000000 00 ffffffff 00 00 00 "
	for name, text := range map[string]string{
		"two billion results":    head + "ffffff7f",
		"an array without end":   head + "01000000 01 86 ffffff7f",
		"dimensions without end": head + "01000000 01 c6 00000000 ffffff7f",
		"a text without end":     head + "01000000 01 0c ffffff7f",
		"values in values":       head + "01000000 01 " + strings.Repeat("18", 10000),
		"diagnostics in them":    "01 00 7a02 0000000000000000 00000000 00000000 " + strings.Repeat("40", 10000),
		"an unknown type":        head + "01000000 01 1f",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(raw(t, text))
			require.Error(t, err)
			require.True(t, errors.Is(err, ErrShort) || errors.Is(err, ErrBound) || errors.Is(err, ErrFormat), err)
		})
	}
}

// Nothing takes no bytes: an array of it would be gone through as often as there are bytes
// left, and each of thousands of arrays again.
func TestArrayOfNothing(t *testing.T) {
	head := "01 00 7a02 0000000000000000 00000000 00000000 00 ffffffff 00 00 00 01000000 "
	for name, text := range map[string]string{
		"one":             head + "01 80 01000000 00000000",
		"with dimensions": head + "01 c0 01000000 01000000 01000000 00000000",
		"in an array":     head + "01 98 02000000 80 01000000 80 00000000 00000000",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode(raw(t, text))
			require.ErrorIs(t, err, ErrFormat)
		})
	}
	for name, text := range map[string]string{"none": "01 80 00000000 00000000", "null": "01 80 ffffffff 00000000"} {
		t.Run(name, func(t *testing.T) {
			m, err := Decode(raw(t, head+text))
			require.NoError(t, err)
			require.Equal(t, []DataValue{{Value: Variant{Array: true}}}, m.(*ReadResponse).Results)
		})
	}
}

// P_SHA256, by a vector that is widely used for TLS 1.2.
func TestPSHA256(t *testing.T) {
	got := pSHA256(raw(t, "9bbe436ba940f017b17652849a71db35"), append([]byte("test label"), raw(t, "a0ba9f936cda311827a6f796ffd5198c")...), 100)
	require.Equal(t, raw(t, `
		e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a
		6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab
		4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701
		87347b66
	`), got)
}

func pair(t testing.TB, bits int) (*rsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return key, c
}

// Messages of every length come through, and none that was changed on the way.
func TestChannel(t *testing.T) {
	key, certificate := pair(t, 2048)
	long, longCertificate := pair(t, 3072)
	for name, mode := range map[string]uint32{"none": ModeNone, "sign": ModeSign, "both": ModeSignAndEncrypt} {
		t.Run(name, func(t *testing.T) {
			a, b := &Channel{Policy: None, Mode: mode}, &Channel{Policy: None, Mode: mode, Server: true}
			if mode != ModeNone {
				a = &Channel{Policy: Basic256Sha256, Mode: mode, Key: key, Certificate: certificate.Raw, Peer: longCertificate, Rand: rand.Reader}
				b = &Channel{Policy: Basic256Sha256, Mode: mode, Key: long, Certificate: longCertificate.Raw, Peer: certificate, Rand: rand.Reader, Server: true}
			}
			for i, kind := range []Kind{Open, Service} {
				for n := 0; n < 700; n += 14 + 186*(1-i) {
					body := bytes.Repeat([]byte{7}, n)
					for _, way := range [][2]*Channel{{a, b}, {b, a}} {
						sealed, err := way[0].Seal(kind, uint32(n), body)
						require.NoError(t, err)
						for range 1 + i { // one byte that is another
							bad := bytes.Clone(sealed)
							bad[len(bad)-1-n%min(len(bad), 60)] ^= 1
							other := *way[1] // whose numbers go on, where nothing is signed
							got, err := other.Take(bad)
							require.True(t, mode == ModeNone || err != nil && got == nil)
						}
						got, err := way[1].Take(sealed)
						require.NoError(t, err)
						require.Equal(t, &Received{Kind: kind, Request: uint32(n), Body: append([]byte(nil), body...)}, &Received{got.Kind, got.Request, append([]byte(nil), got.Body...)})
					}
				}
				nonce := bytes.Repeat([]byte{1}, NonceLength)
				a.Rekey(1, nonce, key.N.Bytes()[:32])
				b.Rekey(1, nonce, key.N.Bytes()[:32])
			}
			// A message of several chunks.
			sealed, err := a.Seal(Service, 9, bytes.Repeat([]byte{9}, 100_000))
			require.NoError(t, err)
			chunks := 0
			for len(sealed) > 0 {
				n, err := FrameLength(sealed)
				require.NoError(t, err)
				require.LessOrEqual(t, n, MinFrame)
				got, err := b.Take(sealed[:n])
				require.NoError(t, err)
				if sealed, chunks = sealed[n:], chunks+1; len(sealed) == 0 {
					require.Len(t, got.Body, 100_000)
				}
			}
			require.Greater(t, chunks, 12)
			_, err = a.Seal(Service, 9, make([]byte, MaxChunks*MinFrame))
			require.ErrorIs(t, err, ErrBound)
		})
	}
}

// Chunks of one signed message that were exchanged, left out or sent again are refused.
func TestChannelSequence(t *testing.T) {
	key, certificate := pair(t, 2048)
	nonce := bytes.Repeat([]byte{1}, NonceLength)
	for name, test := range map[string]struct {
		order []int
		ok    bool
	}{
		"in order":  {[]int{0, 1, 2, 3}, true},
		"exchanged": {[]int{1, 0, 2, 3}, false},
		"left out":  {[]int{0, 2, 3}, false},
		"repeated":  {[]int{0, 1, 1, 2, 3}, false},
		"replayed":  {[]int{0, 1, 2, 3, 3}, false},
	} {
		for mode, policy := range map[uint32]Policy{ModeNone: None, ModeSign: Basic256Sha256} {
			t.Run(fmt.Sprint(name, mode), func(t *testing.T) {
				a := &Channel{Policy: policy, Mode: mode, Key: key, Certificate: certificate.Raw, Peer: certificate, Rand: rand.Reader, Send: MinFrame}
				b := &Channel{Policy: policy, Mode: mode, Key: key, Certificate: certificate.Raw, Peer: certificate, Rand: rand.Reader, Server: true}
				a.Rekey(1, nonce, nonce)
				b.Rekey(1, nonce, nonce)
				sealed, err := a.Seal(Service, 9, make([]byte, 3*MinFrame+100))
				require.NoError(t, err)
				var chunks [][]byte
				for len(sealed) > 0 {
					n, err := FrameLength(sealed)
					require.NoError(t, err)
					chunks, sealed = append(chunks, sealed[:n]), sealed[n:]
				}
				require.Len(t, chunks, 4)
				for _, i := range test.order {
					if _, err = b.Take(chunks[i]); err != nil {
						break
					}
				}
				if test.ok {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, ErrSecurity)
				}
			})
		}
	}
	for _, n := range []struct {
		before, after uint32
		ok            bool
	}{
		{1, 2, true}, {1, 1, false}, {1, 3, false}, {2, 1, false}, {0xfffffbff, 0xfffffc00, true}, {0xfffffbff, 1, false}, {0xfffffc00, 1, true},
		{0xfffffc00, 1023, true}, {0xfffffc00, 1024, false}, {0xffffffff, 0, true}, {0xfffffc00, 0xfffffc01, true},
	} {
		c := &Channel{heard: n.before, began: true}
		require.Equal(t, n.ok, c.next(n.after) == nil, n)
	}
	require.NoError(t, (&Channel{}).next(77), "where they begin is the other side's")
}

func FuzzDecode(f *testing.F) {
	for _, m := range []Message{
		&OpenSecureChannelResponse{Channel: 1, TokenID: 2, Nonce: []byte{1}}, &CreateSessionResponse{Token: NodeID{Kind: 'b', Name: "x"}, Endpoints: []Endpoint{{URL: "opc.tcp://x", Tokens: []UserToken{{ID: "a"}}}}},
		&ReadResponse{Results: []DataValue{{Value: Variant{Type: Double, Bits: 1}, Status: 5}}}, &ServiceFault{}, &ReadRequest{Nodes: []ReadNode{{ID: NodeID{Kind: 's', Namespace: 2, Name: "x"}}}},
		&ActivateSessionRequest{User: "u", TokenID: "t", Password: []byte("p")},
	} {
		b, err := Encode(m)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			return // arrays and what is passed over
		}
		back, err := Decode(again)
		require.NoError(t, err)
		third, err := Encode(back)
		require.NoError(t, err)
		require.Equal(t, again, third)
	})
}

func FuzzTake(f *testing.F) {
	c := &Channel{Policy: None, Mode: ModeNone}
	for _, kind := range []Kind{Open, Service, Close} {
		b, err := c.Seal(kind, 1, []byte("body"))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add(EncodeFailure(BadTooManySessions, "full"))
	key, certificate := pair(f, 2048)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range []*Channel{
			{Policy: None, Mode: ModeNone}, {Policy: Basic256Sha256, Mode: ModeSignAndEncrypt, Key: key, Certificate: certificate.Raw, Peer: certificate},
		} {
			c.Rekey(0, []byte("a"), []byte("b"))
			_, _ = c.Take(b) // it must not panic
		}
		r := &Responder{Rand: rand.Reader, Now: time.Now, Read: func(n []ReadNode) []DataValue { return make([]DataValue, len(n)) }, send: MinFrame}
		_, _ = r.Respond(b) // the same
	})
}
