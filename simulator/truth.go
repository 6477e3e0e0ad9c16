package simulator

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Truth is what really happened. Times are simulated time since the start, in
// seconds; a run at speed s passes s of them in a second of the clock.
type Truth struct {
	Vehicles    []VehicleTruth
	Occupancies []OccupancyTruth
	Faults      []FaultTruth
	States      []StateTruth
	Links       []LinkTruth
	Plates      []PlateTruth
	Scans       []ScanTruth
	Weights     []WeightTruth
	Tags        []TagTruth
	Nuclides    []NuclideTruth
	Signals     []SignalTruth
	Documents   []DocumentTruth
	Rates       []RateTruth
}

// Entry is one line of the truth: a *VehicleTruth, *OccupancyTruth,
// *FaultTruth, *StateTruth, *LinkTruth, *PlateTruth, *ScanTruth, *WeightTruth, *TagTruth,
// *SignalTruth, *DocumentTruth, *NuclideTruth or *RateTruth.
type Entry interface {
	// EntryKind is "vehicle", "occupancy", "fault", "state", "link", "plate" and so on.
	EntryKind() string
	// EntryTime is the time of the entry in seconds.
	EntryTime() float64
	// String is the entry in words.
	String() string
}

// VehicleTruth is one vehicle that passed.
type VehicleTruth struct {
	Kind string `json:"kind"`
	Lane string `json:"lane"`
	// Vehicle counts the vehicles of the lane from 1.
	Vehicle int    `json:"vehicle"`
	What    string `json:"what"`
	// EnterS and LeaveS are when it cut the beam first and when it was through
	// at last. For a vehicle beside the portal: when its front and its rear
	// passed it.
	EnterS       float64 `json:"enter_s"`
	LeaveS       float64 `json:"leave_s"`
	LengthM      float64 `json:"length_m"`
	SpeedKPH     float64 `json:"speed_kph"`
	Shielding    float64 `json:"shielding"`
	GammaCPS     float64 `json:"gamma_cps"`
	GammaBroadM  float64 `json:"gamma_broad_m"`
	NeutronCPS   float64 `json:"neutron_cps"`
	StoppedS     float64 `json:"stopped_s"`
	Reverses     bool    `json:"reverses"`
	Beside       bool    `json:"beside"`
	TailgatesOne bool    `json:"tailgates"`
}

// OccupancyTruth is one occupancy as the portal took it. The figures from
// gx_counter to speeds_kph are those that a receiver finds who gets every byte
// intact; they bear the names of the columns in which such figures are
// published.
type OccupancyTruth struct {
	Kind   string `json:"kind"`
	Lane   string `json:"lane"`
	Device string `json:"device"`
	// Occupancy counts the occupancies of the device from 1; it never restarts.
	Occupancy int `json:"occupancy"`
	// Vehicles are those that cut the beam in it.
	Vehicles []int `json:"vehicles"`
	// CutS is when the beam was cut. StartS is when the first NS was sent and
	// EndS when GX was.
	CutS   float64 `json:"cut_s"`
	StartS float64 `json:"start_s"`
	EndS   float64 `json:"end_s"`
	// End is "gx", "power-cycle" or "scenario-end"; only the first has a GX. Of an
	// aspect-portal it is "clear".
	End string `json:"end"`
	// Unit, Direction and Mark are of an aspect-portal: the unit that saw it, the
	// way it went and its wheels. HighestCount is the highest gamma count.
	Unit         int    `json:"unit,omitempty"`
	Direction    string `json:"direction,omitempty"`
	Mark         int    `json:"mark,omitempty"`
	HighestCount int    `json:"highest_count,omitempty"`

	GXCounter           int       `json:"gx_counter"`
	NeutronBgCPS        float64   `json:"neutron_bg_cps"`
	GammaSamples        int       `json:"gamma_samples"`
	GammaAlarmSamples   int       `json:"gamma_alarm_samples"`
	NeutronSamples      int       `json:"neutron_samples"`
	NeutronAlarmSamples int       `json:"neutron_alarm_samples"`
	NeutronCounts       int       `json:"neutron_counts"`
	GammaBgSumCPS       int       `json:"gamma_bg_sum_cps"`
	GammaMax5SampleSum  int       `json:"gamma_max_5sample_sum"`
	GammaMaxNSigma      float64   `json:"gamma_max_nsigma"`
	SpeedRecords        int       `json:"speed_records"`
	SpeedsKPH           []float64 `json:"speeds_kph"`
	GammaAlarm          bool      `json:"gamma_alarm"`
	NeutronAlarm        bool      `json:"neutron_alarm"`

	// BackgroundTag is the tag of the gamma background that the portal used:
	// GB, GH or GL; empty if it had none since it got power, and then there is
	// no gamma alarm and gamma_bg_sum_cps is 0.
	BackgroundTag string `json:"background_tag"`
	// NSigma, Groups and Intervals are the settings of the alarm.
	NSigma    float64  `json:"n_sigma"`
	Groups    []string `json:"groups"`
	Intervals int      `json:"intervals"`
	// SourceInside is true when a vehicle of the occupancy carried a source.
	SourceInside bool `json:"source_inside"`

	// Touched lists what happened to the occupancy's own records on the way.
	Touched []Touch `json:"touched"`
	// TouchedBackground lists what happened to the gamma background records
	// since the last one that went through intact, TouchedSetup to the setup
	// records since the last intact setup.
	TouchedBackground []Touch `json:"touched_background"`
	TouchedSetup      []Touch `json:"touched_setup"`
	// TouchedEnd lists what happened to the end of the occupancy before.
	TouchedEnd []Touch `json:"touched_end"`
}

