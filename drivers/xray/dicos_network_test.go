package xray

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/dicos"
	"github.com/lanepost/lanepost/protocol/dimse"
)

const (
	classDX  = "1.2.840.10008.5.1.4.1.1.501.2.1"
	classTDR = "1.2.840.10008.5.1.4.1.1.501.3"
)

// receiving is a driver whose objects go no further than to store.
func receiving(t *testing.T, store func(drivers.Host, stored) error, change ...func(*NetworkSettings)) *network {
	t.Helper()
	s := networkDefaults()
	for _, f := range change {
		f(&s)
	}
	require.NoError(t, s.check())
	if store == nil {
		store = func(drivers.Host, stored) error { return nil }
	}
	return &network{settings: s, store: store}
}

func proposal(change ...func(*dimse.Associate)) []byte {
	a := dimse.Associate{
		Version: 1, Called: "LANEPOST", Calling: "SCANNER", Application: dimse.ApplicationContext, MaxLength: 16384, Class: "1.2.3",
		Contexts: []dimse.Context{
			{ID: 1, Abstract: dimse.Verification, Transfers: []string{dimse.ImplicitLE}},
			{ID: 3, Abstract: classDX, Transfers: []string{dimse.ExplicitLE}},
		},
	}
	for _, f := range change {
		f(&a)
	}
	return a.Append(nil, dimse.AssociateRQ)
}

// storing is a C-STORE of n bytes.
func storing(instance string, n int) []byte {
	return dimse.AppendMessage(nil, 3, dimse.Command{Field: dimse.StoreRQ, ID: 5, Class: classDX, Instance: instance, DataSet: true}, make([]byte, n), 1000)
}

func release() []byte { return dimse.PDU{Type: dimse.ReleaseRQ, Body: make([]byte, 4)}.Append(nil) }

func chunk(at time.Duration, parts ...[]byte) drivers.Chunk {
	c := drivers.Chunk{At: at}
	for _, p := range parts {
		c.Bytes = append(c.Bytes, p...)
	}
	return c
}

