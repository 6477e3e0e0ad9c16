package main

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/capture"
	"github.com/lanepost/lanepost/protocol/event"
)

var updateTraces = flag.Bool("update-traces", false, "write the output of TestTraces into its files, to be read by a person")

// fence finds the blocks of a page.
var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// ownPage gives the blocks of the page on devices of one's own: its files, which begin with a
// comment with their name, and its sessions.
func ownPage(t *testing.T) (files map[string]string, sessions []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "own-devices.md"))
	require.NoError(t, err)
	files = map[string]string{}
	for _, m := range fence.FindAllStringSubmatch(string(page), -1) {
		switch m[1] {
		case "yaml":
			first, _, _ := strings.Cut(m[2], "\n")
			name, named := strings.CutPrefix(first, "# ")
			require.True(t, named && strings.HasSuffix(name, ".yaml"), "a file of the page begins with its name: %s", first)
			files[name] = m[2]
		case "console":
			sessions = append(sessions, m[2])
		default:
			t.Fatalf("a block of kind %q is not tested", m[1])
		}
	}
	return files, sessions
}

// TestOwnDevicesPage: what the page shows is what happens, to the letter.
func TestOwnDevicesPage(t *testing.T) {
	t.Parallel()
	files, sessions := ownPage(t)
	require.Len(t, files, 4)
	require.Len(t, sessions, 5)
	dir, bin := t.TempDir(), t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asLanepost, os.Args[0])
	require.NoError(t, os.WriteFile(filepath.Join(bin, "lanepost"), []byte(script), 0o700)) //nolint:gosec // it is to be run
	checked := ""
	for _, session := range sessions {
		var command string
		var want strings.Builder
		run := func() {
			if command == "" {
				return
			}
			cmd := exec.Command("sh", "-c", command)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			out, _ := cmd.CombinedOutput() // some are to fail
			require.Equal(t, want.String(), string(out), command)
			checked += command + "\n"
			want.Reset()
		}
		for _, line := range strings.SplitAfter(session, "\n") {
			if next, is := strings.CutPrefix(line, "$ "); is {
				run()
				command = strings.TrimSuffix(next, "\n")
				continue
			}
			want.WriteString(line)
		}
		run()
	}
	for name := range files {
		require.Contains(t, checked, "check --profile "+name)
	}
}

// TestTraces: each way to fail is shown with the place, what was wanted and what to do. A file
// has the settings, the bytes as Go writes them, and the output.
func TestTraces(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob(filepath.Join("testdata", "trace", "*.txt"))
	require.NoError(t, err)
	require.Greater(t, len(cases), 20)
	const bytesMark, outputMark = "--- bytes\n", "--- output\n"
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(path) //nolint:gosec // a file of the test
			require.NoError(t, err)
			settings, rest, ok := strings.Cut(string(b), bytesMark)
			require.True(t, ok)
			input, want, _ := strings.Cut(rest, outputMark)
			var sent bytes.Buffer
			for _, line := range strings.Split(strings.TrimSuffix(input, "\n"), "\n") {
				text, err := strconv.Unquote(line)
				require.NoError(t, err, line)
				sent.WriteString(text)
			}
			dir := t.TempDir()
			profile := "profile: p\nsummary: s\ndriver: own-device\nevidence: assumed\nsettings:\n" + settings
			require.NoError(t, os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(profile), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "p.bin"), sent.Bytes(), 0o600))
			cmd := lanepost("check", "--profile", "p.yaml", "--bytes", "p.bin")
			cmd.Dir = dir
			out, _ := cmd.CombinedOutput()
			for _, c := range out {
				require.True(t, c == '\n' || c >= ' ' && c != 0x7f, "a control character of the device reaches the terminal: %q", out)
			}
			if *updateTraces {
				require.NoError(t, os.WriteFile(path, []byte(settings+bytesMark+input+outputMark+string(out)), 0o600)) //nolint:gosec // a file of the test
				return
			}
			require.Equal(t, want, string(out))
		})
	}
}

// What lanepost record has written is read as it came: read by read, and no connection runs
// on into the next.
func TestCheckProfileWithARecording(t *testing.T) {
	t.Parallel()
	files, _ := ownPage(t)
	dir := t.TempDir()
	profile := filepath.Join(dir, "gate.yaml")
	require.NoError(t, os.WriteFile(profile, []byte(files["gate.yaml"]), 0o600))
	path := filepath.Join(dir, "gate.jsonl")
	file, err := os.Create(path)
	require.NoError(t, err)
	at := time.Date(2026, 3, 14, 10, 0, 0, 0, time.UTC)
	w, err := capture.NewWriter(file, capture.Header{Lane: "entry-3", Device: "dose-1", Begun: at, Part: 1})
	require.NoError(t, err)
	for i, e := range []capture.Entry{
		{Bytes: []byte("$H,OK*60\r\n$D,G1,")}, {Bytes: []byte("12,N*53\r\n$D,G1,14")}, {Mark: capture.Parted}, {Bytes: []byte("$D,G1,14,N*55\r\n")},
	} {
		e.At = at.Add(time.Duration(i) * time.Second)
		require.NoError(t, w.Add(e))
	}
	require.NoError(t, w.End(at.Add(4*time.Second), "done"))
	require.NoError(t, file.Close())
	text, code := output(t, "check", "--profile", profile, "--bytes", path)
	require.Contains(t, text, "recording of entry-3/dose-1")
	require.Contains(t, text, "3 records read, 1 piece not.")
	require.Contains(t, text, "at 1s, 9 bytes, read as measurement")
	require.Contains(t, text, "at 3s, 9 bytes, read as measurement")
	require.NotContains(t, text, "capture")
	require.Equal(t, exitFailed, code, "what the link's end cut off was not read")
	require.Contains(t, text, "broken off")
}

