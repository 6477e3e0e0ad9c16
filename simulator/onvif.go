package simulator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/onvif"
)

// Bounds of a simulated ONVIF camera.
const (
	// onvifQueue is how many events a subscription keeps; the oldest go first.
	onvifQueue = 100
	// onvifNonces is how many used nonces are remembered.
	onvifNonces = 1000
	// onvifSkew is how far a login's time may be from the camera's. With no clock
	// the time jumps from vehicle to vehicle, and more is allowed.
	onvifSkew     = 5 * time.Minute
	onvifSkewFast = 50 * time.Minute
	// maxONVIFRequest bounds a request in bytes.
	maxONVIFRequest = 64 << 10
	// maxONVIFWait bounds how long an answer may be waited for.
	maxONVIFWait = 30 * time.Second
)

// onvifCamera is a camera that tells plates at a pull point.
//
// Switches: "hikvision" tells them by Hikvision's topic and items, "no-clock"
// refuses to tell its time, "foreign-address" names another host in the address of
// the subscription, "forgetful" forgets the subscription after each third answer,
// "reference" wants to hear the parameters of the subscription's reference, as Axis
// cameras do, "property" tells the last plate again to each who subscribes, "motion" tells of
// motion beside, "no-pictures".
type onvifCamera struct {
	env cameraEnv

	mu      sync.Mutex
	number  int // of the subscription
	there   bool
	ends    time.Time
	answers int
	queue   []*onvifEvent
	last    *onvif.Notification
	more    chan struct{} // closed and made anew when something changed
	nonces  map[string]bool
}

// onvifEvent is one that waits to be pulled.
type onvifEvent struct {
	n        onvif.Notification
	sighting *Sighting     // nil for one that is no plate
	taken    chan struct{} // closed when it is written or dropped
}

var onvifSwitches = []string{"hikvision", "no-clock", "foreign-address", "forgetful", "property", "motion", "no-pictures", "reference"}

func newONVIFCamera(env cameraEnv) (cameraModel, error) {
	return &onvifCamera{env: env, more: make(chan struct{}), nonces: map[string]bool{}}, nil
}

func (c *onvifCamera) changed() {
	close(c.more)
	c.more = make(chan struct{})
}

func (c *onvifCamera) tick(context.Context, time.Duration) {}

func (c *onvifCamera) observe(ctx context.Context, s Sighting) error {
	e := &onvifEvent{n: onvifNotification(c.env.Settings, s), sighting: &s, taken: make(chan struct{})}
	c.mu.Lock()
	for c.env.Fast && !c.there {
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
	}
	n := e.n
	c.last = &n
	if !c.there || !c.env.Fast && c.env.Now().After(c.ends) {
		c.there = false
		c.mu.Unlock()
		c.env.Told(s, "lost") // nobody has subscribed
		return nil
	}
	if c.env.Settings.Has("motion") {
		c.queue = append(c.queue, &onvifEvent{n: onvif.Notification{
			Topic: "tns1:VideoSource/MotionAlarm", UTCTime: e.n.UTCTime, Operation: "Changed", Data: []onvif.Item{{Name: "State", Value: "true"}},
		}, taken: make(chan struct{})})
	}
	c.queue = append(c.queue, e)
	for len(c.queue) > onvifQueue {
		c.drop(c.queue[0])
		c.queue = c.queue[1:]
	}
	c.changed()
	c.mu.Unlock()
	if !c.env.Fast {
		return nil
	}
	select {
	case <-e.taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *onvifCamera) drop(e *onvifEvent) {
	if e.sighting != nil {
		c.env.Told(*e.sighting, "lost")
	}
	close(e.taken)
}

// onvifNotification is what a camera tells of a sighting.
func onvifNotification(set CameraSettings, s Sighting) onvif.Notification {
	n := onvif.Notification{
		Topic: "tns1:" + onvif.TopicLicensePlate, UTCTime: s.When.UTC().Format("2006-01-02T15:04:05.000Z"),
		Source: []onvif.Item{{Name: "VideoSource", Value: "vs1"}, {Name: "Rule", Value: "plates"}},
	}
	if !set.Has("no-pictures") {
		n.Image = s.Picture
	}
	if set.Has("hikvision") {
		n.Topic = "tns1:RuleEngine/VehicleDetector/tnshik:Vehicle"
		plate := s.Plate
		if s.Unread {
			plate = "unknown"
		}
		n.Data = []onvif.Item{
			{Name: "PlateNumber", Value: plate}, {Name: "Likelihood", Value: strconv.Itoa(10 * s.Confidence)}, {Name: "Country", Value: alpha3(s.Country)},
		}
		return n
	}
	likelihood := strconv.FormatFloat(float64(s.Confidence)/100, 'f', 2, 64)
	n.Plate = &onvif.PlateInfo{Number: onvif.Value{Text: s.Plate, Likelihood: likelihood}, Country: onvif.Value{Text: s.Country}}
	n.Vehicle = &onvif.VehicleInfo{Type: onvif.Value{Text: s.Kind, Likelihood: "0.9"}}
	n.Data = []onvif.Item{{Name: "Likelihood", Value: likelihood}, {Name: "Speed", Value: fmt.Sprint(s.SpeedKPH)}}
	return n
}

// ServeHTTP implements http.Handler.
func (c *onvifCamera) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxONVIFRequest))
	if err != nil {
		return // the client is gone
	}
	q, err := onvif.DecodeRequest(body)
	if err != nil {
		c.fault(w, &onvif.Fault{Code: "Sender", Subcodes: []string{"WellFormed"}, Reason: err.Error()})
		return
	}
	path := map[onvif.Operation]string{
		onvif.GetSystemDateAndTime: "/onvif/device_service", onvif.CreatePullPointSubscription: "/onvif/event_service",
	}[q.Operation]
	if path == "" {
		path = "/onvif/sub"
	}
	if r.URL.Path != path {
		http.NotFound(w, r)
		return
	}
	if q.Operation == onvif.GetSystemDateAndTime {
		if c.env.Settings.Has("no-clock") {
			c.fault(w, &onvif.Fault{Code: "Receiver", Subcodes: []string{"ActionNotSupported"}, Reason: "not here"})
			return
		}
		c.answer(w, onvif.Response{Operation: q.Operation, System: c.env.Now()})
		return
	}
	if !c.allowed(q.Login) {
		c.fault(w, &onvif.Fault{Code: "Sender", Subcodes: []string{"NotAuthorized"}, Reason: "Sender not authorized"})
		return
	}
	if q.Operation == onvif.CreatePullPointSubscription {
		c.subscribe(w, r, q)
		return
	}
	c.mu.Lock()
	known := c.there && r.URL.Query().Get("id") == strconv.Itoa(c.number) && (c.env.Fast || c.env.Now().Before(c.ends))
	if c.env.Settings.Has("reference") && (len(q.Reference) != 1 || q.Reference[0] != onvifReference(c.number)) {
		known = false
	}
	if known && q.Operation == onvif.Renew {
		c.ends = c.env.Now().Add(q.Termination)
	}
	if known && q.Operation == onvif.Unsubscribe {
		c.there = false
		c.changed()
	}
	ends := c.ends
	c.mu.Unlock()
	switch {
	case !known:
		c.fault(w, &onvif.Fault{Code: "Receiver", Subcodes: []string{"ResourceUnknownFault"}, Reason: "there is no such subscription"})
	case q.Operation == onvif.PullMessages:
		c.pull(w, r, q)
	default:
		c.answer(w, onvif.Response{Operation: q.Operation, Current: c.env.Now(), Termination: ends})
	}
}

