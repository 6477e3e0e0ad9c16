package xray

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/dimse"
)

// Bounds and times of scanners that send over the network.
const (
	// networkSilence is long: a lane may be empty for a night.
	networkSilence = 24 * time.Hour
	// proposeWithin is how long a connection may wait with its proposal (the timer ARTIM
	// of PS3.8), stallAfter how long a message may stop in its middle, and maxMessageTime
	// how long it may take.
	proposeWithin  = 30 * time.Second
	stallAfter     = 30 * time.Second
	maxMessageTime = 30 * time.Minute
	// lingerFor is how long it is waited for the scanner to hang up.
	lingerFor = 5 * time.Second
	// sharedObjects is how many objects of the largest size all connections of a scanner
	// may hold together.
	sharedObjects = 2

	minIdle, maxIdle      = 10 * time.Second, 24 * time.Hour
	minObject, maxObject  = 1 << 10, 1 << 29
	maxTitle, maxCallers  = 16, 64
	dicosRoot             = "1.2.840.10008.5.1.4.1.1.501."
	implementationClass   = "2.25.113059749145936325402354257176981405696"
	implementationRelease = "LANEPOST"
	networkRead           = 64 << 10
)

// NetworkSettings are the settings of a scanner that sends its objects by C-STORE.
type NetworkSettings struct {
	// Title is this side's application entity title; empty answers to every name.
	Title string `yaml:"ae_title"`
	// Calling are the titles of the scanners that may send; empty is every one.
	Calling []string `yaml:"calling"`
	// Username is the user name that the scanner must tell, empty for none. The passcode
	// is in a file or in an environment variable; without one the name alone is looked at.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	PasswordEnv  string `yaml:"password_env"`
	// MaxObject is how large an object may be, in bytes.
	MaxObject int `yaml:"max_object"`
	// Idle is how long a scanner may keep an association without saying anything.
	Idle time.Duration `yaml:"idle"`
	// MachineClears: the CLEAR of all machines stands for an inspection. Otherwise such a scan is
	// pending until an operator has looked.
	MachineClears bool `yaml:"machine_clears"`
	// WithoutImages: the pictures that reports name are not expected. Otherwise a scan
	// without them is partial.
	WithoutImages bool `yaml:"without_images"`
	// Zone is the zone of the scanner's clock, for times that it tells without one.
	Zone string `yaml:"zone"`
	// Pictures is false to pass no objects on.
	Pictures *bool `yaml:"pictures"`
}

// Network is the driver of scanners that send DICOS objects over the network.
func Network() drivers.Driver {
	return drivers.Driver{
		Name:    "xray-dicos",
		Summary: "X-ray scanner that sends DICOS objects by C-STORE",
		Schemes: []string{"tcp-listen"},
		Silence: networkSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := networkDefaults()
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			zone, err := location(s.Zone)
			if err != nil {
				return nil, err
			}
			n := &network{settings: s, rules: dicosRules{zone: zone, machineClears: s.MachineClears, withoutImages: s.WithoutImages}}
			n.store = n.keep
			return n, nil
		},
	}
}

func networkDefaults() NetworkSettings {
	return NetworkSettings{MaxObject: 64 << 20, Idle: 10 * time.Minute}
}

func (s *NetworkSettings) check() error {
	for name, list := range map[string][]string{"ae_title": {s.Title}, "calling": s.Calling} {
		for _, title := range list {
			if len(title) > maxTitle || strings.TrimSpace(title) != title || strings.ContainsFunc(title, func(r rune) bool { return r < ' ' || r > '~' || r == '\\' }) {
				return fmt.Errorf("%s: %q is no application entity title: 16 characters at most, without blanks around them", name, title)
			}
		}
	}
	switch {
	case len(s.Calling) > maxCallers || slices.Contains(s.Calling, ""):
		return fmt.Errorf("calling: take up to %d titles, none of them empty", maxCallers)
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return errors.New("password_file and password_env are both set; keep one of them")
	case s.Username == "" && (s.PasswordFile != "" || s.PasswordEnv != ""):
		return errors.New("there is a passcode without a user name; set username")
	case s.MaxObject < minObject || s.MaxObject > maxObject:
		return fmt.Errorf("max_object: %d; take %d to %d bytes", s.MaxObject, minObject, maxObject)
	case s.Idle < minIdle || s.Idle > maxIdle:
		return fmt.Errorf("idle: %s; take %s to %s", s.Idle, minIdle, maxIdle)
	}
	return nil
}

// network takes objects from the associations of one scanner.
type network struct {
	settings NetworkSettings
	rules    dicosRules
	forgot   time.Time
	// store makes an event of an object, and returns nil when it is on disk, or was
	// before. An errObject is the object's fault, others are the agent's. It is keep,
	// but in tests.
	store func(h drivers.Host, o stored) error

	storing sync.Mutex // two associations may bring parts of one scan
	mu      sync.Mutex
	held    int // bytes of objects in memory
}

