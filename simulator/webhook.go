package simulator

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/milesight"
	"github.com/lanepost/lanepost/protocol/sharpv"
	"github.com/lanepost/lanepost/protocol/tvt"
)

// What cameras that post can be set to, and do.
var (
	sharpVSwitches    = []string{"exporter", "no-pictures", "resend"}
	tvtSwitches       = []string{"vehicle", "keepalive", "other-alarms", "placeholder", "no-pictures", "resend"}
	milesightSwitches = []string{"get", "no-pictures", "resend"}
)

func newSharpVCamera(env cameraEnv) (cameraModel, error) {
	e, err := newEngine(env, "sharpv")
	if err != nil {
		return nil, err
	}
	e.post = func(s Sighting) (string, []byte) {
		r := sharpv.Read{
			ID: fmt.Sprintf("5f0e6a1c-0000-4000-8000-%012d", s.Serial), Plate: s.Plate, State: s.Country, Confidence: strconv.Itoa(s.Confidence),
			Motion: "Moving Away", VehicleType: s.Kind, Camera: "lane", Context: "context", Timestamp: s.When.Format("2006-01-02T15:04:05.000"),
			PlateImage: s.Crop, Image: s.Picture,
		}
		if env.Settings.Has("no-pictures") {
			r.PlateImage, r.Image = nil, nil
		}
		if env.Settings.Has("exporter") {
			// It tells no id, so a vehicle can be known by its time only.
			r.Date, r.Clock = s.When.UTC().Format("02/01/2006"), s.When.UTC().Format("15:04:05")
		}
		return "application/json", sharpv.Append(nil, r)
	}
	return e, nil
}

func newTVTCamera(env cameraEnv) (cameraModel, error) {
	e, err := newEngine(env, "tvt")
	if err != nil {
		return nil, err
	}
	e.post = func(s Sighting) (string, []byte) {
		m := tvt.Message{
			Smart: "VEHICE", Time: strconv.FormatInt(s.When.UnixMicro(), 10), Overview: s.Picture, Source: append(s.Picture[:len(s.Picture):len(s.Picture)], 0),
			Reads: []tvt.Read{{Plate: s.Plate, List: "strangerList", Crop: s.Crop}},
		}
		if env.Settings.Has("vehicle") {
			m.Smart = "VEHICLE"
		}
		if env.Settings.Has("no-pictures") {
			m.Overview, m.Source, m.Reads[0].Crop = nil, nil, nil
		}
		if env.Settings.Has("placeholder") {
			m.Source = nil
		}
		body := tvt.Append(nil, m)
		if env.Settings.Has("placeholder") {
			const end = "</config>"
			body = append(body[:len(body)-len(end)], "<sourceDataInfo><sourceBase64Data>NO_PICTURE</sourceBase64Data></sourceDataInfo>"+end...)
		}
		return "application/xml", body
	}
	e.between = func(at time.Duration) []byte {
		switch second := int(at / time.Second); {
		case env.Settings.Has("keepalive") && second%30 == 0:
			return []byte(`<?xml version="1.0" encoding="UTF-8"?><DeviceInfo><DeviceNo.>1</DeviceNo.></DeviceInfo>`)
		case env.Settings.Has("keepalive") && second%30 == 15:
			return []byte{}
		case env.Settings.Has("other-alarms") && second%7 == 0:
			return tvt.Append(nil, tvt.Message{Smart: "PEA", Time: "1740816912654000"})
		}
		return nil
	}
	return e, nil
}

func newMilesightCamera(env cameraEnv) (cameraModel, error) {
	e, err := newEngine(env, "milesight")
	if err != nil {
		return nil, err
	}
	read := func(s Sighting) *milesight.Read {
		r := &milesight.Read{
			Device: "lane", Time: s.When.Format("2006-01-02 15:04:05"), Plate: s.Plate, VehicleType: s.Kind, Direction: "In", Speed: fmt.Sprint(s.SpeedKPH),
			Confidence: strconv.Itoa(s.Confidence), Region: alpha3(s.Country), ROI: "1", PlateImage: s.Crop, FullImage: s.Picture,
		}
		if !s.Toward {
			r.Direction = "Out"
		}
		if env.Settings.Has("no-pictures") || env.Settings.Has("get") {
			r.PlateImage, r.FullImage = nil, nil
		}
		return r
	}
	e.post = func(s Sighting) (string, []byte) { return "application/json", milesight.Append(nil, read(s)) }
	if env.Settings.Has("get") {
		e.get = func(s Sighting) string { return read(s).Values().Encode() }
	}
	return e, nil
}

// ask asks the host with a query, as some cameras tell what they read.
func (e *cameraEnv) ask(ctx context.Context, query string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Settings.Push+"?"+query, nil)
	if err != nil {
		return err
	}
	resp, err := e.HTTP.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // the status is all that counts
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the host answered with %d", resp.StatusCode)
	}
	return nil
}
