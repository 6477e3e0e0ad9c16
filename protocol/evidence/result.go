package evidence

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/order"
)

// Totals counts what was fed.
type Totals struct {
	// Messages is everything, Events what is in a chain.
	Messages uint64 `json:"messages"`
	Events   uint64 `json:"events"`
	// Redacted counts the events in their public form, Full those that hold personal
	// data. Other events have none.
	Redacted uint64 `json:"redacted"`
	Full     uint64 `json:"full"`
	// Other counts states, notices and parts of attachments.
	Other uint64 `json:"other"`
	// Unreadable counts what is no event.
	Unreadable uint64 `json:"unreadable"`
}

// Stream sums up one class of one agent.
type Stream struct {
	Agent string      `json:"agent"`
	Class event.Class `json:"class"`
	// First and Last bound the sequences that came; zero if none did.
	First uint64 `json:"first_sequence"`
	Last  uint64 `json:"last_sequence"`
	// Distinct counts different events, Duplicates those that came again.
	Distinct   uint64 `json:"distinct"`
	Duplicates uint64 `json:"duplicates"`
	// Skipped counts the events that a filter kept back and whose digests fit into
	// the chain, or follow on a loss, where the chain can't be followed.
	Skipped uint64 `json:"skipped"`
	// Lost counts the missing ones that the agent says it lost, Missing all others.
	Lost    uint64 `json:"lost"`
	Missing uint64 `json:"missing"`
	// Uncompared counts what came so late again that it could not be compared.
	Uncompared uint64 `json:"uncompared"`
	// Checkpoints counts the signed heads of this class.
	Checkpoints uint64 `json:"checkpoints"`
	// SignedTo is the last sequence that a checkpoint covers, SignedTime when it was
	// signed and SignedBy the fingerprint of its key; absent if none does.
	SignedTo   uint64      `json:"signed_to,omitempty"`
	SignedTime *event.Time `json:"signed_time,omitempty"`
	SignedBy   string      `json:"signed_by,omitempty"`
	// NotCovered counts the events that no checkpoint covers: whoever can write the
	// recording could have changed them, if they are the last ones.
	NotCovered uint64 `json:"not_covered"`
}

// Why a key is trusted.
const (
	// TrustGiven: the user gave it.
	TrustGiven = "given"
	// TrustFirstUse: it was the first one in the recording, so whoever made the
	// recording chose it.
	TrustFirstUse = "first use"
	// TrustEndorsed: the trusted key before it endorses it.
	TrustEndorsed = "endorsed"
)

// KeyUse is a key that is taken for the agent's, and why.
type KeyUse struct {
	Agent       string `json:"agent"`
	PublicKey   string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	// Trust is "given", "first use" or "endorsed".
	Trust string `json:"trust"`
	// Checkpoints counts those that it has signed.
	Checkpoints uint64 `json:"checkpoints"`
}

// Result is what is known so far.
type Result struct {
	Totals  Totals   `json:"totals"`
	Streams []Stream `json:"streams"`
	Keys    []KeyUse `json:"keys"`
	// Findings are in the order in which they came up, gaps last. More counts those
	// beyond what is kept.
	Findings []Finding `json:"findings"`
	More     uint64    `json:"more_findings"`
}

// Worst is the gravest severity of the findings, "" if there are none.
func (r Result) Worst() Severity {
	order := []Severity{"", Note, Warning, Error}
	worst := 0
	for _, f := range r.Findings {
		worst = max(worst, slices.Index(order, f.Severity))
	}
	return order[worst]
}

// Result tells what is known so far.
func (v *Verifier) Result() Result {
	r := Result{Totals: v.total, Streams: []Stream{}, Keys: []KeyUse{}}
	found := findings{list: slices.Clone(v.found.list), more: v.found.more}
	for _, name := range slices.Sorted(maps.Keys(v.agents)) {
		a := v.agents[name]
		for _, k := range a.keys {
			r.Keys = append(r.Keys, KeyUse{name, FormatKey(k.key), Fingerprint(k.key), k.trust, k.used})
		}
		for _, s := range a.unknown {
			v.reportUnknown(a, s, &found)
		}
		for _, s := range a.streams {
			if len(s.runs) > 0 || len(s.claimed) > 0 || len(s.losses) > 0 {
				r.Streams = append(r.Streams, s.result(&found))
			}
		}
	}
	r.Findings, r.More = found.list, found.more
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
	return r
}

