package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
)

// maxTruth is how many lines of the truth a simulation keeps in memory; the
// oldest go first.
const maxTruth = 100_000

// Options say how a scenario is played.
type Options struct {
	// Speed is how much faster than real time; 1 is real time. 0 is as fast as
	// the clients read: nothing is ever lost then for want of a client, since a
	// device waits for one.
	Speed float64
	// Wait holds the start back until every device that listens has had its
	// first client: a connection to a line, to Modbus or to OPC UA, a request to
	// what is asked by HTTP. What has no client is not waited for: what drops
	// files into a folder, and what goes to its host by itself (CameraSettings.Push).
	// Until then time stands still. With Speed 0 each device waits for its own
	// client anyway, with the first thing that it has to say.
	Wait bool
	// Listen overrides where devices listen, by "LANE/DEVICE".
	Listen map[string]string
	// Listeners gives devices listeners, by "LANE/DEVICE", in place of Listen. Those
	// of an aspect-portal and a plc must be TCP listeners.
	Listeners map[string]net.Listener
	// Truth, if set, gets one line of JSON for each entry as it happens.
	Truth io.Writer
	// OnTruth, if set, is called with each entry, one at a time; it must not
	// call the simulation.
	OnTruth func(Entry)
	// Log is where the simulation logs; nil is nowhere.
	Log *slog.Logger
}

// Endpoint is where a device is reached.
type Endpoint struct {
	Lane, ID, Model string
	// Connect is a connect URL as lanepost's configuration has it, for instance
	// tcp://127.0.0.1:1600 or serial:/dev/pts/5.
	Connect string
}

// Simulation is a scenario that is played.
type Simulation struct {
	scenario *Scenario
	opts     Options

	life    sync.Mutex // of Start and Close, of cancel and closed
	cancel  context.CancelFunc
	closed  bool
	players []*player
	cameras []*camera
	devices []Endpoint
	running sync.WaitGroup
	ended   chan struct{} // closed when every device is at its end

	mu        sync.Mutex
	errs      []error
	unwritten bool // the truth could not be written
	kept      []Entry

	truthMu sync.Mutex // keeps the lines of the truth in one piece
}

