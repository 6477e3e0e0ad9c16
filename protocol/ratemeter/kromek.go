package ratemeter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Framing and reports of Kromek's D3S and D5, from a public driver: there is no document of
// the maker's. A message is length, mode, component, report, payload and a CRC, and on the
// line it stands between framing bytes, as SLIP does it.
const (
	slipEnd, slipEsc, slipEscEnd, slipEscEsc = 0xc0, 0xdb, 0xdc, 0xdd

	kromekHead     = 5 // length in two bytes, low byte first; mode; component; report
	kromekOverhead = kromekHead + 2
	// kromekSpectrum is where the channels of the spectrum begin in a payload; there are
	// 4096 of two bytes.
	kromekSpectrum    = 54
	kromekRadiometric = kromekSpectrum + 2*4096
	kromekMost        = kromekRadiometric + kromekOverhead
	kromekStatus      = 17 // of a status report, before the nuclides

	boardComponent, extendedComponent          = 7, 8
	reportRadiometrics, reportStatus           = 0xc2, 0x82
	reportAcknowledged, reportNotAcknowledged  = 0xfe, 0xff
	kromekDoseAt, kromekRateAt                 = 12, 16
	kromekNeutronLive, kromekNeutronCounts     = 24, 28
	kromekGammaLive, kromekGammaCounts         = 38, 42
	kromekSequenceAt, kromekSpectrumBitsAt     = 8, 52
	kromekDoseAlarm, kromekGammaAlarm, kromekN = 0, 1, 2
)

// liveTimes are how many of a unit are a second.
var liveTimes = map[string]float64{"": 0, "s": 1, "ms": 1e3, "us": 1e6}

// kromek asks for the radiometrics and for the alarms in turn. The requests bear a CRC of
// zero, as the instruments take it.
func kromek(o Options) Format {
	request := func(component, report byte) []byte {
		return appendSLIP(nil, []byte{kromekOverhead, 0, 0, component, report, 0, 0})
	}
	return Format{
		Requests: [][]byte{request(boardComponent, reportRadiometrics), request(extendedComponent, reportStatus)},
		longest:  maxBinary, frame: slipFrame, between: "\xc0",
		parse:  func(b []byte) (Reading, error) { return parseKromek(b, o) },
		append: func(b []byte, r Reading) []byte { return appendKromek(b, r, o) },
	}
}

// slipFrame takes a frame with the framing byte at both ends. The one at the end may be the
// beginning of the next one too, so it is left in place.
func slipFrame(b []byte) int {
	if i := bytes.IndexByte(b, slipEnd); i > 0 {
		return -i
	} else if i < 0 {
		return -len(b)
	}
	switch i := bytes.IndexByte(b[1:], slipEnd); {
	case i == 0:
		return -1 // nothing between two of them
	case i > 0:
		return i + 1
	}
	return 0
}

// CRC16 is the CRC of a message: polynomial 0x1021, begun with 0xffff.
func CRC16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

func appendSLIP(b, message []byte) []byte {
	b = append(b, slipEnd)
	for _, c := range message {
		switch c {
		case slipEnd:
			b = append(b, slipEsc, slipEscEnd)
		case slipEsc:
			b = append(b, slipEsc, slipEscEsc)
		default:
			b = append(b, c)
		}
	}
	return append(b, slipEnd)
}

func unslip(b []byte) ([]byte, error) {
	message := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != slipEsc {
			message = append(message, b[i])
			continue
		}
		i++
		switch {
		case i < len(b) && b[i] == slipEscEnd:
			message = append(message, slipEnd)
		case i < len(b) && b[i] == slipEscEsc:
			message = append(message, slipEsc)
		default:
			return nil, errors.New("an escape stands before a byte that is never escaped")
		}
	}
	return message, nil
}

