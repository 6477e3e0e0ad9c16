package daily

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bench is a store whose disk is written to when the test says so.
type bench struct {
	*Store
	t       *testing.T
	dir     string
	log     *logged
	changed int
	mono    time.Duration
}

func newBench(t *testing.T, s Settings) *bench {
	t.Helper()
	b := &bench{t: t, log: &logged{}}
	if s.Dir == "" {
		s.Dir = filepath.Join(t.TempDir(), "daily")
	}
	if s.Zone == "" {
		s.Zone = "Europe/Kyiv"
	}
	b.dir = s.Dir
	var err error
	b.Store, err = newStore(Options{
		Settings: s, Changed: func() { b.changed++ }, Log: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	require.NoError(t, err)
	b.Store.mono = func() time.Duration { return b.mono }
	t.Cleanup(b.finish)
	return b
}

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse("2006-01-02 15:04:05.000 -07", s)
	require.NoError(t, err)
	return v
}

func (b *bench) names() []string {
	b.t.Helper()
	entries, err := os.ReadDir(b.dir)
	require.NoError(b.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (b *bench) file(name string) string {
	b.t.Helper()
	content, err := os.ReadFile(filepath.Join(b.dir, name))
	require.NoError(b.t, err)
	return string(content)
}

// timeColumn is the time at the end of a line, before its line end.
var timeColumn = regexp.MustCompile(`,\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d(\d\d)?([\r\n]+)$`)

// wireOf is what a file has from the wire: its lines that have a time, without it.
// cmd/lanepost has the tests with the replay itself.
func wireOf(content string) (wire string, lines int) {
	var b strings.Builder
	for line := range strings.Lines(content) {
		if m := timeColumn.FindStringSubmatchIndex(line); m != nil {
			b.WriteString(line[:m[0]] + line[m[4]:])
			lines++
		}
	}
	return b.String(), lines
}

// Expected text by hand. Lines come in pieces and several at once, with what is no
// record, guards, empty lines and bare line feeds; all is in the file as received.
func TestWhatIsWritten(t *testing.T) {
	b := newBench(t, Settings{})
	r := b.Recorder("medyka-entry-3-rpm-1")
	noon := at(t, "2026-03-14 12:00:00.123 +02")
	wire := "51,000078\r\nNB,000000,000000,000000,000000\r\nGB,000401,000406,000436,000436\r\n" +
		"!GS,000063,000058,000051,000078\r\n#!GS,000064,000058,000051,000078\r\n#\r\n" +
		"\x00\xff noise, with a comma\n\r\n# lanepost: not a note, since it has a time\r\n,\n"
	for i := range wire {
		r.Received(noon.Add(time.Duration(i)*time.Millisecond), []byte(wire[i:i+1]))
	}
	b.write(noon)
	require.Equal(t, []string{"medyka-entry-3-rpm-1-2026-03-14+0200.csv"}, b.names())
	got := b.file("medyka-entry-3-rpm-1-2026-03-14+0200.csv")
	require.Equal(t, "51,000078,2026-03-14 12:00:00.133 +02\r\n"+
		"NB,000000,000000,000000,000000,2026-03-14 12:00:00.165 +02\r\n"+
		"GB,000401,000406,000436,000436,2026-03-14 12:00:00.197 +02\r\n"+
		"!GS,000063,000058,000051,000078,2026-03-14 12:00:00.230 +02\r\n"+
		"#!GS,000064,000058,000051,000078,2026-03-14 12:00:00.264 +02\r\n"+
		"#,2026-03-14 12:00:00.267 +02\r\n"+
		"\x00\xff noise, with a comma,2026-03-14 12:00:00.290 +02\n"+
		",2026-03-14 12:00:00.292 +02\r\n"+
		"# lanepost: not a note, since it has a time,2026-03-14 12:00:00.337 +02\r\n"+
		",,2026-03-14 12:00:00.339 +02\n", got)
	again, lines := wireOf(got)
	require.Equal(t, wire, again, "without the times it is what was received, to the byte")
	require.Equal(t, 10, lines)
}

// A day is from local midnight to local midnight, of 23, 24 or 25 hours; the name has
// the offset of its beginning.
func TestDays(t *testing.T) {
	for _, c := range []struct {
		zone, first string
		last, next  string
		file, then  string
		hours       int
	}{
		{"Europe/Kyiv", "2026-03-14 00:00:00.000 +02", "2026-03-14 23:59:59.999 +02", "2026-03-15 00:00:00.000 +02", "2026-03-14+0200", "2026-03-15+0200", 24},
		{"Europe/Kyiv", "2026-03-29 00:00:00.000 +02", "2026-03-29 23:59:59.999 +03", "2026-03-30 00:00:00.000 +03", "2026-03-29+0200", "2026-03-30+0300", 23},
		{"Europe/Kyiv", "2026-10-25 00:00:00.000 +03", "2026-10-25 23:59:59.999 +02", "2026-10-26 00:00:00.000 +02", "2026-10-25+0300", "2026-10-26+0200", 25},
		{"UTC", "2026-03-29 00:00:00.000 +00", "2026-03-29 23:59:59.999 +00", "2026-03-30 00:00:00.000 +00", "2026-03-29+0000", "2026-03-30+0000", 24},
		{"America/New_York", "2026-03-14 00:00:00.000 -04", "2026-03-14 23:59:59.999 -04", "2026-03-15 00:00:00.000 -04", "2026-03-14-0400", "2026-03-15-0400", 24},
	} {
		t.Run(c.zone+" "+c.file, func(t *testing.T) {
			b := newBench(t, Settings{Zone: c.zone})
			r := b.Recorder("x")
			first, next := at(t, c.first), at(t, c.next)
			require.Equal(t, time.Duration(c.hours)*time.Hour, next.Sub(first))
			r.Received(first.Add(-time.Millisecond), []byte("before\n"))
			for _, text := range []string{c.first, c.last, c.next} {
				r.Received(at(t, text).In(time.UTC), []byte("l\n"))
			}
			b.write(next)
			require.Equal(t, "l,"+c.first+"\nl,"+c.last+"\n", b.file("x-"+c.file+".csv"))
			require.Equal(t, "l,"+c.next+"\n", b.file("x-"+c.then+".csv"))
			require.Len(t, b.names(), 3)
			require.Equal(t, map[string]bool{filepath.Join(b.dir, "x-"+c.then+".csv"): true}, b.openFiles(), "a day that is over is closed")
		})
	}
	t.Run("Asia/Kolkata", func(t *testing.T) {
		b := newBench(t, Settings{Zone: "Asia/Kolkata"})
		b.Recorder("x").Received(at(t, "2026-03-14 20:00:00.000 +00"), []byte("GB,1\r\n"))
		b.write(at(t, "2026-03-14 20:00:00.000 +00"))
		got := b.file("x-2026-03-15+0530.csv")
		require.Equal(t, "GB,1,2026-03-15 01:30:00.000 +0530\r\n", got)
		wire, _ := wireOf(got)
		require.Equal(t, "GB,1\r\n", wire)
	})
}

// A day that is over is closed without a line of the next.
func TestMidnightWithoutALine(t *testing.T) {
	b := newBench(t, Settings{})
	b.Recorder("x").Received(at(t, "2026-03-14 23:00:00.000 +02"), []byte("l\n"))
	b.write(at(t, "2026-03-14 23:59:59.000 +02"))
	require.Len(t, b.openFiles(), 1)
	b.write(at(t, "2026-03-15 00:00:00.000 +02"))
	require.Empty(t, b.openFiles())
}

// The end of a link, in a line and between two, and what is no line are notes; a
// replay leaves them out.
func TestNotes(t *testing.T) {
	b := newBench(t, Settings{})
	r := b.Recorder("x")
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	r.Parted(noon) // nothing came, so nothing is said
	r.Received(noon, []byte("GB,1\r\nGS,0000"))
	r.Parted(noon.Add(time.Second))
	r.Parted(noon.Add(2 * time.Second))
	r.Received(noon.Add(3*time.Second), []byte("GB,2\r\n"))
	r.Parted(noon.Add(4 * time.Second))
	for range 10 {
		r.Received(noon.Add(5*time.Second), bytes.Repeat([]byte{0xff}, 500))
	}
	r.Received(noon.Add(6*time.Second), []byte("\nGB,3\r\n"))
	r.Received(noon.Add(7*time.Second), bytes.Repeat([]byte{'x'}, 1025))
	r.Parted(noon.Add(8 * time.Second))
	b.write(noon)
	got := b.file("x-2026-03-14+0200.csv")
	require.Equal(t, "GB,1,2026-03-14 12:00:00.000 +02\r\n"+
		"# lanepost: 2026-03-14 12:00:01.000 +02 the link ended in a line, of which there is \"GS,0000\"\r\n"+
		"GB,2,2026-03-14 12:00:03.000 +02\r\n"+
		"# lanepost: 2026-03-14 12:00:04.000 +02 the link ended\r\n"+
		"# lanepost: 2026-03-14 12:00:06.000 +02 a line of 5001 bytes, which begins with \""+strings.Repeat(`\xff`, 1024)+"\"\r\n"+
		"GB,3,2026-03-14 12:00:06.000 +02\r\n"+
		"# lanepost: 2026-03-14 12:00:08.000 +02 the link ended in a line of 1025 bytes, which begins with \""+strings.Repeat("x", 1024)+"\"\r\n", got)
	wire, _ := wireOf(got)
	require.Equal(t, "GB,1\r\nGB,2\r\nGB,3\r\n", wire)
}

// The next run goes on in the same file, and says that it did; a line that a crash
// cut is not joined to the next.
func TestRestart(t *testing.T) {
	s := Settings{Dir: t.TempDir(), Zone: "Europe/Kyiv"}
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	run := func(line string) {
		b := newBench(t, s)
		b.Recorder("x").Received(noon, []byte(line))
		b.write(noon)
		b.finish()
	}
	run("GB,1\r\n")
	run("GB,2\r\n")
	name := filepath.Join(s.Dir, "x-2026-03-14+0200.csv")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString("GB,9,2026-03")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	run("GB,3\r\n")
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "GB,1,2026-03-14 12:00:00.000 +02\r\n"+
		"# lanepost: 2026-03-14 12:00:00.000 +02 the agent began anew to write this file\r\n"+
		"GB,2,2026-03-14 12:00:00.000 +02\r\n"+
		"GB,9,2026-03\r\n"+
		"# lanepost: 2026-03-14 12:00:00.000 +02 the line above is not whole\r\n"+
		"# lanepost: 2026-03-14 12:00:00.000 +02 the agent began anew to write this file\r\n"+
		"GB,3,2026-03-14 12:00:00.000 +02\r\n", string(content))
}

// The oldest go first, by age and by size; never those of today, nor what is no
// daily file.
func TestCaps(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, size int) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600))
	}
	today := at(t, "2026-03-14 12:00:00.000 +02")
	for day := range 10 {
		for _, device := range []string{"m-l-a", "m-l-b"} {
			put(device+"-"+today.AddDate(0, 0, -day).Format(time.DateOnly)+"+0200.csv", 1000)
		}
	}
	others := []string{"notes.csv", "m-l-a-2020-01-01+0200.csv.bak", "m-l-a-2020-13-41+0200.csv"}
	for _, name := range others {
		put(name, 5000)
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "m-l-a-2020-01-01+0200.csv"), 0o700))

	b := newBench(t, Settings{Dir: dir, Keep: 7 * 24 * time.Hour, MaxBytes: 1 << 30})
	b.write(today.Add(-steadyFor))
	require.Len(t, b.names(), 20+len(others)+1, "whether the clock goes steadily is not known yet")
	b.mono = steadyFor
	b.write(today)
	names := b.names()
	require.NotContains(t, names, "m-l-a-2026-03-06+0200.csv") // its day ended 7.5 days ago
	require.Contains(t, names, "m-l-a-2026-03-07+0200.csv")
	require.Len(t, names, 16+len(others)+1)

	b = newBench(t, Settings{Dir: dir, MaxBytes: 5000})
	b.write(today)
	require.Len(t, b.names(), 16-maxTaken+len(others)+1, "some at a time")
	b.write(today.Add(sweepEvery))
	require.Equal(t, []string{
		"m-l-a-2026-03-13+0200.csv", "m-l-a-2026-03-14+0200.csv", "m-l-b-2026-03-12+0200.csv",
		"m-l-b-2026-03-13+0200.csv", "m-l-b-2026-03-14+0200.csv",
	}, slices.DeleteFunc(b.names(), func(n string) bool { return !strings.Contains(n, "-2026-") }), "of the same day in the order of the names")

	b = newBench(t, Settings{Dir: dir, MaxBytes: 500})
	b.write(today)
	b.write(today)
	require.Contains(t, b.names(), "m-l-a-2026-03-14+0200.csv")
	require.NotContains(t, b.names(), "m-l-a-2026-03-13+0200.csv")
	require.Equal(t, 1, strings.Count(b.log.String(), "of today alone"), b.log)
	for _, name := range append(others, "m-l-a-2020-01-01+0200.csv") {
		require.Contains(t, b.names(), name)
	}
}

