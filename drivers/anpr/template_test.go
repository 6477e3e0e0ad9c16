package anpr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/onvif"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// made makes an instrument with settings.
func made[S any](t *testing.T, d drivers.Driver, change func(*S)) drivers.Instrument {
	t.Helper()
	i, err := d.New(func(into any) error {
		change(into.(*S))
		return nil
	})
	require.NoError(t, err)
	return i
}

// refused checks what the settings are refused with.
func refused[S any](t *testing.T, d drivers.Driver, cases map[string]func(*S)) {
	t.Helper()
	for want, change := range cases {
		_, err := d.New(func(into any) error {
			change(into.(*S))
			return nil
		})
		require.ErrorContains(t, err, want)
	}
	_, err := d.New(func(any) error { return errors.New("not read") })
	require.EqualError(t, err, "not read")
}

func TestSettingsOfTemplatesThatAreRefused(t *testing.T) {
	refused(t, Template(), map[string]func(*TemplateSettings){
		"grammar: end":                    func(s *TemplateSettings) { s.Grammar.End = `\q` },
		"it is grammar.encoding":          func(s *TemplateSettings) { s.CodePage = "windows-1251" },
		"vendor: take small letters":      func(s *TemplateSettings) { s.Vendor = "A B" },
		`message_key: there is no`:        func(s *TemplateSettings) { s.MessageKey = []string{"x"} },
		`zone: "Mars"`:                    func(s *TemplateSettings) { s.Zone = "Mars" },
		`directions: x is "up"`:           func(s *TemplateSettings) { s.Directions = map[string]string{"x": "up"} },
		`country_forms: "x" is not known`: func(s *TemplateSettings) { s.CountryForms = []string{"x"} },
	})
	refused(t, NedapTLV(), map[string]func(*NedapTLVSettings){
		"byte_order":  func(s *NedapTLVSettings) { s.ByteOrder = "middle" },
		"date_format": func(s *NedapTLVSettings) { s.DateFormat = "x" },
		"idle_gap":    func(s *NedapTLVSettings) { s.IdleGap = 0 },
		"code_page":   func(s *NedapTLVSettings) { s.CodePage = "x" },
	})
	refused(t, NedapRS485(), map[string]func(*NedapRS485Settings){
		"mode":        func(s *NedapRS485Settings) { s.Mode = "x" },
		"same_for":    func(s *NedapRS485Settings) { s.SameFor = -1 },
		"template: ":  func(s *NedapRS485Settings) { s.Template = "%LP%%LP%" },
		"has no end":  func(s *NedapRS485Settings) { s.Template = "%LP%" },
		"byte_order:": func(s *NedapRS485Settings) { s.ByteOrder = "" },
	})
	refused(t, ONVIFPullPoint(), map[string]func(*ONVIFSettings){
		"vendor":          func(s *ONVIFSettings) { s.Vendor = "x" },
		"events_path":     func(s *ONVIFSettings) { s.EventsPath = "//elsewhere/x" },
		"go together":     func(s *ONVIFSettings) { s.Username = "x" },
		"pull_timeout":    func(s *ONVIFSettings) { s.PullTimeout = time.Hour },
		"pull_limit":      func(s *ONVIFSettings) { s.PullLimit = 0 },
		"termination":     func(s *ONVIFSettings) { s.Termination = 0 },
		`there is no "x"`: func(s *ONVIFSettings) { s.Items = map[string]string{"x": "y"} },
	})
}

func text(at time.Duration, s string) drivers.Chunk { return drivers.Chunk{At: at, Bytes: []byte(s)} }

