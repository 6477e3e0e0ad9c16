package dicos

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// typed gives the bytes of hexadecimal text; what is in quotes is text, and # begins a comment.
func typed(t testing.TB, lines string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(lines) {
		line, _, _ = strings.Cut(line, "#")
		for i, part := range strings.Split(line, "'") {
			if i%2 == 1 {
				b = append(b, part...)
				continue
			}
			x, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
			require.NoError(t, err, line)
			b = append(b, x...)
		}
	}
	return b
}

// preamble is what a file begins with; the length of the head is typed in each.
var preamble = strings.Repeat("00", 128) + "'DICM'\n"

// A report of an operator, typed by hand from the standard's tags: explicit little endian,
// sequences and items without length.
const reportHead = `
0200 0000 'UL' 0400 5c000000                        # 92 bytes follow
0200 0100 'OB' 0000 02000000 0001
0200 0200 'UI' 1e00 '1.2.840.10008.5.1.4.1.1.501.3' 00
0200 0400 'CS' 0400 'V03 '                          # in no dictionary
0200 1000 'UI' 1400 '1.2.840.10008.1.2.1' 00
`

const reportBody = `
0800 1600 'UI' 1e00 '1.2.840.10008.5.1.4.1.1.501.3' 00
0800 1800 'UI' 0a00 '1.2.03.4.5'                    # a component begins with 0
0800 2000 'DA' 0800 '20260105'
0800 3000 'TM' 0e00 '120000.250000 '
0800 6000 'CS' 0400 'TDR '
0800 7000 'LO' 0800 'LANESIM '
0800 7210 'SQ' 0000 ffffffff                        # the operator
  feff 00e0 ffffffff
    4000 0111 'SQ' 0000 ffffffff feff dde0 00000000
  feff 0de0 00000000
feff dde0 00000000
0800 1011 'SQ' 0000 ffffffff                        # what was looked at
  feff 00e0 ffffffff
    0800 5011 'UI' 2000 '1.2.840.10008.5.1.4.1.1.501.2.1' 00
    0800 5511 'UI' 0800 '1.2.3.9' 00
  feff 0de0 00000000
feff dde0 00000000
1000 2000 'LO' 0a00 'TSTU100000'
1000 2100 'LO' 0400 'LANE'
1000 2200 'CS' 0400 'TEXT'
1000 0210 'SQ' 0000 ffffffff feff dde0 00000000     # no other ids
2000 0d00 'UI' 0600 '1.2.3' 00
2000 1000 'SH' 0200 '17'
1040 1110 'SQ' 0000 ffffffff
  feff 00e0 ffffffff
    1040 1010 'US' 0200 0700
    1040 3710 'SQ' 0000 ffffffff
      feff 00e0 ffffffff
        1040 0110 'SQ' 0000 ffffffff
          feff 00e0 ffffffff
            1040 0410 'FL' 0c00 00002041 0000a041 00000000    # 10, 20, 0
            1040 0510 'FL' 0c00 00004040 00004040 0000803f    # 3, 3, 1
            1040 0610 'OB' 0000 02000000 fd01                 # 1.1 111 111: 9 bits
          feff 0de0 00000000
        feff dde0 00000000
        1040 1710 'FL' 0400 00004842                          # 50
        1040 1d10 'FL' 0c00 0000803f 00000040 00000000
        1040 7810 'ST' 0400 'rear'
      feff 0de0 00000000
    feff dde0 00000000
    1040 3810 'SQ' 0000 ffffffff
      feff 00e0 ffffffff
        1040 1210 'CS' 0a00 'CONTRABAND'
        1040 1410 'CS' 0600 'SHIELD'
        1040 1510 'CS' 0c00 'HIGH_THREAT '
        1040 1610 'FL' 0400 0000403f                          # 0.75
      feff 0de0 00000000
    feff dde0 00000000
    1040 8010 'DT' 0e00 '20260105120005'                      # in no dictionary
  feff 0de0 00000000
feff dde0 00000000
1040 2410 'CS' 0800 'SUCCESS '
1040 2710 'CS' 0800 'OPERATOR'
1040 2910 'LO' 0a00 'Maker\2.1\'
1040 2b10 'DT' 1a00 '20260105130000.000000+0100'
1040 3110 'CS' 0600 'ALARM '
1040 3310 'US' 0200 0200
1040 3410 'US' 0200 0100
1040 4210 'CS' 0600 'CARGO '
1040 4410 'CS' 0a00 'SUCCESSFUL'
1040 4810 'CS' 0c00 'OPERATIONAL '
1040 7510 'FD' 0800 000000000000f03f                          # DS in the dictionary
`

