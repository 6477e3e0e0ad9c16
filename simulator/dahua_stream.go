package simulator

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/multipart"
)

// dahuaStreamSwitches are what the camera can be set to, and does.
var dahuaStreamSwitches = []string{
	"other-keys",  // ReturnEvents, and no EventBaseInfo
	"real-utc",    // tells the real UTC beside the wall's
	"group",       // three events with a picture each for one vehicle
	"non-motor",   // a bicycle behind each fifth vehicle
	"motion",      // events that are no vehicle, with a picture
	"stale-nonce", // a new nonce after some requests
	"no-pictures",
}

// dahuaStreamCamera serves its events to one client, and keeps nothing for it.
type dahuaStreamCamera struct {
	env   cameraEnv
	login *digestLogin
	style multipart.Style

	mu      sync.Mutex
	client  *dahuaClient
	arrived chan struct{} // closed and made anew when a client comes
	event   int
}

type dahuaClient struct {
	plain bool // it asked for events without pictures
	parts chan dahuaPart
	gone  chan struct{}
}

type dahuaPart struct {
	bytes []byte
	done  chan struct{} // closed when it is sent
}

func newDahuaStreamCamera(env cameraEnv) (cameraModel, error) {
	return &dahuaStreamCamera{env: env, login: newDigestLogin(env.Settings), style: multipart.Style{Boundary: "myboundary"}, arrived: make(chan struct{})}, nil
}