// Each thing that goes wrong on the way, by its name.
func TestNetworkFaults(t *testing.T) {
	whole := storing("1.2.3", 5000)
	calling := func(s *NetworkSettings) { s.Calling = []string{"OTHER", "THIRD"} }
	title := func(s *NetworkSettings) { s.Title = "LANE-4" }
	secret := filepath.Join(t.TempDir(), "passcode")
	require.NoError(t, os.WriteFile(secret, []byte("right\n"), 0o600))
	login := func(s *NetworkSettings) { s.Username, s.PasswordFile = "lane", secret }
	as := func(name, passcode string) []byte {
		return proposal(func(a *dimse.Associate) {
			a.Identity = &dimse.Identity{Kind: dimse.IdentityPasscode, Name: name, Passcode: passcode}
		})
	}
	for name, c := range map[string]struct {
		script   []drivers.Chunk
		settings func(*NetworkSettings)
		stored   int
		unparsed string // empty for nothing
		err      string
	}{
		"all is well":                    {script: []drivers.Chunk{chunk(0, proposal(), whole, whole, release())}, stored: 2},
		"an association without objects": {script: []drivers.Chunk{chunk(0, proposal()), chunk(time.Minute, release())}},
		"it hangs up without a release":  {script: []drivers.Chunk{chunk(0, proposal(), whole)}, stored: 1},
		"a connection that says nothing": {script: []drivers.Chunk{{At: 0}, {At: time.Minute}}, err: "hangs"},
		"half a proposal": {script: []drivers.Chunk{chunk(0, proposal()[:100]), {At: time.Minute}},
			unparsed: "ended in the middle of a data unit, of which 100 bytes have come: the scanner hangs", err: "hangs"},
		"an object that is cut off": {script: []drivers.Chunk{chunk(0, proposal(), whole[:3000])},
			unparsed: `the connection of the scanner "SCANNER" ended in the middle of the object 1.2.3, of which 1988 bytes have come`},
		"an object that stops": {script: []drivers.Chunk{chunk(0, proposal(), whole[:3000]), chunk(31*time.Second, whole[3000:])},
			unparsed: "in the middle of the object 1.2.3", err: "hangs"},
		"an object that is slow": {script: []drivers.Chunk{chunk(0, proposal(), whole[:3000]), chunk(29*time.Second, whole[3000:4000]), chunk(58*time.Second, whole[4000:])},
			stored: 1},
		"an object without end": {script: func() (list []drivers.Chunk) {
			list = append(list, chunk(0, proposal(), whole[:100]))
			for i := range 80 {
				list = append(list, chunk(time.Duration(i)*29*time.Second, whole[100+i:101+i]))
			}
			return list
		}(), unparsed: "in the middle of", err: "hangs"},
		"an abort in an object": {script: []drivers.Chunk{chunk(0, proposal(), whole[:1124], dimse.Abort{}.Append(nil))},
			unparsed: "in the middle of the object 1.2.3, of which 994 bytes have come: the peer broke the association off"},
		"a release in an object": {script: []drivers.Chunk{chunk(0, proposal(), whole[:1124], release())},
			unparsed: "in the middle of the object 1.2.3, of which 994 bytes have come: the peer ended the association in the middle of a message"},
		"silence": {script: []drivers.Chunk{chunk(0, proposal(), whole), {At: time.Hour}}, stored: 1,
			err: `the scanner "SCANNER" has said nothing for 10m0s`},
		"an object that is too large": {script: []drivers.Chunk{chunk(0, proposal(), storing("1.2.9", 5001), whole, release())},
			settings: func(s *NetworkSettings) { s.MaxObject = 5000 }, stored: 1,
			unparsed: "sent 5001 bytes of the object 1.2.9, which was not taken: it is larger than 5000 bytes"},
		"no DICOM":           {script: []drivers.Chunk{chunk(0, []byte("GET / HTTP/1.1\r\n\r\n"))}, unparsed: "this is no DICOM protocol data unit"},
		"another caller":     {script: []drivers.Chunk{chunk(0, proposal(), whole)}, settings: calling, unparsed: `an association was refused: "SCANNER" is not one of those that may call`},
		"another name":       {script: []drivers.Chunk{chunk(0, proposal(), whole)}, settings: title, unparsed: `"SCANNER" calls "LANEPOST", and this is "LANE-4"`},
		"no login":           {script: []drivers.Chunk{chunk(0, proposal(), whole)}, settings: login, unparsed: "has not told the right user name and passcode"},
		"the wrong passcode": {script: []drivers.Chunk{chunk(0, as("lane", "wrong"), whole)}, settings: login, unparsed: "has not told the right user name and passcode"},
		"the right passcode": {script: []drivers.Chunk{chunk(0, as("lane", "right"), whole)}, settings: login, stored: 1},
		"a login that can't be read": {script: []drivers.Chunk{chunk(0, as("lane", "right"), whole)}, settings: func(s *NetworkSettings) { s.Username, s.PasswordFile = "lane", secret+"2" },
			unparsed: "password_file: open"},
		"nothing of DICOS": {script: []drivers.Chunk{chunk(0, proposal(func(a *dimse.Associate) { a.Contexts[1].Abstract = "1.2.840.10008.5.1.4.1.1.2" }), release())},
			unparsed: `the scanner "SCANNER" proposes nothing of DICOS but 1.2.840.10008.5.1.4.1.1.2`},
	} {
		t.Run(name, func(t *testing.T) {
			var got []stored
			n := receiving(t, func(_ drivers.Host, o stored) error { got = append(got, o); return nil })
			if c.settings != nil {
				c.settings(&n.settings)
			}
			p, err := drivers.Play(t.Context(), n, c.script)
			if c.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.err)
			}
			require.Len(t, got, c.stored)
			if c.unparsed == "" {
				require.Empty(t, p.Unparsed)
			} else {
				require.Len(t, p.Unparsed, 1)
				require.Contains(t, p.Unparsed[0].Reason, c.unparsed)
			}
			require.Zero(t, n.held, "nothing is held any more")
		})
	}
}

