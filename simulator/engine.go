package simulator

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/protocol/multipart"
	"github.com/lanepost/lanepost/protocol/platerecognizer"
	"github.com/lanepost/lanepost/protocol/rekor"
)

// engineBuffer is how many posts an engine keeps for a host that is away.
const engineBuffer = 1000

// engineSwitches are what the engines can be set to, and do.
var (
	rekorSwitches           = []string{"frames", "heartbeat", "resend"}
	plateRecognizerSwitches = []string{"form", "resend"}
)

// engine is software that reads plates and posts what it read.
type engine struct {
	sender
	env cameraEnv
	out outbox
	// post is the type and the body for a sighting.
	post func(Sighting) (contentType string, body []byte)
	// get, if set, is the query that it asks with instead.
	get func(Sighting) string
	// between is what it posts beside, each second; nil for nothing.
	between func(time.Duration) []byte
}

func newRekorEngine(env cameraEnv) (cameraModel, error) {
	e, err := newEngine(env, "rekor")
	if err != nil {
		return nil, err
	}
	e.post = func(s Sighting) (string, []byte) {
		return "application/json", rekor.Append(nil, rekor.Group{
			Plate: s.Plate, Confidence: fmt.Sprintf("%d.25", s.Confidence), Region: "eu-" + strings.ToLower(s.Country), Start: strconv.FormatInt(s.When.UnixMilli(), 10),
			UUID: fmt.Sprintf("UUID-%d-%d", s.When.Unix(), s.Serial), Camera: "7", Agent: "AGENT", Direction: "181.5", Color: "white",
		})
	}
	e.between = func(at time.Duration) []byte {
		switch second := int(at / time.Second); {
		case env.Settings.Has("heartbeat") && second%60 == 0:
			return []byte(`{"data_type":"heartbeat","agent_uid":"AGENT"}`)
		case env.Settings.Has("frames") && second%7 == 0:
			return []byte(`{"data_type":"alpr_results","results":[{"plate":"XX0000XX","confidence":55.5}]}`)
		}
		return nil
	}
	return e, nil
}

func newPlateRecognizerEngine(env cameraEnv) (cameraModel, error) {
	e, err := newEngine(env, "plate-recognizer")
	if err != nil {
		return nil, err
	}
	style := multipart.Style{Boundary: "engineboundary"}
	e.post = func(s Sighting) (string, []byte) {
		text := platerecognizer.Append(nil, platerecognizer.Post{
			HookID: "lane", FileName: fmt.Sprintf("lane/%d.jpg", s.Serial), Camera: "lane", Timestamp: s.When.UTC().Format("2006-01-02T15:04:05.000000Z"),
			Results: []platerecognizer.Result{{Plate: strings.ToLower(s.Plate), Score: fmt.Sprintf("0.%02d", s.Confidence), Region: strings.ToLower(s.Country), VehicleType: "Sedan"}},
		})
		if !env.Settings.Has("form") {
			return "application/json", text
		}
		body := style.Append(nil, map[string]string{"Content-Disposition": `form-data; name="json"`}, text)
		body = style.Append(body, map[string]string{"Content-Disposition": `form-data; name="upload"; filename="a.jpg"`, "Content-Type": "image/jpeg"}, s.Picture)
		return "multipart/form-data; boundary=" + style.Boundary, style.Close(body)
	}
	return e, nil
}

func newEngine(env cameraEnv, model string) (*engine, error) {
	if err := env.Settings.needsPush(model); err != nil {
		return nil, err
	}
	return &engine{env: env, out: outbox{env: env, most: engineBuffer}}, nil
}

func (e *engine) observe(ctx context.Context, s Sighting) error {
	contentType, body := e.post(s)
	times := 1
	if e.env.Settings.Has("resend") {
		times = 2 // as if the first answer had been lost
	}
	for i := range times {
		e.out.put(letter{s: s, last: i == times-1, send: func(ctx context.Context) error {
			if e.get != nil {
				return e.env.ask(ctx, e.get(s))
			}
			_, err := e.env.post(ctx, "", contentType, body)
			return err
		}})
	}
	return e.out.send(ctx)
}

func (e *engine) tick(ctx context.Context, at time.Duration) {
	_ = e.out.send(ctx) // what fails is tried at the next tick
	if e.between != nil {
		if body := e.between(at); body != nil {
			_, _ = e.env.post(ctx, "", "application/json", body) // nobody misses it
		}
	}
}
