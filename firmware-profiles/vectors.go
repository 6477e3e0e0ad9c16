package profiles

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
)

// Vector is one self-test of a profile. In a file its input is one line for
// each piece of bytes: the moment in seconds, a space, and the text, which is
// sent with CR LF; or "hex:" and bytes, which are sent as they are. A line with
// a moment alone lets time pass. Lines that begin with # are comments.
//
// Instruments that speak HTTP have "http" in place of "input": a list of the
// requests that the device sends, or of its answers. Those that publish over MQTT
// have "mqtt": a list of their messages. Those that drop files have "files": a list of
// what happens to the folder. Those whose registers are read have "registers": a list of
// what they hold from a moment on.
type Vector struct {
	Name string
	// Script is the input.
	Script []drivers.Chunk
	// HTTP is the input of an instrument that speaks HTTP.
	HTTP []drivers.Exchange
	// MQTT is the input of an instrument that publishes.
	MQTT []drivers.Exchange
	// Files is the input of an instrument that drops files.
	Files []drivers.Dropped
	// Registers is the input of an instrument whose registers are read.
	Registers []drivers.Held
	// Replies are what must be answered to each of HTTP; an empty one is not
	// looked at.
	Replies []string
	// Expect lists every event that must come out, in order.
	Expect []Expected
	// Unparsed is how many pieces must be refused.
	Unparsed int
	// Asks: the driver sends requests to the device. Without it nothing may be sent.
	Asks bool

	settings ast.Node // beside the profile's; nil for none
}

// Expected is one event: its type, and of its data the fields that matter.
type Expected struct {
	Type string
	Data map[string]any
}

func parseVector(d *yamlfile.Document, n ast.Node, before []Vector) (v Vector) {
	d.Mapping(n, "a vector",
		yamlfile.Key{Name: "name", Required: true, Read: func(n ast.Node) {
			v.Name, _ = d.Text(n, "name")
			if slices.ContainsFunc(before, func(b Vector) bool { return b.Name == v.Name }) {
				d.At(n, fmt.Sprintf("there is a vector %q already", v.Name), "give each its own name")
			}
		}},
		yamlfile.Key{Name: "settings", Read: func(n ast.Node) { v.settings = n }},
		yamlfile.Key{Name: "http", Read: func(n ast.Node) {
			d.Sequence(n, "http", maxExchanges, func(n ast.Node) { v.addExchange(d, n) })
		}},
		yamlfile.Key{Name: "mqtt", Read: func(n ast.Node) {
			d.Sequence(n, "mqtt", maxExchanges, func(n ast.Node) { v.addMessage(d, n) })
		}},
		yamlfile.Key{Name: "files", Read: func(n ast.Node) {
			d.Sequence(n, "files", maxExchanges, func(n ast.Node) { v.addDropped(d, n) })
		}},
		yamlfile.Key{Name: "registers", Read: func(n ast.Node) {
			d.Sequence(n, "registers", maxExchanges, func(n ast.Node) { v.addHeld(d, n) })
		}},
		yamlfile.Key{Name: "input", Read: func(n ast.Node) {
			text, isText := d.Text(n, "input")
			if !isText {
				return
			}
			script, err := parseScript(text)
			if err != nil {
				d.At(n, err.Error(), "one line each: seconds, a space, and the text or hex:0102")
			}
			v.Script = script
		}},
		yamlfile.Key{Name: "expect", Required: true, Read: func(n ast.Node) {
			d.Sequence(n, "expect", 10*maxVectors, func(n ast.Node) {
				var e Expected
				d.Mapping(n, "an expected event",
					yamlfile.Key{Name: "type", Required: true, Read: func(n ast.Node) { e.Type, _ = d.Text(n, "type") }},
					yamlfile.Key{Name: "data", Read: func(n ast.Node) {
						m, isMap := d.Any(n).(map[string]any)
						if !isMap {
							d.At(n, "data must be a set of fields", "")
							return
						}
						e.Data = m
					}},
				)
				v.Expect = append(v.Expect, e)
			})
		}},
		yamlfile.Key{Name: "asks", Read: func(n ast.Node) { v.Asks = d.Any(n) == true }},
		yamlfile.Key{Name: "unparsed", Read: func(n ast.Node) { v.Unparsed, _ = d.Whole(n, "unparsed", 0, 1000) }},
	)
	inputs := 0
	for _, n := range []int{len(v.Script), len(v.HTTP), len(v.MQTT), len(v.Files), len(v.Registers)} {
		inputs += min(n, 1)
	}
	if inputs != 1 && d.Err() == nil {
		d.At(n, "a vector needs one of input, http, mqtt, files and registers", "input for bytes on a line, http or mqtt for messages, files for a folder, registers for a bus")
	}
	return v
}

