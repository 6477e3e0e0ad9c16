package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/capture"
)

// maxAside bounds what is held, in bytes, of connections that overlap with the one that is
// played.
const maxAside = 16 << 20

// tape gives the entries of captures and daily files, one file after the other, and what
// is to be known of them. It holds one entry, and what is aside.
type tape struct {
	names []string
	file  *os.File
	in    *capture.Source
	name  string // of the file that is read

	// first is the header of the first file.
	first capture.Header
	daily bool
	timed bool // its times are known
	// ahead are entries that were read and are still to be played, of other connections
	// than the one that was.
	ahead      []capture.Entry
	aheadBytes int

	begun, last  time.Time // of the first and the last entry
	reads, bytes int64
	connections  int
	holes        []string // at most maxTold
	moreHoles    int
	back         int      // how often the time went back
	told         []string // what is to be said of the files
	damaged      bool
}

// maxTold bounds what is listed of one kind.
const maxTold = 20

// openTape opens the first file.
func openTape(names []string) (*tape, error) {
	t := &tape{names: names}
	if err := t.turn(); err != nil {
		return nil, err
	}
	t.first, t.daily, t.timed = t.in.Header(), t.in.Daily(), t.in.Timed()
	return t, nil
}

// tapeOf is a tape of one file that was read.
func tapeOf(name string, b []byte) (*tape, error) {
	in, err := capture.Open(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t := &tape{in: in, name: name}
	t.first, t.daily, t.timed = in.Header(), in.Daily(), in.Timed()
	return t, nil
}

func (t *tape) close() {
	if t.file != nil {
		_ = t.file.Close() // opened for reading only
	}
}

// turn opens the next file; io.EOF if there is none.
func (t *tape) turn() error {
	t.close()
	t.file, t.in = nil, nil
	if len(t.names) == 0 {
		return io.EOF
	}
	name := t.names[0]
	t.names = t.names[1:]
	f, err := os.Open(name)
	if err != nil {
		return err // it names the file
	}
	t.file, t.name = f, name
	if t.in, err = capture.Open(f); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// read gives the next entry of the files; io.EOF after the last one.
func (t *tape) read() (capture.Entry, error) {
	for {
		if t.in == nil {
			return capture.Entry{}, io.EOF
		}
		e, err := t.in.Next()
		switch {
		case err == nil:
			t.count(e)
			return e, nil
		case errors.Is(err, io.EOF):
		case errors.Is(err, capture.ErrCut):
			t.told = append(t.told, t.name+": "+err.Error())
		default:
			t.damaged = true
			t.told = append(t.told, t.name+": "+err.Error())
		}
		end, header, daily := t.in.End(), t.in.Header(), t.in.Daily()
		if err := t.turn(); err != nil {
			return capture.Entry{}, err
		}
		next := t.in.Header()
		follows := end != nil && end.Reason == capture.Rotated && next.Part == header.Part+1 && next.Device == header.Device && next.Lane == header.Lane
		if !follows && (!daily || !t.in.Daily()) {
			return capture.Entry{At: t.last, Mark: capture.Parted}, nil
		}
	}
}

func (t *tape) count(e capture.Entry) {
	if t.begun.IsZero() {
		t.begun = e.At
	}
	if e.At.Before(t.last) && e.Conn == 0 {
		t.back++
	}
	t.last = e.At
	switch {
	case e.Mark == capture.Lost:
		text := e.At.Format(time.RFC3339)
		if e.LostBytes > 0 {
			text += ", " + plural(e.LostBytes, "byte")
		}
		if e.Why != "" {
			text += ": " + e.Why
		}
		if len(t.holes) < maxTold {
			t.holes = append(t.holes, text)
		} else {
			t.moreHoles++
		}
	case len(e.Bytes) > 0:
		t.reads++
		t.bytes += int64(len(e.Bytes))
	}
}

// ends reports whether an entry ends a connection. What is lost ends it too: what is before
// and behind must not be taken for one, and nothing that was not seen whole for complete.
func ends(e capture.Entry, conn int) bool {
	return (e.Mark == capture.Parted || e.Mark == capture.Lost) && (e.Conn == conn || e.Conn == 0)
}

// connection is one connection of a tape.
type connection struct {
	t    *tape
	conn int
	done bool // it was read to its end
}

// connection gives the next connection; nil at the end of the tape.
func (t *tape) connection() (*connection, error) {
	for {
		for len(t.ahead) > 0 {
			if e := t.ahead[0]; len(e.Bytes) > 0 {
				t.connections++
				return &connection{t: t, conn: e.Conn}, nil
			}
			t.ahead = t.ahead[1:]
		}
		e, err := t.read()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if len(e.Bytes) > 0 {
			t.ahead = append(t.ahead, e)
			t.aheadBytes += len(e.Bytes)
		}
	}
}

// next gives the next entry of the connection. The one that ends it comes too, and io.EOF
// after it.
func (c *connection) next() (capture.Entry, error) {
	if c.done {
		return capture.Entry{}, io.EOF
	}
	t := c.t
	for i, e := range t.ahead {
		if !ends(e, c.conn) && (e.Conn != c.conn || len(e.Bytes) == 0) {
			continue
		}
		if e.Conn == c.conn || i == 0 { // one for all stays for the others
			t.ahead = append(t.ahead[:i:i], t.ahead[i+1:]...)
			t.aheadBytes -= len(e.Bytes)
		}
		c.done = ends(e, c.conn)
		return e, nil
	}
	for {
		e, err := t.read()
		if errors.Is(err, io.EOF) {
			c.done = true
		}
		if err != nil {
			return capture.Entry{}, err
		}
		switch {
		case ends(e, c.conn):
			c.done = true
			if e.Conn == 0 && len(t.ahead) > 0 {
				t.ahead = append(t.ahead, e)
			}
			return e, nil
		case e.Conn == c.conn && len(e.Bytes) > 0:
			return e, nil
		case len(e.Bytes) > 0 || e.Mark == capture.Parted || e.Mark == capture.Lost:
			t.ahead = append(t.ahead, e)
			if t.aheadBytes += len(e.Bytes); t.aheadBytes > maxAside {
				return capture.Entry{}, fmt.Errorf("%s: connections overlap by more than %d bytes", t.name, maxAside)
			}
		}
	}
}

// chunk is next as a driver's script wants it, counted from a time. Where the link ended,
// time passes to that moment.
func (c *connection) chunk(start time.Time) (drivers.Chunk, error) {
	e, err := c.next()
	return drivers.Chunk{At: e.At.Sub(start), Bytes: e.Bytes}, err
}

// skip passes over the rest, and reports whether there was any.
func (c *connection) skip() (some bool, err error) {
	for {
		e, err := c.next()
		if errors.Is(err, io.EOF) {
			return some, nil
		}
		if err != nil {
			return some, err
		}
		some = some || len(e.Bytes) > 0
	}
}
