package rpm

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// Bounds of what is told of a document.
const (
	maxMeasured   = 200 // measurements in an event
	maxFound      = 64  // nuclides, alarms, faults
	maxPersonal   = 64  // remarks, items, properties
	minDocument   = 1 << 10
	maxDocument   = 32 << 20
	maxThinning   = time.Hour
	maxTold       = 10_000 // documents that are remembered as told
	documentType  = "application/n42+xml"
	maxBroken     = 30 // broken documents that are kept whole in a minute
	sampleOfThose = 512
	maxBrief      = 128 // bytes of a text
	maxRemark     = 512 // of one that is personal
	maxAlarming   = 16  // detectors of an alarm
)

// confidenceScales are what a nuclide's confidence may be a part of.
var confidenceScales = map[string]float64{"fraction": 1, "ten": 10, "percent": 100, "unknown": 0}

// N42Settings are the settings of all instruments that tell documents of N42.
type N42Settings struct {
	// Zone is the zone of the instrument's clock, for times that it tells without one.
	// Empty is UTC.
	Zone string `yaml:"zone"`
	// MonthFirst is for dates like 05/06/2016; otherwise the day is first.
	MonthFirst bool `yaml:"month_first"`
	// MaxDocument bounds a document, in bytes.
	MaxDocument int `yaml:"max_document"`
	// ConfidenceScale says what a nuclide's confidence is a part of, since the standard
	// leaves it open and makers differ: "fraction" (of 1), "ten", "percent" or "unknown".
	ConfidenceScale string `yaml:"confidence_scale"`
}

func defaultN42() N42Settings {
	return N42Settings{MaxDocument: n42.MaxBytes, ConfidenceScale: "unknown"}
}

func (s *N42Settings) check() error {
	if s.MaxDocument < minDocument || s.MaxDocument > maxDocument {
		return fmt.Errorf("max_document: %d; take %d to %d bytes", s.MaxDocument, minDocument, maxDocument)
	}
	if _, ok := confidenceScales[s.ConfidenceScale]; !ok {
		return fmt.Errorf("confidence_scale: %q is not known; there are %s", s.ConfidenceScale, strings.Join(slices.Sorted(maps.Keys(confidenceScales)), ", "))
	}
	_, err := s.location()
	return err
}

func (s *N42Settings) location() (*time.Location, error) {
	if s.Zone == "" {
		return time.UTC, nil
	}
	l, err := time.LoadLocation(s.Zone)
	if err != nil {
		return nil, fmt.Errorf("zone: %q is no time zone that is known; take a name like Europe/Kyiv", s.Zone)
	}
	return l, nil
}

// documents makes events of documents.
type documents struct {
	settings N42Settings
	options  n42.Options
	// broken are when broken documents were kept in the last minute.
	broken []time.Time
}

func newDocuments(s N42Settings) (*documents, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	zone, err := s.location()
	if err != nil {
		return nil, err
	}
	return &documents{settings: s, options: n42.Options{MaxBytes: s.MaxDocument, Zone: zone, MonthFirst: s.MonthFirst}}, nil
}

// arrived is a document that has come.
type arrived struct {
	raw  []byte
	name string
	at   time.Time
	// id is that of the event, for one that was put into the ledger before.
	id       string
	replayed bool
}

// read reads one. The decoder is of the standard library and does not panic by itself.
func (d *documents) read(a arrived) (*n42.Document, error) {
	return n42.Decode(a.raw, d.options)
}

// errFlood says that more broken documents come than are kept.
var errFlood = errors.New("more broken documents come than are kept")

// flooded reports whether as many broken documents came as are kept.
func (d *documents) flooded(now time.Time) bool {
	d.broken = slices.DeleteFunc(d.broken, func(t time.Time) bool { return now.Sub(t) >= time.Minute || now.Before(t) })
	return len(d.broken) >= maxBroken
}

