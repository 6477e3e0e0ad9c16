package xray

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/framing"
	"github.com/lanepost/lanepost/protocol/sidecar"
	"github.com/lanepost/lanepost/protocol/textframe"
)

// messageSettings are those of a scanner that sends XML: the documents of message, one after
// the other.
func messageSettings(s *MessageSettings) {
	s.Sidecar = sidecar.Dialect{Fields: map[string][]string{
		"id": {"Id", "id"}, "start": {"Time"}, "plate": {"Plate"}, "container": {"Container"}, "operator_result": {"Reason"}, "training": {"Training"},
	}}
	s.Pictures = []MessagePicture{{Place: "Images/Under", Role: "image", Name: "under"}, {Place: "Images/Front", Role: "snapshot", Name: "front"}}
	s.Verdicts = map[string]string{"OK": event.DecisionNothingFound, "FOUND": event.DecisionSuspicious}
	s.Heartbeat = "^<Alive/>$"
}

func messengerOf(t *testing.T, change ...func(*MessageSettings)) drivers.Instrument {
	t.Helper()
	d, err := Messages().New(func(into any) error {
		for _, f := range append([]func(*MessageSettings){messageSettings}, change...) {
			f(into.(*MessageSettings))
		}
		return nil
	})
	require.NoError(t, err)
	return d
}

// message is one of a scan; reason is empty for one that nobody has looked at.
func message(id, reason string, more ...string) string {
	return "<Scan><Id>" + id + "</Id><Time>2026-01-05T05:59:41Z</Time><Plate>AA1234BB</Plate><Reason>" + reason + "</Reason>" + strings.Join(more, "") + "</Scan>"
}

func images(under, front string) string {
	return "<Images><Under>" + under + "</Under><Front>" + front + "</Front></Images>"
}

// coded is a picture in base64, with line ends as some write it.
func coded(b []byte) string {
	text := base64.StdEncoding.EncodeToString(b)
	return text[:76] + "\r\n" + text[76:]
}

func sent(parts ...string) (script []drivers.Chunk) {
	for i, p := range parts {
		script = append(script, drivers.Chunk{At: time.Duration(10*i) * time.Second, Bytes: []byte(p)})
	}
	return append(script, drivers.Chunk{At: time.Duration(10*len(parts)) * time.Second})
}