func TestWhatAPauseMeans(t *testing.T) {
	i := made(t, Template(), func(s *TemplateSettings) {
		s.Grammar = textframe.Grammar{Framing: textframe.Framing{Idle: 200 * time.Millisecond}, Pattern: `^(?P<plate>[A-Z0-9]+)$`}
	})
	got, err := drivers.Play(t.Context(), i, []drivers.Chunk{
		text(0, "AB1"), text(100*time.Millisecond, "23"), text(time.Second, "CD4"), text(2*time.Second, "x y"), text(3*time.Second, "EF5"),
	})
	require.NoError(t, err)
	require.Equal(t, []string{"AB123", "CD4", "EF5"}, platesOf(got), "the last one ends with the connection")
	require.Len(t, got.Unparsed, 1)
	require.Equal(t, 3, got.Valid)

	// Without a word about either, a pause ends it.
	i = made(t, Template(), func(s *TemplateSettings) { s.Grammar.Pattern = `^(?P<plate>[A-Z0-9]+)$` })
	got, err = drivers.Play(t.Context(), i, []drivers.Chunk{text(0, "AB123"), text(time.Minute, "CD4"), text(2*time.Minute, "EF5")})
	require.NoError(t, err)
	require.Equal(t, []string{"AB123", "CD4", "EF5"}, platesOf(got))

	// With an end, a pause in the middle breaks the frame off, and it is told.
	i = made(t, Template(), func(s *TemplateSettings) {
		s.Grammar = textframe.Grammar{Framing: textframe.Framing{Start: "<", End: ">", Idle: 200 * time.Millisecond}, Pattern: `^(?P<plate>[A-Z0-9]+)$`}
	})
	got, err = drivers.Play(t.Context(), i, []drivers.Chunk{text(0, "<AB1"), text(time.Second, "<CD4>")})
	require.NoError(t, err)
	require.Equal(t, []string{"CD4"}, platesOf(got))
	require.Len(t, got.Unparsed, 1)
}

// platesOf lists plates, "" for what was not read.
func platesOf(p drivers.Played) []string {
	var list []string
	for _, o := range p.Observations {
		switch d := o.Data.(type) {
		case event.PlateRead:
			list = append(list, d.Private.Plate)
		case event.PlateNoRead:
			list = append(list, "")
		}
	}
	return list
}

func TestWiegandInATemplate(t *testing.T) {
	i := made(t, Template(), func(s *TemplateSettings) { s.Grammar.Pattern, s.Grammar.End = `^(?P<wiegand>[01 ]+)$`, `\n` })
	// The manual's example of 64 bits, AB123CD, and that of 26.
	got, err := drivers.Play(t.Context(), i, []drivers.Chunk{
		text(0, fmt.Sprintf("%064b\r\n", uint64(0x600001A6D149371D))), text(1, "01000110010111001111110110\r\n"), text(2, "01\r\n"),
		text(3, fmt.Sprintf("%064b\r\n", uint64(0x6000000BEB516FED))),
	})
	require.NoError(t, err)
	require.Equal(t, []string{"AB123CD", "VR46?T"}, platesOf(got))
	require.True(t, got.Observations[1].Data.(event.PlateRead).Private.Lossy)
	require.Len(t, got.Unparsed, 2)
	require.Contains(t, got.Unparsed[0].Reason, "26 bits")
}

func TestFieldsOfATemplate(t *testing.T) {
	i := made(t, Template(), func(s *TemplateSettings) {
		s.Zone, s.TimeFormat, s.Unread = "Europe/Kyiv", "2006-01-02 15:04:05", []string{"none"}
		s.Directions, s.CountryForms, s.LaneDirection = map[string]string{"IN": "toward"}, []string{"vienna"}, map[string]string{"toward": "entry"}
		s.Grammar = textframe.Grammar{
			Framing: textframe.Framing{End: `\n`}, Separator: ";", Heartbeat: "^alive$",
			Columns: []string{"plate", "no_read", "date", "time", "direction", "country", "speed", "vehicle_type"},
		}
	})
	got, err := drivers.Play(t.Context(), i, []drivers.Chunk{
		text(0, "alive\nAA1234BB;;2026-03-01;12:00:00;in;PL;61.5;truck\n"), text(1, ";none;x;y;;;;\n"), text(2, "zz;bad read;;;;;900;\n"),
	})
	require.NoError(t, err)
	require.Equal(t, 4, got.Valid)
	require.Equal(t, []string{"AA1234BB", "", ""}, platesOf(got))
	o := got.Observations[0]
	d := o.Data.(event.PlateRead)
	require.True(t, time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC).Equal(o.DeviceTime))
	require.Equal(t, event.TimeFromDeviceZone, d.Capture.TimeSource)
	require.Equal(t, "toward", d.Direction)
	require.Equal(t, "entry", d.LaneDirection)
	require.Equal(t, "PL", d.Country.Raw)
	require.InDelta(t, 61.5, *d.Vehicle.SpeedKPH, 0)
	require.Equal(t, "marked", got.Observations[1].Data.(event.PlateNoRead).Reason)
	require.Equal(t, "no_text", got.Observations[2].Data.(event.PlateNoRead).Reason)
	require.Nil(t, got.Observations[2].Data.(event.PlateNoRead).Vehicle, "nobody drives 900 km/h")

	for format, times := range map[string][2]string{
		"unix": {"1772359200", event.TimeFromDevice}, "unix_ms": {"1772359200000", event.TimeFromDevice},
		"20060102150405-0700": {"20260301120000+0200", event.TimeFromDevice}, "20060102150405": {"20260301120000", event.TimeFromDeviceZone},
	} {
		i := made(t, Template(), func(s *TemplateSettings) { s.Zone, s.TimeFormat = "Europe/Kyiv", format }).(*template)
		at, source := i.time("", times[0])
		require.True(t, time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC).Equal(at), format)
		require.Equal(t, times[1], source)
		at, _ = i.time("", "x")
		require.True(t, at.IsZero())
	}
}

