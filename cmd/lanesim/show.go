package main

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
)

// tone is how a line stands out.
type tone int

const (
	plain tone = iota
	quiet
	good
	warning
	alarm
)

// paint wraps text in the colour of its tone for a terminal.
func paint(t tone, text string) string {
	const reset = "\x1b[0m"
	code := map[tone]string{quiet: "\x1b[2m", good: "\x1b[32m", warning: "\x1b[33m", alarm: "\x1b[1;37;41m"}[t]
	if code == "" {
		return text
	}
	return code + text + reset
}

// describe says what an event says in one readable line, and how it should
// stand out.
func describe(d event.Data) (string, tone) {
	switch e := d.(type) {
	case *event.RadiationAlarm:
		if e.Reported != nil {
			return fmt.Sprintf("%s ALARM  count %d (%s)", strings.ToUpper(e.Kind), e.Sum, strings.Join(e.Status, ", ")), alarm
		}
		if e.Kind == "neutron" {
			return fmt.Sprintf("NEUTRON ALARM  %d counts in one second%s", e.Sum, against(e.BgSumCPS)), alarm
		}
		return fmt.Sprintf("GAMMA ALARM  %d counts/s%s%s", e.Sum, sigma(e.NSigma), against(e.BgSumCPS)), alarm
	case *event.RadiationOccupancy:
		return describeOccupancy(e)
	case *event.RadiationBackground:
		var sum float64
		for _, c := range e.GammaCPS {
			sum += c
		}
		if v, ok := e.Reported["gamma_background"]; ok && len(e.GammaCPS) == 0 {
			return fmt.Sprintf("background  %.0f gamma, in the portal's own unit", v), quiet
		}
		return fmt.Sprintf("background  %.0f counts/s gamma over %d detectors", sum, len(e.GammaCPS)), quiet
	case *event.RadiationFault:
		what := strings.ReplaceAll(e.Kind, "_", " ")
		if len(e.CPS) > 0 {
			what += " background"
		} else {
			what = strings.TrimSpace(what + " " + strings.Join(e.Detectors, " "))
		}
		if e.State == "cleared" {
			return "fault cleared  " + what, good
		}
		return "FAULT  " + what, warning
	case *event.RadiationRate:
		return describeRate(e)
	case *event.RadiationRateAlarm:
		return describeRateAlarm(e)
	case *event.RadiationEnvironment:
		return strings.TrimRight(fmt.Sprintf("environment  %s, %s  %s", count(uint64(e.Records), "record"), count(uint64(e.SpeedMessages), "speed message"), strings.Join(e.Quality, " ")), " "), quiet
	case *event.RadiationTamper:
		if e.State == "on" {
			return "TAMPER  the portal's cabinet contact is open", alarm
		}
		return "tamper cleared", good
	case *event.RadiationSetupChanged:
		var parts []string
		for _, c := range e.Changes {
			parts = append(parts, fmt.Sprintf("%s %s -> %s", c.Name, c.Before, c.After))
		}
		if len(parts) == 0 {
			return "setup reported, as expected", quiet
		}
		return "setup changed  " + strings.Join(parts, ", "), warning
	case *event.RadiationDiagnostic:
		return strings.ReplaceAll(e.Kind, "_", " ") + "  " + e.Detail, warning
	case *event.DeviceOnline:
		return "online  " + e.Connect, good
	case *event.DeviceOffline:
		return "OFFLINE  " + e.Reason, warning
	case *event.DeviceSilent:
		return "SILENT  " + e.Hint, warning
	case *event.DeviceFault:
		return "FAULT  " + e.Reason, warning
	case *event.DeviceUnparsed:
		why := ""
		if len(e.Samples) > 0 {
			why = ": " + e.Samples[0].Reason
		}
		return fmt.Sprintf("%d unreadable%s", e.Count, why), warning
	case *event.DeviceRefused:
		return "REFUSED  " + e.Hint, warning
	case *event.PlateRead:
		return describePlate(e), plain
	case *event.PlateNoRead:
		return "plate not read  " + strings.ReplaceAll(e.Reason, "_", " "), warning
	case *event.XrayScan:
		return describeScan(e)
	case *event.XrayJoin:
		return describeJoin(e)
	case *event.LaneWeight:
		if e.WeightKG == nil {
			return "weighing  " + e.Outcome + "  " + strings.Join(e.Flags, " "), warning
		}
		return strings.TrimSpace(fmt.Sprintf("weight %.0f kg  %.1f s  %s", *e.WeightKG, e.DurationS, strings.Join(e.Flags, " "))), plain
	case *event.LaneTag:
		what := "RFID tag"
		if e.Private != nil && e.Private.Redacted.IsZero() {
			what += " " + plate.Mask(e.Private.EPC)
		}
		return strings.TrimSpace(fmt.Sprintf("%s  %d reports  %s", what, e.Reports, strings.Join(e.Flags, " "))), plain
	case *event.RadiationIdentification:
		return describeIdentification(e)
	case *event.RadiationSpectrum:
		if e.FaultsChanged && len(e.Faults) > 0 {
			return fmt.Sprintf("INSTRUMENT FAULT  %s %s", e.Faults[0].Severity, cmp.Or(e.Faults[0].Description, e.Faults[0].Code)), warning
		}
		return fmt.Sprintf("spectra  %s, the last with %s", count(uint64(e.Documents), "document"), count(uint64(len(e.Measurements)), "measurement")), plain
	case *event.LaneSignal:
		return describeSignal(e)
	case *event.XrayCycle:
		return describeCycle(e)
	case *event.LaneDocument:
		if !e.Valid {
			return "document  " + e.Format + "  check digits do not fit", warning
		}
		return strings.TrimSpace(fmt.Sprintf("document %s %s  %s", e.DocumentType, e.IssuingState, strings.ReplaceAll(e.Validity, "_", " "))), plain
	case *event.AgentStarted:
		return fmt.Sprintf("agent started  version %s, %d devices", e.Version, e.Devices), good
	case *event.AgentStopped:
		return "agent stopped  " + e.Reason, plain
	case *event.AgentCheckpoint:
		return "checkpoint signed  " + heads(e.Statement), plain
	case *event.AgentKey:
		return "signing key  " + e.Reason + ", " + e.PublicKey, plain
	case *event.AgentRequest:
		return fmt.Sprintf("request %s from %s  %s", e.Command, e.From, e.Outcome), plain
	case *event.DeviceAttachment:
		return fmt.Sprintf("attachment %s  %s, %d bytes, to %s", e.Outcome, e.MediaType, e.Size, e.Uplink), plain
	case *event.AgentLoss:
		return fmt.Sprintf("LOSS  %d %s events: %s", e.Count, e.Priority, e.Detail), alarm
	}
	return d.Type(), plain
}

