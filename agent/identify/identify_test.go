package identify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/aspect"
	"github.com/lanepost/lanepost/protocol/textframe"
)

var shared = sync.OnceValue(func() *Recogniser {
	set, err := profiles.Load("")
	if err != nil {
		panic(err)
	}
	return New(set, registry.ByName)
})

func profile(t testing.TB, name string) *profiles.Profile {
	t.Helper()
	p, ok := shared().set.Get(name)
	require.True(t, ok, name)
	return p
}

// stream makes a heard of chunks.
func stream(script []drivers.Chunk) *heard {
	h := &heard{}
	for _, c := range script {
		h.add(c.At, c.Bytes)
	}
	return h
}

// paced cuts bytes into pieces that come one after the other.
func paced(b []byte, size int) *heard {
	h := &heard{}
	for i := 0; i < len(b); i += size {
		h.add(time.Duration(i)*10*time.Millisecond, b[i:min(len(b), i+size)])
	}
	return h
}

// kinOf is the profile that one is like, or itself.
func kinOf(p *profiles.Profile) string {
	if p.Identify.Like != "" {
		return p.Identify.Like
	}
	return p.Name
}

// The vectors of every profile, as streams of bytes, are never stated as certain to be
// another profile's; nor is their first half, nor are they with a piece of another one's
// before them.
func TestVectorsAreNeverAnothersForCertain(t *testing.T) {
	t.Parallel()
	r := shared()
	var all []drivers.Chunk
	counts := map[Level]int{}
	for _, name := range r.set.Names() {
		p := profile(t, name)
		for _, v := range p.Vectors {
			if len(v.Script) == 0 {
				continue
			}
			whole := stream(v.Script)
			half := &heard{}
			half.add(0, whole.all()[:whole.bytes/2])
			mixed := &heard{}
			if len(all) > 0 {
				mixed = stream(all)
			}
			mixedAt := 10 * time.Second
			if len(all) > 0 {
				mixedAt += all[len(all)-1].At
			}
			for _, c := range v.Script {
				mixed.add(mixedAt+c.At, c.Bytes)
			}
			all = v.Script
			for what, h := range map[string]*heard{"whole": whole, "half": half, "behind another's": mixed} {
				for _, scheme := range streamSchemes {
					verdict := r.judge(context.Background(), scheme, h, "")
					if what == "whole" {
						counts[verdict.level]++
					}
					if verdict.level != Certain || what == "behind another's" && verdict.best.good() {
						continue
					}
					require.Equal(t, kinOf(p), verdict.best.kin(), "%s/%s, %s, over %s: %s", name, v.Name, what, scheme, verdict.best.says())
				}
			}
		}
	}
	t.Log("vectors over both kinds of link: ", counts)
	require.Greater(t, counts[Certain], 40)
}

// One record, and half of one, prove nothing of a portal.
func TestHalfARecord(t *testing.T) {
	t.Parallel()
	r := shared()
	for _, c := range []struct {
		text  string
		level Level
	}{
		{"GB,0004", Unknown},
		{"0406,000436,000436\r\nNB,0000", Possible},
		{"GB,000401,000406,000436,000436\r\n", Likely},
		{"GB,000401,000406,000436,000436\r\nNB,000000,000000,000000,000000\r\n", Likely},
	} {
		v := r.judge(context.Background(), "tcp", paced([]byte(c.text), 100), "")
		require.Equal(t, c.level, v.level, "%q: %+v", c.text, v.best)
		if c.level == Likely {
			require.Equal(t, "rapiscan-tsa", v.best.profile.Name)
		}
	}
	require.Equal(t, Silent, r.judge(context.Background(), "tcp", &heard{}, "").level)
}

