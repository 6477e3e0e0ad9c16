package anpr

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/onvif"
)

// ONVIFPullPoint is the driver of cameras that tell plates as ONVIF events.
func ONVIFPullPoint() drivers.Driver {
	return drivers.Driver{
		Name:    "onvif-pullpoint",
		Summary: "ONVIF camera that tells plates as events, asked at a pull point",
		Schemes: []string{"http", "https"},
		Silence: time.Minute, // each answer counts, and an answer comes at least every PullTimeout
		New:     newONVIF,
	}
}

// Bounds and times.
const (
	// onvifAnswer bounds an answer in bytes.
	onvifAnswer = onvif.MaxDocument
	// onvifLoginPause is how long a refused login is not tried again: cameras lock
	// an address out after a handful of wrong ones.
	onvifLoginPause = 10 * time.Minute
	// onvifGoodbye bounds the unsubscribing at the end.
	onvifGoodbye = 2 * time.Second
	// onvifMargin is how much longer than two answers a subscription must last, or it
	// is renewed.
	onvifMargin  = 5 * time.Second
	minPull      = time.Second
	maxPull      = 30 * time.Second
	minTerm      = 10 * time.Second
	maxTerm      = time.Hour
	maxPullLimit = 1000
	// maxONVIFSecret bounds the file with a password, in bytes.
	maxONVIFSecret = 4096
)

// ONVIFSettings are the settings of a camera at a pull point.
type ONVIFSettings struct {
	ONVIFEventSettings `yaml:",inline"`
	// DevicePath and EventsPath are the services of the camera.
	DevicePath string `yaml:"device_path"`
	EventsPath string `yaml:"events_path"`
	// Username and the file with the password are for the login that is in the
	// messages (WS-UsernameToken). A login of HTTP stands with the link.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	// PullTimeout is how long the camera may wait for an event before it answers. It
	// must be below the link's answer_timeout.
	PullTimeout time.Duration `yaml:"pull_timeout"`
	// PullLimit is how many events it may send in an answer.
	PullLimit int `yaml:"pull_limit"`
	// Termination is for how long a subscription is made and renewed. That long the
	// camera keeps what happens while it can't be reached, as far as it has room.
	Termination time.Duration `yaml:"termination"`
}

type onvifCamera struct {
	onvifEvents
	settings ONVIFSettings

	notBefore time.Time // after a login that was refused
	// The subscription outlives the connection: what happened meanwhile is in it.
	subscription string // path and query; empty for none
	address      string // as the camera gave it
	reference    []onvif.Reference
	ends         time.Time
	offset       time.Duration // by how much the camera's clock is ahead
}

func newONVIF(decode func(any) error) (drivers.Instrument, error) {
	s := ONVIFSettings{
		ONVIFEventSettings: defaultONVIFEvents(), DevicePath: "/onvif/device_service", EventsPath: "/onvif/event_service",
		PullTimeout: 10 * time.Second, PullLimit: 16, Termination: 3 * time.Minute,
	}
	if err := decode(&s); err != nil {
		return nil, err
	}
	events, err := newONVIFEvents(s.ONVIFEventSettings)
	if err != nil {
		return nil, err
	}
	for name, path := range map[string]string{"device_path": s.DevicePath, "events_path": s.EventsPath} {
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
			return nil, fmt.Errorf("%s: %q is no path; take one like /onvif/event_service", name, path)
		}
	}
	if (s.Username == "") != (s.PasswordFile == "") {
		return nil, errors.New("username and password_file go together; set both or none")
	}
	switch {
	case s.PullTimeout < minPull || s.PullTimeout > maxPull:
		return nil, fmt.Errorf("pull_timeout: %s; take %s to %s", s.PullTimeout, minPull, maxPull)
	case s.Termination < minTerm || s.Termination > maxTerm:
		return nil, fmt.Errorf("termination: %s; take %s to %s", s.Termination, minTerm, maxTerm)
	case s.PullLimit < 1 || s.PullLimit > maxPullLimit:
		return nil, fmt.Errorf("pull_limit: %d; take 1 to %d", s.PullLimit, maxPullLimit)
	}
	return &onvifCamera{onvifEvents: events, settings: s}, nil
}

