package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lanepost/lanepost/agent"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// quietLane is two portals with little traffic.
func quietLane(t *testing.T, speed float64) *simulator.Simulation {
	t.Helper()
	scenario := simulator.MustLoad(t, "busy")
	scenario.Duration = 0
	return simulator.Start(t, scenario, simulator.Options{Speed: speed})
}

func devicesOf(sim *simulator.Simulation) string {
	var s string
	for i, d := range sim.Devices() {
		s += deviceYAML(fmt.Sprintf("rpm-%d", i+1), "rapiscan-tsa", d.Connect)
	}
	return s
}

func TestReloadRestartsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	sim := quietLane(t, 20)
	path := writeConfig(t, devicesOf(sim))
	p := start(t, path)
	p.waitFor("lanepost.device.online.v1", 2)

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	edit := func(change func(string) string) {
		require.NoError(t, os.WriteFile(path, []byte(change(string(text))), 0o600))
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	}

	// A broken file changes nothing, and says so.
	edit(func(s string) string { return strings.Replace(s, "site:", "sight:", 1) })
	changed := decode[*event.AgentConfigChanged](t, p.waitFor("lanepost.agent.config-changed.v1", 1))
	require.False(t, changed.Applied)
	require.Contains(t, strings.Join(changed.Problems, "\n"), `unknown key "sight"`)

	// One device changes; the other's connection stands.
	edit(func(s string) string {
		return strings.Replace(s, "id: rpm-2\n", "id: rpm-2\n        silence: 40s\n", 1)
	})
	changed = decode[*event.AgentConfigChanged](t, p.waitFor("lanepost.agent.config-changed.v1", 2))
	require.True(t, changed.Applied)
	require.Equal(t, []string{"entry-1/rpm-2"}, changed.Changed)
	require.Empty(t, changed.Added)
	require.Empty(t, changed.Removed)
	online := p.waitFor("lanepost.device.online.v1", 3)
	require.Equal(t, "/test/entry-1/rpm-2", online.Source)

	// One is taken out.
	edit(func(s string) string {
		first, _, _ := strings.Cut(s, "      - id: rpm-2")
		_, rest, _ := strings.Cut(s, "spool:")
		return first + "spool:" + rest
	})
	changed = decode[*event.AgentConfigChanged](t, p.waitFor("lanepost.agent.config-changed.v1", 3))
	require.Equal(t, []string{"entry-1/rpm-2"}, changed.Removed)

	events := p.stop()
	for _, e := range events {
		if e.Source == "/test/entry-1/rpm-1" {
			require.NotContains(t, []string{"lanepost.device.offline.v1", "lanepost.device.silent.v1"}, e.Type, "rpm-1 was disturbed")
		}
	}
	require.Equal(t, "lanepost.agent.stopped.v1", events[len(events)-1].Type)
	require.Equal(t, "signal: terminated", decode[*event.AgentStopped](t, events[len(events)-1]).Reason)
}

func TestStartsSayHowTheLastRunEnded(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, "")
	path = strings.TrimSuffix(path, "lanepost.yaml") + "lanepost.yaml"
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(b, []byte("devices:\n"), []byte("devices: []\n"), 1), 0o600))
	started := func(p *process) *event.AgentStarted {
		return decode[*event.AgentStarted](t, p.waitFor("lanepost.agent.started.v1", 1))
	}
	p := start(t, path)
	require.Equal(t, "none", started(p).PreviousStop)
	first := p.stop()
	p = start(t, path)
	require.Equal(t, "clean", started(p).PreviousStop)
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	p = start(t, path)
	s := started(p)
	require.Equal(t, "unclean", s.PreviousStop)
	require.NotNil(t, s.LastAlive)
	last := p.stop()
	require.Equal(t, first[0].Agent, last[0].Agent, "an agent keeps its id")
	require.Greater(t, last[0].Sequence, first[len(first)-1].Sequence)

	// A damaged identity does not keep the lane unobserved.
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "spool", "agent.json"), []byte("{"), 0o600))
	p = start(t, path)
	require.Equal(t, "damaged", started(p).PreviousStop)
	require.NotEqual(t, first[0].Agent, p.stop()[0].Agent)
}

func TestBadConfigurationIsToldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte("site: a\nlanes: []\nmqtt:\n  brokers: []\n  windw: 3\n"), 0o600))
	text, code := output(t, "run", "--config", path)
	require.Equal(t, 78, code)
	require.Equal(t, "lanepost: "+path+`:4:12: mqtt.brokers is empty
      brokers: []
               ^
    hint: name at least one broker, or take the mqtt section out
`+path+`:5:3: unknown key "windw" in mqtt
      windw: 3
      ^
    hint: did you mean "window"?
`, text)

	text, code = output(t, "run", "--config", filepath.Join(t.TempDir(), "none.yaml"))
	require.Equal(t, 78, code)
	require.Contains(t, text, "no such file")

	text, code = output(t, "run", "--konfig", "x")
	require.Equal(t, 2, code)
	require.Contains(t, text, "Try: lanepost run --help")
	text, code = output(t, "fly")
	require.Equal(t, 2, code)
	require.Contains(t, text, `unknown command "fly"`)
	text, code = output(t, "--version")
	require.Zero(t, code)
	require.Contains(t, text, "lanepost version development, commit ")
	text, code = output(t, "version")
	require.Zero(t, code)
	require.Regexp(t, `^lanepost development, commit unknown of unknown, go1\.\S+ linux/\w+\n$`, text)
}

