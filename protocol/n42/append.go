package n42

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	namespace2012 = "http://physics.nist.gov/N42/2011/N42"
	timeForm      = "2006-01-02T15:04:05.999Z07:00"
)

var ncName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// writer writes elements with their indents.
type writer struct {
	b     []byte
	depth int
	ids   map[string]string // what each id is of
	err   error
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("write N42: "+format, args...)
	}
}

func (w *writer) start(name string, attrs ...string) {
	w.b = append(w.b, strings.Repeat("  ", w.depth)...)
	w.b = append(w.b, '<')
	w.b = append(w.b, name...)
	for i := 0; i+1 < len(attrs); i += 2 {
		if attrs[i+1] == "" {
			continue
		}
		w.b = append(w.b, ' ')
		w.b = append(w.b, attrs[i]...)
		w.b = append(w.b, '=', '"')
		w.escape(attrs[i+1])
		w.b = append(w.b, '"')
	}
}

func (w *writer) open(name string, attrs ...string) {
	w.start(name, attrs...)
	w.b = append(w.b, ">\n"...)
	w.depth++
}

func (w *writer) close(name string) {
	w.depth--
	w.b = append(w.b, strings.Repeat("  ", w.depth)...)
	w.b = append(w.b, "</"...)
	w.b = append(w.b, name...)
	w.b = append(w.b, ">\n"...)
}

func (w *writer) escape(s string) {
	var out bytes.Buffer
	if err := xml.EscapeText(&out, []byte(s)); err != nil {
		w.fail("%w", err)
	}
	w.b = append(w.b, out.Bytes()...)
}

// leaf writes an element of text.
func (w *writer) leaf(name, text string, attrs ...string) {
	w.start(name, attrs...)
	w.b = append(w.b, '>')
	w.escape(text)
	w.b = append(w.b, "</"...)
	w.b = append(w.b, name...)
	w.b = append(w.b, ">\n"...)
}

// option writes an element of text, if there is any.
func (w *writer) option(name, text string, attrs ...string) {
	if text != "" {
		w.leaf(name, text, attrs...)
	}
}

// must writes an element that has to be there.
func (w *writer) must(where, name, text string) {
	if text == "" {
		w.fail("%s has no %s", where, name)
	}
	w.leaf(name, text)
}

// id checks an id of the document, which has to be a name of XML and be there once.
func (w *writer) id(what, id string) string {
	switch {
	case !ncName.MatchString(id):
		w.fail("the id %q of a %s is no name of XML", id, what)
	case w.ids[id] != "":
		w.fail("the id %q is there twice", id)
	}
	w.ids[id] = what
	return id
}

// ref checks a reference to what was written before.
func (w *writer) ref(what, id string) string {
	if w.ids[id] != what {
		w.fail("%q is the id of no %s", id, what)
	}
	return id
}

// optional checks a reference that may be left out.
func (w *writer) optional(what, id string) string {
	if id == "" {
		return ""
	}
	return w.ref(what, id)
}

func (w *writer) refs(what string, ids []string) string {
	for _, id := range ids {
		w.ref(what, id)
	}
	return strings.Join(ids, " ")
}

