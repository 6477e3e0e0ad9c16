package simulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/hikvision"
	"github.com/lanepost/lanepost/protocol/multipart"
)

// Bounds and times of a Hikvision camera.
const (
	// hikvisionBeat is the time between heartbeats.
	hikvisionBeat = 10 * time.Second
	// hikvisionStore is how many events it keeps while nobody is there.
	hikvisionStore = 1000
	// hikvisionQueue is how many parts a slow client may be behind.
	hikvisionQueue = 256
	// hikvisionLateBy is how late pictures come with "late-pictures".
	hikvisionLateBy = 3 * time.Second
)

// hikvisionSwitches are what firmware is known to do.
var hikvisionSwitches = []string{
	"lf-only",          // line ends of one character
	"no-length",        // parts without a Content-Length
	"wrong-length",     // one that counts the line end
	"folded",           // headers over two lines
	"json",             // JSON alerts
	"recorder",         // as a recorder forwards: dynChannelID, real losses of video
	"motion",           // alerts of motion between the plates
	"heartbeat-isapi",  // "heartBeat" in place of an inactive videoloss
	"heartbeat-psia",   // bare documents without multipart, as the oldest firmware
	"quiet-heartbeats", // none while events flow
	"empty-pictures",   // pictures of no bytes
	"no-pictures",      //
	"late-pictures",    // pictures three seconds after the plate
	"fewer-pictures",   // one picture less than announced
	"retransmission",   // what nobody took is sent later, and marked
	"outages",          // the camera drops everybody now and then
	"cut-picture",      // and does so inside a picture
	"stall",            // the stream stands still now and then
	"old-path",         // the path of the oldest firmware only
	"not-chunked",      // an answer without any length, ended by closing
	"stale-nonce",      // a nonce holds for a few requests
	"busy",             // each third request is answered with a ResponseStatus that says so
	"polled",           // without a clock it waits for the poll of plates, not for a stream
	"on-demand",        // or for a recognition on demand
}

// hikvisionItem is an event on its way.
type hikvisionItem struct {
	alert hikvision.Alert
	s     Sighting
	sent  bool // to somebody, perhaps not in full
}

// hikvisionClient is one reader of the alert stream.
type hikvisionClient struct {
	parts chan hikvisionPart
	gone  chan struct{}
	once  sync.Once
}

type hikvisionPart struct {
	bytes []byte
	cut   bool          // break off after it
	done  chan struct{} // closed when it is written; nil if nobody waits
}

func (c *hikvisionClient) drop() { c.once.Do(func() { close(c.gone) }) }

type hikvisionCamera struct {
	env   cameraEnv
	style multipart.Style
	form  hikvision.Form
	login *digestLogin

	mu       sync.Mutex
	client   *hikvisionClient
	arrived  chan struct{} // closed and made anew when a client comes
	store    []*hikvisionItem
	all      []hikvision.Listed
	last     *hikvisionItem // for a recognition on demand
	events   int            // so far
	requests int
	asked    chan struct{} // closed and made anew when a list or a recognition was given
	beat     time.Time     // when something was sent last
	down     time.Time     // until when it takes nobody
	stalled  time.Time     // until when the stream stands still
	latePics []latePictures
	pushing  bool
}

// latePictures wait until their time.
type latePictures struct {
	at    time.Time
	bytes []byte
}

func newHikvisionCamera(env cameraEnv) (cameraModel, error) {
	has := env.Settings.Has
	c := &hikvisionCamera{env: env, arrived: make(chan struct{}), asked: make(chan struct{}), login: newDigestLogin(env.Settings)}
	c.style = multipart.Style{Boundary: "boundary", LF: has("lf-only"), NoLength: has("no-length"), Fold: has("folded")}
	if b := env.Settings.Options["boundary"]; b != "" {
		c.style.Boundary = b
	}
	if has("wrong-length") {
		c.style.OffBy = 2
	}
	c.form = hikvision.Form{LF: has("lf-only"), JSON: has("json"), DynChannel: has("recorder"), Namespace: hikvision.Namespaces[env.Rand.IntN(len(hikvision.Namespaces))]}
	return c, nil
}