// result sums up, and adds what can be said only when no more comes.
func (s *stream) result(found *findings) Stream {
	sum := s.sum
	sum.Agent, sum.Class = s.a.name, s.class
	if s.signed.sequence > 0 {
		at := s.signed.time
		sum.SignedTo, sum.SignedTime, sum.SignedBy = s.signed.sequence, &at, Fingerprint(s.signed.key)
	}
	losses := slices.Clone(s.losses)
	order.By(losses, func(a, b loss) int { return cmp.Compare(a.first, b.first) })
	gaps := slices.Clone(s.closed)
	before, end := gap{1, 0}, gap{1, ^uint64(0)} // of all that came
	if n := len(s.runs); n > 0 {
		before.last, end.first = s.runs[0].first-1, s.runs[n-1].last+1
	}
	for i, r := range s.runs {
		sum.NotCovered += uncovered(r)
		if i == 0 || r.first == s.runs[i-1].last+1 {
			continue
		}
		g := gap{s.runs[i-1].last + 1, r.first - 1}
		if i == 1 && s.runs[0].first == s.kept && s.runs[0].last == s.kept {
			f := finding(KindLate, fmt.Sprintf("the recording begins with a checkpoint, and goes on with event %d", r.first))
			found.add(s.at(f, g.first, g.last))
			before.last = g.last
			continue
		}
		gaps = append(gaps, g)
	}
	// What was lost before the recording begins does not count as missing, but as lost.
	s.explain(found, &sum, losses, KindLost, before)
	for _, g := range gaps {
		s.explain(found, &sum, losses, KindGap, g)
	}
	var claimed uint64
	for _, c := range s.claimed {
		if !c.kept || len(s.runs) > 0 {
			claimed = max(claimed, c.sequence)
		}
	}
	lost := slices.ContainsFunc(losses, func(l loss) bool { return l.reason != "" && l.first <= claimed && claimed <= l.last })
	if n := len(s.runs); n == 0 && claimed > 0 && !lost {
		f := finding(KindTail, fmt.Sprintf("the recording has no %s event, and a checkpoint says that there are events up to %d", s.class, claimed))
		if len(s.notices) > 0 {
			// A filter kept all of them back, and the recording began too late to follow
			// the chain over them.
			f.Severity = Note
			f.Text += "; notices say that a filter keeps them back"
		}
		found.add(s.at(f, claimed, claimed))
	} else if n > 0 && claimed >= end.first {
		s.explain(found, &sum, losses, KindTail, gap{end.first, claimed})
		end.first = claimed + 1
	}
	s.explain(found, &sum, losses, KindLost, end)
	for _, q := range s.restarts {
		i := slices.IndexFunc(losses, func(l loss) bool { return l.first < q && q <= l.last+1 })
		if i < 0 {
			found.add(s.at(finding(KindRestart, fmt.Sprintf("event %d says that nothing was before it", q)), q, q))
			continue
		}
		f := finding(KindRestartKnown, "the agent could not read what was before it: "+cmp.Or(losses[i].reason, "it says so at its start"))
		found.add(s.at(s.told(f, losses[i]), q, q))
	}
	return sum
}

// explain tells of a gap: which of it was lost, and which is missing; nothing is said of
// that if the kind is KindLost.
func (s *stream) explain(found *findings, sum *Stream, losses []loss, kind Kind, g gap) {
	gone := func(first, last uint64) {
		text := "missing, and no loss explains it"
		if kind == KindTail {
			text = "missing at the end"
		}
		sum.Missing += last - first + 1
		found.add(s.at(finding(kind, text), first, last))
	}
	var explained uint64 // the last sequence of which is known where it is
	notices := slices.Clone(s.notices)
	order.By(notices, func(a, b notice) int { return cmp.Compare(a.first, b.first) })
	missing := func(first, last uint64) {
		if kind == KindLost {
			return
		}
		for _, n := range notices {
			if n.last < first || n.first > last {
				continue
			}
			if n.first > first {
				gone(first, n.first-1)
				first = n.first
			}
			end := min(n.last, last)
			f := finding(KindUnchecked, fmt.Sprintf("a notice of a filter tells of the sequences %d to %d", n.first, n.last))
			if explained > 0 && explained+1 == first {
				f.Severity, explained = Note, end
				sum.Skipped += end - first + 1
			} else {
				sum.Missing += end - first + 1
			}
			found.add(s.at(f, first, end))
			if end == last {
				return
			}
			first = end + 1
		}
		gone(first, last)
	}
	for _, l := range losses {
		if l.last < g.first || l.first > g.last || l.reason == "" {
			continue
		}
		if l.first > g.first {
			missing(g.first, l.first-1)
			g.first = l.first
		}
		last := min(l.last, g.last)
		f := finding(KindLost, fmt.Sprintf("lost by the agent (%s): %s", l.reason, l.detail))
		sum.Lost += last - g.first + 1
		explained = last
		found.add(s.at(s.told(f, l), g.first, last))
		if last == g.last {
			return
		}
		g.first = last + 1
	}
	missing(g.first, g.last)
}

// told makes a warning of what is explained by a record that no checkpoint
// covers.
func (s *stream) told(f Finding, l loss) Finding {
	told := s.a.stream(l.class)
	if i, holds := told.find(l.at); holds && l.at <= told.runs[i].signed {
		return f
	}
	f.Severity = Warning
	f.Meaning += fmt.Sprintf(" No checkpoint covers that record yet (%s event %d): it could have been added.", l.class, l.at)
	return f
}
