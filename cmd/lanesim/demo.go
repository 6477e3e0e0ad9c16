package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/spf13/cobra"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// Times of the demo.
const (
	// agentStopGrace is how long the agent may take to stop; it bounds each of its
	// own steps.
	agentStopGrace = 25 * time.Second
	// lastEvents is how long the demo waits for what is still under way after
	// the agent has stopped.
	lastEvents = time.Second
)

type demoOptions struct {
	scenario string
	length   time.Duration
	speed    speed
	seed     uint64
	mqtt     string
	lanepost string
	keep     bool
}

func demoCommand() *cobra.Command {
	o := demoOptions{speed: 1}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole lane: simulated instruments, a broker, and the real agent",
		Long: "demo starts the instruments of a scenario, an MQTT broker in this process, and\n" +
			"lanepost with a configuration file, and shows what a subscriber of the broker\n" +
			"receives. Ctrl-C ends it.",
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.scenario, "scenario", "demo", "scenario to play, a name from `lanesim list` or a file")
	f.DurationVar(&o.length, "for", 0, "end after this time, for instance 30s (0: until Ctrl-C)")
	f.Var(&o.speed, "speed", "how fast the instruments' time passes: 1x, 20x")
	f.Uint64Var(&o.seed, "seed", 0, "play the scenario with another seed (0: its own)")
	f.StringVar(&o.mqtt, "mqtt", "127.0.0.1:1883", "where the broker listens; another port is taken if this one is busy")
	f.StringVar(&o.lanepost, "lanepost", "", "the lanepost program (default: beside lanesim, then in PATH)")
	f.BoolVar(&o.keep, "keep", false, "keep the working directory with configuration, spool and log")
	return cmd
}

func demo(ctx context.Context, out io.Writer, o demoOptions) (err error) {
	if o.speed == 0 {
		return usageError{errors.New("the demo runs on the clock: want --speed 1x or 20x, and not max")}
	}
	program, err := findLanepost(o.lanepost)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lanepost-demo-")
	if err != nil {
		return fmt.Errorf("make a working directory: %w", err)
	}
	defer func() {
		if o.keep {
			return
		}
		if rmErr := os.RemoveAll(dir); err == nil && rmErr != nil {
			err = fmt.Errorf("remove the working directory: %w", rmErr)
		}
	}()

	server, address, err := startBroker(o.mqtt)
	if err != nil {
		return err
	}
	defer server.Close() //nolint:errcheck // the process ends; nothing is kept in this broker

	// Whoever read along may leave (`lanesim demo | head`); the agent must not
	// stay behind then.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	s := newScreen(out)
	s.out = &watchedWriter{out: out, lost: lost}
	teller := &simulator.Teller{Scenario: o.scenario, Speed: float64(o.speed)}
	told, err := tell("127.0.0.1:0", teller)
	if err != nil {
		return err
	}
	defer told.close()
	sim, err := startScenario(ctx, o, s, teller)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.Close()) }()

	configPath := filepath.Join(dir, "lanepost.yaml")
	page, err := freePage()
	if err != nil {
		return err
	}
	config, err := demoConfig(sim.Devices(), address, page, told.url, dir)
	if err != nil {
		return err
	}
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	s.intro(o, sim.Devices(), address, page, configPath)

	// The clock of --for starts when there is something to see.
	if o.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.length)
		defer cancel()
	}
	s.pictures = newPictures(dir)
	subscriber, err := subscribe(address, s)
	if err != nil {
		return err
	}
	defer subscriber.Disconnect(100)

	a, err := startAgent(program, configPath, filepath.Join(dir, "lanepost.log"), s)
	if err != nil {
		return err
	}
	s.start()
	select {
	case <-ctx.Done():
	case <-a.done:
	}
	stopErr := a.stop()
	time.Sleep(lastEvents)
	s.end()
	if cause := context.Cause(ctx); errors.Is(cause, errOutputGone) {
		return errors.Join(cause, stopErr)
	}
	return stopErr
}

var errOutputGone = errors.New("nobody reads the output any more")

// watchedWriter tells when writing fails.
type watchedWriter struct {
	out  io.Writer
	lost context.CancelCauseFunc
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	if err != nil {
		w.lost(fmt.Errorf("%w: %w", errOutputGone, err))
	}
	return n, err
}

