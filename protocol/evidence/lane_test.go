package evidence

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// lane is an agent as it would record, without a disk.
type lane struct {
	agent  string
	key    ed25519.PrivateKey
	heads  map[event.Class]Head
	now    time.Time
	ids    int
	stream []recorded // what it has published, in order
}

// recorded is a published message. class is "" for a notice.
type recorded struct {
	class    event.Class
	sequence uint64
	text     []byte
}

func newLane(agent string, key ed25519.PrivateKey) *lane {
	return &lane{agent: agent, key: key, heads: map[event.Class]Head{}, now: time.UnixMilli(1773476700000).UTC()}
}

func (l *lane) header() event.Header {
	l.ids++
	l.now = l.now.Add(20 * time.Millisecond)
	return event.Header{
		ID: fmt.Sprintf("%s-%06d", l.agent, l.ids), Agent: l.agent, Source: event.Source("site", event.AgentLane, l.agent),
		Time: event.At(l.now), RecordedTime: event.At(l.now), ClockSync: "yes",
	}
}

// make records an event and does not publish it.
func (l *lane) make(d event.Data, change func([]byte) []byte) recorded {
	draft, err := event.NewDraft(l.header(), d)
	if err != nil {
		panic(err)
	}
	h := l.heads[d.Class()]
	h.Sequence++
	h.Count++
	text := draft.Encode(h.Sequence, h.Hash)
	if change != nil {
		text = change(text)
	}
	h.Hash = event.After(text)
	l.heads[d.Class()] = h
	return recorded{d.Class(), h.Sequence, text}
}

func (l *lane) record(d event.Data) recorded {
	r := l.make(d, nil)
	l.stream = append(l.stream, r)
	return r
}

func (l *lane) urgent() recorded {
	return l.record(event.AgentStopped{Reason: fmt.Sprintf("test %d", l.ids), UptimeS: 1})
}

// personal records a routine event with a private part.
func (l *lane) personal() recorded {
	r := l.make(routineData(l.ids), func(text []byte) []byte {
		return append(text[:len(text)-2:len(text)-2], `,"private":{"salt":"c2FsdA","plate":"BC 1234 AA"}}}`...)
	})
	l.stream = append(l.stream, r)
	return r
}

func routineData(n int) event.Data {
	return event.RadiationDiagnostic{Kind: "test", Detail: fmt.Sprintf("number %d", n), Values: map[string]float64{"n": float64(n)}}
}

func (l *lane) routine() recorded { return l.record(routineData(l.ids)) }

func (l *lane) statement() Checkpoint {
	return Checkpoint{
		Agent: l.agent, Time: event.At(l.now), ClockSync: "yes",
		Urgent: l.heads[event.Urgent], Routine: l.heads[event.Routine],
	}
}

func (l *lane) checkpoint() recorded {
	d, err := l.statement().Sign(l.key)
	if err != nil {
		panic(err)
	}
	for c, h := range l.heads {
		h.Count = 0
		l.heads[c] = h
	}
	return l.record(d)
}

func (l *lane) newKey(reason string, key, endorser ed25519.PrivateKey) recorded {
	k := Key{Agent: l.agent, Time: event.At(l.now), PublicKey: key.Public().(ed25519.PublicKey)}
	d, err := k.Event(reason, endorser)
	if err != nil {
		panic(err)
	}
	l.key = key
	return l.record(d)
}

// lose records events of a class that nobody gets, and that they are lost.
func (l *lane) lose(c event.Class, n int, damaged bool) {
	first := l.heads[c].Sequence + 1
	for range n {
		if c == event.Urgent {
			l.make(event.AgentStopped{Reason: "lost"}, nil)
		} else {
			l.make(routineData(0), nil)
		}
	}
	h := l.heads[c]
	reason := "evicted"
	if damaged {
		reason, h.Hash = "damaged", event.Hash{}
		l.heads[c] = h
	}
	l.record(event.AgentLoss{
		Priority: c, FirstSequence: event.FormatSequence(first), LastSequence: event.FormatSequence(h.Sequence),
		Count: uint64(n), Reason: reason, Detail: "made by the test",
	})
}

// filter records events of a class that a filter keeps back.
func (l *lane) filter(n int) {
	first := l.heads[event.Routine].Sequence + 1
	var digests []byte
	for range n {
		d := event.Digest(l.make(routineData(0), nil).text)
		digests = append(digests, d[:]...)
	}
	_, text, err := event.EncodeState(l.header(), event.AgentSkipped{
		Priority: event.Routine, FirstSequence: event.FormatSequence(first),
		LastSequence: event.FormatSequence(l.heads[event.Routine].Sequence), Digests: base64.StdEncoding.EncodeToString(digests),
	})
	if err != nil {
		panic(err)
	}
	l.stream = append(l.stream, recorded{text: text})
}

// shuffled is how a subscriber may get it: urgent events early, and pieces again
// after the line broke. pick gives a number below n.
func shuffled(stream []recorded, pick func(n int) int) []recorded {
	var urgent, rest, out []recorded
	for _, r := range stream {
		if r.class == event.Urgent {
			urgent = append(urgent, r)
		} else {
			rest = append(rest, r)
		}
	}
	send := func(from []recorded, at int) int {
		if at > 0 && pick(8) == 0 {
			at -= 1 + pick(min(at, 5)) // from the last confirmed one on
		}
		out = append(out, from[at])
		return at + 1
	}
	u, r := 0, 0
	for u < len(urgent) || r < len(rest) {
		if r == len(rest) || u < len(urgent) && pick(2) == 0 {
			u = send(urgent, u)
		} else {
			r = send(rest, r)
		}
	}
	return out
}

func feed(v *Verifier, stream []recorded) *Verifier {
	for _, r := range stream {
		v.Feed("", r.text)
	}
	return v
}

func ordinary(events int) *lane {
	l := newLane("box-1", keyOf(1))
	l.newKey(ReasonFirst, keyOf(1), nil)
	for i := range events {
		switch {
		case i%7 == 6:
			l.checkpoint()
		case i%3 == 0:
			l.urgent()
		case i%5 == 1:
			l.personal()
		default:
			l.routine()
		}
	}
	l.checkpoint()
	return l
}

func of(r Result, k Kind) []Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.Kind != k })
}