// Intact reports whether a receiver must agree with every figure: nothing
// happened to the records of the occupancy nor to those that its figures rest
// on, and it ended with GX.
func (o *OccupancyTruth) Intact() bool {
	return o.End == "gx" && len(o.Touched)+len(o.TouchedBackground)+len(o.TouchedSetup)+len(o.TouchedEnd) == 0
}

// Touch says that a fault changed a record, lost it, or held it back for more
// than a second.
type Touch struct {
	// Fault is the kind of the fault; "no-client" means that nobody was
	// connected.
	Fault string  `json:"fault"`
	Tag   string  `json:"tag"`
	AtS   float64 `json:"at_s"`
}

// FaultTruth is one fault that happened.
type FaultTruth struct {
	Kind   string `json:"kind"`
	Lane   string `json:"lane"`
	Device string `json:"device,omitempty"`
	Fault  string `json:"fault"`
	Where  Where  `json:"where"`
	// AtS is when it began, UntilS when it ended; equal for an instant.
	AtS    float64 `json:"at_s"`
	UntilS float64 `json:"until_s"`
	// Effect is what it does, in words.
	Effect string `json:"effect"`
	// Occupancy and Vehicle are those that it touched, 0 for none.
	Occupancy int `json:"occupancy,omitempty"`
	Vehicle   int `json:"vehicle,omitempty"`
	// Detectors and CPS of a detector fault.
	Detectors []int   `json:"detectors,omitempty"`
	CPS       float64 `json:"cps,omitempty"`
	// Tag, Was and Became are the record that a fault of the wire touched, and
	// the bytes that were sent for it, as Go strings.
	Tag    string `json:"tag,omitempty"`
	Was    string `json:"was,omitempty"`
	Became string `json:"became,omitempty"`
	// Setup holds the changed settings of a setup fault.
	Setup *SetupChange `json:"setup,omitempty"`
}

// StateTruth is a change of what a device says about itself.
type StateTruth struct {
	Kind   string  `json:"kind"`
	Lane   string  `json:"lane"`
	Device string  `json:"device"`
	AtS    float64 `json:"at_s"`
	// Subject is "gamma" or "neutron" (background status), "tamper", "power",
	// "setup" or "counter". State is "normal", "high" or "low"; "on" or "clear";
	// "on" or "off"; "reported"; "reset".
	Subject string `json:"subject"`
	State   string `json:"state"`
}

