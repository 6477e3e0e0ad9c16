package plate

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSeen(t *testing.T) {
	start := time.Date(2026, 3, 14, 8, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	s := NewSeen(2, time.Minute)

	require.False(t, s.Has("a", at(0)))
	require.False(t, s.Has("a", at(0)), "to ask is not to remember")
	s.Add("a", at(0))
	require.True(t, s.Has("a", at(60)), "a minute after")
	require.True(t, s.Has("a", at(120)), "a minute after it was met last")
	require.False(t, s.Has("a", at(181)))

	s.Add("a", at(200))
	s.Add("b", at(201))
	require.True(t, s.Has("a", at(202)))
	s.Add("c", at(203))
	require.Equal(t, 2, s.Len())
	require.True(t, s.Has("a", at(204)), "it was met after b")
	require.False(t, s.Has("b", at(204)))
	require.True(t, s.Has("c", at(204)))

	require.True(t, s.Has("c", at(0)), "a clock that was set back forgets nothing")

	s.Add("", at(204))
	require.False(t, s.Has("", at(204)), "a message without a key is always a new one")

	none := NewSeen(0, time.Minute)
	none.Add("a", at(0))
	require.True(t, none.Has("a", at(0)), "one is the least")
}

// Beside a plain list of all that was added.
func TestSeenBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(t, "size")
		s := NewSeen(size, 10*time.Second)
		now := time.Unix(0, 0)
		var recent []string // the latest last
		met := map[string]time.Time{}
		for range rapid.IntRange(0, 50).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 6).Draw(t, "pass")) * time.Second)
			key := strconv.Itoa(rapid.IntRange(0, 8).Draw(t, "key"))
			last, known := met[key]
			want := known && now.Sub(last) <= 10*time.Second
			if want {
				// Those met since then must be fewer than the size.
				between := map[string]bool{}
				for i := len(recent) - 1; i >= 0 && recent[i] != key; i-- {
					between[recent[i]] = true
				}
				want = len(between) < size
			}
			require.Equal(t, want, s.Has(key, now))
			s.Add(key, now)
			require.True(t, s.Has(key, now))
			require.LessOrEqual(t, s.Len(), size)
			recent = append(recent, key)
			met[key] = now
		}
	})
}

func TestMessageKey(t *testing.T) {
	require.Equal(t, "2:sn1:7", MessageKey("sn", "7"))
	require.NotEqual(t, MessageKey("a", "bc"), MessageKey("ab", "c"))
	require.NotEqual(t, MessageKey("a1:b"), MessageKey("a", "b"))
	require.Empty(t, MessageKey("sn", ""))
	require.Empty(t, MessageKey())
	require.Empty(t, MessageKey(""))
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.StringN(1, 5, -1))
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		if MessageKey(a...) == MessageKey(b...) {
			require.ElementsMatch(t, a, b)
		}
	})
}
