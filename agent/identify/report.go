package identify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lanepost/lanepost/drivers/link"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
)

// Report is what came of one port or connection.
type Report struct {
	// Target is the port, by its stable name, or the address.
	Target string `json:"target"`
	// Level is how sure it is: certain, likely, equal (several profiles fit), possible
	// (only such fit as take anything), unknown, silent or failed.
	Level Level `json:"level"`
	// Line is the setting of a serial port at which it was heard, as in "9600 8N1".
	Line string `json:"line,omitempty"`
	// Profile is the one that fits best, Settings what must be set beside it.
	Profile  string `json:"profile,omitempty"`
	Settings string `json:"settings,omitempty"`
	// Records and Unparsed count what it could and could not read, Bytes what came.
	Records  int `json:"records"`
	Unparsed int `json:"unparsed"`
	Bytes    int `json:"bytes"`
	// Seconds is how long it took.
	Seconds float64 `json:"seconds"`
	// Probed says that requests were sent.
	Probed bool `json:"probed"`
	// Others are other profiles: if the level is equal those that fit as well, else the
	// closest.
	Others []Other `json:"others,omitempty"`
	// Shape is what lines of an unknown device look like: 9 for each digit, A for each
	// letter, so that no plate and no name is shown.
	Shape []string `json:"shape,omitempty"`
	// Config is what to paste under devices: in the configuration.
	Config string `json:"config,omitempty"`
	// Tried are the settings of the line at which was listened.
	Tried []string `json:"tried,omitempty"`
	// Said is what answered a request, in words.
	Said []string `json:"said,omitempty"`
	// Advice is what to do, one sentence each.
	Advice []string `json:"advice,omitempty"`
	// Error is why it could not be listened to.
	Error string `json:"error,omitempty"`
}

// Other is another profile.
type Other struct {
	Profile  string `json:"profile"`
	Settings string `json:"settings,omitempty"`
	Records  int    `json:"records"`
	Unparsed int    `json:"unparsed"`
	// TakesAnything says that it takes whatever is a line or a document, so that its
	// records prove nothing.
	TakesAnything bool `json:"takes_anything,omitempty"`
}

// unclear are the levels at which asking may tell more.
var unclear = []Level{Silent, Unknown, Possible}

// maxShapes and maxShape bound what is shown of unknown lines, in lines and characters.
const (
	maxShapes = 3
	maxShape  = 60
)

// Serial identifies what hangs on a serial port. path is the device.
func (r *Recogniser) Serial(ctx context.Context, path string, o Options) Report {
	began := time.Now()
	name := stableName(path)
	if o.openLine == nil {
		o.openLine = func(ctx context.Context, l line) (link.Conn, error) {
			e, err := link.Parse("serial:"+escapePath(path)+"?"+strings.Join(l.options(), "&"), nil)
			if err != nil {
				return nil, err
			}
			return e.Open(ctx)
		}
	}
	limit := cmp.Or(o.For, DefaultSerial)
	listening, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	x := r.serial(listening, o)
	asked := false
	var units probed
	if o.Probe && ctx.Err() == nil && slices.Contains(unclear, x.level) {
		asked = true
		y, ok := r.probeSerial(ctx, x.level == Silent, o)
		if !ok && x.level == Silent {
			if units = r.probeUnits(ctx, name, o); units.found {
				y, ok = units.hearing, true
			}
		}
		if ok {
			y.tried = x.tried
			x = y
		}
	}
	report := r.report(name, "serial", x, asked)
	report.Seconds, report.Said = seconds(began), units.said
	for _, l := range x.tried {
		report.Tried = append(report.Tried, l.String())
	}
	switch {
	case units.found:
		report.Line, report.Config = x.line.String(), units.config
	case report.Profile != "":
		report.Config = r.config(x.best, "serial", "serial:"+escapePath(name), x.line)
	}
	report.Advice = append(report.Advice, r.serialAdvice(name, x, o)...)
	return report
}

// Address identifies what answers at HOST:PORT. It opens one connection, and more only if
// it may probe.
func (r *Recogniser) Address(ctx context.Context, address string, o Options) Report {
	began := time.Now()
	fail := func(err error, hint string) Report {
		report := Report{Target: address, Level: Failed, Error: err.Error(), Seconds: seconds(began)}
		if hint != "" {
			report.Advice = []string{hint}
		}
		return report
	}
	e, err := link.Parse("tcp://"+address, nil)
	if err != nil {
		return fail(err, "")
	}
	if hint, err := InUse(ctx, e); err != nil {
		return fail(err, hint)
	}
	o.tell("connecting to %s", address)
	conn, err := e.Open(ctx)
	if err != nil {
		return fail(err, link.Hint(err))
	}
	limit := cmp.Or(o.For, DefaultFor)
	if o.Probe && o.For == 0 {
		limit = probeListen
	}
	listening, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	x := r.stream(listening, conn, o)
	_ = conn.Close() // it was only read
	probed := false
	var said []string
	var config string
	if o.Probe && ctx.Err() == nil && slices.Contains(unclear, x.level) {
		probed = true
		p := r.probeAddress(ctx, address, x.level == Silent, o)
		if p.found {
			x = p.hearing
		}
		said, config = p.said, p.config
	}
	report := r.report(address, "tcp", x, probed)
	report.Seconds, report.Said = seconds(began), said
	switch {
	case config != "":
		report.Config = config
	case report.Profile != "":
		report.Config = r.config(x.best, "tcp", "tcp://"+address, line{})
	}
	report.Advice = append(report.Advice, r.addressAdvice(address, x, o)...)
	return report
}

