package rpm

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// free is an Aspect portal's block with nothing in it, register by register: gamma
// background 1673, neutron background 2.25, the object counter at 41.
var free = [21]float64{
	1, 0, 0, 128, 1673, 0, 8192, 17617, 8192, 17617, 128, 2, 0, 0, 16400, 0, 16320, 41, 0, 0, 256,
}

// at is a step of a script: what registers become, by their place in the block.
func at(seconds float64, set map[int]float64) drivers.Held {
	h := drivers.Held{At: time.Duration(seconds * float64(time.Second)), Set: map[string]float64{}, Fails: map[string]string{}}
	for place, v := range set {
		h.Set[fmt.Sprintf("holding:%d", 100+place)] = v
	}
	return h
}

func begin() drivers.Held {
	all := map[int]float64{}
	for i, v := range free {
		all[i] = v
	}
	return at(0, all)
}

func failing(seconds float64, places ...int) drivers.Held {
	h := at(seconds, nil)
	for _, p := range places {
		h.Fails[fmt.Sprintf("holding:%d", 100+p)] = "exception 2"
	}
	return h
}

func aspectWith(t *testing.T, change func(*AspectSettings)) *aspectPortal {
	t.Helper()
	d := AspectPortal()
	x, err := d.New(func(into any) error {
		if change != nil {
			change(into.(*AspectSettings))
		}
		return nil
	})
	require.NoError(t, err)
	return x.(*aspectPortal)
}

// told plays a script and gives what came out after the first background, in short.
func told(t *testing.T, p *aspectPortal, script ...drivers.Held) (out []string, events []event.Data) {
	t.Helper()
	played, err := drivers.PlayBus(t.Context(), p, script)
	require.NoError(t, err)
	for _, o := range played.Observations {
		text := ""
		switch e := o.Data.(type) {
		case event.RadiationOccupancy:
			text = fmt.Sprintf("%s %s", e.Outcome, e.End)
			if e.GXCounter != nil {
				text += fmt.Sprintf(" #%d", *e.GXCounter)
			}
			if e.JoinedMid {
				text += " joined"
			}
			require.Equal(t, e.Outcome != event.OutcomeNoAlarm, e.Class() == event.Urgent)
		case event.RadiationAlarm:
			text = "ALARM " + e.Kind
		case event.RadiationDiagnostic:
			text = e.Kind
			if n, ok := e.Values["missed"]; ok {
				text += fmt.Sprintf(" missed %g", n)
			}
		case event.RadiationFault:
			text = e.Kind + " " + e.State
		case event.RadiationTamper:
			text = "tamper " + e.State
		case event.RadiationSetupChanged:
			text = "setup"
		case event.RadiationBackground:
			continue
		}
		out = append(out, text)
		events = append(events, o.Data)
	}
	return out, events
}

