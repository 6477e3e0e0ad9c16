package uplink

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

func TestFilterPasses(t *testing.T) {
	t.Parallel()
	const (
		alarm   = "lanepost/v1/test/entry-1/rpm-1/lanepost.radiation.alarm"
		started = "lanepost/v1/test/agent/a-1/lanepost.agent.started"
		loss    = "lanepost/v1/test/agent/a-1/lanepost.agent.loss"
		device  = "lanepost/v1/test/entry-1/rpm-1/lanepost.device.state"
		state   = "lanepost/v1/test/agent/a-1/lanepost.agent.state"
	)
	for _, c := range []struct {
		filter                       Filter
		alarm, routine, started, dev bool
	}{
		{Filter{}, true, true, true, true},
		{Filter{Lanes: []string{"entry-1"}}, true, true, false, true},
		{Filter{Lanes: []string{"entry-2", "agent"}}, false, false, true, false},
		{Filter{Types: []string{"lanepost.radiation.*"}}, true, true, false, true},
		{Filter{Types: []string{"lanepost.radiation"}}, false, false, false, true},
		{Filter{Types: []string{"lanepost.x", "*.started"}}, false, false, true, true},
		{Filter{Classes: []event.Class{event.Urgent}}, true, false, true, true},
		{Filter{Lanes: []string{"entry-1"}, Classes: []event.Class{event.Routine}}, false, true, false, true},
	} {
		f := c.filter
		require.NoError(t, f.check())
		require.Equal(t, c.alarm, f.Passes(alarm, event.Urgent), "%+v", f)
		require.Equal(t, c.routine, f.Passes(alarm, event.Routine), "%+v", f)
		require.Equal(t, c.started, f.Passes(started, event.Urgent), "%+v", f)
		require.Equal(t, c.dev, f.passesState(device), "%+v", f)
		require.True(t, f.Passes(loss, event.Urgent), "losses explain gaps to everybody")
		require.True(t, f.passesState(state))
	}
}

func skippedNotice(d event.AgentSkipped) (string, []byte) {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return "lanepost/v1/test/agent/a-1/lanepost.agent.skipped", b
}

// recordEvent appends a whole event, with its place in the hash chain.
func recordEvent(t testing.TB, s *spool.Spool, lane string, d event.Data) {
	t.Helper()
	now := time.Now()
	draft, err := event.NewDraft(event.Header{
		ID: uuid.NewString(), Source: event.Source("test", lane, "rpm-1"), Agent: "a-1",
		Time: event.At(now), RecordedTime: event.At(now), ClockSync: "yes",
	}, d)
	require.NoError(t, err)
	_, err = s.Append(context.Background(), draft.Class(), now, draft.Topic(), func(seq uint64, previous event.Hash) ([]byte, error) {
		return draft.Encode(seq, previous), nil
	})
	require.NoError(t, err)
}

// receiver follows the hash chain of one class from events and notices alone, as
// they come, and passes over what it knows.
type receiver struct {
	t       testing.TB
	class   event.Class
	next    uint64
	chain   event.Hash
	events  int
	skipped int
}

func (r *receiver) take(p published) {
	if strings.HasSuffix(p.topic, "lanepost.agent.skipped") {
		require.False(r.t, p.retain)
		var d event.AgentSkipped
		require.NoError(r.t, json.Unmarshal(p.payload, &d))
		if d.Priority != r.class {
			return
		}
		first, err := event.ParseSequence(d.FirstSequence)
		require.NoError(r.t, err)
		last, err := event.ParseSequence(d.LastSequence)
		require.NoError(r.t, err)
		digests, err := base64.StdEncoding.DecodeString(d.Digests)
		require.NoError(r.t, err)
		require.Len(r.t, digests, int(last-first+1)*32)
		require.LessOrEqual(r.t, last-first+1, uint64(maxSkipped))
		require.LessOrEqual(r.t, first, r.next, "a gap before the notice")
		for n := first; n <= last; n++ {
			if n == r.next {
				r.chain = event.Link(r.chain, event.Hash(digests[(n-first)*32:][:32]))
				r.next++
				r.skipped++
			}
		}
		return
	}
	if strings.HasSuffix(p.topic, ".state") {
		return
	}
	e, err := event.Parse(p.payload)
	require.NoError(r.t, err)
	if e.Priority != r.class {
		return
	}
	n, err := event.ParseSequence(e.Sequence)
	require.NoError(r.t, err)
	if n < r.next {
		return
	}
	require.Equal(r.t, r.next, n, "a gap before the event")
	require.Equal(r.t, r.chain.String(), e.PrevHash)
	r.chain = event.Link(r.chain, event.Digest(p.payload))
	r.next++
	r.events++
}