func seconds(began time.Time) float64 {
	return float64(time.Since(began).Round(10*time.Millisecond)) / float64(time.Second)
}

// report says what came of listening.
func (r *Recogniser) report(target, scheme string, x hearing, probed bool) Report {
	report := Report{Target: target, Level: x.level, Probed: probed}
	if x.heard != nil {
		report.Bytes = x.heard.bytes
	}
	if x.level == Failed && x.err != nil {
		report.Error = x.err.Error()
	}
	if scheme == "serial" && x.heard != nil && x.heard.bytes > 0 && x.best != nil {
		report.Line = x.line.String()
	}
	if f := x.best; f != nil {
		report.Profile, report.Settings, report.Records, report.Unparsed = f.profile.Name, f.variant.Text, f.records, f.unparsed
		if f.profile.Identify.Note != "" {
			report.Advice = append(report.Advice, f.profile.Identify.Note)
		}
	}
	for _, f := range x.rivals {
		report.Others = append(report.Others, Other{
			Profile: f.profile.Name, Settings: f.variant.Text, Records: f.records, Unparsed: f.unparsed,
			TakesAnything: profiles.Proofs[f.proof] == profiles.ProofNone,
		})
	}
	if (x.level == Unknown || x.level == Possible) && x.heard != nil {
		report.Shape = shapes(x.heard.all())
	}
	return report
}

// shapes are lines with 9 for each digit and A for each letter; none if the bytes are no
// text.
func shapes(b []byte) []string {
	if !asText(b) {
		return nil
	}
	var all []string
	for _, l := range strings.FieldsFunc(string(b), func(r rune) bool { return r == '\r' || r == '\n' }) {
		var s strings.Builder
		n := 0
		for i := 0; i < len(l); {
			c, size := utf8.DecodeRuneInString(l[i:])
			if n++; n > maxShape {
				s.WriteString("...")
				break
			}
			switch {
			case c == utf8.RuneError && size == 1:
				fmt.Fprintf(&s, `\x%02x`, l[i])
			case unicode.IsDigit(c):
				s.WriteByte('9')
			case unicode.IsLetter(c):
				s.WriteByte('A')
			case c > ' '-1 && c < 0x7f:
				s.WriteRune(c)
			case c < 0x80:
				fmt.Fprintf(&s, `\x%02x`, c)
			default:
				s.WriteByte('?')
			}
			i += size
		}
		if !slices.Contains(all, s.String()) {
			all = append(all, s.String())
		}
		if len(all) == maxShapes {
			break
		}
	}
	return all
}

// ids are how devices of a driver are called in a configuration.
var ids = map[string]string{
	"tsa-portal": "rpm-1", "aspect-portal": "rpm-1", "n42-stream": "riid-1", "area-monitor": "area-1", "tsa-environment": "env-1", "scale": "scale-1",
	"llrp": "rfid-1", "lane-mrz": "documents-1", "plate-template": "anpr-1", "nedap-tlv": "anpr-1", "nedap-rs485": "anpr-1", "hikvision-stream": "anpr-1",
	"dahua-stream": "anpr-1", "xray-messages": "xray-1", "state-bus": "plc-1",
}

// config is what to paste. What the profile has already is left out of connect.
func (r *Recogniser) config(f *fit, scheme, connect string, l line) string {
	var options []string
	if scheme == "serial" {
		for _, o := range l.options() {
			key, value, _ := strings.Cut(o, "=")
			if f.profile.Link[key] != value {
				options = append(options, o)
			}
		}
	}
	if len(options) > 0 {
		connect += "?" + strings.Join(options, "&")
	}
	return snippet(f.profile, connect, f.variant.Text)
}

// snippet is a device of a configuration.
func snippet(p *profiles.Profile, connect, settings string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- id: %s\n  profile: %s\n  connect: %s\n", cmp.Or(ids[p.Driver], "device-1"), p.Name, connect)
	if settings != "" {
		if !strings.Contains(settings, "#") {
			settings += "   # needed"
		}
		fmt.Fprintf(&b, "  settings: %s\n", settings)
	}
	return b.String()
}

// stableName is the name of a port that stays with its adapter.
func stableName(path string) string {
	ports, err := link.Ports()
	if err != nil {
		return path
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path
	}
	for _, p := range ports {
		if p.Name == real {
			return p.Stable()
		}
	}
	return path
}

// escapePath writes a device for a URL.
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3F", "#", "%23", " ", "%20").Replace(path)
}

