package rpm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// n42Doc is a document typed by hand; rest comes after its spectrum, end after its
// measurement.
func n42Doc(second int, rest, end string) string {
	return fmt.Sprintf(`<RadInstrumentData xmlns="http://physics.nist.gov/N42/2011/N42"><Remark>of Ivan</Remark><RadInstrumentInformation id="I"><RadInstrumentModelName>RS-350</RadInstrumentModelName>`+
		`<RadInstrumentVersion><RadInstrumentComponentName>Software</RadInstrumentComponentName><RadInstrumentComponentVersion>3.2</RadInstrumentComponentVersion></RadInstrumentVersion>`+
		`<RadInstrumentCharacteristics><Characteristic><CharacteristicName>Battery Charge</CharacteristicName><CharacteristicValue>63</CharacteristicValue></Characteristic>`+
		`<Characteristic><CharacteristicName>Operator Name</CharacteristicName><CharacteristicValue>Olena</CharacteristicValue></Characteristic></RadInstrumentCharacteristics></RadInstrumentInformation>`+
		`<RadItemInformation id="ITEM"><RadItemCharacteristics><Characteristic><CharacteristicName>ContainerID</CharacteristicName><CharacteristicValue>TEST0000017</CharacteristicValue></Characteristic></RadItemCharacteristics></RadItemInformation>`+
		`<RadMeasurement id="F"><MeasurementClassCode>Foreground</MeasurementClassCode><StartDateTime>2026-01-05T06:%02d:%02dZ</StartDateTime><RealTimeDuration>PT1S</RealTimeDuration>`+
		`<Spectrum id="S"><LiveTimeDuration>PT0.5S</LiveTimeDuration><ChannelData compressionCode="CountedZeroes">0 5 %d 3</ChannelData></Spectrum>%s</RadMeasurement>%s</RadInstrumentData>`, second/60, second%60, second, rest, end)
}

const (
	n42Occupied = "<OccupancyIndicator>1</OccupancyIndicator>"
	n42Free     = "<OccupancyIndicator>0</OccupancyIndicator>"
	n42Fault    = "<RadInstrumentState><Fault><FaultCodeValue>7</FaultCodeValue><FaultSeverityCode>Error</FaultSeverityCode></Fault></RadInstrumentState>"
	n42Nothing  = "<AnalysisResults><NuclideAnalysisResults/></AnalysisResults>"
	n42Alarm    = "<AnalysisResults><RadAlarm><RadAlarmCategoryCode>Neutron</RadAlarmCategoryCode></RadAlarm></AnalysisResults>"
	n42Nuclide  = "<AnalysisResults><NuclideAnalysisResults><Nuclide><NuclideIdentifiedIndicator>true</NuclideIdentifiedIndicator><NuclideName>Cs-137</NuclideName><NuclideIDConfidenceValue>97</NuclideIDConfidenceValue></Nuclide></NuclideAnalysisResults></AnalysisResults>"
)

func n42Driver(t *testing.T, d drivers.Driver, change func(settings any)) drivers.Instrument {
	t.Helper()
	i, err := d.New(func(into any) error {
		if change != nil {
			change(into)
		}
		return nil
	})
	require.NoError(t, err)
	return i
}

func n42Frame(at time.Duration, doc string) drivers.Chunk {
	return drivers.Chunk{At: at, Bytes: []byte("\x02" + doc + "\x03")}
}

// n42Lines is what tests compare: one line for each event.
func n42Lines(p drivers.Played) (lines []string) {
	for _, o := range p.Observations {
		switch e := o.Data.(type) {
		case event.RadiationSpectrum:
			lines = append(lines, fmt.Sprintf("spectrum of %d in %gs %s faults %d", e.Documents, e.IntervalS, e.Class(), len(e.Faults)))
		case event.RadiationIdentification:
			lines = append(lines, fmt.Sprintf("%s alarms %d nuclides %d %s", e.Outcome, len(e.Alarms), len(e.Nuclides), e.Class()))
		case event.DeviceUnparsed:
			lines = append(lines, fmt.Sprintf("unparsed %d bytes: %s", e.Attachments[0].Size, e.Samples[0].Reason))
		}
	}
	return lines
}

