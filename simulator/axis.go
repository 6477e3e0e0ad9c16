package simulator

import (
	"context"
	"fmt"
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

	out  outbox
	conn net.Conn // of the sender

	mu     sync.Mutex
	packet int
}

func newAxisCamera(env cameraEnv) (cameraModel, error) {
	if env.Settings.Push == "" {
		return nil, fmt.Errorf("an axis-lpv sends by itself: set push to http://HOST:PORT/PATH or tcp://HOST:PORT")
	}
	return &axisCamera{env: env, style: multipart.Style{Boundary: "axisboundary"}, out: outbox{env: env, most: axisBuffer}}, nil
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
		c.mu.Unlock()
		c.out.put(letter{s: s, last: state == axis.Lost, send: func(ctx context.Context) error { return c.one(ctx, e) }})
	}
	return c.out.send(ctx)
}

func (c *axisCamera) tick(ctx context.Context, at time.Duration) {
	_ = c.out.send(ctx) // what fails is tried at the next tick
	if c.env.Settings.Has("heartbeat") && int(at/time.Second)%10 == 0 && strings.HasPrefix(c.env.Settings.Push, "http") {
		_, _ = c.env.post(ctx, "", "text/plain", []byte("{'heartbeat': 'alive'}")) // nobody misses it
	}
}

func (c *axisCamera) one(ctx context.Context, e axis.Event) error {
	if address, ok := strings.CutPrefix(c.env.Settings.Push, "tcp://"); ok {
		return c.write(ctx, address, axis.Append(nil, e, true))
	}
	if !c.env.Settings.Has("multipart") {
		_, err := c.env.post(ctx, "", "application/json", axis.Append(nil, e, true))
		return err
	}
	body := c.style.Append(nil, map[string]string{"Content-Disposition": `form-data; name="event"`, "Content-Type": "application/json"}, axis.Append(nil, e, false))
	for _, img := range e.Images {
		body = c.style.Append(body, map[string]string{"Content-Disposition": `form-data; name="image"; filename="image.jpg"`, "Content-Type": "image/jpeg"}, img)
	}
	_, err := c.env.post(ctx, "", "multipart/form-data; boundary="+c.style.Boundary, c.style.Close(body))
	return err
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
