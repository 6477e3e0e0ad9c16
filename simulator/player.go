package simulator

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// stream gives the items of a device in order; after false, err tells whether
// it failed.
type stream interface {
	next() (item, bool)
	err() error
}

// player paces a stream onto a link.
type player struct {
	lane, id string
	stream   stream
	link     link
	speed    float64 // 0 is as fast as the client reads
	log      *slog.Logger
	// tell takes the truth; it may be called from any goroutine.
	tell func(Entry)

	account  account
	session  int // the client that got the last record, 0 for none
	lost     int // records in a row
	started  atomic.Pointer[time.Time]
	position atomic.Int64 // simulated time of the last item
}

// play sends the stream from its beginning, which is now.
func (p *player) play(ctx context.Context) error {
	now := time.Now()
	p.started.Store(&now)
	for {
		it, ok := p.stream.next()
		if !ok {
			p.tellLost(it.at)
			return p.stream.err()
		}
		if err := p.until(ctx, it.at); err != nil {
			return err
		}
		p.position.Store(int64(it.at))
		switch {
		case it.truth != nil:
			p.account.tell(it.truth)
			p.tell(it.truth)
		case it.link == linkBreak:
			p.account.broken(it.at, it.occ, it.fault)
			p.account.skip, p.account.skipFault = it.skip, it.fault
			p.session = 0
			if err := p.link.breakOff(p.scaled(it.down)); err != nil {
				return err
			}
		default:
			if err := p.record(ctx, it); err != nil {
				return err
			}
		}
	}
}

// record sends a record, or loses it.
func (p *player) record(ctx context.Context, it item) error {
	if len(it.bytes) == 0 {
		p.account.passed(it, false)
		return nil
	}
	if p.speed == 0 {
		// There is no clock that could run on while nobody is there.
		if err := p.link.client(ctx); err != nil {
			return err
		}
	}
	session := p.link.session()
	if p.session != 0 && session != p.session {
		p.account.broken(it.at, it.occ, noClient)
	}
	whole, skip := it, p.account.skip
	p.account.cut(&it)
	sent := true
	if len(it.bytes) > 0 {
		var err error
		if sent, err = p.link.send(ctx, it.bytes); err != nil {
			return err
		}
	}
	if !sent {
		p.lost++
		p.account.skip = skip // the next client is still to come
		p.account.passed(whole, true)
		return ctx.Err()
	}
	p.session = session
	p.tellLost(it.at)
	p.account.passed(it, false)
	return nil
}

func (p *player) tellLost(at time.Duration) {
	if p.lost == 0 {
		return
	}
	p.log.Info("records lost, nobody was connected", "records", p.lost)
	p.tell(&LinkTruth{Kind: "link", Lane: p.lane, Device: p.id, AtS: seconds(max(at, time.Duration(p.position.Load()))), What: "lost", Records: p.lost})
	p.lost = 0
}

// event tells the truth about the link.
func (p *player) event(what string) {
	at := time.Duration(p.position.Load())
	if start := p.started.Load(); start != nil && p.speed > 0 {
		at = time.Duration(float64(time.Since(*start)) * p.speed)
	}
	p.tell(&LinkTruth{Kind: "link", Lane: p.lane, Device: p.id, AtS: seconds(at), What: what})
}

func (p *player) scaled(d time.Duration) time.Duration {
	if p.speed == 0 {
		return 0
	}
	return time.Duration(float64(d) / p.speed)
}

// until waits for a simulated time.
func (p *player) until(ctx context.Context, at time.Duration) error {
	if p.speed == 0 {
		return ctx.Err()
	}
	wait := time.Until(p.started.Load().Add(p.scaled(at)))
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
