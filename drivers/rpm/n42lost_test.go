package rpm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// ledgerHost is a host of the tests whose clock and ledger they see.
type ledgerHost struct {
	drivers.Host
	ledger drivers.MemoryLedger
	got    []drivers.Observation
	now    time.Time
	refuse bool
}

func (h *ledgerHost) Now() time.Time          { return h.now }
func (h *ledgerHost) Ledger() drivers.Ledger  { return &h.ledger }
func (h *ledgerHost) Valid()                  {}
func (h *ledgerHost) Unparsed(string, []byte) {}
func (h *ledgerHost) Emit(o drivers.Observation) error {
	if _, is := o.Data.(event.DeviceUnparsed); h.refuse && !is {
		return fmt.Errorf("%w: too large", drivers.ErrUnrecordable)
	}
	h.got = append(h.got, o)
	return nil
}

func n42Play(t *testing.T, script ...drivers.Chunk) []string {
	t.Helper()
	p, err := drivers.Play(t.Context(), n42Driver(t, N42Stream(), nil), script)
	require.NoError(t, err)
	for _, o := range p.Observations {
		_, err := json.Marshal(o.Data)
		require.NoError(t, err)
	}
	return n42Lines(p)
}

// The nuclide that is identified is told, however many others are listed before it.
func TestN42ManyNuclides(t *testing.T) {
	var b strings.Builder
	for i := range 70 {
		fmt.Fprintf(&b, "<Nuclide><NuclideIdentifiedIndicator>%v</NuclideIdentifiedIndicator><NuclideName>X-%d</NuclideName></Nuclide>", i == 66, i)
	}
	p, err := drivers.Play(t.Context(), n42Driver(t, N42Stream(), nil), []drivers.Chunk{n42Frame(0, n42Doc(1, "", "<AnalysisResults><NuclideAnalysisResults>"+b.String()+"</NuclideAnalysisResults></AnalysisResults>"))})
	require.NoError(t, err)
	e := p.Observations[0].Data.(event.RadiationIdentification)
	require.Len(t, e.Nuclides, maxFound)
	last := e.Nuclides[maxFound-1]
	require.Equal(t, "X-66", last.Name)
	require.True(t, *last.Identified)
	require.Contains(t, e.Flags, flagFindingsCut)
}

// A measurement whose end no event can have hides no alarm, and a document whose event is
// refused is kept whole.
func TestN42Unrecordable(t *testing.T) {
	doc := strings.Replace(strings.Replace(n42Doc(1, "", n42Alarm), "2026-01-05", "9998-01-05", 1), "PT1S", "P36500D", 1)
	require.Equal(t, []string{"not_analysed alarms 1 nuclides 0 urgent"}, n42Play(t, n42Frame(0, doc)))

	h := &ledgerHost{now: time.Now(), refuse: true}
	read, err := n42Driver(t, N42Push(), nil).(*documentPosts).take(h, arrived{raw: []byte(n42Doc(1, "", n42Alarm)), at: h.now})
	require.NoError(t, err)
	require.True(t, read)
	require.Equal(t, n42Doc(1, "", n42Alarm), string(h.got[0].Attachments[0].Content))
}

// Broken documents that come in a flood leave nothing in the ledger, and what has waited
// there for long goes.
func TestN42FloodAndLedger(t *testing.T) {
	h := &ledgerHost{now: time.Now()}
	d := n42Driver(t, N42Push(), nil).(*documentPosts)
	for i := range 100 {
		if _, err := d.take(h, arrived{raw: fmt.Appendf(nil, "{%d}", i), at: h.now}); err != nil {
			require.ErrorIs(t, err, errFlood)
		}
	}
	left := func() (n int) {
		h.ledger.Each("next:", func(string, string) bool { n++; return true })
		return n
	}
	require.Len(t, h.got, maxBroken)
	require.Zero(t, left())
	require.NoError(t, h.ledger.Put("next:damaged", "x"))
	id, err := uuid.NewV7()
	require.NoError(t, err)
	require.NoError(t, h.ledger.Put("next:young", id.String()))
	require.NoError(t, sweep(&h.ledger, h.now))
	require.Equal(t, 1, left())
	require.NoError(t, sweep(&h.ledger, h.now.Add(maxIntended+time.Hour)))
	require.Zero(t, left())
}

// What comes without its STX or ETX is told, or kept.
func TestN42Unframed(t *testing.T) {
	doc := n42Doc(1, "", n42Alarm)
	const alarm = "not_analysed alarms 1 nuclides 0 urgent"
	chunk := func(at time.Duration, s string) drivers.Chunk { return drivers.Chunk{At: at, Bytes: []byte(s)} }
	require.Equal(t, []string{alarm}, n42Play(t, chunk(0, doc)), "no STX at all")
	require.Equal(t, []string{alarm, alarm}, n42Play(t, chunk(0, doc), n42Frame(time.Second, n42Doc(2, "", n42Alarm))), "no STX, and the next")
	require.Equal(t, []string{alarm, alarm}, n42Play(t, chunk(0, "\x02"+doc), n42Frame(time.Second, n42Doc(2, "", n42Alarm))), "no ETX, and the next")
	require.Equal(t, []string{alarm}, n42Play(t, chunk(0, "\x02"+doc)), "no ETX, and the link ends")
	require.Equal(t, []string{fmt.Sprintf("unparsed %d bytes: N42: bytes outside of a document's STX and ETX", len(doc)-9)}, n42Play(t, chunk(0, doc[:len(doc)-9])), "half of one without STX")
}

