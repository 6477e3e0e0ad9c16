package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

func root(t *testing.T) string {
	t.Helper()
	dir, err := repositoryRoot()
	require.NoError(t, err)
	return dir
}

func read(t *testing.T) *source {
	t.Helper()
	s, err := readSource(filepath.Join(root(t), sourceDir))
	require.NoError(t, err)
	return s
}

func TestFilesAreCurrent(t *testing.T) {
	files, err := generate(root(t))
	require.NoError(t, err)
	require.Len(t, files, len(event.Types())+2)
	for path, want := range files {
		got, err := os.ReadFile(filepath.Join(root(t), path))
		require.NoError(t, err, "run: make generate")
		require.True(t, bytes.Equal(want, got), "%s is not what the Go types say: run make generate", path)
	}
	stale, err := staleFiles(root(t), files)
	require.NoError(t, err)
	require.Empty(t, stale, "run: make generate")
}

// compiled gives the published schemas, or the strict ones, to a validator that
// is not the generator's.
func compiled(t *testing.T, strict bool) map[string]*jsonschema.Schema {
	t.Helper()
	texts, err := read(t).schemas(strict)
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.AssertContent()
	for _, text := range texts {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		id, ok := doc.(map[string]any)["$id"].(string)
		require.True(t, ok)
		require.NoError(t, c.AddResource(id, doc))
	}
	all := map[string]*jsonschema.Schema{}
	for typ := range texts {
		// By the URI that events carry, so the ids must be those.
		s, err := c.Compile(event.SchemaURI(typ))
		require.NoError(t, err, typ)
		all[typ] = s
	}
	return all
}

func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return s.Validate(v)
}

func TestSchemasAreSchemas(t *testing.T) {
	for _, strict := range []bool{false, true} {
		texts, err := read(t).schemas(strict)
		require.NoError(t, err)
		for typ, text := range texts {
			var head struct {
				Schema string `json:"$schema"`
				ID     string `json:"$id"`
				Title  string `json:"title"`
			}
			require.NoError(t, json.Unmarshal(text, &head))
			require.Equal(t, "https://json-schema.org/draft/2020-12/schema", head.Schema)
			require.Equal(t, event.SchemaURI(typ), head.ID)
			require.Equal(t, typ, head.Title)
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			require.NoError(t, err)
			meta, err := jsonschema.NewCompiler().Compile(head.Schema)
			require.NoError(t, err)
			require.NoError(t, meta.Validate(doc), typ)
		}
	}
}

// Strict too: an example that had a field which the schema does not know would
// show that one of them is wrong.
func TestExamplesValidate(t *testing.T) {
	for _, strict := range []bool{false, true} {
		schemas := compiled(t, strict)
		for _, k := range event.Types() {
			text, err := k.Example.Encode()
			require.NoError(t, err)
			e, err := event.Parse(text)
			require.NoError(t, err)
			require.NoError(t, validate(t, schemas[k.Type], e.Data), k.Type)
			require.NoError(t, validate(t, schemas[envelope], text), k.Type)
		}
	}
}

// Data that a driver forgot to fill in all over still has the right shape, but
// for strings that must be one of a list.
func TestZeroValuesHaveTheShape(t *testing.T) {
	schemas := compiled(t, true)
	for _, k := range event.Types() {
		x := k.Example
		x.Data = k.Zero
		text, err := x.Encode()
		require.NoError(t, err)
		e, err := event.Parse(text)
		require.NoError(t, err)
		err = validate(t, schemas[k.Type], e.Data)
		if err == nil {
			continue
		}
		for _, line := range strings.Split(err.Error(), "\n")[1:] {
			require.Regexp(t, `value must be one of|does not match pattern|validation failed$`, line, k.Type)
		}
	}
}

