package supervise

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLinkThatEndsOften: a link that delivers for 15 s each time is watched for most of the time.
func TestLinkThatEndsOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 12*time.Second)
		begin := time.Now()
		var up time.Duration
		for time.Since(begin) < 10*time.Minute {
			c := <-b.end.device
			s := time.Now()
			for time.Since(s) < 15*time.Second {
				send(t, c, "ok\n")
				time.Sleep(150 * time.Millisecond)
			}
			_ = c.Close()
			up += time.Since(s)
		}
		require.Greater(t, up, time.Since(begin)*3/4)
		go func() {
			for range b.end.device {
			}
		}()
		b.stop()
		close(b.end.device)
	})
}