// allowed reports whether a login is good: the right digest, by the camera's clock,
// with a nonce that was not used before.
func (c *onvifCamera) allowed(l *onvif.Login) bool {
	set := c.env.Settings
	if set.Username == "" {
		return true
	}
	if l == nil || l.Username != set.Username || !l.Matches(set.Password) {
		return false
	}
	created, _, ok := onvif.ParseTime(l.Created)
	skew := onvifSkew
	if c.env.Fast {
		skew = onvifSkewFast
	}
	if !ok || c.env.Now().Sub(created).Abs() > skew {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nonces[string(l.Nonce)] {
		return false
	}
	if len(c.nonces) >= onvifNonces {
		clear(c.nonces)
	}
	c.nonces[string(l.Nonce)] = true
	return true
}

func (c *onvifCamera) subscribe(w http.ResponseWriter, r *http.Request, q onvif.Request) {
	c.mu.Lock()
	c.number++
	c.there, c.answers = true, 0
	c.ends = c.env.Now().Add(q.Termination)
	if c.env.Settings.Has("property") && c.last != nil {
		again := *c.last
		again.Operation = "Initialized"
		c.queue = append([]*onvifEvent{{n: again, taken: make(chan struct{})}}, c.queue...)
	}
	host := r.Host
	if c.env.Settings.Has("foreign-address") {
		host = "192.0.2.1"
	}
	a := onvif.Response{
		Operation: q.Operation, Subscription: fmt.Sprintf("http://%s/onvif/sub?id=%d", host, c.number), Current: c.env.Now(), Termination: c.ends,
	}
	if c.env.Settings.Has("reference") {
		a.Reference = []onvif.Reference{onvifReference(c.number)}
	}
	c.changed()
	c.mu.Unlock()
	c.answer(w, a)
}

// onvifReference is what Axis cameras add to the address of a subscription.
func onvifReference(number int) onvif.Reference {
	return onvif.Reference{Space: "http://www.axis.com/2009/event", Name: "SubscriptionId", Text: strconv.Itoa(number)}
}

func (c *onvifCamera) pull(w http.ResponseWriter, r *http.Request, q onvif.Request) {
	timer := time.NewTimer(min(max(q.Timeout, 0), maxONVIFWait))
	defer timer.Stop()
	c.mu.Lock()
	for late := false; len(c.queue) == 0 && c.there && !late; {
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-timer.C:
			late = true
		case <-r.Context().Done():
			return
		}
		c.mu.Lock()
	}
	n := min(len(c.queue), max(q.Limit, 1))
	taken := c.queue[:n:n]
	c.queue = c.queue[n:]
	a := onvif.Response{Operation: q.Operation, Current: c.env.Now(), Termination: c.ends}
	if c.answers++; c.env.Settings.Has("forgetful") && c.answers == 3 {
		c.there = false
	}
	c.mu.Unlock()
	for _, e := range taken {
		a.Notifications = append(a.Notifications, e.n)
	}
	sent := c.answer(w, a)
	for _, e := range taken {
		if e.sighting != nil {
			c.env.Told(*e.sighting, map[bool]string{true: "sent", false: "lost"}[sent])
		}
		close(e.taken)
	}
}

func (c *onvifCamera) answer(w http.ResponseWriter, a onvif.Response) bool {
	b, err := a.Encode()
	if err != nil {
		c.env.Log.Error("an answer", "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		return false
	}
	w.Header().Set("Content-Type", onvif.ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	if _, err = w.Write(b); err != nil {
		return false
	}
	// What only waits in a buffer has not been sent: the camera may be stopped once
	// this returns.
	return http.NewResponseController(w).Flush() == nil
}

func (c *onvifCamera) fault(w http.ResponseWriter, f *onvif.Fault) {
	w.Header().Set("Content-Type", onvif.ContentType)
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(f.Encode()) // the client may be gone
}