// What scanners do with messages, by its name.
func TestScanMessages(t *testing.T) {
	under, front := picture(90), picture(120)
	const pending, clear, found = " r1 complete operational pending", " r1 complete operational nothing_found", " r1 complete operational suspicious"
	a, b := message("A", ""), message("B", "OK")
	for name, c := range map[string]struct {
		change   func(*MessageSettings)
		script   []drivers.Chunk
		want     []string
		unparsed int
	}{
		"one":                                {script: sent(a), want: []string{"A" + pending}},
		"two in one piece":                   {script: sent(a + b), want: []string{"A" + pending, "B" + clear}},
		"in three pieces":                    {script: []drivers.Chunk{{Bytes: []byte(a[:9])}, {At: time.Second, Bytes: []byte(a[9:20])}, {At: 2 * time.Second, Bytes: []byte(a[20:])}}, want: []string{"A" + pending}},
		"the same again":                     {script: sent(a, a, b, a), want: []string{"A" + pending, "B" + clear}},
		"an operator looked later":           {script: sent(a, message("A", "FOUND")), want: []string{"A" + pending, "A r2 complete operational suspicious"}},
		"an operator changed his mind twice": {script: sent(b, message("B", "FOUND"), message("B", "OK", "<Look>3</Look>")), want: []string{"B" + clear, "B r2 complete operational suspicious", "B r3 complete operational nothing_found"}},
		"the first one again":                {script: sent(a, message("A", "FOUND"), a), want: []string{"A" + pending, "A r2 complete operational suspicious"}},
		"an alarm that looks alive":          {script: sent("17;ALIVE1;FOUND\r\n", " ALIVE \r\n"), change: func(s *MessageSettings) { textColumns(s); s.Heartbeat = "ALIVE" }, want: []string{"17" + found}},
		"a time that can't be written":       {script: sent(strings.Replace(message("A", "FOUND"), "2026-01-05T05:59:41Z", "9999-12-31T23:59:59-05:00", 1)), want: []string{"A" + found}},
		"an old clear again":                 {script: sent(b, message("B", "FOUND"), b), want: []string{"B" + clear, "B r2 complete operational suspicious"}},
		"an old alarm again":                 {script: sent(message("B", "FOUND"), b, message("B", "FOUND"), b), want: []string{"B" + found, "B r2 complete operational nothing_found", "B r3 complete operational suspicious"}},
		"a word without a verdict, late":     {script: sent(message("A", "FOUND"), a), want: []string{"A" + found, "A r2 complete operational suspicious"}},
		"a verdict that is not known":        {script: sent(message("A", "MAYBE")), want: []string{"A r1 complete operational unknown"}},
		"the whole's word":                   {script: sent(message("A", "", "<Done>1</Done><Result>OK</Result>")), change: wholeWord, want: []string{"A" + clear}},
		"the whole's word is an alarm":       {script: sent(message("A", "OK", "<Done>1</Done><Result>FOUND</Result>")), change: wholeWord, want: []string{"A" + found}},
		"the whole's word is not known":      {script: sent(message("A", "", "<Done>1</Done><Result>FAILED</Result>")), change: wholeWord, want: []string{"A r1 complete operational unknown"}},
		"a drill":                            {script: sent(message("A", "FOUND", "<Training>1</Training>")), want: []string{"A r1 complete training suspicious"}},
		"a drill with nothing in it":         {script: sent(message("A", "OK", "<Training>1</Training>")), want: []string{"A r1 complete training unknown"}},
		"the whole's word beside another":    {script: sent(message("A", "OK", "<Result>FAILED</Result>")), change: wholeWord, want: []string{"A r1 complete operational unknown"}},
		"garbage between":                    {script: sent(a, "\x06\x15?", b), want: []string{"A" + pending, "B" + clear}, unparsed: 1},
		"half a message, then another":       {script: sent(a[:40], b), want: []string{"B" + clear}, unparsed: 1},
		"half a message at the end":          {script: sent(b, a[:40]), want: []string{"B" + clear}, unparsed: 1},
		"a slow scanner":                     {script: sent(a[:40], a[40:]), change: func(s *MessageSettings) { s.Framing.Idle = time.Minute }, want: []string{"A" + pending}},
		"the scanner is alive":               {script: sent("<Alive/>", a, "<Alive/>"), want: []string{"A" + pending}},
		"no id":                              {script: sent(message("", "FOUND"), b), want: []string{"B" + clear}, unparsed: 1},
		"an id that is too long":             {script: sent(message(strings.Repeat("9", 300), "FOUND")), unparsed: 1, want: []string{}},
		"not what was said":                  {script: sent(a), change: func(s *MessageSettings) { s.Sidecar.Root = "Scanned" }, unparsed: 1, want: []string{}},
		"a definition of a type":             {script: sent(`<!DOCTYPE a [<!ENTITY x "y">]>` + a), unparsed: 1, want: []string{}},
		"a code page that nobody set":        {script: sent(message("\xcf", "")), unparsed: 1, want: []string{}},
		"a code page": {script: sent(message("\xcf", "")), change: func(s *MessageSettings) { s.CodePage = "windows-1251" },
			want: []string{"П" + pending}},
		"pictures":        {script: sent(message("A", "OK", images(coded(under), coded(front)))), want: []string{"A" + clear}},
		"bad base64":      {script: sent(message("A", "FOUND", images("*"+coded(under), coded(front)))), want: []string{"A r1 partial operational suspicious without under"}},
		"a cut picture":   {script: sent(message("A", "OK", images(coded(under[:len(under)-9]), coded(front)))), want: []string{"A r1 partial operational unknown without under.jpg"}},
		"an empty place":  {script: sent(message("A", "OK", images(coded(under), ""))), want: []string{"A r1 partial operational unknown without front"}},
		"pictures come":   {script: sent(message("A", "OK", images("", "")), message("A", "OK", images(coded(under), coded(front)))), want: []string{"A r1 partial operational unknown without under,front", "A r2 complete operational nothing_found"}},
		"a large picture": {script: sent(message("A", "OK", images(coded(under), coded(front)))), change: func(s *MessageSettings) { s.MaxPicture = 100 }, want: []string{"A" + clear}},
		"a message that is too long": {script: sent(message("A", "", images(coded(under), "")), b), change: func(s *MessageSettings) { s.Framing.Most = 300 },
			want: []string{"B" + clear}, unparsed: 1},
		"lines of JSON": {script: sent("{\"id\":\"A\",\"Reason\":\"FOUND\"}\r\n{\"id\":\"B\"}\n"), change: func(s *MessageSettings) { s.Framing.Kind = framing.Lines },
			want: []string{"A" + found, "B" + pending}},
		"a list of JSON": {script: sent("[{\"id\":\"A\"},{\"id\":\"B\"},{\"ID\":\"C\"}]\n"), change: func(s *MessageSettings) { s.Framing.Kind = framing.Lines },
			want: []string{"A" + pending, "B" + pending}, unparsed: 1},
		"marks": {script: sent("\x02"+a+"\x03\x02"+b[:30], "\x02"+b+"\x03"), change: func(s *MessageSettings) { s.Framing.Kind = framing.Marks },
			want: []string{"A" + pending, "B" + clear}, unparsed: 1},
		"length": {script: sent("\x00\x06{\"x\":1"+"\x00\x0a{\"id\":\"A\"}", "\x00\x0a{\"id\":\"B\"}\x00\x0a{\"id", "\x00\x0a{\"id\":\"C\"}"), unparsed: 2,
			change: func(s *MessageSettings) { s.Framing.Kind, s.Framing.Length.Bytes = framing.ByLength, 2 }, want: []string{"A" + pending, "B" + pending, "C" + pending}},
		"the hash for an id": {script: sent("<Scan><Reason>OK</Reason></Scan>", "<Scan><Reason>OK</Reason></Scan>", "<Scan><Reason>FOUND</Reason></Scan>"),
			change: func(s *MessageSettings) { s.WithoutID = "hash" },
			// 32 digits of what sha256sum says of the messages
			want: []string{"d1cdeb37b7ea19eeb049961ee206a559 r1 complete operational nothing_found", "6e3b5dc801b3acd4c3a80a0ee2a02fa8 r1 complete operational suspicious"}},
		"each for itself": {script: sent("<Scan><Reason>OK</Reason></Scan>", "<Scan><Reason>OK</Reason></Scan>"),
			change: func(s *MessageSettings) { s.WithoutID = "arrival" }, want: []string{"* r1 complete operational nothing_found", "* r1 complete operational nothing_found"}},
		"columns": {script: sent("A;AA1;OK\r\nB;;FOUND\r\nC;x\r\n"), change: textColumns, want: []string{"A" + clear, "B" + found}, unparsed: 1},
		"a pattern": {script: sent("scan A of AA1 = FOUND\r\nPING\r\n"), change: func(s *MessageSettings) {
			textColumns(s)
			s.Text, s.Heartbeat = &textframe.Grammar{Pattern: `^scan (?P<id>\w+) of (?P<plate>\w*) = (?P<operator_result>\w*)$`}, "^PING$"
		}, want: []string{"A" + found}},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*MessageSettings)
			if c.change != nil {
				change = append(change, c.change)
			}
			p, err := drivers.Play(t.Context(), messengerOf(t, change...), c.script)
			require.NoError(t, err)
			got := lines(p)
			if name == "each for itself" {
				for i := range got {
					id, rest, _ := strings.Cut(got[i], " ")
					_, wanted, _ := strings.Cut(c.want[i], " ")
					require.Equal(t, wanted, rest)
					require.Len(t, id, 36)
				}
				require.NotEqual(t, got[0], got[1])
			} else {
				require.Equal(t, c.want, got)
			}
			require.Len(t, p.Unparsed, c.unparsed)
			require.Zero(t, p.Written, "nothing is answered that nobody asked for")
			if name == "the scanner is alive" {
				require.Equal(t, 3, p.Valid)
			}
		})
	}
}

