// Package scale reads and writes what weighing indicators send: continuous output and
// answers of the formats that truck scales have. It does no I/O.
//
// Facts are from indicators' manuals and, for Yaohua, a frame that was captured.
package scale

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// MaxFrame bounds a frame in bytes, MaxPending what waits for the rest of one.
const (
	MaxFrame   = 256
	MaxPending = 4 << 10
)

// Stability is whether the load moves.
type Stability int

// The stabilities.
const (
	// Unknown: the format has no word for it.
	Unknown Stability = iota
	Stable
	Moving
)

// Reading is one weight that an indicator tells.
type Reading struct {
	// Value is the weight in Unit, below zero for a negative one; it counts for nothing
	// if Over, Under or NoValue is set.
	Value float64
	// Unit is "kg", "g", "t" or "lb"; empty if the format does not tell.
	Unit string
	// Net: the tare is taken off. Tare is that, in Unit; HasTare if it is told.
	Net     bool
	Tare    float64
	HasTare bool
	Motion  Stability
	// Over and Under: the load is outside of what the scale can weigh. NoValue: there is
	// none, for instance while it starts or can't execute a command.
	Over, Under, NoValue bool
	// Record is the number under which the indicator has stored the weighing, where its
	// law wants that; empty if it has not.
	Record string
}

// KG gives a weight in kilograms. unit is what a format without one is taken for.
func KG(value float64, own, unit string) float64 {
	if own == "" {
		own = unit
	}
	switch own {
	case "g":
		return value / 1000
	case "t":
		return value * 1000
	case "lb":
		return value * 0.45359237
	}
	return value
}

// Format is one way to tell weights.
type Format struct {
	Name string
	// frame gives the length of the frame at the beginning of b: 0 if more bytes are
	// needed, below zero for so many bytes that belong to none.
	frame func(b []byte) int
	parse func(frame []byte) (Reading, error)
	// Request is what asks for a weight, with \r and \n; empty for continuous output.
	Request string
}

// Options change a format.
type Options struct {
	// Checksum of Toledo frames: they have one byte more.
	Checksum bool
	// StableBit is the value of the motion bit of SCP-01 that means a stable load: it
	// differs between indicators.
	StableBit bool
}

