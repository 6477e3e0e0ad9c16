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
func (a *openAnswer) expect() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting, a.head, a.passed = true, nil, 0
}

// forget says that no answer is waited for.
func (a *openAnswer) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = false
}

// take gives those of the bytes that came which belong to the answer.
func (a *openAnswer) take(b []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.waiting {
		return nil
	}
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
