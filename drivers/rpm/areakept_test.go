package rpm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// The agent is started anew while the agent's own alarm stands: it is not raised twice, and
// its end is told under the same id. Without its setting it ends at once.
func TestAreaAlarmOverARestart(t *testing.T) {
	for _, withSetting := range []bool{true, false} {
		ledger := &drivers.MemoryLedger{}
		run := func(above float64, values ...string) []event.RadiationRateAlarm {
			t.Helper()
			d, err := AreaMonitor().New(func(into any) error {
				s := into.(*AreaSettings)
				s.Format, s.Unit, s.AlarmAboveUSvH, s.ClearAfter = "ludlum-375", "uSv/h", above, 0
				return nil
			})
			require.NoError(t, err)
			var chunks []drivers.Chunk
			for i, v := range values {
				chunks = append(chunks, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: []byte(v + "000010\r\n")})
			}
			p, err := drivers.PlayWith(t.Context(), ledger, d, chunks)
			require.NoError(t, err)
			return of[event.RadiationRateAlarm](t, p.Observations)
		}
		first := run(5, "0001.0", "0009.0", "0009.0")
		require.Len(t, first, 1)
		require.Equal(t, "raised", first[0].State)
		above := 5.0
		if withSetting {
			require.Empty(t, run(5, "0009.0", "0009.0"), "it stands already")
		} else {
			above = 0
		}
		last := run(above, "0001.0", "0001.0")
		require.Len(t, last, 1)
		require.Equal(t, "cleared", last[0].State)
		require.Equal(t, first[0].AlarmID, last[0].AlarmID)
		require.True(t, last[0].Interrupted)
		require.Empty(t, run(above, "0001.0", "0001.0"))
	}
}

// ledgerThatRefuses refuses to keep anything while it is told to.
type ledgerThatRefuses struct {
	drivers.MemoryLedger
	refuses bool
	puts    int
}

func (l *ledgerThatRefuses) Put(key, value string) error {
	l.puts++
	if l.refuses {
		return errors.New("the disk is full")
	}
	return l.MemoryLedger.Put(key, value)
}

// meter plays a monitor that tells a value each second, and calls at between.
func meter(t *testing.T, ledger drivers.Ledger, d drivers.Instrument, values []float64, at func(second int)) []event.RadiationRateAlarm {
	t.Helper()
	second := -1
	i := instrumentFunc(func(ctx context.Context, conn link.Conn, h drivers.Host) error {
		return d.Run(ctx, watched{conn, func() {
			second++
			at(second)
		}}, h)
	})
	var script []drivers.Chunk
	for i, v := range values {
		script = append(script, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: fmt.Appendf(nil, "%06.1f000010\r\n", v)})
	}
	p, err := drivers.PlayWith(t.Context(), ledger, i, script)
	require.NoError(t, err)
	return of[event.RadiationRateAlarm](t, p.Observations)
}

type instrumentFunc func(context.Context, link.Conn, drivers.Host) error

func (f instrumentFunc) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	return f(ctx, conn, h)
}

// watched calls at before what it reads is taken.
type watched struct {
	link.Conn
	at func()
}

func (w watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.at()
	}
	return n, err
}

func ownAlarm5(t *testing.T) drivers.Instrument {
	return monitor(t, func(s *AreaSettings) {
		s.Format, s.Unit, s.AlarmAboveUSvH, s.ClearAfter = "ludlum-375", "uSv/h", 5, 0
	})
}

// What a ledger refuses is tried again: the alarm stands over a restart though the disk was full
// when it was raised.
func TestARefusedLedgerIsTriedAgain(t *testing.T) {
	ledger := &ledgerThatRefuses{refuses: true}
	values := make([]float64, 90)
	for i := range values {
		values[i] = 9
	}
	raised := meter(t, ledger, ownAlarm5(t), values, func(second int) { ledger.refuses = second < 30 })
	require.Len(t, raised, 1)
	require.Equal(t, 2, ledger.puts, "it is tried again after a minute")
	last := meter(t, ledger, ownAlarm5(t), []float64{1, 1}, func(int) {})
	require.Len(t, last, 1)
	require.Equal(t, raised[0].AlarmID, last[0].AlarmID)
}

// The peak of an alarm that stands is kept too, once in a minute.
func TestThePeakIsKept(t *testing.T) {
	ledger := &ledgerThatRefuses{}
	var values []float64
	for i := range 130 {
		values = append(values, 10+float64(i))
	}
	raised := meter(t, ledger, ownAlarm5(t), values, func(int) {})
	require.Len(t, raised, 1)
	require.Equal(t, 3, ledger.puts)
	last := meter(t, ledger, ownAlarm5(t), []float64{1, 1}, func(int) {})
	require.Len(t, last, 1)
	require.InDelta(t, 130, *last[0].PeakValue, 0)
	require.Empty(t, ledger.Get(keptMonitor), "nothing stands any more")
}

// What can't be written does not take away what is kept.
func TestWhatCantBeWrittenTakesNothingAway(t *testing.T) {
	ledger := &ledgerThatRefuses{}
	play := func(f func(h drivers.Host)) {
		_, err := drivers.PlayWith(t.Context(), ledger, instrumentFunc(func(_ context.Context, _ link.Conn, h drivers.Host) error {
			f(h)
			return link.ErrUnplugged
		}), nil)
		require.NoError(t, err)
	}
	play(func(h drivers.Host) {
		k := keeper{key: "x"}
		k.keep(h, 1)
		k.keep(h, math.Inf(1))
	})
	require.Equal(t, "1", ledger.Get("x"))
}
