package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// pageView is a screen that the page is looked at on.
type pageView struct {
	name          string
	width, height int64
	dark          bool
}

var pageViews = []pageView{
	{"phone-light", 390, 844, false}, {"phone-dark", 390, 844, true},
	{"desktop-light", 1366, 768, false}, {"desktop-dark", 1366, 768, true},
}

// pageTab is a page in a real browser. It notes what the browser complains of.
type pageTab struct {
	t   *testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

// chromium starts a browser and gives its first tab.
func chromium(t *testing.T) *pageTab {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is not installed; `make test` fetches it")
		}
		t.Skip("chromium is not installed; `make test` fetches it")
	}
	// Its helpers write there for some moments after it has ended.
	profile, err := os.MkdirTemp("", "lanepost-chromium-") //nolint:usetesting // t.TempDir fails the test if it is not empty at once
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.RemoveAll(profile) == nil }, patience, 20*time.Millisecond)
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(patience))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	alloc, endAlloc := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, end := chromedp.NewContext(alloc)
	tab := &pageTab{t: t, ctx: ctx}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // in good order; else it is killed
		end()
		endAlloc()
		chromedp.FromContext(ctx).Allocator.Wait()
	})
	tab.attach()
	return tab
}

// attach begins to note complaints.
func (p *pageTab) attach() {
	chromedp.ListenTarget(p.ctx, func(e any) {
		what := ""
		switch e := e.(type) {
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.LevelError || e.Entry.Source == cdplog.SourceSecurity {
				what = string(e.Entry.Source) + ": " + e.Entry.Text + " " + e.Entry.URL
			}
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeAssert {
				what = fmt.Sprint("console: ", e.Args)
			}
		case *runtime.EventExceptionThrown:
			what = e.ExceptionDetails.Error()
		}
		if what != "" {
			p.mu.Lock()
			p.complaints = append(p.complaints, what)
			p.mu.Unlock()
		}
	})
	p.do(cdplog.Enable())
}

func (p *pageTab) complained() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.complaints
	p.complaints = nil
	return list
}

func (p *pageTab) do(actions ...chromedp.Action) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Run(p.ctx, actions...))
}

// look sets the screen.
func (p *pageTab) look(v pageView) {
	p.t.Helper()
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	p.do(chromedp.EmulateViewport(v.width, v.height),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// value is what a script gives.
func value[T any](p *pageTab, script string) (v T) {
	p.t.Helper()
	p.do(chromedp.Evaluate(script, &v))
	return v
}

// until waits until a script gives true.
func (p *pageTab) until(what, script string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		var ok bool
		return chromedp.Run(p.ctx, chromedp.Evaluate("Boolean("+script+")", &ok)) == nil && ok
	}, patience, 20*time.Millisecond, what)
}

// choose takes one of a list.
func (p *pageTab) choose(id, option string) {
	p.t.Helper()
	p.do(chromedp.Evaluate(fmt.Sprintf(`(() => { const s = document.getElementById(%q); s.value = %q; s.dispatchEvent(new Event("change")); })()`, id, option), nil))
}

