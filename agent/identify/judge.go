// Package identify finds out which instrument is at the other end of a serial port or a
// network connection: it listens, and tries what it hears on every profile's driver. It
// writes nothing unless it is told to probe.
//
// judge.go decides what was heard, line.go knows the settings of serial lines, listen.go
// listens, probe.go asks, network.go looks through a range of addresses, report.go says
// what came of it.
package identify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/protocol/order"
)

// Bounds of what is judged.
const (
	// maxHeard is how many bytes of one link are kept and judged; a document with
	// pictures may be long.
	maxHeard = 4 << 20
	// joinWithin is how far apart two pieces may be that are kept as one, so that a link
	// that gives single bytes costs no more than others.
	joinWithin = 2 * time.Millisecond
	// playTime bounds the work of one driver on what was heard.
	playTime = 10 * time.Second
	// wellRead is the part of records, and of bytes, that must be read for a profile to
	// fit. The rest is what a bad line does, and the half record at either end.
	wellRead = 0.85
	// maxRivals is how many other profiles are named.
	maxRivals = 8
)

// Level is how sure it is.
type Level string

// The levels, from most to least.
const (
	// Certain: enough records that prove something, and no other profile reads them.
	Certain Level = "certain"
	// Likely: one profile fits better than others, and what it read proves too little.
	Likely Level = "likely"
	// Equal: several profiles fit, and what was heard can't tell which.
	Equal Level = "equal"
	// Possible: only profiles fit that take anything.
	Possible Level = "possible"
	// Unknown: something came, and no profile fits.
	Unknown Level = "unknown"
	// Silent: nothing came.
	Silent Level = "silent"
	// Failed: the link could not be listened to.
	Failed Level = "failed"
)

// heard is what came over a link, with its times.
type heard struct {
	chunks []drivers.Chunk
	bytes  int
}

// add keeps what came at a moment, counted from when the link was opened. It gives false
// when there is no room for more.
func (h *heard) add(at time.Duration, b []byte) bool {
	b = b[:min(len(b), maxHeard-h.bytes)]
	h.bytes += len(b)
	if k := len(h.chunks); k > 0 && at-h.chunks[k-1].At < joinWithin {
		h.chunks[k-1].Bytes = append(h.chunks[k-1].Bytes, b...)
	} else if len(b) > 0 {
		h.chunks = append(h.chunks, drivers.Chunk{At: at, Bytes: slices.Clone(b)})
	}
	return h.bytes < maxHeard
}

// all is every byte.
func (h *heard) all() []byte {
	b := make([]byte, 0, h.bytes)
	for _, c := range h.chunks {
		b = append(b, c.Bytes...)
	}
	return b
}

// candidate is a profile with settings with which it may fit.
type candidate struct {
	profile *profiles.Profile
	driver  drivers.Driver
	variant profiles.Variant // Text is "" for the profile's own settings
	proof   int              // place in profiles.Proofs
	asks    bool             // the driver asks before anything came
}

// new makes the instrument.
func (c *candidate) new() (drivers.Instrument, error) {
	return c.driver.New(func(settings any) error { return c.profile.DecodeVariant(c.variant, settings) })
}

func (c *candidate) name() string {
	if c.variant.Text == "" {
		return c.profile.Name
	}
	return c.profile.Name + " " + c.variant.Text
}

// kin is the profile that it is like, or itself.
func (c *candidate) kin() string { return cmp.Or(c.profile.Identify.Like, c.profile.Name) }

// suits says how well a profile's defaults suit a kind of link.
func (c *candidate) suits(scheme string) int {
	_, port := c.profile.Link["port"]
	_, data := c.profile.Link["data"]
	switch {
	case port == data:
		return 1
	case port == (scheme == "tcp"):
		return 2
	}
	return 0
}

// Recogniser knows every profile.
type Recogniser struct {
	candidates []candidate
	set        *profiles.Set
}

// The schemes of links that are listened to.
var streamSchemes = []string{"tcp", "serial"}