// alertOf is what the camera says of a sighting.
func (c *hikvisionCamera) alertOf(s Sighting) hikvision.Alert {
	stamp := s.When.Format("20060102150405") + fmt.Sprintf("%03d", s.When.Nanosecond()/1e6)
	direction := "reverse"
	if s.Toward {
		direction = "forward"
	}
	text := s.Plate
	if s.Unread {
		text = "unknown"
	}
	a := hikvision.Alert{
		EventType: "ANPR", EventState: "active", Description: "ANPR", Channel: "1", ChannelName: "Lane & 1", MAC: "00:00:5e:00:53:01",
		DateTime: s.When.Format("2006-01-02T15:04:05Z07:00"), UUID: stamp + fmt.Sprintf("%06d", s.Serial),
		Read: &hikvision.Read{
			Plate: text, Original: text, Country: alpha3(s.Country), Confidence: strconv.Itoa(s.Confidence), Direction: direction, Line: "1",
			PlateType: "unknown", PlateColor: "white", VehicleType: s.Kind, VehicleColor: "white", DangerousGoods: "no", List: "otherList", DetectType: "0",
		},
	}
	if !c.env.Settings.Has("no-pictures") {
		for i, name := range []string{"licensePlatePicture", "detectionPicture"} {
			a.Read.PictureInfo = append(a.Read.PictureInfo, hikvision.PictureInfo{
				FileName: name + ".jpg", Type: name, ID: a.UUID + strconv.Itoa(i), AbsTime: stamp,
			})
		}
	}
	a.Pictures = len(a.Read.PictureInfo)
	return a
}

// alpha3 of the countries that plates are drawn from.
func alpha3(country string) string {
	return map[string]string{"UA": "UKR", "PL": "POL", "RO": "ROU", "MD": "MDA", "LT": "LTU", "SK": "SVK", "GR": "GRC"}[country]
}

// write gives the parts of an event: the alert, and its pictures.
func (c *hikvisionCamera) write(style multipart.Style, it *hikvisionItem, retransmitted bool) (alert, pictures []byte) {
	a := it.alert
	a.Retransmitted = retransmitted
	contentType := `application/xml; charset="UTF-8"`
	if c.form.JSON {
		contentType = "application/json"
	}
	alert = style.Append(nil, map[string]string{"Content-Type": contentType}, c.form.Append(nil, a))
	contents := [][]byte{it.s.Crop, it.s.Picture}
	infos := a.Read.PictureInfo
	if c.env.Settings.Has("fewer-pictures") && len(infos) > 0 {
		infos = infos[:1]
	}
	for i, info := range infos {
		content := contents[i]
		if c.env.Settings.Has("empty-pictures") {
			content = nil
		}
		pictures = style.Append(pictures, map[string]string{
			"Content-Disposition": fmt.Sprintf(`form-data; name="%s"; filename="%s"`, info.FileName, info.FileName),
			"Content-Type":        "image/jpeg",
		}, content)
	}
	return alert, pictures
}

