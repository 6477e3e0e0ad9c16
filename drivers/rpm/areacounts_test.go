package rpm

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/event"
)

// counting is an instrument that counts, over a network that holds its answers up: link and host
// with a clock of its own.
type counting struct {
	drivers.MemoryLedger
	now, deadline, end time.Time
	rate               func(at time.Duration) float64 // in pSv a second
	delay              func(at time.Duration) time.Duration
	dose               float64
	counted            time.Time
	answers            []answer
	requests           int
	list               []drivers.Observation
}

type answer struct {
	at    time.Time
	frame string
}

func (c *counting) since() time.Duration { return c.now.Sub(drivers.ScriptStart()) }

// Write takes a request: it is answered with the dose of the moment.
func (c *counting) Write(b []byte) (int, error) {
	for ; c.counted.Before(c.now); c.counted = c.counted.Add(10 * time.Millisecond) {
		c.dose += c.rate(c.counted.Sub(drivers.ScriptStart())) / 100
	}
	c.requests++
	c.answers = append(c.answers, answer{c.now.Add(c.delay(c.since())), dose(uint64(c.dose))})
	return len(b), nil
}

func (c *counting) Read(b []byte) (int, error) {
	if len(c.answers) > 0 && !c.answers[0].at.After(c.deadline) {
		a := c.answers[0]
		c.answers = c.answers[1:]
		if a.at.After(c.now) {
			c.now = a.at
		}
		return copy(b, a.frame), nil
	}
	if c.now = c.deadline; c.now.After(c.end) {
		return 0, link.ErrUnplugged
	}
	return 0, os.ErrDeadlineExceeded
}

func (c *counting) SetReadDeadline(t time.Time) error { c.deadline = t; return nil }
func (c *counting) Close() error                      { return nil }
func (c *counting) Now() time.Time                    { return c.now }
func (c *counting) Valid()                            {}
func (c *counting) Unparsed(string, []byte)           {}
func (c *counting) Ledger() drivers.Ledger            { return &c.MemoryLedger }
func (c *counting) Log() *slog.Logger                 { return slog.New(slog.DiscardHandler) }
func (c *counting) Emit(o drivers.Observation) error  { c.list = append(c.list, o); return nil }

func askCounting(t *testing.T, lasts time.Duration, rate func(time.Duration) float64, delay func(time.Duration) time.Duration) (*counting, error) {
	t.Helper()
	start := drivers.ScriptStart()
	c := &counting{now: start, counted: start, end: start.Add(lasts), rate: rate, delay: delay, dose: 1e6}
	err := monitor(t, func(s *AreaSettings) {
		s.Format, s.AlarmAboveUSvH, s.Channels = "berthold-lb6420", 1, []string{"total", "", "", ""}
	}).Run(t.Context(), c, c)
	return c, err
}

// between are the lowest and the highest rate that were told.
func between(list []drivers.Observation) (low, high float64) {
	low = 1e9
	for _, o := range list {
		if e, ok := o.Data.(event.RadiationRate); ok {
			for _, c := range e.Channels {
				low, high = min(low, c.Min), max(high, c.Max)
			}
		}
	}
	return low, high
}

func steady(time.Duration) float64 { return 28 } // 0.1 uSv/h

// stalls holds answers up to requests between two moments, until the second.
func stalls(from, to time.Duration) func(time.Duration) time.Duration {
	return func(at time.Duration) time.Duration {
		if at < from {
			return 0
		}
		return max(0, to-at)
	}
}

// Answers that a stalled network has held up make no rate that was not there, and no alarm.
func TestStalledAnswersMakeNoAlarm(t *testing.T) {
	for name, delay := range map[string]func(time.Duration) time.Duration{
		"none":         func(time.Duration) time.Duration { return 0 },
		"steady":       func(time.Duration) time.Duration { return 300 * time.Millisecond },
		"a stall":      stalls(5*time.Second, 14900*time.Millisecond),
		"now and then": func(at time.Duration) time.Duration { return at % (7 * time.Second) / 2 },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := askCounting(t, 2*time.Minute, steady, delay)
			require.ErrorIs(t, err, link.ErrUnplugged)
			for _, w := range said(t, c.list) {
				require.Regexp(t, "^rate ", w)
			}
			low, high := between(c.list)
			require.Greater(t, low, 0.06)
			require.Less(t, high, 0.17)
			require.Greater(t, c.requests, 30)
		})
	}
}

