//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/simulator"
)

// asLanesim makes the test binary behave as the program, so that the tests run
// what is under test in processes of their own.
const asLanesim = "LANESIM_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asLanesim) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), endSignals...)
		code := execute(ctx, os.Args[1:])
		stop()
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// patience bounds what a test waits for; only a failing test waits so long.
const patience = 60 * time.Second

// lanesim is the program as a command.
func lanesim(t *testing.T, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asLanesim+"=1")
	return cmd
}

// output runs the program to its end.
func output(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := lanesim(t, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// syncBuffer is a buffer that may be read while a process writes to it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running starts the program and gives its output line by line.
func running(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader, *syncBuffer) {
	t.Helper()
	errs := &syncBuffer{}
	cmd := lanesim(t, args...)
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out), errs
}

// all reads what a server says until it hangs up.
func all(t *testing.T, connect string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(connect, "tcp://"))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	b, err := io.ReadAll(c)
	require.NoError(t, err)
	return string(b)
}

func TestList(t *testing.T) {
	out, errs, code := output(t, "list")
	require.Zero(t, code, errs)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	scenarios := simulator.Scenarios()
	require.Len(t, lines, len(scenarios)+2)
	require.Equal(t, "models of instruments: "+strings.Join(simulator.Models(), ", "), lines[len(lines)-1])
	for i, s := range scenarios {
		require.Equal(t, append([]string{s.Name}, strings.Fields(s.Summary)...), strings.Fields(lines[i]))
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"fly"}, 2, `unknown command "fly"`},
		{[]string{"list", "more"}, 2, "want no argument"},
		{[]string{"run", "quiet", "--tell", "127.0.0.1"}, 2, `--tell "127.0.0.1": want HOST:PORT, for instance 127.0.0.1:7490`},
		{[]string{"run"}, 2, "want one scenario"},
		{[]string{"run", "demo", "--speed", "fast"}, 2, "want 1x, 20x"},
		{[]string{"run", "nowhere"}, 1, "nowhere"},
		{[]string{"replay", "/nowhere.csv"}, 1, "no such file"},
		{[]string{"demo", "--speed", "max"}, 2, "--speed 1x or 20x"},
		{[]string{"demo", "--lanepost", "/nowhere/lanepost", "--mqtt", "127.0.0.1:0"}, 1, "/nowhere/lanepost"},
		{[]string{"demo", "--lanepost", "/bin/false", "--mqtt", "127.0.0.1:0"}, 1, "the agent ended by itself (exit status 1)"},
	} {
		_, errs, code := output(t, c.args...)
		require.Equal(t, c.code, code, "%v: %s", c.args, errs)
		require.Contains(t, errs, c.says, "%v", c.args)
		require.Equal(t, c.code == 2, strings.Contains(errs, "--help"), "%v: %s", c.args, errs)
		require.NotContains(t, errs, "%!", "%v", c.args)
	}
}

// A client gets the records of the file byte for byte, without the time column.
func TestReplay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "day.csv")
	require.NoError(t, os.WriteFile(file, []byte(
		"NB,000003,000000,000002,000000,23-59-58.500\r\n"+
			"GB,000387,000383,000414,000361,23-59-58.580\r\n"+
			"QQ\x00\xff no record at all\r\n"+
			"NS,000003,000000,000002,000000,2016-06-01 15:03:45.000 -07\r\n"+
			"GX,000109,006383,000000,000000,00-00-03.500\n"), 0o600))
	want := "NB,000003,000000,000002,000000\r\n" +
		"GB,000387,000383,000414,000361\r\n" +
		"QQ\x00\xff no record at all\r\n" +
		"NS,000003,000000,000002,000000\r\n" +
		"GX,000109,006383,000000,000000\n"
	for _, listen := range []string{"127.0.0.1:0", "tcp://127.0.0.1:0"} {
		cmd, out, errs := running(t, "replay", file, "--listen", listen, "--speed", "max")
		connect, err := out.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, all(t, strings.TrimSpace(connect)))
		require.NoError(t, cmd.Wait(), errs)
		require.Contains(t, errs.String(), fmt.Sprintf("5 lines, 4 with a time, %d bytes sent, 0 lines that nobody received", len(want)))
	}

	// Nobody comes, and Ctrl-C is an orderly end.
	cmd, out, errs := running(t, "replay", file, "--listen", "127.0.0.1:0")
	_, err := out.ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), errs)
}

