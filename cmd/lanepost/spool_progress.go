package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// progressAfter is how long a work takes before it shows how far it is, and
	// progressEvery how often it does.
	progressAfter = time.Second
	progressEvery = 200 * time.Millisecond
	// progressStep spares the clock, in bytes.
	progressStep = 64 << 10
)

// progress is one line on a terminal that says how far a long work is. A nil one
// says nothing.
type progress struct {
	out         io.Writer
	now         func() time.Time
	total, done int64
	looked      int64 // done when the clock was last asked
	began, said time.Time
}

// newProgress is nil unless f is a terminal.
func newProgress(f *os.File, total int64) *progress {
	if !onTerminal(f) {
		return nil
	}
	return &progress{out: f, now: time.Now, total: total, began: time.Now()}
}

// add says that so many bytes more are done.
func (p *progress) add(n int64) {
	if p == nil {
		return
	}
	p.done += n
	if p.done-p.looked < progressStep {
		return
	}
	p.looked = p.done
	now := p.now()
	took := now.Sub(p.began)
	if took < progressAfter || now.Sub(p.said) < progressEvery {
		return
	}
	p.said = now
	share := 1.0
	if p.total > 0 {
		share = min(1, float64(p.done)/float64(p.total))
	}
	const width = 20
	full := int(share * width)
	left := time.Duration(float64(took) * (1 - share) / share).Round(time.Second)
	fmt.Fprintf(p.out, "\r[%-*s] %3.0f%% %s of %s, %s/s, %s left\x1b[K", width, "===================="[:full], 100*share,
		size(p.done), size(p.total), size(int64(float64(p.done)/took.Seconds())), left)
}

// end takes the line away.
func (p *progress) end() {
	if p != nil && !p.said.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.said = time.Time{}
	}
}