// unwilling is a host whose disk refuses.
type unwilling struct{ drivers.Host }

func (unwilling) Emit(drivers.Observation) error { return errors.New("the agent stops") }
func (unwilling) Ledger() drivers.Ledger         { return nil }
func (unwilling) Valid()                         {}
func (unwilling) Now() time.Time                 { return drivers.ScriptStart() }
func (unwilling) Unparsed(string, []byte)        {}
func (unwilling) Log() *slog.Logger              { return slog.New(slog.DiscardHandler) }

func TestNothingIsTakenThatIsNotOnDisk(t *testing.T) {
	i := made(t, Template(), func(*TemplateSettings) {})
	inbox := link.NewInbox()
	done := make(chan error, 1)
	go func() { done <- i.Run(t.Context(), inbox, unwilling{}) }()
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, _, _, err := inbox.Offer(ctx, &link.Delivery{Method: http.MethodPost, Body: []byte("AB123\r\n")})
		answered <- err
	}()
	require.ErrorContains(t, <-done, "the agent stops")
	select {
	case err := <-answered:
		require.NoError(t, err)
		require.Fail(t, "it was answered")
	default:
	}
	cancel()
	require.Error(t, <-answered)
}

// answers is a camera that answers by a function.
type answers func(q onvif.Request, path string) (int, []byte)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	q, err := onvif.DecodeRequest(b)
	if err != nil {
		return nil, err
	}
	opaque := strings.TrimPrefix(r.URL.Opaque, "//")
	status, body := a(q, opaque[strings.IndexByte(opaque, '/'):])
	if status == 0 {
		return nil, link.ErrUnplugged
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, nil
}

func encoded(t *testing.T, r onvif.Response) []byte {
	b, err := r.Encode()
	require.NoError(t, err)
	return b
}

type quiet struct {
	unwilling
	now   time.Time
	reads []drivers.Observation
}

func (q *quiet) Now() time.Time { return q.now }
func (q *quiet) Emit(o drivers.Observation) error {
	q.reads = append(q.reads, o)
	return nil
}

func TestALoginThatIsRefusedIsTriedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("secret\n"), 0o600))
	i := made(t, ONVIFPullPoint(), func(s *ONVIFSettings) { s.Username, s.PasswordFile = "lane", file })
	h := &quiet{now: drivers.ScriptStart()}
	tries := 0
	client := link.ClientOver(answers(func(q onvif.Request, _ string) (int, []byte) {
		if q.Operation == onvif.GetSystemDateAndTime {
			require.Nil(t, q.Login, "the clock is asked without a login")
			return 200, encoded(t, onvif.Response{Operation: q.Operation, System: h.now.Add(time.Hour)})
		}
		tries++
		require.True(t, q.Login.Matches("secret"))
		require.Equal(t, h.now.Add(time.Hour).Format("2006-01-02T15:04:05.000Z"), q.Login.Created, "by the camera's clock")
		return 400, (&onvif.Fault{Code: "Sender", Subcodes: []string{"NotAuthorized"}}).Encode()
	}))
	var later *link.RetryError
	err := i.Run(t.Context(), client, h)
	require.ErrorAs(t, err, &later)
	require.Equal(t, h.now.Add(onvifLoginPause), later.Until)
	require.NotContains(t, err.Error(), "secret")
	require.ErrorAs(t, i.Run(t.Context(), client, h), &later)
	require.Equal(t, 1, tries)
	h.now = h.now.Add(onvifLoginPause)
	require.ErrorAs(t, i.Run(t.Context(), client, h), &later)
	require.Equal(t, 2, tries)
}