// TestFilteredChain: who gets a part of the events can still verify the chain,
// over a line that breaks all the time.
func TestFilteredChain(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	p := newProxy(t, b.addr)
	p.cutAfter = func() int { return 60_000 }
	p.serve()
	s := newSpool(t)
	want := 0
	for i := range 400 {
		lane := fmt.Sprintf("entry-%d", i%7)
		if i < 200 && i >= 150 {
			lane = "entry-1"
		}
		if lane == "entry-1" {
			want++
		}
		recordEvent(t, s, lane, event.DeviceOnline{Connect: "tcp://h:1", Profile: fmt.Sprint(i)})
	}
	o := (&agent{devices: []Message{{deviceTopic, []byte("1")}, {strings.Replace(deviceTopic, "entry-1", "entry-2", 1), []byte("2")}}}).options(t, "tcp://"+p.addr)
	o.Filter, o.Skipped = Filter{Lanes: []string{"entry-1"}}, skippedNotice
	o.StopTimeout = patience
	u, stop := start(t, s, o)
	eventually(t, func() bool { return u.Status().Acked == uint64(want) })
	// What is passed over last is told at the end.
	recordEvent(t, s, "entry-2", event.DeviceOnline{})
	stop()
	require.Zero(t, backlog(s))
	r := receiver{t: t, class: event.Urgent, next: 1}
	for _, p := range b.all() {
		require.NotContains(t, p.topic, "entry-2", "neither events nor states of other lanes")
		r.take(p)
	}
	require.EqualValues(t, 402, r.next)
	require.Equal(t, want, r.events)
	require.Equal(t, 401-want, r.skipped)
	require.EqualValues(t, 401-want, u.Status().Skipped)
	require.Positive(t, p.cuts.Load())
}

// TestFilterOfEverything: a receiver for whom nothing is meant does not hold the
// spool's space.
func TestFilterOfEverything(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	record(t, s, event.Routine, 2500, 100)
	o := (&agent{}).options(t, "tcp://"+b.addr)
	o.Filter, o.Skipped = Filter{Types: []string{"lanepost.none"}}, skippedNotice
	o.StopTimeout = patience
	u, stop := start(t, s, o)
	eventually(t, func() bool { return s.Stats().Routine.Acked == 2000 })
	stop()
	require.Zero(t, backlog(s))
	require.EqualValues(t, 2500, u.Status().Skipped)
	require.Zero(t, u.Status().Acked)
	require.Len(t, b.all(), 5, "three notices between birth and farewell")
}