// keepBroken tells of one document that can't be read, with all of it. When too many come
// it gives errFlood, and the document is not kept.
func (d *documents) keepBroken(h drivers.Host, a arrived, why error) error {
	if d.flooded(a.at) {
		return errFlood
	}
	reason := "N42: " + why.Error()
	if a.name != "" {
		reason = "N42, " + word(a.name) + ": " + why.Error()
	}
	sample := event.RawOf(a.raw[:min(len(a.raw), sampleOfThose)])
	sum := sha256.Sum256(a.raw)
	sample.Size, sample.SHA256, sample.Truncated = len(a.raw), hex.EncodeToString(sum[:]), len(a.raw) > sampleOfThose
	o := drivers.Observation{ID: a.id, Time: a.at}
	e := event.DeviceUnparsed{Count: 1, Total: 1, Samples: []event.UnparsedSample{{Time: event.At(a.at), Reason: reason, Raw: sample}}}
	if len(a.raw) > 0 {
		attached := event.NewAttachment(a.raw, "application/octet-stream", word(a.name))
		e.Attachments = []event.Attachment{attached}
		o.Attachments = []drivers.Attachment{{Attachment: attached, Content: a.raw}}
	}
	o.Data = e
	if err := h.Emit(o); err != nil {
		return fmt.Errorf("record a document that can't be read: %w", err)
	}
	d.broken = append(d.broken, a.at)
	return nil
}

// brief is the beginning of a text, so that an event stays within its bound whatever a
// document holds; the document is attached.
func brief(s string) string { return begins(s, maxBrief) }

func begins(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// word is a name without what could disturb a reader.
func word(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\ufffd'
		}
		return r
	}, s[:min(len(s), 255)])
}

// found reports whether a document is told by itself: it has an alarm, the result of an
// analysis, or is of an occupied portal.
func found(d *n42.Document) bool { return d.Alarmed() || d.Outcome() != n42.OutcomeNotAnalysed }

// shared is what both events have.
type shared struct {
	instrument event.RadiationInstrument
	measured   []event.SpectralMeasurement
	cut        bool
	faults     []event.InstrumentFault
	flags      []string
	document   event.SpectralDocument
	attached   event.Attachment
	private    *event.RadiationPrivate
	from, to   time.Time
}

// tell makes the event of a document. count and interval are of the thinning.
func (d *documents) tell(h drivers.Host, a arrived, doc *n42.Document, spectrum event.RadiationSpectrum) error {
	x, err := d.shared(a, doc)
	if err != nil {
		return err
	}
	o := drivers.Observation{
		ID: a.id, Time: a.at, DeviceTime: x.from, Attachments: []drivers.Attachment{{Attachment: x.attached, Content: a.raw}},
	}
	if !found(doc) {
		e := spectrum
		e.Occupied, e.Replayed, e.Instrument, e.Measurements, e.MeasurementsTruncated = doc.Occupied(), a.replayed, x.instrument, x.measured, x.cut
		e.Faults, e.Flags, e.Document, e.Attachments, e.Private = x.faults, x.flags, x.document, []event.Attachment{x.attached}, x.private
		o.Data = e
	} else {
		e := event.RadiationIdentification{
			IdentificationID: a.id, Outcome: string(doc.Outcome()), Alarms: []event.InstrumentAlarm{}, Nuclides: []event.Nuclide{},
			Occupied: doc.Occupied(), OccupancyRef: brief(occupancyRef(doc)), Replayed: a.replayed, Instrument: x.instrument,
			Measurements: x.measured, MeasurementsTruncated: x.cut, Faults: x.faults, Flags: x.flags,
			Document: x.document, Attachments: []event.Attachment{x.attached}, Private: x.private,
		}
		if e.IdentificationID == "" {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make an id: %w", err)
			}
			e.IdentificationID = id.String()
		}
		if !x.from.IsZero() {
			from, to := event.At(x.from), event.At(x.to)
			e.MeasuredFromTS, e.MeasuredToTS = &from, &to
		}
		d.findings(&e, doc)
		o.Data, o.Subject = e, e.IdentificationID
	}
	if err := h.Emit(o); err != nil {
		err = fmt.Errorf("record %s: %w", o.Data.Type(), err)
		if errors.Is(err, drivers.ErrUnrecordable) {
			return d.keepBroken(h, a, err) // the document has what its event can't tell
		}
		return err
	}
	return nil
}

