package anpr

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/nedap"
	"github.com/lanepost/lanepost/protocol/plate"
)

// NedapTLV is the driver of Nedap ANPR over TCP.
func NedapTLV() drivers.Driver {
	return drivers.Driver{
		Name:    "nedap-tlv",
		Summary: "Nedap ANPR, tagged messages over TCP",
		Schemes: []string{"tcp", "tcp-listen"},
		Silence: 24 * time.Hour, // no heartbeat is documented, and a lane may be empty for a night
		New:     newNedapTLV,
	}
}

// NedapRS485 is the driver of Nedap ANPR on a serial line.
func NedapRS485() drivers.Driver {
	return drivers.Driver{
		Name:    "nedap-rs485",
		Summary: "Nedap ANPR on RS-485, raw texts or packets",
		Schemes: []string{"serial", "tcp"},
		Silence: 24 * time.Hour, // as above
		New:     newNedapRS485,
	}
}

// Bounds of the pause that breaks a frame off, and of how long a packet is known
// that is sent again.
const (
	minNedapGap  = 10 * time.Millisecond
	maxNedapGap  = time.Minute
	maxNedapSame = 10 * time.Minute
)

// nedapDates are how a date may be written; the manual does not say.
var nedapDates = map[string]string{
	"": "", "yyyy-mm-dd": "2006-01-02", "dd-mm-yyyy": "02-01-2006", "mm-dd-yyyy": "01-02-2006", "yyyymmdd": "20060102", "yyyy/mm/dd": "2006/01/02",
}

// NedapTLVSettings are the settings of Nedap ANPR over TCP.
type NedapTLVSettings struct {
	Settings `yaml:",inline"`
	// ByteOrder is "little" or "big"; the manual does not say which.
	ByteOrder string `yaml:"byte_order"`
	// TextNumbers is true if the fields whose form the manual leaves open hold texts.
	TextNumbers bool `yaml:"text_numbers"`
	// DateFormat is how the reader writes a date: yyyy-mm-dd, dd-mm-yyyy, mm-dd-yyyy,
	// yyyymmdd or yyyy/mm/dd. Empty leaves its time.
	DateFormat string `yaml:"date_format"`
	// IdleGap is the pause after which the rest of a message does not come any more.
	IdleGap time.Duration `yaml:"idle_gap"`
}

type nedapTLV struct {
	settings NedapTLVSettings
	order    nedap.ByteOrder
	recorder *Recorder
}

func newNedapTLV(decode func(any) error) (drivers.Instrument, error) {
	s := NedapTLVSettings{ByteOrder: string(nedap.LittleEndian), IdleGap: 5 * time.Second}
	if err := decode(&s); err != nil {
		return nil, err
	}
	if err := errors.Join(s.Check(), checkNedap(s.ByteOrder, s.IdleGap)); err != nil {
		return nil, err
	}
	if _, ok := nedapDates[s.DateFormat]; !ok {
		return nil, fmt.Errorf("date_format: %q is not known; take yyyy-mm-dd, dd-mm-yyyy, mm-dd-yyyy, yyyymmdd or yyyy/mm/dd", s.DateFormat)
	}
	return &nedapTLV{settings: s, order: nedap.ByteOrder(s.ByteOrder), recorder: NewRecorder(plate.Nedap, s.Settings)}, nil
}

func checkNedap(order string, gap time.Duration) error {
	if err := nedap.ByteOrder(order).Check(); err != nil {
		return fmt.Errorf("byte_order: %w", err)
	}
	if gap < minNedapGap || gap > maxNedapGap {
		return fmt.Errorf("idle_gap: %s; take %s to %s", gap, minNedapGap, maxNedapGap)
	}
	return nil
}

// Run implements drivers.Instrument.
func (d *nedapTLV) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	read := func(ctx context.Context, conn link.Conn) error {
		return nedapStream(nedap.Messages(d.order), d.settings.IdleGap, h, func(b []byte) error { return d.message(h, b) }).Run(ctx, conn, h)
	}
	if a, ok := link.As[*link.Acceptor](conn); ok {
		return a.Serve(ctx, h.Log(), read)
	}
	return read(ctx, conn)
}

