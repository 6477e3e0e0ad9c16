package own

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/anpr"
	"github.com/lanepost/lanepost/drivers/lane"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/grammar"
	"github.com/lanepost/lanepost/protocol/llrp"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/ratemeter"
	"github.com/lanepost/lanepost/protocol/scale"
)

// What records can tell.
const (
	radiation = "radiation"
	weight    = "weight"
	plates    = "plate"
	tag       = "tag"
	signals   = "signals"
)

// alarms and faults are the fields that tell those of a radiation instrument.
var alarms = map[string]ratemeter.Alarm{
	"alarm":         {Kind: ratemeter.Threshold},
	"alarm_gamma":   {Kind: ratemeter.Threshold, Channel: ratemeter.Gamma},
	"alarm_neutron": {Kind: ratemeter.Threshold, Channel: ratemeter.Neutron},
	"alarm_low":     {Kind: ratemeter.Low},
	"alarm_high":    {Kind: ratemeter.High},
}

var faults = map[string]string{
	"fault": ratemeter.Failure, "fault_detector": ratemeter.Detector, "battery_low": ratemeter.BatteryLow, "no_external_power": ratemeter.ExternalPower,
}

const (
	overload   = "overload"
	instrument = "instrument"
	stable     = "stable"
	underload  = "underload"
	netWeight  = "net"
	tare       = "tare"
	recordID   = "record_id"
	noRead     = "no_read"
	speed      = "speed"
	deviceTime = "time"
	antenna    = "antenna"
	rssi       = "rssi"
)

// plateTexts are the texts of a plate reader, and where they go.
var plateTexts = map[string]func(*anpr.Reading) *string{
	plates:          func(r *anpr.Reading) *string { return &r.Plate },
	"confidence":    func(r *anpr.Reading) *string { return &r.Confidence },
	"country":       func(r *anpr.Reading) *string { return &r.Country },
	"direction":     func(r *anpr.Reading) *string { return &r.Direction },
	"plate_type":    func(r *anpr.Reading) *string { return &r.PlateType },
	"plate_color":   func(r *anpr.Reading) *string { return &r.PlateColor },
	"list":          func(r *anpr.Reading) *string { return &r.VehicleList },
	"trigger":       func(r *anpr.Reading) *string { return &r.Trigger },
	"id":            func(r *anpr.Reading) *string { return &r.VendorEventID },
	"camera":        func(r *anpr.Reading) *string { return &r.Reader.Camera },
	"lane":          func(r *anpr.Reading) *string { return &r.Reader.Lane },
	"model":         func(r *anpr.Reading) *string { return &r.Reader.Model },
	"serial":        func(r *anpr.Reading) *string { return &r.Reader.Serial },
	"vehicle_type":  func(r *anpr.Reading) *string { return &r.Vehicle.Type },
	"vehicle_color": func(r *anpr.Reading) *string { return &r.Vehicle.Color },
}

// targets are the fields of what records tell; signals have names of their own.
func targets(tells string) map[string]grammar.Target {
	number := func(quantities ...string) grammar.Target { return grammar.Target{Quantities: quantities} }
	flag, text := grammar.Target{Use: grammar.Flag}, grammar.Target{Use: grammar.Text}
	list := map[string]grammar.Target{}
	switch tells {
	case radiation:
		for _, c := range ratemeter.Channels() {
			list[c] = number(grammar.DoseRate, grammar.CountRate)
		}
		list[ratemeter.Dose] = number(grammar.DoseRate)
		for name := range alarms {
			list[name] = flag
		}
		for name := range faults {
			list[name] = flag
		}
		list[overload], list[instrument] = flag, text
	case weight:
		list[weight], list[tare] = number(grammar.Weight), number(grammar.Weight)
		list[stable], list[netWeight], list[overload], list[underload], list[recordID] = flag, flag, flag, flag, text
	case plates:
		for name := range plateTexts {
			list[name] = text
		}
		list[noRead], list[speed], list[deviceTime] = flag, number(grammar.Speed), grammar.Target{Use: grammar.Time}
	case tag:
		list[tag], list[antenna], list[rssi] = grammar.Target{Use: grammar.Bytes}, number(), number()
		list[deviceTime] = grammar.Target{Use: grammar.Time}
	}
	return list
}

// vocabularies are what records can tell.
func vocabularies() map[string]grammar.Vocabulary {
	all := map[string]grammar.Vocabulary{signals: {Target: signalTarget}}
	for tells, needs := range map[string][][]string{radiation: nil, weight: {{weight}}, plates: {{plates}}, tag: {{tag}}} {
		list := targets(tells)
		all[tells] = grammar.Vocabulary{Needs: needs, Target: func(name string, f grammar.Field) (grammar.Target, error) {
			t, known := list[name]
			if !known {
				hint := "there are " + strings.Join(sortedNames(list), ", ")
				if near := link.Nearest(name, sortedNames(list)); near != "" {
					hint = fmt.Sprintf("did you mean %s?", near)
				}
				return t, fmt.Errorf("%s tells nothing of this name; %s", tells, hint)
			}
			return t, onlySignals(f)
		}}
	}
	return all
}