func pointer[T any](x T) *T { return &x }

func TestReportTypedByHand(t *testing.T) {
	o, err := Decode(typed(t, preamble+reportHead+reportBody))
	require.NoError(t, err)
	require.False(t, o.WrongGroupLength)
	require.True(t, o.Whole())
	require.Equal(t, ExplicitLE, o.TransferSyntax)
	require.Equal(t, "V03", o.Version)
	require.Equal(t, ClassTDR, o.SOPClass)
	require.Equal(t, "1.2.03.4.5", o.SOPInstance)
	require.Equal(t, "TDR", o.Modality)
	require.Equal(t, Inspected{ID: "TSTU100000", Authority: "LANE", IDType: "TEXT", Type: "CARGO"}, o.Inspected)
	require.Equal(t, "1.2.3", o.ScanInstance)
	require.Equal(t, "17", o.ScanID)
	require.Equal(t, "OPERATIONAL", o.ScanType)
	require.Equal(t, "SUCCESSFUL", o.AcquisitionStatus)
	require.Equal(t, time.Date(2026, 1, 5, 12, 0, 0, 250_000_000, time.UTC), o.Start)
	require.Equal(t, &Report{
		Type: "OPERATOR", Decision: "ALARM", DecisionTime: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC), Zoned: true, Abort: "SUCCESS",
		Algorithm: []string{"Maker", "2.1", ""}, Objects: pointer(2), Alarms: pointer(1), Operator: true, References: []Reference{{ClassDX, "1.2.3.9"}},
	}, o.Report)
	require.Equal(t, []Threat{{
		ID: pointer(7),
		Representations: []Representation{{
			Regions: []Region{{Base: [3]float64{10, 20, 0}, Extents: [3]float64{3, 3, 1}, Bitmap: []byte{0xfd, 1}}},
			Polygon: [][3]float64{{1, 2, 0}}, Location: "rear", Mass: pointer(50.0),
		}},
		Assessments: []Assessment{{Category: "CONTRABAND", Ability: "SHIELD", Flag: "HIGH_THREAT", Probability: pointer(0.75)}},
	}}, o.Threats)
	r := o.Threats[0].Representations[0].Regions[0]
	require.True(t, r.At(0, 0, 0))
	require.False(t, r.At(1, 0, 0), "the second bit is the second pixel of the first row")
	require.True(t, r.At(2, 2, 0), "the ninth bit is in the second byte")
	require.False(t, r.At(3, 0, 0))
	require.Equal(t, 8, r.Set())
	require.Zero(t, o.Dropped)
}

// The published example of a bitmap: 16 by 22, six full rows, then six pixels on the left.
func TestBitmap(t *testing.T) {
	r := Region{Extents: [3]float64{16, 22, 1}, Bitmap: append(bytes.Repeat([]byte{0xff}, 12), bytes.Repeat([]byte{0x3f, 0}, 16)...)}
	require.Equal(t, 44, BitmapSize(16, 22, 1))
	require.Len(t, r.Bitmap, 44)
	require.True(t, r.At(15, 5, 0))
	require.True(t, r.At(5, 6, 0))
	require.False(t, r.At(6, 6, 0))
	require.Equal(t, 6*16+16*6, r.Set())
	require.Equal(t, 2, BitmapSize(3, 3, 1))
	require.True(t, Region{Extents: [3]float64{1, 1, 1}}.At(0, 0, 0), "an empty one means the whole box")
}