// describeRate says what an area monitor measured.
func describeRate(e *event.RadiationRate) (string, tone) {
	var parts []string
	for _, c := range e.Channels {
		parts = append(parts, fmt.Sprintf("%s %.3g %s (%.3g to %.3g)", c.Channel, c.Mean, c.Unit, c.Min, c.Max))
	}
	text := strings.TrimSpace("radiation  " + strings.Join(parts, ", ") + "  " + strings.Join(e.Quality, " "))
	if len(e.Quality) > 0 {
		return text, warning
	}
	return text, quiet
}

// describeRateAlarm says what an area monitor alarms for.
func describeRateAlarm(e *event.RadiationRateAlarm) (string, tone) {
	what := strings.TrimSpace(e.Kind + " " + e.Channel)
	if e.State == "cleared" {
		if e.PeakValue != nil {
			what += fmt.Sprintf(", at most %.3g %s", *e.PeakValue, e.Unit)
		}
		return fmt.Sprintf("radiation alarm over  %s, after %.0f s", what, e.DurationS), good
	}
	if e.Value != nil {
		what += fmt.Sprintf(", %.3g %s", *e.Value, e.Unit)
	}
	return "RADIATION ALARM  " + what, alarm
}

// heads tells up to which sequences a checkpoint's statement goes.
func heads(statement string) string {
	var list []string
	for _, line := range strings.Split(statement, "\n") {
		class, rest, _ := strings.Cut(line, " ")
		sequence, _, _ := strings.Cut(rest, " ")
		if n, err := event.ParseSequence(sequence); err == nil {
			list = append(list, fmt.Sprintf("%s up to %d", class, n))
		}
	}
	return strings.Join(list, ", ")
}

