package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/uplink"
)

// Service is how the agent tells a service manager how it is, in the words of
// systemd's sd_notify(3). The zero value tells nobody.
type Service struct {
	// Tell sends one message: assignments with line feeds between them. It must
	// not block for long.
	Tell func(message string) error
	// Watchdog is the time without a sign of life after which the service manager
	// ends the process; zero for never.
	Watchdog time.Duration
}

// Bounds of what the service manager is told.
const (
	// serviceLook is how often the agent is looked at, unless the watchdog wants it
	// more often.
	serviceLook = 5 * time.Second
	// signsPerWatchdog is how many signs of life go into the watchdog's time.
	signsPerWatchdog = 4
	// startExtension is how much longer a start may take, told again at each look
	// while the disk takes no events.
	startExtension = 6 * serviceLook
	// wellProbes is how many probes of the disk in a row must succeed before a loop
	// that stands still is our own fault.
	wellProbes = 2
	// maxStatus bounds the status line, in bytes.
	maxStatus = 400
)

// ServiceStatus is the message that sets the status line: one line of bounded
// length, whatever text is.
func ServiceStatus(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + " ..."
	}
	return "STATUS=" + text
}

// ServiceReloading is the message that a reload begins; "READY=1" ends it.
func ServiceReloading() (string, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "", fmt.Errorf("read the monotonic clock: %w", err)
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000), nil
}

// pulse tells the service manager how the agent is. A goroutine of its own gives
// the signs of life, and only while the agent's loop and the spool's goroutine
// come round, or stand still because of a disk: one that refuses or hangs is no
// better after a restart, and what instruments have said and what waits for that
// disk would be lost. docs/decisions/0019 has the whole of it.
type pulse struct {
	a    *Agent
	to   Service
	look time.Duration
	// still is how long a goroutine may stay away before the disk is looked at.
	still time.Duration
	probe func() error

	beaten atomic.Pointer[time.Time] // when the loop last came round
	end    context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	phase phase
	said  string // the last status
	lost  bool   // the last message did not get through
}

type phase int

const (
	starting phase = iota
	running
	stopping
)

// startPulse begins to tell; nothing is told if nobody wants to hear it.
func startPulse(a *Agent) *pulse {
	p := &pulse{a: a, to: a.opts.Service, look: serviceLook, done: make(chan struct{}), end: func() {}}
	p.probe = p.probeDisk
	if p.to.Tell == nil {
		close(p.done)
		return p
	}
	if w := p.to.Watchdog; w > 0 {
		p.look = min(p.look, w/signsPerWatchdog)
		p.still = w / 2
	}
	p.beat()
	ctx, end := context.WithCancel(context.Background())
	p.end = end
	p.status("starts")
	go p.run(ctx)
	return p
}

// close ends it, at the latest when the agent does.
func (p *pulse) close() {
	p.end()
	<-p.done
}

// beat says that the loop has come round.
func (p *pulse) beat() {
	now := time.Now()
	p.beaten.Store(&now)
}

// ready says that devices are read, or that a reload is over.
func (p *pulse) ready() {
	if p.to.Tell == nil {
		return
	}
	p.beat()
	text := ServiceStatus(p.a.summary())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.said = running, text
	p.tellLocked("READY=1\n" + text)
}