// What streams do, by its name.
func TestN42Stream(t *testing.T) {
	const s = time.Second
	idle := func(from, to int) (list []drivers.Chunk) {
		for i := from; i < to; i++ {
			list = append(list, n42Frame(time.Duration(i)*s, n42Doc(i, n42Free, "")))
		}
		return list
	}
	cut := n42Doc(3, "", n42Nuclide)
	wide := func(doc string) string {
		var b []byte
		for _, u := range append([]uint16{0xfeff}, utf16.Encode([]rune(doc))...) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return string(b)
	}
	var flood []drivers.Chunk
	for range maxBroken + 5 {
		flood = append(flood, n42Frame(s, "<x/>"))
	}
	for name, c := range map[string]struct {
		script   []drivers.Chunk
		change   func(*N42StreamSettings)
		want     []string
		unparsed int
	}{
		"one document a second is thinned": {script: idle(0, 130), want: []string{
			"spectrum of 1 in 0s routine faults 0", "spectrum of 60 in 60s routine faults 0", "spectrum of 60 in 60s routine faults 0", "spectrum of 9 in 9s routine faults 0",
		}},
		"each is told": {script: idle(0, 3), change: func(s *N42StreamSettings) { s.SpectrumInterval = 0 }, want: []string{
			"spectrum of 1 in 0s routine faults 0", "spectrum of 1 in 0s routine faults 0", "spectrum of 1 in 0s routine faults 0",
		}},
		"nothing is identified each second": {script: func() (list []drivers.Chunk) {
			for i := range 130 {
				end := n42Nothing
				if i == 100 {
					end = n42Nuclide
				}
				list = append(list, n42Frame(time.Duration(i)*s, n42Doc(i, n42Free, end)))
			}
			return list
		}(), want: []string{
			"nothing_identified alarms 0 nuclides 0 routine", "nothing_identified alarms 0 nuclides 0 routine", "nothing_identified alarms 0 nuclides 0 routine",
			"identified alarms 0 nuclides 1 urgent", "nothing_identified alarms 0 nuclides 0 routine", "nothing_identified alarms 0 nuclides 0 routine",
			"nothing_identified alarms 0 nuclides 0 routine",
		}},
		"an occupied portal is told each second": {script: []drivers.Chunk{n42Frame(0, n42Doc(0, n42Free, "")), n42Frame(s, n42Doc(1, n42Occupied, "")), n42Frame(2*s, n42Doc(2, n42Occupied, ""))}, want: []string{
			"spectrum of 1 in 0s routine faults 0", "spectrum of 1 in 0s routine faults 0", "spectrum of 1 in 0s routine faults 0",
		}},
		"alarms and identifications are told at once": {script: append(idle(0, 2), n42Frame(2*s, n42Doc(2, "", n42Alarm)), n42Frame(3*s, n42Doc(3, "", n42Nuclide)), n42Frame(4*s, n42Doc(4, "", n42Nothing)),
			n42Frame(5*s, n42Doc(5, "", strings.Replace(n42Nothing, "<Nuc", "<AnalysisResultStatusCode>Failure</AnalysisResultStatusCode><Nuc", 1)))), want: []string{
			"spectrum of 1 in 0s routine faults 0", "not_analysed alarms 1 nuclides 0 urgent", "identified alarms 0 nuclides 1 urgent",
			"nothing_identified alarms 0 nuclides 0 routine", "failed alarms 0 nuclides 0 urgent", "spectrum of 1 in 5s routine faults 0",
		}},
		"a fault is told when it comes and when it is gone": {script: append([]drivers.Chunk{n42Frame(0, n42Doc(0, n42Fault, "")), n42Frame(s, n42Doc(1, n42Fault, ""))}, idle(2, 14)...), want: []string{
			"spectrum of 1 in 0s urgent faults 1", "spectrum of 1 in 0s routine faults 1", "spectrum of 1 in 0s urgent faults 0", "spectrum of 11 in 12s routine faults 0",
		}},
		"joined in the middle": {script: append([]drivers.Chunk{{At: 0, Bytes: []byte(cut[200:] + "\x03")}}, idle(1, 2)...), want: []string{"spectrum of 1 in 0s routine faults 0"}},
		"a document that is cut, and the next": {script: append([]drivers.Chunk{{At: 0, Bytes: []byte("\x02" + cut[:400])}}, n42Frame(s, n42Doc(1, "", n42Nuclide))), want: []string{
			"unparsed 400 bytes: N42: a document without its end: another has begun in it", "identified alarms 0 nuclides 1 urgent",
		}},
		"a link that ends in a document": {script: []drivers.Chunk{{At: 0, Bytes: []byte("\x02" + cut[:400])}}, want: []string{"unparsed 400 bytes: N42: the link ended in the middle of the document"}},
		"noise between documents": {script: append(idle(0, 1), drivers.Chunk{At: s, Bytes: []byte("garbage\x02" + n42Doc(1, "", n42Nuclide) + "\x03")}), want: []string{
			"spectrum of 1 in 0s routine faults 0", "unparsed 7 bytes: N42: bytes outside of a document's STX and ETX", "identified alarms 0 nuclides 1 urgent",
		}},
		"a character that XML forbids, and the next": {script: []drivers.Chunk{n42Frame(0, n42Doc(0, "<Remark>&#x1C;</Remark>", "")), n42Frame(s, n42Doc(1, "", n42Nuclide))}, want: []string{
			fmt.Sprintf("unparsed %d bytes: N42: it is no XML: XML syntax error on line 1: illegal character code U+001C", len(n42Doc(0, "<Remark>&#x1C;</Remark>", ""))), "identified alarms 0 nuclides 1 urgent",
		}},
		"one that is too long, and the next": {change: func(s *N42StreamSettings) { s.MaxDocument = 2000 }, script: []drivers.Chunk{n42Frame(0, n42Doc(0, strings.Repeat(n42Fault, 20), "")), n42Frame(s, n42Doc(1, "", n42Nuclide))}, want: []string{
			"unparsed 2000 bytes: too long", "identified alarms 0 nuclides 1 urgent",
		}},
		"UTF-16":                  {script: []drivers.Chunk{n42Frame(0, wide(n42Doc(0, "", n42Nuclide))), n42Frame(s, wide(n42Doc(1, "", n42Alarm)))}, want: []string{"identified alarms 0 nuclides 1 urgent", "not_analysed alarms 1 nuclides 0 urgent"}},
		"the edition of 2006":     {script: []drivers.Chunk{n42Frame(0, "<N42InstrumentData><Measurement><Spectrum><LiveTime>PT1S</LiveTime><ChannelData>1 2</ChannelData></Spectrum></Measurement></N42InstrumentData>")}, want: []string{"spectrum of 1 in 0s routine faults 0"}},
		"nothing but broken ones": {script: flood, unparsed: 5},
	} {
		t.Run(name, func(t *testing.T) {
			d := n42Driver(t, N42Stream(), func(into any) {
				if c.change != nil {
					c.change(into.(*N42StreamSettings))
				}
			})
			p, err := drivers.Play(t.Context(), d, c.script)
			require.NoError(t, err)
			require.Len(t, p.Unparsed, c.unparsed)
			lines := n42Lines(p)
			if c.unparsed > 0 {
				require.Len(t, lines, maxBroken)
				return
			}
			require.Len(t, lines, len(c.want))
			for i := range lines {
				if !strings.Contains(c.want[i], "too long") {
					require.Equal(t, c.want[i], lines[i])
				} else {
					require.Contains(t, lines[i], "too long")
				}
			}
			for _, o := range p.Observations {
				_, err := json.Marshal(o.Data)
				require.NoError(t, err)
				for _, a := range o.Attachments {
					require.Equal(t, a.Attachment, event.NewAttachment(a.Content, a.MediaType, a.Name))
				}
			}
		})
	}
}

