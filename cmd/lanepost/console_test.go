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
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/protocol/event"
)

// spoolOf is the spool directory of writeConfig.
func spoolOf(configPath string) string { return filepath.Join(filepath.Dir(configPath), "spool") }

// dialAgent waits until the agent on a spool answers.
func dialAgent(t *testing.T, spool string) *http.Client {
	t.Helper()
	var c *http.Client
	require.Eventually(t, func() (ok bool) {
		var err error
		c, err = client.Dial(spool)
		return err == nil
	}, patience, 10*time.Millisecond)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func statusOf(t *testing.T, c *http.Client) (s console.Status) {
	t.Helper()
	require.NoError(t, client.Get(t.Context(), c, "/api/v1/status", &s))
	return s
}

// The snapshot of an agent that reads two portals, one of them gone, and has a
// broker.
func TestConsoleStatus(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	mosquitto(t, port)
	sim := quietLane(t, 100)
	devices := devicesOf(sim)
	devices += deviceYAML("rpm-9", "rapiscan-tsa", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t)))
	path := writeConfig(t, devices, fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port))
	p := start(t, path)
	p.waitFor("lanepost.radiation.occupancy.v1", 2)
	p.waitFor("lanepost.device.offline.v1", 1)
	c := dialAgent(t, spoolOf(path))
	var s console.Status
	require.Eventually(t, func() bool {
		s = statusOf(t, c)
		up := s.Uplinks[0]
		return up.Connected && up.Confirmed > 3 && up.EventsPerS > 0 && len(s.Lanes[0].Devices[0].Occupancies) >= 2
	}, patience, 20*time.Millisecond)

	require.Equal(t, "test", s.Site)
	require.NotEmpty(t, s.Version)
	require.NotEmpty(t, s.Agent)
	require.Positive(t, s.UptimeS)
	require.Len(t, s.Lanes, 1)
	require.Len(t, s.Lanes[0].Devices, 3)
	good, gone := s.Lanes[0].Devices[0], s.Lanes[0].Devices[2]
	require.Equal(t, "entry-1/rpm-1", good.Device)
	require.Equal(t, "online", good.State)
	require.Empty(t, good.Reason)
	require.Positive(t, good.Records)
	require.NotNil(t, good.LastRecord)
	require.Equal(t, 12.0, good.SilenceLimitS)
	require.True(t, good.RawBytes)
	require.GreaterOrEqual(t, len(good.Occupancies), 2)
	require.Equal(t, uint64(len(good.Occupancies)), min(good.Passed.Occupancies, console.KeptOccupancies))
	// What the agent printed of the first occupancy is what is shown of it.
	for _, e := range p.seen() {
		if e.Type == "lanepost.radiation.occupancy.v1" && e.Source == "/test/entry-1/rpm-1" {
			require.Contains(t, string(e.Data), good.Occupancies[0].ID)
			break
		}
	}
	require.NotEmpty(t, good.LastEvent.Text)

	require.Equal(t, "offline", gone.State)
	require.Contains(t, gone.Reason, "refused")
	require.Contains(t, gone.ToDo, "check")
	require.NotContains(t, gone.Reason, gone.ToDo)
	require.Equal(t, "entry-1/rpm-9", s.Problems[0].Device, "an instrument that is not read is the worst here")
	require.Equal(t, gone.ToDo, s.Problems[0].ToDo)

	u := s.Uplinks[0]
	require.Equal(t, "mqtt", u.Name)
	require.Equal(t, fmt.Sprintf("tcp://127.0.0.1:%d", port), u.Broker)
	require.NotNil(t, u.LastConfirmed)
	require.Equal(t, spoolOf(path), s.Spool.Dir)
	require.Equal(t, int64(512<<20), s.Spool.Urgent.MaxBytes)
	require.Positive(t, s.Spool.Urgent.LastSequence)
	require.Positive(t, *s.Spool.DiskFreeBytes)
	require.Greater(t, *s.Spool.DiskTotalBytes, *s.Spool.DiskFreeBytes)
	require.Nil(t, s.Spool.OldSince)
	require.Positive(t, s.Spool.DiskSyncs)
	require.Positive(t, s.Process.HeapBytes)

	// An agent that has stopped in good order leaves no socket, and is told as such.
	p.stop()
	require.NoFileExists(t, filepath.Join(spoolOf(path), client.Socket))
	_, err := client.Dial(spoolOf(path))
	require.ErrorIs(t, err, client.ErrNotRunning)
}

