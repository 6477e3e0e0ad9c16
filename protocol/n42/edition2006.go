package n42

import (
	"slices"
	"strings"
)

func cutSpace(s string) (word, rest string, more bool) {
	s = strings.TrimSpace(s)
	i := strings.IndexAny(s, " \t\r\n")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimSpace(s[i:]), true
}

// classes2006 are the classes of what SourceType says.
var classes2006 = map[string]string{
	"item": Foreground, "foreground": Foreground, "background": Background, "calibration": Calibration, "stabilization": Calibration,
	"intrinsicactivity": IntrinsicActivity,
}

func class2006(raw string) string {
	if c := classes2006[strings.ToLower(raw)]; c != "" {
		return c
	}
	return NotSpecified
}

func (r *reader) data2006() error {
	return r.children(func(e *element) error {
		switch e.name {
		case "Remark":
			return r.appendString(&r.doc.Remarks)
		case "Measurement":
			return r.measurement2006(e)
		}
		return r.common2006(e)
	})
}

// common2006 reads what may stand in the document or in a measurement.
func (r *reader) common2006(e *element) error {
	i := &r.doc.Instrument
	take := func(p *string) error {
		s, err := r.string()
		if *p == "" {
			*p = s
		}
		return err
	}
	switch e.name {
	case "InstrumentInformation":
		return r.children(r.common2006)
	case "HealthStatus":
		return r.health2006(e)
	case "InstrumentType":
		return take(&i.Class)
	case "Manufacturer":
		return take(&i.Manufacturer)
	case "InstrumentModel":
		return take(&i.Model)
	case "InstrumentID":
		return take(&i.Serial)
	case "InstrumentVersion":
		s, err := r.string()
		if err != nil || s == "" {
			return err
		}
		return list(&i.Versions, Version{"Instrument", s})
	case "LaneNumber":
		return take(&i.Lane)
	case "MeasuredItemInformation":
		var v Item
		err := r.texts(map[string]*string{"ItemDescription": &v.Description}, func(e *element) error {
			s, err := r.string()
			if err != nil || s == "" {
				return err
			}
			return list(&v.Characteristics, Characteristic{Name: e.name, Value: s})
		})
		if err != nil {
			return err
		}
		return list(&r.doc.Items, v)
	case "Calibration":
		return r.calibration2006(e, nil)
	}
	return nil
}

// health2006 takes what a part of the instrument says of itself.
func (r *reader) health2006(e *element) error {
	works, alarmed := truth(e.attr("Operational")), truth(e.attr("Alarmed"))
	if (works == nil || *works) && (alarmed == nil || !*alarmed) {
		return nil
	}
	f := Fault{Code: r.bound(e.attr("ErrorCode")), Severity: "Warning", Description: r.bound(e.attr("SubSystem")) + ": the instrument says that it is alarmed"}
	if works != nil && !*works {
		f.Severity, f.Description = "Error", r.bound(e.attr("SubSystem"))+": the instrument says that it does not work"
	}
	if f.Code == "" {
		f.Code = r.bound(e.attr("SubSystem"))
	}
	return list(&r.doc.Faults, f)
}

