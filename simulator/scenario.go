package simulator

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Scenario says what happens in which lanes, and which instruments see it.
type Scenario struct {
	// Name and Summary are for people.
	Name    string `yaml:"name"`
	Summary string `yaml:"summary"`
	// Seed decides everything random.
	Seed uint64 `yaml:"seed"`
	// Duration is how much simulated time is played; zero means without end.
	Duration time.Duration `yaml:"duration"`
	Lanes    []Lane        `yaml:"lanes"`
}

// Lane is one lane with its own traffic.
type Lane struct {
	ID      string   `yaml:"id"`
	Devices []Device `yaml:"devices"`
	Traffic Traffic  `yaml:"traffic"`
	Faults  []Fault  `yaml:"faults"`
}

// Device is one instrument.
type Device struct {
	ID string `yaml:"id"`
	// Model is "tsa-portal" or one of the number-plate readers, see Models.
	Model string `yaml:"model"`
	// Listen is where the instrument is reached: tcp://HOST:PORT (port 0 for
	// any free one), or pty: for a pseudo-terminal, or pty:PATH for one that is
	// also reached by a symbolic link at PATH. The default is
	// tcp://127.0.0.1:0.
	Listen string `yaml:"listen"`
	// Camera are the settings of a number-plate reader; nil for the defaults.
	Camera *CameraSettings `yaml:"camera"`
	// Settings of a tsa-portal; nil means DefaultPortal.
	Settings *PortalSettings `yaml:"settings"`
}

// Traffic is what drives through the lane: first the listed vehicles, then
// random ones.
type Traffic struct {
	Vehicles []Vehicle      `yaml:"vehicles"`
	Random   *RandomTraffic `yaml:"random"`
}

// Vehicle is one vehicle of a scenario. Values that are left out are drawn at
// random in the range of its kind.
type Vehicle struct {
	// Kind is car, van, bus, truck or motorcycle.
	Kind string `yaml:"kind"`
	// Arrive is when the front would reach the beam if nothing stopped it. A
	// vehicle never reaches the beam before the one ahead has left it; it comes
	// later then.
	Arrive time.Duration `yaml:"arrive"`
	// Follows, if set, takes the place of Arrive: the vehicle reaches the beam
	// this long after the one ahead has left it.
	Follows time.Duration `yaml:"follows"`
	// Length in m, Speed in km/h.
	Length float64 `yaml:"length"`
	Speed  float64 `yaml:"speed"`
	// Shielding is the share of the gamma background that the vehicle keeps
	// from the detectors while it stands between them, 0 to 0.9.
	Shielding *float64 `yaml:"shielding"`
	Gamma     *Source  `yaml:"gamma"`
	Neutron   *Source  `yaml:"neutron"`
	// Stops are in the order of driving.
	Stops []Stop `yaml:"stops"`
	// Reverse makes the vehicle drive back once.
	Reverse *Reverse `yaml:"reverse"`
	// Beside is a vehicle that passes (or stands) beside the portal: it takes
	// background away and may carry a source, but does not cut the beam.
	Beside bool `yaml:"beside"`
}

// Source is radioactive material in a vehicle.
type Source struct {
	// CPS is the net count rate, all fitted detectors together, at the moment
	// when it is highest for a source in the middle of the lane.
	CPS float64 `yaml:"cps"`
	// At is the place of its middle in m behind the front; the default is the
	// middle of the vehicle.
	At *float64 `yaml:"at"`
	// Offset from the middle of the lane in m, positive toward the pillar of
	// detectors 3 and 4; -2 to 2.
	Offset float64 `yaml:"offset"`
	// Broad is the length in m over which the material is spread, as with
	// naturally radioactive cargo; 0 is a point.
	Broad float64 `yaml:"broad"`
}

// Stop is a halt of a vehicle.
type Stop struct {
	// At is how far the front is past the beam, in m; negative is before the
	// beam.
	At  float64       `yaml:"at"`
	For time.Duration `yaml:"for"`
}

// Reverse is a drive backwards: once the front is At m past the beam, the
// vehicle goes By m back, and then on.
type Reverse struct {
	At float64 `yaml:"at"`
	By float64 `yaml:"by"`
}

