package link

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of what Parse takes.
const (
	// maxConnect is the longest connect URL in bytes. The longest by-id names
	// that udev gives have about 250.
	maxConnect = 2048
	// maxEcho is how much of a wrong value an error repeats, in bytes.
	maxEcho = 60
)

// scheme is one kind of link.
type scheme struct {
	example string
	// device: the URL names a device of this machine, so an @ in it is part of a
	// name and not the end of a password.
	device bool
	// options are the query keys; own are what the rest of the URL can leave to
	// the defaults of a profile.
	options, own []string
	parse        func(rest string, s *settings) (Endpoint, error)
}

func schemes() map[string]scheme {
	return map[string]scheme{
		"tcp": {
			example: "tcp://10.0.3.21:1600",
			options: []string{"connect_timeout", "keepalive", "write_timeout"},
			own:     []string{"port"},
			parse:   parseTCP,
		},
		"serial": {
			example: serialExample,
			device:  true,
			options: []string{"baud", "data", "parity", "stop", "backend", "write_timeout"},
			parse:   parseSerial,
		},
		"http": {
			example: "http://10.0.3.31",
			options: []string{"username", "password_file", "password_env", "auth", "login_pause", "connect_timeout", "answer_timeout"},
			own:     []string{"port"},
			parse:   parseHTTP,
		},
		"https": {
			example: "https://10.0.3.31",
			options: []string{"username", "password_file", "password_env", "auth", "login_pause", "connect_timeout", "answer_timeout", "pin", "ca_file"},
			own:     []string{"port"},
			parse:   parseHTTPS,
		},
		"http-listen": {
			example: "http-listen://0.0.0.0:8080/PATH",
			options: []string{"allow", "cert_file", "key_file", "max_body"},
			parse:   parseHTTPListen,
		},
		"folder": {
			example: "folder:/mnt/scanner?mounted=yes",
			device:  true,
			options: []string{"mounted", "sentinel", "io_timeout"},
			parse:   parseFolder,
		},
		"mqtt": {
			example: "mqtt://10.0.3.5/PREFIX",
			options: []string{"username", "password_file", "password_env", "client_id", "connect_timeout"},
			own:     []string{"port"},
			parse:   parseMQTT,
		},
		"mqtts": {
			example: "mqtts://10.0.3.5/PREFIX",
			options: []string{"username", "password_file", "password_env", "client_id", "connect_timeout", "pin", "ca_file"},
			own:     []string{"port"},
			parse:   parseMQTTS,
		},
		"modbus-tcp": {
			example: "modbus-tcp://10.0.3.61?unit=1",
			options: []string{"unit", "timeout", "connect_timeout", "keepalive", "write_timeout"},
			own:     []string{"port"},
			parse:   parseModbusTCP,
		},
		"modbus-rtu-tcp": {
			example: "modbus-rtu-tcp://10.0.3.62:4001?unit=1",
			options: []string{"unit", "timeout", "connect_timeout", "keepalive", "write_timeout"},
			own:     []string{"port"},
			parse:   parseModbusGateway,
		},
		"modbus-rtu": {
			example: "modbus-rtu:/dev/ttyUSB0?baud=19200&parity=even&unit=1",
			device:  true,
			options: []string{"unit", "timeout", "baud", "data", "parity", "stop", "backend", "write_timeout"},
			parse:   parseModbusRTU,
		},
		"opcua": {
			example: "opcua://10.0.3.63",
			options: []string{"username", "password_file", "password_env", "login_pause", "security", "mode", "cert_file", "key_file", "pin", "ca_file", "connect_timeout", "answer_timeout"},
			own:     []string{"port"},
			parse:   parseOPCUA,
		},
		"tcp-listen": {
			example: "tcp-listen://0.0.0.0:5000?allow=10.0.3.31",
			options: []string{"allow"},
			parse:   parseTCPListen,
		},
	}
}

// schemeNames lists the schemes that there are.
func schemeNames() []string { return slices.Sorted(maps.Keys(schemes())) }

// Known reports whether there is such a kind of link.
func Known(scheme string) bool { return slices.Contains(schemeNames(), scheme) }

// Options gives, for each option that a link may have, the kinds of link that
// know it.
func Options() map[string][]string {
	options := map[string][]string{}
	for _, name := range schemeNames() {
		for _, o := range schemes()[name].options {
			options[o] = append(options[o], name)
		}
	}
	return options
}