func wholeWord(s *MessageSettings) {
	s.Sidecar.Fields["inspected"], s.Sidecar.Fields["result"] = []string{"Done"}, []string{"Result"}
}

func textColumns(s *MessageSettings) {
	s.Framing.Kind, s.Pictures = framing.Lines, nil
	s.Text = &textframe.Grammar{Separator: ";", Columns: []string{"id", "plate", "operator_result"}}
}

func TestWhatAMessageSays(t *testing.T) {
	under := picture(90)
	text := message("A", "FOUND", "<Container>CSQU3054383</Container>", "<Driver>"+coded(picture(7))+"</Driver>", images(coded(under), "*"))
	p, err := drivers.Play(t.Context(), messengerOf(t), sent(text, strings.Replace(text, "FOUND", "OK", 1)))
	require.NoError(t, err)
	require.Len(t, p.Observations, 2)
	o := p.Observations[0]
	e := o.Data.(event.XrayScan)
	require.Equal(t, event.Urgent, e.Class())
	require.Equal(t, "AA1234BB", e.Private.Plates[0].Plate)
	require.Equal(t, "valid", e.Containers[0].Check)
	require.Equal(t, "2026-01-05T05:59:41Z", o.DeviceTime.UTC().Format(time.RFC3339))
	require.Equal(t, []string{"thumbnail.jpg", "under.jpg"}, []string{e.Attachments[0].Name, e.Attachments[1].Name})
	require.Equal(t, under, o.Attachments[1].Content)
	require.Equal(t, event.XrayFile{Name: "under.jpg", Role: "image", State: "here", SHA256: e.Attachments[1].SHA256}, e.Files[0])
	require.Equal(t, event.XrayFile{Name: "front", Role: "snapshot", State: "missing"}, e.Files[1])
	require.NotContains(t, e.Private.Raw.Text, coded(under)[:70], "pictures are kept once")
	require.NotContains(t, e.Private.Raw.Text, coded(picture(7))[:70], "and those that nobody wants not at all")
	require.Contains(t, e.Private.Raw.Text, "<Reason>FOUND</Reason>")
	second := p.Observations[1].Data.(event.XrayScan)
	require.Equal(t, o.ID, second.Supersedes)
}

