package event

import (
	"crypto/sha256"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func header() Header {
	return Header{
		ID: "019ceb6f-5e82-7a02-b7c1-84d2e05f9b13", Source: "/medyka/entry-3/rpm-1", Agent: "box-4c91ae",
		Time:         At(time.Date(2026, 3, 14, 8, 21, 7, 412e6, time.UTC)),
		RecordedTime: At(time.Date(2026, 3, 14, 8, 21, 7, 413e6, time.UTC)),
		ClockSync:    "yes",
	}
}

// The whole of an event, typed by hand.
func TestEncode(t *testing.T) {
	h := header()
	h.Subject = "a\"b\\c\n\u00e9<&>"
	device := At(time.Date(2026, 3, 14, 9, 21, 0, 0, time.FixedZone("", 3600)))
	maxError := int64(12)
	h.DeviceTime, h.ClockMaxErrorMs = &device, &maxError
	h.CorrelationID, h.Supersedes = "passage", "older"
	d, err := NewDraft(h, DeviceOnline{Connect: "tcp://10.0.3.21:1600?a=1&b=2", Profile: "p"})
	require.NoError(t, err)
	require.Equal(t, Urgent, d.Class())
	require.Equal(t, "lanepost/v1/medyka/entry-3/rpm-1/lanepost.device.online", d.Topic())
	const want = `{"specversion":"1.0","id":"019ceb6f-5e82-7a02-b7c1-84d2e05f9b13","source":"/medyka/entry-3/rpm-1",` +
		`"type":"lanepost.device.online.v1","subject":"a\"b\\c\u000aé<&>","time":"2026-03-14T08:21:07.412Z",` +
		`"datacontenttype":"application/json","dataschema":"https://lanepost.github.io/schemas/lanepost.device.online.v1.json",` +
		`"agent":"box-4c91ae","priority":"urgent","sequence":"00000000000000001184","prevhash":"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20","recordedtime":"2026-03-14T08:21:07.413Z",` +
		`"devicetime":"2026-03-14T08:21:00.000Z","clocksync":"yes","clockmaxerrorms":12,"correlationid":"passage",` +
		`"supersedes":"older","data":{"connect":"tcp://10.0.3.21:1600?a=1&b=2","profile":"p"}}`
	first := d.Encode(1184, Hash{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32})
	require.Equal(t, want, string(first))

	// A draft may be encoded again, after a full disk for instance.
	second := d.Encode(math.MaxUint64, Hash{})
	require.Equal(t, strings.NewReplacer("00000000000000001184", "18446744073709551615",
		"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20", strings.Repeat("0", 64)).Replace(want), string(second))
	require.Equal(t, want, string(first), "the first must not share its bytes with the second")
}

func TestEncodeState(t *testing.T) {
	topic, payload, err := EncodeState(header(), AgentState{State: "online", Since: header().Time})
	require.NoError(t, err)
	require.Equal(t, "lanepost/v1/medyka/entry-3/rpm-1/lanepost.agent.state", topic)
	require.Equal(t, `{"specversion":"1.0","id":"019ceb6f-5e82-7a02-b7c1-84d2e05f9b13","source":"/medyka/entry-3/rpm-1",`+
		`"type":"lanepost.agent.state.v1","time":"2026-03-14T08:21:07.412Z","datacontenttype":"application/json",`+
		`"dataschema":"https://lanepost.github.io/schemas/lanepost.agent.state.v1.json","agent":"box-4c91ae",`+
		`"recordedtime":"2026-03-14T08:21:07.413Z","clocksync":"yes","data":{"state":"online","session":0,`+
		`"since":"2026-03-14T08:21:07.412Z","version":"","backlog":0,"urgent_head":0,"routine_head":0,"problems":[]}}`,
		string(payload))
	e, err := Parse(payload)
	require.NoError(t, err)
	require.Empty(t, e.Sequence)
	require.Empty(t, e.Priority)

	_, _, err = EncodeState(header(), DeviceOnline{})
	require.ErrorContains(t, err, "NewDraft")
}

// What the hand-written encoder writes is, as JSON, what encoding/json writes.
func TestEncodeIsMarshal(t *testing.T) {
	// Of any characters, broken UTF-8 and control characters included.
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	some := rapid.Map(text, func(s string) string { return "x" + s })
	name := rapid.StringMatching(`[A-Za-z0-9._~-]{1,12}`)
	at := rapid.Map(rapid.Int64Range(-62135596799999, 253402300799999), func(ms int64) Time {
		return At(time.UnixMilli(ms).In(time.FixedZone("", 3600)))
	})
	float := rapid.Float64Range(-1e300, 1e300)
	rapid.Check(t, func(t *rapid.T) {
		maybe := func() bool { return rapid.Bool().Draw(t, "present") }
		h := Header{
			ID: some.Draw(t, "id"), Agent: some.Draw(t, "agent"), Subject: text.Draw(t, "subject"),
			Source: Source(name.Draw(t, "site"), name.Draw(t, "lane"), name.Draw(t, "device")),
			Time:   at.Draw(t, "time"), RecordedTime: at.Draw(t, "recorded"),
			ClockSync:     rapid.SampledFrom([]string{"yes", "no", "unknown"}).Draw(t, "sync"),
			CorrelationID: text.Draw(t, "correlation"), Supersedes: text.Draw(t, "supersedes"),
		}
		if maybe() {
			v := at.Draw(t, "device")
			h.DeviceTime = &v
		}
		if maybe() {
			v := rapid.Int64().Draw(t, "error")
			h.ClockMaxErrorMs = &v
		}
		data := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) Data {
				return DeviceOffline{Connect: text.Draw(t, "connect"), Reason: text.Draw(t, "reason"), Hint: text.Draw(t, "hint")}
			}),
			rapid.Custom(func(t *rapid.T) Data {
				return RadiationDiagnostic{
					Kind: text.Draw(t, "kind"), Detail: text.Draw(t, "detail"),
					Values: rapid.MapOf(text, float).Draw(t, "values"),
					Raw:    RawOf(rapid.SliceOf(rapid.Byte()).Draw(t, "raw")),
				}
			}),
			rapid.Custom(func(t *rapid.T) Data { return rapid.SampledFrom(Types()[:17]).Draw(t, "type").Example.Data }),
		).Draw(t, "data")
		sequence := rapid.Uint64Min(1).Draw(t, "sequence")

		draft, err := NewDraft(h, data)
		require.NoError(t, err)
		previous := Hash(sha256.Sum256([]byte(h.ID)))
		got := draft.Encode(sequence, previous)

		payload, err := json.Marshal(data)
		require.NoError(t, err)
		want, err := json.Marshal(Event{
			SpecVersion: SpecVersion, ID: h.ID, Source: h.Source, Type: data.Type(), Subject: h.Subject, Time: h.Time,
			DataContentType: DataContentType, DataSchema: SchemaURI(data.Type()), Agent: h.Agent, Priority: data.Class(),
			Sequence: FormatSequence(sequence), PrevHash: previous.String(), RecordedTime: h.RecordedTime, DeviceTime: h.DeviceTime, ClockSync: h.ClockSync,
			ClockMaxErrorMs: h.ClockMaxErrorMs, CorrelationID: h.CorrelationID, Supersedes: h.Supersedes, Data: payload,
		})
		require.NoError(t, err)
		var gotValue, wantValue any
		require.NoError(t, json.Unmarshal(got, &gotValue))
		require.NoError(t, json.Unmarshal(want, &wantValue))
		require.Equal(t, wantValue, gotValue)
		require.NotContains(t, string(got), "\n", "an event is one line")
	})
}

