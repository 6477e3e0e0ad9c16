package link

import (
	"bytes"
	"context"
	"encoding/binary"

	"io"

	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/simonvetter/modbus"
	"github.com/stretchr/testify/require"
)

// slave is a Modbus device written from the Modbus Application Protocol V1.1b3, apart from
// the library.
type slave struct {
	mu        sync.Mutex
	bits      map[byte]map[int]bool   // by function and address
	registers map[byte]map[int]uint16 // likewise
	missing   map[int]byte            // addresses that are answered with an exception
	most      int                     // registers that are given at once; 0 for what the standard allows
	asked     [][]byte                // every request, from the function on
	damage    int                     // so many answers are damaged
	hold      chan struct{}           // answers wait for it, if there is one
	arrived   chan struct{}           // gets one for each request, if there is one
}

func newSlave() *slave {
	return &slave{bits: map[byte]map[int]bool{1: {}, 2: {}}, registers: map[byte]map[int]uint16{3: {}, 4: {}}, missing: map[int]byte{}}
}

// answer gives the answer to a request, both from the function on.
func (s *slave) answer(request []byte) []byte {
	s.mu.Lock()
	hold, arrived := s.hold, s.arrived
	s.asked = append(s.asked, bytes.Clone(request))
	s.mu.Unlock()
	if arrived != nil {
		arrived <- struct{}{}
	}
	if hold != nil {
		<-hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	function, from, n := request[0], int(binary.BigEndian.Uint16(request[1:])), int(binary.BigEndian.Uint16(request[3:]))
	if s.most > 0 && n > s.most {
		return []byte{function | 0x80, 3}
	}
	for a := from; a < from+n; a++ {
		if code := s.missing[a]; code != 0 {
			return []byte{function | 0x80, code}
		}
	}
	out := []byte{function, 0}
	if function <= 2 {
		out = append(out, make([]byte, (n+7)/8)...)
		for i := range n {
			if s.bits[function][from+i] {
				out[2+i/8] |= 1 << (i % 8)
			}
		}
	} else {
		for i := range n {
			out = binary.BigEndian.AppendUint16(out, s.registers[function][from+i])
		}
	}
	out[1] = byte(len(out) - 2)
	if s.damage > 0 {
		s.damage--
		out[len(out)-1] ^= 0x10
	}
	return out
}

func (s *slave) takeAsked() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.asked
	s.asked = nil
	return list
}

// tcp serves one connection after the other.
func (s *slave) tcp(t *testing.T) *net.TCPListener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for {
				head := make([]byte, 7)
				if _, err := io.ReadFull(c, head); err != nil {
					break
				}
				request := make([]byte, binary.BigEndian.Uint16(head[4:])-1)
				if _, err := io.ReadFull(c, request); err != nil {
					break
				}
				answer := s.answer(request)
				binary.BigEndian.PutUint16(head[4:], uint16(len(answer)+1))
				if _, err := c.Write(append(head, answer...)); err != nil {
					break
				}
			}
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.(*net.TCPListener)
}

// crc is that of Modbus over Serial Line V1.02, 6.2.2.
func crc(b []byte) []byte {
	sum := uint16(0xffff)
	for _, x := range b {
		sum ^= uint16(x)
		for range 8 {
			odd := sum&1 == 1
			if sum >>= 1; odd {
				sum ^= 0xa001
			}
		}
	}
	return []byte{byte(sum), byte(sum >> 8)}
}

// rtu serves a line until it ends. broken is how many frames are damaged on the way.
func (s *slave) rtu(line io.ReadWriter, unit byte, broken int) {
	for {
		frame := make([]byte, 8)
		if _, err := io.ReadFull(line, frame); err != nil {
			return
		}
		if frame[0] != unit || !bytes.Equal(crc(frame[:6]), frame[6:]) {
			continue
		}
		answer := append([]byte{unit}, s.answer(frame[1:6])...)
		answer = append(answer, crc(answer)...)
		if broken > 0 {
			broken--
			answer[len(answer)-3] ^= 0x01
		}
		if _, err := line.Write(answer); err != nil {
			return
		}
	}
}

func openBus(t *testing.T, connect string) Bus {
	t.Helper()
	e, err := Parse(connect, nil)
	require.NoError(t, err)
	c, err := e.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	b, ok := As[Bus](wrapped{c})
	require.True(t, ok)
	return b
}

type wrapped struct{ Conn }

func (w wrapped) Unwrap() Conn { return w.Conn }

