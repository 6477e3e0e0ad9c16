package anpr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/hikvision"
	"github.com/lanepost/lanepost/protocol/multipart"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Times and bounds of a Hikvision camera.
const (
	// pictureWait is how long a plate is held back for its pictures.
	pictureWait = 2 * time.Second
	// hikvisionSilence: a heartbeat comes each 10 s, and none while events flow;
	// gaps of 24 s were seen on a healthy camera.
	hikvisionSilence = 45 * time.Second
	// maxAnswer bounds an answer that is no stream.
	maxAnswer = 1 << 20
	// maxStreamPictures bounds the pictures that follow one alert.
	maxStreamPictures = maxPictures
)

const (
	alertStreamPath    = "/ISAPI/Event/notification/alertStream"
	oldAlertStreamPath = "/Event/notification/alertStream"
	deviceInfoPath     = "/ISAPI/System/deviceInfo"
)

// HikvisionStream is the driver of cameras whose alert stream the agent reads.
func HikvisionStream() drivers.Driver {
	return drivers.Driver{
		Name:    "hikvision-stream",
		Summary: "Hikvision ISAPI camera, alert stream that the agent reads (HTTP)",
		Schemes: []string{"http", "https"},
		Silence: hikvisionSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s, err := hikvisionSettings(decode)
			if err != nil {
				return nil, err
			}
			return &hikvisionStream{hikvisionCamera{settings: s, recorder: NewRecorder(plate.Hikvision, s.Settings)}}, nil
		},
	}
}

// HikvisionPush is the driver of cameras that post their alerts to the agent.
func HikvisionPush() drivers.Driver {
	return drivers.Driver{
		Name:    "hikvision-push",
		Summary: "Hikvision ISAPI camera that posts its alerts to the agent (HTTP host)",
		Schemes: []string{"http-listen"},
		// A camera that posts has no heartbeat, and a lane may be empty for a night.
		Silence: 24 * time.Hour,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s, err := hikvisionSettings(decode)
			if err != nil {
				return nil, err
			}
			return &hikvisionPush{hikvisionCamera{settings: s, recorder: NewRecorder(plate.Hikvision, s.Settings)}}, nil
		},
	}
}

// HikvisionSettings are the settings of a Hikvision camera.
type HikvisionSettings struct {
	Settings `yaml:",inline"`
	// Channel keeps only the alerts of one channel: of a recorder each camera is a
	// device of its own. Empty is every channel.
	Channel string `yaml:"channel"`
}

func hikvisionSettings(decode func(any) error) (HikvisionSettings, error) {
	var s HikvisionSettings
	if err := decode(&s); err != nil {
		return s, err
	}
	if len(s.Channel) > 16 || strings.Trim(s.Channel, "0123456789") != "" {
		return s, fmt.Errorf("channel: %q is no number of a channel", s.Channel)
	}
	return s, s.Check()
}

// hikvisionCamera is what both ways have in common.
type hikvisionCamera struct {
	settings HikvisionSettings
	recorder *Recorder
	device   hikvision.Device
}

type (
	hikvisionStream struct{ hikvisionCamera }
	hikvisionPush   struct{ hikvisionCamera }
)

// pendingRead is a plate whose pictures may still come.
type pendingRead struct {
	alert    hikvision.Alert
	raw      []byte
	received time.Time
	pictures []Picture
}

func (p *pendingRead) complete() bool {
	return p.alert.Pictures >= 0 && len(p.pictures) >= p.alert.Pictures || len(p.pictures) >= maxStreamPictures
}

// Run implements drivers.Instrument.
func (c *hikvisionStream) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	client, ok := link.As[*link.Client](conn)
	if !ok {
		return errors.New("hikvision-stream needs an http: link")
	}
	if err := c.identify(ctx, client, h); err != nil {
		return err
	}
	resp, err := client.Get(ctx, alertStreamPath)
	if err == nil && resp.StatusCode == http.StatusNotFound {
		_ = resp.Body.Close() // it says that it is not there
		resp, err = client.Get(ctx, oldAlertStreamPath)
	}
	if err != nil {
		return err
	}
	if err := link.StatusError(resp); err != nil {
		return refusal(resp, err)
	}
	defer resp.Body.Close() //nolint:errcheck // the stream is over
	return c.stream(ctx, resp, h)
}

// refusal adds what the camera says to an error of its status.
func refusal(resp *http.Response, err error) error {
	body, readErr := link.ReadBody(resp, maxAnswer)
	if s, ok := hikvision.ParseStatus(body); ok && readErr == nil {
		return fmt.Errorf("%w: %s, %s", err, word(s.Text), word(s.Sub))
	}
	return err
}

