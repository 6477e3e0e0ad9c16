package anpr

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/hikvision"
	"github.com/lanepost/lanepost/protocol/order"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Times and bounds of a Hikvision camera that is asked.
const (
	minPoll, maxPoll         = 500 * time.Millisecond, time.Minute
	minLookback, maxLookback = time.Second, 24 * time.Hour
	// anyZone is by how much the clock on a wall may be behind UTC.
	anyZone = 12 * time.Hour
	// askByTime is how often the list is asked for by the time and not by the last name.
	askByTime = time.Minute
	// maxOnDemand bounds the answer of a recognition on demand in bytes.
	maxOnDemand = 32 << 20
)

// HikvisionPlates is the driver of cameras whose list of plates the agent asks for.
func HikvisionPlates() drivers.Driver {
	return drivers.Driver{
		Name:    "hikvision-plates",
		Summary: "Hikvision ISAPI camera, list of plates that the agent asks for (HTTP)",
		Schemes: []string{"http", "https"},
		Silence: hikvisionSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := HikvisionPollSettings{Every: 3 * time.Second, Lookback: 10 * time.Minute, Channel: "1"}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			switch {
			case s.Lookback < minLookback || s.Lookback > maxLookback:
				return nil, fmt.Errorf("lookback: %s; take %s to %s", s.Lookback, minLookback, maxLookback)
			case s.PicturePath != "" && (!strings.HasPrefix(s.PicturePath, "/") || !strings.Contains(s.PicturePath, "{name}")):
				return nil, fmt.Errorf("picture_path: %q; take a path with {name} in it, as /doc/ui/images/plate/{name}.jpg", s.PicturePath)
			}
			return &hikvisionPoll{settings: s, recorder: NewRecorder(plate.Hikvision, s.Settings)}, nil
		},
	}
}

// HikvisionOnDemand is the driver of cameras that are told again and again to recognise
// what stands before them.
func HikvisionOnDemand() drivers.Driver {
	return drivers.Driver{
		Name:    "hikvision-on-demand",
		Summary: "Hikvision ISAPI camera, recognition that the agent asks for (MNPR, HTTP)",
		Schemes: []string{"http", "https"},
		Silence: hikvisionSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := HikvisionPollSettings{Every: 3 * time.Second, Channel: "1", Lane: "1"}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.check(); err != nil {
				return nil, err
			}
			camera := hikvisionCamera{settings: HikvisionSettings{Settings: s.Settings}, recorder: NewRecorder(plate.Hikvision, s.Settings)}
			return &hikvisionOnDemand{hikvisionCamera: camera, poll: s}, nil
		},
	}
}

// HikvisionPollSettings are the settings of a camera that is asked again and again.
type HikvisionPollSettings struct {
	Settings `yaml:",inline"`
	// Every is how often it is asked.
	Every time.Duration `yaml:"every"`
	// Channel is the camera's, Lane the lane that it recognises.
	Channel string `yaml:"channel"`
	Lane    string `yaml:"lane"`
	// Lookback is how far back the first question goes after a start of the agent.
	Lookback time.Duration `yaml:"lookback"`
	// PicturePath is where the camera has the picture of a read, with {name} for its
	// name. Empty for none: the path that others use is documented nowhere.
	PicturePath string `yaml:"picture_path"`
}

func (s *HikvisionPollSettings) check() error {
	for name, v := range map[string]string{"channel": s.Channel, "lane": s.Lane} {
		if len(v) > 16 || strings.Trim(v, "0123456789") != "" {
			return fmt.Errorf("%s: %q is no number", name, v)
		}
	}
	if s.Every < minPoll || s.Every > maxPoll {
		return fmt.Errorf("every: %s; take %s to %s", s.Every, minPoll, maxPoll)
	}
	return s.Check()
}