func bit(n int) *int { return &n }

// TestCRC takes the frame of Modbus over Serial Line V1.02, 6.2.2: 02 07 gives 41 12.
func TestCRC(t *testing.T) {
	require.Equal(t, []byte{0x41, 0x12}, crc([]byte{0x02, 0x07}))
}

// TestRegisterValues has what devices send, typed by hand.
func TestRegisterValues(t *testing.T) {
	for _, c := range []struct {
		name  string
		point Point
		words []uint16
		want  float64
	}{
		{"u16", Point{Type: "u16"}, []uint16{0xfffe}, 65534},
		{"by default", Point{}, []uint16{0x8000}, 32768},
		{"i16", Point{Type: "i16"}, []uint16{0xfffe}, -2},
		{"bool", Point{Type: "bool"}, []uint16{0x0100}, 1},
		{"u32", Point{Type: "u32"}, []uint16{0x0001, 0x0002}, 65538},
		{"u32, words swapped", Point{Type: "u32", Words: "low_first"}, []uint16{0x0001, 0x0002}, 131073},
		{"u32, bytes swapped", Point{Type: "u32", Words: "high_first_bytes_swapped"}, []uint16{0x0100, 0x0200}, 65538},
		{"u32, both swapped", Point{Type: "u32", Words: "low_first_bytes_swapped"}, []uint16{0x0100, 0x0200}, 131073},
		{"u16, bytes swapped", Point{Words: "high_first_bytes_swapped"}, []uint16{0x1234}, 0x3412},
		{"i32", Point{Type: "i32"}, []uint16{0xffff, 0xff85}, -123},
		{"f32 160.5", Point{Type: "f32"}, []uint16{0x4320, 0x8000}, 160.5},
		{"f32 160.5, words swapped", Point{Type: "f32", Words: "low_first"}, []uint16{0x8000, 0x4320}, 160.5},
		{"u64", Point{Type: "u64"}, []uint16{0, 1, 0, 0}, 4294967296},
		{"i64", Point{Type: "i64"}, []uint16{0xffff, 0xffff, 0xffff, 0xffff}, -1},
		{"f64 -2.5, words swapped", Point{Type: "f64", Words: "low_first"}, []uint16{0, 0, 0, 0xc004}, -2.5},
		{"bit 0", Point{Bit: bit(0)}, []uint16{0x8001}, 1},
		{"bit 14", Point{Bit: bit(14)}, []uint16{0x8001}, 0},
		{"bit 15", Point{Bit: bit(15)}, []uint16{0x8001}, 1},
		{"bit 16 of a u32", Point{Type: "u32", Bit: bit(16)}, []uint16{0x0001, 0x0000}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.point.At = "holding:0"
			require.NoError(t, CheckPoint(c.point))
			r, err := parseRegister(c.point)
			require.NoError(t, err)
			require.Len(t, c.words, r.width)
			got, err := r.value(c.words)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	for kind, words := range map[string][]uint16{"u64": {0x20, 0, 0, 1}, "i64": {0xffdf, 0xffff, 0xffff, 0xffff}} {
		_, err := register{kind: kind, bit: -1}.value(words)
		require.ErrorIs(t, err, errNotExact, "2^53 and one")
	}
	for kind, want := range map[string]float64{"u64": 1 << 53, "i64": 1 << 53} {
		got, err := register{kind: kind, bit: -1}.value([]uint16{0x20, 0, 0, 0})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, words := range [][]uint16{{0x7fc0, 0}, {0x7f80, 0}, {0xff80, 0}} {
		_, err := register{kind: "f32", bit: -1}.value(words)
		require.ErrorIs(t, err, errNotANumber)
	}
}

func TestCheckPointRefuses(t *testing.T) {
	for want, p := range map[string]Point{
		`"40001": no address of this bus`:                                {At: "40001"},
		"did you mean holding?":                                          {At: "holdin:1"},
		"the address is not a whole number from 0 to 65535":              {At: "coil:65536"},
		"counted from 0: what a manual calls 40001 is holding:0":         {At: "holding:+1"},
		"coils and discrete inputs are single bits":                      {At: "coil:1", Type: "u16"},
		"would end beyond address 65535":                                 {At: "input:65535", Type: "u32"},
		`type "int16" is none of`:                                        {At: "input:1", Type: "int16"},
		`words "low_frist" is none of high_first, low_first`:             {At: "input:1", Words: "low_frist"},
		"bit 16 of a u16; take 0 to 15":                                  {At: "input:1", Bit: bit(16)},
		"bit 0 of a f32":                                                 {At: "input:1", Type: "f32", Bit: bit(0)},
		"the value of an OPC UA node has a type of its own":              {At: "ns=2;s=Scan", Type: "u16"},
		"ns=2;s=Scan: bit 64; take 0 to 63":                              {At: "ns=2;s=Scan", Bit: bit(64)},
		"write table:address, as in coil:3, discrete:10, holding:100 or": {At: ""},
	} {
		require.ErrorContains(t, CheckPoint(p), want)
	}
	require.NoError(t, CheckPoint(Point{At: "ns=2;s=Scan", Bit: bit(3)}))
	require.NoError(t, CheckPoint(Point{At: "input:65532", Type: "f64"}))
}

// TestSampleTCP reads all four tables of a device, in four requests that only read.
func TestSampleTCP(t *testing.T) {
	s := newSlave()
	s.bits[1][3], s.bits[2][10], s.bits[2][40] = true, true, true
	s.registers[3][100], s.registers[3][101], s.registers[3][105] = 0x4320, 0x8000, 7
	s.registers[4][7] = 0xfffe
	b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String()+"?unit=17")
	var came int
	b.(*modbusBus).CountBytes(func(n int) { came += n })
	points := []Point{
		{At: "holding:105", Bit: bit(2)}, {At: "coil:3"}, {At: "discrete:40"}, {At: "discrete:10"}, {At: "discrete:11"},
		{At: "holding:100", Type: "f32"}, {At: "input:7", Type: "i16"}, {At: "holding:105"},
	}
	got, err := b.Sample(t.Context(), points)
	require.NoError(t, err)
	var values []float64
	for _, x := range got {
		require.NoError(t, x.Err)
		values = append(values, x.Value)
	}
	require.Equal(t, []float64{1, 1, 1, 1, 0, 160.5, -2, 7}, values)
	require.Equal(t, [][]byte{
		{1, 0, 3, 0, 1}, {2, 0, 10, 0, 31}, {3, 0, 100, 0, 6}, {4, 0, 7, 0, 1},
	}, s.takeAsked())
	require.Equal(t, (9+1)+(9+4)+(9+12)+(9+2), came)
}

// TestRequestsAreBounded: never more than 125 registers or 2000 bits.
func TestRequestsAreBounded(t *testing.T) {
	s := newSlave()
	b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String())
	var points []Point
	for i := range 300 {
		points = append(points, Point{At: "holding:" + itoa(1+i)})
	}
	for i := 1; i < 4000; i += 50 {
		points = append(points, Point{At: "coil:" + itoa(i)})
	}
	s.registers[3][300] = 9
	got, err := b.Sample(t.Context(), points)
	require.NoError(t, err)
	require.Equal(t, 9.0, got[299].Value)
	asked := s.takeAsked()
	require.Len(t, asked, 5)
	for _, a := range asked {
		n := int(binary.BigEndian.Uint16(a[3:]))
		require.LessOrEqual(t, n, map[byte]int{1: 2000, 3: 125}[a[0]])
	}
}

// TestWrongAddressBlindsNoOther: one address that the device does not have leaves all
// others readable, and what was learned about it is kept.
func TestWrongAddressBlindsNoOther(t *testing.T) {
	s := newSlave()
	s.missing[5], s.missing[9] = 2, 2 // 9 is one that nobody asked for
	for i := range 20 {
		s.registers[3][i] = uint16(100 + i)
	}
	b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String())
	points := []Point{{At: "holding:3"}, {At: "holding:4"}, {At: "holding:5"}, {At: "holding:6"}, {At: "holding:8"}, {At: "holding:10"}}
	check := func() {
		got, err := b.Sample(t.Context(), points)
		require.NoError(t, err)
		for i, want := range []float64{103, 104, 0, 106, 108, 110} {
			if i == 2 {
				require.EqualError(t, got[i].Err, "holding:5: the device answers with exception 2 (illegal data address): the device has nothing at this address; addresses count from 0, manuals often from 1")
				continue
			}
			require.NoError(t, got[i].Err)
			require.Equal(t, want, got[i].Value)
		}
	}
	check()
	s.takeAsked()
	check()
	require.Len(t, s.takeAsked(), 5, "3-4, 5, 6, 8, 10")

	// It is there again: the point is read at once.
	s.mu.Lock()
	delete(s.missing, 5)
	s.mu.Unlock()
	got, err := b.Sample(t.Context(), points)
	require.NoError(t, err)
	require.NoError(t, got[2].Err)
	require.Equal(t, 105.0, got[2].Value)
}

