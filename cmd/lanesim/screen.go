package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// footerEvery is how often the footer is drawn anew.
const footerEvery = 500 * time.Millisecond

// screen shows events as lines, and on a terminal a footer below them.
type screen struct {
	out   io.Writer
	fd    int
	live  bool // a terminal: colour and a footer
	began time.Time

	mu sync.Mutex
	// recordedHead and receivedHead are the highest sequences on disk and at
	// the subscriber; their difference is the depth of the buffer.
	recordedHead, receivedHead map[event.Class]uint64
	agent                      string // the agent's state as the broker tells it
	devices                    map[string]event.DeviceState
	events                     int
	alarms                     int
	pictures                   *pictures
	footer                     int // lines of footer on the screen now
	stop, stopped              chan struct{}
}

func newScreen(out io.Writer) *screen {
	s := &screen{
		out: out, began: time.Now(), agent: "starting",
		recordedHead: map[event.Class]uint64{}, receivedHead: map[event.Class]uint64{},
		devices: map[string]event.DeviceState{},
		stop:    make(chan struct{}), stopped: make(chan struct{}),
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		s.live, s.fd = true, int(f.Fd())
	}
	return s
}

func (s *screen) intro(o demoOptions, devices []simulator.Endpoint, address, page, config string) {
	host, port, _ := strings.Cut(address, ":")
	fmt.Fprintf(s.out, "lanepost demo: scenario %q at %s\n", o.scenario, o.speed.String())
	for _, d := range devices {
		fmt.Fprintf(s.out, "  %s/%s  %s on %s\n", d.Lane, d.ID, d.Model, d.Connect)
	}
	fmt.Fprintf(s.out, "  broker  %s\n  config  %s\n", address, config)
	fmt.Fprintf(s.out, "Look at the lane in a browser: http://%s\n", page)
	fmt.Fprintf(s.out, "Subscribe with any MQTT client, for instance:\n  mosquitto_sub -h %s -p %s -v -t '%s/#'\n", host, port, event.TopicRoot)
	fmt.Fprintf(s.out, "Ctrl-C ends it.\n\n")
}

// start begins to draw the footer.
func (s *screen) start() {
	go func() {
		defer close(s.stopped)
		if !s.live {
			<-s.stop
			return
		}
		tick := time.NewTicker(footerEvery)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				s.mu.Lock()
				s.clearFooter()
				s.drawFooter()
				s.mu.Unlock()
			}
		}
	}()
}

// end takes the footer away and sums up.
func (s *screen) end() {
	close(s.stop)
	<-s.stopped
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearFooter()
	fmt.Fprintf(s.out, "\n%d events received in %s, %d of them alarms; %s left in the buffer.\n",
		s.events, time.Since(s.began).Round(time.Second), s.alarms, count(s.depth(), "event"))
}

// truth shows what really happens in the lane.
func (s *screen) truth(text string) { s.print("", "", paintIf(s.live, quiet, "  . "+text)) }

// recorded notes an event that the agent has on disk.
func (s *screen) recorded(line []byte) {
	e, err := event.Parse(line)
	if err != nil {
		return // counted when it arrives by MQTT
	}
	seq, err := event.ParseSequence(e.Sequence)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordedHead[e.Priority] = max(s.recordedHead[e.Priority], seq)
}

// received shows a message of the broker.
// chunk takes a piece of a picture and says where an X-ray picture can be opened.
func (s *screen) chunk(topic string, payload []byte) {
	path, err := s.pictures.add(topic, payload)
	switch {
	case err != nil:
		s.print("", "", paintIf(s.live, warning, err.Error()))
	case strings.Contains(path, "S_stamp"):
		s.print("", "", "picture  "+path)
	}
}

func (s *screen) received(payload []byte) {
	e, err := event.Parse(payload)
	if err != nil {
		s.print("", "", paintIf(s.live, warning, fmt.Sprintf("a message that is not an event: %v", err)))
		return
	}
	d, err := event.DecodeData(e)
	if err != nil {
		s.print("", "", paintIf(s.live, warning, err.Error()))
		return
	}
	_, lane, device := splitSource(e.Source)
	switch d := d.(type) {
	case *event.AgentState:
		s.mu.Lock()
		s.agent = d.State
		s.mu.Unlock()
		return
	case *event.DeviceState:
		s.mu.Lock()
		s.devices[lane+"/"+device] = *d
		s.mu.Unlock()
		return
	}
	seq, err := event.ParseSequence(e.Sequence)
	if err != nil {
		s.print("", "", paintIf(s.live, warning, err.Error()))
		return
	}
	switch d := d.(type) {
	case *event.XrayScan:
		s.pictures.announce(d.Attachments, device)
	case *event.PlateRead:
		s.pictures.announce(d.Attachments, device+"-"+d.ReadID)
	}
	text, t := describe(d)
	s.mu.Lock()
	if seq <= s.receivedHead[e.Priority] {
		s.mu.Unlock()
		return // sent again after a lost session
	}
	s.receivedHead[e.Priority] = seq
	s.events++
	if t == alarm {
		s.alarms++
	}
	s.mu.Unlock()
	where := lane + "/" + device
	if lane == event.AgentLane {
		where = "agent"
	}
	at := e.Time
	if strings.HasPrefix(e.Type, "lanepost.plate.") {
		at = e.RecordedTime // a camera has a clock of its own, which is fast when its time is
	}
	s.print(at.Local().Format("15:04:05.000"), where, paintIf(s.live, t, text))
}

func splitSource(source string) (site, lane, device string) {
	parts := strings.SplitN(strings.TrimPrefix(source, "/"), "/", 3)
	for len(parts) < 3 {
		parts = append(parts, "")
	}
	return parts[0], parts[1], parts[2]
}

func (s *screen) print(at, where, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearFooter()
	fmt.Fprintf(s.out, "%-12s  %-14s  %s\n", at, where, text)
	if s.live {
		s.drawFooter()
	}
}

func paintIf(live bool, t tone, text string) string {
	if !live {
		return text
	}
	return paint(t, text)
}

// depth is how many events are on disk and not yet at the subscriber.
func (s *screen) depth() uint64 {
	var n uint64
	for _, c := range event.Classes {
		if r := s.recordedHead[c]; r > s.receivedHead[c] {
			n += r - s.receivedHead[c]
		}
	}
	return n
}

func (s *screen) clearFooter() {
	for ; s.footer > 0; s.footer-- {
		fmt.Fprint(s.out, "\x1b[1A\x1b[2K")
	}
}

// drawFooter draws at most as much as fits a line: a wrapped line could not be
// cleared again.
func (s *screen) drawFooter() {
	if !s.live {
		return
	}
	var parts []string
	for name, d := range s.devices {
		parts = append(parts, name+" "+d.State)
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		parts = []string{"no device yet"}
	}
	s.footerLine(strings.Repeat("─", 200))
	s.footerLine("devices  " + strings.Join(parts, " · "))
	s.footerLine(fmt.Sprintf("buffer   %s waiting · broker: agent %s · %s received · running %s",
		count(s.depth(), "event"), s.agent, count(uint64(s.events), "event"), time.Since(s.began).Round(time.Second)))
}

func (s *screen) footerLine(text string) {
	width, _, err := term.GetSize(s.fd)
	if err != nil || width < 20 {
		width = 80
	}
	if r := []rune(text); len(r) > width-1 {
		text = string(r[:width-1])
	}
	fmt.Fprintln(s.out, text)
	s.footer++
}

func count(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
