package simulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/axis"
	"github.com/lanepost/lanepost/protocol/multipart"
)

// axisBuffer is how many documents the camera keeps for a host that is away.
const axisBuffer = 1000

// axisSwitches are what the application can be set to, and does.
var axisSwitches = []string{
	"multipart",   // the document and the pictures as parts
	"no-pictures", //
	"lost-only",   // the last word of each read only
	"changes",     // the first word has another text and country
	"heartbeat",   // one each ten seconds, which is no JSON
	"pieces",      // over TCP, cut into small pieces
}

// axisCamera sends what it sees, over HTTP or TCP, and keeps what nobody took.
type axisCamera struct {
	env   cameraEnv
	style multipart.Style

	mu      sync.Mutex
	packet  int
	waiting []axisDocument
	sending bool
	conn    net.Conn
}

type axisDocument struct {
	e     axis.Event
	s     Sighting
	last  bool // the last word on its read
	tried bool
}

func newAxisCamera(env cameraEnv) (cameraModel, error) {
	if err := env.Settings.Only(axisSwitches, nil); err != nil {
		return nil, err
	}
	if env.Settings.Push == "" {
		return nil, fmt.Errorf("an axis-lpv sends by itself: set push to http://HOST:PORT/PATH or tcp://HOST:PORT")
	}
	return &axisCamera{env: env, style: multipart.Style{Boundary: "axisboundary"}}, nil
}

// ServeHTTP implements http.Handler.
func (c *axisCamera) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

func (c *axisCamera) observe(ctx context.Context, s Sighting) error {
	has := c.env.Settings.Has
	words := []string{axis.New, axis.Lost}
	if has("changes") {
		words = []string{axis.New, axis.Updated, axis.Lost}
	}
	if has("lost-only") {
		words = []string{axis.Lost}
	}
	for i, state := range words {
		e := axis.Event{
			State: state, CarID: strconv.FormatUint(s.Serial, 10), Plate: s.Plate, ASCII: s.Plate, Country: alpha3(s.Country),
			Confidence: strconv.FormatFloat(float64(s.Confidence)/100, 'f', 6, 64), Direction: "in", ROI: "1", Sensor: "lane",
			Coordinates: []int{60, 62, 40, 10}, Captured: strconv.FormatInt(s.When.Add(time.Duration(i)*time.Second).UnixMilli(), 10),
			Serial: "ACCC8E000000", Product: "AXIS P1465-LE-3", MAC: "AC:CC:8E:00:00:00",
		}
		if !s.Toward {
			e.Direction = "out"
		}
		if state == axis.New {
			e.Direction = "unknown"
			if has("changes") && !s.Unread {
				e.Plate, e.Country = misread(s.Plate, c.env.Rand), "XXX"
			}
		}
		if !has("no-pictures") {
			e.Images = [][]byte{s.Crop, s.Picture}
		}
		c.mu.Lock()
		c.packet++
		e.Packet = strconv.Itoa(c.packet)
		if len(c.waiting) >= axisBuffer {
			c.env.Told(c.waiting[0].s, "lost")
			c.waiting = c.waiting[1:]
		}
		c.waiting = append(c.waiting, axisDocument{e: e, s: s, last: state == axis.Lost})
		c.mu.Unlock()
	}
	return c.send(ctx)
}

func (c *axisCamera) tick(ctx context.Context, at time.Duration) {
	_ = c.send(ctx) // what fails is tried at the next tick
	if c.env.Settings.Has("heartbeat") && int(at/time.Second)%10 == 0 && strings.HasPrefix(c.env.Settings.Push, "http") {
		_ = c.post(ctx, "text/plain", []byte("{'heartbeat': 'alive'}")) // nobody misses it
	}
}

// send sends what waits, in order.
func (c *axisCamera) send(ctx context.Context) error {
	c.mu.Lock()
	if c.sending {
		c.mu.Unlock()
		return nil
	}
	c.sending = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.sending = false
		c.mu.Unlock()
	}()
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.mu.Unlock()
			return nil
		}
		d := c.waiting[0]
		c.waiting[0].tried = true
		c.mu.Unlock()
		if err := c.one(ctx, d.e); err != nil {
			if !c.env.Fast {
				return nil //nolint:nilerr // it is tried again
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.env.Done:
				return nil
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		c.mu.Lock()
		c.waiting = c.waiting[1:]
		c.mu.Unlock()
		if d.last {
			c.env.Told(d.s, map[bool]string{false: "sent", true: "resent"}[d.tried])
		}
	}
}

func (c *axisCamera) one(ctx context.Context, e axis.Event) error {
	if address, ok := strings.CutPrefix(c.env.Settings.Push, "tcp://"); ok {
		return c.write(ctx, address, axis.Append(nil, e, true))
	}
	if !c.env.Settings.Has("multipart") {
		return c.post(ctx, "application/json", axis.Append(nil, e, true))
	}
	body := c.style.Append(nil, map[string]string{"Content-Disposition": `form-data; name="event"`, "Content-Type": "application/json"}, axis.Append(nil, e, false))
	for _, img := range e.Images {
		body = c.style.Append(body, map[string]string{"Content-Disposition": `form-data; name="image"; filename="image.jpg"`, "Content-Type": "image/jpeg"}, img)
	}
	return c.post(ctx, "multipart/form-data; boundary="+c.style.Boundary, c.style.Close(body))
}

func (c *axisCamera) post(ctx context.Context, contentType string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.env.Settings.Push, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.env.HTTP.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096)) // nobody reads it at a camera
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the host answered with %d", resp.StatusCode)
	}
	return nil
}

// write sends over the one connection that the camera keeps.
func (c *axisCamera) write(ctx context.Context, address string, b []byte) error {
	if c.conn == nil {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		c.conn = conn
		context.AfterFunc(ctx, func() { _ = conn.Close() }) // the camera is gone then
	}
	for len(b) > 0 {
		n := len(b)
		if c.env.Settings.Has("pieces") {
			n = min(n, 1+c.env.Rand.IntN(700))
		}
		if _, err := c.conn.Write(b[:n]); err != nil {
			_ = c.conn.Close() // it is broken
			c.conn = nil
			return err
		}
		b = b[n:]
	}
	return nil
}