// TestPassingException: a device that fails or is busy for a moment is read by as few requests
// as before when that is over, and one wrong address among many is found by halves, and tried
// again after a while.
func TestPassingException(t *testing.T) {
	s := newSlave()
	b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String()).(*modbusBus)
	var points []Point
	for i := range 100 {
		points = append(points, Point{At: "discrete:" + itoa(1+i)})
	}
	set := func(code byte, addresses ...int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.missing)
		for _, a := range addresses {
			s.missing[a] = code
		}
	}
	look := func(asked, wrong int) {
		t.Helper()
		got, err := b.Sample(t.Context(), points)
		require.NoError(t, err)
		failed := 0
		for _, x := range got {
			if x.Err != nil {
				failed++
			}
		}
		require.Equal(t, wrong, failed)
		require.Len(t, s.takeAsked(), asked)
	}
	for _, code := range []byte{4, 6} {
		set(code, 17)
		look(1, 100)
		set(0)
		look(1, 0)
	}
	set(2, 17)
	got, err := b.Sample(t.Context(), points)
	require.NoError(t, err)
	require.Error(t, got[16].Err)
	require.NoError(t, got[17].Err)
	require.LessOrEqual(t, len(s.takeAsked()), 2*8)
	look(8, 1)
	set(0)
	look(8, 0)
	require.False(t, b.rejoinAt.IsZero())
	b.rejoinAt = time.Now()
	look(1, 0)
	require.True(t, b.rejoinAt.IsZero())
}