// LinkTruth is what happened on a running simulation's link; it depends on the
// clients and is no part of what Generate gives.
type LinkTruth struct {
	Kind   string  `json:"kind"`
	Lane   string  `json:"lane"`
	Device string  `json:"device"`
	AtS    float64 `json:"at_s"`
	// What is "connected", "disconnected", "refused" or "lost".
	What string `json:"what"`
	// Records is how many records were lost in a row for want of a client.
	Records int `json:"records,omitempty"`
}

// PlateTruth is a plate that a reader had before it, or what became of it.
type PlateTruth struct {
	Kind   string  `json:"kind"`
	Lane   string  `json:"lane"`
	Device string  `json:"device"`
	AtS    float64 `json:"at_s"`
	// Serial counts what the reader saw from 1. Vehicle is whose plate it is.
	Serial  uint64 `json:"serial"`
	Vehicle int    `json:"vehicle"`
	// What is "seen"; "sent" or "resent" once the client has it; "lost"; "barrier" if
	// the host's answer moved the barrier.
	What string `json:"what"`
	// Plate and Country are what the reader made of it.
	Plate   string `json:"plate,omitempty"`
	Country string `json:"country,omitempty"`
	Unread  bool   `json:"unread,omitempty"`
	Trailer bool   `json:"trailer,omitempty"`
}

// EntryKind implements Entry.
func (*PlateTruth) EntryKind() string { return "plate" }

// EntryTime implements Entry.
func (p *PlateTruth) EntryTime() float64 { return p.AtS }

func (p *PlateTruth) String() string {
	switch {
	case p.What != "seen":
		return fmt.Sprintf("%s/%s: read %d %s", p.Lane, p.Device, p.Serial, p.What)
	case p.Unread:
		return fmt.Sprintf("%s/%s: plate not read", p.Lane, p.Device)
	}
	return fmt.Sprintf("%s/%s: plate %s (%s)", p.Lane, p.Device, p.Plate, p.Country)
}

// ScanTruth is a scan that an X-ray scanner made, or what became of it.
type ScanTruth struct {
	Kind    string  `json:"kind"`
	Lane    string  `json:"lane"`
	Device  string  `json:"device"`
	AtS     float64 `json:"at_s"`
	ScanID  string  `json:"scan_id"`
	Vehicle int     `json:"vehicle"`
	// What is "made", and "finished" once all its files are there.
	What  string `json:"what"`
	Plate string `json:"plate,omitempty"`
	// Suspicious: there is something in the load that an operator finds. Training: it is a
	// drill.
	Suspicious bool `json:"suspicious,omitempty"`
	Training   bool `json:"training,omitempty"`
	// Machine and Operator are what they say in their reports: "ALARM", "CLEAR", or "ABORT"
	// of a machine that gave up; empty if there is no report. Mode is what the scan was
	// made for if it was no inspection: "non_operational", "test". Incomplete: the picture
	// does not come to its end, or the scan did not.
	Machine    string `json:"machine,omitempty"`
	Operator   string `json:"operator,omitempty"`
	Mode       string `json:"mode,omitempty"`
	Incomplete bool   `json:"incomplete,omitempty"`
}

// EntryKind implements Entry.
func (*ScanTruth) EntryKind() string { return "scan" }

// EntryTime implements Entry.
func (s *ScanTruth) EntryTime() float64 { return s.AtS }

func (s *ScanTruth) String() string {
	what := s.What
	if s.Suspicious {
		what += ", with something in the load"
	}
	return fmt.Sprintf("%s/%s: scan %s %s", s.Lane, s.Device, s.ScanID, what)
}

// WeightTruth is a vehicle that stood on a scale.
type WeightTruth struct {
	Kind    string  `json:"kind"`
	Lane    string  `json:"lane"`
	Device  string  `json:"device"`
	AtS     float64 `json:"at_s"`
	Vehicle int     `json:"vehicle"`
	// KG is its mass. Overload: the scale could not weigh it.
	KG       float64 `json:"kg"`
	Overload bool    `json:"overload,omitempty"`
}