// Bytes by chance, as a wrong baud rate or a loose wire gives them, are nothing: not even
// likely.
func TestNoiseIsNobody(t *testing.T) {
	t.Parallel()
	r := shared()
	kinds := map[string]func(*rand.Rand) byte{
		"eight bits":  func(r *rand.Rand) byte { return byte(r.Uint32()) },
		"seven bits":  func(r *rand.Rand) byte { return byte(r.Uint32() & 0x7f) },
		"zeros":       func(*rand.Rand) byte { return 0 },
		"ones":        func(*rand.Rand) byte { return 0xff },
		"few values":  func(r *rand.Rand) byte { return []byte{0x00, 0xff, 0x80, 0xfe}[r.IntN(4)] },
		"soup":        func(r *rand.Rand) byte { return " !0123456789ABCDEFkg.,+-;\r\n<>\x02\x03"[r.IntN(31)] },
		"digits":      func(r *rand.Rand) byte { return "0123456789.\r\n"[r.IntN(13)] },
		"letters":     func(r *rand.Rand) byte { return "ABCDEFGHIJKLMNOPQRSTUVWXYZ<\r\n"[r.IntN(29)] },
		"hexadecimal": func(r *rand.Rand) byte { return "0123456789ABCDEF\x02\x03\x07\n"[r.IntN(20)] },
	}
	for name, next := range kinds {
		for seed := range uint64(6) {
			random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // chance is wanted, not secrecy
			for _, size := range []int{5, 60, 900, 6000} {
				b := make([]byte, size)
				for i := range b {
					b[i] = next(random)
				}
				for _, scheme := range streamSchemes {
					v := r.judge(context.Background(), scheme, paced(b, 64), "")
					require.Contains(t, []Level{Unknown, Possible}, v.level, "%s, %d bytes, seed %d: %+v", name, size, seed, v.best)
				}
			}
		}
	}
}

// sent is an instrument that sends the first vector of a profile, again and again.
func sent(t testing.TB, name string, at line, vector int) *wire {
	t.Helper()
	script := profile(t, name).Vectors[vector].Script
	require.NotEmpty(t, script)
	w := &wire{line: at, began: time.Now()}
	// The first burst at 0 would be before anybody listens.
	for _, c := range script {
		w.script = append(w.script, drivers.Chunk{At: c.At + 300*time.Millisecond, Bytes: c.Bytes})
	}
	w.period = script[len(script)-1].At + time.Second
	return w
}

// On a line whose settings nobody knows the right ones are found, and a wrong profile or a
// wrong setting is never stated as certain. Bits are really sent at one setting and looked
// at with another.
func TestTheLineIsFound(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INSTRUMENT\tLINE\tTOLD\tLINE TOLD\tLEVEL\tSECONDS\tSETTINGS TRIED")
	for _, c := range []struct {
		profile, line string
		vector        int
		told          string // if it differs from profile
		lineTold      string // if it differs from line
		level         Level
	}{
		{profile: "rapiscan-tsa-serial", line: "19200 8O1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-serial", line: "9600 8N1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-serial", line: "4800 8N1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-serial", line: "19200 8E1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-serial", line: "115200 8N1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-serial", line: "9600 7E1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-serial", line: "9600 7O1", vector: 2, level: Certain},
		{profile: "rapiscan-tsa-extended", line: "19200 8O1", level: Certain},
		{profile: "tsa-environment", line: "19200 8O1", level: Certain},
		{profile: "rotem-drm", line: "19200 8N1", level: Certain},
		// A second stop bit is only seen where a parity is expected.
		{profile: "thermo-radeye", line: "9600 7E2", lineTold: "9600 7E1", level: Certain},
		{profile: "thermo-fht6020", line: "19200 7E2", vector: 1, level: Certain},
		{profile: "scale-toledo", line: "9600 7E1", level: Certain},
		{profile: "scale-toledo", line: "9600 8N1", level: Certain},
		{profile: "scale-yaohua", line: "1200 8N1", level: Certain},
		{profile: "scale-csv", line: "2400 8N1", level: Certain},
		{profile: "scale-systec", line: "38400 8N1", level: Certain},
		{profile: "serial-plate", line: "9600 8N1", level: Possible},
		{profile: "serial-plate", line: "9600 7E1", level: Possible},
		// A rate that nobody uses.
		{profile: "rapiscan-tsa-serial", line: "14400 8N1", vector: 2, told: "-", lineTold: "-", level: Unknown},
	} {
		at, err := parseLine(c.line)
		require.NoError(t, err)
		synctest.Test(t, func(t *testing.T) {
			instrument := sent(t, c.profile, at, c.vector)
			report := shared().Serial(t.Context(), "/dev/nobody", Options{openLine: instrument.open})
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.1f\t%d\n", c.profile, c.line, report.Profile, report.Line, report.Level, report.Seconds, len(report.Tried))
			told, lineTold := c.profile, c.line
			if c.told != "" {
				told = strings.Trim(c.told, "-")
			}
			if c.lineTold != "" {
				lineTold = strings.Trim(c.lineTold, "-")
			}
			require.Equal(t, c.level, report.Level, "%s at %s: %+v", c.profile, c.line, report)
			require.Equal(t, told, report.Profile, "%s at %s: %+v", c.profile, c.line, report)
			require.Equal(t, lineTold, report.Line, "%s at %s: %+v", c.profile, c.line, report)
		})
	}
	require.NoError(t, w.Flush())
	t.Log("\n" + table.String())
}