// TestAspectPassages has what may happen to a vehicle, and what is told of it. Only what
// was watched from its beginning to its end is free of alarms.
func TestAspectPassages(t *testing.T) {
	const inputs, gamma, neutron, counter, outputs = 2, 3, 10, 17, 20
	for name, c := range map[string]struct {
		change func(*AspectSettings)
		script []drivers.Held
		want   []string
	}{
		"an input first, the counter later": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1}), at(2, map[int]float64{counter: 42}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"no_alarm clear #42"},
		},
		"counted as it leaves": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 8}), at(2, map[int]float64{inputs: 0, counter: 42})},
			want:   []string{"no_alarm clear #42"},
		},
		"the next one right behind": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{counter: 43}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"incomplete next_object #42", "no_alarm clear #43"},
		},
		"the next one between two looks": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{inputs: 0, counter: 43})},
			want:   []string{"no_alarm clear #42", "incomplete clear #43 joined"},
		},
		"three right behind, of which one is there": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{counter: 45}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"incomplete next_object #42", "object_counter_jump missed 2", "no_alarm clear #45"},
		},
		"one between two looks": {
			script: []drivers.Held{at(1, map[int]float64{counter: 42})},
			want:   []string{"incomplete clear #42 joined"},
		},
		"one between two looks, with an alarm": {
			script: []drivers.Held{at(1, map[int]float64{counter: 42, gamma: 0x82}), at(2, map[int]float64{gamma: 0x80})},
			want:   []string{"ALARM gamma", "alarm clear #42 joined"},
		},
		"several between two looks": {
			script: []drivers.Held{at(1, map[int]float64{counter: 44})},
			want:   []string{"object_counter_jump missed 2", "incomplete clear #44 joined"},
		},
		"the counter begins anew": {
			script: []drivers.Held{at(0.5, map[int]float64{counter: 1000}), at(1, map[int]float64{inputs: 1, counter: 0}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"object_counter_jump missed 958", "incomplete clear #1000 joined", "object_counter_reset", "no_alarm clear"},
		},
		"the counter is set back inside": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{counter: 0}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"object_counter_reset", "incomplete clear #42"},
		},
		"both channels alarm": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{gamma: 0x81}), at(2.5, map[int]float64{neutron: 0x82}), at(3, map[int]float64{inputs: 0, gamma: 0x80, neutron: 0x80})},
			want:   []string{"ALARM gamma", "ALARM neutron", "alarm clear #42"},
		},
		"an alarm when the vehicle has gone": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{inputs: 0}), at(2.5, map[int]float64{gamma: 0x81}), at(4, map[int]float64{gamma: 0x80})},
			want:   []string{"no_alarm clear #42", "ALARM gamma", "alarm clear joined"},
		},
		"the same with linger": {
			change: func(s *AspectSettings) { s.Linger = time.Second },
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{inputs: 0}), at(2.5, map[int]float64{gamma: 0x81}), at(4, map[int]float64{gamma: 0x80})},
			want:   []string{"ALARM gamma", "alarm clear #42"},
		},
		"an alarm that stays on for the next vehicle": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42, gamma: 0x81}), at(2, map[int]float64{inputs: 0}), at(3, map[int]float64{inputs: 1, counter: 43}), at(4, map[int]float64{inputs: 0})},
			want:   []string{"ALARM gamma", "alarm clear #42", "ALARM gamma", "alarm clear #43"},
		},
		"a gap between two axles with linger": {
			change: func(s *AspectSettings) { s.Linger = time.Second },
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{inputs: 0}), at(2.5, map[int]float64{inputs: 2}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"no_alarm clear #42"},
		},
		"the alarm output alone": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42, outputs: 1}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"incomplete clear #42", "alarm_output"},
		},
		"a reset inside": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), at(1.5, map[int]float64{inputs: 0x8001}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"reset raised", "reset cleared", "incomplete clear #42"},
		},
		"a channel that is not ready": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42, neutron: 0}), at(1.5, map[int]float64{neutron: 0x80}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"neutron_not_ready raised", "neutron_not_ready cleared", "incomplete clear #42"},
		},
		"no neutron detectors": {
			change: func(s *AspectSettings) { s.Neutron = false },
			script: []drivers.Held{at(0, map[int]float64{neutron: 0}), at(1, map[int]float64{inputs: 1, counter: 42}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"no_alarm clear #42"},
		},
		"no neutron detectors, and they alarm": {
			change: func(s *AspectSettings) { s.Neutron = false },
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42, neutron: 0x81}), at(2, map[int]float64{inputs: 0, neutron: 0})},
			want:   []string{"ALARM neutron", "alarm clear #42"},
		},
		"in the portal from the beginning": {
			script: []drivers.Held{at(0, map[int]float64{inputs: 1}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"incomplete clear joined"},
		},
		"in the portal from the beginning, and the next one right behind": {
			script: []drivers.Held{at(0, map[int]float64{inputs: 1}), at(1, map[int]float64{counter: 42}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"incomplete next_object joined", "no_alarm clear #42"},
		},
		"in the portal at the end": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42})},
			want:   []string{"incomplete disconnected #42"},
		},
		"counted one look after it has left": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1}), at(2, map[int]float64{inputs: 0}), at(2.15, map[int]float64{counter: 42})},
			want:   []string{"no_alarm clear #42"},
		},
		"counted after it has left, with an alarm": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1}), at(1.5, map[int]float64{gamma: 0x81}), at(2, map[int]float64{inputs: 0, gamma: 0x80}), at(2.3, map[int]float64{counter: 42})},
			want:   []string{"ALARM gamma", "alarm clear #42"},
		},
		"the next one while the one before waits to be counted": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1}), at(2, map[int]float64{inputs: 0}), at(2.15, map[int]float64{inputs: 1, counter: 42}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"no_alarm clear", "no_alarm clear #42"},
		},
		"the second alarm after the first": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42, gamma: 0x81}), at(2, map[int]float64{gamma: 0x8083}), at(3, map[int]float64{inputs: 0, gamma: 0x80})},
			want:   []string{"ALARM gamma", "ALARM gamma", "alarm clear #42"},
		},
		"an alarm that flickers": {
			script: []drivers.Held{
				at(1, map[int]float64{inputs: 1, counter: 42, gamma: 0x81}), at(2, map[int]float64{gamma: 0x80}), at(3, map[int]float64{gamma: 0x81}), at(4, map[int]float64{gamma: 0x80}),
				at(20, map[int]float64{gamma: 0x81}), at(21, map[int]float64{gamma: 0x80}), at(22, map[int]float64{inputs: 0}),
			},
			want: []string{"ALARM gamma", "ALARM gamma", "alarm clear #42"},
		},
		"an input that is stuck hides no alarm": {
			change: func(s *AspectSettings) { s.FrozenAfter = 0 },
			script: []drivers.Held{
				at(1, map[int]float64{inputs: 1, counter: 42}), at(10, map[int]float64{gamma: 0x81}), at(12, map[int]float64{gamma: 0x80}),
				at(3600, map[int]float64{gamma: 0x83}), at(3605, map[int]float64{gamma: 0x80}),
				at(3700, map[int]float64{inputs: 3, counter: 43}), at(3702, map[int]float64{inputs: 1}),
				at(7200, map[int]float64{inputs: 0}), at(7300, map[int]float64{inputs: 1, counter: 44}), at(7302, map[int]float64{inputs: 0}),
			},
			want: []string{
				"ALARM gamma", "alarm stuck #42", "occupancy_stuck", "ALARM gamma", "alarm clear joined",
				"incomplete clear #43", "occupancy_stuck", "no_alarm clear #44",
			},
		},
		"the button": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 0x10}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"button"},
		},
		"inputs that can't be read": {
			script: []drivers.Held{failing(0, inputs), at(1, map[int]float64{counter: 42})},
			want:   []string{"registers_missing", "incomplete clear #42 joined"},
		},
		"a count that can't be read does not hide its alarm": {
			script: []drivers.Held{failing(0, 4), at(1, map[int]float64{inputs: 1, counter: 42, gamma: 0x81}), at(2, map[int]float64{inputs: 0})},
			want:   []string{"registers_missing", "ALARM gamma", "alarm clear #42"},
		},
		"a status that can't be read for a while": {
			script: []drivers.Held{at(1, map[int]float64{inputs: 1, counter: 42}), failing(1.5, gamma), at(2, map[int]float64{gamma: 0x80}), at(3, map[int]float64{inputs: 0})},
			want:   []string{"registers_missing", "registers_missing", "incomplete clear #42"},
		},
		"a status that can't be read for a while, and an alarm later": {
			script: []drivers.Held{
				at(1, map[int]float64{inputs: 1, counter: 42}), failing(2, gamma), at(2.2, map[int]float64{gamma: 0x80}),
				at(10, map[int]float64{gamma: 0x81, 4: 60000}), at(15, map[int]float64{gamma: 0x80}), at(20, map[int]float64{inputs: 0}),
			},
			want: []string{"registers_missing", "registers_missing", "ALARM gamma", "alarm clear #42"},
		},
		"the inputs and the counter can't be read for a while": {
			script: []drivers.Held{failing(1, inputs, counter), at(1.2, map[int]float64{inputs: 0, counter: 41}), at(5, map[int]float64{inputs: 1, counter: 42, neutron: 0x81}), at(6, map[int]float64{inputs: 0, neutron: 0x80})},
			want:   []string{"registers_missing", "registers_missing", "ALARM neutron", "alarm clear #42"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, _ := told(t, aspectWith(t, c.change), append([]drivers.Held{begin()}, c.script...)...)
			require.Equal(t, c.want, out)
		})
	}
}

