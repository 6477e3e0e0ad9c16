package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/capture"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// recording is a `lanepost record` that runs.
type recording struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *syncBuffer
	out  bytes.Buffer
	done chan error
}

func startRecording(t *testing.T, args ...string) *recording {
	t.Helper()
	r := &recording{t: t, cmd: lanepost(append([]string{"record"}, args...)...), log: &syncBuffer{}, done: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, r.log
	require.NoError(t, r.cmd.Start())
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	go func() { r.done <- r.cmd.Wait() }()
	require.Eventually(t, func() bool { return strings.Contains(r.log.String(), "recording ") }, patience, 5*time.Millisecond, "%s", r.log)
	return r
}

// end ends it as Ctrl-C does.
func (r *recording) end() {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGINT))
	require.NoError(r.t, <-r.done, "%s", r.log)
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	require.NoError(t, err)
	return list
}

// replayedOf is what `lanepost replay` prints.
func replayedOf(t *testing.T, args ...string) (events []replayed, text, notes string) {
	t.Helper()
	cmd := lanepost(append([]string{"replay"}, args...)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	require.NoError(t, cmd.Run(), "%s", log.String())
	for _, line := range strings.SplitAfter(out.String(), "\n") {
		if line == "" {
			break
		}
		var e replayed
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		events = append(events, e)
	}
	return events, out.String(), log.String()
}

// While the agent reads a portal, over TCP and through a pseudo-terminal, it is recorded.
// The recording played offline gives the occupancies that the agent recorded, field by
// field but for ids and arrival times; the simulator plays the same bytes from it.
func TestRecordBesideTheAgent(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("testdata/own.csv")
	require.NoError(t, err)
	var wire bytes.Buffer
	_, err = simulator.Replay(t.Context(), bytes.NewReader(own), &wire, simulator.ReplayOptions{})
	require.NoError(t, err)
	want := table(t, "testdata/own.occupancies.csv")
	const settings = "settings: {nsigma: 4.0, groups: [sum, vertical]}"
	for _, l := range []struct{ name, profile, query string }{
		{"tcp", "rapiscan-tsa", ""},
		{"serial", "rapiscan-tsa-serial", "?baud=115200&parity=odd"},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			listen := fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))
			connect := listen
			if l.name == "serial" {
				listen, connect = "pty:"+filepath.Join(dir, "portal"), "serial:"+filepath.Join(dir, "portal")
			}
			config := writeConfig(t, deviceYAML("rpm-1", l.profile, connect+l.query, settings))
			p := start(t, config)
			p.waitFor("lanepost.device.offline.v1", 1)
			rec := startRecording(t, "rpm-1", "--config", config, "--out", dir, "--rotate", "16KiB", "--max-size", "10MB")
			sim, err := simulator.ReplayListen(t.Context(), bytes.NewReader(own), listen, simulator.ReplayOptions{})
			require.NoError(t, err)
			defer sim.Close()
			list := p.wait("every occupancy", occupancies(len(want)))
			p.waitFor("lanepost.device.offline.v1", 2)
			rec.end()
			p.stop()
			require.NotContains(t, rec.out.String(), "missing")

			parts := files(t, dir)
			require.Greater(t, len(parts), 1, "it rotates")
			info, err := os.Stat(parts[0])
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())
			var got, again bytes.Buffer
			for _, part := range parts {
				b, err := os.ReadFile(part)
				require.NoError(t, err)
				src, err := capture.Open(bytes.NewReader(b))
				require.NoError(t, err)
				for e, err := src.Next(); err == nil; e, err = src.Next() {
					got.Write(e.Bytes)
				}
				require.NotNil(t, src.End())
				_, err = simulator.Replay(t.Context(), bytes.NewReader(b), &again, simulator.ReplayOptions{})
				require.NoError(t, err)
			}
			require.Equal(t, wire.String(), got.String())
			require.Equal(t, wire.String(), again.String())

			events, text, notes := replayedOf(t, append([]string{"--config", config}, parts...)...)
			require.Contains(t, notes, "0 pieces not understood")
			_, twice, _ := replayedOf(t, append([]string{"--config", config}, parts...)...)
			require.Equal(t, text, twice, "the same recording prints the same")
			var played []event.Event
			for _, e := range events {
				played = append(played, event.Event{Type: e.Type, Data: e.Data})
			}
			requireOccupancies(t, want, played)
			recorded := all[*event.RadiationOccupancy](t, list, "lanepost.radiation.occupancy.v1")
			for i, o := range all[*event.RadiationOccupancy](t, played, "lanepost.radiation.occupancy.v1") {
				require.JSONEq(t, timeless(t, recorded[i]), timeless(t, o), "occupancy %d", i)
			}
		})
	}
}

// timeless is an occupancy without ids and without what depends on when bytes came.
func timeless(t *testing.T, o *event.RadiationOccupancy) string {
	t.Helper()
	b, err := json.Marshal(o)
	require.NoError(t, err)
	var m map[string]any
	require.NoError(t, json.Unmarshal(b, &m))
	for key := range m {
		if strings.Contains(key, "time") || strings.Contains(key, "duration") || strings.HasSuffix(key, "_s") || strings.HasSuffix(key, "_ts") || strings.HasSuffix(key, "_id") {
			delete(m, key)
		}
	}
	require.Greater(t, len(m), 10)
	b, err = json.Marshal(m)
	require.NoError(t, err)
	return string(b)
}

