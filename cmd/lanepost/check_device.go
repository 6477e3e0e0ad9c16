package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/identify"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of a check of a device.
const (
	// checkSample is how much is kept of what makes no record.
	checkSample = 4096
	// clockGrace is how long a device that has said something is heard for the time
	// that it tells.
	clockGrace = 500 * time.Millisecond
	// openTimeout bounds the opening of a link.
	openTimeout = 15 * time.Second
)

// listener is the drivers.Host of a check: it counts, and records nothing.
type listener struct {
	ledger drivers.MemoryLedger

	ctx      context.Context
	mu       sync.Mutex
	records  int
	unparsed int
	reason   string
	bytes    int
	sample   []byte
	offset   *time.Duration
	heard    chan struct{}
	once     sync.Once
}

func (*listener) Now() time.Time    { return time.Now() }
func (*listener) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Emit never says that an observation is safe: a driver would then tell its
// instrument to forget it.
func (l *listener) Emit(o drivers.Observation) error {
	if offset, ok := drivers.ClockOf(o); ok {
		l.mu.Lock()
		l.offset = &offset
		l.mu.Unlock()
	}
	if u, ok := o.Data.(event.DeviceUnparsed); ok && len(u.Samples) > 0 {
		l.mu.Lock()
		l.unparsed++
		l.reason = u.Samples[0].Reason
		l.mu.Unlock()
	}
	<-l.ctx.Done()
	return fmt.Errorf("a check records nothing: %w", l.ctx.Err())
}

// Ledger implements drivers.Host. A check begins with an empty one.
func (l *listener) Ledger() drivers.Ledger { return &l.ledger }

func (l *listener) Valid() {
	l.mu.Lock()
	l.records++
	l.mu.Unlock()
	l.once.Do(func() { close(l.heard) })
}

func (l *listener) Unparsed(reason string, _ []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unparsed++
	l.reason = reason
}

// countingConn counts what comes, and keeps the first of it.
type countingConn struct {
	link.Conn
	l *listener
}

// Unwrap gives the link itself, for link.As.
func (c countingConn) Unwrap() link.Conn { return c.Conn }

func (c countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.mu.Lock()
	c.l.bytes += n
	c.l.sample = append(c.l.sample, p[:min(n, checkSample-len(c.l.sample))]...)
	c.l.mu.Unlock()
	return n, err
}

// deviceRows are the rows of one device, and what it tells of its clock.
type deviceRows struct {
	list   []result
	offset *time.Duration
}

// checkPort looks at a serial port without opening it: whether the agent's user may, and
// who has it open.
func checkPort(d config.Device, account *account) (rows []result) {
	what := d.Lane + "/" + d.ID
	path := link.SerialPath(d.Endpoint)
	if path == "" {
		return nil
	}
	if _, err := os.Stat(path); err != nil {
		return nil // opening it says it better
	}
	if account != nil {
		row := result{what, "permission", isOK, account.name + " may open " + path, ""}
		err := account.do(func() error {
			if problem := link.Access(path); problem != "" {
				return errors.New(problem)
			}
			return nil
		})
		if err != nil {
			row.State, row.Detail = isFailed, fmt.Sprintf("user %s may not open %s", account.name, path)
			row.Hint = link.Admit(account.name, path)
		}
		rows = append(rows, row)
	}
	if users := link.Users(path); len(users) > 0 {
		// One that holds no lock takes bytes away that are then missing here.
		rows = append(rows, result{
			what, "port", isWarning, path + " is open in " + strings.Join(users, " and ") + ", too",
			"end that program: two that read from one port take the bytes from each other",
		})
	}
	return rows
}