// A scanner is answered when its event is on disk, and not before; over real connections.
func TestReplyWhenDurable(t *testing.T) {
	endpoint, err := link.Parse("tcp-listen://127.0.0.1:0?allow=127.0.0.1", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := endpoint.Open(ctx)
	require.NoError(t, err)
	var refuse atomic.Bool
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now, refuse: func(drivers.Observation) error {
		if refuse.Load() {
			return errStop
		}
		return nil
	}}
	counts := func() (events, bad int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.observations), len(h.unparsed)
	}
	d := messengerOf(t, func(s *MessageSettings) { s.Reply = `\x06` })
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx, conn, h) }()
	acceptor, ok := link.As[*link.Acceptor](conn)
	require.True(t, ok)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", acceptor.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
		return c
	}
	first, second := dial(), dial()
	answered := func(c net.Conn, text string, events int) {
		_, err := io.WriteString(c, text)
		require.NoError(t, err)
		b := make([]byte, 1)
		_, err = io.ReadFull(c, b)
		require.NoError(t, err)
		require.Equal(t, []byte{6}, b)
		n, _ := counts()
		require.Equal(t, events, n, "on disk before it is answered")
	}
	answered(first, message("A", ""), 1)
	answered(second, message("B", ""), 2)
	answered(second, message("A", ""), 2) // it is on disk already
	// Half a message of a connection that ends is never put before what another one sends.
	_, err = io.WriteString(first, message("C", "FOUND")[:30])
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.Eventually(t, func() bool { _, bad := counts(); return bad == 1 }, 30*time.Second, time.Millisecond, "the half one is told")
	third := dial()
	answered(third, message("D", "OK"), 3)
	refuse.Store(true)
	_, err = io.WriteString(third, message("E", "FOUND"))
	require.NoError(t, err)
	_, err = third.Read(make([]byte, 1))
	require.Error(t, err, "not on disk, not answered")
	cancel()
	require.Error(t, <-ended)
	require.NoError(t, conn.Close())
	_, bad := counts()
	require.Equal(t, 2, bad, "and the one that was not recorded")
}

// A crash between the event and the ledger makes the same event again, not another one; and
// what was told before the agent was started anew is no news.
func TestMessagesAfterARestart(t *testing.T) {
	ledger := &drivers.MemoryLedger{}
	now := time.Now
	play := func(h *host, text string) (ids []string) {
		near, far := net.Pipe()
		go func() {
			_, _ = io.WriteString(far, text)
			_ = far.Close()
		}()
		h.now = now
		require.Error(t, messengerOf(t).Run(t.Context(), pipe{near}, h))
		for _, o := range h.observations {
			ids = append(ids, fmt.Sprint(o.ID, line(o)))
		}
		return ids
	}
	crashed := &host{ledger: ledger, lose: func(drivers.Observation) error { return errStop }}
	first := play(crashed, message("A", ""))
	require.Len(t, first, 1)
	again := play(&host{ledger: ledger}, message("A", "")+message("A", ""))
	require.Equal(t, first, again)
	require.Empty(t, play(&host{ledger: ledger}, message("A", "")))
	later := play(&host{ledger: ledger}, message("A", "FOUND"))
	require.Len(t, later, 1)
	require.Contains(t, later[0], "A r2 ")

	// After a long time a scan is forgotten.
	now = func() time.Time { return time.Now().Add(rememberScans + forgetEvery) }
	require.Len(t, play(&host{ledger: ledger}, message("B", "")), 1)
	require.Empty(t, ledger.Get("scan:A"))
	require.NotEmpty(t, ledger.Get("scan:B"))
}

