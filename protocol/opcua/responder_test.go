package opcua_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	gopcua "github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uasc"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/opcua"
)

// certificate makes one of a client or a server.
func certificate(t *testing.T, name string, bits int) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	uri, err := url.Parse("urn:" + name)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return key, der
}

// serve lets a responder speak with the clients of a listener.
func serve(t *testing.T, setup func(*opcua.Responder)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := "opc.tcp://" + l.Addr().String()
	var mu sync.Mutex
	var running sync.WaitGroup
	var conns []net.Conn
	running.Go(func() {
		for id := uint32(1); ; id++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			r := &opcua.Responder{URL: address, URI: "urn:plc", Rand: rand.Reader, Now: time.Now, ID: id, Read: values}
			setup(r)
			running.Go(func() { converse(conn, r) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		mu.Lock()
		for _, c := range conns {
			_ = c.Close() // it may be closed already
		}
		mu.Unlock()
		running.Wait()
	})
	return address
}

// converse answers until one side ends the connection.
func converse(conn net.Conn, r *opcua.Responder) {
	defer conn.Close()
	for {
		chunk := make([]byte, opcua.HeadLength)
		if _, err := io.ReadFull(conn, chunk); err != nil {
			return
		}
		n, err := opcua.FrameLength(chunk)
		if err != nil {
			return
		}
		chunk = append(chunk, make([]byte, n-len(chunk))...)
		if _, err := io.ReadFull(conn, chunk[opcua.HeadLength:]); err != nil {
			return
		}
		out, err := r.Respond(chunk)
		if _, failed := conn.Write(out); err != nil || failed != nil {
			return
		}
	}
}

func values(nodes []opcua.ReadNode) []opcua.DataValue {
	known := map[string]opcua.DataValue{
		"scanning":  {Value: opcua.Variant{Type: opcua.Boolean, Bits: 1}, Source: time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC)},
		"count":     {Value: opcua.Variant{Type: opcua.Int32, Bits: math.MaxUint64 - 6}},
		"kv":        {Value: opcua.Variant{Type: opcua.Double, Bits: math.Float64bits(160.5)}},
		"mode":      {Value: opcua.Variant{Type: opcua.String, Text: "operational"}},
		"uncertain": {Value: opcua.Variant{Type: opcua.UInt16, Bits: 3}, Status: opcua.UncertainLastUsableValue},
		"bad":       {Status: opcua.BadSensorFailure},
	}
	var out []opcua.DataValue
	for _, n := range nodes {
		v, ok := known[n.ID.Name]
		if !ok {
			v.Status = opcua.BadNodeIDUnknown
		}
		out = append(out, v)
	}
	return out
}

// A client that is not ours speaks with the responder, by all kinds of channels.
func TestResponderOfAnotherClient(t *testing.T) {
	key, der := certificate(t, "plc", 2048)
	// A key of more than 2048 bits has padding of its own kind.
	long, longDER := certificate(t, "plc", 3072)
	clientKey, clientDER := certificate(t, "client", 2048)
	for _, test := range []struct {
		name   string
		policy string
		mode   ua.MessageSecurityMode
		user   bool
		key    *rsa.PrivateKey
		der    []byte
	}{
		{"open", "None", ua.MessageSecurityModeNone, false, nil, nil},
		{"signed", "Basic256Sha256", ua.MessageSecurityModeSign, false, key, der},
		{"encrypted", "Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt, false, key, der},
		{"encrypted, a long key", "Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt, false, long, longDER},
		{"encrypted, a user", "Basic256Sha256", ua.MessageSecurityModeSignAndEncrypt, true, key, der},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := serve(t, func(r *opcua.Responder) {
				r.Key, r.Certificate = test.key, test.der
				if test.user {
					r.Login = func(user, password string) bool { return user == "lane" && password == "not so secret" }
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			endpoints, err := gopcua.GetEndpoints(ctx, address)
			require.NoError(t, err)
			e, err := gopcua.SelectEndpoint(endpoints, test.policy, test.mode)
			require.NoError(t, err)
			kind := ua.UserTokenTypeAnonymous
			if test.user {
				kind = ua.UserTokenTypeUserName
			}
			options := []gopcua.Option{gopcua.AutoReconnect(false), gopcua.SecurityFromEndpoint(e, kind)}
			if test.key != nil {
				options = append(options, gopcua.PrivateKey(clientKey), gopcua.Certificate(clientDER))
			}
			session := &uasc.SessionConfig{
				SessionTimeout: time.Minute, ClientDescription: &ua.ApplicationDescription{ApplicationURI: "urn:client", ApplicationName: ua.NewLocalizedText("client")},
				UserIdentityToken: &ua.AnonymousIdentityToken{PolicyID: "anonymous"}, UserTokenSignature: &ua.SignatureData{},
			}
			if test.user {
				session.UserIdentityToken, session.AuthPolicyURI, session.AuthPassword = &ua.UserNameIdentityToken{PolicyID: "username", UserName: "lane"}, e.SecurityPolicyURI, "not so secret"
			}
			c, err := gopcua.NewClient(address, options...)
			require.NoError(t, err)
			require.NoError(t, c.Dial(ctx))
			s, err := c.CreateSession(ctx, session)
			require.NoError(t, err)
			require.NoError(t, c.ActivateSession(ctx, s))
			req := &ua.ReadRequest{TimestampsToReturn: ua.TimestampsToReturnSource}
			for _, name := range []string{"scanning", "count", "kv", "mode", "uncertain", "bad", "none"} {
				req.NodesToRead = append(req.NodesToRead, &ua.ReadValueID{NodeID: ua.NewStringNodeID(1, name)})
			}
			for range 3 {
				res, err := c.Read(ctx, req)
				require.NoError(t, err)
				require.Equal(t, true, res.Results[0].Value.Value())
				require.Equal(t, time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC), res.Results[0].SourceTimestamp)
				require.Equal(t, int32(-7), res.Results[1].Value.Value())
				require.Equal(t, 160.5, res.Results[2].Value.Value())
				require.Equal(t, "operational", res.Results[3].Value.Value())
				require.Equal(t, ua.StatusUncertainLastUsableValue, res.Results[4].Status)
				require.Equal(t, ua.StatusBadSensorFailure, res.Results[5].Status)
				require.Equal(t, ua.StatusBadNodeIDUnknown, res.Results[6].Status)
			}
			_, err = c.Browse(ctx, &ua.BrowseRequest{NodesToBrowse: []*ua.BrowseDescription{{NodeID: ua.NewTwoByteNodeID(84)}}})
			require.ErrorIs(t, err, ua.StatusBadServiceUnsupported)
			require.NoError(t, c.CloseSession(ctx))
			_ = c.Close(ctx) // it says EOF when all is well
		})
	}
}
