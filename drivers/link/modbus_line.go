package link

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Times of a line that several units are on.
const (
	// hungShare is how many times its timeout a unit that does not answer is left alone while
	// others are on its line, which so have nine tenths of it.
	hungShare = 9
	// hungProbe is how long the line waits for such a unit, and on every hungWhole-th try for
	// its whole timeout.
	hungProbe = 250 * time.Millisecond
	hungWhole = 4
)

// sharedLine is one line, or one connection to a gateway, over all the times that it is
// opened. The units on it are asked in turn.
type sharedLine struct {
	opening chan struct{} // taken while the line is opened or closed

	mu    sync.Mutex
	line  *modbusLine // nil if it is not open
	units map[int]*lineUnit
}

// lineUnit is what is known of a unit's answers.
type lineUnit struct {
	misses    int       // requests one after the other without an answer
	notBefore time.Time // when it may be asked again
}

func newSharedLine() *sharedLine {
	return &sharedLine{opening: make(chan struct{}, 1), units: map[int]*lineUnit{}}
}

// sharedLines are those of this process by place. There are as many as were ever configured.
var sharedLines = struct {
	sync.Mutex
	byPlace map[string]*sharedLine
}{byPlace: map[string]*sharedLine{}}

func sharedLineAt(place string) *sharedLine {
	sharedLines.Lock()
	defer sharedLines.Unlock()
	if sharedLines.byPlace[place] == nil {
		sharedLines.byPlace[place] = newSharedLine()
	}
	return sharedLines.byPlace[place]
}

// modbusLine is an open line. Its sharedLine's mu guards it.
type modbusLine struct {
	shared   *sharedLine
	settings string // how it was opened
	rtu      bool
	carrier  Conn
	turns    chan struct{} // taken by who asks
	open     openAnswer    // of RTU
	side     sync.WaitGroup

	buses  map[*modbusBus]bool
	asking *modbusBus
	ended  bool
}

// join puts a bus on the line, which is opened if nobody is on it yet.
func (s *sharedLine) join(ctx context.Context, b *modbusBus) error {
	select {
	case s.opening <- struct{}{}:
		defer func() { <-s.opening }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e := b.endpoint
	s.mu.Lock()
	l := s.line
	if l != nil && !l.ended {
		defer s.mu.Unlock()
		if l.settings != e.carrier.String() {
			return fmt.Errorf("%s: another device has opened the line as %s, and this one wants %s; a line has one setting for all units on it", e.place(), l.settings, e.carrier)
		}
		if u := s.units[e.unit]; u != nil && time.Now().Before(u.notBefore) {
			return &RetryError{Err: fmt.Errorf("%s: unit %d: %w, and is left alone for a while so that the others on the line are read", e.place(), e.unit, errNoAnswer), Until: u.notBefore}
		}
		l.buses[b], b.line = true, l
		return nil
	}
	s.mu.Unlock()
	carrier, err := e.carrier.Open(ctx)
	if err != nil {
		return err
	}
	l = &modbusLine{
		shared: s, settings: e.carrier.String(), rtu: e.rtu, carrier: carrier, turns: make(chan struct{}, 1),
		buses: map[*modbusBus]bool{b: true},
	}
	s.mu.Lock()
	s.line, b.line = l, l
	s.mu.Unlock()
	l.side.Go(l.down)
	return nil
}

// leave takes a bus off the line, and closes it when that was the last.
func (l *modbusLine) leave(b *modbusBus) error {
	s := l.shared
	s.opening <- struct{}{}
	defer func() { <-s.opening }()
	s.mu.Lock()
	on := l.buses[b]
	delete(l.buses, b)
	last := len(l.buses) == 0
	if last && s.line == l {
		s.line = nil
	}
	s.mu.Unlock()
	if !on || !last {
		return nil
	}
	err := l.carrier.Close()
	l.side.Wait()
	return err
}

// alone says whether the bus has the line for itself.
func (l *modbusLine) alone() bool {
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	return len(l.buses) <= 1
}

// unit is what is known of the bus's unit, to be changed with the lock held.
func (l *modbusLine) unit(b *modbusBus) *lineUnit {
	u := l.shared.units[b.endpoint.unit]
	if u == nil {
		u = &lineUnit{}
		l.shared.units[b.endpoint.unit] = u
	}
	return u
}

// turn waits until the bus may ask. Who has it gives it back by release, and loses it when it
// takes too long.
func (l *modbusLine) turn(b *modbusBus) (release func(), err error) {
	select {
	case l.turns <- struct{}{}:
	case <-b.over.Done():
		return nil, context.Cause(b.over)
	}
	l.shared.mu.Lock()
	l.asking = b
	u := l.unit(b)
	limit := b.endpoint.timeout
	hung := u.misses >= 2 && u.misses%hungWhole != 0 && len(l.buses) > 1
	l.shared.mu.Unlock()
	if hung {
		limit = min(limit, hungProbe)
	}
	var once sync.Once
	give := func() {
		once.Do(func() {
			l.shared.mu.Lock()
			l.asking = nil
			l.shared.mu.Unlock()
			l.open.forget()
			<-l.turns
		})
	}
	// The library has its own clock, which began a little later.
	timer := time.AfterFunc(limit+limit/4, give)
	return func() {
		timer.Stop()
		give()
	}, nil
}

// answered notes whether a unit answered, and gives how often it has not.
func (l *modbusLine) answered(b *modbusBus, did bool) (misses int) {
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	u := l.unit(b)
	if did {
		*u = lineUnit{}
		return 0
	}
	u.misses++
	if u.misses >= 2 && len(l.buses) > 1 {
		u.notBefore = time.Now().Add(hungShare * b.endpoint.timeout)
	}
	return u.misses
}

// send sends a request of the bus whose turn it is.
func (l *modbusLine) send(b *modbusBus, request []byte) error {
	l.shared.mu.Lock()
	mine := l.asking == b
	l.shared.mu.Unlock()
	if !mine {
		return nil // too late: the turn is another's, and no answer will come
	}
	if l.rtu {
		l.open.expect(request[0])
	}
	_, err := l.carrier.Write(request)
	return err
}

// down carries answers.
func (l *modbusLine) down() {
	answer := make([]byte, gateBuffer)
	for {
		n, err := l.carrier.Read(answer)
		came := answer[:n]
		l.shared.mu.Lock()
		to := l.asking
		if !l.rtu {
			for b := range l.buses { // the only one
				to = b
			}
		}
		l.shared.mu.Unlock()
		if l.rtu {
			came = l.open.take(came, l.ours)
		}
		if to != nil {
			to.count(n)
			if err == nil && len(came) > 0 {
				if _, failed := to.inner.Write(came); failed != nil && !errors.Is(context.Cause(to.over), ErrClosed) {
					to.end(failed)
				}
			}
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// ours says whether a unit is one that this process asks on the line.
func (l *modbusLine) ours(unit byte) bool {
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	return l.shared.units[int(unit)] != nil
}

// fail ends the line for all that are on it.
func (l *modbusLine) fail(err error) {
	l.shared.mu.Lock()
	defer l.shared.mu.Unlock()
	l.ended = true
	for b := range l.buses {
		b.end(err)
	}
}
