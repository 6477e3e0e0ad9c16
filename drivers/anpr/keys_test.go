package anpr

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/nedap"
)

func plain(any) error { return nil }

// said lists what came out: plates, and "-" for one that was not read.
func plates(list []drivers.Observation) []string {
	all := []string{}
	for _, o := range list {
		switch d := o.Data.(type) {
		case event.PlateRead:
			all = append(all, d.Private.Plate)
		case event.PlateNoRead:
			all = append(all, "-")
		}
	}
	return all
}

// Two vehicles are two events, and a message that comes again is one, whatever a camera
// leaves out of it.
func TestPosts(t *testing.T) {
	vzenBody := func(serial, id, plate, more string) string {
		return fmt.Sprintf(`{"AlarmInfoPlate":{%s"result":{"PlateResult":{"license":"%s","plateid":%s,"timeStamp":{"Timeval":{"sec":1740816912}}%s}}}}`, serial, plate, id, more)
	}
	dahuaBody := func(id, name, lane, plate, exists string) string {
		return fmt.Sprintf(`{"Picture":{"NormalPic":{"PicName":"%s"},"Plate":{"IsExist":%s,"PlateNumber":"%s","UploadNum":1},"Vehicle":{},"SnapInfo":{%s"SnapTime":"2025-03-01 10:15:12","LanNo":%s}}}`, name, exists, plate, id, lane)
	}
	rekorBody := func(plate, start string) string {
		return fmt.Sprintf(`{"data_type":"alpr_group","best_plate_number":"%s","best_uuid":"u-1","epoch_start":%s}`, plate, start)
	}
	engine := func(hook, file, at, plate string) string {
		return fmt.Sprintf(`{"hook":{%s"filename":"%s"},"data":{"timestamp":"%s","results":[{"plate":"%s","score":0.9}]}}`, hook, file, at, plate)
	}
	for name, c := range map[string]struct {
		driver drivers.Driver
		kind   string
		bodies []string
		want   []string
	}{
		"vzen, without a serial number, sent again": {VzenPush(), "", []string{vzenBody("", "9", "AA1", ""), vzenBody("", "9", "AA1", ""), vzenBody("", "10", "BB2", "")}, []string{"AA1", "BB2"}},
		"vzen, called a form":                       {VzenPush(), "application/x-www-form-urlencoded", []string{vzenBody("", "9", "AA1", "")}, []string{"AA1"}},
		"vzen, a vehicle without a plate":           {VzenPush(), "", []string{vzenBody("", "9", "AA1", `,"type":31`)}, []string{"-"}},
		"dahua, two lanes in one second":            {DahuaPush(), "", []string{dahuaBody("", "", "1", "AA1", "true"), dahuaBody("", "", "2", "BB2", "true")}, []string{"AA1", "BB2"}},
		"dahua, without an id, sent again":          {DahuaPush(), "", []string{dahuaBody("", "a.jpg", "1", "AA1", "true"), dahuaBody("", "a.jpg", "1", "AA1", "true")}, []string{"AA1"}},
		"dahua, a plate that is none":               {DahuaPush(), "", []string{dahuaBody("", "", "1", "AA1", "false")}, []string{"-"}},
		"rekor, two vehicles of one picture":        {Rekor(), "", []string{rekorBody("AA1", "1740816912000"), rekorBody("BB2", "1740816913000"), rekorBody("AA1", "1740816912000")}, []string{"AA1", "BB2"}},
		"rekor, a vehicle that stands for long": {Rekor(), "", []string{`{"data_type":"alpr_group","best_plate_number":"AA1","uuids":[` + strings.TrimSuffix(strings.Repeat(`"u",`, 9000), ",") + `]}`},
			[]string{"AA1"}},
		"several groups in a list":                  {Rekor(), "", []string{"[" + rekorBody("AA1", "1740816912000") + ", " + rekorBody("BB2", "1740816913000") + "]"}, []string{"AA1", "BB2"}},
		"an engine without the id of its hook":      {PlateRecognizer(), "", []string{engine("", "a", "2025-03-01T08:15:12Z", "aa1"), engine("", "a", "2025-03-01T08:15:12Z", "aa1")}, []string{"AA1"}},
		"an engine that uses a file's name again":   {PlateRecognizer(), "", []string{engine("", "a", "2025-03-01T08:15:12Z", "aa1"), engine("", "a", "2025-03-01T16:15:12Z", "aa1")}, []string{"AA1", "AA1"}},
		"an engine, with its hook, a first and new": {PlateRecognizer(), "", []string{engine(`"id":"h",`, "a", "2025-03-01T08:15:12Z", "aa1"), engine(`"id":"h",`, "b", "2025-03-01T08:15:13Z", "bb2")}, []string{"AA1", "BB2"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := c.driver.New(plain)
			require.NoError(t, err)
			var script []drivers.Exchange
			for i, b := range c.bodies {
				kind := c.kind
				if kind == "" {
					kind = "application/json"
				}
				script = append(script, drivers.Exchange{At: time.Duration(i) * time.Second, ContentType: kind, Body: []byte(b)})
			}
			p, err := drivers.PlayRequests(t.Context(), d, script)
			require.NoError(t, err)
			require.Equal(t, c.want, plates(p.Observations))
			require.Empty(t, p.Unparsed)
			require.Len(t, p.Replies, len(c.bodies))
		})
	}
}