// maxExchanges bounds the messages of a vector.
const maxExchanges = 100

func (v *Vector) addExchange(d *yamlfile.Document, n ast.Node) {
	reply := ""
	x := readExchange(d, n, v.HTTP, func(x *drivers.Exchange) []yamlfile.Key {
		return []yamlfile.Key{
			textKey(d, "method", &x.Method), textKey(d, "path", &x.Path), textKey(d, "type", &x.ContentType), textKey(d, "reply", &reply),
			{Name: "status", Read: func(n ast.Node) { x.Status, _ = d.Whole(n, "status", 100, 599) }},
		}
	})
	v.HTTP, v.Replies = append(v.HTTP, x), append(v.Replies, reply)
}

func (v *Vector) addMessage(d *yamlfile.Document, n ast.Node) {
	v.MQTT = append(v.MQTT, readExchange(d, n, v.MQTT, func(x *drivers.Exchange) []yamlfile.Key {
		return []yamlfile.Key{
			textKey(d, "topic", &x.Path),
			{Name: "retained", Read: func(n ast.Node) { x.Retained = d.Any(n) == true }},
		}
	}))
}

func (v *Vector) addDropped(d *yamlfile.Document, n ast.Node) {
	remove := false
	x := readExchange(d, n, nil, func(x *drivers.Exchange) []yamlfile.Key {
		return []yamlfile.Key{
			textKey(d, "name", &x.Path),
			{Name: "remove", Read: func(n ast.Node) { remove = d.Any(n) == true }},
		}
	})
	if k := len(v.Files); k > 0 && x.At < v.Files[k-1].At {
		d.At(n, "the step goes back in time", "")
	}
	v.Files = append(v.Files, drivers.Dropped{At: x.At, Name: x.Path, Content: x.Body, Remove: remove})
}

func (v *Vector) addHeld(d *yamlfile.Document, n ast.Node) {
	h := drivers.Held{Set: map[string]float64{}, Fails: map[string]string{}}
	d.Mapping(n, "a step",
		yamlfile.Key{Name: "at", Read: func(n ast.Node) { h.At, _ = d.Duration(n, "at", 0, maxMoment*time.Second) }},
		yamlfile.Key{Name: "set", Required: true, Read: func(n ast.Node) {
			set, ok := d.Any(n).(map[string]any)
			for address, value := range set {
				number, err := strconv.ParseFloat(fmt.Sprint(value), 64)
				if text, isText := value.(string); isText {
					h.Fails[address] = text
				} else if err == nil {
					h.Set[address] = number
				} else {
					ok = false
				}
			}
			if !ok {
				d.At(n, "set must be addresses with a number each, or a text for one that can't be read", "")
			}
		}},
	)
	if k := len(v.Registers); k > 0 && h.At < v.Registers[k-1].At {
		d.At(n, "the step goes back in time", "")
	}
	v.Registers = append(v.Registers, h)
}

func textKey(d *yamlfile.Document, name string, into *string) yamlfile.Key {
	return yamlfile.Key{Name: name, Read: func(n ast.Node) { *into, _ = d.Text(n, name) }}
}

// readExchange reads a message: its moment, its content, and what is of its kind.
func readExchange(d *yamlfile.Document, n ast.Node, before []drivers.Exchange, own func(*drivers.Exchange) []yamlfile.Key) (x drivers.Exchange) {
	d.Mapping(n, "a message", append(own(&x),
		yamlfile.Key{Name: "at", Read: func(n ast.Node) { x.At, _ = d.Duration(n, "at", 0, maxMoment*time.Second) }},
		yamlfile.Key{Name: "body", Read: func(n ast.Node) {
			if s, ok := d.Text(n, "body"); ok {
				x.Body = []byte(s)
			}
		}},
		yamlfile.Key{Name: "base64", Read: func(n ast.Node) {
			s, ok := d.Text(n, "base64")
			if !ok {
				return
			}
			b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
			if err != nil {
				d.At(n, "base64: "+err.Error(), "")
			}
			x.Body = b
		}},
	)...)
	if k := len(before); k > 0 && x.At < before[k-1].At {
		d.At(n, "the message goes back in time", "")
	}
	return x
}