// The size is looked at as the files grow, not at midnight only.
func TestCapWhileTheDayGoesOn(t *testing.T) {
	b := newBench(t, Settings{MaxBytes: 100})
	r := b.Recorder("x")
	day := at(t, "2026-03-14 12:00:00.000 +02")
	r.Received(day.AddDate(0, 0, -1), []byte("yesterday\n"))
	b.write(day)
	require.Len(t, b.names(), 1)
	r.Received(day, []byte(strings.Repeat("today\n", 3)))
	b.write(day.Add(time.Second))
	require.Len(t, b.names(), 1, "what was begun anew is a reason to look")
	require.Equal(t, []string{"x-2026-03-14+0200.csv"}, b.names())
}

// A disk that takes nothing: it is told once, what comes waits in memory, more than
// that is left out, and the file says what.
func TestDiskThatRefuses(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "daily")
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // a file in its place refuses also root
	b := newBench(t, Settings{Dir: dir})
	r := b.Recorder("x")
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	line := "GB," + strings.Repeat("0", 900) + "\r\n"
	sent := 0
	for i := range 2000 {
		r.Received(noon.Add(time.Duration(i)*time.Second), []byte(line))
		sent++
		if i%100 == 0 {
			b.write(noon)
		}
	}
	// One that would still fit is left out too: there is one gap, and not many.
	r.Received(noon.Add(1999*time.Second), []byte("short\r\n"))
	require.Contains(t, b.Problem(), "daily files: make the directory")
	require.Equal(t, 1, b.changed)
	require.Equal(t, 1, strings.Count(b.log.String(), "are not written"))
	require.LessOrEqual(t, r.queued, maxQueue)

	require.NoError(t, os.Remove(dir))
	b.write(noon)
	require.Empty(t, b.Problem())
	require.Equal(t, 2, b.changed)
	require.Contains(t, b.log.String(), "written again")
	r.Received(noon.Add(time.Hour), []byte("GB,1\r\n"))
	b.write(noon)
	got := b.file("x-2026-03-14+0200.csv")
	kept := strings.Count(got, line[:len(line)-2])
	const column = len(",2026-03-14 12:00:00.000 +02")
	require.Greater(t, kept, 1000)
	lines := strings.Split(strings.TrimSuffix(got, "\r\n"), "\r\n")
	require.Len(t, lines, kept+2)
	require.Equal(t, fmt.Sprintf("# lanepost: 2026-03-14 12:33:19.000 +02 %d lines (%d bytes) are left out, from %s to 2026-03-14 12:33:19.000 +02: make the directory: mkdir %s: not a directory",
		sent-kept+1, (sent-kept)*(len(line)+column)+len("short\r\n")+column, noon.Add(time.Duration(kept)*time.Second).Format("2006-01-02 15:04:05.000 -07"), dir), lines[kept])
	require.Equal(t, "GB,1,2026-03-14 13:00:00.000 +02", lines[kept+1])
}