// RandomTraffic draws vehicles. The chances are between 0 and 1.
type RandomTraffic struct {
	// PerHour is the mean number of vehicles in an hour, as far as they fit.
	PerHour float64 `yaml:"per_hour"`
	// Mix weighs the kinds of vehicles; the default is 6 cars to 1 van, 1 bus
	// and 4 trucks.
	Mix map[string]float64 `yaml:"mix"`
	// Gamma is the chance of a gamma point source, Neutron of a neutron source.
	// Norm is the chance that a truck carries naturally radioactive cargo.
	Gamma   float64 `yaml:"gamma"`
	Norm    float64 `yaml:"norm"`
	Neutron float64 `yaml:"neutron"`
	// StopAndGo is the chance that a vehicle halts inside the portal.
	StopAndGo float64 `yaml:"stop_and_go"`
}

// PortalSettings are the settings of a tsa-portal. Those that the portal
// reports in its setup records have the names and values of these.
type PortalSettings struct {
	// Detectors are the fitted places, 1 to 4; 1 and 2 share a pillar, 3 and 4
	// the other. Places that are not fitted send zeros.
	Detectors []int `yaml:"detectors"`
	// GammaBackground and NeutronBackground are the true rates in counts per
	// second, one for each of the four places.
	GammaBackground   []float64 `yaml:"gamma_background"`
	NeutronBackground []float64 `yaml:"neutron_background"`
	// NSigma, Groups and Intervals make the gamma alarm. Groups are any of sum,
	// horizontal, vertical and single.
	NSigma    float64  `yaml:"n_sigma"`
	Groups    []string `yaml:"groups"`
	Intervals int      `yaml:"intervals"`
	// HoldIn is how many samples of 200 ms follow after the beam is clear.
	HoldIn int `yaml:"hold_in"`
	// GammaHigh, GammaLow and NeutronHigh are the limits of the background in
	// counts per second, for each detector.
	GammaHigh   int `yaml:"gamma_high"`
	GammaLow    int `yaml:"gamma_low"`
	NeutronHigh int `yaml:"neutron_high"`
	// NeutronAlarm is the number of counts in one second, all detectors
	// together, from which a neutron sample alarms. The real algorithm is not
	// public; this plain threshold is the simulator's own.
	NeutronAlarm int `yaml:"neutron_alarm"`
	// Counter is the number of the last occupancy before the scenario starts.
	Counter int `yaml:"counter"`
	// Extended sends the extended records of newer firmware too. Those that are
	// not understood are plausible in shape only.
	Extended bool `yaml:"extended"`
	// Guards puts each record between '!' and '#'.
	Guards bool `yaml:"guards"`
	// Firmware is the version that SG3 reports.
	Firmware string `yaml:"firmware"`
	// SpuriousSpeed is the share of speed records that are nonsense.
	SpuriousSpeed float64 `yaml:"spurious_speed"`
}

// DefaultPortal returns the settings of a four-detector portal, the same as in
// a public capture where the page of the protocol has them.
func DefaultPortal() PortalSettings {
	return PortalSettings{
		Detectors:         []int{1, 2, 3, 4},
		GammaBackground:   []float64{401, 406, 436, 436},
		NeutronBackground: []float64{0.6, 0.7, 0.6, 0.7},
		NSigma:            5,
		Groups:            []string{"sum", "vertical"},
		Intervals:         5,
		HoldIn:            10,
		GammaHigh:         2000,
		GammaLow:          68,
		NeutronHigh:       50,
		NeutronAlarm:      20,
		Firmware:          "1.10.1",
		SpuriousSpeed:     0.15,
	}
}

// UnmarshalYAML fills what the file leaves out with DefaultPortal.
func (p *PortalSettings) UnmarshalYAML(unmarshal func(any) error) error {
	type plain PortalSettings
	s := plain(DefaultPortal())
	if err := unmarshal(&s); err != nil {
		return err
	}
	*p = PortalSettings(s)
	return nil
}

