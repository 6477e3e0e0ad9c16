package lane

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/llrp"
)

func tagReaderOf(t *testing.T, change func(*LLRPSettings)) drivers.Instrument {
	t.Helper()
	d, err := LLRP().New(func(into any) error {
		if change != nil {
			change(into.(*LLRPSettings))
		}
		return nil
	})
	require.NoError(t, err)
	return d
}

func message(at time.Duration, t llrp.Type, payload []byte) drivers.Chunk {
	return drivers.Chunk{At: at, Bytes: llrp.Message{Type: t, ID: uint32(at), Payload: payload}.Append(nil)}
}

func welcome(at time.Duration, status uint16) drivers.Chunk {
	return message(at, llrp.ReaderEventNotification, llrp.AppendEvent(nil, llrp.Event{UTC: drivers.ScriptStart(), Attempt: true, Status: status}))
}

func report(at time.Duration, tags ...llrp.Tag) drivers.Chunk {
	return message(at, llrp.ROAccessReport, llrp.AppendReport(nil, tags...))
}

func keepalive(at time.Duration) drivers.Chunk { return message(at, llrp.Keepalive, nil) }

func tag(n byte) llrp.Tag {
	return llrp.Tag{EPC: []byte{0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n}, Antenna: 1, RSSI: -50 - int8(n), HasRSSI: true}
}

func tagsOf(p drivers.Played) (list []event.LaneTag) {
	for _, o := range p.Observations {
		list = append(list, o.Data.(event.LaneTag))
	}
	return list
}

// What goes wrong with RFID readers, by its name.
func TestRFID(t *testing.T) {
	const s = time.Second
	var crowd []llrp.Tag
	for i := range maxPresent + 1 {
		crowd = append(crowd, llrp.Tag{EPC: []byte{1, byte(i >> 8), byte(i)}})
	}
	damaged := report(2*s, tag(2))
	damaged.Bytes[13] += 9 // the report's own length is right
	for name, c := range map[string]struct {
		change   func(*LLRPSettings)
		script   []drivers.Chunk
		unparsed int
		fails    string
		check    func(*testing.T, []event.LaneTag)
	}{
		"one tag, many reports": {script: []drivers.Chunk{welcome(0, 0), report(s, tag(1)), report(2*s, tag(1), tag(1)), report(3*s, tag(1)), keepalive(9 * s)}, check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, 1)
			require.Equal(t, 4, l[0].Reports)
			require.Empty(t, l[0].Flags)
			require.Equal(t, event.At(drivers.ScriptStart().Add(3*s)), l[0].LastTS)
		}},
		"two tags of one vehicle": {script: []drivers.Chunk{welcome(0, 0), report(s, tag(1), tag(2)), keepalive(9 * s)}, check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, 2)
			require.Equal(t, "300000000000000000000001", l[0].Private.EPC)
			require.Equal(t, -52, *l[1].PeakRSSIDBM)
		}},
		"two hundred reads a second of one tag": {script: func() (script []drivers.Chunk) {
			script = append(script, welcome(0, 0))
			for i := range 2000 {
				script = append(script, report(s+time.Duration(i)*5*time.Millisecond, tag(1)))
			}
			return append(script, keepalive(19*s))
		}(), check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, 1)
			require.Equal(t, 2000, l[0].Reports)
		}},
		"a tag of the neighbour lane": {change: func(s *LLRPSettings) { s.Antennas, s.WeakBelowDBM = []int{2, 3}, -51 }, script: []drivers.Chunk{
			welcome(0, 0), report(s, tag(1), tag(2)), report(2*s, llrp.Tag{EPC: tag(1).EPC, Antenna: 3}), keepalive(9 * s),
		}, check: func(t *testing.T, l []event.LaneTag) {
			require.Equal(t, []string{"other_antenna", "weak"}, l[0].Flags)
			require.Empty(t, l[1].Flags, "antenna 3 saw it too, later")
		}},
		"a vehicle that comes back": {script: []drivers.Chunk{welcome(0, 0), report(s, tag(1)), report(20*s, tag(1)), keepalive(29 * s)}, check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, 2)
		}},
		"a tag that stays": {change: func(s *LLRPSettings) { s.Longest = 5 * time.Second }, script: []drivers.Chunk{
			welcome(0, 0), report(s, tag(1)), report(3*s, tag(1)), report(5*s, tag(1)), report(7*s, tag(1)), keepalive(20 * s),
		}, check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, 2)
			require.Equal(t, []string{"still_there"}, l[0].Flags)
			require.Equal(t, 3, l[0].Reports)
			require.Empty(t, l[1].Flags)
		}},
		"a link that is cut": {script: []drivers.Chunk{welcome(0, 0), report(s, tag(1))}, check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, 1)
			require.Equal(t, []string{"interrupted"}, l[0].Flags)
		}},
		"a reader that hangs up": {fails: "ends the connection", script: []drivers.Chunk{
			welcome(0, 0), report(s, tag(1)), message(2*s, llrp.ReaderEventNotification, llrp.AppendEvent(nil, llrp.Event{Closing: true})),
		}, check: func(t *testing.T, l []event.LaneTag) { require.Len(t, l, 1) }},
		"another client is connected": {fails: "serves one client at a time", script: []drivers.Chunk{welcome(0, 2)}},
		"somebody else tries to connect": {script: []drivers.Chunk{welcome(0, 0), report(s, tag(1)), welcome(2*s, 4), keepalive(9 * s)}, check: func(t *testing.T, l []event.LaneTag) {
			require.Empty(t, l[0].Flags)
		}},
		"a damaged report": {unparsed: 1, script: []drivers.Chunk{welcome(0, 0), damaged, report(3*s, tag(3)), keepalive(9 * s)}, check: func(t *testing.T, l []event.LaneTag) {
			require.Equal(t, "300000000000000000000003", l[len(l)-1].Private.EPC)
		}},
		"it is not LLRP":            {unparsed: 1, fails: "5084", script: []drivers.Chunk{{Bytes: []byte("SSH-2.0-dropbear\r\n")}}},
		"a message that it refuses": {unparsed: 1, script: []drivers.Chunk{welcome(0, 0), message(s, llrp.ErrorMessage, nil), keepalive(2 * s)}},
		"more tags than are kept": {script: []drivers.Chunk{welcome(0, 0), report(s, crowd...), keepalive(9 * s)}, check: func(t *testing.T, l []event.LaneTag) {
			require.Len(t, l, maxPresent+1)
			require.Equal(t, []string{"crowded"}, l[0].Flags)
			require.Nil(t, l[0].PeakRSSIDBM)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := drivers.Play(t.Context(), tagReaderOf(t, c.change), c.script)
			if c.fails == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.fails)
			}
			require.Len(t, p.Unparsed, c.unparsed)
			if c.check != nil {
				c.check(t, tagsOf(p))
			}
		})
	}
}

