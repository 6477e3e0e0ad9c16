package dimse

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Head is how much of an object is kept that is not taken, in bytes.
const Head = 4 << 10

// fragmentHead is what stands before the first fragment of a data unit, in bytes: the unit's
// head of 6, and the fragment's length, context and kind.
const fragmentHead = 12

// Policy is what a Receiver accepts.
type Policy struct {
	// Title is its own application entity title; empty answers to every name.
	Title string
	// Callers are the titles of those that may propose; empty is everybody.
	Callers []string
	// Admit says whether an identity may propose, nil if none was told. A nil Admit
	// takes everybody.
	Admit func(*Identity) bool
	// Roots are the beginnings of the SOP classes that are stored. Verification is always
	// accepted.
	Roots []string
	// Transfers are the transfer syntaxes that are taken, the best first.
	Transfers []string
	// MaxObject is how large an object may be, in bytes.
	MaxObject int
	// Reserve asks for room for so many bytes more in what several receivers share, Free
	// gives it back; both nil for none.
	Reserve func(n int) bool
	Free    func(n int)
	// Class and Release are told of the implementation.
	Class, Release string
}

// Kind is what an Action is.
type Kind int

// What may be.
const (
	// Associated: the association stands.
	Associated Kind = iota + 1
	// Refused: the association does not; Err says why. The connection is over.
	Refused
	// Echoed: the peer asked whether somebody is there.
	Echoed
	// Stored: an object is there. It must be answered by Answer before anything else
	// comes.
	Stored
	// NotStored: an object was not taken; Err says why, and Object has its first bytes.
	NotStored
	// Released: the peer ended the association as it should.
	Released
	// Broken: it was ended by a mistake, or at once by the peer; Err says why.
	Broken
)

// Action is something that a Receiver wants done.
type Action struct {
	Kind Kind
	// Send is to be sent to the peer, if there is anything.
	Send []byte
	// Object is that of Stored and NotStored.
	Object Object
	// Reject is how an association was refused.
	Reject Reject
	Err    error
}

// Object is something that was sent to be stored.
type Object struct {
	// Class and Instance are its UIDs, as the command has them.
	Class, Instance string
	// Transfer is the transfer syntax of DataSet.
	Transfer string
	DataSet  []byte
	// Size is how many bytes came; more than DataSet has if it was not taken.
	Size int

	context byte
	id      uint16
}

// The states of a Receiver.
const (
	waiting = iota // for a proposal
	open
	answering // somebody has an object
	over
)

// Receiver is the side that objects are sent to: bytes come in and actions out. The zero
// Receiver with a Policy waits for a proposal.
type Receiver struct {
	Policy Policy

	splitter Splitter
	state    int
	peer     Associate
	accepted map[byte]Context
	queue    []Fragment // of the data unit that is being worked off

	context  byte // of the message that is coming
	command  []byte
	coming   bool // there is a message that is not complete
	current  *Command
	data     []byte
	size     int
	refused  error // why the object that is coming is not taken
	reserved int
}

// Peer is who proposed the association.
func (r *Receiver) Peer() Associate { return r.peer }

// Started reports whether the association stands.
func (r *Receiver) Started() bool { return r.state == open || r.state == answering }

// Write takes bytes from the peer. They are to be worked off by Next before there are more.
func (r *Receiver) Write(b []byte) {
	if r.state != over {
		r.splitter.Write(b)
	}
}

// Unfinished tells what has begun and not ended, with the first bytes of it; empty for
// nothing.
func (r *Receiver) Unfinished() (what string, head []byte) {
	switch {
	case r.state == answering:
		return "", nil
	case r.current != nil && r.current.DataSet:
		return fmt.Sprintf("the object %s, of which %d bytes have come", r.current.Instance, r.size), r.data[:min(len(r.data), Head)]
	case r.coming:
		return fmt.Sprintf("a command, of which %d bytes have come", len(r.command)), r.command
	case r.splitter.Pending() > 0:
		rest := r.splitter.buf[r.splitter.at:]
		head := rest[:min(len(rest), Head)]
		if Type(rest[0]) == DataTF { // what is in it may be somebody's; its own head says enough
			head = head[:min(len(head), fragmentHead)]
		}
		return fmt.Sprintf("a data unit, of which %d bytes have come", len(rest)), head
	}
	return "", nil
}

// Close gives back the room that is reserved. Nothing comes after it.
func (r *Receiver) Close() {
	r.drop()
	r.state = over
}

