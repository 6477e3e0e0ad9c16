package own

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

func build(text string) (drivers.Instrument, error) {
	return Device().New(func(into any) error { return yaml.UnmarshalWithOptions([]byte(text), into, yaml.Strict()) })
}

func describe(t *testing.T, text string) drivers.Instrument {
	t.Helper()
	i, err := build(text)
	require.NoError(t, err)
	return i
}

// said is one line that the device says at a second.
func said(at float64, lines ...string) (script []drivers.Chunk) {
	for _, l := range lines {
		script = append(script, drivers.Chunk{At: time.Duration(at * float64(time.Second)), Bytes: []byte(l + "\r\n")})
		at++
	}
	return script
}

// told plays a script and gives what came out, in short: the type's last name and the fields that
// are asked for.
func told(t *testing.T, i drivers.Instrument, script []drivers.Chunk, fields ...string) (list []string, p drivers.Played) {
	t.Helper()
	p, err := drivers.Play(context.Background(), i, script)
	require.NoError(t, err)
	for _, o := range p.Observations {
		b, err := json.Marshal(o.Data)
		require.NoError(t, err)
		var m map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b, &m))
		name := event.TypeName(o.Data.Type())
		words := []string{name[strings.LastIndexByte(name, '.')+1:]}
		for _, f := range fields {
			if v, there := m[f]; there {
				words = append(words, strings.Trim(string(v), `"`))
			}
		}
		list = append(list, strings.Join(words, " "))
	}
	return list, p
}

const dosimeter = `
framing: {kind: lines}
records:
  - name: value
    starts: V
    tells: radiation
    separator: ","
    fields:
      gamma: {column: 2, unit: uSv/h, over: [OL], missing: ["-"]}
  - name: state
    starts: S
    tells: radiation
    separator: ","
    fields:
      alarm: {column: 2, words: {A: yes, N: no, "?": unknown}}
      battery_low: {column: 3, words: {"1": yes, "0": no}, optional: true}
`

// An alarm is over when the instrument says so, and by nothing else.
func TestOnlyTheInstrumentEndsItsAlarm(t *testing.T) {
	d := describe(t, dosimeter)
	fields := []string{"kind", "state", "alarms", "quality", "interrupted"}
	list, p := told(t, d, said(0, "V,1", "S,A,0", "S,X", "S,?", "S", "V,0.1", "junk"), fields...)
	require.Equal(t, []string{
		`rate [] ["alarms_unknown"]`,
		"rate-alarm threshold raised false",
		`rate ["threshold"] ["alarms_unknown"]`, // the last word for the alarm was not known
	}, list)
	require.Len(t, p.Unparsed, 3)
	require.Equal(t, `record state: field alarm, column 2: want a word that is in words`, p.Unparsed[0].Reason)

	// A broken link ends nothing either, and neither does a value.
	list, _ = told(t, d, said(100, "V,0.1", "S,?"), fields...)
	require.Equal(t, []string{`rate ["threshold"] ["alarms_unknown"]`}, list)
	list, _ = told(t, d, said(200, "S,N", "V,0.1"), fields...)
	require.Equal(t, []string{ // the battery was told in the first connection, and not yet in this one
		`rate ["threshold"] []`,
	}, list)
	list, _ = told(t, d, said(300, "S,N,0", "V,0.1"), fields...)
	require.Equal(t, []string{"rate-alarm threshold cleared true", `rate [] []`}, list)
}

func TestFaultsOnTheirEdges(t *testing.T) {
	list, _ := told(t, describe(t, dosimeter), said(0, "S,N,1", "S,N,1", "S,N,0"), "kind", "state")
	require.Equal(t, []string{"fault battery_low raised", "fault battery_low cleared", "rate"}, list)
}

