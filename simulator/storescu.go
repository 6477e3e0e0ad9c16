package simulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/lanepost/lanepost/protocol/dimse"
)

// Times and sizes of what a scanner sends by C-STORE.
const (
	storeDial   = 5 * time.Second
	storeAnswer = 20 * time.Second
	// smallUnit is how long a data unit is with "small-pdu", and slowPiece how much is
	// written at a time with "slow", slowPause apart.
	smallUnit = 200
	slowPiece = 4 << 10
	slowPause = 20 * time.Millisecond

	scannerClass   = "2.25.191827459103028374650192837465019283746"
	scannerRelease = "LANESIM"
)

// storable is an object to be stored.
type storable struct {
	class, instance string
	// transfer is the transfer syntax of dataSet.
	transfer string
	dataSet  []byte
}

// storeTarget is who objects are sent to, and how.
type storeTarget struct {
	address, called, calling string
	username, passcode       string
	// unit is how long a data unit may be; 0 is what the other side takes.
	unit uint32
	// slow: in small pieces with pauses. echo: it is asked first whether somebody is there.
	slow, echo bool
}

// errNotStored says that an object was answered, and not with success.
var errNotStored = errors.New("the object was not stored")

// storeConn is one association.
type storeConn struct {
	conn     net.Conn
	target   *storeTarget
	splitter dimse.Splitter
	peer     dimse.Associate
	contexts map[string]byte // by class and transfer syntax
	number   uint16
}

// associate opens an association for objects.
func (t *storeTarget) associate(ctx context.Context, objects []storable) (*storeConn, error) {
	dialer := net.Dialer{Timeout: storeDial}
	conn, err := dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	c := &storeConn{conn: conn, target: t, contexts: map[string]byte{}}
	a := dimse.Associate{
		Version: 1, Called: t.called, Calling: t.calling, Application: dimse.ApplicationContext, MaxLength: dimse.MaxLength,
		Class: scannerClass, Release: scannerRelease,
		Contexts: []dimse.Context{{ID: 1, Abstract: dimse.Verification, Transfers: []string{dimse.ImplicitLE}}},
	}
	if t.username != "" {
		a.Identity = &dimse.Identity{Kind: dimse.IdentityPasscode, Answer: true, Name: t.username, Passcode: t.passcode}
	}
	wanted := map[byte]string{1: dimse.Verification}
	for _, o := range objects {
		key := o.class + " " + o.transfer
		if c.contexts[key] == 0 && len(a.Contexts) < dimse.MaxContexts {
			id := byte(2*len(a.Contexts) + 1)
			c.contexts[key], wanted[id] = id, key
			a.Contexts = append(a.Contexts, dimse.Context{ID: id, Abstract: o.class, Transfers: []string{o.transfer}})
		}
	}
	p, err := c.ask(a.Append(nil, dimse.AssociateRQ))
	switch {
	case err != nil:
	case p.Type == dimse.AssociateRJ:
		r, _ := dimse.ParseReject(p.Body)
		err = fmt.Errorf("the association was refused: result %d, source %d, reason %d", r.Result, r.Source, r.Reason)
	case p.Type != dimse.AssociateAC:
		err = fmt.Errorf("a proposal was answered with a data unit of type %d", p.Type)
	default:
		c.peer, err = dimse.ParseAssociate(p)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	for _, x := range c.peer.Contexts {
		if x.Result != dimse.Accepted {
			delete(c.contexts, wanted[x.ID])
		}
	}
	if t.echo {
		if err := c.echo(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return c, nil
}

// ask sends bytes and waits for the data unit that answers them.
func (c *storeConn) ask(b []byte) (dimse.PDU, error) {
	if err := c.write(b); err != nil {
		return dimse.PDU{}, err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(storeAnswer)); err != nil {
		return dimse.PDU{}, err
	}
	buf := make([]byte, 4096)
	for {
		p, ok, err := c.splitter.Next()
		if ok || err != nil {
			return p, err
		}
		n, err := c.conn.Read(buf)
		if err != nil {
			return p, err
		}
		c.splitter.Write(buf[:n])
	}
}

func (c *storeConn) write(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(storeAnswer)); err != nil {
		return err
	}
	for c.target.slow && len(b) > slowPiece {
		if _, err := c.conn.Write(b[:slowPiece]); err != nil {
			return err
		}
		b = b[slowPiece:]
		time.Sleep(slowPause)
	}
	_, err := c.conn.Write(b)
	return err
}

// command sends a message and gives the command that answers it.
func (c *storeConn) command(message []byte) (dimse.Command, error) {
	p, err := c.ask(message)
	if err != nil {
		return dimse.Command{}, err
	}
	if p.Type != dimse.DataTF {
		return dimse.Command{}, fmt.Errorf("a message was answered with a data unit of type %d", p.Type)
	}
	var whole []byte
	for {
		list, err := dimse.ParseData(p.Body)
		if err != nil {
			return dimse.Command{}, err
		}
		for _, f := range list {
			whole = append(whole, f.Bytes...)
			if f.Last {
				return dimse.ParseCommand(whole)
			}
		}
		if p, err = c.ask(nil); err != nil {
			return dimse.Command{}, err
		}
	}
}

func (c *storeConn) unit() uint32 {
	if c.target.unit > 0 {
		return c.target.unit
	}
	return c.peer.MaxLength
}

func (c *storeConn) echo() error {
	c.number++
	q := dimse.Command{Field: dimse.EchoRQ, ID: c.number, Class: dimse.Verification}
	r, err := c.command(dimse.AppendMessage(nil, 1, q, nil, c.unit()))
	if err == nil && (r.Field != dimse.EchoRSP || r.Status != dimse.Success || r.Responding != c.number) {
		err = fmt.Errorf("a C-ECHO was answered with %04x and the status %04x", uint16(r.Field), uint16(r.Status))
	}
	return err
}

// store sends an object. It returns errNotStored (wrapped) if that was answered otherwise
// than with success. cut: the connection is ended in the middle of it.
func (c *storeConn) store(o storable, cut bool) error {
	id := c.contexts[o.class+" "+o.transfer]
	if id == 0 {
		return fmt.Errorf("%w: the other side does not take the class %s in the syntax %s", errNotStored, o.class, o.transfer)
	}
	c.number++
	q := dimse.Command{Field: dimse.StoreRQ, ID: c.number, Class: o.class, Instance: o.instance, DataSet: true}
	message := dimse.AppendMessage(nil, id, q, o.dataSet, c.unit())
	if cut {
		return errors.Join(c.write(message[:len(message)/2]), c.conn.Close())
	}
	r, err := c.command(message)
	switch {
	case err != nil:
		return err
	case r.Field != dimse.StoreRSP || r.Responding != c.number:
		return fmt.Errorf("a C-STORE was answered with %04x", uint16(r.Field))
	case !r.Status.Stored():
		return fmt.Errorf("%w: status %04x %s", errNotStored, uint16(r.Status), r.Comment)
	}
	return nil
}

// release ends the association as it should be.
func (c *storeConn) release() error {
	p, err := c.ask(dimse.PDU{Type: dimse.ReleaseRQ, Body: make([]byte, 4)}.Append(nil))
	if err == nil && p.Type != dimse.ReleaseRP {
		err = fmt.Errorf("a release was answered with a data unit of type %d", p.Type)
	}
	return errors.Join(err, c.conn.Close())
}
