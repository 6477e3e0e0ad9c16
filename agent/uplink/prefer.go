package uplink

import (
	"context"
	"net/url"
	"slices"
	"time"
)

// seekBetter calls the brokers that come before the one in use in the list, and
// leaves the session as soon as one of them answers. It says whether it did, at
// the latest when ctx ends.
func (u *Uplink) seekBetter(ctx context.Context, inUse *url.URL, leave func()) <-chan bool {
	found := make(chan bool, 1)
	preferred := u.brokers[:slices.Index(u.brokers, inUse)]
	if len(preferred) == 0 {
		found <- false
		return found
	}
	pause := u.o.ReturnAfter
	for range u.returns {
		pause = min(2*pause, max(maxReturn, u.o.ReturnAfter))
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				found <- false
				return
			case <-time.After(pause):
			}
			for _, broker := range preferred {
				// Whether it takes a login is seen only when the session is given up,
				// because a second one under this client id would end the first.
				nc, err := dial(ctx, broker, &u.o, &trust{})
				if err != nil {
					continue
				}
				_ = nc.Close() // it was only to see
				u.log.Info("a preferred broker answers again; the session with the other one ends", "broker", broker.String(), "was", inUse.String())
				found <- true
				leave()
				return
			}
		}
	}()
	return found
}
