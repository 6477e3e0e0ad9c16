package agent

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/lanepost/lanepost/agent/blobs"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/protocol/event"
)

// diskPatience is how long a snapshot waits for what the disk has to say before it is
// made with what was known last.
const diskPatience = 500 * time.Millisecond

// onDisk is what a disk that hangs would hold up.
type onDisk struct {
	spool spool.Stats
	taps  []string
	blobs blobs.Stats
}

// disks asks the disk, and never twice at a time, so that one that hangs holds one
// goroutine and nobody else.
type disks struct {
	mu sync.Mutex
	// last is what it said last. It is there before anybody asks, so that nothing unknown is
	// shown as zero.
	last  onDisk
	asked time.Time
	done  chan struct{} // closed when the answer is there; nil if nothing is asked
}

// ask gives what the disk says. If it says nothing in time, it is what it said last, and
// since when it has not answered.
func (d *disks) ask(look func() onDisk) (known onDisk, old time.Time) {
	d.mu.Lock()
	if d.done == nil {
		done := make(chan struct{})
		d.done, d.asked = done, time.Now()
		go func() {
			v := look()
			d.mu.Lock()
			d.last, d.done = v, nil
			d.mu.Unlock()
			close(done)
		}()
	}
	done := d.done
	d.mu.Unlock()
	patience := time.NewTimer(diskPatience)
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == done {
		old = d.asked
	}
	return d.last, old
}

func (a *Agent) onDisk() onDisk {
	return onDisk{spool: a.spool.Stats(), taps: a.taps.problems(), blobs: a.blobs.Stats()}
}

// status makes the snapshot that the console shows.
func (a *Agent) status() console.Status {
	disk, old := a.disks.ask(a.onDisk)
	now := time.Now()
	cfg := a.config()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	s := console.Status{
		At: event.At(now), Version: a.opts.Version, Site: a.site, Agent: a.id.kept.Agent, Simulated: cfg.Console.Simulator != "",
		Started: event.At(a.began), UptimeS: now.Sub(a.began).Round(time.Millisecond).Seconds(),
		Config:   console.Config{Path: cfg.Path, SHA256: cfg.SHA256, LoadedAt: event.At(a.began), Refused: []string{}},
		Problems: []console.Problem{}, Lanes: []console.Lane{}, Uplinks: []console.Uplink{},
		Process: console.Process{Goroutines: runtime.NumGoroutine(), HeapBytes: memory.HeapAlloc, SystemBytes: memory.Sys, GoVersion: runtime.Version()},
	}
	s.Clock.Synchronised, s.Clock.MaxErrorMs = a.clock.quality(now)
	if !old.IsZero() {
		s.Spool.OldSince = timeOrNone(old)
		s.Problems = append(s.Problems, silentDisk(old))
	}
	for _, p := range a.problemList(disk.spool, disk.taps) {
		s.Problems = append(s.Problems, p.Problem)
	}
	a.fillSpool(&s.Spool, disk)
	a.mu.Lock()
	s.Spool.Refused, s.Spool.WaitingForDisk = a.refused, a.waiting
	s.Config.Refused = append(s.Config.Refused, a.refusedConfig...)
	a.mu.Unlock()

	devices, uplinks := a.deviceList(), a.currentUplinks()
	r := &a.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Spool.LostEvents = r.lost
	s.Config.LastReload = r.reload
	if !r.loaded.IsZero() {
		s.Config.LoadedAt = event.At(r.loaded)
	}
	for _, d := range devices {
		if n := len(s.Lanes); n == 0 || s.Lanes[n-1].ID != d.cfg.Lane {
			s.Lanes = append(s.Lanes, console.Lane{ID: d.cfg.Lane, Name: d.cfg.LaneName})
		}
		lane := &s.Lanes[len(s.Lanes)-1]
		lane.Devices = append(lane.Devices, deviceStatus(d, r.devices[d.cfg.Lane+"/"+d.cfg.ID]))
	}
	for _, u := range uplinks {
		up := uplinkStatus(u.Status(), disk.spool, now)
		up.EventsPerS = r.rateLocked(u.cfg.Name, a.began, now, up.Confirmed)
		s.Uplinks = append(s.Uplinks, up)
	}
	return s
}

func timeOrNone(t time.Time) *event.Time {
	if t.IsZero() {
		return nil
	}
	v := event.At(t)
	return &v
}