// identify asks what the camera is. A recorder or an old camera may not know the
// question; that is no reason to leave its plates.
func (c *hikvisionStream) identify(ctx context.Context, client *link.Client, h drivers.Host) error {
	if c.device != (hikvision.Device{}) {
		return nil
	}
	resp, err := client.Get(ctx, deviceInfoPath) //nolint:bodyclose // ReadBody closes it
	if err != nil {
		if errors.Is(err, link.ErrUnplugged) && ctx.Err() == nil {
			return nil // some hang up on a path that they do not know
		}
		return err
	}
	body, err := link.ReadBody(resp, maxAnswer)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil //nolint:nilerr // as above
	}
	if d, err := hikvision.ParseDevice(body); err == nil {
		c.device = d
	} else {
		h.Log().Debug("the camera does not say what it is", "err", err)
	}
	return nil
}

// stream takes parts until the stream ends.
func (c *hikvisionStream) stream(ctx context.Context, resp *http.Response, h drivers.Host) error {
	parts, stop := startParts(ctx, resp)
	defer stop()
	var pending *pendingRead
	flush := func() error {
		p := pending
		pending = nil
		if p == nil {
			return nil
		}
		return c.record(h, p)
	}
	timer := time.NewTimer(pictureWait)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(flush(), context.Cause(ctx))
		case <-timer.C:
			if err := flush(); err != nil {
				return err
			}
		case part := <-parts:
			if part.err != nil {
				return errors.Join(flush(), part.err)
			}
			if part.skipped != "" {
				h.Unparsed(part.skipped, nil)
				continue
			}
			if isPicture(part.mediaType, part.body) {
				if pending == nil {
					continue // a picture of motion, or of a plate that went without it
				}
				if part.truncated {
					h.Unparsed("a picture that the stream ended in", part.body[:min(len(part.body), 64)])
					continue
				}
				pending.pictures = append(pending.pictures, Picture{Name: cmpOr(part.name, part.id), MediaType: "image/jpeg", Content: part.body})
				if pending.complete() {
					if err := flush(); err != nil {
						return err
					}
				}
				continue
			}
			if err := flush(); err != nil {
				return err
			}
			next, err := c.alerts(h, part.body)
			if err != nil {
				return err
			}
			if pending = next; pending == nil {
				continue
			}
			if pending.complete() || c.recorder.Known(h, hikvisionKey(&pending.alert)) {
				if err := flush(); err != nil {
					return err
				}
				continue
			}
			timer.Reset(pictureWait)
		}
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// alerts takes the alerts of a part. The last read of it is given back, since its
// pictures follow; those before it have none.
func (c *hikvisionCamera) alerts(h drivers.Host, body []byte) (*pendingRead, error) {
	// Not all firmware writes the UTF-8 that it announces.
	text, _, err := plate.Decode(body, c.settings.CodePage)
	if err != nil {
		return nil, err
	}
	alerts, err := hikvision.Parse([]byte(text))
	if err != nil {
		h.Unparsed("alert: "+err.Error(), body)
	}
	var last *pendingRead
	for i := range alerts {
		h.Valid()
		a := alerts[i]
		if a.Kind != hikvision.Plate || c.settings.Channel != "" && a.Channel != c.settings.Channel {
			continue
		}
		if last != nil {
			if err := c.record(h, last); err != nil {
				return nil, err
			}
		}
		last = &pendingRead{alert: a, raw: body, received: h.Now()}
	}
	return last, nil
}

// hikvisionKey is what tells a read from the same one that is sent again.
func hikvisionKey(a *hikvision.Alert) string {
	return plate.MessageKey(a.Channel, a.UUID, a.DateTime)
}

// record makes the event.
func (c *hikvisionCamera) record(h drivers.Host, p *pendingRead) error {
	a, r := &p.alert, p.alert.Read
	x := Reading{
		Plate: r.Plate, Lossy: strings.ContainsRune(r.Plate, utf8.RuneError), Confidence: r.Confidence, Country: r.Country, Direction: r.Direction,
		PlateType: said(r.PlateType), PlateColor: said(r.PlateColor), VehicleList: r.List, Trigger: r.DetectType,
		Vehicle: hikvisionVehicle(r), MessageKey: hikvisionKey(a), VendorEventID: a.UUID, Replayed: a.Retransmitted,
		Reader: event.PlateReader{
			Model: c.device.Model, Serial: cmpOr(c.device.Serial, a.MAC), Firmware: c.device.Firmware, Camera: a.Channel, Lane: r.Line,
		},
		Pictures: hikvisionPictures(r, p.pictures), Raw: p.raw, Received: p.received,
	}
	if at, zoned, err := a.Time(c.recorder.Location()); err == nil {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
		if !zoned {
			x.TimeSource = event.TimeFromDeviceZone
		}
	}
	return c.recorder.Record(h, x)
}