// Names lists the formats.
func Names() []string {
	var list []string
	for name := range formats(Options{}) {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// Lookup finds a format.
func Lookup(name string, o Options) (Format, bool) {
	f, ok := formats(o)[name]
	f.Name = name
	return f, ok
}

func formats(o Options) map[string]Format {
	toledo := 17
	if o.Checksum {
		toledo = 18
	}
	return map[string]Format{
		"toledo":      {frame: fixed(0x02, toledo), parse: func(b []byte) (Reading, error) { return parseToledo(b, o.Checksum) }},
		"yaohua":      {frame: fixed(0x02, 12), parse: parseYaohua},
		"yaohua-a12":  {frame: lines, parse: parseA12},
		"yaohua-back": {frame: fixed('=', 9), parse: parseBack},
		"mt-sics":     {frame: lines, parse: parseSICS, Request: "SI\r\n"},
		"rinstrum":    {frame: between(0x02, 0x03), parse: parseRinstrum},
		"systec":      {frame: between('<', '>'), parse: parseSysTec, Request: "<RM>"},
		"scp-01":      {frame: until(0x03), parse: func(b []byte) (Reading, error) { return parseSCP(b, o.StableBit) }, Request: "W\r"},
		"csv":         {frame: lines, parse: parseCSV},
	}
}

// Splitter takes frames out of a stream.
type Splitter struct {
	f   Format
	buf []byte
	// Skipped counts bytes that belonged to no frame.
	Skipped int
}

// NewSplitter makes one.
func NewSplitter(f Format) *Splitter { return &Splitter{f: f} }

// Write takes bytes. The parity bit of a line that was opened with eight data bits is
// taken off: all formats are of seven.
func (s *Splitter) Write(b []byte) {
	for _, c := range b {
		s.buf = append(s.buf, c&0x7f)
	}
}

// Next gives the next frame; ok is false if there is none yet. The frame is valid until
// the next call of Write.
func (s *Splitter) Next() (frame []byte, ok bool) {
	for len(s.buf) > 0 {
		n := s.f.frame(s.buf)
		switch {
		case n > 0:
			frame, s.buf = s.buf[:n:n], s.buf[n:]
			return frame, true
		case n < 0:
			s.Skipped -= n
			s.buf = s.buf[-n:]
		case len(s.buf) > MaxPending:
			s.Skipped++
			s.buf = s.buf[1:]
		default:
			return nil, false
		}
	}
	s.buf = nil
	return nil, false
}

// Parse reads a frame.
func (f Format) Parse(frame []byte) (Reading, error) {
	r, err := f.parse(frame)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %w", f.Name, err)
	}
	return r, nil
}

// fixed frames begin with a byte and have a length.
func fixed(start byte, length int) func([]byte) int {
	return func(b []byte) int {
		if n := skip(b, start); n != 0 {
			return n
		}
		if len(b) < length {
			return 0
		}
		// The byte that begins one is in no other place: a frame was cut short.
		if i := bytes.IndexByte(b[1:length], start); i >= 0 {
			return -(i + 1)
		}
		return length
	}
}

func between(start, end byte) func([]byte) int {
	return func(b []byte) int {
		if n := skip(b, start); n != 0 {
			return n
		}
		i := bytes.IndexByte(b[:min(len(b), MaxFrame)], end)
		switch {
		case i < 0 && len(b) >= MaxFrame:
			return -1
		case i < 0:
			return 0
		}
		if k := bytes.LastIndexByte(b[1:i], start); k >= 0 {
			return -(k + 1)
		}
		return i + 1
	}
}

func until(end byte) func([]byte) int {
	return func(b []byte) int {
		i := bytes.IndexByte(b[:min(len(b), MaxFrame)], end)
		switch {
		case i < 0 && len(b) >= MaxFrame:
			return -1
		case i < 0:
			return 0
		}
		return i + 1
	}
}

func lines(b []byte) int {
	blank := 0
	for blank < len(b) && (b[blank] == '\r' || b[blank] == '\n') {
		blank++
	}
	if blank > 0 {
		return -blank
	}
	return until('\n')(b)
}

// skip gives how far the beginning of a frame is, below zero; 0 if it is here.
func skip(b []byte, start byte) int {
	switch i := bytes.IndexByte(b, start); {
	case i < 0:
		return -len(b)
	case i > 0:
		return -i
	}
	return 0
}

// xor is the sum of Yaohua's frames, as two hexadecimal digits.
func xor(b []byte) string {
	var x byte
	for _, c := range b {
		x ^= c
	}
	return fmt.Sprintf("%02X", x)
}

// number reads digits that an indicator pads with blanks.
func number(text string) (float64, error) {
	text = strings.TrimSpace(text)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) || strings.ContainsAny(text, "eExX_nN") {
		return 0, fmt.Errorf("%q is no weight", text)
	}
	return v, nil
}

func parseToledo(b []byte, checksum bool) (Reading, error) {
	if checksum {
		var sum byte
		for _, c := range b {
			sum += c
		}
		if sum&0x7f != 0 {
			return Reading{}, fmt.Errorf("the sum is %02x, and not 0", sum&0x7f)
		}
		b = b[:len(b)-1]
	}
	if b[16] != '\r' {
		return Reading{}, fmt.Errorf("it ends with %02x, and not with a carriage return", b[16])
	}
	swa, swb, swc := b[1], b[2], b[3]
	r := Reading{Net: swb&1 != 0, Motion: Stable, Unit: "lb", HasTare: true}
	if swb&0x08 != 0 {
		r.Motion = Moving
	}
	if swb&0x10 != 0 {
		r.Unit = "kg"
	}
	switch swc & 7 {
	case 1:
		r.Unit = "g"
	case 2:
		r.Unit = "t"
	}
	if swb&0x40 != 0 {
		r.NoValue = true // it has just been switched on
	}
	if swb&0x04 != 0 {
		r.Over, r.Under = swb&0x02 == 0, swb&0x02 != 0
		return r, nil
	}
	w, err := number(string(b[4:10]))
	if err != nil {
		return r, err
	}
	t, err := number(string(b[10:16]))
	if err != nil {
		return r, err
	}
	factor := math.Pow(10, 2-float64(swa&7)) // 0 and 1 stand for zeros that are not sent
	r.Value, r.Tare = w*factor, t*factor
	if swc&0x10 != 0 {
		r.Value, r.Tare = r.Value/10, r.Tare/10 // one digit more is shown
	}
	r.Value, r.Tare = round(r.Value), round(r.Tare)
	if swb&0x02 != 0 {
		r.Value = -r.Value
	}
	return r, nil
}

