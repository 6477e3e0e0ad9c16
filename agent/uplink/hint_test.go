package uplink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExplain: failures that a test can't bring about with real parts. The
// others are in the tests that do.
func TestExplain(t *testing.T) {
	t.Parallel()
	broker, err := url.Parse("tls://mqtt.example:8883")
	require.NoError(t, err)
	dialError := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	syscallError := func(errno syscall.Errno) error { return dialError(os.NewSyscallError("connect", errno)) }
	for _, c := range []struct {
		at           stage
		err          error
		reason, hint string
	}{
		{dialing, dialError(&net.DNSError{Err: "no such host", Name: "mqtt.example", IsNotFound: true}),
			"the name mqtt.example does not exist", "typing error"},
		{dialing, dialError(&net.DNSError{Err: "i/o timeout", Name: "mqtt.example", IsTimeout: true}),
			"the name mqtt.example can't be looked up", "DNS server of this box does not answer"},
		{dialing, syscallError(syscall.ECONNREFUSED), "mqtt.example refuses connections on port 8883", "whether the broker runs"},
		{dialing, syscallError(syscall.ENETUNREACH), "there is no way to mqtt.example from this box", "default gateway"},
		{dialing, syscallError(syscall.EHOSTUNREACH), "mqtt.example can't be reached", "network cable"},
		{dialing, dialError(context.DeadlineExceeded), "mqtt.example does not answer on port 8883", "firewall"},
		{dialing, dialError(os.ErrDeadlineExceeded), "mqtt.example does not answer on port 8883", "firewall"},
		{dialing, &localError{&fs.PathError{Op: "open", Path: "/etc/ca.pem", Err: fs.ErrPermission}},
			"open /etc/ca.pem: permission denied", "the agent's user may read it"},
		{dialing, &handshakeError{os.ErrDeadlineExceeded}, "mqtt.example took the connection on port 8883 and said nothing", "not a TLS port"},
		{loggingIn, io.EOF, "mqtt.example closed the connection at the login", "not an MQTT port"},
		{loggingIn, fmt.Errorf("read: %w", syscall.ECONNRESET), "mqtt.example closed the connection at the login", "not an MQTT port"},
		{loggingIn, &closedUnderTLS{io.EOF}, "mqtt.example closed the connection at the login", "wants a client certificate"},
		{loggingIn, fmt.Errorf("%w: a packet of type 4", errProtocol), "mqtt.example does not speak MQTT on port 8883", "check the port"},
		{running, io.EOF, "the broker closed the connection", "another client may use the client id lane-1"},
		{running, fmt.Errorf("write: %w", syscall.EPIPE), "the broker closed the connection", "size limit"},
		{running, os.ErrDeadlineExceeded, "the line to the broker takes no data any more", "modem"},
		{running, errors.New("something new"), "something new", "broker's log for the client id lane-1"},
	} {
		got := explain(c.at, c.err, broker, "lane-1")
		require.ErrorContains(t, got, c.reason)
		require.Contains(t, Hint(fmt.Errorf("wrapped: %w", got)), c.hint)
		require.ErrorIs(t, got, c.err)
		require.NotContains(t, got.Error()+Hint(got), "{", "everything is filled in")
	}
	require.Empty(t, Hint(errors.New("of another package")))
}
