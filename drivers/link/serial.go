package link

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const serialExample = "serial:/dev/ttyUSB0?baud=19200&data=8&parity=odd&stop=1"

// line is how bytes travel on a serial line.
type line struct {
	baud   int    // bits per second
	data   int    // data bits, 5 to 8
	parity string // one of parities
	stop   int    // stop bits, 1 or 2
}

// String writes a line as the trade does: 19200 8O1.
func (l line) String() string {
	return fmt.Sprintf("%d %d%s%d", l.baud, l.data, strings.ToUpper(l.parity[:1]), l.stop)
}

// parities are the words for the parity bit. "mark" and "space" are bits that
// never change.
var parities = []string{"none", "odd", "even", "mark", "space"}

// The range of baud that Parse takes. Whether the adapter can do it is seen
// when the port is opened.
const (
	minBaud = 50
	maxBaud = 4_000_000
)

// The names of the backends.
const (
	bugst    = "go.bug.st"
	goserial = "goserial"
)

// goserialBauds are what goserial can do however it was built: it has a shorter
// table with cgo than without, and returns no port and no error for the rest.
var goserialBauds = []int{2400, 4800, 9600, 19200, 38400, 57600, 115200}

// errLineSettings: the port does not do what was asked for.
var errLineSettings = errors.New("the port does not take these line settings")

type serialEndpoint struct {
	path         string // a device, or a COM port
	line         line
	backend      string
	writeTimeout time.Duration
}

func parseSerial(rest string, s *settings) (Endpoint, error) {
	path, err := serialPath(rest)
	if err != nil {
		return nil, err
	}
	s.require("baud", "data", "parity", "stop")
	if len(s.missing) > 0 {
		example := "baud=19200&data=8&parity=odd&stop=1"
		var pairs []string
		for pair := range strings.SplitSeq(example, "&") {
			if key, _, _ := strings.Cut(pair, "="); slices.Contains(s.missing, key) {
				pairs = append(pairs, pair)
			}
		}
		verb := "is"
		if len(s.missing) > 1 {
			verb = "are"
		}
		return nil, fmt.Errorf("connect: %s %s not set, and the profile has no default; take the right values from the instrument's manual and add them, for example ?%s",
			list(s.missing, "and"), verb, strings.Join(pairs, "&"))
	}
	e := &serialEndpoint{path: path}
	var errs [6]error
	e.line.baud, errs[0] = s.number("baud", minBaud, maxBaud)
	e.line.data, errs[1] = s.number("data", 5, 8)
	e.line.parity, errs[2] = s.choice("parity", "", parities)
	e.line.stop, errs[3] = s.number("stop", 1, 2)
	e.backend, errs[4] = s.choice("backend", bugst, []string{bugst, goserial})
	e.writeTimeout, errs[5] = s.duration("write_timeout", defaultWriteTimeout, 100*time.Millisecond, 5*time.Minute, false)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

// check refuses what the line or the backend cannot do.
func (e *serialEndpoint) check() error {
	if e.line.data == 5 && e.line.stop == 2 {
		return errors.New("connect: data=5 with stop=2 cannot be had: serial chips send one and a half stop bits then; write stop=1")
	}
	if e.backend != goserial {
		return nil
	}
	if e.line.data != 8 || e.line.parity != "none" || e.line.stop != 1 {
		return fmt.Errorf("connect: backend %s can do data=8&parity=none&stop=1 only, and %s is asked for; write backend=%s, or leave backend out", goserial, e.line, bugst)
	}
	if !slices.Contains(goserialBauds, e.line.baud) {
		var bauds []string
		for _, b := range goserialBauds {
			bauds = append(bauds, strconv.Itoa(b))
		}
		return fmt.Errorf("connect: backend %s cannot do baud=%d, only %s; write backend=%s, or leave backend out", goserial, e.line.baud, list(bauds, "and"), bugst)
	}
	return nil
}

// serialPath reads the device of a serial: URL.
func serialPath(rest string) (string, error) {
	// serial:///dev/ttyUSB0 is the same URL with an empty host.
	if strings.HasPrefix(rest, "///") {
		rest = rest[2:]
	}
	if strings.HasPrefix(rest, "//") {
		return "", fmt.Errorf("connect: a serial: link has no host; write for example %s", serialExample)
	}
	path, err := url.PathUnescape(rest)
	if err != nil {
		return "", errors.New("connect: the port has a % that two hexadecimal digits do not follow; write % itself as %25")
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("connect: the port's name has a control character")
	}
	switch {
	case path == "":
		return "", fmt.Errorf("connect: the serial port is missing; write for example %s", serialExample)
	case isCOM(path):
		return strings.ToUpper(path), nil
	case strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") && !strings.HasSuffix(path, "/"):
		return path, nil
	}
	return "", fmt.Errorf("connect: the serial port %q is neither a device with its full path nor a COM port; write for example serial:/dev/%s",
		echo(path), echo(strings.Trim(path, "/")))
}

// isCOM says whether a name is that of a Windows port: COM1 to COM999.
func isCOM(name string) bool {
	if len(name) < 4 || len(name) > 6 || !strings.EqualFold(name[:3], "COM") || name[3] == '0' {
		return false
	}
	return strings.Trim(name[3:], "0123456789") == ""
}

func (e *serialEndpoint) Scheme() string { return "serial" }

// String has all settings of the line, set by URL or profile.
func (e *serialEndpoint) String() string {
	path := (&url.URL{Path: e.path}).EscapedPath()
	u := fmt.Sprintf("serial:%s?baud=%d&data=%d&parity=%s&stop=%d&backend=%s",
		path, e.line.baud, e.line.data, e.line.parity, e.line.stop, e.backend)
	if e.writeTimeout != defaultWriteTimeout {
		u += "&write_timeout=" + e.writeTimeout.String()
	}
	return u
}
