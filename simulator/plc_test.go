package simulator

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/simonvetter/modbus"
	"github.com/stretchr/testify/require"
)

func plcScenario(c CameraSettings) *Scenario {
	return &Scenario{Name: "plc", Seed: 7, Duration: time.Minute, Lanes: []Lane{{
		ID: "entry-1", Devices: []Device{{ID: "plc-1", Model: "plc", Camera: &c}}, Traffic: Traffic{Random: &RandomTraffic{PerHour: 120}},
	}}}
}

func plcAddress(t *testing.T, s *Simulation) string {
	t.Helper()
	address, ok := strings.CutPrefix(s.Devices()[0].Connect, "modbus-tcp://")
	require.True(t, ok)
	return address
}

// TestPLCReadByAnotherProgram has a program of Debian read the controller: mbpoll, which
// counts addresses from 1 unless it is told -0.
func TestPLCReadByAnotherProgram(t *testing.T) {
	mbpoll, err := exec.LookPath("mbpoll")
	if err != nil {
		t.Skip("mbpoll is not installed (.ci/install-test-tools fetches it)")
	}
	s := Start(t, plcScenario(CameraSettings{Options: map[string]string{"missing": "holding:40"}}))
	host, port, err := net.SplitHostPort(plcAddress(t, s))
	require.NoError(t, err)
	poll := func(arguments ...string) string {
		out, err := exec.CommandContext(t.Context(), mbpoll, append(append([]string{"-m", "tcp", "-a", "1", "-0", "-1", "-q", "-p", port}, arguments...), host)...).CombinedOutput()
		if err != nil {
			return string(out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	require.Contains(t, poll("-t", "1", "-r", "2", "-c", "3"), "[2]: 1 [3]: 1 [4]: 1", "beam_permit, interlock_ok, estop_ok")
	require.Contains(t, poll("-t", "1", "-r", "14"), "[14]: 1", "barrier_down")
	require.Contains(t, poll("-t", "4", "-r", "4"), "[4]: 1", "mode")
	require.Contains(t, poll("-t", "4:int", "-B", "-r", "1"), "[1]: 4711", "scan_counter, the high word first")
	require.Contains(t, poll("-t", "3", "-r", "5"), "[5]: 64", "image_disk_free_pct")
	require.Contains(t, poll("-t", "4", "-r", "40"), "Illegal data address")
	require.Contains(t, poll("-t", "4", "-r", "64"), "Illegal data address")
}

// TestPLCRefusesToBeWritten: who writes is refused and noted.
func TestPLCRefusesToBeWritten(t *testing.T) {
	s := Start(t, plcScenario(CameraSettings{}))
	c, err := modbus.NewClient(&modbus.ClientConfiguration{URL: "tcp://" + plcAddress(t, s), Timeout: 10 * time.Second})
	require.NoError(t, err)
	require.NoError(t, c.Open())
	defer c.Close()
	require.ErrorIs(t, c.WriteCoil(1, true), modbus.ErrIllegalFunction)
	require.ErrorIs(t, c.WriteRegister(1, 1), modbus.ErrIllegalFunction)
	written := 0
	for _, l := range s.Truth().Links {
		if l.What == "written" {
			written++
		}
	}
	require.Equal(t, 2, written)
}

// TestPLCClock runs by a clock: the signals follow it, and the counter of life does.
func TestPLCClock(t *testing.T) {
	s := Start(t, plcScenario(CameraSettings{}), Options{Speed: 60})
	require.NoError(t, s.Wait())
	begun, ended := 0, 0
	for _, x := range s.Truth().Signals {
		if x.Signal == "scanning" {
			begun += int(x.Value)
			ended += 1 - int(x.Value)
		}
	}
	require.Positive(t, begun)
	require.InDelta(t, begun, ended, 1)
}

// TestModbusNeedsTCP: a listener in memory would hang for ever under testing/synctest.
func TestModbusNeedsTCP(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"plc", "aspect-portal"} {
		s := plcScenario(CameraSettings{})
		s.Lanes[0].Devices[0].Model = model
		_, err := New(s, Options{Listeners: map[string]net.Listener{"entry-1/plc-1": NewPipeListener()}})
		require.ErrorContains(t, err, "entry-1/plc-1 is a "+model+", which is reached by TCP only")
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		sim := Start(t, s, Options{Listeners: map[string]net.Listener{"entry-1/plc-1": ln}})
		require.Equal(t, "modbus-tcp://"+ln.Addr().String(), sim.Devices()[0].Connect)
	}
}

func TestPLCRefuses(t *testing.T) {
	for want, c := range map[string]CameraSettings{
		`there is no signal "speed"`:                  {Options: map[string]string{"map": "speed=holding:1"}},
		`"holding:64" is no address`:                  {Options: map[string]string{"map": "kv=holding:64"}},
		"kv is a number and does not fit into a coil": {Options: map[string]string{"map": "kv=coil:1"}},
		`drop_after: "no" is no number of requests`:   {Switches: []string{"drops-tcp"}, Options: map[string]string{"drop_after": "no"}},
		`answer_after: "1" is no time`:                {Switches: []string{"slow-slave"}, Options: map[string]string{"answer_after": "1"}},
	} {
		s, err := New(plcScenario(c), Options{})
		require.NoError(t, err)
		require.ErrorContains(t, s.Start(t.Context()), want)
		require.NoError(t, s.Close())
	}
}