// ServeHTTP implements http.Handler.
func (c *dahuaStreamCamera) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !c.login.admit(w, r) {
		return
	}
	query := r.URL.Query()
	snap := r.URL.Path == "/cgi-bin/snapManager.cgi" && query.Get("action") == "attachFileProc" && strings.Contains(r.URL.RawQuery, "Events=[")
	plain := r.URL.Path == "/cgi-bin/eventManager.cgi" && query.Get("action") == "attach" && strings.Contains(r.URL.RawQuery, "codes=[")
	if !snap && !plain {
		http.Error(w, "Error\nBad Request!", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary="+c.style.Boundary)
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	client := &dahuaClient{plain: plain, parts: make(chan dahuaPart), gone: make(chan struct{})}
	defer close(client.gone)
	c.mu.Lock()
	c.client = client
	close(c.arrived)
	c.arrived = make(chan struct{})
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.client == client {
			c.client = nil
		}
	}()
	for {
		select {
		case p := <-client.parts:
			if _, err := w.Write(p.bytes); err != nil || flush() != nil {
				return
			}
			close(p.done)
		case <-c.env.Done:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// send sends to the client that is there, and reports whether it was sent. Without a
// clock it waits for one.
func (c *dahuaStreamCamera) send(ctx context.Context, content func(plain bool) []byte) bool {
	for {
		c.mu.Lock()
		client, arrived := c.client, c.arrived
		c.mu.Unlock()
		if client == nil && !c.env.Fast {
			return false
		}
		if client == nil {
			select {
			case <-arrived:
			case <-ctx.Done():
				return false
			case <-c.env.Done:
				return false
			}
			continue
		}
		p := dahuaPart{content(client.plain), make(chan struct{})}
		select {
		case client.parts <- p:
			select {
			case <-p.done:
				return true
			case <-client.gone:
			}
		case <-client.gone:
		case <-ctx.Done():
			return false
		}
		if !c.env.Fast {
			return false
		}
	}
}

func (c *dahuaStreamCamera) text(body string) []byte {
	return c.style.Append(nil, map[string]string{"Content-Type": "text/plain"}, []byte(body))
}

func (c *dahuaStreamCamera) picture(b, img []byte) []byte {
	return append(b, c.style.Append(nil, map[string]string{"Content-Type": "image/jpeg"}, img)...)
}

func (c *dahuaStreamCamera) observe(ctx context.Context, s Sighting) error {
	has := c.env.Settings.Has
	count := 1
	if has("group") {
		count = 3
	}
	sent := true
	for i := range count {
		c.event++
		id := c.event
		sent = c.send(ctx, func(plain bool) []byte {
			b := c.text(c.passage(s, id, i, count, plain))
			switch {
			case plain || has("no-pictures"):
			case has("group"):
				b = c.picture(b, append(s.Picture[:len(s.Picture):len(s.Picture)], byte(i)))
			default:
				b = c.picture(c.picture(b, s.Picture), s.Crop)
			}
			return b
		}) && sent
	}
	if has("non-motor") && s.Serial%5 == 0 {
		c.event++
		bicycle := s
		bicycle.Plate, bicycle.Unread, bicycle.Kind = "", true, "bicycle"
		id := c.event
		c.send(ctx, func(plain bool) []byte { return c.text(c.passage(bicycle, id, 0, 1, plain)) })
	}
	if has("motion") {
		c.send(ctx, func(plain bool) []byte {
			if plain {
				return c.text("Code=VideoMotion;action=Start;index=0")
			}
			return c.picture(c.text("Events[0].EventBaseInfo.Code=VideoMotion\r\nEvents[0].EventBaseInfo.Action=Start\r\n"), append(s.Picture[:len(s.Picture):len(s.Picture)], 77))
		})
	}
	c.env.Told(s, map[bool]string{true: "sent", false: "lost"}[sent])
	return ctx.Err()
}

// passage is the text of an event, as lines or as JSON.
func (c *dahuaStreamCamera) passage(s Sighting, id, index, count int, plain bool) string {
	w := s.When
	wall := time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), 0, time.UTC).Unix()
	text, driving, category := s.Plate, "Approach", "Motor"
	if s.Unread {
		text = "Unknown"
	}
	if !s.Toward {
		driving = "Leave"
	}
	if s.Kind == "bicycle" {
		text, category = "", "NonMotor"
	}
	confidence, millis := s.Confidence*255/100, w.Nanosecond()/1e6
	if plain {
		return fmt.Sprintf(`Code=TrafficJunction;action=Pulse;index=0;data={"TrafficCar":{"PlateNumber":%s,"PlateColor":"White","Lane":1,"DrivingDirection":[%q,"a","b"]},
"Object":{"Confidence":%d,"ObjectType":"Plate"},"CommInfo":{"Country":%q,"SnapCategory":%q},"JunctionDirection":"Obverse","GroupID":%d,"CountInGroup":%d,"IndexInGroup":%d,"EventID":%d,"UTC":%d,"UTCMS":%d%s}`,
			strconv.Quote(text), driving, confidence, alpha3(s.Country), category, s.Serial, count, index+1, id, wall, millis,
			map[bool]string{true: fmt.Sprintf(`,"RealUTC":%d`, w.Unix())}[c.env.Settings.Has("real-utc")])
	}
	prefix, base := "Events[0].", "EventBaseInfo."
	if c.env.Settings.Has("other-keys") {
		prefix, base = "ReturnEvents[0].", ""
	}
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s%s=%v\r\n", prefix, key, value) }
	line(base+"Code", "TrafficJunction")
	line(base+"Action", "Pulse")
	line(base+"Index", 0)
	line("TrafficCar.PlateNumber", text)
	line("TrafficCar.PlateColor", "White")
	line("TrafficCar.Lane", 1)
	line("TrafficCar.DrivingDirection[0]", driving)
	line("TrafficCar.MachineName", "lane=1")
	line("Object.Confidence", confidence)
	line("CommInfo.Country", alpha3(s.Country))
	line("CommInfo.SnapCategory", category)
	line("JunctionDirection", "Obverse")
	line("GroupID", s.Serial)
	line("CountInGroup", count)
	line("IndexInGroup", index+1)
	line("EventID", id)
	line("UTC", wall)
	line("UTCMS", millis)
	if c.env.Settings.Has("real-utc") {
		line("RealUTC", w.Unix())
	}
	return b.String()
}

func (c *dahuaStreamCamera) tick(ctx context.Context, at time.Duration) {
	if int(at/time.Second)%5 != 0 {
		return
	}
	c.mu.Lock()
	there := c.client != nil
	c.mu.Unlock()
	if there {
		c.send(ctx, func(bool) []byte { return c.text("Heartbeat") })
	}
}