// Where ids are used anew and messages have no time, the same bytes days later may be of
// another vehicle: it is told, and is not called clear by what may be an old message.
func TestSameMessageLater(t *testing.T) {
	for _, c := range []struct {
		text, after string
		change      func(*MessageSettings)
		want        []string
	}{
		{text: "17;AA1;OK", after: "1h", change: textColumns, want: []string{"17 r1 complete operational nothing_found over 0 []"}},
		{text: "17;AA1;OK", after: "25h", change: textColumns, want: []string{
			"17 r1 complete operational nothing_found over 0 []", "17 r2 complete operational unknown over 1 [same_message_later]",
		}},
		{text: "17;AA1;FOUND", after: "25h", change: textColumns, want: []string{
			"17 r1 complete operational suspicious over 0 []", "17 r2 complete operational suspicious over 1 [same_message_later]",
		}},
		{text: message("17", "OK"), after: "25h", change: func(*MessageSettings) {}, want: []string{"17 r1 complete operational nothing_found over 0 []"}},
	} {
		now := time.Now()
		h := &host{ledger: &drivers.MemoryLedger{}, now: func() time.Time { return now }}
		m := messengerOf(t, c.change).(*messenger)
		for range 2 {
			_, good, err := m.take(h, []byte(c.text))
			require.NoError(t, err)
			require.True(t, good)
			after, err := time.ParseDuration(c.after)
			require.NoError(t, err)
			now = now.Add(after)
		}
		require.Equal(t, c.want, revisions(h))
	}
}

// What is kept only in part is not answered; by HTTP it is refused.
func TestNoReplyForAPart(t *testing.T) {
	documents := func(s *MessageSettings) { s.Reply = `\x06`; s.Framing.Kind = framing.Lines }
	both := message("A", "OK") + message("", "FOUND")
	p, err := drivers.Play(t.Context(), messengerOf(t, documents), sent(both+"\r\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"A r1 complete operational nothing_found"}, lines(p))
	require.Len(t, p.Unparsed, 1)
	require.Zero(t, p.Written)
	p, err = drivers.Play(t.Context(), messengerOf(t, documents), sent(message("A", "OK")+message("B", "FOUND")+"\r\n"))
	require.NoError(t, err)
	require.Len(t, p.Observations, 2)
	require.Equal(t, 1, p.Written)
}

// One message that is not recorded takes nothing with it that came in the same read, and
// none of that is answered: the scanner could not tell to which the answer belongs.
func TestWhatStandsBehindAnError(t *testing.T) {
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now, refuse: func(o drivers.Observation) error {
		if o.Subject == "A" {
			return errStop
		}
		return nil
	}}
	near, far := net.Pipe()
	answered := make(chan []byte)
	go func() {
		_, _ = io.WriteString(far, message("A", "OK")+message("B", "FOUND")+message("C", "FOUND"))
		_ = far.SetReadDeadline(time.Now().Add(30 * time.Second))
		b, _ := io.ReadAll(far)
		answered <- b
	}()
	require.ErrorIs(t, messengerOf(t, func(s *MessageSettings) { s.Reply = `\x06` }).Run(t.Context(), pipe{near}, h), errStop)
	require.NoError(t, near.Close())
	require.Empty(t, <-answered)
	require.Equal(t, []string{"B r1 complete operational suspicious", "C r1 complete operational suspicious"}, lines(drivers.Played{Observations: h.observations}))
	require.Len(t, h.unparsed, 1)
	require.Contains(t, h.unparsed[0], "was not recorded")
}

// A scan that can't be recorded is told as such, and the one beside it is recorded.
func TestUnrecordableMessage(t *testing.T) {
	h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now, refuse: func(o drivers.Observation) error {
		if o.Subject == "A" {
			return fmt.Errorf("%w: too large", drivers.ErrUnrecordable)
		}
		return nil
	}}
	scans, good, err := messengerOf(t).(*messenger).take(h, []byte(message("A", "OK")+message("B", "FOUND")))
	require.NoError(t, err)
	require.False(t, good)
	require.Equal(t, 1, scans)
	require.Equal(t, []string{"B r1 complete operational suspicious"}, lines(drivers.Played{Observations: h.observations}))
	require.Len(t, h.unparsed, 1)
}