// What real files do beyond the standard, each by its name.
func TestForms(t *testing.T) {
	body := typed(t, reportBody)
	t.Run("wrong group length", func(t *testing.T) {
		for _, length := range []string{"00000000", "10000000", "ffff0000", "ffffffff"} {
			o, err := Decode(typed(t, preamble+strings.Replace(reportHead, "5c000000", length, 1)+reportBody))
			require.NoError(t, err)
			require.True(t, o.WrongGroupLength)
			require.Equal(t, "ALARM", o.Report.Decision)
		}
	})
	t.Run("implicit", func(t *testing.T) {
		o, err := DecodeDataset(ImplicitLE, typed(t, `
			1040 1110 ffffffff feff 00e0 ffffffff
				1040 1010 02000000 0300
				1040 3810 1a000000 feff 00e0 12000000 1040 1510 0a000000 'NO_THREAT '
			feff 0de0 00000000 feff dde0 00000000
			1040 3110 06000000 'CLEAR' 00
			1040 7510 08000000 000000000000f03f
			1140 0110 ffffffff feff 00e0 00000000 feff dde0 00000000 # in no dictionary`))
		require.NoError(t, err)
		require.Equal(t, "CLEAR", o.Report.Decision)
		require.Equal(t, []Threat{{ID: pointer(3), Assessments: []Assessment{{Flag: "NO_THREAT"}}}}, o.Threats)
	})
	t.Run("threat in a picture, beside the sequence", func(t *testing.T) {
		o, err := DecodeDataset(ExplicitLE, typed(t, `
			0800 1600 'UI' 2000 '1.2.840.10008.5.1.4.1.1.501.2.1' 00
			0800 6000 'CS' 0200 'DX'
			1040 3110 'CS' 0600 'ALARM '
			1040 3710 'SQ' 0000 ffffffff feff 00e0 ffffffff 1040 7810 'ST' 0400 'left' feff 0de0 00000000 feff dde0 00000000
			1040 3810 'SQ' 0000 18000000 feff 00e0 10000000 1040 1510 'CS' 0800 'THREAT ' 00`))
		require.NoError(t, err)
		require.Equal(t, "ALARM", o.Report.Decision)
		require.Equal(t, []Threat{{Representations: []Representation{{Location: "left"}}, Assessments: []Assessment{{Flag: "THREAT"}}}}, o.Threats)
		require.False(t, o.Whole(), "there is no picture in it")
	})
	t.Run("passed on by a node that does not know the tags", func(t *testing.T) {
		o, err := DecodeDataset(ExplicitLE, typed(t, `
			1040 1110 'UN' 0000 ffffffff feff 00e0 ffffffff 1040 1010 02000000 0300 feff 0de0 00000000 feff dde0 00000000
			1040 3110 'UN' 0000 06000000 'CLEAR '`))
		require.NoError(t, err)
		require.Equal(t, "CLEAR", o.Report.Decision)
		require.Equal(t, 3, *o.Threats[0].ID)
	})
	t.Run("numbers of other types and lengths", func(t *testing.T) {
		o, err := DecodeDataset(ExplicitLE, typed(t, `
			1040 3310 'DS' 0200 '12'
			1040 3410 'US' 0300 010203
			1040 6910 'FD' 0800 000000000000e03f`))
		require.NoError(t, err)
		require.Equal(t, 12, *o.Report.Objects)
		require.Nil(t, o.Report.Alarms)
		require.Equal(t, 0.5, *o.Report.Milliseconds)
		require.Equal(t, 1, o.Dropped)
	})
	t.Run("types that the library does not know", func(t *testing.T) {
		_, err := DecodeDataset(ExplicitLE, append(typed(t, `
			0900 0110 'OV' 0000 08000000 0102030405060708
			0900 0210 'OF' 0000 04000000 00000000
			0900 0310 'ZZ' 0200 0000`), body...))
		require.NoError(t, err)
	})
	t.Run("character sets", func(t *testing.T) {
		o, err := DecodeDataset(ExplicitLE, typed(t, `0800 0500 'CS' 0a00 'ISO_IR 144' 0800 8000 'LO' 0200 bdb5`))
		require.NoError(t, err)
		require.Equal(t, "НЕ", o.Scanner.Location)
		o, err = DecodeDataset(ExplicitLE, typed(t, `0800 0500 'CS' 0400 'none' 0800 8000 'LO' 0200 'ab'`))
		require.NoError(t, err)
		require.Equal(t, "ab", o.Scanner.Location)
	})
	t.Run("encapsulated pixels, padding behind", func(t *testing.T) {
		b := typed(t, `e07f 1000 'OB' 0000 ffffffff feff 00e0 00000000 feff 00e0 04000000 01020304 feff dde0 00000000
			fcff fcff 'OB' 0000 04000000 00000000`)
		o, err := DecodeDataset(JPEGLossless, b)
		require.NoError(t, err)
		require.True(t, o.Image.Encapsulated)
		_, err = DecodeDataset(JPEGLossless, b[:len(b)-30])
		require.ErrorIs(t, err, ErrTruncated)
	})
	t.Run("syntaxes that DICOS does not have", func(t *testing.T) {
		for _, s := range []string{bigEndian, deflated} {
			_, err := DecodeDataset(s, body)
			require.ErrorIs(t, err, ErrSyntax)
		}
		o, err := DecodeDataset("", body) // not told
		require.NoError(t, err)
		require.Equal(t, "ALARM", o.Report.Decision)
	})
}

