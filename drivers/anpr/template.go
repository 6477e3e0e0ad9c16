package anpr

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
	"github.com/lanepost/lanepost/protocol/textframe"
	"github.com/lanepost/lanepost/protocol/wiegand"
)

// Template is the driver of readers whose output somebody wrote as a template: what
// they send is all in the settings.
func Template() drivers.Driver {
	return drivers.Driver{
		Name:    "plate-template",
		Summary: "plate reader whose output is a template: serial, TCP both ways, HTTP push; grammar in the settings",
		Schemes: []string{"serial", "tcp", "tcp-listen", "http-listen"},
		// Most have no heartbeat, and a lane may be empty for a night.
		Silence: 24 * time.Hour,
		New:     newTemplate,
	}
}

// templatePause ends a frame without an end, where the grammar has no pause either.
const templatePause = time.Second

// TemplateSettings are the settings of a reader with a template.
type TemplateSettings struct {
	Settings `yaml:",inline"`
	// Vendor is whose conventions the values follow, one of plate.Vendors, or another
	// word for none.
	Vendor string `yaml:"vendor"`
	// Grammar is the template, seen from here. Without anything it is a plate on a
	// line of its own.
	Grammar textframe.Grammar `yaml:"grammar"`
	// TimeFormat is how the time is written, after the date and a blank if there is
	// a field date: as Go writes 2 January 2006, 15:04:05.000, for instance
	// 20060102150405, or unix or unix_ms. Empty leaves it.
	TimeFormat string `yaml:"time_format"`
	// MessageKey are the fields by which a message that is sent again is known; all
	// must be there. Empty if the reader has none.
	MessageKey []string `yaml:"message_key"`
	// Reply is what a reader on HTTP gets when its message is on disk.
	Reply string `yaml:"reply"`
}

type template struct {
	settings TemplateSettings
	format   *textframe.Format
	recorder *Recorder
}

var vendorForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

func newTemplate(decode func(any) error) (drivers.Instrument, error) {
	s := TemplateSettings{Vendor: "template"}
	if err := decode(&s); err != nil {
		return nil, err
	}
	if g := &s.Grammar; g.Pattern == "" && len(g.Columns)+len(g.Parts) == 0 {
		g.Pattern = `^(?P<plate>.*)$`
		if g.Start == "" && g.End == "" && g.Idle == 0 {
			g.End = `\r\n`
		}
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.CodePage != "" {
		return nil, errors.New("code_page: it is grammar.encoding for this driver")
	}
	if !vendorForm.MatchString(s.Vendor) {
		return nil, errors.New("vendor: take small letters, digits and dashes, 40 at most")
	}
	format, err := s.Grammar.Compile()
	if err != nil {
		return nil, fmt.Errorf("grammar: %w", err)
	}
	for _, name := range s.MessageKey {
		if !slices.Contains(textframe.Fields(), name) {
			return nil, fmt.Errorf("message_key: there is no field %q; there are %s", name, strings.Join(textframe.Fields(), ", "))
		}
	}
	return &template{settings: s, format: format, recorder: NewRecorder(plate.Vendor(s.Vendor), s.Settings)}, nil
}

// Run implements drivers.Instrument.
func (t *template) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if inbox, ok := link.As[*link.Inbox](conn); ok {
		return t.serve(ctx, inbox, h)
	}
	if acceptor, ok := link.As[*link.Acceptor](conn); ok {
		return acceptor.Serve(ctx, h.Log(), func(ctx context.Context, conn link.Conn) error { return t.read(ctx, conn, h) })
	}
	return t.read(ctx, conn, h)
}

// read takes what comes over one connection.
func (t *template) read(ctx context.Context, conn link.Conn, h drivers.Host) error {
	splitter := t.format.Splitter()
	drain := func() error {
		for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
			if err := t.piece(h, p); err != nil {
				return err
			}
		}
		return nil
	}
	pause := t.format.Idle()
	if pause == 0 && !t.format.Ends() {
		pause = templatePause
	}
	return drivers.Stream{
		Of: "the plate reader",
		Take: func(b []byte) error {
			_, _ = splitter.Write(b) // it never fails
			return drain()
		},
		Pending: splitter.Pending,
		Pause:   pause,
		Idle: func() error {
			splitter.Idle()
			return drain()
		},
	}.Run(ctx, conn, h)
}

func (t *template) piece(h drivers.Host, p textframe.Piece) error {
	if p.Problem != "" {
		h.Unparsed(p.Problem, p.Bytes)
		return nil
	}
	return t.message(h, p.Message, p.Bytes)
}

// serve takes what comes by HTTP.
func (t *template) serve(ctx context.Context, inbox *link.Inbox, h drivers.Host) error {
	for {
		d, err := inbox.Next(ctx)
		if err != nil {
			return err
		}
		good, err := t.delivery(h, d)
		if err != nil {
			return err // not answered, so that the reader sends it again
		}
		if !good {
			d.Reply(http.StatusBadRequest, "text/plain", []byte("this is not as the grammar says\n"))
			continue
		}
		d.Reply(http.StatusOK, "text/plain", []byte(t.settings.Reply))
	}
}

