package evidence

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lanepost/lanepost/protocol/event"
)

// Whatever honest delivery does, nothing is found but the losses that are told.
func TestHonestStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		l := newLane("box-1", keyOf(1))
		l.newKey(ReasonFirst, keyOf(1), nil)
		l.routine() // what is lost before all that came is no gap
		lost, keys := 0, byte(1)
		for range rapid.IntRange(1, 50).Draw(t, "events") {
			switch pick(16) {
			case 0:
				n, class := 1+pick(3), event.Classes[pick(2)]
				if class == event.Urgent {
					// What is before a hole is covered by checkpoints before it only.
					l.checkpoint()
				}
				// A damaged end leaves the event after it without what was before.
				l.lose(class, n, pick(2) == 0)
				lost += n
			case 1, 2:
				l.checkpoint()
			case 3:
				keys++
				l.newKey(ReasonRotated, keyOf(keys), keyOf(keys-1))
			case 4, 5:
				l.filter(1 + pick(3))
			case 6, 7:
				l.urgent()
			case 8, 9:
				l.personal()
			default:
				l.routine()
			}
		}
		l.routine()
		l.checkpoint()
		l.checkpoint() // covers what the one before it said

		var given []ed25519.PublicKey
		if rapid.Bool().Draw(t, "key given") {
			given = append(given, publicOf(1))
		}
		v := New(given...)
		redact := rapid.Bool().Draw(t, "redacted")
		for _, r := range shuffled(l.stream, pick) {
			if redact {
				r.text = event.Redact(r.text)
			}
			v.Feed("", r.text)
		}
		r := v.Result()
		told := 0
		for _, f := range r.Findings {
			require.Equal(t, Note, f.Severity, "%+v", f)
			if f.Kind == KindLost {
				told += int(f.Last - f.First + 1)
			}
		}
		require.Equal(t, lost, told)
		distinct := uint64(0)
		for _, s := range r.Streams {
			h := l.heads[s.Class]
			require.Equal(t, h.Sequence, s.Last)
			require.Equal(t, h.Sequence, s.Distinct+s.Skipped+s.Lost, "%+v", s)
			require.Zero(t, s.Missing)
			require.Equal(t, s.SignedTo, s.Last-map[event.Class]uint64{event.Urgent: 1}[s.Class], "all but the last checkpoint is covered")
			distinct += s.Distinct + s.Duplicates
		}
		require.Equal(t, r.Totals.Events, distinct)
		require.Len(t, r.Keys, int(keys))
	})
}

// errorsAt are the findings that are errors, or warnings, about a sequence.
func errorsAt(r Result, c event.Class, sequence uint64) (list []Finding) {
	for _, f := range r.Findings {
		if f.Severity != Note && f.Class == c && f.First <= sequence && sequence <= f.Last {
			list = append(list, f)
		}
	}
	return list
}

// Every change of every byte of an event is found, wherever the event stands.
func TestEachByte(t *testing.T) {
	l := ordinary(16)
	require.Empty(t, feed(New(), l.stream).Result().Findings)
	require.Contains(t, string(l.stream[7].text), "agent.checkpoint")
	require.Contains(t, string(l.stream[12].text), `"private":{`)
	for _, at := range []int{7, 12} { // a checkpoint, and an event with what is personal
		r := l.stream[at]
		for i := range r.text {
			forged := slices.Clone(l.stream)
			text := bytes.Clone(r.text)
			text[i] ^= 1 << (i % 8)
			forged[at].text = text
			result := feed(New(), forged).Result()
			require.NotEmpty(t, errorsAt(result, r.class, r.sequence), "message %d byte %d of %s: %v", at, i, text, result.Findings)
			require.Equal(t, Error, result.Worst(), "message %d byte %d of %s: %v", at, i, text, result.Findings)
		}
	}
}

func forge(t *testing.T, text []byte, old, new string) []byte {
	t.Helper()
	out := bytes.Replace(text, []byte(old), []byte(new), 1)
	require.NotEqual(t, string(text), string(out))
	return out
}

// rechain gives the events of a class their prevhash anew, from one on.
func rechain(t *testing.T, stream []recorded, class event.Class) {
	var before event.Hash
	for i, r := range stream {
		if r.class != class {
			continue
		}
		had, ok := event.PrevHash(r.text)
		require.True(t, ok)
		if had != before {
			stream[i].text = forge(t, r.text, `"prevhash":"`+had.String(), `"prevhash":"`+before.String())
		}
		before = event.After(stream[i].text)
	}
}