// flagFindingsCut tells that there are more alarms or nuclides than the event has.
const flagFindingsCut = "findings_cut"

// findings are the alarms and nuclides of a document.
func (d *documents) findings(e *event.RadiationIdentification, doc *n42.Document) {
	scale := d.settings.ConfidenceScale
	cut := false
	// Where there are more nuclides than an event has room for, those that are not
	// identified are left out first.
	names, identified := 0, 0
	is := func(n *n42.Nuclide) bool { return n.Indicator == nil || *n.Indicator }
	for i := range doc.Analyses {
		for j := range doc.Analyses[i].Nuclides {
			names++
			if is(&doc.Analyses[i].Nuclides[j]) {
				identified++
			}
		}
	}
	others := maxFound
	if names > maxFound {
		others, cut = max(0, maxFound-identified), true
	}
	for i := range doc.Analyses {
		for _, x := range doc.Analyses[i].Alarms {
			if len(e.Alarms) == maxFound {
				cut = true
				break
			}
			detectors := []string{}
			for _, id := range x.Detectors[:min(len(x.Detectors), maxAlarming)] {
				detectors = append(detectors, brief(id))
			}
			e.Alarms = append(e.Alarms, event.InstrumentAlarm{Category: brief(x.Category), Description: brief(x.Description), Light: brief(x.Light), Detectors: detectors})
		}
		for _, x := range doc.Analyses[i].Nuclides {
			if !is(&x) {
				if others == 0 {
					continue
				}
				others--
			}
			if len(e.Nuclides) == maxFound {
				break
			}
			n := event.Nuclide{
				Name: brief(x.Name), Identified: x.Indicator, ConfidenceRaw: brief(x.Confidence), ConfidenceText: brief(x.ConfidenceText), ConfidenceScale: scale,
				Category: brief(x.Category), ActivityBq: x.ActivityBq, ActivityRaw: brief(strings.TrimSpace(x.Activity + " " + x.ActivityUnit)),
			}
			if v, err := strconv.ParseFloat(x.Confidence, 64); err == nil && confidenceScales[scale] > 0 {
				if v /= confidenceScales[scale]; v >= 0 && v <= 1 {
					n.Confidence = &v
				}
			}
			e.Nuclides = append(e.Nuclides, n)
		}
	}
	if cut {
		e.Flags = append(e.Flags, flagFindingsCut)
	}
}

// occupancyRef is the instrument's name of the passage.
func occupancyRef(doc *n42.Document) string {
	if x := analysedIn(doc); x != nil {
		if len(x.groups) > 0 {
			return x.groups[0]
		}
		for i := range doc.Measurements {
			if m := &doc.Measurements[i]; len(m.Groups) > 0 && timed(m) && x.about(m) {
				return m.Groups[0]
			}
		}
	}
	for i := range doc.Measurements {
		m := &doc.Measurements[i]
		if len(m.Groups) > 0 && m.Class != n42.Background {
			return m.Groups[0]
		}
	}
	for i := range doc.Measurements {
		if m := &doc.Measurements[i]; len(m.Groups) > 0 && m.Occupied != nil && *m.Occupied {
			return m.Groups[0]
		}
	}
	return doc.EventNumber
}

