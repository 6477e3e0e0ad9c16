package simulator

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Bounds and times of cameras.
const (
	// cameraStandoff is how far before or behind the beam a camera sees a plate, in
	// seconds of the drive.
	cameraStandoff = 0.5
	// cameraStep is how often a camera looks at its clock, in simulated time.
	cameraStep = time.Second
	// maxSwitches bounds the switches of one camera.
	maxSwitches = 64
	// pushTimeout bounds one request of a camera.
	pushTimeout = 20 * time.Second
)

// fastEpoch is the cameras' time at the start of a simulation that has no clock.
func fastEpoch() time.Time { return time.Date(2026, time.January, 5, 6, 0, 0, 0, time.UTC) }

// CameraSettings are the settings of a number-plate reader. Chances are from 0 to
// 1.
type CameraSettings struct {
	// Push is where a reader that sends by itself sends to: a URL.
	Push string `yaml:"push"`
	// Sees is "front" (the default; vehicles drive toward the reader) or "rear".
	Sees string `yaml:"sees"`
	// Username and Password that the reader wants; empty for none.
	Username string `yaml:"username"`
	Password string `yaml:"password"`
	// Zone is the zone of its clock, an IANA name, and ClockOffset by how much that
	// clock is ahead.
	Zone        string        `yaml:"zone"`
	ClockOffset time.Duration `yaml:"clock_offset"`
	// ClockStart is its time at the start, so that a change to summer time can fall into
	// the scenario; the real time without it. ClockJump is by how much its clock is set
	// ahead at ClockJumpAt.
	ClockStart  time.Time     `yaml:"clock_start"`
	ClockJump   time.Duration `yaml:"clock_jump"`
	ClockJumpAt time.Duration `yaml:"clock_jump_at"`
	// Latency is how long what it sends is on its way, and Loss the chance that a piece
	// is lost on the way and sent again by TCP a second later. Both are in real time.
	Latency time.Duration `yaml:"latency"`
	Loss    float64       `yaml:"loss"`
	// Misread, NoRead, WrongCountry and Duplicate are the chances that it takes a
	// character for another, reads nothing, takes the country for another, and
	// reads the same plate twice.
	Misread      float64 `yaml:"misread"`
	NoRead       float64 `yaml:"no_read"`
	WrongCountry float64 `yaml:"wrong_country"`
	Duplicate    float64 `yaml:"duplicate"`
	// Script is what it writes look-alike letters in: "latin" (the default),
	// "cyrillic" or "greek".
	Script string `yaml:"script"`
	// Switches turn on what firmware of the model is known to do.
	Switches []string `yaml:"switches"`
	// Options are values of the model's own.
	Options map[string]string `yaml:"options"`
}

// Has reports whether a switch is on.
func (s CameraSettings) Has(name string) bool { return slices.Contains(s.Switches, name) }

// Sighting is one plate that a reader had before it.
type Sighting struct {
	// At is when, in simulated time, and When by the reader's clock.
	At   time.Duration
	When time.Time
	// Serial counts the sightings of the reader from 1.
	Serial uint64
	// Vehicle is its number in the truth.
	Vehicle int
	// Plate is what the reader makes of it, empty if Unread; Country is ISO 3166-1
	// alpha-2.
	Plate, Country string
	Unread         bool
	// Confidence is from 0 to 100.
	Confidence int
	// Toward is true for a vehicle that drives toward the reader.
	Toward bool
	// Kind is what vehicle it is; Trailer is true for the plate of a trailer.
	Kind     string
	Trailer  bool
	SpeedKPH float64
	// Length of the vehicle in m.
	Length float64
	// GammaCPS and NeutronCPS are the strength of what it carries, 0 for nothing.
	GammaCPS, NeutronCPS float64
	// Picture shows the vehicle, Crop the plate, as JPEG.
	Picture, Crop []byte
}

