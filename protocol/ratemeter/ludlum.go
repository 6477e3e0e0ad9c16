package ratemeter

import (
	"fmt"
	"strings"
	"time"
)

// What an instrument's own dump of a Ludlum 375 looks like: 14 bytes each two seconds, if the
// switch CAL MODE stands left (manual, page 4-3).
const (
	ludlumDump  = 14
	ludlumPrint = 34
	ludlumPlace = 6 // characters of a reading
)

// ludlumReading reads four digits, a point and a digit.
func ludlumReading(b []byte, channels []string) ([]Value, error) {
	text := string(b[:ludlumPlace])
	v, err := rate(text)
	if err != nil || text[4] != '.' || strings.Count(text, ".") != 1 {
		return nil, fmt.Errorf("%q is no reading of four digits, a point and one more", text)
	}
	if channels[0] == "" {
		return nil, nil
	}
	return []Value{{Channel: channels[0], Value: v, Text: text}}, nil
}

func ludlum(o Options) Format {
	if o.NoError == "" {
		o.NoError = "0"
	}
	return Format{
		frame: until('\n'), tail: true, seven: true,
		parse: func(b []byte) (Reading, error) { return parseLudlum(b, o) },
		append: func(b []byte, r Reading) []byte {
			b = fmt.Appendf(b, "%06.1f0%d%d%d1", ludlumShown(r), digit(hasAlarm(r, High)), digit(hasAlarm(r, Low)), digit(r.Over))
			code := o.NoError[0]
			if hasFault(r, MonitorOff) {
				b[len(b)-1] = '0'
			}
			for _, f := range r.Faults {
				if f.Code != "" {
					code = f.Code[0]
				}
			}
			return append(b, code, '\r', '\n')
		},
	}
}

// parseLudlum reads a dump. Its error code has no published meanings; NoError says which
// of them is none. With an error, or while the monitor is off, the reading counts for nothing
// and ends no alarm.
func parseLudlum(b []byte, o Options) (Reading, error) {
	if len(b) != ludlumDump || b[12] != '\r' {
		return Reading{}, fmt.Errorf("a dump has %d bytes and ends CR LF, and not %d", ludlumDump, len(b))
	}
	r := Reading{Status: true}
	var err error
	if r.Values, err = ludlumReading(b, o.Channels); err != nil {
		return Reading{}, err
	}
	for i, c := range b[ludlumPlace:11] {
		if c != '0' && c != '1' {
			return Reading{}, fmt.Errorf("the status in byte %d is %q, and neither 0 nor 1", ludlumPlace+1+i, c)
		}
	}
	// The audio's status, in byte 7, says nothing of the radiation.
	if b[7] == '1' {
		r.Alarms = append(r.Alarms, Alarm{High, o.Channels[0]})
	}
	if b[8] == '1' {
		r.Alarms = append(r.Alarms, Alarm{Low, o.Channels[0]})
	}
	r.Over = b[9] == '1'
	if b[10] == '0' {
		r.Flags = append(r.Flags, FlagMonitorOff)
		r.Faults = append(r.Faults, Fault{Kind: MonitorOff})
	}
	if code := string(b[11:12]); !strings.Contains(o.NoError, code) {
		r.Faults = append(r.Faults, Fault{Failure, code})
	}
	if len(r.Faults) > 0 { // nobody measures, so that nothing is seen to be over
		r.NoValue, r.Partial = !r.Over, true
	}
	return r, nil
}

func printer(o Options) Format {
	return Format{
		frame: until('\n'), tail: true, seven: true,
		parse: func(b []byte) (Reading, error) { return parsePrinter(b, o) },
		append: func(b []byte, r Reading) []byte {
			word := "     "
			switch {
			case len(r.Faults) > 0:
				word = " FAIL"
			case len(r.Alarms) > 0 || r.Over:
				word = "ALARM"
			}
			return fmt.Appendf(b, "%06.1f   04/21/95 16:56:24 %s\r\n", ludlumShown(r), word)
		},
	}
}

// parsePrinter reads what goes to a printer (manual, page 5-6). The date is the instrument's
// own and has no zone. A line without a word is taken for a reading with nothing to say.
func parsePrinter(b []byte, o Options) (Reading, error) {
	if len(b) != ludlumPrint || b[32] != '\r' || string(b[6:9]) != "   " || b[26] != ' ' {
		return Reading{}, fmt.Errorf("a line for the printer has %d bytes in fixed places, and not %d", ludlumPrint, len(b))
	}
	if _, err := time.Parse("01/02/06 15:04:05", string(b[9:26])); err != nil {
		return Reading{}, fmt.Errorf("%q is no date and time", b[9:26])
	}
	r := Reading{Status: true}
	var err error
	if r.Values, err = ludlumReading(b, o.Channels); err != nil {
		return Reading{}, err
	}
	switch word := strings.TrimSpace(string(b[27:32])); word {
	case "":
	case "ALARM":
		r.Alarms = []Alarm{{Threshold, o.Channels[0]}}
	case "FAIL":
		r.Faults, r.NoValue = []Fault{{Failure, word}}, true // its 0000.0 is no reading,
		r.Partial = true                                     // and no end of an alarm
	default:
		return Reading{}, fmt.Errorf("%q is neither ALARM nor FAIL", word)
	}
	return r, nil
}

func ludlumShown(r Reading) float64 {
	if len(r.Values) == 0 {
		return 0
	}
	return min(r.Values[0].Value, 9999)
}

func hasAlarm(r Reading, kind string) bool {
	for _, a := range r.Alarms {
		if a.Kind == kind {
			return true
		}
	}
	return false
}

func hasFault(r Reading, kind string) bool {
	for _, f := range r.Faults {
		if f.Kind == kind {
			return true
		}
	}
	return false
}

func digit(on bool) int {
	if on {
		return 1
	}
	return 0
}
