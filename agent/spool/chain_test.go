package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// When the last record is damaged, the cursor tells the chain's value. Without it the
// chain begins anew rather than with a hash that nobody has seen, and the spool says so.
func TestChainAfterADamagedEnd(t *testing.T) {
	t.Parallel()
	for _, cursor := range []bool{true, false} {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{})
		appendChained(t, s, "first")
		_, last := appendChained(t, s, "second")
		require.NoError(t, s.Close())
		for name, f := range m.names {
			if filepath.Ext(name) == ".seg" {
				f.mem[len(f.mem)-10] ^= 1
			}
		}
		if !cursor {
			require.NoError(t, m.Remove("/spool/routine/cursor"))
		}
		s = open(t, m, "/spool", Options{})
		require.Zero(t, s.Anew(event.Urgent))
		if cursor {
			require.Zero(t, s.Anew(event.Routine))
		} else {
			require.NotZero(t, s.Anew(event.Routine))
			last = event.Hash{}
		}
		before, _ := appendChained(t, s, "third")
		require.Equal(t, last, before)
		require.Len(t, s.Losses(), 1)
	}
}

// All is delivered and the segments are gone, or their key is: the chain goes on.
func TestChainGoesOnWithoutItsLastRecord(t *testing.T) {
	t.Parallel()
	m := newMemFS(1)
	keys, err := ParseKeyring([]byte(strings.Repeat("07", 32)))
	require.NoError(t, err)
	s := open(t, m, "/spool", Options{Keys: keys})
	appendChained(t, s, "first")
	_, last := appendChained(t, s, "second")
	require.NoError(t, s.Close())
	sealed := m.clone()
	s = open(t, sealed, "/spool", Options{})
	require.Zero(t, s.Anew(event.Routine))
	before, _ := appendChained(t, s, "third")
	require.Equal(t, last, before)
	require.NoError(t, s.Close())

	s = open(t, m, "/spool", Options{Keys: keys})
	r := s.Reader(DefaultConsumer, event.Routine)
	_, err = r.Next(10, 1<<20)
	require.NoError(t, err)
	require.NoError(t, r.Ack(2))
	require.NoError(t, s.Close())
	require.NoError(t, m.Remove("/spool/routine/00000000000000000001-0000000001.seg"))
	s = open(t, m, "/spool", Options{Keys: keys})
	before, _ = appendChained(t, s, "third")
	require.Equal(t, last, before)
	require.Empty(t, s.Losses())
}
