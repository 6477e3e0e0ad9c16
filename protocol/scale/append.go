package scale

import (
	"fmt"
	"math"
	"slices"
)

// Append appends a frame of whole kilograms.
func (f Format) Append(b []byte, o Options, r Reading) []byte {
	kg := int(math.Round(math.Abs(r.Value)))
	sign := byte('+')
	if r.Value < 0 {
		sign = '-'
	}
	moving := r.Motion == Moving
	switch f.Name {
	case "toledo":
		swb := byte(0x30)
		if r.Net {
			swb |= 0x01
		}
		if r.Value < 0 || r.Under {
			swb |= 0x02
		}
		if r.Over || r.Under {
			swb |= 0x04
		}
		if moving {
			swb |= 0x08
		}
		frame := fmt.Appendf([]byte{0x02, 0x2a, swb, 0x20}, "%06d%06d\r", kg%1_000_000, int(r.Tare))
		if o.Checksum {
			var sum byte
			for _, c := range frame {
				sum += c
			}
			frame = append(frame, -sum&0x7f)
		}
		return append(b, frame...)
	case "yaohua":
		frame := fmt.Appendf([]byte{0x02, sign}, "%06d0", kg%1_000_000)
		return append(append(append(b, frame...), xor(frame[1:])...), 0x03)
	case "yaohua-a12":
		if r.Over {
			return append(b, "OL23\r\n"...)
		}
		if r.Under {
			return append(b, "LO23\r\n"...)
		}
		text := fmt.Sprintf("WG%07dkg", kg)
		return append(b, text+xor([]byte(text))+"\r\n"...)
	case "yaohua-back":
		digits := fmt.Appendf(nil, "%06d.", kg%1_000_000)
		slices.Reverse(digits)
		if sign == '+' {
			sign = '0'
		}
		return append(append(append(b, '='), digits...), sign)
	case "mt-sics":
		switch {
		case r.Over:
			return append(b, "S +\r\n"...)
		case r.Under:
			return append(b, "S -\r\n"...)
		case moving:
			return fmt.Appendf(b, "S D %10d kg\r\n", int(r.Value))
		}
		return fmt.Appendf(b, "S S %10d kg\r\n", int(r.Value))
	case "rinstrum":
		status := byte('G')
		switch {
		case r.Over:
			status = 'O'
		case r.Under:
			status = 'U'
		case moving:
			status = 'M'
		}
		if sign == '+' {
			sign = ' '
		}
		return append(fmt.Appendf(append(b, 0x02, sign), "%7d", kg), status, 0x03)
	case "systec":
		m, neg := '0', '0'
		if moving {
			m = '1'
		}
		if r.Value < 0 {
			neg = '1'
		}
		return fmt.Appendf(b, "<00%c0%c%8d%8d%8dkg105.01.2606:00%4s>\r\n", m, neg, kg, 0, kg, "0")
	case "scp-01":
		s0, s1 := byte(0x30), byte(0x30)
		if moving != o.StableBit {
			s0 |= 1
		}
		if r.Under {
			s1 |= 1
		}
		if r.Over {
			s1 |= 2
		}
		return fmt.Appendf(b, "\n%7dKG\r\n%c%c\r\x03", int(r.Value), s0, s1)
	case "csv":
		state := "ST"
		switch {
		case r.Over:
			state = "OL"
		case r.Under:
			state = "UL"
		case moving:
			state = "US"
		}
		return fmt.Appendf(b, "%s,GS,%c%07d kg\r\n", state, sign, kg)
	}
	return b
}
