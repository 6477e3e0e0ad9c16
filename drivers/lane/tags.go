package lane

import (
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/llrp"
)

// TagSettings are those of LLRPSettings that do not depend on how a reader tells tags, with the
// same meaning.
type TagSettings struct {
	GoneAfter    time.Duration `yaml:"gone_after"`
	Longest      time.Duration `yaml:"longest"`
	Antennas     []int         `yaml:"antennas"`
	WeakBelowDBM int           `yaml:"weak_below_dbm"`
}

// DefaultTagSettings are those of the driver of LLRP readers.
func DefaultTagSettings() TagSettings {
	return TagSettings{GoneAfter: 3 * time.Second, Longest: 5 * time.Minute}
}

// Tags makes of what a reader tells one event for each tag that passes, for a driver that reads
// it in its own way. It is for one goroutine at a time.
type Tags struct{ r *tagReader }

// NewTags checks the settings.
func NewTags(s TagSettings) (*Tags, error) {
	r, err := newTagReader(LLRPSettings{GoneAfter: s.GoneAfter, Longest: s.Longest, Antennas: s.Antennas, WeakBelowDBM: s.WeakBelowDBM})
	if err != nil {
		return nil, err
	}
	return &Tags{r}, nil
}

// Take takes one tag that is there.
func (x *Tags) Take(h drivers.Host, t llrp.Tag) error { return x.r.seen(h, t) }

// Due is when Tick has something to do; zero for never.
func (x *Tags) Due() time.Time { return x.r.next(false, time.Time{}) }

// Tick tells of the tags that are gone.
func (x *Tags) Tick(h drivers.Host) error { return x.r.gone(h) }

// End tells of the tags that are there when the link breaks, and gives the reason back.
func (x *Tags) End(h drivers.Host, reason error) error { return x.r.interrupted(h, reason) }