// TestAspectReconnects: what the counter says of the time without a link is told, also over
// its wrap, and a vehicle that is in the portal then was not seen from its beginning.
func TestAspectReconnects(t *testing.T) {
	p := aspectWith(t, nil)
	out, _ := told(t, p, begin(), at(0, map[int]float64{17: 65535}))
	require.Empty(t, out)
	out, _ = told(t, p, begin(), at(0, map[int]float64{17: 2}))
	require.Equal(t, []string{"object_counter_jump missed 3"}, out)
	out, _ = told(t, p, begin(), at(0, map[int]float64{17: 5, 2: 1}), at(1, map[int]float64{2: 0}))
	require.Equal(t, []string{"object_counter_jump missed 2", "incomplete clear #5 joined"}, out)
	out, _ = told(t, p, begin(), at(0, map[int]float64{17: 5}))
	require.Empty(t, out)
}

// TestAspectFaultsOverConnections: a fault that is still there is not told again.
func TestAspectFaultsOverConnections(t *testing.T) {
	p := aspectWith(t, nil)
	out, events := told(t, p, begin(), at(0.5, map[int]float64{2: 0x0e00}), at(1, map[int]float64{3: 0x30}))
	require.Equal(t, []string{"battery_low raised", "error raised", "tamper on", "gamma_low raised", "gamma_high raised", "gamma_not_ready raised"}, out)
	require.Empty(t, events[0].(event.RadiationFault).CPS)
	out, _ = told(t, p, begin(), at(0, map[int]float64{2: 0x0c00, 3: 0x20}), failing(1, 2, 3))
	require.Equal(t, []string{"gamma_low cleared", "battery_low cleared", "registers_missing"}, out, "what can't be read stays as it was")
}

