package event

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The hashes of these events were computed by another program, by the words of
// docs/evidence.md.
const (
	chainFirst = `{"id":"a","sequence":"00000000000000000001","prevhash":"0000000000000000000000000000000000000000000000000000000000000000","data":{"note":"one"}}`
	afterFirst = "9392626593827bc9d57dea5cda11f27b87c80d0002b3c5adeccb704321defc99"

	chainSecond = `{"id":"b","sequence":"00000000000000000002","prevhash":"9392626593827bc9d57dea5cda11f27b87c80d0002b3c5adeccb704321defc99","data":{"note":"a \"private\":{ in a text","private":{"salt":"c2FsdA","plate":"BC 1234 AA"}}}`
	// publicSecond is what a receiver behind a redacting uplink gets.
	publicSecond = `{"id":"b","sequence":"00000000000000000002","prevhash":"9392626593827bc9d57dea5cda11f27b87c80d0002b3c5adeccb704321defc99","data":{"note":"a \"private\":{ in a text","private":"sha256:835fa8b00616a8d4460a342a45e75cab90b4e55b422ef33cdd76bfba943d4c6f"}}`
	afterSecond  = "d7df55edb0585ccb4525b9af94c1a46afcb4194521e0e462f7ae613d8634f058"
)

func TestChain(t *testing.T) {
	require.Equal(t, afterFirst, After([]byte(chainFirst)).String())
	require.Equal(t, afterSecond, After([]byte(chainSecond)).String())
	require.Equal(t, publicSecond, string(Redact([]byte(chainSecond))))
	require.Equal(t, afterSecond, After([]byte(publicSecond)).String(), "the redacted form has the same hash")
	require.Equal(t, publicSecond, string(Redact([]byte(publicSecond))), "there is nothing left to redact")
	require.Equal(t, chainFirst, string(Redact([]byte(chainFirst))))

	previous, ok := PrevHash([]byte(chainSecond))
	require.True(t, ok)
	require.Equal(t, afterFirst, previous.String())

	for i := range chainSecond {
		forged := []byte(chainSecond)
		forged[i] ^= 1
		require.NotEqual(t, afterSecond, After(forged).String(), "byte %d", i)
	}
}

func TestHashText(t *testing.T) {
	h := Hash{0xab, 31: 1}
	require.Equal(t, "ab"+strings.Repeat("0", 61)+"1", h.String())
	back, err := ParseHash(h.String())
	require.NoError(t, err)
	require.Equal(t, h, back)
	for _, bad := range []string{"", "ab", h.String() + "0", strings.Repeat("g", 64)} {
		_, err := ParseHash(bad)
		require.Error(t, err, bad)
	}
	for _, bad := range []string{``, `{}`, `{"id":"x","prevhash":"00"}`, `{"id":"x","prevhash":"` + strings.Repeat("x", 64) + `"}`} {
		_, ok := PrevHash([]byte(bad))
		require.False(t, ok, bad)
		require.Equal(t, Link(Hash{}, Digest([]byte(bad))), After([]byte(bad)), bad)
	}
}

// Nothing that comes over a line may make the chain's functions panic.
func FuzzChain(f *testing.F) {
	f.Add([]byte(chainFirst))
	f.Add([]byte(chainSecond))
	f.Add([]byte(publicSecond))
	f.Add([]byte(`"private":{}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		public := Redact(text)
		require.Equal(t, Digest(text), Digest(public))
		require.Equal(t, After(text), After(public))
	})
}

func BenchmarkAfter(b *testing.B) {
	text := draftOf600Bytes(b).Encode(1184, Hash{1})
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		After(text)
	}
}
