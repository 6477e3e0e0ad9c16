package daily

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const someLine = "GA,000071,000061,000065,000080\r\n"

// A clock that is ten years ahead for some hours takes no file away, and neither does
// one that comes back; a clock that stays takes those that are too old.
func TestClockAhead(t *testing.T) {
	b := newBench(t, Settings{Keep: DefaultKeep, MaxBytes: DefaultMaxBytes})
	r := b.Recorder("site-lane-rpm-1")
	now := at(t, "2026-03-14 13:05:07.123 +02")
	for range 5 {
		r.Received(now, []byte(someLine))
		b.write(now)
		now, b.mono = now.AddDate(0, 0, 1), b.mono+24*time.Hour
	}
	goOn := func(offset int, hours int) {
		for range hours * 6 {
			now, b.mono = now.Add(10*time.Minute), b.mono+10*time.Minute
			b.write(now.AddDate(offset, 0, 0))
		}
	}
	goOn(10, 5)
	require.Len(t, b.names(), 5)
	goOn(0, 5)
	goOn(10, 5)
	require.Len(t, b.names(), 5)
	goOn(10, 2)
	require.Empty(t, b.names())
}

// What a box wrote before its clock was set has no age. Under the cap of the size it goes
// last.
func TestDayBeforeTheClockWasSet(t *testing.T) {
	b := newBench(t, Settings{Keep: DefaultKeep, MaxBytes: DefaultMaxBytes})
	r := b.Recorder("x")
	past, now := at(t, "2000-01-01 00:05:07.123 +02"), at(t, "2026-03-14 13:05:07.123 +02")
	for _, day := range []time.Time{past, now, now.AddDate(0, 0, 1)} {
		r.Received(day, []byte(someLine))
		b.write(day)
		b.mono += 24 * time.Hour
		b.write(day.AddDate(0, 0, 1))
	}
	names := []string{"x-2000-01-01+0200.csv", "x-2026-03-14+0200.csv", "x-2026-03-15+0200.csv"}
	require.Equal(t, names, b.names())
	small := b.Settings()
	small.MaxBytes = 150
	require.NoError(t, b.Change(small, nil))
	b.write(now.AddDate(0, 0, 1))
	require.Equal(t, []string{names[0], names[2]}, b.names())
}

// Other settings in the middle of a line: the line stays whole. What waits goes where it
// belonged, and the end of the recording keeps half a line in a note.
func TestChange(t *testing.T) {
	b := newBench(t, Settings{Zone: "UTC"})
	r := b.Recorder("x")
	now := at(t, "2026-03-14 12:00:00.000 +00")
	b.o.Now = func() time.Time { return now }
	r.Received(now, []byte("GB,1\r\nGB"))
	other := Settings{Dir: filepath.Join(t.TempDir(), "other"), Zone: "Europe/Kyiv", Keep: time.Hour}
	require.ErrorContains(t, b.Change(Settings{Dir: other.Dir, Zone: "Europe/Nowhere"}, nil), "Europe/Nowhere")
	require.Equal(t, b.dir, b.Settings().Dir)
	require.NoError(t, b.Change(other, nil))
	require.Equal(t, other, b.Settings())
	r.Received(now, []byte(",2\r\nGS"))
	r.End()
	b.write(now)
	require.Equal(t, "GB,1,2026-03-14 12:00:00.000 +00\r\n", b.file("x-2026-03-14+0000.csv"))
	there, err := os.ReadFile(filepath.Join(other.Dir, "x-2026-03-14+0200.csv"))
	require.NoError(t, err)
	require.Equal(t, "GB,2,2026-03-14 14:00:00.000 +02\r\n"+
		"# lanepost: 2026-03-14 14:00:00.000 +02 the recording ended in a line of 2 bytes, which begins with \"GS\"\r\n", string(there))
}
