//go:build linux

package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/registry"
	"github.com/lanepost/lanepost/protocol/event"
)

// A disk that does not answer holds up no snapshot, and holds one goroutine however often
// it is asked. What it said last is shown, with since when it says nothing.
func TestSnapshotOfAHangingDisk(t *testing.T) {
	t.Parallel()
	var d disks
	known, old := d.ask(func() onDisk { return onDisk{taps: []string{"first"}} })
	require.Zero(t, old)
	require.Equal(t, []string{"first"}, known.taps)
	hangs := make(chan struct{})
	var calls atomic.Int32
	before := time.Now()
	for range 3 {
		began := time.Now()
		known, old = d.ask(func() onDisk { calls.Add(1); <-hangs; return onDisk{taps: []string{"second"}} })
		require.Less(t, time.Since(began), 10*diskPatience)
		require.WithinDuration(t, before, old, diskPatience)
		require.Equal(t, []string{"first"}, known.taps)
	}
	require.Equal(t, int32(1), calls.Load())
	close(hangs)
	require.Eventually(t, func() bool {
		known, old = d.ask(func() onDisk { return onDisk{taps: []string{"third"}} })
		return old.IsZero()
	}, patience, time.Millisecond)
	require.NotEqual(t, []string{"first"}, known.taps)
}

// What the disk says is known before anybody can ask: one that hangs at the first look is
// not shown as one with nothing on it.
func TestDiskIsKnownBeforeTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	p := newPortal(t)
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://"+p.ln.Addr().String()))
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	known, old := a.disks.ask(func() onDisk { <-t.Context().Done(); return onDisk{} })
	require.NotZero(t, old)
	require.NotZero(t, known.spool.Urgent.MaxBytes)
	require.NotEmpty(t, known.spool.Urgent.Consumers)
	require.NotZero(t, known.blobs.MaxBytes)
	// Nor does it hold up what the broker is told, which says so.
	state := a.state(time.Now(), true, 1)
	require.Contains(t, state.Problems[0], "the disk of the spool directory does not answer since ")
}

// A snapshot of an agent whose disk takes nothing says so first, and says that events wait.
func TestSnapshotOfAFullDisk(t *testing.T) {
	t.Parallel()
	p := newPortal(t)
	path := writeConfig(t, t.TempDir(), "tcp://"+p.ln.Addr().String())
	b := newBench(t, path)
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	a.setRefused(1, errors.New("no space left on device"))
	s := a.status()
	require.Equal(t, "no space left on device", s.Spool.Refused)
	require.Equal(t, 1, s.Spool.WaitingForDisk)
	require.Contains(t, s.Problems[0].What, "the disk does not take events")
	require.Contains(t, s.Problems[0].ToDo, "free space")
	a.setRefused(-1, nil)
	require.Empty(t, a.status().Spool.Refused)
}

// While events wait for the disk no sign of life is left: the lane is not observed.
func TestNoSignOfLifeWhileTheDiskRefuses(t *testing.T) {
	t.Parallel()
	p := newPortal(t)
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://"+p.ln.Addr().String()))
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	left := func(now time.Time) time.Time {
		a.signOfLife(now)
		st, err := os.Stat(a.id.path)
		require.NoError(t, err)
		return st.ModTime()
	}
	first := time.Date(2026, 3, 14, 8, 0, 0, 0, time.UTC)
	require.True(t, first.Equal(left(first)))
	a.setRefused(1, errors.New("no space left on device"))
	require.True(t, first.Equal(left(first.Add(time.Minute))))
	a.setRefused(-1, nil)
	require.True(t, first.Add(time.Minute).Equal(left(first.Add(time.Minute))))
}

const secretPlate = "AA1234BC"

func plateRead() event.PlateRead {
	return event.PlateRead{
		ReadID: "r", Direction: "toward", LaneDirection: "unknown", Country: event.PlateCountry{Code: "UA"}, Attachments: []event.Attachment{},
		Capture: event.PlateCapture{Revision: "single", ReceivedTS: event.At(time.Now()), TimeSource: "arrival"},
		Private: &event.PlatePrivate{Salt: "Zm9vYmFyYmF6cXV4MDEyMw==", Plate: secretPlate, MatchKey: secretPlate, PlateRaw: secretPlate, Alternatives: []event.PlateAlternative{}},
	}
}

