package simulator

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/lanepost/lanepost/protocol/onvif"
)

// publisherBuffer is how many messages a camera keeps for a broker that is away.
const publisherBuffer = 1000

// publisher sends to a broker, at the URL of CameraSettings.Push:
// mqtt://HOST:PORT/PREFIX.
type publisher struct {
	env    cameraEnv
	broker string
	prefix string

	mu     sync.Mutex
	client mqtt.Client
	closed bool
}

func newPublisher(env cameraEnv) (*publisher, error) {
	u, err := url.Parse(env.Settings.Push)
	if err != nil || u.Scheme != "mqtt" || u.Host == "" {
		return nil, fmt.Errorf("push: %q is no broker; write mqtt://HOST:PORT/PREFIX", env.Settings.Push)
	}
	p := &publisher{env: env, broker: "tcp://" + u.Host, prefix: strings.Trim(u.Path, "/")}
	go func() {
		<-env.Done
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed = true; p.client != nil {
			p.client.Disconnect(100)
		}
	}()
	return p, nil
}

// publish sends with QoS 1 and waits until the broker has it.
func (p *publisher) publish(ctx context.Context, topic string, payload []byte, retained bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("the camera is off")
	}
	if p.client == nil {
		o := mqtt.NewClientOptions().AddBroker(p.broker).SetProtocolVersion(4).SetAutoReconnect(false).
			SetConnectTimeout(pushTimeout).SetWriteTimeout(pushTimeout).SetUsername(p.env.Settings.Username).SetPassword(p.env.Settings.Password)
		client := mqtt.NewClient(o)
		if err := wait(ctx, client.Connect()); err != nil {
			return fmt.Errorf("connect to the broker: %w", err)
		}
		p.client = client
	}
	p.env.late(ctx)
	if p.prefix != "" {
		topic = p.prefix + "/" + topic
	}
	if err := wait(ctx, p.client.Publish(topic, 1, retained, payload)); err != nil {
		p.client.Disconnect(0)
		p.client = nil
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func wait(ctx context.Context, t mqtt.Token) error {
	timer := time.NewTimer(pushTimeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("the broker does not answer")
	}
}

// onvifPublisherSwitches are what a camera of Profile M can be set to, and does.
var onvifPublisherSwitches = []string{
	"metadata",      // scenes beside the events, several for each vehicle
	"only-metadata", // scenes and no events; the first one has a character less
	"hikvision",     // Hikvision's topic and items
	"property",      // events are kept by the broker for who comes later
	"motion",        // other events in between
	"resend",        // each message twice
	"no-pictures",
}

// onvifPublisher is a camera that publishes as Profile M says.
type onvifPublisher struct {
	sender
	env cameraEnv
	out outbox
	to  *publisher
}

func newONVIFPublisher(env cameraEnv) (cameraModel, error) {
	to, err := newPublisher(env)
	if err != nil {
		return nil, err
	}
	return &onvifPublisher{env: env, to: to, out: outbox{env: env, most: publisherBuffer}}, nil
}

type published struct {
	topic   string
	payload []byte
}

// messages are what is published of a sighting.
func (c *onvifPublisher) messages(s Sighting) ([]published, error) {
	has := c.env.Settings.Has
	n := onvifNotification(c.env.Settings, s)
	var list []published
	if has("motion") {
		topic, payload, err := onvif.Notification{
			Topic: "tns1:VideoSource/MotionAlarm", UTCTime: n.UTCTime, Source: []onvif.Item{{Name: "VideoSource", Value: "vs1"}},
			Data: []onvif.Item{{Name: "State", Value: "true"}},
		}.EncodeEvent()
		if err != nil {
			return nil, err
		}
		list = append(list, published{topic, payload})
	}
	if !has("only-metadata") {
		topic, payload, err := n.EncodeEvent()
		if err != nil {
			return nil, err
		}
		list = append(list, published{topic, payload})
	}
	if (has("metadata") || has("only-metadata")) && n.Plate != nil {
		for scene := range 4 {
			p := *n.Plate
			switch r := []rune(p.Number.Text); {
			case scene == 0:
				p.Number.Text = "" // it is far away still
			case scene == 1 && has("only-metadata") && len(r) > 1:
				p.Number.Text = string(r[:len(r)-1])
			}
			payload, err := onvif.EncodeMetadata(n.UTCTime, fmt.Sprint(1000+s.Serial), p)
			if err != nil {
				return nil, err
			}
			list = append(list, published{"onvif-mj/VideoAnalytics/profile1/plates", payload})
		}
	}
	if has("resend") {
		var twice []published
		for _, m := range list {
			twice = append(twice, m, m)
		}
		list = twice
	}
	return list, nil
}

func (c *onvifPublisher) observe(ctx context.Context, s Sighting) error {
	list, err := c.messages(s)
	if err != nil {
		return err
	}
	for i, m := range list {
		c.out.put(letter{s: s, last: i == len(list)-1, send: func(ctx context.Context) error {
			return c.to.publish(ctx, m.topic, m.payload, c.env.Settings.Has("property"))
		}})
	}
	return c.out.send(ctx)
}

func (c *onvifPublisher) tick(ctx context.Context, _ time.Duration) {
	_ = c.out.send(ctx) // what fails is tried at the next tick
}
