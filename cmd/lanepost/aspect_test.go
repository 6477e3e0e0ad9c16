package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/simonvetter/modbus"
	"github.com/stretchr/testify/require"
	"golang.org/x/term"

	"github.com/lanepost/lanepost/drivers/rpm"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/textframe"
	"github.com/lanepost/lanepost/simulator"
)

// aspectLane is a lane with a simulated Aspect portal and sources in its traffic.
func aspectLane(c simulator.CameraSettings) *simulator.Scenario {
	s := cameraScenario("aspect-portal", 110*time.Second, c)
	s.Lanes[0].Traffic.Random.Gamma, s.Lanes[0].Traffic.Random.Neutron = 0.3, 0.2
	return s
}

// quickAspect looks often, and does not mind a busy machine.
func quickAspect(into any) error {
	s := into.(*rpm.AspectSettings)
	s.Every, s.LateAfter, s.Stall, s.CountTime = 10*time.Millisecond, time.Minute, time.Minute, time.Second
	return nil
}

// aspectTold is what a driver told, by type.
type aspectTold struct {
	occupancies []event.RadiationOccupancy
	alarms      []event.RadiationAlarm
	diagnostics []event.RadiationDiagnostic
	edges       []string // of faults and of the cabinet
	setups      int
	backgrounds []event.RadiationBackground
}

func (a aspectTold) kinds() (list []string) {
	for _, d := range a.diagnostics {
		list = append(list, d.Kind)
	}
	return list
}

func aspectEvents(h *recordingHost) (a aspectTold) {
	for _, o := range h.events() {
		switch e := o.Data.(type) {
		case event.RadiationOccupancy:
			a.occupancies = append(a.occupancies, e)
		case event.RadiationAlarm:
			a.alarms = append(a.alarms, e)
		case event.RadiationDiagnostic:
			a.diagnostics = append(a.diagnostics, e)
		case event.RadiationFault:
			a.edges = append(a.edges, e.Kind+" "+map[string]string{"raised": "1", "cleared": "0"}[e.State])
		case event.RadiationTamper:
			a.edges = append(a.edges, "tamper "+map[string]string{"on": "1", "clear": "0"}[e.State])
		case event.RadiationSetupChanged:
			a.setups++
		case event.RadiationBackground:
			a.backgrounds = append(a.backgrounds, e)
		}
	}
	return a
}