func TestMutations(t *testing.T) {
	// where finds the nth message of a class that is no checkpoint.
	where := func(l *lane, class event.Class, n int) int {
		for i, r := range l.stream {
			if r.class == class && !bytes.Contains(r.text, []byte("lanepost.agent.checkpoint")) && !bytes.Contains(r.text, []byte("agent.key")) {
				if n--; n < 0 {
					return i
				}
			}
		}
		panic("too few")
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, l *lane) []recorded
		want   Kind
		first  uint64 // zero for any place
		class  event.Class
	}{
		"dropped": {func(_ *testing.T, l *lane) []recorded {
			i := where(l, event.Routine, 4)
			return slices.Delete(slices.Clone(l.stream), i, i+1)
		}, KindGap, 5, event.Routine},
		"contents swapped": {func(t *testing.T, l *lane) []recorded {
			s := slices.Clone(l.stream)
			i, j := where(l, event.Urgent, 2), where(l, event.Urgent, 3)
			a, b := s[i].text, s[j].text
			data := []byte(`"data":`)
			x, y := bytes.Index(a, data), bytes.Index(b, data)
			s[i].text = slices.Concat(a[:x], b[y:])
			s[j].text = slices.Concat(b[:y], a[x:])
			return s
		}, KindAltered, 0, event.Urgent},
		"came twice, changed": {func(t *testing.T, l *lane) []recorded {
			i := where(l, event.Routine, 3)
			again := l.stream[i]
			again.text = forge(t, again.text, `"number `, `"Number `)
			return append(slices.Clone(l.stream), again)
		}, KindFork, 4, event.Routine},
		"the end cut": {func(_ *testing.T, l *lane) []recorded {
			s := slices.DeleteFunc(slices.Clone(l.stream), func(r recorded) bool {
				return r.class == event.Routine && r.sequence > l.heads[event.Routine].Sequence-2
			})
			return s
		}, KindTail, 0, event.Routine},
		"a class left out": {func(_ *testing.T, l *lane) []recorded {
			return slices.DeleteFunc(slices.Clone(l.stream), func(r recorded) bool { return r.class == event.Routine })
		}, KindTail, 0, event.Routine},
		"a signature forged": {func(t *testing.T, l *lane) []recorded {
			s := slices.Clone(l.stream)
			for i := range s {
				if at := bytes.Index(s[i].text, []byte(`"signature":"`)); at >= 0 {
					text := bytes.Clone(s[i].text)
					text[at+20] ^= 1
					s[i].text = text
					break
				}
			}
			rechain(t, s, event.Urgent)
			return s
		}, KindSignature, 0, event.Urgent},
		"signed by another": {func(t *testing.T, l *lane) []recorded {
			l.key = keyOf(9)
			l.checkpoint()
			return l.stream
		}, KindUnknownKey, 0, event.Urgent},
		"history rewritten": {func(t *testing.T, l *lane) []recorded {
			s := slices.Clone(l.stream)
			i := where(l, event.Routine, 4)
			s[i].text = forge(t, s[i].text, `"number `, `"Number `)
			rechain(t, s, event.Routine)
			return s
		}, KindContradicted, 0, event.Routine},
		"an event taken out and all renumbered": {func(t *testing.T, l *lane) []recorded {
			i := where(l, event.Routine, 4)
			s := slices.Delete(slices.Clone(l.stream), i, i+1)
			for j, r := range s {
				if r.class == event.Routine && r.sequence > 5 {
					s[j].sequence--
					s[j].text = forge(t, r.text, event.FormatSequence(r.sequence), event.FormatSequence(r.sequence-1))
				}
			}
			rechain(t, s, event.Routine)
			return s
		}, KindContradicted, 0, event.Routine},
		"an old disk": {func(t *testing.T, l *lane) []recorded {
			before := map[event.Class]Head{event.Urgent: l.heads[event.Urgent], event.Routine: l.heads[event.Routine]}
			for range 3 {
				l.routine()
			}
			l.heads = before
			for range 5 {
				l.routine()
			}
			return l.stream
		}, KindReplay, 0, event.Routine},
		"an id again": {func(t *testing.T, l *lane) []recorded {
			l.ids = 3
			l.urgent()
			return l.stream
		}, KindReplay, 0, event.Urgent},
		"a key from nowhere": {func(t *testing.T, l *lane) []recorded {
			l.newKey(ReasonRotated, keyOf(9), keyOf(8))
			l.checkpoint()
			return l.stream
		}, KindKeyRefused, 0, event.Urgent},
		"a lost key": {func(t *testing.T, l *lane) []recorded {
			l.newKey(ReasonLost, keyOf(9), nil)
			l.checkpoint()
			return l.stream
		}, KindKeyRefused, 0, event.Urgent},
		"the old key after the new one": {func(t *testing.T, l *lane) []recorded {
			l.newKey(ReasonRotated, keyOf(2), keyOf(1))
			l.checkpoint()
			l.key = keyOf(1)
			l.checkpoint()
			return l.stream
		}, KindUnknownKey, 0, event.Urgent},
		"begun anew": {func(t *testing.T, l *lane) []recorded {
			h := l.heads[event.Routine]
			h.Hash = event.Hash{}
			l.heads[event.Routine] = h
			l.routine()
			return l.stream
		}, KindRestart, 0, event.Routine},
		"no prevhash any more": {func(t *testing.T, l *lane) []recorded {
			r := l.make(routineData(1), func(text []byte) []byte {
				h, _ := event.PrevHash(text)
				return bytes.Replace(text, []byte(`,"prevhash":"`+h.String()+`"`), nil, 1)
			})
			l.stream = append(l.stream, r)
			return l.stream
		}, KindAltered, 0, event.Routine},
		"another agent": {func(t *testing.T, l *lane) []recorded {
			other := newLane("box-2", keyOf(2))
			r := other.make(event.AgentStopped{Reason: "x"}, func(text []byte) []byte {
				return bytes.Replace(text, []byte("/agent/box-2"), []byte("/agent/box-1"), 1)
			})
			return append(l.stream, r)
		}, KindAgentChanged, 0, ""},
		"half a line": {func(t *testing.T, l *lane) []recorded {
			s := slices.Clone(l.stream)
			s[len(s)-1].text = s[len(s)-1].text[:200]
			return s
		}, KindUnreadable, 0, ""},
		"a checkpoint of another agent": {func(t *testing.T, l *lane) []recorded {
			c := l.statement()
			c.Agent = "box-2"
			d, err := c.Sign(l.key)
			require.NoError(t, err)
			l.record(d)
			return l.stream
		}, KindSignature, 0, event.Urgent},
		"a checkpoint about the future": {func(t *testing.T, l *lane) []recorded {
			c := l.statement()
			c.Urgent.Sequence += 5
			d, err := c.Sign(l.key)
			require.NoError(t, err)
			l.record(d)
			return l.stream
		}, KindSignature, 0, event.Urgent},
		"a digest changed": {func(t *testing.T, l *lane) []recorded {
			l.filter(2)
			n := &l.stream[len(l.stream)-1]
			at := bytes.Index(n.text, []byte(`"digests":"`))
			n.text = bytes.Clone(n.text)
			n.text[at+20] ^= 1
			l.routine()
			return l.stream
		}, KindAltered, 0, event.Routine},
		"a notice without what is before it": {func(t *testing.T, l *lane) []recorded {
			l.routine()
			l.stream = l.stream[:len(l.stream)-1]
			l.filter(2)
			l.routine()
			return l.stream
		}, KindGap, 0, event.Routine},
	} {
		t.Run(name, func(t *testing.T) {
			l := ordinary(40)
			s := c.change(t, l)
			r := feed(New(publicOf(1)), s).Result()
			found := of(r, c.want)
			require.NotEmpty(t, found, "%v", r.Findings)
			require.NotEqual(t, Note, r.Worst())
			require.Equal(t, c.class, found[0].Class)
			if c.first > 0 {
				require.Equal(t, c.first, found[0].First)
				require.Len(t, r.Findings, 1, "%+v", r.Findings)
			}
			for _, f := range r.Findings {
				require.NotEmpty(t, f.Meaning)
				require.NotEmpty(t, f.Text)
				require.NotEmpty(t, f.Where())
			}
			_, err := json.Marshal(r)
			require.NoError(t, err)
		})
	}
}

