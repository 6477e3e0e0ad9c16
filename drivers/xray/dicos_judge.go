package xray

import (
	"cmp"
	"slices"
	"time"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// acquired reports whether a scan went well, or nothing else is told.
func acquired(status string) bool { return status == "" || status == "SUCCESSFUL" }

func inZone(t time.Time, zone *time.Location) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
}

func (p *dicosPart) decided(zone *time.Location) time.Time {
	r := p.Head.Report
	if r.Zoned || r.DecisionTime.IsZero() {
		return r.DecisionTime
	}
	return inZone(r.DecisionTime, zone)
}

// reports are the objects that have a report in them, as they came; those that tell the time
// of their decision are among each other in the order of that.
func (s *dicosScan) reports(zone *time.Location) (list []*dicosPart) {
	var timed []*dicosPart
	for _, p := range s.parts {
		if p.Head.Report != nil {
			list = append(list, p)
			if !p.Head.Report.DecisionTime.IsZero() {
				timed = append(timed, p)
			}
		}
	}
	order.Stable(timed, func(a, b *dicosPart) int { return a.decided(zone).Compare(b.decided(zone)) })
	for i, p := range list {
		if !p.Head.Report.DecisionTime.IsZero() {
			list[i], timed = timed[0], timed[1:]
		}
	}
	return list
}

// analysis is what one report says, and what is odd about it.
func (p *dicosPart) analysis(zone *time.Location) (a event.XrayAnalysis, odd string) {
	r := p.Head.Report
	a = event.XrayAnalysis{
		By: reporter(r.Type), Name: cmp.Or(r.Type, p.Head.Modality, "report"), Status: "done", Decision: event.DecisionUnknown, ResultRaw: r.Decision, Reason: r.AbortReason,
		Algorithm: r.Algorithm, Objects: r.Objects, Alarms: r.Alarms, AdditionalScreening: r.AdditionalScreening == "YES", EndedTS: stamp(p.decided(zone)),
	}
	for _, n := range []**int{&a.Objects, &a.Alarms} {
		if *n != nil && **n < 0 {
			*n = nil
		}
	}
	failed := r.Abort != "" && r.Abort != "SUCCESS"
	switch {
	case p.alarms():
		// An alarm counts, however the report ended.
		a.Decision = event.DecisionSuspicious
	case failed:
	case !p.Whole, r.Decision == "":
		a.Status = "unknown"
	case r.Decision == "CLEAR" && p.threatens():
		odd = "clear_with_threats"
	case r.Decision == "CLEAR" && a.By != "unknown":
		a.Decision = event.DecisionNothingFound
	}
	if failed {
		a.Status = "failed"
	}
	return a, odd
}

