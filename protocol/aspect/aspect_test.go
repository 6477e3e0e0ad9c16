package aspect

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// page is a block typed by hand by the table of the registers: numbers of two registers
// have the low word first.
var page = [BlockSize]uint16{
	0x86a0, 0x0001, // time elapsed 100000
	0x0041,         // Occup0, direction 0 to 1
	0x0181,         // Alarm1, ready, N0
	0x1170, 0x0001, // gamma count 70000
	0x2000, 0x44d1, // gamma background 1673.0 = 0x44d12000
	0x4000, 0x4473, // gamma variance 973.0 = 0x44734000
	0x0080,         // ready
	0x0007, 0x0000, // neutron count 7
	0x0000, 0x4010, // neutron background 2.25 = 0x40100000
	0x0000, 0x3fc0, // neutron variance 1.5 = 0x3fc00000
	0xffff, // object counter
	0x0005, // object mark
	0x0ad9, // 2777 mm/s
	0x0121, // alarm, busy, entry green
}

func pageBlock() Block {
	return Block{
		Read: AllFields, Elapsed: 100000, Inputs: Occup0 | Direction0To1,
		Gamma:   Channel{Alarm1 | Ready | N0, 70000, 1673, 973},
		Neutron: Channel{Ready, 7, 2.25, 1.5},
		Objects: 65535, Mark: 5, Speed: 2777, Outputs: OutAlarm | OutBusy | OutEntryGreen,
	}
}

func all(words [BlockSize]uint16) Registers {
	r := Registers{Words: words}
	for i := range r.Read {
		r.Read[i] = true
	}
	return r
}

func TestBlock(t *testing.T) {
	b, why := Decode(all(page))
	require.NoError(t, why)
	require.Equal(t, pageBlock(), b)
	require.Equal(t, all(page), pageBlock().Encode())
	require.Equal(t, []byte{0x86, 0xa0, 0x00, 0x01, 0x00, 0x41}, all(page).Bytes()[:6])
	require.InDelta(t, 9.9972, KPH(b.Speed), 1e-9)
}

// TestShortBlock: what was not read is unknown, and half a number is none.
func TestShortBlock(t *testing.T) {
	r := all(page)
	for i := 12; i < BlockSize; i++ { // the second word of the neutron count is the first that is missing
		r.Read[i] = false
	}
	b, why := Decode(r)
	require.NoError(t, why)
	require.True(t, b.Read.Has(Elapsed, InputSignals, GammaStatus, GammaCount, GammaBackground, GammaVariance, NeutronStatus))
	for _, f := range []Field{NeutronCount, NeutronBackground, NeutronVariance, ObjectCounter, ObjectMark, ObjectSpeed, OutputSignals} {
		require.False(t, b.Read.Has(f), f)
	}
	require.Equal(t, Channel{Status: Ready}, b.Neutron)
	require.Zero(t, b.Objects)
	require.Len(t, r.Bytes(), 24)
}

// TestNumbersThatCantBe: they are told, and not read.
func TestNumbersThatCantBe(t *testing.T) {
	words := page
	words[7] = 0xffc0 // NaN
	words[14] = 0xc010
	words[9] = 0x7f00 // 1.7e38
	b, why := Decode(all(words))
	require.ErrorContains(t, why, "gamma_background is NaN")
	require.ErrorContains(t, why, "neutron_background is -2.25")
	require.False(t, b.Read.Has(GammaBackground))
	require.False(t, b.Read.Has(NeutronBackground))
	require.ErrorContains(t, why, "gamma_variance is 1.7")
	require.False(t, b.Read.Has(GammaVariance))
	require.True(t, b.Read.Has(NeutronVariance, GammaCount))
	require.Zero(t, b.Gamma.Background)
}

func TestDescription(t *testing.T) {
	words := [DescriptionSize]uint16{0x4153, 29, 7, 200, 21, 1, 2, 3}
	d, err := ParseDescription(words)
	require.NoError(t, err)
	require.Equal(t, Description{Signature: 0x4153, Registers: 29, BlockID: 7, Base: 200, Size: 21, Rest: [3]uint16{1, 2, 3}}, d)
	require.Equal(t, words, d.Words())
	m, err := d.Map()
	require.NoError(t, err)
	require.Equal(t, Map{200, 21}, m)
	require.Equal(t, Map{100, 21}, Fixed())
	require.Equal(t, 14, Map{100, 14}.Readable())
	require.Equal(t, 21, Map{100, 40}.Readable())

	_, err = ParseDescription([DescriptionSize]uint16{})
	require.ErrorIs(t, err, ErrNoDescription)
	for why, d := range map[string]Description{
		"a block of 0 registers":       {Base: 100},
		"a block of 3 registers":       {Base: 100, Size: 3},
		"lie over the description":     {Base: 7, Size: 21},
		"would end beyond address 655": {Base: 65520, Size: 21},
	} {
		_, err := d.Map()
		require.ErrorIs(t, err, ErrImpossible)
		require.ErrorContains(t, err, why)
	}
	m, err = Description{Base: 65515, Size: 21}.Map()
	require.NoError(t, err, "the last register is the last address")
	require.Equal(t, 65515, m.Base)
}