// TestLearnedIsKept: points that are asked for alone now and then cost one request each, and
// leave alone what was learned about the others.
func TestLearnedIsKept(t *testing.T) {
	s := newSlave()
	s.missing[5] = 2
	b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String())
	many := []Point{{At: "holding:3"}, {At: "holding:4"}, {At: "holding:6"}, {At: "holding:7"}}
	alone := []Point{{At: "holding:5"}}
	look := func(points []Point, asked int) {
		t.Helper()
		_, err := b.Sample(t.Context(), points)
		require.NoError(t, err)
		require.Len(t, s.takeAsked(), asked)
	}
	look(many, 3)
	for range 5 {
		look(alone, 1)
		look(many, 2)
	}
	for i := range 10 {
		look([]Point{{At: "input:" + itoa(1+i)}}, 1)
	}
	require.Len(t, b.(*modbusBus).shelf, maxShelf)
}

// TestNamedException: the words and numbers of scripts, and of this package's own errors.
func TestNamedException(t *testing.T) {
	for text, code := range map[string]int{
		"exception 2": 2, "exception 6 (server device busy)": 6, "illegal data address": 2, "server device failure": 4,
		"exception 11": 11, "exception 1": 1, (&Exception{Code: 10}).Error()[len("the device answers with "):]: 10,
	} {
		require.Equal(t, &Exception{Code: code}, NamedException(text), text)
	}
	require.Nil(t, NamedException("exception 12"))
	require.Nil(t, NamedException("no answer"))
	for code, lasts := range map[int]bool{1: true, 2: true, 3: true, 4: false, 5: false, 6: false, 8: false, 10: false, 11: false, 99: false} {
		require.Equal(t, lasts, (&Exception{Code: code}).Lasts(), code)
	}
}

// TestDeviceThatGivesFewAtOnce refuses more than two registers in one request.
func TestDeviceThatGivesFewAtOnce(t *testing.T) {
	s := newSlave()
	s.most = 2
	s.registers[3][2], s.registers[3][3] = 1, 0
	b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String())
	got, err := b.Sample(t.Context(), []Point{{At: "holding:1"}, {At: "holding:2", Type: "u32"}, {At: "holding:3"}})
	require.NoError(t, err)
	require.Equal(t, []Sample{{Value: 0}, {Value: 65536}, {Value: 0}}, got)
}