func (r *reader) calibration2006(e *element, name *string) error {
	if t := e.attr("Type"); t != "" && !strings.EqualFold(t, "Energy") {
		return nil
	}
	v := EnergyCalibration{ID: r.bound(e.attr("ID", "id"))}
	err := r.children(func(e *element) error {
		if e.name != "Equation" && e.name != "Array" {
			return nil
		}
		return r.children(func(e *element) (err error) {
			if e.name == "Coefficients" {
				v.Coefficients, err = r.floats(v.ID)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	if v.ID == "" && len(r.doc.Calibrations) > 0 {
		// The same calibration stands in each slice.
		if last := r.doc.Calibrations[len(r.doc.Calibrations)-1]; slices.Equal(last.Coefficients, v.Coefficients) {
			return nil
		}
	}
	if name != nil {
		*name = v.ID
	}
	return list(&r.doc.Calibrations, v)
}

func (r *reader) measurement2006(e *element) error {
	id := r.bound(e.attr("UUID", "ID", "id"))
	return r.children(func(e *element) error {
		switch e.name {
		case "Remark":
			return r.appendString(&r.doc.Remarks)
		case "Spectrum":
			var m Measurement
			m.ID = id
			if err := r.spectrum2006(e, &m, ""); err != nil {
				return err
			}
			s := &m.Spectra[0]
			if s.ID != "" {
				m.ID = s.ID
			}
			m.Start, m.Real, m.ClassRaw, m.Class = s.Start, s.Real, s.ClassRaw, class2006(s.ClassRaw)
			return list(&r.doc.Measurements, m)
		case "CountDoseData":
			m := Measurement{ID: id}
			if err := r.counts2006(e, &m, ""); err != nil {
				return err
			}
			m.Class = class2006(m.ClassRaw)
			return list(&r.doc.Measurements, m)
		case "DetectorData":
			return r.slice2006(id)
		}
		return r.common2006(e)
	})
}

// slice2006 reads a time slice of a portal.
func (r *reader) slice2006(id string) error {
	m := Measurement{ID: id}
	err := r.children(func(e *element) (err error) {
		switch e.name {
		case "StartTime":
			m.Start, err = r.time(id)
		case "SampleRealTime", "RealTime":
			m.Real, err = r.duration(id)
		case "Occupied":
			var s string
			if s, err = r.string(); err == nil {
				if m.Occupied = truth(s); m.Occupied == nil {
					r.flag(FlagOccupancy, id, s)
				}
			}
		case "Speed":
			unit := strings.ToLower(e.attr("Units", "units"))
			if m.SpeedMS, err = r.float(id); err == nil && m.SpeedMS != nil {
				f, ok := map[string]float64{"": 1, "m/s": 1, "mph": 0.44704, "km/h": 1 / 3.6, "kph": 1 / 3.6}[unit]
				if !ok {
					r.flag(FlagNumber, id, "a speed in "+unit)
					m.SpeedMS = nil
					return nil
				}
				v := *m.SpeedMS * f
				m.SpeedMS = &v
			}
		case "DetectorMeasurement":
			err = r.detector2006(e, &m)
		case "Spectrum":
			err = r.spectrum2006(e, &m, "")
		case "CountDoseData", "GrossCounts":
			err = r.counts2006(e, &m, "")
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := range m.Spectra {
		if m.ClassRaw == "" {
			m.ClassRaw = m.Spectra[i].ClassRaw
		}
	}
	m.Class = class2006(m.ClassRaw)
	return list(&r.doc.Measurements, m)
}

func (r *reader) detector2006(e *element, m *Measurement) error {
	detector := r.bound(e.attr("Detector", "DetectorID", "ID"))
	return r.children(func(e *element) error {
		switch e.name {
		case "SpectrumMeasurement", "GrossCountMeasurement", "DoseMeasurement":
			return r.children(func(e *element) error {
				switch e.name {
				case "SpectrumAvailable": // mostly a 1; some have the spectrum in it
					return r.children(func(e *element) error {
						if e.name == "Spectrum" {
							return r.spectrum2006(e, m, detector)
						}
						return nil
					})
				case "Spectrum":
					return r.spectrum2006(e, m, detector)
				case "GrossCounts", "CountDoseData":
					return r.counts2006(e, m, detector)
				}
				return nil
			})
		case "Spectrum":
			return r.spectrum2006(e, m, detector)
		case "CountDoseData", "GrossCounts":
			return r.counts2006(e, m, detector)
		}
		return nil
	})
}

// known2006 notes a detector that a spectrum names, with what it says of it.
func (r *reader) known2006(id, category string) {
	if id == "" {
		return
	}
	for i := range r.doc.Detectors {
		if d := &r.doc.Detectors[i]; d.ID == id {
			if d.Category == "" {
				d.Category = category
			}
			return
		}
	}
	if len(r.doc.Detectors) < 1024 { // each is looked for among those before it
		r.doc.Detectors = append(r.doc.Detectors, Detector{ID: id, Name: id, Category: category})
	}
}

func (r *reader) spectrum2006(e *element, m *Measurement, detector string) error {
	s := Spectrum{ID: r.bound(e.attr("ID", "id")), Detector: r.bound(e.attr("Detector", "DetectorID")), Calibration: cut(e.attr("CalibrationIDs"), 256)}
	if s.Detector == "" {
		s.Detector = detector
	}
	category := r.bound(e.attr("DetectorType"))
	channels := false
	err := r.children(func(e *element) (err error) {
		switch e.name {
		case "StartTime":
			s.Start, err = r.time(s.ID)
		case "RealTime", "SampleRealTime":
			s.Real, err = r.duration(s.ID)
		case "LiveTime":
			s.Live, err = r.duration(s.ID)
		case "SourceType":
			s.ClassRaw, err = r.string()
		case "DetectorType":
			category, err = r.string()
		case "Calibration":
			err = r.calibration2006(e, &s.Calibration)
		case "ChannelData":
			channels = true
			s.Counts, err = r.counts(s.ID, FlagSpectrum, e.attr(compressions...))
		}
		return err
	})
	if err != nil {
		return err
	}
	if !channels {
		r.unread(FlagSpectrum, s.ID, "there are no channels")
	}
	r.known2006(s.Detector, category)
	return list(&m.Spectra, s)
}

// counts2006 reads counts and dose rates.
func (r *reader) counts2006(e *element, m *Measurement, detector string) error {
	g := GrossCounts{Detector: r.bound(e.attr("Detector", "DetectorID"))}
	if g.Detector == "" {
		g.Detector = detector
	}
	category := r.bound(e.attr("DetectorType"))
	var start Time
	var real Duration
	var doses []DoseRate
	err := r.children(func(e *element) (err error) {
		switch e.name {
		case "StartTime":
			start, err = r.time(m.ID)
		case "SampleRealTime", "RealTime":
			real, err = r.duration(m.ID)
		case "LiveTime":
			g.Live, err = r.duration(m.ID)
		case "SourceType":
			m.ClassRaw, err = r.string()
		case "DetectorType":
			category, err = r.string()
		case "Counts", "GrossCounts", "CountData":
			g.Counts, err = r.counts(m.ID, FlagCounts, "")
		case "CountRate", "ExposureRate", "TotalDose", "Dose":
			r.flag(FlagMeasured, m.ID, e.name+", which is in the document alone")
		case "DoseRate":
			unit := r.bound(e.attr("Units", "units"))
			// Some split "uSv/h" over two attributes.
			if h := e.attr("TimeRelation"); h != "" && !strings.Contains(unit, "/") {
				unit += "/" + cut(h, 16)
			}
			var s string
			if s, err = r.string(); err == nil && s != "" {
				d := r.dose(m.ID, s, unit, "")
				d.Detector = g.Detector
				err = list(&doses, d)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if g.Detector == "" {
		g.Detector = category
	}
	r.known2006(g.Detector, category)
	if m.Start.Raw == "" {
		m.Start = start
	}
	if m.Real.Raw == "" {
		m.Real = real
	}
	for _, d := range doses {
		if err := list(&m.DoseRates, d); err != nil {
			return err
		}
	}
	if g.Counts == nil {
		return nil
	}
	return list(&m.Counts, g)
}

// finish leaves no more versions than are of use.
func (i *Instrument) finish() {
	if len(i.Versions) > 64 {
		i.Versions = i.Versions[:64]
	}
}

// check looks at what the values say together.
func (r *reader) check() {
	described := map[string]bool{"": true}
	for _, d := range r.doc.Detectors {
		described[d.ID] = true
	}
	detector := func(where, id string) {
		if !described[id] && len(r.doc.Detectors) > 0 && r.doc.Generation == Edition2012 {
			described[id] = true // told once
			r.flag(FlagReference, where, id)
		}
	}
	for i := range r.doc.Measurements {
		m := &r.doc.Measurements[i]
		if m.Real.Known && m.Real.Seconds == 0 {
			r.flag(FlagRealZero, m.ID, m.Real.Raw)
		}
		for j := range m.Spectra {
			s := &m.Spectra[j]
			real := s.Real
			if !real.Known {
				real = m.Real
			}
			r.times(s.ID, s.Live, real)
			detector(s.ID, s.Detector)
		}
		for j := range m.Counts {
			r.times(m.Counts[j].ID, m.Counts[j].Live, m.Real)
			detector(m.Counts[j].ID, m.Counts[j].Detector)
		}
	}
}

// liveSlack is by how much a live time may be longer for being rounded, in seconds.
const liveSlack = 0.0005

func (r *reader) times(where string, live, real Duration) {
	switch {
	case live.Raw == "":
		r.flag(FlagLiveMissing, where, "")
	case live.Known && live.Seconds == 0:
		r.flag(FlagLiveZero, where, live.Raw)
	case live.Known && real.Known && live.Seconds > real.Seconds+liveSlack:
		r.flag(FlagLiveOverReal, where, live.Raw+" of "+real.Raw)
	}
}