// What an identification says, and that what is personal is in its private part alone.
func TestN42Identification(t *testing.T) {
	doc := n42Doc(61, n42Occupied+`<DoseRate><DoseRateValue units="mSv/h">0.002</DoseRateValue></DoseRate>`, n42Nuclide)
	d := n42Driver(t, N42Stream(), func(into any) { into.(*N42StreamSettings).ConfidenceScale = "percent" })
	p, err := drivers.Play(t.Context(), d, []drivers.Chunk{n42Frame(time.Second, doc)})
	require.NoError(t, err)
	require.Len(t, p.Observations, 1)
	o := p.Observations[0]
	e := o.Data.(event.RadiationIdentification)
	require.Equal(t, e.IdentificationID, o.Subject)
	require.Equal(t, event.NuclidesIdentified, e.Outcome)
	require.InDelta(t, 0.97, *e.Nuclides[0].Confidence, 1e-12)
	require.Equal(t, "97", e.Nuclides[0].ConfidenceRaw)
	require.Equal(t, "percent", e.Nuclides[0].ConfidenceScale)
	require.True(t, *e.Occupied)
	require.InDelta(t, 63, *e.Instrument.BatteryPercent, 0)
	require.Equal(t, "3.2", e.Instrument.Software)
	m := e.Measurements[0]
	require.Equal(t, "spectrum F 7 64 128 0.5", fmt.Sprint(m.Kind, " ", m.ID, " ", m.Channels, " ", *m.TotalCounts, " ", *m.CPS, " ", *m.LiveS))
	require.InDelta(t, 2, *e.Measurements[1].DoseRateUSVH, 1e-9)
	require.Equal(t, "0.002 mSv/h", e.Measurements[1].DoseRateRaw)
	require.Equal(t, "2026-01-05T06:01:01.000Z", e.MeasuredFromTS.Format(event.TimeLayout))
	require.Equal(t, "2026-01-05T06:01:02.000Z", e.MeasuredToTS.Format(event.TimeLayout))
	require.True(t, o.DeviceTime.Equal(e.MeasuredFromTS.Time))
	require.Equal(t, []string{"of Ivan"}, e.Private.Remarks)
	require.Equal(t, []event.Property{{Name: "ContainerID", Value: "TEST0000017"}}, e.Private.Items)
	require.Contains(t, e.Private.Properties, event.Property{Name: "Operator Name", Value: "Olena"})
	require.Equal(t, doc, string(o.Attachments[0].Content))
	require.Equal(t, e.Document.SHA256, e.Attachments[0].SHA256)
	e.Private = nil
	public, err := json.Marshal(e)
	require.NoError(t, err)
	for _, personal := range []string{"Ivan", "Olena", "TEST0000017"} {
		require.NotContains(t, string(public), personal)
	}
}