func TestASubscriptionOutlivesTheConnection(t *testing.T) {
	i := made(t, ONVIFPullPoint(), func(*ONVIFSettings) {})
	h := &quiet{now: drivers.ScriptStart()}
	var asked []string
	plugged := true
	client := link.ClientOver(answers(func(q onvif.Request, path string) (int, []byte) {
		asked = append(asked, string(q.Operation)+" "+path)
		switch q.Operation {
		case onvif.GetSystemDateAndTime:
			return 400, (&onvif.Fault{Code: "Receiver"}).Encode()
		case onvif.CreatePullPointSubscription:
			return 200, encoded(t, onvif.Response{Operation: q.Operation, Subscription: "http://192.0.2.1:81/sub?id=7"})
		case onvif.PullMessages:
			if len(asked) > 7 {
				return 400, (&onvif.Fault{Code: "Receiver", Subcodes: []string{"ResourceUnknownFault"}}).Encode()
			}
			if plugged = !plugged; plugged {
				return 0, nil
			}
			h.now = h.now.Add(100 * time.Second)
		}
		return 200, encoded(t, onvif.Response{Operation: q.Operation, Notifications: []onvif.Notification{
			{Topic: "tns1:" + onvif.TopicMilesight, Data: []onvif.Item{{Name: "Other", Value: "AB123"}}},
			{Topic: "tns1:" + onvif.TopicLicensePlate, UTCTime: "2026-01-05T08:00:00", Operation: "Deleted", Plate: &onvif.PlateInfo{Number: onvif.Value{Text: "X"}}},
			{Topic: "own", UTCTime: "2026-01-05T08:00:00", Plate: &onvif.PlateInfo{Number: onvif.Value{Text: "AB123"}}},
		}})
	}))
	require.ErrorIs(t, i.Run(t.Context(), client, h), link.ErrUnplugged)
	var fault *onvif.Fault
	require.ErrorAs(t, i.Run(t.Context(), client, h), &fault)
	require.Equal(t, []string{
		"GetSystemDateAndTime /onvif/device_service", "CreatePullPointSubscription /onvif/event_service", "PullMessages /sub?id=7",
		"PullMessages /sub?id=7",
		"GetSystemDateAndTime /onvif/device_service", "PullMessages /sub?id=7", "Renew /sub?id=7", "PullMessages /sub?id=7",
	}, asked)
	require.Len(t, h.reads, 1, "the same message again is the same read")
	require.Empty(t, i.(*onvifCamera).subscription, "the camera has said that it is not there")
	require.Error(t, i.Run(t.Context(), link.NewInbox(), h))
}

// A camera that can't renew gets another subscription, and what is in the old one is
// read: nothing that happens between is lost.
func TestACameraThatDoesNotRenew(t *testing.T) {
	i := made(t, ONVIFPullPoint(), func(*ONVIFSettings) {})
	h := &quiet{now: drivers.ScriptStart()}
	var asked []string
	made := 0
	client := link.ClientOver(answers(func(q onvif.Request, path string) (int, []byte) {
		asked = append(asked, string(q.Operation)+" "+path)
		a := onvif.Response{Operation: q.Operation, Current: h.now, Termination: h.now.Add(20 * time.Second)}
		switch q.Operation {
		case onvif.GetSystemDateAndTime:
			a.System = h.now
		case onvif.CreatePullPointSubscription:
			made++
			a.Subscription = fmt.Sprintf("/sub%d", made)
		case onvif.Renew:
			return 500, (&onvif.Fault{Code: "Receiver", Subcodes: []string{"ActionNotSupported"}}).Encode()
		case onvif.PullMessages:
			if len(asked) > 8 {
				return 0, nil
			}
			h.now = h.now.Add(time.Second)
			a.Notifications = []onvif.Notification{{Topic: onvif.TopicLicensePlate, Plate: &onvif.PlateInfo{Number: onvif.Value{Text: fmt.Sprint("AB", len(asked))}}}}
		}
		return 200, encoded(t, a)
	}))
	require.ErrorIs(t, i.Run(t.Context(), client, h), link.ErrUnplugged)
	require.Equal(t, []string{
		"GetSystemDateAndTime /onvif/device_service", "CreatePullPointSubscription /onvif/event_service", "PullMessages /sub1",
		"Renew /sub1", "CreatePullPointSubscription /onvif/event_service", "PullMessages /sub1", "Unsubscribe /sub1",
		"PullMessages /sub2", "Renew /sub2", "CreatePullPointSubscription /onvif/event_service", "PullMessages /sub2",
	}, asked)
	require.Equal(t, []string{"AB3", "AB6", "AB8"}, platesOf(drivers.Played{Observations: h.reads}))
}