// reloading says that a reload begins.
func (p *pulse) reloading() {
	if p.to.Tell == nil {
		return
	}
	text, err := ServiceReloading()
	if err != nil {
		p.a.log.Warn("systemd is not told of the reload", "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tellLocked(text)
}

// stops says that the agent stops.
func (p *pulse) stops(why error) {
	if p.to.Tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = stopping
	p.said = ServiceStatus(fmt.Sprintf("stops: %v", why))
	p.tellLocked("STOPPING=1\n" + p.said)
}

// refresh brings the status line up to date. It may wait for the disk, so it is
// the loop's to call.
func (p *pulse) refresh() {
	if p.to.Tell != nil {
		p.status(p.a.summary())
	}
}

// status sets the status line if it is another one now.
func (p *pulse) status(text string) {
	text = ServiceStatus(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	if text != p.said && p.phase != stopping {
		p.said = text
		p.tellLocked(text)
	}
}

func (p *pulse) tellLocked(message string) {
	err := p.to.Tell(message)
	if err != nil && !p.lost {
		p.a.log.Warn("systemd can't be told how the agent is", "err", err)
	}
	p.lost = err != nil
}

func (p *pulse) run(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(p.look)
	defer tick.Stop()
	var disk diskProbe
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		refused := p.a.refusal()
		if refused != "" && time.Since(*p.beaten.Load()) > 2*tickEvery {
			p.status(refusedWords + refused) // the loop waits too, and can't say so
		}
		p.mu.Lock()
		now := p.phase
		p.mu.Unlock()
		switch {
		case now == starting:
			// Waiting for room is no hang: delivery, which has begun, makes it.
			if refused != "" {
				p.say(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startExtension.Microseconds()))
			}
		case p.to.Watchdog == 0:
		case now == stopping || refused != "" || p.comesRound():
			disk = diskProbe{}
			p.say("WATCHDOG=1")
		case disk.holdsUp(p):
			p.say("WATCHDOG=1")
		}
	}
}

func (p *pulse) say(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tellLocked(message)
}

// comesRound reports whether the loop and the spool's goroutine do.
func (p *pulse) comesRound() bool {
	return time.Since(*p.beaten.Load()) < p.still && time.Since(p.a.spool.Turned()) < p.still
}

// diskProbe finds out whether it is a disk for which the agent waits.
type diskProbe struct {
	result chan error // of the probe that is under way
	well   int        // probes in a row that found nothing wrong
	told   bool
}

// holdsUp reports whether the disk, and no fault of ours, may be why the agent
// stands still. A probe that hangs is left alone, and there is never a second one.
func (d *diskProbe) holdsUp(p *pulse) bool {
	if d.well >= wellProbes {
		return false
	}
	if d.result == nil {
		result := make(chan error, 1)
		d.result = result
		go func() { result <- p.probe() }()
		return true
	}
	select {
	case err := <-d.result:
		d.result = nil
		if err != nil {
			d.well = 0
			p.status("the agent waits for its disk: " + err.Error())
			return true
		}
		d.well++
	default:
		d.well = 0
		p.status("the agent waits for a disk that does not answer")
		if !d.told {
			d.told = true
			p.a.log.Error("a disk does not answer; instruments wait", "spool", p.a.config().Spool.Dir,
				"hint", "look at the disk of the spool directory, and at network folders that the configuration names")
		}
		return true
	}
	if d.well < wellProbes {
		return true
	}
	p.status("the agent hangs; systemd ends it and starts it anew")
	p.a.log.Error("the agent hangs, and not for a disk: it gives no more signs of life, so that systemd starts it anew")
	return false
}

// probeDisk does what the loop may hang in: it writes to the spool's disk, and
// reads the configuration with all that it names.
func (p *pulse) probeDisk() error {
	name := filepath.Join(p.a.config().Spool.Dir, ".probe")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("lanepost looks whether this disk answers\n")
	if err = errors.Join(err, f.Sync(), f.Close(), os.Remove(name)); err != nil {
		return err
	}
	// What stands in it does not matter here, only that reading it comes to an end.
	_, _ = config.Load(p.a.opts.ConfigPath)
	return nil
}

// refusedWords begin the status line while events can't be kept.
const refusedWords = "events can't be kept, instruments wait: "

// refusal says why events wait for the disk, empty if none does.
func (a *Agent) refusal() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == 0 {
		return ""
	}
	return a.refused
}

// summary is how the agent is, in one line.
func (a *Agent) summary() string {
	devices := a.deviceList()
	online := 0
	for _, d := range devices {
		if d.sup.State().State == "online" {
			online++
		}
	}
	stats := a.spool.Stats()
	backlog := stats.Urgent.Backlog + stats.Routine.Backlog
	var s strings.Builder
	if why := a.refusal(); why != "" {
		s.WriteString(refusedWords + why + "; ")
	}
	a.mu.Lock()
	if len(a.refusedConfig) > 0 {
		fmt.Fprintf(&s, "reload: %s; ", a.refusedConfig[0])
	}
	a.mu.Unlock()
	switch len(devices) {
	case 0:
		s.WriteString("no device is configured")
	case 1:
		fmt.Fprintf(&s, "%d of 1 device online", online)
	default:
		fmt.Fprintf(&s, "%d of %d devices online", online, len(devices))
	}
	fmt.Fprintf(&s, ", %d %s", backlog, map[bool]string{true: "event waits", false: "events wait"}[backlog == 1])
	uplinks := a.currentUplinks()
	if len(uplinks) == 0 {
		s.WriteString(", no broker is configured")
	}
	for _, u := range uplinks {
		if st := u.Status(); st.State != uplink.Online {
			fmt.Fprintf(&s, ", no broker for the uplink %s", st.Name)
			if st.LastError != "" {
				fmt.Fprintf(&s, " (%s)", st.LastError)
			}
		}
	}
	return s.String()
}