// A scenario with the truth beside it: the wire's closed occupancies are those of
// the truth.
func TestRunWithTruth(t *testing.T) {
	dir := t.TempDir()
	scenario := filepath.Join(dir, "short.yaml")
	text, err := os.ReadFile(filepath.Join("..", "..", "simulator", "scenarios", "quiet.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(scenario, append([]byte("duration: 30m\n"), text...), 0o600))
	truth := filepath.Join(dir, "truth.jsonl")
	var wires []string
	for range 2 { // the same seed gives the same bytes
		cmd, out, errs := running(t, "run", scenario, "--speed", "max", "--wait", "--truth", truth,
			"--seed", "7", "--listen", "entry-1/rpm-1=tcp://127.0.0.1:0")
		line, err := out.ReadString('\n')
		require.NoError(t, err, errs)
		fields := strings.Fields(line)
		wires = append(wires, all(t, fields[len(fields)-1]))
		require.NoError(t, cmd.Wait(), errs)
	}
	require.Equal(t, wires[0], wires[1])

	b, err := os.ReadFile(truth)
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var entry struct {
			Kind string `json:"kind"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		kinds[entry.Kind]++
	}
	require.Positive(t, kinds["vehicle"])
	require.Positive(t, kinds["occupancy"])
	require.Equal(t, strings.Count(wires[0], "GX,"), kinds["occupancy"])

	_, errs, code := output(t, "run", scenario, "--truth", filepath.Join(dir, "nowhere", "truth"))
	require.Equal(t, 1, code)
	require.Contains(t, errs, "write the truth")
}

// buildLanepost builds the real agent.
func buildLanepost(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lanepost")
	out, err := exec.Command("go", "build", "-o", path, "../lanepost").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// processesOf counts the running processes of a program.
func processesOf(t *testing.T, path string) int {
	t.Helper()
	exes, err := filepath.Glob("/proc/[0-9]*/exe")
	require.NoError(t, err)
	n := 0
	for _, exe := range exes {
		if target, err := os.Readlink(exe); err == nil && target == path {
			n++
		}
	}
	return n
}

// demoTells is what each instrument of the demo tells: of every vehicle but the last few, that
// may be under way, or by itself.
var demoTells = map[string]struct {
	what string
	last int // vehicles; -1 for what is told by itself
}{
	"rpm-1": {"occupancy", 2}, "rpm-2": {"occupancy", 2}, "rpm-3": {"occupancy", 2},
	"anpr-1": {"plate", 2}, "scale-1": {"weight|weighing", 2}, "rfid-1": {"RFID tag", 2}, "plc-1": {"scan ended", 2},
	"xray-1": {"X-ray", 5}, // its files are left to rest before they are read
	"riid-1": {"spectra|IDENTIFICATION|identification", -1}, "area-1": {"(?i)radiation", -1}, "env-1": {"environment", -1},
}

// nobodyStarves holds that each instrument of the demo got its turn: what it tells came, up to
// the last vehicles.
func nobodyStarves(t *testing.T, out string) {
	t.Helper()
	scenario := simulator.MustLoad(t, "demo")
	require.Len(t, demoTells, len(scenario.Lanes[0].Devices), "the demo has other instruments now")
	vehicles := len(regexp.MustCompile(`(?m)^ +\. entry-1: (car|truck|van|bus|motorcycle)`).FindAllString(out, -1))
	require.Greater(t, vehicles, 5, out)
	for _, d := range scenario.Lanes[0].Devices {
		tells, ok := demoTells[d.ID]
		require.True(t, ok, d.ID)
		n := len(regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d\.\d{3}  entry-1/`+d.ID+` +(`+tells.what+`)`).FindAllString(out, -1))
		want := 1
		if tells.last >= 0 {
			want = vehicles - tells.last
		}
		require.GreaterOrEqual(t, n, want, "%s tells too little of %d vehicles:\n%s", d.ID, vehicles, out)
	}
}

