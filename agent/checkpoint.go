package agent

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/evidence"
)

// checkpoints signs the heads of the two hash chains now and then.
type checkpoints struct {
	// every and events say how often, see config.Evidence.
	every  time.Duration
	events uint64
	// due gets a token when so many events have been recorded.
	due   chan struct{}
	count atomic.Uint64 // of events since the last checkpoint, itself not included

	mu     sync.Mutex
	signer *Signer // nil while the disk does not take a key
	failed bool
	last   time.Time
	heads  map[event.Class]uint64 // at the last checkpoint, or at the start
}

func newCheckpoints(a *Agent) *checkpoints {
	s := &checkpoints{
		every: a.cfg.Evidence.CheckpointEvery, events: uint64(a.cfg.Evidence.CheckpointEvents),
		due: make(chan struct{}, 1), last: time.Now(), heads: map[event.Class]uint64{},
	}
	for _, class := range event.Classes {
		s.heads[class], _ = a.spool.Head(class)
	}
	return s
}

// recorded counts an event.
func (a *Agent) recorded() {
	if a.checkpoints.count.Add(1) == a.checkpoints.events {
		select {
		case a.checkpoints.due <- struct{}{}:
		default:
		}
	}
}

// overdue says that there are events which no checkpoint covers for too long.
func (s *checkpoints) overdue(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count.Load() > 0 && now.Sub(s.last) >= s.every
}

// tellKey opens the key, and records an event if it is new. What the disk does
// not take now is tried again at the next tick.
func (s *checkpoints) tellKey(a *Agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(a); err != nil {
		if !s.failed {
			a.log.Error("checkpoints can't be signed", "err", err, "hint", "see that the agent's user owns the spool directory and that its disk has room")
		}
		s.failed = true
		return
	}
	s.failed = false
	d, due, err := s.signer.Announcement(a.id.kept.Agent, time.Now())
	if err == nil && due {
		if err = a.recordOwn(d); err == nil {
			err = s.signer.Announced()
		}
		a.log.Info("the signing key is new", "reason", d.Reason, "public_key", d.PublicKey)
	}
	if err != nil {
		a.log.Error("the signing key is not in the stream yet", "err", err)
	}
}

func (s *checkpoints) open(a *Agent) (err error) {
	if s.signer == nil {
		s.signer, err = OpenSigner(a.cfg.Spool.Dir)
	}
	return err
}

// reload takes a key up that was made meanwhile.
func (s *checkpoints) reload(a *Agent, e config.Evidence) {
	s.mu.Lock()
	s.signer = nil
	s.every = e.CheckpointEvery
	s.mu.Unlock()
	s.tellKey(a)
}

// checkpoint signs how far the chains have come and records that. It does
// nothing if nothing came since the last one.
func (a *Agent) checkpoint() error {
	s := a.checkpoints
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count.Load() == 0 {
		return nil
	}
	if err := s.open(a); err != nil {
		return err
	}
	now := time.Now()
	sync, maxError := a.clock.quality(now)
	c := evidence.Checkpoint{Agent: a.id.kept.Agent, Time: event.At(now), ClockSync: sync, ClockMaxErrorMs: maxError}
	heads := map[event.Class]uint64{}
	n := s.count.Swap(0)
	for class, head := range map[event.Class]*evidence.Head{event.Urgent: &c.Urgent, event.Routine: &c.Routine} {
		head.Sequence, head.Hash = a.spool.Head(class)
		head.Count = head.Sequence - s.heads[class]
		heads[class] = head.Sequence
	}
	d, err := s.signer.Checkpoint(c)
	if err == nil {
		err = a.recordOwn(d)
	}
	if err != nil {
		s.count.Add(n)
		return fmt.Errorf("sign a checkpoint: %w", err)
	}
	s.count.Add(^uint64(0)) // without itself
	s.last, s.heads = now, heads
	return nil
}

// tryCheckpoint is checkpoint where there is nobody to return an error to.
func (a *Agent) tryCheckpoint() {
	if err := a.checkpoint(); err != nil {
		a.log.Error("no checkpoint was signed; the next one covers these events too", "err", err)
	}
}