// Parse reads a connect URL, the one way to name every kind of link:
//
//	tcp://10.0.3.21:1600?connect_timeout=10s&keepalive=15s&write_timeout=10s
//	serial:/dev/serial/by-id/usb-FTDI-0001?baud=19200&data=8&parity=odd&stop=1&backend=go.bug.st
//
// defaults are the link settings of a firmware profile, named like the query
// keys, and "port" besides; what the URL says wins over them. A default that
// belongs to another kind of link than the URL's is left alone.
//
// The settings of a serial line have no defaults of their own: a wrong guess
// gives garbage that looks like a broken instrument. An error names the setting
// and the mend, and never repeats a user name or password.
func Parse(connect string, defaults map[string]string) (Endpoint, error) {
	if len(connect) > maxConnect {
		return nil, fmt.Errorf("connect is %d bytes long, at most %d are allowed", len(connect), maxConnect)
	}
	if i := strings.IndexFunc(connect, func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
		return nil, fmt.Errorf("connect has a space or control character at byte %d; take it out or write it as %%%02X", i+1, connect[i])
	}
	all := schemes()
	name, rest, found := strings.Cut(connect, ":")
	kind, known := all[strings.ToLower(name)]
	if !found || !known {
		return nil, unknownScheme(connect, name, found)
	}
	// First of all, so that no later error can repeat a password.
	if !kind.device && strings.Contains(rest, "@") {
		return nil, fmt.Errorf("connect: a %s: link takes no user name or password; write %s", strings.ToLower(name), kind.example)
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if strings.Contains(rest, "#") || strings.Contains(query, "#") {
		return nil, errors.New("connect has a #, which begins nothing in a connect URL; write it as %23 if it belongs to a name")
	}
	s := &settings{values: map[string]string{}, origin: map[string]string{}}
	if err := s.addDefaults(defaults, kind, all); err != nil {
		return nil, err
	}
	if hasQuery {
		if err := s.addQuery(query, kind); err != nil {
			return nil, err
		}
	}
	return kind.parse(rest, s)
}

// CheckDefault says what is wrong with a link setting of a firmware profile whose driver reads
// links of these kinds; nil if nothing is. Whether the others go with it is seen with a URL only.
func CheckDefault(kinds []string, key, value string) error {
	all := schemes()
	var every []string
	for _, name := range kinds {
		kind := all[name]
		every = append(append(every, kind.options...), kind.own...)
		if !slices.Contains(kind.options, key) && !slices.Contains(kind.own, key) {
			continue
		}
		example, query, _ := strings.Cut(kind.example, "?")
		if slices.Contains(kind.own, key) {
			if i := strings.LastIndexByte(example, ':'); i > strings.Index(example, "//") {
				example = example[:i] // it has one of its own
			}
		}
		others := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool { return pair == "" || strings.HasPrefix(pair, key+"=") })
		if len(others) > 0 {
			example += "?" + strings.Join(others, "&")
		}
		_, err := Parse(example, map[string]string{key: value})
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			if text, ofProfile := strings.CutPrefix(strings.TrimSpace(line), "profile: "); ofProfile {
				return errors.New(text)
			}
		}
	}
	if !slices.Contains(every, key) {
		slices.Sort(every)
		every = slices.Compact(every)
		mend := didYouMean(key, every)
		if mend == "" {
			mend = "; there are " + list(every, "and")
		}
		return fmt.Errorf("there is no link setting %s for %s%s", echo(key), list(kinds, "and"), mend)
	}
	return nil
}

// unknownScheme says what is wrong with a URL that has no scheme of ours. It
// repeats nothing of what may hold a password.
func unknownScheme(connect, name string, found bool) error {
	have := "this version has " + list(schemeNames(), "and")
	if connect == "" {
		return fmt.Errorf("connect is empty; write for example %s or %s", schemes()["tcp"].example, serialExample)
	}
	if strings.Contains(connect, "@") {
		return fmt.Errorf("connect does not begin with a kind of link that is known; %s, for example %s", have, schemes()["tcp"].example)
	}
	path, _, _ := strings.Cut(connect, "?")
	switch {
	case strings.HasPrefix(path, "/"), isCOM(path):
		return fmt.Errorf("connect has no kind of link; for a serial port write serial:%s", echo(path))
	case !found, strings.Trim(rest(connect), "0123456789") == "", strings.Count(path, ":") > 1 && !strings.Contains(connect, "/"):
		return fmt.Errorf("connect has no kind of link; for a network address write tcp://%s", echo(path))
	}
	if near := Nearest(strings.ToLower(name), schemeNames()); near != "" {
		return fmt.Errorf("connect: there is no kind of link %q, did you mean %q? %s", echo(name), near, have)
	}
	return fmt.Errorf("connect: there is no kind of link %q; %s", echo(name), have)
}

// rest is what follows the first colon.
func rest(connect string) string {
	_, after, _ := strings.Cut(connect, ":")
	return after
}

