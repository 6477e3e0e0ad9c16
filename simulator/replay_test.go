package simulator

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/capture"
)

// Two recordings by hand, one in each form of the time column.
const (
	fullRecording = "NB,000003,000000,000002,000000,2016-06-01 15:03:44.183 -07\r\n" +
		"GB,000387,000383,000414,000361,2016-06-01 15:03:44.263 -07\r\n" +
		"AX, -0.1242,  0.1434,  0.6573,  0.1374,  1.0091,2016-06-01 15:03:46.000 -07\r\n" +
		"QQ no time at all\r\n" +
		"NS,000003,000000,000002,000000,2016-06-01 15:03:45.000 -07\r\n" + // the clock went back
		"GX,000109,006383,000000,000000,2016-06-01 15:03:55.000 -07\n" // a bare LF
	dailyRecording = "NB,000000,000000,000000,000000,23-59-58.500\r\n" +
		"GB,000401,000406,000436,000436,23-59-58.580\r\n" +
		"NB,000000,000000,000000,000000,00-00-03.500\r\n" + // midnight
		"\r\n" +
		"GB,000401,000406,000436,000436,00-00-03.580" // no line end at all
)

// An agent's daily file has notes of its own, and its zone may have minutes.
func TestReplayOfAnAgentsFile(t *testing.T) {
	const file = "# lanepost: 2026-03-14 11:59:00.000 +02 the agent began anew to write this file\r\n" +
		"NB,000000,000000,000000,000000,2026-03-14 12:00:00.000 +02\r\n" +
		"# lanepost: from the wire, since it has a time,2026-03-14 12:00:00.100 +02\n" +
		"# another's note\n" +
		"# lanepost: 2026-03-14 12:00:01.000 +02 the link ended\r\n" +
		"GB,000401,000406,000436,000436,2026-03-14 15:30:00.000 +0530\r\n"
	var wire bytes.Buffer
	done, err := Replay(t.Context(), strings.NewReader(file), &wire, ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, "NB,000000,000000,000000,000000\r\n# lanepost: from the wire, since it has a time\n# another's note\n"+
		"GB,000401,000406,000436,000436\r\n", wire.String())
	require.Equal(t, Replayed{Lines: 6, Timed: 3, Bytes: int64(wire.Len())}, done)
}

// timed is a line and when it must come.
type timed struct {
	at   time.Duration
	text string
}

var fullWant = []timed{
	{0, "NB,000003,000000,000002,000000\r\n"},
	{80 * time.Millisecond, "GB,000387,000383,000414,000361\r\n"},
	{1817 * time.Millisecond, "AX, -0.1242,  0.1434,  0.6573,  0.1374,  1.0091\r\n"},
	{1817 * time.Millisecond, "QQ no time at all\r\n"},
	{1817 * time.Millisecond, "NS,000003,000000,000002,000000\r\n"},
	{11817 * time.Millisecond, "GX,000109,006383,000000,000000\n"},
}

var dailyWant = []timed{
	{0, "NB,000000,000000,000000,000000\r\n"},
	{80 * time.Millisecond, "GB,000401,000406,000436,000436\r\n"},
	{5 * time.Second, "NB,000000,000000,000000,000000\r\n"},
	{5 * time.Second, "\r\n"},
	{5080 * time.Millisecond, "GB,000401,000406,000436,000436"},
}

func texts(list []timed) string {
	var b strings.Builder
	for _, l := range list {
		b.WriteString(l.text)
	}
	return b.String()
}

func TestReplayKeepsThePauses(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want []timed
	}{"full": {fullRecording, fullWant}, "daily": {dailyRecording, dailyWant}} {
		for _, speed := range []float64{1, 20} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					type result struct {
						Replayed
						error
					}
					done := make(chan result, 1)
					go func() {
						r, err := Replay(t.Context(), strings.NewReader(c.file), far, ReplayOptions{Speed: speed})
						_ = far.Close()
						done <- result{r, err}
					}()
					start := time.Now()
					in := bufio.NewReader(near)
					for _, want := range c.want {
						line, err := in.ReadString('\n')
						if err != nil {
							require.ErrorIs(t, err, io.EOF)
						}
						require.Equal(t, want.text, line)
						require.InDelta(t, want.at.Seconds()/speed, time.Since(start).Seconds(), 1e-6)
					}
					r := <-done
					require.NoError(t, r.error)
					require.Equal(t, Replayed{Lines: len(c.want), Timed: len(c.want) - 1, Bytes: int64(len(texts(c.want)))}, r.Replayed)
				})
			})
		}
	}
}

