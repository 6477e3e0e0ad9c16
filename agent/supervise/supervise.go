// Package supervise keeps one device running: it opens the link, runs the
// driver, watches for silence, contains panics, and connects again with
// back-off. Drivers hold none of that, so it stands here once.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds and times of a supervised device.
const (
	// openTimeout bounds one attempt to open a link.
	openTimeout = 15 * time.Second
	// backoffMin and backoffMax bound the pause between attempts, before
	// jitter of plus or minus half.
	backoffMin = time.Second
	backoffMax = 20 * time.Second
	// steadyAfter is how long a session must deliver valid data before the
	// pauses start short again, so that a device which connects, says one
	// thing and hangs up can't make the agent spin.
	steadyAfter = 30 * time.Second
	// validShare bounds the pause after a session that delivered valid data: to this part of
	// the time for which it did.
	validShare = 4
	// stopGrace is how long a driver may take to come back after it was told
	// to stop; then its link is closed under it.
	stopGrace = 3 * time.Second
	// heldUp is how long an Emit of the driver may take before the silence of its
	// device is counted from its return.
	heldUp = time.Second
	// unparsedEvery spaces device.unparsed events.
	unparsedEvery = time.Minute
	// unparsedSamples and unparsedBytes bound what one of them carries.
	unparsedSamples = 5
	unparsedBytes   = 512
	// refusedEvery spaces device.refused events, refusedSenders bounds what one of
	// them names.
	refusedEvery   = time.Minute
	refusedSenders = 16
)

// Device is what to run.
type Device struct {
	Lane, ID string
	// Profile is the name of the firmware profile, for people.
	Profile  string
	Endpoint link.Endpoint
	// Silence is how long the device may stay without a well-formed record
	// before it counts as silent.
	Silence time.Duration
	// New makes the instrument anew: at the start and after a panic.
	New func() (drivers.Instrument, error)
	// Belongs, if set, says whose bytes a sample is of which this device's driver
	// could make nothing, and what to do; empty if nobody's that is known.
	Belongs func(sample []byte) string
}

// ErrUnrecordable marks an error of Hooks.Emit that lies in the observation
// itself: it is lost, and waiting would not help.
var ErrUnrecordable = drivers.ErrUnrecordable

// Hooks are what the agent lends a supervisor.
type Hooks struct {
	// Emit makes an observation of this device durable. It returns an error
	// only when the agent is at its end, or an ErrUnrecordable.
	Emit func(drivers.Observation) error
	// Ledger is the device's own.
	Ledger drivers.Ledger
	// Changed is called, from any goroutine, when State would say something new.
	Changed func()
	// Received, if set, is called with the bytes of each read of the link, before the
	// driver sees them, and when they came. It must not wait, and not keep b.
	Received func(at time.Time, b []byte)
	// Parted, if set, is called when a link has ended that was open.
	Parted func(at time.Time)
	Log    *slog.Logger
}

// Supervisor runs one device. Make it with New, run it once.
type Supervisor struct {
	dev   Device
	hooks Hooks

	mu        sync.Mutex
	state     event.DeviceState
	reason    string    // the first part of state.Detail: what is wrong
	toDo      string    // the second part: what to do about it
	lastValid time.Time // with monotonic reading; zero if none yet
	announced string    // the last state that went out as an event
	emitting  int       // calls of Emit by the driver in progress
	held      time.Time // when one of them that was held up last returned
	unread    time.Time // since when nothing is read for such a one, until that is told
	bytes     int64     // bytes since lastValid
	sample    []byte    // the first of them that were read
	clock     deviceClock
	refused   struct {
		senders []event.RefusedSender
		more    int64
		sent    time.Time
	}
	unparsed struct {
		since   int64 // since the last event
		samples []event.UnparsedSample
		sent    time.Time
	}

	// telling runs while what has gathered is told beside a session.
	telling sync.WaitGroup
	tells   atomic.Bool
}

// New makes a supervisor; Run starts it.
func New(d Device, h Hooks) *Supervisor {
	s := &Supervisor{dev: d, hooks: h}
	s.state = event.DeviceState{
		State: "connecting", Since: event.At(time.Now()),
		Profile: d.Profile, Connect: d.Endpoint.String(),
	}
	return s
}

