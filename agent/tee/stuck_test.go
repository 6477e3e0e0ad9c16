package tee

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stuck is a log whose reader hangs.
type stuck chan struct{}

func (s stuck) Write(p []byte) (int, error) { <-s; return len(p), nil }

// A log that hangs while somebody attaches, and is turned away, holds up no device.
func TestLogThatHangs(t *testing.T) {
	log := make(stuck, 1)
	log <- struct{}{} // for what Open says
	tee, err := Open(Settings{Address: "127.0.0.1:0", Clients: 1}, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	c, err := net.Dial("tcp", tee.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Eventually(t, func() bool { return tee.Stats().Attached == 1 }, patience, time.Millisecond)
	received := make(chan struct{})
	go func() {
		tee.Received([]byte("GB"))
		tee.Parted()
		close(received)
	}()
	select {
	case <-received:
	case <-time.After(patience):
		t.Error("the device waits for the log")
	}
	close(log)
	require.NoError(t, tee.Close())
}
