package uplink

import (
	"errors"
	"fmt"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// A message that no session survives would hold up its class for ever. It is
// taken out of the line (Options.Quarantine), but an event is evidence, so only
// when nothing else explains what happens. These are the rules:
//
//  1. An event that is above MQTT's limits or MaxPacket is refused without being
//     sent.
//  2. Any other event must first have been the head of its class when stuckAfter
//     sessions in a row ended. That says little: heads are in the way of every cut.
//     From then on it is a suspect, and each session holds a trial.
//  3. In a trial the suspect is alone on the line: everything else that was on its
//     way is confirmed, then the agent's state is published again and confirmed, so
//     that the broker is well and takes this client's messages at that moment, and
//     only then the suspect goes out, with nothing beside it.
//  4. The trial counts if the broker then closes the connection. It does not if
//     the connection ends in any other way: a broker that confirms nothing hangs, a
//     line that takes nothing or says nothing is dead. And it does not if the broker
//     has let trialFor pass since the line took the suspect; the others are then
//     let go on beside it.
//  5. PoisonAfter trials must count in a row. The row is broken when a session ends
//     otherwise than in a trial that counts. Only a session that did not begin, or
//     that this side ended in good order, says nothing.
//  6. Each further trial of a row waits, while all else is delivered, until the
//     session is twice as old as the one before was when it ended. So a line that
//     breaks, a client that takes the id over, or a broker that restarts, by the
//     clock or at random, ends a session during the wait, which breaks the row. And
//     in each further trial twice as many states go before the suspect, so that
//     what ends a session after so many messages or bytes ends it before the
//     suspect is sent. In all of these the end does not depend on the message.
//  7. After a broken row the suspect goes out once without a trial, as the first of
//     its class, so that an innocent one gets through where it can.
//  8. There is one suspect at a time: the others stay back until it is confirmed or
//     taken out, or its row is broken. Otherwise each would end the other's rows, and
//     none would ever be taken out.
//  9. An event that is as large as one that was taken out is a suspect at once, until
//     one so large gets through: it is the broker's limit then, and each large event would
//     end three sessions, and the others' rows, before it is on trial.
//
// What passes all this is a message that this broker, or something on the way to
// it, never lets through, while it takes others.
const (
	defaultPoisonAfter = 5
	// trialFor is how long the suspect stays alone on the line, once that has taken
	// it.
	trialFor = 2 * time.Second
	// trialHold and trialMaxHold bound the wait before a further trial of a row.
	trialHold    = time.Second
	trialMaxHold = 5 * time.Minute
	// maxProofs bounds the states that go before a suspect.
	maxProofs = 16
	// quarantineRetry spaces the attempts to put a record into quarantine.
	quarantineRetry = time.Second
	// maxRemaining is the most that MQTT's length field can say (2.2.3).
	maxRemaining = 268_435_455
)

// suspect is an event, or a state, that seems to end sessions.
type suspect struct {
	class    event.Class // empty for a state
	sequence uint64
	trials   int           // that counted, in a row
	hold     time.Duration // how old the session must be before the next
	free     bool          // the next session sends it without a trial

	topic   string  // of a state
	message Message // the newest of it that is not sent; without a topic if there is none
	left    bool    // it is left out, and tried now and then
}

// trial is the trial of a session.
type trial struct {
	sp      *suspect
	st      *stream // nil for a state
	stage   trialStage
	wake    <-chan time.Time // when the wait is over
	record  spool.Record
	message Message // of a state
	after   bool    // a state is confirmed, and the agent's own goes behind it
	sent    time.Time
	taken   time.Time // when the line had taken it, zero before
}

type trialStage int

const (
	trialWaits    trialStage = iota // the others go on
	trialClears                     // what is on its way is to land
	trialProves                     // the states are to be confirmed
	trialRuns                       // the suspect is alone on its way
	trialReleased                   // it counts no more
)

// exclusive tells whether nothing else may be sent.
func (t *trial) exclusive() bool {
	return t != nil && t.stage >= trialClears && t.stage <= trialRuns
}

// removal is a record on its way to the quarantine.
type removal struct {
	record spool.Record
	reason string
	done   chan error // of capacity one; nil while no call is under way
	logged string     // the error that was logged last
	after  time.Time  // do not try before
}

// packetBytes is the size of a PUBLISH packet (MQTT 3.1.1, 2.2 and 3.3).
func packetBytes(topic, payload int) (packet, remaining int) {
	remaining = 2 + topic + 2 + payload
	packet = 1 + remaining + 1
	for n := remaining >> 7; n > 0; n >>= 7 {
		packet++
	}
	return packet, remaining
}

// tooLarge says why a message can't be sent, or nothing.
func (s *session) tooLarge(name string, content []byte, redact bool) string {
	topic := len(s.prefix) + len(name)
	if topic > spool.MaxTopic {
		return fmt.Sprintf("its topic has %d bytes with the prefix; MQTT carries %d", topic, spool.MaxTopic)
	}
	limit := s.u.o.MaxPacket
	payload := len(content)
	// The public form may be longer by a hash.
	if redact && limit > 0 && payload+topic+128 > limit {
		payload = len(event.Redact(content))
	}
	packet, remaining := packetBytes(topic, payload)
	switch {
	case remaining > maxRemaining:
		return fmt.Sprintf("its packet has %d bytes; MQTT carries %d", packet, maxRemaining)
	case limit > 0 && packet > limit:
		return fmt.Sprintf("its packet has %d bytes; the broker takes %d", packet, limit)
	}
	return ""
}

// held tells whether the event that is next in a stream must wait: for its
// quarantine, or for its trial.
func (s *session) held(st *stream) (bool, error) {
	u := s.u
	if u.o.Quarantine == nil || st.skip.last != 0 {
		return false, nil
	}
	r := st.ready[0]
	if rm := u.removals[st.class]; rm != nil && rm.record.Sequence == r.Sequence {
		return s.remove(st, rm)
	}
	if why := s.tooLarge(r.Topic, r.Payload, u.o.Redact); why != "" {
		if len(st.flying.list) == 0 {
			return s.remove(st, u.condemn(r, why))
		}
		return true, nil // until all before it is confirmed
	}
	sp := u.suspect(st.class, "")
	if sp == nil && u.large > 0 && len(r.Payload) >= u.large {
		sp = u.accuse(st.class, r.Sequence)
	}
	switch {
	case sp == nil || s.untried:
		return false, nil
	case sp.sequence != r.Sequence:
		if len(st.flying.list) == 0 {
			u.acquit(sp) // it is gone from the spool
		}
		return false, nil
	case s.accused() != sp:
		return true, nil // until its turn has come
	}
	s.turn = sp
	switch {
	case sp.free:
		return false, nil
	case !s.finishing && s.trial == nil:
		s.trial = &trial{sp: sp, st: st, wake: time.After(time.Until(s.online.Add(sp.hold)))}
	}
	return true, nil
}

// suspect finds the suspect of a class, or of a state's topic.
func (u *Uplink) suspect(class event.Class, topic string) *suspect {
	for _, sp := range u.suspects {
		if sp.class == class && sp.topic == topic {
			return sp
		}
	}
	return nil
}

// accuse puts an event on the list. The urgent one has its turn first.
func (u *Uplink) accuse(class event.Class, sequence uint64) *suspect {
	sp := &suspect{class: class, sequence: sequence}
	if class == event.Urgent {
		u.suspects = append([]*suspect{sp}, u.suspects...)
	} else {
		u.suspects = append(u.suspects, sp)
	}
	return sp
}

// drop takes a suspect off the list, if it is there.
func (u *Uplink) drop(sp *suspect) {
	var rest []*suspect
	for _, other := range u.suspects {
		if other != sp {
			rest = append(rest, other)
		}
	}
	u.suspects = rest
}

// acquit takes a suspect off the list that has got through, or is gone.
func (u *Uplink) acquit(sp *suspect) {
	u.drop(sp)
	if sp == nil || sp.class != "" {
		return
	}
	u.mu.Lock()
	if sp.message.Topic != "" {
		u.pending.putOlder(sp.message)
		wake(u.states)
	}
	u.tellLeftOut()
	u.mu.Unlock()
}

// accused is the suspect whose turn it is in this session; nil if none waits.
func (s *session) accused() *suspect {
	if s.trial != nil {
		return s.trial.sp
	}
	for _, sp := range s.u.suspects {
		if sp.class == "" {
			if s.first == 0 && sp.message.Topic != "" && !(sp.left && time.Now().Before(s.u.tryLeft)) {
				return sp
			}
			continue
		}
		for _, st := range s.streams {
			if st.class == sp.class && (len(st.flying.list) > 0 && st.flying.list[0].sequence == sp.sequence ||
				len(st.ready) > 0 && st.ready[0].Sequence == sp.sequence) {
				return sp
			}
		}
	}
	return nil
}

// try goes on with the trial.
func (s *session) try(now time.Time) error {
	if s.trial == nil {
		if err := s.tryState(); err != nil {
			return err
		}
	}
	t := s.trial
	if t == nil || s.finishing && t.stage < trialRuns {
		return nil
	}
	sp := t.sp
	if s.u.suspect(sp.class, sp.topic) != sp { // it is confirmed
		s.trial = nil
		return nil
	}
	switch t.stage {
	case trialWaits:
		if now.Sub(s.online) >= sp.hold {
			t.stage = trialClears
			return s.try(now)
		}
	case trialClears:
		if s.count > 0 {
			return nil
		}
		t.stage = trialProves
		return s.prove(min(1<<min(sp.trials, 8), maxProofs))
	case trialProves:
		if s.count > 0 {
			return nil
		}
		t.sent, t.stage = now, trialRuns
		if t.st == nil {
			t.message, sp.message = sp.message, Message{}
			return s.sendState(t.message)
		}
		t.record = t.st.ready[0]
		_, err := s.sendRecord(t.st)
		return err
	case trialRuns:
		switch {
		case t.st != nil || s.count > 0:
		case !t.after:
			t.after = true
			return s.prove(1)
		default:
			s.trial = nil
			s.u.passed(sp)
			return nil
		}
		if idle := s.conn.lastIdle(); t.taken.IsZero() && idle.After(t.sent) {
			t.taken = idle
		}
		if !t.taken.IsZero() && now.Sub(t.taken) > s.u.o.trialFor {
			t.stage, s.untried = trialReleased, true
		}
	}
	return nil
}

// prove has the broker show that it takes this client's messages.
func (s *session) prove(times int) error {
	topic, payload := s.u.o.State(true)
	for range times {
		if err := s.sendState(Message{topic, payload}); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) sendState(m Message) error {
	f, err := s.publish(m, true)
	if err == nil {
		s.states.add(f)
	}
	return err
}

// judge draws the conclusions from the end of a session for the suspects.
func (s *session) judge(end error) {
	u := s.u
	var over *suspect // whose turn is over
	for _, sp := range u.suspects {
		t := s.trial
		if t == nil || t.sp != sp || t.stage != trialRuns || !closedByPeer(end) {
			switch {
			case sp == s.turn:
				sp.free = !sp.free && sp.class != ""
				if sp.free || sp.class == "" {
					over = sp
				}
			case sp.trials > 0:
				sp.free = sp.class != ""
			}
			if sp.class != "" {
				sp.trials, sp.hold = 0, 0
			}
			continue
		}
		sp.trials++
		s.useful()
		if t.st == nil {
			if s.judgeState(sp, t.message) {
				over = sp
			}
			continue
		}
		sp.hold = min(max(2*time.Since(s.online), u.o.trialHold), trialMaxHold)
		u.log.Warn("the broker closed the connection at an event that was alone on the line", "class", sp.class,
			"sequence", sp.sequence, "topic", t.record.Topic, "bytes", len(t.record.Payload), "times", sp.trials, "err", end)
		if sp.trials >= u.o.PoisonAfter {
			u.drop(sp)
			if u.large == 0 || len(t.record.Payload) < u.large {
				u.large = len(t.record.Payload)
			}
			u.condemn(t.record, fmt.Sprintf("the broker closed the connection %d times in a row when this event was alone on the line, "+
				"and took other messages before", sp.trials))
		}
	}
	if over != nil {
		u.drop(over)
		u.suspects = append(u.suspects, over)
	}
}

// useful notes that the broker took messages before it ended the session: live
// events need not wait for a long pause then.
func (s *session) useful() {
	if len(s.u.brokers) == 1 {
		s.healthy = true
	}
}

// condemn says that a record is to go to the quarantine.
func (u *Uplink) condemn(r spool.Record, reason string) *removal {
	rm := &removal{record: r, reason: reason}
	u.removals[r.Class] = rm
	return rm
}

// remove takes a record out of the line. The quarantine's disk may be slow, so it
// works beside the session, and only this class waits.
func (s *session) remove(st *stream, rm *removal) (held bool, err error) {
	u := s.u
	if rm.done == nil {
		if time.Now().Before(rm.after) {
			return true, nil
		}
		done := make(chan error, 1)
		rm.done = done
		u.group.Go(func() {
			done <- u.o.Quarantine(u.life, rm.record, rm.reason)
			wake(u.removed)
		})
		return true, nil
	}
	select {
	case err = <-rm.done:
	default:
		return true, nil
	}
	r := rm.record
	if err != nil {
		rm.done, rm.after = nil, time.Now().Add(quarantineRetry)
		if rm.logged != err.Error() {
			rm.logged = err.Error()
			u.log.Error("an event that the broker refuses can't be put into quarantine; its class waits", "class", r.Class,
				"sequence", r.Sequence, "err", err)
		}
		return true, nil
	}
	delete(u.removals, r.Class)
	u.mu.Lock()
	u.status.Quarantined++
	delete(u.heads, r.Class)
	u.mu.Unlock()
	u.log.Error("an event was taken out of the line", "class", r.Class, "sequence", r.Sequence, "topic", r.Topic,
		"bytes", len(r.Payload), "reason", rm.reason)
	st.pop()
	if err := st.reader.Ack(r.Sequence); err != nil {
		return true, fmt.Errorf("move the %s cursor: %w", r.Class, err)
	}
	wake(u.removed) // for the next one
	return true, nil
}

// wake puts a token into a channel of capacity one.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// checkQuarantine checks the options about it.
func (o *Options) checkQuarantine() error {
	if o.Quarantine != nil && o.State == nil {
		return errors.New("a quarantine needs the agent's state, to see whether the broker is well")
	}
	if o.PoisonAfter < 0 {
		return fmt.Errorf("an event can't be poisonous after %d sessions", o.PoisonAfter)
	}
	return nil
}