// A file that is cut off anywhere is never taken for a whole one.
func TestTruncated(t *testing.T) {
	whole := typed(t, preamble+reportHead+reportBody)
	ended := bytes.Index(whole, []byte{0x10, 0x40, 0x31, 0x10}) + 8 + 6
	for n := range whole {
		o, err := Decode(whole[:n])
		if err == nil && o.Whole() {
			require.GreaterOrEqual(t, n, bytes.Index(whole, []byte("SUCCESS ")), "the report says what came of it")
		}
		if err != nil {
			require.ErrorIs(t, err, ErrTruncated)
		}
		if o != nil && o.Report != nil && n < ended {
			require.Empty(t, o.Report.Decision)
		}
	}
	o, err := Decode(whole[:ended-100])
	require.ErrorIs(t, err, ErrTruncated)
	require.Equal(t, "HIGH_THREAT", o.Threats[0].Assessments[0].Flag, "what was read counts")
}

func TestBounds(t *testing.T) {
	deep := func(n int, implicit bool) []byte {
		one := typed(t, `1040 1110 'SQ' 0000 ffffffff feff 00e0 ffffffff`)
		if implicit {
			one = typed(t, `1040 1110 ffffffff feff 00e0 ffffffff`)
		}
		return append(bytes.Repeat(one, n), bytes.Repeat(typed(t, `feff 0de0 00000000 feff dde0 00000000`), n)...)
	}
	_, err := DecodeDataset(ExplicitLE, deep(MaxDepth, false))
	require.NoError(t, err)
	for _, n := range []int{MaxDepth + 1, 100_000} {
		_, err = DecodeDataset(ExplicitLE, deep(n, false))
		require.ErrorIs(t, err, ErrBounds)
		_, err = DecodeDataset(ImplicitLE, deep(n, true))
		require.ErrorIs(t, err, ErrBounds)
	}
	// Lengths that are announced and not there cost nothing.
	for _, e := range []string{`0800 8000 'UT' 0000 feffffff`, `1040 0610 'OB' 0000 feffffff`, `1040 3110 'UN' 0000 f0ffffff`, `e07f 1000 'OW' 0000 feffffff`} {
		b := typed(t, e)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeDataset(ExplicitLE, b)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, ErrTruncated)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(3<<20), e)
	}
	_, err = DecodeDataset(ImplicitLE, bytes.Repeat(typed(t, `0900 0000 00000000`), MaxElements+1))
	require.ErrorIs(t, err, ErrBounds)
	_, err = DecodeDataset(ExplicitLE, bytes.Repeat(append(typed(t, `0800 8000 'UT' 0000 00100000`), bytes.Repeat([]byte("x"), 4096)...), 1200))
	require.ErrorIs(t, err, ErrBounds)
	for _, b := range [][]byte{nil, make([]byte, 200), []byte("<?xml"), typed(t, `feff 0de0 00000000`), typed(t, `1040 1110 'SQ' 0000 08000000 feff 00e0 ff000000`)} {
		_, err := DecodeDataset(ExplicitLE, b)
		require.True(t, b == nil || err != nil)
		_, err = Decode(b)
		require.Error(t, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(typed(f, preamble+reportHead+reportBody))
	o := example()
	for _, s := range []string{ImplicitLE, ExplicitLE, JPEGLossless, RLE} {
		o.TransferSyntax = s
		b, err := Form{}.Append(nil, o, ramp(o))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		require.True(t, bytes.HasPrefix(b, Sample(b)))
		o, err := Decode(b)
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrForm) && !errors.Is(err, ErrBounds) && !errors.Is(err, ErrSyntax) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if (o == nil) != (err != nil && !errors.Is(err, ErrTruncated)) && err == nil {
			t.Fatal("neither an object nor an error")
		}
		_, _ = Picture(b, 1<<16)
		for _, s := range []string{ImplicitLE, ExplicitLE} {
			_, _ = DecodeDataset(s, b)
		}
	})
}
