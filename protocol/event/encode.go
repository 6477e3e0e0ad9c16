package event

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxSize bounds an encoded event, in bytes. NewDraft makes none that is
// larger and Parse reads none.
const MaxSize = 1 << 20

// ErrUnknownType says that an event's type is none of this package's. A newer
// agent may send it; a subscriber should keep the event and go on.
var ErrUnknownType = errors.New("unknown event type")

// Header is what the agent knows about an event beside its data and sequence.
// The fields mean the same as in Event.
type Header struct {
	ID            string
	Source        string
	Agent         string
	Subject       string // optional
	Time          Time
	RecordedTime  Time
	DeviceTime    *Time // optional
	ClockSync     string
	CorrelationID string // optional
	Supersedes    string // optional
	// ClockMaxErrorMs is nil when unknown.
	ClockMaxErrorMs *int64
}

// Draft is an event that is complete but for its place in the log, which the
// spool gives: the sequence, and the hash of what is before it. It is never
// changed after NewDraft.
type Draft struct {
	topic string
	class Class
	// text is the whole event with placeholders: sequenceDigits of them at place,
	// and prevHashDigits after prevHashMember behind those.
	text  []byte
	place int
}

// sequenceDigits is the width of a sequence in an event: all of a uint64.
const sequenceDigits = 20

// NewDraft prepares an event. All that can fail fails here: a header that
// lacks something, a state type (see EncodeState), a number that JSON can't
// hold (the error names the field), an event above MaxSize.
//
// Slices and maps of d that are nil come out as empty lists and objects, so
// that null keeps its one meaning: not known.
func NewDraft(h Header, d Data) (*Draft, error) {
	text, place, err := encode(h, d, false)
	if err != nil {
		return nil, err
	}
	return &Draft{topic: Topic(h.Source, d.Type()), class: d.Class(), text: text, place: place}, nil
}

// Topic is where the event is to be published.
func (d *Draft) Topic() string { return d.topic }

// Class is the class that the event belongs to.
func (d *Draft) Class() Class { return d.class }

// Encode gives the event at its place in the log as JSON on one line, in a slice
// of its own. previous is the chain's value before it, see Hash.
func (d *Draft) Encode(sequence uint64, previous Hash) []byte {
	b := make([]byte, len(d.text))
	copy(b, d.text)
	for i := d.place + sequenceDigits - 1; i >= d.place; i-- {
		b[i] = byte('0' + sequence%10)
		sequence /= 10
	}
	hex.Encode(b[d.place+sequenceDigits+len(`"`)+len(prevHashMember):], previous[:])
	return b
}

// EncodeState encodes an event without priority and sequence that is not to be
// spooled: a state, which is to be published with the retain flag, or a notice
// of an uplink. It takes the types whose Kind is unsequenced and no others.
func EncodeState(h Header, d Data) (topic string, payload []byte, err error) {
	payload, _, err = encode(h, d, true)
	if err != nil {
		return "", nil, err
	}
	return Topic(h.Source, d.Type()), payload, nil
}

// encode writes the envelope by hand: it is on the way of every event, and has
// few and plain fields. place is where the sequence belongs.
func encode(h Header, d Data, state bool) (text []byte, place int, err error) {
	if v := reflect.ValueOf(d); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, 0, errors.New("encode an event: it has no data")
	}
	typ, class := d.Type(), d.Class()
	if unsequenced(typ) != state {
		return nil, 0, fmt.Errorf("encode %s: states and notices go through EncodeState, all others through NewDraft", typ)
	}
	if err := h.check(); err != nil {
		return nil, 0, fmt.Errorf("encode %s: %w", typ, err)
	}

	var w bytes.Buffer
	w.Grow(1024)
	b := w.AvailableBuffer()
	b = append(b, `{"specversion":"`+SpecVersion+`","id":`...)
	b = appendString(b, h.ID)
	b = append(b, `,"source":`...)
	b = appendString(b, h.Source)
	b = append(b, `,"type":`...)
	b = appendString(b, typ)
	if h.Subject != "" {
		b = append(b, `,"subject":`...)
		b = appendString(b, h.Subject)
	}
	b = append(b, `,"time":`...)
	b = h.Time.appendJSON(b)
	b = append(b, `,"datacontenttype":"`+DataContentType+`","dataschema":`...)
	b = appendString(b, SchemaURI(typ))
	b = append(b, `,"agent":`...)
	b = appendString(b, h.Agent)
	if !state {
		b = append(b, `,"priority":`...)
		b = appendString(b, string(class))
		b = append(b, `,"sequence":"`...)
		place = len(b)
		b = append(b, strings.Repeat("0", sequenceDigits)+`"`+prevHashMember+strings.Repeat("0", prevHashDigits)+`"`...)
	}
	b = append(b, `,"recordedtime":`...)
	b = h.RecordedTime.appendJSON(b)
	if h.DeviceTime != nil {
		b = append(b, `,"devicetime":`...)
		b = h.DeviceTime.appendJSON(b)
	}
	b = append(b, `,"clocksync":`...)
	b = appendString(b, h.ClockSync)
	if h.ClockMaxErrorMs != nil {
		b = append(b, `,"clockmaxerrorms":`...)
		b = strconv.AppendInt(b, *h.ClockMaxErrorMs, 10)
	}
	if h.CorrelationID != "" {
		b = append(b, `,"correlationid":`...)
		b = appendString(b, h.CorrelationID)
	}
	if h.Supersedes != "" {
		b = append(b, `,"supersedes":`...)
		b = appendString(b, h.Supersedes)
	}
	b = append(b, `,"data":`...)
	w.Write(b)

	full, _ := filled(reflect.ValueOf(d))
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(full.Interface()); err != nil {
		if field := nonFinite(reflect.ValueOf(d), ""); field != "" {
			return nil, 0, fmt.Errorf("encode %s: %s is not a number that JSON can hold", typ, field)
		}
		return nil, 0, fmt.Errorf("encode %s: %w", typ, err)
	}
	text = w.Bytes()
	text[len(text)-1] = '}' // in place of the encoder's line end
	if len(text) > MaxSize {
		return nil, 0, fmt.Errorf("encode %s: it has %d bytes, the most is %d", typ, len(text), MaxSize)
	}
	return text, place, nil
}