// A plate is shown as far as the configuration permits, in the snapshot, in the events and
// in the metrics alike; by default masked. A reload changes it.
func TestPlatesAreMasked(t *testing.T) {
	t.Parallel()
	p := newPortal(t)
	spool := t.TempDir()
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte(strings.Repeat("ab", 32)), 0o600))
	write := func(plates string) {
		text := fmt.Sprintf("site: test\nlanes:\n  - id: entry-1\n    devices:\n      - id: cam-1\n        profile: rapiscan-tsa\n"+
			"        connect: tcp://%s\nspool:\n  dir: %s\nplates: {pseudonym_key_file: %s}\nconsole: {listen: off%s}\n", p.ln.Addr(), spool, key, plates)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("")
	b := newBench(t, path)
	a := b.startWith(b)
	b.waitFor("lanepost.agent.started.v1", 1)
	var c *http.Client
	require.Eventually(t, func() (ok bool) {
		var err error
		c, err = client.Dial(spool)
		return err == nil
	}, patience, time.Millisecond)
	defer c.CloseIdleConnections()
	for i, one := range []struct{ plates, want string }{
		{"", "A******C"}, {", plates: full", secretPlate}, {", plates: none", ""}, {", plates: full", secretPlate}, {", plates: pseudonym", "8 digits"},
	} {
		if i > 0 {
			write(one.plates)
			require.NoError(t, client.Post(t.Context(), c, "/api/v1/reload", &console.Reloaded{}))
			// What was kept of before is as it might be shown then.
			var s console.Status
			require.NoError(t, client.Get(t.Context(), c, "/api/v1/status", &s))
			whole, err := json.Marshal(s)
			require.NoError(t, err)
			require.NotContains(t, string(whole), secretPlate)
			require.Empty(t, s.Lanes[0].Devices[0].Plates)
			require.Nil(t, s.Lanes[0].Devices[0].LastEvent)
		}
		r, err := client.Open(t.Context(), c, http.MethodGet, "/api/v1/events?whole=1")
		require.NoError(t, err)
		line := make([]byte, 64<<10)
		_, err = r.Read(line) // the comment at the beginning: now it watches
		require.NoError(t, err)
		require.NoError(t, a.record("/test/entry-1/cam-1", drivers.Observation{Data: plateRead()}))
		var told []byte
		for !bytes.Contains(told, []byte(`"type":"lanepost.plate.read.v1"`)) || !bytes.HasSuffix(told, []byte("\n\n")) { // the agent's own events may come between
			n, err := r.Read(line)
			require.NoError(t, err)
			told = append(told, line[:n]...)
		}
		require.NoError(t, r.Close())
		var s console.Status
		require.NoError(t, client.Get(t.Context(), c, "/api/v1/status", &s))
		d := s.Lanes[0].Devices[0]
		require.Len(t, d.Plates, 1)
		shown := d.Plates[0].Text
		if one.want == "8 digits" {
			require.Regexp(t, `^[0-9a-f]{8}$`, shown)
		} else {
			require.Equal(t, one.want, shown)
		}
		require.Contains(t, string(told), `"private":"sha256:`)
		if shown != "" {
			require.Contains(t, string(told), shown)
		}
		whole, err := json.Marshal(s)
		require.NoError(t, err)
		if one.want != secretPlate {
			require.NotContains(t, string(whole)+string(told), secretPlate)
		}
	}
	require.Equal(t, uint64(5), a.status().Lanes[0].Devices[0].Passed.PlateReads)
}

// Each driver is of the kind of its events.
func TestKinds(t *testing.T) {
	t.Parallel()
	var known int
	for _, d := range registry.All() {
		at := reflect.ValueOf(d.New).Pointer()
		made, _ := runtime.FuncForPC(at).FileLine(at)
		want := ""
		switch {
		case strings.Contains(made, "/drivers/anpr/"):
			want = console.PlateReader
		case strings.Contains(made, "/drivers/xray/"):
			want = console.Scanner
		case strings.Contains(made, "/drivers/rpm/") && strings.HasSuffix(d.Name, "-portal"):
			want = console.Portal
		}
		require.Equal(t, want, kindOf(d.Name), "%s, made by %s", d.Name, made)
		if want != "" {
			known++
		}
	}
	listed := 0
	for _, k := range kinds {
		listed += len(k.drivers)
	}
	require.Equal(t, listed, known, "there is no driver twice or in vain")
}