// nedapStream hands the frames of a stream to take.
func nedapStream(s *nedap.Splitter, gap time.Duration, h drivers.Host, take func([]byte) error) drivers.Stream {
	drain := func() error {
		for p, ok := s.Next(); ok; p, ok = s.Next() {
			if p.Problem != "" {
				h.Unparsed(p.Problem, p.Bytes)
				continue
			}
			if err := take(p.Bytes); err != nil {
				return err
			}
		}
		return nil
	}
	return drivers.Stream{
		Of: "the plate reader",
		Take: func(b []byte) error {
			_, _ = s.Write(b) // it never fails
			return drain()
		},
		Pending: s.Pending, Pause: gap,
		Idle: func() error {
			s.Idle()
			return drain()
		},
	}
}

func (d *nedapTLV) message(h drivers.Host, b []byte) error {
	m, err := nedap.DecodeMessage(b, d.order)
	if err != nil {
		h.Unparsed(err.Error(), b)
		return nil
	}
	t, err := m.Transit(nedap.Reading{Order: d.order, TextNumbers: d.settings.TextNumbers})
	if err != nil {
		h.Unparsed(err.Error(), b)
		return nil
	}
	h.Valid()
	if t.Error != 0 {
		h.Log().Warn("the reader reports an error", "code", t.Error)
	}
	text, lossy, err := plate.Decode([]byte(t.Plate), d.settings.CodePage)
	if err != nil {
		return fmt.Errorf("read a plate: %w", err) // Check knows the code page
	}
	x := Reading{
		Plate: text, Lossy: lossy, Country: t.Country, Confidence: t.Score, Direction: t.Direction, VendorEventID: t.ID,
		Trigger: t.TriggerID, MessageKey: plate.MessageKey(t.ID, cmp.Or(t.Date, "-"), cmp.Or(t.Time, "-"), t.Serial+"/"+t.Name, cmp.Or(text, "-")),
		Reader: event.PlateReader{Serial: t.Serial, Camera: t.Name}, Raw: d.withoutPictures(m),
	}
	if t.Class != "" || t.ClassName != "" {
		x.Vehicle = &event.PlateVehicle{Type: t.ClassName}
		if t.ClassName == "" {
			x.Vehicle.Type = t.Class
		}
	}
	if layout := nedapDates[d.settings.DateFormat]; layout != "" {
		if at, err := time.ParseInLocation(layout+" 15-04-05", t.Date+" "+t.Time, d.recorder.Location()); err == nil && at.Year() >= 2000 {
			x.DeviceTime, x.TimeSource = at, event.TimeFromDeviceZone
		}
	}
	for _, p := range []Picture{
		{Name: "black-and-white", MediaType: "image/jpeg", Content: t.ImageBW}, {Name: "colour", MediaType: "image/jpeg", Content: t.ImageColor},
	} {
		if len(p.Content) > 0 {
			p.Content = bytes.Clone(p.Content)
			x.Pictures = append(x.Pictures, p)
		}
	}
	return d.recorder.Record(h, x)
}

// withoutPictures is a message as it would be without its pictures.
func (d *nedapTLV) withoutPictures(m nedap.Message) []byte {
	var fields []nedap.Field
	for _, f := range m.Fields {
		if f.Tag != nedap.TagImageBW && f.Tag != nedap.TagImageCol {
			fields = append(fields, f)
		}
	}
	m.Fields = fields
	b, err := m.Encode(d.order)
	if err != nil {
		return nil // a field is longer than the manual allows; the event has what was read
	}
	return b
}

// nedapPlates are the placeholders for the plate.
var nedapPlates = []string{"PLATE", "LP", "LP_WS", "LP_UL"}

// NedapRS485Settings are the settings of Nedap ANPR on a serial line.
type NedapRS485Settings struct {
	Settings `yaml:",inline"`
	// Mode is "raw" (texts) or "packet" (PROTOCOLLED in the reader).
	Mode string `yaml:"mode"`
	// Template is the reader's, with %CR% and %LF% for the line end. Placeholders
	// that are understood are PLATE, LP, COUNTRY, STATE_ALPHA_3, STATE, CONF, SCORE and
	// DIRECTION.
	Template string `yaml:"template"`
	// ByteOrder of packets is "little" or "big"; the manual does not say which.
	ByteOrder string `yaml:"byte_order"`
	// SplitCountry takes the country off a plate like 46HVR9-NLD.
	SplitCountry bool `yaml:"split_country"`
	// SameFor is how long a packet with the number and the text of the one before it
	// is taken for the same, sent again since nobody acknowledges it.
	SameFor time.Duration `yaml:"same_for"`
	// IdleGap is the pause after which the rest of a frame does not come any more.
	IdleGap time.Duration `yaml:"idle_gap"`
}