// each does something at once and then again and again, until it fails or ctx ends.
func each(ctx context.Context, h drivers.Host, every time.Duration, do func() error) error {
	for {
		began := h.Now()
		if err := do(); err != nil {
			return err
		}
		timer := time.NewTimer(every - h.Now().Sub(began))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

type hikvisionPoll struct {
	settings HikvisionPollSettings
	recorder *Recorder
	// last is the name of the latest read that is on disk: what the camera is asked after.
	// It outlives connections. asked: the first question is answered; again is when it is
	// asked further back the next time.
	last  string
	asked bool
	again time.Time
}

// Run implements drivers.Instrument.
func (c *hikvisionPoll) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	client, ok := link.As[*link.Client](conn)
	if !ok {
		return errors.New("hikvision-plates needs an http: link")
	}
	return each(ctx, h, c.settings.Every, func() error { return c.ask(ctx, client, h) })
}

// ask asks for what came after the last read and records it in order.
func (c *hikvisionPoll) ask(ctx context.Context, client *link.Client, h drivers.Host) error {
	// The names are times on the camera's wall, which may go back; so now and then it is
	// asked by the time, and what is known is left out.
	after, first := c.last, !c.asked
	if after == "" || !h.Now().Before(c.again) {
		c.again = h.Now().Add(askByTime)
		back := c.settings.Lookback
		if c.settings.Zone == "" {
			back += anyZone // rather too much than a question about the future
		}
		after = h.Now().Add(-back).In(c.recorder.Location()).Format("200601021504050000")
	}
	path := "/ISAPI/Traffic/channels/" + c.settings.Channel + "/vehicleDetect/plates"
	resp, err := client.Post(ctx, path, "application/xml", hikvision.AppendAfter(nil, after)) //nolint:bodyclose // ReadBody closes it
	if err != nil {
		return err
	}
	if err := link.StatusError(resp); err != nil {
		return fmt.Errorf("ask for the list of plates: %w", refusal(resp, err))
	}
	body, err := link.ReadBody(resp, maxAnswer)
	if err != nil {
		return fmt.Errorf("read the list of plates: %w", err)
	}
	text, _, err := plate.Decode(body, c.settings.CodePage)
	if err != nil {
		return err
	}
	list, err := hikvision.ParsePlates([]byte(text))
	if err != nil {
		h.Unparsed("list of plates: "+err.Error(), body)
		return fmt.Errorf("the camera's list of plates can't be read: %w", err)
	}
	h.Valid()
	c.asked = true
	// It comes in no order, and the one asked after may be in it.
	order.Stable(list, func(a, b hikvision.Listed) int {
		switch {
		case hikvision.Later(a.PicName, b.PicName):
			return 1
		case hikvision.Later(b.PicName, a.PicName):
			return -1
		}
		return 0
	})
	for _, p := range list {
		if err := c.record(ctx, client, h, p, first); err != nil {
			return err
		}
		if p.PicName != "" {
			c.last = p.PicName
		}
	}
	return nil
}

func (c *hikvisionPoll) record(ctx context.Context, client *link.Client, h drivers.Host, p hikvision.Listed, replayed bool) error {
	x := Reading{
		Plate: p.Plate, Country: p.Country, Direction: p.Direction, Replayed: replayed, VendorEventID: p.PicName, MessageKey: plate.MessageKey(cmp.Or(p.PicName, "-"), cmp.Or(p.CaptureTime, "-"), cmp.Or(p.Plate, "-"), cmp.Or(p.Lane, "-")),
		Reader: event.PlateReader{Camera: c.settings.Channel, Lane: p.Lane}, Raw: hikvision.AppendPlates(nil, []hikvision.Listed{p}),
	}
	if at, ok := p.Time(c.recorder.Location()); ok {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDeviceZone
	}
	if c.settings.PicturePath != "" && strings.Trim(p.PicName, "0123456789") == "" && p.PicName != "" && !c.recorder.Known(h, x.MessageKey) {
		content, err := c.picture(ctx, client, p.PicName)
		if err != nil {
			h.Unparsed("the picture of a read: "+err.Error(), nil)
		} else {
			x.Pictures = []Picture{{Name: "picture.jpg", MediaType: "image/jpeg", Content: content}}
		}
	}
	return c.recorder.Record(h, x)
}

// picture fetches the picture of a read. The plate does not wait for it for long.
func (c *hikvisionPoll) picture(ctx context.Context, client *link.Client, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pictureWait)
	defer cancel()
	resp, err := client.Get(ctx, strings.ReplaceAll(c.settings.PicturePath, "{name}", name)) //nolint:bodyclose // ReadBody closes it
	if err != nil {
		return nil, err
	}
	content, err := link.ReadBody(resp, maxPicture)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, link.StatusError(resp)
	case !isPicture(resp.Header.Get("Content-Type"), content):
		return nil, errors.New("it is none")
	}
	return content, nil
}

type hikvisionOnDemand struct {
	hikvisionCamera
	poll HikvisionPollSettings
	// plate is what stood before the camera at the last question.
	plate string
}

// Run implements drivers.Instrument.
func (c *hikvisionOnDemand) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	client, ok := link.As[*link.Client](conn)
	if !ok {
		return errors.New("hikvision-on-demand needs an http: link")
	}
	return each(ctx, h, c.poll.Every, func() error { return c.ask(ctx, client, h) })
}

// ask has the camera recognise. The same plate again is the same vehicle, or the last
// read which the camera repeats; none is no vehicle, and no event.
func (c *hikvisionOnDemand) ask(ctx context.Context, client *link.Client, h drivers.Host) error {
	resp, err := client.Get(ctx, "/ISAPI/Traffic/MNPR/channels/"+c.poll.Channel+"?laneNo="+c.poll.Lane+"&OSD=1") //nolint:bodyclose // ReadBody closes it
	if err != nil {
		return err
	}
	if err := link.StatusError(resp); err != nil {
		return fmt.Errorf("ask for a recognition: %w", refusal(resp, err))
	}
	body, err := link.ReadBody(resp, maxOnDemand)
	if err != nil {
		return fmt.Errorf("read the recognition: %w", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		h.Valid()
		return nil
	}
	reads, err := c.readsOf(h, resp.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	for _, r := range reads {
		if c.recorder.Conventions().NoReadReason(r.alert.Read.Plate) != "" {
			c.plate = ""
			continue
		}
		if r.alert.Read.Plate == c.plate {
			continue
		}
		if err := c.record(h, r); err != nil {
			return err
		}
		c.plate = r.alert.Read.Plate
	}
	return nil
}
