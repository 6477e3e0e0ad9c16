package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/capture"
)

// entriesOf reads a file to its end.
func entriesOf(t *testing.T, path string) (list []capture.Entry, end *capture.End) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	r, err := capture.NewReader(f)
	require.NoError(t, err)
	for {
		e, err := r.Next()
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			return list, r.End()
		}
		list = append(list, e)
	}
}

func newRecordFiles(dir string) *recordFiles {
	return &recordFiles{
		dir: dir, name: "x", header: capture.Header{Part: 1}, maxSize: 1 << 20,
		room: func() error { return nil }, notes: io.Discard,
	}
}

// While the disk does not keep up, nobody waits for it; what is left out is counted, and
// the mark stands where it is missing.
func TestSlowDisk(t *testing.T) {
	q := newRecordQueue()
	at := time.Date(2026, 3, 14, 10, 0, 0, 0, time.UTC)
	b := bytes.Repeat([]byte{0xff}, 64<<10)
	kept, lost := 0, 0
	for range 2 * maxRecordQueue / len(b) {
		q.put(capture.Entry{At: at, Bytes: b})
	}
	list := q.take()
	for _, e := range list {
		kept += len(e.Bytes)
		lost += int(e.LostBytes)
	}
	require.LessOrEqual(t, kept, maxRecordQueue)
	require.Equal(t, 2*maxRecordQueue, kept+lost)
	last := list[len(list)-1]
	require.Equal(t, capture.Lost, last.Mark)
	require.Equal(t, int64(lost/len(b)), last.LostReads)
	q.put(capture.Entry{At: at, Bytes: []byte("a")})
	require.Equal(t, []capture.Entry{{At: at, Bytes: []byte("a")}}, q.take(), "behind the hole it goes on")
}

// What the agent did not give is known by the offsets.
func TestHoleOfTheAgent(t *testing.T) {
	q := newRecordQueue()
	piece := func(offset int64, text string) { q.piece(rawLine{Offset: &offset, Bytes: []byte(text)}) }
	piece(100, "abc")
	q.hole("too slow")
	piece(103, "d") // nothing came meanwhile
	q.hole("too slow")
	piece(110, "e")
	piece(0, "f") // another agent
	require.Equal(t, []capture.Entry{
		{Bytes: []byte("abc")}, {Bytes: []byte("d")}, {Mark: capture.Lost, Why: "too slow", LostBytes: 6}, {Bytes: []byte("e")},
		{Mark: capture.Lost, Why: "the agent did not give it"}, {Bytes: []byte("f")},
	}, q.take())
}

// fullFile is on a disk that takes so much.
type fullFile struct {
	*os.File
	room *int
}

func (f fullFile) Write(b []byte) (int, error) {
	n := min(len(b), *f.room)
	*f.room -= n
	_, _ = f.File.Write(b[:n])
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func TestRecordingOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	f := newRecordFiles(dir)
	room := 500
	f.create = func(path string) (recordFile, error) {
		file, err := os.Create(path)
		return fullFile{file, &room}, err
	}
	require.NoError(t, f.begin(time.Now()))
	q := newRecordQueue()
	for i := range 20 {
		q.put(capture.Entry{At: time.Now(), Bytes: fmt.Appendf(nil, "GB,%06d\r\n", i)})
	}
	err := f.write(t.Context(), q, make(chan error))
	require.ErrorIs(t, err, syscall.ENOSPC)
	b, err := os.ReadFile(filepath.Join(dir, "x-001.jsonl"))
	require.NoError(t, err)
	r, err := capture.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	for err == nil {
		_, err = r.Next()
	}
	require.ErrorIs(t, err, capture.ErrCut)

	// A disk that is nearly full is left to the events, and the file is whole.
	f = newRecordFiles(t.TempDir())
	short := errors.New("12 MB are left")
	require.NoError(t, f.begin(time.Now()))
	f.room = func() error { return short }
	q.put(capture.Entry{At: time.Now(), Bytes: []byte("a")})
	require.ErrorIs(t, f.write(t.Context(), q, make(chan error)), short)
	_, end := entriesOf(t, f.path)
	require.Equal(t, "12 MB are left", end.Reason)
}

