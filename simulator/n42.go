package simulator

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/lanepost/lanepost/protocol/n42"
)

// n42Switches are what documents of N42 were seen to be like.
var n42Switches = []string{
	"edition-2006",  // the edition of 2006, in an Event
	"utf16",         // UTF-16 with a byte order mark
	"prefix",        // every element has the prefix n42, which is declared
	"undeclared",    // and one that is not
	"envelope",      // in a MessageEnvelope
	"zero-traps",    // runs of zeros without a length, or of none; counts with a point; tabs
	"time-traps",    // no zone, or one without its colon, or the day first
	"live-traps",    // live times of zero, over the real time, or not there
	"truncated",     // every third document without an alarm is cut off
	"malformed",     // every third document without an alarm has a character that XML forbids
	"noise",         // garbage between documents, on a line
	"dribble",       // 64 bytes at a time, on a line
	"joined-inside", // a client finds the end of a document first, on a line
}

// n42Channels is how many channels its spectra have.
const n42Channels = 256

// nuclides are what the sources in vehicles are, with their category and main line.
var nuclides = []struct {
	name, category string
	channel        int
}{
	{"Cs-137", "Industrial", 66}, {"Co-60", "Industrial", 117}, {"I-131", "Medical", 36}, {"K-40", "NORM", 146},
}

// n42Model is a radiation instrument with spectra. Each second it has a document, and for
// each vehicle with a source one with an alarm and what it is.
type n42Model struct {
	env     cameraEnv
	count   int
	plain   int
	session int
	out     *outbox // of one that posts
}

// n42Waiting bounds the documents that wait for the host.
const n42Waiting = 1000

func newN42(env cameraEnv) (cameraModel, error) {
	m := &n42Model{env: env}
	if env.Line == nil && env.Dir == "" {
		if err := env.Settings.needsPush("n42-poster"); err != nil {
			return nil, err
		}
		m.out = &outbox{env: env, most: n42Waiting}
	}
	return m, nil
}

// ServeHTTP implements http.Handler; it serves nothing by HTTP.
func (m *n42Model) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

// has reports whether a switch is on.
func (m *n42Model) has(name string) bool { return m.env.Settings.Has(name) }

func (m *n42Model) observe(ctx context.Context, s Sighting) error {
	if m.env.Fast || m.env.Line == nil {
		if err := m.send(ctx, s.When.Add(-time.Second), m.document(s.When.Add(-time.Second), nil), false); err != nil {
			return err
		}
	}
	if s.GammaCPS == 0 && s.NeutronCPS == 0 {
		return nil
	}
	doc := m.document(s.When, &s)
	m.env.Identified(NuclideTruth{
		Kind: "nuclide", AtS: seconds(s.At), Vehicle: s.Vehicle, Nuclide: doc.Analyses[0].Nuclides[0].Name, Alarm: doc.Analyses[0].Alarms[0].Category,
	})
	return m.send(ctx, s.When, doc, true)
}

func (m *n42Model) tick(ctx context.Context, at time.Duration) {
	if m.out != nil {
		if err := m.out.send(ctx); err != nil && ctx.Err() == nil {
			m.env.Log.Warn("a radiation instrument can't post", "error", err)
		}
	}
	if m.env.Fast || m.env.Line == nil {
		return
	}
	now := m.env.Clock(at)
	if err := m.send(ctx, now, m.document(now, nil), false); err != nil && ctx.Err() == nil {
		m.env.Log.Warn("a radiation instrument can't talk", "error", err)
	}
}

