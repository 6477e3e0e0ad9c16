package capture

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A file by hand: what a person would write after reading the package's description.
const byHand = `{"capture":1,"site":"medyka","lane":"entry-3","device":"rpm-1","begun":"2026-03-14T10:00:00Z","part":1}
{"at":"2026-03-14T10:00:00.080000001Z","text":"GB,000401,000406,000436,000436\r\n"}
{"at":"2026-03-14T10:00:05.3Z","base64":"AQMCAAG5yw=="}
{"at":"2026-03-14T10:01:07Z","mark":"parted"}
{"at":"2026-03-14T10:01:30Z","end":"signal: interrupt","reads":2,"bytes":39}
`

func readAll(text string) (list []Entry, r *Reader, err error) {
	if r, err = NewReader(strings.NewReader(text)); err != nil {
		return nil, nil, err
	}
	for {
		e, err := r.Next()
		if err != nil {
			return list, r, err
		}
		list = append(list, e)
	}
}

func TestRead(t *testing.T) {
	list, r, err := readAll(byHand)
	require.Equal(t, io.EOF, err)
	at := time.Date(2026, 3, 14, 10, 0, 0, 0, time.UTC)
	require.Equal(t, []Entry{
		{At: at.Add(80*time.Millisecond + 1), Bytes: []byte("GB,000401,000406,000436,000436\r\n")},
		{At: at.Add(5300 * time.Millisecond), Bytes: []byte{1, 3, 2, 0, 1, 0xb9, 0xcb}},
		{At: at.Add(67 * time.Second), Mark: Parted},
	}, list)
	require.Equal(t, Header{Site: "medyka", Lane: "entry-3", Device: "rpm-1", Begun: at, Part: 1}, r.Header())
	require.Equal(t, &End{At: at.Add(90 * time.Second), Reason: "signal: interrupt", Reads: 2, Bytes: 39}, r.End())
}

// Wherever a file is cut off, that is told, and what is before is given.
func TestCut(t *testing.T) {
	for n := strings.Index(byHand, "\n") + 1; n < len(byHand)-1; n++ {
		list, r, err := readAll(byHand[:n])
		require.ErrorIs(t, err, ErrCut, "after %d bytes", n)
		require.Nil(t, r.End())
		require.LessOrEqual(t, len(list), 3)
		_, err = r.Next()
		require.ErrorIs(t, err, ErrCut, "it goes on saying so")
	}
}

func TestDamaged(t *testing.T) {
	lines := strings.SplitAfter(byHand, "\n")
	_, _, err := readAll(lines[0] + lines[2] + lines[3] + lines[4])
	require.ErrorIs(t, err, ErrCounts)
	for name, text := range map[string]string{
		"line 2 of the capture":     lines[0] + "{}\n" + lines[4],
		"want one of text":          lines[0] + `{"at":"2026-03-14T10:00:00Z","text":"a","base64":"AQ=="}` + "\n" + lines[4],
		"it is not UTF-8":           lines[0] + `{"at":"2026-03-14T10:00:00Z","text":"` + "\xff\"}\n" + lines[4],
		"more follows":              byHand + lines[1],
		"has more than":             lines[0] + strings.Repeat("x", maxLine+1),
		"is of version 7":           `{"capture":7}` + "\n",
		"no capture":                "GB,1\r\n",
		"the file is empty":         "",
		"it has 0 bytes":            lines[0] + `{"at":"2026-03-14T10:00:00Z","text":""}` + "\n",
		"a number is negative":      lines[0] + `{"at":"2026-03-14T10:00:00Z","conn":-1,"text":"a"}` + "\n",
		"line 2 of the capture: at": lines[0] + `{"at":"noon","text":"a"}` + "\n",
	} {
		_, _, err := readAll(text)
		require.ErrorContains(t, err, name)
	}
}

// What is text is written as text, and nothing that a terminal would take for a command or
// show in another order.
func TestReadable(t *testing.T) {
	for text, want := range map[string]bool{
		"GB,000401\r\n": true, "\x02+0040260 kg\x03": true, "Київ": true, "\x06": false, "\x00\x01ab": false,
		"\xff": false, "\u202eabc": false, "\u009b31m": false, "a\x7f": false, "\ufffd": false,
	} {
		require.Equal(t, want, readable([]byte(text)), "%q", text)
	}
}

// Bytes and times come back as they were, whatever they are.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("GB,000401\r\n"), int64(1), 0)
	f.Add([]byte{0, 0xff, '<', '&', '"', '\\'}, int64(1773482400000000001), 3)
	f.Add(bytes.Repeat([]byte("\x01abc"), MaxRead/2), int64(-5), 0)
	f.Fuzz(func(t *testing.T, b []byte, ns int64, conn int) {
		if conn < 0 {
			return
		}
		at := time.Unix(0, ns).UTC()
		var file bytes.Buffer
		w, err := NewWriter(&file, Header{Begun: at, Part: 1})
		require.NoError(t, err)
		require.NoError(t, w.Add(Entry{At: at, Conn: conn, Bytes: b}))
		require.NoError(t, w.Add(Entry{At: at, Mark: Lost, Why: "w", LostReads: 3, LostBytes: 4}))
		require.NoError(t, w.End(at, "done"))
		require.Equal(t, int64(file.Len()), w.Size())
		list, r, err := readAll(file.String())
		require.Equal(t, io.EOF, err)
		require.Equal(t, at, r.Header().Begun)
		var got []byte
		for _, e := range list[:len(list)-1] {
			require.True(t, e.At.Equal(at))
			require.Equal(t, conn, e.Conn)
			got = append(got, e.Bytes...)
		}
		require.True(t, bytes.Equal(b, got))
		require.Equal(t, Entry{At: at, Mark: Lost, Why: "w", LostReads: 3, LostBytes: 4}, list[len(list)-1])
	})
}

// Nothing from outside makes a reader fail otherwise than by an error, or go on for ever.
func FuzzRead(f *testing.F) {
	f.Add([]byte(byHand))
	f.Add([]byte("GB,1,2026-03-14 12:00:00.000 +02\r\n# lanepost: 2026-03-14 12:00:01.000 +02 the link ended\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Open(bytes.NewReader(b))
		if err != nil {
			return
		}
		total := 0
		for {
			e, err := s.Next()
			if err != nil {
				if s.Daily() {
					require.ErrorIs(t, err, io.EOF)
				}
				if errors.Is(err, io.EOF) && !s.Daily() {
					require.NotNil(t, s.End())
				}
				break
			}
			total += len(e.Bytes)
		}
		require.LessOrEqual(t, total, len(b))
	})
}
