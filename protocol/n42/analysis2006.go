package n42

import (
	"encoding/xml"
	"slices"
	"strings"
)

// The 2006 edition has results of nuclides alone, and makers have put theirs beside them, in
// places, namespaces and elements of their own. So whatever is in AnalysisResults is looked
// through, wherever those stand and whatever prefix an element has, and what is not
// understood is flagged: a result that nobody reads must not look like none.

// analyses2006 are the elements around nuclides.
var analyses2006 = []string{"NuclideAnalysis", "NuclideAnalysisResults"}

// aside2006 is what results have beside what was found.
var aside2006 = []string{
	"SpectrumID", "AnalysisStartTime", "AnalysisStartDateTime", "AnalysisComputationTime", "AnalysisComputationDuration", "AlgorithmDescription", "AlgorithmVendor",
	"AlgorithmVersion", "AnalysisAlgorithmName", "AnalysisAlgorithmVersion", "AnalysisAlgorithmCreatorName", "NuclideLibrary", "LibraryName",
	"StartTime", "StopTime", "RealTime", "SampleRealTime", "LiveTime", "SourceType", "DetectorType", "ChannelData", "Coefficients", "Data",
}

// begins2006 reports whether results of that edition begin: wherever they stand, and
// whatever prefix they have.
func (r *reader) begins2006(e *element) bool {
	return e.name == "AnalysisResults" && r.inside && !r.results && r.doc.Generation == Edition2006
}

func (r *reader) analysis2006(e *element) error {
	outer, text := r.results, r.text
	r.results, r.text = true, nil
	defer func() { r.results, r.text = outer, text }()
	var a Analysis
	if err := r.attrs2006(e, &a); err != nil {
		return err
	}
	if err := r.results2006("", &a, ""); err != nil {
		return err
	}
	return list(&r.doc.Analyses, a)
}

// attrs2006 takes what attributes tell.
func (r *reader) attrs2006(e *element, a *Analysis) error {
	for _, x := range e.attrs {
		switch {
		case x.Name.Local == "NuclidesIdentified":
			if err := r.names2006(a, x.Value); err != nil {
				return err
			}
		case alarming(x.Name.Local) && x.Name.Space != "xmlns" && !denied(x.Value):
			if err := list(&a.Alarms, Alarm{Category: cut(x.Name.Local, 64), Description: r.bound(x.Value)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// results2006 looks through the open element, AnalysisResults or one in it; name is empty
// for one whose own text says nothing.
func (r *reader) results2006(name string, a *Analysis, unit string) error {
	var words []byte
	err := r.each(func(e *element) (err error) {
		if alarming(e.name) {
			return r.alarm2006(e, a)
		}
		if err := r.attrs2006(e, a); err != nil {
			return err
		}
		switch e.name {
		case "Remark":
			return r.appendString(&a.Remarks)
		case "AnalysisResultStatusCode":
			a.Status, err = r.string()
			return err
		case "AnalysisResultDescription":
			a.Description, err = r.string()
			return err
		case "Nuclide":
			a.Identified = true
			return r.nuclide(a, unit)
		case "NuclidesIdentified":
			names, err := r.string()
			if err != nil {
				return err
			}
			return r.names2006(a, names)
		}
		if slices.Contains(analyses2006, e.name) {
			a.Identified = true
			if a.Algorithm == "" {
				a.Algorithm = r.bound(e.attr("AlgorithmDescription"))
			}
			in := unit
			if u := e.attr("ActivityUnits"); u != "" {
				in = r.bound(u)
			}
			return r.results2006("", a, in)
		}
		return r.results2006(e.name, a, unit)
	}, &words)
	if said := plainWords(words); err == nil && said != "" && name != "" && !slices.Contains(aside2006, name) {
		r.flag(FlagAnalysis, name, said)
	}
	return err
}

// names2006 takes a list of the nuclides that are identified. Their names are as the maker
// writes them, Th-232-001 for instance. Spectra of one analysis repeat them.
func (r *reader) names2006(a *Analysis, names string) error {
	a.Identified = true
	if denied(names) {
		return nil
	}
	for _, name := range strings.FieldsFunc(r.bound(names), func(c rune) bool { return c == ',' || c == ';' || c <= ' ' }) {
		if slices.ContainsFunc(a.Nuclides[:min(len(a.Nuclides), 1024)], func(n Nuclide) bool { return n.Name == name }) {
			continue
		}
		if err := list(&a.Nuclides, Nuclide{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// alarming reports whether an element or an attribute tells an alarm by its name.
func alarming(name string) bool {
	return strings.Contains(name, "Alarm") || strings.Contains(name, "Threat")
}

// denials are what stands in an alarm that is none.
var denials = []string{"0", "false", "no", "none", "n/a", "off", "inactive"}

func denied(said string) bool {
	said = strings.ToLower(said)
	if said == "no alarm" || said == "no threat" {
		return true
	}
	for w := range strings.FieldsSeq(said) {
		if !slices.Contains(denials, w) {
			return false
		}
	}
	return true
}

func plainWords(b []byte) string { return strings.Join(strings.Fields(cut(string(b), MaxText)), " ") }

// alarm2006 reads what is called an alarm, and tells it unless it is denied.
func (r *reader) alarm2006(e *element, a *Analysis) error {
	var words []byte
	inner := false
	var in func(c *element) error
	in = func(c *element) error {
		words = append(words, ' ')
		switch {
		case alarming(c.name):
			inner = true
			return r.alarm2006(c, a)
		case c.name == "Nuclide":
			a.Identified = true
			return r.nuclide(a, "")
		}
		if err := r.attrs2006(c, a); err != nil {
			return err
		}
		return r.each(in, &words)
	}
	if err := r.each(in, &words); err != nil {
		return err
	}
	said := plainWords(words)
	if said == "" && !inner {
		said = statedBy(e.attrs)
	}
	if denied(said) {
		return nil
	}
	return list(&a.Alarms, Alarm{Category: cut(e.name, 64), Description: r.bound(said)})
}

// statedBy is what the attributes of an element without a text say.
func statedBy(attrs []xml.Attr) string {
	var all []string
	for _, x := range attrs {
		switch strings.ToLower(x.Name.Local) {
		case "value", "state", "status", "active", "indicator":
			return strings.TrimSpace(x.Value)
		}
		if x.Name.Space != "xmlns" && x.Name.Local != "xmlns" {
			all = append(all, x.Name.Local+" "+x.Value)
		}
	}
	return cut(strings.Join(all, ", "), MaxText)
}