func TestCheckProfileCommandLine(t *testing.T) {
	t.Parallel()
	text, code := output(t, "check", "--bytes", "x")
	require.Equal(t, exitUsage, code)
	require.Contains(t, text, "--bytes, --trace and --records go with --profile FILE")
	text, code = output(t, "check", "--records", "3")
	require.Equal(t, exitUsage, code)
	require.Contains(t, text, "--bytes, --trace and --records go with --profile FILE")
	for _, other := range [][]string{{"--json"}, {"--config", "x"}, {"--wait", "1s"}, {"--user", "nobody"}} {
		text, code = output(t, append([]string{"check", "--profile", "x"}, other...)...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, text, other[0]+" belongs to the check of a configuration")
	}
	text, code = output(t, "check", "--profile", filepath.Join(t.TempDir(), "none.yaml"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "read the profile: open")
	text, code = output(t, "check", "--profile", filepath.Join("..", "..", "firmware-profiles", "rapiscan-tsa.yaml"))
	require.Zero(t, code, text)
	require.Contains(t, text, "All well.")

	// A profile of another driver has its events and what was not understood.
	b, err := os.ReadFile(filepath.Join("..", "..", "firmware-profiles", "scale-csv.yaml"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "scale.yaml")
	broken := strings.Replace(strings.Replace(string(b), "weight_kg: 40260", "weight_kg: 40261", 1), "0 ST,GS,+0000000 kg", "0 ST,GS,+00?0000 kg", 1)
	require.NoError(t, os.WriteFile(path, []byte(broken), 0o600)) //nolint:gosec // a file of the test
	text, code = output(t, "check", "--profile", path)
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "data.weight_kg is 40260, want 40261")
	require.Contains(t, text, "ST,GS,+00?0000 kg")
	require.Contains(t, text, "1 of 1 vector failed.")
}

// TestOwnDeviceThroughTheAgent: the dosimeter of the page, over TCP, to the events on stdout.
func TestOwnDeviceThroughTheAgent(t *testing.T) {
	t.Parallel()
	files, _ := ownPage(t)
	profiles := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(profiles, name), []byte(text), 0o600))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := freePort(t)
	devices := deviceYAML("dose-1", "gate-dosimeter", "tcp://"+listener.Addr().String()) +
		deviceYAML("anpr-1", "north-camera", fmt.Sprintf("http-listen://127.0.0.1:%d/north?allow=127.0.0.1", port))
	p := start(t, writeConfig(t, devices, "profiles: "+profiles+"\n"))
	conn, err := listener.Accept()
	require.NoError(t, err)
	say := func(c net.Conn, text string) {
		_, err := c.Write([]byte(text))
		require.NoError(t, err)
	}
	say(conn, "$H,OK*60\r\n$D,G1,12,N*53\r\n")
	p.waitFor("lanepost.radiation.rate.v1", 1)
	say(conn, "$D,G1,2310,A*5F\r\n$D,G1,14,X*43\r\n$D,G1,14")
	raised := decode[*event.RadiationRateAlarm](t, p.waitFor("lanepost.radiation.rate-alarm.v1", 1))
	require.Equal(t, "raised", raised.State)
	p.waitFor("lanepost.device.unparsed.v1", 1)

	// A broken link clears nothing; the end of the alarm is told by the device.
	require.NoError(t, conn.Close())
	conn, err = listener.Accept()
	require.NoError(t, err)
	defer conn.Close()
	say(conn, "$H,OK*60\r\n$D,G1,14,N*55\r\n")
	cleared := decode[*event.RadiationRateAlarm](t, p.waitFor("lanepost.radiation.rate-alarm.v1", 2))
	require.Equal(t, "cleared", cleared.State)
	require.Equal(t, raised.AlarmID, cleared.AlarmID)
	require.True(t, cleared.Interrupted)
	require.NotNil(t, cleared.PeakValue)
	require.InDelta(t, 23.1, *cleared.PeakValue, 1e-9)

	post := func(body string) int {
		r, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/north", port), "text/xml", strings.NewReader(body))
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		return r.StatusCode
	}
	require.Equal(t, http.StatusOK, post("<Passage><When>05.01.2026 08:00:01</When><Vehicle><Plate>AA1234BB</Plate><Direction>IN</Direction></Vehicle></Passage>"))
	read := decode[*event.PlateRead](t, p.waitFor("lanepost.plate.read.v1", 1))
	require.Equal(t, "AA1234BB", read.Private.Plate)
	require.Equal(t, "entry", read.LaneDirection)
	require.Equal(t, http.StatusBadRequest, post("<Passage><Vehicle/></Passage>"))
	p.stop()
}
