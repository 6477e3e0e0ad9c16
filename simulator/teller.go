package simulator

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// toldFaults is how many of the last faults a Teller tells.
const toldFaults = 20

// Teller tells over HTTP what really goes on while a simulation plays, for the page of an
// agent that reads it: any GET or HEAD is answered with a Told as JSON. Give its Take to
// Options.OnTruth, or call it from there.
type Teller struct {
	// Scenario and Speed are what is played; Speed is more than 0.
	Scenario string
	Speed    float64

	mu       sync.Mutex
	vehicles int
	faults   []ToldFault
}

// Told is what a Teller tells. Times are those of the clock on the wall.
type Told struct {
	Scenario string  `json:"scenario"`
	Speed    float64 `json:"speed"`
	// Vehicles counts those that the truth has told of. In a lane whose first device is a
	// tsa-portal they have reached the beam; in another one at least the next vehicle is told
	// before it comes.
	Vehicles int `json:"vehicles"`
	// Faults are the last ones, the oldest first.
	Faults []ToldFault `json:"faults"`
}

// ToldFault is one fault that the scenario has.
type ToldFault struct {
	// Device is "lane/id", or the lane alone where it happens in the world.
	Device string `json:"device"`
	// Fault is its kind, Effect what it does, in words.
	Fault  string `json:"fault"`
	Effect string `json:"effect"`
	// At is when it began, Until when it ends; equal for an instant.
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
	// Standing is true until then.
	Standing bool `json:"standing"`
}

// Take notes an entry of the truth at the moment at which it happens.
func (t *Teller) Take(e Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := e.(type) {
	case *VehicleTruth:
		t.vehicles++
	case *FaultTruth:
		f := ToldFault{Device: e.Lane, Fault: e.Fault, Effect: e.Effect, At: time.Now().UTC().Truncate(time.Millisecond)}
		if e.Device != "" {
			f.Device = deviceKey(e.Lane, e.Device)
		}
		f.Until = f.At.Add(time.Duration(max(0, e.UntilS-e.AtS) / t.Speed * float64(time.Second))).Truncate(time.Millisecond)
		if len(t.faults) == toldFaults {
			t.faults = t.faults[1:]
		}
		t.faults = append(t.faults, f)
	}
}

// ServeHTTP implements http.Handler.
func (t *Teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	now := time.Now()
	t.mu.Lock()
	told := Told{Scenario: t.Scenario, Speed: t.Speed, Vehicles: t.vehicles, Faults: append([]ToldFault{}, t.faults...)}
	t.mu.Unlock()
	for i := range told.Faults {
		told.Faults[i].Standing = now.Before(told.Faults[i].Until)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told) // who asked is gone otherwise
}