// Each case breaks an example by hand, and says where the validator must find
// it.
func TestBrokenExamplesFail(t *testing.T) {
	schemas := compiled(t, false)
	strict := compiled(t, true)
	texts := map[string]string{}
	for _, k := range event.Types() {
		b, err := k.Example.Encode()
		require.NoError(t, err)
		texts[k.Type] = string(b)
	}
	const (
		occupancy  = "lanepost.radiation.occupancy.v1"
		background = "lanepost.radiation.background.v1"
		diagnostic = "lanepost.radiation.diagnostic.v1"
		online     = "lanepost.device.online.v1"
		silent     = "lanepost.device.silent.v1"
		unparsed   = "lanepost.device.unparsed.v1"
		started    = "lanepost.agent.started.v1"
		loss       = "lanepost.agent.loss.v1"
		config     = "lanepost.agent.config-changed.v1"
		agentState = "lanepost.agent.state.v1"
		plate      = "lanepost.plate.read.v1"
		noRead     = "lanepost.plate.no-read.v1"
	)
	for _, c := range []struct{ typ, old, new, at string }{
		{occupancy, `"outcome":"alarm"`, `"outcome":"clear"`, "/data/outcome"},
		{occupancy, `"outcome":"alarm",`, ``, "'outcome'"},
		{occupancy, `"neutron":"data"`, `"neutron":null`, "/data/neutron"},
		{occupancy, `"gamma":"data"`, `"gamma":""`, "/data/gamma"},
		{occupancy, `"end":"gx"`, `"end":"GX"`, "/data/end"},
		{occupancy, `"gamma_alarm":true`, `"gamma_alarm":1`, "/data/gamma_alarm"},
		{occupancy, `"gamma_alarm":true`, `"gamma_alarm":null`, "/data/gamma_alarm"},
		{occupancy, `"gamma_alarm":true,`, ``, "'gamma_alarm'"},
		{occupancy, `"gx_counter":412,`, ``, "'gx_counter'"},
		{occupancy, `"gx_counter":412`, `"gx_counter":"000412"`, "/data/gx_counter"},
		{occupancy, `"gx_counter":412`, `"gx_counter":-1`, "/data/gx_counter"},
		{occupancy, `"gx_counter":412`, `"gx_counter":412.5`, "/data/gx_counter"},
		{occupancy, `"start_ts":"2026-03-14T08:21:07.412Z"`, `"start_ts":"2026-03-14T09:21:07.412+01:00"`, "/data/start_ts"},
		{occupancy, `"start_ts":"2026-03-14T08:21:07.412Z"`, `"start_ts":"2026-02-30T08:21:07.412Z"`, "/data/start_ts"},
		{occupancy, `"speeds_kph":[14.71,160.93]`, `"speeds_kph":null`, "/data/speeds_kph"},
		{occupancy, `"speeds_kph":[14.71,160.93]`, `"speeds_kph":["14.71"]`, "/data/speeds_kph/0"},
		{occupancy, `"source":"profile"`, `"source":"guess"`, "/data/recomputed"},
		{occupancy, `"agrees":true`, `"agrees":"yes"`, "/data/recomputed"},
		{occupancy, `"group":"vertical-1"`, `"group":"vertical"`, "/data/recomputed"},
		{occupancy, `{"t":-1,`, `{`, "/data/gamma_series/0"},
		{occupancy, `"counts":[83,80,88,84]`, `"counts":[83,80,88,-84]`, "/data/gamma_series/0/counts/3"},
		{occupancy, `"size":864`, `"size":"864"`, "/data/raw/size"},
		{occupancy, `"sha256":"`, `"sha256":"F`, "/data/raw/sha256"},
		{background, `"baseline_cps":1684`, `"baseline_cps":"1684"`, "/data/baseline_cps"},
		{diagnostic, `"before":412`, `"before":null`, "/data/values/before"},
		{diagnostic, `"kind":"gx_counter_jump"`, `"kind":"other"`, "/data/kind"},
		{plate, `"private":{"salt"`, `"private":{"pepper"`, "/data/private"},
		{plate, `"match_key":"AA1234BB",`, ``, "/data/private"},
		{plate, `"lossy":false`, `"lossy":null`, "/data/private"},
		{plate, `"confidence":0.61`, `"confidence":61`, "/data/private"},
		{plate, `"confidence":{"value":0.92`, `"confidence":{"value":92`, "/data/confidence"},
		{plate, `"code":"UA"`, `"code":"UKR"`, "/data/country"},
		{plate, `"direction":"toward"`, `"direction":"forward"`, "/data/direction"},
		{plate, `"direction":"toward",`, ``, "'direction'"},
		{plate, `"revision":"single"`, `"revision":""`, "/data/capture"},
		{plate, `"replayed":false`, `"replayed":null`, "/data/capture"},
		{plate, `"pseudonym":"02`, `"pseudonym":"2`, "/data/pseudonym"},
		{plate, `"attachments":[`, `"attachments":[3,`, "/data/attachments/0"},
		{noRead, `"reason":"marked"`, `"reason":"clear"`, "/data/reason"},
		{noRead, `"plate_raw":"Unknown",`, ``, "/data/private"},
		{online, `"absent_s":94.318`, `"absent_s":null`, "/data/absent_s"},
		{silent, `"last_valid":"2026-03-14T08:38:01.186Z"`, `"last_valid":null`, "/data/last_valid"},
		{unparsed, `"samples":[`, `"samples":[3,`, "/data/samples/0"},
		{unparsed, `"base64":"`, `"base64":"*`, "/data/samples/0/raw/base64"},
		{started, `"previous_stop":"unclean"`, `"previous_stop":"crash"`, "/data/previous_stop"},
		{loss, `"first_sequence":"000`, `"first_sequence":"00`, "/data/first_sequence"},
		{loss, `"reason":"damaged"`, `"reason":""`, "/data/reason"},
		{config, `"removed":[]`, `"removed":{}`, "/data/removed"},
		{agentState, `"state":"online"`, `"state":"up"`, "/data/state"},

		{online, `"specversion":"1.0"`, `"specversion":"0.3"`, "/specversion"},
		{online, `"id":"019ceb80-`, `"id":"019ceb80`, "/id"},
		{online, `"source":"/medyka/entry-3/rpm-1"`, `"source":"/medyka/entry-3"`, "/source"},
		{online, `"source":"/medyka/entry-3/rpm-1"`, `"source":"/medyka/entry-3/rpm#1"`, "/source"},
		{online, `"agent":"entry3-box-4c91ae"`, `"agent":""`, "/agent"},
		{online, `"priority":"urgent"`, `"priority":"high"`, "/priority"},
		{online, `"priority":"urgent",`, ``, "'priority'"},
		{online, `"sequence":"00000000000000001188",`, ``, "'sequence'"},
		{online, `"sequence":"00000000000000001188"`, `"sequence":1188`, "/sequence"},
		{online, `"clocksync":"yes"`, `"clocksync":true`, "/clocksync"},
		{online, `"clocksync":"yes",`, ``, "'clocksync'"},
		{online, `"clockmaxerrorms":12`, `"clockmaxerrorms":-12`, "/clockmaxerrorms"},
		{online, `"time":"2026-03-14T08:39:35.504Z"`, `"time":"2026-03-14T08:39:35Z"`, "/time"},
		{online, `"recordedtime":"2026-03-14T08:39:35.504Z",`, ``, "'recordedtime'"},
		{online, `schemas/lanepost.device.online.v1.json`, `schemas/lanepost.device.silent.v1.json`, "/dataschema"},
		{online, `"type":"lanepost.device.online.v1"`, `"type":"lanepost.device.offline.v1"`, "'reason'"},
		{online, `"data":{`, `"data":[],"x":{`, "/data"},
		{agentState, `"agent":"entry3-box-4c91ae"`, `"agent":"a","sequence":"00000000000000000001"`, "/sequence"},
		{agentState, `"agent":"entry3-box-4c91ae"`, `"agent":"a","priority":"urgent"`, "/priority"},
	} {
		t.Run(c.typ+" "+c.new, func(t *testing.T) {
			require.Contains(t, texts[c.typ], c.old)
			broken := []byte(strings.Replace(texts[c.typ], c.old, c.new, 1))
			err := validate(t, schemas[envelope], broken)
			require.ErrorContains(t, err, c.at)
			if !strings.HasPrefix(c.at, "/data/") {
				return
			}
			// The data's own schema must find it without the envelope's.
			var e event.Event
			require.NoError(t, json.Unmarshal(broken, &e))
			require.ErrorContains(t, validate(t, schemas[c.typ], e.Data), strings.TrimPrefix(c.at, "/data"))
		})
	}

	// Unknown fields are for newer agents, so only the strict schemas refuse
	// them.
	for _, c := range []struct{ old, new, at string }{
		{`"agent":"`, `"colour":"red","agent":"`, "colour"},
		{`"joined_mid":false`, `"joined_mid":false,"clear":true`, "clear"},
		{`"agrees":true`, `"agrees":true,"score":1`, "recomputed"},
		{`{"t":-1,`, `{"t":-1,"live":true,`, "gamma_series"},
	} {
		more := []byte(strings.Replace(texts[occupancy], c.old, c.new, 1))
		require.NotEqual(t, texts[occupancy], string(more))
		require.NoError(t, validate(t, schemas[envelope], more))
		require.ErrorContains(t, validate(t, strict[envelope], more), c.at)
	}
	// So are types.
	future := strings.NewReplacer("lanepost.device.online.v1", "lanepost.future.thing.v1").Replace(texts[online])
	require.NoError(t, validate(t, schemas[envelope], []byte(future)))
}