// State is the device's state now.
func (s *Supervisor) State() event.DeviceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Trouble says what is wrong with the device now and what to do about it; both are empty
// if nothing is.
func (s *Supervisor) Trouble() (reason, toDo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason, s.toDo
}

// Run keeps the device running until ctx ends, and returns when its driver has
// come to rest.
func (s *Supervisor) Run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(backoffMin),
		backoff.WithMaxInterval(backoffMax),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0), // a border does not close after a quarter of an hour
	)
	var instrument drivers.Instrument
	for ctx.Err() == nil {
		began := time.Now()
		err := s.contain(func() error { return s.session(ctx, &instrument) })
		var failed *driverFailure
		if errors.As(err, &failed) {
			instrument = nil // its state can't be trusted
		}
		// The state comes before the events, for which the disk may let it wait.
		why, at := s.ended(ctx, err)
		s.telling.Wait()
		s.flushUnparsed(true)
		s.flushRefused(true)
		if why != nil {
			s.emit(why, at)
		}
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		valid := s.lastValid.Sub(began)
		s.mu.Unlock()
		if valid > steadyAfter {
			pause.Reset()
		}
		next := pause.NextBackOff()
		// One that delivered for a while is not left unwatched for long.
		if valid > 0 {
			next = min(next, max(backoffMin, valid/validShare))
		}
		if later := (*link.RetryError)(nil); errors.As(err, &later) {
			next = max(next, time.Until(later.Until))
		}
		wait := time.NewTimer(next)
		select {
		case <-ctx.Done():
			wait.Stop()
		case <-wait.C:
		}
		s.mu.Lock()
		s.state.Reconnects++
		s.mu.Unlock()
	}
}

// errSilent ends a session in which the device fell silent.
var errSilent = errors.New("silent")

// driverFailure is a fault of the driver, not of the device or its link.
type driverFailure struct {
	reason string
	stack  []byte
}

func (f *driverFailure) Error() string { return f.reason }

// session opens the link once and runs the driver on it to its end.
func (s *Supervisor) session(ctx context.Context, instrument *drivers.Instrument) error {
	if *instrument == nil {
		made, err := s.make()
		if err != nil {
			return err
		}
		*instrument = made
	}
	openCtx, cancel := context.WithTimeout(ctx, openTimeout)
	conn, err := s.dev.Endpoint.Open(openCtx)
	cancel()
	if err != nil {
		return err
	}
	if s.hooks.Parted != nil {
		defer func() { s.hooks.Parted(time.Now()) }()
	}
	r := &reading{}
	watched := &watchedConn{Conn: conn, s: s, r: r}
	if c, ok := conn.(interface{ CountBytes(func(int)) }); ok {
		c.CountBytes(s.countBytes)
	}
	if c, ok := conn.(interface{ SetOwner(string) }); ok {
		c.SetOwner(s.dev.Lane + "/" + s.dev.ID)
	}
	opened := time.Now()
	s.mu.Lock()
	s.bytes, s.sample = 0, s.sample[:0]
	s.mu.Unlock()

	sessionCtx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r.end = func() {
		end(errUnread)
		watched.wake()
	}
	// What was refused up to the end is told too, however the session ends.
	defer s.gatherRefusals(conn)
	done := make(chan error, 1)
	go func() {
		done <- s.contain(func() error { return (*instrument).Run(sessionCtx, watched, host{s, r}) })
	}()

	tick := time.NewTicker(s.watchEvery())
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			closeErr := conn.Close()
			var failed *driverFailure
			if errors.As(err, &failed) || errors.Is(err, ErrUnrecordable) {
				return err
			}
			if cause := context.Cause(sessionCtx); cause != nil {
				err = cause
			}
			if err == nil {
				err = &driverFailure{reason: "the driver ended without a reason"}
			}
			if closeErr != nil && !errors.Is(closeErr, link.ErrClosed) && !errors.Is(closeErr, link.ErrUnplugged) {
				s.hooks.Log.Debug("closing the link", "err", closeErr)
			}
			return err
		case <-tick.C:
			s.gatherRefusals(conn)
			s.tell()
			if c, ok := conn.(interface {
				DeviceClock() (time.Duration, bool)
			}); ok {
				if offset, ok := c.DeviceClock(); ok {
					s.sawClock(offset, false)
				}
			}
			if s.isSilent(opened) && s.silent(opened, s.strange()) {
				end(errSilent)
			}
		case <-sessionCtx.Done():
			err := s.stop(ctx, watched, done)
			switch {
			case ctx.Err() == nil && err == nil:
				return context.Cause(sessionCtx)
			case ctx.Err() == nil:
				return err
			case err != nil:
				s.hooks.Log.Error("driver failed while it was stopped", "err", err)
			}
			return ctx.Err()
		}
	}
}

