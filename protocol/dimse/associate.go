package dimse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a proposed association.
const (
	// MaxContexts is how many ids there are: odd numbers of one byte.
	MaxContexts  = 128
	maxTransfers = 64
	maxSubItems  = 256
	// maxUID bounds a UID. DICOM says 64, and scanners break its rules.
	maxUID      = 128
	titleLength = 16
	// maxIdentity bounds a user name or passcode.
	maxIdentity = 1024
	// fixedPart are the bytes before the items.
	fixedPart = 68
)

// Items and sub-items of an association (PS3.8, 9.3.2 and annex D; PS3.7, annex D).
const (
	itemApplication    = 0x10
	itemContextRQ      = 0x20
	itemContextAC      = 0x21
	itemAbstract       = 0x30
	itemTransfer       = 0x40
	itemUser           = 0x50
	itemMaxLength      = 0x51
	itemClass          = 0x52
	itemVersion        = 0x55
	itemIdentity       = 0x58
	itemIdentityAnswer = 0x59
)

// UIDs of DICOM (PS3.6, annex A).
const (
	ApplicationContext = "1.2.840.10008.3.1.1.1"
	Verification       = "1.2.840.10008.1.1"
	ImplicitLE         = "1.2.840.10008.1.2"
	ExplicitLE         = "1.2.840.10008.1.2.1"
	JPEGLossless       = "1.2.840.10008.1.2.4.70"
	RLELossless        = "1.2.840.10008.1.2.5"
)

// Associate is a proposed association, or an accepted one.
type Associate struct {
	// Version has bit 0 set for version 1, the only one that there is.
	Version uint16
	// Called and Calling are the application entity titles.
	Called, Calling string
	// Application is the application context, ApplicationContext for DICOM.
	Application string
	Contexts    []Context
	// MaxLength is how long data units may be that are sent to who says this, in bytes
	// behind the header; 0 is no limit.
	MaxLength uint32
	// Class and Release tell the implementation: its UID and the name of its version.
	Class, Release string
	// Identity is who proposes, nil if it is not said.
	Identity *Identity
	// IdentityAnswered: the answer has the item of an accepted identity.
	IdentityAnswered bool
}

// Result is what became of a proposed context (PS3.8, 9.3.3.2).
type Result byte

// The results that there are.
const (
	Accepted       Result = 0
	UserRejected   Result = 1
	NoReason       Result = 2
	NoAbstract     Result = 3
	NoTransfer     Result = 4
	numberOfResult Result = 5
)

// Context is a presentation context: what is sent, and how it may be encoded.
type Context struct {
	// ID is odd.
	ID byte
	// Abstract is the SOP class; an answer does not repeat it.
	Abstract string
	// Transfers are the transfer syntaxes that are proposed. In an answer it is the one
	// that was chosen, which means nothing unless Result is Accepted.
	Transfers []string
	// Result is in an answer only.
	Result Result
}

// Kinds of identity (PS3.7, D.3.3.7.1).
const (
	IdentityName     = 1
	IdentityPasscode = 2
)

// Identity is who proposes an association.
type Identity struct {
	// Kind is IdentityName, IdentityPasscode, or another that is not taken.
	Kind byte
	// Answer: it wants to be told that it was accepted.
	Answer bool
	// Name is the user name, Passcode is with IdentityPasscode only.
	Name, Passcode string
}

// Append appends the data unit; t is AssociateRQ or AssociateAC.
func (a Associate) Append(b []byte, t Type) []byte {
	body := binary.BigEndian.AppendUint16(nil, a.Version)
	body = append(body, 0, 0)
	for _, title := range []string{a.Called, a.Calling} {
		field := bytes.Repeat([]byte{' '}, titleLength)
		copy(field, title)
		body = append(body, field...)
	}
	body = append(body, make([]byte, 32)...)
	body = appendItem(body, itemApplication, []byte(a.Application))
	for _, c := range a.Contexts {
		item, kind := []byte{c.ID, 0, 0, 0}, byte(itemContextRQ)
		if t == AssociateAC {
			item[2], kind = byte(c.Result), itemContextAC
		} else {
			item = appendItem(item, itemAbstract, []byte(c.Abstract))
		}
		for _, s := range c.Transfers {
			item = appendItem(item, itemTransfer, []byte(s))
		}
		body = appendItem(body, kind, item)
	}
	user := appendItem(nil, itemMaxLength, binary.BigEndian.AppendUint32(nil, a.MaxLength))
	user = appendItem(user, itemClass, []byte(a.Class))
	if a.Release != "" {
		user = appendItem(user, itemVersion, []byte(a.Release))
	}
	if a.IdentityAnswered {
		user = appendItem(user, itemIdentityAnswer, []byte{0, 0})
	}
	if i := a.Identity; i != nil {
		answer := byte(0)
		if i.Answer {
			answer = 1
		}
		item := []byte{i.Kind, answer}
		for _, s := range []string{i.Name, i.Passcode} {
			item = binary.BigEndian.AppendUint16(item, uint16(len(s)))
			item = append(item, s...)
		}
		user = appendItem(user, itemIdentity, item)
	}
	body = appendItem(body, itemUser, user)
	return PDU{t, body}.Append(b)
}

func appendItem(b []byte, kind byte, content []byte) []byte {
	b = append(b, kind, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(content)))
	return append(b, content...)
}

