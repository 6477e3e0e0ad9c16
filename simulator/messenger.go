package simulator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/iso6346"
)

// messengerSwitches are what scanners that send messages may do.
var messengerSwitches = []string{
	"split",       // a message in three pieces
	"dribble",     // a few bytes at a time
	"merged",      // what is told first and what came of it in one piece
	"garbage",     // bytes between that belong to nothing
	"half",        // half of each third message, and the connection ends; then the whole
	"reconnect",   // a connection for each message
	"twice",       // each message comes again
	"heartbeats",  // it says now and then that it is alive
	"training",    // each third scan is a drill
	"no-id",       // each third scan is told first without its id
	"bad-base64",  // its pictures are damaged at first
	"cut-picture", // or end too early at first
	"no-analysis", // nobody looks
}

// messengerFormats write a scan as a message.
var messengerFormats = map[string]func(scanMessage) ([]byte, error){
	"xml":  func(m scanMessage) ([]byte, error) { return xml.Marshal(m) },
	"json": func(m scanMessage) ([]byte, error) { return json.Marshal(m) },
	"text": func(m scanMessage) ([]byte, error) {
		return []byte(strings.Join([]string{m.ID, m.Time, m.Plate, m.Container, m.Result, m.Training}, ";")), nil
	},
}

// messengerAlive is how it says that it is alive.
var messengerAlive = map[string]string{"xml": "<Alive/>", "json": `{"Alive":1}`, "text": "ALIVE"}

// scanMessage is the message of a scan. Its names are our own: no vendor's are published.
type scanMessage struct {
	XMLName   xml.Name       `xml:"Scan" json:"-"`
	ID        string         `xml:"ScanId,omitempty" json:"ScanId,omitempty"`
	Time      string         `xml:"ScanTime" json:"ScanTime"`
	Plate     string         `xml:"Plate" json:"Plate"`
	Container string         `xml:"container_no" json:"container_no"`
	Result    string         `xml:"Result" json:"Result"`
	Training  string         `xml:"Training" json:"Training"`
	Images    *messageImages `xml:"Images" json:"Images,omitempty"`
}

type messageImages struct {
	Under string `xml:"Under"`
	Front string `xml:"Front"`
}

// messenger is a scanner that sends a message when a scan was made, and another when
// somebody has looked: on a line or a connection of the client's, or with
// CameraSettings.Push on one of its own (tcp://HOST:PORT). Its options are "framing"
// (document, the default, lines, stx_etx, or length, with XR before four bytes), "format"
// (xml, json or text) and "dense".
type messenger struct {
	env    cameraEnv
	out    outward
	format string
	frames *framing.Format
	dense  float64

	mu    sync.Mutex
	count int
	sent  int
	open  []*openMessage
	held  []byte
}

// openMessage is a scan of which not everything was told.
type openMessage struct {
	first, last         []byte
	firstAt, lastAt     time.Duration
	scan                ScanTruth
	firstTold, lastTold bool
}

func newMessenger(env cameraEnv) (cameraModel, error) {
	c := &messenger{env: env, out: outward{env: env}, format: "xml", dense: 0.3}
	kind := framing.Documents
	for name, v := range env.Settings.Options {
		switch name {
		case "framing":
			kind = v
		case "format":
			if c.format = v; messengerFormats[v] == nil {
				return nil, fmt.Errorf("format: %q; take xml, json or text", v)
			}
		case "dense":
			var err error
			if c.dense, err = parseDense(v); err != nil {
				return nil, err
			}
		}
	}
	f := framing.Framing{Kind: kind}
	if kind == framing.ByLength {
		f.Length.Magic = "XR"
	}
	if kind == framing.Documents && c.format == "text" {
		return nil, fmt.Errorf("framing: texts need another than %s", kind)
	}
	var err error
	c.frames, err = f.Compile()
	return c, err
}

func parseDense(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return 0, fmt.Errorf("dense: %q; take 0 to 1", text)
	}
	return v, nil
}

// isDense draws whether there is something in the load that an operator finds.
func isDense(seed uint64, s Sighting, share float64) bool {
	return newRand(seed, "scan", strconv.Itoa(s.Vehicle)).Float64() < share
}

// containerOf gives the number of a vehicle's container, without its check digit and with it.
func containerOf(s Sighting) (number, container string) {
	number = fmt.Sprintf("TSTU%06d", 100_000+s.Vehicle%900_000)
	return number, number + string(iso6346.CheckDigit(number))
}

// ServeHTTP implements http.Handler; a scanner serves nothing.
func (c *messenger) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