// Its own alarm by doses: as soon as it is there, through a stall, and over when it is over.
func TestAlarmOfDoses(t *testing.T) {
	rate := func(at time.Duration) float64 {
		if at >= 30*time.Second && at < 40*time.Second {
			return 2800
		}
		return 28
	}
	for name, stall := range map[string]time.Duration{"no stall": 0, "a stall in it": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			c, err := askCounting(t, 90*time.Second, rate, stalls(33*time.Second, 33*time.Second+stall))
			require.ErrorIs(t, err, link.ErrUnplugged)
			words := slices.DeleteFunc(said(t, c.list), func(w string) bool { return w[:4] == "rate" })
			require.Len(t, words, 2, fmt.Sprint(words))
			require.Regexp(t, "^own total raised by agent ", words[0])
			require.Regexp(t, "^own total cleared by agent 0.1", words[1])
			for _, o := range c.list {
				if e, ok := o.Data.(event.RadiationRateAlarm); ok && e.State == "raised" {
					require.Less(t, o.Time.Sub(drivers.ScriptStart()), 33*time.Second)
				}
			}
		})
	}
}

// A request that is not answered ends the connection.
func TestNoAnswerEndsTheConnection(t *testing.T) {
	c, err := askCounting(t, time.Hour, steady, func(at time.Duration) time.Duration { return at / (5 * time.Second) * time.Hour })
	require.ErrorIs(t, err, errNoAnswer)
	require.Equal(t, 15*time.Second, c.since())
	require.Equal(t, 6, c.requests, "one is open at a time")
}

// What comes unasked may come in pieces, and is not cut off because something is to be asked.
func TestUnaskedInPieces(t *testing.T) {
	script := []drivers.Chunk{{Bytes: []byte(dose(1000) + dose(1000))}}
	for i := range 20 {
		at := 700*time.Millisecond + time.Duration(i)*1200*time.Millisecond
		frame := dose(uint64(1034 + 34*i))
		script = append(script, drivers.Chunk{At: at, Bytes: []byte(frame[:300])}, drivers.Chunk{At: at + 500*time.Millisecond, Bytes: []byte(frame[300:])})
	}
	p, err := drivers.Play(t.Context(), monitor(t, func(s *AreaSettings) {
		s.Format, s.AlarmAboveUSvH, s.Channels = "berthold-lb6420", 1, []string{"total", "", "", ""}
	}), script)
	require.NoError(t, err)
	low, high := between(p.Observations)
	require.Greater(t, low, 0.06)
	require.Less(t, high, 0.17)
}

// Answers to somebody else's requests, of which ten were held up and come at once.
func TestStalledAnswersUnasked(t *testing.T) {
	for _, asks := range []bool{false, true} {
		v := uint64(1000000)
		next := func() string {
			v += 28
			return dose(v)
		}
		var script []drivers.Chunk
		for i := range 5 {
			script = append(script, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: []byte(next())})
		}
		var burst []byte
		for range 10 {
			burst = append(burst, next()...)
		}
		script = append(script, drivers.Chunk{At: 14900 * time.Millisecond, Bytes: burst})
		for i := 15; i < 18; i++ {
			script = append(script, drivers.Chunk{At: time.Duration(i) * time.Second, Bytes: []byte(next())})
		}
		p, err := drivers.Play(t.Context(), monitor(t, func(s *AreaSettings) {
			s.Format, s.AlarmAboveUSvH, s.Ask, s.Channels = "berthold-lb6420", 1, asks, []string{"total", "", "", ""}
		}), script)
		require.NoError(t, err)
		require.Equal(t, []string{"rate 2 total 0.1008 0.1008 0.1008 0.1008 uSv/h alarms_unknown", "rate 16 total 0.1008 0.1008 0.1008 0.1008 uSv/h alarms_unknown"}, said(t, p.Observations))
	}
}