func (a *Agent) fillSpool(s *console.Spool, disk onDisk) {
	class := func(c spool.ClassStats) console.SpoolClass {
		return console.SpoolClass{
			Bytes: c.Bytes, MaxBytes: c.MaxBytes, LastSequence: c.Head, Waiting: c.Backlog,
			OldestWaiting: timeOrNone(c.OldestUnacked),
		}
	}
	s.Dir, s.Pressure = a.config().Spool.Dir, disk.spool.Pressure
	s.Urgent, s.Routine = class(disk.spool.Urgent), class(disk.spool.Routine)
	s.AttachmentsBytes, s.AttachmentsMaxBytes = disk.blobs.Bytes, disk.blobs.MaxBytes
	if disk.spool.Total > 0 {
		s.DiskFreeBytes, s.DiskTotalBytes = &disk.spool.Free, &disk.spool.Total
	}
	s.DiskSyncs, s.DiskWrittenBytes = a.disk.Syncs.Load(), a.disk.Bytes.Load()
}

// kinds are the drivers of each kind of device.
var kinds = []struct {
	kind    string
	drivers []string
}{
	{console.Portal, []string{"tsa-portal", "aspect-portal"}},
	{console.PlateReader, []string{
		"hikvision-stream", "hikvision-push", "hikvision-plates", "hikvision-on-demand", "axis-lpv", "dahua-push", "dahua-stream",
		"vzen-push", "rekor", "plate-recognizer", "sharpv", "tvt", "milesight", "uniview-lapi", "plate-template",
		"nedap-tlv", "nedap-rs485", "onvif-pullpoint", "onvif-mqtt",
	}},
	{console.Scanner, []string{"xray-folder", "xray-messages", "xray-dicos"}},
}

// kindOf is what kind of device a driver reads; empty for others than those of kinds.
func kindOf(driver string) string {
	for _, k := range kinds {
		if slices.Contains(k.drivers, driver) {
			return k.kind
		}
	}
	return ""
}

func deviceStatus(d *device, r *recentDevice) console.Device {
	state := d.sup.State()
	c := console.Device{
		Device: d.cfg.Lane + "/" + d.cfg.ID, Lane: d.cfg.Lane, ID: d.cfg.ID,
		Profile: d.cfg.Profile.Name, Driver: d.cfg.Driver.Name, Kind: kindOf(d.cfg.Driver.Name), Connect: state.Connect,
		State: state.State, Since: state.Since, SilenceLimitS: d.cfg.Silence.Seconds(), LastRecord: state.LastValid,
		Records: state.Records, Unparsed: state.Unparsed, Reconnects: state.Reconnects,
		RawBytes:    hasRawBytes(d.cfg),
		Occupancies: []console.Occupancy{}, Plates: []console.Plate{},
	}
	if c.Reason, c.ToDo = d.sup.Trouble(); c.Reason == "" {
		c.Reason, c.ToDo = d.clockWords()
	}
	if offset, known := d.sup.ClockOffset(); known {
		seconds := offset.Seconds()
		c.ClockOffsetS = &seconds
	}
	if r != nil {
		c.LastEvent, c.Scan, c.Passed = r.last, r.scan, r.passed
		c.Occupancies = append(c.Occupancies, r.occupancies...)
		c.Plates = append(c.Plates, r.plates...)
	}
	return c
}

func uplinkStatus(u uplink.Status, stats spool.Stats, now time.Time) console.Uplink {
	s := console.Uplink{
		Name: u.Name, State: string(u.State), Connected: u.State == uplink.Online, Since: event.At(u.Since), Broker: u.Broker,
		LastError: u.LastError, ToDo: u.Hint, LastErrorAt: timeOrNone(u.LastErrorAt),
		InFlight: u.InFlight, LastConfirmed: timeOrNone(u.LastAck),
		Published: u.Published, Confirmed: u.Acked, Resent: u.Resent, Skipped: u.Skipped, Quarantined: u.Quarantined,
		Reconnects: u.Reconnects, Certificates: []console.Certificate{},
	}
	var oldest time.Time
	for _, class := range []struct {
		stats   spool.ClassStats
		waiting *uint64
	}{{stats.Urgent, &s.WaitingUrgent}, {stats.Routine, &s.WaitingRoutine}} {
		for _, c := range class.stats.Consumers {
			if c.Name != u.Name {
				continue
			}
			*class.waiting = c.Backlog
			if !c.OldestUnacked.IsZero() && (oldest.IsZero() || c.OldestUnacked.Before(oldest)) {
				oldest = c.OldestUnacked
			}
		}
	}
	if !oldest.IsZero() {
		age := now.Sub(oldest).Round(time.Millisecond).Seconds()
		s.OldestWaiting, s.OldestWaitingS = timeOrNone(oldest), &age
	}
	for _, c := range u.Certificates {
		s.Certificates = append(s.Certificates, console.Certificate{
			Role: string(c.Role), Subject: c.Subject, Expires: event.At(c.NotAfter),
			ExpiresInS: c.NotAfter.Sub(now).Round(time.Second).Seconds(),
		})
	}
	return s
}
