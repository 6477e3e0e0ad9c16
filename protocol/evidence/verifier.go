package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of a Verifier.
const (
	// maxAgents bounds the agents that are followed at once.
	maxAgents = 256
	// maxSources bounds the devices whose agent is remembered.
	maxSources = 4096
	// maxRemembered bounds the events that are remembered one by one, so that what
	// comes again can be compared with what came first.
	maxRemembered = 1 << 18
	// maxRuns bounds the pieces of a stream, so the gaps that may still be filled.
	maxRuns = 1024
	// maxFindings bounds the findings; more are counted.
	maxFindings = 1000
	// maxSpan bounds a range that a loss or a notice is about.
	maxSpan = 1 << 40
	// lookBack bounds how far back a finding looks for the one that it continues,
	// as the classes are mixed; maxText bounds its text, in bytes.
	lookBack, maxText = 16, 400
	// maxID and maxSource bound what is kept of an event, in bytes.
	maxID, maxSource = 128, 512
	// maxClaims bounds, for each stream, the signed heads that wait for their event.
	maxClaims = 256
	// maxLosses bounds, for each stream, the losses that the agent told.
	maxLosses = 4096
	// maxBranches bounds, for each stream, the second histories that are followed,
	// and maxBranch how many events of one are remembered.
	maxBranches, maxBranch = 4, 4096
	// maxNotices bounds, for each stream, the notices that wait for what is before
	// them.
	maxNotices = 64
	// maxKeys bounds the keys of one agent.
	maxKeys = 64
	// maxUnknown bounds, for each agent, the checkpoints whose key may still come.
	maxUnknown = 64
)

// Verifier checks what a subscriber stored. Feed it the messages in the order
// of their arrival, then ask for the Result; more may be fed after that.
//
// It expects what delivery at least once gives: duplicates, the two classes
// mixed, runs that come again after a reconnect, some disorder. Its memory is
// bounded whatever comes.
type Verifier struct {
	given   map[string]bool // public keys that the user trusts
	agents  map[string]*agent
	sources map[string]string // the agent of each source
	found   findings
	total   Totals
	seen    []place // what is remembered, a ring
	oldest  int
	full    bool // more agents or sources came than are followed
}

// place is where an event stands.
type place struct {
	s        *stream
	sequence uint64
}

// agent is what is known of one agent.
type agent struct {
	name    string
	streams [len(event.Classes)]*stream
	ids     map[string]place // of what is remembered
	keys    []keySpan
	refused map[string]bool // public keys that nothing endorses
	unknown []signed
}

// keySpan is a key and for which part of the urgent chain it speaks: for
// checkpoints with a sequence above from and below until.
type keySpan struct {
	key         ed25519.PublicKey
	trust       string
	from, until uint64
	used        uint64 // checkpoints
}

// signed is a checkpoint and the sequence of its event.
type signed struct {
	at  uint64
	c   Checkpoint
	key ed25519.PublicKey
}

// New makes a Verifier. It trusts the given public keys and no others but what
// they endorse. Without any, it trusts the first key that each agent uses.
func New(keys ...ed25519.PublicKey) *Verifier {
	v := &Verifier{given: map[string]bool{}, agents: map[string]*agent{}, sources: map[string]string{}}
	for _, k := range keys {
		v.given[string(k)] = true
	}
	return v
}

// chunkLevel is in the topic of a part of an attachment.
const chunkLevel = "/blob/"

// Feed takes the next message. topic may be empty if it is not known.
func (v *Verifier) Feed(topic string, payload []byte) {
	v.total.Messages++
	payload = bytes.TrimRight(payload, "\r\n")
	switch {
	case len(payload) == 0: // a retained state was taken back
		v.total.Other++
		return
	case strings.Contains(topic, chunkLevel):
		v.total.Other++
		return
	}
	e, err := event.Parse(payload)
	if err != nil && isRequest(payload) {
		v.total.Other++
		return
	}
	if err == nil {
		err = v.feed(topic, e, payload)
	}
	if err != nil {
		v.total.Unreadable++
		f := finding(KindUnreadable, err.Error())
		f.FirstLine, f.LastLine = v.total.Messages, v.total.Messages
		v.found.add(f)
	}
}