func (c *hikvisionCamera) observe(ctx context.Context, s Sighting) error {
	it := &hikvisionItem{alert: c.alertOf(s), s: s}
	c.mu.Lock()
	c.events++
	c.all = append(c.all, hikvision.Listed{
		CaptureTime: s.When.Format("20060102T150405") + "0000", Plate: it.alert.Read.Plate, PicName: it.alert.UUID,
		Country: it.alert.Read.Country, Lane: "1", Direction: it.alert.Read.Direction,
	})
	if len(c.all) > hikvisionStore {
		c.all = c.all[1:]
	}
	c.last = it
	asked := c.asked
	c.mu.Unlock()
	if c.env.Settings.Push != "" {
		return c.pushAll(ctx, it)
	}
	if c.env.Settings.Has("polled") || c.env.Settings.Has("on-demand") {
		if !c.env.Fast {
			return nil
		}
		select {
		case <-asked:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if c.env.Fast {
		if err := c.waitClient(ctx); err != nil {
			return err
		}
	}
	c.deliver(ctx, it, false)
	return nil
}

func (c *hikvisionCamera) waitClient(ctx context.Context) error {
	for {
		c.mu.Lock()
		there, arrived := c.client != nil, c.arrived
		c.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// deliver hands an event to the client, or keeps it.
func (c *hikvisionCamera) deliver(ctx context.Context, it *hikvisionItem, retransmitted bool) {
	alert, pictures := c.write(c.style, it, retransmitted)
	has := c.env.Settings.Has
	if has("heartbeat-psia") {
		a := it.alert
		a.Retransmitted = retransmitted
		alert, pictures = c.form.Append(nil, a), nil
	}
	c.mu.Lock()
	client := c.client
	part := hikvisionPart{bytes: append(alert, pictures...)}
	switch {
	case has("late-pictures") && !retransmitted && len(pictures) > 0:
		part.bytes = alert
		c.latePics = append(c.latePics, latePictures{c.env.Now().Add(hikvisionLateBy), pictures})
	case has("cut-picture") && !retransmitted && c.events%7 == 0 && len(pictures) > 0:
		part.bytes, part.cut = append(alert, pictures[:len(pictures)/2]...), true
	}
	c.beat = c.env.Now()
	c.mu.Unlock()
	part.done = make(chan struct{})
	if client == nil || !client.offer(ctx, part) {
		c.keep(it)
		return
	}
	if part.cut {
		c.keep(it) // it knows that this one did not get through
		return
	}
	it.sent = true
	c.env.Told(it.s, map[bool]string{false: "sent", true: "resent"}[retransmitted])
}

// offer hands a part to a client, and waits for it to be written if done is set.
func (c *hikvisionClient) offer(ctx context.Context, p hikvisionPart) bool {
	select {
	case c.parts <- p:
	case <-c.gone:
		return false
	default:
		c.drop() // too slow
		return false
	}
	if p.done == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	case <-c.gone:
		return false
	case <-ctx.Done():
		return false
	}
}

// keep stores what nobody took, if the camera does that.
func (c *hikvisionCamera) keep(it *hikvisionItem) {
	if !c.env.Settings.Has("retransmission") {
		c.env.Told(it.s, "lost")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.store) >= hikvisionStore {
		c.env.Told(c.store[0].s, "lost")
		c.store = c.store[1:]
	}
	c.store = append(c.store, it)
}

// tick sends heartbeats and what else is due.
func (c *hikvisionCamera) tick(ctx context.Context, at time.Duration) {
	if c.env.Settings.Push != "" {
		_ = c.pushAll(ctx, nil) // what fails is tried at the next tick
		return
	}
	has, now := c.env.Settings.Has, c.env.Now()
	c.mu.Lock()
	client := c.client
	if has("outages") && at > 0 && int(at/time.Second)%1800 == 900 {
		c.down = now.Add(90 * time.Second)
		if client != nil {
			client.drop()
		}
	}
	if has("stall") && at > 0 && int(at/time.Second)%900 == 300 {
		c.stalled = now.Add(120 * time.Second)
	}
	stalled := now.Before(c.stalled)
	var due [][]byte
	c.latePics = slices.DeleteFunc(c.latePics, func(l latePictures) bool {
		if l.at.After(now) {
			return false
		}
		due = append(due, l.bytes)
		return true
	})
	quiet := has("quiet-heartbeats") && now.Sub(c.beat) < hikvisionBeat
	var again []*hikvisionItem
	if client != nil && !stalled {
		again, c.store = c.store, nil
	}
	c.mu.Unlock()
	if client == nil || stalled {
		return
	}
	for _, b := range due {
		client.offer(ctx, hikvisionPart{bytes: b})
	}
	for _, it := range again {
		c.deliver(ctx, it, true)
	}
	second := int(at / time.Second)
	if second%int(hikvisionBeat/time.Second) == 0 && !quiet {
		client.offer(ctx, hikvisionPart{bytes: c.heartbeat(now)})
	}
	if has("motion") && second%7 == 0 {
		client.offer(ctx, hikvisionPart{bytes: c.plain(now, "VMD", "active", "Motion alarm")})
	}
	if has("recorder") && second%13 == 0 {
		client.offer(ctx, hikvisionPart{bytes: c.plain(now, "videoloss", "active", "videoloss alarm")})
	}
}

func (c *hikvisionCamera) heartbeat(now time.Time) []byte {
	switch {
	case c.env.Settings.Has("heartbeat-isapi"):
		return c.plain(now, "heartBeat", "active", "heartBeat")
	case c.env.Settings.Has("heartbeat-psia"):
		return c.plain(now, "other", "active", "Heartbeat")
	}
	return c.plain(now, "videoloss", "inactive", "videoloss alarm")
}

// plain is an alert without a plate.
func (c *hikvisionCamera) plain(now time.Time, typ, state, description string) []byte {
	a := hikvision.Alert{
		EventType: typ, EventState: state, Description: description, Channel: "1", MAC: "00:00:5e:00:53:01",
		DateTime: now.Format("2006-01-02T15:04:05Z07:00"), Pictures: -1,
	}
	text := c.form.Append(nil, a)
	if c.env.Settings.Has("heartbeat-psia") {
		return text
	}
	contentType := `application/xml; charset="UTF-8"`
	if c.form.JSON {
		contentType = "application/json"
	}
	return c.style.Append(nil, map[string]string{"Content-Type": contentType}, text)
}

// ServeHTTP implements http.Handler.
func (c *hikvisionCamera) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	down := c.env.Now().Before(c.down)
	c.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler) // it hangs up
	}
	if !c.login.admit(w, r) {
		return
	}
	c.mu.Lock()
	c.requests++
	busy := c.env.Settings.Has("busy") && c.requests%3 == 0
	c.mu.Unlock()
	if busy {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write(hikvision.AppendStatus(nil, r.URL.Path, hikvision.Status{Code: "2", Text: "Device Busy", Sub: "deviceBusy"})) // who asked may be gone
		return
	}
	stream := "/ISAPI/Event/notification/alertStream"
	if c.env.Settings.Has("old-path") {
		stream = "/Event/notification/alertStream"
	}
	switch {
	case c.env.Settings.Push == "" && r.URL.Path == stream && r.Method == http.MethodGet:
		c.serveStream(w, r)
	case r.URL.Path == "/ISAPI/System/deviceInfo" && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/xml")
		_, _ = w.Write(hikvision.AppendDevice(nil, hikvision.Device{Name: "lanesim", Model: "iDS-TCM203-A", Serial: "LS0001", MAC: "00:00:5e:00:53:01", Firmware: "V5.1.0"}))
	case r.URL.Path == "/ISAPI/Traffic/channels/1/vehicleDetect/plates" && r.Method == http.MethodPost:
		c.servePlates(w, r)
	case r.URL.Path == "/ISAPI/Traffic/MNPR/channels/1" && r.Method == http.MethodGet:
		c.serveOnDemand(w)
	default:
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write(hikvision.AppendStatus(nil, r.URL.Path, hikvision.Status{Code: "4", Text: "Invalid Operation", Sub: "notSupport"}))
	}
}