// stored is an object as a file of DICOM's part 10.
type stored struct {
	content []byte
	// instance is its UID, as the scanner said it in the command.
	instance string
}

// errObject says that an object can't be understood.
var errObject = errors.New("the object can't be understood")

// Run implements drivers.Instrument.
func (n *network) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	acceptor, ok := link.As[*link.Acceptor](conn)
	if !ok { // of a script
		return n.serve(ctx, conn, h, func(string) {})
	}
	return acceptor.Serve(ctx, h.Log(), func(ctx context.Context, conn link.Conn) error {
		return n.serve(ctx, conn, h, func(reason string) { acceptor.Refuse(conn, reason) })
	})
}

func (n *network) reserve(b int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held+b > sharedObjects*n.settings.MaxObject {
		return false
	}
	n.held += b
	return true
}

func (n *network) free(b int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held -= b
}

// association is one connection of a scanner.
type association struct {
	n        *network
	conn     link.Conn
	h        drivers.Host
	refused  func(reason string)
	receiver dimse.Receiver
	// login is why the login could not be looked at.
	login error
	// over: there is nothing to come, because of broken if that is set.
	over   bool
	broken error
}

// serve takes what comes over one connection.
func (n *network) serve(ctx context.Context, conn link.Conn, h drivers.Host, refused func(reason string)) error {
	a := &association{n: n, conn: conn, h: h, refused: refused}
	a.receiver.Policy = dimse.Policy{
		Title: n.settings.Title, Callers: n.settings.Calling, Roots: []string{dicosRoot},
		Transfers: []string{dimse.ExplicitLE, dimse.JPEGLossless, dimse.RLELossless, dimse.ImplicitLE},
		MaxObject: n.settings.MaxObject, Reserve: n.reserve, Free: n.free, Class: implementationClass, Release: implementationRelease,
	}
	if n.settings.Username != "" {
		a.receiver.Policy.Admit = a.admit
	}
	defer a.receiver.Close()
	err := a.run(ctx)
	if what, head := a.receiver.Unfinished(); what != "" && (!a.over || a.broken != nil) {
		why := err
		if a.broken != nil {
			why = a.broken
		}
		h.Unparsed(fmt.Sprintf("the connection of %s ended in the middle of %s: %v", a.name(), what, why), dicos.Sample(head))
	}
	return err
}

func (a *association) name() string {
	if p := a.receiver.Peer(); p.Calling != "" {
		return fmt.Sprintf("the scanner %q", p.Calling)
	}
	return "the scanner"
}

// admit looks at the login that a scanner tells.
func (a *association) admit(i *dimse.Identity) bool {
	s := &a.n.settings
	if i == nil || i.Name != s.Username {
		return false
	}
	if s.PasswordFile == "" && s.PasswordEnv == "" {
		return i.Kind == dimse.IdentityName || i.Kind == dimse.IdentityPasscode
	}
	var secret string
	if secret, a.login = link.Secret(s.PasswordFile, s.PasswordEnv); a.login != nil {
		return false
	}
	return i.Kind == dimse.IdentityPasscode && subtle.ConstantTimeCompare([]byte(i.Passcode), []byte(secret)) == 1
}

// run reads until the association is over.
func (a *association) run(ctx context.Context) error {
	buf := make([]byte, networkRead)
	began := a.h.Now()
	last, message := began, time.Time{} // when something came last, and when the message began
	for {
		var deadline time.Time
		what, _ := a.receiver.Unfinished()
		switch {
		case !a.receiver.Started():
			deadline, message = began.Add(proposeWithin), time.Time{}
		case what == "":
			deadline, message = last.Add(a.n.settings.Idle), time.Time{}
		default:
			if message.IsZero() {
				message = last
			}
			deadline = last.Add(stallAfter)
			if end := message.Add(maxMessageTime); end.Before(deadline) {
				deadline = end
			}
		}
		if err := a.conn.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("set the read deadline of the scanner's link: %w", err)
		}
		// After the deadline, so that one that was set to wake this loop is not
		// overwritten unseen.
		if err := ctx.Err(); err != nil {
			return a.leave(dimse.ByUser, err)
		}
		n, err := a.conn.Read(buf)
		if n > 0 {
			last = a.h.Now()
			a.receiver.Write(buf[:n])
			if err := a.work(ctx); err != nil {
				return err
			}
			if a.over {
				return a.linger(ctx)
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return a.leave(dimse.ByUser, ctx.Err())
		case errors.Is(err, os.ErrDeadlineExceeded):
			if what == "" && a.receiver.Started() {
				return a.leave(dimse.ByUser, fmt.Errorf("%s has said nothing for %s", a.name(), a.n.settings.Idle))
			}
			return a.leave(dimse.ByProvider, fmt.Errorf("%s hangs", a.name()))
		default:
			return fmt.Errorf("read from %s: %w", a.name(), err)
		}
	}
}

