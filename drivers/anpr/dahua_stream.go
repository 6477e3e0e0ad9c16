package anpr

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/dahua"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
)

// Times of a Dahua camera's stream.
const (
	// dahuaHeartbeat is what the agent asks for, in seconds.
	dahuaHeartbeat = 5
	// dahuaStreamSilence is several of them.
	dahuaStreamSilence = 45 * time.Second
)

// DahuaStream is the driver of cameras whose events the agent reads.
func DahuaStream() drivers.Driver {
	return drivers.Driver{
		Name:    "dahua-stream",
		Summary: "Dahua camera and its relatives, events that the agent reads (HTTP)",
		Schemes: []string{"http", "https"},
		Silence: dahuaStreamSilence,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := DahuaSettings{Channel: "1", Events: []string{"All"}}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if !dahuaChannel.MatchString(s.Channel) {
				return nil, fmt.Errorf("channel: %q is no number of a channel", s.Channel)
			}
			if len(s.Events) == 0 {
				return nil, errors.New("events: none is asked for; take All, or names like TrafficJunction")
			}
			for _, e := range s.Events {
				if !dahuaCode.MatchString(e) {
					return nil, fmt.Errorf("events: %q is no name of an event; take All, or names like TrafficJunction", e)
				}
			}
			if err := s.Check(); err != nil {
				return nil, err
			}
			return &dahuaStream{settings: s, recorder: NewRecorder(plate.Dahua, s.Settings)}, nil
		},
	}
}

var (
	dahuaChannel = regexp.MustCompile(`^\d{1,4}$`)
	dahuaCode    = regexp.MustCompile(`^[A-Za-z]{1,40}$`)
)

// DahuaSettings are the settings of a Dahua camera whose events the agent reads.
// Without pictures another path is asked, which sends none.
type DahuaSettings struct {
	Settings `yaml:",inline"`
	// Channel of the camera; most count from 1, some from 0.
	Channel string `yaml:"channel"`
	// Events are the codes to ask for, or All.
	Events []string `yaml:"events"`
}

// path is what to ask for. The brackets stay as they are: some firmware takes no others.
func (s *DahuaSettings) path() string {
	codes := strings.Join(s.Events, ",")
	if s.Pictures != nil && !*s.Pictures {
		return fmt.Sprintf("/cgi-bin/eventManager.cgi?action=attach&codes=[%s]&heartbeat=%d", codes, dahuaHeartbeat)
	}
	return fmt.Sprintf("/cgi-bin/snapManager.cgi?action=attachFileProc&channel=%s&heartbeat=%d&Flags[0]=Event&Events=[%s]", s.Channel, dahuaHeartbeat, codes)
}

type dahuaStream struct {
	settings DahuaSettings
	recorder *Recorder
}

// Run implements drivers.Instrument.
func (c *dahuaStream) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	client, ok := link.As[*link.Client](conn)
	if !ok {
		return errors.New("dahua-stream needs an http: link")
	}
	resp, err := client.Get(ctx, c.settings.path())
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // the stream is over
	if err := link.StatusError(resp); err != nil {
		return err
	}
	parts, stop := startParts(ctx, resp)
	defer stop()
	return c.stream(ctx, parts, h)
}

// dahuaGroup is how long the pictures of one vehicle may be apart. The numbers of groups
// begin anew with the camera.
const dahuaGroup = 30 * time.Second

