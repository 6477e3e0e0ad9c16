package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// simulatorTimeout bounds a question to the simulator, maxSimulated its answer.
	simulatorTimeout = 2 * time.Second
	maxSimulated     = 64 << 10
)

// Simulated is what the simulator tells of the lane that it plays, so that what the agent
// shows can be compared with it.
type Simulated struct {
	// Scenario is what is played, Speed how much faster than the clock.
	Scenario string  `json:"scenario"`
	Speed    float64 `json:"speed"`
	// Vehicles counts those that it has told of; the last ones may be about to come.
	Vehicles int `json:"vehicles"`
	// Faults are the last ones that the scenario has, the oldest first.
	Faults []SimulatedFault `json:"faults"`
}

// SimulatedFault is one fault of a scenario.
type SimulatedFault struct {
	// Device is "lane/id", or the lane alone.
	Device string `json:"device"`
	// Fault is its kind, Effect what it does, in words.
	Fault  string `json:"fault"`
	Effect string `json:"effect"`
	// At is when it began, Until when it ends; equal for an instant. Standing is true until
	// then.
	At       time.Time `json:"at"`
	Until    time.Time `json:"until"`
	Standing bool      `json:"standing"`
}

// simulatorClient goes nowhere else, wherever it is sent.
var simulatorClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// simulated gives what the simulator tells, if one plays the instruments.
func (c *Console) simulated(w http.ResponseWriter, r *http.Request) {
	from := c.o.Simulator()
	if from == "" {
		fail(w, http.StatusNotFound, "console.simulator names no simulator: these instruments are real")
		return
	}
	s, err := askSimulator(r.Context(), from)
	if err != nil {
		fail(w, http.StatusBadGateway, fmt.Sprintf("the simulator at %s does not tell what it plays: %v", from, err))
		return
	}
	answer(w, http.StatusOK, s)
}

func askSimulator(ctx context.Context, from string) (s Simulated, err error) {
	ctx, cancel := context.WithTimeout(ctx, simulatorTimeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return s, err
	}
	a, err := simulatorClient.Do(q)
	if err != nil {
		return s, err
	}
	defer a.Body.Close() //nolint:errcheck // it is read as far as it is wanted
	if a.StatusCode != http.StatusOK {
		return s, fmt.Errorf("it answers %s", a.Status)
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, maxSimulated)).Decode(&s); err != nil {
		return s, fmt.Errorf("its answer is not understood: %w", err)
	}
	if s.Faults == nil {
		s.Faults = []SimulatedFault{}
	}
	return s, nil
}
