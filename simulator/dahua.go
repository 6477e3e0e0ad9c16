package simulator

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/dahua"
)

// dahuaBuffer is how many posts the camera keeps for a host that is away.
const dahuaBuffer = 1000

// dahuaSwitches are what the camera can be set to, and does.
var dahuaSwitches = []string{
	"misspelt",    // the keys that some firmware spells otherwise
	"keepalive",   // one each 30 seconds
	"resend",      // each post is sent twice, as if the first answer had been lost
	"three",       // a picture of the vehicle too
	"no-pictures", //
}

// dahuaCamera posts over ITSAPI until it is told that the post was taken.
type dahuaCamera struct {
	sender
	env    cameraEnv
	out    outbox
	uplink int
	said   bool // what it is
}

func newDahuaCamera(env cameraEnv) (cameraModel, error) {
	if err := env.Settings.needsPush("dahua"); err != nil {
		return nil, err
	}
	return &dahuaCamera{env: env, out: outbox{env: env, most: dahuaBuffer}}, nil
}

const dahuaID = "6G0000APAZ00001"

func (c *dahuaCamera) observe(ctx context.Context, s Sighting) error {
	has := c.env.Settings.Has
	c.uplink++
	r := &dahua.Read{
		Exists: "true", Plate: s.Plate, PlateColor: "White", PlateType: "Normal", Confidence: strconv.Itoa(s.Confidence * 255 / 100), Region: alpha3(s.Country),
		UploadNum: strconv.Itoa(c.uplink), Color: "White", Sign: "Unknown", Type: "HeavyTruck", Speed: strconv.Itoa(int(s.SpeedKPH)),
		SnapTime: s.When.Format("2006-01-02 15:04:05"), AccurateTime: s.When.Format("2006-01-02 15:04:05.000"), TimeZone: "17",
		Lane: "1", Direction: "Obverse", Address: "lane", Trigger: "Video", PicName: "picture-" + strconv.FormatUint(s.Serial, 10),
	}
	if s.Unread {
		r.Exists, r.Plate, r.Confidence = "false", "Unknow", "0"
	}
	if !has("no-pictures") {
		r.Pictures = []dahua.Picture{{Kind: "normal", Content: s.Picture}, {Kind: "cutout", Content: s.Crop}}
		if has("three") {
			r.Pictures = append(r.Pictures, dahua.Picture{Kind: "vehicle", Content: append(s.Picture[:len(s.Picture):len(s.Picture)], 0)})
		}
	}
	body := dahua.Append(nil, dahua.Post{Kind: dahua.Plate, DeviceID: dahuaID, Read: r}, has("misspelt"))
	times := 1
	if has("resend") {
		times = 2
	}
	for i := range times {
		c.out.put(letter{s: s, last: i == times-1, send: func(ctx context.Context) error {
			said, err := c.env.post(ctx, "/NotificationInfo/TollgateInfo", "application/json", body)
			if err == nil && !dahua.Accepted(said) {
				err = errors.New("the host did not take the post")
			}
			return err
		}})
	}
	return c.out.send(ctx)
}

func (c *dahuaCamera) tick(ctx context.Context, at time.Duration) {
	_ = c.out.send(ctx) // what fails is tried at the next tick
	if !c.said {
		_, err := c.env.post(ctx, "/NotificationInfo/DeviceInfo", "application/json", dahua.Append(nil, dahua.Post{Kind: dahua.DeviceInfo, DeviceID: dahuaID, Model: "ITC"}, false))
		c.said = err == nil
	}
	if c.env.Settings.Has("keepalive") && int(at/time.Second)%30 == 0 {
		_, _ = c.env.post(ctx, "/NotificationInfo/KeepAlive", "application/json", dahua.Append(nil, dahua.Post{Kind: dahua.KeepAlive, DeviceID: dahuaID}, false)) // the next one is soon
	}
}
