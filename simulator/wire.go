package simulator

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// item is one step of a device's stream: bytes to send, something that happens
// to the link, or a line of the truth.
type item struct {
	at    time.Duration
	due   time.Duration // when the device sent the record; 0 for other items
	bytes []byte
	tag   tsa.Tag
	// occ is the device's occupancy that the record belongs to, 0 for none.
	occ int
	// more is true for a part of a record that is not its last.
	more bool
	// touched are the faults that changed the record; a lost one has no bytes.
	touched []string

	link  linkEvent
	fault string        // that causes the link event
	down  time.Duration // for how long nobody is let in
	// skip is how many bytes of the next record do not reach the next client.
	skip int

	truth Entry
}

// linkEvent is something that happens to the connection.
type linkEvent int

const (
	linkNone  linkEvent = iota
	linkBreak           // the connection breaks
)

// maxSkip is how much of a record a client misses at most that is let in in the
// middle of it; every record is longer.
const maxSkip = 20

// unnoticed is how late a record may come without a receiver having reason to
// take it otherwise.
const unnoticed = time.Second

// slowGap parts the bytes of a record while the wire is slow.
const slowGap = 2 * time.Millisecond

// wire applies faults to the bytes of a device's stream.
type wire struct {
	device   *portal
	lane, id string
	length   time.Duration // of the scenario; 0 is endless
	faults   []*schedule
	rng      *rand.Rand
	out      []item
	ended    bool

	stallUntil, slowUntil, downUntil time.Duration
	downFault, lateFault             string
	occ                              int // the occupancy that goes on, 0 if none
	// spoilt is the fault that makes the next record unreadable too, because
	// the end of the one before is missing.
	spoilt string
	last   time.Duration
}

func newWire(s *Scenario, lane *Lane, d *Device, witness bool) *wire {
	w := &wire{
		device: newPortal(s.Seed, lane, d, witness), lane: lane.ID, id: d.ID, length: s.Duration,
		rng: newRand(s.Seed, lane.ID, d.ID, "wire"),
	}
	for i, f := range lane.Faults {
		if faultKinds[f.Kind].where == OnWire && (f.Device == "" || f.Device == d.ID) {
			w.faults = append(w.faults, newSchedule(f, newRand(s.Seed, lane.ID, d.ID, "wire fault", f.Kind, strconv.Itoa(i))))
		}
	}
	return w
}

// next returns the next item; false means that the stream is over, or failed.
func (w *wire) next() (item, bool) {
	for len(w.out) == 0 {
		if w.ended {
			return item{}, false
		}
		it, ok := w.device.next()
		switch {
		case !ok:
			w.ended = true
		case w.length > 0 && it.at >= w.length:
			w.ended = true
			for _, last := range w.device.end(w.length) {
				w.push(last)
			}
			w.push(item{at: w.length}) // a scenario lasts as long as it says
		default:
			w.take(it)
		}
	}
	it := w.out[0]
	w.out = w.out[1:]
	return it, true
}

func (w *wire) err() error { return w.device.err }

func (w *wire) push(it item) {
	it.at = max(it.at, w.last)
	if it.truth == nil {
		w.last = it.at // what is told must not delay what is sent
	}
	if it.due > 0 && it.at-it.due > unnoticed {
		it.touched = append(slices.Clone(it.touched), w.lateFault)
	}
	w.out = append(w.out, it)
}

// take passes an item on, with whatever happens to it.
func (w *wire) take(it item) {
	if it.link != linkNone {
		w.breakLink(it.at, it.fault, it.down, 0)
		w.occ = 0
		return
	}
	w.lineFaults(it.at)
	if it.bytes == nil {
		w.push(it)
		return
	}
	w.occ = it.occ
	if it.tag == tsa.GX {
		w.occ = 0
	}
	if it.at < w.downUntil {
		it.bytes, it.touched = nil, []string{w.downFault}
		w.push(it)
		return
	}
	if w.spoilt != "" {
		it.touched = append(it.touched, w.spoilt)
		w.spoilt = ""
	}
	it.due = it.at
	if it.at < w.stallUntil {
		it.at = w.stallUntil
	}
	for _, s := range w.faults {
		if s.kind.onRecord && s.due(it.at) && s.matches(it.tag) {
			w.damage(s, it)
			return
		}
	}
	w.transmit(it)
}