// A changed configuration is taken up or refused, and the console tells of both. The
// level of one device's log changes with it.
func TestConsoleReloadAndConfig(t *testing.T) {
	t.Parallel()
	connect := fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))
	path := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", connect))
	p := start(t, path)
	p.waitFor("lanepost.agent.started.v1", 1)
	c := dialAgent(t, spoolOf(path))
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	var f console.ConfigFile
	require.NoError(t, client.Get(t.Context(), c, "/api/v1/config", &f))
	require.Equal(t, string(before), f.Text)
	require.True(t, f.InEffect)

	require.NoError(t, os.WriteFile(path, append(before, "mqtt: {brokers: [tcp://127.0.0.1:1], username: lane, pasword: hunter2}\n"...), 0o600))
	require.NoError(t, client.Get(t.Context(), c, "/api/v1/config", &f))
	require.False(t, f.InEffect)
	require.NotContains(t, f.Text, "hunter2")
	require.NotContains(t, f.Text, "lane}")
	var done console.Reloaded
	require.NoError(t, client.Post(t.Context(), c, "/api/v1/reload", &done))
	require.False(t, done.Applied)
	require.Contains(t, strings.Join(done.Problems, "\n"), "pasword")
	s := statusOf(t, c)
	require.False(t, s.Config.LastReload.Applied)
	require.Len(t, s.Config.Refused, 1)
	require.Condition(t, func() bool {
		for _, one := range s.Problems {
			if strings.Contains(one.What, "pasword") {
				return strings.Contains(one.ToDo, "mend the file")
			}
		}
		return false
	})

	require.NoError(t, os.WriteFile(path, append(before, "log: {level: error, devices: {entry-1/rpm-1: debug}}\n"...), 0o600))
	require.NoError(t, client.Post(t.Context(), c, "/api/v1/reload", &done))
	require.True(t, done.Applied)
	require.Empty(t, done.Problems)
	s = statusOf(t, c)
	require.True(t, s.Config.LastReload.Applied)
	require.Equal(t, done.ConfigSHA256, s.Config.SHA256)
	require.Empty(t, s.Config.Refused)

	var tail struct {
		Records []console.LogRecord `json:"records"`
	}
	require.NoError(t, client.Get(t.Context(), c, "/api/v1/log?level=error", &tail))
	require.Len(t, tail.Records, 1)
	require.Contains(t, tail.Records[0].Message, "reload refused")
	require.NoError(t, client.Get(t.Context(), c, "/api/v1/log?device=entry-1/rpm-1", &tail))
	require.NotEmpty(t, tail.Records)
	for _, r := range tail.Records {
		require.Equal(t, "entry-1/rpm-1", r.Device)
	}

	err = client.Get(t.Context(), c, "/api/v1/log?level=loud", &tail)
	require.ErrorContains(t, err, "debug, info, warn or error")
	require.ErrorContains(t, client.Get(t.Context(), c, "/api/v1/raw?device=entry-1/rpm-7", &tail), `there is no device "entry-1/rpm-7"`)
}