// A result for a later vehicle is told, also where documents without a result are between.
func TestN42LaterResult(t *testing.T) {
	var script []drivers.Chunk
	for i := range 50 {
		end := ""
		if i == 1 || i == 30 || i == 31 {
			end = n42Nothing
		}
		script = append(script, n42Frame(time.Duration(i)*time.Second, n42Doc(i, n42Free, end)))
	}
	n := 0
	for _, line := range n42Play(t, script...) {
		if strings.HasPrefix(line, "nothing_identified") {
			n++
		}
	}
	require.Equal(t, 3, n)
}

// A field of a form without a file's name that is a document in UTF-16 is one.
func TestN42FormInUTF16(t *testing.T) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	f, err := w.CreateFormFile("file", "a.n42")
	require.NoError(t, err)
	_, err = io.WriteString(f, n42Doc(1, "", ""))
	require.NoError(t, err)
	var wide []byte
	for _, u := range append([]uint16{0xfeff}, utf16.Encode([]rune(n42Doc(2, "", n42Alarm)))...) {
		wide = binary.LittleEndian.AppendUint16(wide, u)
	}
	require.NoError(t, w.WriteField("lane", "3"))
	require.NoError(t, w.WriteField("alarm", string(wide)))
	require.NoError(t, w.Close())
	p, err := drivers.PlayRequests(t.Context(), n42Driver(t, N42Push(), nil), []drivers.Exchange{{ContentType: w.FormDataContentType(), Body: form.Bytes()}})
	require.NoError(t, err)
	require.Equal(t, []string{"spectrum of 1 in 0s routine faults 0", "not_analysed alarms 1 nuclides 0 urgent"}, n42Lines(p))
}

type pipeConn struct{ net.Conn }

// Connections one after the other do not defeat the thinning, and count every document.
func TestN42Reconnects(t *testing.T) {
	h := &ledgerHost{now: time.Now()}
	d := n42Driver(t, N42Stream(), nil).(*documentStream)
	for i := range 60 {
		a, b := net.Pipe()
		go func() {
			_, _ = io.WriteString(a, "\x02"+n42Doc(i, n42Free, "")+"\x03")
			_ = a.Close()
		}()
		_, err := d.connection(t.Context(), pipeConn{b}, h)
		require.NoError(t, err)
		h.now = h.now.Add(time.Second)
	}
	require.LessOrEqual(t, len(h.got), 13)
	told := d.count
	for _, o := range h.got {
		told += o.Data.(event.RadiationSpectrum).Documents
	}
	require.Equal(t, 60, told)
}

// The passage and the time of an identification are those that the analysis is about.
func TestN42AnalysisOfAGroup(t *testing.T) {
	m := func(id, group string, minute int) string {
		return fmt.Sprintf(`<RadMeasurement id="%s" radMeasurementGroupReferences="%s"><MeasurementClassCode>Foreground</MeasurementClassCode><StartDateTime>2026-01-05T06:0%d:00Z</StartDateTime><RealTimeDuration>PT1S</RealTimeDuration></RadMeasurement>`, id, group, minute)
	}
	for _, about := range []string{`radMeasurementGroupReferences="Truck-2"`, `radMeasurementReferences="B"`} {
		doc := `<RadInstrumentData>` + m("A", "Truck-1", 0) + m("B", "Truck-2", 5) + `<AnalysisResults radMeasurementGroupReferences="Truck-1"/><AnalysisResults ` + about +
			`><RadAlarm><RadAlarmCategoryCode>Neutron</RadAlarmCategoryCode></RadAlarm><Fault><FaultCodeValue>gain</FaultCodeValue></Fault></AnalysisResults></RadInstrumentData>`
		p, err := drivers.Play(t.Context(), n42Driver(t, N42Stream(), nil), []drivers.Chunk{n42Frame(0, doc)})
		require.NoError(t, err)
		e := p.Observations[0].Data.(event.RadiationIdentification)
		require.Equal(t, "Truck-2", e.OccupancyRef)
		require.Equal(t, time.Date(2026, 1, 5, 6, 5, 0, 0, time.UTC), e.MeasuredFromTS.UTC())
		require.Equal(t, time.Date(2026, 1, 5, 6, 5, 1, 0, time.UTC), e.MeasuredToTS.UTC())
		require.Len(t, e.Faults, 1)
	}
}
