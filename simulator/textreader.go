package simulator

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/textframe"
)

// textReaderDefaults are the options of a reader with a template, and what they are
// if they are not given.
var textReaderDefaults = map[string]string{
	"template": "{plate}", "start": "", "end": `\r\n`, "encoding": "", "checksum": "", "place": "", "digits": "", "time": "20060102150405",
	"camera": "01", "unread": "", "content_type": "text/plain", "country": "alpha-3",
}

// textReader is a plate reader whose output is a template: on a line or a
// connection of the client's, or with CameraSettings.Push on one of its own
// (tcp://HOST:PORT), or by HTTP (http://HOST/PATH).
//
// Switches: "dribble" sends one byte at a time, "noise" sends bytes that belong to
// nothing before each frame, "pairs" sends two frames in one piece, "damage" sends
// each frame with a wrong byte first, "reconnect" makes a connection for each
// message, "get" puts a form into the query.
type textReader struct {
	http.Handler
	env      cameraEnv
	frames   *textframe.Frames
	options  map[string]string
	mu       sync.Mutex
	held     []Sighting
	heldText []byte
	out      outward
}

var textReaderSwitches = []string{"dribble", "noise", "pairs", "damage", "reconnect", "get"}

func newTextReader(env cameraEnv) (cameraModel, error) {
	t := &textReader{env: env, out: outward{env: env}, Handler: http.NotFoundHandler(), options: map[string]string{}}
	maps.Copy(t.options, textReaderDefaults)
	for name, value := range env.Settings.Options {
		t.options[name] = value
	}
	var err error
	t.frames, err = textframe.Framing{
		Start: t.options["start"], End: t.options["end"], Encoding: t.options["encoding"],
		Checksum: textframe.Checksum{
			Kind: t.options["checksum"], Place: t.options["place"], Digits: t.options["digits"], WithEnd: t.options["place"] == "after_end",
		},
	}.Compile()
	return t, err
}

func (t *textReader) observe(ctx context.Context, s Sighting) error {
	frame, err := t.frame(s)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.env.Settings.Has("pairs") && len(t.held) == 0 {
		t.held, t.heldText = []Sighting{s}, frame
		return nil
	}
	return t.flush(ctx, append(t.held, s), append(t.heldText, frame...))
}

// tick sends what waited for a second frame.
func (t *textReader) tick(ctx context.Context, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held) == 0 || at < t.held[0].At+5*time.Second {
		return
	}
	if err := t.flush(ctx, t.held, t.heldText); err != nil && ctx.Err() == nil {
		t.env.Log.Warn("a text was not sent", "error", err)
	}
}

func (t *textReader) flush(ctx context.Context, list []Sighting, text []byte) error {
	t.held, t.heldText = nil, nil
	sent, err := t.send(ctx, text)
	for _, s := range list {
		t.env.Told(s, map[bool]string{true: "sent", false: "lost"}[sent])
	}
	return err
}

// frame is what is sent of a sighting.
func (t *textReader) frame(s Sighting) ([]byte, error) {
	direction := "2"
	if s.Toward {
		direction = "1"
	}
	country := s.Country
	if t.options["country"] == "alpha-3" {
		country = alpha3(country)
	}
	text := textframe.Template(t.options["template"]).Write(map[string]string{
		textframe.Plate: cmp.Or(s.Plate, t.options["unread"]), textframe.Country: country, textframe.Confidence: strconv.Itoa(s.Confidence),
		textframe.Direction: direction, textframe.Time: t.time(s.When), textframe.Camera: t.options["camera"],
		textframe.ID: strconv.FormatUint(s.Serial, 10), textframe.Speed: fmt.Sprint(s.SpeedKPH), textframe.VehicleType: s.Kind,
		textframe.Picture: string(s.Picture), textframe.PlatePicture: string(s.Crop),
	})
	if strings.HasPrefix(t.env.Settings.Push, "http") {
		return []byte(text), nil
	}
	frame, err := t.frames.Encode(text)
	if err != nil {
		return nil, err
	}
	var all []byte
	if t.env.Settings.Has("noise") {
		all = append(all, "\x01\x7f\xff\x01"...)
		if t.options["start"] == "" {
			all = append(all, "\r\n"...)
		}
	}
	if t.env.Settings.Has("damage") {
		wrong := bytes.Clone(frame)
		wrong[len(wrong)/2] = 0x01
		all = append(all, wrong...)
	}
	return append(all, frame...), nil
}

func (t *textReader) time(at time.Time) string {
	if t.options["time"] == "unix_ms" {
		return strconv.FormatInt(at.UnixMilli(), 10)
	}
	return at.Format(t.options["time"])
}

// send gives bytes to the client, and reports whether it took them.
func (t *textReader) send(ctx context.Context, b []byte) (bool, error) {
	push := t.env.Settings.Push
	switch {
	case strings.HasPrefix(push, "http"):
		return t.post(ctx, b)
	case push != "":
		return t.out.send(ctx, t.pieces(b), t.env.Settings.Has("reconnect"))
	}
	if t.env.Fast {
		if err := t.env.Line.client(ctx); err != nil {
			return false, err
		}
	}
	for _, piece := range t.pieces(b) {
		if ok, err := t.env.Line.send(ctx, piece); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (t *textReader) pieces(b []byte) [][]byte {
	if !t.env.Settings.Has("dribble") {
		return [][]byte{b}
	}
	var list [][]byte
	for i := range b {
		list = append(list, b[i:i+1])
	}
	return list
}

// post sends by HTTP until it is taken; without a clock for ever, otherwise once.
func (t *textReader) post(ctx context.Context, b []byte) (bool, error) {
	for {
		method, target, body := http.MethodPost, t.env.Settings.Push, b
		if t.env.Settings.Has("get") {
			method, target, body = http.MethodGet, target+"?"+query(string(b)), nil
		}
		req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
		if err != nil {
			return false, fmt.Errorf("push: %w", err)
		}
		req.Header.Set("Content-Type", t.options["content_type"])
		resp, err := t.env.HTTP.Do(req)
		if err == nil {
			_ = resp.Body.Close() // the status is what counts
			if resp.StatusCode/100 == 2 {
				return true, nil
			}
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if !t.env.Fast {
			t.env.Log.Info("a text was not taken", "error", err)
			return false, nil
		}
		if err := pause(ctx, retryPause); err != nil {
			return false, err
		}
	}
}

// query writes a form as the query of a request.
func query(form string) string {
	values, err := url.ParseQuery(form)
	if err != nil {
		return ""
	}
	return values.Encode()
}