// startScenario starts the instruments. The demo goes on until it is ended, so
// the scenario does too.
func startScenario(ctx context.Context, o demoOptions, s *screen, teller *simulator.Teller) (*simulator.Simulation, error) {
	scenario, err := load(o.scenario, o.seed)
	if err != nil {
		return nil, err
	}
	scenario.Duration = 0 // without end
	// Ports of its own, so that a second demo, or a real portal's port forwarded
	// to this machine, is not in the way.
	listen := map[string]string{}
	for _, lane := range scenario.Lanes {
		for _, d := range lane.Devices {
			if !strings.HasPrefix(d.Listen, "pty:") && !strings.HasPrefix(d.Listen, "folder:") {
				listen[lane.ID+"/"+d.ID] = "tcp://127.0.0.1:0"
			}
		}
	}
	sim, err := simulator.New(scenario, simulator.Options{
		Speed: float64(o.speed), Wait: true, Listen: listen, Log: slog.New(slog.DiscardHandler),
		OnTruth: func(e simulator.Entry) {
			teller.Take(e)
			if _, vehicle := e.(*simulator.VehicleTruth); vehicle || e.EntryKind() == "fault" {
				s.truth(e.String())
			}
		},
	})
	if err != nil {
		return nil, err
	}
	return sim, sim.Start(context.WithoutCancel(ctx))
}

// findLanepost looks for the agent's program.
func findLanepost(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "lanepost")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	if path, err := exec.LookPath("lanepost"); err == nil {
		return path, nil
	}
	return "", errors.New("the lanepost program is neither beside lanesim nor in PATH; " +
		"it runs on Linux: build it with `make build`, or name it with --lanepost")
}

// startBroker starts an MQTT broker in this process, on a free port if the
// wanted one is busy.
func startBroker(wanted string) (*broker.Server, string, error) {
	ln, err := net.Listen("tcp", wanted)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(wanted)
		if splitErr != nil {
			return nil, "", usageError{fmt.Errorf("--mqtt %q: want host:port", wanted)}
		}
		if ln, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return nil, "", fmt.Errorf("listen for MQTT: %w", err)
		}
	}
	server := broker.New(&broker.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, "", fmt.Errorf("start the broker: %w", err)
	}
	if err := server.AddListener(listeners.NewNet("demo", ln)); err != nil {
		return nil, "", fmt.Errorf("start the broker: %w", err)
	}
	if err := server.Serve(); err != nil {
		return nil, "", fmt.Errorf("start the broker: %w", err)
	}
	return server, ln.Addr().String(), nil
}

// wantedPage is where the agent shows itself to browsers if nobody has it.
const wantedPage = "127.0.0.1:7480"

// freePage finds an address for the agent's page: another agent may run here. Should
// somebody take it before the agent does, the agent tries again.
func freePage() (string, error) {
	ln, err := net.Listen("tcp", wantedPage)
	if err != nil {
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", fmt.Errorf("find an address for the agent's page: %w", err)
		}
	}
	return ln.Addr().String(), ln.Close()
}

// demoInstrument is how the agent is set to a simulated instrument.
type demoInstrument struct {
	profile string
	// settings are lines of YAML, as they stand below settings:.
	settings string
}

// demoInstruments are those of each model; a portal is one for what is not among them. What
// the simulated ones say is known, so the settings can tell what it means.
var demoInstruments = map[string]demoInstrument{
	"aspect-portal":   {profile: "aspect-modbus"},
	"hikvision":       {profile: "hikvision-stream"},
	"area-monitor":    {profile: "thermo-radeye"},
	"tsa-environment": {profile: "tsa-environment"},
	"n42-streamer":    {profile: "n42-stream"},
	"n42-dropper":     {profile: "n42-files"},
	"n42-poster":      {profile: "n42-push"},
	"scale":           {profile: "scale-csv"},
	"llrp-reader":     {profile: "llrp"},
	"mrz-reader":      {"mrz-reader", "allow_personal_data: true\nkeep: masked\n"}, // specimens, which nobody has
	"xray-scanner": {"smiths-cargovision", `verdicts: {"0": nothing_found, "1": suspicious}
`},
	"xray-messenger": {"xray-messages", `verdicts: {OK: nothing_found, ALARM: suspicious}
pictures: [{place: Images/Under, role: image, name: under}, {place: Images/Front, role: snapshot, name: front}]
`},
	"plc": {"state-bus-modbus", `signals:
  life_counter: {at: "holding:0"}
  scan_counter: {at: "holding:1", type: u32}
  mode: {at: "holding:4", values: {"1": operational}}
  scanning: {at: "discrete:0"}
  interlock_ok: {at: "discrete:3"}
  estop_ok: {at: "discrete:4"}
  loop_1: {at: "discrete:11"}
  barrier_up: {at: "discrete:13"}
`},
	"plc-opcua": {"state-bus-opcua", `signals:
  life_counter: {at: "ns=1;s=life_counter"}
  scan_counter: {at: "ns=1;s=scan_counter"}
  scanning: {at: "ns=1;s=scanning"}
  interlock_ok: {at: "ns=1;s=interlock_ok"}
  estop_ok: {at: "ns=1;s=estop_ok"}
  loop_1: {at: "ns=1;s=loop_1"}
  barrier_up: {at: "ns=1;s=barrier_up"}
`},
}