// TestAspectNumbersThatCantBe: a background that is no number is none, and is told.
func TestAspectNumbersThatCantBe(t *testing.T) {
	p := aspectWith(t, func(s *AspectSettings) { s.CountTime = time.Second })
	played, err := drivers.PlayBus(t.Context(), p, []drivers.Held{begin(), at(0, map[int]float64{7: 0xffc0})})
	require.NoError(t, err)
	require.NotEmpty(t, played.Unparsed)
	require.Contains(t, played.Unparsed[0].Reason, "gamma_background is NaN")
	b := played.Observations[0].Data.(event.RadiationBackground)
	require.Equal(t, event.NoData, b.Gamma)
	require.Empty(t, b.GammaCPS)
	require.NotContains(t, b.Reported, "gamma_background")
	require.Equal(t, []float64{2.25}, b.NeutronCPS)
}

// TestAspectDescription: a description that can't be is told, and the usual map is read;
// one that goes away as well.
func TestAspectDescription(t *testing.T) {
	description := func(words ...float64) drivers.Held {
		h := begin()
		for i := range 8 {
			h.Set[fmt.Sprintf("holding:%d", i)] = 0
		}
		for i, w := range words {
			h.Set[fmt.Sprintf("holding:%d", i)] = w
		}
		return h
	}
	p := aspectWith(t, nil)
	out, _ := told(t, p, description())
	require.Empty(t, out, "zeros are no description, and none is as it should be")
	out, events := told(t, p, description(1, 21, 1, 3, 21))
	require.Equal(t, []string{"register_map"}, out)
	require.Contains(t, events[0].(event.RadiationDiagnostic).Detail, "lie over the description itself")
	out, events = told(t, p, description(1, 21, 1, 100, 21))
	require.Equal(t, []string{"setup"}, out)
	require.Empty(t, events[0].(event.RadiationSetupChanged).Changes)
	out, _ = told(t, p, description(1, 21, 1, 100, 21))
	require.Empty(t, out, "told once")
	out, events = told(t, p, description(1, 21, 1, 100, 17))
	require.Equal(t, []string{"setup"}, out)
	require.Equal(t, []event.SetupChange{{Name: "block_size", Before: "21", After: "17"}}, events[0].(event.RadiationSetupChanged).Changes)
	out, _ = told(t, p, begin())
	require.Equal(t, []string{"register_map"}, out, "it had one")
}

// TestAspectAsksSeldomForWhatIsMissing: the rest is read as one piece.
func TestAspectAsksSeldomForWhatIsMissing(t *testing.T) {
	p := aspectWith(t, func(s *AspectSettings) { s.BackgroundInterval = 5 * time.Second })
	back := at(7, map[int]float64{18: 0, 19: 0, 20: 0})
	out, events := told(t, p, begin(), failing(1, 18, 19, 20), back, at(12, nil))
	require.Equal(t, []string{"registers_missing", "registers_missing"}, out)
	require.Contains(t, events[0].(event.RadiationDiagnostic).Detail, "118, 119, 120 (exception 2)")
	require.Contains(t, events[1].(event.RadiationDiagnostic).Detail, "all registers of the portal can be read again")
}