// maxMoment bounds a script's length in time.
const maxMoment = 24 * 3600

func parseScript(text string) ([]drivers.Chunk, error) {
	var script []drivers.Chunk
	var last time.Duration
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		moment, rest, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		seconds, err := strconv.ParseFloat(moment, 64)
		if err != nil || !(seconds >= 0 && seconds <= maxMoment) {
			return nil, fmt.Errorf("input line %d begins with %q, want a moment in seconds", i+1, moment)
		}
		c := drivers.Chunk{At: time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)}
		if c.At < last {
			return nil, fmt.Errorf("input line %d goes back in time", i+1)
		}
		last = c.At
		if digits, isHex := strings.CutPrefix(rest, "hex:"); isHex {
			if c.Bytes, err = hex.DecodeString(strings.ReplaceAll(digits, " ", "")); err != nil {
				return nil, fmt.Errorf("input line %d: %w", i+1, err)
			}
		} else if rest != "" {
			c.Bytes = []byte(rest + "\r\n")
		}
		script = append(script, c)
	}
	if len(script) == 0 {
		return nil, errors.New("the input is empty")
	}
	return script, nil
}

// VectorResult is how a vector came out.
type VectorResult struct {
	Vector string
	// Err says the first thing that differs from what is expected; nil if
	// nothing does.
	Err error
	// Played is what came out, and Events how each event of it compares with what is expected.
	Played drivers.Played
	Events []EventResult
}

// EventResult is one event of a vector.
type EventResult struct {
	// Want and Got are the types; empty if none was expected, or none came.
	Want, Got string
	// Data is what came, as JSON.
	Data string
	// Err is what differs; nil if nothing does.
	Err error
}

// Check runs every vector: it plays the input into the profile's driver and
// compares what comes out.
func (p *Profile) Check(lookup Lookup) []VectorResult {
	results := make([]VectorResult, 0, len(p.Vectors))
	for _, v := range p.Vectors {
		results = append(results, p.CheckVector(lookup, v, nil))
	}
	return results
}

// CheckVector runs one vector. prepare, if not nil, gets the instrument before.
func (p *Profile) CheckVector(lookup Lookup, v Vector, prepare func(drivers.Instrument)) VectorResult {
	r := VectorResult{Vector: v.Name}
	instrument, err := p.instrument(lookup, v.settings)
	if err == nil {
		if prepare != nil {
			prepare(instrument)
		}
		d, _ := lookup(p.Driver)
		r.Played, err = play(instrument, d, v)
	}
	if err == nil {
		r.Events = compareEvents(v, r.Played)
		err = compare(v, r.Played)
	}
	if err != nil {
		r.Err = fmt.Errorf("profile %s: vector %q: %w", p.Name, v.Name, err)
	}
	return r
}

// CheckDriver tries the profile with its driver. The error is a yamlfile.Problems.
func (p *Profile) CheckDriver(lookup Lookup) error { return p.checkDriver(lookup) }

// Instrument makes the profile's instrument, with nothing but its settings.
func (p *Profile) Instrument(lookup Lookup) (drivers.Instrument, error) {
	return p.instrument(lookup, nil)
}

func (p *Profile) instrument(lookup Lookup, beside ast.Node) (drivers.Instrument, error) {
	d, ok := lookup(p.Driver)
	if !ok {
		return nil, fmt.Errorf("there is no driver %q in this version", p.Driver)
	}
	return d.New(func(settings any) error {
		if err := p.Decode(settings); err != nil {
			return err
		}
		return p.decode(beside, settings)
	})
}

