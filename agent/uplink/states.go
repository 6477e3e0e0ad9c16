package uplink

import "time"

// A retained state that a broker does not let this client publish ends each
// session, if the broker answers so: mosquitto with max_queued_messages 0 confirms
// it and closes the connection, so that whatever is sent next seems to be to blame.
// A state is no evidence and may be left out. When two sessions in a row ended
// before anything that was sent after the states was confirmed, the next one
// examines the states: each goes out alone and the agent's own state, which is
// known to be taken, behind it, and no event before all have passed. The one at which
// the session ends is a suspect, and has trials as in quarantine.go, but as the first
// of a session and until it passes one: other sessions may end at events, and it
// is to be told all the same. After leaveAfter of them it is left out.
const (
	// leaveAfter is how many trials a state must end, and pass none, to be left out.
	leaveAfter = 3
	// tryLeftAfter is when one of the states that are left out is tried again.
	tryLeftAfter = 10 * time.Minute
	// examineFor bounds how long events wait for the examination.
	examineFor = 10 * time.Second
)

// proof is how far the states of a session are known to be harmless.
type proof struct {
	birth  string    // the topic of the agent's state
	first  int       // states of the session's beginning that are not confirmed
	clean  time.Time // when they were, zero before
	proven bool      // what was sent after them was confirmed
	wary   bool      // they are being examined
	under  Message   // the one that is; without a topic if there is none
	behind bool      // it is confirmed, and the agent's own state goes behind it
}

// begin notes how many states there are at the beginning of a session. It is
// called with u.mu held.
func (s *session) begin(states int, birth string) {
	u := s.u
	s.birth, s.first, s.proven = birth, states, states == 0
	s.wary = birth != "" && states > 0 && u.unproven >= stuckAfter-1
	for _, sp := range u.suspects {
		s.wary = s.wary || sp.class == "" && !sp.left && states > 0
	}
	if s.proven {
		u.unproven = 0
	}
}

// stated notes that a state is confirmed or put aside.
func (s *session) stated() {
	if s.first > 0 && !s.wary {
		if s.first--; s.first == 0 {
			s.clean = time.Now()
		}
	}
}

func (s *session) proved() { s.proven, s.u.unproven = true, 0 }

// setAside keeps a state back that is a suspect.
func (u *Uplink) setAside(m Message) bool {
	sp := u.suspect("", m.Topic)
	if sp == nil {
		return false
	}
	sp.message = m
	return true
}

// examine sends the states of the session's beginning one by one. It resets
// s.wary when that is over.
func (s *session) examine() error {
	u := s.u
	for s.count == 0 && s.first > 0 {
		switch {
		case s.under.Topic != "" && !s.behind:
			s.behind = true
			return s.prove(1)
		case s.under.Topic != "":
			s.under, s.first = Message{}, s.first-1
			continue
		}
		u.mu.Lock()
		m, ok := u.pending.take()
		u.mu.Unlock()
		if !ok {
			s.first = 0
			break
		}
		if m.Topic == s.birth || u.setAside(m) {
			s.first--
			continue
		}
		s.under, s.behind = m, false
		if err := s.sendState(m); err != nil {
			s.under = Message{}
			u.mu.Lock()
			u.pending.putOlder(m)
			u.mu.Unlock()
			return err
		}
	}
	switch {
	case s.first == 0:
		s.wary = false
		s.proved()
	case time.Since(s.online) > examineFor:
		s.wary, s.under = false, Message{}
	}
	return nil
}

// tryState begins the trial of a state if it is its turn.
func (s *session) tryState() error {
	if len(s.u.suspects) == 0 || s.untried || s.finishing {
		return nil
	}
	for _, st := range s.streams { // an event may come first
		if _, err := s.ahead(st); err != nil {
			return err
		}
	}
	if sp := s.accused(); sp != nil && sp.class == "" {
		s.turn = sp
		s.trial = &trial{sp: sp, wake: time.After(time.Until(s.online.Add(sp.hold)))}
	}
	return nil
}

// passed notes that the broker takes a state.
func (u *Uplink) passed(sp *suspect) {
	if sp.left {
		u.tryLeft = time.Time{} // the others may pass, too
		u.log.Info("a state that was left out is delivered", "topic", sp.topic)
	}
	u.acquit(sp)
}

// judgeStates finds the state at which a session ended. It is called with u.mu
// held, as the others below.
func (s *session) judgeStates(end error) {
	u := s.u
	if !s.proven {
		u.unproven++
	}
	if m := s.under; m.Topic != "" && closedByPeer(end) {
		u.suspects = append(u.suspects, &suspect{topic: m.Topic, message: m})
		s.useful()
	}
}

// judgeState draws the conclusion from a trial that counts. over tells that the
// turn is over.
func (s *session) judgeState(sp *suspect, m Message) (over bool) {
	u := s.u
	if sp.message.Topic == "" {
		sp.message = m
	}
	if !sp.left && sp.trials < leaveAfter {
		return false
	}
	u.log.Error("a state is left out: the broker closes the connection when it comes", "topic", s.prefix+sp.topic, "bytes", len(m.Payload), "hint", LeftOutHint)
	sp.left = true
	u.tryLeft = time.Now().Add(u.o.tryLeftAfter)
	u.tellLeftOut()
	return true
}

func (u *Uplink) tellLeftOut() {
	u.status.LeftOut = nil
	for _, sp := range u.suspects {
		if sp.left {
			u.status.LeftOut = append(u.status.LeftOut, u.o.prefix()+sp.topic)
		}
	}
}