// A directory without the right to write.
func TestDirectoryWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestDiskThatRefuses and TestFullDisk show the same")
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500)) //nolint:gosec // it is about the rights
	b := newBench(t, Settings{Dir: dir})
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	b.Recorder("x").Received(noon, []byte("GB,1\r\n"))
	b.write(noon)
	require.Contains(t, b.Problem(), "permission denied")
	require.NoError(t, os.Chmod(dir, 0o700)) //nolint:gosec // as above
	b.write(noon)
	require.Empty(t, b.Problem())
	require.Equal(t, "GB,1,2026-03-14 12:00:00.000 +02\r\n", b.file("x-2026-03-14+0200.csv"))
}

// A real file system that is full in the middle of a line: nothing is torn or said
// twice.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("a small tmpfs can't be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	b := newBench(t, Settings{Dir: dir})
	t.Cleanup(b.finish) // before the disk goes
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hog"), make([]byte, 128<<10), 0o600))
	r := b.Recorder("x")
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	var want strings.Builder
	say := func(i int) {
		text := fmt.Sprintf("GB,%06d,000000,000000,000000\r\n", i)
		want.WriteString(text)
		r.Received(noon.Add(time.Duration(i)*time.Second), []byte(text))
	}
	for i := range 3000 { // 174 KB
		say(i)
	}
	b.write(noon)
	require.Contains(t, b.Problem(), "no space left")
	torn := b.file("x-2026-03-14+0200.csv")
	require.False(t, strings.HasSuffix(torn, "\n"), "the disk ends in a line, or this test shows nothing")
	b.write(noon)
	require.Equal(t, 1, strings.Count(b.log.String(), "are not written"))
	require.NoError(t, os.Remove(filepath.Join(dir, "hog")))
	say(3000)
	b.write(noon)
	require.Empty(t, b.Problem())
	got := b.file("x-2026-03-14+0200.csv")
	require.NotContains(t, got, "#")
	wire, lines := wireOf(got)
	require.Equal(t, want.String(), wire)
	require.Equal(t, 3001, lines)
}

