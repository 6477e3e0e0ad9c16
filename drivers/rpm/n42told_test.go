package rpm

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
)

// A crash between the ledger and the event makes the same event again; one after it makes
// none.
func TestN42Told(t *testing.T) {
	var l drivers.MemoryLedger
	at := time.Unix(1_800_000_000, 0)
	id, err := intend(&l, "a")
	require.NoError(t, err)
	again, err := intend(&l, "a")
	require.NoError(t, err)
	require.Equal(t, id, again)
	require.False(t, toldBefore(&l, "a"))
	require.NoError(t, remember(&l, "a", at))
	require.True(t, toldBefore(&l, "a"))
	require.Empty(t, l.Get("next:a"))

	for i := range maxTold - 1 {
		require.NoError(t, l.Put(fmt.Sprintf("doc:%d", i), fmt.Sprint(at.Unix()+1+int64(i))))
	}
	require.NoError(t, remember(&l, "z", at.Add(24*time.Hour)))
	left := 0
	l.Each("doc:", func(string, string) bool { left++; return true })
	require.Equal(t, maxTold+1-maxTold/10, left)
	require.False(t, toldBefore(&l, "a"), "the oldest are forgotten")
	require.True(t, toldBefore(&l, "z"))
}