func (c *hikvisionCamera) serveStream(w http.ResponseWriter, r *http.Request) {
	client := &hikvisionClient{parts: make(chan hikvisionPart, hikvisionQueue), gone: make(chan struct{})}
	contentType := "multipart/mixed; boundary=" + c.style.Boundary
	if c.env.Settings.Has("heartbeat-psia") {
		contentType = "application/xml"
	}
	var out io.Writer = w
	flush := func() error { return http.NewResponseController(w).Flush() }
	if c.env.Settings.Has("not-chunked") {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // that is how the answer ends
		fmt.Fprintf(rw, "HTTP/1.1 200 OK\r\nMIME-Version: 1.0\r\nConnection: close\r\nContent-Type: %s\r\n\r\n", contentType)
		out, flush = rw, rw.Flush
	} else {
		w.Header().Set("MIME-Version", "1.0")
		w.Header().Set("Content-Type", contentType)
	}
	if flush() != nil {
		return
	}
	c.mu.Lock()
	if c.client != nil {
		c.client.drop()
	}
	c.client = client
	close(c.arrived)
	c.arrived = make(chan struct{})
	c.mu.Unlock()
	defer func() {
		client.drop()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.client == client {
			c.client = nil
		}
	}()
	for {
		select {
		case p := <-client.parts:
			if _, err := out.Write(p.bytes); err != nil {
				return
			}
			if flush() != nil {
				return
			}
			if p.done != nil {
				close(p.done)
			}
			if p.cut {
				client.drop()
				if !c.env.Settings.Has("not-chunked") {
					panic(http.ErrAbortHandler)
				}
				return
			}
		case <-client.gone:
			return
		case <-c.env.Done:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// servePlates answers the poll: in no order, and with the one asked after repeated.
func (c *hikvisionCamera) servePlates(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4096))
	if err != nil {
		return
	}
	_, after, _ := strings.Cut(string(body), "<picTime>")
	after, _, _ = strings.Cut(after, "</picTime>")
	c.mu.Lock()
	var list []hikvision.Listed
	for _, p := range c.all {
		if after == "" || !hikvision.Later(after, p.PicName) {
			list = append(list, p)
		}
	}
	c.mu.Unlock()
	slices.Reverse(list)
	c.answered(w, "application/xml", hikvision.AppendPlates([]byte(" "), list))
}

// answered writes the whole of an answer, and lets the next vehicle come.
func (c *hikvisionCamera) answered(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil || http.NewResponseController(w).Flush() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.asked)
	c.asked = make(chan struct{})
}

