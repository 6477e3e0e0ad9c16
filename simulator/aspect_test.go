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

func aspectScenario(c CameraSettings) *Scenario {
	return &Scenario{Name: "aspect", Seed: 7, Duration: time.Minute, Lanes: []Lane{{
		ID: "entry-1", Devices: []Device{{ID: "rpm-1", Model: "aspect-portal", Camera: &c}}, Traffic: Traffic{Random: &RandomTraffic{PerHour: 120, Gamma: 0.5}},
	}}}
}

// TestAspectReadByAnotherProgram has a program of Debian read two units of a portal: mbpoll,
// whose numbers of two registers have the low word first unless it is told otherwise.
func TestAspectReadByAnotherProgram(t *testing.T) {
	mbpoll, err := exec.LookPath("mbpoll")
	if err != nil {
		t.Skip("mbpoll is not installed (.ci/install-test-tools fetches it)")
	}
	s := Start(t, aspectScenario(CameraSettings{Options: map[string]string{"units": "2", "base": "200"}}))
	host, port, err := net.SplitHostPort(plcAddress(t, s))
	require.NoError(t, err)
	poll := func(arguments ...string) string {
		out, err := exec.CommandContext(t.Context(), mbpoll, append(append([]string{"-m", "tcp", "-0", "-1", "-q", "-p", port}, arguments...), host)...).CombinedOutput()
		if err != nil {
			return string(out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	require.Contains(t, poll("-a", "2", "-t", "4", "-r", "0", "-c", "5"), "[0]: 1 [1]: 21 [2]: 2 [3]: 200 [4]: 21", "the description of the second unit")
	require.Contains(t, poll("-a", "1", "-t", "4", "-r", "202", "-c", "2"), "[202]: 0 [203]: 128", "inputs, gamma status")
	require.Contains(t, poll("-a", "1", "-t", "4:int", "-r", "204"), "[204]: 1673", "gamma count, the low word first")
	require.Contains(t, poll("-a", "1", "-t", "4:float", "-r", "206"), "[206]: 1673", "gamma background, the low word first")
	require.Contains(t, poll("-a", "1", "-t", "4:float", "-r", "213"), "[213]: 2.25", "neutron background")
	require.Contains(t, poll("-a", "1", "-t", "4", "-r", "217", "-c", "4"), "[217]: 4711 [218]: 0 [219]: 0 [220]: 256", "counter, mark, speed, outputs")
	require.Contains(t, poll("-a", "1", "-t", "4", "-r", "199"), "Illegal data address")
	require.Contains(t, poll("-a", "1", "-t", "4", "-r", "221"), "Illegal data address")
	require.Contains(t, poll("-a", "3", "-t", "4", "-r", "202"), "Target device failed to respond")
}

// TestAspectRefusesToBeWritten: who writes is refused and noted.
func TestAspectRefusesToBeWritten(t *testing.T) {
	s := Start(t, aspectScenario(CameraSettings{}))
	c, err := modbus.NewClient(&modbus.ClientConfiguration{URL: "tcp://" + plcAddress(t, s), Timeout: 10 * time.Second})
	require.NoError(t, err)
	require.NoError(t, c.Open())
	defer c.Close()
	require.ErrorIs(t, c.WriteRegister(100, 1), modbus.ErrIllegalFunction)
	written := 0
	for _, l := range s.Truth().Links {
		if l.What == "written" {
			written++
		}
	}
	require.Equal(t, 1, written)
}

// TestAspectClock runs by a clock: vehicles pass whether or not somebody looks.
func TestAspectClock(t *testing.T) {
	s := Start(t, aspectScenario(CameraSettings{}), Options{Speed: 60})
	require.NoError(t, s.Wait())
	require.NotEmpty(t, s.Truth().Occupancies)
	alarms := 0
	for i, o := range s.Truth().Occupancies {
		require.Equal(t, i+1, o.Occupancy)
		require.Equal(t, aspectFirst+i+1, o.GXCounter)
		require.Less(t, o.StartS, o.EndS)
		if o.GammaAlarm {
			alarms++
			require.True(t, o.SourceInside)
		}
	}
	require.Positive(t, alarms)
}

func TestAspectRefuses(t *testing.T) {
	for want, c := range map[string]CameraSettings{
		`units: "33" is no number from 1`:   {Options: map[string]string{"units": "33"}},
		`base: "7" is no number from 8`:     {Options: map[string]string{"base": "7"}},
		`size: "many" is no number`:         {Options: map[string]string{"size": "many"}},
		`answer_after: "2h" is no time up `: {Switches: []string{"slow"}, Options: map[string]string{"answer_after": "2h"}},
	} {
		s, err := New(aspectScenario(c), Options{})
		require.NoError(t, err)
		require.ErrorContains(t, s.Start(t.Context()), want)
		require.NoError(t, s.Close())
	}
}