// What is added after the last checkpoint can't be told from the truth, and the
// summary says so.
func TestNotCovered(t *testing.T) {
	l := ordinary(20)
	for range 3 {
		l.routine()
	}
	l.urgent()
	r := feed(New(), l.stream).Result()
	require.Empty(t, r.Findings)
	require.Len(t, r.Streams, 2)
	require.Equal(t, uint64(2), r.Streams[0].NotCovered, "the last checkpoint and the event after it")
	require.Equal(t, uint64(3), r.Streams[1].NotCovered)
	require.Equal(t, []KeyUse{{"box-1", FormatKey(publicOf(1)), Fingerprint(publicOf(1)), TrustFirstUse, 3}}, r.Keys)
}

// A loss that nothing signed explains a gap only with a warning.
func TestUnsignedLoss(t *testing.T) {
	l := ordinary(20)
	l.lose(event.Routine, 2, true)
	l.routine()
	r := feed(New(), l.stream).Result()
	require.Equal(t, Warning, r.Worst())
	require.Len(t, of(r, KindLost), 1)
	require.Equal(t, uint64(2), r.Streams[1].Lost)
	require.Len(t, of(r, KindRestartKnown), 1)
	l.checkpoint()
	r = feed(New(), l.stream).Result()
	require.Equal(t, Note, r.Worst(), "%+v", r.Findings)
}

