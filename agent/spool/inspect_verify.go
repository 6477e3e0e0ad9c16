package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lanepost/lanepost/protocol/event"
)

// Verification is what reading every byte of a spool came to.
type Verification struct {
	Classes []VerifiedClass
	// Findings are all that is wrong, by class and number.
	Findings []Finding
}

// VerifiedClass counts what was read of one class.
type VerifiedClass struct {
	Class event.Class
	// Records is how many are intact and could be read, First and Last the lowest
	// and the highest of their numbers.
	Records, First, Last uint64
	// Chained is how many of them carry the hash of the one before them, and that
	// hash could be checked.
	Chained uint64
	// Bytes of segment files were read.
	Bytes int64
}

// Unexplained reports how many findings nothing accounts for.
func (v *Verification) Unexplained() (n int) {
	for _, f := range v.Findings {
		if f.Explained == "" {
			n++
		}
	}
	return n
}

// maxFindings bounds the findings that are kept; what comes after them only
// makes the last one longer.
const maxFindings = 10_000

// Verify reads every record of the spool and checks its checksums, the
// continuity of the numbers, and the hash chain. What is gone counts as explained
// if the cursor notes that it need not be reported, or an agent.loss event in the spool
// tells of it. Before and after a gap the chain can't be compared, so there it
// begins anew.
func (i *Inspection) Verify(ctx context.Context, progress func(int64)) (*Verification, error) {
	v := &Verification{}
	var told []toldLoss
	for _, c := range i.Classes {
		vc := VerifiedClass{Class: c.Class, Bytes: i.Size(Walk{Class: c.Class})}
		var link chainLink
		err := i.Walk(ctx, Walk{
			Class:    c.Class,
			Progress: progress,
			Found:    v.add,
			Record: func(r Record) error {
				if vc.Records == 0 {
					vc.First = r.Sequence
				}
				vc.Records++
				vc.Last = r.Sequence
				if f, checked := link.next(r); f.Kind != "" {
					v.add(f)
				} else if checked {
					vc.Chained++
				}
				if loss, ok := lossOf(r); ok && len(told) < maxFindings {
					told = append(told, loss)
				}
				return nil
			},
		})
		if err != nil {
			return nil, err
		}
		v.Classes = append(v.Classes, vc)
	}
	for n := range v.Findings {
		f := &v.Findings[n]
		if f.Kind == Damaged || f.Kind == Missing || f.Kind == Altered {
			f.Explained = i.explain(*f, told)
		}
	}
	return v, nil
}

func (v *Verification) add(f Finding) {
	if len(v.Findings) < maxFindings {
		v.Findings = append(v.Findings, f)
		return
	}
	last := &v.Findings[maxFindings-1]
	last.Detail = fmt.Sprintf("and more, up to %s sequence %d", f.Class, f.Last)
	if last.Class == f.Class {
		last.Last = f.Last
	}
}

// explain says what accounts for every number of a finding.
func (i *Inspection) explain(f Finding, told []toldLoss) string {
	covered := f.First
	by := ""
	for covered <= f.Last { // each turn is one loss further
		from := covered
		for _, c := range i.Classes {
			for _, k := range c.Losses {
				if c.Class == f.Class && k.Reported && k.First <= covered && covered <= k.Last {
					covered, by = k.Last+1, "the cursor notes that it was reported, or delivered and deleted"
				}
			}
		}
		for _, t := range told {
			if t.class == f.Class && t.first <= covered && covered <= t.last {
				covered = t.last + 1
				by = fmt.Sprintf("the agent.loss event %s sequence %d tells of it (%s)", t.in, t.at, t.reason)
			}
		}
		if covered == from {
			return ""
		}
	}
	return by
}

// toldLoss is what an agent.loss event says.
type toldLoss struct {
	class       event.Class
	first, last uint64
	reason      string
	in          event.Class // where the event is
	at          uint64
}

// lossOf reads an agent.loss event.
func lossOf(r Record) (t toldLoss, ok bool) {
	if !bytes.Contains(r.Payload, []byte(event.AgentLoss{}.Type())) {
		return t, false
	}
	var e struct {
		Type string          `json:"type"`
		Data event.AgentLoss `json:"data"`
	}
	if json.Unmarshal(r.Payload, &e) != nil || e.Type != (event.AgentLoss{}).Type() {
		return t, false
	}
	first, err1 := event.ParseSequence(e.Data.FirstSequence)
	last, err2 := event.ParseSequence(e.Data.LastSequence)
	known := slices.Contains(event.Classes[:], e.Data.Priority)
	t = toldLoss{e.Data.Priority, first, last, e.Data.Reason, r.Class, r.Sequence}
	return t, err1 == nil && err2 == nil && known && first <= last
}

// chainLink is the hash chain after the last record.
type chainLink struct {
	seq     uint64 // zero: nothing before
	chained bool   // it carried a hash
	after   event.Hash
}

// next checks a record against the one before. checked says that it carries a
// hash that could be compared.
func (c *chainLink) next(r Record) (f Finding, checked bool) {
	before := *c
	carried, has := event.PrevHash(event.Redact(r.Payload))
	*c = chainLink{seq: r.Sequence, chained: has, after: event.After(r.Payload)}
	if before.seq == 0 || before.seq+1 != r.Sequence || !has && !before.chained {
		return f, false
	}
	f = Finding{Kind: Broken, Class: r.Class, First: r.Sequence, Last: r.Sequence}
	switch {
	case !has:
		f.Detail = fmt.Sprintf("it carries no prevhash, and sequence %d does", before.seq)
	case carried.IsZero():
		f.Detail = fmt.Sprintf("its prevhash is zero, as at a beginning, though sequence %d can be read", before.seq)
	case carried != before.after:
		f.Detail = fmt.Sprintf("its prevhash is %s, and after sequence %d it should be %s", carried, before.seq, before.after)
	default:
		return Finding{}, true
	}
	return f, false
}