// A silent line is silent at every setting: no time is spent on going through them.
func TestASilentLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{line: line{9600, 8, "none", 1}, period: time.Second, began: time.Now()}
		report := shared().Serial(t.Context(), "/dev/nobody", Options{openLine: w.open})
		require.Equal(t, Silent, report.Level)
		require.Len(t, w.opened, 1)
		require.InDelta(t, DefaultFor.Seconds(), report.Seconds, 1)
		require.Contains(t, strings.Join(report.Advice, "\n"), "null modem")
		require.Contains(t, strings.Join(report.Advice, "\n"), "--probe")
	})
}

// A port that goes away between two settings is told as that, not as a silent instrument.
func TestPortGoesAway(t *testing.T) {
	t.Parallel()
	gone := fmt.Errorf("open /dev/nobody: %w", fs.ErrNotExist)
	synctest.Test(t, func(t *testing.T) {
		w := sent(t, "rapiscan-tsa-serial", line{14400, 8, "none", 1}, 2)
		report := shared().Serial(t.Context(), "/dev/nobody", Options{openLine: func(ctx context.Context, l line) (link.Conn, error) {
			if len(w.opened) == 2 {
				return nil, gone
			}
			return w.open(ctx, l)
		}})
		require.Len(t, w.opened, 2)
		require.Equal(t, Unknown, report.Level)
		require.Contains(t, strings.Join(report.Advice, "\n"), "the port went away: open /dev/nobody")
	})
	x := hearing{verdict: verdict{level: Silent}}
	x.gone(gone)
	require.Equal(t, Failed, x.level, "a silence until then proves nothing")
}

// Ctrl-C ends it, and what was heard is told.
func TestStoppedByHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := sent(t, "serial-plate", line{9600, 8, "none", 1}, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		report := shared().Serial(ctx, "/dev/nobody", Options{openLine: w.open})
		require.Equal(t, Possible, report.Level)
		require.Positive(t, report.Records)
	})
}

func TestShapes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{`AA 9999-AA \x02 9.99`, "AAAAAAAA 9A"}, shapes([]byte("KI 1234-CB \x02 3.14\r\nunfamous 1x\r\nKI 9999-CB \x02 2.71\r\n")))
	require.Equal(t, []string{"AA99A9999 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA..."},
		shapes([]byte("AB12가3456 "+strings.Repeat("abcdefghi", 30)+"\n")), "a letter is a letter")
	require.Empty(t, shapes([]byte{0x80, 0x81, 0x82, 0xff, 0xfe, 0, 0, 0, 0, 1, 2, 3, 4}), "no text")
}

func TestLines(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"19200 8O1", "9600 7E2", "1200 8N1"} {
		l, err := parseLine(text)
		require.NoError(t, err)
		require.Equal(t, text, l.String())
	}
	for _, text := range []string{"", "9600", "9600 8X1", "x 8N1", "9600 9N1", "9600 8N3", "9600 8N"} {
		_, err := parseLine(text)
		require.Error(t, err, text)
	}
	lines := shared().lines()
	require.Equal(t, line{9600, 8, "none", 1}, lines[0], "most profiles have it")
	require.Contains(t, lines[:3], line{19200, 8, "odd", 1}, "portals have it")
	require.Less(t, len(lines), 25)
}