// cameraEnv is what a simulated reader lives in.
type cameraEnv struct {
	Settings CameraSettings
	// Rand is for what the model does at random.
	Rand *rand.Rand
	Log  *slog.Logger
	// Fast is true when there is no clock: what is observed waits for the client.
	Fast bool
	// Now is the reader's clock, Clock what it shows at a simulated time: what is written by
	// it is the same each time.
	Now   func() time.Time
	Clock func(at time.Duration) time.Time
	// HTTP is for readers that send.
	HTTP *http.Client
	// Line is where a reader on a line sends, nil for one on HTTP.
	Line link
	// Hear asks for what the clients on a TCP line send; nil for other lines.
	Hear func(func(session int, b []byte))
	// Done is closed when the reader is closed.
	Done <-chan struct{}
	// Dir is the folder of a scanner, empty for a camera. Seed decides what it draws.
	Dir  string
	Seed uint64
	// Signalled puts a change of a controller's signal into the truth, Event what became of
	// the link.
	Signalled func(SignalTruth)
	Event     func(what string)
	// Listener is where the clients of a controller come to. Elapsed is the simulated time.
	Listener net.Listener
	Elapsed  func() time.Duration
	// Scanned puts a scan into the truth, Weighed a weight, Tagged a tag, Documented a
	// travel document, Identified a nuclide, Rated what an area monitor should have measured.
	Scanned    func(ScanTruth)
	Weighed    func(WeightTruth)
	Tagged     func(TagTruth)
	Documented func(DocumentTruth)
	Identified func(NuclideTruth)
	Rated      func(RateTruth)
	// Occupied puts an occupancy of a portal into the truth.
	Occupied func(OccupancyTruth)
	// Told puts into the truth what became of a sighting: "sent", "resent", "lost".
	Told func(s Sighting, what string)
}

// cameraModel is a number-plate reader of one make.
type cameraModel interface {
	// ServeHTTP is what it serves; one that only sends answers 404.
	http.Handler
	// observe takes a plate that passes. It returns quickly; without a clock only
	// when the client has it.
	observe(ctx context.Context, s Sighting) error
	// tick is called each second of simulated time: heartbeats, resending.
	tick(ctx context.Context, at time.Duration)
}

// cameraKind is one entry of the table of models.
type cameraKind struct {
	new func(cameraEnv) (cameraModel, error)
	// line is true for a reader on a TCP or serial line, which is not asked by HTTP.
	line bool
	// folder is true for an X-ray scanner, which drops files.
	folder bool
	// bus is the kind of link of a controller that serves clients by itself on its listener;
	// its model is an io.Closer.
	bus string
	// other is true for what reads no plates: it puts what it sees into the truth itself.
	other bool
	// switches and options are those that it has.
	switches, options []string
}

