package rpm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/n42"
)

const (
	streamRead = 16 << 10
	// reconnected is how long what is held is kept at least when a connection ends.
	reconnected = 5 * time.Second
	// faultGone is how long a fault must not be told before it counts as gone: not every
	// document need have the instrument's state.
	faultGone = 10 * time.Second
)

// N42StreamSettings are the settings of an instrument that sends document after document.
type N42StreamSettings struct {
	N42Settings `yaml:",inline"`
	// SpectrumInterval is the time between two events of documents that have neither an
	// alarm nor a result, of a portal that is not occupied; 0 tells each.
	SpectrumInterval time.Duration `yaml:"spectrum_interval"`
}

// N42Stream is the driver of instruments that send documents over TCP, each between STX and
// ETX, as the RS-350 does.
func N42Stream() drivers.Driver {
	return drivers.Driver{
		Name:    "n42-stream",
		Summary: "radiation instrument that sends N42 documents over TCP",
		Schemes: []string{"tcp", "tcp-listen"},
		Silence: 15 * time.Second,
		New: func(decode func(any) error) (drivers.Instrument, error) {
			s := N42StreamSettings{N42Settings: defaultN42(), SpectrumInterval: time.Minute}
			if err := decode(&s); err != nil {
				return nil, err
			}
			if s.SpectrumInterval < 0 || s.SpectrumInterval > maxThinning {
				return nil, fmt.Errorf("spectrum_interval: %s; take up to %s, or 0 for each document", s.SpectrumInterval, maxThinning)
			}
			d, err := newDocuments(s.N42Settings)
			if err != nil {
				return nil, err
			}
			return &documentStream{documents: d, interval: s.SpectrumInterval, faults: map[event.InstrumentFault]time.Time{}}, nil
		},
	}
}

// documentStream reads documents one after the other.
type documentStream struct {
	*documents
	interval time.Duration
	// told is when a thinned document was told last, held the last one since, count how
	// many those are.
	told  time.Time
	held  *arrived
	doc   *n42.Document
	count int
	// nothing: the last result was that nothing was identified, without an alarm. More of
	// the same is thinned, from instruments that write so each second.
	nothing bool
	// faults are those that the instrument tells, by when it did last.
	faults map[event.InstrumentFault]time.Time
}

// Run implements drivers.Instrument.
func (s *documentStream) Run(ctx context.Context, conn link.Conn, h drivers.Host) error {
	a, ok := link.As[*link.Acceptor](conn)
	if !ok {
		reason, err := s.connection(ctx, conn, h)
		return cmp.Or(err, reason)
	}
	// An instrument that connects: one at a time. One that is silent is dropped with the
	// link.
	for {
		c, err := a.Accept(ctx)
		if err != nil {
			return err
		}
		reason, err := s.connection(ctx, c, h)
		if err = errors.Join(err, c.Close()); err != nil {
			return err
		}
		if ctx.Err() != nil || errors.Is(reason, os.ErrDeadlineExceeded) {
			return reason
		}
	}
}

// connection reads until the connection fails, and gives the reason; err is one of the
// agent.
func (s *documentStream) connection(ctx context.Context, conn link.Conn, h drivers.Host) (reason, err error) {
	split := n42.Splitter{Max: s.settings.MaxDocument}
	if reason, err = s.read(ctx, conn, h, &split); err != nil {
		return nil, err
	}
	now := h.Now()
	if rest := split.Rest(); len(rest.Bytes) > 0 {
		if err := s.frame(h, rest); err != nil {
			return nil, err
		}
	}
	// What can't be told now is told with the next connection. One after the other does
	// not defeat the thinning.
	if ctx.Err() == nil && !s.told.IsZero() && now.Sub(s.told) < min(s.interval, reconnected) && (s.doc == nil || !found(s.doc)) {
		return reason, nil
	}
	return reason, s.flush(h, now)
}

func (s *documentStream) read(ctx context.Context, conn link.Conn, h drivers.Host, split *n42.Splitter) (reason, err error) {
	buf := make([]byte, streamRead)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx), nil
		}
		n, readErr := conn.Read(buf)
		split.Write(buf[:n])
		for {
			f, ok := split.Next()
			if !ok {
				break
			}
			if err := s.frame(h, f); err != nil {
				return nil, err
			}
		}
		if readErr != nil {
			return fmt.Errorf("read from the radiation instrument: %w", readErr), nil
		}
	}
}