// round takes away what binary fractions add.
func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }

func parseYaohua(b []byte) (Reading, error) {
	if b[11] != 0x03 {
		return Reading{}, fmt.Errorf("it ends with %02x, and not with ETX", b[11])
	}
	if want := xor(b[1:9]); want != string(b[9:11]) {
		return Reading{}, fmt.Errorf("the check is %q, and not %q", b[9:11], want)
	}
	if b[8] < '0' || b[8] > '4' {
		return Reading{}, fmt.Errorf("%q is no number of decimals", b[8])
	}
	v, err := number(string(b[2:8]))
	if err != nil {
		return Reading{}, err
	}
	v = round(v / math.Pow(10, float64(b[8]-'0')))
	switch b[1] {
	case '-':
		v = -v
	case '+':
	default:
		return Reading{}, fmt.Errorf("%q is no sign", b[1])
	}
	return Reading{Value: v}, nil
}

func parseA12(b []byte) (Reading, error) {
	text := strings.TrimRight(string(b), "\r\n")
	switch {
	case strings.HasPrefix(text, "OL"):
		return Reading{Over: true}, nil
	case strings.HasPrefix(text, "LO"):
		return Reading{Under: true}, nil
	case len(text) != 13 || text[0] != 'W' || text[1] != 'G' && text[1] != 'N':
		return Reading{}, fmt.Errorf("it has not the form of a weight")
	}
	if want := xor([]byte(text[:11])); want != text[11:] {
		return Reading{}, fmt.Errorf("the check is %q, and not %q", text[11:], want)
	}
	v, err := number(text[2:9])
	return Reading{Value: v, Net: text[1] == 'N', Unit: strings.TrimSpace(text[9:11])}, err
}

// parseBack reads the two forms that begin with "=": the digits backwards with the sign at
// the end, and forwards with it at the beginning.
func parseBack(b []byte) (Reading, error) {
	text := string(b[1:])
	if strings.ContainsAny(text[:1], "+- ") {
		v, err := number(strings.TrimPrefix(strings.ReplaceAll(text, " ", ""), "+"))
		return Reading{Value: v}, err
	}
	r := []byte(text)
	slices.Reverse(r)
	v, err := number(strings.TrimPrefix(strings.ReplaceAll(string(r), " ", ""), "+"))
	return Reading{Value: v}, err
}

func parseSICS(b []byte) (Reading, error) {
	f := strings.Fields(string(b))
	switch {
	case len(f) == 0:
		return Reading{}, fmt.Errorf("an empty line")
	case slices.Contains([]string{"ES", "ET", "EL"}, f[0]):
		return Reading{}, fmt.Errorf("the scale answers with the error %s", f[0])
	case f[0] != "S" || len(f) < 2:
		return Reading{}, fmt.Errorf("it is no answer to a request for a weight")
	}
	switch f[1] {
	case "I":
		return Reading{NoValue: true}, nil
	case "+":
		return Reading{Over: true}, nil
	case "-":
		return Reading{Under: true}, nil
	}
	if len(f) != 4 || f[1] != "S" && f[1] != "D" {
		return Reading{}, fmt.Errorf("it has not the form of a weight")
	}
	v, err := number(f[2])
	r := Reading{Value: v, Unit: f[3], Motion: Moving}
	if f[1] == "S" {
		r.Motion = Stable
	}
	return r, err
}