func TestDemo(t *testing.T) {
	agent := buildLanepost(t)
	work := t.TempDir() // the demo's working directory goes below it
	t.Setenv("TMPDIR", work)
	args := []string{"demo", "--lanepost", agent, "--mqtt", "127.0.0.1:0", "--speed", "20x"}
	nothingStays := func(t *testing.T) {
		require.Eventually(t, func() bool { return processesOf(t, agent) == 0 }, patience, 10*time.Millisecond)
	}

	t.Run("plain lines without a terminal", func(t *testing.T) {
		began := time.Now()
		out, errs, code := output(t, append(args, "--for", "12s", "--speed", "10x")...)
		require.Zero(t, code, "%s\n%s", out, errs)
		require.Empty(t, errs)
		require.GreaterOrEqual(t, time.Since(began), 12*time.Second)
		require.NotContains(t, out, "\x1b", "no colour, no footer")
		require.NotContains(t, out, "\r")
		require.Contains(t, out, "mosquitto_sub -h 127.0.0.1 -p ")
		require.Contains(t, out, "agent started")
		require.Contains(t, out, "agent stopped  signal: terminated")
		require.Regexp(t, `\d\d:\d\d:\d\d\.\d{3}  \S+/\S+ +online  tcp://`, out)
		require.Regexp(t, `\d\d:\d\d:\d\d\.\d{3}  \S+/\S+ +online  serial:`, out)
		require.Regexp(t, `\n\d+ events received in \d+s, \d+ of them alarms; 0 events left in the buffer.\n$`, out)
		require.NotContains(t, out, "not an event")
		nobodyStarves(t, out)
		nothingStays(t)
		left, err := os.ReadDir(work)
		require.NoError(t, err)
		require.Empty(t, left, "the working directory is gone")
	})
	for _, c := range []struct {
		name string
		end  func(cmd *exec.Cmd, out io.Closer) error
		code int
	}{
		{"Ctrl-C", func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(os.Interrupt) }, 0},
		{"a closed terminal", func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGHUP) }, 0},
		{"a reader that leaves", func(_ *exec.Cmd, out io.Closer) error { return out.Close() }, 1},
		{"killed", func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Kill() }, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := lanesim(t, args...)
			errs := &syncBuffer{}
			cmd.Stderr = errs
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			lines := bufio.NewReader(out)
			page := ""
			for {
				line, err := lines.ReadString('\n')
				require.NoError(t, err, errs)
				if _, after, ok := strings.Cut(line, "in a browser: "); ok {
					page = strings.TrimSpace(after)
				}
				if strings.Contains(line, "online") {
					break
				}
			}
			require.Positive(t, processesOf(t, agent))
			require.Eventually(t, func() bool {
				answer, err := http.Get(page + "/api/v1/status")
				if err == nil {
					_ = answer.Body.Close()
				}
				return err == nil && answer.StatusCode == http.StatusOK
			}, patience, 10*time.Millisecond, page)
			answer, err := http.Get(page + "/api/v1/simulator")
			require.NoError(t, err)
			told, err := io.ReadAll(answer.Body)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, http.StatusOK, answer.StatusCode, string(told))
			require.Contains(t, string(told), `{"scenario":"demo","speed":20,`)
			require.NoError(t, c.end(cmd, out))
			_, _ = io.Copy(io.Discard, lines)
			_ = cmd.Wait() // its code is looked at below
			require.Equal(t, c.code, cmd.ProcessState.ExitCode(), errs.String())
			nothingStays(t)
		})
	}
}
