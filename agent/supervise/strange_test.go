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
		// Who sets it wrongly again sees what it is now. What moves a little is no news.
		var told int
		b.hooks.Changed = func() { told++ }
		b.sawClock(2*time.Hour, true)
		require.Contains(t, b.State().Detail, "2 h ahead")
		require.Equal(t, 1, told)
		b.sawClock(2*time.Hour+20*time.Second, true)
		b.sawClock(2*time.Hour, true)
		require.Equal(t, 1, told)
		b.sawClock(-40*time.Second, true)
		b.sawClock(-41*time.Second, true)
		require.Contains(t, b.State().Detail, "41 s behind")
		require.Equal(t, 2, told)
		offset, known := b.ClockOffset()
		require.True(t, known)
		require.Equal(t, -41*time.Second, offset)
		b.sawClock(time.Second, true)
		require.Empty(t, b.State().Detail)
		require.Equal(t, 3, told)
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