func onlySignals(f grammar.Field) error {
	switch {
	case f.Kind != "":
		return errors.New("kind: it is for signals of your own; take it out")
	case f.Deadband != 0:
		return errors.New("deadband: it is for signals that are numbers; take it out")
	}
	return nil
}

func signalTarget(name string, f grammar.Field) (grammar.Target, error) {
	_, binary, err := lane.SignalKind(name, f.Kind)
	switch {
	case err != nil:
		return grammar.Target{}, err
	case binary && f.Deadband != 0:
		return grammar.Target{}, errors.New("deadband: it is for numbers; take it out")
	case f.Deadband < 0 || math.IsNaN(f.Deadband):
		return grammar.Target{}, fmt.Errorf("deadband: %g; take 0 or more", f.Deadband)
	case binary:
		return grammar.Target{Use: grammar.Flag}, nil
	}
	return grammar.Target{}, nil
}

// teller makes events of records.
type teller struct {
	rates     *rpm.Rates
	weighings *lane.Weighings
	tags      *lane.Tags
	signals   *lane.ToldSignals
	recorder  *anpr.Recorder

	format *grammar.Format
	units  map[string]string // of the channels, as the settings have them
	// flags are the alarms and faults that the instrument can tell, mapped those that are
	// alarms; known is what it has told of them in this connection, and over the values that
	// were more than it could measure when it last told them, in whatever connection.
	flags, mapped []string
	known, over   map[string]bool
}

var vendorForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// compile checks the settings of the events that there can be.
func (t *teller) compile(s Settings, f *grammar.Format) (err error) {
	t.format = f
	if names := f.Kinds(radiation); len(names) > 0 {
		if err := t.compileRadiation(s, names); err != nil {
			return err
		}
	}
	if len(f.Kinds(weight)) > 0 {
		if t.weighings, err = lane.NewWeighings(s.Weight); err != nil {
			return fmt.Errorf("weight: %w", err)
		}
	}
	if len(f.Kinds(tag)) > 0 {
		if t.tags, err = lane.NewTags(s.Tags); err != nil {
			return fmt.Errorf("tags: %w", err)
		}
	}
	if len(f.Kinds(plates)) > 0 {
		if err := s.Plates.Check(); err != nil {
			return fmt.Errorf("plates: %w", err)
		}
		if s.Plates.Zone != "" {
			return grammar.Wrong("plates: zone", "it is zone beside framing for this driver", "take it out, and set zone there")
		}
		if s.Plates.CodePage != "" {
			return grammar.Wrong("plates: code_page", "it is encoding for this driver", "take it out, and set encoding beside framing")
		}
		if !vendorForm.MatchString(s.Plates.Vendor) {
			return grammar.Wrong("plates: vendor", "it is no word", "take small letters, digits and dashes, 40 at most")
		}
		// Words of the field say it in ours.
		directions := map[string]string{}
		for _, d := range []string{"toward", "away", "left", "right"} {
			directions[d] = d
		}
		maps.Copy(directions, s.Plates.Directions)
		s.Plates.Directions = directions
		t.recorder = anpr.NewRecorder(plate.Vendor(s.Plates.Vendor), s.Plates.Settings)
	}
	told := map[string]lane.ToldSignal{}
	for _, k := range s.Records {
		if k.Tells != signals {
			continue
		}
		for _, name := range f.Fields(k.Name) {
			if _, twice := told[name]; twice && told[name].Kind != k.Fields[name].Kind {
				return grammar.Wrong("records: "+k.Name+": fields: "+name, "another record says another kind", "write the same kind in both")
			}
			told[name] = lane.ToldSignal{Kind: k.Fields[name].Kind, Deadband: k.Fields[name].Deadband}
		}
	}
	if len(told) > 0 {
		if t.signals, err = lane.NewToldSignals(told, s.Signals.ReportEvery); err != nil {
			return fmt.Errorf("signals: %w", err)
		}
	}
	return nil
}