// isRequest tells whether a message is a request to an agent, or its answer,
// which travel beside the events: an object with a command and no specversion,
// which every event has.
func isRequest(payload []byte) bool {
	var m map[string]json.RawMessage
	if json.Unmarshal(payload, &m) != nil {
		return false
	}
	return m["command"] != nil && m["id"] != nil && m["specversion"] == nil && m["sequence"] == nil
}

func (v *Verifier) feed(topic string, e event.Event, text []byte) error {
	if topic != "" && !strings.HasSuffix(topic, e.Source+"/"+event.TypeName(e.Type)) {
		f := finding(KindMisplaced, fmt.Sprintf("event %s from %s was published under %s", e.ID, e.Source, topic))
		f.FirstLine, f.LastLine = v.total.Messages, v.total.Messages
		v.found.add(f)
	}
	if len(e.ID) > maxID || len(e.Agent) > MaxName || len(e.Source) > maxSource {
		return fmt.Errorf("its id, agent or source has more than %d, %d or %d bytes", maxID, MaxName, maxSource)
	}
	if e.Sequence == "" {
		return v.feedUnsequenced(e)
	}
	sequence, err := event.ParseSequence(e.Sequence)
	if err != nil {
		return err
	}
	public := event.Redact(text)
	before, chained := event.PrevHash(public)
	if chained != (e.PrevHash != "") || chained && before.String() != e.PrevHash {
		return fmt.Errorf("event %s: its prevhash can be read in two ways", e.ID)
	}
	a := v.agent(e.Agent)
	if a == nil {
		return nil
	}
	v.total.Events++
	if len(public) != len(text) {
		v.total.Full++
	} else if bytes.Contains(text, []byte(`"private":"sha256:`)) {
		v.total.Redacted++
	}
	v.checkSource(e)
	it := item{sequence: sequence, id: e.ID, before: before, chained: chained, digest: sha256.Sum256(public)}
	s := a.stream(e.Priority)
	if len(s.runs) == 0 && e.Type == (event.AgentCheckpoint{}).Type() {
		s.kept = sequence
	}
	if again := s.take(v, it); again {
		return nil
	}
	return v.feedStatement(a, e, sequence)
}

// feedUnsequenced takes a state, or a notice of an uplink's filter.
func (v *Verifier) feedUnsequenced(e event.Event) error {
	v.total.Other++
	if e.Type != (event.AgentSkipped{}).Type() {
		return nil
	}
	d, err := event.DecodeData(e)
	if err != nil {
		return err
	}
	n := d.(*event.AgentSkipped)
	first, last, err := span(n.FirstSequence, n.LastSequence)
	if err != nil {
		return fmt.Errorf("notice %s: %w", e.ID, err)
	}
	digests, err := base64.StdEncoding.DecodeString(n.Digests)
	if err != nil || uint64(len(digests)) != (last-first+1)*sha256.Size {
		return fmt.Errorf("notice %s: its digests are not 32 bytes for each of the sequences %d to %d", e.ID, first, last)
	}
	if n.Priority != event.Urgent && n.Priority != event.Routine {
		return fmt.Errorf("notice %s: no class is called %q", e.ID, n.Priority)
	}
	a := v.agent(e.Agent)
	if a == nil {
		return nil
	}
	a.stream(n.Priority).skip(v, notice{first, last, digests})
	return nil
}

// span reads a range.
func span(firstText, lastText string) (first, last uint64, err error) {
	if first, err = event.ParseSequence(firstText); err != nil {
		return 0, 0, err
	}
	if last, err = event.ParseSequence(lastText); err != nil {
		return 0, 0, err
	}
	if first == 0 || last < first || last-first > maxSpan {
		return 0, 0, fmt.Errorf("sequences %d to %d are no range", first, last)
	}
	return first, last, nil
}