// Without an agent and without a configuration: the link is opened, reopened when it ends,
// and left when the size is reached. The bytes are served again as they came.
func TestRecordAlone(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		for i := 0; ; i++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, "GB,%06d,000400,000400,000400\r\n", i)
			if i == 0 {
				_ = c.Close()
				continue
			}
			time.Sleep(50 * time.Millisecond) // so that the line is a read of its own
			for range 2000 {
				_, _ = c.Write(bytes.Repeat([]byte{0xff}, 40))
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	dir := t.TempDir()
	rec := startRecording(t, "--connect", "tcp://"+ln.Addr().String(), "--profile", "rapiscan-tsa", "--out", dir, "--max-size", "16KiB")
	require.NoError(t, <-rec.done, "%s", rec.log)
	require.Contains(t, rec.out.String(), "the size that was asked for is reached")
	parts := files(t, dir)
	require.Len(t, parts, 1)
	info, err := os.Stat(parts[0])
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(16<<10))
	b, err := os.ReadFile(parts[0])
	require.NoError(t, err)
	require.Contains(t, string(b), `"mark":"parted"`)
	require.Contains(t, string(b), `"text":"GB,000001,000400,000400,000400\r\n"`)
	_, _, notes := replayedOf(t, parts[0])
	require.Contains(t, notes, "2 connections")
	require.Contains(t, notes, "2 valid records")

	// Cut off, it is played as far as it goes, and that is told.
	require.NoError(t, os.WriteFile(parts[0], b[:len(b)-40], 0o600))
	_, _, notes = replayedOf(t, parts[0])
	require.Contains(t, notes, "was cut off")

	// A mistake names its mend.
	text, code := output(t, "record", "--connect", "http://127.0.0.1:1", "--out", dir)
	require.Equal(t, 1, code)
	require.Contains(t, text, "no stream of bytes")
	text, code = output(t, "record", "--connect", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t)), "--out", dir)
	require.Equal(t, 1, code)
	require.Contains(t, text, "connection refused")
	require.Len(t, files(t, dir), 1, "no file of nothing")
	text, code = output(t, "record", "--connect", "tcp://127.0.0.1:1", "--out", filepath.Join(dir, "stick"))
	require.Equal(t, 1, code)
	require.Contains(t, text, "there is no such directory; make it (mkdir), or mount the disk that it is on")
	require.NoDirExists(t, filepath.Join(dir, "stick"))
	text, code = output(t, "replay", "--profile", "dahua-push", parts[0])
	require.Equal(t, 1, code)
	require.Contains(t, text, "no recording of bytes")
}

// A recording of nothing is a failure, and Ctrl-C is called so.
func TestRecordNothing(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	rec := startRecording(t, "--connect", "tcp://"+ln.Addr().String(), "--out", t.TempDir())
	require.Eventually(t, func() bool { return strings.Contains(rec.log.String(), "Ctrl-C ends it") }, patience, 5*time.Millisecond)
	require.NoError(t, rec.cmd.Process.Signal(os.Interrupt))
	require.Error(t, <-rec.done)
	require.Equal(t, exitFailed, rec.cmd.ProcessState.ExitCode())
	require.Contains(t, rec.out.String(), "(ended by Ctrl-C)")
	require.Contains(t, rec.log.String(), "the recording is empty: nothing came")
}

// A text that is no recording is called so, and one that nobody has read is not dated.
func TestReplayOfSomethingElse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "syslog")
	require.NoError(t, os.WriteFile(file, []byte("Nov 28 10:00:00 box sshd[1]: hello\nNov 28 10:00:01 box sshd[1]: bye\n"), 0o600))
	text, code := output(t, "replay", "--profile", "rapiscan-tsa", file)
	require.Equal(t, exitFailed, code)
	require.NotContains(t, text, "daily file")
	require.Contains(t, text, "no line of it is a record: this is probably no recording, but a log or another text")

	cmd, log, out := lanepost("replay", "--serve", "tcp://127.0.0.1:0", file), &syncBuffer{}, &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, log
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "tcp://") }, patience, 5*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
	require.Equal(t, "nothing of the recording was played\nbytes given: 0\n", log.String())
}

// A recording that is served to an agent gives it the same events, over TCP and through a
// pseudo-terminal.
func TestReplayServe(t *testing.T) {
	t.Parallel()
	want := table(t, "testdata/own.occupancies.csv")
	for _, l := range []struct{ serve, profile, query string }{
		{"tcp://127.0.0.1:0", "rapiscan-tsa", ""},
		{"pty:", "rapiscan-tsa-serial", "?baud=115200&parity=none"},
	} {
		t.Run(l.serve[:3], func(t *testing.T) {
			t.Parallel()
			cmd := lanepost("replay", "--serve", l.serve, "--speed", "max", "testdata/own.csv")
			out := &syncBuffer{}
			cmd.Stdout = out
			require.NoError(t, cmd.Start())
			defer cmd.Process.Kill()
			require.Eventually(t, func() bool { return strings.HasSuffix(out.String(), "\n") }, patience, 5*time.Millisecond)
			p := start(t, writeConfig(t, deviceYAML("rpm-1", l.profile, strings.TrimSpace(out.String())+l.query, "settings: {nsigma: 4.0, groups: [sum, vertical]}")))
			p.wait("every occupancy", occupancies(len(want)))
			requireOccupancies(t, want, p.stop())
			require.NoError(t, cmd.Wait())
		})
	}
}
