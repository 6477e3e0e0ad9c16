package link

import "sync/atomic"

// meter tells how many bytes came over a link that is not read by Read.
type meter struct{ counted atomic.Pointer[func(int)] }

// CountBytes has f called with the number of bytes whenever some came, from any
// goroutine.
func (m *meter) CountBytes(f func(n int)) { m.counted.Store(&f) }

func (m *meter) count(n int) {
	if f := m.counted.Load(); f != nil && n > 0 {
		(*f)(n)
	}
}

// As finds a link of type T behind c: the agent wraps the links that it hands to
// drivers, and a wrapper says by Unwrap what it wraps.
func As[T Conn](c Conn) (T, bool) {
	for c != nil {
		if found, ok := c.(T); ok {
			return found, true
		}
		wrapper, ok := c.(interface{ Unwrap() Conn })
		if !ok {
			break
		}
		c = wrapper.Unwrap()
	}
	var none T
	return none, false
}