// More than can be measured is an alarm and no value, until a value comes.
func TestMoreThanCanBeMeasured(t *testing.T) {
	d := describe(t, strings.Replace(dosimeter, "records:", `records:
  - name: other
    starts: "N"
    tells: radiation
    separator: ","
    fields: {neutron: {column: 2, unit: cps}}`, 1))
	list, p := told(t, d, said(0, "S,N,0", "V,5", "V,OL", "N,1", "V,-", "V,7"), "kind", "state", "alarms")
	require.Equal(t, []string{
		"rate []", "rate-alarm overload raised",
		// A neutron reading says nothing of gamma, and no value is not one that is low.
		"rate-alarm overload cleared", "rate []",
	}, list)
	require.Empty(t, p.Unparsed)
	require.Equal(t, drivers.ScriptStart().Add(5*time.Second), p.Observations[2].Time, "it is over with the 7")
	last := p.Observations[len(p.Observations)-1].Data.(event.RadiationRate)
	require.Equal(t, 2, last.Overloads, "what was more than can be measured, and what was not known to be less")
	require.Len(t, last.Channels, 2)
	require.Equal(t, "neutron", last.Channels[1].Channel, "the neutrons were measured all the same")

	// Neither does a new connection end it, nor a new start, before that value is told.
	fields := []string{"kind", "state", "interrupted"}
	list, _ = told(t, d, said(100, "S,N,0", "V,OL"), fields...)
	require.Contains(t, list, "rate-alarm overload raised false")
	list, _ = told(t, d, said(200, "S,N,0", "N,1", "V,-"), fields...)
	require.Equal(t, []string{"rate"}, list)
	list, _ = told(t, d, said(300, "S,N,0", "N,1", "V,7"), fields...)
	require.Equal(t, []string{"rate-alarm overload cleared true", "rate"}, list)

	var ledger drivers.MemoryLedger
	_, err := drivers.PlayWith(t.Context(), &ledger, describe(t, dosimeter), said(0, "S,N,0", "V,OL"))
	require.NoError(t, err)
	p, err = drivers.PlayWith(t.Context(), &ledger, describe(t, dosimeter), said(100, "S,N,0", "V,-", "V,7"))
	require.NoError(t, err)
	require.Equal(t, "cleared", p.Observations[1].Data.(event.RadiationRateAlarm).State)
	require.Equal(t, drivers.ScriptStart().Add(102*time.Second), p.Observations[1].Time)
}

// What was measured is not forgotten for another channel, or another unit: neither by an alarm
// nor in the summary.
func TestPeakOverChannelsAndUnits(t *testing.T) {
	const two = `framing: {kind: lines}
records:
  - name: gamma
    starts: G
    tells: radiation
    separator: ";"
    fields:
      gamma: {column: 2, unit_from: unit, missing: ["-"], over: [OVL]}
      unit: {column: 4, words: {u: uSv/h, c: cps}}
      alarm: {column: 3, words: {"1": yes, "0": no}}
  - name: neutron
    starts: N
    tells: radiation
    separator: ";"
    fields: {neutron: {column: 2, unit: cps}}
`
	for name, lines := range map[string][]string{
		"no value":     {"G;0.1;0;u", "G;900;1;u", "G;-;1;u", "N;3", "G;2;1;u", "G;0.1;0;u"},
		"over":         {"G;0.1;0;u", "G;900;1;u", "G;OVL;1;u", "N;3", "G;2;1;u", "G;0.1;0;u"},
		"another unit": {"G;0.1;0;u", "G;900;1;u", "G;20;1;c", "G;2;1;u", "G;0.1;0;u"},
		"counts first": {"G;0.1;0;u", "N;9", "G;30;1;c", "G;900;1;u", "G;2;1;c", "G;0.1;0;u"},
	} {
		_, p := told(t, describe(t, two), said(0, lines...))
		var peaks []string
		for _, o := range p.Observations {
			if a, ok := o.Data.(event.RadiationRateAlarm); ok && a.State == "cleared" && a.Kind == "threshold" {
				peaks = append(peaks, fmt.Sprint(*a.PeakValue))
			}
		}
		require.Equal(t, []string{"900"}, peaks, name)
		last := p.Observations[len(p.Observations)-1].Data.(event.RadiationRate)
		require.Condition(t, func() bool {
			return slices.ContainsFunc(last.Channels, func(c event.RateChannel) bool { return c.Channel == "gamma" && c.Unit == "uSv/h" && c.Max == 900 })
		}, "%s: %+v", name, last.Channels)
	}
}