// A disk that is nearly full is left to the events.
func TestShortDisk(t *testing.T) {
	b := newBench(t, Settings{})
	short := true
	b.set.Load().room = func() error {
		if short {
			return fmt.Errorf("the disk of %s has 12 bytes free", b.dir)
		}
		return nil
	}
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	b.Recorder("x").Received(noon, []byte("GB,1\r\n"))
	b.write(noon)
	require.Contains(t, b.Problem(), "12 bytes free")
	require.NoDirExists(t, b.dir)
	short = false
	b.write(noon)
	require.Empty(t, b.Problem())
	require.Equal(t, "GB,1,2026-03-14 12:00:00.000 +02\r\n", b.file("x-2026-03-14+0200.csv"))
}

// While the disk is away the file goes, or another stands in its place: the rest of
// a line is not put behind a stranger's.
func TestFileChangedUnderIt(t *testing.T) {
	b := newBench(t, Settings{})
	r := b.Recorder("x")
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	r.Received(noon, []byte("GB,1\r\n"))
	b.write(noon)
	name := filepath.Join(b.dir, r.fileName)
	// As after a write that failed within a line.
	require.NoError(t, r.closeFile())
	r.inLine = true
	r.queue = []piece{{b.set.Load(), r.fileName, r.day, []byte("36,000436,2026-03-14 12:00:00.000 +02\r\nGB,3,2026-03-14 12:00:00.000 +02\r\n")}}
	require.NoError(t, os.WriteFile(name, []byte("other\r\n"), 0o600))
	b.write(noon)
	require.Equal(t, "other\r\n"+
		"# lanepost: 2026-03-14 12:00:00.000 +02 the agent began anew to write this file\r\n"+
		"# lanepost: 2026-03-14 12:00:00.000 +02 a line is lost, with the end \"36,000436,2026-03-14 12:00:00.000 +02\\r\\n\"\r\n"+
		"GB,3,2026-03-14 12:00:00.000 +02\r\n", b.file(r.fileName))
}

