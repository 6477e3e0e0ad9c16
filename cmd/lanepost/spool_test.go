package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/spool"
	"github.com/lanepost/lanepost/protocol/event"
)

var spoolDay = time.Date(2026, 5, 1, 6, 0, 0, 0, time.UTC)

// fillSpool appends chained events, one a second, and returns them as lines.
func fillSpool(t *testing.T, s *spool.Spool, class event.Class, n int) (lines []string) {
	t.Helper()
	for at := range n {
		_, err := s.Append(context.Background(), class, spoolDay.Add(time.Duration(at)*time.Second), "t", func(seq uint64, previous event.Hash) ([]byte, error) {
			b := fmt.Appendf(nil, `{"sequence":"%020d","prevhash":"%s","data":{"class":"%s"}}`, seq, previous, class)
			lines = append(lines, string(b)+"\n")
			return b, nil
		})
		require.NoError(t, err)
	}
	return lines
}

func openSpool(t *testing.T, dir string, o spool.Options) *spool.Spool {
	t.Helper()
	o.SegmentBytes = 2048
	s, err := spool.Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// deliver acknowledges the first n events of a class.
func deliver(t *testing.T, s *spool.Spool, class event.Class, n int) {
	t.Helper()
	r := s.Reader(spool.DefaultConsumer, class)
	_, err := r.Next(n, 1<<20)
	require.NoError(t, err)
	require.NoError(t, r.Ack(uint64(n)))
}

// separate runs the program and keeps its outputs apart.
func separate(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := lanepost(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestSpoolCommandsBesideAnOpenSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir, spool.Options{})
	urgent := fillSpool(t, s, event.Urgent, 3)
	routine := fillSpool(t, s, event.Routine, 30)
	deliver(t, s, event.Routine, 5)
	require.Eventually(t, func() bool {
		text, _, code := separate(t, "spool", "stat", "--dir", dir, "--json")
		require.Zero(t, code, text)
		var st spoolStat
		require.NoError(t, json.Unmarshal([]byte(text), &st))
		require.Equal(t, uint64(3), st.Classes[0].Waiting)
		require.Equal(t, spoolDay, *st.Classes[0].OldestWaiting)
		require.Equal(t, uint64(30), st.Classes[1].Head)
		return st.Classes[1].Delivered == 5 // as soon as the cursor file says so
	}, patience, 50*time.Millisecond)
	text, code := output(t, "spool", "stat", "--dir", dir)
	require.Zero(t, code)
	require.Contains(t, text, "CLASS    HEAD  DELIVERED  WAITING  LOST  OLDEST WAITING")
	require.Regexp(t, `routine  30    5          25       0     2026-05-01T06:00:05Z \(.* ago\) +\d\.\d kB +\d`, text)

	for _, c := range []struct {
		args string
		want []string
	}{
		{"", append(append([]string{}, urgent...), routine...)},
		{"--class urgent", urgent},
		{"--class routine --from 4 --to 9", routine[3:9]},
		{"--class routine --waiting", routine[5:]},
		{"--since 2026-05-01T06:00:10Z", routine[10:]},
		{"--since 2026-05-01T08:00:01+02:00 --until 2026-05-01T06:00:02Z", []string{urgent[1], routine[1]}},
		{"--class routine --from 31", nil},
	} {
		stdout, stderr, code := separate(t, append([]string{"spool", "cat", "--dir", dir}, strings.Fields(c.args)...)...)
		require.Zero(t, code, stderr)
		require.Equal(t, strings.Join(c.want, ""), stdout, c.args)
		require.Empty(t, stderr)
	}
	text, code = output(t, "spool", "verify", "--dir", dir)
	require.Zero(t, code, text)
	require.Contains(t, text, "routine: 30 records read, sequence 1 to 30; 29 follow the one before in the hash chain")
	require.Contains(t, text, "All well.")

	text, code = output(t, "spool", "requeue", "--dir", dir, "--class", "routine", "--from", "2")
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "in use by another process: stop the agent first")

	// --follow goes on with what comes.
	cmd := lanepost("spool", "cat", "--dir", dir, "--class", "urgent", "--follow")
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var got []byte
	b := make([]byte, 4096)
	for len(got) < len(strings.Join(urgent, "")) {
		n, err := pipe.Read(b)
		require.NoError(t, err)
		got = append(got, b[:n]...)
	}
	urgent = append(urgent, fillSpool(t, s, event.Urgent, 1)...)
	for len(got) < len(strings.Join(urgent, "")) {
		n, err := pipe.Read(b)
		require.NoError(t, err)
		got = append(got, b[:n]...)
	}
	require.Equal(t, strings.Join(urgent, ""), string(got))
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait())
}

func TestSpoolOnAPulledDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir, spool.Options{})
	routine := fillSpool(t, s, event.Routine, 40)
	require.NoError(t, s.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "routine", "*.seg"))
	require.NoError(t, err)
	b, err := os.ReadFile(segments[1])
	require.NoError(t, err)
	b[700] ^= 1
	require.NoError(t, os.WriteFile(segments[1], b, 0o600))

	// Neither a file nor the directory may change. Root could write nevertheless,
	// so what is there is compared too.
	before := map[string]string{}
	look := func(check bool) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := d.Info()
			require.NoError(t, err)
			text := fmt.Sprint(info.ModTime().UnixNano(), info.Size(), info.Mode())
			if !d.IsDir() {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				text += fmt.Sprintf("%x", sha256.Sum256(b))
			}
			if check {
				require.Equal(t, before[path], text, path)
			}
			before[path] = text
			return nil
		}))
	}
	modes := func(dirMode, fileMode os.FileMode) {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			require.NoError(t, err)
			if d.IsDir() {
				return os.Chmod(path, dirMode)
			}
			return os.Chmod(path, fileMode)
		}))
	}
	modes(0o500, 0o400)
	t.Cleanup(func() { modes(0o700, 0o600) })
	look(false)
	files := len(before)

	text, code := output(t, "spool", "stat", "--dir", dir)
	require.Zero(t, code, text)
	text, code = output(t, "spool", "verify", "--dir", dir)
	require.Equal(t, exitFailed, code, text)
	require.Regexp(t, `PROBLEM: routine sequence \d+ can't be read: damage in segment 0000000000000000\d+-0000000002.seg, bytes \d+ to \d+\n  -> the agent reports it`, text)
	require.Contains(t, text, "1 problems.")
	require.Contains(t, text, "routine: 39 records read")
	stdout, stderr, code := separate(t, "spool", "cat", "--dir", dir)
	require.Equal(t, exitFailed, code)
	require.Equal(t, 39, strings.Count(stdout, "\n"))
	require.Contains(t, stderr, "lanepost: routine sequence")

	out := filepath.Join(t.TempDir(), "events.jsonl")
	stdout, stderr, code = separate(t, "spool", "export", out, "--dir", dir, "--class", "routine", "--to", "5")
	require.Zero(t, code, stderr)
	content, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, strings.Join(routine[:5], ""), string(content))
	sum := sha256.Sum256(content)
	require.Equal(t, fmt.Sprintf("%s: 5 events, %d bytes\n  routine: 5, sequence 1 to 5\n  SHA-256 %s\n", out, len(content), hex.EncodeToString(sum[:])), stdout)
	info, err := os.Stat(out)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds personal data")

	text, code = output(t, "spool", "export", out, "--dir", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "is there already and is not overwritten")
	again, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, content, again)

	// All that can be read, and it says that it is not all.
	rest := filepath.Join(filepath.Dir(out), "rest.jsonl")
	stdout, stderr, code = separate(t, "spool", "export", rest, "--dir", dir)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stdout, "39 events")
	require.Contains(t, stdout, "not all that was asked for could be read")
	require.Contains(t, stderr, "can't be read: damage in segment")
	stdout, stderr, code = separate(t, "spool", "export", "-", "--dir", dir, "--class", "routine", "--from", "40")
	require.Zero(t, code)
	require.Equal(t, routine[39], stdout)
	require.Contains(t, stderr, "-: 1 event,")
	text, code = output(t, "spool", "export", filepath.Join(filepath.Dir(out), "none"), "--dir", dir, "--class", "urgent")
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "no event in that range")
	for _, inside := range []string{filepath.Join(dir, "x"), filepath.Join(dir, "routine", "x"), filepath.Join(dir, "..", "spool", "x")} {
		text, code = output(t, "spool", "export", inside, "--dir", dir)
		require.Equal(t, exitFailed, code)
		require.Contains(t, text, "inside of the spool")
	}
	left, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Len(t, left, 2, "no unfinished file stays")

	look(true)
	require.Len(t, before, files)
}