// A ledger that takes nothing loses no scan.
func TestMessagesWithoutALedger(t *testing.T) {
	h := &host{ledger: fullLedger{&drivers.MemoryLedger{}}, now: time.Now}
	scans, good, err := messengerOf(t).(*messenger).take(h, []byte(message("A", "FOUND")))
	require.NoError(t, err)
	require.True(t, good)
	require.Equal(t, 1, scans)
	require.Equal(t, "A r1 complete operational suspicious", line(h.observations[0]))
}

type fullLedger struct{ drivers.Ledger }

func (fullLedger) Put(string, string) error { return errors.New("no room") }

// pipe is a link in memory.
type pipe struct{ net.Conn }

func (pipe) Description() string { return "pipe" }

func TestSettingsOfMessages(t *testing.T) {
	for want, change := range map[string]func(*MessageSettings){
		"without_id":                    func(s *MessageSettings) { s.WithoutID = "x" },
		"id is missing":                 func(s *MessageSettings) { s.Sidecar.Fields = nil },
		`sidecar: fields: there is no`:  func(s *MessageSettings) { s.Sidecar.Fields["x"] = nil },
		"files and roles":               func(s *MessageSettings) { s.Sidecar.Files = []string{"x"} },
		"verdicts":                      func(s *MessageSettings) { s.Verdicts = map[string]string{"0": "clear"} },
		"zone":                          func(s *MessageSettings) { s.Zone = "Mars" },
		"framing: kind":                 func(s *MessageSettings) { s.Framing.Kind = "x" },
		"heartbeat: error":              func(s *MessageSettings) { s.Heartbeat = "(" },
		"reply: ":                       func(s *MessageSettings) { s.Reply = `\q` },
		"is no place":                   func(s *MessageSettings) { s.Pictures[0].Place = "" },
		`the name "a b" is none`:        func(s *MessageSettings) { s.Pictures[0].Name = "a b" },
		"the name front is there twice": func(s *MessageSettings) { s.Pictures[0].Name = "front" },
		`the role of under is "x"`:      func(s *MessageSettings) { s.Pictures[0].Role = "x" },
		"max_picture":                   func(s *MessageSettings) { s.MaxPicture = 0 },
		"more than 32 places":           func(s *MessageSettings) { s.Pictures = make([]MessagePicture, 33) },
		"a text has none":               func(s *MessageSettings) { s.Text = &textframe.Grammar{Pattern: "x"} },
		"it is text.encoding":           func(s *MessageSettings) { textColumns(s); s.CodePage = "gbk" },
		"stand in framing":              func(s *MessageSettings) { textColumns(s); s.Text.End = "x" },
		"heartbeat stands beside":       func(s *MessageSettings) { textColumns(s); s.Text.Heartbeat = "x" },
		`there is no field "speed"`:     func(s *MessageSettings) { textColumns(s); s.Text.Columns[0] = "speed" },
	} {
		_, err := Messages().New(func(into any) error {
			messageSettings(into.(*MessageSettings))
			change(into.(*MessageSettings))
			return nil
		})
		require.ErrorContains(t, err, want)
	}
	_, err := Messages().New(func(any) error { return errors.New("not read") })
	require.EqualError(t, err, "not read")
}

// FuzzMessage: no message panics, makes an event that can't be written, or is called clear
// though nobody says so.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(message("A", "OK", images("/9j/", ""))))
	f.Add([]byte(`{"id":"1","Reason":"FOUND","Images":[{"Under":null}]}`))
	f.Add([]byte("\xff\xfe<\x00a\x00/\x00>\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := messengerOf(&testing.T{}).(*messenger)
		d.settings.WithoutID = withoutIDArrival
		h := &host{ledger: &drivers.MemoryLedger{}, now: time.Now}
		_, _, err := d.take(h, data)
		require.NoError(t, err)
		for _, o := range h.observations {
			e := o.Data.(event.XrayScan)
			_, err := json.Marshal(e)
			require.NoError(t, err)
			require.Len(t, o.Attachments, len(e.Attachments))
			if e.Decision == event.DecisionNothingFound {
				require.Equal(t, "OK", e.DecisionRaw)
			}
		}
	})
}