// Fault is something that goes wrong, once (At) or again and again at random
// (Every). Which of the other fields count depends on Kind; see FaultKinds.
type Fault struct {
	Kind string `yaml:"kind"`
	// Device is the id of a tsa-portal; empty means every one of the lane. Devices of
	// other models have no faults but switches (CameraSettings.Switches), and what
	// goes wrong in the world is nobody's: it has no Device.
	Device string `yaml:"device"`
	// At is when it happens; with Every, the time before which it never does. Parse
	// refuses one that is not before the end of the scenario.
	At time.Duration `yaml:"at"`
	// Every is the mean time between two of them.
	Every time.Duration `yaml:"every"`
	// For is how long it lasts.
	For time.Duration `yaml:"for"`
	// Detectors and CPS say which detectors count how much.
	Detectors []int   `yaml:"detectors"`
	CPS       float64 `yaml:"cps"`
	// Tag restricts a fault of the wire to records with this tag.
	Tag string `yaml:"tag"`
	// Records is how many records in a row a fault of the wire touches.
	Records int `yaml:"records"`
	// Set is what a setup fault changes.
	Set *SetupChange `yaml:"set"`
}

// SetupChange is a change of a portal's settings at the portal itself.
type SetupChange struct {
	NSigma      *float64 `yaml:"n_sigma"`
	Groups      []string `yaml:"groups"`
	Intervals   *int     `yaml:"intervals"`
	HoldIn      *int     `yaml:"hold_in"`
	GammaHigh   *int     `yaml:"gamma_high"`
	GammaLow    *int     `yaml:"gamma_low"`
	NeutronHigh *int     `yaml:"neutron_high"`
}

// Info is a line in the list of embedded scenarios.
type Info struct{ Name, Summary string }

//go:embed scenarios/*.yaml
var embedded embed.FS