func TestRoundTrip(t *testing.T) {
	for _, k := range Types() {
		t.Run(k.Type, func(t *testing.T) {
			b, err := k.Example.Encode()
			require.NoError(t, err)
			e, err := Parse(b)
			require.NoError(t, err)
			require.Equal(t, k.Type, e.Type)
			d, err := DecodeData(e)
			require.NoError(t, err)

			// A decoded pointer can be sent on as it is.
			again := k.Example
			again.Data = d
			twice, err := again.Encode()
			require.NoError(t, err)
			require.Equal(t, string(b), string(twice))
		})
	}
}

func TestNewDraftRefuses(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(-1)
	with := func(change func(*Header)) Header {
		h := header()
		change(&h)
		return h
	}
	at := func(year int) Time { return At(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)) }
	far := at(12026)
	for _, c := range []struct {
		name string
		h    Header
		d    Data
		want string
	}{
		{"no id", with(func(h *Header) { h.ID = "" }), DeviceOnline{}, "the id is missing"},
		{"no agent", with(func(h *Header) { h.Agent = "" }), DeviceOnline{}, "the agent's id is missing"},
		{"no clock quality", with(func(h *Header) { h.ClockSync = "" }), DeviceOnline{}, "clocksync"},
		{"no source", with(func(h *Header) { h.Source = "" }), DeviceOnline{}, "source"},
		{"two names", with(func(h *Header) { h.Source = "/a/b" }), DeviceOnline{}, "source"},
		{"four names", with(func(h *Header) { h.Source = "/a/b/c/d" }), DeviceOnline{}, "source"},
		{"an empty name", with(func(h *Header) { h.Source = "/a//c" }), DeviceOnline{}, "source"},
		{"no slash", with(func(h *Header) { h.Source = "a/b/c" }), DeviceOnline{}, "source"},
		{"a wildcard", with(func(h *Header) { h.Source = "/a/+/c" }), DeviceOnline{}, "source"},
		{"no time", with(func(h *Header) { h.Time = Time{} }), DeviceOnline{}, "time is not set"},
		{"no recorded time", with(func(h *Header) { h.RecordedTime = Time{} }), DeviceOnline{}, "recordedtime is not set"},
		{"no device time", with(func(h *Header) { h.DeviceTime = &Time{} }), DeviceOnline{}, "devicetime is not set"},
		{"time out of range", with(func(h *Header) { h.Time = far }), DeviceOnline{}, "time: event time: year 12026"},
		{"time in data out of range", header(), DeviceSilent{LastValid: &far}, "year 12026"},
		{"no data", header(), nil, "no data"},
		{"nil data", header(), (*DeviceOnline)(nil), "no data"},
		{"a state", header(), DeviceState{}, "EncodeState"},
		{"NaN", header(), DeviceSilent{LimitS: nan}, "encode lanepost.device.silent.v1: limit_s = NaN"},
		{"infinite behind a pointer", header(), DeviceOnline{AbsentS: &inf}, "absent_s = -Inf"},
		{"NaN in a list", header(), RadiationOccupancy{SpeedsKPH: []float64{1, nan}}, "speeds_kph[1] = NaN"},
		{"NaN deep down", header(), &RadiationOccupancy{Recomputed: &Recomputed{Groups: []GroupSigma{{}, {MaxNSigma: &nan}}}},
			"recomputed.groups[1].max_nsigma = NaN"},
		{"NaN in a map", header(), RadiationDiagnostic{Values: map[string]float64{"after": nan}}, "values[after] = NaN"},
		{"too large", header(), DeviceFault{Reason: strings.Repeat("x", MaxSize)}, "the most is 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewDraft(c.h, c.d)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// null means "not known" and nothing else, so a forgotten slice must not become
// one.
func TestNilListsComeOutEmpty(t *testing.T) {
	samples := []Sample{{OffsetS: 1, Counts: []int{1}}, {OffsetS: 2}}
	groups := &Recomputed{Groups: []GroupSigma{{Group: "sum"}}}
	in := RadiationOccupancy{GammaSeries: samples, Recomputed: groups}
	d, err := NewDraft(header(), in)
	require.NoError(t, err)
	text := string(d.Encode(1, Hash{}))
	for _, want := range []string{
		`"speeds_kph":[]`, `"neutron_series":[]`, `"gamma_series":[{"t":1,"counts":[1],"alarm":false},{"t":2,"counts":[],"alarm":false}]`,
		`"groups":[{"group":"sum","detectors":[],`, `"gx_counter":null`, `"baseline":null`,
	} {
		require.Contains(t, text, want)
	}
	require.Nil(t, samples[1].Counts, "the caller's data stays as it was")
	require.Nil(t, groups.Groups[0].Detectors, "the caller's data stays as it was")

	d, err = NewDraft(header(), &RadiationSetupChanged{})
	require.NoError(t, err)
	require.Contains(t, string(d.Encode(1, Hash{})), `"changes":[],"setup":{},`)
	d, err = NewDraft(header(), AgentConfigChanged{})
	require.NoError(t, err)
	text = string(d.Encode(1, Hash{}))
	require.Contains(t, text, `"added":[],"changed":[],"removed":[]}`, "problems is optional and stays away")
}

const parsed = `{"specversion":"1.0","id":"i","source":"/a/b/c","type":"lanepost.device.online.v1",` +
	`"time":"2026-03-14T08:21:07.412Z","datacontenttype":"application/json","dataschema":"s","agent":"x","priority":"urgent",` +
	`"sequence":"00000000000000000007","recordedtime":"2026-03-14T08:21:07.413Z","clocksync":"no",` +
	`"data":{"connect":"c","profile":"p"}}`

func TestParse(t *testing.T) {
	e, err := Parse([]byte(parsed))
	require.NoError(t, err)
	require.Equal(t, "/a/b/c", e.Source)
	require.Equal(t, "00000000000000000007", e.Sequence)
	d, err := DecodeData(e)
	require.NoError(t, err)
	require.Equal(t, &DeviceOnline{Connect: "c", Profile: "p"}, d)

	for _, c := range []struct{ name, old, new string }{
		{"space around", parsed, " \n" + parsed + "\r\n"},
		{"unknown attribute", `"agent":"x"`, `"agent":"x","colour":["red"]`},
		{"unknown field of the data", `"profile":"p"`, `"profile":"p","more":{"a":null}`},
		{"type of the future", "lanepost.device.online.v1", "lanepost.future.thing.v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(strings.Replace(parsed, c.old, c.new, 1)))
			require.NoError(t, err)
		})
	}
	stateOfTheFuture := strings.NewReplacer("lanepost.device.online.v1", "lanepost.lane.state.v1",
		`"priority":"urgent","sequence":"00000000000000000007",`, "").Replace(parsed)
	_, err = Parse([]byte(stateOfTheFuture))
	require.NoError(t, err)

	for _, c := range []struct{ name, old, new, want string }{
		{"not JSON", parsed, "hello", "parse an event"},
		{"empty", parsed, "", "parse an event"},
		{"null", parsed, "null", "specversion"},
		{"a list", parsed, "[]", "parse an event"},
		{"cut", `"p"}}`, `"p"`, "parse an event"},
		{"two", parsed, parsed + parsed, "parse an event"},
		{"not UTF-8", `"x"`, "\"\xff\"", "not UTF-8"},
		{"other version", `"1.0"`, `"2.0"`, "specversion"},
		{"no id", `"id":"i"`, `"ident":"i"`, "the id is missing"},
		{"no type", `"lanepost.device.online.v1"`, `""`, "the type is missing"},
		{"no agent", `"agent":"x",`, ``, "agent's id"},
		{"bad source", `/a/b/c`, `/a/#/c`, "source"},
		{"no time", `"time":"2026-03-14T08:21:07.412Z",`, ``, "time is not set"},
		{"bad time", `2026-03-14T08:21:07.412Z`, `yesterday`, "event time"},
		{"null time", `"2026-03-14T08:21:07.412Z"`, `null`, "event time"},
		{"no clock quality", `"clocksync":"no",`, ``, "clocksync"},
		{"bad class", `"urgent"`, `"high"`, "priority"},
		{"class missing", `"priority":"urgent",`, ``, "priority"},
		{"sequence missing", `"sequence":"00000000000000000007",`, ``, "sequence"},
		{"both missing", `"priority":"urgent","sequence":"00000000000000000007",`, ``, "sequence"},
		{"sequence zero", `00000000000000000007`, `00000000000000000000`, "zero"},
		{"sequence as number", `"00000000000000000007"`, `7`, "parse an event"},
		{"state with a sequence", "lanepost.device.online.v1", "lanepost.device.state.v1", "neither"},
		{"no data", `"data":{"connect":"c","profile":"p"}`, `"x":1`, "data"},
		{"null data", `{"connect":"c","profile":"p"}`, `null`, "data"},
		{"data a list", `{"connect":"c","profile":"p"}`, `[1]`, "data"},
		{"binary data", `"data":{"connect":"c","profile":"p"}`, `"data_base64":"AA=="`, "data"},
		{"too large", `"profile":"p"`, `"profile":"` + strings.Repeat("p", MaxSize) + `"`, "the most is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(parsed, c.old, c.new, 1)
			require.NotEqual(t, parsed, text)
			_, err := Parse([]byte(text))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestDecodeDataRefuses(t *testing.T) {
	decode := func(typ, data string) error {
		_, err := DecodeData(Event{Type: typ, Data: json.RawMessage(data)})
		return err
	}
	err := decode("lanepost.future.thing.v1", `{}`)
	require.ErrorIs(t, err, ErrUnknownType)
	require.ErrorContains(t, err, "lanepost.future.thing.v1")

	tamper := RadiationTamper{}.Type()
	require.NoError(t, decode(tamper, `{"state":"on","raw":{"size":0,"sha256":""}}`))
	require.ErrorContains(t, decode(tamper, `{"state":"on"}`), "raw is missing")
	require.ErrorContains(t, decode(tamper, `{"state":null,"raw":{"size":0,"sha256":""}}`), "state is null")
	require.ErrorContains(t, decode(tamper, `{"state":true,"raw":{}}`), "decode lanepost.radiation.tamper.v1")
	require.ErrorContains(t, decode(tamper, `{"State":"on","raw":{}}`), "state is missing")
	require.Error(t, decode(tamper, ``))
	require.Error(t, decode(tamper, `null`))

	// The worst misreading: an occupancy without its answers.
	b, err := json.Marshal(exampleSummary())
	require.NoError(t, err)
	for _, field := range []string{"outcome", "gamma_alarm", "neutron_alarm", "gamma", "neutron"} {
		var m map[string]any
		require.NoError(t, json.Unmarshal(b, &m))
		delete(m, field)
		without, err := json.Marshal(m)
		require.NoError(t, err)
		require.ErrorContains(t, decode(RadiationOccupancy{}.Type(), string(without)), field+" is missing")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(parsed))
	for _, k := range Types() {
		b, err := k.Example.Encode()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		// What was accepted can be written and read again, and means the same.
		out, err := json.Marshal(e)
		require.NoError(t, err)
		again, err := Parse(out)
		if len(out) > MaxSize {
			return
		}
		require.NoError(t, err)
		require.JSONEq(t, string(e.Data), string(again.Data))
		again.Data = e.Data
		cut(&e)
		cut(&again)
		require.Equal(t, e, again)

		d, err := DecodeData(e)
		if err != nil {
			return
		}
		require.Equal(t, e.Type, d.Type())
		_, err = json.Marshal(d)
		require.NoError(t, err)
	})
}

// cut drops what the form of times drops.
func cut(e *Event) {
	for _, t := range []*Time{&e.Time, &e.RecordedTime, e.DeviceTime} {
		if t != nil {
			t.Time = t.Truncate(time.Millisecond)
		}
	}
}

func draftOf600Bytes(tb testing.TB) *Draft {
	h := header()
	maxError := int64(12)
	h.ClockMaxErrorMs = &maxError
	d, err := NewDraft(h, DeviceOffline{
		Connect: "tcp://10.0.3.21:1600", Reason: "dial tcp 10.0.3.21:1600: connect: no route to host",
		Hint: "check the network cable",
	})
	require.NoError(tb, err)
	require.InDelta(tb, 680, len(d.Encode(1, Hash{})), 50)
	return d
}

func TestEncodeAllocatesOnce(t *testing.T) {
	d := draftOf600Bytes(t)
	require.InDelta(t, 1, testing.AllocsPerRun(1000, func() { d.Encode(1184, Hash{}) }), 0.1)
}

func BenchmarkEncode(b *testing.B) {
	d := draftOf600Bytes(b)
	b.ReportAllocs()
	for b.Loop() {
		d.Encode(1184, Hash{})
	}
}

func BenchmarkNewDraft(b *testing.B) {
	for _, c := range []struct {
		name string
		data Data
	}{{"small", DeviceOnline{Connect: "tcp://10.0.3.21:1600", Profile: "rapiscan-tsa"}}, {"occupancy", exampleSummary()}} {
		b.Run(c.name, func(b *testing.B) {
			h := header()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewDraft(h, c.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