func TestMask(t *testing.T) {
	t.Parallel()
	for plate, want := range map[string]string{"": "", "AB1": "***", "AB12": "A**2", "ЄÄ12Ж": "Є***Ж"} {
		require.Equal(t, want, mask(plate))
	}
}

// What is remembered is bounded, and goes with its device; pictures are shown only where
// they may be.
func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	var r recent
	h := event.Header{Source: "/test/entry-1/x-1", Time: event.At(time.Now())}
	for range 3 * console.KeptOccupancies {
		r.recorded(h, event.Routine, 1, event.RadiationOccupancy{Outcome: event.OutcomeAlarm, GammaAlarm: true, End: event.EndGX}, nil, nil)
		r.recorded(h, event.Routine, 1, event.PlateNoRead{}, nil, nil)
	}
	d := r.devices["entry-1/x-1"]
	require.Len(t, d.occupancies, console.KeptOccupancies)
	require.Len(t, d.plates, console.KeptPlates)
	require.LessOrEqual(t, cap(d.occupancies), 4*console.KeptOccupancies)
	require.Equal(t, uint64(3*console.KeptOccupancies), d.passed.AlarmOccupancies)

	picture := []drivers.Attachment{{Attachment: event.NewAttachment([]byte("jpeg"), "image/jpeg", "thumbnail.jpg"), Content: []byte("jpeg")}}
	scan := event.XrayScan{ScanID: "s", Revision: 1}
	r.recorded(h, event.Routine, 1, scan, picture, nil)
	require.Nil(t, r.thumbnailOf("entry-1/x-1"))
	require.Nil(t, d.scan.Thumbnail)
	r.permitted.Pictures = true
	r.recorded(h, event.Routine, 1, scan, picture, nil)
	require.Equal(t, "jpeg", string(r.thumbnailOf("entry-1/x-1")))
	require.Equal(t, picture[0].SHA256, d.scan.Thumbnail.SHA256)
	r.recorded(event.Header{Source: "/test/agent/me"}, event.Urgent, 1, event.AgentLoss{Count: 7}, nil, nil)
	require.Equal(t, uint64(7), r.lost)
	require.Len(t, r.devices, 1, "the agent is no device")
	r.follow(&config.Config{})
	require.Empty(t, r.devices)
}

// Each type of event is said in words, without what is personal.
func TestSentences(t *testing.T) {
	t.Parallel()
	for _, k := range event.Types() {
		text := sentence(k.Example.Data, config.PlatesMasked)
		require.NotEmpty(t, text, k.Type)
		require.NotContains(t, text, "%!", k.Type)
		require.Less(t, len(text), 300, k.Type)
		if r, ok := k.Example.Data.(event.PlateRead); ok {
			require.NotContains(t, text, r.Private.Plate)
		}
		t.Log(k.Type, "|", text)
	}
	require.Equal(t, "incomplete: not observed from beginning to end, 1.0 s",
		sentence(event.RadiationOccupancy{Outcome: event.OutcomeIncomplete, DurationS: 1}, ""), "never as clear")
	require.Equal(t, "silent for 30 s", sentence(event.DeviceSilent{LimitS: 30, Hint: "check the cable"}, ""), "what to do is told by its state")
	require.Equal(t, "pieces not understood: 22", sentence(event.DeviceUnparsed{Count: 22}, ""))
}

// The rate is over the last minute, however long the uplink runs.
func TestDeliveryRate(t *testing.T) {
	t.Parallel()
	began := time.Now()
	r := recent{rates: map[string][]rateSample{}}
	require.InDelta(t, 2, r.rateLocked("m", began, began.Add(10*time.Second), 20), 0.001)
	for i := range 100 {
		at := began.Add(time.Duration(i) * rateEvery)
		r.rates["m"] = lastOf(append(r.rates["m"], rateSample{at, uint64(i)}), int(rateFor/rateEvery)+1)
	}
	now := began.Add(99 * rateEvery)
	require.InDelta(t, 0.2, r.rateLocked("m", began, now, 99), 0.001)
	require.InDelta(t, 0, r.rateLocked("m", began, now, 3), 0.001, "it was started anew")
}