// The public form of an event has a hash in place of what is private, and
// nothing else will do there.
func TestRedactedExamplesValidate(t *testing.T) {
	published, strict := compiled(t, false), compiled(t, true)
	redacted := 0
	for _, k := range event.Types() {
		text, err := k.Example.Encode()
		require.NoError(t, err)
		public := event.Redact(text)
		if bytes.Equal(text, public) {
			continue
		}
		redacted++
		require.NoError(t, validate(t, published[envelope], public), k.Type)
		require.NoError(t, validate(t, strict[envelope], public), k.Type)
		e, err := event.Parse(public)
		require.NoError(t, err)
		require.NoError(t, validate(t, strict[k.Type], e.Data), k.Type)
		for _, bad := range []string{`"sha256:00"`, `"SHA256:` + strings.Repeat("0", 64) + `"`, `"secret"`, `null`, `[]`, `true`, `{}`} {
			broken := regexp.MustCompile(`"sha256:[0-9a-f]{64}"`).ReplaceAll(e.Data, []byte(bad))
			require.NotEqual(t, e.Data, broken)
			require.ErrorContains(t, validate(t, published[k.Type], broken), "/private", bad)
		}
	}
	require.GreaterOrEqual(t, redacted, 2)
}

// A pointer that is always there may be null; nothing else may, nor may an
// optional field.
func TestNull(t *testing.T) {
	schemas := compiled(t, true)
	for _, k := range event.Types() {
		text, err := k.Example.Encode()
		require.NoError(t, err)
		e, err := event.Parse(text)
		require.NoError(t, err)
		of := reflect.TypeOf(k.Zero)
		for i := range of.NumField() {
			name, optional := jsonName(of.Field(i))
			var m map[string]any
			require.NoError(t, json.Unmarshal(e.Data, &m))
			m[name] = nil
			withNull, err := json.Marshal(m)
			require.NoError(t, err)
			err = validate(t, schemas[k.Type], withNull)
			if of.Field(i).Type.Kind() == reflect.Pointer && !optional {
				require.NoError(t, err, "%s %s", k.Type, name)
			} else {
				require.ErrorContains(t, err, name, "%s %s", k.Type, name)
			}

			delete(m, name)
			without, err := json.Marshal(m)
			require.NoError(t, err)
			err = validate(t, schemas[k.Type], without)
			if optional {
				require.NoError(t, err, "%s %s", k.Type, name)
			} else {
				require.ErrorContains(t, err, name, "%s %s", k.Type, name)
			}
		}
	}
}