// New makes a recogniser of all profiles of a set whose driver reads a stream of bytes.
func New(set *profiles.Set, lookup profiles.Lookup) *Recogniser {
	r := &Recogniser{set: set}
	for _, name := range set.Names() {
		p, ok := set.Get(name)
		if !ok {
			continue // it is told in the set's problems
		}
		d, ok := lookup(p.Driver)
		if !ok {
			continue
		}
		all := append([]profiles.Variant{{Proof: p.Identify.Proof}}, p.Identify.Variants...)
		for _, v := range all {
			c := candidate{profile: p, driver: d, variant: v, proof: slices.Index(profiles.Proofs, v.Proof)}
			instrument, err := c.new()
			if err != nil {
				continue // it needs settings that only its site knows
			}
			c.asks = slices.ContainsFunc(streamSchemes, func(s string) bool { return slices.Contains(d.Schemes, s) }) && asks(instrument)
			r.candidates = append(r.candidates, c)
		}
	}
	return r
}

// asks plays a silent device to a driver, and says whether it sends something.
func asks(instrument drivers.Instrument) bool {
	ctx, cancel := context.WithTimeout(context.Background(), playTime)
	defer cancel()
	played, _ := drivers.Play(ctx, instrument, []drivers.Chunk{{}, {At: 5 * time.Second}}) // why it ended does not matter
	return played.Written > 0
}

// fit is how a candidate reads what was heard.
type fit struct {
	*candidate
	records  int
	unparsed int // pieces
	lost     int // bytes of those
	of       int // bytes in all
	matched  bool
	proof    int
	broken   bool // the driver gave up
}

// good says whether it reads nearly all.
func (f *fit) good() bool {
	return f.records > 0 && !f.broken &&
		float64(f.records) >= wellRead*float64(f.records+f.unparsed-1) && f.unparsed <= f.records &&
		float64(f.of-f.lost) >= wellRead*float64(f.of)
}

// enough says whether that proves something.
func (f *fit) enough() bool { return f.good() && f.strict() && f.records >= f.profile.Identify.Records }

// strict says whether one record proves something.
func (f *fit) strict() bool { return f.proof <= slices.Index(profiles.Proofs, profiles.ProofGrammar) }

// score orders those that fit, and then those that do not.
func (f *fit) score() float64 {
	if f.records == 0 {
		return 0
	}
	s := float64(f.records) / float64(f.records+f.unparsed) * float64(f.of-f.lost) / float64(max(f.of, 1))
	if f.good() {
		s += float64(len(profiles.Proofs) - f.proof)
	}
	return s
}

// says is the fit in words.
func (f *fit) says() string {
	return fmt.Sprintf("%d of %d records parsed", f.records, f.records+f.unparsed)
}

// verdict is what was made of what was heard.
type verdict struct {
	level Level
	best  *fit
	// rivals fit as well if the level is Equal; otherwise they are the closest others.
	rivals []*fit
}

// judge tries what was heard on every profile. answers names the profile whose requests
// were answered by it, "" if nobody asked: an answer to a request proves more than the
// same bytes that come unasked.
func (r *Recogniser) judge(ctx context.Context, scheme string, h *heard, answers string) verdict {
	if h.bytes == 0 {
		return verdict{level: Silent}
	}
	all := h.all()
	var fits []*fit
	for i := range r.candidates {
		c := &r.candidates[i]
		if !slices.Contains(c.driver.Schemes, scheme) {
			continue
		}
		// What takes anything for the answer to its request says nothing of what came unasked.
		if c.asks && profiles.Proofs[c.proof] == profiles.ProofNone && c.profile.Name != answers {
			continue
		}
		f := &fit{candidate: c, of: h.bytes, proof: c.proof}
		if p := c.profile.Identify.Pattern; p != nil {
			if f.matched = p.Match(all); !f.matched {
				continue
			}
		}
		if f.play(ctx, h); f.records == 0 {
			continue
		}
		if c.profile.Name == answers {
			f.proof = max(f.proof-1, 0)
		}
		fits = append(fits, f)
	}
	fits = oneOfEachKin(fits, scheme)
	order.Stable(fits, func(a, b *fit) int { return cmp.Compare(b.score(), a.score()) })
	return decide(fits)
}