func TestDahuaStreamParts(t *testing.T) {
	event := func(more string) string {
		return "Events[0].EventBaseInfo.Code=TrafficJunction\r\nEvents[0].EventBaseInfo.Action=Pulse\r\nEvents[0].UTC=1740824112\r\n" + more
	}
	whole := event("Events[0].TrafficCar.Lane=1\r\nEvents[0].TrafficCar.PlateNumber=AA1234BB\r\n")
	part := func(text string) string {
		return fmt.Sprintf("--myboundary\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s\r\n", len(text), text)
	}
	cut := func(at int) string {
		return fmt.Sprintf("--myboundary\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(whole), whole[:at])
	}
	code := func(code, action, data string) string {
		return "Code=" + code + ";action=" + action + ";index=0;data=" + data + "\r\n"
	}
	const car = `{"UTC":1740824112,"Lane":%d,"TrafficCar":{"PlateNumber":"%s"}}`
	for name, c := range map[string]struct {
		body     string
		want     []string
		unparsed int
	}{
		"cut in the plate":               {cut(strings.Index(whole, "AA1234BB") + 4), []string{}, 1},
		"cut before the plate":           {cut(strings.Index(whole, "Events[0].TrafficCar")), []string{}, 1},
		"cut at the end of the plate":    {cut(len(whole)), []string{"AA1234BB"}, 1},
		"the badge of the vehicle":       {part(event("Events[0].Object.ObjectType=Vehicle\r\nEvents[0].Object.Text=Toyota\r\n")), []string{"-"}, 0},
		"two lanes in one second":        {part(code("TrafficJunction", "Pulse", fmt.Sprintf(car, 1, "AA1"))) + part(code("TrafficJunction", "Pulse", fmt.Sprintf(car, 2, "BB2"))), []string{"AA1", "BB2"}, 0},
		"two events in one part":         {part(code("TrafficJunction", "Pulse", fmt.Sprintf(car, 1, "AA1")) + code("TrafficJunction", "Pulse", fmt.Sprintf(car, 2, "BB2"))), []string{"AA1", "BB2"}, 0},
		"counts of traffic":              {part(code("TrafficFlowStat", "Pulse", `{"Lane":1,"Flow":12}`)), []string{}, 0},
		"the beginning and the end":      {part(code("TrafficParking", "Start", fmt.Sprintf(car, 1, "AA1"))) + part(code("TrafficParking", "Stop", fmt.Sprintf(car, 1, "AA1"))), []string{"AA1"}, 0},
		"the same event, which was sent": {part(whole) + part(whole), []string{"AA1234BB"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := DahuaStream().New(plain)
			require.NoError(t, err)
			if c.unparsed == 0 {
				c.body += "--myboundary--\r\n"
			}
			p, err := drivers.PlayResponses(t.Context(), d, []drivers.Exchange{{Path: "/cgi-bin/", ContentType: "multipart/x-mixed-replace; boundary=myboundary", Body: []byte(c.body)}})
			require.NoError(t, err)
			require.Equal(t, c.want, plates(p.Observations))
			require.Len(t, p.Unparsed, c.unparsed)
		})
	}
}

// keeper is a host whose ledger outlasts the instruments.
type keeper struct {
	ledger drivers.MemoryLedger
	now    time.Time
	list   []drivers.Observation
}

func (k *keeper) Now() time.Time         { return k.now }
func (k *keeper) Log() *slog.Logger      { return slog.New(slog.DiscardHandler) }
func (k *keeper) Ledger() drivers.Ledger { return &k.ledger }
func (k *keeper) Valid()                 {}
func (k *keeper) Unparsed(string, []byte) {
}
func (k *keeper) Emit(o drivers.Observation) error { k.list = append(k.list, o); return nil }

// TestRememberedOverARestart: what a camera sends again after the agent was started anew
// makes no second event, and the ledger does not tell the plate.
func TestRememberedOverARestart(t *testing.T) {
	k := &keeper{now: drivers.ScriptStart()}
	for start := range 3 {
		d, err := VzenPush().New(plain)
		require.NoError(t, err)
		inbox := link.NewInbox()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx, inbox, k) }()
		for _, body := range []string{vzenOne, strings.Replace(vzenOne, `"plateid":9`, fmt.Sprintf(`"plateid":%d`, 100+start), 1)} {
			status, _, _, err := inbox.Offer(ctx, &link.Delivery{Method: "POST", ContentType: "application/json", Body: []byte(body)})
			require.NoError(t, err)
			require.Equal(t, 200, status)
		}
		cancel()
		<-done
		k.now = k.now.Add(time.Hour)
	}
	require.Len(t, k.list, 2+3*2, "two plates once, and two new ones after each start")
	k.ledger.Each("", func(key, value string) bool {
		require.NotContains(t, key+value, "AA1234BB")
		return true
	})
	k.now = k.now.Add(rememberedFor + time.Hour)
	r := NewRecorder("vzen", Settings{})
	require.NoError(t, r.Record(k, Reading{Plate: "AA1234BB", MessageKey: "x"}))
	require.NoError(t, r.Record(k, Reading{Plate: "AA1234BB", MessageKey: "x"}))
	require.Len(t, k.list, 9)
}