// check finds what would make an event that a subscriber can't use.
func (h Header) check() error {
	switch {
	case h.ID == "":
		return errors.New("the id is missing")
	case h.Agent == "":
		return errors.New("the agent's id is missing")
	case h.ClockSync != "yes" && h.ClockSync != "no" && h.ClockSync != "unknown":
		return fmt.Errorf(`clocksync is %q: want "yes", "no" or "unknown"`, h.ClockSync)
	}
	if err := checkSource(h.Source); err != nil {
		return err
	}
	for _, t := range []struct {
		name  string
		value *Time
	}{{"time", &h.Time}, {"recordedtime", &h.RecordedTime}, {"devicetime", h.DeviceTime}} {
		if t.value == nil {
			continue
		}
		if t.value.IsZero() {
			return fmt.Errorf("%s is not set", t.name)
		}
		if err := t.value.check(); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

// validName reports whether s can name a site, a lane, a device or an agent in
// sources and topics: letters, digits, and '-', '_', '.', '~' between. These
// need no escape in a URI and mean nothing to MQTT.
func validName(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == '~':
		default:
			return false
		}
	}
	return s != ""
}

func checkSource(s string) error {
	rest, ok := strings.CutPrefix(s, "/")
	if names := strings.Split(rest, "/"); ok && len(names) == 3 {
		for _, n := range names {
			ok = ok && validName(n)
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("source %q: want /site/lane/device in letters, digits and -_.~", s)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. As encoding/json does, it writes
// U+FFFD for what is not UTF-8.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	done := 0 // s[:done] is written
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(b, s[done:i]...)
				b = append(b, `\ufffd`...)
				done = i + 1
			}
			i += n
			continue
		}
		if c < 0x20 || c == '"' || c == '\\' {
			b = append(b, s[done:i]...)
			if c < 0x20 {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			} else {
				b = append(b, '\\', c)
			}
			done = i + 1
		}
		i++
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

// filled gives v with empty slices and maps in place of nil ones, unless their
// field is omitted when empty. It copies what it changes and leaves the
// caller's value alone; changed tells if it did.
func filled(v reflect.Value) (full reflect.Value, changed bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v, false
		}
		elem, changed := filled(v.Elem())
		if !changed {
			return v, false
		}
		p := reflect.New(v.Type().Elem())
		p.Elem().Set(elem)
		return p, true
	case reflect.Map:
		if v.IsNil() {
			return reflect.MakeMap(v.Type()), true
		}
	case reflect.Slice:
		if v.IsNil() {
			return reflect.MakeSlice(v.Type(), 0, 0), true
		}
		if k := v.Type().Elem().Kind(); k != reflect.Struct {
			return v, false
		}
		out := v
		for i := range v.Len() {
			elem, c := filled(v.Index(i))
			if !c {
				continue
			}
			if !changed {
				changed = true
				out = reflect.MakeSlice(v.Type(), v.Len(), v.Len())
				reflect.Copy(out, v)
			}
			out.Index(i).Set(elem)
		}
		return out, changed
	case reflect.Struct:
		if v.Type() == timeType {
			return v, false
		}
		out := v
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if strings.Contains(f.Tag.Get("json"), ",omitempty") && v.Field(i).IsZero() {
				continue
			}
			field, c := filled(v.Field(i))
			if !c {
				continue
			}
			if !changed {
				changed = true
				out = reflect.New(v.Type()).Elem()
				out.Set(v)
			}
			out.Field(i).Set(field)
		}
		return out, changed
	}
	return v, false
}