func TestSpoolRequeue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir, spool.Options{})
	fillSpool(t, s, event.Routine, 8)
	deliver(t, s, event.Routine, 7)
	require.NoError(t, s.Close())
	text, code := output(t, "spool", "requeue", "--dir", dir, "--class", "routine", "--from", "9")
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "waits already")
	text, code = output(t, "spool", "requeue", "--dir", dir, "--class", "routine", "--from", "3")
	require.Zero(t, code, text)
	require.Equal(t, "routine sequence 3 to 7 will be delivered again when the agent starts.\n", text)
	s = openSpool(t, dir, spool.Options{})
	records, err := s.Reader(spool.DefaultConsumer, event.Routine).Next(10, 1<<20)
	require.NoError(t, err)
	require.Equal(t, uint64(3), records[0].Sequence)
	require.Len(t, records, 6)
}

func TestSpoolOfAnEncryptedBox(t *testing.T) {
	root := t.TempDir()
	dir, keyFile := filepath.Join(root, "spool"), filepath.Join(root, "spool.key")
	require.NoError(t, os.WriteFile(keyFile, []byte(strings.Repeat("5a", 32)+"\n"), 0o600))
	keys, err := spool.ReadKeyring(keyFile)
	require.NoError(t, err)
	s := openSpool(t, dir, spool.Options{Keys: keys})
	lines := fillSpool(t, s, event.Urgent, 4)

	stdout, stderr, code := separate(t, "spool", "cat", "--dir", dir, "--key-file", keyFile)
	require.Zero(t, code, stderr)
	require.Equal(t, strings.Join(lines, ""), stdout)
	stdout, stderr, code = separate(t, "spool", "cat", "--dir", dir)
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "urgent sequences 1 to 4 sealed with key "+keys.Keys()[0].String())
	require.Contains(t, stderr, "--key-file")
	text, code := output(t, "spool", "stat", "--dir", dir)
	require.Zero(t, code)
	require.Contains(t, text, "urgent: 1 of 1 segments are encrypted")

	config := filepath.Join(root, "lanepost.yaml")
	require.NoError(t, os.WriteFile(config, []byte("site: medyka\nlanes: []\nspool:\n  dir: "+dir+"\n  key_file: "+keyFile+"\n"), 0o600))
	text, code = output(t, "spool", "verify", "--config", config)
	require.Zero(t, code, text)
	require.Contains(t, text, "urgent: 4 records read")

	require.NoError(t, os.Chmod(keyFile, 0o644))
	text, code = output(t, "spool", "cat", "--dir", dir, "--key-file", keyFile)
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "has mode 0644")
	require.NotContains(t, text, "5a5a")
}

