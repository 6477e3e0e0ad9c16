package simulator

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/document"
	"github.com/lanepost/lanepost/protocol/multipart"
	"github.com/lanepost/lanepost/protocol/vzen"
)

// Habits of a Vzen camera.
const (
	// vzenOffline is how many reads it keeps for a host that is away, vzenResends how
	// often it sends a read again before it keeps it.
	vzenOffline, vzenResends = 9000, 4
	// vzenCometBeats bounds the heartbeats of one tick with the switch "comet".
	vzenCometBeats = 50
)

// vzenSwitches are what the camera can be set to, and does.
var vzenSwitches = []string{
	"heartbeat",    // one each five seconds, with the camera's login in it
	"comet",        // the next heartbeat follows each answer at once
	"offline",      // every third read is kept first, as if the host had been away
	"duplicate",    // the first of the kept ones is sent twice
	"both-kinds",   // each vehicle is told twice, by the camera and by an input
	"millis",       // the fraction of a second is in milliseconds
	"wrong-clock",  // the seconds are those of local time
	"serial-first", // over MQTT: the serial number stands at the front of the topic
	"no-pictures",
}

// vzenCamera posts AlarmInfoPlate. It opens the barrier that it moves if the host says
// so; the truth tells.
type vzenCamera struct {
	sender
	env cameraEnv
	out outbox
	to  *publisher // nil for a camera that posts

	mu      sync.Mutex
	next    int
	kept    []vzenKept
	twice   bool // the first kept one was sent twice
	beating bool // heartbeats are on their way
}

type vzenKept struct {
	m vzen.Message
	s Sighting
}

func newVzenCamera(env cameraEnv) (cameraModel, error) {
	if err := env.Settings.needsPush("vzen"); err != nil {
		return nil, err
	}
	c := &vzenCamera{env: env, out: outbox{env: env, most: vzenOffline}}
	if strings.HasPrefix(env.Settings.Push, "mqtt:") {
		var err error
		if c.to, err = newPublisher(env); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *vzenCamera) message(s Sighting, trigger string) vzen.Message {
	c.mu.Lock()
	c.next++
	id := c.next
	c.mu.Unlock()
	m := vzen.Message{
		Kind: vzen.Plate, DeviceName: "lane", Address: "127.0.0.1", SerialNo: vzenSerial, PlateID: strconv.Itoa(id),
		Confidence: strconv.Itoa(s.Confidence), ColorType: "1", Type: "26", Direction: "4", Trigger: trigger,
		Seconds: strconv.FormatInt(s.When.Unix(), 10), Sub: strconv.Itoa(s.When.Nanosecond() / 1000), Image: s.Picture, Crop: s.Crop,
	}
	// The figures are those of the wall.
	w := s.When
	m.Calendar = time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), 0, time.UTC)
	has := c.env.Settings.Has
	if has("millis") {
		m.Sub = strconv.Itoa(w.Nanosecond() / 1_000_000)
	}
	if has("wrong-clock") {
		m.Seconds = strconv.FormatInt(m.Calendar.Unix(), 10)
	}
	if has("no-pictures") {
		m.Image, m.Crop = nil, nil
	}
	if s.Unread {
		m.Type = "31"
	} else {
		m.Plates = []string{s.Plate}
	}
	if !s.Toward {
		m.Direction = "3"
	}
	return m
}

func (c *vzenCamera) observe(ctx context.Context, s Sighting) error {
	triggers := []string{"1"}
	if c.env.Settings.Has("both-kinds") {
		triggers = []string{"2", "1"}
	}
	for i, trigger := range triggers {
		m := c.message(s, trigger)
		last := i == len(triggers)-1
		if c.env.Settings.Has("offline") && last && s.Serial%3 == 1 {
			c.keep(m, s)
			continue
		}
		tries := 0
		c.out.put(letter{s: s, last: false, send: func(ctx context.Context) error {
			_, err := c.tell(ctx, m, s)
			if tries++; err != nil && tries > vzenResends && !c.env.Fast {
				c.keep(m, s)
				return nil
			}
			if err == nil && last {
				c.env.Told(s, "sent")
			}
			return err
		}})
	}
	return c.out.send(ctx)
}

func (c *vzenCamera) keep(m vzen.Message, s Sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) >= vzenOffline {
		c.env.Told(c.kept[0].s, "lost")
		c.kept = c.kept[1:]
	}
	m.Offline = true
	c.kept = append(c.kept, vzenKept{m, s})
}