func (d *documents) shared(a arrived, doc *n42.Document) (*shared, error) {
	var random [event.MinSalt]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("make a salt: %w", err)
	}
	i := doc.Instrument
	x := &shared{
		instrument: event.RadiationInstrument{Manufacturer: brief(i.Manufacturer), Model: brief(i.Model), Serial: brief(i.Serial), ClassRaw: brief(i.Class)},
		measured:   []event.SpectralMeasurement{}, faults: []event.InstrumentFault{}, flags: []string{},
		attached: event.NewAttachment(a.raw, documentType, word(a.name)),
		private:  &event.RadiationPrivate{Salt: event.Salt(random), Remarks: []string{}, Items: []event.Property{}, Properties: []event.Property{}},
	}
	x.document = event.SpectralDocument{
		Format: "n42-" + string(doc.Generation), UUID: brief(doc.UUID), Name: word(a.name), Size: len(a.raw), SHA256: x.attached.SHA256, Wrapper: brief(doc.Wrapper),
	}
	for _, v := range i.Versions {
		if strings.EqualFold(v.Component, "software") || strings.EqualFold(v.Component, "firmware") {
			x.instrument.Software = brief(v.Version)
			break
		}
	}
	for _, f := range doc.Flags {
		if !slices.Contains(x.flags, f.Code) {
			x.flags = append(x.flags, f.Code)
		}
	}
	categories := map[string]string{}
	for _, d := range doc.Detectors {
		categories[d.ID] = d.Category
	}
	x.fault(doc.Faults)
	result := analysedIn(doc)
	for i := range doc.Measurements {
		m := &doc.Measurements[i]
		x.measurement(m, categories)
		if result == nil || result.about(m) {
			x.span(m)
		}
	}
	x.personal(doc)
	return x, nil
}

// fault takes faults, each once.
func (x *shared) fault(list []n42.Fault) {
	for _, f := range list {
		v := event.InstrumentFault{Code: brief(f.Code), Severity: brief(f.Severity), Description: brief(f.Description)}
		if len(x.faults) < maxFound && !slices.Contains(x.faults, v) {
			x.faults = append(x.faults, v)
		}
	}
}

// span takes the time of a measurement.
func (x *shared) span(m *n42.Measurement) {
	if timed(m) {
		end := m.Start.At
		if m.Real.Known {
			end = end.Add(time.Duration(m.Real.Seconds * float64(time.Second)))
			if end.Year() > lastYear {
				end = m.Start.At // no event can have such a time
			}
		}
		if x.from.IsZero() || m.Start.At.Before(x.from) {
			x.from = m.Start.At
		}
		if end.After(x.to) {
			x.to = end
		}
	}
}

// analysed is what analyses are about.
type analysed struct {
	groups []string
	in     map[string]bool // ids of measurements, and of groups behind a space
}

func (a *analysed) about(m *n42.Measurement) bool {
	return m.ID != "" && a.in[m.ID] || slices.ContainsFunc(m.Groups, func(id string) bool { return a.in[" "+id] })
}

// timed reports whether a measurement tells when something was measured that is no
// background.
func timed(m *n42.Measurement) bool {
	return !m.Start.At.IsZero() && (m.Class != n42.Background || m.Occupied != nil && *m.Occupied) && m.Class != n42.Calibration && m.Class != n42.IntrinsicActivity
}

// analysedIn is what the analyses are about that found something, or all of them if none did;
// nil if they do not say which of the measurements that is.
func analysedIn(doc *n42.Document) *analysed {
	for _, found := range []bool{true, false} {
		x := analysed{in: map[string]bool{}}
		for i := range doc.Analyses {
			a := &doc.Analyses[i]
			if found && len(a.Alarms) == 0 && !slices.ContainsFunc(a.Nuclides, func(n n42.Nuclide) bool { return n.Indicator == nil || *n.Indicator }) {
				continue
			}
			for _, id := range a.Measurements {
				x.in[id] = true
			}
			for _, id := range a.Groups {
				x.in[" "+id] = true
			}
			x.groups = append(x.groups, a.Groups...)
		}
		if slices.ContainsFunc(doc.Measurements, func(m n42.Measurement) bool { return timed(&m) && x.about(&m) }) {
			return &x
		}
	}
	return nil
}