// Every occupancy is told with what the portal counted and whether it alarmed, whatever the
// portal does; what it counted and nobody saw is told as missed.
func TestSimulatedAspect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]simulator.CameraSettings{
		"as it should be": {},
		"no-description":  {},
		"no-map":          {},
		"short-map":       {},
		"counter-jump":    {},
		"counter-wrap":    {Options: map[string]string{"base": "3000"}},
		"overload":        {},
		"power-fail":      {},
		"tamper":          {},
		"slow":            {Options: map[string]string{"answer_after": "10ms"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(name, "-") || name == "overload" || name == "tamper" || name == "slow" {
				c.Switches = []string{name}
			}
			sim := simulator.Start(t, aspectLane(c))
			require.True(t, strings.HasPrefix(sim.Devices()[0].Connect, "modbus-tcp://127.0.0.1:"))
			h := newRecordingHost()
			runDriver(t, rpm.AspectPortal(), sim.Devices()[0].Connect, quickAspect, h)
			require.NoError(t, sim.Wait())
			truth, told := sim.Truth(), aspectEvents(h)
			require.False(t, slices.ContainsFunc(truth.Links, func(l simulator.LinkTruth) bool { return l.What == "written" }))
			require.GreaterOrEqual(t, len(truth.Occupancies), 3)
			require.Len(t, told.occupancies, len(truth.Occupancies))
			alarms, overloads := 0, 0
			for i, want := range truth.Occupancies {
				got := told.occupancies[i]
				require.Equal(t, event.EndClear, got.End)
				require.False(t, got.JoinedMid)
				require.Equal(t, want.GammaAlarm, got.GammaAlarm)
				require.Equal(t, want.NeutronAlarm, got.NeutronAlarm)
				require.InDelta(t, want.HighestCount, got.Reported["gamma_count"], 0)
				require.Equal(t, want.NeutronCounts, got.NeutronCounts)
				require.Equal(t, want.Direction, got.Direction)
				require.Equal(t, 1673, *got.GammaBgSumCPS)
				require.InDelta(t, 2.25, *got.NeutronBgCPS, 0)
				outcome := event.OutcomeNoAlarm
				if got.Gamma == event.ModalityFault {
					overloads++
					outcome = event.OutcomeIncomplete
				}
				if want.GammaAlarm || want.NeutronAlarm {
					alarms++
					outcome = event.OutcomeAlarm
				}
				require.Equal(t, outcome, got.Outcome)
				require.Equal(t, outcome == event.OutcomeAlarm, slices.ContainsFunc(told.alarms, func(a event.RadiationAlarm) bool { return a.OccupancyID == got.OccupancyID }))
				if name == "short-map" {
					require.Nil(t, got.GXCounter)
					require.Empty(t, got.SpeedsKPH)
					continue
				}
				require.Equal(t, want.GXCounter, *got.GXCounter)
				require.Equal(t, want.SpeedsKPH, got.SpeedsKPH)
				require.Equal(t, want.Mark, *got.ObjectMark)
			}
			require.Positive(t, alarms)
			require.Equal(t, name == "overload", overloads > 0)
			require.NotEmpty(t, told.backgrounds)
			require.Equal(t, []float64{1673}, told.backgrounds[0].GammaCPS)

			missed, wantMissed, edges := 0.0, 0.0, []string(nil)
			for _, d := range told.diagnostics {
				missed += d.Values["missed"]
			}
			for _, x := range truth.Signals {
				if x.Signal == "missed" {
					wantMissed += x.Value
					continue
				}
				edges = append(edges, x.Signal+" "+map[float64]string{1: "1", 0: "0"}[x.Value])
			}
			require.InDelta(t, wantMissed, missed, 0)
			require.Equal(t, edges, told.edges)
			require.Equal(t, name == "overload" || name == "power-fail" || name == "tamper", len(edges) > 0)
			kinds := told.kinds()
			require.Equal(t, name == "counter-jump", slices.Contains(kinds, event.DiagObjectCounterJump))
			require.Equal(t, name == "short-map", slices.Contains(kinds, event.DiagRegistersMissing))
			require.Equal(t, name == "no-map", slices.Contains(kinds, event.DiagRegisterMap))
			require.NotContains(t, kinds, event.DiagObjectCounterReset)
			require.Equal(t, map[bool]int{true: 0, false: 1}[name == "no-map" || name == "no-description"], told.setups)
		})
	}
}

// A portal that is read too seldom is never clear.
func TestSimulatedAspectTooSlow(t *testing.T) {
	t.Parallel()
	sim := simulator.Start(t, aspectLane(simulator.CameraSettings{Switches: []string{"slow"}, Options: map[string]string{"answer_after": "30ms"}}))
	h := newRecordingHost()
	runDriver(t, rpm.AspectPortal(), sim.Devices()[0].Connect, func(into any) error {
		err := quickAspect(into)
		into.(*rpm.AspectSettings).LateAfter = 20 * time.Millisecond
		return err
	}, h)
	require.NoError(t, sim.Wait())
	told := aspectEvents(h)
	require.Contains(t, told.kinds(), event.DiagLooksLate)
	require.GreaterOrEqual(t, len(told.occupancies), 3)
	for _, o := range told.occupancies {
		require.NotEqual(t, event.OutcomeNoAlarm, o.Outcome)
	}
}

// Several portals behind one address are told apart by their unit, and each has its own
// vehicles.
func TestSimulatedAspectUnits(t *testing.T) {
	t.Parallel()
	sim := simulator.Start(t, aspectLane(simulator.CameraSettings{Options: map[string]string{"units": "2"}}))
	hosts := []*recordingHost{newRecordingHost(), newRecordingHost()}
	runDriver(t, rpm.AspectPortal(), sim.Devices()[0].Connect+"?unit=1", quickAspect, hosts[0])
	runDriver(t, rpm.AspectPortal(), sim.Devices()[0].Connect+"?unit=2", quickAspect, hosts[1])
	require.NoError(t, sim.Wait())
	for i, h := range hosts {
		var want, got []int
		for _, o := range sim.Truth().Occupancies {
			if o.Unit == i+1 {
				want = append(want, o.HighestCount)
			}
		}
		for _, o := range aspectEvents(h).occupancies {
			got = append(got, int(o.Reported["gamma_count"]))
		}
		require.NotEmpty(t, want)
		require.Equal(t, want, got)
	}
}

