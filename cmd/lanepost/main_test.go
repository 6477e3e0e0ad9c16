package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// asLanepost makes the test binary behave as the program, so that the tests run
// what is under test, race detector included, in processes of their own.
const asLanepost = "LANEPOST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asLanepost) != "" {
		stop := profile(os.Getenv(cpuProfile))
		code := execute(context.Background(), os.Args[1:])
		stop()
		os.Exit(code)
	}
	if os.Getenv(asBarePublisher) != "" {
		os.Exit(barePublisher(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// patience bounds what a test waits for. It is generous: only a failing test
// waits so long.
const patience = 60 * time.Second

// lanepost is the program as a command.
func lanepost(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asLanepost+"=1")
	return cmd
}

// output runs the program to its end.
func output(t *testing.T, args ...string) (text string, code int) {
	t.Helper()
	var b bytes.Buffer
	cmd := lanepost(args...)
	cmd.Stdout, cmd.Stderr = &b, &b
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// process is a running agent.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{}

	mu     sync.Mutex
	cond   *sync.Cond
	events []event.Event
	lines  [][]byte
	ended  bool
}

// syncBuffer is a bytes.Buffer that may be read while a process writes to it.
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

// start runs the agent on a configuration and collects what it prints.
func start(t *testing.T, configPath string) *process {
	t.Helper()
	return startCommand(t, lanepost("run", "--config", configPath, "--stdout"))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, log: &syncBuffer{}, done: make(chan struct{})}
	p.cond = sync.NewCond(&p.mu)
	cmd.Stderr = p.log
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.done)
		r := bufio.NewReader(stdout)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				break // a line without its end was not finished before a kill
			}
			e, err := event.Parse(line)
			p.mu.Lock()
			if err != nil {
				fmt.Fprintf(p.log, "NOT AN EVENT: %v: %s", err, line)
			} else {
				p.events = append(p.events, e)
				p.lines = append(p.lines, bytes.TrimSuffix(line, []byte("\n")))
			}
			p.cond.Broadcast()
			p.mu.Unlock()
		}
		_ = cmd.Wait()
		p.mu.Lock()
		p.ended = true
		p.cond.Broadcast()
		p.mu.Unlock()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("the agent's log:\n%s", p.log.String())
		}
	})
	return p
}

// seen is what has been printed so far.
func (p *process) seen() []event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]event.Event(nil), p.events...)
}

// wait waits until enough says that the events so far are enough.
func (p *process) wait(what string, enough func([]event.Event) bool) []event.Event {
	p.t.Helper()
	timer := time.AfterFunc(patience, p.cond.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for !enough(p.events) {
		if p.ended || time.Now().After(deadline) {
			var types []string
			for _, e := range p.events {
				types = append(types, e.Type)
			}
			p.t.Fatalf("waited for %s in vain; the agent printed %d events: %s\nits log:\n%s",
				what, len(p.events), strings.Join(types, " "), p.log.String())
		}
		p.cond.Wait()
	}
	return append([]event.Event(nil), p.events...)
}

// waitFor waits for the n-th event of a type.
func (p *process) waitFor(typ string, n int) event.Event {
	p.t.Helper()
	var found event.Event
	p.wait(fmt.Sprintf("event %d of %s", n, typ), func(list []event.Event) bool {
		i := 0
		for _, e := range list {
			if e.Type == typ {
				if i++; i == n {
					found = e
					return true
				}
			}
		}
		return false
	})
	return found
}

// stop ends the agent in good order and returns all that it printed.
func (p *process) stop() []event.Event {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("the agent did not stop; its log:\n%s", p.log.String())
	}
	require.Zero(p.t, p.cmd.ProcessState.ExitCode(), "the agent's log:\n%s", p.log.String())
	return p.seen()
}

// writeConfig writes a configuration with its spool in a directory of the test.
func writeConfig(t testing.TB, devices string, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "lanepost.yaml")
	text := "site: test\nlanes:\n  - id: entry-1\n    devices:\n" + devices +
		"spool:\n  dir: " + filepath.Join(dir, "spool") + "\n" + strings.Join(more, "")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// deviceYAML is one device of writeConfig.
func deviceYAML(id, profile, connect string, more ...string) string {
	s := fmt.Sprintf("      - id: %s\n        profile: %s\n        connect: %s\n", id, profile, connect)
	for _, m := range more {
		s += "        " + m + "\n"
	}
	return s
}

// decode gives the data of an event.
func decode[T event.Data](t *testing.T, e event.Event) T {
	t.Helper()
	d, err := event.DecodeData(e)
	require.NoError(t, err)
	v, ok := d.(T)
	require.True(t, ok, "%s decodes to %T", e.Type, d)
	return v
}

// all gives the data of all events of T's type.
func all[T event.Data](t *testing.T, list []event.Event, typ string) []T {
	t.Helper()
	var out []T
	for _, e := range list {
		if e.Type == typ {
			out = append(out, decode[T](t, e))
		}
	}
	return out
}

// freePort is a port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// mosquitto starts a real broker with the given configuration lines.
func mosquitto(t testing.TB, port int, lines ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("mosquitto is not installed; `make test` fetches it")
		}
		t.Skip("mosquitto is not installed; `make test` fetches it")
	}
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\n%s\n", port, strings.Join(lines, "\n"))
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	cmd := exec.Command(path, "-c", conf)
	log := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("mosquitto's log:\n%s", log.String())
		}
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		_ = c.Close()
		// Somebody else may have had the port for a moment.
		return strings.Contains(log.String(), " running")
	}, patience, 10*time.Millisecond, "mosquitto did not come up: %s", log)
	return cmd
}

var _ io.Writer = (*syncBuffer)(nil)