// Run implements drivers.Instrument.
func (c *onvifCamera) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	client, ok := link.As[*link.Client](conn)
	if !ok {
		return errors.New("the driver onvif-pullpoint needs an http: or https: link")
	}
	if h.Now().Before(c.notBefore) {
		return &link.RetryError{Err: errors.New("the camera refused the login; check username, password_file and the camera's clock"), Until: c.notBefore}
	}
	if err := c.clock(ctx, client, h); err != nil {
		return err
	}
	if c.subscription == "" || !h.Now().Before(c.ends) {
		if err := c.subscribe(ctx, client, h); err != nil {
			return err
		}
	}
	err := c.pull(ctx, client, h)
	if ctx.Err() != nil {
		c.goodbye(ctx, client, h)
	}
	return err
}

// clock learns how far the camera's clock is off: it refuses a login that was made
// by another. A camera that does not tell is taken to be right.
func (c *onvifCamera) clock(ctx context.Context, client *link.Client, h drivers.Host) error {
	r, err := c.askAt(ctx, client, h, c.settings.DevicePath, onvif.Request{Operation: onvif.GetSystemDateAndTime}, false)
	var fault *onvif.Fault
	switch {
	case err == nil:
		c.offset = r.System.Sub(h.Now())
		return nil
	case errors.As(err, &fault), errors.Is(err, errNotONVIF):
		h.Log().Debug("the camera does not tell its time", "error", err)
		return nil
	}
	return err
}

func (c *onvifCamera) subscribe(ctx context.Context, client *link.Client, h drivers.Host) error {
	r, err := c.askAt(ctx, client, h, c.settings.EventsPath, onvif.Request{Operation: onvif.CreatePullPointSubscription, Termination: c.settings.Termination}, true)
	if err != nil {
		return fmt.Errorf("subscribe to the camera's events: %w", err)
	}
	at, err := url.Parse(r.Subscription)
	if err != nil {
		return errors.New("the camera gave an address of the subscription that is none")
	}
	// Whatever host the camera names, it is asked where it was found.
	c.subscription, c.address = at.RequestURI(), r.Subscription
	if !strings.HasPrefix(c.subscription, "/") {
		c.subscription = c.settings.EventsPath
	}
	c.reference = r.Reference
	c.ends = h.Now().Add(c.settings.Termination)
	return nil
}

// pull asks for events until that fails.
func (c *onvifCamera) pull(ctx context.Context, client *link.Client, h drivers.Host) error {
	for {
		if c.ends.Sub(h.Now()) < min(c.settings.Termination/2, 2*c.settings.PullTimeout+onvifMargin) {
			if err := c.renew(ctx, client, h); err != nil {
				return err
			}
		}
		if _, err := c.once(ctx, client, h, c.settings.PullTimeout); err != nil {
			return err
		}
	}
}

// once asks for events and records them. n is how many there were.
func (c *onvifCamera) once(ctx context.Context, client *link.Client, h drivers.Host, wait time.Duration) (n int, err error) {
	request := onvif.Request{Operation: onvif.PullMessages, To: c.address, Timeout: wait, Limit: c.settings.PullLimit}
	r, err := c.askAt(ctx, client, h, c.subscription, request, true)
	if err != nil {
		return 0, c.lost(fmt.Errorf("pull events: %w", err))
	}
	h.Valid()
	if !r.Current.IsZero() {
		if r.CurrentZoned { // else it may be the time on the camera's wall
			c.offset = r.Current.Sub(h.Now())
		}
		if left := r.Termination.Sub(r.Current); !r.Termination.IsZero() && left > 0 {
			c.ends = h.Now().Add(left) // some cameras renew with each answer
		}
	}
	for _, n := range r.Notifications {
		if err := c.notification(h, n); err != nil {
			return 0, err
		}
	}
	return len(r.Notifications), nil
}

// renew makes the subscription last longer, or makes another one for a camera that
// can't do that.
func (c *onvifCamera) renew(ctx context.Context, client *link.Client, h drivers.Host) error {
	request := onvif.Request{Operation: onvif.Renew, To: c.address, Termination: c.settings.Termination}
	_, err := c.askAt(ctx, client, h, c.subscription, request, true)
	var fault *onvif.Fault
	var later *link.RetryError
	switch {
	case err == nil:
		c.ends = h.Now().Add(c.settings.Termination)
		return nil
	case errors.As(err, &later) || !errors.As(err, &fault) && !errors.Is(err, errNotONVIF):
		return c.lost(fmt.Errorf("renew the subscription: %w", err))
	}
	h.Log().Debug("the camera does not renew a subscription; another one is made", "error", err)
	old, address, reference := c.subscription, c.address, c.reference
	if err := c.subscribe(ctx, client, h); err != nil {
		return err
	}
	// What is still in the old one comes first.
	fresh, freshAddress, ends, freshReference := c.subscription, c.address, c.ends, c.reference
	c.subscription, c.address, c.reference = old, address, reference
	err = nil
	for n := c.settings.PullLimit; err == nil && n >= c.settings.PullLimit; {
		n, err = c.once(ctx, client, h, 0)
	}
	if err == nil {
		c.goodbye(ctx, client, h)
	}
	c.subscription, c.address, c.ends, c.reference = fresh, freshAddress, ends, freshReference
	if errors.As(err, &fault) || errors.Is(err, errNotONVIF) {
		return nil // it was gone already
	}
	return err
}