type nedapRS485 struct {
	settings NedapRS485Settings
	order    nedap.ByteOrder
	template nedap.Template
	recorder *Recorder

	last   []byte // the last packet that is on disk
	lastAt time.Time
}

func newNedapRS485(decode func(any) error) (drivers.Instrument, error) {
	s := NedapRS485Settings{
		Mode: "raw", Template: "%PLATE%%CR%%LF%", ByteOrder: string(nedap.LittleEndian), SameFor: 30 * time.Second, IdleGap: 2 * time.Second,
	}
	if err := decode(&s); err != nil {
		return nil, err
	}
	if err := errors.Join(s.Check(), checkNedap(s.ByteOrder, s.IdleGap)); err != nil {
		return nil, err
	}
	if s.Mode != "raw" && s.Mode != "packet" {
		return nil, fmt.Errorf("mode: %q is not known; take raw or packet", s.Mode)
	}
	if s.SameFor < 0 || s.SameFor > maxNedapSame {
		return nil, fmt.Errorf("same_for: %s; take 0 to %s", s.SameFor, maxNedapSame)
	}
	t, err := nedap.ParseTemplate(s.Template)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	if !slices.ContainsFunc(nedapPlates, t.Has) {
		return nil, fmt.Errorf("template: %q has no plate in it; one of %%%s%% must be there", s.Template, strings.Join(nedapPlates, "%, %"))
	}
	if s.Mode == "raw" {
		if _, err := nedap.Texts(t.End()); err != nil {
			return nil, fmt.Errorf("template: it has no end, such as %%CR%%%%LF%%: %w", err)
		}
	}
	return &nedapRS485{settings: s, order: nedap.ByteOrder(s.ByteOrder), template: t, recorder: NewRecorder(plate.Nedap, s.Settings)}, nil
}

// Run implements drivers.Instrument.
func (d *nedapRS485) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if d.settings.Mode == "packet" {
		return nedapStream(nedap.Packets(d.order), d.settings.IdleGap, h, func(b []byte) error { return d.packet(h, b) }).Run(ctx, conn, h)
	}
	texts, err := nedap.Texts(d.template.End())
	if err != nil {
		return fmt.Errorf("template: %w", err) // New has checked it
	}
	return nedapStream(texts, d.settings.IdleGap, h, func(b []byte) error { return d.text(h, b, b, 0) }).Run(ctx, conn, h)
}

func (d *nedapRS485) packet(h drivers.Host, b []byte) error {
	p, err := nedap.DecodePacket(b, d.order)
	if err != nil {
		h.Unparsed(err.Error(), b)
		return nil
	}
	if bytes.Equal(b, d.last) && h.Now().Sub(d.lastAt) < d.settings.SameFor {
		h.Valid()
		return nil
	}
	if err := d.text(h, p.Data, b, p.ID); err != nil {
		return err
	}
	d.last, d.lastAt = bytes.Clone(b), h.Now()
	return nil
}

func (d *nedapRS485) text(h drivers.Host, text, raw []byte, id uint32) error {
	decoded, lossy, err := plate.Decode(text, d.settings.CodePage)
	if err != nil {
		return fmt.Errorf("read a plate: %w", err) // Check knows the code page
	}
	values, err := d.template.Read(decoded)
	if err != nil {
		h.Unparsed(err.Error(), raw)
		return nil
	}
	h.Valid()
	first := func(names ...string) string {
		for _, n := range names {
			if values[n] != "" {
				return values[n]
			}
		}
		return ""
	}
	x := Reading{
		Plate: first(nedapPlates...), Lossy: lossy, Country: first("COUNTRY", "STATE_ALPHA_3", "STATE"), Confidence: first("SCORE", "CONF"),
		Direction: first("DIRECTION"), Raw: bytes.Clone(raw),
	}
	if id != 0 {
		x.VendorEventID = fmt.Sprint(id)
	}
	if d.settings.SplitCountry {
		if p, country := nedap.SplitPlate(x.Plate); country != "" {
			x.Plate, x.Country = p, country
		}
	}
	return d.recorder.Record(h, x)
}