// A number that is beyond its scale is no confidence.
func TestN42ConfidenceBeyondItsScale(t *testing.T) {
	for scale, want := range map[string]any{"fraction": nil, "ten": nil, "percent": 0.97, "unknown": nil} {
		d := n42Driver(t, N42Stream(), func(into any) { into.(*N42StreamSettings).ConfidenceScale = scale })
		p, err := drivers.Play(t.Context(), d, []drivers.Chunk{n42Frame(0, n42Doc(1, "", n42Nuclide))})
		require.NoError(t, err)
		c := p.Observations[0].Data.(event.RadiationIdentification).Nuclides[0].Confidence
		if want == nil {
			require.Nil(t, c, scale)
		} else {
			require.InDelta(t, want, *c, 1e-12, scale)
		}
	}
}

// What goes wrong with files, by its name.
func TestN42Folder(t *testing.T) {
	const s = time.Second
	doc, other := n42Doc(1, "", n42Nuclide), n42Doc(2, "", n42Alarm)
	file := func(at time.Duration, name, body string) drivers.Dropped {
		return drivers.Dropped{At: at, Name: name, Content: []byte(body)}
	}
	many := func(n int) (list []drivers.Dropped) {
		for i := range n {
			list = append(list, file(0, fmt.Sprintf("%03d.n42", i), n42Doc(i, "", n42Alarm)))
		}
		return list
	}
	const one = "identified alarms 0 nuclides 1 urgent"
	for name, c := range map[string]struct {
		script   []drivers.Dropped
		change   func(*N42FolderSettings)
		count    int
		want     []string
		unparsed int
	}{
		"a file":                                        {script: []drivers.Dropped{file(s, "a/x.N42", doc)}, want: []string{one}},
		"written in pieces":                             {script: []drivers.Dropped{file(s, "x.n42", doc[:100]), file(4*s, "x.n42", doc[:700]), file(30*s, "x.n42", doc)}, want: []string{one}},
		"written in place of an empty one":              {script: []drivers.Dropped{file(s, "x.n42", ""), file(20*s, "x.n42", doc)}, want: []string{one}},
		"renamed when it is there":                      {script: []drivers.Dropped{file(s, "x.n42.part", doc), {At: 9 * s, Name: "x.n42.part", Remove: true}, file(9*s, "x.n42", doc)}, want: []string{one}},
		"a copy, and the same under the old name again": {script: []drivers.Dropped{file(s, "x.n42", doc), file(20*s, "b/y.n42", doc), {At: 40 * s, Name: "x.n42", Remove: true}, file(60*s, "x.n42", doc)}, want: []string{one}},
		"overwritten by another":                        {script: []drivers.Dropped{file(s, "x.n42", doc), file(20*s, "x.n42", other)}, want: []string{one, "not_analysed alarms 1 nuclides 0 urgent"}},
		"cut for good, and the next": {script: []drivers.Dropped{file(s, "x.n42", doc[:len(doc)-9]), file(10*s, "y.n42", doc)}, want: []string{
			one, fmt.Sprintf("unparsed %d bytes: N42, x.n42: it is no XML: XML syntax error on line 1: unexpected EOF", len(doc)-9),
		}},
		"broken, with its end": {script: []drivers.Dropped{file(s, "x.n42", strings.Replace(doc, "of Ivan", "&#0;", 1))}, want: []string{
			fmt.Sprintf("unparsed %d bytes: N42, x.n42: it is no XML: XML syntax error on line 1: illegal character code U+0000", len(doc)-3),
		}},
		"too large":       {change: func(s *N42FolderSettings) { s.MaxDocument = 1024 }, script: []drivers.Dropped{file(s, "x.n42", doc)}, unparsed: 1},
		"of another kind": {script: []drivers.Dropped{file(s, "x.csv", doc), file(s, ".x.n42", doc), file(s, "a/b/c/d/e.n42", doc)}},
		"a heap":          {script: many(45), count: 45},
	} {
		t.Run(name, func(t *testing.T) {
			d := n42Driver(t, N42Folder(), func(into any) {
				if c.change != nil {
					c.change(into.(*N42FolderSettings))
				}
			})
			p, err := drivers.PlayFolder(t.Context(), d, c.script)
			require.NoError(t, err)
			require.Len(t, p.Unparsed, c.unparsed)
			if c.count > 0 {
				require.Len(t, p.Observations, c.count)
				return
			}
			require.Equal(t, c.want, n42Lines(p))
		})
	}
}