// picture keeps how the page looks: in the folder of LANEPOST_PICTURES, or as output of
// the test.
func (p *pageTab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("LANEPOST_PICTURES")
	if dir == "" {
		dir = p.t.ArtifactDir()
	}
	require.NoError(p.t, os.MkdirAll(dir, 0o755))
	var png []byte
	p.do(chromedp.FullScreenshot(&png, 100))
	require.NoError(p.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

// readable holds that nothing is wider than the screen, that every text has the contrast
// of WCAG's level AAA, and that a finger hits the controls.
func (p *pageTab) readable(v pageView) {
	p.t.Helper()
	require.LessOrEqual(p.t, value[int64](p, `document.documentElement.scrollWidth`), v.width, "%s: it scrolls sideways: %v", v.name,
		value[[]string](p, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className).slice(0, 5)`))
	require.Empty(p.t, value[[]string](p, contrastScript), "%s: text with too little contrast", v.name)
	require.Empty(p.t, value[[]string](p, `[...document.querySelectorAll("button, select, input, summary")].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 40).map(e => e.tagName + " " + e.textContent + " " + e.getBoundingClientRect().height)`),
		"%s: controls too small for a finger", v.name)
}

// contrastScript lists texts with a contrast under 7 to 1.
const contrastScript = `(() => {
  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
  const light = (c) => [0, 1, 2].map((i) => c[i] / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const found = new Set();
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest("option, noscript")) continue;
    let under = e, ground = [];
    do { ground = parse(getComputedStyle(under).backgroundColor); under = under.parentElement; } while (under && ground.length === 4 && ground[3] === 0);
    const style = getComputedStyle(e), ink = light(parse(e.namespaceURI.includes("svg") ? style.fill : style.color)), back = light(ground);
    const ratio = (Math.max(ink, back) + .05) / (Math.min(ink, back) + .05);
    if (!(ratio >= 7)) found.add(e.tagName + "." + e.getAttribute("class") + " " + ratio.toFixed(2) + ": " + e.textContent.slice(0, 30));
  }
  return [...found];
})()`

// tabbed presses Tab until it has been everywhere, and holds that every control was
// reached and shows that it is focused.
func (p *pageTab) tabbed(v pageView) {
	p.t.Helper()
	p.do(chromedp.Evaluate(`window.scrollTo(0, 0); document.activeElement.blur(); window.reached = new Set(); window.marked = new Set();
		document.addEventListener("focusin", (e) => {
			reached.add(e.target);
			const look = () => { if (document.activeElement === e.target && getComputedStyle(e.target).outlineStyle !== "none") marked.add(e.target); };
			look();
			requestAnimationFrame(look);
		});`, nil))
	const missing = `[...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")].filter((e) => e.checkVisibility() && !e.disabled && !reached.has(e)).map((e) => e.outerHTML.slice(0, 80))`
	n := value[int](p, missing+".length")
	require.Greater(p.t, n, 10, v.name)
	for range n + 5 {
		p.do(chromedp.KeyEvent(kb.Tab))
	}
	require.Empty(p.t, value[[]string](p, missing), "%s: Tab does not lead there", v.name)
	require.Empty(p.t, value[[]string](p, "[...reached].filter((e) => !marked.has(e)).map((e) => e.outerHTML.slice(0, 80))"), "%s: focused, and nobody sees it", v.name)
}

// pageLane is a lane with a portal, a plate reader and an X-ray scanner, and where the simulator
// tells what it plays.
func pageLane(t *testing.T) (devices, told string) {
	t.Helper()
	teller := &simulator.Teller{Scenario: "page", Speed: 60}
	server := httptest.NewServer(teller)
	t.Cleanup(server.Close)
	sim := simulator.Start(t, &simulator.Scenario{
		Name: "page", Seed: 7,
		Lanes: []simulator.Lane{{
			ID: "entry-1", Devices: []simulator.Device{
				{ID: "rpm-1", Model: "tsa-portal", Listen: "tcp://127.0.0.1:0"},
				{ID: "anpr-1", Model: "hikvision", Camera: &simulator.CameraSettings{NoRead: 0.2}},
				{ID: "xray-1", Model: "xray-scanner", Camera: &simulator.CameraSettings{}},
			},
			Traffic: simulator.Traffic{Random: &simulator.RandomTraffic{PerHour: 200, Gamma: 0.2, Neutron: 0.1, StopAndGo: 0.1}},
			Faults: []simulator.Fault{
				{Kind: "noise", Device: "rpm-1", At: time.Minute},
				{Kind: "gamma-high", Device: "rpm-1", At: 90 * time.Second, For: 5 * time.Hour, CPS: 800},
			},
		}},
	}, simulator.Options{Speed: 60, OnTruth: teller.Take})
	more := map[string][]string{
		"xray-1": {"settings: {every: 200ms, quiet: 100ms, verdicts: {\"0\": nothing_found, \"1\": suspicious}}"},
	}
	profiles := map[string]string{"rpm-1": "rapiscan-tsa", "anpr-1": "hikvision-stream", "xray-1": "smiths-cargovision"}
	for _, d := range sim.Devices() {
		devices += deviceYAML(d.ID, profiles[d.ID], d.Connect, more[d.ID]...)
	}
	return devices, server.URL
}

const pagePassword = "cold hands at four"

// A technician logs in and looks at a lane, one device of which is gone: on a phone and on
// a laptop, by day and by night. Then the agent is gone.
func TestPage(t *testing.T) {
	t.Parallel()
	p := chromium(t)
	own := newAuthority(t, "the post")
	own.issue("console", "localhost")
	users := own.path("users")
	line, err := console.UserLine("anna", pagePassword)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(users, []byte(line+"\n"), 0o600))
	secret := own.path("broker-password")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2hunter2\n"), 0o600))
	broker, port := freePort(t), freePort(t)
	mosquitto(t, broker)
	devices, told := pageLane(t)
	devices += deviceYAML("rpm-9", "rapiscan-tsa", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t)))
	config := writeConfig(t, devices, fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n  username: lanebox\n  password_file: %s\n", broker, secret),
		fmt.Sprintf("console:\n  listen: 127.0.0.1:%d\n  tls: {cert_file: %s, key_file: %s}\n  users_file: %s\n  pictures: thumbnails\n  simulator: %s\n", port, own.path("console.pem"), own.path("console.key"), users, told))
	agent := start(t, config)
	agent.waitFor("lanepost.agent.started.v1", 1)
	agent.waitFor("lanepost.device.offline.v1", 1)
	base := fmt.Sprintf("https://localhost:%d", port)

	// The login.
	v := pageViews[0]
	p.look(v)
	require.Eventually(t, func() bool { return chromedp.Run(p.ctx, chromedp.Navigate(base+"/")) == nil }, patience, 50*time.Millisecond)
	p.complained() // of the attempts before the door was open
	p.until("the login", `location.pathname === "/login"`)
	login := func(password string) {
		p.do(chromedp.SendKeys("input[name=user]", "anna"), chromedp.SendKeys("input[name=password]", password+kb.Enter))
	}
	login("warm hands at four")
	p.until("it says what is wrong", `location.hash === "#wrong" && document.getElementById("wrong").checkVisibility()`)
	p.readable(v)
	p.picture("login")
	login(pagePassword)
	p.until("the page", `location.pathname === "/" && document.querySelector(".card")`)

	// What is there to see.
	card := func(name string) string {
		return fmt.Sprintf(`[...document.querySelectorAll(".card")].find((c) => c.querySelector("h3").textContent === %q)`, name)
	}
	p.until("the portal's occupancies", card("rpm-1")+`?.querySelectorAll(".plot .bar").length >= 5`)
	p.until("plates", `document.querySelectorAll(".plate").length >= 2`)
	p.until("a picture", `document.querySelector("img.scan")?.naturalWidth > 0`)
	p.until("the uplink", card("mqtt")+`.textContent.includes("ONLINE")`)
	for name, state := range map[string]string{"rpm-1": "ONLINE", "anpr-1": "ONLINE", "rpm-9": "OFFLINE"} {
		require.Contains(t, value[string](p, card(name)+`.querySelector(".state").textContent`), state)
	}
	require.Contains(t, value[string](p, card("rpm-9")+".textContent"), "To do: ")
	require.Contains(t, value[string](p, `document.getElementById("headline").textContent`), "wrong")
	require.Contains(t, value[string](p, `document.getElementById("problem-list").textContent`), "entry-1/rpm-9")
	for _, plate := range value[[]string](p, `[...document.querySelectorAll(".plate")].map((e) => e.textContent)`) {
		require.Contains(t, plate, "***", "a plate is masked")
	}
	for _, name := range []string{"Disk", "Clock", "Agent"} {
		require.True(t, value[bool](p, "Boolean("+card(name)+")"), name)
	}

	require.True(t, value[bool](p, `document.getElementById("simulated").checkVisibility()`), "nobody takes it for a border")
	p.until("what the simulator plays", `document.querySelectorAll("#simulator-list li").length >= 2`)
	require.Regexp(t, `^scenario page at 60x, \d+ vehicles so far; 1 fault stands now, as of `, value[string](p, `document.getElementById("simulator-state").textContent`))
	// Which comes first depends on when the agent connected: noise needs a record that is sent.
	require.Regexp(t, `entry-1/rpm-1 STANDS until \S+gamma-high: `, value[string](p, `document.getElementById("simulator-list").textContent`))

	// Events, paused and filtered.
	p.until("events", `document.querySelectorAll("#event-list li").length > 3`)
	p.do(chromedp.Click("#event-pause"))
	p.until("what waits is counted", `/paused, [1-9]/.test(document.getElementById("event-state").textContent)`)
	first := value[string](p, `document.querySelector("#event-list li").textContent`)
	time.Sleep(600 * time.Millisecond) // two times that the page would take events
	require.Equal(t, first, value[string](p, `document.querySelector("#event-list li").textContent`))
	p.do(chromedp.Click("#event-pause"))
	p.until("it goes on", fmt.Sprintf(`document.querySelector("#event-list li").textContent !== %q`, first))
	p.until("the kind can be chosen", `[...document.querySelectorAll("#event-kind option")].some((o) => o.value === "lanepost.radiation.occupancy.v1")`)
	p.choose("event-kind", "lanepost.radiation.occupancy.v1")
	p.until("only that kind is shown", `(() => { const l = [...document.querySelectorAll("#event-list li:not(.gap)")]; return l.length && l.every((e) => e.textContent.includes("radiation.occupancy")); })()`)
	p.choose("event-kind", "")

	// The log of one device, and the configuration.
	p.choose("log-device", "entry-1/rpm-9")
	p.until("the log of one device", `(() => { const l = [...document.querySelectorAll("#log-list li")]; return l.length && l.every((e) => e.textContent.includes("entry-1/rpm-9")); })()`)
	p.choose("log-device", "")
	p.do(chromedp.Click("#config-file summary"))
	p.until("the configuration", `document.getElementById("config-text").textContent.includes("site: test")`)
	text := value[string](p, `document.getElementById("config-text").textContent`)
	require.NotContains(t, text, "lanebox")
	require.NotContains(t, text, "hunter2")
	p.do(chromedp.Click("#reload"))
	p.until("it was read again", `document.getElementById("reload-state").textContent === "Taken up."`)

	for _, v := range pageViews {
		p.look(v)
		p.do(chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => d.open = true)`, nil))
		p.readable(v)
		p.tabbed(v)
		p.do(chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => d.open = false); document.activeElement.blur()`, nil))
		p.picture(v.name)
	}
	require.Empty(t, p.complained())
	// What breaks the policy is complained of: the lists above were not empty for want of ears.
	p.do(chromedp.Evaluate(`document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>")`, nil))
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(p.complained(), "\n"), "Content Security Policy") }, patience, 10*time.Millisecond)

	// The agent is gone.
	p.look(pageViews[0])
	agent.stop()
	p.until("the loss is told", `document.body.classList.contains("lost") && document.getElementById("lost").checkVisibility()`)
	require.Regexp(t, `^NO CONNECTION to the agent since \d\d:\d\d:\d\d`, value[string](p, `document.getElementById("lost").textContent`))
	require.Regexp(t, `^Not known now`, value[string](p, `document.getElementById("headline").textContent`))
	require.Equal(t, "grayscale(1)", value[string](p, `getComputedStyle(document.querySelector("main")).filter`))
	p.until("each state is what it was", card("rpm-1")+`.querySelector(".state").textContent === "? WAS ONLINE"`)
	p.until("nor does the disk take events for all that is known", `document.querySelector(".state") && ![...document.querySelectorAll(".state")].some((s) => !s.textContent.startsWith("? WAS "))`)
	p.readable(pageViews[0])
	p.do(chromedp.Evaluate(`window.scrollTo(0, 1500)`, nil))
	require.True(t, value[bool](p, `(() => { const b = document.getElementById("lost").getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight; })()`), "it stands there wherever one has scrolled to")
	p.picture("lost")
	// Another run of the agent knows nobody: one has to log in again.
	start(t, config).waitFor("lanepost.agent.started.v1", 1)
	p.until("the login", `location.pathname === "/login"`)
}