// Scenarios lists the embedded scenarios by name.
func Scenarios() []Info {
	names, err := fs.Glob(embedded, "scenarios/*.yaml")
	if err != nil {
		return nil // the pattern is constant and well formed
	}
	var list []Info
	for _, name := range names {
		s, err := Load(strings.TrimSuffix(filepath.Base(name), ".yaml"))
		if err != nil {
			continue // a test proves that every embedded scenario loads
		}
		list = append(list, Info{Name: s.Name, Summary: s.Summary})
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Load reads an embedded scenario by its name, or a scenario file. A path has
// a separator or ends in .yaml or .yml.
func Load(nameOrPath string) (*Scenario, error) {
	ext := filepath.Ext(nameOrPath)
	if !strings.ContainsAny(nameOrPath, `/\`) && ext != ".yaml" && ext != ".yml" {
		data, err := embedded.ReadFile("scenarios/" + nameOrPath + ".yaml")
		if err != nil {
			var names []string
			for _, s := range Scenarios() {
				names = append(names, s.Name)
			}
			return nil, fmt.Errorf("no scenario is called %q; there are %s, or give the path of a .yaml file",
				nameOrPath, strings.Join(names, ", "))
		}
		return Parse(nameOrPath+".yaml", data)
	}
	f, err := os.Open(nameOrPath)
	if err != nil {
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := readBounded(f, maxScenarioBytes)
	if err != nil {
		return nil, fmt.Errorf("read the scenario %s: %w", nameOrPath, err)
	}
	return Parse(nameOrPath, data)
}

// Parse reads a scenario. name stands for the file in errors, which tell line
// and column; several are joined.
func Parse(name string, data []byte) (*Scenario, error) {
	if len(data) > maxScenarioBytes {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, maxScenarioBytes)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, syntaxError(name, nil, err)
	}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf("%s: %d documents in one file, want one", name, len(file.Docs))
	}
	var s Scenario
	if err := yaml.UnmarshalWithOptions(data, &s, yaml.Strict()); err != nil {
		return nil, syntaxError(name, file, err)
	}
	problems := append(s.check(), s.late()...)
	for i := range problems {
		problems[i].line, problems[i].column = position(file, problems[i].path)
	}
	slices.SortFunc(problems, func(a, b problem) int {
		return cmp.Or(a.line-b.line, a.column-b.column, strings.Compare(a.path, b.path))
	})
	var errs []error
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("%s:%d:%d: %w", name, p.line, p.column, p))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &s, nil
}

// late reports faults that would come after the end. Who makes a scenario in Go, or takes only
// the beginning of one, may have them.
func (s *Scenario) late() (problems []problem) {
	for i, l := range s.Lanes {
		for k, f := range l.Faults {
			if s.Duration > 0 && f.At >= s.Duration {
				problems = append(problems, problem{
					path: fmt.Sprintf("lanes[%d].faults[%d].at", i, k), text: fmt.Sprintf("%v is not before the end of the scenario (%v): it would never happen", f.At, s.Duration),
				})
			}
		}
	}
	return problems
}

// badDuration is how package time complains.
var badDuration = regexp.MustCompile(`^time: (.* duration) "(.*)"$`)

func syntaxError(name string, file *ast.File, err error) error {
	var kind *yaml.TypeError
	if errors.As(err, &kind) && kind.DstType == reflect.TypeFor[time.Duration]() && kind.Token != nil && kind.Token.Position != nil {
		pos := kind.Token.Position
		return fmt.Errorf("%s:%d:%d: %s: durations have a unit, for instance 1s, 5m or 200ms", name, pos.Line, pos.Column, kind.Token.Value)
	}
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil && at.GetToken().Position != nil {
		pos := at.GetToken().Position
		return fmt.Errorf("%s:%d:%d: %s", name, pos.Line, pos.Column, at.GetMessage())
	}
	// The decoder does not say where a bad duration stands.
	if m := badDuration.FindStringSubmatch(err.Error()); m != nil && file != nil {
		f := &finder{value: m[2]}
		for _, doc := range file.Docs {
			ast.Walk(f, doc)
		}
		if f.found != nil {
			pos := f.found.GetToken().Position
			return fmt.Errorf("%s:%d:%d: %q: %s; want a number with a unit, for instance 30s, 5m or 200ms", name, pos.Line, pos.Column, m[2], m[1])
		}
	}
	return fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, false))
}

// finder looks for the first scalar with a value.
type finder struct {
	value string
	found ast.Node
}

// Visit implements ast.Visitor.
func (f *finder) Visit(n ast.Node) ast.Visitor {
	if f.found == nil && n.Type() == ast.StringType && n.GetToken().Value == f.value {
		f.found = n
	}
	return f
}

// position is the line and column of the node at the path, or of the nearest
// one above it that the file has.
func position(file *ast.File, path string) (line, column int) {
	for path != "" {
		if p, err := yaml.PathString("$." + path); err == nil {
			if node, err := p.FilterFile(file); err == nil && node != nil && node.GetToken() != nil {
				pos := node.GetToken().Position
				return pos.Line, pos.Column
			}
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 1, 1
}

// listenAddress is a parsed Listen.
type listenAddress struct {
	scheme string // tcp or pty
	tcp    string // host:port
	link   string // path of the symbolic link to a pseudo-terminal, or empty
}

// shareable is true for an address that gives each listener a place of its own.
func (a listenAddress) shareable() bool {
	return a.scheme == "pty" && a.link == "" || a.scheme == "tcp" && strings.HasSuffix(a.tcp, ":0")
}

func parseListen(s string) (listenAddress, error) {
	if rest, ok := strings.CutPrefix(s, "tcp://"); ok {
		host, port, err := net.SplitHostPort(rest)
		if err != nil || port == "" {
			return listenAddress{}, fmt.Errorf("%q: want tcp://HOST:PORT, for instance tcp://127.0.0.1:1600", s)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return listenAddress{}, fmt.Errorf("%q: %s is no port; want 1 to 65535, or 0 for any free one", s, port)
		}
		return listenAddress{scheme: "tcp", tcp: net.JoinHostPort(host, port)}, nil
	}
	if rest, ok := strings.CutPrefix(s, "pty:"); ok {
		return listenAddress{scheme: "pty", link: rest}, nil
	}
	return listenAddress{}, fmt.Errorf("%q: want tcp://HOST:PORT, pty: or pty:PATH", s)
}

// readBounded reads all of r, but refuses more than a number of bytes.
func readBounded(r io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("longer than %d bytes", most)
	}
	return data, nil
}