// The bytes that are listened to are those that the portal sends, over a reconnection.
func TestConsoleRaw(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	path := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", "tcp://"+ln.Addr().String()))
	p := start(t, path)
	p.waitFor("lanepost.agent.started.v1", 1)
	c := dialAgent(t, spoolOf(path))
	r, err := client.Open(t.Context(), c, http.MethodGet, "/api/v1/raw?device=entry-1/rpm-1")
	require.NoError(t, err)
	defer r.Close()
	lines := json.NewDecoder(r)
	type line struct {
		At     time.Time `json:"at"`
		Bytes  []byte    `json:"bytes"`
		Parted bool      `json:"parted"`
		Ended  string    `json:"ended"`
	}
	read := func(n int) (text string) {
		for len(text) < n {
			var l line
			require.NoError(t, lines.Decode(&l))
			require.WithinDuration(t, time.Now(), l.At, time.Minute)
			require.False(t, l.Parted)
			text += string(l.Bytes)
		}
		return text
	}
	const said = "GB,000400,000400,000400,000400\r\nrubbish\x00\xff\r\n"
	conn, err := ln.Accept()
	require.NoError(t, err)
	_, err = io.WriteString(conn, said)
	require.NoError(t, err)
	require.Equal(t, said, read(len(said)))
	require.NoError(t, conn.Close())
	var l line
	require.NoError(t, lines.Decode(&l))
	require.True(t, l.Parted)
	conn, err = ln.Accept()
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, said)
	require.NoError(t, err)
	require.Equal(t, said, read(len(said)))

	// A device that is taken out is told as such.
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("id: rpm-1"), []byte("id: rpm-2"), 1), 0o600))
	require.NoError(t, client.Post(t.Context(), c, "/api/v1/reload", &console.Reloaded{}))
	for l.Ended == "" {
		require.NoError(t, lines.Decode(&l))
	}
	require.Contains(t, l.Ended, "no longer in the configuration")
}

// After a SIGKILL the socket stands there and nobody answers; the next agent replaces it.
// The path of the spool is longer than the system takes for a socket.
func TestConsoleSocketAfterKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("very-long-name-", 8))
	path := filepath.Join(t.TempDir(), "lanepost.yaml")
	require.NoError(t, os.WriteFile(path, []byte("site: test\nlanes: [{id: entry-1, devices: [{id: rpm-1, profile: rapiscan-tsa, connect: \"tcp://127.0.0.1:9\"}]}]\nspool: {dir: "+dir+"}\n"), 0o600))
	p := start(t, path)
	p.waitFor("lanepost.agent.started.v1", 1)
	s := statusOf(t, dialAgent(t, dir))
	st, err := os.Stat(filepath.Join(dir, client.Socket))
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o660, st.Mode())
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	require.FileExists(t, filepath.Join(dir, client.Socket))
	_, err = client.Dial(dir)
	require.ErrorIs(t, err, client.ErrNotRunning)
	require.ErrorContains(t, err, dir)

	again := start(t, path)
	again.waitFor("lanepost.agent.started.v1", 1)
	next := statusOf(t, dialAgent(t, dir))
	require.Equal(t, s.Agent, next.Agent)
	require.NotEqual(t, s.Started, next.Started)
	require.NoFileExists(t, filepath.Join(dir, client.Socket+".new"))
	again.stop()
}

// Where no socket can be made, the agent runs all the same and says so.
func TestConsoleWithoutSocket(t *testing.T) {
	t.Parallel()
	path := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))))
	require.NoError(t, os.MkdirAll(filepath.Join(spoolOf(path), client.Socket, "in the way"), 0o700))
	p := start(t, path)
	p.waitFor("lanepost.agent.started.v1", 1)
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "no socket for the commands") }, patience, 10*time.Millisecond)
	p.stop()
}

// Events are told when they are recorded, each once and in order, and who watches one
// device hears of no other.
func TestConsoleEvents(t *testing.T) {
	t.Parallel()
	sim := quietLane(t, 50)
	path := writeConfig(t, devicesOf(sim))
	p := start(t, path)
	p.waitFor("lanepost.agent.started.v1", 1)
	c := dialAgent(t, spoolOf(path))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := client.Open(ctx, c, http.MethodGet, "/api/v1/events?whole=1&device=entry-1/rpm-1")
	require.NoError(t, err)
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	last := ""
	for seen := 0; seen < 4 && lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct {
			console.Event
			Whole json.RawMessage `json:"event"`
		}
		require.NoError(t, json.Unmarshal([]byte(data), &e))
		require.Equal(t, "entry-1/rpm-1", e.Device)
		require.NotEmpty(t, e.Text)
		if e.Priority == "routine" {
			require.Greater(t, e.Sequence, last)
			last = e.Sequence
		}
		printed := false
		p.wait("the same event", func(list []event.Event) bool {
			for i := range list {
				printed = printed || list[i].ID == e.ID
			}
			return printed
		})
		require.Contains(t, string(e.Whole), e.ID)
		seen++
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, last)
}
