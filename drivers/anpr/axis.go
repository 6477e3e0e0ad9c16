package anpr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/axis"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/multipart"
	"github.com/lanepost/lanepost/protocol/plate"
)

// AxisLPV is the driver of cameras with Axis License Plate Verifier or the FF Group
// application beneath it, which send to the agent over HTTP or TCP.
func AxisLPV() drivers.Driver {
	return drivers.Driver{
		Name:    "axis-lpv",
		Summary: "Axis License Plate Verifier or FF Group, sending to the agent over HTTP or TCP",
		Schemes: []string{"http-listen", "tcp-listen"},
		// Its heartbeat is off unless it is set, and then as seldom as once a day.
		Silence: 24 * time.Hour,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			var s Settings
			if err := decode(&s); err != nil {
				return nil, err
			}
			if err := s.Check(); err != nil {
				return nil, err
			}
			return &axisLPV{recorder: NewRecorder(plate.Axis, s)}, nil
		},
	}
}

type axisLPV struct{ recorder *Recorder }

// Run implements drivers.Instrument.
func (c *axisLPV) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	if inbox, ok := link.As[*link.Inbox](conn); ok {
		for {
			d, err := inbox.Next(ctx)
			if err != nil {
				return err
			}
			if err := c.post(h, d); err != nil {
				return err // unanswered, the camera keeps it
			}
			d.Reply(http.StatusOK, "", nil)
		}
	}
	read := func(ctx context.Context, conn link.Conn) error { return c.read(ctx, conn, h) }
	if acceptor, ok := link.As[*link.Acceptor](conn); ok {
		return acceptor.Serve(ctx, h.Log(), read)
	}
	return read(ctx, conn)
}

// read takes documents that come one after the other. What is none ends the
// connection: there is no mark to begin anew at.
func (c *axisLPV) read(ctx context.Context, conn link.Conn, h drivers.Host) error {
	var splitter axis.Splitter
	return drivers.Stream{
		Of: "the plate reader",
		Take: func(b []byte) error {
			_, _ = splitter.Write(b) // it never fails
			for {
				d, err := splitter.Next()
				if err != nil {
					h.Unparsed(err.Error(), b)
					return err
				}
				if d == nil {
					return nil
				}
				if err := c.document(h, d, nil); err != nil {
					return err
				}
			}
		},
		Pending: splitter.Pending,
		// Without a pause this is the end of the connection.
		Idle: func() error {
			if rest := splitter.Rest(); len(rest) > 0 {
				h.Unparsed("the connection ended inside a document", rest)
			}
			return nil
		},
	}.Run(ctx, conn, h)
}

// post takes what was posted. The documented heartbeat is no JSON, so any body is
// a sign of life.
func (c *axisLPV) post(h drivers.Host, d *link.Delivery) error {
	if !strings.HasPrefix(strings.ToLower(d.ContentType), "multipart/") {
		if len(bytes.TrimSpace(d.Body)) == 0 {
			h.Valid()
			return nil
		}
		return c.document(h, d.Body, nil)
	}
	var document []byte
	var pictures [][]byte
	m := multipart.NewReader(bytes.NewReader(d.Body), d.ContentType)
	for n := 0; ; n++ {
		p, err := m.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if n == 4*maxPictures {
			h.Unparsed(fmt.Sprintf("a post of more than %d parts; the others are left out", n), d.Body[:min(len(d.Body), 512)])
			break
		}
		if err != nil {
			h.Unparsed("a post of parts: "+err.Error(), d.Body[:min(len(d.Body), 512)])
			break
		}
		switch {
		case isPicture(p.MediaType(), p.Body):
			pictures = append(pictures, bytes.Clone(p.Body))
		case document == nil:
			document = bytes.Clone(p.Body)
		}
	}
	if document == nil {
		h.Unparsed("a post of parts without an event", d.Body[:min(len(d.Body), 512)])
		return nil
	}
	return c.document(h, document, pictures)
}

func (c *axisLPV) document(h drivers.Host, b []byte, pictures [][]byte) error {
	e, err := axis.Parse(b)
	if errors.Is(err, axis.ErrNoEvent) {
		h.Valid() // a heartbeat, or what a later version says
		return nil
	}
	if err != nil {
		h.Unparsed(err.Error(), b)
		return nil
	}
	h.Valid()
	x := Reading{
		Plate: e.Plate, Confidence: e.Confidence, Country: e.Country, Direction: e.Direction,
		Reader: event.PlateReader{Model: e.Product, Serial: cmpOr(e.Serial, e.MAC), Camera: e.Sensor, Lane: e.ROI},
		// The counter begins anew with the camera, so the time belongs to it.
		MessageKey: plate.MessageKey(e.Serial+e.MAC, e.Packet, e.Captured, e.State), VendorEventID: e.Packet,
		Raw: b, Received: h.Now(),
	}
	if e.CarID != "" {
		x.Group = plate.MessageKey(e.Serial+e.MAC+"-", e.CarID)
	}
	switch e.State {
	case axis.New:
		x.Revision = event.RevisionNew
	case axis.Updated:
		x.Revision = event.RevisionUpdate
	case axis.Lost:
		x.Revision = event.RevisionLost
	}
	if at := e.Time(); !at.IsZero() {
		x.DeviceTime, x.TimeSource = at, event.TimeFromDevice
	}
	for i, p := range append(pictures, e.Images...) {
		x.Pictures = append(x.Pictures, Picture{Name: fmt.Sprintf("picture-%d", i+1), MediaType: http.DetectContentType(p), Content: p})
	}
	// Pictures that became attachments need not be kept twice. If one did not, the
	// document is attached as it came: the raw bytes of an event have a bound.
	switch {
	case e.Unread > 0:
		h.Unparsed(fmt.Sprintf("%d pictures of a read could not be taken as pictures; the whole document is attached", e.Unread), b)
		// First, so that it is within the bound on pictures.
		x.Pictures = append([]Picture{{Name: "document.json", MediaType: "application/json", Content: b}}, x.Pictures...)
	case len(e.Images) > 0:
		x.Raw = axis.WithoutImages(b)
	}
	return c.recorder.Record(h, x)
}
