package agent

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/protocol/event"
)

// TestResendOfWhatIsGone: the answer tells what will come, and fails if nothing will.
func TestResendOfWhatIsGone(t *testing.T) {
	t.Parallel()
	s, err := spool.Open(t.TempDir(), spool.Options{SegmentBytes: 64 << 10, Routine: spool.Caps{MaxBytes: 512 << 10}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	const events = 100
	for range events { // 16 KiB each, so that the oldest are evicted
		_, err := s.Append(context.Background(), event.Routine, time.Now(), "a/b", func(uint64, event.Hash) ([]byte, error) { return make([]byte, 16<<10), nil })
		require.NoError(t, err)
	}
	oldest, err := s.Read(event.Routine, 1, events, 1, 0)
	require.NoError(t, err)
	there := oldest[0].Sequence
	require.Greater(t, there, uint64(10))
	u, err := uplink.New(s, uplink.Options{Brokers: []string{"tcp://127.0.0.1:1"}, ClientID: "x"})
	require.NoError(t, err)
	a := &Agent{spool: s}
	ask := func(first, last uint64) (any, error) {
		return a.answerResend(context.Background(), &uplinkRun{Uplink: u},
			[]byte(`{"priority":"routine","first_sequence":"`+event.FormatSequence(first)+`","last_sequence":"`+event.FormatSequence(last)+`"}`))
	}
	_, err = ask(1, there-1)
	require.ErrorContains(t, err, "nothing of routine 1 to ")
	got, err := ask(1, events+7)
	require.NoError(t, err)
	require.Equal(t, resent{event.Routine, event.FormatSequence(there), event.FormatSequence(events), there - 1}, got)
	got, err = ask(events, events)
	require.NoError(t, err)
	require.Equal(t, resent{event.Routine, event.FormatSequence(events), event.FormatSequence(events), 0}, got)
}

// TestWhatABrokerRefuses: the technician is told what to set, and where.
func TestWhatABrokerRefuses(t *testing.T) {
	t.Parallel()
	list := uplinkProblems(uplink.Status{
		Name: "mqtt", Stuck: []uplink.Stuck{{Class: event.Urgent, Sequence: 18}}, LeftOut: []string{"lanepost/v1/medyka/entry-1/rpm-2/lanepost.device.state"},
	}, time.Now())
	require.Len(t, list, 2)
	require.Contains(t, list[0].ToDo, "max_packet")
	require.Contains(t, list[1].What, "lanepost/v1/medyka/entry-1/rpm-2/lanepost.device.state")
	require.Contains(t, list[1].ToDo, "may not publish")
}