func TestN42Push(t *testing.T) {
	doc := n42Doc(1, "", n42Nuclide)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	require.NoError(t, w.WriteField("lane", "3"))
	for _, name := range []string{"a.n42", "b.n42"} {
		f, err := w.CreateFormFile("file", name)
		require.NoError(t, err)
		_, err = f.Write([]byte(strings.Replace(doc, "RS-350", name, 1)))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	post := func(kind string, body []byte) drivers.Exchange {
		return drivers.Exchange{ContentType: kind, Body: body}
	}
	p, err := drivers.PlayRequests(t.Context(), n42Driver(t, N42Push(), nil), []drivers.Exchange{
		post("application/xml", []byte(doc)), post("application/xml", []byte(doc)), post("text/xml", []byte(doc[:300])), post("text/xml", []byte(doc[:300])),
		post(w.FormDataContentType(), form.Bytes()), post(w.FormDataContentType(), form.Bytes()[:200]), {Method: "GET"},
	})
	require.NoError(t, err)
	require.Len(t, n42Lines(p), 5)
	var status []int
	for _, r := range p.Replies {
		status = append(status, r.Status)
	}
	require.Equal(t, []int{200, 200, 202, 202, 200, 202, 405}, status)
	require.Equal(t, "b.n42", p.Observations[3].Data.(event.RadiationIdentification).Document.Name)
}

func TestN42Settings(t *testing.T) {
	for name, c := range map[string]struct {
		driver drivers.Driver
		change func(any)
	}{
		"max_document":      {N42Push(), func(s any) { s.(*N42Settings).MaxDocument = 5 }},
		"confidence_scale":  {N42Push(), func(s any) { s.(*N42Settings).ConfidenceScale = "x" }},
		"zone":              {N42Push(), func(s any) { s.(*N42Settings).Zone = "Kyiv" }},
		"spectrum_interval": {N42Stream(), func(s any) { s.(*N42StreamSettings).SpectrumInterval = -1 }},
		"files":             {N42Folder(), func(s any) { s.(*N42FolderSettings).Files = []string{"["} }},
		"depth":             {N42Folder(), func(s any) { s.(*N42FolderSettings).Depth = 99 }},
		"every":             {N42Folder(), func(s any) { s.(*N42FolderSettings).Every = 0 }},
		"quiet":             {N42Folder(), func(s any) { s.(*N42FolderSettings).Quiet = -1 }},
		"deadline":          {N42Folder(), func(s any) { s.(*N42FolderSettings).Deadline = 0 }},
		"batch":             {N42Folder(), func(s any) { s.(*N42FolderSettings).Batch = 0 }},
	} {
		_, err := c.driver.New(func(into any) error { c.change(into); return nil })
		require.ErrorContains(t, err, name+":")
	}
}

// A bad file does not end the watching, and the next document of each sample is told.
func TestN42Samples(t *testing.T) {
	paths, err := filepath.Glob("../../../shared/data/radiation/*/*.n42")
	require.NoError(t, err)
	if len(paths) == 0 {
		t.Skip("the sample documents are not there: ../shared/data/radiation")
	}
	var script []drivers.Dropped
	for _, p := range paths {
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		script = append(script, drivers.Dropped{Name: filepath.Base(filepath.Dir(p)) + "/" + filepath.Base(p), Content: b})
	}
	p, err := drivers.PlayFolder(t.Context(), n42Driver(t, N42Folder(), nil), script)
	require.NoError(t, err)
	require.Empty(t, p.Unparsed)
	broken := 0
	for _, o := range p.Observations {
		if _, ok := o.Data.(event.DeviceUnparsed); ok {
			broken++
		}
		_, err := json.Marshal(o.Data)
		require.NoError(t, err)
	}
	require.Equal(t, len(paths), len(p.Observations), "each is told once")
	require.Equal(t, 5, broken)
}

// Whatever a document holds, its event is within the bound of events: an alarm is not lost
// for being long.
func TestN42Longest(t *testing.T) {
	long := strings.Repeat("&quot;", 600)
	var b strings.Builder
	element := func(name, attrs, in string) string { return "<" + name + attrs + ">" + in + "</" + name + ">" }
	id := ` id="` + long + `" radDetectorInformationReference="` + long + `"`
	for range 70 {
		b.WriteString(element("RadMeasurement", id, element("MeasurementClassCode", "", long)+element("Remark", "", long)+
			strings.Repeat(element("DoseRate", id, element("DoseRateValue", ` units="`+long+`"`, "1")), 3)+
			element("RadInstrumentState", "", element("Fault", "", element("FaultCodeValue", "", long)+element("FaultDescription", "", long)))))
		b.WriteString(element("RadItemInformation", "", element("RadItemDescription", "", long)))
	}
	found := element("RadAlarm", ` radDetectorInformationReferences="`+strings.Repeat(long[:600]+" ", 100)+`"`, element("RadAlarmCategoryCode", "", long)+element("RadAlarmDescription", "", long)) +
		element("NuclideAnalysisResults", "", element("Nuclide", "", element("NuclideName", "", long)+element("NuclideIDConfidenceValue", "", long)+element("NuclideCategoryDescription", "", long)))
	b.WriteString(element("AnalysisResults", "", strings.Repeat(found, 80)))
	p, err := drivers.Play(t.Context(), n42Driver(t, N42Stream(), nil), []drivers.Chunk{n42Frame(0, element("RadInstrumentData", "", b.String()))})
	require.NoError(t, err)
	require.Len(t, n42Lines(p), 1)
	e := p.Observations[0].Data.(event.RadiationIdentification)
	require.Len(t, e.Alarms, maxFound)
	require.Len(t, e.Measurements, maxMeasured)
	require.True(t, e.MeasurementsTruncated)
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.Less(t, len(text), event.MaxSize)
}