// With rotation the newest files stay, within the size that was asked for.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	f := newRecordFiles(dir)
	f.rotate, f.maxSize = 16<<10, 64<<10
	require.NoError(t, f.begin(time.Now()))
	for i := range 5000 {
		require.NoError(t, f.add(capture.Entry{At: time.Now(), Bytes: fmt.Appendf(nil, "GB,%06d\r\n", i)}))
	}
	require.NoError(t, f.finish(time.Now(), "done"))
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	total, next := int64(0), 0
	for i, name := range names {
		info, err := os.Stat(name)
		require.NoError(t, err)
		total += info.Size()
		require.LessOrEqual(t, info.Size(), f.rotate)
		list, end := entriesOf(t, name)
		if i == 0 {
			_, err := fmt.Sscanf(string(list[0].Bytes), "GB,%d", &next)
			require.NoError(t, err)
			require.Positive(t, next)
		}
		for _, e := range list {
			require.Equal(t, fmt.Sprintf("GB,%06d\r\n", next), string(e.Bytes))
			next++
		}
		require.Equal(t, i < len(names)-1, end.Reason == capture.Rotated)
	}
	require.Equal(t, 5000, next)
	require.LessOrEqual(t, total, f.maxSize)
	require.Positive(t, f.removed)
	var told strings.Builder
	f.report(&told)
	require.Contains(t, told.String(), "oldest")
}

// One of a thing is not told as several.
func TestOneOfAThing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := &replayer{unparsed: []notUnderstood{{"why", 1, "raw"}}, more: 1, events: 1, refused: 1}
	one := &tape{reads: 1, bytes: 1, connections: 1, back: 1, moreHoles: 1}
	r.report(&out, one, player{}, &drivers.Replay{Valid: 1, Written: 1}, ended{times: 1, first: errors.New("x"), skipped: 1})
	(&recordFiles{reads: 1, bytes: 1, holes: 1, removed: 1}).report(&out)
	(&export{hash: sha256.New(), bytes: 1, printer: printer{classes: []printed{{events: 1}}}}).say(&out, "x")
	require.NotRegexp(t, `\b1 (more )?\w+s\b`, out.String())
	require.Contains(t, out.String(), "1 time: why")
}

// A hole ends the connection for the driver: what is before and behind is not one record.
// Connections that overlap are played one after the other, each whole.
func TestTape(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	file, err := os.Create(path)
	require.NoError(t, err)
	at := time.Date(2026, 3, 14, 10, 0, 0, 0, time.UTC)
	w, err := capture.NewWriter(file, capture.Header{Begun: at, Part: 1})
	require.NoError(t, err)
	for _, e := range []capture.Entry{
		{Conn: 1, Bytes: []byte("a1")}, {Conn: 2, Bytes: []byte("b1")}, {Conn: 1, Bytes: []byte("a2")}, {Conn: 1, Mark: capture.Parted},
		{Conn: 2, Bytes: []byte("b2")}, {Mark: capture.Lost, LostBytes: 3}, {Conn: 2, Bytes: []byte("b3")},
	} {
		e.At = at
		require.NoError(t, w.Add(e))
	}
	require.NoError(t, w.End(at, "done"))
	require.NoError(t, file.Close())
	tape, err := openTape([]string{path})
	require.NoError(t, err)
	defer tape.close()
	var got []string
	for {
		c, err := tape.connection()
		require.NoError(t, err)
		if c == nil {
			break
		}
		text := ""
		for e, err := c.next(); err == nil; e, err = c.next() {
			text += string(e.Bytes)
		}
		got = append(got, text)
	}
	require.Equal(t, []string{"a1a2", "b1b2", "b3"}, got)
	require.Len(t, tape.holes, 1)
}
