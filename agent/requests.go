package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/agent/uplink"
	"github.com/lanepost/lanepost/protocol/event"
)

// Bounds of requests.
const (
	// maxResend is how many events one request can have sent again.
	maxResend = 100_000
	// maxRequestArgs bounds what is recorded of a request's arguments, in bytes.
	maxRequestArgs = 1024
	// flushWait is how long a flush waits until everything is confirmed.
	flushWait = 20 * time.Second
	// reloadWait is how long a reload is waited for.
	reloadWait = 25 * time.Second
)

// answers are what a central system can ask for; uplink.Commands names the same.
// None of them acts on an instrument.
var answers = map[string]func(*Agent, context.Context, *uplinkRun, json.RawMessage) (any, error){
	"status":      (*Agent).answerStatus,
	"resend":      (*Agent).answerResend,
	"flush":       (*Agent).answerFlush,
	"reload":      (*Agent).answerReload,
	"diagnostics": (*Agent).answerDiagnostics,
}

// requests takes those requests from an uplink's broker that its configuration
// allows; nil for none. ctx is the uplink's.
func (a *Agent) requests(ctx context.Context, u *uplinkRun) *uplink.Requests {
	if len(u.cfg.Requests) == 0 {
		return nil
	}
	return &uplink.Requests{
		Allow: u.cfg.Requests,
		Handle: func(ctx context.Context, r uplink.Request) uplink.Response {
			answer := answers[r.Command]
			if answer == nil {
				return uplink.Response{Error: fmt.Sprintf("there is no command %q", r.Command)}
			}
			result, err := answer(a, ctx, u, r.Args)
			if err != nil {
				return uplink.Response{Error: err.Error()}
			}
			return uplink.Response{Result: result}
		},
		Done: func(r uplink.Request, accepted bool, outcome string) {
			args := string(r.Args)
			if len(args) > maxRequestArgs {
				args = strings.ToValidUTF8(args[:maxRequestArgs], "")
			}
			// The disk may be full for long, and the uplink must be able to stop.
			err := within(ctx, func() error {
				return a.recordOwn(event.AgentRequest{
					RequestID: r.ID, Command: r.Command, Args: args, From: r.From, Accepted: accepted, Outcome: outcome,
				})
			})
			if err != nil {
				a.log.Error("a request is not recorded yet", "request", r.ID, "command", r.Command, "err", err)
			}
		},
	}
}

// within does something that may take long, and stops waiting for it when ctx
// ends.
func within(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// arguments reads the arguments of a command, which must have no others than
// those of into.
func arguments(args json.RawMessage, into any) error {
	if len(args) == 0 {
		args = json.RawMessage(`{}`)
	}
	d := json.NewDecoder(bytes.NewReader(args))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the arguments can't be read: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the arguments can't be read: more than one JSON value")
	}
	return nil
}

func noArguments(args json.RawMessage) error { return arguments(args, &struct{}{}) }

// answerStatus gives the agent's state, as on its state topic.
func (a *Agent) answerStatus(_ context.Context, u *uplinkRun, args json.RawMessage) (any, error) {
	if err := noArguments(args); err != nil {
		return nil, err
	}
	return a.state(time.Now(), true, u.Status().Session), nil
}

// resendArgs choose what is sent again: a range of sequences, or a range of
// times of recording. Both ends are included.
type resendArgs struct {
	Priority event.Class `json:"priority"`
	First    string      `json:"first_sequence"`
	Last     string      `json:"last_sequence"`
	Since    *event.Time `json:"since"`
	Until    *event.Time `json:"until"`
}

// resent tells what a resend will bring: what of the range is on disk. Gone counts the
// sequences at its beginning that are not any more.
type resent struct {
	Priority event.Class `json:"priority"`
	First    string      `json:"first_sequence"`
	Last     string      `json:"last_sequence"`
	Gone     uint64      `json:"gone"`
}