// settings are the options of one URL, laid over its profile's defaults.
type settings struct {
	values map[string]string
	// origin of each value, for errors: "connect" or "profile".
	origin map[string]string
	// missing are the required keys that have no value.
	missing []string
}

func (s *settings) addDefaults(defaults map[string]string, kind scheme, all map[string]scheme) error {
	for _, key := range slices.Sorted(maps.Keys(defaults)) {
		value := defaults[key]
		if slices.Contains(kind.options, key) || slices.Contains(kind.own, key) {
			if value == "" {
				return fmt.Errorf("profile: link default %s has no value; give it one or take it out", key)
			}
			s.values[key], s.origin[key] = value, "profile"
			continue
		}
		var every []string
		for _, other := range all {
			every = append(append(every, other.options...), other.own...)
		}
		if !slices.Contains(every, key) {
			return fmt.Errorf("profile: there is no link default %q%s", echo(key), didYouMean(key, every))
		}
	}
	return nil
}

func (s *settings) addQuery(query string, kind scheme) error {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(kind.options, key) {
			return fmt.Errorf("connect: there is no option %q%s; there are %s", echo(key), didYouMean(key, kind.options), list(kind.options, "and"))
		}
		if s.origin[key] == "connect" {
			return fmt.Errorf("connect: option %s is there twice; take one out", key)
		}
		// Not QueryUnescape: it would turn + into a space.
		value, err := url.PathUnescape(value)
		if err != nil {
			return fmt.Errorf("connect: option %s has a %% that two hexadecimal digits do not follow; write %% itself as %%25", key)
		}
		if value == "" {
			return fmt.Errorf("connect: option %s has no value; write %s=VALUE", key, key)
		}
		s.values[key], s.origin[key] = value, "connect"
	}
	return nil
}

// require notes the keys that have no value.
func (s *settings) require(keys ...string) {
	for _, key := range keys {
		if _, ok := s.values[key]; !ok {
			s.missing = append(s.missing, key)
		}
	}
}

// choice reads one of a few words.
func (s *settings) choice(key, fallback string, allowed []string) (string, error) {
	value, ok := s.values[key]
	if !ok {
		return fallback, nil
	}
	if slices.Contains(allowed, value) {
		return value, nil
	}
	return "", fmt.Errorf("%s: %s=%s is none of %s%s", s.origin[key], key, echo(value), list(allowed, "or"), didYouMean(strings.ToLower(value), allowed))
}

// number reads a whole number within bounds.
func (s *settings) number(key string, low, high int) (int, error) {
	value, err := strconv.Atoi(s.values[key])
	// The second test keeps one way of writing a number: no +5, no 007.
	if err != nil || strconv.Itoa(value) != s.values[key] || value < low || value > high {
		return 0, fmt.Errorf("%s: %s=%s is not a whole number from %d to %d", s.origin[key], key, echo(s.values[key]), low, high)
	}
	return value, nil
}

// duration reads a duration within bounds; "off" is 0 where off is allowed.
func (s *settings) duration(key string, fallback, low, high time.Duration, off bool) (time.Duration, error) {
	text, ok := s.values[key]
	if !ok {
		return fallback, nil
	}
	if off && text == "off" {
		return 0, nil
	}
	value, err := time.ParseDuration(text)
	if err == nil && value >= low && value <= high {
		return value, nil
	}
	unit := ""
	if _, err := strconv.Atoi(text); err == nil {
		unit = "; it needs a unit, such as s for seconds"
	}
	or := ""
	if off {
		or = ", or off"
	}
	return 0, fmt.Errorf("%s: %s=%s is not a duration from %v to %v%s%s", s.origin[key], key, echo(text), low, high, or, unit)
}

// didYouMean is a hint at the nearest of the right words, or nothing.
func didYouMean(word string, right []string) string {
	if near := Nearest(word, right); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}

// Nearest is the right word that word begins, or that at most two edits make of
// it, as long as enough of the letters stay.
func Nearest(word string, right []string) string {
	if len(word) > maxEcho || word == "" {
		return ""
	}
	best, least := "", 3
	for _, r := range right {
		d := edits(word, r)
		if strings.HasPrefix(r, word) {
			d = min(d, 1)
		}
		if d < least && 2*d <= len(r)+1 {
			best, least = r, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// list writes "a, b or c".
func list(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + and + " " + words[len(words)-1]
}

// echo is a wrong value as an error may repeat it: short and printable.
func echo(value string) string {
	if len(value) > maxEcho {
		value = value[:maxEcho] + "..."
	}
	quoted := strconv.Quote(value)
	return quoted[1 : len(quoted)-1]
}