// A flag of its own says that it is too much; unknown is not no.
func TestOverloadThatIsUnknown(t *testing.T) {
	d := describe(t, strings.Replace(dosimeter, "      battery_low:", "      overload: {column: 4, words: {O: yes, N: no, \"?\": unknown}}\n      battery_low:", 1))
	list, p := told(t, d, said(0, "V,1", "S,N,0,O", "S,N,0,?", "V,1", "S,N,0,N"), "kind", "state")
	require.Equal(t, []string{"rate", "rate-alarm overload raised", "rate-alarm overload cleared", "rate"}, list)
	require.Equal(t, drivers.ScriptStart().Add(4*time.Second), p.Observations[2].Time)
}

// What is damaged, or not described, may have been an alarm.
func TestWhatCantBeReadMayBeAnAlarm(t *testing.T) {
	for name, bad := range map[string]string{"damaged": "S,A", "not described": "ALARM\r\n"} {
		d := describe(t, strings.Replace(dosimeter, "kind: lines", "kind: lines, idle_gap: 2s", 1))
		script := append(said(0, "S,N,0", "V,1"), drivers.Chunk{At: 2 * time.Second, Bytes: []byte(bad)})
		script = append(append(script, said(70, "V,1")...), drivers.Chunk{At: 130 * time.Second})
		list, p := told(t, d, script, "quality")
		require.Equal(t, []string{`rate []`, `rate ["alarms_unknown","no_reading"]`, `rate []`}, list, name)
		require.Len(t, p.Unparsed, 1, name)
	}
}

func TestSignalsThatAreTold(t *testing.T) {
	d := describe(t, `
framing: {kind: lines}
records:
  - name: r
    tells: signals
    separator: ","
    fields:
      estop_ok: {column: 1, words: {OK: yes, BAD: no, "": unknown}}
      custom_mm: {column: 2, kind: numeric, deadband: 2, optional: true}
signals: {report_every: 3s}
`)
	list, p := told(t, d, said(0, "OK,10", "OK,20", "OK,11", "OK,11.5", "OK,20", "BAD", "WHAT,1", ",20", "OK,20"), "signal", "reason", "state", "value", "severity")
	require.Equal(t, []string{
		"signal custom_mm initial info null 10", "signal estop_ok initial info true null",
		"signal custom_mm changed info null 20", // the first one that is far enough, three seconds after it was told
		"signal estop_ok edge safety false null",
		"signal custom_mm lost warning null null", "signal estop_ok lost safety null null", // a word that nobody knows
		"signal custom_mm recovered info null 20", "signal estop_ok recovered safety true null",
		"signal link lost safety null null",
	}, reorder(list))
	require.Len(t, p.Unparsed, 1)
	require.Equal(t, []string{"custom_mm", "estop_ok"}, p.Observations[len(p.Observations)-1].Data.(event.LaneSignal).Affects)
}

// A number that changed within report_every is told when that is over, though no message
// follows, or when the link breaks; not if it has come back to what was told.
func TestANumberThatChangesSoonIsToldLater(t *testing.T) {
	d := describe(t, `
framing: {kind: lines}
records:
  - name: r
    tells: signals
    separator: ","
    fields:
      custom_mm: {column: 1, kind: numeric, deadband: 2}
signals: {report_every: 10s}
`)
	script := append(said(0, "10", "20", "30", "30"), drivers.Chunk{At: time.Minute, Bytes: []byte("40\r\n")})
	script = append(append(script, said(61, "50", "41")...), drivers.Chunk{At: 80 * time.Second, Bytes: []byte("60\r\n")})
	script = append(script, said(81, "70")...)
	list, p := told(t, d, script, "reason", "value")
	require.Equal(t, []string{"signal initial 10", "signal changed 30", "signal changed 40", "signal changed 60", "signal changed 70", "signal lost null"}, list)
	for i, at := range []int{0, 2, 60, 80, 81, 81} {
		require.Equal(t, drivers.ScriptStart().Add(time.Duration(at)*time.Second), p.Observations[i].Time, i)
	}
}

