package n42

import (
	"fmt"
	"slices"
	"strings"
)

// list appends to a list of the document, bounded.
func list[T any](l *[]T, v T) error {
	if len(*l) >= MaxSlices {
		return fmt.Errorf("%w: more than %d of one kind", ErrTooLarge, MaxSlices)
	}
	*l = append(*l, v)
	return nil
}

// texts reads children that are texts into their places; what is not in the table goes to
// other, which may be nil.
func (r *reader) texts(table map[string]*string, other func(*element) error) error {
	return r.children(func(e *element) error {
		if p := table[e.name]; p != nil {
			s, err := r.string()
			if *p == "" {
				*p = s
			}
			return err
		}
		if other == nil {
			return nil
		}
		return other(e)
	})
}

func (r *reader) data2012() error {
	d := r.doc
	return r.children(func(e *element) error {
		switch e.name {
		case "RadInstrumentDataCreatorName":
			v, err := r.string()
			d.Creator = v
			return err
		case "Remark":
			return r.appendString(&d.Remarks)
		case "RadInstrumentInformation":
			return r.instrument2012(e)
		case "RadDetectorInformation":
			v := Detector{ID: r.bound(e.attr("id"))}
			err := r.texts(map[string]*string{
				"RadDetectorName": &v.Name, "RadDetectorCategoryCode": &v.Category, "RadDetectorKindCode": &v.Kind, "RadDetectorDescription": &v.Description,
			}, nil)
			if err != nil {
				return err
			}
			return list(&d.Detectors, v)
		case "RadItemInformation":
			v := Item{ID: r.bound(e.attr("id"))}
			err := r.texts(map[string]*string{"RadItemDescription": &v.Description}, func(e *element) error {
				if e.name == "RadItemCharacteristics" {
					return r.characteristics(&v.Characteristics)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return list(&d.Items, v)
		case "EnergyCalibration":
			v := EnergyCalibration{ID: r.bound(e.attr("id"))}
			err := r.children(func(e *element) (err error) {
				switch e.name {
				case "CoefficientValues":
					v.Coefficients, err = r.floats(v.ID)
				case "EnergyBoundaryValues":
					v.Boundaries, err = r.floats(v.ID)
				}
				return err
			})
			if err != nil {
				return err
			}
			return list(&d.Calibrations, v)
		case "EnergyWindows":
			v := EnergyWindows{ID: r.bound(e.attr("id"))}
			err := r.children(func(e *element) (err error) {
				switch e.name {
				case "WindowStartEnergyValues":
					v.Start, err = r.floats(v.ID)
				case "WindowEndEnergyValues":
					v.End, err = r.floats(v.ID)
				}
				return err
			})
			if err != nil {
				return err
			}
			return list(&d.Windows, v)
		case "RadMeasurementGroup":
			return list(&d.Groups, r.bound(e.attr("id")))
		case "RadMeasurement", "DerivedData":
			return r.measurement2012(e, e.name == "DerivedData")
		case "AnalysisResults":
			return r.analysis2012(e)
		}
		return nil
	})
}

func (r *reader) instrument2012(e *element) error {
	i := &r.doc.Instrument
	i.ID = r.bound(e.attr("id"))
	return r.texts(map[string]*string{
		"RadInstrumentManufacturerName": &i.Manufacturer, "RadInstrumentIdentifier": &i.Serial, "RadInstrumentModelName": &i.Model,
		"RadInstrumentDescription": &i.Description, "RadInstrumentClassCode": &i.Class,
	}, func(e *element) error {
		switch e.name {
		case "RadInstrumentVersion":
			var v Version
			err := r.texts(map[string]*string{"RadInstrumentComponentName": &v.Component, "RadInstrumentComponentVersion": &v.Version}, nil)
			if err != nil {
				return err
			}
			return list(&i.Versions, v)
		case "RadInstrumentCharacteristics":
			return r.characteristics(&i.Characteristics)
		}
		return nil
	})
}

// characteristics reads properties, those of groups too.
func (r *reader) characteristics(into *[]Characteristic) error {
	return r.children(func(e *element) error {
		switch e.name {
		case "CharacteristicGroup":
			return r.characteristics(into)
		case "Characteristic":
			var c Characteristic
			err := r.texts(map[string]*string{"CharacteristicName": &c.Name, "CharacteristicValue": &c.Value, "CharacteristicValueUnits": &c.Unit}, nil)
			if err != nil {
				return err
			}
			return list(into, c)
		}
		return nil
	})
}

func (r *reader) measurement2012(e *element, derived bool) error {
	m := Measurement{ID: r.bound(e.attr("id")), Derived: derived, Groups: r.refs(e.attr("radMeasurementGroupReferences"))}
	err := r.children(func(e *element) (err error) {
		switch e.name {
		case "MeasurementClassCode":
			m.ClassRaw, err = r.string()
			m.Class = m.ClassRaw
		case "StartDateTime":
			m.Start, err = r.time(m.ID)
		case "RealTimeDuration":
			m.Real, err = r.duration(m.ID)
		case "OccupancyIndicator":
			var s string
			if s, err = r.string(); err == nil {
				if m.Occupied = truth(s); m.Occupied == nil {
					r.flag(FlagOccupancy, m.ID, s)
				}
			}
		case "Remark":
			err = r.appendString(&m.Remarks)
		case "Spectrum":
			s := Spectrum{ID: r.bound(e.attr("id")), Detector: r.bound(e.attr("radDetectorInformationReference")), Calibration: r.bound(e.attr("energyCalibrationReference"))}
			channels := false
			err = r.children(func(e *element) (err error) {
				switch e.name {
				case "LiveTimeDuration":
					s.Live, err = r.duration(s.ID)
				case "ChannelData":
					channels = true
					s.Counts, err = r.counts(s.ID, FlagSpectrum, e.attr(compressions...))
				}
				return err
			})
			if err == nil && !channels {
				r.unread(FlagSpectrum, s.ID, "there are no channels")
			}
			if err == nil {
				err = list(&m.Spectra, s)
			}
		case "GrossCounts":
			g := GrossCounts{ID: r.bound(e.attr("id")), Detector: r.bound(e.attr("radDetectorInformationReference")), Windows: r.bound(e.attr("energyWindowsReference"))}
			err = r.children(func(e *element) (err error) {
				switch e.name {
				case "LiveTimeDuration":
					g.Live, err = r.duration(g.ID)
				case "CountData":
					g.Counts, err = r.counts(g.ID, FlagCounts, "")
				}
				return err
			})
			if err == nil {
				err = list(&m.Counts, g)
			}
		case "DoseRate":
			id, detector := r.bound(e.attr("id")), r.bound(e.attr("radDetectorInformationReference"))
			var value, unit, level string
			err = r.children(func(e *element) (err error) {
				switch e.name {
				case "DoseRateValue":
					unit = r.bound(e.attr("units", "Units"))
					value, err = r.string()
				case "DoseRateLevelDescription":
					level, err = r.string()
				}
				return err
			})
			if err == nil && value != "" {
				d := r.dose(id, value, unit, "uSv/h") // the standard's unit
				d.ID, d.Detector, d.Level = id, detector, level
				err = list(&m.DoseRates, d)
			}
		case "ExposureRate", "TotalDose", "TotalExposure":
			r.flag(FlagMeasured, m.ID, e.name+", which is in the document alone")
		case "RadInstrumentState", "RadDetectorState", "RadItemState":
			err = r.state(&m)
		}
		return err
	})
	if err != nil {
		return err
	}
	if m.Class == "" {
		m.Class = NotSpecified
	}
	return list(&r.doc.Measurements, m)
}

func (r *reader) fault(into *[]Fault) error {
	var f Fault
	err := r.texts(map[string]*string{"FaultCodeValue": &f.Code, "FaultDescription": &f.Description, "FaultSeverityCode": &f.Severity}, nil)
	if err != nil {
		return err
	}
	return list(into, f)
}

// state reads the state of an instrument, a detector or an item.
func (r *reader) state(m *Measurement) error {
	return r.children(func(e *element) error {
		switch e.name {
		case "Fault":
			return r.fault(&m.Faults)
		case "RadInstrumentCharacteristics", "RadDetectorCharacteristics":
			return r.characteristics(&m.Properties)
		case "StateVector":
			return r.children(func(e *element) (err error) {
				switch e.name {
				case "SpeedValue":
					m.SpeedMS, err = r.float(m.ID)
				case "GeographicPoint":
					err = r.children(func(e *element) (err error) {
						switch e.name {
						case "LatitudeValue":
							m.Latitude, err = r.float(m.ID)
						case "LongitudeValue":
							m.Longitude, err = r.float(m.ID)
						}
						return err
					})
				}
				return err
			})
		}
		return nil
	})
}

func (r *reader) analysis2012(e *element) error {
	a := Analysis{Groups: r.refs(e.attr("radMeasurementGroupReferences")), Measurements: append(r.refs(e.attr("radMeasurementReferences")), r.refs(e.attr("derivedDataReferences"))...)}
	err := r.children(func(e *element) (err error) {
		switch e.name {
		case "AnalysisStartDateTime":
			a.Start, err = r.time("analysis")
		case "AnalysisAlgorithmName":
			a.Algorithm, err = r.string()
		case "AnalysisResultStatusCode":
			a.Status, err = r.string()
		case "AnalysisResultDescription":
			a.Description, err = r.string()
		case "Remark":
			err = r.appendString(&a.Remarks)
		case "RadAlarm":
			v := Alarm{Detectors: r.refs(e.attr("radDetectorInformationReferences"))}
			err = r.texts(map[string]*string{
				"RadAlarmCategoryCode": &v.Category, "RadAlarmDescription": &v.Description, "RadAlarmLightColor": &v.Light,
			}, func(e *element) (err error) {
				switch e.name {
				case "RadAlarmDateTime":
					v.Start, err = r.time("alarm")
				case "Remark":
					err = r.appendString(&v.Remarks)
				}
				return err
			})
			if err == nil {
				err = list(&a.Alarms, v)
			}
		case "Fault":
			err = r.fault(&r.doc.Faults)
		case "NuclideAnalysisResults":
			a.Identified = true
			err = r.children(func(e *element) error {
				if e.name == "Nuclide" {
					return r.nuclide(&a, "kBq") // the standard's unit
				}
				return nil
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	return list(&r.doc.Analyses, a)
}

// nuclide reads a nuclide of either edition, in all spellings.
func (r *reader) nuclide(a *Analysis, unit string) error {
	var n Nuclide
	var indicator string
	err := r.children(func(e *element) (err error) {
		var s string
		take := func(p *string) {
			if s, err = r.string(); err == nil && *p == "" {
				*p = s
			}
		}
		switch e.name {
		case "NuclideName":
			take(&n.Name)
		case "NuclideIdentifiedIndicator":
			take(&indicator)
		case "NuclideIDConfidenceValue", "NuclideIDConfidence", "NuclideIDConfidenceIndication", "NuclideIdentificationConfidence":
			take(&n.Confidence)
		case "NuclideIDConfidenceDescription":
			take(&n.ConfidenceText)
		case "NuclideCategoryDescription", "NuclideType":
			take(&n.Category)
		case "NuclideActivityValue", "NuclideActivity":
			n.ActivityUnit = r.bound(e.attr("units", "Units"))
			take(&n.Activity)
		}
		return err
	})
	if err != nil {
		return err
	}
	n.finish(r, indicator, unit)
	return list(&a.Nuclides, n)
}

// absent are the words by which a nuclide without an indicator is said not to be there.
var absent = []string{"not present", "not detected", "not identified", "not found", "absent"}

func (n *Nuclide) finish(r *reader, indicator, unit string) {
	n.Indicator = truth(indicator)
	if n.Indicator == nil && slices.Contains(absent, strings.ToLower(n.ConfidenceText)) {
		n.Indicator = new(bool)
	}
	if n.Confidence != "" {
		if _, ok := number(n.Confidence); !ok {
			r.flag(FlagConfidenceText, n.Name, n.Confidence)
			if n.ConfidenceText == "" {
				n.ConfidenceText = n.Confidence
			}
		}
	}
	if n.Activity == "" {
		return
	}
	if n.ActivityUnit != "" {
		unit = n.ActivityUnit
	}
	// Those of 2006 may have the uncertainty behind it.
	word, _, _ := cutSpace(n.Activity)
	v, ok := number(word)
	if !ok || v < 0 {
		r.flag(FlagNumber, n.Name, n.Activity)
		return
	}
	if bq, ok := becquerel(v, unit); ok {
		n.ActivityBq = &bq
	}
}