func TestSkipped(t *testing.T) {
	t.Parallel()
	s := skipped{limit: 3}
	now := time.Now()
	require.False(t, s.due(now.Add(time.Hour), true))
	for n := uint64(5); n < 8; n++ {
		require.False(t, s.due(now, false))
		require.True(t, s.takes(n))
		s.add(spool.Record{Sequence: n, Payload: []byte(`{}`)})
	}
	require.True(t, s.due(now, false), "it is full")
	require.False(t, s.takes(8))
	s.limit = 4
	require.False(t, s.takes(9), "8 was lost")
	require.False(t, s.due(now.Add(skippedAfter-time.Second), false))
	require.True(t, s.due(s.began.Add(skippedAfter), false))
	require.True(t, s.due(now, true))
	n := s.notice(event.Routine)
	require.Equal(t, "00000000000000000005", n.FirstSequence)
	require.Equal(t, "00000000000000000007", n.LastSequence)
	// printf '{}' | sha256sum | xxd -r -p, three times, | base64
	require.Regexp(t, `^RBNvo1WzZ4oRRq0W9\+hknpT7T8If536DEMBg9hyq.{88}$`, n.Digests)
	s.clear()
	require.True(t, s.takes(100))
	for packet, want := range map[int]int{0: 1000, 1024: 1, 10_000: 180, 1 << 20: 1000} {
		o := Options{MaxPacket: packet}
		require.Equal(t, want, o.skipLimit())
	}
}

// TestPrefixAndRedaction: all that an uplink sends is under its prefix, and its
// receiver gets no more than the public form.
func TestPrefixAndRedaction(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	full := `{"data":{"lane":"1","private":{"salt":"c2FsdA","plate":"BC 1234 AA"}}}`
	_, err := s.Append(context.Background(), event.Routine, time.Now(), eventTopic, func(uint64, event.Hash) ([]byte, error) {
		return []byte(full), nil
	})
	require.NoError(t, err)
	o := (&agent{devices: []Message{{deviceTopic, []byte("x")}}}).options(t, "tcp://"+b.addr)
	o.TopicPrefix, o.Redact = "national/pl", true
	start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	list := b.all()
	require.Len(t, list, 3)
	for _, p := range list {
		require.True(t, strings.HasPrefix(p.topic, "national/pl/lanepost/v1/test/"), p.topic)
		require.NotContains(t, string(p.payload), "BC 1234")
	}
	require.Equal(t, `{"data":{"lane":"1","private":"sha256:835fa8b00616a8d4460a342a45e75cab90b4e55b422ef33cdd76bfba943d4c6f"}}`,
		string(list[2].payload))
	require.False(t, list[2].retain)
	b.kick(t, "lanepost-a-1")
	eventually(t, func() bool { return len(b.willsSent()) == 1 })
	require.Equal(t, "national/pl/"+stateTopic, b.willsSent()[0].topic)
}

// TestRetainedEvent: an event of the spool whose type is retained carries the
// flag.
func TestRetainedEvent(t *testing.T) {
	t.Parallel()
	b := embed(t, "127.0.0.1:0", nil, nil)
	s := newSpool(t)
	for _, topic := range []string{deviceTopic, eventTopic} {
		_, err := s.Append(context.Background(), event.Urgent, time.Now(), topic, func(uint64, event.Hash) ([]byte, error) {
			return []byte("x"), nil
		})
		require.NoError(t, err)
	}
	start(t, s, (&agent{}).options(t, "tcp://"+b.addr))
	eventually(t, func() bool { return backlog(s) == 0 })
	require.Equal(t, "x", b.retained(deviceTopic))
	require.Empty(t, b.retained(eventTopic))
}

func TestFilterRefused(t *testing.T) {
	t.Parallel()
	for want, o := range map[string]Options{
		"no way to tell of what it keeps back": {Filter: Filter{Lanes: []string{"x"}}},
		`"[" is no pattern`:                    {Filter: Filter{Types: []string{"["}}},
		`class "high" does not exist`:          {Filter: Filter{Classes: []event.Class{"high"}}},
		`"a/+" can't come before topics`:       {TopicPrefix: "a/+"},
		`"a/" can't come before topics`:        {TopicPrefix: "a/"},
		"must be 1024 bytes at least, not 100": {MaxPacket: 100},
	} {
		o.Brokers, o.ClientID = []string{"tcp://h"}, "x"
		_, err := New(nil, o)
		require.ErrorContains(t, err, want)
	}
}
