package simulator

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const mixed = `
name: mixed
duration: 1m
lanes:
  - id: l
    devices:
      - {id: portal, model: tsa-portal}
      - {id: camera, model: hikvision}
      - {id: scale, model: scale}
      - {id: opcua, model: plc-opcua}
      - {id: files, model: n42-dropper}
      - {id: engine, model: rekor, camera: {push: "http://127.0.0.1:1/"}}
    traffic:
      vehicles: [{kind: car, arrive: 10s}]
`

// TestWaitsForEveryClient: none of what listens starts before all of it has had a client, and
// nobody waits for what has none.
func TestWaitsForEveryClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		listeners, pipes := map[string]net.Listener{}, map[string]*PipeListener{}
		for _, id := range []string{"portal", "camera", "scale", "opcua", "engine"} {
			pipes[id] = NewPipeListener()
			listeners["l/"+id] = pipes[id]
		}
		sim := Start(t, MustParse(t, mixed), Options{Speed: 1, Wait: true, Listeners: listeners})
		var got atomic.Int64
		for _, id := range []string{"portal", "camera", "scale", "opcua"} {
			time.Sleep(time.Hour)
			require.Empty(t, sim.Truth().Vehicles, "before %s has a client", id)
			require.Zero(t, got.Load(), "before %s has a client", id)
			conn, err := pipes[id].Dial(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			if id == "camera" {
				time.Sleep(10 * time.Second)
				require.Empty(t, sim.Truth().Vehicles, "a client that has asked nothing yet")
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: camera\r\n\r\n")
				require.NoError(t, err)
				response := make([]byte, 12)
				_, err = io.ReadFull(conn, response)
				require.NoError(t, err)
				require.Equal(t, "HTTP/1.1 404", string(response))
				continue
			}
			go func() { _, _ = io.Copy(io.Discard, countingReader{conn, &got}) }() // until the end
		}
		began := time.Now()
		require.NoError(t, sim.Wait())
		require.Equal(t, time.Minute, time.Since(began).Round(time.Second))
		require.NotEmpty(t, sim.Truth().Vehicles)
		require.Positive(t, got.Load())
		for _, p := range sim.Truth().Plates {
			require.Less(t, p.AtS, 60.0)
		}
	})
}

type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

// TestWaitStandsStill: the clock of what is asked while it waits does not jump back at the start.
func TestWaitStandsStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		scenario := MustParse(t, strings.Replace(mixed, "plc-opcua", "onvif-camera", 1))
		scenario.Lanes[0].Devices = scenario.Lanes[0].Devices[1:4:4]
		listeners := map[string]net.Listener{"l/camera": NewPipeListener(), "l/scale": NewPipeListener(), "l/opcua": NewPipeListener()}
		sim, err := New(scenario, Options{Speed: 50, Wait: true, Listeners: listeners})
		require.NoError(t, err)
		require.NoError(t, sim.Start(t.Context()))
		time.Sleep(time.Hour)
		for _, c := range sim.cameras {
			require.Zero(t, c.elapsed(), c.id)
			require.WithinDuration(t, time.Now(), c.now(), 0, c.id)
		}
		require.NoError(t, sim.Close())
	})
}

// TestWaitForModbus: the first connection is the start.
func TestWaitForModbus(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"plc", "aspect-portal"} {
		yaml := fmt.Sprintf("name: x\nduration: 1m\nlanes:\n  - id: l\n    devices: [{id: d, model: %s}]\n    traffic: {vehicles: [{kind: car, arrive: 10s}]}\n", model)
		sim := Start(t, MustParse(t, yaml), Options{Speed: 1e6, Wait: true})
		conn, err := net.Dial("tcp", strings.TrimPrefix(sim.Devices()[0].Connect, "modbus-tcp://"))
		require.NoError(t, err)
		require.NoError(t, sim.Wait())
		require.NoError(t, conn.Close())
		entries := sim.tellOrder()
		require.Equal(t, "link", entries[0].EntryKind(), "%s: nothing is before the client: %v", model, entries)
		require.Len(t, sim.Truth().Vehicles, 1)
	}
}

// tellOrder is the truth in the order in which it was told.
func (s *Simulation) tellOrder() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Entry(nil), s.kept...)
}

// TestWaitEnds: what waits can be closed.
func TestWaitEnds(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"hikvision", "scale", "plc", "plc-opcua"} {
		sim := Start(t, MustParse(t, "name: x\nlanes:\n  - id: l\n    devices: [{id: d, model: "+model+"}, {id: p, model: tsa-portal}]\n"), Options{Speed: 1, Wait: true})
		require.NoError(t, sim.Close(), model)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sim, err := New(MustParse(t, "name: x\nlanes:\n  - id: l\n    devices: [{id: d, model: hikvision}]\n"), Options{Speed: 1, Wait: true})
	require.NoError(t, err)
	require.NoError(t, sim.Start(ctx))
	cancel()
	require.NoError(t, sim.Wait())
	_, err = http.Get(sim.Devices()[0].Connect) //nolint:noctx // nobody is there
	require.Error(t, err)
}