// reorder puts the severity where the table has it.
func reorder(list []string) []string {
	for i, l := range list {
		if w := strings.Fields(l); len(w) == 6 {
			list[i] = strings.Join([]string{w[0], w[1], w[2], w[5], w[3], w[4]}, " ")
		}
	}
	return list
}

func TestWeights(t *testing.T) {
	d := describe(t, `
framing: {kind: lines}
records:
  - name: w
    tells: weight
    fields:
      stable: {at: 1, length: 1, words: {S: yes, M: no}}
      weight: {at: 2, length: 6, unit: lb, over: [OVER]}
      tare: {at: 8, length: 4, unit: kg, optional: true}
`)
	list, _ := told(t, d, said(0, "S     0 100", "S 10000 100", "S  OVER", "M 10000", "S     0"), "outcome", "weight_kg", "tare_kg", "flags")
	require.Equal(t, []string{`weight stable 4535.9237 100 ["overload"]`}, list)
}

// A flag that says that it does not know is no no.
func TestAWeightWithoutItsFlagsIsNone(t *testing.T) {
	d := describe(t, `
framing: {kind: lines}
records:
  - name: w
    tells: weight
    separator: ","
    fields:
      weight: {column: 1, unit: kg}
      overload: {column: 2, words: {"1": yes, "0": no, "?": unknown}}
      underload: {column: 3, words: {"1": yes, "0": no, "?": unknown}}
      net: {column: 4, words: {"1": yes, "0": no, "?": unknown}}
`)
	at := 0.0
	for flags, want := range map[string]int{"0,0,0": 1, "?,0,0": 0, "0,?,0": 0, "0,0,?": 0} {
		line := "9000," + flags
		list, _ := told(t, d, said(at, "0,0,0,0", line, line, line, "0,0,0,0"), "outcome")
		require.Len(t, list, want, flags)
		at += 100
	}
}

func TestTagsAndTheirEnd(t *testing.T) {
	d := describe(t, `
framing: {kind: lines}
records:
  - name: t
    tells: tag
    pattern: "^T(?P<t>[^@]*)@(?P<a>.*)$"
    fields:
      tag: {group: t, type: text, missing: [none]}
      antenna: {group: a, type: integer}
`)
	script := append(said(0, "Tone@1", "Tone@2", "Tnone@1"), drivers.Chunk{At: 10 * time.Second})
	list, p := told(t, d, append(script, said(11, "Ttwo@1")...), "antennas", "reports", "flags")
	require.Equal(t, []string{`tag [1,2] 2 []`, `tag [1] 1 ["interrupted"]`}, list)
	require.Equal(t, "6F6E65", p.Observations[0].Data.(event.LaneTag).Private.EPC)
}

// What was begun and is not completed is told after the pause, and what comes then is read.
func TestAPauseBreaksOff(t *testing.T) {
	script := append([]drivers.Chunk{{Bytes: []byte("V,9")}}, said(30, "V,1")...)
	list, p := told(t, describe(t, strings.Replace(dosimeter, "kind: lines", "kind: lines, idle_gap: 2s", 1)), script)
	require.Equal(t, []string{"rate"}, list)
	require.Len(t, p.Unparsed, 1)
	require.Equal(t, "V,9", string(p.Unparsed[0].Raw))
}

func TestAskingOnlyIfTold(t *testing.T) {
	_, p := told(t, describe(t, dosimeter), said(0, "V,1", "V,2", "V,3"))
	require.Zero(t, p.Written)
	_, p = told(t, describe(t, dosimeter+`
ask: {send: 'R\r', every: 1s}
`), said(0, "V,1", "V,2", "V,3"))
	require.Equal(t, 3, p.Written)
}

