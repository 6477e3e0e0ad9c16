package ratemeter

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func raw(t testing.TB, digits string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
	require.NoError(t, err)
	return b
}

func lookup(t testing.TB, name string, o Options) Format {
	if name == "fht-6020" && o.Address == 0 {
		o.Address = 1
	}
	f, err := Lookup(name, o)
	require.NoError(t, err)
	return f
}

// radiometrics is a report of a Kromek D5: 0.125 uSv/h, 480 gamma counts and 3 neutrons in
// 1000 units of live time, and a sequence number with both bytes in it that are escaped. The
// CRC was computed by other means.
func radiometrics(t testing.TB) []byte {
	return raw(t, "c0 3d20 00 07 c2"+
		"00000000 e8030000 dbdddbdc0000 00004841 0000003e 0000803f"+
		"e8030000 03000000 6608 00000000 e8030000 e0010000 7f08 00000000 0c00"+
		strings.Repeat("0000", 4096)+"d0a5 c0")
}

// lb6420 is an answer with four doses.
func lb6420(total, gamma, high, neutron byte) []byte {
	b := make([]byte, 524)
	b[12+19*8+7], b[12+31*8+7], b[12+33*8+7], b[12+34*8+7] = total, gamma, high, neutron
	b[12+19*8+6] = 1 // 256 more
	return b
}

