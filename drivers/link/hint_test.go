package link

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a link says of a failed connection stands in events and on pages: the plain words
// come first, and what was behind them still gives the hint.
func TestPlainWords(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	place := ln.Addr().String()
	require.NoError(t, ln.Close())
	e, err := Parse("tcp://"+place, nil)
	require.NoError(t, err)
	_, err = e.Open(t.Context())
	require.EqualError(t, err, "cannot connect to "+place+": it takes no connection (connection refused)")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Contains(t, Hint(err), "the machine at "+place+" is there")

	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for want, err := range map[string]error{
		"the host name portal.invalid is unknown":                dial(&net.DNSError{Err: "no such host", Name: "portal.invalid", IsNotFound: true}),
		"the name server does not answer for portal.invalid":     dial(&net.DNSError{Name: "portal.invalid", IsTimeout: true}),
		"it broke the connection off (connection reset by peer)": dial(os.NewSyscallError("connect", syscall.ECONNRESET)),
		"network is down":   dial(os.NewSyscallError("connect", syscall.ENETDOWN)),
		"no answer in time": dial(os.ErrDeadlineExceeded),
		"something else":    errors.New("something else"),
	} {
		require.EqualError(t, plain(err), want)
	}
}

func TestHint(t *testing.T) {
	dial := func(err error) error {
		return fmt.Errorf("cannot connect: %w", &net.OpError{
			Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 3, 21), Port: 1600},
			Err: os.NewSyscallError("connect", err),
		})
	}
	port := func(op string, err error) error {
		return fmt.Errorf("opening: %w", &fs.PathError{Op: op, Path: "/dev/ttyUSB0", Err: err})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("something else"), ""},
		{dial(syscall.ECONNREFUSED), "10.0.3.21:1600 is there and takes no connection"},
		{dial(syscall.EHOSTUNREACH), "nothing answers at 10.0.3.21:1600"},
		{dial(syscall.ENETUNREACH), "this machine has no way to 10.0.3.21:1600"},
		{dial(syscall.ETIMEDOUT), "no answer from 10.0.3.21:1600: check the instrument's power, cable and address, and whether a firewall is in between (ping 10.0.3.21)"},
		{dial(syscall.EPERM), "own firewall"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "portal-3", IsNotFound: true}}, "no machine is called portal-3 here"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Name: "portal-3", IsTemporary: true}}, "the name server does not answer"},
		{fmt.Errorf("reading: %w: %w", ErrUnplugged, syscall.ECONNRESET), "broke the connection off"},
		{fmt.Errorf("reading: %w", ErrUnplugged), "the instrument ended the connection"},
		{fmt.Errorf("reading: %w", os.ErrDeadlineExceeded), "open and silent"},
		{port("open", syscall.EACCES), "may not open /dev/ttyUSB0: "},
		{port("open", syscall.ENOENT), "there is no /dev/ttyUSB0"},
		{port("lock", syscall.EBUSY), "/dev/ttyUSB0 is in use by another program"},
		{port("ask", syscall.ENOTTY), "/dev/ttyUSB0 is no serial port"},
		{port("ask", syscall.EIO), "no hardware behind /dev/ttyUSB0"},
		{port("set line", errLineSettings), "cannot do these line settings"},
		{port("read", fmt.Errorf("%w: %w", ErrUnplugged, syscall.EIO)), "the serial adapter of /dev/ttyUSB0 is gone"},
		{port("read", os.ErrDeadlineExceeded), "/dev/ttyUSB0 is open and silent"},
		{port("write", os.ErrDeadlineExceeded), "/dev/ttyUSB0 takes no more bytes"},
		{port("open", syscall.EMFILE), "too many files"},
		{port("read", ErrClosed), "nothing to do"},
		{context.Canceled, "nothing to do"},
		{fmt.Errorf("opening: %w", context.DeadlineExceeded), "it took too long"},
	} {
		t.Run(fmt.Sprint(c.err), func(t *testing.T) {
			got := Hint(c.err)
			if c.want == "" {
				require.Empty(t, got)
			}
			require.Contains(t, got, c.want)
			require.NotContains(t, got, "\n")
			require.False(t, strings.HasSuffix(got, "."))
		})
	}
}