// answerResend queues events to be sent again, with the same bytes.
func (a *Agent) answerResend(_ context.Context, u *uplinkRun, args json.RawMessage) (any, error) {
	var r resendArgs
	if err := arguments(args, &r); err != nil {
		return nil, err
	}
	first, last, gone, err := a.resendRange(r)
	if err != nil {
		return nil, err
	}
	if err := u.Resend(r.Priority, first, last); err != nil {
		return nil, err
	}
	return resent{r.Priority, event.FormatSequence(first), event.FormatSequence(last), gone}, nil
}

func (a *Agent) resendRange(r resendArgs) (first, last, gone uint64, err error) {
	var head uint64
	stats := a.spool.Stats()
	switch r.Priority {
	case event.Urgent:
		head = stats.Urgent.Head
	case event.Routine:
		head = stats.Routine.Head
	default:
		return 0, 0, 0, fmt.Errorf("priority is %q: want %q or %q", r.Priority, event.Urgent, event.Routine)
	}
	bySequence, byTime := r.First != "" || r.Last != "", r.Since != nil || r.Until != nil
	if bySequence == byTime {
		return 0, 0, 0, errors.New("give first_sequence and last_sequence, or since and until")
	}
	if bySequence {
		if first, err = event.ParseSequence(r.First); err != nil {
			return 0, 0, 0, fmt.Errorf("first_sequence: %w", err)
		}
		if last, err = event.ParseSequence(r.Last); err != nil {
			return 0, 0, 0, fmt.Errorf("last_sequence: %w", err)
		}
	} else {
		if r.Since == nil || r.Until == nil {
			return 0, 0, 0, errors.New("since and until are both needed")
		}
		if first, err = a.spool.Find(r.Priority, r.Since.Time); err != nil {
			return 0, 0, 0, fmt.Errorf("since: %w", err)
		}
		// The first one recorded after the last millisecond that is wanted.
		after, err := a.spool.Find(r.Priority, r.Until.Add(time.Millisecond))
		if err != nil {
			return 0, 0, 0, fmt.Errorf("until: %w", err)
		}
		last = after - 1
	}
	last = min(last, head)
	if first == 0 || first > last {
		return 0, 0, 0, fmt.Errorf("there is nothing in that range; the last %s sequence is %d", r.Priority, head)
	}
	// The oldest go first, so all behind the first one that is there is there too.
	there, err := a.spool.Read(r.Priority, first, last, 1, 0)
	if err != nil {
		return 0, 0, 0, err
	}
	if len(there) == 0 {
		return 0, 0, 0, fmt.Errorf("nothing of %s %d to %d is on disk any more: what was delivered is deleted unless spool.retain keeps it, "+
			"and of what was lost lanepost.agent.loss tells", r.Priority, first, last)
	}
	first, gone = there[0].Sequence, there[0].Sequence-first
	if last-first >= maxResend {
		return 0, 0, 0, fmt.Errorf("the range has %d sequences; at most %d at once", last-first+1, maxResend)
	}
	return first, last, gone, nil
}

// flushed tells how far the uplink had come when a flush was answered.
type flushed struct {
	// Complete says that all that was recorded before the request is confirmed.
	Complete bool `json:"complete"`
	// Waiting counts what is not.
	Waiting uint64 `json:"waiting"`
}

// answerFlush signs the heads of the chains and waits until this uplink has
// delivered everything that was recorded before.
func (a *Agent) answerFlush(ctx context.Context, u *uplinkRun, args json.RawMessage) (any, error) {
	if err := noArguments(args); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	if err := within(ctx, a.checkpoint); err != nil {
		return nil, err
	}
	before := a.spool.Stats()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now := a.spool.Stats()
		left := waiting(before.Urgent, now.Urgent, u.cfg.Name) + waiting(before.Routine, now.Routine, u.cfg.Name)
		if left == 0 {
			return flushed{Complete: true}, nil
		}
		select {
		case <-ctx.Done():
			return flushed{Waiting: left}, nil
		case <-tick.C:
		}
	}
}

// waiting counts what of a class was recorded at the time of before and is not
// delivered by the consumer now.
func waiting(before, now spool.ClassStats, consumer string) uint64 {
	for _, c := range now.Consumers {
		if c.Name == consumer && c.Acked < before.Head {
			return before.Head - c.Acked
		}
	}
	return 0
}

