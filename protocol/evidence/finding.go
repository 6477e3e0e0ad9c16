package evidence

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/lanepost/lanepost/protocol/event"
)

// Severity tells what a finding asks of its reader.
type Severity string

// The severities.
const (
	// Note: worth knowing; nothing is wrong.
	Note Severity = "note"
	// Warning: something is not proven, and there may be a good reason.
	Warning Severity = "warning"
	// Error: the recording is not what the agent recorded, or not all of it.
	Error Severity = "error"
)

// Kind names what was found.
type Kind string

// The kinds of findings.
const (
	KindGap          Kind = "gap"
	KindTail         Kind = "missing-end"
	KindLate         Kind = "before-recording"
	KindLost         Kind = "lost"
	KindUnchecked    Kind = "skipped-unchecked"
	KindAltered      Kind = "altered"
	KindFork         Kind = "fork"
	KindReplay       Kind = "replay"
	KindRestart      Kind = "begun-anew"
	KindRestartKnown Kind = "begun-anew-explained"
	KindUnchained    Kind = "before-chain"
	KindContradicted Kind = "checkpoint-contradicted"
	KindSignature    Kind = "bad-signature"
	KindUnknownKey   Kind = "unknown-key"
	KindKeyChanged   Kind = "key-changed"
	KindKeyRefused   Kind = "key-not-endorsed"
	KindAgentChanged Kind = "agent-changed"
	KindMisplaced    Kind = "misplaced"
	KindUnreadable   Kind = "unreadable"
	KindLimit        Kind = "limit"
)

// kinds says how grave each kind is and what it means.
var kinds = map[Kind]struct {
	severity Severity
	meaning  string
}{
	KindGap: {Error, "The agent recorded these events, and the recording does not have them. Nothing in it says why: they were taken out, or the subscriber " +
		"missed them."},
	KindTail: {Warning, "A signed checkpoint says that these were recorded. They were cut off, or were still under way when the recording ended: " +
		"record longer, or ask the agent to send them again."},
	KindLate: {Note, "A broker gives a new subscriber the latest checkpoint, which may be older than the first event after it. What is between " +
		"counts as before the recording."},
	KindLost: {Note, "The agent itself says that it lost these events, and why."},
	KindUnchecked: {Warning, "A notice says that the receiver's filter kept these back. What comes before the notice is missing, so its digests can't " +
		"be checked."},
	KindAltered: {Error, "The later event was chained to other content than what stands before it. One of them was changed after it was recorded, or " +
		"events were put in or taken out with their numbers rewritten."},
	KindFork: {Error, "One sequence stands for two different events. One of them is forged, or the agent's disk was copied."},
	KindReplay: {Error, "Sequences or ids were used twice for different events. The agent's disk was put back to an older state, or a second " +
		"history was written."},
	KindRestart: {Error, "The chain begins anew though there were events before, and no loss explains it. What is before and what is after are not tied " +
		"together."},
	KindRestartKnown: {Note, "The chain begins anew because the agent could not read its last events at a start, after damage or without their key; it says " +
		"so itself."},
	KindUnchained:    {Note, "These events were recorded before the agent chained its events. Nothing proves them."},
	KindContradicted: {Error, "The agent has signed another history than the one in the recording. Events since the last good checkpoint were rewritten."},
	KindSignature:    {Error, "The checkpoint or key statement was changed or forged; it counts for nothing."},
	KindUnknownKey: {Error, "The signature is good but the key is not known to be the agent's. Ask the agent's operator for its fingerprint " +
		"(lanepost key show) and give the key with --key."},
	KindKeyChanged: {Note, "The key was changed in good order."},
	KindKeyRefused: {Error, "Anybody could have made this key. Ask the agent's operator for its fingerprint (lanepost key show); if it is the agent's, give " +
		"it with --key."},
	KindAgentChanged: {Warning, "The box or its disk was replaced, or somebody speaks in its place. The two histories are not tied together."},
	KindMisplaced:    {Warning, "The event was published under a topic that is not its own. The topic is not evidence; the event's source is."},
	KindUnreadable:   {Error, "This is no whole event of lanepost. If it was one, it was cut or changed."},
	KindLimit:        {Warning, "The check keeps bounded memory, and this went beyond it."},
}

// Finding is one thing that a reader should know.
type Finding struct {
	Severity Severity `json:"severity"`
	Kind     Kind     `json:"kind"`
	// Agent and Class are empty where it is not about one.
	Agent string      `json:"agent,omitempty"`
	Class event.Class `json:"class,omitempty"`
	// First and Last bound the sequences that it is about, zero if about none.
	First uint64 `json:"first_sequence,omitempty"`
	Last  uint64 `json:"last_sequence,omitempty"`
	// FirstLine and LastLine count what was fed, from 1, where there is no
	// sequence.
	FirstLine uint64 `json:"first_line,omitempty"`
	LastLine  uint64 `json:"last_line,omitempty"`
	// Text says what was found, Meaning what that means.
	Text    string `json:"text"`
	Meaning string `json:"meaning"`
}

// Where says what the finding is about.
func (f Finding) Where() string {
	span := func(word string, first, last uint64) string {
		if first == last {
			return fmt.Sprintf(" %s%d", word, first)
		}
		return fmt.Sprintf(" %s%d to %d", word, first, last)
	}
	s := f.Agent
	if f.Class != "" {
		s += " " + string(f.Class)
	}
	switch {
	case f.Last > 0:
		s += span("", f.First, f.Last)
	case f.FirstLine > 0:
		s += span("line ", f.FirstLine, f.LastLine)
	}
	return strings.TrimSpace(s)
}

// finding makes one. Text is up to the caller.
func finding(k Kind, text string) Finding {
	return Finding{Kind: k, Severity: kinds[k].severity, Meaning: kinds[k].meaning, Text: text}
}

// findings is a bounded list. What continues the finding before it is made one
// with it.
type findings struct {
	list []Finding
	more uint64
}

// add returns where the finding stands, -1 if it does not.
func (l *findings) add(f Finding) int {
	f.Text = plain(f.Text)
	for i := len(l.list) - 1; i >= max(0, len(l.list)-lookBack); i-- {
		p := &l.list[i]
		same := p.Kind == f.Kind && p.Severity == f.Severity && p.Agent == f.Agent && p.Class == f.Class
		if same && (f.Kind != KindLost || p.Text == f.Text) && p.continues(f) {
			p.Last, p.LastLine = max(p.Last, f.Last), max(p.LastLine, f.LastLine)
			return i
		}
	}
	if len(l.list) >= maxFindings {
		l.more++
		return -1
	}
	l.list = append(l.list, f)
	return len(l.list) - 1
}

// continues says whether next is about what comes right after.
func (f Finding) continues(next Finding) bool {
	switch {
	case next.Last > 0:
		return next.First >= f.First && next.First <= f.Last+1 && f.Last > 0
	case next.FirstLine > 0:
		return next.FirstLine == f.LastLine+1
	}
	return next.Text == f.Text
}

// plain makes a text from outside fit to print.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}