// cameraModels are the readers that there are.
var cameraModels = map[string]cameraKind{
	"text-reader":      {new: newTextReader, line: true, switches: textReaderSwitches, options: slices.Sorted(maps.Keys(textReaderDefaults))},
	"nedap-anpr":       {new: newNedapReader, line: true, switches: nedapSwitches, options: []string{"template"}},
	"onvif-camera":     {new: newONVIFCamera, switches: onvifSwitches},
	"onvif-publisher":  {new: newONVIFPublisher, switches: onvifPublisherSwitches},
	"hikvision":        {new: newHikvisionCamera, switches: hikvisionSwitches, options: []string{"boundary"}},
	"axis-lpv":         {new: newAxisCamera, switches: axisSwitches},
	"vzen":             {new: newVzenCamera, switches: vzenSwitches},
	"rekor":            {new: newRekorEngine, switches: rekorSwitches},
	"plate-recognizer": {new: newPlateRecognizerEngine, switches: plateRecognizerSwitches},
	"sharpv":           {new: newSharpVCamera, switches: sharpVSwitches},
	"tvt":              {new: newTVTCamera, switches: tvtSwitches},
	"milesight":        {new: newMilesightCamera, switches: milesightSwitches},
	"uniview":          {new: newUniviewCamera, switches: univiewSwitches},
	"xray-scanner":     {new: newScanner, folder: true, other: true, switches: slices.Concat(scannerSwitches, dicosSwitches), options: []string{"dialect", "days", "dense"}},
	"xray-messenger":   {new: newMessenger, line: true, other: true, switches: messengerSwitches, options: []string{"framing", "format", "dense"}},
	"dicos-scanner":    {new: newDICOSScanner, other: true, switches: storeSwitches, options: []string{"called", "calling", "dense"}},
	"scale":            {new: newScale, line: true, other: true, switches: scaleSwitches, options: []string{"format"}},
	"llrp-reader":      {new: newLLRPReader, line: true, other: true, switches: llrpSwitches},
	"aspect-portal":    {new: newAspectPortal, bus: modbusBus, other: true, switches: aspectSwitches, options: []string{"units", "base", "size", "answer_after"}},
	"plc":              {new: newPLCModbus, bus: modbusBus, other: true, switches: plcModbusSwitches, options: []string{"map", "missing", "drop_after", "answer_after"}},
	"plc-opcua":        {new: newPLCOPCUA, bus: "opcua", other: true, switches: plcOPCUASwitches, options: []string{"missing", "bad", "uncertain", "drop_after", "answer_after"}},
	"mrz-reader":       {new: newMRZReader, line: true, other: true, switches: mrzSwitches, options: []string{"format"}},
	"n42-streamer":     {new: newN42, line: true, other: true, switches: n42Switches},
	"n42-dropper":      {new: newN42, folder: true, other: true, switches: n42Switches},
	"n42-poster":       {new: newN42, other: true, switches: n42Switches},
	"area-monitor":     {new: newAreaMonitor, line: true, other: true, switches: areaSwitches, options: []string{"format", "checksum"}},
	"tsa-environment":  {new: newEnvironmentBoards, line: true, other: true, switches: environmentSwitches},
	"dahua":            {new: newDahuaCamera, switches: dahuaSwitches},
	"dahua-stream":     {new: newDahuaStreamCamera, switches: dahuaStreamSwitches},
}

// modbusBus is the bus of what is read over Modbus TCP.
const modbusBus = "modbus-tcp"

// portalModel is the model of a radiation portal.
const portalModel = "tsa-portal"

// Models lists the models of instruments.
func Models() []string {
	return append([]string{portalModel}, slices.Sorted(maps.Keys(cameraModels))...)
}

// camera plays one reader.
type camera struct {
	lane, id string
	kind     cameraKind
	model    cameraModel
	env      cameraEnv
	seed     uint64
	scenario *Lane
	settings CameraSettings
	length   time.Duration
	speed    float64
	witness  bool
	url      string
	tell     func(Entry)

	line     link
	dir      string // of a scanner
	temp     bool   // which was made for it
	listener net.Listener
	server   *http.Server
	served   chan struct{}
	done     chan struct{}
	closing  sync.Once
	arrived  chan struct{} // closed when the first client is there
	arriving sync.Once

	mu     sync.Mutex
	began  time.Time     // real time of the start, zero before
	passed time.Duration // simulated time, without a clock
	zone   *time.Location
}