// What profiles name under identify is there.
func TestProfilesNameWhatIsThere(t *testing.T) {
	t.Parallel()
	variants := map[string]int{}
	for _, c := range shared().candidates {
		if c.variant.Text != "" {
			variants[c.profile.Name]++
		}
	}
	for _, name := range shared().set.Names() {
		p := profile(t, name)
		if p.Identify.Like != "" {
			require.Empty(t, profile(t, p.Identify.Like).Identify.Like, "%s is like one that is like another", name)
		}
		require.Len(t, p.Identify.Variants, variants[name], "%s: a driver refuses a variant", name)
	}
	// Those that are asked, and no others, would be sent something.
	require.Equal(t, []string{"berthold-lb6420", "kromek-d5", "scale-mt-sics", "scale-scp01", "scale-systec", "thermo-fht6020", "thermo-radeye"}, shared().asked("tcp"))
}

func TestRanges(t *testing.T) {
	t.Parallel()
	all, err := ParseRange("10.0.3.17/29")
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{
		netip.MustParseAddr("10.0.3.17"), netip.MustParseAddr("10.0.3.18"), netip.MustParseAddr("10.0.3.19"),
		netip.MustParseAddr("10.0.3.20"), netip.MustParseAddr("10.0.3.21"), netip.MustParseAddr("10.0.3.22"),
	}, all)
	all, err = ParseRange("10.0.3.0/24")
	require.NoError(t, err)
	require.Len(t, all, 254)
	all, err = ParseRange("fd00::/125")
	require.NoError(t, err)
	require.Len(t, all, 8)
	for _, text := range []string{"10.0.0.0/23", "fd00::/64", "10.0.3", "portal-1"} {
		_, err := ParseRange(text)
		require.Error(t, err, text)
	}
	require.Subset(t, shared().Ports(), []int{502, 1000, 1600, 4840, 5084})
}

