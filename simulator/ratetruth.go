package simulator

import "fmt"

// RateTruth is a vehicle that passed an area monitor.
type RateTruth struct {
	Kind    string  `json:"kind"`
	Lane    string  `json:"lane"`
	Device  string  `json:"device"`
	AtS     float64 `json:"at_s"`
	Vehicle int     `json:"vehicle"`
	// PeakUSvH is the gamma dose rate at the strongest moment, NeutronUSvH that of neutrons,
	// in microsieverts in an hour.
	PeakUSvH    float64 `json:"peak_usv_h"`
	NeutronUSvH float64 `json:"neutron_usv_h"`
	// Alarm: it exceeds the monitor's own threshold, and the monitor says so if its format has
	// a word for it. Overload: there is more than the monitor can measure. Untold: the monitor
	// tells nothing of it.
	Alarm    bool `json:"alarm,omitempty"`
	Overload bool `json:"overload,omitempty"`
	Untold   bool `json:"untold,omitempty"`
	// Fails and LowBattery are what the monitor says of itself meanwhile.
	Fails      bool `json:"fails,omitempty"`
	LowBattery bool `json:"low_battery,omitempty"`
}

// EntryKind implements Entry.
func (*RateTruth) EntryKind() string { return "rate" }

// EntryTime implements Entry.
func (r *RateTruth) EntryTime() float64 { return r.AtS }

func (r *RateTruth) String() string {
	text := fmt.Sprintf("%s/%s: vehicle %d gives %.2f uSv/h", r.Lane, r.Device, r.Vehicle, r.PeakUSvH)
	for _, x := range []struct {
		on   bool
		text string
	}{{r.Alarm, "an alarm"}, {r.Overload, "more than can be measured"}, {r.Untold, "which is not told"}, {r.Fails, "the detector fails"}, {r.LowBattery, "the battery is low"}} {
		if x.on {
			text += ", " + x.text
		}
	}
	return text
}