// serveOnDemand gives the last read again, in a document that has an end; an unread one
// before the first vehicle.
func (c *hikvisionCamera) serveOnDemand(w http.ResponseWriter) {
	c.mu.Lock()
	it := c.last
	c.mu.Unlock()
	if it == nil {
		a := c.alertOf(Sighting{When: c.env.Now(), Unread: true})
		a.Read.PictureInfo, a.Pictures = nil, 0
		it = &hikvisionItem{alert: a}
	}
	alert, pictures := c.write(c.style, it, false)
	c.answered(w, "multipart/form-data; boundary="+c.style.Boundary, c.style.Close(append(alert, pictures...)))
}

// pushAll posts what waits, and one more, until one is refused.
func (c *hikvisionCamera) pushAll(ctx context.Context, it *hikvisionItem) error {
	c.mu.Lock()
	if it != nil {
		if len(c.store) >= hikvisionStore {
			c.env.Told(c.store[0].s, "lost")
			c.store = c.store[1:]
		}
		c.store = append(c.store, it)
	}
	if c.pushing {
		c.mu.Unlock()
		return nil
	}
	c.pushing = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.pushing = false
		c.mu.Unlock()
	}()
	for {
		c.mu.Lock()
		if len(c.store) == 0 {
			c.mu.Unlock()
			return nil
		}
		next := c.store[0]
		c.mu.Unlock()
		if err := c.push(ctx, next); err != nil {
			next.sent = true
			if !c.env.Fast {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		c.mu.Lock()
		c.store = c.store[1:]
		c.mu.Unlock()
		c.env.Told(next.s, map[bool]string{false: "sent", true: "resent"}[next.sent])
	}
}

func (c *hikvisionCamera) push(ctx context.Context, it *hikvisionItem) error {
	again := it.sent && c.env.Settings.Has("retransmission")
	alert, pictures := c.write(c.style, it, again)
	body, contentType := c.style.Close(append(alert, pictures...)), "multipart/form-data; boundary="+c.style.Boundary
	if len(pictures) == 0 {
		a := it.alert
		a.Retransmitted = again
		body, contentType = c.form.Append(nil, a), "application/xml"
	}
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
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("the host answered with %d", resp.StatusCode))
	}
	return nil
}