// EntryKind implements Entry.
func (*WeightTruth) EntryKind() string { return "weight" }

// EntryTime implements Entry.
func (w *WeightTruth) EntryTime() float64 { return w.AtS }

func (w *WeightTruth) String() string {
	return fmt.Sprintf("%s/%s: vehicle %d weighs %.0f kg", w.Lane, w.Device, w.Vehicle, w.KG)
}

// TagTruth is a vehicle whose RFID tag passed a reader.
type TagTruth struct {
	Kind    string  `json:"kind"`
	Lane    string  `json:"lane"`
	Device  string  `json:"device"`
	AtS     float64 `json:"at_s"`
	Vehicle int     `json:"vehicle"`
	// EPC is what is on the tag, in hexadecimal digits.
	EPC string `json:"epc"`
}

// EntryKind implements Entry.
func (*TagTruth) EntryKind() string { return "tag" }

// EntryTime implements Entry.
func (t *TagTruth) EntryTime() float64 { return t.AtS }

func (t *TagTruth) String() string {
	return fmt.Sprintf("%s/%s: vehicle %d has the tag %s", t.Lane, t.Device, t.Vehicle, t.EPC)
}

// NuclideTruth is a vehicle with a source that an instrument with spectra alarmed for.
type NuclideTruth struct {
	Kind    string  `json:"kind"`
	Lane    string  `json:"lane"`
	Device  string  `json:"device"`
	AtS     float64 `json:"at_s"`
	Vehicle int     `json:"vehicle"`
	// Nuclide is what the instrument names, Alarm the category of its alarm.
	Nuclide string `json:"nuclide"`
	Alarm   string `json:"alarm"`
}

// EntryKind implements Entry.
func (*NuclideTruth) EntryKind() string { return "nuclide" }

// EntryTime implements Entry.
func (n *NuclideTruth) EntryTime() float64 { return n.AtS }

func (n *NuclideTruth) String() string {
	return fmt.Sprintf("%s/%s: vehicle %d carries %s", n.Lane, n.Device, n.Vehicle, n.Nuclide)
}

// SignalTruth is a change of one signal of a controller.
type SignalTruth struct {
	Kind   string  `json:"kind"`
	Lane   string  `json:"lane"`
	Device string  `json:"device"`
	AtS    float64 `json:"at_s"`
	// Signal is its name, Value what it became, and Why is the cause in words.
	Signal string  `json:"signal"`
	Value  float64 `json:"value"`
	Why    string  `json:"why"`
}

// EntryKind implements Entry.
func (*SignalTruth) EntryKind() string { return "signal" }

// EntryTime implements Entry.
func (s *SignalTruth) EntryTime() float64 { return s.AtS }

func (s *SignalTruth) String() string {
	return fmt.Sprintf("%s/%s: %s is %g: %s", s.Lane, s.Device, s.Signal, s.Value, s.Why)
}

// EntryKind implements Entry.
func (*VehicleTruth) EntryKind() string { return "vehicle" }

// EntryKind implements Entry.
func (*OccupancyTruth) EntryKind() string { return "occupancy" }

// EntryKind implements Entry.
func (*FaultTruth) EntryKind() string { return "fault" }

// EntryKind implements Entry.
func (*StateTruth) EntryKind() string { return "state" }

// EntryKind implements Entry.
func (*LinkTruth) EntryKind() string { return "link" }

// EntryTime implements Entry.
func (v *VehicleTruth) EntryTime() float64 { return v.EnterS }

// EntryTime implements Entry.
func (o *OccupancyTruth) EntryTime() float64 { return o.EndS }

// EntryTime implements Entry.
func (f *FaultTruth) EntryTime() float64 { return f.AtS }

// EntryTime implements Entry.
func (s *StateTruth) EntryTime() float64 { return s.AtS }

// EntryTime implements Entry.
func (l *LinkTruth) EntryTime() float64 { return l.AtS }

