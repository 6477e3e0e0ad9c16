package simulator

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/lanepost/lanepost/protocol/tsa"
)

// boardsEvery is how often the environmental boards of a portal tell what they measured.
const boardsEvery = 10 * time.Second

// environmentSwitches are what the environmental line does, or may do.
var environmentSwitches = []string{
	"no-slave",        // the slave pillar has no board
	"thermocouple",    // the master's thermocouple is broken
	"battery",         // the master's battery runs down
	"ac-lost",         // the slave loses its alternating current after five minutes
	"two-detectors",   // places 3 and 4 have no board
	"cut",             // each seventh record is cut
	"garble",          // each fifth record has a wrong byte
	"dribble",         // one byte at a time
	"speed-link",      // it is the speed link: a message for each vehicle
	"speed-link-0a0a", // the same, and its messages end LF LF
}

// environmentBoards are the boards of a portal on the line to its SC-880.
type environmentBoards struct {
	env  cameraEnv
	mu   sync.Mutex
	sent int
}

func newEnvironmentBoards(env cameraEnv) (cameraModel, error) {
	return &environmentBoards{env: env}, nil
}

// ServeHTTP implements http.Handler; they serve nothing.
func (e *environmentBoards) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
}

func (e *environmentBoards) speedLink() bool {
	return e.env.Settings.Has("speed-link") || e.env.Settings.Has("speed-link-0a0a")
}

// observe sends a message for each vehicle on the speed link. What such a message says is not
// public, so this one says nothing.
func (e *environmentBoards) observe(ctx context.Context, s Sighting) error {
	if !e.speedLink() {
		return nil
	}
	if e.env.Fast {
		if err := e.env.Line.client(ctx); err != nil {
			return err
		}
	}
	end := "\r\n"
	if e.env.Settings.Has("speed-link-0a0a") {
		end = "\n\n"
	}
	message := []byte{'S', 'I', 'M', '0' + byte(s.Serial%10)}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.send(ctx, append(message, end...))
}

// records are what the boards tell at a moment.
func (e *environmentBoards) records(at time.Duration) (list []tsa.Environment) {
	has, minutes := e.env.Settings.Has, at.Minutes()
	four := func(values ...float64) (v [4]float64) {
		copy(v[:], values)
		if has("two-detectors") {
			v[2], v[3] = 0, 0
		}
		return v
	}
	volts, ac, thermocouple := 13.4, 0.6, 291.5
	if has("battery") {
		volts = max(13.4-0.5*minutes, 0)
	}
	if has("thermocouple") {
		thermocouple = 0
	}
	slaveAC := ac
	if has("ac-lost") && minutes >= 5 {
		slaveAC = 0
	}
	list = []tsa.Environment{
		{Tag: tsa.TPDT, Values: four(294.1, 294.2, 294.3, 294.4)},
		{Tag: tsa.RHDT, Values: four(38, 39, 40, 41)},
		{Tag: tsa.PRES, Values: four(1012, 1012, 1013, 1013)},
		{Tag: tsa.DEWP, Values: four(279.9, 280.3, 280.7, 281.1)},
		{Tag: tsa.MBAT, Values: [4]float64{volts, 1.2, 0, ac}},
		{Tag: tsa.MTRH, Values: [4]float64{297.8, 31, thermocouple, 0}},
	}
	if !has("no-slave") {
		list = append(list, tsa.Environment{Tag: tsa.SBAT, Values: [4]float64{12.9, 1.1, 0, slaveAC}}, tsa.Environment{Tag: tsa.STRH, Values: [4]float64{296, 33, 291, 55.5}})
	}
	return list
}

func (e *environmentBoards) send(ctx context.Context, b []byte) error {
	step := len(b)
	if e.env.Settings.Has("dribble") {
		step = 1
	}
	for i := 0; i < len(b); i += step {
		if _, err := e.env.Line.send(ctx, b[i:min(i+step, len(b))]); err != nil {
			return err
		}
	}
	return nil
}

func (e *environmentBoards) tick(ctx context.Context, at time.Duration) {
	if e.speedLink() || at%boardsEvery != 0 {
		return
	}
	if e.env.Fast && e.env.Line.client(ctx) != nil {
		return // it is over
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.records(at) {
		frame := r.Append(nil)
		e.sent++
		switch {
		case e.env.Settings.Has("cut") && e.sent%7 == 0:
			frame = append(frame[:len(frame)/2], "\r\n#"...)
		case e.env.Settings.Has("garble") && e.sent%5 == 0:
			frame[len(frame)/2] = 'x'
		}
		if err := e.send(ctx, frame); err != nil {
			if ctx.Err() == nil {
				e.env.Log.Warn("the environmental boards can't talk", "error", err)
			}
			return
		}
	}
}
