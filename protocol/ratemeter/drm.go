package ratemeter

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
)

// drmFrame is the length of a frame of a Rotem DRM-3000 or an MGP DRM, and of the radio WRM2
// that carries them (manuals of the DRM-3000, page 30, and of the MGP DRM, page 28): LF, six
// characters of identity, two of status, seven of dose, '0', five of rate, '0', two of check
// sum, CR. The unit of the rate is not told.
const drmFrame = 26

// drmStates are what byte 8 means. It tells one thing only.
var drmStates = map[byte]struct {
	over   bool
	alarms []Alarm
	fault  string
}{
	'0': {},
	'1': {over: true},
	'2': {alarms: []Alarm{{Kind: Threshold}}},
	'3': {fault: ExternalPower},
	'4': {fault: BatteryLow},
	'8': {fault: Detector},
}

func drm(o Options) Format {
	return Format{
		frame: func(b []byte) int {
			if n := skip(b, "\n"); n != 0 {
				return n
			}
			if len(b) >= drmFrame && b[drmFrame-1] == '\r' {
				return drmFrame
			}
			// A frame that was cut short is followed by another one. The check sum of this one
			// may look like its beginning, so only a frame that has its end is believed before
			// that.
			if i := bytes.IndexByte(b[1:], '\n'); i >= 0 && len(b) >= drmFrame {
				return -(i + 1)
			}
			if len(b) >= drmFrame {
				return -len(b)
			}
			return 0
		},
		parse:  func(b []byte) (Reading, error) { return parseDRM(b, o) },
		append: func(b []byte, r Reading) []byte { return appendDRM(b, r, o) },
	}
}

func sum(b []byte) (s byte) {
	for _, c := range b {
		s += c
	}
	return s
}

func parseDRM(b []byte, o Options) (Reading, error) {
	if len(b) != drmFrame {
		return Reading{}, fmt.Errorf("a frame has %d bytes, and not %d", drmFrame, len(b))
	}
	switch o.Checksum {
	case "none":
	case "hex":
		v, err := hex.DecodeString(string(b[23:25]))
		if err != nil || sum(b[:23])+b[25]+v[0] != 0 {
			return Reading{}, fmt.Errorf("the check sum is %q, which does not make the frame add up to 0", b[23:25])
		}
	default:
		if s := sum(b); s != 0 {
			return Reading{}, fmt.Errorf("the bytes add up to %02x, and not to 0", s)
		}
	}
	state, known := drmStates[b[7]]
	if !known {
		return Reading{}, fmt.Errorf("the status %q is not known", b[7])
	}
	if b[16] != '0' || b[22] != '0' {
		return Reading{}, fmt.Errorf("bytes 17 and 23 are %q and %q, and not 0", b[16], b[22])
	}
	r := Reading{ID: strings.TrimSpace(string(b[1:7])), Status: true, Partial: b[7] != '0', Over: state.over}
	for _, a := range state.alarms {
		r.Alarms = append(r.Alarms, Alarm{a.Kind, o.Channels[0]})
	}
	if state.fault != "" {
		r.Faults = []Fault{{state.fault, string(b[7:8])}}
		r.NoValue = state.fault == Detector
	}
	if b[8] != '0' { // several states at once; what they are is not public
		r.Flags = []string{FlagStatus}
	}
	text := string(b[17:22])
	if strings.Trim(text, "0123456789") != "" {
		return Reading{}, fmt.Errorf("%q is no rate of four digits and an exponent", text)
	}
	mantissa := 0
	for _, c := range text[:4] {
		mantissa = 10*mantissa + int(c-'0')
	}
	if o.Channels[0] != "" {
		r.Values = []Value{{Channel: o.Channels[0], Value: trim(float64(mantissa) / 1000 * math.Pow10(int(text[4]-'0'))), Text: text}}
	}
	return r, nil
}

func appendDRM(b []byte, r Reading, o Options) []byte {
	status := byte('0')
	switch {
	case r.Over:
		status = '1'
	case hasFault(r, Detector):
		status = '8'
	case len(r.Alarms) > 0:
		status = '2'
	case hasFault(r, ExternalPower):
		status = '3'
	case hasFault(r, BatteryLow):
		status = '4'
	}
	mantissa, exponent := 0.0, 0
	if len(r.Values) > 0 {
		mantissa = r.Values[0].Value
	}
	for ; mantissa >= 10 && exponent < 9; exponent++ {
		mantissa /= 10
	}
	id := fmt.Sprintf("%6.6s", r.ID)
	frame := fmt.Appendf(nil, "\n%s%c000012.30%04d%d0", id, status, int(math.Min(math.Round(mantissa*1000), 9999)), exponent)
	rest := -(sum(frame) + '\r')
	if o.Checksum == "hex" {
		frame = fmt.Appendf(frame, "%02X", rest)
	} else {
		frame = append(frame, '0', rest-'0')
	}
	return append(append(b, frame...), '\r')
}