func TestPartTen(t *testing.T) {
	b := partTen(dimse.Object{Class: classTDR, Instance: "1.2.3", Transfer: dimse.ExplicitLE, DataSet: []byte("data")})
	require.Equal(t, make([]byte, 128), b[:128])
	// Typed from PS3.10, 7.1.
	want := "DICM" +
		"\x02\x00\x00\x00UL\x04\x00\xa2\x00\x00\x00" +
		"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01" +
		"\x02\x00\x02\x00UI\x1e\x001.2.840.10008.5.1.4.1.1.501.3\x00" +
		"\x02\x00\x03\x00UI\x06\x001.2.3\x00" +
		"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\x00" +
		"\x02\x00\x12\x00UI\x2c\x002.25.113059749145936325402354257176981405696" +
		"\x02\x00\x13\x00SH\x08\x00LANEPOST" +
		"data"
	require.Equal(t, want, string(b[128:]))
}

// listening runs a driver that scanners can connect to.
func listening(t *testing.T, n drivers.Instrument, h *host) (address string, a *link.Acceptor) {
	t.Helper()
	e, err := link.Parse("tcp-listen://127.0.0.1:0", nil)
	require.NoError(t, err)
	conn, err := e.Open(t.Context())
	require.NoError(t, err)
	a, ok := link.As[*link.Acceptor](conn)
	require.True(t, ok)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, conn, h) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, a.SetReadDeadline(time.Unix(1, 0)))
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, a.Close())
	})
	return a.Addr().String(), a
}

func newHost() *host { return &host{ledger: &drivers.MemoryLedger{}, now: time.Now} }

// scu is a scanner of a test.
type scu struct {
	t    *testing.T
	conn net.Conn
	s    dimse.Splitter
}

func connect(t *testing.T, address string) *scu {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return &scu{t: t, conn: conn}
}

func (c *scu) send(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

// next is the data unit that comes next.
func (c *scu) next() dimse.PDU {
	c.t.Helper()
	b := make([]byte, 1024)
	for {
		p, ok, err := c.s.Next()
		require.NoError(c.t, err)
		if ok {
			return p
		}
		n, err := c.conn.Read(b)
		require.NoError(c.t, err)
		c.s.Write(b[:n])
	}
}

func (c *scu) answer() dimse.Command {
	c.t.Helper()
	p := c.next()
	require.Equal(c.t, dimse.DataTF, p.Type)
	list, err := dimse.ParseData(p.Body)
	require.NoError(c.t, err)
	a, err := dimse.ParseCommand(list[0].Bytes)
	require.NoError(c.t, err)
	return a
}

// An object is answered when it is stored, and not before.
func TestNetworkAnswersWhatIsDurable(t *testing.T) {
	arrived, durable := make(chan struct{}), make(chan error)
	n := receiving(t, func(drivers.Host, stored) error { arrived <- struct{}{}; return <-durable })
	address, _ := listening(t, n, newHost())
	c := connect(t, address)
	c.send(proposal())
	require.Equal(t, dimse.AssociateAC, c.next().Type)
	c.send(storing("1.2.3", 100))
	<-arrived
	require.NoError(t, c.conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := c.conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it was answered before it was stored")
	require.NoError(t, c.conn.SetReadDeadline(time.Now().Add(time.Minute)))
	durable <- nil
	require.Equal(t, dimse.Success, c.answer().Status)
	// What can't be understood is answered so, and the association goes on.
	c.send(storing("1.2.4", 100))
	<-arrived
	durable <- fmt.Errorf("%w: it is empty", errObject)
	a := c.answer()
	require.Equal(t, dimse.NotUnderstood, a.Status)
	require.Equal(t, "1.2.4", a.Instance)
	// What the agent could not store is to be sent again.
	c.send(storing("1.2.5", 100))
	<-arrived
	durable <- errors.New("the ledger is full")
	require.Equal(t, dimse.OutOfResources, c.answer().Status)
}

// Two associations are served at once, and share the room for objects.
func TestNetworkServesTwoAtOnce(t *testing.T) {
	var mu sync.Mutex
	var got []string
	n := receiving(t, func(_ drivers.Host, o stored) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, o.instance)
		return nil
	}, func(s *NetworkSettings) { s.MaxObject = 100_000 })
	h := newHost()
	address, _ := listening(t, n, h)
	list := []*scu{connect(t, address), connect(t, address), connect(t, address)}
	message := func(i int) []byte { return storing(fmt.Sprintf("1.2.%d", i), 90_000) }
	for i, c := range list {
		c.send(proposal())
		require.Equal(t, dimse.AssociateAC, c.next().Type)
		if m := message(i); i < 2 {
			c.send(m[:len(m)-2000])
			require.Eventually(t, func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.held > (i+1)*85_000 }, time.Minute, time.Millisecond)
		} else { // two of the largest may be held
			c.send(m)
			require.Equal(t, dimse.OutOfResources, c.answer().Status)
		}
	}
	for i, c := range list[:2] {
		m := message(i)
		c.send(m[len(m)-2000:])
		require.Equal(t, dimse.Success, c.answer().Status)
	}
	// There is room again.
	for i, c := range list {
		c.send(message(i))
		require.Equal(t, dimse.Success, c.answer().Status)
		c.send(release())
		require.Equal(t, dimse.ReleaseRP, c.next().Type)
	}
	mu.Lock()
	require.Len(t, got, 5)
	mu.Unlock()
}

