package agent

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of what is printed.
const (
	// printLines and printBytes bound what waits for the reader.
	printLines = 4096
	printBytes = 8 << 20
	// printPatience is how long an event waits for a reader that does not keep
	// up, before lines are left out: one that is slow may slow the lanes a
	// little, one that is stuck must not stop them.
	printPatience = 2 * time.Second
	// printGrace is how long the end waits for the reader.
	printGrace = 2 * time.Second
)

// printer writes events to standard output, each class in the order of its
// sequence. A reader that is stuck or gone harms nothing but its own copy: the
// events are in the spool.
type printer struct {
	out  io.Writer
	log  *slog.Logger
	wake chan struct{} // one token: there is work for the writing goroutine
	done chan struct{}

	mu sync.Mutex
	// next is the sequence to print next, and early holds the lines whose turn
	// has not come: two events that became durable together may be added in
	// either order.
	next    map[event.Class]uint64
	early   map[event.Class]map[uint64][]byte
	queue   [][]byte
	bytes   int           // of the queue and of what is being written
	room    chan struct{} // closed and made anew when the queue has been written
	stuck   bool          // nobody reads
	left    int           // lines left out since then
	gone    bool          // writing has failed; nothing is printed any more
	closing bool
}

// newPrinter starts a printer that begins behind what the spool holds.
func newPrinter(out io.Writer, log *slog.Logger, s spool.Stats) *printer {
	p := &printer{
		out: out, log: log, wake: make(chan struct{}, 1), done: make(chan struct{}), room: make(chan struct{}),
		next:  map[event.Class]uint64{event.Urgent: s.Urgent.Head + 1, event.Routine: s.Routine.Head + 1},
		early: map[event.Class]map[uint64][]byte{event.Urgent: {}, event.Routine: {}},
	}
	go p.run()
	return p
}

// add prints an event that is on disk. Each sequence must come exactly once.
func (p *printer) add(class event.Class, seq uint64, line []byte) {
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return
	}
	early := p.early[class]
	early[seq] = line
	for {
		line, ok := early[p.next[class]]
		if !ok {
			break
		}
		delete(early, p.next[class])
		p.next[class]++
		if p.stuck && p.full() {
			p.left++
			continue
		}
		p.queue = append(p.queue, line)
		p.bytes += len(line) + 1
	}
	wait, room := p.full() && !p.stuck, p.room
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if !wait {
		return
	}
	patience := time.NewTimer(printPatience)
	defer patience.Stop()
	select {
	case <-room:
	case <-patience.C:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.room == room && !p.stuck {
			p.stuck = true
			p.log.Warn("nobody reads standard output; events are left out there until somebody does",
				"hint", "they are safe in the spool")
		}
	}
}

func (p *printer) full() bool { return len(p.queue) >= printLines || p.bytes >= printBytes }

func (p *printer) run() {
	defer close(p.done)
	for range p.wake {
		for {
			p.mu.Lock()
			batch, closing := p.queue, p.closing
			p.queue = nil
			p.mu.Unlock()
			if len(batch) == 0 {
				if closing {
					return
				}
				break
			}
			if err := p.write(batch); err != nil {
				p.fail(err)
				return
			}
		}
	}
}

func (p *printer) write(batch [][]byte) error {
	size := 0
	for _, line := range batch {
		size += len(line) + 1
		if _, err := p.out.Write(append(line, '\n')); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes -= size
	close(p.room)
	p.room = make(chan struct{})
	if p.stuck && !p.full() {
		p.log.Warn("standard output is read again", "left_out", p.left)
		p.stuck, p.left = false, 0
	}
	return nil
}

// fail ends the printing.
func (p *printer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Warn("standard output is gone; events are no longer printed", "err", err)
	p.gone, p.queue, p.early, p.bytes = true, nil, nil, 0
	close(p.room)
	p.room = make(chan struct{})
}

// close prints what waits, if somebody reads.
func (p *printer) close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	grace := time.NewTimer(printGrace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
		p.log.Warn("nobody reads standard output; the last events were not printed", "hint", "they are safe in the spool")
	}
}