// lost forgets the subscription if the camera has answered that it does not have
// it. Otherwise it may still be there after a reconnection.
func (c *onvifCamera) lost(err error) error {
	var fault *onvif.Fault
	if errors.As(err, &fault) || errors.Is(err, errGone) {
		c.subscription = ""
	}
	return err
}

// goodbye ends the subscription, as far as that can be.
func (c *onvifCamera) goodbye(ctx context.Context, client *link.Client, h drivers.Host) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), onvifGoodbye)
	defer cancel()
	request := onvif.Request{Operation: onvif.Unsubscribe, To: c.address}
	if _, err := c.askAt(ctx, client, h, c.subscription, request, true); err != nil {
		h.Log().Debug("the subscription was not ended; it ends by itself", "error", err)
		return
	}
	c.subscription = ""
}

var (
	errNotONVIF = errors.New("it does not answer as ONVIF does")
	// errGone: what was asked for is not there. A camera that is busy says something else.
	errGone = errors.New("it is not there")
)

// askAt asks the camera at a path.
func (c *onvifCamera) askAt(ctx context.Context, client *link.Client, h drivers.Host, path string, r onvif.Request, withLogin bool) (onvif.Response, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return onvif.Response{}, fmt.Errorf("make the id of a message: %w", err)
	}
	r.MessageID = "urn:uuid:" + id.String()
	if path == c.subscription {
		r.Reference = c.reference
	}
	if withLogin && c.settings.Username != "" {
		if r.Login, err = c.login(h); err != nil {
			return onvif.Response{}, err
		}
	}
	body, err := r.Encode()
	if err != nil {
		return onvif.Response{}, err
	}
	resp, err := client.Post(ctx, path, onvif.ContentType, body) //nolint:bodyclose // ReadBody closes it
	if err != nil {
		return onvif.Response{}, err
	}
	answer, err := link.ReadBody(resp, onvifAnswer)
	if err != nil {
		return onvif.Response{}, fmt.Errorf("read the answer to %s: %w", r.Operation, err)
	}
	out, err := onvif.DecodeResponse(c.recorder.Text(answer), r.Operation)
	var fault *onvif.Fault
	switch {
	case errors.As(err, &fault):
		if fault.NotAuthorized() && r.Login != nil {
			c.notBefore = h.Now().Add(onvifLoginPause)
			return out, &link.RetryError{Err: fmt.Errorf("%s: %w; check username, password_file and the camera's clock", r.Operation, fault), Until: c.notBefore}
		}
		return out, fmt.Errorf("%s: %w", r.Operation, fault)
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone || resp.StatusCode == http.StatusBadRequest:
		return out, fmt.Errorf("%s at %s: %w: %w: %w", r.Operation, path, errGone, errNotONVIF, link.StatusError(resp))
	case link.StatusError(resp) != nil:
		return out, fmt.Errorf("%s at %s: %w: %w", r.Operation, path, errNotONVIF, link.StatusError(resp))
	case err != nil:
		h.Unparsed(err.Error(), answer)
		return out, fmt.Errorf("%s at %s: %w: %w", r.Operation, path, errNotONVIF, err)
	}
	return out, nil
}

// login makes a login by the camera's clock. The password is read each time, so
// that it can be changed.
func (c *onvifCamera) login(h drivers.Host) (*onvif.Login, error) {
	file, err := os.Open(c.settings.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("password_file: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	secret := make([]byte, maxONVIFSecret)
	n, err := file.Read(secret)
	if err != nil || n == maxONVIFSecret {
		return nil, fmt.Errorf("password_file %s: it is empty or too long", c.settings.PasswordFile)
	}
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("make a nonce: %w", err)
	}
	password := string(bytes.TrimRight(secret[:n], "\r\n"))
	return onvif.NewLogin(c.settings.Username, password, nonce[:], h.Now().Add(c.offset)), nil
}