// An instrument may have several connections; what it told is unknown when the last one is over.
func TestSeveralConnections(t *testing.T) {
	endpoint, err := link.Parse("tcp-listen://127.0.0.1:0?allow=127.0.0.1", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := endpoint.Open(ctx)
	require.NoError(t, err)
	defer conn.Close()
	d := describe(t, "framing: {kind: lines}\nrecords:\n  - {name: r, tells: signals, separator: \",\", fields: {loop_1: {column: 1, bit: 0}}}\n")
	h := &host{events: make(chan event.LaneSignal, 10)}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, conn, h) }()
	acceptor, ok := link.As[*link.Acceptor](conn)
	require.True(t, ok)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", acceptor.Addr().String())
		require.NoError(t, err)
		return c
	}
	say := func(c net.Conn, line string) {
		_, err := c.Write([]byte(line))
		require.NoError(t, err)
	}
	first := dial()
	say(first, "1\n")
	require.Equal(t, "initial", (<-h.events).Reason)
	second := dial()
	say(second, "0\n")
	require.Equal(t, "edge", (<-h.events).Reason)
	require.NoError(t, first.Close())
	say(second, "1\n")
	require.Equal(t, "edge", (<-h.events).Reason, "one of two connections is still there")
	require.NoError(t, second.Close())
	lost := <-h.events
	require.Equal(t, "lost", lost.Reason)
	require.Equal(t, []string{"loop_1"}, lost.Affects)
	cancel()
	require.NoError(t, conn.SetReadDeadline(time.Unix(1, 0)))
	require.Error(t, <-ended)
}

// host gives the signals that a driver emits.
type host struct {
	ledger drivers.MemoryLedger
	events chan event.LaneSignal
}

func (*host) Now() time.Time           { return time.Now() }
func (*host) Valid()                   {}
func (*host) Unparsed(string, []byte)  {}
func (h *host) Ledger() drivers.Ledger { return &h.ledger }
func (*host) Log() *slog.Logger        { return slog.New(slog.DiscardHandler) }
func (h *host) Emit(o drivers.Observation) error {
	h.events <- o.Data.(event.LaneSignal)
	return nil
}

func TestRefusedDescriptions(t *testing.T) {
	fields := "framing: {kind: lines}\nrecords:\n  - name: r\n    separator: \",\"\n    tells: "
	for text, want := range map[string]string{
		fields + "radiation\n    fields: {gamma: {column: 1, unit: uSv/h}}\n":                                                                                     "records: r: nothing would ever alarm; add one of the fields alarm,",
		fields + "radiation\n    fields: {alarm: {column: 1, above: 0}}\n":                                                                                        "records: r: no record tells a value of radiation",
		fields + "radiation\n    fields: {gama: {column: 1}}\n":                                                                                                   "did you mean gamma?",
		fields + "radiation\n    fields: {dose: {column: 1, unit: cps}}\n":                                                                                        "cps is of count rate and dose is not",
		fields + "radiation\n    fields: {gamma: {column: 1, unit: uSv/h}, alarm: {column: 2, above: 0}}\nradiation: {alarms: not_told}\n":                        "radiation: alarms: the records tell alarms",
		fields + "radiation\n    fields: {gamma: {column: 1, unit: uSv/h}}\nradiation: {alarms: none}\n":                                                          `radiation: alarms: "none"; take not_told`,
		fields + "radiation\n    fields: {gamma: {column: 1, unit: uSv/h}}\nradiation: {alarms: not_told, interval: 2h}\n":                                        "radiation: interval: 2h0m0s",
		fields + "weight\n    fields: {tare: {column: 1, unit: kg}}\n":                                                                                            "a record that tells weight needs the field weight",
		fields + "weight\n    fields: {weight: {column: 1, unit: kg}}\nweight: {empty_below_kg: -1}\n":                                                            "weight: empty_below_kg",
		fields + "plate\n    fields: {country: {column: 1}}\n":                                                                                                    "a record that tells plate needs the field plate",
		fields + "plate\n    fields: {plate: {column: 1}}\nplates: {zone: Europe/Kyiv}\n":                                                                         "plates: zone: it is zone beside framing",
		fields + "plate\n    fields: {plate: {column: 1}}\nplates: {code_page: gbk}\n":                                                                            "plates: code_page: it is encoding",
		fields + "plate\n    fields: {plate: {column: 1}}\nplates: {vendor: A b}\n":                                                                               "plates: vendor",
		fields + "tag\n    fields: {tag: {column: 1}}\ntags: {gone_after: 1h}\n":                                                                                  "tags: gone_after",
		fields + "tag\n    fields: {tag: {column: 1, kind: input}}\n":                                                                                             "kind: it is for signals",
		fields + "signals\n    fields: {lop_1: {column: 1}}\n":                                                                                                    "did you mean loop?",
		fields + "signals\n    fields: {loop_1: {column: 1, bit: 0, deadband: 1}}\n":                                                                              "deadband: it is for numbers",
		fields + "signals\n    fields: {loop_1: {column: 1, bit: 0, kind: safety}}\n":                                                                             "kind: loop_1 is of kind input always",
		fields + "signals\n    fields: {custom_x: {column: 1}}\n":                                                                                                 "kind is missing",
		fields + "signals\n    fields: {loop_1: {column: 1, bit: 0}}\nask: {send: R}\n":                                                                           "ask: every: 0s; take 50ms",
		fields + "signals\n    fields: {loop_1: {column: 1, bit: 0}}\nask: {every: 1s}\n":                                                                         "ask: send is missing",
		fields + "signals\n    fields: {loop_1: {column: 1, bit: 0}}\nsignals: {report_every: -1s}\n":                                                             "signals: report_every",
		fields + "signals\n    fields: {custom_x: {column: 1, kind: numeric}}\n  - {name: s, tells: signals, fields: {custom_x: {at: 1, length: 1, kind: mode}}}": "records: s: fields: custom_x: another record says another kind",
	} {
		_, err := build(text)
		require.ErrorContains(t, err, want, text)
	}
	// A threshold of the agent's own, or the word that there are none, will do.
	for _, more := range []string{"radiation: {alarms: not_told}", "radiation: {alarm_above_usvh: 1}"} {
		list, _ := told(t, describe(t, fields+"radiation\n    fields: {gamma: {column: 1, unit: uSv/h}}\n"+more), said(0, "2"), "quality")
		require.Contains(t, list, `rate ["alarms_unknown"]`)
	}
}