func describeSignal(e *event.LaneSignal) (string, tone) {
	what := "unknown"
	switch {
	case e.State != nil:
		what = map[bool]string{true: "on", false: "off"}[*e.State]
	case e.Value != nil:
		what = strings.TrimSpace(fmt.Sprintf("%g %s", *e.Value, e.Text))
	}
	line := fmt.Sprintf("%s %s  %s", e.Signal, what, strings.ReplaceAll(e.Reason, "_", " "))
	switch {
	case e.Severity == event.SeveritySafety:
		return "SAFETY  " + line, alarm
	case e.Severity == event.SeverityWarning:
		return strings.TrimSpace(line + "  " + e.Detail), warning
	}
	return line, plain
}

func describeCycle(e *event.XrayCycle) (string, tone) {
	line := strings.TrimSpace("scan " + e.Phase + "  " + strings.ReplaceAll(strings.Join(e.Flags, " "), "_", " "))
	if e.DurationS != nil {
		line += fmt.Sprintf("  %.1f s, by %s", *e.DurationS, e.End)
	}
	if e.Scans > 1 {
		line += fmt.Sprintf(", %d of them", e.Scans)
	}
	switch {
	case e.CutShort:
		return line + ", CUT SHORT", alarm
	case e.Unobserved:
		return line + ", its end was not seen", warning
	}
	return line, plain
}

// describeIdentification is what an instrument has found, on one line.
func describeIdentification(e *event.RadiationIdentification) (string, tone) {
	var found []string
	for _, n := range e.Nuclides {
		if n.Identified == nil || *n.Identified {
			found = append(found, strings.TrimSpace(n.Name+" "+n.Category))
		}
	}
	what := strings.ReplaceAll(e.Outcome, "_", " ")
	if len(found) > 0 {
		what = strings.Join(found, ", ")
	}
	if len(e.Alarms) == 0 {
		return "identification  " + what, plain
	}
	return fmt.Sprintf("IDENTIFICATION ALARM (%s)  %s", e.Alarms[0].Category, what), alarm
}

// describeScan tells an X-ray scan without the plate.
func describeScan(e *event.XrayScan) (string, tone) {
	var b strings.Builder
	fmt.Fprintf(&b, "X-ray scan %s", e.ScanID)
	if e.Revision > 1 {
		fmt.Fprintf(&b, ", revision %d", e.Revision)
	}
	if e.Mode != event.ScanOperational {
		b.WriteString(" (" + e.Mode + ")")
	}
	b.WriteString("  " + strings.ReplaceAll(e.Decision, "_", " "))
	for _, c := range e.Containers {
		if c.Code != "" {
			fmt.Fprintf(&b, ", container %s %s", c.Code, c.Check)
		}
	}
	if n := len(e.Threats) + e.ThreatsMore; n > 0 {
		fmt.Fprintf(&b, ", %d threats marked", n)
	}
	if len(e.Missing) > 0 {
		fmt.Fprintf(&b, ", %d files missing", len(e.Missing))
	}
	fmt.Fprintf(&b, ", %d attachments", len(e.Attachments))
	switch {
	case e.Class() == event.Urgent:
		return b.String(), alarm
	case e.Completeness == "partial":
		return b.String(), warning
	}
	return b.String(), plain
}

