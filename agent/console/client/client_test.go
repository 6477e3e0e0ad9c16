package client

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An agent that takes the question and says nothing is not waited for for ever.
func TestGetIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ln, err := net.Listen("unix", filepath.Join(dir, Socket))
	require.NoError(t, err)
	defer ln.Close()
	c, err := Dial(dir)
	require.NoError(t, err)
	defer c.CloseIdleConnections()
	failed := make(chan error, 1)
	go func() {
		var v any
		failed <- Get(context.Background(), c, "/api/v1/status", &v)
	}()
	select {
	case err := <-failed:
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "the agent has not answered /api/v1/status within 5s")
	case <-time.After(6 * answerTimeout):
		t.Fatal("it waits for ever")
	}
}
