package supervise

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A clock that is wrong is told once, with the device's state, and no more when it is right.
func TestWrongClockIsInTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		dev := <-b.end.device
		send(t, dev, "ok")
		require.Empty(t, b.State().Detail)
		b.sawClock(time.Hour, false)
		require.Equal(t, "online", b.State().State)
		require.Contains(t, b.State().Detail, "its clock is 1 h ahead of this box's")
		b.sawClock(time.Hour+time.Second, true)
		b.sawClock(0, false) // its web server goes by another clock than what it observes with
		require.Contains(t, b.State().Detail, "1 h ahead")
		b.sawClock(time.Second, true)
		require.Empty(t, b.State().Detail)
		b.stop()
	})
}

// A record that comes while what came before is looked at counts: the device is not silent,
// and its link stays.
func TestRecordWhileStrangeBytesAreLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		looks, seen := make(chan struct{}), make(chan struct{})
		b.dev.Belongs = func(sample []byte) string {
			require.Equal(t, "gibberish\n", string(sample))
			close(looks)
			<-seen
			return "these are records of another"
		}
		dev := <-b.end.device
		synctest.Wait()
		send(t, dev, "gibberish")
		<-looks
		send(t, dev, "ok")
		close(seen)
		synctest.Wait()
		require.Equal(t, "online", b.State().State)
		send(t, dev, "ok")
		require.Len(t, b.end.openings(), 1)
		require.NotContains(t, b.said(), "device.silent")
		b.stop()
	})
}
