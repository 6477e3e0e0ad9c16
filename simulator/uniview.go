package simulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/uniview"
)

// univiewSwitches are what the camera can be set to, and does.
var univiewSwitches = []string{
	"control-characters", // raw ones in what it posts
	"anpr-path",          // it posts to /ANPR
	"milliseconds",       // the time is in them
	"forgetful",          // it forgets each second subscription, and says so in the body alone
	"resend",
	"no-pictures",
}

// univiewCamera posts to who has subscribed, as long as the subscription is renewed.
type univiewCamera struct {
	env   cameraEnv
	login *digestLogin
	out   outbox

	mu     sync.Mutex
	number int
	host   string // of the subscription; empty for none
	ends   time.Time
	more   chan struct{} // closed and made anew when there is a subscription
}

func newUniviewCamera(env cameraEnv) (cameraModel, error) {
	return &univiewCamera{env: env, login: newDigestLogin(env.Settings), out: outbox{env: env, most: engineBuffer}, more: make(chan struct{})}, nil
}

// ServeHTTP implements http.Handler.
func (c *univiewCamera) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxHostAnswer))
	if err != nil || !c.login.admit(w, r) {
		return
	}
	rest, known := strings.CutPrefix(r.URL.Path, uniview.SubscriptionPath)
	s, err := uniview.ParseSubscription(body)
	if !known || err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	until := c.env.Now().Add(time.Duration(s.Duration) * time.Second)
	switch {
	case r.Method == http.MethodPost && rest == "" && s.Address != "":
		c.number++
		c.host, c.ends = "http://"+net.JoinHostPort(s.Address, strconv.Itoa(s.Port)), until
		close(c.more)
		c.more = make(chan struct{})
	case r.Method == http.MethodPut && c.host != "" && rest == "/"+strconv.Itoa(c.number) && !(c.env.Settings.Has("forgetful") && c.number%2 == 1):
		c.ends = until
	case r.Method == http.MethodPut && c.env.Settings.Has("forgetful"):
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"Response":{"ResponseCode":1,"ResponseString":"Not Exist"}}`)) // who asked may be gone
		return
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(uniview.AppendID(nil, c.number)) // who asked may be gone
}

// where gives the host to post to; empty for none.
func (c *univiewCamera) where() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.host == "" || !c.env.Fast && c.env.Now().After(c.ends) {
		return ""
	}
	return c.host
}

func (c *univiewCamera) observe(ctx context.Context, s Sighting) error {
	for c.env.Fast && c.where() == "" {
		c.mu.Lock()
		more := c.more
		c.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	host := c.where()
	if host == "" {
		c.env.Told(s, "lost") // nobody has asked for it
		return nil
	}
	has := c.env.Settings.Has
	p := uniview.Post{
		Reference: uniview.SubscriptionPath + "/1", Time: strconv.FormatInt(s.When.Unix(), 10),
		Vehicles: []uniview.Vehicle{{Plate: s.Plate, Type: "1", Color: "2", Lane: "1"}}, Pictures: [][]byte{s.Picture, s.Crop},
	}
	if has("milliseconds") {
		p.Time = strconv.FormatInt(s.When.UnixMilli(), 10)
	}
	if has("no-pictures") {
		p.Pictures = nil
	}
	body := uniview.AppendPost(nil, p)
	if has("control-characters") {
		body = bytes.Replace(body, []byte(`"Reference":"`), []byte("\"Reference\":\"\x01\n"), 1)
	}
	path := uniview.NotificationPath + "/Structure"
	if has("anpr-path") {
		path = uniview.NotificationPath + "/ANPR"
	}
	times := 1
	if has("resend") && !s.Unread {
		times = 2
	}
	for i := range times {
		c.out.put(letter{s: s, last: i == times-1, send: func(ctx context.Context) error {
			env := c.env
			env.Settings.Push = host
			said, err := env.post(ctx, path, "application/json", body)
			if err == nil && !strings.HasPrefix(string(said), `{"ResponseCode":0,`) {
				err = fmt.Errorf("the host did not take the post: %q", said)
			}
			return err
		}})
	}
	return c.out.send(ctx)
}

func (c *univiewCamera) tick(ctx context.Context, _ time.Duration) {
	_ = c.out.send(ctx) // what fails is tried at the next tick
}
