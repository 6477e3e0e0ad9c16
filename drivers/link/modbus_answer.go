package link

import (
	"slices"
	"sync"
)

// openAnswer is the one answer that is waited for on an RTU line. An RTU answer names
// neither the request nor the address that it belongs to, so that bytes that nobody asked
// for must never lie there when the next request is sent.
type openAnswer struct {
	mu      sync.Mutex
	waiting bool
	unit    byte   // that was asked
	stray   []byte // the head of a late answer of another unit
	skip    int    // how much of that is still to come
	head    []byte // its first bytes, which tell its length
	passed  int
}

// The parts of an RTU frame (Modbus over Serial Line V1.02, 2.3, and Modbus Application
// Protocol V1.1b3, 6.1 to 6.4 and 7): unit, function, number of bytes, that many, CRC; of an
// exception: unit, function with its highest bit set, code, CRC.
const (
	rtuHead      = 3
	rtuCRC       = 2
	rtuException = 0x80
)

// expect begins a new answer: a request is sent.
func (a *openAnswer) expect(unit byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting, a.unit, a.head, a.passed, a.stray, a.skip = true, unit, nil, 0, nil, 0
}

// forget says that no answer is waited for.
func (a *openAnswer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = false
}

// take gives those of the bytes that came which belong to the answer. Before it a late answer
// of another unit may come that this side has asked; ours says whether it has.
func (a *openAnswer) take(b []byte, ours func(unit byte) bool) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.waiting {
		return nil
	}
	for a.passed == 0 && len(b) > 0 {
		switch {
		case a.skip > 0:
			n := min(a.skip, len(b))
			b, a.skip = b[n:], a.skip-n
			continue
		case len(a.stray) == 0 && (b[0] == a.unit || !ours(b[0])):
			return a.answer(b)
		}
		a.stray, b = append(a.stray, b[0]), b[1:]
		if len(a.stray) == rtuHead {
			a.skip = rtuCRC
			if a.stray[1] < rtuException {
				a.skip += int(a.stray[2])
			}
			a.stray = nil
		}
	}
	if len(b) == 0 {
		return nil
	}
	return a.answer(b)
}

// answer takes bytes of the answer itself.
func (a *openAnswer) answer(b []byte) []byte {
	a.head = append(a.head, b[:min(len(b), rtuHead-len(a.head))]...)
	if len(a.head) == rtuHead {
		length := rtuHead + rtuCRC
		// The length of what is no answer to a read is not known; it is for the library to
		// refuse.
		if f := a.head[1]; f >= readCoils && f <= readInput {
			length += int(a.head[2])
		} else if f < rtuException {
			length = gateBuffer
		}
		if left := length - a.passed; len(b) >= left {
			b, a.waiting = slices.Clip(b[:left]), false
		}
	}
	a.passed += len(b)
	return b
}