// A subscriber that came late does not miss what was before.
func TestBeginsLate(t *testing.T) {
	l := ordinary(40)
	r := feed(New(), l.stream[20:]).Result()
	require.Empty(t, r.Findings)
}

// What the agent says that it lost is told as lost, also where the recording has nothing of
// the class before it, or nothing at all; and once, if two losses tell the same.
func TestLossBeforeTheRecording(t *testing.T) {
	t.Parallel()
	for _, more := range []int{0, 3} {
		l := newLane("box-1", keyOf(1))
		l.urgent()
		for range 10 {
			l.make(routineData(1), nil) // stored and evicted
		}
		evicted := func(first, last uint64) event.AgentLoss {
			return event.AgentLoss{
				Priority: event.Routine, FirstSequence: event.FormatSequence(first), LastSequence: event.FormatSequence(last),
				Count: last - first + 1, Reason: "evicted", Detail: "to make room",
			}
		}
		l.record(evicted(1, 6))
		l.record(evicted(7, 10))
		l.record(evicted(5, 10))
		for range more {
			l.routine()
		}
		l.checkpoint()
		r := feed(New(), l.stream).Result()
		require.Equal(t, Note, r.Worst(), "%+v", r.Findings)
		require.Len(t, of(r, KindLost), 1, "%+v", r.Findings)
		require.Len(t, r.Streams, 2)
		require.Equal(t, []uint64{10, 0}, []uint64{r.Streams[1].Lost, r.Streams[1].Missing})
	}
}

// An agent that could not read its newest event at a start says where the chain begins
// anew, and only there is it explained.
func TestToldRestart(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		l := ordinary(20)
		for _, c := range event.Classes {
			h := l.heads[c]
			h.Hash = event.Hash{}
			l.heads[c] = h
		}
		started := event.AgentStarted{Version: "test", PreviousStop: "unclean"}
		if told {
			started.UrgentAnew = event.FormatSequence(l.heads[event.Urgent].Sequence + 1)
			started.RoutineAnew = event.FormatSequence(l.heads[event.Routine].Sequence + 1)
		}
		l.record(started)
		l.routine()
		l.checkpoint()
		r := feed(New(), l.stream).Result()
		if told {
			require.Equal(t, Note, r.Worst(), "%+v", r.Findings)
			require.Len(t, of(r, KindRestartKnown), 2)
		} else {
			require.Len(t, of(r, KindRestart), 2)
		}
	}
}

// The broker's retained checkpoint, taken later, shows what the end lacks.
func TestRetainedCheckpoint(t *testing.T) {
	l := ordinary(40)
	last := l.stream[len(l.stream)-1]
	r := feed(New(), append([]recorded{last}, l.stream[:30]...)).Result()
	require.NotEmpty(t, of(r, KindGap), "%+v", r.Findings)
	require.NotEmpty(t, of(r, KindTail))
}

// The first that a new subscriber gets is the checkpoint that the broker kept.
func TestBeginsWithRetainedCheckpoint(t *testing.T) {
	l := ordinary(40)
	require.Contains(t, string(l.stream[7].text), "agent.checkpoint")
	s := append([]recorded{l.stream[7]}, l.stream[20:]...)
	r := feed(New(), s).Result()
	require.Len(t, r.Findings, 1, "%+v", r.Findings)
	require.Equal(t, KindLate, r.Findings[0].Kind)
	require.Zero(t, r.Streams[0].Missing)

	alone := feed(New(), l.stream[7:8]).Result()
	require.Empty(t, alone.Findings)
	require.Len(t, alone.Keys, 1)
}