// delivery records a request: its body, or without one its parameters as lines
// "name=value" in the order of their names. good is false if no message was in it.
func (t *template) delivery(h drivers.Host, d *link.Delivery) (good bool, err error) {
	body, values := d.Body, d.Query
	if d.Method == http.MethodGet {
		body = nil
	}
	if strings.HasPrefix(d.ContentType, "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(d.Body)); err == nil {
			values, body = form, nil
		}
	}
	if len(body) == 0 || t.format.Bare() {
		if len(body) == 0 {
			body = parameters(values)
		}
		m, err := t.format.DecodeText(body)
		if err != nil {
			h.Unparsed(err.Error(), body)
			return false, nil
		}
		return true, t.message(h, m, body)
	}
	splitter := t.format.Splitter()
	_, _ = splitter.Write(body) // it never fails
	splitter.Idle()
	for p, ok := splitter.Next(); ok; p, ok = splitter.Next() {
		good = good || p.Problem == ""
		if err := t.piece(h, p); err != nil {
			return false, err
		}
	}
	return good, nil
}

func parameters(values url.Values) []byte {
	var b bytes.Buffer
	line := strings.NewReplacer("\r", " ", "\n", " ")
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, v := range values[name] {
			fmt.Fprintf(&b, "%s=%s\n", line.Replace(name), line.Replace(v))
		}
	}
	return b.Bytes()
}

// message records what a frame says.
func (t *template) message(h drivers.Host, m textframe.Message, frame []byte) error {
	h.Valid()
	if m.Heartbeat {
		return nil
	}
	f := m.Fields
	x := Reading{
		Plate: f[textframe.Plate], Lossy: m.Lossy || slices.Contains(m.Cut, textframe.Plate),
		Confidence: f[textframe.Confidence], Country: f[textframe.Country], Direction: f[textframe.Direction],
		PlateType: f[textframe.PlateType], PlateColor: f[textframe.PlateColor], VehicleList: f[textframe.List],
		Trigger: f[textframe.Trigger], VendorEventID: f[textframe.ID], Vehicle: vehicle(f), Raw: bytes.Clone(frame),
		Reader: event.PlateReader{Camera: f[textframe.Camera], Lane: f[textframe.Lane], Model: f[textframe.Model], Serial: f[textframe.Serial]},
	}
	if bits := f[textframe.Wiegand]; bits != "" {
		text, err := fromWiegand(bits)
		if err != nil {
			h.Unparsed(err.Error(), frame)
			return nil
		}
		x.Plate, x.Lossy = text, x.Lossy || strings.ContainsRune(text, wiegand.Unknown)
	}
	if mark := f[textframe.NoRead]; mark != "" {
		x.Plate = ""
		if t.recorder.Conventions().NoReadReason(mark) != "" {
			x.Plate = mark
		}
	}
	x.DeviceTime, x.TimeSource = t.time(f[textframe.Date], f[textframe.Time])
	if len(t.settings.MessageKey) > 0 {
		var parts []string
		for _, name := range t.settings.MessageKey {
			parts = append(parts, f[name])
		}
		x.MessageKey = plate.MessageKey(parts...)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Pictures)) {
		content := m.Pictures[name]
		x.Pictures = append(x.Pictures, Picture{Name: name, MediaType: http.DetectContentType(content), Content: content})
		x.Raw = bytes.ReplaceAll(x.Raw, []byte(base64.StdEncoding.EncodeToString(content)), nil)
	}
	return t.recorder.Record(h, x)
}

func vehicle(f map[string]string) *event.PlateVehicle {
	v := event.PlateVehicle{
		Type: f[textframe.VehicleType], Color: f[textframe.VehicleColor], Make: f[textframe.VehicleMake], Model: f[textframe.VehicleModel],
		SpeedKPH: speed(f[textframe.Speed]),
	}
	if v == (event.PlateVehicle{}) {
		return nil
	}
	return &v
}

// maxSpeed bounds what is believed of a vehicle's speed, in km/h.
const maxSpeed = 500

// speed reads a speed in km/h; nil if there is none.
func speed(text string) *float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(v >= 0 && v <= maxSpeed) {
		return nil
	}
	return &v
}

// fromWiegand gives the plate in a frame of 64 bits.
func fromWiegand(bits string) (string, error) {
	frame, err := wiegand.Parse(bits)
	if err != nil {
		return "", err
	}
	if frame.Len == 26 {
		return "", errors.New("a Wiegand frame of 26 bits, which holds only a hash of the plate; set the reader to 64 bits")
	}
	return wiegand.Decode64(frame)
}

// time reads the device's time.
func (t *template) time(date, clock string) (time.Time, string) {
	format := t.settings.TimeFormat
	text := clock
	if date != "" {
		text = date + " " + clock
	}
	if format == "" || text == "" {
		return time.Time{}, ""
	}
	if format == "unix" || format == "unix_ms" {
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case err != nil || n <= 0:
			return time.Time{}, ""
		case format == "unix":
			return time.Unix(n, 0), event.TimeFromDevice
		}
		return time.UnixMilli(n), event.TimeFromDevice
	}
	when, err := time.ParseInLocation(format, text, t.recorder.Location())
	if err != nil || when.Year() < 2000 {
		return time.Time{}, ""
	}
	if strings.Contains(format, "Z07") || strings.Contains(format, "-07") {
		return when, event.TimeFromDevice
	}
	return when, event.TimeFromDeviceZone
}
