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