// Behind a gateway that passes a serial line's bytes on, the same is told.
func TestSimulatedAspectBehindAGateway(t *testing.T) {
	t.Parallel()
	sim := simulator.Start(t, aspectLane(simulator.CameraSettings{Switches: []string{"no-description"}}))
	h := newRecordingHost()
	runDriver(t, rpm.AspectPortal(), "modbus-rtu-tcp://"+rtuGateway(t, sim.Devices()[0].Connect)+"?unit=1", quickAspect, h)
	require.NoError(t, sim.Wait())
	truth, told := sim.Truth(), aspectEvents(h)
	require.GreaterOrEqual(t, len(truth.Occupancies), 3)
	require.Len(t, told.occupancies, len(truth.Occupancies))
	for i, want := range truth.Occupancies {
		require.Equal(t, want.GXCounter, *told.occupancies[i].GXCounter)
		require.Equal(t, want.GammaAlarm || want.NeutronAlarm, told.occupancies[i].Outcome == event.OutcomeAlarm)
		require.InDelta(t, want.HighestCount, told.occupancies[i].Reported["gamma_count"], 0)
	}
}

// rtuGateway takes frames of a serial line (Modbus over Serial Line V1.02, 2.5.1) and asks a
// device over Modbus TCP.
func rtuGateway(t *testing.T, connect string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			line, err := l.Accept()
			if err != nil {
				return
			}
			device, err := modbus.NewClient(&modbus.ClientConfiguration{URL: strings.Replace(connect, "modbus-tcp", "tcp", 1), Timeout: time.Minute})
			if err == nil && device.Open() == nil {
				passOn(line, device)
				_ = device.Close()
			}
			line.Close()
		}
	}()
	return l.Addr().String()
}

// The units of a serial line are found by asking each of them.
func TestIdentifyUnitsOfALine(t *testing.T) {
	t.Parallel()
	sim := simulator.Start(t, cameraScenario("aspect-portal", 0, simulator.CameraSettings{Options: map[string]string{"units": "2"}}), simulator.Options{Speed: 1})
	device, err := modbus.NewClient(&modbus.ClientConfiguration{URL: strings.Replace(sim.Devices()[0].Connect, "modbus-tcp", "tcp", 1), Timeout: time.Minute})
	require.NoError(t, err)
	require.NoError(t, device.Open())
	t.Cleanup(func() { _ = device.Close() })
	master, slave, err := pty.Open()
	require.NoError(t, err)
	t.Cleanup(func() { _ = slave.Close(); _ = master.Close() })
	_, err = term.MakeRaw(int(slave.Fd()))
	require.NoError(t, err)
	go passOn(master, device)
	out, err := lanepost("identify", "--probe", "--for", "1s", slave.Name()).Output()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "Modbus RTU at 19200 8E1: of the units 1 to 32 these answer: 1, 2\n")
	require.Contains(t, string(out), "described as an Aspect portal's registers are: unit 1, 2\n")
	for i, unit := range []string{"1", "2"} {
		require.Contains(t, string(out), fmt.Sprintf("      - id: rpm-%d\n        profile: aspect-modbus\n        connect: modbus-rtu:%s?baud=19200&data=8&parity=even&stop=1&unit=%s\n", i+1, slave.Name(), unit))
	}
}

func passOn(line io.ReadWriter, device *modbus.ModbusClient) {
	request, next := make([]byte, 8), make([]byte, 1)
	for {
		// What others ask goes by: a request is what has the right check.
		if _, err := io.ReadFull(line, next); err != nil {
			return
		}
		request = append(request[1:], next[0])
		if textframe.ModbusCRC(request[:6]) != binary.LittleEndian.Uint16(request[6:]) || request[0] == 0 {
			continue
		}
		if device.SetUnitId(request[0]) != nil {
			return
		}
		n := binary.BigEndian.Uint16(request[4:])
		words, err := device.ReadRegisters(binary.BigEndian.Uint16(request[2:]), n, modbus.HOLDING_REGISTER)
		answer := []byte{request[0], request[1], byte(2 * n)}
		switch {
		case errors.Is(err, modbus.ErrGWTargetFailedToRespond), errors.Is(err, modbus.ErrGWPathUnavailable):
			continue // there is nobody on the line
		case err != nil:
			answer = []byte{request[0], request[1] | 0x80, 2}
		}
		for _, w := range words {
			answer = binary.BigEndian.AppendUint16(answer, w)
		}
		if _, err := line.Write(binary.LittleEndian.AppendUint16(answer, textframe.ModbusCRC(answer))); err != nil {
			return
		}
	}
}