// tell posts a message and does what the host answers. more is true if it asks for the
// next kept one.
func (c *vzenCamera) tell(ctx context.Context, m vzen.Message, s Sighting) (more bool, err error) {
	if c.to != nil { // nobody answers there
		return true, c.to.publish(ctx, c.topic("ivs_result"), vzen.Append(nil, m, true), false)
	}
	said, err := c.env.post(ctx, "", "application/json", vzen.Append(nil, m, false))
	if err != nil {
		return false, err
	}
	root, err := document.ParseOne(said, maxHostAnswer)
	if err != nil {
		return false, fmt.Errorf("the host's answer: %w", err)
	}
	a := root.Child("Response_AlarmInfoPlate")
	if a == nil {
		return false, fmt.Errorf("the host's answer is none to a plate")
	}
	if strings.EqualFold(a.Get("info"), "ok") || a.Child("serialData", "ivs_ioctrl", "manualTrigger", "gpio_data") != nil {
		c.env.Told(s, "barrier")
	}
	next := a.Child("ContinuePushOffline")
	return next.Get("continue") == "1" && next.Get("plateid") == m.PlateID, nil
}

func (c *vzenCamera) topic(of string) string {
	if c.env.Settings.Has("serial-first") {
		return vzenSerial + "/device/message/up/" + of
	}
	return "device/" + vzenSerial + "/message/up/" + of
}

func (c *vzenCamera) tick(ctx context.Context, at time.Duration) {
	_ = c.out.send(ctx) // what fails is tried at the next tick
	c.drain(ctx)
	beats := 0
	switch second := int(at / time.Second); {
	case c.env.Settings.Has("comet"):
		beats = vzenCometBeats
	case c.env.Settings.Has("heartbeat") && second%5 == 0:
		beats = 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if beats > 0 && !c.beating {
		c.beating = true
		go c.beats(ctx, beats) // a host may take its time to answer
	}
}

// beats sends heartbeats, each as soon as the one before is answered.
func (c *vzenCamera) beats(ctx context.Context, n int) {
	defer func() {
		c.mu.Lock()
		c.beating = false
		c.mu.Unlock()
	}()
	for range n {
		if ctx.Err() != nil || c.beat(ctx) != nil {
			return
		}
	}
}

// beat posts a heartbeat, with the login in clear as the cameras do.
func (c *vzenCamera) beat(ctx context.Context) error {
	if c.to != nil {
		return c.to.publish(ctx, c.topic("keep_alive"), []byte(`{"name":"keep_alive","user_name":"admin","pass_wd":"`+vzenPassword+`"}`), false)
	}
	style := multipart.Style{Boundary: "----vzen"}
	var body []byte
	for _, f := range [][2]string{
		{"device_name", "lane"}, {"ipaddr", "127.0.0.1"}, {"port", "80"}, {"user_name", "admin"}, {"pass_wd", vzenPassword},
		{"serialno", vzenSerial}, {"channel_num", "0"},
	} {
		body = style.Append(body, map[string]string{"Content-Disposition": `form-data; name="` + f[0] + `"`}, []byte(f[1]))
	}
	_, err := c.env.post(ctx, "", "multipart/form-data; boundary="+style.Boundary, style.Close(body))
	return err
}

// vzenSerial is the serial number of the simulated cameras.
const vzenSerial = "b2c3d4e5-00112233"

// vzenPassword is what the simulated cameras give away in their heartbeats.
const vzenPassword = "s3cret-of-the-camera"

// drain sends one kept read, and the next as long as the host asks for it.
func (c *vzenCamera) drain(ctx context.Context) {
	for {
		c.mu.Lock()
		if len(c.kept) == 0 {
			c.mu.Unlock()
			return
		}
		k := c.kept[0]
		again := !c.twice && c.env.Settings.Has("duplicate")
		c.mu.Unlock()
		more, err := c.tell(ctx, k.m, k.s)
		if err == nil && again {
			c.mu.Lock()
			c.twice = true
			c.mu.Unlock()
			continue
		}
		if err != nil {
			return // it stays
		}
		c.mu.Lock()
		c.kept = c.kept[1:]
		c.mu.Unlock()
		c.env.Told(k.s, "resent")
		if !more {
			return
		}
	}
}
