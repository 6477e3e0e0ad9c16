package drivers_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// instrument is a driver made of a function.
type instrument func(context.Context, link.Conn, drivers.Host) error

func (f instrument) Run(ctx context.Context, c link.Conn, h drivers.Host) error { return f(ctx, c, h) }

func at(seconds float64) time.Time {
	return drivers.ScriptStart().Add(time.Duration(seconds * float64(time.Second)))
}

// TestPlay walks through a script: reads in pieces, a deadline before the next
// chunk, one after it, and the end after a silence.
func TestPlay(t *testing.T) {
	script := []drivers.Chunk{
		{At: time.Second, Bytes: []byte("hello")},
		{At: 5 * time.Second, Bytes: []byte("there")},
		{At: 9 * time.Second},
	}
	run := func(_ context.Context, c link.Conn, h drivers.Host) error {
		require.Equal(t, at(1), h.Now(), "the link opens at the first chunk")
		b := make([]byte, 3)
		read := func(want string, now float64) {
			t.Helper()
			n, err := c.Read(b)
			require.NoError(t, err)
			require.Equal(t, want, string(b[:n]))
			require.Equal(t, at(now), h.Now())
		}
		late := func(now float64) {
			t.Helper()
			_, err := c.Read(b)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Equal(t, at(now), h.Now())
		}
		read("hel", 1)
		read("lo", 1)
		require.NoError(t, c.SetReadDeadline(at(4)))
		late(4)
		late(4) // a deadline that has passed moves nothing
		require.NoError(t, c.SetReadDeadline(at(5)))
		read("the", 5) // what comes at the deadline comes
		late(5)
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		read("re", 5)
		require.NoError(t, h.Emit(drivers.Observation{Data: event.RadiationTamper{State: "on"}, Time: h.Now()}))
		h.Valid()
		raw := []byte("raw")
		h.Unparsed("why", raw)
		raw[0] = 'X' // the host has its own copy
		h.Log().Info("not seen")
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = c.Read(b)
		require.Equal(t, at(9), h.Now())
		return err
	}
	got, err := drivers.Play(t.Context(), instrument(run), script)
	require.NoError(t, err)
	require.Equal(t, 1, got.Valid)
	require.Equal(t, []drivers.UnparsedBytes{{Reason: "why", Raw: []byte("raw")}}, got.Unparsed)
	require.Len(t, got.Observations, 1)
	require.Equal(t, at(5), got.Observations[0].Time)
}

func TestPlayErrors(t *testing.T) {
	broken := errors.New("broken")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		run  instrument
		want string
	}{
		"the driver's own error": {t.Context(), func(context.Context, link.Conn, drivers.Host) error { return broken }, "broken"},
		"no reason":              {t.Context(), func(context.Context, link.Conn, drivers.Host) error { return nil }, "ended without a reason"},
		"spinning": {t.Context(), func(_ context.Context, c link.Conn, h drivers.Host) error {
			for {
				if err := c.SetReadDeadline(h.Now().Add(-time.Second)); err != nil {
					return err
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
					return err
				}
			}
		}, "1000 times"},
		"closed": {t.Context(), func(_ context.Context, c link.Conn, _ drivers.Host) error {
			require.NoError(t, c.Close())
			_, err := c.Read(make([]byte, 1))
			return err
		}, link.ErrClosed.Error()},
		"stopped": {ctx, func(ctx context.Context, c link.Conn, _ drivers.Host) error {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return ctx.Err()
		}, context.Canceled.Error()},
	} {
		_, err := drivers.Play(c.ctx, c.run, []drivers.Chunk{{Bytes: []byte("x")}})
		require.ErrorContains(t, err, c.want, name)
	}
}
