package link

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/simonvetter/modbus"

	"github.com/lanepost/lanepost/protocol/order"
)

// Addresses that nobody asked for are read along where that saves a request.
const (
	gapBits      = 64
	gapRegisters = 8
)

// plan is which requests read a list of points.
type plan struct {
	registers []register
	wrong     map[int]error // points that are none of Modbus
	groups    []group
}

// group is one request.
type group struct {
	function byte
	from, to int   // addresses; to is the first that is not read
	members  []int // points
	strict   bool  // no addresses in between that nobody asked for
}

// rejoinAfter is how long what was learned about addresses that can't be read stays: what was
// wrong with a device may have passed, and many requests make a slow look.
const rejoinAfter = time.Minute

// maxShelf bounds the plans that are kept beside the one in hand. A driver that asks for some
// of its points alone now and then does not lose what was learned about the rest.
const maxShelf = 3

// learned is a plan with what was learned about it.
type learned struct {
	points []Point
	plan   plan
	// rejoinAt is when a plan that was taken apart is made anew; zero if it was not.
	rejoinAt time.Time
}

// prepare makes a plan, unless there is one for the same points that has not been taken apart
// for long.
func (b *modbusBus) prepare(points []Point) {
	if b.points != nil && !slices.Equal(b.points, points) {
		before := b.learned
		b.learned = learned{}
		if i := slices.IndexFunc(b.shelf, func(l learned) bool { return slices.Equal(l.points, points) }); i >= 0 {
			b.learned = b.shelf[i]
			b.shelf = slices.Delete(b.shelf, i, i+1)
		}
		b.shelf = append(b.shelf, before)
		if len(b.shelf) > maxShelf {
			b.shelf = slices.Delete(b.shelf, 0, 1)
		}
	}
	if b.points != nil && (b.rejoinAt.IsZero() || time.Now().Before(b.rejoinAt)) {
		return
	}
	b.rejoinAt = time.Time{}
	b.points = slices.Clone(points)
	b.plan = plan{registers: make([]register, len(points)), wrong: map[int]error{}}
	var all []int
	for i, p := range points {
		r, err := parseRegister(p)
		if err != nil {
			b.plan.wrong[i] = err
			continue
		}
		b.plan.registers[i] = r
		all = append(all, i)
	}
	b.plan.groups = b.plan.join(all, false)
}

// join puts points into as few requests as it can.
func (p *plan) join(points []int, strict bool) (groups []group) {
	points = slices.Clone(points)
	order.By(points, func(a, b int) int {
		x, y := p.registers[a], p.registers[b]
		return cmp.Or(cmp.Compare(x.function, y.function), cmp.Compare(x.address, y.address), cmp.Compare(a, b))
	})
	for _, m := range points {
		r := p.registers[m]
		gap, most := gapRegisters, maxRegisters
		if r.bits() {
			gap, most = gapBits, maxBits
		}
		if strict {
			gap = 0
		}
		if k := len(groups) - 1; k >= 0 && groups[k].function == r.function && r.address <= groups[k].to+gap && r.address+r.width-groups[k].from <= most {
			groups[k].to = max(groups[k].to, r.address+r.width)
			groups[k].members = append(groups[k].members, m)
			continue
		}
		groups = append(groups, group{function: r.function, from: r.address, to: r.address + r.width, members: []int{m}, strict: strict})
	}
	return groups
}

// split takes a request apart that the device refused: first without the addresses that
// nobody asked for, then by halves. One that can't be taken apart is given back alone.
func (p *plan) split(g group) (parts []group) {
	if !g.strict {
		if runs := p.join(g.members, true); len(runs) > 1 {
			return runs
		}
	}
	same := func(i int) bool {
		a, b := p.registers[g.members[i-1]], p.registers[g.members[i]]
		return a.address == b.address && a.width == b.width
	}
	// What is read by the same request anyway stays together.
	half := len(g.members) / 2
	for half > 0 && same(half) {
		half--
	}
	if half == 0 {
		for half = max(1, len(g.members)/2); half < len(g.members) && same(half); {
			half++
		}
	}
	if half >= len(g.members) {
		g.strict = true
		return []group{g}
	}
	return append(p.join(g.members[:half], true), p.join(g.members[half:], true)...)
}

// Exception is an answer of Modbus that holds no values; the error of a Sample wraps it.
type Exception struct {
	// Code is the exception code of the Modbus Application Protocol V1.1b3, 7.
	Code int
}

// exceptions are the codes of the Modbus Application Protocol V1.1b3, 7, and what to do.
var exceptions = map[int]struct {
	of        modbus.Error
	name, say string
}{
	1:  {modbus.ErrIllegalFunction, "illegal function", "the device does not have this table; take coil, discrete, holding or input as its manual says"},
	2:  {modbus.ErrIllegalDataAddress, "illegal data address", "the device has nothing at this address; addresses count from 0, manuals often from 1"},
	3:  {modbus.ErrIllegalDataValue, "illegal data value", "the device does not give so many registers at once from there; check the type"},
	4:  {modbus.ErrServerDeviceFailure, "server device failure", "the device reports a failure of its own; look at it"},
	5:  {modbus.ErrAcknowledge, "acknowledge", "the device takes long; set a longer timeout"},
	6:  {modbus.ErrServerDeviceBusy, "server device busy", "the device is busy; ask it less often with every"},
	8:  {modbus.ErrMemoryParityError, "memory parity error", "the device's memory is damaged; have it repaired"},
	10: {modbus.ErrGWPathUnavailable, "gateway path unavailable", "the gateway has no line for this unit; check unit and the gateway's settings"},
	11: {modbus.ErrGWTargetFailedToRespond, "gateway target device failed to respond", "the device behind the gateway is off, or unit is wrong"},
}

// Error implements error: what the code means, and what to do.
func (e *Exception) Error() string {
	x, known := exceptions[e.Code]
	if !known {
		return fmt.Sprintf("the device answers with exception %d, which Modbus does not name; see its manual", e.Code)
	}
	return fmt.Sprintf("the device answers with exception %d (%s): %s", e.Code, x.name, x.say)
}

// Lasts says whether the device has nothing there and will have nothing at the next request
// either (1, 2, 3). Whatever else it answers may be over in a moment.
func (e *Exception) Lasts() bool { return e.Code >= 1 && e.Code <= 3 }

// NamedException finds the exception that a text begins with, by its number, as in
// "exception 2", or its name, as in "illegal data address"; nil if it names none.
func NamedException(text string) *Exception {
	for code, x := range exceptions {
		rest, found := strings.CutPrefix(text, "exception "+strconv.Itoa(code))
		if strings.HasPrefix(text, x.name) || found && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return &Exception{code}
		}
	}
	return nil
}

// ofAddress says whether other addresses of the same request may be readable. A device that
// has failed (4) or is busy (6) gives none of them, and gives all again afterwards.
func (e *Exception) ofAddress() bool { return e.Code == 2 || e.Code == 3 }

// exceptionOf finds the exception in an error of the library; nil if it is another.
func exceptionOf(err error) *Exception {
	for _, code := range slices.Sorted(maps.Keys(exceptions)) {
		if errors.Is(err, exceptions[code].of) {
			return &Exception{code}
		}
	}
	// The library has words, and no type, for codes that it does not know.
	if rest, ok := strings.CutPrefix(err.Error(), "unknown exception code ("); ok {
		code, err := strconv.Atoi(strings.TrimSuffix(rest, ")"))
		if err == nil {
			return &Exception{code}
		}
	}
	return nil
}
