package agent

import (
	"fmt"
	"strings"

	"github.com/lanepost/lanepost/protocol/event"
)

// sentence says in some words what an event tells, for a person at the box. Nothing
// personal stands in it but a plate as far as show permits.
func sentence(d event.Data, show string) string {
	switch d := d.(type) {
	case event.RadiationOccupancy:
		return occupancySentence(d)
	case event.RadiationAlarm:
		text := fmt.Sprintf("%s alarm: %d counts", d.Kind, d.Sum)
		if d.NSigma != nil {
			text += fmt.Sprintf(", %.1f sigma", *d.NSigma)
		}
		return text
	case event.RadiationBackground:
		text := fmt.Sprintf("background gamma %.0f cps, neutron %.1f cps", sum(d.GammaCPS), sum(d.NeutronCPS))
		if len(d.NeutronCPS) == 0 {
			text = fmt.Sprintf("background gamma %.0f cps", sum(d.GammaCPS))
		}
		return text
	case event.RadiationFault:
		return join("fault", d.Kind, d.Code, d.State)
	case event.RadiationTamper:
		return join("cabinet opened:", d.State)
	case event.RadiationSetupChanged:
		if d.First {
			return fmt.Sprintf("setup read, settings: %d", len(d.Setup))
		}
		return fmt.Sprintf("setup changed, settings: %d", len(d.Changes))
	case event.RadiationDiagnostic:
		return join(d.Kind, d.Detail)
	case event.RadiationIdentification:
		names := make([]string, 0, len(d.Nuclides))
		for _, n := range d.Nuclides {
			names = append(names, n.Name)
		}
		return join("identification:", d.Outcome, strings.Join(names, ", "))
	case event.RadiationSpectrum:
		return fmt.Sprintf("spectra: %d documents, %d measurements", d.Documents, len(d.Measurements))
	case event.RadiationRate:
		parts := make([]string, 0, len(d.Channels))
		for _, c := range d.Channels {
			parts = append(parts, fmt.Sprintf("%s %.4g %s", c.Channel, c.Last, c.Unit))
		}
		return strings.Join(parts, ", ")
	case event.RadiationRateAlarm:
		text := join(d.Kind, "alarm", d.State)
		if d.Value != nil {
			text += fmt.Sprintf(": %.4g %s", *d.Value, d.Unit)
		}
		return text
	case event.RadiationEnvironment:
		return join(fmt.Sprintf("environment: %d records", d.Records), strings.Join(d.Faults, ", "))
	case event.PlateRead:
		text := join("plate", shownPlate(d, show), d.Country.Code)
		if d.Confidence.Value != nil {
			text += fmt.Sprintf(", %.0f %% sure", 100**d.Confidence.Value)
		}
		if d.Direction != "unknown" {
			text += ", " + d.Direction
		}
		return text
	case event.PlateNoRead:
		return "vehicle, no plate read"
	case event.XrayScan:
		return join("scan", fmt.Sprintf("revision %d,", d.Revision), plain(d.Completeness)+",", plain(d.Decision))
	case event.XrayCycle:
		return join("scan cycle", plain(d.Phase), plain(d.End))
	case event.XrayJoin:
		return join("scan and files:", plain(d.Outcome))
	case event.LaneWeight:
		if d.WeightKG != nil {
			return fmt.Sprintf("%.0f kg", *d.WeightKG)
		}
		return join("no weight:", d.Outcome)
	case event.LaneTag:
		return fmt.Sprintf("tag, told %d times", d.Reports)
	case event.LaneDocument:
		if d.Valid {
			return join("document", d.DocumentType, d.IssuingState)
		}
		return "document, read wrongly"
	case event.LaneSignal:
		return signalSentence(d)
	case event.DeviceOnline:
		return "online"
	case event.DeviceSilent:
		return fmt.Sprintf("silent for %.0f s", d.LimitS) // what to do stands with its state
	case event.DeviceOffline:
		return join("offline:", d.Reason)
	case event.DeviceFault:
		return join("driver failed:", d.Reason)
	case event.DeviceUnparsed:
		return fmt.Sprintf("pieces not understood: %d", d.Count)
	case event.DeviceRefused:
		return "messages from elsewhere refused"
	case event.DeviceAttachment:
		return join("attachment", d.Outcome)
	case event.AgentStarted:
		return join("agent started, version", d.Version)
	case event.AgentStopped:
		return join("agent stopped:", d.Reason)
	case event.AgentConfigChanged:
		if d.Applied {
			return "configuration reloaded"
		}
		return "changed configuration refused"
	case event.AgentClockChanged:
		return fmt.Sprintf("clock stepped by %.3f s", d.StepS)
	case event.AgentLoss:
		return fmt.Sprintf("%d %s events lost: %s", d.Count, d.Priority, plain(d.Reason))
	case event.AgentRequest:
		return join("request", d.Command)
	case event.AgentCheckpoint:
		return "checkpoint signed"
	}
	return plain(strings.TrimPrefix(event.TypeName(d.Type()), "lanepost."))
}

func occupancySentence(d event.RadiationOccupancy) string {
	var text string
	switch {
	case d.GammaAlarm && d.NeutronAlarm:
		text = "gamma and neutron alarm"
	case d.GammaAlarm:
		text = "gamma alarm"
	case d.NeutronAlarm:
		text = "neutron alarm"
	case d.Outcome == event.OutcomeNoAlarm:
		text = "no alarm"
	default:
		text = "incomplete: not observed from beginning to end"
	}
	if (d.GammaAlarm || d.NeutronAlarm) && !(d.End == event.EndGX || d.End == event.EndClear) {
		text += ", not observed to its end"
	}
	if d.GammaMaxNSigma != nil {
		text += fmt.Sprintf(", gamma %.1f sigma", *d.GammaMaxNSigma)
	}
	return text + fmt.Sprintf(", %.1f s", d.DurationS)
}

func signalSentence(d event.LaneSignal) string {
	value := d.Text
	switch {
	case value != "":
	case d.State != nil && *d.State:
		value = "on"
	case d.State != nil:
		value = "off"
	case d.Value != nil:
		value = fmt.Sprintf("%g", *d.Value)
	}
	if d.Quality != "good" {
		value = join(value, "("+d.Quality+")")
	}
	return join(d.Signal+":", value)
}

func sum(list []float64) (total float64) {
	for _, v := range list {
		total += v
	}
	return total
}

// plain makes words of a constant of the events.
func plain(s string) string { return strings.NewReplacer("_", " ", "-", " ", ".", " ").Replace(s) }

// join puts spaces between what is not empty.
func join(words ...string) string {
	var list []string
	for _, w := range words {
		if w != "" {
			list = append(list, w)
		}
	}
	return strings.Join(list, " ")
}
