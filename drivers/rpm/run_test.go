package rpm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/tsa"
)

const (
	gb = "GB,000400,000400,000400,000400\r\n"
	nb = "NB,000000,000000,000000,000000\r\n"
	ns = "NS,000000,000000,000001,000000\r\n"
	gs = "GS,000050,000050,000050,000050\r\n"
	ga = "GA,000450,000450,000450,000450\r\n"
	gx = "GX,000001,001000,000000,000000\r\n"
)

// recorder is a host in real time, or in the time of a synctest bubble. onEmit
// is called for each event.
type recorder struct {
	mu     sync.Mutex
	events []event.Data
	onEmit func(event.Data) error
}

func (*recorder) Now() time.Time          { return time.Now() }
func (*recorder) Ledger() drivers.Ledger  { return &drivers.MemoryLedger{} }
func (*recorder) Valid()                  {}
func (*recorder) Unparsed(string, []byte) {}
func (*recorder) Log() *slog.Logger       { return slog.New(slog.DiscardHandler) }

func (r *recorder) Emit(o drivers.Observation) error {
	r.mu.Lock()
	r.events = append(r.events, o.Data)
	r.mu.Unlock()
	if r.onEmit != nil {
		return r.onEmit(o.Data)
	}
	return nil
}

func (r *recorder) occupancies() (list []event.RadiationOccupancy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.events {
		if o, ok := d.(event.RadiationOccupancy); ok {
			list = append(list, o)
		}
	}
	return list
}

// running starts a portal on one end of a pipe and gives the other.
func running(t *testing.T, ctx context.Context, host drivers.Host) (portal net.Conn, mine net.Conn, ended chan error) {
	portal, mine = net.Pipe()
	ended = make(chan error, 1)
	p := newTestPortal(t, nil)
	go func() { ended <- p.Run(ctx, mine, host) }()
	return portal, mine, ended
}

// TestStop ends the agent in the middle of an occupancy: it is emitted before
// Run returns.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var host recorder
		portal, mine, ended := running(t, ctx, &host)
		_, err := io.WriteString(portal, nb+gb+ns+gs+gs)
		require.NoError(t, err)
		time.Sleep(time.Second)
		cancel()
		require.NoError(t, mine.SetReadDeadline(time.Now().Add(-time.Second)))
		require.ErrorIs(t, <-ended, context.Canceled)
		got := host.occupancies()
		require.Len(t, got, 1)
		require.Equal(t, event.EndDisconnected, got[0].End)
		require.Equal(t, event.OutcomeIncomplete, got[0].Outcome)
		require.Equal(t, 2, got[0].GammaSamples)
	})
}

// TestSlowDisk lets the disk refuse an alarm for a minute. The bytes that wait
// meanwhile are no silence.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := recorder{onEmit: func(d event.Data) error {
			if _, ok := d.(event.RadiationAlarm); ok {
				time.Sleep(time.Minute)
			}
			return nil
		}}
		portal, _, ended := running(t, t.Context(), &host)
		for _, s := range []string{nb + gb, ns, gs, gs, gs, gs, gs, ga, gs, gx} {
			_, err := io.WriteString(portal, s)
			require.NoError(t, err)
			time.Sleep(200 * time.Millisecond)
		}
		require.NoError(t, portal.Close())
		require.ErrorIs(t, <-ended, io.EOF)
		got := host.occupancies()
		require.Len(t, got, 1)
		require.Equal(t, event.EndGX, got[0].End)
		require.Equal(t, 7, got[0].GammaSamples)
	})
}

// TestEmitFails: when the agent is at its end, Run returns the reason and takes
// nothing more.
func TestEmitFails(t *testing.T) {
	over := errors.New("the agent stops")
	host := recorder{onEmit: func(event.Data) error { return over }}
	portal, _, ended := running(t, t.Context(), &host)
	_, err := io.WriteString(portal, nb+gb+ns)
	require.NoError(t, err)
	require.ErrorIs(t, <-ended, over)
	require.Len(t, host.events, 1)
	require.NoError(t, portal.Close())
}

// frozen is a link whose process was stopped for a while: its read returns long
// after the deadline, though bytes are there.
type frozen struct {
	mu      sync.Mutex
	now     time.Time
	pending []byte
	frozen  bool
	until   time.Time
}

func (f *frozen) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *frozen) SetReadDeadline(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = t
	return nil
}

func (f *frozen) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.frozen && len(f.pending) > 0:
		n := copy(p, f.pending)
		f.pending = nil
		return n, nil
	case !f.frozen:
		f.frozen = true
		f.now = f.until.Add(time.Minute)
		f.pending = []byte(gs + gx)
		return 0, os.ErrDeadlineExceeded
	case len(f.pending) > 0:
		n := copy(p, f.pending)
		f.pending = nil
		return n, nil
	}
	return 0, link.ErrUnplugged
}