func TestUpgradeFromBeforeTheChain(t *testing.T) {
	l := newLane("box-1", keyOf(1))
	old := func() {
		r := l.make(routineData(l.ids), func(text []byte) []byte {
			h, _ := event.PrevHash(text)
			return bytes.Replace(text, []byte(`,"prevhash":"`+h.String()+`"`), nil, 1)
		})
		l.stream = append(l.stream, r)
	}
	for range 5 {
		old()
		l.urgent()
	}
	l.routine()
	l.checkpoint()
	r := feed(New(), l.stream).Result()
	require.Len(t, r.Findings, 1, "%+v", r.Findings)
	require.Equal(t, KindUnchained, r.Findings[0].Kind)
	require.Equal(t, uint64(5), r.Findings[0].Last)
}

func TestTopics(t *testing.T) {
	l := newLane("box-1", keyOf(1))
	r := l.urgent()
	v := New()
	v.Feed("lanepost/v1/site/agent/box-1/lanepost.agent.stopped", r.text)
	v.Feed("other/prefix/site/agent/box-1/lanepost.agent.stopped", r.text)
	v.Feed("lanepost/v1/site/agent/box-1/blob/00/000000000000of5", []byte("\x00\x01{}"))
	v.Feed("lanepost/v1/site/entry-3/rpm-1/lanepost.device.state", nil)
	require.Empty(t, v.Result().Findings)
	v.Feed("lanepost/v1/site/agent/box-2/lanepost.agent.stopped", r.text)
	require.Len(t, of(v.Result(), KindMisplaced), 1)
	require.Equal(t, Totals{Messages: 5, Events: 3, Other: 2}, v.Result().Totals)
}

// Whatever is missing, memory stays bounded and the count is right.
func TestManyGaps(t *testing.T) {
	l := newLane("box-1", keyOf(1))
	for range 6 * maxRuns {
		l.urgent()
	}
	v := New()
	for i, r := range l.stream {
		if i%3 != 1 {
			v.Feed("", r.text)
		}
	}
	a := v.agents["box-1"]
	require.LessOrEqual(t, len(a.streams[0].runs), maxRuns)
	r := v.Result()
	require.Equal(t, uint64(2*maxRuns), r.Streams[0].Missing)
	require.Equal(t, uint64(4*maxRuns), r.Streams[0].Distinct)
	require.LessOrEqual(t, len(r.Findings), maxFindings)
	require.NotEmpty(t, of(r, KindLimit))
	require.NotZero(t, r.More)
}

func TestManyAgents(t *testing.T) {
	v := New()
	for i := range maxAgents + 5 {
		l := newLane(fmt.Sprintf("box-%d", i), keyOf(1))
		v.Feed("", l.urgent().text)
	}
	require.Len(t, v.Result().Streams, maxAgents)
	require.NotEmpty(t, of(v.Result(), KindLimit))
	l := newLane(strings.Repeat("a", MaxName+1), keyOf(1))
	v.Feed("", l.urgent().text)
	require.Len(t, of(v.Result(), KindUnreadable), 1)
}

// Nothing that is fed may make it panic, nor does anything good come from noise.
func FuzzFeed(f *testing.F) {
	l := ordinary(12)
	l.filter(2)
	l.lose(event.Routine, 2, true)
	l.newKey(ReasonRotated, keyOf(2), keyOf(1))
	var all []byte
	for _, r := range l.stream {
		all = append(append(all, r.text...), '\n')
	}
	f.Add(all)
	f.Add([]byte("x\n{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := New()
		for line := range bytes.SplitSeq(text, []byte("\n")) {
			v.Feed("", line)
		}
		r := v.Result()
		_, err := json.Marshal(r)
		require.NoError(t, err)
		sum := r.Totals.Events + r.Totals.Other + r.Totals.Unreadable
		require.GreaterOrEqual(t, sum, r.Totals.Messages)
		for _, s := range r.Streams {
			require.LessOrEqual(t, s.NotCovered, s.Distinct+s.Skipped+s.Uncompared)
		}
	})
}

func BenchmarkVerifier(b *testing.B) {
	l := newLane("box-1", keyOf(1))
	for i := range 2000 {
		l.personal()
		if i%1000 == 999 {
			l.checkpoint()
		}
	}
	bytes := 0
	for _, r := range l.stream {
		bytes += len(r.text)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	events := 0
	for b.Loop() {
		feed(New(), l.stream)
		events += len(l.stream)
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
