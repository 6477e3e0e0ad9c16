//go:build linux

package agent

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/agent/spool"
)

// told is a service manager that remembers what it was told.
type told struct {
	mu   sync.Mutex
	list []string
}

func (m *told) tell(message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, message)
	return nil
}

func (m *told) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.list...)
}

// signs counts the signs of life.
func (m *told) signs() (n int) {
	for _, one := range m.all() {
		if one == "WATCHDOG=1" {
			n++
		}
	}
	return n
}

// An agent with its spool and a device, from its start to its stop.
func TestServiceManagerIsTold(t *testing.T) {
	p := newPortal(t)
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://"+p.ln.Addr().String()))
	m := &told{}
	b.service = Service{Tell: m.tell, Watchdog: 200 * time.Millisecond}
	b.startWith(b)
	p.accept()
	p.say(background)
	b.waitFor("lanepost.device.online.v1", 1)
	require.Eventually(t, func() bool { return m.signs() >= 3 }, patience, 5*time.Millisecond)
	b.reload <- struct{}{}
	b.waitFor("lanepost.agent.config-changed.v1", 1)
	require.NoError(t, os.WriteFile(b.path, []byte("site: a\nlines: 3\n"), 0o600))
	b.reload <- struct{}{}
	b.waitFor("lanepost.agent.config-changed.v1", 2)
	require.NoError(t, b.stop())

	var states []string
	for _, one := range m.all() {
		if one != "WATCHDOG=1" && !strings.HasPrefix(one, "STATUS=") {
			states = append(states, one)
		}
	}
	require.Len(t, states, 6, "%q", states)
	require.Regexp(t, `^READY=1\nSTATUS=[01] of 1 device online, \d events? waits?, no broker is configured$`, states[0])
	require.Regexp(t, `^RELOADING=1\nMONOTONIC_USEC=[1-9]\d*$`, states[1])
	require.Regexp(t, `^READY=1\nSTATUS=1 of 1 device online, \d+ events wait, no broker is configured$`, states[2])
	require.Regexp(t, `^RELOADING=1\n`, states[3])
	require.Regexp(t, `^READY=1\nSTATUS=reload: the configuration file is not valid .* unknown key "lines".*; 1 of 1 device online, `, states[4])
	require.Equal(t, "STOPPING=1\nSTATUS=stops: the test ends it", states[5])
}

// While the disk takes nothing at the start, devices are not read and the agent is not
// ready; the start is given more time, since the delivery may make room.
func TestServiceStartWaitsForTheDisk(t *testing.T) {
	disk := smallDisk(t)
	p := newPortal(t)
	b := newBench(t, writeConfig(t, disk, "tcp://"+p.ln.Addr().String()))
	// An identity first: without one the agent waits elsewhere.
	b.startWith(b)
	p.accept()
	require.NoError(t, b.stop())

	giveBack := fill(t, disk)
	b = newBench(t, b.path)
	m := &told{}
	b.service = Service{Tell: m.tell, Watchdog: 200 * time.Millisecond}
	b.startWith(b)
	extended := func() bool {
		for _, one := range m.all() {
			if one == "EXTEND_TIMEOUT_USEC=30000000" {
				return true
			}
		}
		return false
	}
	require.Eventually(t, extended, patience, 5*time.Millisecond, lazy(b.logged))
	for _, one := range m.all() {
		require.NotContains(t, one, "READY=1")
	}
	giveBack()
	require.Eventually(t, func() bool { return strings.Contains(strings.Join(m.all(), "\n"), "READY=1") }, patience, 5*time.Millisecond)
	require.NoError(t, b.stop())
}

// testPulse is the pulse of an agent whose loop is the test, in a synctest bubble.
func testPulse(t *testing.T, probe func() error) (*pulse, *told) {
	sp, err := spool.Open(t.TempDir(), spool.Options{})
	require.NoError(t, err)
	m := &told{}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	a := &Agent{opts: Options{Service: Service{Tell: m.tell, Watchdog: time.Minute}}, log: log, spool: sp, cfg: &config.Config{}}
	p := startPulse(a)
	p.probe = probe
	p.mu.Lock()
	p.phase = running
	p.mu.Unlock()
	t.Cleanup(func() {
		p.close()
		require.NoError(t, sp.Close())
	})
	return p, m
}

