package link

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// rtuRig is a device on a line, and the URL of the line.
func rtuRig(t *testing.T, s *slave, broken int) string {
	p := newPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.rtu(p.master, 3, broken)
	}()
	t.Cleanup(func() {
		p.slave.Close() // the last one of the port: the read of the instrument ends
		<-done
	})
	return "modbus-rtu:" + p.slave.Name() + "?baud=115200&parity=none&unit=3"
}

func TestSampleRTU(t *testing.T) {
	s := newSlave()
	s.bits[2][1] = true
	s.registers[3][0], s.registers[3][1] = 0x0001, 0x86a0
	b := openBus(t, rtuRig(t, s, 0))
	for range 3 {
		got, err := b.Sample(t.Context(), []Point{{At: "discrete:1"}, {At: "holding:0", Type: "u32"}, {At: "coil:0"}})
		require.NoError(t, err)
		require.Equal(t, []Sample{{Value: 1}, {Value: 100000}, {Value: 0}}, got)
	}
	for _, a := range s.takeAsked() {
		require.Contains(t, []byte{1, 2, 3}, a[0])
	}
}

// TestRTUDamagedAnswer: what is damaged on the line is asked for again, and is no value.
func TestRTUDamagedAnswer(t *testing.T) {
	s := newSlave()
	s.registers[3][0] = 77
	b := openBus(t, rtuRig(t, s, 2))
	got, err := b.Sample(t.Context(), []Point{{At: "holding:0"}})
	require.NoError(t, err)
	require.Equal(t, []Sample{{Value: 77}}, got)
	require.Len(t, s.takeAsked(), 3)

	b = openBus(t, rtuRig(t, s, 3))
	_, err = b.Sample(t.Context(), []Point{{At: "holding:0"}})
	require.ErrorIs(t, err, errDamaged)
	require.Contains(t, Hint(err), "termination")
}

// TestRTUException: a line's device refuses an address.
func TestRTUException(t *testing.T) {
	s := newSlave()
	s.missing[1] = 2
	b := openBus(t, rtuRig(t, s, 0))
	got, err := b.Sample(t.Context(), []Point{{At: "holding:0"}, {At: "holding:1"}})
	require.NoError(t, err)
	require.NoError(t, got[0].Err)
	require.ErrorContains(t, got[1].Err, "exception 2")
}

// TestRTUUnplugged: the adapter is pulled.
func TestRTUUnplugged(t *testing.T) {
	p := newPair(t)
	b := openBus(t, "modbus-rtu:"+p.slave.Name()+"?baud=115200&parity=none&unit=3&timeout=1m")
	sample := background(func() error {
		_, err := b.Sample(t.Context(), []Point{{At: "coil:1"}})
		return err
	})
	_, err := p.master.Read(make([]byte, 8)) // it has asked
	require.NoError(t, err)
	hangUp(t, p.slave)
	require.ErrorIs(t, await(t, sample), ErrUnplugged)
}
