package xray

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/iso6346"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/sidecar"
)

// clockAhead is by how much a scanner's clock may be ahead before that is remarked.
const clockAhead = 2 * time.Second

// maxWord bounds what a scanner says in its own words, in bytes.
const maxWord = 256

// scanEvent makes an event of what a sidecar or a message says, without its files. raw is
// that, received when the scan is told.
func (m *Meaning) scanEvent(dialect string, scan *sidecar.Scan, raw []byte, received time.Time) (event.XrayScan, error) {
	var random [event.MinSalt]byte
	if _, err := rand.Read(random[:]); err != nil {
		return event.XrayScan{}, fmt.Errorf("make a salt: %w", err)
	}
	zone, _ := m.location() // check has passed
	moment := func(t time.Time) time.Time {
		if t.IsZero() || scan.Zoned {
			return t
		}
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	}
	var doubts []string
	if what := zoneDoubt(scan.Start, zone); what != "" && !scan.Zoned {
		doubts = append(doubts, what)
	}
	e := event.XrayScan{
		ScanID: shortID(scan.ID), Missing: []string{}, Mode: mode(scan), TimeSource: event.TimeFromArrival, ReceivedTS: event.At(received),
		StartedTS: stamp(moment(scan.Start)), EndedTS: stamp(moment(scan.End)), Remarks: []string{},
		Scanner:    event.XrayScanner{Dialect: dialect, System: word(scan.System), Site: word(scan.Site), Software: word(scan.Software)},
		Containers: []event.ContainerCode{}, Analyses: []event.XrayAnalysis{}, Threats: []event.XrayThreat{}, Files: []event.XrayFile{}, Attachments: []event.Attachment{},
		Private: &event.XrayPrivate{Salt: event.Salt(random), Plates: []event.XrayPlate{}, Raw: event.RawOf(raw)},
	}
	if e.StartedTS != nil {
		e.TimeSource = event.TimeFromDevice
		if !scan.Zoned {
			e.TimeSource = event.TimeFromDeviceZone
		}
	}
	for _, a := range scan.Analyses[:min(len(scan.Analyses), sidecar.MaxAnalyses)] {
		x := event.XrayAnalysis{
			By: "operator", Name: word(a.Name), Status: "done", Decision: event.DecisionUnknown, ResultRaw: word(a.Result),
			StartedTS: stamp(moment(a.Start)), EndedTS: stamp(moment(a.End)),
		}
		meaning := m.Verdicts
		if a.Machine {
			x.By, meaning = "machine", m.MachineResults
		}
		switch {
		case a.Failed:
			x.Status = "failed" // whatever its result looks like
			if a.Text != "" {
				x.ResultRaw = word(strings.TrimSpace(a.Result + " " + a.Text))
			}
		case meaning[a.Result] != "":
			x.Decision = meaning[a.Result]
		case a.Result == "":
			x.Status = "unknown"
		}
		e.Analyses = append(e.Analyses, x)
	}
	e.Decision, e.DecisionRaw = decide(scan, m.Verdicts, e.Analyses)
	if code := m.alert(scan); code != "" {
		e.Decision, e.DecisionRaw = event.DecisionSuspicious, word(code)
	}
	e.Remarks = append(append(e.Remarks, doubts...), remarks(&e, received)...)
	for _, p := range scan.Plates[:min(len(scan.Plates), sidecar.MaxPlates)] {
		text := plate.Normalise(p.Text)
		of := "vehicle"
		if p.Trailer {
			of = "trailer"
		}
		e.Private.Plates = append(e.Private.Plates, event.XrayPlate{
			Of: of, Plate: text.Plate, MatchKey: text.MatchKey, PlateRaw: text.Raw, Confidence: sidecar.Confidence(p.Confidence),
		})
	}
	for _, c := range scan.Containers[:min(len(scan.Containers), sidecar.MaxContainers)] {
		code, check := iso6346.Parse(c.Text)
		e.Containers = append(e.Containers, event.ContainerCode{
			Position: c.Position, Code: code, Raw: word(c.Text), Check: string(check), Confidence: sidecar.Confidence(c.Confidence),
		})
	}
	return e, nil
}

