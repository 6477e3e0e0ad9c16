package agent

import (
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// recent is what the console remembers of the events since the start, and of the
// uplinks. It is bounded: so much for each configured device (console.KeptOccupancies,
// console.KeptPlates), and nothing else.
type recent struct {
	events console.Events

	mu sync.Mutex
	// permitted is what may be shown. It changes with what is remembered, so that nothing is
	// kept that a reload has forbidden meanwhile.
	permitted config.Console
	devices   map[string]*recentDevice // by "lane/id"
	lost      uint64                   // events, by the losses that were recorded
	lostAt    time.Time                // of the last loss
	loaded    time.Time                // when the configuration in effect was taken up
	reload    *console.Reload
	rates     map[string][]rateSample // by the uplink's name, the oldest first
}

// recentDevice is what is remembered of one device.
type recentDevice struct {
	last        *console.Event
	occupancies []console.Occupancy
	plates      []console.Plate
	scan        *console.Scan
	thumbnail   []byte // of scan; nil if there is none, or pictures may not be shown
	passed      console.Passed
}

// losses tells how many events were lost since the start, and when that was told last.
func (r *recent) losses() (n uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost, r.lostAt
}

// recorded notes an event that is on disk and gives it to those who watch. line must not
// change any more.
func (r *recent) recorded(h event.Header, class event.Class, seq uint64, d event.Data, with []drivers.Attachment, line []byte) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(h.Source, "/"), "/")
	r.mu.Lock()
	show := r.permitted.Plates
	e := console.Event{
		At: h.Time, Device: rest, Type: d.Type(), Priority: class, Sequence: event.FormatSequence(seq), ID: h.ID,
		Text: sentence(d, show),
	}
	if l, ok := d.(event.AgentLoss); ok {
		r.lost += l.Count
		r.lostAt = h.RecordedTime.Time
	}
	if !strings.HasPrefix(rest, event.AgentLane+"/") {
		if r.devices == nil {
			r.devices = map[string]*recentDevice{}
		}
		one := r.devices[rest]
		if one == nil {
			one = &recentDevice{}
			r.devices[rest] = one
		}
		one.last = &e
		one.note(h, d, show)
		if _, ok := d.(event.XrayScan); ok && r.permitted.Pictures {
			one.keepThumbnail(with)
		}
	}
	r.mu.Unlock()
	if r.events.Watched() {
		r.events.Publish(console.Recorded{Event: e, Public: event.Redact(line)})
	}
}

// note keeps what is shown of the events of some kinds.
func (r *recentDevice) note(h event.Header, d event.Data, show string) {
	switch d := d.(type) {
	case event.RadiationOccupancy:
		r.passed.Occupancies++
		switch d.Outcome {
		case event.OutcomeAlarm:
			r.passed.AlarmOccupancies++
		case event.OutcomeIncomplete:
			r.passed.IncompleteOccupancies++
		}
		if d.GammaAlarm {
			r.passed.GammaAlarms++
		}
		if d.NeutronAlarm {
			r.passed.NeutronAlarms++
		}
		r.occupancies = append(r.occupancies, console.Occupancy{
			ID: d.OccupancyID, Start: d.StartTS, DurationS: d.DurationS, Outcome: d.Outcome, End: d.End,
			GammaAlarm: d.GammaAlarm, NeutronAlarm: d.NeutronAlarm, Gamma: d.Gamma, Neutron: d.Neutron,
			GammaMaxCounts: d.GammaMax5SampleSum, GammaBackgroundCPS: d.GammaBgSumCPS, GammaSigma: d.GammaMaxNSigma,
			NeutronCounts: d.NeutronCounts, SpeedKPH: d.SpeedKPH,
		})
		r.occupancies = lastOf(r.occupancies, console.KeptOccupancies)
	case event.PlateRead:
		r.passed.PlateReads++
		r.plates = lastOf(append(r.plates, console.Plate{
			At: h.Time, ID: d.ReadID, Text: shownPlate(d, show), Read: true, Country: d.Country.Code,
			Confidence: d.Confidence.Value, Direction: d.Direction,
		}), console.KeptPlates)
	case event.PlateNoRead:
		r.passed.NoReads++
		r.plates = lastOf(append(r.plates, console.Plate{At: h.Time, ID: d.ReadID, Direction: d.Direction}), console.KeptPlates)
	case event.XrayScan:
		if d.Revision == 1 {
			r.passed.Scans++
		}
		r.thumbnail = nil
		r.scan = &console.Scan{
			At: h.Time, ID: d.ScanID, Revision: d.Revision, Mode: d.Mode, Decision: d.Decision, Completeness: d.Completeness,
		}
	}
}