// TestAspectBusyOnce: a portal without neutron registers is read in two pieces, and one of
// them is answered "busy" once. It is read again at the next look, and an alarm is told.
func TestAspectBusyOnce(t *testing.T) {
	busy := at(5, nil)
	for p := range 10 {
		busy.Fails[fmt.Sprintf("holding:%d", 100+p)] = "exception 6 (server device busy)"
	}
	back := begin()
	back.At = 5200 * time.Millisecond
	for p := 10; p < 17; p++ {
		delete(back.Set, fmt.Sprintf("holding:%d", 100+p))
	}
	out, _ := told(t, aspectWith(t, nil), begin(), failing(0, 10, 11, 12, 13, 14, 15, 16), busy, back,
		at(10, map[int]float64{2: 1, 3: 0x81, 4: 60000, 17: 42}), at(14, map[int]float64{2: 0, 3: 0x80}), at(40, nil))
	require.Equal(t, []string{"registers_missing", "registers_missing", "registers_missing", "ALARM gamma", "alarm clear #42"}, out)
}

// TestAspectDescriptionBusy: a portal that can't tell its map at the moment has one all the
// same; what lies at the usual place then is something else.
func TestAspectDescriptionBusy(t *testing.T) {
	start := at(0, nil)
	for i := range 8 {
		start.Fails[fmt.Sprintf("holding:%d", i)] = "exception 6 (server device busy)"
	}
	for i, v := range free {
		start.Set[fmt.Sprintf("holding:%d", 100+i)] = 0
		start.Set[fmt.Sprintf("holding:%d", 200+i)] = v
	}
	ready := at(0.1, nil)
	for i, w := range []float64{1, 21, 4, 200, 21, 0, 0, 0} {
		ready.Set[fmt.Sprintf("holding:%d", i)] = w
	}
	alarm, over := at(60, nil), at(62, nil)
	alarm.Set["holding:202"], alarm.Set["holding:203"], alarm.Set["holding:217"] = 1, 0x81, 42
	over.Set["holding:202"], over.Set["holding:203"] = 0, 0x80
	out, _ := told(t, aspectWith(t, nil), start, ready, alarm, over)
	require.Equal(t, []string{"setup", "ALARM gamma", "alarm clear #42"}, out)

	played, err := drivers.PlayBus(t.Context(), aspectWith(t, nil), []drivers.Held{start, at(60, nil)})
	require.ErrorContains(t, err, "the portal can't say now where its registers lie")
	require.ErrorContains(t, err, "server device busy")
	require.Zero(t, played.Valid)
	require.Empty(t, played.Observations, "nothing is told of registers that may be others")
}

// TestAspectOneRegister: a portal that tells neither vehicles nor alarms is not online.
func TestAspectOneRegister(t *testing.T) {
	var all []int
	for place := range 21 {
		all = append(all, place)
	}
	for name, c := range map[string]struct {
		without []int
		valid   bool
	}{
		"the time only":              {all[1:], false},
		"no alarm status":            {[]int{3, 10}, false},
		"neither inputs nor counter": {[]int{2, 17}, false},
		"no inputs, no neutrons":     {[]int{2, 10}, true},
		"no counter, no gamma":       {[]int{3, 17}, true},
	} {
		played, err := drivers.PlayBus(t.Context(), aspectWith(t, func(s *AspectSettings) { s.FrozenAfter = 0 }), []drivers.Held{begin(), failing(0, c.without...), at(300, nil)})
		require.NoError(t, err)
		require.Equal(t, c.valid, played.Valid > 0, name)
		require.Equal(t, event.DiagRegistersMissing, played.Observations[0].Data.(event.RadiationDiagnostic).Kind)
		require.Equal(t, c.valid, len(played.Observations) > 1, name)
	}
}