// serialAdvice is what to do about what was heard on a port.
func (r *Recogniser) serialAdvice(name string, x hearing, o Options) (advice []string) {
	switch {
	case x.err != nil && !errors.Is(x.err, context.Canceled):
		if x.level != Failed {
			advice = append(advice, x.err.Error())
		}
		if hint := link.Hint(x.err); hint != "" {
			advice = append(advice, hint)
		}
	case x.level == Silent:
		advice = append(advice,
			"nothing came, at any setting a byte would have been seen: check that the instrument is on and set to send, and that its data cable is in the right socket",
			"if it is on, its sending wire may be on the port's sending wire: try a crossed cable or a null modem, or swap A and B on RS-485",
			"readers of plates, tags and documents say nothing until a vehicle or a document comes: let one come")
		if !o.Probe {
			advice = append(advice, "some only answer when they are asked: "+strings.Join(r.asked("serial"), ", ")+"; --probe asks them, by reads only")
		}
	case x.level == Unknown && x.heard != nil && !asText(x.heard.all()):
		advice = append(advice, fmt.Sprintf("what came makes no sense at any of the %d settings that were tried: the line may have another baud rate or parity, look into the instrument's manual", len(x.tried)),
			"if the manual agrees, check the wiring: RS-485 on an RS-232 port (or the other way round), A and B swapped, no common ground, or two instruments on one line",
			"it may also be another instrument than you think: compare the cables with lanepost ports")
		if x.heard.bytes < littleJunk {
			advice = []string{tooLittle(x.heard.bytes)}
		}
	case x.level == Unknown:
		advice = append(advice, fmt.Sprintf("this is text, so %s is right, and no profile reads it: see how its lines look above, and describe them with a profile of your own", x.line))
	}
	return append(advice, r.commonAdvice(x)...)
}

// addressAdvice is the same for a connection.
func (r *Recogniser) addressAdvice(address string, x hearing, o Options) (advice []string) {
	ended := x.err != nil && x.level != Failed
	switch {
	case x.level == Silent && x.peerEnd:
		advice = append(advice, "the other side took the connection and ended it: it may serve one client only and have one, or wait for a login or a request")
	case x.level == Silent && ended:
		advice = append(advice, link.Hint(x.err))
	case x.level == Silent:
		advice = append(advice, "the connection is open and nothing came: check that the instrument is set to send, and that this is its data port",
			"readers of plates, tags and documents say nothing until a vehicle or a document comes: let one come")
	case x.level == Unknown && x.heard.bytes < littleJunk:
		advice = append(advice, tooLittle(x.heard.bytes))
	case x.level == Unknown && asText(x.heard.all()):
		advice = append(advice, "this is text and no profile reads it: see how its lines look above, and describe them with a profile of your own")
	case x.level == Unknown:
		advice = append(advice, "no profile reads it. If a serial server is in between, its serial side may have the wrong baud rate or parity; otherwise this is another kind of instrument or another port of it")
	}
	if (x.level == Silent || x.level == Unknown) && !o.Probe {
		advice = append(advice, "not tried, since they only answer when they are asked: "+strings.Join(r.asked("tcp"), ", ")+", devices with Modbus, OPC UA servers, cameras with HTTP; --probe asks them, by reads only")
	}
	if x.level == Silent || x.level == Unknown {
		advice = append(advice, "not found this way: instruments that connect to the agent by themselves (http-listen, tcp-listen, DICOM), folders and brokers")
	}
	return append(advice, r.commonAdvice(x)...)
}

// tooLittle is advice where too few bytes came.
func tooLittle(n int) string {
	if n == 1 {
		return "only 1 byte came, too little to tell anything: listen for longer with --for"
	}
	return fmt.Sprintf("only %d bytes came, too few to tell anything: listen for longer with --for", n)
}

func (r *Recogniser) commonAdvice(x hearing) (advice []string) {
	if x.heard == nil || x.heard.bytes == 0 {
		return nil // what was answered to a request is told with it
	}
	switch x.level {
	case Likely:
		if !x.best.enough() && x.best.strict() {
			advice = append(advice, fmt.Sprintf("certain after %d records: listen for longer with --for", x.best.profile.Identify.Records))
		} else {
			advice = append(advice, "its records have nothing that others could not send as well: compare with the instrument's label")
		}
	case Equal:
		advice = append(advice, "what came fits several profiles: compare with the instrument's label, and take the one whose maker it is")
	case Possible:
		advice = append(advice, "any line of text fits these profiles: they tell nothing about the maker. Take the one that the instrument's label or its settings name")
	}
	return advice
}

// asked are the profiles whose instruments only answer requests.
func (r *Recogniser) asked(scheme string) []string {
	var names []string
	for i := range r.candidates {
		c := &r.candidates[i]
		if c.variant.Text == "" && c.asks && slices.Contains(c.driver.Schemes, scheme) {
			names = append(names, c.profile.Name)
		}
	}
	return names
}

// portOf is the port of HOST:PORT, 0 for none.
func portOf(address string) int {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port) // 0 for what is none
	return n
}
