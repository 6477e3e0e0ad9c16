package spool

import (
	"fmt"

	"github.com/lanepost/lanepost/protocol/event"
)

// Kind is what an inspection found in the place of records.
type Kind string

// The kinds of findings.
const (
	// Damaged is bytes that are no record, where there should be some.
	Damaged Kind = "damaged"
	// Missing is numbers for which there are no bytes at all.
	Missing Kind = "missing"
	// Altered is a sealed record that is not what was sealed.
	Altered Kind = "altered"
	// NoKey is records that are sealed with a key that is not at hand. They are
	// neither damaged nor lost.
	NoKey Kind = "sealed"
	// Broken is a record that does not follow its predecessor in the hash chain.
	Broken Kind = "chain"
)

// Finding is a range of sequence numbers with something wrong.
type Finding struct {
	Kind        Kind
	Class       event.Class
	First, Last uint64
	// Segment is the file, empty where it is missing.
	Segment string
	// From and To are the place in the file, equal if there are no bytes.
	From, To int64
	// Key is the key that NoKey asks for.
	Key KeyID
	// Detail is the rest of what is to be said.
	Detail string
	// Explained says by what the finding is accounted for, empty if by nothing.
	Explained string
	// Delivered says that all of it was delivered before.
	Delivered bool
}

// String says it in one line, without Explained.
func (f Finding) String() string {
	what := fmt.Sprintf("%s %s", f.Class, numbers(f.First, f.Last))
	switch f.Kind {
	case Missing:
		what += " missing"
		if f.Segment != "" {
			what += " in segment " + f.Segment
		} else {
			what += ": there is no segment that could hold them"
		}
	case Damaged:
		what += fmt.Sprintf(" can't be read: damage in segment %s, bytes %d to %d", f.Segment, f.From, f.To)
	case Altered:
		what += fmt.Sprintf(" altered after it was sealed, in segment %s, bytes %d to %d", f.Segment, f.From, f.To)
	case NoKey:
		what += fmt.Sprintf(" sealed with key %s, which is not at hand: neither damaged nor lost, and not checked", f.Key)
	case Broken:
		what += " does not continue the hash chain"
	}
	if f.Detail != "" {
		what += ": " + f.Detail
	}
	return what
}

// Advice says what to do about it.
func (f Finding) Advice() string {
	switch {
	case f.Explained != "":
		return "nothing to do: " + f.Explained
	case f.Kind == NoKey:
		return "name the key file that has this key with --key-file and run this again"
	case f.Kind == Altered:
		return "somebody or something changed the file: keep the disk as evidence, and compare with what the receiver has"
	case f.Kind == Broken:
		return "compare both records with the receiver's. If no key of that time was missing when the agent started, a record was replaced: keep the disk as evidence"
	case f.Delivered:
		return "the receiver has these records: they were delivered before. Check the disk (dmesg, smartctl)"
	}
	return "the agent reports it in an agent.loss event when it comes there. Copy the disk before anything else, and check it (dmesg, smartctl)"
}