// With its own goroutine: each second what came is in the file, and Close writes the
// rest. A device that is taken out is forgotten.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(Options{Settings: Settings{Dir: dir, Zone: "UTC"}, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		r, gone := s.Recorder("x"), s.Recorder("y")
		require.Same(t, r, s.Recorder("x"))
		r.Received(time.Now(), []byte("GB,1\r\n"))
		gone.Received(time.Now(), []byte("GB,2\r\n"))
		gone.End()
		gone.Received(time.Now(), []byte("GB,3\r\n"))
		time.Sleep(flushEvery)
		synctest.Wait()
		read := func(name string) string {
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			return string(b)
		}
		require.Equal(t, "GB,1,2000-01-01 00:00:00.000 +00\r\n", read("x-2000-01-01+0000.csv"))
		require.Equal(t, "GB,2,2000-01-01 00:00:00.000 +00\r\n", read("y-2000-01-01+0000.csv"))
		require.Len(t, s.list(), 1)
		r.Received(time.Now(), []byte("GB,4\r\nGS"))
		r.Parted(time.Now())
		s.Close()
		require.Equal(t, "GB,1,2000-01-01 00:00:00.000 +00\r\nGB,4,2000-01-01 00:00:01.000 +00\r\n"+
			"# lanepost: 2000-01-01 00:00:01.000 +00 the link ended in a line, of which there is \"GS\"\r\n", read("x-2000-01-01+0000.csv"))
		s.Close()
	})
}