// answerReload reads the configuration anew. The uplink that asked is restarted if
// its own part changed; the answer is then given by the next session.
func (a *Agent) answerReload(ctx context.Context, _ *uplinkRun, args json.RawMessage) (any, error) {
	if err := noArguments(args); err != nil {
		return nil, err
	}
	return a.askReload(ctx)
}

// askReload has the configuration read anew and waits for what comes of it.
func (a *Agent) askReload(ctx context.Context) (reloaded, error) {
	done := make(chan reloaded, 1)
	ctx, cancel := context.WithTimeout(ctx, reloadWait)
	defer cancel()
	select {
	case a.reloads <- done:
	case <-ctx.Done():
		return reloaded{}, errors.New("the agent is busy with another reload, starts or stops")
	}
	select {
	case r := <-done:
		return r, nil
	case <-ctx.Done():
		// Also when the uplink itself is being restarted by what it asked for.
		return reloaded{}, fmt.Errorf("the reload has not come to its end within %s; the state topic will tell", reloadWait)
	}
}

// diagnosis is what a person at the other end wants to know first.
type diagnosis struct {
	Agent     string            `json:"agent"`
	Version   string            `json:"version"`
	GoVersion string            `json:"go_version"`
	System    string            `json:"system"`
	Time      event.Time        `json:"time"`
	UptimeS   float64           `json:"uptime_s"`
	Config    string            `json:"config_sha256"`
	State     event.AgentState  `json:"state"`
	Devices   []deviceDiagnosis `json:"devices"`
	Uplinks   []uplinkDiagnosis `json:"uplinks"`
	Spool     spool.Stats       `json:"spool"`
	Disk      diskDiagnosis     `json:"disk"`
	Process   map[string]uint64 `json:"process"`
}

type deviceDiagnosis struct {
	Lane   string            `json:"lane"`
	Device string            `json:"device"`
	State  event.DeviceState `json:"state"`
}

type uplinkDiagnosis struct {
	Name      string     `json:"name"`
	State     string     `json:"state"`
	Since     event.Time `json:"since"`
	Broker    string     `json:"broker"`
	LastError string     `json:"last_error"`
	Hint      string     `json:"hint"`
	InFlight  int        `json:"in_flight"`
	Published uint64     `json:"published"`
	Acked     uint64     `json:"acked"`
}

type diskDiagnosis struct {
	Syncs        uint64 `json:"syncs"`
	BytesWritten uint64 `json:"bytes_written"`
}

func (a *Agent) answerDiagnostics(_ context.Context, u *uplinkRun, args json.RawMessage) (any, error) {
	if err := noArguments(args); err != nil {
		return nil, err
	}
	now := time.Now()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	d := diagnosis{
		Agent: a.id.kept.Agent, Version: a.opts.Version, GoVersion: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Time: event.At(now), UptimeS: now.Sub(a.began).Round(time.Millisecond).Seconds(),
		Config: a.config().SHA256, State: a.state(now, true, u.Status().Session),
		Devices: []deviceDiagnosis{}, Uplinks: []uplinkDiagnosis{}, Spool: a.spool.Stats(),
		Disk:    diskDiagnosis{Syncs: a.disk.Syncs.Load(), BytesWritten: a.disk.Bytes.Load()},
		Process: map[string]uint64{"goroutines": uint64(runtime.NumGoroutine()), "heap_bytes": memory.HeapAlloc, "system_bytes": memory.Sys},
	}
	for _, one := range a.deviceList() {
		d.Devices = append(d.Devices, deviceDiagnosis{Lane: one.cfg.Lane, Device: one.cfg.ID, State: one.sup.State()})
	}
	for _, one := range a.currentUplinks() {
		s := one.Status()
		d.Uplinks = append(d.Uplinks, uplinkDiagnosis{
			Name: one.cfg.Name, State: string(s.State), Since: event.At(s.Since), Broker: s.Broker,
			LastError: s.LastError, Hint: s.Hint, InFlight: s.InFlight, Published: s.Published, Acked: s.Acked,
		})
	}
	return d, nil
}
