package rpm

import "time"

// Edges are told at once, so many of a kind in a minute. Of what flickers on, the end is told
// when it has been quiet for as long.
const (
	edgesAtOnce = 6
	edgeQuiet   = time.Minute
)

// pace bounds how often something is told.
type pace struct{ times []time.Time }

// free says whether it may be told now.
func (p *pace) free(now time.Time) bool {
	for len(p.times) > 0 && now.Sub(p.times[0]) >= edgeQuiet {
		p.times = p.times[1:]
	}
	return len(p.times) < edgesAtOnce
}

// took notes that it was told.
func (p *pace) took(now time.Time) {
	if len(p.times) > edgesAtOnce {
		p.times = p.times[1:]
	}
	p.times = append(p.times, now)
}

// edge is one thing that is there or not.
type edge struct {
	last    bool      // what it is
	since   time.Time // since when
	changes int       // since it was last told
	pace    pace
}

// turns takes what it is now, and was when it was last told, and says whether to tell it, and
// how often it changed.
func (e *edge) turns(now time.Time, told, is bool) (changes int, tell bool) {
	if is != e.last {
		e.last, e.since = is, now
		e.changes++
	}
	if is == told || !is && !e.pace.free(now) && now.Sub(e.since) < edgeQuiet {
		return 0, false
	}
	e.pace.took(now)
	changes, e.changes = e.changes, 0
	if changes == 1 {
		changes = 0 // which the event itself says
	}
	return changes, true
}