func (s *documentStream) frame(h drivers.Host, f n42.Frame) error {
	now := h.Now()
	switch {
	case f.First && !n42.Begins(f.Bytes):
		return nil // the end of a document that joining cut
	case f.Err != nil && !unframed(f):
		return s.refuse(h, f.Bytes, now, f.Err)
	}
	a := arrived{raw: slices.Clone(f.Bytes), at: now}
	doc, err := s.documents.read(a)
	if err != nil {
		return s.refuse(h, a.raw, now, err)
	}
	h.Valid()
	return s.document(h, a, doc)
}

// unframed reports whether a document lacks but its STX or ETX.
func unframed(f n42.Frame) bool {
	framing := errors.Is(f.Err, n42.ErrOutside) || errors.Is(f.Err, n42.ErrUnended) || errors.Is(f.Err, n42.ErrCut)
	return framing && n42.Begins(f.Bytes) && n42.Ended(f.Bytes)
}

// refuse tells of what is no document. In a flood it is only counted.
func (s *documentStream) refuse(h drivers.Host, raw []byte, now time.Time, why error) error {
	err := s.keepBroken(h, arrived{raw: slices.Clone(raw), at: now}, why)
	if errors.Is(err, errFlood) {
		h.Unparsed("N42: "+why.Error(), slices.Clone(raw))
		return nil
	}
	return err
}

// tell tells a document. One that can't be recorded, in a flood of broken ones, is counted.
func (s *documentStream) tell(h drivers.Host, a arrived, doc *n42.Document, e event.RadiationSpectrum) error {
	err := s.documents.tell(h, a, doc, e)
	if errors.Is(err, errFlood) {
		h.Unparsed("N42: a document that can't be recorded", a.raw)
		return nil
	}
	return err
}

// document tells a document, or holds it until the interval is over.
func (s *documentStream) document(h drivers.Host, a arrived, doc *n42.Document) error {
	changed := s.changed(doc, a.at)
	occupied := doc.Occupied()
	news := found(doc)
	if news {
		nothing := doc.Outcome() == n42.OutcomeNothingIdentified && !doc.Alarmed()
		news, s.nothing = !nothing || !s.nothing, nothing
	} else {
		// The next result is of another vehicle; one that is held is not replaced by what
		// has none.
		s.nothing = false
		if s.doc != nil && found(s.doc) {
			if err := s.flush(h, a.at); err != nil {
				return err
			}
		}
	}
	if news || changed || occupied != nil && *occupied || s.interval == 0 {
		return s.tell(h, a, doc, event.RadiationSpectrum{Documents: 1, FaultsChanged: changed})
	}
	s.held, s.doc = &a, doc
	s.count++
	if !s.told.IsZero() && a.at.Sub(s.told) < s.interval {
		return nil
	}
	return s.flush(h, a.at)
}

// flush tells the document that is held.
func (s *documentStream) flush(h drivers.Host, now time.Time) error {
	if s.held == nil {
		return nil
	}
	e := event.RadiationSpectrum{Documents: s.count}
	if !s.told.IsZero() {
		e.IntervalS = max(0, now.Sub(s.told).Seconds())
	}
	if err := s.tell(h, *s.held, s.doc, e); err != nil {
		return err
	}
	s.held, s.doc, s.count, s.told = nil, nil, 0, now
	return nil
}

// changed takes the faults of a document, and tells whether one is new or gone.
func (s *documentStream) changed(doc *n42.Document, now time.Time) (is bool) {
	for i := range len(doc.Measurements) + 1 {
		list := doc.Faults
		if i > 0 {
			list = doc.Measurements[i-1].Faults
		}
		for _, f := range list {
			k := event.InstrumentFault{Code: f.Code, Severity: f.Severity, Description: f.Description}
			if _, known := s.faults[k]; !known {
				if len(s.faults) >= maxFound {
					continue
				}
				is = true
			}
			s.faults[k] = now
		}
	}
	for k, last := range s.faults {
		if now.Sub(last) >= faultGone {
			delete(s.faults, k)
			is = true
		}
	}
	return is
}