// document is what was measured in a second; of a vehicle with a source, in its passage.
func (m *n42Model) document(at time.Time, s *Sighting) *n42.Document {
	m.count++
	key := "second " + strconv.Itoa(m.count)
	if s != nil {
		key = "vehicle " + strconv.Itoa(s.Vehicle)
	}
	rng := newRand(m.env.Seed, "n42", key)
	known := func(s float64) n42.Duration { return n42.Duration{Seconds: s, Known: true} }
	yes := s != nil
	dose := 0.08 + 0.01*rng.Float64()
	d := &n42.Document{
		UUID: fmt.Sprintf("00000000-0000-4000-8000-%012d", m.count), Creator: "lanesim",
		Instrument: n42.Instrument{
			ID: "Instrument", Manufacturer: "lanesim", Model: "N42", Serial: "1", Class: "Spectroscopic Portal Monitor", Versions: []n42.Version{{Component: "Software", Version: "1"}},
			Characteristics: []n42.Characteristic{{Name: "Battery Charge", Value: "80", Unit: "%"}},
		},
		Detectors:    []n42.Detector{{ID: "Gamma", Category: "Gamma", Kind: "NaI"}, {ID: "Neutron", Category: "Neutron", Kind: "He3"}},
		Calibrations: []n42.EnergyCalibration{{ID: "Energy", Coefficients: []float64{0, 10, 0}}},
	}
	f := n42.Measurement{ID: "Foreground", Class: n42.Foreground, Start: n42.Time{At: at}, Real: known(0.99989), Occupied: &yes}
	live, counts := known(0.98), m.spectrum(rng, 1, nil)
	neutrons := float64(poisson(rng, 2))
	if s != nil {
		f.Real, live = known(4), known(3.9)
		d.Groups, f.Groups = []string{fmt.Sprintf("Occupancy-%d", s.Vehicle)}, []string{fmt.Sprintf("Occupancy-%d", s.Vehicle)}
		dose += s.GammaCPS / 5000
		neutrons += s.NeutronCPS
		n := nuclides[rng.IntN(len(nuclides))]
		alarm := n42.Alarm{Category: "Isotope", Description: n.category, Light: "Red"}
		confidence := strconv.FormatFloat(0.6+0.4*rng.Float64(), 'f', 2, 64)
		found := n42.Nuclide{Name: n.name, Category: n.category, Confidence: confidence, Indicator: &yes}
		counts = m.spectrum(rng, 4, func(i int) float64 {
			return 0.2 * s.GammaCPS * math.Exp(-math.Pow(float64(i-n.channel)/4, 2))
		})
		if s.GammaCPS == 0 {
			alarm.Category, found.Name, found.Category = "Neutron", "Cf-252", "Industrial"
		}
		d.Analyses = []n42.Analysis{{Measurements: []string{"Foreground"}, Identified: true, Alarms: []n42.Alarm{alarm}, Nuclides: []n42.Nuclide{found}}}
		d.Measurements = append(d.Measurements, n42.Measurement{
			ID: "Background", Class: n42.Background, Start: n42.Time{At: at.Add(-5 * time.Minute)}, Real: known(300),
			Spectra: []n42.Spectrum{{ID: "BackgroundSpectrum", Detector: "Gamma", Calibration: "Energy", Live: known(298.5), Counts: m.spectrum(rng, 300, nil)}},
		})
	}
	f.Spectra = []n42.Spectrum{{ID: "Spectrum", Detector: "Gamma", Calibration: "Energy", Live: live, Counts: counts}}
	f.Counts = []n42.GrossCounts{{ID: "Neutrons", Detector: "Neutron", Live: live, Counts: []float64{math.Round(neutrons)}}}
	f.DoseRates = []n42.DoseRate{{ID: "Dose", Detector: "Gamma", MicroSvH: &dose}}
	d.Measurements = append(d.Measurements, f)
	return d
}

// spectrum is a background of so many seconds, with what more adds to each channel.
func (m *n42Model) spectrum(rng *rand.Rand, seconds float64, more func(int) float64) []float64 {
	list := make([]float64, n42Channels)
	for i := 3; i < n42Channels; i++ {
		rate := 12 * math.Exp(-float64(i)/40) * seconds
		if more != nil {
			rate += more(i)
		}
		list[i] = float64(poisson(rng, rate))
	}
	return list
}

// send writes a document and sends it the model's way.
func (m *n42Model) send(ctx context.Context, at time.Time, d *n42.Document, alarm bool) error {
	b, err := m.write(d, alarm)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%06d.n42", at.UTC().Format("20060102T150405"), m.count)
	switch {
	case m.env.Dir != "":
		temp := filepath.Join(m.env.Dir, name+".part")
		if err := os.WriteFile(temp, b, 0o644); err != nil {
			return err
		}
		return os.Rename(temp, filepath.Join(m.env.Dir, name))
	case m.out != nil:
		m.out.put(letter{send: func(ctx context.Context) error {
			_, err := m.env.post(ctx, "/"+name, "application/xml", b)
			return err
		}})
		return m.out.send(ctx)
	}
	return m.stream(ctx, b)
}

// stream sends a document over a line.
func (m *n42Model) stream(ctx context.Context, b []byte) error {
	if m.env.Fast {
		if err := m.env.Line.client(ctx); err != nil {
			return err
		}
	}
	var out []byte
	if n := m.env.Line.session(); m.has("joined-inside") && n != m.session {
		m.session = n
		out = append(out, b[len(b)/2:]...)
		out = append(out, n42.ETX)
	}
	out = append(out, n42.STX)
	out = append(out, b...)
	if !m.has("truncated") || bytes.HasSuffix(bytes.TrimRight(b, "\x00\n"), []byte(">")) || m.has("utf16") {
		out = append(out, n42.ETX)
	}
	if m.has("noise") && m.count%4 == 0 {
		out = append(out, "\r\n~~ 42 ~~\r\n"...)
	}
	step := len(out)
	if m.has("dribble") {
		step = 64
	}
	for i := 0; i < len(out); i += step {
		if _, err := m.env.Line.send(ctx, out[i:min(i+step, len(out))]); err != nil {
			return err
		}
	}
	return nil
}

var (
	n42Names    = regexp.MustCompile(`<(/?)([A-Z])`)
	n42Channel  = regexp.MustCompile(`(<ChannelData[^>]*>)([^<]*)(<)`)
	n42Start    = regexp.MustCompile(`<(StartDateTime|StartTime)>([^<]*)<`)
	n42Live     = regexp.MustCompile(`<(LiveTimeDuration|LiveTime)>[^<]*</(?:LiveTimeDuration|LiveTime)>`)
	n42Declared = `xmlns="http://physics.nist.gov/N42/2011/N42"`
)