func TestSpoolErrors(t *testing.T) {
	empty := t.TempDir()
	broken := filepath.Join(t.TempDir(), "lanepost.yaml")
	require.NoError(t, os.WriteFile(broken, []byte("site: a\nlanez: 1\nspool:\n  dir: /srv/events\n"), 0o600))
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"stat --dir /nowhere/at/all", "/nowhere/at/all: there is no such directory", exitFailed},
		{"stat --dir " + empty, "--dir takes the directory that holds urgent/ and routine/", exitFailed},
		{"stat --dir /nowhere/at/all", "no such directory\n", exitFailed},
		{"stat --config " + broken, "(--dir /srv/events looks at a spool", exitFailed},
		{"stat --config /nowhere.yaml", "--dir DIRECTORY looks at a spool without a configuration", exitFailed},
		{"cat --dir " + empty + " --from 3", "--from and --to need --class", exitUsage},
		{"cat --dir " + empty + " --class other", "want urgent or routine", exitUsage},
		{"cat --dir " + empty + " --class urgent --from 3 --to 2", "--to 2 is before --from 3", exitUsage},
		{"cat --dir " + empty + " --since yesterday", "want a time such as", exitUsage},
		{"cat --nonsense", "unknown flag", exitUsage},
		{"export --dir " + empty, "name the file to write", exitUsage},
		{"requeue --dir " + empty, "--class and --from say", exitUsage},
		{"requeue --dir " + empty + " --quarantined x --from 1", "stands alone", exitUsage},
		{"requeue --dir " + empty + " --class urgent --from 1", "this is no spool", exitFailed},
		{"nonsense", "unexpected argument", exitUsage},
	} {
		text, code := output(t, append([]string{"spool"}, strings.Fields(c.args)...)...)
		require.Contains(t, text, c.want, c.args)
		require.Equal(t, c.code, code, c.args)
	}
}

func TestExportOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openSpool(t, dir, spool.Options{})
	fillSpool(t, s, event.Urgent, 1)
	text, code := output(t, "spool", "export", "--dir", dir, "--waiting", "/nodir/e.jsonl")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "lanepost: there is no directory /nodir: make it, or name another place\n", text)
	file := filepath.Join(t.TempDir(), "e.jsonl")
	text, code = output(t, "spool", "export", "--dir", dir, "--waiting", "--class", "routine", file)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "lanepost: nothing waits for delivery, so no file is written\n", text)
	text, code = output(t, "spool", "export", "--dir", dir, "--waiting", file)
	require.Zero(t, code, text)
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	now := spoolDay
	p := &progress{out: &out, now: func() time.Time { return now }, total: 10 << 20, began: now}
	p.add(1 << 20)
	require.Empty(t, out.String(), "within the first second it is silent")
	now = now.Add(2 * time.Second)
	p.add(progressStep - 1)
	require.Empty(t, out.String())
	p.add(4<<20 - progressStep + 1)
	require.Equal(t, "\r[==========          ]  50% 5.2 MB of 10.5 MB, 2.6 MB/s, 2s left\x1b[K", out.String())
	out.Reset()
	p.add(1 << 20)
	require.Empty(t, out.String(), "not more often than can be read")
	now = now.Add(time.Second)
	p.add(8 << 20) // a file that grew
	require.Contains(t, out.String(), "[====================] 100%")
	out.Reset()
	p.end()
	require.Equal(t, "\r\x1b[K", out.String())

	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	none := newProgress(null, 5)
	require.Nil(t, none)
	none.add(100 << 20)
	none.end()
	terminal, tty, err := pty.Open()
	require.NoError(t, err)
	defer terminal.Close()
	defer tty.Close()
	require.NotNil(t, newProgress(tty, 5))
}

// An export that is interrupted leaves nothing behind.
func TestInterruptedExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openSpool(t, dir, spool.Options{})
	fillSpool(t, s, event.Routine, 200)
	require.NoError(t, s.Close())
	to := t.TempDir()
	name := filepath.Join(to, "out")
	err := newFile(name, dir, func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return context.Canceled
	})
	require.ErrorIs(t, err, context.Canceled)
	left, err := os.ReadDir(to)
	require.NoError(t, err)
	require.Empty(t, left)

	if _, err := exec.LookPath("head"); err == nil {
		// A reader that leaves early ends cat.
		cat := lanepost("spool", "cat", "--dir", dir)
		head := exec.Command("head", "-n", "1")
		head.Stdin, err = cat.StdoutPipe()
		require.NoError(t, err)
		var line bytes.Buffer
		head.Stdout = &line
		require.NoError(t, cat.Start())
		require.NoError(t, head.Run())
		_ = cat.Wait()
		require.Equal(t, 1, strings.Count(line.String(), "\n"))
	}
}