// TestBits has every bit of the page.
func TestBits(t *testing.T) {
	for mask, name := range map[uint16]string{
		0x1: "alarm1", 0x2: "alarm2", 0x10: "low_count", 0x20: "high_count", 0x40: "overload", 0x80: "ready",
		0x100: "n0", 0x200: "n1", 0x400: "n2", 0x800: "n3", 0x1000: "n4", 0x2000: "n5", 0x4000: "n6", 0x8000: "n7",
	} {
		require.Equal(t, []string{name}, Status(mask).Names())
		require.Equal(t, mask <= 2, Status(mask).Alarms())
	}
	for mask, name := range map[uint16]string{
		0x1: "occup0", 0x2: "occup1", 0x4: "occup2", 0x8: "occup3", 0x10: "button", 0x20: "sensor", 0x40: "direction_0_to_1", 0x80: "direction_1_to_0",
		0x100: "power_fail", 0x200: "low_battery", 0x400: "open", 0x800: "error", 0x8000: "reset",
	} {
		require.Equal(t, []string{name}, Inputs(mask).Names())
		require.Equal(t, mask <= 8, Inputs(mask).Occupied())
	}
	for mask, name := range map[uint16]string{
		0x1: "alarm", 0x2: "video", 0x4: "yellow", 0x8: "fast_flash", 0x10: "slow_flash", 0x20: "busy", 0x40: "adaptation",
		0x100: "entry_green", 0x200: "exit_green", 0x400: "exit_arrow",
	} {
		require.Equal(t, []string{name}, Outputs(mask).Names())
	}
	require.Equal(t, WarningMask, PowerFail|Open|Reset)
	require.Equal(t, FailureMask, LowBattery|Error)
	require.Equal(t, []string{"alarm1", "0x0004", "0x0008"}, Status(0x000d).Names(), "bits without a meaning")
	require.Equal(t, []string{"0x1000"}, Inputs(0x1000).Names())
	require.Equal(t, []string{"0x8000"}, Outputs(0x8000).Names())
	require.Equal(t, "0_to_1", Inputs(0x41).Direction())
	require.Equal(t, "1_to_0", Inputs(0x81).Direction())
	require.Empty(t, Inputs(0xc1).Direction(), "both are none")
	require.Empty(t, Inputs(0x01).Direction())
}

func TestStep(t *testing.T) {
	for _, x := range []struct {
		before, after uint16
		objects       int
		restarted     bool
	}{
		{7, 7, 0, false},
		{7, 8, 1, false},
		{7, 10, 3, false},
		{65535, 0, 1, false},
		{65534, 2, 4, false},
		{500, 0, 0, true},
		{7, 6, 0, true},
		{0, 1000, 1000, false},
		{0, 1001, 0, true},
	} {
		objects, restarted := Step(x.before, x.after, 1000)
		require.Equal(t, x.objects, objects, "%d to %d", x.before, x.after)
		require.Equal(t, x.restarted, restarted, "%d to %d", x.before, x.after)
	}
}

// FuzzDecode: whatever the registers hold, what is read is a number that can be, and
// encodes to the same registers.
func FuzzDecode(f *testing.F) {
	f.Add(all(page).Bytes(), uint32(0x1fffff))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x80}, uint32(0xff))
	f.Fuzz(func(t *testing.T, bytes []byte, read uint32) {
		var r Registers
		for i := range r.Words {
			if 2*i+1 < len(bytes) {
				r.Words[i] = uint16(bytes[2*i])<<8 | uint16(bytes[2*i+1])
			}
			r.Read[i] = read>>i&1 == 1
		}
		b, _ := Decode(r)
		for _, v := range []float32{b.Gamma.Background, b.Gamma.Variance, b.Neutron.Background, b.Neutron.Variance} {
			require.False(t, math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) || v < 0)
		}
		again := b.Encode()
		for i := range again.Read {
			if again.Read[i] {
				require.True(t, r.Read[i])
				require.Equal(t, r.Words[i], again.Words[i])
			}
		}
		d, err := ParseDescription([DescriptionSize]uint16(r.Words[:DescriptionSize]))
		if err != nil {
			return
		}
		require.Equal(t, [DescriptionSize]uint16(r.Words[:DescriptionSize]), d.Words())
		if m, err := d.Map(); err == nil {
			require.LessOrEqual(t, m.Base+m.Size, 65536)
			require.Positive(t, m.Readable())
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	r := all(page)
	b.ReportAllocs()
	for b.Loop() {
		if block, why := Decode(r); why != nil || block.Objects != 65535 {
			b.Fatal(why)
		}
	}
}