// said is a word that says something.
func said(w string) string {
	if strings.EqualFold(w, "unknown") {
		return ""
	}
	return w
}

func hikvisionVehicle(r *hikvision.Read) *event.PlateVehicle {
	v := event.PlateVehicle{Type: word(said(r.VehicleType)), Color: word(said(r.VehicleColor))}
	if slices.Contains([]string{"yes", "no", "unknown"}, r.DangerousGoods) {
		v.DangerousGoods = r.DangerousGoods
	}
	if v == (event.PlateVehicle{}) {
		return nil
	}
	return &v
}

// hikvisionPictures names the pictures by what was announced: by the id in the
// name, by the file name, or by their order.
func hikvisionPictures(r *hikvision.Read, pictures []Picture) []Picture {
	named := slices.Clone(pictures)
	for i := range named {
		for k, info := range r.PictureInfo {
			if info.ID != "" && strings.Contains(named[i].Name, info.ID) || info.FileName != "" && named[i].Name == info.FileName || named[i].Name == "" && i == k {
				if info.Type != "" {
					named[i].Name = info.Type + ".jpg"
				}
				break
			}
		}
		// A name that holds the plate would tell it to those who must not know it.
		if r.Plate != "" && strings.Contains(strings.ToUpper(named[i].Name), strings.ToUpper(r.Plate)) {
			named[i].Name = fmt.Sprintf("picture-%d.jpg", i+1)
		}
	}
	return named
}

// Run implements drivers.Instrument.
func (c *hikvisionPush) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	inbox, ok := link.As[*link.Inbox](conn)
	if !ok {
		return errors.New("hikvision-push needs an http-listen: link")
	}
	for {
		d, err := inbox.Next(ctx)
		if err != nil {
			return err
		}
		if err := c.take(h, d); err != nil {
			return err // unanswered, the camera sends it again
		}
		d.Reply(http.StatusOK, "", nil)
	}
}

// take makes events of what a camera posted. A body that nobody understands is
// kept as a sample and answered: the camera would send it for ever.
func (c *hikvisionPush) take(h drivers.Host, d *link.Delivery) error {
	if len(bytes.TrimSpace(d.Body)) == 0 {
		h.Valid() // an empty post is a test of the connection
		return nil
	}
	reads, err := c.readsOf(h, d.ContentType, d.Body)
	if err != nil {
		return err
	}
	for _, r := range reads {
		if err := c.record(h, r); err != nil {
			return err
		}
	}
	return nil
}

// readsOf gives the reads in a body: parts, or a document alone.
func (c *hikvisionCamera) readsOf(h drivers.Host, contentType string, body []byte) (reads []*pendingRead, err error) {
	add := func(body []byte) error {
		r, err := c.alerts(h, body)
		if r != nil {
			reads = append(reads, r)
		}
		return err
	}
	if strings.HasPrefix(strings.ToLower(contentType), "multipart/") {
		m := multipart.NewReader(bytes.NewReader(body), contentType)
		for n := 0; n < 4*maxPictures; n++ {
			p, err := m.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if errors.Is(err, multipart.ErrNoBoundary) && n == 0 {
				// One that announces parts and sends a bare document.
				if err := add(body); err != nil {
					return nil, err
				}
				break
			}
			if err != nil {
				h.Unparsed("a post of parts: "+err.Error(), body[:min(len(body), 512)])
				if errors.Is(err, multipart.ErrTooLarge) || errors.Is(err, multipart.ErrHeader) {
					continue
				}
				break
			}
			if !isPicture(p.MediaType(), p.Body) {
				if err := add(bytes.Clone(p.Body)); err != nil {
					return nil, err
				}
				continue
			}
			if len(reads) > 0 && len(p.Body) > 0 {
				last := reads[len(reads)-1]
				last.pictures = append(last.pictures, Picture{
					Name: cmpOr(cmpOr(p.FileName(), p.Name()), p.Header["content-id"]), MediaType: "image/jpeg", Content: bytes.Clone(p.Body),
				})
			}
		}
		return reads, nil
	}
	return reads, add(body)
}