func TestNetworkTellsWhoWasTurnedAway(t *testing.T) {
	h := newHost()
	address, a := listening(t, receiving(t, nil, func(s *NetworkSettings) { s.Title = "LANE-4" }), h)
	c := connect(t, address)
	c.send(proposal())
	p := c.next()
	require.Equal(t, dimse.AssociateRJ, p.Type)
	require.Equal(t, []byte{0, 1, 1, 7}, p.Body)
	var list []link.Refusal
	require.Eventually(t, func() bool { list, _ = a.Refusals(); return len(list) > 0 }, time.Minute, time.Millisecond)
	require.Equal(t, "wrong_name", list[0].Reason)
	require.Equal(t, "127.0.0.1", list[0].Remote.String())
}

// When the agent stops, a scanner is told at once that its object was not taken.
func TestNetworkStops(t *testing.T) {
	n := receiving(t, nil)
	h := newHost()
	e, err := link.Parse("tcp-listen://127.0.0.1:0", nil)
	require.NoError(t, err)
	conn, err := e.Open(t.Context())
	require.NoError(t, err)
	a, _ := link.As[*link.Acceptor](conn)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, conn, h) }()
	c := connect(t, a.Addr().String())
	c.send(proposal())
	require.Equal(t, dimse.AssociateAC, c.next().Type)
	c.send(storing("1.2.3", 5000)[:2000])
	cancel()
	require.NoError(t, a.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, <-done, context.Canceled)
	p := c.next()
	require.Equal(t, dimse.AbortPDU, p.Type)
	require.NoError(t, a.Close())
}

func TestNetworkSettings(t *testing.T) {
	for want, change := range map[string]func(*NetworkSettings){
		"ae_title":     func(s *NetworkSettings) { s.Title = strings.Repeat("A", 17) },
		"calling":      func(s *NetworkSettings) { s.Calling = []string{" A"} },
		"none of them": func(s *NetworkSettings) { s.Calling = []string{""} },
		"keep one":     func(s *NetworkSettings) { s.Username, s.PasswordFile, s.PasswordEnv = "a", "b", "C" },
		"set username": func(s *NetworkSettings) { s.PasswordEnv = "C" },
		"max_object":   func(s *NetworkSettings) { s.MaxObject = 1 << 30 },
		"idle":         func(s *NetworkSettings) { s.Idle = time.Second },
	} {
		s := networkDefaults()
		change(&s)
		require.ErrorContains(t, s.check(), want)
	}
}

// dcmtk runs a program of that toolkit.
func dcmtk(t *testing.T, name string, args ...string) (output string, err error) {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not there; install the Debian package dcmtk", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return string(b), err
}