func (t *teller) compileRadiation(s Settings, names []string) (err error) {
	if t.rates, err = rpm.NewRates(s.Radiation.RatesSettings); err != nil {
		return fmt.Errorf("radiation: %w", err)
	}
	t.units, t.over = map[string]string{}, map[string]bool{}
	for _, k := range s.Records {
		for _, name := range t.format.Fields(k.Name) {
			if _, isAlarm := alarms[name]; isAlarm && k.Tells == radiation && !slices.Contains(t.mapped, name) {
				t.mapped = append(t.mapped, name)
			}
			if _, isFault := faults[name]; isFault && k.Tells == radiation && !slices.Contains(t.flags, name) {
				t.flags = append(t.flags, name)
			}
			if k.Tells == radiation && slices.Contains(ratemeter.Channels(), name) {
				t.units[name] = k.Fields[name].Unit
			}
		}
	}
	t.flags = append(t.flags, t.mapped...)
	r := s.Radiation
	switch {
	case len(t.units) == 0:
		return grammar.Wrong("records: "+names[0], "no record tells a value of radiation", "add one of "+strings.Join(ratemeter.Channels(), ", ")+" to the fields")
	case r.Alarms != "" && r.Alarms != "not_told":
		return grammar.Wrong("radiation: alarms", fmt.Sprintf("%q", r.Alarms), "take not_told, or take it out")
	case r.Alarms != "" && len(t.mapped) > 0:
		return grammar.Wrong("radiation: alarms", "the records tell alarms", "take it out")
	case r.Alarms == "" && len(t.mapped) == 0 && r.AlarmAboveUSvH == 0 && r.AlarmAboveCPS == 0:
		return grammar.Wrong("records: "+names[0], "nothing would ever alarm", "add one of the fields "+strings.Join(sortedNames(alarms), ", ")+
			", or set radiation: {alarm_above_usvh: ...}; if the instrument does not tell its alarms, say so with radiation: {alarms: not_told}")
	}
	return nil
}

// begin begins a connection.
func (t *teller) begin(h drivers.Host) {
	t.known = map[string]bool{}
	if t.rates != nil {
		t.rates.Begin(h)
		if len(t.over) == 0 && t.rates.Overloaded() { // when the agent ran last: each value must be told anew
			for name := range t.units {
				t.over[name] = true
			}
		}
	}
	if t.signals != nil {
		t.signals.Begin()
	}
}

// end tells what is held, and gives the reason back.
func (t *teller) end(h drivers.Host, reason error) error {
	if t.rates != nil {
		reason = t.rates.End(reason)
	}
	if t.weighings != nil {
		reason = t.weighings.End(h, reason)
	}
	if t.tags != nil {
		reason = t.tags.End(h, reason)
	}
	if t.signals != nil {
		reason = t.signals.End(h, reason)
	}
	return reason
}

func (t *teller) tick(h drivers.Host) error {
	if t.rates != nil {
		if err := t.rates.Tick(); err != nil {
			return err
		}
	}
	if t.tags != nil {
		if err := t.tags.Tick(h); err != nil {
			return err
		}
	}
	if t.signals != nil {
		return t.signals.Tick(h)
	}
	return nil
}

func (t *teller) due() (at time.Time) {
	if t.rates != nil {
		at = t.rates.Due()
	}
	if t.tags != nil {
		at = drivers.Sooner(at, t.tags.Due())
	}
	if t.signals != nil {
		at = drivers.Sooner(at, t.signals.Due())
	}
	return at
}

// unreadable takes that a record could not be read: what it should have told is not known.
func (t *teller) unreadable(h drivers.Host, m grammar.Message) error {
	switch m.Tells {
	case radiation:
		for _, name := range t.format.Fields(m.Kind) {
			delete(t.known, name)
		}
		t.damaged()
	case signals:
		return t.signals.Unknown(h, t.format.Fields(m.Kind), m.Failure.Error())
	case "":
		t.damaged()
	}
	return nil
}

// damaged takes that something came of which nobody knows what it told: perhaps an alarm.
func (t *teller) damaged() {
	if len(t.mapped) > 0 {
		t.rates.AlarmsUnknown()
	}
}

// tell takes a record.
func (t *teller) tell(h drivers.Host, m grammar.Message, frame []byte) error {
	switch m.Tells {
	case radiation:
		return t.radiation(m.Values, frame)
	case weight:
		return t.weighings.Take(h, weightOf(m.Values), frame)
	case plates:
		return t.plate(h, m.Values, frame)
	case tag:
		return t.tag(h, m.Values)
	case signals:
		return t.signal(h, m)
	}
	return nil
}