func TestEveryException(t *testing.T) {
	for code, words := range map[byte]string{
		1: "exception 1 (illegal function): the device does not have this table", 2: "exception 2 (illegal data address)",
		3: "exception 3 (illegal data value)", 4: "exception 4 (server device failure)", 5: "exception 5 (acknowledge)",
		6: "exception 6 (server device busy): the device is busy; ask it less often", 8: "exception 8 (memory parity error)",
		10: "exception 10 (gateway path unavailable)", 11: "exception 11 (gateway target device failed to respond): the device behind the gateway is off, or unit is wrong",
		99: "exception 99, which Modbus does not name",
	} {
		s := newSlave()
		s.missing[1] = code
		b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String())
		got, err := b.Sample(t.Context(), []Point{{At: "input:1"}, {At: "coil:7"}})
		require.NoError(t, err)
		require.ErrorContains(t, got[0].Err, words)
		require.NoError(t, got[1].Err)
	}
}

// TestPointOfAnotherBus: an OPC UA node on a Modbus link is the error of the point.
func TestPointOfAnotherBus(t *testing.T) {
	b := openBus(t, "modbus-tcp://"+newSlave().tcp(t).Addr().String())
	got, err := b.Sample(t.Context(), []Point{{At: "ns=2;s=Scan"}, {At: "coil:7"}})
	require.NoError(t, err)
	require.ErrorIs(t, got[0].Err, errPoint)
	require.NoError(t, got[1].Err)
}

// held opens a bus whose device has a request and does not answer.
func held(t *testing.T, options string) (Bus, <-chan error) {
	s := newSlave()
	s.hold, s.arrived = make(chan struct{}), make(chan struct{}, damagedTries)
	l := s.tcp(t)
	t.Cleanup(func() { close(s.hold) }) // before the server is waited for
	b := openBus(t, "modbus-tcp://"+l.Addr().String()+"?timeout="+options)
	sample := background(func() error {
		_, err := b.Sample(t.Context(), []Point{{At: "coil:1"}})
		return err
	})
	<-s.arrived
	return b, sample
}

func TestBusCloseWhileSampling(t *testing.T) {
	b, sample := held(t, "1m")
	start := time.Now()
	require.NoError(t, b.Close())
	require.ErrorIs(t, await(t, sample), ErrClosed)
	require.Less(t, time.Since(start), soon)
	require.NoError(t, b.Close(), "again")
	_, err := b.Sample(t.Context(), []Point{{At: "coil:1"}})
	require.ErrorIs(t, err, ErrClosed)
	_, err = b.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = b.Write([]byte{1})
	require.ErrorContains(t, err, "not written to")
}

func TestBusDeadlineWhileSampling(t *testing.T) {
	b, sample := held(t, "1m")
	require.NoError(t, b.SetReadDeadline(time.Unix(1, 0)))
	require.ErrorIs(t, await(t, sample), os.ErrDeadlineExceeded)
}

func TestBusStoppedWhileSampling(t *testing.T) {
	s := newSlave()
	s.hold, s.arrived = make(chan struct{}), make(chan struct{}, 1)
	l := s.tcp(t)
	t.Cleanup(func() { close(s.hold) })
	b := openBus(t, "modbus-tcp://"+l.Addr().String()+"?timeout=1m")
	ctx, cancel := context.WithCancel(t.Context())
	sample := background(func() error {
		_, err := b.Sample(ctx, []Point{{At: "coil:1"}})
		return err
	})
	<-s.arrived
	cancel()
	require.ErrorIs(t, await(t, sample), context.Canceled)
}

// TestSlowSlave: a device that is slower than the timeout is an error of the link, which
// is of no use afterwards, so that a late answer is taken for none.
func TestSlowSlave(t *testing.T) {
	b, sample := held(t, "60ms")
	err := await(t, sample)
	require.ErrorIs(t, err, errNoAnswer)
	require.ErrorContains(t, err, "does not answer within 60ms")
	require.Contains(t, Hint(err), "set a longer timeout")
	_, again := b.Sample(t.Context(), []Point{{At: "coil:1"}})
	require.ErrorIs(t, again, errNoAnswer)
}