func TestKernelTable(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9C40 0100007F:0640 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000
   1: 0100007F:0640 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000000000000000
   2: 1503000A:9C41 1503000A:0641 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000
   3: 00000000000000000000000001000000:9C42 0000000000000000FFFF00001503000A:0642 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0
`
	local, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.3.21")
	require.Equal(t, "4711", connectedTo(strings.NewReader(table), []netip.Addr{other, local}, 1600))
	require.Empty(t, connectedTo(strings.NewReader(table), []netip.Addr{other}, 1600))
	require.Empty(t, connectedTo(strings.NewReader(table), []netip.Addr{other}, 1601), "it is ending")
	require.Equal(t, "4713", connectedTo(strings.NewReader(table), []netip.Addr{other}, 1602), "an old address in a new one")
	require.Empty(t, connectedTo(strings.NewReader("nonsense\n 0: x y 01 z\n 1: a b 01 c d e f g h i j\n"), []netip.Addr{other}, 1))
}

// The connection of this very process to a listener of its own is found, with its name.
func TestWhoHasAConnection(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.Empty(t, usedBy(t.Context(), l.Addr().String()))
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	require.Regexp(t, `^identify\.test \(pid \d+\)$`, usedBy(t.Context(), l.Addr().String()))
}

func TestClean(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a [2Jb c ? 서울", clean("a\x1b[2Jb\nc \xff 서울"))
	require.LessOrEqual(t, len(clean(strings.Repeat("x", 1000))), maxClean+3)
}

// unitServer answers as a Modbus server whose units are given: registers, or an exception.
func unitServer(t testing.TB, answers map[byte]byte, late byte) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() })
	go func() {
		defer there.Close()
		var held []byte
		for {
			var q [12]byte
			if _, err := io.ReadFull(there, q[:]); err != nil {
				return
			}
			exception, known := answers[q[6]]
			if !known {
				continue
			}
			pdu := []byte{readHolding, 2 * q[11]}
			pdu = append(pdu, bytes.Repeat([]byte{0, q[6]}, int(q[11]))...)
			if exception != 0 {
				pdu = []byte{readHolding | exceptionBit, exception}
			}
			a := append(q[:4:4], 0, 0, q[6])
			binary.BigEndian.PutUint16(a[4:], uint16(len(pdu)+1)) //nolint:gosec // short
			a = append(a, pdu...)
			if q[6] == late {
				held = a
				continue
			}
			if _, err := there.Write(append(held, a...)); err != nil {
				return
			}
			held = nil
		}
	}()
	return here
}

// An answer that comes late is not taken for the next unit's, and counts for its own; a
// gateway's exception is no unit.
func TestUnits(t *testing.T) {
	t.Parallel()
	m := &units{conn: unitServer(t, map[byte]byte{2: 0, 3: gatewayNoAnswer, 4: 2, 5: 0, 6: 0, 7: gatewayNoPath}, 5)}
	var present []byte
	for unit := byte(1); unit <= 8; unit++ {
		words, there, err := m.read(unit, 0, 3)
		require.NoError(t, err)
		if there {
			present = append(present, unit)
		}
		if words != nil {
			require.Equal(t, []uint16{uint16(unit), uint16(unit), uint16(unit)}, words)
		}
	}
	require.Equal(t, []byte{2, 4, 6}, present)
	for unit, there := range m.there {
		require.Equal(t, slices.Contains([]int{2, 4, 5, 6}, unit), there, unit)
	}
}

// unitLine is a serial line with units on it. It gives back what is sent, as some adapters do,
// and with noise makes something of it first.
func unitLine(t testing.TB, answers map[byte]byte, late byte, noise []byte) *lineUnits {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _ = here.Close() })
	go func() {
		defer there.Close()
		var held []byte
		for {
			var q [8]byte
			if _, err := io.ReadFull(there, q[:]); err != nil {
				return
			}
			if _, err := there.Write(append(slices.Clone(noise), q[:]...)); err != nil {
				return
			}
			exception, known := answers[q[0]]
			if !known {
				continue
			}
			a := append([]byte{q[0], readHolding, 2 * q[5]}, bytes.Repeat([]byte{0, q[0]}, int(q[5]))...)
			if exception != 0 {
				a = []byte{q[0], readHolding | exceptionBit, exception}
			}
			a = binary.LittleEndian.AppendUint16(a, textframe.ModbusCRC(a))
			if q[0] == late {
				held = a
				continue
			}
			for _, b := range append(held, a...) { // a character at a time
				if _, err := there.Write([]byte{b}); err != nil {
					return
				}
			}
			held = nil
		}
	}()
	return &lineUnits{conn: here}
}

// As TestUnits, on a serial line.
func TestUnitsOfALine(t *testing.T) {
	t.Parallel()
	for name, noise := range map[string][]byte{"quiet": nil, "noise": {1, readHolding, 6, 0xff, 0, 3, readHolding | exceptionBit, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := unitLine(t, map[byte]byte{2: 0, 3: gatewayNoAnswer, 4: 2, 5: 0, 6: 0, 7: gatewayNoPath}, 5, noise)
			var present []byte
			for unit := byte(1); unit <= 8; unit++ {
				words, there, err := m.read(unit, 0, 3)
				require.NoError(t, err)
				if there {
					present = append(present, unit)
				}
				if words != nil {
					require.Equal(t, []uint16{uint16(unit), uint16(unit), uint16(unit)}, words)
				}
			}
			require.Equal(t, []byte{2, 4, 6}, present)
			for unit, there := range m.there {
				require.Equal(t, slices.Contains([]int{2, 4, 5, 6}, unit), there, unit)
			}
		})
	}
}

// lateRegisters answers with the registers of a portal, those of one unit too late at first.
type lateRegisters struct {
	there [256]bool
	late  byte
	asked int
}

func (m *lateRegisters) read(unit byte, address, count uint16) (words []uint16, there bool, err error) {
	if unit > 2 {
		return nil, false, nil
	}
	m.there[unit] = true
	if unit == m.late {
		if m.asked++; m.asked == 1 {
			return nil, false, nil
		}
	}
	words = make([]uint16, count)
	if address == aspect.DescriptionAddress {
		d := aspect.Description{Signature: 1, Registers: aspect.BlockSize, BlockID: 1, Base: aspect.FixedBase, Size: aspect.BlockSize}.Words()
		words = d[:]
	}
	return words, true, nil
}

// A unit whose answer comes too late is asked once more.
func TestLateUnitsAreAskedAgain(t *testing.T) {
	t.Parallel()
	m := &lateRegisters{late: 1}
	s := scanUnits(t.Context(), m, &m.there, func(int) {})
	require.NoError(t, s.err)
	require.Equal(t, []string{"1", "2"}, s.portals)
}

func FuzzLineUnits(f *testing.F) {
	f.Add([]byte{1, readHolding, 2, 0, 7, 0xf9, 0x86}, 7)
	f.Fuzz(func(t *testing.T, b []byte, wanted int) {
		wanted = rtuFrame + 2 + (wanted&0x7f)*2
		m := &lineUnits{}
		for of, words, rest := m.answer(b, wanted); of != 0; of, words, rest = m.answer(rest, wanted) {
			if words != nil && len(words) != (wanted-rtuFrame)/2 || len(rest) >= len(b) {
				t.Fatal("another answer than was asked for")
			}
			b = rest
		}
	})
}

// What ends the asking is said, and nothing of the units that were not asked.
func TestModbusThatBreaksOff(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for range 3 {
			var q [12]byte
			if _, err := io.ReadFull(c, q[:]); err != nil {
				return
			}
			if q[6] < 3 {
				_, _ = c.Write(append(q[:4:4], 0, 3, q[6], readHolding|exceptionBit, 2))
			}
		}
	}()
	p := shared().probeModbus(t.Context(), l.Addr().String(), Options{})
	require.True(t, p.found)
	said := strings.Join(p.said, "\n")
	require.Contains(t, said, "of the units 1 to 3 these answer: 1, 2\n")
	require.Regexp(t, `the asking ended at unit 3 of 32: .*(EOF|reset)`, said)
}

// The headers of an answer are bounded.
func TestEndlessHeaders(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", strings.Repeat("x", 4*httpHeaders))
	}))
	defer s.Close()
	p := shared().probeHTTP(t.Context(), strings.TrimPrefix(s.URL, "http://"), Options{})
	require.False(t, p.found)
	require.Len(t, p.said, 1)
	require.Contains(t, p.said[0], "exceeded 16384 bytes")
}

func FuzzUnits(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 0, 5, 1, 3, 2, 0, 7})
	f.Add([]byte{0, 1, 0, 0, 0, 3, 1, 0x83, 2})
	f.Fuzz(func(t *testing.T, answer []byte) {
		here, there := net.Pipe()
		go func() {
			_, _ = io.CopyN(io.Discard, there, 12) // the test looks at what is read only
			_, _ = there.Write(answer)
			_ = there.Close()
		}()
		words, there2, err := (&units{conn: here}).read(1, 0, 1)
		_ = here.Close()
		require.False(t, err != nil && (there2 || words != nil))
		require.LessOrEqual(t, len(words), 1)
	})
}

func FuzzShapes(f *testing.F) {
	f.Add([]byte("GB,000401,000406,000436,000436\r\n서울12가3456\x1b[2J"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range shapes(b) {
			require.LessOrEqual(t, len(s), 4*maxShape+3)
			for _, c := range s {
				require.True(t, c >= ' ' && c < 0x7f, "%q", s)
			}
		}
	})
}

// FuzzJudge: whatever comes, the recogniser ends, and a verdict has what it says.
func FuzzJudge(f *testing.F) {
	r := shared()
	for _, name := range r.set.Names() {
		for _, v := range profile(f, name).Vectors {
			if h := stream(v.Script); h.bytes > 0 && h.bytes < 2000 {
				f.Add(h.all())
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4000 {
			return
		}
		for _, reading := range readings(line{9600, 8, "none", 1}, paced(b, 50)) {
			v := r.judge(t.Context(), "serial", reading.heard, "")
			require.Equal(t, slices.Contains([]Level{Certain, Likely, Equal, Possible}, v.level), v.best != nil)
			if v.level == Certain {
				require.GreaterOrEqual(t, v.best.records, v.best.profile.Identify.Records)
			}
		}
	})
}
