package anpr

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/uniview"
)

// Bounds and times of a subscription at a Uniview camera.
const (
	minUniviewTerm, maxUniviewTerm = 20 * time.Second, time.Hour
	// univiewRetry spaces the attempts to subscribe while the camera is away.
	univiewRetry = 5 * time.Second
	// univiewAnswer bounds the camera's answers in bytes.
	univiewAnswer = 64 << 10
)

// Uniview is the driver of Uniview cameras that post by LAPI.
func Uniview() drivers.Driver {
	return drivers.Driver{
		Name:    "uniview-lapi",
		Summary: "Uniview (UNV) camera, posting to the agent (LAPI)",
		Schemes: []string{"http-listen"},
		Silence: pushSilence,
		New:     newUniview,
	}
}

// UniviewSettings are the settings of a Uniview camera.
type UniviewSettings struct {
	Settings `yaml:",inline"`
	// Camera is where the camera is asked to post, as a connect URL: http://10.0.3.31
	// with username and password_file. Empty for a camera that posts by itself.
	Camera string `yaml:"camera"`
	// Address and Port are where the camera finds the agent.
	Address string `yaml:"address"`
	Port    int    `yaml:"port"`
	// Term is for how long it is asked to; it is asked anew after half of it.
	Term time.Duration `yaml:"term"`
}

type univiewCamera struct {
	settings UniviewSettings
	recorder *Recorder
	camera   link.Endpoint // nil for one that posts by itself
}

func newUniview(decode func(any) error) (drivers.Instrument, error) {
	s := UniviewSettings{Term: time.Minute}
	if err := decode(&s); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	c := &univiewCamera{settings: s, recorder: NewRecorder(plate.Uniview, s.Settings)}
	if s.Camera == "" {
		return c, nil
	}
	if _, err := netip.ParseAddr(s.Address); err != nil {
		return nil, fmt.Errorf("address: %q is no IP address; set the one by which the camera reaches this machine", s.Address)
	}
	switch {
	case s.Port < 1 || s.Port > 65535:
		return nil, fmt.Errorf("port: %d; set the port that connect listens on", s.Port)
	case s.Term < minUniviewTerm || s.Term > maxUniviewTerm:
		return nil, fmt.Errorf("term: %s; take %s to %s", s.Term, minUniviewTerm, maxUniviewTerm)
	case !strings.HasPrefix(s.Camera, "http://") && !strings.HasPrefix(s.Camera, "https://"):
		return nil, errors.New("camera: take an http: or https: URL, as in http://10.0.3.31?username=lane&password_file=/etc/lanepost/camera")
	}
	var err error
	if c.camera, err = link.Parse(s.Camera, nil); err != nil {
		return nil, fmt.Errorf("camera: %w", err)
	}
	return c, nil
}

// Run implements drivers.Instrument.
func (c *univiewCamera) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if c.camera == nil {
		return answerPosts(ctx, conn, func(d *link.Delivery) (answer, error) { return c.take(h, d) })
	}
	life, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.subscribe(life, h); err != nil {
			cancel(err)
		}
	}()
	err := answerPosts(life, conn, func(d *link.Delivery) (answer, error) { return c.take(h, d) })
	cancel(err)
	<-done
	return err
}

// subscribe keeps the camera posting until ctx ends. It returns an error for a login that
// is refused, and for a camera that does not know what it is asked; one that is away is
// asked again.
func (c *univiewCamera) subscribe(ctx context.Context, h drivers.Host) error {
	conn, err := c.camera.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	client, ok := link.As[*link.Client](conn)
	if !ok {
		return errors.New("camera: no http: or https: URL")
	}
	id := ""
	for ctx.Err() == nil {
		wait := c.settings.Term / 2
		var refused *link.RetryError
		id, err = c.ask(ctx, client, id)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused), errors.Is(err, link.ErrLogin), errors.Is(err, errNoLAPI):
			return err
		case err != nil:
			h.Log().Info("the camera was not asked to post; it is tried again", "error", err)
			wait = univiewRetry
		default:
			h.Valid() // it has answered
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

var errNoLAPI = errors.New("the camera does not answer as LAPI has it")

// ask renews a subscription, or makes one if there is none or the camera has forgotten
// it, and gives its id.
func (c *univiewCamera) ask(ctx context.Context, client *link.Client, id string) (string, error) {
	seconds := int(c.settings.Term / time.Second)
	const contentType = "application/json"
	if id != "" {
		resp, err := client.Put(ctx, uniview.SubscriptionPath+"/"+id, contentType, uniview.AppendRenewal(nil, seconds)) //nolint:bodyclose // ReadBody closes it
		if err != nil {
			return id, fmt.Errorf("renew the subscription at the camera: %w", err)
		}
		said, err := link.ReadBody(resp, univiewAnswer)
		if err != nil {
			return id, fmt.Errorf("renew the subscription at the camera: %w", err)
		}
		if link.StatusError(resp) == nil && !uniview.Refused(said) {
			return id, nil
		}
	}
	body := uniview.Subscription{Address: c.settings.Address, Port: c.settings.Port, Duration: seconds}.Append(nil)
	resp, err := client.Post(ctx, uniview.SubscriptionPath, contentType, body) //nolint:bodyclose // ReadBody closes it
	if err != nil {
		return "", fmt.Errorf("subscribe at the camera: %w", err)
	}
	said, err := link.ReadBody(resp, univiewAnswer)
	if err == nil {
		err = link.StatusError(resp)
	}
	if err != nil {
		return "", fmt.Errorf("subscribe at the camera: %w", err)
	}
	if id, err = uniview.ParseID(said); err != nil {
		return "", fmt.Errorf("subscribe at the camera: %w: %w", errNoLAPI, err)
	}
	return id, nil
}

func (c *univiewCamera) take(h drivers.Host, d *link.Delivery) (answer, error) {
	reply := jsonAnswer(uniview.AppendReply(nil, d.Target))
	if len(bytes.TrimSpace(d.Body)) == 0 {
		h.Valid()
		return reply, nil
	}
	p, err := uniview.ParsePost(c.recorder.Text(d.Body))
	if err != nil {
		h.Unparsed("a post of the camera: "+err.Error(), sample(d.Body))
		if len(p.Vehicles) == 0 {
			return reply, nil
		}
	}
	h.Valid()
	if p.Unread > 0 {
		h.Unparsed(fmt.Sprintf("%d pictures of a post are too many", p.Unread), nil)
	}
	var pictures []Picture
	for i, content := range p.Pictures {
		pictures = append(pictures, Picture{Name: fmt.Sprintf("picture-%d.jpg", i+1), Content: content})
	}
	for i, v := range p.Vehicles {
		x := Reading{Plate: v.Plate, Reader: event.PlateReader{Lane: v.Lane}, Received: h.Now()}
		if w := (event.PlateVehicle{Type: word(v.Type), Color: word(v.Color)}); w != (event.PlateVehicle{}) {
			x.Vehicle = &w
		}
		if at := p.At(); !at.IsZero() {
			x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
			if v.Plate != "" { // the time may be in seconds: two unread ones may share it
				x.MessageKey = plate.MessageKey(p.Time, cmp.Or(v.Lane, "-"), strconv.Itoa(i), v.Plate)
			}
		}
		if err := c.recorder.Record(h, withPictures(h, x, d.Body, pictures...)); err != nil {
			return answer{}, err
		}
	}
	return reply, nil
}
