package identify

import (
	"context"
	"math/bits"
	"os"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
)

// waveform is what a serial line looks like: its level over time, in nanoseconds from the
// beginning of a burst. It rests at 1.
type waveform []struct {
	level bool
	until float64
}

// transmit is the waveform of bytes that are sent one behind the other at a line's settings.
func (l line) transmit(data []byte) (w waveform) {
	bit := 1e9 / float64(l.baud)
	at := 0.0
	put := func(level bool) {
		at += bit
		w = append(w, struct {
			level bool
			until float64
		}{level, at})
	}
	for _, b := range data {
		put(false)
		for i := range l.data {
			put(b>>i&1 == 1)
		}
		odd := bits.OnesCount8(b&byte(1<<l.data-1))%2 == 1
		switch l.parity {
		case "even":
			put(odd)
		case "odd":
			put(!odd)
		}
		for range l.stop {
			put(true)
		}
	}
	return w
}

// at is the level at a time.
func (w waveform) at(t float64) bool {
	low, high := 0, len(w)
	for low < high {
		if middle := (low + high) / 2; w[middle].until <= t {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low == len(w) || w[low].level
}

// receive is what a port at a line's settings makes of it, as Linux tells it to a program:
// a character whose parity or stop bit is wrong is a zero if parity is looked at, and is
// told as it came if not.
func (l line) receive(w waveform) (data []byte) {
	if len(w) == 0 {
		return nil
	}
	bit := 1e9 / float64(l.baud)
	end := w[len(w)-1].until
	const steps = 16 // a port looks sixteen times in a bit
	for t := 0.0; t < end; {
		if w.at(t) || w.at(t+bit/2) { // no start bit
			t += bit / steps
			continue
		}
		var b byte
		for i := range l.data {
			if w.at(t + bit*(1.5+float64(i))) {
				b |= 1 << i
			}
		}
		place := 1.5 + float64(l.data)
		wrong := false
		if l.parity == "even" || l.parity == "odd" {
			odd := bits.OnesCount8(b)%2 == 1
			wrong = w.at(t+bit*place) != (odd == (l.parity == "even"))
			place++
		}
		stopped := w.at(t + bit*place)
		told := b
		if l.parity != "none" && (wrong || !stopped) {
			told = 0
		}
		data = append(data, told)
		if b != 0 && !stopped {
			// The chips take a stop bit that is missing for the next start bit.
			t += bit * (place - 0.5)
			continue
		}
		for t += bit * place; !w.at(t); { // until the line rests
			t += bit / steps
		}
	}
	return data
}

// wire is an instrument on a line, and a port that hears it at whatever settings it is
// opened. Its times are those of the bubble of a synctest.
type wire struct {
	line   line
	script []drivers.Chunk // played again and again
	period time.Duration
	began  time.Time
	opened []line
}

func (w *wire) open(_ context.Context, l line) (link.Conn, error) {
	w.opened = append(w.opened, l)
	return &wireConn{w: w, at: l, since: time.Since(w.began), closed: make(chan struct{})}, nil
}

// next is the first burst after a time, and when it is.
func (w *wire) next(after time.Duration) (time.Duration, []byte) {
	for round := after / w.period; ; round++ {
		for _, c := range w.script {
			if at := round*w.period + c.At; at > after && len(c.Bytes) > 0 {
				return at, c.Bytes
			}
		}
	}
}

type wireConn struct {
	w      *wire
	at     line
	since  time.Duration // what came up to then was read
	rest   []byte
	mu     sync.Mutex
	limit  time.Time
	closed chan struct{}
}

func (c *wireConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		var timeout <-chan time.Time
		c.mu.Lock()
		if !c.limit.IsZero() {
			timeout = time.After(time.Until(c.limit))
		}
		c.mu.Unlock()
		var came <-chan time.Time
		at, burst := time.Duration(0), []byte(nil)
		if len(c.w.script) > 0 {
			at, burst = c.w.next(c.since)
			came = time.After(at - time.Since(c.w.began))
		}
		select {
		case <-came:
			c.since, c.rest = at, c.at.receive(c.w.line.transmit(burst))
		case <-timeout:
			return 0, os.ErrDeadlineExceeded
		case <-c.closed:
			return 0, link.ErrClosed
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *wireConn) Write([]byte) (int, error) { panic("nothing may be written while listening") }

func (c *wireConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = t
	return nil
}

func (c *wireConn) Close() error {
	close(c.closed)
	return nil
}