// feedStatement takes what an event says about the chains themselves.
func (v *Verifier) feedStatement(a *agent, e event.Event, sequence uint64) error {
	switch e.Type {
	case event.AgentLoss{}.Type(), event.AgentCheckpoint{}.Type(), event.AgentKey{}.Type(), event.AgentStarted{}.Type():
	default:
		return nil
	}
	d, err := event.DecodeData(e)
	if err != nil {
		return err
	}
	switch d := d.(type) {
	case *event.AgentStarted:
		a.stream(event.Urgent).anew(v, d.UrgentAnew, e.Priority, sequence)
		a.stream(event.Routine).anew(v, d.RoutineAnew, e.Priority, sequence)
	case *event.AgentLoss:
		first, last, err := span(d.FirstSequence, d.LastSequence)
		if err != nil {
			return fmt.Errorf("loss %s: %w", e.ID, err)
		}
		if d.Priority == event.Urgent || d.Priority == event.Routine {
			a.stream(d.Priority).lost(v, loss{first, last, e.Priority, sequence, d.Reason, d.Detail})
		}
	case *event.AgentCheckpoint:
		c, key, err := VerifyCheckpoint(*d)
		if err == nil && c.Agent != a.name {
			err = fmt.Errorf("the checkpoint is of the agent %s", c.Agent)
		}
		if err == nil && e.Priority == event.Urgent && c.Urgent.Sequence >= sequence {
			err = fmt.Errorf("the checkpoint is about event %d, which is not before it", c.Urgent.Sequence)
		}
		if err != nil {
			v.found.add(a.at(finding(KindSignature, err.Error()), e.Priority, sequence))
			return nil
		}
		v.checkpoint(a, signed{sequence, c, key})
	case *event.AgentKey:
		k, by, err := VerifyKey(*d)
		if err == nil && k.Agent != a.name {
			err = fmt.Errorf("the key statement is of the agent %s", k.Agent)
		}
		if err != nil {
			v.found.add(a.at(finding(KindSignature, err.Error()), e.Priority, sequence))
			return nil
		}
		v.key(a, k, by, d.Reason, sequence)
	}
	return nil
}

// at says where a finding is.
func (a *agent) at(f Finding, c event.Class, sequence uint64) Finding {
	f.Agent, f.Class, f.First, f.Last = a.name, c, sequence, sequence
	return f
}

// checkSource notices when another agent speaks for a device.
func (v *Verifier) checkSource(e event.Event) {
	before, known := v.sources[e.Source]
	switch {
	case !known && len(v.sources) >= maxSources:
		v.limit("more than %d devices: not all are watched for a change of their agent", maxSources)
		return
	case known && before != e.Agent:
		f := finding(KindAgentChanged, fmt.Sprintf("events of the site and lane of %s came from the agent %s before", e.Source, before))
		f.Agent = e.Agent
		v.found.add(f)
	}
	v.sources[e.Source] = e.Agent
}

func (v *Verifier) limit(format string, args ...any) {
	if !v.full {
		v.full = true
		v.found.add(finding(KindLimit, fmt.Sprintf(format, args...)))
	}
}

// agent finds an agent; nil if there are too many.
func (v *Verifier) agent(name string) *agent {
	a := v.agents[name]
	if a == nil {
		if len(v.agents) >= maxAgents {
			v.limit("more than %d agents: the others were not checked", maxAgents)
			return nil
		}
		a = &agent{name: name, ids: map[string]place{}, refused: map[string]bool{}}
		for i, c := range event.Classes {
			a.streams[i] = &stream{a: a, class: c, seen: map[uint64]seen{}}
		}
		v.agents[name] = a
	}
	return a
}

func (a *agent) stream(c event.Class) *stream {
	for _, s := range a.streams {
		if s.class == c {
			return s
		}
	}
	return nil
}

// checkpoint takes a checkpoint whose signature fits its key.
func (v *Verifier) checkpoint(a *agent, s signed) {
	if len(a.keys) == 0 && len(v.given) == 0 {
		a.keys = append(a.keys, keySpan{key: s.key, trust: TrustFirstUse, until: ^uint64(0)})
	} else if v.given[string(s.key)] && !slices.ContainsFunc(a.keys, func(k keySpan) bool { return k.key.Equal(s.key) }) {
		v.addKey(a, keySpan{key: s.key, trust: TrustGiven, until: ^uint64(0)})
	}
	for i := range a.keys {
		if k := &a.keys[i]; k.key.Equal(s.key) && k.from < s.at && s.at < k.until {
			k.used++
			v.claims(a, s)
			return
		}
	}
	if len(a.unknown) >= maxUnknown {
		v.reportUnknown(a, a.unknown[0], &v.found)
		a.unknown = append(a.unknown[:0], a.unknown[1:]...)
	}
	a.unknown = append(a.unknown, s)
}