// judge says what the scan was made for, and what came of it. Nothing is taken for
// "nothing found" but the whole word of an operator about a whole scan, or of all machines
// where the settings say that they stand for an inspection. A word that is not taken for it
// takes no alarm back.
func (s *dicosScan) judge(e *event.XrayScan, reports []*dicosPart, rules dicosRules, remark func(string)) {
	e.Decision = event.DecisionPending
	operator, truth, doubt := false, false, false
	say := func(a event.XrayAnalysis) { e.Decision, e.DecisionRaw = a.Decision, a.ResultRaw }
	var alarm *event.XrayAnalysis
	for i, a := range e.Analyses {
		if a.Decision == event.DecisionSuspicious && a.By != "ground_truth" {
			alarm = &e.Analyses[i]
			// Whether it came before or after the others, and from whom, nobody knows.
			doubt = doubt || a.By == "unknown" && a.EndedTS == nil
		}
		switch {
		case a.By == "ground_truth":
			truth = true
		case a.By == "operator" && a.Decision == event.DecisionSuspicious:
			operator = true
			say(a)
		case a.By == "operator" && a.Status == "done":
			// One who can't say takes no alarm back.
			if a.Decision == event.DecisionNothingFound || e.Decision != event.DecisionSuspicious {
				operator = operator || a.Decision == event.DecisionNothingFound
				say(a)
			}
		case a.By == "operator" && e.Decision == event.DecisionNothingFound:
			// He looked once more, and did not come to an end.
			e.Decision = event.DecisionUnknown
		case operator && a.By != "unknown":
			// He has the last word over machines.
		case a.Decision == event.DecisionSuspicious:
			say(a)
		case a.Status == "done" && e.Decision == event.DecisionPending && (a.Decision != event.DecisionNothingFound || rules.machineClears):
			say(a)
		}
	}
	e.Mode = s.mode(e, reports, truth, remark)
	whole := e.Completeness == "complete" && e.Mode == event.ScanOperational && acquired(e.AcquisitionStatus) && !doubt &&
		!slices.ContainsFunc([]string{"objects_differ", "without_scan_uid", "threat_projected"}, func(what string) bool { return slices.Contains(e.Remarks, what) }) &&
		!slices.ContainsFunc(s.parts, func(p *dicosPart) bool { return p.Head.Dropped > 0 })
	if e.Decision == event.DecisionNothingFound {
		// What one machine can't say, another's word does not stand for.
		whole = whole && (operator || !slices.ContainsFunc(e.Analyses, func(a event.XrayAnalysis) bool {
			return a.By != "ground_truth" && (a.Status != "done" || a.Decision != event.DecisionNothingFound)
		}))
		if !s.seen(e.Analyses, reports, operator) {
			whole = false
			remark("pictures_not_named")
		}
	}
	if e.Decision == event.DecisionNothingFound && !whole {
		e.Decision = event.DecisionUnknown
		if alarm != nil {
			say(*alarm)
		}
	}
	if s.alarm {
		remark("alarm_remembered")
	}
	if s.alarm || len(s.parts) > 0 && s.parts[0].Left == leftAlarm {
		e.Decision = event.DecisionSuspicious
	}
}

// seen reports whether those who found nothing have looked at each picture that is here. A
// report that names no pictures is about all; in a picture, it is about that one.
func (s *dicosScan) seen(analyses []event.XrayAnalysis, reports []*dicosPart, operator bool) bool {
	seen := map[string]bool{}
	for i, a := range analyses {
		if a.Decision != event.DecisionNothingFound || a.By == "ground_truth" || operator && a.By != "operator" {
			continue
		}
		h := reports[i].Head
		if len(h.Report.References) == 0 && !h.Image.Pixels {
			return true
		}
		seen[h.SOPInstance] = true
		for _, r := range h.Report.References {
			seen[r.Instance] = true
		}
	}
	return !slices.ContainsFunc(s.parts, func(p *dicosPart) bool { return p.Head.Image.Pixels && !seen[p.Head.SOPInstance] })
}

// testArticles are the words of the standard for what is scanned for a test.
var testArticles = []string{"NIST_FAT", "NIST_SAT", "OTK", "CTIQ", "CALIBRATION", "GIQ"}

// mode says what a scan was made for. Where the files contradict each other, it was an
// inspection: an alarm too many is better than one that is lost. A scan with a projected
// threat is a drill, unless a machine found something in it and does not say that it was
// that.
func (s *dicosScan) mode(e *event.XrayScan, reports []*dicosPart, truth bool, remark func(string)) string {
	operational, other, article, projected, live := false, false, false, false, false
	for _, p := range s.parts {
		operational = operational || p.Head.ScanType == "OPERATIONAL"
		other = other || p.Head.ScanType != "" && p.Head.ScanType != "OPERATIONAL"
		article = article || slices.Contains(testArticles, p.Head.TestArticle)
		projected = projected || p.Projected
	}
	for i, a := range e.Analyses {
		live = live || a.Decision == event.DecisionSuspicious && (a.By == "machine" || a.By == "aggregate") && !reports[i].Projected
	}
	if projected {
		remark("threat_projected")
	}
	switch {
	case article, projected && !live, truth && e.Decision != event.DecisionSuspicious:
		return event.ScanTest
	case operational && other:
		remark("scan_type_differs")
	case other:
		return event.ScanNonOperational
	}
	return event.ScanOperational
}