func TestFrames(t *testing.T) {
	gamma := func(v float64, text string) []Value { return []Value{{Channel: Gamma, Value: v, Text: text}} }
	for name, c := range map[string]struct {
		format string
		o      Options
		frame  []byte
		want   Reading
	}{
		"Ludlum 375":              {"ludlum-375", Options{}, []byte("0012.3000010\r\n"), Reading{Status: true, Values: gamma(12.3, "0012.3")}},
		"Ludlum 375, both alarms": {"ludlum-375", Options{}, []byte("1642.0111010\r\n"), Reading{Status: true, Values: gamma(1642, "1642.0"), Alarms: []Alarm{{High, Gamma}, {Low, Gamma}}}},
		"Ludlum 375, over range":  {"ludlum-375", Options{}, []byte("0000.0000110\r\n"), Reading{Status: true, Over: true}},
		"Ludlum 375, an error":    {"ludlum-375", Options{}, []byte("0000.0000013\r\n"), Reading{Status: true, Partial: true, NoValue: true, Faults: []Fault{{Failure, "3"}}}},
		"Ludlum 375, monitor off": {"ludlum-375", Options{NoError: "0 "}, []byte("0012.300000 \r\n"), Reading{Status: true, Partial: true, NoValue: true, Faults: []Fault{{Kind: MonitorOff}}, Flags: []string{FlagMonitorOff}}},
		"Ludlum 375, printer":     {"ludlum-375-printer", Options{}, []byte("0642.1   04/21/95 16:56:24 ALARM\r\n"), Reading{Status: true, Values: gamma(642.1, "0642.1"), Alarms: []Alarm{{Threshold, Gamma}}}},
		"Ludlum 375, it fails":    {"ludlum-375-printer", Options{}, []byte("0000.0   04/21/95 08:32:16  FAIL\r\n"), Reading{Status: true, Partial: true, NoValue: true, Faults: []Fault{{Failure, "FAIL"}}}},
		"Ludlum 375, no word":     {"ludlum-375-printer", Options{}, []byte("0012.3   04/21/95 08:32:16      \r\n"), Reading{Status: true, Values: gamma(12.3, "0012.3")}},

		"DRM":                       {"drm", Options{}, []byte("\n0042170000012.301234100|\r"), Reading{ID: "004217", Status: true, Values: gamma(12.34, "12341")}},
		"DRM, digits":               {"drm", Options{Checksum: "hex"}, []byte("\n0042170000012.30123410AC\r"), Reading{ID: "004217", Status: true, Values: gamma(12.34, "12341")}},
		"DRM, overload":             {"drm", Options{}, []byte("\n0042171088888.809999900/\r"), Reading{ID: "004217", Status: true, Partial: true, Over: true}},
		"DRM, over threshold":       {"drm", Options{Checksum: "none"}, []byte("\n0042172088888.8050003000\r"), Reading{ID: "004217", Status: true, Partial: true, Values: gamma(5000, "50003"), Alarms: []Alarm{{Threshold, Gamma}}}},
		"DRM, no external power":    {"drm", Options{Checksum: "none"}, []byte("\n0042173088888.8010000000\r"), Reading{ID: "004217", Status: true, Partial: true, Values: gamma(1, "10000"), Faults: []Fault{{ExternalPower, "3"}}}},
		"DRM, battery":              {"drm", Options{Checksum: "none"}, []byte("\n0042174188888.8010000000\r"), Reading{ID: "004217", Status: true, Partial: true, Values: gamma(1, "10000"), Faults: []Fault{{BatteryLow, "4"}}, Flags: []string{FlagStatus}}},
		"DRM, detector":             {"drm", Options{Checksum: "none"}, []byte("\n0042178088888.8000000000\r"), Reading{ID: "004217", Status: true, Partial: true, NoValue: true, Faults: []Fault{{Detector, "8"}}}},
		"RadEye":                    {"radeye", Options{}, []byte("\x02 12 0 544 5 00 G-10 9 \r\n\x03"), Reading{ID: "G-10", Status: true, Values: []Value{{Gamma, 0.12, "uSv/h", "12", "0", false}}}},
		"RadEye, 5.84 mSv/h":        {"radeye", Options{}, []byte("\x02584000 0 0 5 04 G-10 9\x03"), Reading{ID: "G-10", Status: true, Values: []Value{{Gamma, 5840, "uSv/h", "584000", "0", false}}, Alarms: []Alarm{{Kind: Threshold}}}},
		"RadEye, the same, in R":    {"radeye", Options{}, []byte("\x02584000 2 0 5 00 G-10 9\x03"), Reading{ID: "G-10", Status: true, Values: []Value{{Gamma, 584000, "uR/h", "584000", "2", false}}}},
		"RadEye, two values":        {"radeye", Options{Channels: []string{Beta, Alpha}}, []byte("\x02300 5 600 3 20 SX 0\x03"), Reading{ID: "SX", Status: true, Values: []Value{{Beta, 3, "cps", "300", "5", false}, {Alpha, 6, "cpm", "600", "3", false}}, Faults: []Fault{{BatteryLow, "20"}}}},
		"RadEye, overload":          {"radeye", Options{}, []byte("\x020 0 0 5 06 G-10 9\x03"), Reading{ID: "G-10", Status: true, Over: true, Alarms: []Alarm{{Kind: Threshold}}}},
		"RadEye, an unknown unit":   {"radeye", Options{}, []byte("\x0212 4 0 5 01 X 9\x03"), Reading{ID: "X", Status: true, Values: []Value{{Gamma, 12, "", "12", "4", false}}, Flags: []string{FlagStatus}}},
		"FHT 6020":                  {"fht-6020", Options{}, []byte("\x0701RM1 0.115 0000 0000 2D\x03"), Reading{Values: []Value{{Gamma, 0.115, "uSv/h", "0.115", "", false}}}},
		"FHT 6020, neutrons":        {"fht-6020", Options{}, []byte("\x0701RM2 0.02 0000 0000 F9\x03"), Reading{Values: []Value{{Neutron, 0.02, "uSv/h", "0.02", "", false}}}},
		"FHT 6020, a status":        {"fht-6020", Options{}, []byte("\x0701RM1 0.115 0004 0000 31\x03"), Reading{Values: []Value{{Gamma, 0.115, "uSv/h", "0.115", "", false}}, Flags: []string{FlagStatus}}},
		"FHT 6020, nothing to say":  {"fht-6020", Options{}, []byte("\x06\x03"), Reading{NoValue: true, Bare: true}},
		"LB 6420":                   {"berthold-lb6420", Options{}, lb6420(100, 90, 3, 10), Reading{Values: []Value{{Total, 356, "pSv", "356", "", true}, {Gamma, 90, "pSv", "90", "", true}, {HighEnergyNeutron, 3, "pSv", "3", "", true}, {Neutron, 10, "pSv", "10", "", true}}}},
		"Kromek":                    {"kromek", Options{}, radiometrics(t), Reading{Values: []Value{{Dose, 0.125, "uSv/h", "0.125", "", false}}}},
		"Kromek, with count rates":  {"kromek", Options{LiveTime: "ms"}, radiometrics(t), Reading{Values: []Value{{Dose, 0.125, "uSv/h", "0.125", "", false}, {Gamma, 480, "cps", "480 in 1000", "ms", false}, {Neutron, 3, "cps", "3 in 1000", "ms", false}}}},
		"Kromek, alarms":            {"kromek", Options{}, raw(t, "c0 1800 00 08 82 01 00 01 0000000000000000000000000000 2d45 c0"), Reading{Status: true, Alarms: []Alarm{{Threshold, Dose}, {Threshold, Neutron}}}},
		"Kromek, only acknowledged": {"kromek", Options{}, raw(t, "c0 0700 00 07 fe 9ee1 c0"), Reading{Bare: true}},
	} {
		t.Run(name, func(t *testing.T) {
			f := lookup(t, c.format, c.o)
			s := NewSplitter(f)
			var pieces []Piece
			for i, b := range c.frame { // one byte at a time, with a parity bit where there may be one
				if f.seven && i%3 == 0 {
					b |= 0x80
				}
				s.Write([]byte{b})
				for p, ok := s.Next(); ok; p, ok = s.Next() {
					pieces = append(pieces, Piece{bytes.Clone(p.Bytes), p.Junk, p.First})
				}
			}
			require.Len(t, pieces, 1)
			require.False(t, pieces[0].Junk)
			got, err := f.Parse(pieces[0].Bytes)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestRefused(t *testing.T) {
	for format, frames := range map[string][]string{
		"ludlum-375": {
			"012.3000010\r\n", "0012.3000010\n", "00123.000010\r\n", "001x.3000010\r\n", "0012.3020010\r\n", "0012.3000010 \r\n", ".0012.000010\r\n",
		},
		"ludlum-375-printer": {
			"0642.1 04/21/95 16:56:24 ALARM\r\n", "0642.1   21/04/95 16:56:24 ALARM\r\n", "0642.1   04/21/95 16:56:24 ALERT\r\n", "06421.   04/21/95 16:56:24 ALARM\r\n",
		},
		"drm": {
			"\n0042170000012.301235100|\r", "\n0042177088888.8050003000\r", "\n0042170000012.301234100\r\r",
		},
		"radeye": {
			"\x0212 0 544 5 00 G-10\x03", "\x0212 0 544 5 0G G-10 9\x03", "\x02-12 0 544 5 00 G-10 9\x03", "\x02 \x03", "\x0212 x 544 5 00 G-10 9\x03", "\x02\x03",
			"\x02 599 0 544 00  GN+ 09 \r\n\x03", // a field is missing
		},
		"fht-6020": {
			"\x0701RM1 0.115 0000 0000 2E\x03", "\x0702RM1 0.115 0000 0000 2E\x03", "\x0701RM3 0.115 0000 0000 2F\x03", "\x15\x03", "\x07\x03", "\x0701RM1\x03",
			"\x0701RM1 nan 83\x03", "\x0701RM1 -1 XX\x03",
		},
		"berthold-lb6420": {strings.Repeat("\xff", 524)},
		"kromek": {
			string(raw(t, "c0 0700 00 07 fe 9ee0 c0")), string(raw(t, "c0 0800 00 07 fe 9ee1 c0")), string(raw(t, "c0 07db00 00 07 fe 9ee1 c0")), string(raw(t, "c0 00 c0")),
			string(raw(t, "c0 0700 00 07 c2 0000 c0")),
		},
	} {
		for _, text := range frames {
			f := lookup(t, format, Options{})
			s := NewSplitter(f)
			s.Write([]byte(text))
			for p, ok := s.Next(); ok; p, ok = s.Next() {
				_, err := f.Parse(p.Bytes)
				require.Error(t, err, "%s %q", format, text)
			}
		}
	}
	_, err := lookup(t, "kromek", Options{}).Parse(appendSLIP(nil, message(7, 0x99, nil)))
	require.ErrorContains(t, err, "not understood")
	_, err = lookup(t, "kromek", Options{}).Parse(appendSLIP(nil, message(8, 0x82, make([]byte, 16))))
	require.ErrorContains(t, err, "at least 17")
	negative := bytes.Replace(radiometrics(t), raw(t, "0000003e"), raw(t, "0000c07f"), 1) // NaN
	_, err = lookup(t, "kromek", Options{Checksum: "none"}).Parse(negative)
	require.ErrorContains(t, err, "dose rate")
}

func message(component, report byte, payload []byte) []byte {
	m := append([]byte{byte(len(payload) + kromekOverhead), 0, 0, component, report}, payload...)
	crc := CRC16(m)
	return append(m, byte(crc), byte(crc>>8))
}

func TestOptions(t *testing.T) {
	for want, c := range map[string]struct {
		name string
		o    Options
	}{
		"twice":     {"radeye", Options{Channels: []string{Gamma, Gamma}}},
		"has 2":     {"fht-6020", Options{Address: 1, Channels: []string{Gamma, Neutron, Beta}}},
		"format":    {"polimaster", Options{}},
		"checksum":  {"ludlum-375", Options{Checksum: "sum"}},
		"channels":  {"radeye", Options{Channels: []string{"x-ray"}}},
		"address":   {"fht-6020", Options{}},
		"live_time": {"kromek", Options{LiveTime: "minutes"}},
	} {
		_, err := Lookup(c.name, c.o)
		require.ErrorContains(t, err, want)
	}
	for _, name := range Names() {
		require.Equal(t, name, lookup(t, name, Options{}).Name)
	}
}

// What is sent to instruments, to the byte.
func TestRequests(t *testing.T) {
	require.Equal(t, [][]byte{[]byte("\x0701RM138\x03"), []byte("\x0701RM239\x03")}, lookup(t, "fht-6020", Options{}).Requests)
	require.Equal(t, [][]byte{{0x0e, 0x04, 0, 0}}, lookup(t, "berthold-lb6420", Options{}).Requests)
	require.Equal(t, [][]byte{raw(t, "c0 0700 00 07 c2 0000 c0"), raw(t, "c0 0700 00 08 82 0000 c0")}, lookup(t, "kromek", Options{}).Requests)
	require.Equal(t, [][]byte{[]byte("@"), []byte(">X1\n")}, lookup(t, "radeye", Options{}).Start)
	for _, name := range []string{"ludlum-375", "ludlum-375-printer", "drm"} {
		f := lookup(t, name, Options{})
		require.Empty(t, f.Requests)
		require.Empty(t, f.Start)
	}
}

func TestCRC16(t *testing.T) {
	require.Equal(t, uint16(0x29b1), CRC16([]byte("123456789")))
}

func TestSI(t *testing.T) {
	for _, c := range []struct {
		v              float64
		unit           string
		want           float64
		quantity, into string
	}{
		{5.84, "mSv/h", 5840, "dose_rate", "uSv/h"},
		{584, "mR/h", 5840, "dose_rate", "uSv/h"},
		{584000, "uR/h", 5840, "dose_rate", "uSv/h"},
		{15, "urem/h", 0.15, "dose_rate", "uSv/h"},
		{1.5, "mrem/h", 15, "dose_rate", "uSv/h"},
		{120, "nSv/h", 0.12, "dose_rate", "uSv/h"},
		{0.5, "mGy/h", 500, "dose_rate", "uGy/h"},
		{600, "cpm", 10, "count_rate", "cps"},
		{12, "Bq", 12, "unknown", "Bq"},
		{12, "", 12, "unknown", ""},
	} {
		v, quantity, into := SI(c.v, c.unit, 10)
		require.Equal(t, c.want, v, c.unit)
		require.Equal(t, c.quantity, quantity)
		require.Equal(t, c.into, into)
	}
	require.Contains(t, Units(), "mR/h")
	v, _, _ := SI(100, "mR/h", 8.77)
	require.Equal(t, 877.0, v)
}

// sample is a reading that the format can tell.
func sample(name string, v float64) Reading {
	r := Reading{ID: "1", Values: []Value{{Channel: Gamma, Value: v, Unit: "uSv/h"}}}
	switch name {
	case "kromek":
		r.Values[0].Channel = Dose
	case "berthold-lb6420":
		r.Values[0].Channel = Total
	}
	return r
}

// TestStream: frames run together, are cut, and have noise between them; all that are whole
// are read, and what is not is told unless it may have begun before the connection.
func TestStream(t *testing.T) {
	values := []float64{12, 40, 3, 18}
	for _, name := range Names() {
		if name == "berthold-lb6420" {
			continue // has no beginning; see TestByTime
		}
		t.Run(name, func(t *testing.T) {
			f := lookup(t, name, Options{})
			half := f.Append(nil, sample(name, 7))
			stream := bytes.Clone(half[len(half)/2:]) // joined in the middle
			for _, v := range values[:2] {
				stream = f.Append(stream, sample(name, v))
			}
			stream = append(append(stream, half[:len(half)/2]...), "\r\n"...) // cut short
			for _, v := range values[2:] {
				stream = f.Append(stream, sample(name, v))
			}
			var got []float64
			bad := 0
			s := NewSplitter(f)
			for len(stream) > 0 {
				n := min(11, len(stream))
				s.Write(stream[:n])
				stream = stream[n:]
				for p, ok := s.Next(); ok; p, ok = s.Next() {
					r, err := f.Parse(p.Bytes)
					switch {
					case p.Junk || err != nil:
						if !p.First {
							bad++
						}
					default:
						v, _, _ := SI(r.Values[0].Value, r.Values[0].Unit, 10)
						got = append(got, v)
					}
				}
			}
			require.Equal(t, values, got)
			require.Positive(t, bad)
		})
	}
}

func TestByTime(t *testing.T) {
	f := lookup(t, "berthold-lb6420", Options{})
	require.True(t, f.ByTime)
	s := NewSplitter(f)
	whole := f.Append(nil, sample(f.Name, 1234))
	s.Write(whole[:300])
	_, ok := s.Next()
	require.False(t, ok)
	p, ok := s.Flush()
	require.True(t, ok)
	require.True(t, p.Junk)
	require.Len(t, p.Bytes, 300)
	_, ok = s.Flush()
	require.False(t, ok)
	s.Write(whole)
	p, ok = s.Next()
	require.True(t, ok)
	r, err := f.Parse(p.Bytes)
	require.NoError(t, err)
	require.Equal(t, 1234.0, r.Values[0].Value)
}

// Alarms and faults that are written are read, where the format has a word for them.
func TestAppend(t *testing.T) {
	for name, list := range map[string][]Reading{
		"ludlum-375":         {{Alarms: []Alarm{{High, Gamma}, {Low, Gamma}}}, {Over: true}, {Faults: []Fault{{Failure, "7"}}}, {Faults: []Fault{{Kind: MonitorOff}}}},
		"ludlum-375-printer": {{Alarms: []Alarm{{Threshold, Gamma}}}, {Faults: []Fault{{Failure, "FAIL"}}}},
		"drm":                {{Alarms: []Alarm{{Threshold, Gamma}}}, {Over: true}, {Faults: []Fault{{Detector, "8"}}}, {Faults: []Fault{{BatteryLow, "4"}}}, {Faults: []Fault{{ExternalPower, "3"}}}},
		"radeye":             {{Alarms: []Alarm{{Kind: Threshold}}}, {Over: true}, {Faults: []Fault{{BatteryLow, "20"}}}},
		"kromek":             {{Status: true, Alarms: []Alarm{{Threshold, Dose}, {Threshold, Gamma}, {Threshold, Neutron}}}, {Status: true}},
	} {
		for _, checksum := range []string{"", "hex"} {
			if checksum != "" && name != "drm" {
				continue
			}
			f := lookup(t, name, Options{Checksum: checksum})
			for _, want := range list {
				want.ID = "G-10"
				got, err := f.Parse(f.Append(nil, want))
				require.NoError(t, err, name)
				require.Equal(t, want.Alarms, got.Alarms, name)
				require.Equal(t, want.Faults, got.Faults, name)
				require.Equal(t, want.Over, got.Over, name)
			}
		}
	}
}

func FuzzStream(f *testing.F) {
	for _, name := range Names() {
		format := lookup(f, name, Options{})
		b := format.Append(nil, sample(name, 12))
		f.Add(name, "", b)
		f.Add(name, "none", append(bytes.Clone(b[len(b)/2:]), b...))
	}
	f.Fuzz(func(t *testing.T, name, checksum string, b []byte) {
		format, err := Lookup(name, Options{Checksum: checksum, Address: 1, LiveTime: "ms", Channels: Channels()[:places(name)]})
		if err != nil {
			return
		}
		s := NewSplitter(format)
		taken, given := 0, 0
		for len(b) > 0 {
			n := min(len(b), 7)
			s.Write(b[:n])
			taken += n
			b = b[n:]
			for p, ok := s.Next(); ok; p, ok = s.Next() {
				given += len(p.Bytes)
				if len(p.Bytes) == 0 || len(p.Bytes) > maxBinary+maxJunk {
					t.Fatalf("a piece of %d bytes", len(p.Bytes))
				}
				if p.Junk {
					continue
				}
				r, err := format.Parse(p.Bytes)
				for _, v := range r.Values {
					if err != nil || math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || v.Value < 0 {
						t.Fatalf("a value of %v, error %v", v.Value, err)
					}
				}
				if (r.Over || r.NoValue) && len(r.Values) > 0 {
					t.Fatal("a value where there is none")
				}
			}
			if len(s.buf) > maxBinary+8 || len(s.junk) > maxJunk {
				t.Fatalf("%d and %d bytes wait", len(s.buf), len(s.junk))
			}
		}
		if given > taken {
			t.Fatalf("%d bytes of %d", given, taken)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			f := lookup(b, name, Options{})
			frame := f.Append(nil, sample(name, 12))
			if name == "kromek" {
				frame = frame[:len(frame)-1] // as a Splitter gives it
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				if _, err := f.Parse(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