// TestAspectFrozen: registers that stay the very same are not those of a portal that measures.
func TestAspectFrozen(t *testing.T) {
	p := aspectWith(t, nil)
	played, err := drivers.PlayBus(t.Context(), p, []drivers.Held{begin(), at(3600, map[int]float64{4: 1674}), at(3601, map[int]float64{2: 1, 17: 42}), at(3602, map[int]float64{2: 0})})
	require.NoError(t, err)
	var edges []string
	seen := map[event.Modality]int{}
	for _, o := range played.Observations {
		switch e := o.Data.(type) {
		case event.RadiationFault:
			edges = append(edges, fmt.Sprint(e.Kind, " ", e.State, " ", o.Time.Sub(drivers.ScriptStart()).Round(time.Second)))
		case event.RadiationBackground:
			seen[e.Gamma]++
		case event.RadiationOccupancy:
			require.Equal(t, event.OutcomeNoAlarm, e.Outcome, "it is alive again")
		}
	}
	require.Equal(t, []string{"frozen raised 1m0s", "frozen cleared 1h0m0s"}, edges)
	require.LessOrEqual(t, seen[event.HasData], 2)
	require.Greater(t, seen[event.ModalityFault], 50)

	out, _ := told(t, aspectWith(t, nil), begin(), at(1, map[int]float64{2: 1, 17: 42}), at(100, map[int]float64{2: 0}))
	require.Equal(t, []string{"frozen raised", "frozen cleared", "incomplete clear #42"}, out)
}

// TestAspectFloods: what flickers is told at once and then seldom, and stands meanwhile.
func TestAspectFloods(t *testing.T) {
	script := []drivers.Held{begin()}
	for i := range 400 {
		script = append(script, at(1+0.15*float64(i), map[int]float64{2: float64(0x400 * (i % 2))}))
	}
	script = append(script, at(61, map[int]float64{2: 0}), at(130, nil))
	out, events := told(t, aspectWith(t, func(s *AspectSettings) { s.FrozenAfter = 0 }), script...)
	require.Equal(t, []string{"tamper on", "tamper clear", "tamper on", "tamper clear", "tamper on", "tamper clear", "tamper on", "tamper clear"}, out)
	require.Greater(t, events[7].(event.RadiationTamper).Changes, 300)
	require.Zero(t, events[5].(event.RadiationTamper).Changes)

	script = []drivers.Held{begin()}
	for i := range 400 {
		f, g := at(float64(i)*0.3+1, nil), begin()
		for p := range 21 {
			f.Fails[fmt.Sprintf("holding:%d", 100+p)] = "exception 6 (server device busy)"
		}
		g.At = f.At + 150*time.Millisecond
		script = append(script, f, g)
	}
	out, events = told(t, aspectWith(t, nil), script...)
	n, changes := 0, 0.0
	for i, x := range out {
		if x == event.DiagRegistersMissing {
			n++
			changes += max(0, events[i].(event.RadiationDiagnostic).Values["changes"]-1)
		}
	}
	require.Greater(t, changes, 300.0, "the others are counted")
	require.GreaterOrEqual(t, n, 8)
	require.Less(t, n, 20)
}

// TestAspectHuge: a background that no portal can have is none.
func TestAspectHuge(t *testing.T) {
	p := aspectWith(t, func(s *AspectSettings) { s.CountTime = 100 * time.Millisecond })
	out, events := told(t, p, begin(), at(0, map[int]float64{7: 0x7f00}), at(1, map[int]float64{2: 1, 17: 42}), at(2, map[int]float64{2: 0}))
	require.Equal(t, []string{"no_alarm clear #42"}, out)
	require.Nil(t, events[0].(event.RadiationOccupancy).GammaBgSumCPS)
	p = aspectWith(t, func(s *AspectSettings) { s.CountTime = time.Millisecond })
	_, events = told(t, p, begin(), at(0, map[int]float64{6: 0, 7: 0x4f00}), at(1, map[int]float64{2: 1, 17: 42}), at(2, map[int]float64{2: 0}))
	require.Equal(t, 1<<31-1, *events[0].(event.RadiationOccupancy).GammaBgSumCPS, "as far as a number goes")
}