// New makes a simulation. Nothing is opened before Start.
func New(s *Scenario, opts Options) (*Simulation, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if opts.Speed < 0 {
		return nil, fmt.Errorf("a speed of %v; want 1 for real time, more for faster, 0 for as fast as possible", opts.Speed)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	var keys, models []string
	for _, lane := range s.Lanes {
		for _, d := range lane.Devices {
			keys, models = append(keys, deviceKey(lane.ID, d.ID)), append(models, d.Model)
		}
	}
	for key, listen := range opts.Listen {
		if !slices.Contains(keys, key) {
			return nil, fmt.Errorf("listen: the scenario has no device %q", key)
		}
		if _, err := parseListen(listen); err != nil {
			return nil, fmt.Errorf("listen of %s: %w", key, err)
		}
	}
	for key, ln := range opts.Listeners {
		i := slices.Index(keys, key)
		if i < 0 {
			return nil, fmt.Errorf("listeners: the scenario has no device %q", key)
		}
		// The library that serves Modbus opens sockets of its own.
		if _, ok := ln.Addr().(*net.TCPAddr); !ok && cameraModels[models[i]].bus == modbusBus {
			return nil, fmt.Errorf("listeners: %s is a %s, which is reached by TCP only; want a TCP listener, or none", key, models[i])
		}
	}
	return &Simulation{scenario: s, opts: opts, ended: make(chan struct{})}, nil
}

// Start opens every device's link and plays the scenario until its end, or
// until ctx or Close ends it. It may be called once, and not after Close.
func (s *Simulation) Start(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	switch {
	case s.closed:
		return errors.New("the simulation was closed before; make another one with New")
	case s.cancel != nil:
		return errors.New("the simulation was started before")
	}
	ctx, s.cancel = context.WithCancel(ctx)
	for i := range s.scenario.Lanes {
		lane := &s.scenario.Lanes[i]
		for k := range lane.Devices {
			if err := s.open(lane, &lane.Devices[k], k == 0); err != nil {
				s.cancel()
				for _, p := range s.players {
					err = errors.Join(err, p.link.close(false))
				}
				for _, c := range s.cameras {
					err = errors.Join(err, c.close(false))
				}
				s.players, s.cameras = nil, nil
				close(s.ended)
				return err
			}
		}
	}
	var barrier *sync.WaitGroup
	if s.opts.Wait && s.opts.Speed > 0 {
		barrier = &sync.WaitGroup{}
		barrier.Add(len(s.players) + len(s.cameras))
	}
	for _, p := range s.players {
		s.running.Go(func() { s.play(ctx, p, barrier) })
	}
	for _, c := range s.cameras {
		s.running.Go(func() { s.playCamera(ctx, c, barrier) })
	}
	go func() {
		s.running.Wait()
		close(s.ended)
	}()
	return nil
}

func (s *Simulation) open(lane *Lane, d *Device, witness bool) error {
	key := deviceKey(lane.ID, d.ID)
	if d.Model != portalModel {
		c, err := s.openCamera(lane, d, witness)
		if err != nil {
			return err
		}
		s.cameras = append(s.cameras, c)
		s.devices = append(s.devices, Endpoint{Lane: lane.ID, ID: d.ID, Model: d.Model, Connect: c.url})
		return nil
	}
	p := &player{
		lane: lane.ID, id: d.ID, stream: newWire(s.scenario, lane, d, witness),
		speed: s.opts.Speed, log: s.opts.Log.With("device", key), tell: s.tell,
	}
	if ln, ok := s.opts.Listeners[key]; ok {
		p.link = newServer(ln, p.log, p.event)
	} else {
		listen := d.Listen
		if l, ok := s.opts.Listen[key]; ok {
			listen = l
		}
		address, err := parseListen(listen)
		if err != nil {
			return fmt.Errorf("listen of %s: %w", key, err)
		}
		if p.link, err = openLink(address, p.log, p.event); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	s.players = append(s.players, p)
	s.devices = append(s.devices, Endpoint{Lane: lane.ID, ID: d.ID, Model: d.Model, Connect: p.link.connect()})
	return nil
}

// playCamera plays one reader and closes it.
func (s *Simulation) playCamera(ctx context.Context, c *camera, barrier *sync.WaitGroup) {
	err := begin(ctx, c.client, barrier)
	if err == nil {
		err = c.play(ctx)
	}
	// A client that does not read must not hold up the end.
	stop := context.AfterFunc(ctx, func() { _ = c.close(false) }) // the close below reports
	err = errors.Join(err, c.close(err == nil))
	stop()
	if err != nil && ctx.Err() == nil {
		s.mu.Lock()
		s.errs = append(s.errs, fmt.Errorf("%s: %w", deviceKey(c.lane, c.id), err))
		s.mu.Unlock()
	}
}

// play plays one device and closes its link.
func (s *Simulation) play(ctx context.Context, p *player, barrier *sync.WaitGroup) {
	err := begin(ctx, p.link.client, barrier)
	if err == nil {
		err = p.play(ctx)
	}
	drain := err == nil
	// A client that does not read must not hold up the end.
	stop := context.AfterFunc(ctx, func() { _ = p.link.close(false) }) // the close below reports
	err = errors.Join(err, p.link.close(drain))
	stop()
	if err != nil && ctx.Err() == nil {
		s.mu.Lock()
		s.errs = append(s.errs, fmt.Errorf("%s: %w", deviceKey(p.lane, p.id), err))
		s.mu.Unlock()
	}
}

// begin waits for the moment at which all devices start.
func begin(ctx context.Context, client func(context.Context) error, barrier *sync.WaitGroup) error {
	if barrier == nil {
		return nil
	}
	err := client(ctx)
	barrier.Done()
	barrier.Wait()
	return err
}

// Devices lists where the devices are reached. It is complete after Start.
func (s *Simulation) Devices() []Endpoint { return slices.Clone(s.devices) }

// Wait returns when every device has played its scenario to the end, or when
// the simulation was ended otherwise. It reports what failed. Of one that was not
// started it returns at once.
func (s *Simulation) Wait() error {
	s.life.Lock()
	started := s.cancel != nil
	s.life.Unlock()
	if !started {
		return nil
	}
	<-s.ended
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// Close ends the simulation and reports what failed. It may be called at any
// time, and more than once.
func (s *Simulation) Close() error {
	s.life.Lock()
	s.closed = true
	cancel := s.cancel
	s.life.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	for _, p := range s.players {
		_ = p.link.close(false) // wakes the player, which reports
	}
	for _, c := range s.cameras {
		_ = c.close(false) // as above
	}
	return s.Wait()
}

// Truth returns what has happened so far; of a very long run the latest 100,000
// entries.
func (s *Simulation) Truth() *Truth {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &Truth{}
	for _, e := range s.kept {
		t.add(e)
	}
	return t
}

// tell files a line of the truth.
func (s *Simulation) tell(e Entry) {
	s.mu.Lock()
	if len(s.kept) >= maxTruth {
		s.kept = slices.Delete(s.kept, 0, maxTruth/10)
	}
	s.kept = append(s.kept, e)
	s.mu.Unlock()

	s.truthMu.Lock()
	defer s.truthMu.Unlock()
	if s.opts.Truth != nil {
		line, err := entryLine(e)
		if err == nil {
			_, err = s.opts.Truth.Write(line)
		}
		if err != nil {
			s.mu.Lock()
			if !s.unwritten { // the first one is enough
				s.unwritten = true
				s.errs = append(s.errs, fmt.Errorf("write the truth: %w", err))
			}
			s.mu.Unlock()
		}
	}
	if s.opts.OnTruth != nil {
		s.opts.OnTruth(e)
	}
}

// Serve plays one tsa-portal of a scenario, "LANE/DEVICE", onto a connection, as
// fast or slow as the options say. It returns nil at the scenario's end, and
// ErrDisconnected (wrapped) when the scenario or the other side breaks the
// connection. It closes the connection only when the scenario does. Of the
// options Speed, Truth, OnTruth and Log count.
func Serve(ctx context.Context, s *Scenario, device string, conn io.Writer, opts Options) error {
	sim, err := New(s, Options{Speed: opts.Speed, Truth: opts.Truth, OnTruth: opts.OnTruth, Log: opts.Log})
	if err != nil {
		return err
	}
	for i := range s.Lanes {
		lane := &s.Lanes[i]
		for k := range lane.Devices {
			d := &lane.Devices[k]
			if deviceKey(lane.ID, d.ID) != device {
				continue
			}
			if d.Model != portalModel {
				return fmt.Errorf("%s is a %s, and only a %s can be served; play it with New or Start", device, d.Model, portalModel)
			}
			p := &player{
				lane: lane.ID, id: d.ID, stream: newWire(s, lane, d, true), link: given{conn},
				speed: opts.Speed, log: sim.opts.Log.With("device", device), tell: sim.tell,
			}
			err := p.play(ctx)
			sim.mu.Lock()
			defer sim.mu.Unlock()
			return errors.Join(append(sim.errs, err)...)
		}
	}
	return fmt.Errorf("the scenario has no device %q", device)
}
