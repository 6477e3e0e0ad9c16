package daily

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/capture"
)

// Whoever reads a daily file is told by marks what each of the notes says.
func TestNotesAreRead(t *testing.T) {
	b := newBench(t, Settings{})
	r := b.Recorder("x")
	noon := at(t, "2026-03-14 12:00:00.000 +02")
	b.o.Now = func() time.Time { return noon }
	r.Received(noon, []byte("GB,1\r\n"))
	r.Parted(noon)
	r.Received(noon, []byte("GB,2\r\nGS"))
	r.Parted(noon)
	r.Received(noon, append(bytes.Repeat([]byte("x"), 2000), "\nGS,1"...))
	r.Received(noon, bytes.Repeat([]byte("x"), 2000))
	r.Parted(noon)
	b.write(noon)
	r.queued = maxQueue // as if the disk took nothing
	r.Received(noon, []byte("GB,3\r\n"))
	r.queued = 0
	b.write(noon)
	// A crash in a line, and a line that failed in its middle.
	name := filepath.Join(b.dir, "x-2026-03-14+0200.csv")
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("GB,4")
	require.NoError(t, errors.Join(err, f.Close()))
	require.NoError(t, r.closeFile())
	r.inLine = true
	r.Received(noon, []byte("GB,5\r\nGS"))
	r.End()
	b.write(noon)

	whole := b.file(filepath.Base(name))
	in, err := capture.Open(strings.NewReader(whole))
	require.NoError(t, err)
	var got []string
	for {
		e, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if e.Mark == "" {
			got = append(got, strings.TrimSpace(string(e.Bytes)))
		} else {
			got = append(got, string(e.Mark))
		}
	}
	require.Equal(t, []string{
		"GB,1", "parted", "GB,2", "lost", "parted",
		"lost", "lost", "parted", // a line that is too long, and another one that the link ended in
		"lost",                           // left out
		"GB,4", "lost", "parted", "lost", // not whole, begun anew, the line with that end
		"lost", // the recording ended in a line
	}, got, whole)
	notes := 0
	for line := range strings.Lines(whole) {
		if strings.HasPrefix(line, Note) {
			notes++
		}
	}
	require.Equal(t, 9, notes)
}