// Next gives the next action; ok is false if more bytes must come first, or an object must
// be answered.
func (r *Receiver) Next() (a Action, ok bool) {
	for r.state == waiting || r.state == open {
		if len(r.queue) > 0 {
			f := r.queue[0]
			r.queue = r.queue[1:]
			if a, ok := r.fragment(f); ok {
				return a, true
			}
			continue
		}
		p, ok, err := r.splitter.Next()
		switch {
		case errors.Is(err, ErrLength):
			return r.abort(reasonValue, err), true
		case err != nil:
			return r.abort(reasonType, err), true
		case !ok:
			return Action{}, false
		}
		if a, ok := r.unit(p); ok {
			return a, true
		}
	}
	return Action{}, false
}

func (r *Receiver) unit(p PDU) (Action, bool) {
	switch {
	case p.Type == AssociateRQ && r.state == waiting:
		return r.associate(p), true
	case p.Type == AbortPDU:
		r.end()
		by := "the peer"
		if a, err := ParseAbort(p.Body); err == nil && a.Source == ByProvider {
			by = fmt.Sprintf("the peer's upper layer, with reason %d,", a.Reason)
		}
		return Action{Kind: Broken, Err: fmt.Errorf("%s broke the association off", by)}, true
	case p.Type == DataTF && r.state == open:
		list, err := ParseData(p.Body)
		if err != nil {
			return r.abort(reasonValue, err), true
		}
		r.queue = list
		return Action{}, false
	case p.Type == ReleaseRQ && r.state == open && !r.coming:
		r.end()
		return Action{Kind: Released, Send: PDU{ReleaseRP, make([]byte, 4)}.Append(nil)}, true
	}
	if p.Type == ReleaseRQ && r.coming {
		return r.abort(reasonUnexpected, errors.New("the peer ended the association in the middle of a message")), true
	}
	return r.abort(reasonUnexpected, fmt.Errorf("the peer sent a data unit of type %d, which does not belong there", p.Type)), true
}

// end keeps what is unfinished for Unfinished.
func (r *Receiver) end() { r.state = over }

func (r *Receiver) abort(reason byte, why error) Action {
	r.end()
	return Action{Kind: Broken, Send: Abort{ByProvider, reason}.Append(nil), Err: why}
}

// associate answers a proposal.
func (r *Receiver) associate(p PDU) Action {
	a, err := ParseAssociate(p)
	if err != nil {
		return r.abort(reasonValue, err)
	}
	r.peer = a
	refuse := func(x Reject, format string, args ...any) Action {
		r.end()
		return Action{Kind: Refused, Send: x.Append(nil), Reject: x, Err: fmt.Errorf(format, args...)}
	}
	policy := &r.Policy
	switch {
	case a.Version&1 == 0:
		return refuse(RejectVersion, "%q speaks another version of the protocol", a.Calling)
	case a.Application != ApplicationContext:
		return refuse(RejectApplication, "%q does not speak DICOM but %q", a.Calling, a.Application)
	case policy.Title != "" && a.Called != policy.Title:
		return refuse(RejectCalled, "%q calls %q, and this is %q", a.Calling, a.Called, policy.Title)
	case len(policy.Callers) > 0 && !slices.Contains(policy.Callers, a.Calling):
		return refuse(RejectCalling, "%q is not one of those that may call", a.Calling)
	case policy.Admit != nil && !policy.Admit(a.Identity):
		return refuse(RejectIdentity, "%q has not told the right user name and passcode", a.Calling)
	}
	reply := Associate{
		Version: 1, Called: a.Called, Calling: a.Calling, Application: ApplicationContext, MaxLength: MaxLength,
		Class: policy.Class, Release: policy.Release, IdentityAnswered: a.Identity != nil && a.Identity.Answer && policy.Admit != nil,
	}
	r.accepted = map[byte]Context{}
	for _, c := range a.Contexts {
		c.Transfers, c.Result = r.choose(c)
		reply.Contexts = append(reply.Contexts, c)
		if c.Result == Accepted {
			r.accepted[c.ID] = c
		}
	}
	r.state = open
	return Action{Kind: Associated, Send: reply.Append(nil, AssociateAC)}
}

// choose says what becomes of a context, and its transfer syntax.
func (r *Receiver) choose(c Context) ([]string, Result) {
	if c.Abstract != Verification && !r.takes(c.Abstract) {
		return []string{ImplicitLE}, NoAbstract
	}
	for _, t := range r.Policy.Transfers {
		if slices.Contains(c.Transfers, t) {
			return []string{t}, Accepted
		}
	}
	return []string{ImplicitLE}, NoTransfer
}

func (r *Receiver) takes(class string) bool {
	return slices.ContainsFunc(r.Policy.Roots, func(root string) bool { return strings.HasPrefix(class, root) })
}