func TestTwoAgentsOnOneSpool(t *testing.T) {
	sim := quietLane(t, 20)
	path := writeConfig(t, devicesOf(sim))
	p := start(t, path)
	p.waitFor("lanepost.agent.started.v1", 1)
	text, code := output(t, "run", "--config", path)
	require.Equal(t, 1, code)
	require.Contains(t, text, "in use")
	p.stop()
}

// A reader of --stdout that leaves takes nobody along.
func TestStdoutMayGoAway(t *testing.T) {
	sim := quietLane(t, 20)
	cmd := lanepost("run", "--config", writeConfig(t, devicesOf(sim)), "--stdout")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	log := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = w, log
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	one := make([]byte, 1)
	_, err = io.ReadFull(r, one)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "standard output is gone") }, patience, 20*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "the log: %s", log)
}

func TestCheck(t *testing.T) {
	scenario := simulator.MustLoad(t, "busy")
	scenario.Duration = 0
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
	port := freePort(t)
	mosquitto(t, port)
	broker := fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port)

	text, code := output(t, "check", "--config", writeConfig(t, devicesOf(sim), broker))
	require.Zero(t, code, text)
	require.NotContains(t, text, "FAILED")
	require.Regexp(t, `entry-1/rpm-1 +reachable +ok +tcp://`, text)
	require.Regexp(t, `entry-1/rpm-1 +protocol +ok +speaks rapiscan-tsa`, text)
	require.Regexp(t, `entry-1/rpm-1 +fresh data +ok +first record`, text)
	require.Regexp(t, `broker +TCP +ok +tcp://127.0.0.1:\d+: connected`, text)
	require.Regexp(t, `broker +passed on +ok`, text)
	require.Regexp(t, `broker +packet size +ok`, text)

	// Everything that can be wrong, at once. A listener that says nothing and
	// one that talks nonsense stand for a dead portal and a wrong profile.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer mute.Close()
	babble, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer babble.Close()
	go func() {
		c, err := babble.Accept()
		if err != nil {
			return
		}
		for err == nil {
			_, err = c.Write([]byte("+0040260 kg\r\n"))
			time.Sleep(50 * time.Millisecond)
		}
	}()
	devices := deviceYAML("off", "rapiscan-tsa", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))) +
		deviceYAML("mute", "rapiscan-tsa", "tcp://"+mute.Addr().String()) +
		deviceYAML("babble", "rapiscan-tsa", "tcp://"+babble.Addr().String()) +
		deviceYAML("no-port", "rapiscan-tsa-serial", "serial:/dev/serial/by-id/usb-gone?baud=19200&parity=odd")
	text, code = output(t, "check", "--wait", "1s", "--config", writeConfig(t, devices, fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", freePort(t))))
	require.Equal(t, 1, code)
	require.Contains(t, text, "5 of 12 checks failed")
	require.Regexp(t, `entry-1/off +reachable +FAILED .*connection refused`, text)
	require.Regexp(t, `entry-1/mute +fresh data +FAILED .*nothing came in 1 s`, text)
	require.Regexp(t, `entry-1/babble +protocol +FAILED .*none of them a record of rapiscan-tsa`, text)
	require.Regexp(t, `entry-1/no-port +reachable +FAILED .*usb-gone`, text)
	require.Regexp(t, `broker +TCP +FAILED`, text)
	requireHints(t, text)

	// While the agent runs, its devices are its own.
	path := writeConfig(t, devicesOf(sim), broker)
	p := start(t, path)
	p.waitFor("lanepost.device.online.v1", 2)
	text, code = output(t, "check", "--config", path)
	require.Zero(t, code, text)
	require.Regexp(t, `entry-1/rpm-1 +device +ok +online in the running agent, as rapiscan-tsa, last record`, text)
	require.Regexp(t, `Nothing failed of \d+ checks \(.*1 skipped\)`, text)
	require.NotContains(t, text, "All well")
	p.stop()

	text, code = output(t, "check", "--wait", "-1s", "--config", path)
	require.Equal(t, 2, code)
	require.Contains(t, text, "negative")
}

// requireHints wants each failure and warning of a table to be followed by what to do.
func requireHints(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if f := strings.Fields(l); len(f) > 2 && (strings.Contains(l, " FAILED ") || strings.Contains(l, " warning ")) && f[0] != "->" && strings.Contains(l, "  ") {
			require.Regexp(t, `^ +-> `, lines[i+1], "no hint after: %s\n%s", l, text)
		}
	}
}

