package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// appendChained appends an event that carries its predecessor's hash, and returns
// what it carries and the chain's value after it.
func appendChained(t *testing.T, s *Spool, text string) (before, after event.Hash) {
	t.Helper()
	_, err := s.Append(t.Context(), event.Routine, day, "t", func(seq uint64, previous event.Hash) ([]byte, error) {
		b := fmt.Appendf(nil, `{"sequence":"%d","prevhash":"%s","data":{"text":%q}}`, seq, previous, text)
		before, after = previous, event.After(b)
		return b, nil
	})
	require.NoError(t, err)
	return before, after
}

func TestChainGoesOnOverARestart(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{})
	before, last := appendChained(t, s, "first")
	require.True(t, before.IsZero())
	for i := range 5 {
		before, after := appendChained(t, s, "a")
		require.Equal(t, last, before)
		last = after
		head, chain := s.Head(event.Routine)
		require.Equal(t, uint64(i+2), head)
		require.Equal(t, last, chain)
		if i == 3 {
			m = m.clone() // as a kill leaves it
			s = open(t, m, "/spool", Options{})
		}
	}
	require.NoError(t, s.Close())
	s = open(t, m, "/spool", Options{})
	before, _ = appendChained(t, s, "after an orderly stop")
	require.Equal(t, last, before)
}

// A refused record is no link of the chain.
func TestChainIgnoresRefusedRecords(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{})
	_, last := appendChained(t, s, "first")
	m.mu.Lock()
	m.hook = func(op, _ string) error {
		if op == "write" {
			return os.ErrInvalid
		}
		return nil
	}
	m.mu.Unlock()
	_, err := s.Append(t.Context(), event.Routine, day, "t", func(uint64, event.Hash) ([]byte, error) { return []byte(`{}`), nil })
	require.Error(t, err)
	m.mu.Lock()
	m.hook = nil
	m.mu.Unlock()
	before, _ := appendChained(t, s, "second")
	require.Equal(t, last, before)
}

// When the last record is damaged, its hash is not known, and the chain begins
// anew rather than with a hash that nobody has seen.
func TestChainBeginsAnewAfterADamagedEnd(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{})
	appendChained(t, s, "first")
	appendChained(t, s, "second")
	require.NoError(t, s.Close())
	for name, f := range m.names {
		if filepath.Ext(name) == ".seg" {
			f.mem[len(f.mem)-10] ^= 1
		}
	}
	s = open(t, m, "/spool", Options{})
	before, _ := appendChained(t, s, "third")
	require.True(t, before.IsZero())
	require.Len(t, s.Losses(), 1)
}
