package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

// An occupancy out of a file of events is written as N42, with every count of it, and both
// readings of the document find the same.
func TestExportN42(t *testing.T) {
	dir := t.TempDir()
	var lines bytes.Buffer
	var want event.RadiationOccupancy
	for _, k := range event.Types() {
		b, err := k.Example.Encode()
		require.NoError(t, err)
		lines.Write(append(b, '\n'))
		if o, ok := k.Example.Data.(event.RadiationOccupancy); ok {
			want = o
		}
	}
	file, out := filepath.Join(dir, "events.jsonl"), filepath.Join(dir, "out.n42")
	require.NoError(t, os.WriteFile(file, lines.Bytes(), 0o600))
	require.Equal(t, 0, execute(t.Context(), []string{"export", "n42", out, "--file", file, "--occupancy", want.OccupancyID, "--gamma-kind", "PVT"}))
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	d, err := n42.Decode(b, n42.Options{})
	require.NoError(t, err)
	require.Empty(t, d.Flags)
	require.Equal(t, want.OccupancyID, d.UUID)
	require.Equal(t, "Portal Monitor", d.Instrument.Class)
	require.True(t, d.Alarmed())
	require.Equal(t, n42.OutcomeNotAnalysed, d.Outcome())
	require.Equal(t, "Gamma", d.Analyses[0].Alarms[0].Category)
	require.Len(t, d.Analyses[0].Measurements, want.GammaAlarmSamples)
	require.Len(t, d.Measurements, 1+len(want.GammaSeries)+len(want.NeutronSeries))
	require.InDelta(t, float64(*want.GammaBgSumCPS), d.Measurements[0].Counts[0].Total(), 0)
	require.InDelta(t, *want.NeutronBgCPS, d.Measurements[0].Counts[1].Total(), 0)
	total := 0.0
	for i, s := range want.GammaSeries {
		m := d.Measurements[1+i]
		require.Equal(t, s.OffsetS >= 0, *m.Occupied)
		require.InDelta(t, s.OffsetS, m.Start.At.Sub(want.StartTS.Time).Seconds(), 0.001)
		require.InDelta(t, 0.2, m.Real.Seconds, 0)
		for j, c := range s.Counts {
			require.InDelta(t, float64(c), m.Counts[j].Total(), 0)
			total += float64(c)
		}
	}
	require.InDelta(t, *want.SpeedKPH/3.6, *d.Measurements[len(d.Measurements)-1].SpeedMS, 1e-9)

	// The same out of a spool.
	at := filepath.Join(dir, "spool")
	store := openSpool(t, at, spool.Options{})
	for _, k := range event.Types() {
		o, ok := k.Example.Data.(event.RadiationOccupancy)
		if !ok {
			continue
		}
		draft, err := event.NewDraft(k.Example.Header, o)
		require.NoError(t, err)
		_, err = store.Append(t.Context(), draft.Class(), spoolDay, draft.Topic(), func(seq uint64, previous event.Hash) ([]byte, error) {
			return draft.Encode(seq, previous), nil
		})
		require.NoError(t, err)
	}
	second := filepath.Join(dir, "second.n42")
	require.Equal(t, 0, execute(t.Context(), []string{"export", "n42", second, "--spool", at, "--occupancy", want.OccupancyID, "--gamma-kind", "PVT"}))
	same, err := os.ReadFile(second)
	require.NoError(t, err)
	require.Equal(t, string(b), string(same))

	require.Equal(t, 1, execute(t.Context(), []string{"export", "n42", out, "--file", file, "--occupancy", want.OccupancyID}), "it overwrites nothing")
	require.Equal(t, 1, execute(t.Context(), []string{"export", "n42", "-", "--file", file, "--occupancy", "019ceb6f-0000-7000-8000-000000000000"}))
	require.Equal(t, 2, execute(t.Context(), []string{"export", "n42", "-", "--file", file}))

	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: there is no independent reading to compare with")
	}
	cmd := exec.CommandContext(t.Context(), python, "../../protocol/n42/testdata/independent.py")
	cmd.Stdin = bytes.NewReader([]byte(out + "\n"))
	said, err := cmd.Output()
	require.NoError(t, err)
	var other struct {
		Refused string
		Gross   []struct{ Counts struct{ Total float64 } }
		Alarms  []string
	}
	require.NoError(t, json.Unmarshal(said, &other))
	require.Empty(t, other.Refused)
	require.Equal(t, []string{"Gamma"}, other.Alarms)
	sum := 0.0
	for _, g := range other.Gross {
		sum += g.Counts.Total
	}
	require.InDelta(t, total+float64(want.NeutronCounts)+float64(*want.GammaBgSumCPS)+*want.NeutronBgCPS, sum, 1e-6)
}