func describeJoin(e *event.XrayJoin) (string, tone) {
	switch {
	case e.Outcome == event.JoinNoFiles && e.Class() == event.Urgent:
		return fmt.Sprintf("SCANNED, AND NO FILES CAME  for %.0f s", e.WaitedS), alarm
	case e.Outcome == event.JoinNoFiles:
		return fmt.Sprintf("scanned, and no files came  for %.0f s", e.WaitedS), warning
	case e.Outcome == event.JoinNoCycle:
		return fmt.Sprintf("files of a scan that nobody saw  %s", e.ScanID), warning
	}
	text := fmt.Sprintf("the files of scan %s are those of the scan %.0f s before, by %s", e.ScanID, e.WaitedS, e.By)
	if e.ClockAheadS != nil {
		way := "ahead"
		if *e.ClockAheadS < 0 {
			way = "behind"
		}
		text += fmt.Sprintf(", the scanner's clock is %.1f s %s", math.Abs(*e.ClockAheadS), way)
	}
	if !e.Certain {
		return text + " (uncertain)", warning
	}
	return text, plain
}

// describePlate masks the plate: a terminal is seen by many.
func describePlate(e *event.PlateRead) string {
	var b strings.Builder
	b.WriteString("plate")
	if e.Private != nil && e.Private.Plate != "" {
		b.WriteString(" " + plate.Mask(e.Private.Plate))
	}
	if e.Country.Code != "" {
		b.WriteString(" (" + e.Country.Code + ")")
	}
	if c := e.Confidence.Value; c != nil {
		fmt.Fprintf(&b, ", %.0f %% sure", 100**c)
	}
	if e.Direction != "" && e.Direction != "unknown" {
		b.WriteString(", " + e.Direction)
	}
	if e.Capture.Revision != event.RevisionSingle {
		b.WriteString(", " + e.Capture.Revision)
	}
	if e.Capture.Replayed {
		b.WriteString(", sent late")
	}
	if n := len(e.Attachments); n > 0 {
		fmt.Fprintf(&b, ", %d pictures", n)
	}
	return b.String()
}

func describeOccupancy(e *event.RadiationOccupancy) (string, tone) {
	var b strings.Builder
	t := plain
	switch e.Outcome {
	case event.OutcomeAlarm:
		t = alarm
		var kinds []string
		if e.GammaAlarm {
			kinds = append(kinds, "gamma")
		}
		if e.NeutronAlarm {
			kinds = append(kinds, "neutron")
		}
		fmt.Fprintf(&b, "occupancy ALARM (%s)", strings.Join(kinds, " and "))
	case event.OutcomeIncomplete:
		t = warning
		fmt.Fprintf(&b, "occupancy INCOMPLETE (%s)", strings.ReplaceAll(e.End, "_", " "))
	default:
		b.WriteString("occupancy, no alarm")
	}
	length := float64(e.GammaSamples) * 0.2
	if e.Reported != nil { // its samples are looks
		length = e.DurationS
	}
	fmt.Fprintf(&b, "  %.1f s", length)
	if e.SpeedKPH != nil {
		fmt.Fprintf(&b, ", %.0f km/h", *e.SpeedKPH)
	}
	if e.GammaMax5SampleSum != nil {
		fmt.Fprintf(&b, ", max %d counts/s", *e.GammaMax5SampleSum)
	}
	b.WriteString(sigma(e.GammaMaxNSigma))
	if e.Baseline != nil && e.Baseline.BackgroundDepressed {
		b.WriteString(", background depressed")
		if e.Baseline.MaxNSigma != nil {
			fmt.Fprintf(&b, " (%.1f sigma against the half-hour baseline)", *e.Baseline.MaxNSigma)
		}
	}
	return b.String(), t
}

func sigma(n *float64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf(", %.1f sigma", *n)
}

func against(bg *float64) string {
	if bg == nil {
		return ", background unknown"
	}
	return fmt.Sprintf(", background %.0f", *bg)
}