func TestReplayAtOnce(t *testing.T) {
	var got bytes.Buffer
	_, err := Replay(t.Context(), strings.NewReader(fullRecording), &got, ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, texts(fullWant), got.String())

	got.Reset()
	_, err = Replay(t.Context(), strings.NewReader(fullRecording+dailyRecording), &got, ReplayOptions{KeepTime: true})
	require.NoError(t, err)
	require.Equal(t, fullRecording+dailyRecording, got.String())

	// What is not a time stays: too short, no date, no number, a column that
	// only looks like one.
	odd := "GB,000401,000406,000436,000436,1-2-3.4\r\nGB,25-00-00.000\r\nGB,2016-13-01 15:03:44.183 -07\r\n23-59-58.500\r\n,\r\n,,,\n\n\x00\xff,\r"
	got.Reset()
	r, err := Replay(t.Context(), strings.NewReader(odd), &got, ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, odd, got.String())
	require.Zero(t, r.Timed)

	// A line far longer than any buffer goes through as it is.
	long := strings.Repeat("x", 3*maxReplayPiece) + ",23-59-58.500\r\nGB,23-59-58.500\r\n"
	got.Reset()
	r, err = Replay(t.Context(), strings.NewReader(long), &got, ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, strings.TrimSuffix(long, ",23-59-58.500\r\n")+"\r\n", got.String())
	require.Equal(t, 2, r.Lines)

	_, err = Replay(t.Context(), strings.NewReader(odd), &got, ReplayOptions{Speed: -1})
	require.ErrorContains(t, err, "speed")
	_, err = Replay(t.Context(), io.MultiReader(strings.NewReader("GB\r\n"), failingReader{}), &got, ReplayOptions{})
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.ErrorContains(t, err, "after line 1")
	_, err = ReplayListen(t.Context(), strings.NewReader(odd), "nowhere", ReplayOptions{})
	require.ErrorContains(t, err, "want tcp://HOST:PORT")
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

func TestReplayListen(t *testing.T) {
	p, err := ReplayListen(t.Context(), strings.NewReader(dailyRecording), "tcp://127.0.0.1:0", ReplayOptions{})
	require.NoError(t, err)
	got, err := io.ReadAll(dial(t, p.Connect))
	require.NoError(t, err)
	require.Equal(t, texts(dailyWant), string(got))
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, 5, r.Lines)
	require.NoError(t, p.Close())
	_, err = net.Dial("tcp", strings.TrimPrefix(p.Connect, "tcp://"))
	require.Error(t, err, "once is once")

	// Ended before anybody came, by Close and by its context.
	p, err = ReplayListen(t.Context(), strings.NewReader(dailyRecording), "tcp://127.0.0.1:0", ReplayOptions{Speed: 1})
	require.NoError(t, err)
	require.NoError(t, p.Close())
	ctx, cancel := context.WithCancel(t.Context())
	p, err = ReplayListen(ctx, strings.NewReader(dailyRecording), "tcp://127.0.0.1:0", ReplayOptions{Speed: 1})
	require.NoError(t, err)
	cancel()
	_, err = p.Wait()
	require.ErrorIs(t, err, context.Canceled)
}

// TestReplayARealCapture plays a public capture and finds every byte of it but
// the time column.
func TestReplayARealCapture(t *testing.T) {
	file := filepath.Join("..", "..", "shared", "data", "radiation", "S2-C3-NORM2.csv")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Skip("the capture is not there")
	}
	var want bytes.Buffer
	for line := range bytes.Lines(data) {
		body, ok := bytes.CutSuffix(line, []byte("\r\n"))
		require.True(t, ok)
		// ",YYYY-MM-DD HH:MM:SS.mmm -07" has 28 characters.
		want.Write(body[:len(body)-28])
		want.WriteString("\r\n")
	}
	p, err := ReplayListen(t.Context(), bytes.NewReader(data), "tcp://127.0.0.1:0", ReplayOptions{})
	require.NoError(t, err)
	got, err := io.ReadAll(dial(t, p.Connect))
	require.NoError(t, err)
	require.Equal(t, want.Len(), len(got))
	require.True(t, bytes.Equal(want.Bytes(), got))
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, 13857, r.Timed)

	// On the clock it takes as long as the recording.
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := Replay(t.Context(), bytes.NewReader(data), io.Discard, ReplayOptions{Speed: 1})
		require.NoError(t, err)
		require.InDelta(t, (54*time.Minute + 15*time.Second).Seconds(), time.Since(start).Seconds(), 60)
	})
}

// A capture is played read by read with its pauses, and where the link ended in it the
// client is left. One that was cut off is played as far as it goes, and that is told.
func TestReplayOfACapture(t *testing.T) {
	const whole = `{"capture":1,"begun":"2026-03-14T10:00:00Z","part":1}
{"at":"2026-03-14T10:00:00Z","text":"GB,0004"}
{"at":"2026-03-14T10:00:00.5Z","text":"01\r\n"}
{"at":"2026-03-14T10:00:01Z","mark":"parted"}
{"at":"2026-03-14T10:00:02.5Z","base64":"AP8="}
{"at":"2026-03-14T10:00:02.5Z","end":"done","reads":3,"bytes":13}
`
	for _, c := range []struct {
		file string
		err  error
	}{{whole, nil}, {whole[:len(whole)-20], capture.ErrCut}} {
		synctest.Test(t, func(t *testing.T) {
			var wire bytes.Buffer
			began := time.Now()
			done, err := Replay(t.Context(), strings.NewReader(c.file), &wire, ReplayOptions{Speed: 1})
			require.ErrorIs(t, err, c.err)
			require.Equal(t, "GB,000401\r\n\x00\xff", wire.String())
			require.Equal(t, 2500*time.Millisecond, time.Since(began))
			require.Equal(t, Replayed{Lines: 3, Timed: 3, Bytes: 13}, done)
		})
	}

	r, err := ReplayListen(t.Context(), strings.NewReader(whole), "tcp://127.0.0.1:0", ReplayOptions{})
	require.NoError(t, err)
	defer r.Close()
	for _, want := range []string{"GB,000401\r\n", "\x00\xff"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(r.Connect, "tcp://"))
		require.NoError(t, err)
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.NoError(t, c.Close())
	}
	_, err = r.Wait()
	require.NoError(t, err)
}