const camera = `
framing: {kind: document}
records:
  - name: plate
    tells: plate
    element: plate
    fields: {plate: {path: text}, speed: {path: speed, unit: km/h, optional: true}}
`

// refusing runs an instrument over a host that can't record some plates.
type refusing struct {
	drivers.Instrument
	errors map[string]error
}

type refusingHost struct {
	drivers.Host
	errors map[string]error
}

func (r refusing) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	return r.Instrument.Run(ctx, conn, refusingHost{h, r.errors})
}

func (h refusingHost) Emit(o drivers.Observation) error {
	if x, ok := o.Data.(event.PlateRead); ok && h.errors[x.Private.Plate] != nil {
		return h.errors[x.Private.Plate]
	}
	return h.Host.Emit(o)
}

// A request of which something was told is not to be sent again, and neither is one that would
// be no better then.
func TestRequestsThatAreReadInPart(t *testing.T) {
	d := refusing{describe(t, camera), map[string]error{"TOOLARGE": drivers.ErrUnrecordable}}
	plate := func(text string) string { return "<plate><text>" + text + "</text></plate>" }
	bad := "<plate><texx>A</texx></plate>"
	var script []drivers.Exchange
	for i, body := range []string{plate("AA1") + plate("AA2"), plate("AA3") + bad, bad, plate("TOOLARGE") + plate("AA4"), plate("TOOLARGE"), plate("AA5")} {
		script = append(script, drivers.Exchange{At: time.Duration(i) * time.Second, Body: []byte(body)})
	}
	p, err := drivers.PlayRequests(t.Context(), d, script)
	require.NoError(t, err)
	var status []int
	for _, r := range p.Replies {
		status = append(status, r.Status)
	}
	require.Equal(t, []int{200, 200, 400, 200, 400, 200}, status)
	require.Len(t, p.Observations, 5)
	require.Len(t, p.Unparsed, 4)
}