// stop wakes the driver, waits for it, and closes the link. It returns an error
// when the driver did not come back or panicked: it must not be used again. Unless
// ctx has ended, a driver may take as long as the disk does for what it still holds.
func (s *Supervisor) stop(ctx context.Context, conn *watchedConn, done <-chan error) error {
	conn.wake()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	var err error
	closed := false
	for back := false; !back; {
		select {
		case err = <-done:
			back = true
		case <-grace.C:
			switch {
			case ctx.Err() == nil && s.isEmitting(): // the disk is slow, not the driver
			case closed:
				return &driverFailure{reason: "the driver did not stop when told to"}
			default:
				_ = conn.Conn.Close() // as below; this one is to make a deaf driver's read fail
				closed = true
			}
			grace.Reset(stopGrace)
		}
	}
	if !closed {
		_ = conn.Conn.Close() // the session is over; nothing depends on how the close went
	}
	var failed *driverFailure
	if errors.As(err, &failed) || errors.Is(err, ErrUnrecordable) {
		return err
	}
	return nil
}

func (s *Supervisor) make() (i drivers.Instrument, err error) {
	failed := s.contain(func() error {
		i, err = s.dev.New()
		return err
	})
	return i, failed
}

// contain turns a panic of a driver into an error, so that it harms no other
// device.
func (s *Supervisor) contain(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &driverFailure{reason: fmt.Sprintf("the driver panicked: %v", r), stack: debug.Stack()}
		}
	}()
	return f()
}

// ended sets the state after a session, and gives the event that tells why it ended, nil for
// none, and its time.
func (s *Supervisor) ended(ctx context.Context, err error) (event.Data, time.Time) {
	s.mu.Lock()
	at := s.unread
	s.unread = time.Time{}
	s.mu.Unlock()
	var failed *driverFailure
	switch {
	case !at.IsZero() && !errors.As(err, &failed) && !errors.Is(err, ErrUnrecordable):
		err = wasUnread(at)
	case ctx.Err() != nil:
		return nil, at
	default:
		at = time.Now()
	}
	return s.down(err), at
}

// down sets the state after a session, and gives the event to tell of it, on the edge only.
func (s *Supervisor) down(err error) event.Data {
	if errors.Is(err, errSilent) {
		s.mu.Lock()
		said := s.announced == "silent"
		s.mu.Unlock()
		if said {
			return nil
		}
		// A record came after all, while the driver was being stopped.
		err = errors.New("the link is opened anew after a silence")
	}
	var failed *driverFailure
	if errors.Is(err, ErrUnrecordable) {
		failed = &driverFailure{reason: err.Error()}
	}
	if failed != nil || errors.As(err, &failed) {
		const hint = "the agent starts the driver anew; please report this with the log"
		s.mu.Lock()
		s.setLocked("fault", failed.reason, hint)
		s.announced = "fault"
		s.mu.Unlock()
		s.hooks.Changed()
		s.hooks.Log.Error("driver failed", "reason", failed.reason, "stack", string(failed.stack))
		return event.DeviceFault{Connect: s.dev.Endpoint.String(), Reason: failed.reason, Hint: hint}
	}
	hint := link.Hint(err)
	if errors.Is(err, errUnread) {
		hint = unreadHint
	}
	s.mu.Lock()
	// A device that was silent and then refuses the connection is told as
	// offline too: the cause is another.
	first := s.announced != "offline"
	s.announced = "offline"
	e := event.DeviceOffline{
		Connect: s.state.Connect, LastValid: s.lastValidLocked(), Reason: err.Error(), Hint: hint,
	}
	s.setLocked("offline", err.Error(), hint)
	s.mu.Unlock()
	s.hooks.Changed()
	if !first {
		return nil
	}
	s.hooks.Log.Warn("device is offline", "err", err, "hint", hint)
	return e
}

