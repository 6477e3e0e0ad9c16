package simulator

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/lanepost/lanepost/protocol/nedap"
)

// nedapReader is a Nedap ANPR: tagged messages over TCP, or with the switches
// "rs485-raw" and "rs485-packet" on a serial line.
//
// Switches beside: "big-endian", "shuffle" (fields in random order), "no-pictures",
// "damage" (each packet with a wrong check byte first), "resend" (each packet
// twice, as if an acknowledgement were missed), "dribble" (one byte at a time).
// Options: template of the raw texts.
type nedapReader struct {
	http.Handler
	env      cameraEnv
	order    nedap.ByteOrder
	template nedap.Template
}

var nedapSwitches = []string{"rs485-raw", "rs485-packet", "big-endian", "shuffle", "no-pictures", "damage", "resend", "dribble"}

func newNedapReader(env cameraEnv) (cameraModel, error) {
	n := &nedapReader{Handler: http.NotFoundHandler(), env: env, order: nedap.LittleEndian}
	if env.Settings.Has("big-endian") {
		n.order = nedap.BigEndian
	}
	text := env.Settings.Options["template"]
	if text == "" {
		text = "%PLATE%%CR%%LF%"
	}
	var err error
	n.template, err = nedap.ParseTemplate(text)
	return n, err
}

func (n *nedapReader) observe(ctx context.Context, s Sighting) error {
	b, err := n.bytes(s)
	if err != nil {
		return err
	}
	if n.env.Fast {
		if err := n.env.Line.client(ctx); err != nil {
			return err
		}
	}
	step := len(b)
	if n.env.Settings.Has("dribble") {
		step = 1
	}
	sent := true
	for i := 0; i < len(b) && sent; i += step {
		if sent, err = n.env.Line.send(ctx, b[i:i+step]); err != nil {
			return err
		}
	}
	n.env.Told(s, map[bool]string{true: "sent", false: "lost"}[sent])
	return nil
}

func (n *nedapReader) tick(context.Context, time.Duration) {}

// bytes are what is sent of a sighting.
func (n *nedapReader) bytes(s Sighting) ([]byte, error) {
	raw, packet := n.env.Settings.Has("rs485-raw"), n.env.Settings.Has("rs485-packet")
	if !raw && !packet {
		return n.message(s)
	}
	text := n.template.Write(map[string]string{
		"PLATE": s.Plate, "LP": s.Plate, "STATE_ALPHA_3": alpha3(s.Country), "CONF": strconv.Itoa(s.Confidence),
	})
	if raw {
		return []byte(text), nil
	}
	frame, err := nedap.Packet{ID: uint32(s.Serial), Data: []byte(text)}.Encode(n.order)
	if err != nil {
		return nil, fmt.Errorf("a packet: %w", err)
	}
	var all []byte
	if n.env.Settings.Has("damage") {
		all = append(all, frame...)
		all[len(all)-5] ^= 0x01 // the check byte
	}
	all = append(all, frame...)
	if n.env.Settings.Has("resend") {
		all = append(all, frame...)
	}
	return all, nil
}

func (n *nedapReader) message(s Sighting) ([]byte, error) {
	direction, plate, reads := "APPROACH", s.Plate, int32(1)
	if !s.Toward {
		direction = "LEAVE"
	}
	if s.Unread {
		plate, reads = "", 0
	} else if country := alpha3(s.Country); country != "" {
		plate += "-" + country
	}
	m := nedap.Message{Command: nedap.CommandTransit, Fields: []nedap.Field{
		nedap.TextField(nedap.TagDate, s.When.Format("2006-01-02")), nedap.TextField(nedap.TagTime, s.When.Format("15-04-05")),
		nedap.TextField(nedap.TagNetBIOSName, "ANPR-SIM"), nedap.TextField(nedap.TagPlate, plate), nedap.TextField(nedap.TagPlateString, s.Plate),
		nedap.TextField(nedap.TagPlateCountry, alpha3(s.Country)), nedap.NumberField(nedap.TagNRead, reads, n.order),
		nedap.NumberField(nedap.TagTransitID, int32(s.Serial), n.order), nedap.TextField(nedap.TagDirection, direction),
		nedap.NumberField(nedap.TagSpeed, int32(s.SpeedKPH), n.order), nedap.NumberField(nedap.TagOCRScore, int32(s.Confidence), n.order),
		nedap.TextField(nedap.TagClassString, s.Kind),
	}}
	if len(plate) > 23 { // letters of two bytes, and the field has room for 24
		m.Fields = append(m.Fields[:3], m.Fields[4:]...)
	}
	if !n.env.Settings.Has("no-pictures") {
		m.Fields = append(m.Fields, nedap.Field{Tag: nedap.TagImageCol, Data: s.Picture}, nedap.Field{Tag: nedap.TagImageBW, Data: s.Crop})
	}
	if n.env.Settings.Has("shuffle") {
		n.env.Rand.Shuffle(len(m.Fields), func(i, k int) { m.Fields[i], m.Fields[k] = m.Fields[k], m.Fields[i] })
	}
	b, err := m.Encode(n.order)
	if err != nil {
		return nil, fmt.Errorf("a message: %w", err)
	}
	return b, nil
}