var timeType = reflect.TypeFor[Time]()

// nonFinite names the first number of v that is NaN or infinite, and says
// which; empty if there is none.
func nonFinite(v reflect.Value, at string) string {
	switch v.Kind() {
	case reflect.Float64, reflect.Float32:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprintf("%s = %v", at, f)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			return nonFinite(v.Elem(), at)
		}
	case reflect.Slice:
		for i := range v.Len() {
			if s := nonFinite(v.Index(i), fmt.Sprintf("%s[%d]", at, i)); s != "" {
				return s
			}
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			if s := nonFinite(v.MapIndex(k), fmt.Sprintf("%s[%v]", at, k)); s != "" {
				return s
			}
		}
	case reflect.Struct:
		if v.Type() == timeType {
			return ""
		}
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if at != "" {
				name = at + "." + name
			}
			if s := nonFinite(v.Field(i), name); s != "" {
				return s
			}
		}
	}
	return ""
}

// Parse reads an encoded event. It refuses what is above MaxSize, is not UTF-8
// or not a CloudEvents 1.0 event in structured JSON, or lacks what every event
// of lanepost has. Attributes and types that it does not know are no error: a
// newer agent may send them.
func Parse(b []byte) (Event, error) {
	if len(b) > MaxSize {
		return Event{}, fmt.Errorf("parse an event: it has %d bytes, the most is %d", len(b), MaxSize)
	}
	if !utf8.Valid(b) {
		return Event{}, errors.New("parse an event: it is not UTF-8")
	}
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return Event{}, fmt.Errorf("parse an event: %w", err)
	}
	if err := e.check(); err != nil {
		return Event{}, fmt.Errorf("parse an event: %w", err)
	}
	return e, nil
}

func (e Event) check() error {
	if e.SpecVersion != SpecVersion {
		return fmt.Errorf("specversion is %q: want %q", e.SpecVersion, SpecVersion)
	}
	if e.Type == "" {
		return errors.New("the type is missing")
	}
	err := Header{
		ID: e.ID, Source: e.Source, Agent: e.Agent, Time: e.Time,
		RecordedTime: e.RecordedTime, DeviceTime: e.DeviceTime, ClockSync: e.ClockSync,
	}.check()
	if err != nil {
		return err
	}
	if data := bytes.TrimLeft(e.Data, " \t\r\n"); len(data) == 0 || data[0] != '{' {
		return errors.New("the data is missing, or no JSON object")
	}
	known, isKnown := kindOf(e.Type)
	if e.Sequence == "" && e.Priority == "" && (!isKnown || known.Unsequenced) {
		return nil // a state or a notice
	}
	if isKnown && known.Unsequenced {
		return fmt.Errorf("%s is a state or a notice and has neither priority nor sequence", e.Type)
	}
	if n, err := ParseSequence(e.Sequence); err != nil {
		return err
	} else if n == 0 {
		return errors.New("sequence is zero: the first is one")
	}
	if e.PrevHash != "" { // agents before the chain sent none
		if _, err := ParseHash(e.PrevHash); err != nil {
			return fmt.Errorf("prevhash: %w", err)
		}
	}
	if e.Priority != Urgent && e.Priority != Routine {
		return fmt.Errorf("priority is %q: want %q or %q", e.Priority, Urgent, Routine)
	}
	return nil
}

// DecodeData gives the data of an event as a pointer to the Go type of its
// Type, for instance *RadiationOccupancy. It fails with ErrUnknownType for a
// type that is not this package's, and when a required field is missing or null
// without leave: a missing answer must not read as "no".
func DecodeData(e Event) (Data, error) {
	k, ok := kindOf(e.Type)
	if !ok {
		return nil, fmt.Errorf("decode %s: %w", e.Type, ErrUnknownType)
	}
	v := reflect.New(reflect.TypeOf(k.Zero))
	if err := json.Unmarshal(e.Data, v.Interface()); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	if err := checkPresent(v.Elem().Type(), e.Data); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Type, err)
	}
	return v.Interface().(Data), nil
}

// checkPresent finds a required field of a struct that is not in its JSON form,
// or null there without leave.
func checkPresent(t reflect.Type, object []byte) error {
	var present map[string]json.RawMessage
	if err := json.Unmarshal(object, &present); err != nil {
		return err
	}
	for i := range t.NumField() {
		field := t.Field(i)
		name, option, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		raw, ok := present[name]
		if !ok && option != "omitempty" {
			return fmt.Errorf("%s is missing", name)
		}
		if string(raw) == "null" && field.Type.Kind() != reflect.Pointer {
			return fmt.Errorf("%s is null", name)
		}
	}
	return nil
}
