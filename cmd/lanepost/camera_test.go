package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// recordingHost is a drivers.Host that keeps what a driver says.
type recordingHost struct {
	mu           sync.Mutex
	observations []drivers.Observation
	unparsed     []string
	valid        int
	more         chan struct{} // closed and made anew when something came
	ledger       drivers.MemoryLedger
	// refuse, if set, is asked before each Emit.
	refuse func(drivers.Observation) error
}

func newRecordingHost() *recordingHost { return &recordingHost{more: make(chan struct{})} }

func (h *recordingHost) Now() time.Time    { return time.Now() }
func (h *recordingHost) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (h *recordingHost) Ledger() drivers.Ledger { return &h.ledger }

func (h *recordingHost) changed() {
	close(h.more)
	h.more = make(chan struct{})
}

func (h *recordingHost) Emit(o drivers.Observation) error {
	if h.refuse != nil {
		if err := h.refuse(o); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observations = append(h.observations, o)
	h.changed()
	return nil
}

func (h *recordingHost) Valid() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.valid++
	h.changed()
}

func (h *recordingHost) Unparsed(reason string, _ []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unparsed = append(h.unparsed, reason)
	h.changed()
}

// said gives everything that came so far.
func (h *recordingHost) said() (observations []drivers.Observation, unparsed []string, valid int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.observations), slices.Clone(h.unparsed), h.valid
}

// events and problems are what said gives, one of each.
func (h *recordingHost) events() []drivers.Observation { o, _, _ := h.said(); return o }
func (h *recordingHost) problems() []string            { _, u, _ := h.said(); return u }

// reads gives the plates that were read so far; "" is one that was not read.
func (h *recordingHost) reads() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []string{}
	for _, o := range h.observations {
		switch d := o.Data.(type) {
		case event.PlateRead:
			list = append(list, d.Private.Plate)
		case event.PlateNoRead:
			list = append(list, "")
		}
	}
	return list
}

// wait returns when done is true of what came.
func (h *recordingHost) wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		h.mu.Lock()
		more := h.more
		h.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-more:
		case <-limit:
			h.mu.Lock()
			defer h.mu.Unlock()
			require.Failf(t, "it did not come: "+what, "%d observations, %d valid, unparsed: %q", len(h.observations), h.valid, h.unparsed)
		}
	}
}

// runDriver runs a driver with settings over a link until the test ends, and
// connects again at once when the link fails. settings fills the driver's
// settings; nil leaves the defaults.
func runDriver(t *testing.T, d drivers.Driver, connect string, settings func(any) error, h drivers.Host) {
	t.Helper()
	if settings == nil {
		settings = func(any) error { return nil }
	}
	instrument, err := d.New(settings)
	require.NoError(t, err)
	endpoint, err := link.Parse(connect, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			conn, err := endpoint.Open(ctx)
			if err == nil {
				stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
				_ = instrument.Run(ctx, conn, h)
				stop()
				_ = conn.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond): // the pause of a supervisor
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}