func number2(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func numbers(list []float64) string {
	var b []byte
	for i, v := range list {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendFloat(b, v, 'f', -1, 64)
	}
	return string(b)
}

// FormatDuration writes a duration.
func FormatDuration(seconds float64) string {
	return "PT" + strconv.FormatFloat(seconds, 'f', -1, 64) + "S"
}

// AppendCountedZeroes appends counts, with runs of zeros as a 0 and their length.
func AppendCountedZeroes(dst []byte, counts []float64) []byte {
	for i := 0; i < len(counts); {
		if i > 0 {
			dst = append(dst, ' ')
		}
		if counts[i] != 0 {
			dst = strconv.AppendFloat(dst, counts[i], 'f', -1, 64)
			i++
			continue
		}
		run := i
		for run < len(counts) && counts[run] == 0 {
			run++
		}
		dst = append(dst, "0 "...)
		dst = strconv.AppendInt(dst, int64(run-i), 10)
		i = run
	}
	return dst
}

// Append writes a document of the 2012 edition. The same document gives the same bytes. It
// fails for one that lacks what the standard wants: the instrument's manufacturer, model and
// class, a version; the category and kind of each detector; the class, start and duration of
// each measurement; the live time of what was counted; and references to what there is.
// Each spectrum of a measurement has to be of a detector of its own, and counts to have as
// many values as there are windows. Flags, wrappers, faults without a measurement and what
// only the 2006 edition has are not written.
func Append(dst []byte, d *Document) ([]byte, error) {
	w := &writer{b: dst, ids: map[string]string{}}
	w.b = append(w.b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"...)
	w.open("RadInstrumentData", "xmlns", namespace2012, "n42DocUUID", d.UUID)
	for _, r := range d.Remarks {
		w.leaf("Remark", r)
	}
	w.option("RadInstrumentDataCreatorName", d.Creator)
	w.instrument(&d.Instrument)
	for i := range d.Detectors {
		x := &d.Detectors[i]
		w.open("RadDetectorInformation", "id", w.id("detector", x.ID))
		w.option("RadDetectorName", x.Name)
		w.must("the detector "+x.ID, "RadDetectorCategoryCode", x.Category)
		w.must("the detector "+x.ID, "RadDetectorKindCode", x.Kind)
		description := x.Description
		if description == "" && (x.Kind == other || x.Category == other) {
			description = "not described" // the standard wants one there
		}
		w.option("RadDetectorDescription", description)
		w.close("RadDetectorInformation")
	}
	if len(d.Detectors) == 0 {
		w.fail("there is no detector")
	}
	for i := range d.Items {
		x := &d.Items[i]
		w.open("RadItemInformation", "id", w.id("item", x.ID))
		w.option("RadItemDescription", x.Description)
		w.characteristics("RadItemCharacteristics", x.Characteristics)
		w.close("RadItemInformation")
	}
	for i := range d.Calibrations {
		x := &d.Calibrations[i]
		w.open("EnergyCalibration", "id", w.id("calibration", x.ID))
		if len(x.Coefficients) > 0 {
			w.leaf("CoefficientValues", numbers(x.Coefficients))
		} else {
			w.must("the calibration "+x.ID, "EnergyBoundaryValues", numbers(x.Boundaries))
		}
		w.close("EnergyCalibration")
	}
	for i := range d.Windows {
		x := &d.Windows[i]
		w.open("EnergyWindows", "id", w.id("set of energy windows", x.ID))
		if len(x.Start) != len(x.End) {
			w.fail("the windows %s have %d beginnings and %d ends", x.ID, len(x.Start), len(x.End))
		}
		w.must("the windows "+x.ID, "WindowStartEnergyValues", numbers(x.Start))
		w.must("the windows "+x.ID, "WindowEndEnergyValues", numbers(x.End))
		w.close("EnergyWindows")
	}
	for _, id := range d.Groups {
		w.start("RadMeasurementGroup", "id", w.id("measurement group", id))
		w.b = append(w.b, "/>\n"...)
	}
	for _, derived := range []bool{false, true} {
		for i := range d.Measurements {
			if d.Measurements[i].Derived == derived {
				w.measurement(&d.Measurements[i], d)
			}
		}
	}
	for i := range d.Analyses {
		w.analysis(&d.Analyses[i], d)
	}
	if len(d.Measurements)+len(d.Analyses) == 0 {
		w.fail("there is neither a measurement nor an analysis")
	}
	w.close("RadInstrumentData")
	if w.err != nil {
		return dst, w.err
	}
	return w.b, nil
}

func (w *writer) instrument(i *Instrument) {
	const where = "the instrument"
	w.open("RadInstrumentInformation", "id", w.id("instrument", i.ID))
	w.must(where, "RadInstrumentManufacturerName", i.Manufacturer)
	w.option("RadInstrumentIdentifier", i.Serial)
	w.must(where, "RadInstrumentModelName", i.Model)
	w.option("RadInstrumentDescription", i.Description)
	w.must(where, "RadInstrumentClassCode", i.Class)
	if len(i.Versions) == 0 {
		w.fail("the instrument has no version")
	}
	for _, v := range i.Versions {
		w.open("RadInstrumentVersion")
		w.must("a version", "RadInstrumentComponentName", v.Component)
		w.must("a version", "RadInstrumentComponentVersion", v.Version)
		w.close("RadInstrumentVersion")
	}
	w.characteristics("RadInstrumentCharacteristics", i.Characteristics)
	w.close("RadInstrumentInformation")
}

func (w *writer) characteristics(name string, list []Characteristic) {
	if len(list) == 0 {
		return
	}
	w.open(name)
	for _, c := range list {
		unit, class := c.Unit, "string"
		if _, ok := number(c.Value); ok {
			class = "double"
		}
		if unit == "" {
			unit = "unit-less"
		}
		w.open("Characteristic")
		w.must("a characteristic", "CharacteristicName", c.Name)
		w.must("a characteristic", "CharacteristicValue", c.Value)
		w.leaf("CharacteristicValueUnits", unit)
		w.leaf("CharacteristicValueDataClassCode", class)
		w.close("Characteristic")
	}
	w.close(name)
}

// stated gives a duration as text; none if it is not known.
func stated(d Duration) string {
	if !d.Known {
		return ""
	}
	return FormatDuration(d.Seconds)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(timeForm)
}

func (w *writer) measurement(m *Measurement, d *Document) {
	name, what := "RadMeasurement", measurementID
	if m.Derived {
		name, what = "DerivedData", derivedID
	}
	where := "the measurement " + m.ID
	w.open(name, "id", w.id(what, m.ID), "radMeasurementGroupReferences", w.refs("measurement group", m.Groups))
	for _, r := range m.Remarks {
		w.leaf("Remark", r)
	}
	if !slices.Contains([]string{Background, Foreground, Calibration, IntrinsicActivity, NotSpecified}, m.Class) {
		w.fail("%s is of the class %q", where, m.Class)
	}
	w.must(where, "MeasurementClassCode", m.Class)
	w.must(where, "StartDateTime", moment(m.Start.At))
	w.must(where, "RealTimeDuration", stated(m.Real))
	spectra, counts, doses := map[string]bool{}, map[string]bool{}, map[string]bool{}
	once := func(of string, seen map[string]bool, detector string) {
		if seen[detector] && !m.Derived {
			w.fail("%s has two %s of the detector %q", where, of, detector)
		}
		seen[detector] = true
	}
	for i := range m.Spectra {
		s := &m.Spectra[i]
		once("spectra", spectra, s.Detector)
		w.open("Spectrum", "id", w.id("spectrum", s.ID), "radDetectorInformationReference", w.detector(s.Detector, m), "energyCalibrationReference", w.ref("calibration", s.Calibration))
		w.must("the spectrum "+s.ID, "LiveTimeDuration", stated(s.Live))
		if len(s.Counts) == 0 || len(s.Counts) > MaxChannels {
			w.fail("the spectrum %s has %d channels", s.ID, len(s.Counts))
		}
		w.leaf("ChannelData", string(AppendCountedZeroes(nil, s.Counts)), "compressionCode", "CountedZeroes")
		w.close("Spectrum")
	}
	for i := range m.Counts {
		g := &m.Counts[i]
		once("counts", counts, g.Detector)
		windows := w.optional("set of energy windows", g.Windows)
		if n := windowsOf(d, windows); n != len(g.Counts) {
			w.fail("the counts %s have %d values of %d windows", g.ID, len(g.Counts), n)
		}
		w.open("GrossCounts", "id", w.id("gross counts", g.ID), "radDetectorInformationReference", w.detector(g.Detector, m), "energyWindowsReference", windows)
		w.must("the counts "+g.ID, "LiveTimeDuration", stated(g.Live))
		w.must("the counts "+g.ID, "CountData", numbers(g.Counts))
		w.close("GrossCounts")
	}
	for i := range m.DoseRates {
		r := &m.DoseRates[i]
		if r.MicroSvH == nil {
			continue // in a unit that the standard does not have
		}
		once("dose rates", doses, r.Detector)
		w.open("DoseRate", "id", w.id("dose rate", r.ID), "radDetectorInformationReference", w.detector(r.Detector, m))
		w.leaf("DoseRateValue", number2(*r.MicroSvH))
		w.option("DoseRateLevelDescription", r.Level)
		w.close("DoseRate")
	}
	if !m.Derived {
		w.state(m, d)
		if m.Occupied != nil {
			w.leaf("OccupancyIndicator", strconv.FormatBool(*m.Occupied))
		}
	}
	w.close(name)
}

// detector checks the detector that something is of. A sum of several, in derived data, has
// none.
func (w *writer) detector(id string, m *Measurement) string {
	if id == "" && m.Derived {
		return ""
	}
	return w.ref("detector", id)
}

// windowsOf is how many windows counts have; those without a reference have one.
func windowsOf(d *Document, id string) int {
	for i := range d.Windows {
		if d.Windows[i].ID == id && id != "" {
			return len(d.Windows[i].Start)
		}
	}
	return 1
}

// What the standard lists.
const (
	other         = "Other"
	measurementID = "measurement"
	derivedID     = "derived data"
	groupID       = "measurement group"
)

var (
	statusCodes     = []string{"", "Success", "Failure"}
	alarmCategories = []string{"Alpha", "Beta", "Gamma", "Neutron", "Isotope", other}
)

// about are the attributes by which an analysis says what it is about: one and only one of
// three, and of one kind. One that says nothing is about all measurements.
func (w *writer) about(a *Analysis, d *Document) (attribute, ids string) {
	if len(a.Groups) > 0 {
		if len(a.Measurements) > 0 {
			w.fail("an analysis is about groups and about measurements")
		}
		return "radMeasurementGroupReferences", w.refs(groupID, a.Groups)
	}
	if list := a.Measurements; len(list) > 0 {
		if w.ids[list[0]] == derivedID {
			return "derivedDataReferences", w.refs(derivedID, list)
		}
		return "radMeasurementReferences", w.refs(measurementID, list)
	}
	var all, derived []string
	for i := range d.Measurements {
		if m := &d.Measurements[i]; m.Derived {
			derived = append(derived, m.ID)
		} else {
			all = append(all, m.ID)
		}
	}
	switch {
	case len(all) > 0:
		return "radMeasurementReferences", w.refs(measurementID, all)
	case len(derived) > 0:
		return "derivedDataReferences", w.refs(derivedID, derived)
	case len(d.Groups) > 0:
		return "radMeasurementGroupReferences", w.refs(groupID, d.Groups)
	}
	w.fail("an analysis is about nothing: there is no measurement")
	return "", ""
}

// state writes the state of the instrument, and the speed of the item.
func (w *writer) state(m *Measurement, d *Document) {
	if len(m.Faults)+len(m.Properties) > 0 || m.Latitude != nil && m.Longitude != nil {
		w.open("RadInstrumentState", "radInstrumentInformationReference", d.Instrument.ID)
		for _, f := range m.Faults {
			w.open("Fault")
			w.must("a fault", "FaultCodeValue", f.Code)
			w.option("FaultDescription", f.Description)
			w.must("a fault", "FaultSeverityCode", f.Severity)
			w.close("Fault")
		}
		if m.Latitude != nil && m.Longitude != nil {
			w.open("StateVector")
			w.open("GeographicPoint")
			w.leaf("LatitudeValue", number2(*m.Latitude))
			w.leaf("LongitudeValue", number2(*m.Longitude))
			w.close("GeographicPoint")
			w.close("StateVector")
		}
		w.characteristics("RadInstrumentCharacteristics", m.Properties)
		w.close("RadInstrumentState")
	}
	if m.SpeedMS != nil && len(d.Items) > 0 {
		w.open("RadItemState", "radItemInformationReference", d.Items[0].ID)
		w.open("StateVector")
		w.leaf("SpeedValue", number2(*m.SpeedMS))
		w.close("StateVector")
		w.close("RadItemState")
	}
}

var errNoAlarm = errors.New("an alarm without a category")

func (w *writer) analysis(a *Analysis, d *Document) {
	attribute, ids := w.about(a, d)
	w.open("AnalysisResults", attribute, ids)
	if !slices.Contains(statusCodes, a.Status) {
		w.fail("an analysis has the status %q", a.Status)
	}
	for _, r := range a.Remarks {
		w.leaf("Remark", r)
	}
	w.option("AnalysisStartDateTime", moment(a.Start.At))
	w.option("AnalysisAlgorithmName", a.Algorithm)
	w.option("AnalysisResultStatusCode", a.Status)
	w.option("AnalysisResultDescription", a.Description)
	for i := range a.Alarms {
		x := &a.Alarms[i]
		if x.Category == "" {
			w.fail("%w", errNoAlarm)
		}
		category, description := x.Category, x.Description
		if !slices.Contains(alarmCategories, category) {
			// The standard has no such category, and wants it described then.
			category, description = other, strings.TrimSpace(x.Category+" "+x.Description)
		} else if category == other && description == "" {
			description = "not described"
		}
		w.open("RadAlarm", "radDetectorInformationReferences", w.refs("detector", x.Detectors))
		for _, r := range x.Remarks {
			w.leaf("Remark", r)
		}
		w.option("RadAlarmDateTime", moment(x.Start.At))
		w.leaf("RadAlarmCategoryCode", category)
		w.option("RadAlarmDescription", description)
		w.option("RadAlarmLightColor", x.Light)
		w.close("RadAlarm")
	}
	if a.Identified {
		w.open("NuclideAnalysisResults")
		for i := range a.Nuclides {
			n := &a.Nuclides[i]
			w.open("Nuclide")
			identified := n.Indicator == nil || *n.Indicator
			w.leaf("NuclideIdentifiedIndicator", strconv.FormatBool(identified))
			w.must("a nuclide", "NuclideName", n.Name)
			if n.ActivityBq != nil {
				w.leaf("NuclideActivityValue", number2(*n.ActivityBq/1000))
			}
			if _, ok := number(n.Confidence); ok {
				w.leaf("NuclideIDConfidenceValue", n.Confidence)
			}
			w.option("NuclideIDConfidenceDescription", n.ConfidenceText)
			w.option("NuclideCategoryDescription", n.Category)
			w.close("Nuclide")
		}
		w.close("NuclideAnalysisResults")
	}
	w.close("AnalysisResults")
}