// dicosFile is a picture of a scan.
func dicosFile(t *testing.T, syntax, instance string) []byte {
	t.Helper()
	o := dicos.Object{
		TransferSyntax: syntax, SOPClass: dicos.ClassDX, SOPInstance: instance, Modality: "XRAY", Version: "V03", ScanInstance: "2.25.77", ScanID: "77",
		ScanType: "OPERATIONAL", Inspected: dicos.Inspected{ID: "TSTU1000030", Authority: "TEST", IDType: "TEXT", Type: "CARGO"},
		Image: dicos.Image{Rows: 40, Columns: 30, Frames: 1, BitsStored: 16},
	}
	pixels := make([]uint16, 40*30)
	for i := range pixels {
		pixels[i] = uint16(i * 37)
	}
	b, err := dicos.Form{}.Append(nil, &o, pixels)
	require.NoError(t, err)
	return b
}

// What dcmtk sends is received, in each transfer syntax.
func TestStorescuSendsToNetwork(t *testing.T) {
	var mu sync.Mutex
	got := map[string]*dicos.Object{}
	n := receiving(t, func(_ drivers.Host, x stored) error {
		o, err := dicos.Decode(x.content)
		if err != nil {
			return fmt.Errorf("%w: %w", errObject, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[x.instance] = o
		return nil
	}, func(s *NetworkSettings) { s.Title, s.Calling = "LANE-4", []string{"STORESCU", "ECHOSCU"} })
	h := newHost()
	address, _ := listening(t, n, h)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	said, err := dcmtk(t, "echoscu", "--call", "LANE-4", "127.0.0.1", port)
	require.NoError(t, err, said)
	_, err = dcmtk(t, "echoscu", "--call", "LANE-5", "127.0.0.1", port)
	require.Error(t, err, "it was let in by another name")
	for option, syntax := range map[string]string{"--propose-little": dicos.ExplicitLE, "--propose-implicit": dicos.ImplicitLE, "--propose-lossless": dicos.JPEGLossless, "--propose-rle": dicos.RLE} {
		dir := t.TempDir()
		instance := "2.25.77." + map[string]string{dicos.ExplicitLE: "1", dicos.ImplicitLE: "2", dicos.JPEGLossless: "3", dicos.RLE: "4"}[syntax]
		require.NoError(t, os.WriteFile(filepath.Join(dir, "dx.dcm"), dicosFile(t, syntax, instance), 0o600))
		said, err := dcmtk(t, "storescu", "--required", option, "--call", "LANE-4", "--max-send-pdu", "4096", "127.0.0.1", port, filepath.Join(dir, "dx.dcm"))
		require.NoError(t, err, said)
		mu.Lock()
		o := got[instance]
		mu.Unlock()
		require.NotNil(t, o, "%s: %s", option, said)
		require.Equal(t, syntax, o.TransferSyntax)
		require.Equal(t, instance, o.SOPInstance)
		require.True(t, o.Whole())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Len(t, h.unparsed, 1)
	require.Contains(t, h.unparsed[0], `"ECHOSCU" calls "LANE-5", and this is "LANE-4"`)
	require.Equal(t, 10, h.valid, "one echo and four objects, and their associations")
}

// A login is told by dcmtk and looked at.
func TestEchoscuLogsIn(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "passcode")
	require.NoError(t, os.WriteFile(secret, []byte("right\n"), 0o600))
	address, _ := listening(t, receiving(t, nil, func(s *NetworkSettings) { s.Username, s.PasswordFile = "lane", secret }), newHost())
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	for password, ok := range map[string]bool{"right": true, "wrong": false} {
		said, err := dcmtk(t, "storescu", "--user", "lane", "--password", password, "--pos-response", "--required", "127.0.0.1", port, writeFile(t, dicosFile(t, dicos.ExplicitLE, "2.25.1")))
		require.Equal(t, ok, err == nil, "%s: %s", password, said)
	}
}

func writeFile(t *testing.T, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "object.dcm")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}