// write makes the bytes of a document, as the switches say.
func (m *n42Model) write(d *n42.Document, alarm bool) ([]byte, error) {
	b, err := n42.Append(nil, d)
	if err != nil {
		return nil, err
	}
	s := string(b)
	if m.has("edition-2006") {
		s = edition2006(d)
	}
	if m.has("zero-traps") {
		s = n42Channel.ReplaceAllStringFunc(s, func(x string) string {
			p := n42Channel.FindStringSubmatch(x)
			text := strings.ReplaceAll(p[2], " ", "\t") + "\r\n0 0 1.0 0" // one channel, a run of one, and one without its length
			return strings.Replace(p[1], "CountedZeroes", "CountedZeros", 1) + text + p[3]
		})
	}
	if m.has("time-traps") {
		n := 0
		s = n42Start.ReplaceAllStringFunc(s, func(x string) string {
			p := n42Start.FindStringSubmatch(x)
			at, err := time.Parse(time.RFC3339Nano, p[2])
			if err != nil {
				return x
			}
			n++
			form := []string{"2006-01-02T15:04:05.000", "2006-01-02T15:04:05.000-0700", "02/01/2006 15:04:05"}[(n+m.count)%3]
			return "<" + p[1] + ">" + at.UTC().Format(form) + "<"
		})
	}
	if m.has("live-traps") {
		s = n42Live.ReplaceAllString(s, []string{"<$1>PT0S</$1>", "<$1>PT9999S</$1>", ""}[m.count%3])
	}
	if m.has("prefix") || m.has("undeclared") {
		s = n42Names.ReplaceAllString(s, "<${1}n42:$2")
		declared := strings.Replace(n42Declared, "xmlns=", "xmlns:n42=", 1)
		if m.has("undeclared") {
			declared = ""
		}
		s = strings.Replace(s, n42Declared, declared, 1)
	}
	if m.has("envelope") {
		head, rest, _ := strings.Cut(s, "\n")
		s = head + "\n<MessageEnvelope><Payload>" + rest + "</Payload></MessageEnvelope>\n"
	}
	if !alarm {
		m.plain++
	}
	third := !alarm && m.plain%3 == 0
	if third && m.has("malformed") {
		s = strings.Replace(s, "lanesim", "lane&#x1C;sim", 1)
	}
	if m.has("utf16") {
		out := []byte{0xff, 0xfe}
		for _, u := range utf16.Encode([]rune(strings.Replace(s, "UTF-8", "UTF-16", 1))) {
			out = append(out, byte(u), byte(u>>8))
		}
		b = out
	} else {
		b = []byte(s)
	}
	if third && m.has("truncated") {
		b = b[:len(b)*2/3]
		for len(b) > 0 && b[len(b)-1] == '>' {
			b = b[:len(b)-1]
		}
	}
	return b, nil
}

// edition2006 writes a document as portals of that edition do.
func edition2006(d *n42.Document) string {
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Event><EventNumber>1</EventNumber><N42InstrumentData><Measurement><InstrumentInformation>" +
		"<Manufacturer>lanesim</Manufacturer><InstrumentModel>N42</InstrumentModel></InstrumentInformation>\n")
	for i := range d.Measurements {
		x := &d.Measurements[i]
		occupied, source := 0, "Item"
		if x.Occupied != nil && *x.Occupied {
			occupied = 1
		}
		if x.Class == n42.Background {
			source = "Background"
		}
		fmt.Fprintf(&b, "<DetectorData><StartTime>%s</StartTime><SampleRealTime>%s</SampleRealTime><Occupied>%d</Occupied><DetectorMeasurement><SpectrumMeasurement>",
			x.Start.At.Format(time.RFC3339Nano), n42.FormatDuration(x.Real.Seconds), occupied)
		for j := range x.Spectra {
			s := &x.Spectra[j]
			fmt.Fprintf(&b, "<Spectrum Detector=\"%s\"><RealTime>%s</RealTime><LiveTime>%s</LiveTime><SourceType>%s</SourceType><DetectorType>Gamma</DetectorType><ChannelData Compression=\"CountedZeroes\">%s</ChannelData></Spectrum>",
				s.Detector, n42.FormatDuration(x.Real.Seconds), n42.FormatDuration(s.Live.Seconds), source, n42.AppendCountedZeroes(nil, s.Counts))
		}
		b.WriteString("</SpectrumMeasurement></DetectorMeasurement></DetectorData>\n")
	}
	for i := range d.Analyses {
		b.WriteString("<AnalysisResults><NuclideAnalysis>")
		for _, n := range d.Analyses[i].Nuclides {
			fmt.Fprintf(&b, "<Nuclide><NuclideName>%s</NuclideName><NuclideType>%s</NuclideType><NuclideIDConfidenceIndication>%s</NuclideIDConfidenceIndication></Nuclide>", n.Name, n.Category, n.Confidence)
		}
		b.WriteString("</NuclideAnalysis></AnalysisResults>")
	}
	b.WriteString("</Measurement></N42InstrumentData></Event>\n")
	return b.String()
}