// Reads names the profile that reads what came over a link of a kind ("tcp", "serial"), if one
// does and no other; says tells how well. Both are empty if that is not sure.
func (r *Recogniser) Reads(ctx context.Context, scheme string, b []byte) (profile, says string) {
	h := &heard{}
	h.add(0, b)
	v := r.judge(ctx, scheme, h, "")
	if v.level != Certain && v.level != Likely {
		return "", ""
	}
	return v.best.profile.Name, v.best.says()
}

// play runs the driver on what was heard.
func (f *fit) play(ctx context.Context, h *heard) {
	defer func() {
		if recover() != nil {
			f.records, f.broken = 0, true // a driver that these bytes break is none for them
		}
	}()
	instrument, err := f.new()
	if err != nil {
		return
	}
	// The end of listening is no reason to leave what was heard unjudged.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), playTime)
	defer cancel()
	played, err := drivers.Play(ctx, instrument, h.chunks)
	f.records, f.unparsed, f.broken = played.Valid, len(played.Unparsed), err != nil
	for _, u := range played.Unparsed {
		f.lost += len(u.Raw)
	}
	f.lost = min(f.lost, f.of)
}

// oneOfEachKin keeps of profiles that are like each other, and of the variants of one, the
// one that fits best.
func oneOfEachKin(fits []*fit, scheme string) []*fit {
	better := func(a, b *fit) int {
		matched := func(f *fit) int {
			if f.matched {
				return 1
			}
			return 0
		}
		return cmp.Or(
			cmp.Compare(b.score(), a.score()),
			cmp.Compare(matched(b), matched(a)),
			cmp.Compare(b.suits(scheme), a.suits(scheme)),
			cmp.Compare(len(a.variant.Text), len(b.variant.Text)),
			cmp.Compare(a.profile.Identify.Like, b.profile.Identify.Like), // first the one that others are like
		)
	}
	order.Stable(fits, better)
	seen := map[string]bool{}
	return slices.DeleteFunc(fits, func(f *fit) bool {
		kin := f.kin()
		if profiles.Proofs[f.proof] == profiles.ProofNone {
			kin = f.profile.Name // whose it is can't be told, so all are named
		}
		known := seen[kin]
		seen[kin] = true
		return known
	})
}

// decide gives the level. The fits are sorted.
func decide(fits []*fit) verdict {
	v := verdict{level: Unknown}
	var good []*fit
	for _, f := range fits {
		if f.good() {
			good = append(good, f)
		}
	}
	if len(good) == 0 {
		v.rivals = fits[:min(len(fits), maxRivals)]
		return v
	}
	v.best, v.rivals = good[0], fits[1:min(len(fits), 1+maxRivals)]
	// Those that are as good: a strict one leaves those behind that take anything.
	same := slices.DeleteFunc(slices.Clone(good[1:]), func(f *fit) bool {
		if v.best.strict() {
			return !f.strict()
		}
		return f.proof > v.best.proof
	})
	switch {
	case profiles.Proofs[v.best.proof] == profiles.ProofNone:
		v.level, v.rivals = Possible, good[1:min(len(good), 1+maxRivals)]
	case len(same) > 0:
		v.level, v.rivals = Equal, same[:min(len(same), maxRivals)]
	case v.best.enough():
		v.level = Certain
	default:
		v.level = Likely
	}
	return v
}

// settled says that more of the same would change nothing.
func (v verdict) settled() bool {
	const more = 5
	switch v.level {
	case Certain:
		return true
	case Likely, Equal:
		return v.best.records >= more*v.best.profile.Identify.Records
	}
	return false
}

// asText says whether bytes look like what an instrument sends that speaks in characters.
// What comes at a wrong baud never does for long.
func asText(b []byte) bool {
	const enough = 12
	if len(b) < enough {
		return false
	}
	odd := 0
	for _, c := range b {
		if (c < ' ' && !strings.ContainsRune("\x01\x02\x03\x04\x06\x07\t\n\r", rune(c))) || c >= 0x7f {
			odd++
		}
	}
	return 50*odd <= len(b)
}
