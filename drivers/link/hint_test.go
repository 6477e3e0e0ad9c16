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
