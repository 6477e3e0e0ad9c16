package uplink

import (
	"context"
	"errors"
	"time"
)

// goodbye ends the session in good order: what waits is delivered if that does
// not take long, then the offline state, then DISCONNECT. If the offline state
// is not confirmed, the connection is cut, so that the last will says it.
func (s *session) goodbye() {
	u := s.u
	if s.streams[0] != nil {
		ctx, cancel := context.WithTimeout(context.Background(), u.o.StopTimeout/2)
		err := s.deliver(ctx, true)
		cancel()
		if err != nil {
			return
		}
	}
	if u.o.State != nil {
		topic, payload := u.o.State(false)
		if err := s.sendAndWait(context.Background(), Message{topic, payload}, true, u.o.StopTimeout/2); err != nil {
			u.log.Warn("the broker did not confirm the offline state; its last will says it", "err", err)
			return
		}
	}
	s.client.Disconnect(uint(byeTimeout / time.Millisecond))
	u.log.Info("offline in good order", "session", u.number)
}

// down ends what is left of the session. When it returns, the connection is
// closed and nothing of paho runs any more.
func (s *session) down() {
	s.conn.end(errCut)
	// With the connection gone, this returns as soon as paho's goroutines ended.
	s.client.Disconnect(uint(downTimeout / time.Millisecond))
	<-s.conn.ended
}

// errCut is the cause of a connection that this side cut.
var errCut = errors.New("the connection was cut by this side")

// settle keeps what the next session must know: states that were not confirmed
// are to be sent again, and the heads of the classes are watched.
func (s *session) settle(err error) {
	u := s.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil && !s.online.IsZero() {
		s.judge(err)
		s.judgeStates(err)
	}
	for _, f := range s.states.list {
		if u.suspect("", f.message.Topic) == nil {
			u.pending.putOlder(f.message)
		}
	}
	if len(s.replies.list) > 0 && closedByPeer(err) {
		if u.replyEnds++; u.replyEnds >= stuckAfter {
			u.replyEnds = 0
			u.log.Error("an answer to a request is dropped: sessions end when it is sent", "topic", s.replies.list[0].message.Topic)
			s.replies.list = s.replies.list[1:]
		}
	}
	var replies []Message
	for _, f := range s.replies.list {
		replies = append(replies, f.message)
	}
	u.replies = append(replies, u.replies...)
	u.replies = u.replies[:min(len(u.replies), maxReplies)]
	if err == nil {
		return
	}
	for _, st := range s.streams {
		if st == nil || len(st.flying.list) == 0 {
			continue
		}
		head := st.flying.list[0]
		h := u.heads[st.class]
		if h.Sequence != head.first() {
			h = Stuck{Class: st.class, Sequence: head.first(), Topic: s.prefix + head.message.Topic, Bytes: head.payload}
		}
		if h.Sessions == stuckAfter-1 && !s.proven {
			continue // it may be a state
		}
		h.Sessions++
		u.heads[st.class] = h
		if sp := u.suspect(st.class, ""); u.o.Quarantine != nil && h.Sessions >= stuckAfter && head.skipped == 0 && u.removals[st.class] == nil &&
			(sp == nil || sp.sequence != h.Sequence) {
			u.drop(sp)
			u.accuse(st.class, h.Sequence)
		}
		if h.Sessions == stuckAfter {
			u.log.Error("an event seems to end every session in which it is sent; its class is sent one by one from now on",
				"class", h.Class, "sequence", h.Sequence, "topic", h.Topic, "bytes", h.Bytes, "sessions", h.Sessions,
				"hint", StuckHint)
		}
	}
}