// leave ends the association at once, so that the scanner knows that what it sends is not
// taken any more.
func (a *association) leave(source byte, why error) error {
	_, err := a.conn.Write(dimse.Abort{Source: source}.Append(nil))
	if err != nil {
		a.h.Log().Debug("a scanner was not told that its association is over", "error", err)
	}
	return why
}

// linger waits for the scanner to hang up, so that it can read what it was told last.
func (a *association) linger(ctx context.Context) error {
	if err := a.conn.SetReadDeadline(a.h.Now().Add(lingerFor)); err != nil {
		return err
	}
	buf := make([]byte, 512)
	for ctx.Err() == nil {
		if _, err := a.conn.Read(buf); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// work does what the receiver wants done. Its error is one of the link or the agent.
func (a *association) work(ctx context.Context) error {
	for x, ok := a.receiver.Next(); ok; x, ok = a.receiver.Next() {
		if len(x.Send) > 0 {
			if _, err := a.conn.Write(x.Send); err != nil {
				return fmt.Errorf("answer %s: %w", a.name(), err)
			}
		}
		switch x.Kind {
		case dimse.Associated:
			a.h.Valid()
			a.compare()
		case dimse.Echoed:
			a.h.Valid()
		case dimse.Stored:
			if err := a.take(ctx, x.Object); err != nil {
				return err
			}
		case dimse.NotStored:
			a.h.Unparsed(fmt.Sprintf("%s sent %d bytes of the object %s, which was not taken: %v", a.name(), x.Object.Size, x.Object.Instance, x.Err), dicos.Sample(x.Object.DataSet))
		case dimse.Refused:
			a.over = true
			a.refuse(x)
		case dimse.Released:
			a.over = true
		case dimse.Broken:
			a.over, a.broken = true, x.Err
			if what, _ := a.receiver.Unfinished(); what == "" && len(x.Send) > 0 { // else that is told
				a.h.Unparsed(fmt.Sprintf("the association with %s was broken off: %v", a.name(), x.Err), nil)
			}
		}
	}
	return nil
}

// compare tells of an association by which nothing can be sent.
func (a *association) compare() {
	var classes []string
	for _, c := range a.receiver.Peer().Contexts {
		switch {
		case c.Abstract == dimse.Verification:
		case strings.HasPrefix(c.Abstract, dicosRoot):
			return
		default:
			classes = append(classes, c.Abstract)
		}
	}
	if len(classes) > 0 {
		a.h.Unparsed(fmt.Sprintf("%s proposes nothing of DICOS but %s", a.name(), strings.Join(classes[:min(len(classes), 8)], ", ")), nil)
	}
}

// refuse tells of an association that was not accepted.
func (a *association) refuse(x dimse.Action) {
	p := a.receiver.Peer()
	a.h.Log().Warn("an association was refused", "calling", p.Calling, "called", p.Called, "reason", x.Err)
	reason := map[dimse.Reject]string{
		dimse.RejectCalled: "wrong_name", dimse.RejectCalling: "wrong_name", dimse.RejectIdentity: "wrong_login",
	}[x.Reject]
	if reason != "" {
		a.refused(reason)
	}
	why := x.Err
	if a.login != nil {
		why = a.login
	}
	a.h.Unparsed(fmt.Sprintf("an association was refused: %v", why), nil)
}

// storeAlone stores one object at a time. After a panic, which whoever runs the driver
// recovers, the next one has its turn.
func (n *network) storeAlone(h drivers.Host, o stored) error {
	n.storing.Lock()
	defer n.storing.Unlock()
	return n.store(h, o)
}

// take stores an object and answers it.
func (a *association) take(ctx context.Context, o dimse.Object) error {
	status, comment := dimse.Success, ""
	content := partTen(o)
	err := a.n.storeAlone(a.h, stored{content: content, instance: o.Instance})
	switch {
	case err == nil:
		a.h.Valid()
	case ctx.Err() != nil:
		return err // not answered, so that the scanner sends it again
	case errors.Is(err, errObject):
		status, comment = dimse.NotUnderstood, "the object can't be understood"
	default: // the ledger has no room, or the disk refuses
		status, comment = dimse.OutOfResources, "the object can't be kept"
	}
	if err != nil {
		a.h.Unparsed(fmt.Sprintf("%s sent the object %s: %v", a.name(), o.Instance, err), dicos.Sample(content[:min(len(content), dimse.Head)]))
	}
	if _, err := a.conn.Write(a.receiver.Answer(o, status, comment)); err != nil {
		return fmt.Errorf("answer %s: %w", a.name(), err)
	}
	return nil
}