// reportUnknown tells of a checkpoint whose key is not the agent's.
func (v *Verifier) reportUnknown(a *agent, s signed, to *findings) {
	if a.refused[string(s.key)] {
		return // it is reported where it came up
	}
	to.add(a.at(finding(KindUnknownKey, "a checkpoint is signed with the key "+Fingerprint(s.key)+
		", which is not the agent's at that place"), event.Urgent, s.at))
}

func (v *Verifier) addKey(a *agent, k keySpan) bool {
	if len(a.keys) >= maxKeys {
		v.limit("more than %d keys of the agent %s", maxKeys, a.name)
		return false
	}
	a.keys = append(a.keys, k)
	return true
}

// key takes a key statement whose endorsement, if it has one, fits.
func (v *Verifier) key(a *agent, k Key, by ed25519.PublicKey, reason string, at uint64) {
	current := slices.IndexFunc(a.keys, func(s keySpan) bool { return by != nil && s.key.Equal(by) && s.from < at && at < s.until })
	known := slices.ContainsFunc(a.keys, func(s keySpan) bool { return s.key.Equal(k.PublicKey) })
	switch {
	case by != nil && current < 0 && v.trusts(a, by):
		// The recording has no checkpoint under the key before the change.
		trust := TrustFirstUse
		if len(v.given) > 0 {
			trust = TrustGiven
		}
		v.addKey(a, keySpan{key: by, trust: trust, until: at})
		fallthrough
	case current >= 0:
		if !known && !v.addKey(a, keySpan{key: k.PublicKey, trust: TrustEndorsed, from: at, until: ^uint64(0)}) {
			return
		}
		if current >= 0 && !by.Equal(k.PublicKey) {
			a.keys[current].until = at
		}
		v.found.add(a.at(finding(KindKeyChanged, fmt.Sprintf("the key %s is followed by %s, which it endorses",
			Fingerprint(by), Fingerprint(k.PublicKey))), event.Urgent, at))
	case known:
	case v.given[string(k.PublicKey)]:
		v.addKey(a, keySpan{key: k.PublicKey, trust: TrustGiven, until: ^uint64(0)})
	case len(a.keys) == 0 && len(v.given) == 0:
		v.addKey(a, keySpan{key: k.PublicKey, trust: TrustFirstUse, until: ^uint64(0)})
	default:
		text := "the new key " + Fingerprint(k.PublicKey) + " is not endorsed by the agent's key"
		if reason == ReasonLost {
			text += "; the agent says that it lost that one"
		}
		v.found.add(a.at(finding(KindKeyRefused, text), event.Urgent, at))
		if len(a.refused) < maxKeys {
			a.refused[string(k.PublicKey)] = true
		}
	}
	again := a.unknown
	a.unknown = nil
	for _, s := range again {
		v.checkpoint(a, s)
	}
}

// trusts says whether a key that has not been used yet is the agent's.
func (v *Verifier) trusts(a *agent, key ed25519.PublicKey) bool {
	if len(v.given) == 0 {
		return len(a.keys) == 0
	}
	return v.given[string(key)] && !slices.ContainsFunc(a.keys, func(s keySpan) bool { return s.key.Equal(key) })
}

// claims holds both heads of a checkpoint against what was received.
func (v *Verifier) claims(a *agent, s signed) {
	for _, h := range []struct {
		class event.Class
		head  Head
	}{{event.Urgent, s.c.Urgent}, {event.Routine, s.c.Routine}} {
		if h.head.Sequence > 0 && !h.head.Hash.IsZero() {
			a.stream(h.class).claim(v, claim{h.head.Sequence, h.head.Hash, s.at, s.c.Time, s.key, s.at == a.stream(event.Urgent).kept})
		}
	}
}

// remember keeps an event for comparison, and forgets the oldest.
func (v *Verifier) remember(s *stream, sequence uint64, is seen) {
	at := place{s, sequence}
	if len(v.seen) < maxRemembered {
		v.seen = append(v.seen, at)
	} else {
		old := v.seen[v.oldest]
		if id := old.s.seen[old.sequence].id; id != "" && old.s.a.ids[id] == old {
			delete(old.s.a.ids, id)
		}
		delete(old.s.seen, old.sequence)
		v.seen[v.oldest] = at
		v.oldest = (v.oldest + 1) % maxRemembered
	}
	s.seen[sequence] = is
}