func play(instrument drivers.Instrument, d drivers.Driver, v Vector) (played drivers.Played, err error) {
	switch {
	case len(v.Files) > 0:
		played, err = drivers.PlayFolder(context.Background(), instrument, v.Files)
	case len(v.Registers) > 0:
		played, err = drivers.PlayBus(context.Background(), instrument, v.Registers)
	case len(v.MQTT) > 0:
		played, err = drivers.PlayMessages(context.Background(), instrument, v.MQTT)
	case len(v.HTTP) == 0:
		played, err = drivers.Play(context.Background(), instrument, v.Script)
	case slices.Contains(d.Schemes, "http-listen"):
		played, err = drivers.PlayRequests(context.Background(), instrument, v.HTTP)
	default:
		played, err = drivers.PlayResponses(context.Background(), instrument, v.HTTP)
	}
	return played, err
}

func compareEvents(v Vector, played drivers.Played) (list []EventResult) {
	for i := range max(len(v.Expect), len(played.Observations)) {
		var r EventResult
		if i < len(v.Expect) {
			r.Want = v.Expect[i].Type
		}
		if i < len(played.Observations) {
			r.Got, r.Data = played.Observations[i].Data.Type(), asJSON(played.Observations[i].Data)
		}
		switch {
		case r.Want == "":
			r.Err = errors.New("it is not expected")
		case r.Got == "":
			r.Err = errors.New("it did not come")
		default:
			r.Err = matches(v.Expect[i], played.Observations[i])
		}
		list = append(list, r)
	}
	return list
}

func compare(v Vector, played drivers.Played) error {
	if (played.Written > 0) != v.Asks {
		return fmt.Errorf("the driver sent %d requests to the device; asks says %t", played.Written, v.Asks)
	}
	for i, want := range v.Replies {
		switch {
		case want == "":
		case i >= len(played.Replies):
			return fmt.Errorf("message %d was not answered, want %q", i+1, want)
		case string(played.Replies[i].Body) != want:
			return fmt.Errorf("message %d was answered with %q, want %q", i+1, played.Replies[i].Body, want)
		}
	}
	for i, o := range played.Observations {
		if i >= len(v.Expect) {
			return fmt.Errorf("unexpected event %d, %s: %s", i+1, o.Data.Type(), asJSON(o.Data))
		}
		if err := matches(v.Expect[i], o); err != nil {
			return fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	if n := len(played.Observations); n < len(v.Expect) {
		return fmt.Errorf("event %d, %s, did not come", n+1, v.Expect[n].Type)
	}
	if n := len(played.Unparsed); n != v.Unparsed {
		var why []string
		for _, u := range played.Unparsed {
			why = append(why, fmt.Sprintf("%q: %s", u.Raw, u.Reason))
		}
		pieces := "pieces were"
		if n == 1 {
			pieces = "piece was"
		}
		return fmt.Errorf("%d %s not understood, want %d: %s", n, pieces, v.Unparsed, strings.Join(why, "; "))
	}
	return nil
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func matches(want Expected, got drivers.Observation) error {
	if got.Data.Type() != want.Type {
		return fmt.Errorf("got %s, want %s: %s", got.Data.Type(), want.Type, asJSON(got.Data))
	}
	if want.Data == nil {
		return nil
	}
	var data any
	if err := json.Unmarshal([]byte(asJSON(got.Data)), &data); err != nil {
		return fmt.Errorf("%s: %w", want.Type, err)
	}
	if err := subset(plain(want.Data), data, "data"); err != nil {
		return fmt.Errorf("%s: %w", want.Type, err)
	}
	return nil
}

// plain brings values that YAML decoded to the types that JSON decodes to.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		return err.Error()
	}
	return out
}

// subset compares: of a set only the wanted fields, everything else exactly.
func subset(want, got any, at string) error {
	w, isMap := want.(map[string]any)
	g, gotMap := got.(map[string]any)
	if isMap && gotMap {
		for _, k := range slices.Sorted(maps.Keys(w)) {
			value, there := g[k]
			if !there {
				return fmt.Errorf("%s has no field %q", at, k)
			}
			if err := subset(w[k], value, at+"."+k); err != nil {
				return err
			}
		}
		return nil
	}
	wl, isList := want.([]any)
	gl, gotList := got.([]any)
	if isList && gotList && len(wl) == len(gl) {
		for i := range wl {
			if err := subset(wl[i], gl[i], fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if asJSON(want) != asJSON(got) {
		return fmt.Errorf("%s is %s, want %s", at, asJSON(got), asJSON(want))
	}
	return nil
}