// measurement takes one measurement.
func (x *shared) measurement(m *n42.Measurement, categories map[string]string) {
	x.fault(m.Faults)
	x.battery(m.Properties)
	base := event.SpectralMeasurement{ID: brief(m.ID), Class: brief(m.Class), Occupied: m.Occupied, Derived: m.Derived, RealS: seconds(m.Real)}
	if !m.Start.At.IsZero() {
		at := event.At(m.Start.At)
		base.StartTS = &at
	}
	add := func(kind, detector string, live n42.Duration, counts []float64, total float64) *event.SpectralMeasurement {
		if len(x.measured) == maxMeasured {
			x.cut = true
			return &event.SpectralMeasurement{}
		}
		v := base
		v.Kind, v.Detector, v.Category, v.LiveS, v.Channels = kind, brief(detector), brief(categories[detector]), seconds(live), len(counts)
		if counts != nil {
			v.TotalCounts = &total
			if cps, ok := n42.Rate(total, live); ok {
				v.CPS = &cps
			}
		}
		x.measured = append(x.measured, v)
		return &x.measured[len(x.measured)-1]
	}
	for i := range m.Spectra {
		s := &m.Spectra[i]
		v := add("spectrum", s.Detector, s.Live, s.Counts, s.Total())
		if v.RealS == nil {
			v.RealS = seconds(s.Real)
		}
	}
	for i := range m.Counts {
		g := &m.Counts[i]
		add("counts", g.Detector, g.Live, g.Counts, g.Total())
	}
	for i := range m.DoseRates {
		r := &m.DoseRates[i]
		v := add("dose_rate", r.Detector, n42.Duration{}, nil, 0)
		v.DoseRateUSVH, v.DoseRateRaw = r.MicroSvH, brief(strings.TrimSpace(r.Raw+" "+r.Unit))
	}
}

func seconds(d n42.Duration) *float64 {
	if !d.Known {
		return nil
	}
	v := d.Seconds
	return &v
}

// lastYear is the last one of an event's times.
const lastYear = 9998

// battery takes the charge of the battery, which some call a characteristic.
func (x *shared) battery(list []n42.Characteristic) {
	for _, c := range list {
		name := strings.ReplaceAll(strings.ToLower(c.Name), " ", "")
		if v, err := strconv.ParseFloat(c.Value, 64); err == nil && name == "batterycharge" && v >= 0 && v <= 100 {
			x.instrument.BatteryPercent = &v
		}
	}
}

// personal takes what is personal.
func (x *shared) personal(doc *n42.Document) {
	p := x.private
	remark := func(list []string) {
		for _, r := range list {
			if len(p.Remarks) < maxPersonal {
				p.Remarks = append(p.Remarks, begins(r, maxRemark))
			}
		}
	}
	property := func(to *[]event.Property, name, value string) {
		if value != "" && len(*to) < maxPersonal {
			*to = append(*to, event.Property{Name: brief(name), Value: begins(value, maxRemark)})
		}
	}
	remark(doc.Remarks)
	for i := range doc.Analyses {
		remark(doc.Analyses[i].Remarks)
		for _, a := range doc.Analyses[i].Alarms {
			remark(a.Remarks)
		}
	}
	for _, item := range doc.Items {
		property(&p.Items, "description", item.Description)
		for _, c := range item.Characteristics {
			property(&p.Items, c.Name, c.Value)
		}
	}
	x.battery(doc.Instrument.Characteristics)
	property(&p.Properties, "description", doc.Instrument.Description)
	for _, c := range doc.Instrument.Characteristics {
		property(&p.Properties, c.Name, c.Value)
	}
	for i := range doc.Measurements {
		m := &doc.Measurements[i]
		remark(m.Remarks)
		if m.Latitude != nil && m.Longitude != nil && *m.Latitude >= -90 && *m.Latitude <= 90 && *m.Longitude >= -180 && *m.Longitude <= 180 {
			p.Latitude, p.Longitude = m.Latitude, m.Longitude
		}
	}
}