// TestAspectFaultInTheInterval: what a channel tells in a fault is in no mean, and the interval
// is not without fault.
func TestAspectFaultInTheInterval(t *testing.T) {
	p := aspectWith(t, func(s *AspectSettings) { s.BackgroundInterval, s.FrozenAfter = 30*time.Second, 0 })
	played, err := drivers.PlayBus(t.Context(), p, []drivers.Held{begin(), at(10, map[int]float64{3: 0xc0, 4: 60000}), at(18, map[int]float64{3: 0x80, 4: 1673}), at(70, nil)})
	require.NoError(t, err)
	var list []event.RadiationBackground
	for _, o := range played.Observations {
		if e, ok := o.Data.(event.RadiationBackground); ok {
			list = append(list, e)
		}
	}
	require.GreaterOrEqual(t, len(list), 3)
	require.Equal(t, event.ModalityFault, list[1].Gamma)
	require.Equal(t, event.HasData, list[1].Neutron)
	require.InDelta(t, 1673, list[1].Reported["gamma_count"], 0)
	require.Equal(t, []string{"overload", "ready"}, list[1].Signals["gamma_status"])
	require.Equal(t, event.HasData, list[2].Gamma)
}

// TestAspectSignals: every bit that was set is told, also those without a meaning.
func TestAspectSignals(t *testing.T) {
	_, events := told(t, aspectWith(t, nil), begin(), at(1, map[int]float64{2: 0x1021, 3: 0x81, 17: 42, 20: 0x123}), at(1.5, map[int]float64{3: 0x4084}), at(2, map[int]float64{2: 0, 3: 0x80}))
	o := events[len(events)-1].(event.RadiationOccupancy)
	require.Equal(t, map[string][]string{
		"inputs": {"occup0", "sensor", "0x1000"}, "outputs": {"alarm", "video", "busy", "entry_green"},
		"gamma_status": {"alarm1", "ready", "n6", "0x0004"}, "neutron_status": {"ready"},
	}, o.Signals)
}

// TestAspectRestart: what was told before the agent was started anew is known after it.
func TestAspectRestart(t *testing.T) {
	ledger := &drivers.MemoryLedger{}
	run := func(script ...drivers.Held) (out []string) {
		played, err := drivers.PlayBusWith(t.Context(), ledger, aspectWith(t, nil), append([]drivers.Held{begin()}, script...))
		require.NoError(t, err)
		for _, o := range played.Observations {
			switch e := o.Data.(type) {
			case event.RadiationTamper:
				out = append(out, "tamper "+e.State)
			case event.RadiationFault:
				out = append(out, e.Kind+" "+e.State)
			case event.RadiationDiagnostic:
				out = append(out, fmt.Sprintf("%s %g", e.Kind, e.Values["missed"]))
			}
		}
		return out
	}
	require.Equal(t, []string{"battery_low raised", "tamper on"}, run(at(1, map[int]float64{2: 0x600})))
	require.Empty(t, run(at(0, map[int]float64{2: 0x600})), "it is as it was")
	require.Equal(t, []string{"battery_low cleared", "tamper clear", "object_counter_jump 19"}, run(at(0, map[int]float64{17: 60})))
	require.Empty(t, run(at(0, map[int]float64{17: 60})))

	full := &drivers.MemoryLedger{Most: 1}
	require.NoError(t, full.Put("other", "x"))
	played, err := drivers.PlayBusWith(t.Context(), full, aspectWith(t, nil), []drivers.Held{begin(), at(1, map[int]float64{2: 1, 17: 42}), at(2, map[int]float64{2: 0})})
	require.NoError(t, err, "a ledger that is full stops no portal")
	require.Len(t, played.Observations, 2)
}

// TestTSARestart: likewise.
func TestTSARestart(t *testing.T) {
	ledger := &drivers.MemoryLedger{}
	run := func(lines ...string) (out []string) {
		p, err := TSAPortal().New(func(any) error { return nil })
		require.NoError(t, err)
		var script []drivers.Chunk
		for i, l := range lines {
			script = append(script, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: []byte(l + "\r\n")})
		}
		played, err := drivers.PlayWith(t.Context(), ledger, p, script)
		require.NoError(t, err)
		for _, o := range played.Observations {
			switch e := o.Data.(type) {
			case event.RadiationTamper:
				out = append(out, "tamper "+e.State)
			case event.RadiationFault:
				out = append(out, e.Kind+" "+e.State)
			case event.RadiationDiagnostic:
				out = append(out, fmt.Sprintf("%s %g", e.Kind, e.Values["missed"]))
			}
		}
		return out
	}
	const normal = "GB,000401,000406,000436,000436"
	require.Equal(t, []string{"gamma_high raised", "tamper on", "gx_orphan 0"}, run("GH,001999,002100,000400,000410", "TT,000000,000000,000000,000000", "GX,000630,002566,000000,000000"))
	require.Equal(t, []string{"gamma_high cleared", "tamper clear", "gx_orphan 0", "gx_counter_jump 3"}, run(normal, "TC,111111,111111,111111,111111", "GX,000634,002566,000000,000000"))
	require.Equal(t, []string{"gx_orphan 0"}, run(normal, "GX,000635,002566,000000,000000"))
}