// A check run as root before the first start must not leave a spool that the
// agent's user can't write to; and a spool must not be looked for in vain.
func TestCheckLeavesTheSpoolAlone(t *testing.T) {
	path := writeConfig(t, "", "")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	text := strings.Replace(string(b), "devices:\n", "devices: []\n", 1)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	out, code := output(t, "check", "--config", path)
	require.Zero(t, code, out)
	require.Regexp(t, `spool +writable +ok .*is not there yet`, out)
	dir := filepath.Join(filepath.Dir(path), "spool")
	require.NoDirExists(t, dir)

	require.NoError(t, os.Mkdir(dir, 0o700))
	out, code = output(t, "check", "--config", path)
	require.Zero(t, code, out)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)

	// What the agent can't use is told by both commands, with the place.
	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.WriteFile(dir, []byte("a file"), 0o600))
	out, code = output(t, "check", "--config", path)
	require.Equal(t, 1, code)
	require.Contains(t, out, "is not a directory")
	out, code = output(t, "run", "--config", path)
	require.Equal(t, 78, code)
	require.Contains(t, out, dir)
	require.NotContains(t, out, "goroutine")
}

// Signals at awkward moments: a reload before the agent stands, and being told
// to stop more than once.
func TestSignals(t *testing.T) {
	sim := quietLane(t, 20)
	path := writeConfig(t, devicesOf(sim))
	cmd := lanepost("run", "--config", path, "--stdout")
	p := startCommand(t, cmd)
	// From its first moments on: the lock is taken long before the first event.
	lock := filepath.Join(filepath.Dir(path), "spool", "lock")
	require.Eventually(t, func() bool { _, err := os.Stat(lock); return err == nil }, patience, 100*time.Microsecond)
	for range 5 {
		require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	}
	p.waitFor("lanepost.agent.started.v1", 1)
	changed := decode[*event.AgentConfigChanged](t, p.waitFor("lanepost.agent.config-changed.v1", 1))
	require.True(t, changed.Applied)
	p.waitFor("lanepost.device.online.v1", 2)
	for range 3 {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	events := p.stop()
	require.Equal(t, "lanepost.agent.stopped.v1", events[len(events)-1].Type)
}

func TestPorts(t *testing.T) {
	text, code := output(t, "ports")
	require.Zero(t, code, text)
	require.True(t, strings.HasPrefix(text, "PORT") || strings.HasPrefix(text, "No serial port found"), text)
}

// The whole agent runs in this process and leaves nothing behind.
func TestNoGoroutineIsLeft(t *testing.T) {
	port := freePort(t)
	mosquitto(t, port)
	sim := quietLane(t, 50)
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := agent.Run(ctx, agent.Options{
			ConfigPath: writeConfig(t, devicesOf(sim), fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port)),
			Version:    "test", Stdout: w, Log: slog.New(slog.DiscardHandler),
		})
		done <- err
		_ = w.Close()
	}()
	seen := 0
	buf := make([]byte, 1<<20)
	for seen < 50 {
		n, err := r.Read(buf)
		require.NoError(t, err)
		seen += bytes.Count(buf[:n], []byte("\n"))
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	cancel(fmt.Errorf("the test ends it"))
	require.NoError(t, <-done)
	goleak.VerifyNone(t, before)
}

// program builds the real, stripped program.
func program(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lanepost")
	cmd := exec.Command("make", "-s", "-C", filepath.Join("..", ".."), "program", "OUT="+path)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

func TestSmallOnTheBox(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the figures are of Linux")
	}
	path := program(t)
	st, err := os.Stat(path)
	require.NoError(t, err)
	t.Logf("lanepost for %s, stripped: %.1f MB", runtime.GOARCH, float64(st.Size())/1e6)
	if runtime.GOARCH == "amd64" {
		require.Less(t, st.Size(), int64(15_000_000))
	}

	port := freePort(t)
	mosquitto(t, port)
	scenario := simulator.MustLoad(t, "quiet")
	scenario.Duration = 0
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 50})
	other := simulator.Start(t, scenario, simulator.Options{Speed: 50})
	devices := deviceYAML("rpm-1", "rapiscan-tsa", sim.Devices()[0].Connect) + deviceYAML("rpm-2", "rapiscan-tsa", other.Devices()[0].Connect)
	config := writeConfig(t, devices, fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port))
	p := startCommand(t, exec.Command(path, "run", "--config", config, "--stdout"))
	p.waitFor("lanepost.device.online.v1", 2)
	p.wait("traffic", func(list []event.Event) bool { return len(list) >= 20 })
	rss := resident(t, p.cmd.Process.Pid)
	t.Logf("resident with two devices and a broker: %.1f MB", rss)
	require.Less(t, rss, 25.0)
	p.stop()
}

// resident is the resident memory of a process in MB.
func resident(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			return float64(kb) / 1000
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
