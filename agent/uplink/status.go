package uplink

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
)

// State of an uplink.
type State string

// The states.
const (
	// Offline: not running, or pausing before the next attempt.
	Offline State = "offline"
	// Connecting: an attempt is being made.
	Connecting State = "connecting"
	// Online: the broker has confirmed this session's first message.
	Online State = "online"
)

// Status is a snapshot for people and for health.
type Status struct {
	// Name is the uplink's.
	Name  string
	State State
	// Since is when the uplink went online, or since when it is not.
	Since time.Time
	// Broker is the URL in use, or the one that was tried last.
	Broker string
	// Session is the number of the current or last session.
	Session uint64
	// LastError says why the last attempt or session failed, and Hint what to do
	// about it; empty if none failed since the uplink was last healthy.
	LastError, Hint string
	LastErrorAt     time.Time
	// LastAck is when the broker last confirmed an event.
	LastAck time.Time
	// InFlight counts messages that are on their way now.
	InFlight int
	// Published and Acked count events since New; Published with repetitions.
	Published, Acked uint64
	// Skipped counts events that the filter kept back and of which the receiver was
	// told.
	Skipped uint64
	// Quarantined counts events that were taken out of the line.
	Quarantined uint64
	// Requests counts what central systems asked for.
	Requests RequestCounts
	// Resent counts events that were sent again by Resend.
	Resent uint64
	// Reconnects counts the sessions after the first.
	Reconnects uint64
	// Stuck lists events that seem to end the sessions in which they are sent.
	Stuck []Stuck
	// LeftOut are topics of retained states, without the prefix, that the broker ends
	// sessions for. They are tried again every ten minutes.
	LeftOut []string
	// SpoolError says why the spool can't be read now; empty if it can.
	SpoolError string
	// Certificates are those on which the connection rests, or the last attempt
	// to make one; none without TLS. See Problems.
	Certificates []CertificateStatus
	// RenewalError says why changed certificate files are not used yet; empty if
	// there are none.
	RenewalError string
}

// Stuck is an event that was on its way when several sessions in a row ended,
// the first unconfirmed one of its class. Until it is confirmed, its class is
// sent one event at a time, so that the event that the broker does not take is
// alone on the line.
type Stuck struct {
	Class    event.Class
	Sequence uint64
	Topic    string
	// Bytes is the size of the payload.
	Bytes int
	// Sessions is how many ended so.
	Sessions int
}

// StuckHint is what to do about a Stuck event.
const StuckHint = "look in the broker's log: the event may be above the broker's packet limit (set mqtt.max_packet to that limit: " +
	"the agent then puts such events aside at once), or this client may not publish to the topic"

// LeftOutHint is what to do about a state that is left out.
const LeftOutHint = "this client may not publish to this topic, or it is above the broker's packet limit: have the broker's access list permit it"

// Status returns a snapshot.
func (u *Uplink) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.status
	for _, class := range event.Classes {
		if h := u.heads[class]; h.Sessions >= stuckAfter {
			s.Stuck = append(s.Stuck, h)
		}
	}
	return s
}

// setState notes a change of state. Connecting and Offline are one as to Since.
func (u *Uplink) setState(state State, broker *url.URL) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if (u.status.State == Online) != (state == Online) {
		u.status.Since = time.Now()
	}
	u.status.State = state
	if broker != nil {
		u.status.Broker = broker.String()
	}
	if state != Online {
		u.status.InFlight = 0
	}
}

// failed notes why an attempt or a session ended. The log gets what is new.
func (u *Uplink) failed(broker *url.URL, err error) {
	now := time.Now()
	hint := Hint(err)
	u.mu.Lock()
	u.status.LastError, u.status.Hint, u.status.LastErrorAt = err.Error(), hint, now
	u.mu.Unlock()
	level := slog.LevelWarn
	line := broker.String() + err.Error()
	if line == u.logged && now.Sub(u.loggedAt) < relogAfter {
		level = slog.LevelDebug
	} else {
		u.logged, u.loggedAt = line, now
	}
	u.log.Log(context.Background(), level, "no session with the broker; events wait in the spool",
		"broker", broker.String(), "err", err, "hint", hint)
}
