package uplink

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

func TestInbound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bytes []byte
		err   string
	}{
		"accepted":                    {[]byte{0x20, 2, 0, 0}, ""},
		"session present":             {[]byte{0x20, 2, 1, 0}, ""},
		"refused by the standard":     {[]byte{0x20, 2, 0, 5}, ""},
		"refused otherwise":           {[]byte{0x20, 2, 0, 0x87}, "code 135"},
		"puback, pingresp, puback":    {[]byte{0x40, 2, 0, 1, 0xd0, 0, 0x40, 2, 0xff, 0xff}, ""},
		"publish that nobody ordered": {[]byte{0x30, 5, 0, 1, 'a', 'x', 'y', 0x40, 2, 0, 1}, ""},
		"two bytes of length":         {append([]byte{0x30, 0x80, 1, 0, 1, 'a'}, make([]byte, 125)...), ""},
		"puback too long":             {[]byte{0x40, 3, 0, 1, 0}, "a packet of type 4 and 3 bytes"},
		"puback too short":            {[]byte{0x40, 0}, "a packet of type 4 and 0 bytes"},
		"a gigantic publish":          {[]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, "a packet of type 3 and 268435455 bytes"},
		"a length without end":        {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, "a packet of type 3"},
		"a connect":                   {[]byte{0x10, 12}, "a packet of type 1"},
		"a pubrec":                    {[]byte{0x50, 2, 0, 1}, "a packet of type 5"},
		"an http answer":              {[]byte("HTTP/1.1 400 Bad Request\r\n"), "a packet of type 4 and 84 bytes"},
		"a disconnect of MQTT 5":      {[]byte{0xe0, 1, 0x8e}, "EOF"},
		"a second welcome":            {[]byte{0x40, 2, 0, 1, 0x20, 2, 0, 0}, "a packet of type 2 at this point"},
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step <= len(c.bytes); step++ {
				f := inbound{welcomed: c.bytes[0] != 0x20}
				var err error
				for rest := c.bytes; len(rest) > 0 && err == nil; rest = rest[min(step, len(rest)):] {
					err = f.check(rest[:min(step, len(rest))])
				}
				if c.err == "" {
					require.NoError(t, err)
					require.Equal(t, inHeader, f.state)
				} else {
					require.ErrorContains(t, err, c.err)
				}
			}
		})
	}
}

// TestInboundFirst: nothing comes before the answer to the login.
func TestInboundFirst(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, new(inbound).check([]byte{0x40, 2, 0, 1}), "a packet of type 4 at this point")
	require.ErrorContains(t, new(inbound).check([]byte("220 mail.example")), "a packet of type 3 at this point")
	require.ErrorIs(t, new(inbound).check([]byte{0xe0, 0}), io.EOF, "it left")
}

// FuzzInbound: whatever a broker sends, what passes the check does not upset
// paho's decoders, and no frame is larger than it may be.
func FuzzInbound(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x40, 2, 0, 1, 0xd0, 0}, uint8(1))
	f.Add([]byte{0x32, 7, 0, 1, 'a', 0, 1, 'x', 'y', 0x62, 2, 0, 1}, uint8(3))
	f.Add([]byte{0x36, 2, 0xff, 0xff}, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		check := inbound{welcomed: step%2 == 0}
		passed := 0
		for passed < len(data) {
			end := min(passed+1+int(step), len(data))
			if check.check(data[passed:end]) != nil {
				break
			}
			passed = end
		}
		r := bytes.NewReader(data[:passed])
		for {
			before := r.Len()
			if _, err := packets.ReadPacket(r); err != nil {
				return
			}
			if before-r.Len() > maxInbound+5 {
				t.Fatalf("a frame of %d bytes passed", before-r.Len())
			}
		}
	})
}

// pair is a connection over TCP with the other end in hand.
func pair(t *testing.T, stall time.Duration, limit int) (*conn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	far, err := ln.Accept()
	require.NoError(t, err)
	c := newConn(near, stall, limit)
	t.Cleanup(func() {
		c.end(errCut)
		<-c.ended
		_ = far.Close()
	})
	return c, far.(*net.TCPConn)
}

func TestConnWriteNeverBlocks(t *testing.T) {
	t.Parallel()
	c, far := pair(t, patience, 64<<20)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB, nobody reads
	began := time.Now()
	for i := 0; i < len(sent); i += 1 << 20 {
		n, err := c.Write(sent[i : i+1<<20])
		require.NoError(t, err)
		require.Equal(t, 1<<20, n)
	}
	require.Less(t, time.Since(began), patience)
	got := make([]byte, len(sent))
	_, err := io.ReadFull(far, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
}

func TestConnStall(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, 200*time.Millisecond, 64<<20)
	_, err := c.Write(make([]byte, 32<<20))
	require.NoError(t, err)
	select {
	case <-c.dead:
	case <-time.After(patience):
		t.Fatal("a line that takes nothing is not given up")
	}
	require.True(t, timedOut(c.reason()), "%v", c.reason())
	_, err = c.Read(make([]byte, 1))
	require.Equal(t, c.reason(), err)
	require.False(t, c.unlessClosing(func() { t.Error("published on a dead connection") }))
}

func TestConnLimit(t *testing.T) {
	t.Parallel()
	c, _ := pair(t, patience, 1000)
	_, err := c.Write(make([]byte, 1001))
	require.NoError(t, err, "paho learns of the end by Read")
	_, err = c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "more than 1000 bytes wait")
}

func TestConnDisconnectIsFlushed(t *testing.T) {
	t.Parallel()
	c, far := pair(t, patience, 64<<20)
	large := make([]byte, 1<<20)
	_, err := c.Write(large)
	require.NoError(t, err)
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far)
		got <- b
	}()
	_, err = c.Write([]byte{0xe0, 0})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Equal(t, append(large, 0xe0, 0), <-got)
	require.ErrorIs(t, c.reason(), errEnded)
}

func TestConnReset(t *testing.T) {
	t.Parallel()
	c, far := pair(t, patience, 1000)
	c.end(errors.New("enough"))
	_, err := far.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, io.EOF, "it is reset, so that nothing arrives late")
	_, err = c.Read(make([]byte, 1))
	require.EqualError(t, err, "enough")
}
