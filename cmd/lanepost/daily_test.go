package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/daily"
	"github.com/lanepost/lanepost/simulator"
)

// Whatever came, a replay of the daily file sends the lines that were received to the
// byte, without the notes, and with their pauses: also over the hour that comes twice,
// and in a zone whose offset has minutes.
func TestDailyFilesAreReplayed(t *testing.T) {
	for _, zone := range []string{"Europe/Kyiv", "Asia/Kolkata", "UTC"} {
		t.Run(zone, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s, err := daily.Open(daily.Options{
					Settings: daily.Settings{Dir: dir, Zone: zone}, Log: slog.New(slog.DiscardHandler),
				})
				require.NoError(t, err)
				r := s.Recorder("medyka-entry-3-rpm-1")
				// In Kyiv the clock goes from 04:00 back to 03:00 a second later.
				at := time.Date(2026, 10, 25, 0, 59, 59, 0, time.UTC)
				var want strings.Builder
				for i, text := range []string{
					"51,000078\r\n", "NB,000000,000000,000000,000000\r\n", "!GS,000063,000058,000051,000078\r\n", "#!GS,000064,000058,000051,000078\r\n",
					"\x00\xff noise, with a comma\n", "\r\n", "# lanepost: not a note\r\n", "GB,1,12-00-00.000\r\n", ",\n",
				} {
					r.Received(at.Add(time.Duration(i)*time.Second), []byte(text))
					want.WriteString(text)
				}
				r.Received(at.Add(9*time.Second), []byte(strings.Repeat("x", 2000)+"\nGS,0000"))
				r.Parted(at.Add(9 * time.Second))
				r.Received(at.Add(10*time.Second), []byte("GX,000001,002566,000000,000000\r\n"))
				want.WriteString("GX,000001,002566,000000,000000\r\n")
				s.Close()

				files, err := filepath.Glob(filepath.Join(dir, "medyka-entry-3-rpm-1-2026-10-25+*.csv"))
				require.NoError(t, err)
				require.Len(t, files, 1)
				content, err := os.ReadFile(files[0])
				require.NoError(t, err)
				var wire bytes.Buffer
				began := time.Now()
				done, err := simulator.Replay(t.Context(), bytes.NewReader(content), &wire, simulator.ReplayOptions{Speed: 1})
				require.NoError(t, err)
				require.Equal(t, want.String(), wire.String())
				require.Equal(t, 10*time.Second, time.Since(began))
				require.Equal(t, 10, done.Timed)
				require.Equal(t, 12, done.Lines)
			})
		})
	}
}