// openCamera makes a reader and opens the place where it is reached.
func (s *Simulation) openCamera(lane *Lane, d *Device, witness bool) (*camera, error) {
	key := deviceKey(lane.ID, d.ID)
	c := &camera{
		lane: lane.ID, id: d.ID, kind: cameraModels[d.Model], seed: s.scenario.Seed, scenario: lane, settings: *d.Camera,
		length: s.scenario.Duration, speed: s.opts.Speed, witness: witness, tell: s.tell, served: make(chan struct{}), done: make(chan struct{}), arrived: make(chan struct{}),
	}
	var err error
	if c.zone, err = time.LoadLocation(c.settings.Zone); err != nil {
		return nil, fmt.Errorf("%s: zone: %w", key, err)
	}
	log := s.opts.Log.With("device", key)
	c.env = cameraEnv{
		Settings: c.settings, Rand: newRand(c.seed, lane.ID, d.ID, "camera model"), Log: log, Fast: c.speed == 0,
		Now: c.now, Clock: c.clock, Done: c.done, HTTP: &http.Client{Timeout: pushTimeout, Transport: &http.Transport{
			DisableCompression: true, MaxIdleConnsPerHost: 1,
			DialContext: slowDial(c.settings, newRand(c.seed, lane.ID, d.ID, "camera line")),
		}},
		Told: func(x Sighting, what string) {
			c.tell(&PlateTruth{Kind: "plate", Lane: c.lane, Device: c.id, AtS: seconds(x.At), Serial: x.Serial, What: what, Vehicle: x.Vehicle})
		},
	}
	c.env.Seed = c.seed
	c.env.Scanned = func(x ScanTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Weighed = func(x WeightTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Tagged = func(x TagTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Identified = func(x NuclideTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Signalled = func(x SignalTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Occupied = func(x OccupancyTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Event, c.env.Elapsed = c.event, c.elapsed
	c.env.Rated = func(x RateTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	c.env.Documented = func(x DocumentTruth) {
		x.Lane, x.Device = c.lane, c.id
		c.tell(&x)
	}
	listen := d.Listen
	if l, ok := s.opts.Listen[key]; ok {
		listen = l
	}
	if c.kind.folder {
		return c, c.openFolder(key, listen)
	}
	address, err := parseListen(listen)
	if err != nil {
		return nil, fmt.Errorf("listen of %s: %w", key, err)
	}
	given := s.opts.Listeners[key]
	switch {
	case c.kind.line && given != nil:
		c.line = newServer(given, log, c.event)
		c.url = c.line.connect()
	case c.kind.line:
		if c.line, err = openLink(address, log, c.event); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		c.url = c.line.connect()
	case c.kind.bus != "":
		if c.env.Listener = given; given == nil {
			if address.scheme != "tcp" {
				return nil, fmt.Errorf("listen of %s: a %s is reached over tcp", key, d.Model)
			}
			if c.env.Listener, err = net.Listen("tcp", address.tcp); err != nil {
				return nil, fmt.Errorf("listen of %s: %w", key, err)
			}
		}
		c.url = c.kind.bus + "://" + c.env.Listener.Addr().String()
	case given != nil:
		c.listener = given
		c.url = "http://" + given.Addr().String()
	case address.scheme != "tcp":
		return nil, fmt.Errorf("listen of %s: a %s is reached over tcp", key, d.Model)
	default:
		if c.listener, err = net.Listen("tcp", address.tcp); err != nil {
			return nil, fmt.Errorf("listen of %s: %w", key, err)
		}
		c.url = "http://" + c.listener.Addr().String()
	}
	if c.env.Line = c.line; c.line != nil && (c.settings.Latency > 0 || c.settings.Loss > 0) {
		c.env.Line = lateLink{c.line, &c.env}
	}
	if s, ok := c.line.(*server); ok {
		c.env.Hear = s.hear
	}
	if c.model, err = c.kind.new(c.env); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", key, err), c.close(false))
	}
	if c.listener != nil {
		c.listener = slowListener{c.listener, c.settings, newRand(c.seed, lane.ID, d.ID, "camera line")}
		c.server = &http.Server{ReadHeaderTimeout: pushTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.came()
			c.model.ServeHTTP(w, r)
		})}
		go func() {
			defer close(c.served)
			_ = c.server.Serve(c.listener) // it ends by close
		}()
	}
	return c, nil
}

// openFolder makes the folder of a scanner: the one that is named, or one of its own that
// is taken away at the end.
func (c *camera) openFolder(key, listen string) (err error) {
	dir, ok := parseFolder(listen)
	if !ok || dir == "" {
		if c.dir, err = os.MkdirTemp("", "lanesim-scanner-"); err != nil {
			return fmt.Errorf("%s: make a folder: %w", key, err)
		}
		c.temp = true
	} else if c.dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(c.dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("%s: make a folder: %w", key, err)
	}
	c.url, c.env.Dir = "folder:"+c.dir, c.dir
	if c.model, err = c.kind.new(c.env); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", key, err), c.close(false))
	}
	return nil
}

func (c *camera) event(what string) {
	c.tell(&LinkTruth{Kind: "link", Lane: c.lane, Device: c.id, AtS: seconds(c.elapsed()), What: what})
	if what == "connected" {
		c.came()
	}
}

func (c *camera) came() { c.arriving.Do(func() { close(c.arrived) }) }

// client waits for the first client of what has clients.
func (c *camera) client(ctx context.Context) error {
	switch {
	case c.kind.folder, c.settings.Push != "":
		return nil
	case c.line != nil:
		return c.line.client(ctx)
	}
	select {
	case <-c.arrived:
		return nil
	case <-c.done:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes the place where the reader is reached; drain is true to wait until its
// client has read what is on the line.
func (c *camera) close(drain bool) error {
	c.closing.Do(func() {
		close(c.done)
		c.env.HTTP.CloseIdleConnections()
	})
	switch {
	case c.temp && !drain: // with drain somebody may still look at it
		return os.RemoveAll(c.dir)
	case c.kind.bus != "" && c.model == nil:
		return c.env.Listener.Close()
	case c.kind.bus != "":
		if closer, ok := c.model.(io.Closer); ok {
			return closer.Close()
		}
	case c.line != nil:
		return c.line.close(drain)
	case c.server != nil:
		err := c.server.Close()
		<-c.served
		return err
	case c.listener != nil:
		return c.listener.Close()
	}
	return nil
}

// elapsed is the simulated time now.
func (c *camera) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.speed == 0 || c.began.IsZero() {
		return c.passed
	}
	return time.Duration(float64(time.Since(c.began)) * c.speed)
}

// clock is the reader's clock at a simulated time.
func (c *camera) clock(at time.Duration) time.Time {
	c.mu.Lock()
	from := c.began
	c.mu.Unlock()
	switch {
	case c.speed == 0:
		from = fastEpoch()
	case from.IsZero():
		from = time.Now()
	}
	if !c.settings.ClockStart.IsZero() {
		from = c.settings.ClockStart
	}
	if at >= c.settings.ClockJumpAt {
		at += c.settings.ClockJump
	}
	return from.Round(0).Add(at + c.settings.ClockOffset).In(c.zone)
}

func (c *camera) now() time.Time { return c.clock(c.elapsed()) }

// play drives the reader through the scenario.
func (c *camera) play(ctx context.Context) error {
	c.mu.Lock()
	c.began = time.Now()
	c.mu.Unlock()
	rng := newRand(c.seed, c.lane, c.id, "camera")
	vehicles := newTraffic(c.seed, c.scenario)
	due := c.nextSightings(vehicles, rng)
	var queue []Sighting
	var serial uint64
	at := time.Duration(0)
	for ; ctx.Err() == nil && (c.length == 0 || at < c.length); at += cameraStep {
		for due != nil && len(*due) > 0 && (*due)[0].At < at+lookAheadTime {
			queue = append(queue, *due...)
			due = c.nextSightings(vehicles, rng)
		}
		slices.SortStableFunc(queue, func(a, b Sighting) int { return cmp.Compare(a.At, b.At) })
		for len(queue) > 0 && queue[0].At < at+cameraStep {
			s := queue[0]
			queue = queue[1:]
			if err := c.until(ctx, s.At); err != nil {
				return err
			}
			serial++
			s.Serial, s.When = serial, c.clock(s.At)
			s.Picture, s.Crop = drawVehicle(s)
			if !c.kind.other {
				c.tell(&PlateTruth{
					Kind: "plate", Lane: c.lane, Device: c.id, AtS: seconds(s.At), Serial: serial, What: "seen", Vehicle: s.Vehicle,
					Plate: s.Plate, Country: s.Country, Unread: s.Unread, Trailer: s.Trailer,
				})
			}
			if err := c.model.observe(ctx, s); err != nil {
				return err
			}
		}
		if err := c.until(ctx, at+cameraStep); err != nil {
			return err
		}
		c.model.tick(ctx, at+cameraStep)
		if due == nil && len(queue) == 0 && c.length == 0 {
			break
		}
	}
	if f, ok := c.model.(interface{ finish(at time.Duration) error }); ok && ctx.Err() == nil {
		return f.finish(at)
	}
	return ctx.Err()
}

// lookAheadTime is how far vehicles are made before they are due.
const lookAheadTime = time.Duration(lookAhead) * time.Second

// until waits for a simulated time.
func (c *camera) until(ctx context.Context, at time.Duration) error {
	if c.speed == 0 {
		c.mu.Lock()
		c.passed = max(c.passed, at)
		c.mu.Unlock()
		return ctx.Err()
	}
	wait := time.Until(c.began.Add(time.Duration(float64(at) / c.speed)))
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nextSightings is what the reader sees of the next vehicle that it sees anything
// of; nil at the end of the traffic.
func (c *camera) nextSightings(t *traffic, rng *rand.Rand) *[]Sighting {
	for {
		v := t.next()
		if v == nil {
			return nil
		}
		if c.witness {
			for _, e := range v.entries {
				c.tell(e)
			}
		}
		if c.length > 0 && v.start() > c.length.Seconds() {
			return nil
		}
		if len(v.beam) == 0 {
			continue // it passes beside the lane
		}
		sightings := c.sightings(v, rng)
		return &sightings
	}
}

// sightings is what the reader sees of a vehicle: one plate, seldom twice.
func (c *camera) sightings(v *vehicle, rng *rand.Rand) []Sighting {
	front, frontCountry, rear, rearCountry, trailer := platesOf(c.seed, c.lane, v)
	s := Sighting{
		Vehicle: v.n, Plate: front, Country: frontCountry, Toward: true, Kind: v.what, SpeedKPH: round(v.kph, 1), Length: v.length,
		Confidence: 80 + rng.IntN(20),
	}
	for _, e := range v.entries {
		if t, ok := e.(*VehicleTruth); ok {
			s.GammaCPS, s.NeutronCPS = t.GammaCPS, t.NeutronCPS
		}
	}
	at := v.beam[0].from - cameraStandoff
	if c.settings.Sees == "rear" {
		s.Plate, s.Country, s.Toward, s.Trailer = rear, rearCountry, false, trailer
		at = v.beam[len(v.beam)-1].to + cameraStandoff
	}
	s.At = time.Duration(max(at, 0) * float64(time.Second)).Round(time.Millisecond)
	// Drawn whether used or not, so that one setting leaves the others as they are.
	unread, mistaken, abroad, twice := rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()
	if mistaken < c.settings.Misread {
		s.Plate, s.Confidence = misread(s.Plate, rng), 40+rng.IntN(40)
	}
	if abroad < c.settings.WrongCountry {
		_, s.Country = drawPlate(rng)
	}
	s.Plate = written(s.Plate, c.settings.Script)
	if unread < c.settings.NoRead {
		s.Plate, s.Country, s.Unread, s.Confidence = "", "", true, 0
	}
	list := []Sighting{s}
	if twice < c.settings.Duplicate {
		s.At += 400 * time.Millisecond
		list = append(list, s)
	}
	return list
}

// drawVehicle draws a vehicle and its plate, both with the plate's characters as
// bars, so that no two are alike.
func drawVehicle(s Sighting) (picture, crop []byte) {
	const width, height = 160, 90
	img := image.NewGray(image.Rect(0, 0, width, height))
	fill := func(r image.Rectangle, shade uint8) {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				img.SetGray(x, y, color.Gray{shade})
			}
		}
	}
	fill(img.Rect, 90)
	fill(image.Rect(0, 70, width, height), 60)
	top := 35
	if s.Kind == "truck" || s.Kind == "bus" {
		top = 8
	}
	fill(image.Rect(30, top, 130, 75), uint8(120+s.Serial%100))
	plateRect := image.Rect(60, 62, 100, 72)
	fill(plateRect, 240)
	for i, r := range []rune(s.Plate) {
		x := plateRect.Min.X + 2 + 4*i
		fill(image.Rect(x, 64, min(x+2, plateRect.Max.X), 64+int(r%7)+1), 20)
	}
	return encodeJPEG(img), encodeJPEG(img.SubImage(plateRect))
}

func encodeJPEG(img image.Image) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 60}); err != nil {
		return nil // a picture of this size in memory can always be encoded
	}
	return b.Bytes()
}