// A disk that hangs is told, holds up nobody, and not the end either.
func TestDiskThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		log := &logged{}
		s, err := Open(Options{
			Settings: Settings{Dir: t.TempDir(), Zone: "UTC"}, Log: slog.New(slog.NewTextHandler(log, nil)),
			Room: func() error { <-hang; return nil },
		})
		require.NoError(t, err)
		r := s.Recorder("x")
		time.Sleep(hungAfter + time.Second)
		r.Received(time.Now(), bytes.Repeat([]byte("GB,1\r\n"), maxQueue/30))
		require.LessOrEqual(t, r.queued, maxQueue)
		require.Contains(t, s.Problem(), "has not answered since 2000-01-01T00:00:00Z")
		began := time.Now()
		s.Close()
		require.Equal(t, closeGrace, time.Since(began))
		require.Contains(t, log.String(), "hangs")
		close(hang)
		<-s.done
	})
}

func TestUnknownZone(t *testing.T) {
	_, err := Open(Options{Settings: Settings{Dir: t.TempDir(), Zone: "Europe/Nowhere"}})
	require.ErrorContains(t, err, `there is no zone "Europe/Nowhere" on this box`)
}

// What a portal sends in a hundred records, as a driver reads it.
func BenchmarkReceived(b *testing.B) {
	s, err := newStore(Options{Settings: Settings{Dir: b.TempDir(), Zone: "Europe/Kyiv"}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	r := s.Recorder("x")
	lines := bytes.Repeat([]byte("GS,000063,000058,000051,000078\r\n"), 100)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		r.Received(now, lines)
		r.queue, r.queued = r.queue[:0], 0
	}
}