// fragment takes a piece of a message.
func (r *Receiver) fragment(f Fragment) (Action, bool) {
	if _, ok := r.accepted[f.Context]; !ok {
		return r.abort(reasonValue, fmt.Errorf("a message comes in presentation context %d, which was not accepted", f.Context)), true
	}
	if r.coming && f.Context != r.context {
		return r.abort(reasonUnexpected, errors.New("a message begins before the one before it has ended")), true
	}
	if f.Command != (r.current == nil) {
		return r.abort(reasonUnexpected, errors.New("a command and a data set are mixed up")), true
	}
	r.coming, r.context = true, f.Context
	if !f.Command {
		r.keep(f.Bytes)
		if !f.Last {
			return Action{}, false
		}
		return r.complete()
	}
	if len(r.command)+len(f.Bytes) > maxCommand {
		return r.abort(reasonValue, fmt.Errorf("a command has more than %d bytes", maxCommand)), true
	}
	r.command = append(r.command, f.Bytes...)
	if !f.Last {
		return Action{}, false
	}
	c, err := ParseCommand(r.command)
	switch {
	case err != nil:
		return r.abort(reasonValue, err), true
	case c.Field&answer != 0:
		return r.abort(reasonUnexpected, fmt.Errorf("the peer answers %04x, and was not asked", uint16(c.Field))), true
	}
	r.current, r.command = &c, nil
	r.size, r.refused = 0, nil
	if c.DataSet {
		return Action{}, false
	}
	return r.complete()
}

// keep takes a piece of a data set, if there is room.
func (r *Receiver) keep(b []byte) {
	r.size += len(b)
	switch {
	case r.refused != nil:
		return
	case r.current.Field != StoreRQ:
		return // it will be said that it is not known
	case r.size > r.Policy.MaxObject:
		r.refused = fmt.Errorf("it is larger than %d bytes", r.Policy.MaxObject)
	case r.Policy.Reserve != nil && !r.Policy.Reserve(len(b)):
		r.refused = errors.New("there is no room for it beside other objects that are being received")
	default:
		r.reserved += len(b)
		r.data = append(r.data, b...)
		return
	}
	// The large piece goes at once; its beginning says what it was.
	head := bytes.Clone(r.data[:min(len(r.data), Head)])
	r.giveBack()
	r.data = head
}

func (r *Receiver) giveBack() {
	if r.Policy.Free != nil && r.reserved > 0 {
		r.Policy.Free(r.reserved)
	}
	r.reserved, r.data = 0, nil
}

// drop forgets the message.
func (r *Receiver) drop() {
	r.giveBack()
	r.coming, r.current, r.command, r.size, r.refused = false, nil, nil, 0, nil
}

// complete works off a message that is there in full.
func (r *Receiver) complete() (Action, bool) {
	c := *r.current
	o := Object{
		Class: c.Class, Instance: c.Instance, Transfer: r.accepted[r.context].Transfers[0], DataSet: r.data, Size: r.size,
		context: r.context, id: c.ID,
	}
	refuse := func(s Status, why error) (Action, bool) {
		r.drop()
		a := Action{Kind: NotStored, Object: o, Err: why}
		a.Object.DataSet = o.DataSet[:min(len(o.DataSet), Head)]
		a.Send = r.reply(o, StoreRSP, s, why.Error())
		return a, true
	}
	switch {
	case c.Field == EchoRQ:
		r.drop()
		return Action{Kind: Echoed, Send: r.reply(o, EchoRSP, Success, "")}, true
	case c.Field == Cancel:
		r.drop()
		return Action{}, false // nothing is ever being asked that could be taken back
	case c.Field != StoreRQ:
		r.drop()
		return Action{Kind: NotStored, Object: o, Send: r.reply(o, c.Field|answer, NotKnown, ""), Err: fmt.Errorf("the peer asks for %04x, which is not C-STORE", uint16(c.Field))}, true
	case r.refused != nil:
		return refuse(OutOfResources, r.refused)
	case !r.takes(c.Class):
		return refuse(NoClass, fmt.Errorf("the SOP class %q is not one that is taken", c.Class))
	case c.Instance == "" || r.size == 0:
		return refuse(NotUnderstood, errors.New("an object has no instance UID or is empty"))
	}
	r.state = answering
	return Action{Kind: Stored, Object: o}, true
}

// Answer gives what is to be sent to the peer for an object of Stored. Nothing is there to
// be sent when no object waits for an answer.
func (r *Receiver) Answer(o Object, s Status, comment string) []byte {
	if r.state != answering {
		return nil
	}
	r.drop()
	r.state = open
	return r.reply(o, StoreRSP, s, comment)
}

func (r *Receiver) reply(o Object, f Field, s Status, comment string) []byte {
	c := Command{Field: f, Responding: o.id, Class: o.Class, Instance: o.Instance, Status: s}
	if s != Success {
		c.Comment = comment
	}
	return AppendMessage(nil, o.context, c, nil, r.peer.MaxLength)
}