func TestRFIDSettings(t *testing.T) {
	for want, change := range map[string]func(*LLRPSettings){
		"gone_after: 1ms":            func(s *LLRPSettings) { s.GoneAfter = time.Millisecond },
		"longest: 1s":                func(s *LLRPSettings) { s.Longest = time.Second },
		"every: 1ms":                 func(s *LLRPSettings) { s.Every = time.Millisecond },
		"antennas: [0]":              func(s *LLRPSettings) { s.Antennas = []int{0} },
		"weak_below_dbm: 10":         func(s *LLRPSettings) { s.WeakBelowDBM = 10 },
		"message 1 is not in hexade": func(s *LLRPSettings) { s.Setup = []string{"xy"} },
		"message 2 is not exactly":   func(s *LLRPSettings) { s.Setup = []string{"04 3C 0000000A 00000001", "043C0000000A0000"} },
		"message 1 is not exactly o": func(s *LLRPSettings) { s.Setup = []string{"043C0000000A00000001 043C0000000A00000002"} },
	} {
		_, err := LLRP().New(func(into any) error { change(into.(*LLRPSettings)); return nil })
		require.ErrorContains(t, err, want)
	}
}

// What is sent to a reader: nothing before it has greeted, then the setup, the request for
// what it held back, and an answer to each keepalive with its own id.
func TestWhatAReaderIsTold(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	endpoint, err := link.Parse("tcp://"+ln.Addr().String(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := endpoint.Open(ctx)
	require.NoError(t, err)
	reader, err := ln.Accept()
	require.NoError(t, err)
	ended := make(chan error, 1)
	d := tagReaderOf(t, func(s *LLRPSettings) { s.Setup, s.Every = []string{"04 18 0000000E 0000002A 00000001"}, 0 })
	go func() { ended <- d.Run(ctx, conn, quietHost{}) }()

	require.NoError(t, reader.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = reader.Read(make([]byte, 1))
	require.Error(t, err, "it spoke first")
	require.NoError(t, reader.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err = reader.Write(welcome(0, 0).Bytes)
	require.NoError(t, err)
	read := func(n int) string {
		b := make([]byte, n)
		_, err := io.ReadFull(reader, b)
		require.NoError(t, err)
		return fmt.Sprintf("%X", b)
	}
	require.Equal(t, "04180000000E0000002A00000001", read(14))
	require.Equal(t, "04400000000A00000001", read(10))
	b, err := hex.DecodeString("043E0000000A00BC614E")
	require.NoError(t, err)
	_, err = reader.Write(b)
	require.NoError(t, err)
	require.Equal(t, "04480000000A00BC614E", read(10))
	require.NoError(t, reader.Close())
	require.Error(t, <-ended)
	require.NoError(t, conn.Close())
}

// quietHost is a host of a driver that is not listened to.
type quietHost struct{ drivers.Host }

func (quietHost) Now() time.Time          { return time.Now() }
func (quietHost) Valid()                  {}
func (quietHost) Unparsed(string, []byte) {}