// A record that can't be kept takes nothing else with it, though the connection ends.
func TestARecordThatIsNotKept(t *testing.T) {
	stops := errors.New("the agent stops")
	d := refusing{describe(t, dosimeter+"  - {name: p, starts: P, tells: plate, separator: \",\", fields: {plate: {column: 2}}}\n"),
		map[string]error{"TOOLARGE": drivers.ErrUnrecordable, "STOPS": stops}}
	p, err := drivers.Play(t.Context(), d, []drivers.Chunk{{Bytes: []byte("P,AA1\nP,TOOLARGE\nP,AA2\nP,STOPS\nP,AA3\n")}, {At: time.Second, Bytes: []byte("P,AA4\n")}})
	require.ErrorIs(t, err, stops)
	var plates []string
	for _, o := range p.Observations {
		if x, ok := o.Data.(event.PlateRead); ok {
			plates = append(plates, x.Private.Plate)
		}
	}
	require.Equal(t, []string{"AA1", "AA2", "AA3"}, plates)
	require.Len(t, p.Unparsed, 2)
	require.Equal(t, "a record was not kept: the agent stops", p.Unparsed[1].Reason)
}

// FuzzDevice: whatever a device sends, and however it is cut, the driver goes on, and no alarm
// ends that the device did not end.
func FuzzDevice(f *testing.F) {
	descriptions := []string{
		dosimeter,
		"framing: {kind: document}\nrecords:\n  - {name: r, tells: signals, fields: {estop_ok: {path: a/e, words: {OK: yes, NO: no}}, custom_x: {path: a@x, kind: numeric, optional: true}}}\n",
		"framing: {kind: stx_etx, checksum: {kind: xor}}\nrecords:\n  - {name: r, tells: weight, fields: {weight: {at: 1, length: 5, unit: kg, over: [OL]}, stable: {at: 6, length: 1, above: 0}}}\n",
		"framing: {kind: lines}\nrecords:\n  - {name: r, tells: plate, separator: \",\", fields: {plate: {column: 1, missing: [\"-\"]}, speed: {column: 2, unit: m/s, optional: true}}}\n  - {name: t, tells: nothing, matches: ^x}\n",
	}
	f.Add(byte(0), byte(3), []byte("S,A\r\nV,1\r\nS,?\r\nV,OL\r\nS,N\r\n"))
	f.Add(byte(1), byte(9), []byte(`<r><a x="1"><e>OK</e></a></r>{"a": {"e": "NO"}}`))
	f.Add(byte(2), byte(1), []byte("\x02 1000A\x71\x03"))
	f.Add(byte(3), byte(50), []byte("AA1234BB,5\n-,\nxx\n"))
	f.Fuzz(func(t *testing.T, which, size byte, stream []byte) {
		d, err := build(descriptions[int(which)%len(descriptions)])
		require.NoError(t, err)
		var script []drivers.Chunk
		for at := time.Duration(0); len(stream) > 0; at += time.Second {
			n := min(len(stream), int(size)+1)
			script = append(script, drivers.Chunk{At: at, Bytes: stream[:n]})
			stream = stream[n:]
		}
		p, err := drivers.Play(t.Context(), d, script)
		require.NoError(t, err)
		standing := map[string]bool{}
		for _, o := range p.Observations {
			if a, ok := o.Data.(event.RadiationRateAlarm); ok {
				require.Equal(t, a.State == "raised", !standing[a.Kind])
				standing[a.Kind] = a.State == "raised"
				if a.State == "cleared" && a.Kind == "threshold" && a.Raw.Text != "" {
					require.Regexp(t, `^S[^,]*,\s*N`, a.Raw.Text)
				}
			}
		}
	})
}

// FuzzDescription: whatever is written into a profile makes an instrument or an error.
func FuzzDescription(f *testing.F) {
	f.Add(dosimeter, []byte("V,1\r\nS,A\r\n"))
	f.Fuzz(func(t *testing.T, text string, stream []byte) {
		d, err := build(text)
		if err != nil {
			return
		}
		_, err = drivers.Play(t.Context(), d, []drivers.Chunk{{Bytes: stream}})
		require.NoError(t, err)
	})
}