// check opens the device and listens until it says something valid.
func (r *deviceRows) check(ctx context.Context, cfg *config.Config, d config.Device, wait time.Duration) {
	what := d.Lane + "/" + d.ID
	add := func(check, state, detail, hint string) {
		r.list = append(r.list, result{what, check, state, detail, hint})
	}
	defer func() {
		if p := recover(); p != nil {
			add("driver", isFailed, fmt.Sprintf("the driver panicked: %v", p), "please report this")
		}
	}()
	instrument, err := d.New()
	if err != nil {
		add("settings", isFailed, err.Error(), "correct the settings of this device in the configuration")
		return
	}
	asked := ctx // ends by Ctrl-C alone
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	place, _, _ := strings.Cut(d.Endpoint.String(), "?")
	if hint, err := identify.InUse(ctx, d.Endpoint); err != nil {
		add("reachable", isFailed, err.Error(), hint)
		return
	}
	conn, err := openLink(ctx, d.Endpoint)
	if err != nil && asked.Err() != nil {
		add("reachable", isSkipped, place+": ended before it was known whether it answers", "")
		return
	}
	if err != nil {
		add("reachable", isFailed, err.Error(), cmp.Or(link.Hint(err), "check the device's power, cable and address, and what stands under connect"))
		return
	}
	defer conn.Close() //nolint:errcheck // nothing was written, so nothing can be lost by a bad close
	l := &listener{ctx: ctx, heard: make(chan struct{})}
	if c, ok := conn.(interface{ CountBytes(func(int)) }); ok {
		c.CountBytes(func(n int) {
			l.mu.Lock()
			l.bytes += n
			l.mu.Unlock()
		})
	}
	began := time.Now()
	// To open the link took a part of the time.
	span := func() string {
		if asked.Err() == nil {
			return drivers.Span(wait)
		}
		return drivers.Span(min(wait, time.Since(began).Round(100*time.Millisecond)))
	}
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				ended <- fmt.Errorf("the driver panicked: %v", p)
			}
		}()
		ended <- instrument.Run(ctx, countingConn{conn, l}, l)
	}()
	var runErr error
	var first time.Duration
	select {
	case <-l.heard:
		first = time.Since(began)
		select {
		case <-time.After(clockGrace):
		case <-ended: // what it has said counts
		case <-ctx.Done():
		}
	case runErr = <-ended:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r.offset = l.offset
	if c, ok := conn.(interface {
		DeviceClock() (time.Duration, bool)
	}); ok && r.offset == nil {
		if offset, told := c.DeviceClock(); told {
			r.offset = &offset
		}
	}
	if errors.Is(runErr, context.DeadlineExceeded) || errors.Is(runErr, os.ErrDeadlineExceeded) || asked.Err() != nil {
		runErr = nil // the time is up
	}
	name := d.Profile.Name
	switch {
	case l.records > 0:
		add("reachable", isOK, place, "")
		add("protocol", isOK, "speaks "+name, "")
		said := "first record at once"
		if first > time.Second {
			said = "first record after " + drivers.Span(first)
		}
		add("fresh data", isOK, said, "")
	case runErr != nil && l.bytes == 0 && r.offset == nil:
		add("reachable", isFailed, runErr.Error(), cmp.Or(link.Hint(runErr), "check the device's power, cable and address, and what stands under connect"))
	case runErr != nil && l.unparsed == 0:
		add("reachable", isOK, place, "")
		add("protocol", isFailed, runErr.Error(), cmp.Or(link.Hint(runErr), strange(ctx, cfg, d, l.sample)))
	case l.bytes > 0 || l.unparsed > 0:
		add("reachable", isOK, place, "")
		detail := fmt.Sprintf("%s in %s, none of them a record of %s", plural(l.bytes, "byte"), span(), name)
		if l.reason != "" {
			detail += " (" + l.reason + ")"
		}
		add("protocol", isFailed, detail, strange(ctx, cfg, d, l.sample))
	case asked.Err() != nil:
		add("reachable", isOK, place+" is open", "")
		add("fresh data", isSkipped, "nothing came in "+span()+", then it was ended", "")
	case strings.HasSuffix(d.Endpoint.Scheme(), "-listen"):
		// A camera that posts has nothing to say while no vehicle comes.
		add("reachable", isOK, place+" listens", "")
		add("fresh data", isWarning, "nothing came in "+span(),
			"let a vehicle pass, or have the device send a test; what it must be set to is in the profile "+name)
	default:
		add("reachable", isOK, place+" is open", "")
		add("fresh data", isFailed, "nothing came in "+span(),
			"check that the instrument is on and set to send, that its data cable is in, and that no other program holds its connection")
	}
	if r.offset != nil {
		if text, hint := drivers.ClockWords(*r.offset); text != "" {
			add("clock", isFailed, text, hint)
		} else {
			add("clock", isOK, "within "+drivers.Span(r.offset.Abs().Round(time.Second)+time.Second)+" of this box's", "")
		}
	}
}

// openLink opens a link, and waits no longer than openTimeout for that.
func openLink(ctx context.Context, e link.Endpoint) (link.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return e.Open(ctx)
}

// strange says what to do about bytes of which no record could be made.
func strange(ctx context.Context, cfg *config.Config, d config.Device, sample []byte) string {
	if whose := config.Belongs(cfg.Devices(), d, sample); whose != "" {
		return whose
	}
	if reads, says := readBy(ctx, cfg, d, sample); reads != "" {
		return fmt.Sprintf("what comes is read by the profile %s (%s): write profile: %s for this device, or connect the instrument that belongs here", reads, says, reads)
	}
	return link.Strange(d.Endpoint, sample)
}

// readBy names another profile that a sample is read by, and says how well; empty if that is
// not sure.
func readBy(ctx context.Context, cfg *config.Config, d config.Device, sample []byte) (profile, says string) {
	set, err := profiles.Load(cfg.ProfileDir)
	if err != nil {
		return "", "" // it was read a moment ago; what it would say is a help and no more
	}
	set.CheckDrivers(registry.ByName)
	profile, says = identify.New(set, registry.ByName).Reads(ctx, d.Endpoint.Scheme(), sample)
	if profile == d.Profile.Name {
		return "", ""
	}
	return profile, says
}
