package tsa

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Setup is the content of one setup record. Which fields hold something
// depends on the record's tag; placeholders are in Fields only.
// Meanings: OSCAR's driver and Rapiscan's daily file reader.
type Setup struct {
	// SG1.

	// GammaHighLimit and GammaLowLimit bound a healthy gamma background of one
	// detector, in counts per second.
	GammaHighLimit, GammaLowLimit int
	// Intervals is how many samples of 200 ms the alarm test sums.
	Intervals int
	// HoldIn is for how many samples of 200 ms an occupancy goes on after the
	// beams are clear.
	HoldIn int
	// NSigma is the alarm threshold in units of the background's square root.
	NSigma float64

	// SG2.

	// DetectorsOnLine tells which detectors are in use.
	DetectorsOnLine [Detectors]bool
	// MasterLowerLevel and MasterUpperLevel are the gamma discriminators of the
	// master pillar, in volts.
	MasterLowerLevel, MasterUpperLevel float64
	// RelayMode is 0 for off, 1 for on, 3 for automatic.
	RelayMode int
	// Algorithm tells which groups of detectors are tested.
	Algorithm Algorithm
	// Software is A for vehicles, T for trains.
	Software string

	// SG3.

	// SlaveLowerLevel and SlaveUpperLevel are the gamma discriminators of the
	// slave pillar, in volts.
	SlaveLowerLevel, SlaveUpperLevel float64
	// BackgroundSigma is the background sigma, or throw-through, as it came.
	BackgroundSigma float64
	// GammaBackgroundSeconds is over how long the gamma background is averaged.
	GammaBackgroundSeconds int
	// Firmware is the firmware's version.
	Firmware string

	// SN1.

	// NeutronHighLimit bounds a healthy neutron background, in counts per second.
	NeutronHighLimit int
	// NeutronMaxIntervals, Alpha, ZMax and NeutronSequentialIntervals are set
	// for the neutron alarm test, which is not public: the numbers as they came,
	// of unknown scale.
	NeutronMaxIntervals        int
	Alpha, ZMax                float64
	NeutronSequentialIntervals int
	// NeutronBackgroundSeconds is over how long the neutron background is
	// averaged.
	NeutronBackgroundSeconds int

	// SN2: the neutron discriminators of the two pillars, in volts.

	NeutronMasterLowerLevel, NeutronMasterUpperLevel float64
	NeutronSlaveLowerLevel, NeutronSlaveUpperLevel   float64
}

// Algorithm is the set of detector groups that the gamma alarm test covers:
// all together, 1+3 and 2+4, 1+2 and 3+4, and each by itself.
type Algorithm struct{ Sum, Horizontal, Vertical, Single bool }

// Field is one setting of a setup record by name.
type Field struct{ Name, Value string }

// setupFields names the fields of each setup record in the order of the wire.
var setupFields = map[Tag][]string{
	SG1: {"gamma_high_limit_cps", "gamma_low_limit_cps", "alarm_intervals", "hold_in_intervals", "n_sigma", "sg1_placeholder"},
	SG2: {"detectors_on_line", "master_lower_level_v", "master_upper_level_v", "relay_mode", "algorithm", "software"},
	SG3: {"slave_lower_level_v", "slave_upper_level_v", "gamma_background_s", "background_sigma", "firmware"},
	SN1: {"neutron_high_limit_cps", "neutron_max_intervals", "neutron_alpha", "neutron_z_max", "neutron_sequential_intervals", "neutron_background_s"},
	SN2: {"neutron_master_lower_level_v", "neutron_master_upper_level_v", "neutron_slave_lower_level_v", "neutron_slave_upper_level_v", "sn2_placeholder"},
}

// SetupFields lists the settings of a setup record in the order of the wire,
// with their values as text; nil for other records. Names are the same in every
// version of this package.
func (r Record) SetupFields() []Field {
	names := setupFields[r.Tag]
	if names == nil {
		return nil
	}
	list := make([]Field, 0, len(names))
	values := bytes.Split(r.Fields, []byte{','})
	for i, name := range names {
		if i < len(values) {
			list = append(list, Field{name, string(values[i])})
		}
	}
	return list
}

// parseSetup reads a setup record: the count of fields and the width of the
// whole are the portal's, the width of a single field may differ.
func parseSetup(tag Tag, body, fields []byte) (*Setup, error) {
	if err := printable(fields); err != nil {
		return nil, err
	}
	names := setupFields[tag]
	v := strings.Split(string(fields), ",")
	if len(v) != len(names) {
		return nil, fmt.Errorf("%d fields, want %d", len(v), len(names))
	}
	if len(body) != classicWidth {
		return nil, fmt.Errorf("%d characters, want %d", len(body), classicWidth)
	}
	var s Setup
	var err error
	number := func(i int) int {
		n, e := strconv.Atoi(v[i])
		if e != nil || strings.Trim(v[i], "0123456789") != "" {
			err = fmt.Errorf("%s is %q, want a whole number", names[i], v[i])
		}
		return n
	}
	fraction := func(i int) float64 {
		n, ok := decimal([]byte(v[i]))
		if !ok {
			err = fmt.Errorf("%s is %q, want a number", names[i], v[i])
		}
		return n
	}
	bits := func(i int) (b [4]bool) {
		if len(v[i]) != 4 || strings.Trim(v[i], "01") != "" {
			err = fmt.Errorf("%s is %q, want four bits", names[i], v[i])
			return b
		}
		for k := range b {
			b[k] = v[i][k] == '1'
		}
		return b
	}
	switch tag {
	case SG1:
		s.GammaHighLimit, s.GammaLowLimit = number(0), number(1)
		s.Intervals, s.HoldIn = number(2), number(3)
		s.NSigma = fraction(4)
	case SG2:
		s.DetectorsOnLine = bits(0)
		s.MasterLowerLevel, s.MasterUpperLevel = fraction(1), fraction(2)
		s.RelayMode = number(3)
		a := bits(4)
		s.Algorithm = Algorithm{Sum: a[0], Horizontal: a[1], Vertical: a[2], Single: a[3]}
		s.Software = v[5]
	case SG3:
		s.SlaveLowerLevel, s.SlaveUpperLevel = fraction(0), fraction(1)
		s.GammaBackgroundSeconds, s.BackgroundSigma = number(2), fraction(3)
		s.Firmware = v[4]
	case SN1:
		s.NeutronHighLimit, s.NeutronMaxIntervals = number(0), number(1)
		s.Alpha, s.ZMax = fraction(2), fraction(3)
		s.NeutronSequentialIntervals, s.NeutronBackgroundSeconds = number(4), number(5)
	case SN2:
		s.NeutronMasterLowerLevel, s.NeutronMasterUpperLevel = fraction(0), fraction(1)
		s.NeutronSlaveLowerLevel, s.NeutronSlaveUpperLevel = fraction(2), fraction(3)
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}