// What instruments and files say is text, however it looks and however long it is; and
// states that are rare are readable too.
func TestPageOfBadNews(t *testing.T) {
	t.Parallel()
	p := chromium(t)
	const evil = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`
	long := strings.Repeat("averylongwordwithoutanyspace", 20)
	number := func(n int) *int { return &n }
	float := func(f float64) *float64 { return &f }
	at := func(ago time.Duration) event.Time { return event.At(time.Now().Add(-ago)) }
	old, free, size := at(time.Minute), int64(1<<20), int64(1<<40)
	var occupancies []console.Occupancy
	for i := range console.KeptOccupancies {
		o := console.Occupancy{
			ID: fmt.Sprint(i), Start: at(time.Hour - time.Duration(i)*time.Minute), DurationS: 4, Outcome: event.OutcomeNoAlarm, Gamma: event.HasData, Neutron: event.NotFitted,
			GammaMaxCounts: number(400 + 13*i), GammaBackgroundCPS: number(400), GammaSigma: float(float64(13*i) / 20),
		}
		switch i % 5 {
		case 2:
			o.Outcome, o.GammaAlarm, o.NeutronAlarm = event.OutcomeAlarm, true, true
		case 3:
			o.Outcome, o.Gamma, o.GammaMaxCounts, o.GammaBackgroundCPS, o.GammaSigma = event.OutcomeIncomplete, event.ModalityFault, nil, nil, nil
		case 4:
			o.Outcome = event.OutcomeIncomplete
		}
		occupancies = append(occupancies, o)
	}
	device := func(id, state string) console.Device {
		return console.Device{
			Device: "lane/" + id, Lane: "lane", ID: id, State: state, Since: at(time.Hour), Reason: evil + long, ToDo: evil, Profile: long, Connect: long,
			LastEvent: &console.Event{At: at(time.Minute), Text: evil}, Unparsed: 12345678, ClockOffsetS: float(-3600), Occupancies: []console.Occupancy{}, Plates: []console.Plate{},
		}
	}
	portal := device("portal", "fault")
	portal.Occupancies, portal.Passed = occupancies, console.Passed{Occupancies: 20, AlarmOccupancies: 4, GammaAlarms: 4, NeutronAlarms: 4, IncompleteOccupancies: 8}
	reader := device("reader", "silent")
	reader.Occupancies = occupancies[3:4] // as of a portal that tells no counts
	reader.Plates = []console.Plate{{At: at(time.Minute), ID: "1"}, {At: at(time.Minute), ID: "2", Read: true}, {At: at(time.Minute), ID: "3", Read: true, Text: evil, Confidence: float(0.5)}}
	scanner := device("scanner", "connecting")
	scanner.Scan = &console.Scan{At: at(time.Minute), ID: evil, Revision: 3, Decision: event.DecisionSuspicious, Completeness: "partial"}
	simulated := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		told := console.Simulated{Scenario: evil, Faults: []console.SimulatedFault{{Device: long, Fault: evil, Effect: evil + long}}}
		_ = json.NewEncoder(w).Encode(told) // who asked is gone otherwise
	}))
	t.Cleanup(simulated.Close)
	var played atomic.Bool
	events := &console.Events{}
	logs := console.NewLogs(slog.NewTextHandler(io.Discard, nil))
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	options := console.Options{
		SpoolDir: t.TempDir(), Door: console.Settings{Listen: listen}, Events: events, Logs: logs, Log: slog.New(logs.Handler()),
		Status: func() console.Status {
			return console.Status{
				At: event.At(time.Now().Add(-time.Hour)), Version: evil, Site: evil, Agent: evil, Started: at(time.Hour), Simulated: played.Load(),
				Clock:    console.Clock{Synchronised: "no"},
				Config:   console.Config{LoadedAt: at(time.Hour), SHA256: evil, Path: long, Refused: []string{evil}},
				Problems: []console.Problem{{What: evil, ToDo: long, Device: "lane/portal"}, {What: long, ToDo: evil}},
				Lanes:    []console.Lane{{ID: "lane", Name: evil, Devices: []console.Device{portal, reader, scanner, device(evil, "a new one")}}, {ID: long, Devices: []console.Device{}}},
				Uplinks: []console.Uplink{{
					Name: evil, State: "offline", Broker: long, LastError: long, ToDo: evil, Since: at(time.Hour), LastErrorAt: &old, OldestWaitingS: float(7200), WaitingUrgent: 3,
					Certificates: []console.Certificate{{Role: "client", Subject: evil, Expires: at(time.Hour), ExpiresInS: -3600}, {Role: "broker", Subject: long, ExpiresInS: 3600}},
				}},
				Spool: console.Spool{Dir: long, Refused: evil, WaitingForDisk: 3, LostEvents: 5, OldSince: &old, DiskFreeBytes: &free, DiskTotalBytes: &size},
			}
		},
		Config: func(context.Context) (console.ConfigFile, error) {
			return console.ConfigFile{Path: long, Text: evil + "\n" + long}, nil
		},
		Reload: func(context.Context) (console.Reloaded, error) {
			return console.Reloaded{Problems: []string{evil, long}}, nil
		},
		Thumbnail: func(string) []byte { return nil },
		Listen:    func(string) (*console.Listener, error) { return (&console.Raw{}).Listen() },
		Simulator: func() string { return simulated.URL },
	}
	c := console.Open(options)
	slog.New(logs.Handler()).Error(evil, "lane", "lane", "device", evil, "long", long)

	require.Eventually(t, func() bool { return chromedp.Run(p.ctx, chromedp.Navigate("http://"+listen+"/")) == nil }, patience, 20*time.Millisecond)
	p.complained() // of the attempts before the door was open
	p.until("it is drawn", `document.querySelectorAll(".card").length >= 8`)
	p.until("events are followed", `document.getElementById("event-state").textContent === "live"`)
	events.Publish(console.Recorded{Event: console.Event{ID: evil, Device: evil, Type: evil, Priority: event.Urgent, At: at(0), Text: evil + long}})
	p.until("the event", `document.querySelectorAll("#event-list li").length === 1`)
	p.until("the log", `document.querySelectorAll("#log-list li").length >= 1`)
	p.do(chromedp.Click("#config-file summary"), chromedp.Click("#reload"))
	p.until("the configuration", `document.getElementById("config-text").textContent.includes("onerror")`)
	p.until("the refusal", `document.getElementById("reload-state").textContent.startsWith("REFUSED")`)
	require.False(t, value[bool](p, `document.getElementById("simulated").checkVisibility() || document.getElementById("simulator").checkVisibility()`), "these instruments are real")
	played.Store(true)
	p.until("what a simulator plays", `document.getElementById("simulated").checkVisibility() && document.querySelectorAll("#simulator-list li").length === 1`)
	body := value[string](p, "document.body.innerText")
	for _, want := range []string{
		"✕ FAULT", "! SILENT", "… CONNECTING", "? A NEW ONE", "✕ OFFLINE", "2 things are wrong, the worst first", "EXPIRED", "NOT SYNCHRONISED", "NO ANSWER", "5 events since the start",
		" ago, tried again within a minute.", "60 min ahead", "60 min behind the agent's", "no plate read", "read, not shown", "INCOMPLETE", "No device is configured in this lane", "12,345,678 not understood", "suspicious", "counts are not known", "sigma is not known",
	} {
		require.Contains(t, body, want)
	}
	require.NotContains(t, strings.ToLower(body), "all clear")
	require.Zero(t, value[int](p, `document.querySelectorAll("body img, body script").length`), "what the agent says is no element")
	require.NotEqual(t, "taken", value[string](p, "document.title"))
	require.Equal(t, 8, value[int](p, `document.querySelectorAll(".plot .bar.alarm, .plot .bar.incomplete").length`))
	require.Equal(t, 5, value[int](p, `document.querySelectorAll(".plot .unknown").length`))
	for _, v := range pageViews {
		p.look(v)
		p.do(chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => d.open = true)`, nil))
		p.readable(v)
		p.picture("bad-news-" + v.name)
	}
	require.Empty(t, p.complained())

	// The end of the agent and its return: what was missed meanwhile is told.
	c.Close()
	p.until("the loss is told", `document.body.classList.contains("lost")`)
	c = console.Open(options)
	t.Cleanup(c.Close)
	p.until("it is there again", `!document.body.classList.contains("lost") && !document.getElementById("lost").checkVisibility()`)
	p.until("what was missed", `document.querySelector("#event-list li.gap")?.textContent.includes("is not shown here; it is on disk")`)
}