func parseKromek(b []byte, o Options) (Reading, error) {
	m, err := unslip(bytes.TrimSuffix(bytes.TrimPrefix(b, []byte{slipEnd}), []byte{slipEnd}))
	if err != nil {
		return Reading{}, err
	}
	if len(m) < kromekOverhead || len(m) > kromekMost {
		return Reading{}, fmt.Errorf("a message has %d to %d bytes, and not %d", kromekOverhead, kromekMost, len(m))
	}
	if n := int(binary.LittleEndian.Uint16(m)); n != len(m) {
		return Reading{}, fmt.Errorf("it says that it has %d bytes, and has %d", n, len(m))
	}
	told := binary.LittleEndian.Uint16(m[len(m)-2:])
	if want := CRC16(m[:len(m)-2]); o.Checksum != "none" && told != want {
		return Reading{}, fmt.Errorf("the CRC is %04x, and not %04x", told, want)
	}
	payload := m[kromekHead : len(m)-2]
	switch component, report := m[3], m[4]; {
	case component == boardComponent && report == reportRadiometrics:
		return parseRadiometrics(payload, o)
	case component == extendedComponent && report == reportStatus:
		if len(payload) < kromekStatus {
			return Reading{}, fmt.Errorf("a status has at least %d bytes, and not %d", kromekStatus, len(payload))
		}
		// Place, time and nuclides stand behind; the form of the nuclides is not public.
		r := Reading{Status: true}
		for i, channel := range []string{kromekDoseAlarm: Dose, kromekGammaAlarm: Gamma, kromekN: Neutron} {
			if payload[i] != 0 {
				r.Alarms = append(r.Alarms, Alarm{Threshold, channel})
			}
		}
		return r, nil
	case report == reportAcknowledged:
		return Reading{Bare: true}, nil // neither a value, nor that there is none
	case report == reportNotAcknowledged:
		return Reading{Flags: []string{FlagStatus}, Bare: true}, nil
	default:
		return Reading{}, fmt.Errorf("report %02x of component %d is not understood", report, component)
	}
}

// parseRadiometrics reads a report. Its dose rate is in uSv/h. The unit of the live times is
// not public, so counts become a rate only if the site knows it.
func parseRadiometrics(p []byte, o Options) (Reading, error) {
	if len(p) != kromekRadiometric {
		return Reading{}, fmt.Errorf("radiometrics have %d bytes, and not %d", kromekRadiometric, len(p))
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
	dose := float64(math.Float32frombits(u32(kromekRateAt)))
	if math.IsNaN(dose) || math.IsInf(dose, 0) || dose < 0 {
		return Reading{}, fmt.Errorf("the dose rate %v is none", dose)
	}
	var r Reading
	add := func(place int, v float64, unit, text, unitText string) {
		if place < len(o.Channels) && o.Channels[place] != "" {
			r.Values = append(r.Values, Value{Channel: o.Channels[place], Value: v, Unit: unit, Text: text, UnitText: unitText})
		}
	}
	text := strconv.FormatFloat(dose, 'g', -1, 32)
	exact, err := strconv.ParseFloat(text, 64) // the decimal fraction that was meant
	if err != nil {
		return Reading{}, fmt.Errorf("the dose rate %q: %w", text, err)
	}
	add(0, exact, "uSv/h", text, "")
	if per := liveTimes[o.LiveTime]; per > 0 {
		for _, c := range []struct{ place, live, counts int }{{1, kromekGammaLive, kromekGammaCounts}, {2, kromekNeutronLive, kromekNeutronCounts}} {
			if live := u32(c.live); live > 0 {
				n := u32(c.counts)
				add(c.place, trim(float64(n)*per/float64(live)), "cps", fmt.Sprintf("%d in %d", n, live), o.LiveTime)
			}
		}
	}
	return r, nil
}

// appendKromek appends a status if the reading is one, and radiometrics otherwise.
func appendKromek(b []byte, r Reading, o Options) []byte {
	component, report, payload := byte(boardComponent), byte(reportRadiometrics), make([]byte, kromekRadiometric)
	if r.Status {
		component, report, payload = extendedComponent, reportStatus, make([]byte, kromekStatus)
		for _, a := range r.Alarms {
			switch a.Channel {
			case Gamma:
				payload[kromekGammaAlarm] = 1
			case Neutron:
				payload[kromekN] = 1
			default:
				payload[kromekDoseAlarm] = 1
			}
		}
	} else {
		payload[kromekSpectrumBitsAt] = 12
		binary.LittleEndian.PutUint32(payload[kromekNeutronLive:], 1000)
		binary.LittleEndian.PutUint32(payload[kromekGammaLive:], 1000)
		for _, v := range r.Values {
			switch {
			case v.Unit == "uSv/h":
				binary.LittleEndian.PutUint32(payload[kromekRateAt:], math.Float32bits(float32(v.Value)))
			case v.Channel == Gamma:
				binary.LittleEndian.PutUint32(payload[kromekGammaCounts:], uint32(v.Value))
			case v.Channel == Neutron:
				binary.LittleEndian.PutUint32(payload[kromekNeutronCounts:], uint32(v.Value))
			}
		}
		if n, err := strconv.ParseUint(r.ID, 10, 32); err == nil { // the number of the report
			binary.LittleEndian.PutUint32(payload[kromekSequenceAt:], uint32(n))
		}
	}
	m := binary.LittleEndian.AppendUint16(nil, uint16(len(payload)+kromekOverhead)) //nolint:gosec // at most kromekMost
	m = append(append(m, 0, component, report), payload...)
	return appendSLIP(b, binary.LittleEndian.AppendUint16(m, CRC16(m)))
}