// TestLostAnswer: an answer that comes too late, or not at all, ends no link and is not taken
// for another one's.
func TestLostAnswer(t *testing.T) {
	for _, scheme := range []string{"modbus-tcp", "modbus-rtu-tcp"} {
		t.Run(scheme, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				head := map[bool]int{true: 6, false: 0}[scheme == "modbus-tcp"]
				var late []byte
				for asked := 1; ; asked++ {
					q := make([]byte, map[bool]int{true: 12, false: 8}[head > 0])
					if _, err := io.ReadFull(c, q); err != nil {
						return
					}
					answer := []byte{q[head], 4, 2, 0, byte(asked)}
					if head > 0 {
						answer = append([]byte{q[0], q[1], 0, 0, 0, 5}, answer...)
					} else {
						answer = append(answer, crc(answer)...)
					}
					if asked%2 == 1 { // the answer to the next request comes with it
						late = answer
						continue
					}
					if head > 0 {
						answer = append(late, answer...)
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
			b := openBus(t, scheme+"://"+l.Addr().String()+"?timeout=60ms&unit=9")
			for i := range 3 {
				got, err := b.Sample(t.Context(), []Point{{At: "input:1"}})
				require.NoError(t, err)
				require.Equal(t, []Sample{{Value: float64(2 * (i + 1))}}, got)
			}
			require.NoError(t, b.Close())
			require.NoError(t, l.Close())
			await(t, done)
		})
	}
}

// TestUnitsShareALine: two units on one line are read in turn, and one that hangs takes little
// of the other's time.
func TestUnitsShareALine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var connections int
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections++
			for {
				q := make([]byte, 8)
				if _, err := io.ReadFull(c, q); err != nil {
					break
				}
				if q[0] == 5 {
					continue // it hangs
				}
				answer := []byte{q[0], 4, 2, 0, q[0]}
				if _, err := c.Write(append(answer, crc(answer)...)); err != nil {
					break
				}
			}
			c.Close()
		}
	}()
	connect := "modbus-rtu-tcp://" + l.Addr().String() + "?timeout=100ms&unit="
	points := []Point{{At: "input:1"}}
	three, four := openBus(t, connect+"3"), openBus(t, connect+"4")
	var both sync.WaitGroup
	for unit, b := range map[float64]Bus{3: three, 4: four} {
		both.Go(func() {
			for range 50 {
				got, err := b.Sample(t.Context(), points)
				if err != nil || got[0].Value != unit {
					t.Errorf("unit %g: %v %v", unit, got, err)
					return
				}
			}
		})
	}
	both.Wait()

	hung := openBus(t, connect+"5")
	_, err = hung.Sample(t.Context(), points)
	require.ErrorIs(t, err, errNoAnswer)
	var later *RetryError
	require.ErrorAs(t, err, &later)
	require.NoError(t, hung.Close())
	e, err := Parse(connect+"5", nil)
	require.NoError(t, err)
	begin, longest, looks, refused := time.Now(), time.Duration(0), 0, 0
	for time.Since(begin) < time.Second {
		c, err := e.Open(t.Context())
		if err != nil {
			require.ErrorAs(t, err, &later)
			refused++
		} else {
			go func() {
				_, _ = c.(Bus).Sample(t.Context(), points)
				_ = c.Close()
			}()
		}
		look := time.Now()
		_, err = three.Sample(t.Context(), points)
		require.NoError(t, err)
		longest, looks = max(longest, time.Since(look)), looks+1
	}
	require.Positive(t, refused)
	require.Less(t, longest, 400*time.Millisecond)
	require.Greater(t, looks, 20)
	_, err = four.Sample(t.Context(), points)
	require.NoError(t, err)

	other, err := Parse(connect+"6&keepalive=7s", nil)
	require.NoError(t, err)
	_, err = other.Open(t.Context())
	require.ErrorContains(t, err, "one setting for all units")
	require.NoError(t, three.Close())
	require.NoError(t, four.Close())
	require.NoError(t, l.Close())
	await(t, done)
	require.Equal(t, 1, connections)
}

// TestLateAnswerOfAnother: it is not taken for that of the unit that was asked.
func TestLateAnswerOfAnother(t *testing.T) {
	late := append([]byte{8, 4, 2, 0, 99}, crc([]byte{8, 4, 2, 0, 99})...)
	mine := append([]byte{9, 4, 2, 0, 1}, crc([]byte{9, 4, 2, 0, 1})...)
	for cut := range len(late) + len(mine) {
		var a openAnswer
		a.expect(9)
		ours := func(unit byte) bool { return unit == 8 || unit == 9 }
		all := slices.Concat(late, mine)
		got := bytes.Clone(a.take(all[:cut], ours))
		got = append(got, a.take(all[cut:], ours)...)
		require.Equal(t, mine, got)
	}
}