// transmit sends a record, slowly if the wire is slow.
func (w *wire) transmit(it item) {
	if it.at >= w.slowUntil || len(it.bytes) == 0 {
		w.push(it)
		return
	}
	whole := it.bytes
	it.at = max(it.at, w.last+slowGap)
	for i := range whole {
		part := it
		part.bytes, part.more = whole[i:i+1], i < len(whole)-1
		w.push(part)
		it.at += slowGap
	}
}

// lineFaults begins the faults that are not about single records.
func (w *wire) lineFaults(now time.Duration) {
	for _, s := range w.faults {
		if s.kind.onRecord || !s.due(now) {
			continue
		}
		if now < w.downUntil {
			continue // there is no connection that it could happen to
		}
		now := max(s.next, w.last, w.downUntil)
		truth := w.truth(s, now)
		truth.UntilS = seconds(now + s.For)
		truth.Occupancy = w.occ
		w.push(item{at: now, truth: truth})
		switch s.Kind {
		case "stall":
			w.stallUntil, w.lateFault = now+s.For, s.Kind
		case "slow":
			w.slowUntil, w.lateFault = now+s.For, s.Kind
		case "join-mid-record":
			w.breakLink(now, s.Kind, 0, 1+w.rng.IntN(maxSkip))
		default: // disconnect and second-client
			w.breakLink(now, s.Kind, s.For, 0)
		}
		s.done(now)
	}
}

// breakLink breaks the connection. What was held back or spoilt is gone.
func (w *wire) breakLink(at time.Duration, fault string, down time.Duration, skip int) {
	w.downUntil, w.downFault = at+down, fault
	w.stallUntil, w.spoilt = 0, ""
	w.push(item{at: at, link: linkBreak, fault: fault, down: down, skip: skip, occ: w.occ})
}

func (w *wire) truth(s *schedule, at time.Duration) *FaultTruth {
	return &FaultTruth{
		Kind: "fault", Lane: w.lane, Device: w.id, Fault: s.Kind, Where: OnWire, Effect: s.kind.effect,
		AtS: seconds(at), UntilS: seconds(at),
	}
}

// damage does to a record what the fault says.
func (w *wire) damage(s *schedule, it item) {
	was := it.bytes
	switch s.Kind {
	case "cut":
		n := 1 + w.rng.IntN(len(was)-3)
		it.bytes = slices.Clone(was[:n])
		if w.rng.IntN(2) == 0 {
			it.bytes = append(it.bytes, '\r', '\n')
		} else {
			w.spoilt = s.Kind
		}
	case "garble":
		it.bytes = slices.Clone(was)
		body := len(bytes.TrimRight(was, "\r\n#"))
		for range 1 + w.rng.IntN(4) {
			i := w.rng.IntN(body)
			it.bytes[i] ^= byte(1 + w.rng.IntN(255))
		}
		if bytes.Equal(it.bytes, was) { // two changes of one byte may cancel out
			it.bytes[0] ^= 0x80
		}
	case "noise":
		noise := make([]byte, 1+w.rng.IntN(40))
		for i := range noise {
			if w.rng.IntN(3) > 0 {
				noise[i] = byte(0x80 + w.rng.IntN(0x80))
			}
		}
		it.bytes = append(noise, was...)
	case "duplicate":
		it.bytes = append(slices.Clone(was), was...)
	case "drop":
		it.bytes = nil
	}
	it.touched = append(it.touched, s.Kind)
	truth := w.truth(s, it.at)
	truth.Tag, truth.Occupancy = string(it.tag), it.occ
	truth.Was, truth.Became = strconv.QuoteToASCII(string(was)), strconv.QuoteToASCII(string(it.bytes))
	w.push(item{at: it.at, truth: truth})
	w.transmit(it)
	if s.left--; s.left == 0 {
		s.done(it.at)
	}
}