func instrumentFor(e simulator.Endpoint) (demoInstrument, error) {
	x, ok := demoInstruments[e.Model]
	switch {
	case ok:
		return x, nil
	case e.Model != "tsa-portal":
		return x, fmt.Errorf("the demo does not know how to set the agent to a %s (%s/%s); take another scenario, or run lanesim and lanepost by themselves", e.Model, e.Lane, e.ID)
	case strings.HasPrefix(e.Connect, "serial:"):
		return demoInstrument{profile: "rapiscan-tsa-serial"}, nil
	}
	return demoInstrument{profile: "rapiscan-tsa"}, nil
}

// demoConfig is a real configuration file for the simulated lane.
func demoConfig(devices []simulator.Endpoint, address, page, told, dir string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by `lanesim demo`.\nsite: demo\nlanes:\n")
	lane := ""
	for _, d := range devices {
		if d.Lane != lane {
			lane = d.Lane
			fmt.Fprintf(&b, "  - id: %s\n    devices:\n", lane)
		}
		connect := d.Connect
		if strings.HasPrefix(connect, "serial:") {
			connect += "?baud=19200&parity=odd"
		}
		x, err := instrumentFor(d)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "      - id: %s\n        profile: %s\n        connect: %s\n", d.ID, x.profile, connect)
		if x.settings == "" {
			continue
		}
		b.WriteString("        settings:\n")
		for line := range strings.Lines(x.settings) {
			b.WriteString("          " + line)
		}
	}
	fmt.Fprintf(&b, "mqtt:\n  brokers: [tcp://%s]\nspool:\n  dir: %s\n", address, filepath.Join(dir, "spool"))
	// The pictures are drawn: nobody's plate is on them.
	fmt.Fprintf(&b, "console: {listen: %q, pictures: thumbnails, simulator: %q}\n", page, told)
	return b.Bytes(), nil
}

// subscribe feeds the screen with what any subscriber of the broker sees.
func subscribe(address string, s *screen) (mqtt.Client, error) {
	c := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://" + address).SetClientID("lanesim-demo").SetOrderMatters(true))
	if err := await(c.Connect()); err != nil {
		return nil, fmt.Errorf("connect to the demo's own broker: %w", err)
	}
	t := c.Subscribe(event.TopicRoot+"/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		if _, err := event.ParseChunkTopic(m.Topic()); err == nil {
			s.chunk(m.Topic(), m.Payload()) // a piece of a picture
			return
		}
		s.received(m.Payload())
	})
	if err := await(t); err != nil {
		return nil, fmt.Errorf("subscribe at the demo's own broker: %w", err)
	}
	return c, nil
}

// await waits for the broker in this process.
func await(t mqtt.Token) error {
	if !t.WaitTimeout(5 * time.Second) {
		return errors.New("it does not answer")
	}
	return t.Error()
}

// agentProcess is the running lanepost.
type agentProcess struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func startAgent(program, configPath, logPath string, s *screen) (*agentProcess, error) {
	logFile, err := os.Create(logPath)
	if err != nil {
		return nil, fmt.Errorf("write the agent's log: %w", err)
	}
	cmd := exec.Command(program, "run", "--config", configPath, "--stdout")
	cmd.Stderr = logFile
	detach(cmd)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	a := &agentProcess{cmd: cmd, log: logPath, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(a.done)
		defer logFile.Close() //nolint:errcheck // the agent writes it; this side only holds it open
		// Linux ends the agent when the thread that started it is gone, so that
		// one must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewReader(stdout)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			s.recorded(line)
		}
		a.err = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return a, nil
}

// stop ends the agent in good order. An agent that ended by itself is an error,
// told with its last words.
func (a *agentProcess) stop() error {
	select {
	case <-a.done:
		return fmt.Errorf("the agent ended by itself (%s):\n%s", a.cmd.ProcessState, a.lastWords())
	default:
	}
	if err := interrupt(a.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the agent: %w", err)
	}
	select {
	case <-a.done:
		if a.err != nil {
			return fmt.Errorf("the agent stopped badly: %w; its last words:\n%s", a.err, a.lastWords())
		}
		return nil
	case <-time.After(agentStopGrace):
		err := a.cmd.Process.Kill()
		<-a.done
		return errors.Join(errors.New("the agent did not stop and was killed"), err)
	}
}

// lastWords is the end of the agent's log, which goes with the working directory.
func (a *agentProcess) lastWords() string {
	words, err := os.ReadFile(a.log)
	if err != nil {
		return err.Error()
	}
	return string(words[max(0, len(words)-2000):])
}