// A loop that stands still gets no sign of life, unless it is for a disk.
func TestWatchdog(t *testing.T) {
	well := func() error { return nil }
	bad := func() error { return errors.New("no space left on device") }
	signsIn := func(m *told, d time.Duration) int {
		before := m.signs()
		time.Sleep(d)
		synctest.Wait()
		return m.signs() - before
	}
	t.Run("comes round", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, m := testPulse(t, well)
			for range 60 {
				p.beat()
				require.Equal(t, 1, signsIn(m, serviceLook))
			}
		})
	})
	t.Run("hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, m := testPulse(t, well)
			require.Equal(t, 5, signsIn(m, 29*time.Second), "half the watchdog's time")
			signsIn(m, 20*time.Second) // the disk is looked at
			require.Zero(t, signsIn(m, 5*time.Minute))
			require.Equal(t, "STATUS=the agent hangs; systemd ends it and starts it anew", m.all()[len(m.all())-1])
			p.beat()
			require.Equal(t, 6, signsIn(m, 26*time.Second), "it has come round after all")
		})
	})
	t.Run("the disk refuses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, m := testPulse(t, bad)
			require.Equal(t, 720, signsIn(m, time.Hour))
			require.Contains(t, m.all(), "STATUS=the agent waits for its disk: no space left on device")
		})
	})
	t.Run("the disk hangs, then answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			free := make(chan struct{})
			probes := 0
			p, m := testPulse(t, func() error { probes++; <-free; return nil })
			require.Equal(t, 720, signsIn(m, time.Hour))
			require.Contains(t, m.all(), "STATUS=the agent waits for a disk that does not answer")
			require.Equal(t, 1, probes, "never a second one beside it")
			close(free)
			p.beat()
			require.Equal(t, 5, signsIn(m, 26*time.Second))
		})
	})
	t.Run("events are refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, m := testPulse(t, well)
			p.a.setRefused(1, errors.New("as many urgent events wait as may"))
			require.Equal(t, 720, signsIn(m, time.Hour))
			require.Contains(t, m.all(), "STATUS=events can't be kept, instruments wait: as many urgent events wait as may")
			p.a.setRefused(-1, nil)
			signsIn(m, 20*time.Second)
			require.Zero(t, signsIn(m, 5*time.Minute))
		})
	})
	t.Run("the spool hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, m := testPulse(t, well)
			require.NoError(t, p.a.spool.Close()) // its goroutine comes round no more
			for range 12 {
				p.beat()
				signsIn(m, serviceLook)
			}
			for range 12 {
				p.beat()
				require.Zero(t, signsIn(m, serviceLook))
			}
		})
	})
	t.Run("stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p, m := testPulse(t, well)
			p.stops(errors.New("signal: terminated"))
			require.Equal(t, 24, signsIn(m, 2*time.Minute), "the stop has a time limit of its own")
		})
	})
}

func TestServiceStatusIsOneShortLine(t *testing.T) {
	require.Equal(t, "STATUS=a b c", ServiceStatus("a\nb\t c\n"))
	long := ServiceStatus(strings.Repeat("\u00e4 ", 1000) + "\xff")
	require.LessOrEqual(t, len(long), maxStatus+20)
	require.Regexp(t, regexp.MustCompile(`^STATUS=[^\n]+ \.\.\.$`), long)
}

// The probe leaves nothing behind, and says what the disk says.
func TestProbeOfTheDisk(t *testing.T) {
	disk := smallDisk(t)
	a := &Agent{cfg: &config.Config{Spool: config.Spool{Dir: disk}}}
	p := &pulse{a: a}
	require.NoError(t, p.probeDisk())
	entries, err := os.ReadDir(disk)
	require.NoError(t, err)
	require.Empty(t, entries)
	giveBack := fill(t, disk)
	require.ErrorContains(t, p.probeDisk(), "no space left")
	giveBack()
	require.NoError(t, p.probeDisk())
}

// systemd waits longer than the agent does.
func TestUnitGivesTheAgentItsTime(t *testing.T) {
	b, err := os.ReadFile("../deploy/package/lanepost.service")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)s$`).FindSubmatch(b)
	require.NotNil(t, found)
	seconds, err := strconv.Atoi(string(found[1]))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Duration(seconds)*time.Second, 3*stopGrace)
	require.Contains(t, string(b), "\nWatchdogSec=2min\n")
	require.Greater(t, 2*time.Minute/2, 4*tickEvery, "the loop comes round often enough")
}