func (c *messenger) observe(ctx context.Context, s Sighting) error {
	if s.Trailer {
		return nil
	}
	has := c.env.Settings.Has
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	third := c.count%3 == 0
	dense, training := isDense(c.env.Seed, s, c.dense), has("training") && third
	m := scanMessage{
		ID: fmt.Sprintf("%s-%05d", s.When.Format("20060102"), c.count), Time: s.When.Format("2006-01-02T15:04:05.000Z07:00"), Plate: s.Plate, Training: "0",
	}
	if s.Kind == "truck" {
		_, m.Container = containerOf(s)
	}
	if training {
		m.Training = "1"
	}
	under := encodeJPEG(xrayPicture(s.Kind, s.Length, dense, newRand(c.env.Seed, "picture", strconv.Itoa(s.Vehicle))))
	images := func(under []byte, damage string) *messageImages {
		return &messageImages{Under: damage + base64.StdEncoding.EncodeToString(under), Front: base64.StdEncoding.EncodeToString(s.Picture)}
	}
	first, last := m, m
	first.Images, last.Images = images(under, ""), images(under, "")
	switch {
	case !third:
	case has("bad-base64"):
		first.Images = images(under, "*")
	case has("cut-picture"):
		first.Images = images(under[:len(under)/2], "")
	}
	if has("no-id") && third {
		first.ID = ""
	}
	last.Result = map[bool]string{false: "OK", true: "ALARM"}[dense]
	o := &openMessage{
		firstAt: s.At + scanTakes, lastAt: s.At + scanTakes + analysisAfter,
		scan: ScanTruth{Kind: "scan", AtS: seconds(s.At), ScanID: m.ID, Vehicle: s.Vehicle, What: "made", Plate: m.Plate, Suspicious: dense, Training: training},
	}
	var err error
	if o.first, err = messengerFormats[c.format](first); err != nil {
		return err
	}
	if o.last, err = messengerFormats[c.format](last); err != nil {
		return err
	}
	if len(c.open) >= scannerQueue {
		return fmt.Errorf("more than %d scans are not finished", scannerQueue)
	}
	c.open = append(c.open, o)
	c.env.Scanned(o.scan)
	return c.work(ctx, s.At)
}

// work tells what is due. Without a clock everything is.
func (c *messenger) work(ctx context.Context, at time.Duration) error {
	has := c.env.Settings.Has
	for _, o := range c.open {
		if !o.firstTold && (c.env.Fast || o.firstAt <= at) {
			o.firstTold = true
			if err := c.tell(ctx, o.first, has("merged")); err != nil {
				return err
			}
		}
		if o.firstTold && (c.env.Fast || o.lastAt <= at) {
			o.lastTold = true
			if !has("no-analysis") {
				if err := c.tell(ctx, o.last, false); err != nil {
					return err
				}
			}
			done := o.scan
			done.AtS, done.What = seconds(at), "finished"
			c.env.Scanned(done)
		}
	}
	c.open = slices.DeleteFunc(c.open, func(o *openMessage) bool { return o.lastTold })
	return nil
}

// tell sends a message, or holds it back for the next one.
func (c *messenger) tell(ctx context.Context, message []byte, hold bool) error {
	has := c.env.Settings.Has
	frame, err := c.frames.Append(nil, message)
	if err != nil {
		return err
	}
	if has("garbage") {
		frame = append([]byte("\x7f?\r\n"), frame...)
	}
	if has("twice") {
		frame = append(frame, frame...)
	}
	if c.sent++; has("half") && c.sent%3 == 0 {
		if err := c.send(ctx, frame[:len(frame)/2], true); err != nil {
			return err
		}
	}
	c.held = append(c.held, frame...)
	if hold && !has("no-analysis") {
		return nil
	}
	frame, c.held = c.held, nil
	return c.send(ctx, frame, has("reconnect"))
}

// send gives bytes to the client; with last the connection ends behind them.
func (c *messenger) send(ctx context.Context, b []byte, last bool) error {
	size := len(b)
	switch has := c.env.Settings.Has; {
	case has("dribble"):
		size = 61
	case has("split"):
		size = len(b)/3 + 1
	}
	pieces := slices.Collect(slices.Chunk(b, max(size, 1)))
	if c.env.Settings.Push != "" {
		_, err := c.out.send(ctx, pieces, last)
		return err
	}
	if c.env.Fast {
		if err := c.env.Line.client(ctx); err != nil {
			return err
		}
	}
	for _, piece := range pieces {
		if _, err := c.env.Line.send(ctx, piece); err != nil {
			return err
		}
	}
	if last {
		return c.env.Line.breakOff(0)
	}
	return nil
}

func (c *messenger) tick(ctx context.Context, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.work(ctx, at)
	if err == nil && c.env.Settings.Has("heartbeats") && at%keepaliveEvery == 0 {
		var frame []byte
		if frame, err = c.frames.Append(nil, []byte(messengerAlive[c.format])); err == nil {
			err = c.send(ctx, bytes.Clone(frame), false)
		}
	}
	if err != nil && ctx.Err() == nil {
		c.env.Log.Warn("a scanner can't send its messages", "error", err)
	}
}

// finish tells what is not due yet, at the end of a scenario.
func (c *messenger) finish(at time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		o.firstAt, o.lastAt = 0, 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), pushTimeout)
	defer cancel()
	return c.work(ctx, at)
}