// A number of an object in a scene is used again.
func TestSceneNumbers(t *testing.T) {
	d, err := ONVIFMQTT().New(func(into any) error {
		into.(*ONVIFMQTTSettings).Filters = []string{"onvif-mj/#"}
		return nil
	})
	require.NoError(t, err)
	scene := func(at, plate string) []byte {
		return fmt.Appendf(nil, `{"Frame":{"@UtcTime":"%s","Object":{"@ObjectId":1,"Appearance":{"LicensePlateInfo":{"PlateNumber":"%s"}}}}}`, at, plate)
	}
	var script []drivers.Exchange
	for _, s := range []struct {
		at    time.Duration
		plate string
	}{{0, "AA1234BB"}, {time.Second, "AA1234BB"}, {30 * time.Minute, "CE5678BB"}, {10 * time.Hour, "AA1234BB"}} {
		script = append(script, drivers.Exchange{At: s.at, Path: "own/onvif-mj/a", Body: scene(drivers.ScriptStart().Add(s.at).Format(time.RFC3339), s.plate)})
	}
	p, err := drivers.PlayMessages(t.Context(), d, script)
	require.NoError(t, err)
	require.Equal(t, []string{"AA1234BB", "CE5678BB", "AA1234BB"}, plates(p.Observations))
	ids := map[string]bool{}
	for _, o := range p.Observations {
		ids[o.Data.(event.PlateRead).ReadID] = true
		require.Equal(t, event.RevisionNew, o.Data.(event.PlateRead).Capture.Revision)
	}
	require.Len(t, ids, 3)
}

// Plates on Nedap's RS-485 by every placeholder for them, and with bytes as the manual
// writes them.
func TestNedapTemplates(t *testing.T) {
	for _, template := range []string{"%LP_WS%%CR%%LF%", "%LP_UL%%CR%%LF%", "%PLATE%0x0D%0x0A", "%LP%%CR%%LF%"} {
		d, err := NedapRS485().New(func(into any) error { into.(*NedapRS485Settings).Template = template; return nil })
		require.NoError(t, err, template)
		p, err := drivers.Play(t.Context(), d, []drivers.Chunk{{Bytes: []byte("AB123CD\r\n")}})
		require.NoError(t, err)
		require.Equal(t, []string{"AB123CD"}, plates(p.Observations), template)
	}
	_, err := NedapRS485().New(func(into any) error { into.(*NedapRS485Settings).Template = "%CONF%%CR%"; return nil })
	require.ErrorContains(t, err, "no plate in it")
}

// A transit whose plate is read late.
func TestNedapTransits(t *testing.T) {
	d, err := NedapTLV().New(plain)
	require.NoError(t, err)
	var script []drivers.Chunk
	for i, text := range []string{"", "AA1234BB", "AA1234BB", "CE5678BB"} {
		m := nedap.Message{Command: nedap.CommandTransit, Fields: []nedap.Field{
			nedap.TextField(nedap.TagDate, "2026-01-05"), nedap.TextField(nedap.TagTime, "12-00-00"), nedap.NumberField(nedap.TagTransitID, 17, nedap.LittleEndian),
			nedap.TextField(nedap.TagPlateString, text),
		}}
		b, err := m.Encode(nedap.LittleEndian)
		require.NoError(t, err)
		script = append(script, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: b})
	}
	p, err := drivers.Play(t.Context(), d, script)
	require.NoError(t, err)
	require.Equal(t, []string{"-", "AA1234BB", "CE5678BB"}, plates(p.Observations))
}