// setLocked changes the state; Since moves only with State.
func (s *Supervisor) setLocked(state, reason, toDo string) {
	if s.state.State != state {
		s.state.State = state
		s.state.Since = event.At(time.Now())
	}
	s.reason, s.toDo = reason, toDo
	s.state.Detail = reason
	if toDo != "" {
		s.state.Detail += "; " + toDo
	}
}

func (s *Supervisor) lastValidLocked() *event.Time {
	if s.lastValid.IsZero() {
		return nil
	}
	t := event.At(s.lastValid)
	return &t
}

// emit records an event of the supervisor's own.
func (s *Supervisor) emit(d event.Data, at time.Time) {
	if err := s.hooks.Emit(drivers.Observation{Data: d, Time: at}); err != nil {
		s.notRecorded(d, err)
	}
}

func (s *Supervisor) notRecorded(d event.Data, err error) {
	s.hooks.Log.Error("event not recorded", "type", d.Type(), "err", err)
}

// tell puts into the stream what has gathered, if it is time. It does so beside the session,
// which is to be watched however long the disk lets an event wait.
func (s *Supervisor) tell() {
	s.mu.Lock()
	nothing := s.unparsed.since == 0 && len(s.refused.senders) == 0
	s.mu.Unlock()
	if nothing || !s.tells.CompareAndSwap(false, true) {
		return
	}
	s.telling.Go(func() {
		defer s.tells.Store(false)
		s.flushUnparsed(false)
		s.flushRefused(false)
	})
}

// gatherRefusals takes over who sent something that did not belong to this device:
// a camera with another lane's path, or somebody else.
func (s *Supervisor) gatherRefusals(conn link.Conn) {
	c, ok := conn.(interface {
		Refusals() ([]link.Refusal, int)
	})
	if !ok {
		return
	}
	list, more := c.Refusals()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range list {
		r := event.RefusedSender{
			Time: event.At(r.At), Address: r.Remote.String(), Reason: r.Reason, BelongsTo: r.Belongs,
		}
		if i := slices.IndexFunc(s.refused.senders, func(o event.RefusedSender) bool {
			return o.Address == r.Address && o.Reason == r.Reason && o.BelongsTo == r.BelongsTo
		}); i >= 0 {
			s.refused.senders[i].Count++
		} else if r.Count = 1; len(s.refused.senders) < refusedSenders {
			s.refused.senders = append(s.refused.senders, r)
		} else {
			more++
		}
	}
	s.refused.more += int64(more)
}

// flushRefused tells of refused senders, if it is time.
func (s *Supervisor) flushRefused(now bool) {
	s.mu.Lock()
	r := &s.refused
	if len(r.senders) == 0 || !now && !r.sent.IsZero() && time.Since(r.sent) < refusedEvery {
		s.mu.Unlock()
		return
	}
	e := event.DeviceRefused{Senders: r.senders, More: r.more, Hint: refusedHint(r.senders[0])}
	r.senders, r.more, r.sent = nil, 0, time.Now()
	s.mu.Unlock()
	s.hooks.Log.Warn("messages from elsewhere refused", "address", e.Senders[0].Address, "reason", e.Senders[0].Reason, "hint", e.Hint)
	s.emit(e, time.Now())
}

func refusedHint(r event.RefusedSender) string {
	switch {
	case r.BelongsTo != "":
		return fmt.Sprintf("%s is the address of %s, which posts to this device's path: correct the path in that camera", r.Address, r.BelongsTo)
	case r.Reason == "too_large":
		return "what was sent is larger than is taken: have the camera send smaller pictures"
	case r.Reason == "too_many":
		return "more connections than one instrument makes: look for other programs that connect here"
	case r.Reason == "wrong_name":
		return "the names do not fit: set the same application entity titles in the instrument as in ae_title and calling here; the log has those that came"
	case r.Reason == "wrong_login":
		return "set the same user name and password in the instrument as here"
	}
	return fmt.Sprintf("if %s is this device's own address, add it to allow; otherwise find out what it is", r.Address)
}