func (*frozen) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (*frozen) Close() error              { return nil }

type frozenHost struct {
	*recorder
	*frozen
}

func (h frozenHost) Now() time.Time { return h.frozen.Now() }

func TestPausedProcess(t *testing.T) {
	f := &frozen{now: drivers.ScriptStart(), pending: []byte(nb + gb + ns + gs)}
	var r recorder
	err := newTestPortal(t, nil).Run(t.Context(), f, frozenHost{&r, f})
	require.ErrorIs(t, err, link.ErrUnplugged)
	got := r.occupancies()
	require.Len(t, got, 1)
	require.Equal(t, event.EndGX, got[0].End)
}

// TestLongOccupancy holds the beam cut for six hours: memory and the event stay
// bounded, and the figures cover all of it.
func TestLongOccupancy(t *testing.T) {
	const seconds = 6 * 60 * 60
	second := []byte(ns + strings.Repeat(gs, 5) + strings.Repeat("AS,000105,000105,000060,000048\r\nSP,0.1281,05.323,008.57,000000\r\n", 5))
	script := make([]drivers.Chunk, 0, seconds+2)
	script = append(script, drivers.Chunk{Bytes: []byte(nb + gb)})
	for i := range seconds {
		script = append(script, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: second})
	}
	script = append(script, drivers.Chunk{At: seconds * time.Second, Bytes: []byte(gx)})
	var before, after runtime.MemStats
	p := newTestPortal(t, nil)
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, err := drivers.Play(t.Context(), p, script)
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Len(t, got.Observations, 2)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(4<<20))
	o := got.Observations[1].Data.(event.RadiationOccupancy)
	require.Equal(t, 5*seconds, o.GammaSamples)
	require.Equal(t, seconds, o.NeutronSamples)
	require.Equal(t, seconds, o.NeutronCounts)
	require.Equal(t, 5*seconds, o.SpeedRecords)
	require.Equal(t, float64(seconds), o.DurationS)
	require.Len(t, o.GammaSeries, defaultSettings().SeriesLimit)
	require.True(t, o.SeriesTruncated)
	require.True(t, o.Raw.Truncated)
	require.Equal(t, seconds*len(second)+len(gx), o.Raw.Size)
	require.Len(t, o.Raw.Text, event.MaxRaw)
	whole := event.RawOf(append(bytes.Repeat(second, seconds), gx...))
	require.Equal(t, whole.SHA256, o.Raw.SHA256)
	require.Equal(t, whole.Text, o.Raw.Text)
}

// TestCountsSaturate: on a 32-bit box the neutron counts of an endless occupancy
// stop at the highest number instead of turning negative.
func TestCountsSaturate(t *testing.T) {
	s := &session{p: newPortalWith(defaultSettings()), host: &recorder{}, state: idle}
	rec, err := tsa.Parse([]byte(strings.TrimSuffix(ns, "\r\n")))
	require.NoError(t, err)
	require.NoError(t, s.sample(rec))
	require.Equal(t, 1, s.occ.counts)
	s.occ.counts = math.MaxInt - 1
	require.NoError(t, s.sample(rec))
	require.NoError(t, s.sample(rec))
	require.Equal(t, math.MaxInt, s.occ.counts)
}

// TestBaselineIsBounded plays a day of background in no time: what the
// baseline rests on is bounded by count then.
func TestBaselineIsBounded(t *testing.T) {
	p := newPortalWith(defaultSettings())
	_, err := drivers.Play(t.Context(), p, []drivers.Chunk{{Bytes: []byte(strings.Repeat(nb+gb, 24*720) + ns + gx)}})
	require.NoError(t, err)
	require.Len(t, p.baseline.records, 360)
	cps, seconds, ok := p.baseline.median(drivers.ScriptStart())
	require.True(t, ok)
	require.Equal(t, 1600.0, cps)
	require.Equal(t, 1800.0, seconds)
}

// TestSpeedsWithoutEnd: a portal that babbles speeds fills nothing up, and each
// of them is told of.
func TestSpeedsWithoutEnd(t *testing.T) {
	got := playText(t, nil, nb+strings.Repeat("SP,0.1281,05.323,008.57,000000\r\n", 100)+
		strings.Repeat("NZ,0.1,0.1\r\n", 100)+ns+gx)
	var records float64
	for _, o := range got.Observations {
		switch e := o.Data.(type) {
		case event.RadiationDiagnostic:
			records += e.Values["records"]
		case event.RadiationOccupancy:
			records += float64(e.SpeedRecords)
		}
	}
	require.Equal(t, 100.0, records)
}