func (t *teller) radiation(values map[string]grammar.Value, frame []byte) error {
	r := ratemeter.Reading{ID: values[instrument].Text, Status: true}
	channels, missing := 0, 0
	for _, name := range ratemeter.Channels() {
		v, there := values[name]
		if !there {
			continue
		}
		channels++
		if !v.Missing { // what was too much is not known to be less
			t.over[name] = v.Over
		}
		switch {
		case v.Missing:
			missing++
		case !v.Over:
			unit := v.Unit
			if t.units[name] != "" {
				unit = t.units[name]
			}
			r.Values = append(r.Values, ratemeter.Value{Channel: name, Value: v.Number, Unit: v.Unit, Text: v.Raw, UnitText: unit})
		}
	}
	r.NoValue = channels > 0 && missing == channels
	if v, there := values[overload]; there {
		if !v.Missing {
			t.over[overload] = v.Flag
		}
		r.NoValue = r.NoValue || v.Missing // perhaps it is more than can be measured
	}
	for name, over := range t.over {
		// Another channel that is over range says nothing of this record's; but neither is that over.
		if _, here := values[name]; here || name == overload {
			r.Over = r.Over || over
		} else {
			r.Partial = r.Partial || over
		}
	}
	if r.Over || r.NoValue {
		r.Values = nil
	}
	for _, name := range t.flags {
		v, there := values[name]
		switch {
		case !there:
		case v.Missing:
			delete(t.known, name)
		default:
			t.known[name] = v.Flag
		}
	}
	alarmsKnown := len(t.mapped) > 0
	for _, name := range t.flags {
		stands, known := t.known[name]
		alarm, isAlarm := alarms[name]
		switch {
		case !known:
			r.Partial = true // what it does not tell is not over
			alarmsKnown = alarmsKnown && !isAlarm
		case stands && isAlarm:
			r.Alarms = append(r.Alarms, alarm)
		case stands:
			r.Faults = append(r.Faults, ratemeter.Fault{Kind: faults[name]})
		}
	}
	return t.rates.Take(r, alarmsKnown, frame)
}

func weightOf(values map[string]grammar.Value) scale.Reading {
	w := values[weight]
	r := scale.Reading{
		Value: w.Number, Unit: w.Unit, NoValue: w.Missing,
		Over: w.Over || values[overload].Flag, Under: values[underload].Flag, Net: values[netWeight].Flag, Record: values[recordID].Text,
	}
	if v, there := values[stable]; there && !v.Missing {
		r.Motion = scale.Moving
		if v.Flag {
			r.Motion = scale.Stable
		}
	}
	if v, there := values[tare]; there && !v.Missing && !v.Over && !w.Missing {
		r.Tare, r.HasTare = scale.KG(v.Number, v.Unit, "kg")/scale.KG(1, w.Unit, "kg"), true
	}
	// Where it is not known whether it is overloaded, or the tare is off, the weight is not
	// believed.
	for _, name := range []string{overload, underload, netWeight} {
		r.NoValue = r.NoValue || values[name].Missing
	}
	return r
}

func (t *teller) plate(h drivers.Host, values map[string]grammar.Value, frame []byte) error {
	r := anpr.Reading{Raw: bytes.Clone(frame), Vehicle: &event.PlateVehicle{}}
	for name, into := range plateTexts {
		if v, there := values[name]; there && !v.Missing {
			*into(&r) = v.Text
		}
	}
	r.NoPlate = values[plates].Missing || values[noRead].Flag
	if v, there := values[speed]; there && !v.Missing && !v.Over {
		if kph, ok := grammar.Convert(v.Number, v.Unit, "km/h"); ok {
			r.Vehicle.SpeedKPH = &kph
		}
	}
	if *r.Vehicle == (event.PlateVehicle{}) {
		r.Vehicle = nil
	}
	if v, there := values[deviceTime]; there && !v.Missing {
		r.DeviceTime, r.TimeSource = v.Time, event.TimeFromDeviceZone
		if v.Zoned {
			r.TimeSource = event.TimeFromDevice
		}
	}
	return t.recorder.Record(h, r)
}

func (t *teller) tag(h drivers.Host, values map[string]grammar.Value) error {
	v := values[tag]
	if v.Missing {
		return nil
	}
	x := llrp.Tag{EPC: v.Bytes, FirstSeen: values[deviceTime].Time}
	if a, there := values[antenna]; there && !a.Missing && a.Number >= 1 && a.Number <= 65535 {
		x.Antenna = uint16(a.Number)
	}
	if s, there := values[rssi]; there && !s.Missing && s.Number >= -128 && s.Number <= 127 {
		x.RSSI, x.HasRSSI = int8(s.Number), true
	}
	return t.tags.Take(h, x)
}

func (t *teller) signal(h drivers.Host, m grammar.Message) error {
	for _, name := range t.format.Fields(m.Kind) {
		v, there := m.Values[name]
		if !there {
			continue // it need not be told each time
		}
		if v.Missing || v.Over {
			if err := t.signals.Unknown(h, []string{name}, "the device itself says that it does not know"); err != nil {
				return err
			}
			continue
		}
		number := v.Number
		if v.Flag {
			number = 1
		}
		if err := t.signals.Tell(h, name, number); err != nil {
			return err
		}
	}
	return nil
}