func TestAspectSettings(t *testing.T) {
	for want, change := range map[string]func(*AspectSettings){
		"every: 5s":                                   func(s *AspectSettings) { s.Every = 5 * time.Second },
		"late_after: 200ms":                           func(s *AspectSettings) { s.LateAfter = 200 * time.Millisecond },
		"21 registers at address":                     func(s *AspectSettings) { s.Base = 65530 },
		"0 registers at address":                      func(s *AspectSettings) { s.Size = 0 },
		"-1 registers at address":                     func(s *AspectSettings) { s.Size = -1 },
		"count_time: -1s":                             func(s *AspectSettings) { s.CountTime = -time.Second },
		"count_time: 1ns":                             func(s *AspectSettings) { s.CountTime = time.Nanosecond },
		"stuck_after: 1s":                             func(s *AspectSettings) { s.StuckAfter = time.Second },
		"frozen_after: 2h0m0s":                        func(s *AspectSettings) { s.FrozenAfter = 2 * time.Hour },
		"frozen_after: 1m0s with a count_time of 21s": func(s *AspectSettings) { s.CountTime = 21 * time.Second },
		"linger: 1m0s":                                func(s *AspectSettings) { s.Linger = time.Minute },
		"counter_jump: 0":                             func(s *AspectSettings) { s.CounterJump = 0 },
		"background_interval: 1ms":                    func(s *AspectSettings) { s.BackgroundInterval = time.Millisecond },
		"stall: 100ms":                                func(s *AspectSettings) { s.Stall = 100 * time.Millisecond },
		"series_limit: 0":                             func(s *AspectSettings) { s.SeriesLimit = 0 },
	} {
		_, err := AspectPortal().New(func(into any) error {
			change(into.(*AspectSettings))
			return nil
		})
		require.ErrorContains(t, err, want)
	}
}

// FuzzAspect: whatever registers hold, and whichever can't be read, nothing panics and no
// occupancy is free of alarms in which an alarm was told or a channel had no data.
func FuzzAspect(f *testing.F) {
	f.Add([]byte{2, 0, 1, 17, 0, 42, 200, 0, 0, 2, 0, 0})
	f.Add([]byte{3, 0, 0x81, 200, 0, 0, 30, 0, 0, 17, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		script := []drivers.Held{begin()}
		now := 0.0
		step := at(0, nil)
		for i := 0; i+2 < len(b) && i < 300; i += 3 {
			switch place := int(b[i]); {
			case place < 21:
				step.Set[fmt.Sprintf("holding:%d", 100+place)] = float64(int(b[i+1])<<8 | int(b[i+2]))
			case place < 42:
				step.Fails[fmt.Sprintf("holding:%d", 79+place)] = "exception 2"
			default:
				script = append(script, step)
				now += 0.3
				step = at(now, nil)
			}
		}
		played, err := drivers.PlayBus(t.Context(), newAspectPortal(defaultAspectSettings()), append(script, step))
		require.NoError(t, err)
		alarmed := map[string]bool{}
		for _, o := range played.Observations {
			switch e := o.Data.(type) {
			case event.RadiationAlarm:
				alarmed[e.OccupancyID] = true
			case event.RadiationOccupancy:
				require.Equal(t, alarmed[e.OccupancyID], e.Outcome == event.OutcomeAlarm)
				if e.Outcome == event.OutcomeNoAlarm {
					require.True(t, e.End == event.EndClear && !e.JoinedMid && e.Gamma == event.HasData && e.Neutron == event.HasData)
				}
			}
		}
	})
}