// TestGatewayDropsTCP: the other side ends the connection while it is asked.
func TestGatewayDropsTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	b := openBus(t, "modbus-tcp://"+l.Addr().String()+"?timeout=1m")
	c, err := l.Accept()
	require.NoError(t, err)
	sample := background(func() error {
		_, err := b.Sample(t.Context(), []Point{{At: "coil:1"}})
		return err
	})
	_, err = io.ReadFull(c, make([]byte, 12))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	err = await(t, sample)
	require.ErrorIs(t, err, ErrUnplugged)
	require.NotErrorIs(t, err, ErrClosed)
	require.NotEmpty(t, Hint(err))
}

// TestNotModbus: something else answers.
func TestNotModbus(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	b := openBus(t, "modbus-tcp://"+l.Addr().String()+"?timeout=10s")
	c, err := l.Accept()
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	require.NoError(t, err)
	_, err = b.Sample(t.Context(), []Point{{At: "coil:1"}})
	require.ErrorIs(t, err, errDamaged)
	require.Contains(t, Hint(err), "modbus-rtu-tcp:")
}

// TestGateLetsOnlyReadsThrough asks the library itself to write: nothing of it travels.
func TestGateLetsOnlyReadsThrough(t *testing.T) {
	for name, write := range map[string]func(c *modbus.ModbusClient) error{
		"5 write single coil":         func(c *modbus.ModbusClient) error { return c.WriteCoil(1, true) },
		"15 write multiple coils":     func(c *modbus.ModbusClient) error { return c.WriteCoils(1, []bool{true}) },
		"6 write single register":     func(c *modbus.ModbusClient) error { return c.WriteRegister(1, 1) },
		"16 write multiple registers": func(c *modbus.ModbusClient) error { return c.WriteRegisters(1, []uint16{1, 2}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlave()
			b := openBus(t, "modbus-tcp://"+s.tcp(t).Addr().String()+"?timeout=10s").(*modbusBus)
			require.Error(t, write(b.client))
			require.ErrorIs(t, context.Cause(b.over), errNotARead)
			require.Empty(t, s.takeAsked())
		})
		t.Run(name+" rtu", func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			b := openBus(t, "modbus-rtu-tcp://"+l.Addr().String()+"?timeout=10s").(*modbusBus)
			line, err := l.Accept()
			require.NoError(t, err)
			defer line.Close()
			require.Error(t, write(b.client))
			require.ErrorIs(t, context.Cause(b.over), errNotARead)
			require.NoError(t, b.Close())
			came, err := io.ReadAll(line)
			require.NoError(t, err)
			require.Empty(t, came)
		})
	}
}

// TestSampleRTUOverTCP is a line behind a gateway that passes bytes on.
func TestSampleRTUOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := newSlave()
	s.registers[4][1] = 65000
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			s.rtu(c, 9, 0)
			c.Close()
		}
	}()
	b := openBus(t, "modbus-rtu-tcp://"+l.Addr().String()+"?unit=9")
	got, err := b.Sample(t.Context(), []Point{{At: "input:1"}})
	require.NoError(t, err)
	require.Equal(t, []Sample{{Value: 65000}}, got)
	require.NoError(t, b.Close())
	require.NoError(t, l.Close())
	await(t, done)
}

// TestForeignFrame: on a line that is shared, a frame of somebody else's is never taken for
// an answer, nor does it shift the answers that follow.
func TestForeignFrame(t *testing.T) {
	foreign := append([]byte{8, 4, 2, 0, 99}, crc([]byte{8, 4, 2, 0, 99})...)
	mine := append([]byte{9, 4, 2, 0, 99}, crc([]byte{9, 4, 2, 0, 99})...)
	for name, c := range map[string]struct {
		before, after []byte // of the answer to the first request
		ends          bool
	}{
		"before the answer":        {before: foreign, ends: true},
		"behind it":                {after: foreign},
		"of the same unit":         {after: mine},
		"a noise behind it":        {after: []byte{0}},
		"an exception of another":  {before: append([]byte{8, 0x84, 2}, crc([]byte{8, 0x84, 2})...), ends: true},
		"an answer to a write":     {before: append([]byte{9, 6, 0, 1, 0, 1}, crc([]byte{9, 6, 0, 1, 0, 1})...), ends: true},
		"an answer to more":        {before: append([]byte{9, 4, 4, 0, 1, 0, 1}, crc([]byte{9, 4, 4, 0, 1, 0, 1})...), ends: true},
		"an answer of other table": {before: append([]byte{9, 3, 2, 0, 1}, crc([]byte{9, 3, 2, 0, 1})...), ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for first := true; ; {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					for {
						q := make([]byte, 8)
						if _, err := io.ReadFull(conn, q); err != nil {
							break
						}
						answer := []byte{9, 4, 2, q[2], q[3]} // a register holds its address
						answer = append(answer, crc(answer)...)
						if first {
							first = false
							answer = slices.Concat(c.before, answer, c.after)
						}
						if _, err := conn.Write(answer); err != nil {
							break
						}
					}
					conn.Close()
				}
			}()
			t.Cleanup(func() {
				require.NoError(t, l.Close())
				<-done
			})
			points := []Point{{At: "input:1"}, {At: "input:100"}}
			b := openBus(t, "modbus-rtu-tcp://"+l.Addr().String()+"?unit=9&timeout=10s")
			if c.ends {
				_, err := b.Sample(t.Context(), points)
				require.ErrorIs(t, err, errDamaged)
				require.NoError(t, b.Close())
				b = openBus(t, "modbus-rtu-tcp://"+l.Addr().String()+"?unit=9&timeout=10s")
			}
			for range 3 {
				got, err := b.Sample(t.Context(), points)
				require.NoError(t, err)
				require.Equal(t, []Sample{{Value: 1}, {Value: 100}}, got)
			}
		})
	}
}