// stream records what comes. A passage waits for its pictures: how many follow is not
// told, so until the next event, and no longer than pictureWait.
func (c *dahuaStream) stream(ctx context.Context, parts <-chan streamPart, h drivers.Host) error {
	var pending *Reading
	flush := func() error {
		x := pending
		pending = nil
		if x == nil {
			return nil
		}
		return c.recorder.Record(h, *x)
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
			switch {
			case part.err != nil:
				return errors.Join(flush(), part.err)
			case part.skipped != "":
				h.Unparsed(part.skipped, nil)
			case isPicture(part.mediaType, part.body):
				switch {
				case pending == nil: // of an event that is no vehicle, or later than it waits
				case part.truncated:
					h.Unparsed("a picture that the stream ended in", part.body[:min(len(part.body), 64)])
				case len(pending.Pictures) < maxPictures:
					pending.Pictures = append(pending.Pictures, Picture{Name: fmt.Sprintf("picture-%d.jpg", len(pending.Pictures)+1), MediaType: http.DetectContentType(part.body), Content: part.body})
				}
			default:
				body := part.body
				if part.truncated {
					// What was being said is no value yet, and an event without a plate may
					// have been about to tell it.
					h.Unparsed("an event that the stream ended in", sample(body))
					body = body[:bytes.LastIndexByte(body, '\n')+1]
				}
				readings, err := c.events(h, body)
				if part.truncated {
					readings = slices.DeleteFunc(readings, func(x Reading) bool { return x.Plate == "" })
					for i := range readings {
						readings[i].MessageKey = "" // it comes again whole
					}
				}
				if errors.Is(err, dahua.ErrHeartbeat) {
					continue // it may come between an event and its pictures
				}
				// The pictures that follow are those of this part, whatever it is.
				if err := flush(); err != nil {
					return err
				}
				if err != nil {
					h.Unparsed("an event of the camera: "+err.Error(), sample(part.body))
				}
				for i := range readings {
					if err := flush(); err != nil {
						return err
					}
					pending = &readings[i]
					timer.Reset(pictureWait)
				}
			}
		}
	}
}

// events makes readings of a part of text. The error of a heartbeat is
// dahua.ErrHeartbeat.
func (c *dahuaStream) events(h drivers.Host, body []byte) ([]Reading, error) {
	text, _, err := plate.Decode(body, c.settings.CodePage)
	if err != nil {
		return nil, err
	}
	events, err := dahua.ParseEvents([]byte(text))
	if errors.Is(err, dahua.ErrHeartbeat) {
		h.Valid()
		return nil, err
	}
	var readings []Reading
	for i := range events {
		h.Valid()
		if p := events[i].Passage; p != nil {
			readings = append(readings, c.reading(h, events[i].Code, p, body))
		}
	}
	return readings, err
}

func (c *dahuaStream) reading(h drivers.Host, code string, p *dahua.Passage, raw []byte) Reading {
	x := Reading{
		Plate: p.Plate, Lossy: strings.ContainsRune(p.Plate, utf8.RuneError), Confidence: p.Confidence, Country: p.Country, Direction: p.Driving,
		PlateType: said(p.PlateType), PlateColor: said(p.PlateColor), Trigger: code, VendorEventID: p.EventID,
		Reader: event.PlateReader{Camera: p.Camera, Lane: p.Lane}, Raw: raw, Received: h.Now(),
		// The events of one vehicle have ids of their own with some firmware only.
		MessageKey: plate.MessageKey(cmp.Or(p.EventID, "-"), cmp.Or(p.RealUTC, p.UTC), cmp.Or(p.Milliseconds, "-"),
			p.GroupID+"/"+p.IndexInGroup, cmp.Or(p.Lane, "-"), cmp.Or(p.Plate, "-")),
	}
	v := event.PlateVehicle{Type: word(said(p.VehicleType)), Color: word(said(p.Color)), Make: word(said(p.Sign))}
	if s := speed(p.Speed); s != nil && *s > 0 {
		v.SpeedKPH = s
	}
	if v != (event.PlateVehicle{}) {
		x.Vehicle = &v
	}
	if p.GroupID != "" && p.GroupID != "0" && p.CountInGroup != "" && p.CountInGroup != "0" && p.CountInGroup != "1" {
		x.Group, x.Revision, x.GroupFor = plate.MessageKey(c.settings.Channel, p.GroupID), event.RevisionUpdate, dahuaGroup
	}
	at, zoned := p.Time(c.recorder.Location())
	if !at.IsZero() {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDeviceZone
		if zoned {
			x.TimeSource = event.TimeFromDevice
		}
	}
	return x
}