// ParseAssociate reads a data unit of type AssociateRQ or AssociateAC. Items that are not
// needed are passed over.
func ParseAssociate(p PDU) (a Associate, err error) {
	if len(p.Body) < fixedPart {
		return a, fmt.Errorf("an association has %d bytes, and less than %d can't be", len(p.Body), fixedPart)
	}
	a.Version = binary.BigEndian.Uint16(p.Body)
	a.Called, a.Calling = text(p.Body[4:20]), text(p.Body[20:36])
	kind := byte(itemContextRQ)
	if p.Type == AssociateAC {
		kind = itemContextAC
	}
	users := 0
	err = items(p.Body[fixedPart:], func(item byte, content []byte) error {
		switch item {
		case itemApplication:
			a.Application, err = uid(content)
			return err
		case kind:
			return a.addContext(item, content)
		case itemUser:
			if users++; users > 1 {
				return errors.New("an association has the user information twice")
			}
			return items(content, a.addUser)
		}
		return nil
	})
	return a, err
}

// items calls f for each item.
func items(b []byte, f func(item byte, content []byte) error) error {
	for n := 0; len(b) > 0; n++ {
		if len(b) < 4 || len(b)-4 < int(binary.BigEndian.Uint16(b[2:])) {
			return errors.New("an item of an association is longer than what holds it")
		}
		if n == maxSubItems {
			return fmt.Errorf("an association has more than %d items", maxSubItems)
		}
		end := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if err := f(b[0], b[4:end]); err != nil {
			return err
		}
		b = b[end:]
	}
	return nil
}

func (a *Associate) addContext(kind byte, b []byte) error {
	if len(b) < 4 {
		return errors.New("a presentation context is too short")
	}
	c := Context{ID: b[0]}
	if kind == itemContextAC {
		if c.Result = Result(b[2]); c.Result >= numberOfResult {
			return fmt.Errorf("presentation context %d has the result %d, which there is not", c.ID, c.Result)
		}
	}
	if c.ID%2 == 0 {
		return fmt.Errorf("presentation context %d: ids are odd", c.ID)
	}
	for _, o := range a.Contexts {
		if o.ID == c.ID {
			return fmt.Errorf("presentation context %d is there twice", c.ID)
		}
	}
	err := items(b[4:], func(item byte, content []byte) error {
		switch item {
		case itemAbstract:
			s, err := uid(content)
			c.Abstract = s
			return err
		case itemTransfer:
			// An answer has one without meaning where nothing was accepted, and some
			// leave it empty.
			if kind == itemContextAC && c.Result != Accepted {
				return nil
			}
			if len(c.Transfers) == maxTransfers {
				return fmt.Errorf("presentation context %d has more than %d transfer syntaxes", c.ID, maxTransfers)
			}
			s, err := uid(content)
			c.Transfers = append(c.Transfers, s)
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case kind == itemContextRQ && (c.Abstract == "" || len(c.Transfers) == 0):
		return fmt.Errorf("presentation context %d proposes nothing", c.ID)
	case kind == itemContextAC && c.Result == Accepted && len(c.Transfers) != 1:
		return fmt.Errorf("presentation context %d was accepted with %d transfer syntaxes, want 1", c.ID, len(c.Transfers))
	}
	a.Contexts = append(a.Contexts, c)
	return nil
}

func (a *Associate) addUser(item byte, b []byte) error {
	switch item {
	case itemMaxLength:
		if len(b) != 4 {
			return fmt.Errorf("the maximum length has %d bytes, want 4", len(b))
		}
		a.MaxLength = binary.BigEndian.Uint32(b)
	case itemClass:
		s, err := uid(b)
		a.Class = s
		return err
	case itemVersion:
		a.Release = text(b[:min(len(b), titleLength)])
	case itemIdentityAnswer:
		a.IdentityAnswered = true
	case itemIdentity:
		i, err := parseIdentity(b)
		if err == nil && a.Identity != nil {
			err = errors.New("an association has the user identity twice")
		}
		a.Identity = i
		return err
	}
	return nil
}

func parseIdentity(b []byte) (*Identity, error) {
	short := errors.New("the user identity is shorter than it says")
	if len(b) < 2 {
		return nil, short
	}
	i := &Identity{Kind: b[0], Answer: b[1] == 1}
	rest := b[2:]
	for _, into := range []*string{&i.Name, &i.Passcode} {
		if len(rest) == 0 && into == &i.Passcode {
			break // some leave out the length of what is not there
		}
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, short
		}
		n := int(binary.BigEndian.Uint16(rest))
		// Others than the two kinds are tickets, which are long and not taken.
		if i.Kind == IdentityName || i.Kind == IdentityPasscode {
			if n > maxIdentity {
				return nil, fmt.Errorf("the user identity has %d bytes, and at most %d are taken", n, maxIdentity)
			}
			*into = string(rest[2 : 2+n])
		}
		rest = rest[2+n:]
	}
	return i, nil
}

// uid reads a UID. Its form is not looked at, since scanners break it; that it is text is.
func uid(b []byte) (string, error) {
	s := strings.TrimRight(string(b), "\x00 ")
	if len(s) > maxUID {
		return "", fmt.Errorf("a UID has %d bytes, and at most %d are taken", len(s), maxUID)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '\\' {
			return "", fmt.Errorf("%q is no UID", s)
		}
	}
	return s, nil
}

// text reads a title: blanks around it mean nothing.
func text(b []byte) string {
	return strings.ToValidUTF8(strings.Trim(string(b), "\x00 "), "?")
}