// FuzzPlan: however points lie, each is in one request, and no request is
// larger than the standard allows.
func FuzzPlan(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 201, 7}, false)
	f.Fuzz(func(t *testing.T, b []byte, strict bool) {
		p := plan{}
		var all []int
		for i := 0; i+2 < len(b) && i < 3*MaxPoints; i += 3 {
			r := register{function: 1 + b[i]%4, address: int(b[i+1])<<4 | int(b[i+2])&15, width: 1}
			if !r.bits() {
				r.width = []int{1, 2, 4}[b[i+2]%3]
			}
			p.registers = append(p.registers, r)
			all = append(all, i/3)
		}
		var found []int
		for _, g := range p.join(all, strict) {
			most := maxRegisters
			if g.function <= readDiscrete {
				most = maxBits
			}
			require.LessOrEqual(t, g.to-g.from, most)
			for _, m := range g.members {
				r := p.registers[m]
				require.Equal(t, g.function, r.function)
				require.True(t, r.address >= g.from && r.address+r.width <= g.to)
			}
			found = append(found, g.members...)
			var parts []int
			for _, part := range p.split(g) {
				parts = append(parts, part.members...)
			}
			slices.Sort(parts)
			require.Equal(t, slices.Sorted(slices.Values(g.members)), parts)
		}
		slices.Sort(found)
		if len(all) > 0 {
			require.Equal(t, all, found)
		}
	})
}

func TestEndpointTexts(t *testing.T) {
	for connect, want := range map[string]string{
		"modbus-tcp://10.0.3.61": "modbus-tcp://10.0.3.61:502?unit=1",
		"modbus-tcp://10.0.3.61:1502?unit=0&timeout=2s&keepalive=30s":           "modbus-tcp://10.0.3.61:1502?unit=0&keepalive=30s&timeout=2s",
		"modbus-rtu-tcp://10.0.3.61:4001?unit=247":                              "modbus-rtu-tcp://10.0.3.61:4001?unit=247",
		"modbus-rtu:/dev/ttyUSB0?baud=9600&parity=none&unit=3":                  "modbus-rtu:/dev/ttyUSB0?unit=3&baud=9600&data=8&parity=none&stop=2&backend=go.bug.st",
		"modbus-rtu:/dev/ttyUSB0?baud=9600&parity=even&timeout=300ms":           "modbus-rtu:/dev/ttyUSB0?unit=1&baud=9600&data=8&parity=even&stop=1&backend=go.bug.st&timeout=300ms",
		"modbus-rtu:/dev/ttyUSB0?baud=9600&parity=none&stop=1&backend=goserial": "modbus-rtu:/dev/ttyUSB0?unit=1&baud=9600&data=8&parity=none&stop=1&backend=goserial",
	} {
		e, err := Parse(connect, nil)
		require.NoError(t, err)
		require.Equal(t, want, e.String())
		again, err := Parse(e.String(), nil)
		require.NoError(t, err)
		require.Equal(t, want, again.String())
	}
	e, err := Parse("modbus-tcp://10.0.3.61", map[string]string{"unit": "5", "timeout": "3s", "port": "1502"})
	require.NoError(t, err)
	require.Equal(t, "modbus-tcp://10.0.3.61:1502?unit=5&timeout=3s", e.String())
}