// maxThumbnail bounds the small picture that is kept of each X-ray scanner, in bytes.
const maxThumbnail = 128 << 10

// keepThumbnail keeps the small picture that the agent made of a scan.
func (r *recentDevice) keepThumbnail(list []drivers.Attachment) {
	for _, one := range list {
		if one.Name == "thumbnail.jpg" && len(one.Content) > 0 && len(one.Content) <= maxThumbnail {
			r.thumbnail, r.scan.Thumbnail = one.Content, &one.Attachment
			return
		}
	}
}

// thumbnailOf gives the small picture of a scanner's last scan; nil if there is none.
func (r *recent) thumbnailOf(device string) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if one := r.devices[device]; one != nil {
		return one.thumbnail
	}
	return nil
}

// lastOf is the last n, in memory of their own now and then so that the rest is given
// back.
func lastOf[T any](list []T, n int) []T {
	if len(list) > n {
		copy(list, list[len(list)-n:])
		list = list[:n]
	}
	return list
}

// shownPlate is a plate as far as the configuration permits to show it.
func shownPlate(d event.PlateRead, show string) string {
	switch {
	case show == config.PlatesPseudonym:
		return d.Pseudonym[:min(len(d.Pseudonym), shownPseudonym)]
	case d.Private == nil || d.Private.Plate == "":
		return ""
	case show == config.PlatesFull:
		return d.Private.Plate
	case show == config.PlatesMasked:
		return mask(d.Private.Plate)
	}
	return ""
}

// shownPseudonym is how many digits of a pseudonym are shown: enough for a person to see
// that two are the same.
const shownPseudonym = 8

// mask leaves the first and the last character of a text of four and more.
func mask(s string) string {
	n := utf8.RuneCountInString(s)
	if n < 4 {
		return strings.Repeat("*", n)
	}
	_, first := utf8.DecodeRuneInString(s)
	_, last := utf8.DecodeLastRuneInString(s)
	return s[:first] + strings.Repeat("*", n-2) + s[len(s)-last:]
}

// follow forgets the devices that are no longer configured, and what may no longer be
// shown.
func (r *recent) follow(cfg *config.Config) {
	configured := map[string]bool{}
	for _, d := range cfg.Devices() {
		configured[d.Lane+"/"+d.ID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	otherPlates := cfg.Console.Plates != r.permitted.Plates
	r.permitted = cfg.Console
	for key, one := range r.devices {
		if !configured[key] {
			delete(r.devices, key)
			continue
		}
		if one.scan != nil && !cfg.Console.Pictures {
			scan := *one.scan
			scan.Thumbnail = nil
			one.scan, one.thumbnail = &scan, nil
		}
		if otherPlates {
			one.plates = nil
			if one.last != nil && one.last.Type == (event.PlateRead{}).Type() {
				one.last = nil
			}
		}
	}
}

// reloaded notes what came of a reload.
func (r *recent) reloaded(done reloaded) reloaded {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if done.Applied {
		r.loaded = now
	}
	r.reload = &console.Reload{At: event.At(now), Reloaded: done.told()}
	return done
}

// rateFor is over how long the rate of delivery is taken, rateEvery how often it is
// looked at.
const (
	rateFor   = time.Minute
	rateEvery = tickEvery
)

// rateSample is how many events an uplink had delivered at a time.
type rateSample struct {
	at    time.Time
	acked uint64
}

// sample looks at the uplinks, for the rates.
func (r *recent) sample(a *Agent, now time.Time) {
	list := a.currentUplinks()
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.rates
	r.rates = make(map[string][]rateSample, len(list))
	for _, u := range list {
		samples, acked := before[u.cfg.Name], u.Status().Acked
		if n := len(samples); n > 0 && samples[n-1].acked > acked {
			samples = nil // the uplink was started anew
		}
		r.rates[u.cfg.Name] = lastOf(append(samples, rateSample{now, acked}), int(rateFor/rateEvery)+1)
	}
}

// rateLocked is how many events an uplink delivers in a second.
func (r *recent) rateLocked(name string, began, now time.Time, acked uint64) float64 {
	from := rateSample{at: began} // its count began at zero
	for i, s := range r.rates[name] {
		if age := now.Sub(s.at); age >= rateFor || i == 0 && now.Sub(began) >= rateFor {
			from = s
		}
	}
	took := now.Sub(from.at).Seconds()
	if took < 1 || acked < from.acked {
		return 0
	}
	return float64(acked-from.acked) / took
}