func (v *VehicleTruth) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %.1f m, %.0f km/h", v.Lane, v.What, v.LengthM, v.SpeedKPH)
	if v.GammaCPS > 0 {
		fmt.Fprintf(&b, ", gamma source of %.0f counts/s", v.GammaCPS)
		if v.GammaBroadM > 0 {
			fmt.Fprintf(&b, " over %.0f m", v.GammaBroadM)
		}
	}
	if v.NeutronCPS > 0 {
		fmt.Fprintf(&b, ", neutron source of %.0f counts/s", v.NeutronCPS)
	}
	if v.StoppedS > 0 {
		fmt.Fprintf(&b, ", stops for %.0f s", v.StoppedS)
	}
	for _, s := range []struct {
		on   bool
		text string
	}{{v.Reverses, "drives back once"}, {v.Beside, "beside the portal"}, {v.TailgatesOne, "close behind the one ahead"}} {
		if s.on {
			b.WriteString(", " + s.text)
		}
	}
	return b.String()
}

func (o *OccupancyTruth) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s: occupancy %d, %.1f s, %d gamma samples", o.Lane, o.Device, o.GXCounter, o.EndS-o.StartS, o.GammaSamples)
	if o.GammaAlarm {
		fmt.Fprintf(&b, ", gamma alarm (%.1f sigma)", o.GammaMaxNSigma)
	}
	if o.NeutronAlarm {
		b.WriteString(", neutron alarm")
	}
	if o.End != "gx" {
		b.WriteString(", ended by " + o.End)
	}
	if n := len(o.Touched); n > 0 {
		fmt.Fprintf(&b, ", %d records touched on the way", n)
	}
	return b.String()
}

func (f *FaultTruth) String() string {
	where := f.Lane
	if f.Device != "" {
		where += "/" + f.Device
	}
	s := fmt.Sprintf("%s: fault %s: %s", where, f.Fault, f.Effect)
	if f.UntilS > f.AtS {
		s += fmt.Sprintf(" (%.0f s)", f.UntilS-f.AtS)
	}
	return s
}

func (s *StateTruth) String() string {
	return fmt.Sprintf("%s/%s: %s %s", s.Lane, s.Device, s.Subject, s.State)
}

func (l *LinkTruth) String() string {
	if l.What == "lost" {
		return fmt.Sprintf("%s/%s: %d records lost, nobody connected", l.Lane, l.Device, l.Records)
	}
	return fmt.Sprintf("%s/%s: client %s", l.Lane, l.Device, l.What)
}

// add files an entry.
func (t *Truth) add(e Entry) {
	switch e := e.(type) {
	case *VehicleTruth:
		t.Vehicles = append(t.Vehicles, *e)
	case *OccupancyTruth:
		t.Occupancies = append(t.Occupancies, *e)
	case *FaultTruth:
		t.Faults = append(t.Faults, *e)
	case *StateTruth:
		t.States = append(t.States, *e)
	case *LinkTruth:
		t.Links = append(t.Links, *e)
	case *PlateTruth:
		t.Plates = append(t.Plates, *e)
	case *ScanTruth:
		t.Scans = append(t.Scans, *e)
	case *WeightTruth:
		t.Weights = append(t.Weights, *e)
	case *TagTruth:
		t.Tags = append(t.Tags, *e)
	case *NuclideTruth:
		t.Nuclides = append(t.Nuclides, *e)
	case *SignalTruth:
		t.Signals = append(t.Signals, *e)
	case *DocumentTruth:
		t.Documents = append(t.Documents, *e)
	case *RateTruth:
		t.Rates = append(t.Rates, *e)
	}
}

