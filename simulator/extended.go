package simulator

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// Extended records of newer firmware, in the order in which a public capture
// has them. Only NB1 is understood. The others are of the right shape and vary
// with what the portal counts, but mean nothing.

// windows is how the counts fall into the four energy windows.
var windows = [4]float64{0.280, 0.369, 0.180, 0.171}

// entryWindows is how many AS come after the first burst of an occupancy.
const entryWindows = 15

// extended sends a record whose fields are given as text.
func (p *portal) extended(at time.Duration, tag tsa.Tag, fields string) {
	p.send(at, tsa.Record{Tag: tag, Fields: []byte(fields)})
}

// extendedBefore goes before NB.
func (p *portal) extendedBefore(at time.Duration) {
	if !p.set.Extended {
		return
	}
	p.extended(at, tsa.NC, fmt.Sprintf("%.8f,%.8f", -5.5+0.2*p.habit.NormFloat64(), 0.61+0.01*p.habit.NormFloat64()))
	p.extended(at, tsa.NX, "9.50437640,-0.99599343")
}

// extendedNeutron goes after NB.
func (p *portal) extendedNeutron(at time.Duration) {
	if p.set.Extended {
		p.send(at, tsa.Record{Tag: tsa.NB1, NeutronRates: p.neutronCPS})
	}
}

// extendedAfter goes after GB.
func (p *portal) extendedAfter(at time.Duration) {
	if !p.set.Extended {
		return
	}
	p.extended(at, tsa.RW, "000000,000000,000000,000000")
	p.extended(at, tsa.AC, fmt.Sprintf("%.8f,%.8f", 1.28+0.02*p.habit.NormFloat64(), 1.82+0.02*p.habit.NormFloat64()))
	total := float64(sumOf(p.gammaCPS, groupPlaces["sum"][0]))
	var rates, shares []string
	for _, w := range windows {
		rates = append(rates, fmt.Sprintf("%.8f", w*total))
		shares = append(shares, fmt.Sprintf("%.4f", w))
	}
	p.extended(at, tsa.AB1, strings.Join(rates, ","))
	p.extended(at, tsa.AR, strings.Join(shares, ","))
}

// extendedNeutronScan goes before NS and NA.
func (p *portal) extendedNeutronScan(at time.Duration) {
	if p.set.Extended {
		x := 2 * p.habit.NormFloat64()
		p.extended(at, tsa.NZ, fmt.Sprintf("%.8f,%.8f", x, x))
	}
}

// extendedSample goes after GS and GA.
func (p *portal) extendedSample(at time.Duration, gamma [places]int) {
	if !p.set.Extended {
		return
	}
	total := float64(sumOf(gamma, groupPlaces["sum"][0]))
	n := 1
	if p.occ.index == 0 {
		n = entryWindows
	}
	for range n {
		p.extended(at, tsa.AS, fmt.Sprintf("%06d,%06d,%06d,%06d", poisson(p.habit, windows[0]*total),
			poisson(p.habit, windows[1]*total), poisson(p.habit, windows[2]*total), poisson(p.habit, windows[3]*total)))
	}
	var values strings.Builder
	for i := range 5 {
		if i > 0 {
			values.WriteByte(',')
		}
		fmt.Fprintf(&values, "%8.4f", math.Max(-99, math.Min(999, 0.2*float64(i)*p.sigma+0.3*p.habit.NormFloat64())))
	}
	p.extended(at, tsa.AX, values.String())
	rise := int(math.Max(0, p.sigma))
	p.extended(at, tsa.AM, fmt.Sprintf("%06d,%06d,%06d,%06d", 170+4*rise, 220+rise, max(5, 101-rise), max(5, 98-rise)))
	for i, limit := range [...]float64{10, 30, 60} {
		if p.sigma >= limit {
			p.extended(at, tsa.AA, fmt.Sprintf("%06d,%06d,%06d,11111A", i+1, i+1, i+1))
		}
	}
}