// mode is what a scan was made for. The flags are those of the scanner, and the one that
// is furthest from an inspection counts.
func mode(s *sidecar.Scan) string {
	switch {
	case s.Training:
		return event.ScanTraining
	case s.Reference:
		return event.ScanReference
	case s.Test:
		return event.ScanTest
	}
	return event.ScanOperational
}

// decide says what came of a scan. Nothing is taken for "nothing found" but the word of
// somebody who has looked, where the dialect or verdicts say that it means so; what a
// machine failed to do is none.
func decide(scan *sidecar.Scan, verdicts map[string]string, analyses []event.XrayAnalysis) (decision, raw string) {
	raw = word(scan.Raw)
	decision = event.DecisionPending
	if scan.Inspected {
		decision = event.DecisionUnknown
		if scan.Clear || verdicts[scan.Raw] == event.DecisionNothingFound {
			decision = event.DecisionNothingFound
		}
	}
	operator := false
	for _, a := range analyses {
		if a.Status != "done" {
			continue
		}
		switch {
		case a.By == "operator" && (a.Name == "analysis" || a.Name == "operator"):
			// The last one counts: an operator may look twice.
			operator, decision, raw = true, a.Decision, a.ResultRaw
		case a.By == "machine" && a.Decision == event.DecisionSuspicious && !operator:
			decision = event.DecisionSuspicious
			if raw == "" {
				raw = a.ResultRaw
			}
		}
	}
	if decision == event.DecisionNothingFound && scan.Raw != "" && !scan.Clear && verdicts[scan.Raw] == "" {
		decision = event.DecisionUnknown // it may mean that the scan failed
	}
	if scan.Suspicious || verdicts[scan.Raw] == event.DecisionSuspicious {
		decision = event.DecisionSuspicious
	}
	return decision, raw
}

// doubt takes "nothing found" back where it can't be said: something of the scan is missing,
// or it was no inspection. Who looked may not have seen what the scanner did not send.
func doubt(e *event.XrayScan) {
	if e.Decision == event.DecisionNothingFound && (e.Completeness != "complete" || e.Mode != event.ScanOperational) {
		e.Decision = event.DecisionUnknown
	}
}

// zoneDoubt says what is wrong with a time that is told without a zone, where the clocks
// are changed: the hour comes twice, or not at all. Empty if nothing is.
func zoneDoubt(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return ""
	}
	at := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone)
	if at.Hour() != t.Hour() || at.Minute() != t.Minute() {
		return "time_impossible"
	}
	for _, other := range []time.Time{at.Add(-time.Hour), at.Add(time.Hour)} {
		if other.Hour() == t.Hour() {
			return "time_ambiguous"
		}
	}
	return ""
}

// remarks are what does not fit together.
func remarks(e *event.XrayScan, received time.Time) (list []string) {
	add := func(what string) {
		for _, w := range list {
			if w == what {
				return
			}
		}
		list = append(list, what)
	}
	before := func(a, b *event.Time) bool { return a != nil && b != nil && a.Before(b.Time) }
	if before(e.EndedTS, e.StartedTS) {
		add("ends_before_start")
	}
	for _, a := range e.Analyses {
		if before(a.EndedTS, a.StartedTS) {
			add("analysis_ends_before_start")
		}
		if before(a.StartedTS, e.StartedTS) {
			add("analysis_before_scan")
		}
	}
	if e.StartedTS != nil && e.StartedTS.After(received.Add(clockAhead)) {
		add("clock_ahead")
	}
	return list
}

func stamp(t time.Time) *event.Time {
	if t.IsZero() {
		return nil
	}
	at := event.At(t)
	return &at
}

// shortID bounds the id of a scan, which may be a path, so that two of them stay two.
func shortID(id string) string {
	if len(id) <= maxWord {
		return word(id)
	}
	sum := sha256.Sum256([]byte(id))
	end := "#" + hex.EncodeToString(sum[:8])
	return strings.ToValidUTF8(word(id)[:maxWord-len(end)-utf8.UTFMax], "") + end
}

// word bounds what a scanner says in its own words, and makes it text.
func word(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= maxWord {
		return s
	}
	return strings.ToValidUTF8(s[:maxWord], "")
}