func parseRinstrum(b []byte) (Reading, error) {
	b = b[1 : len(b)-1]
	if len(b) != 9 && len(b) != 15 {
		return Reading{}, fmt.Errorf("it has %d bytes; 9 and 15 are known", len(b))
	}
	var r Reading
	status := b[8]
	switch status {
	case 'G', 'M':
	case 'N':
		r.Net = true
	case 'U':
		r.Under = true
	case 'O':
		r.Over = true
	case 'E':
		r.NoValue = true
	default:
		return r, fmt.Errorf("%q is no status", status)
	}
	r.Motion = Stable
	if status == 'M' || len(b) == 15 && b[9] == 'M' {
		r.Motion = Moving
	}
	if len(b) == 15 {
		r.Unit = strings.TrimSpace(string(b[12:15]))
	}
	if r.Over || r.Under || r.NoValue {
		return r, nil
	}
	v, err := number(string(b[1:8]))
	if err != nil {
		return r, err
	}
	if r.Value = v; b[0] == '-' {
		r.Value = -v
	}
	return r, nil
}

func parseSysTec(b []byte) (Reading, error) {
	text := string(b[1 : len(b)-1])
	switch {
	case len(text) == 2:
		return Reading{NoValue: true}, fmt.Errorf("the scale answers with the error %s", text)
	case len(text) != 49:
		return Reading{}, fmt.Errorf("it has %d characters; 49 are known, of the IT6000", len(text))
	case strings.Trim(text[:2], "0") != "":
		return Reading{}, fmt.Errorf("the scale reports the error %s", text[:2])
	}
	var v [3]float64
	for i := range v {
		var err error
		if v[i], err = number(text[5+8*i : 13+8*i]); err != nil {
			return Reading{}, err
		}
	}
	r := Reading{Value: v[0], Tare: v[1], HasTare: true, Unit: strings.TrimSpace(text[29:31]), Motion: Stable, Record: strings.TrimSpace(text[45:49])}
	if text[2] == '1' {
		r.Motion = Moving
	}
	if text[4] == '1' {
		r.Value = -math.Abs(r.Value)
	}
	if r.Record == "0" {
		r.Record = ""
	}
	return r, nil
}

func parseSCP(b []byte, stableBit bool) (Reading, error) {
	parts := strings.FieldsFunc(string(bytes.TrimRight(b, "\x03")), func(r rune) bool { return r == '\r' || r == '\n' })
	switch {
	case len(parts) == 1 && parts[0] == "?":
		return Reading{}, fmt.Errorf("the scale does not know the command")
	case len(parts) == 0:
		return Reading{}, fmt.Errorf("an empty answer")
	}
	status := parts[len(parts)-1]
	if len(status) < 2 {
		return Reading{}, fmt.Errorf("a status of %d bytes", len(status))
	}
	r := Reading{Motion: Moving}
	if (status[0]&1 != 0) == stableBit {
		r.Motion = Stable
	}
	r.Under, r.Over = status[1]&1 != 0, status[1]&2 != 0
	if len(parts) == 1 || r.Under || r.Over {
		r.NoValue = !r.Under && !r.Over
		return r, nil
	}
	text := strings.TrimSpace(parts[0])
	i := strings.LastIndexAny(text, "0123456789.") + 1
	v, err := number(text[:i])
	r.Value, r.Unit = v, strings.ToLower(strings.TrimSpace(text[i:]))
	return r, err
}

func parseCSV(b []byte) (Reading, error) {
	f := strings.Split(strings.TrimSpace(string(b)), ",")
	if len(f) != 3 {
		return Reading{}, fmt.Errorf("it has %d fields, and not 3", len(f))
	}
	var r Reading
	switch f[0] {
	case "ST":
		r.Motion = Stable
	case "US":
		r.Motion = Moving
	case "OL":
		return Reading{Over: true}, nil
	case "UL":
		return Reading{Under: true}, nil
	default:
		return r, fmt.Errorf("%q is no state of the load", f[0])
	}
	switch f[1] {
	case "GS":
	case "NT":
		r.Net = true
	default:
		return r, fmt.Errorf("%q is neither gross nor net", f[1])
	}
	text := strings.TrimSpace(f[2])
	i := strings.LastIndexAny(text, "0123456789.") + 1
	v, err := number(strings.TrimPrefix(text[:i], "+"))
	r.Value, r.Unit = v, strings.ToLower(strings.TrimSpace(text[i:]))
	return r, err
}