// The lists of values in tags and the constants in the code are the same.
func TestValuesAreTheConstants(t *testing.T) {
	s := read(t)
	texts := func(list []value) (texts []string) {
		for _, v := range list {
			require.NotEmpty(t, v.Meaning, "%s has no comment", v.Text)
			texts = append(texts, v.Text)
		}
		return texts
	}
	field := func(of reflect.Type, name string) []value {
		f, ok := of.FieldByName(name)
		require.True(t, ok)
		return s.fieldValues(f)
	}
	occupancy := reflect.TypeFor[event.RadiationOccupancy]()
	require.Equal(t, []string{event.EndGX, event.EndGXLost, event.EndClear, event.EndNextObject, event.EndStuck, event.EndStalled, event.EndDisconnected}, texts(field(occupancy, "End")))
	require.Equal(t, []string{"alarm", "no_alarm", "incomplete"}, texts(field(occupancy, "Outcome")))
	require.Equal(t, []string{"not_fitted", "no_data", "data", "fault"}, texts(field(occupancy, "Neutron")))
	require.Equal(t, []string{"urgent", "routine"}, texts(field(reflect.TypeFor[event.AgentLoss](), "Priority")))
	require.Equal(t, []string{
		event.DiagGXOrphan, event.DiagGXCounterReset, event.DiagGXCounterJump, event.DiagSpeedOrphan,
		event.DiagAlarmMismatch, event.DiagBackgroundMissing, event.DiagObjectCounterJump, event.DiagObjectCounterReset,
		event.DiagLooksLate, event.DiagRegistersMissing, event.DiagRegisterMap, event.DiagAlarmOutput,
		event.DiagOccupancyStuck, event.DiagButton,
	}, texts(field(reflect.TypeFor[event.RadiationDiagnostic](), "Kind")))

	// None of the constants that stand for a kind or an end was forgotten.
	known := append(texts(field(occupancy, "End")), texts(field(reflect.TypeFor[event.RadiationDiagnostic](), "Kind"))...)
	goFile, err := os.ReadFile(filepath.Join(root(t), sourceDir, "radiation.go"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)^\t(?:End|Diag)\w+ += "(\w+)"`).FindAllStringSubmatch(string(goFile), -1) {
		require.Contains(t, known, m[1])
	}
}

// Every JSON block of the page is an event that the schemas accept, one for
// each type; every link within the page and to the schemas leads somewhere.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root(t), docsFile))
	require.NoError(t, err)
	schemas := compiled(t, true)
	var types []string
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1) {
		e, err := event.Parse(m[1])
		require.NoError(t, err)
		require.NoError(t, validate(t, schemas[envelope], m[1]), e.Type)
		d, err := event.DecodeData(e)
		require.NoError(t, err)
		for _, k := range event.Types() {
			if k.Type == e.Type {
				require.Equal(t, k.Example.Data, reflect.ValueOf(d).Elem().Interface(), "the layout changed the example")
			}
		}
		types = append(types, e.Type)
	}
	var want []string
	for _, k := range event.Types() {
		want = append(want, k.Type)
	}
	require.Equal(t, want, types)

	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllSubmatch(page, -1) {
		a := strings.ToLower(string(m[1]))
		a = regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(a, "")
		anchors[strings.ReplaceAll(a, " ", "-")] = true
	}
	links := regexp.MustCompile(`\]\(([^)]*)\)`).FindAllSubmatch(page, -1)
	require.NotEmpty(t, links)
	for _, m := range links {
		to := string(m[1])
		switch {
		case strings.HasPrefix(to, "#"):
			require.True(t, anchors[to[1:]], "no heading for %s", to)
		case strings.HasPrefix(to, "https://"):
		default:
			_, err := os.Stat(filepath.Join(root(t), "docs", to))
			require.NoError(t, err)
		}
	}

	// A table row has as many cells as its head: a bar in a comment would break
	// it.
	columns := 0
	for _, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		if columns == 0 {
			columns = strings.Count(line, "|")
		}
		require.Equal(t, columns, strings.Count(line, "|"), line)
	}
	require.NotContains(t, string(page), "<no value>")
}

func TestComments(t *testing.T) {
	s := read(t)
	occupancy := reflect.TypeFor[event.RadiationOccupancy]()
	for field, want := range map[string]string{
		"GXCounter":    "The portal's occupancy number, the object counter of a portal whose registers are read; null when GX was lost, or no object was counted.", // its name goes
		"NeutronAlarm": "`gamma_alarm` and `neutron_alarm` are the portal's own alarms, latched.",                                                                  // shared
		"DurationS":    "From `start_ts` to `end_ts` in seconds, by the monotonic clock.",                                                                          // names of others
		"Outcome":      "`outcome` sums it up. Use it, not the absence of an alarm flag, to decide that nothing was found.",
	} {
		require.Equal(t, want, s.fieldComment(occupancy, field))
	}

	// A field without a comment stops the generator rather than the reader.
	delete(s.fields["RadiationOccupancy"], "Outcome")
	_, err := s.docs()
	require.ErrorContains(t, err, "RadiationOccupancy.Outcome has no comment")
}

func TestLayout(t *testing.T) {
	require.Equal(t, `{"a": [1, 2, {"b": "x:,\"{"}], "c": {}}`, layout([]byte(`{"a":[1,2,{"b":"x:,\"{"}],"c":{}}`)))
	long := `{"list":[` + strings.Repeat(`123456789,`, 20) + `0],"empty":[],"text":"` + strings.Repeat("x", width) + `"}`
	laid := layout([]byte(long))
	require.JSONEq(t, long, laid)
	lines := strings.Split(laid, "\n")
	require.Len(t, lines, 9) // three of them for the list
	for _, l := range lines {
		if !strings.Contains(l, "xxx") {
			require.LessOrEqual(t, len(l), width)
		}
	}
	require.True(t, slices.Contains(lines, `  "empty": [],`))
}