// Entries lists everything by time.
func (t *Truth) Entries() []Entry {
	var list []Entry
	for i := range t.Vehicles {
		list = append(list, &t.Vehicles[i])
	}
	for i := range t.Occupancies {
		list = append(list, &t.Occupancies[i])
	}
	for i := range t.Faults {
		list = append(list, &t.Faults[i])
	}
	for i := range t.States {
		list = append(list, &t.States[i])
	}
	for i := range t.Links {
		list = append(list, &t.Links[i])
	}
	for i := range t.Plates {
		list = append(list, &t.Plates[i])
	}
	for i := range t.Scans {
		list = append(list, &t.Scans[i])
	}
	for i := range t.Weights {
		list = append(list, &t.Weights[i])
	}
	for i := range t.Tags {
		list = append(list, &t.Tags[i])
	}
	for i := range t.Nuclides {
		list = append(list, &t.Nuclides[i])
	}
	for i := range t.Signals {
		list = append(list, &t.Signals[i])
	}
	for i := range t.Documents {
		list = append(list, &t.Documents[i])
	}
	for i := range t.Rates {
		list = append(list, &t.Rates[i])
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(a.EntryTime(), b.EntryTime()) })
	return list
}

// Device returns the part of the truth that concerns one device: the lane's
// vehicles and faults, and what the device itself did.
func (t *Truth) Device(lane, id string) *Truth {
	var d Truth
	for _, e := range t.Entries() {
		l, dev := "", ""
		switch e := e.(type) {
		case *VehicleTruth:
			l = e.Lane
		case *OccupancyTruth:
			l, dev = e.Lane, e.Device
		case *FaultTruth:
			l, dev = e.Lane, e.Device
		case *StateTruth:
			l, dev = e.Lane, e.Device
		case *LinkTruth:
			l, dev = e.Lane, e.Device
		case *PlateTruth:
			l, dev = e.Lane, e.Device
		case *ScanTruth:
			l, dev = e.Lane, e.Device
		case *WeightTruth:
			l, dev = e.Lane, e.Device
		case *TagTruth:
			l, dev = e.Lane, e.Device
		case *NuclideTruth:
			l, dev = e.Lane, e.Device
		case *SignalTruth:
			l, dev = e.Lane, e.Device
		case *DocumentTruth:
			l, dev = e.Lane, e.Device
		case *RateTruth:
			l, dev = e.Lane, e.Device
		}
		if l == lane && (dev == "" || dev == id) {
			d.add(e)
		}
	}
	return &d
}

// WriteJSON writes one line of JSON for each entry, by time.
func (t *Truth) WriteJSON(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, e := range t.Entries() {
		line, err := entryLine(e)
		if err != nil {
			return err
		}
		if _, err := b.Write(line); err != nil {
			return fmt.Errorf("write the truth: %w", err)
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write the truth: %w", err)
	}
	return nil
}

func entryLine(e Entry) ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode the truth: %w", err)
	}
	return append(line, '\n'), nil
}

// maxTruthLine bounds a line of the truth.
const maxTruthLine = 1 << 20

// ReadTruth reads what WriteJSON or a simulation wrote.
func ReadTruth(r io.Reader) (*Truth, error) {
	t := &Truth{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxTruthLine)
	for n := 1; lines.Scan(); n++ {
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(lines.Bytes(), &kind); err != nil {
			return nil, fmt.Errorf("line %d of the truth: %w", n, err)
		}
		var e Entry
		switch kind.Kind {
		case "vehicle":
			e = &VehicleTruth{}
		case "occupancy":
			e = &OccupancyTruth{}
		case "fault":
			e = &FaultTruth{}
		case "state":
			e = &StateTruth{}
		case "link":
			e = &LinkTruth{}
		case "plate":
			e = &PlateTruth{}
		case "scan":
			e = &ScanTruth{}
		case "weight":
			e = &WeightTruth{}
		case "tag":
			e = &TagTruth{}
		case "nuclide":
			e = &NuclideTruth{}
		case "signal":
			e = &SignalTruth{}
		case "document":
			e = &DocumentTruth{}
		case "rate":
			e = &RateTruth{}
		default:
			return nil, fmt.Errorf("line %d of the truth: %q is no kind of entry", n, kind.Kind)
		}
		if err := json.Unmarshal(lines.Bytes(), e); err != nil {
			return nil, fmt.Errorf("line %d of the truth: %w", n, err)
		}
		t.add(e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the truth: %w", err)
	}
	return t, nil
}

// seconds is a duration as the truth has it, to the millisecond.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}
