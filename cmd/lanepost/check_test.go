package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/spool"
)

func TestCheckAsJSON(t *testing.T) {
	t.Parallel()
	type answer struct {
		Failed, Warnings, Skipped int
		Checks                    []result
	}
	read := func(text string) (a answer) {
		require.NoError(t, json.Unmarshal([]byte(text), &a), text)
		return a
	}
	path := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))))
	text, code := output(t, "check", "--json", "--wait", "1s", "--config", path)
	require.Equal(t, exitFailed, code)
	a := read(text)
	require.Equal(t, 1, a.Failed)
	require.Equal(t, 1, a.Skipped)
	i := 0
	for a.Checks[i].State != isFailed {
		i++
	}
	require.Equal(t, "entry-1/rpm-1", a.Checks[i].What)
	require.Equal(t, "reachable", a.Checks[i].Check)
	require.NotEmpty(t, a.Checks[i].Hint)

	require.NoError(t, os.WriteFile(path, []byte("site: a\nlanes: []\nmqtt:\n  windw: 3\n  brokers: [tcp://h]\n"), 0o600))
	text, code = output(t, "check", "--json", "--config", path)
	require.Equal(t, exitFailed, code)
	a = read(text)
	require.Len(t, a.Checks, 1)
	require.Equal(t, result{"configuration", "file", isFailed, path + `:4:3: unknown key "windw" in mqtt`, `did you mean "window"?`}, a.Checks[0])

	text, code = output(t, "check", "--json", "--config", filepath.Join(t.TempDir(), "none"))
	require.Equal(t, exitFailed, code)
	require.Contains(t, read(text).Checks[0].Hint, "lanepost init writes a first one")
}

// As root, it is the agent's user who must be able to do things.
func TestCheckAsTheAgentsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root looks with another's eyes")
	}
	path := writeConfig(t, quietDevice(t)+deviceYAML("rpm-2", "rapiscan-tsa-serial", "serial:"+chattering(t, nil)+"?baud=9600&parity=none"))
	for p := filepath.Dir(path); p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		require.NoError(t, os.Chmod(p, 0o755))
	}
	spool := filepath.Join(filepath.Dir(path), "spool")
	require.NoError(t, os.Mkdir(spool, 0o700))
	text, code := output(t, "check", "--wait", "1s", "--user", "nobody", "--config", path)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `configuration +readable +FAILED +user nobody can't read `+path+`: permission denied`, text)
	require.Regexp(t, `-> sudo chgrp nogroup `+path+` && sudo chmod 640 `+path, text)
	require.Regexp(t, `spool +writable +FAILED +user nobody can't write to `+spool, text)
	require.Contains(t, text, "-> give the spool a directory of its own: sudo install -d -m 700 -o nobody "+spool+"/lanepost, and spool.dir: ")
	require.Regexp(t, `entry-1/rpm-2 +permission +FAILED +user nobody may not open /dev/pts/`, text)
	require.Regexp(t, `-> .*usermod -aG \w+ nobody`, text)
	requireHints(t, text)

	require.NoError(t, os.Chmod(path, 0o644)) //nolint:gosec // that is what is tested
	require.NoError(t, os.Chown(spool, nobody, nobody))
	text, _ = output(t, "check", "--wait", "1s", "--user", "nobody", "--config", path)
	require.Regexp(t, `configuration +readable +ok`, text)
	require.Regexp(t, `spool +writable +ok +user nobody can write`, text)
	require.Empty(t, namesIn(t, spool))

	// Whatever names it, a file that only root can read is told.
	dir := filepath.Dir(path)
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	line, err := console.UserLine("anna", "cold hands at four")
	require.NoError(t, err)
	ca := newAuthority(t, "site")
	ca.issue("box", "127.0.0.1")
	secret := strings.Repeat("5e3f", 16)
	named := []string{
		write("users", line), ca.path("box.pem"), ca.path("box.key"), write("mrz.key", secret), write("dicos.password", "a-password"),
		write("onvif.password", "a-password"), write("link.password", "a-password"), write("pseudonym.key", secret), write("spool.key", secret),
	}
	for _, name := range named {
		require.NoError(t, os.Chmod(name, 0o600))
	}
	devices := quietDevice(t) +
		deviceYAML("mrz-1", "mrz-reader", "serial:/dev/serial/by-id/none?baud=9600&parity=none&data=8&stop=1", "settings: {allow_personal_data: true, key_file: "+named[3]+"}") +
		deviceYAML("xray-1", "dicos-network", fmt.Sprintf("tcp-listen://127.0.0.1:%d", freePort(t)), "settings: {username: lane, password_file: "+named[4]+"}") +
		deviceYAML("anpr-1", "onvif-plates", fmt.Sprintf("http://127.0.0.1:%d?username=lane&password_file=%s", freePort(t), named[6]), "settings: {username: lane, password_file: "+named[5]+"}")
	other := writeConfig(t, devices, "  key_file: "+named[8]+"\n", "plates: {pseudonym_key_file: "+named[7]+"}\n",
		fmt.Sprintf("console: {listen: \"127.0.0.1:%d\", tls: {cert_file: %s, key_file: %s}, users_file: %s}\n", freePort(t), named[1], named[2], named[0]))
	text, _ = output(t, "check", "--wait", "1s", "--user", "nobody", "--config", other)
	for _, name := range append(named, other) {
		require.Regexp(t, `configuration +readable +FAILED +user nobody can't read `+name+`: permission denied`, text)
	}

	text, code = output(t, "check", "--user", "no-such-user", "--config", path)
	require.Equal(t, exitUsage, code)
	require.Contains(t, text, "there is no such user on this machine")
}

// What others use too stays as it is: only a directory that holds a spool and nothing else is
// given away, and only files beside the configuration.
func TestAdviceOnPermissions(t *testing.T) {
	t.Parallel()
	anna := &account{name: "anna", gid: nobody}
	dir := t.TempDir()
	none := filepath.Join(dir, "lanepost")
	require.Equal(t, "sudo install -d -m 700 -o anna "+none+" makes it, or name another directory as spool.dir", writeHint(syscall.EACCES, anna, none, dir))
	own := "give the spool a directory of its own: sudo install -d -m 700 -o anna " + none + ", and spool.dir: " + none
	require.Equal(t, own, writeHint(syscall.EACCES, anna, dir, dir))
	for _, name := range []string{"urgent", "routine", "lock"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	require.Equal(t, "sudo chown -R anna "+dir, writeHint(syscall.EACCES, anna, dir, dir))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "other"), 0o700))
	require.Equal(t, own, writeHint(syscall.EACCES, anna, dir, dir))
	require.NotContains(t, spool.Hint(syscall.EACCES), "chown")

	require.Equal(t, "sudo chgrp nogroup /etc/x/a.pem && sudo chmod 640 /etc/x/a.pem; the folders above must be open to it too", anna.mayRead("/etc/x/a.pem", "/etc/x"))
	require.Equal(t, "give the agent a copy and name that in the configuration: sudo install -m 640 -g nogroup /etc/ssl/private/a.key /etc/x/a.key",
		anna.mayRead("/etc/ssl/private/a.key", "/etc/x"))
}

// As a normal user, with the spool in a folder of the system's.
func TestCheckWithoutTheRightToMakeTheSpool(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	path := writeConfig(t, quietDevice(t))
	dir := filepath.Join(filepath.Dir(path), "lib")
	require.NoError(t, os.Mkdir(dir, 0o755)) //nolint:gosec // as /var/lib is
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b = []byte(strings.Replace(string(b), filepath.Join(filepath.Dir(path), "spool"), filepath.Join(dir, "lanepost"), 1))
	require.NoError(t, os.WriteFile(path, b, 0o600))
	cmd := asNobody(t, lanepost("check", "--wait", "1s", "--config", path), path)
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "otherwise: sudo install -d -m 700 -o nobody "+dir+"/lanepost makes it, or name another directory as spool.dir")
	require.NotContains(t, string(out), "chown")
	out, err = asNobody(t, lanepost("run", "--config", path), path).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "make a directory for it (sudo install -d -m 700 -o USER DIRECTORY)")
	require.NotContains(t, string(out), "chown")
}

// On a terminal it says what it is doing, and Ctrl-C brings the table of what is known.
func TestCheckBrokenOff(t *testing.T) {
	t.Parallel()
	var silent [2]net.Listener // they take connections and say nothing
	for i := range silent {
		var err error
		silent[i], err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer silent[i].Close()
	}
	path := writeConfig(t, quietDevice(t)+deviceYAML("rpm-2", "rapiscan-tsa", "tcp://"+silent[0].Addr().String()),
		"mqtt: {brokers: [\"tcp://"+silent[1].Addr().String()+"\"]}\n")
	s := initOnTerminal(t, "check", "--wait", "10m", "--config", path)
	s.asked("listening to 2 devices, up to 10 min; Ctrl-C ends it with what is known by then")
	_, err := s.tty.WriteString("\x03")
	require.NoError(t, err)
	require.Error(t, <-s.done)
	require.Equal(t, exitFailed, s.cmd.ProcessState.ExitCode(), s.text.String())
	require.Regexp(t, `free space +ok`, s.text.String())
	require.Regexp(t, `rpm-2 +(fresh data|reachable) +(ok|skipped)`, s.text.String())
	require.Regexp(t, `broker +\w+ +(ok|skipped)`, s.text.String())
	require.Contains(t, s.text.String(), "ended before it was known")
	require.NotContains(t, s.text.String(), isFailed)
}

// A portal serves one client: what an agent has, check and record leave alone, by whatever
// configuration they come to it.
func TestASecondClientIsRefused(t *testing.T) {
	t.Parallel()
	place := strings.TrimPrefix(quietLane(t, 20).Devices()[0].Connect, "tcp://")
	agent := start(t, writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", "tcp://"+place)))
	agent.waitFor("lanepost.device.online.v1", 1)
	has := fmt.Sprintf(`\S+ \(pid %d\) has a connection to %s, and most instruments serve one client only: it is left alone`, agent.cmd.Process.Pid, place)

	text, code := output(t, "check", "--wait", "2s", "--config", writeConfig(t, deviceYAML("rpm-9", "rapiscan-tsa", "tcp://"+place)))
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `entry-1/rpm-9 +reachable +FAILED +`+has, text)
	dir := t.TempDir()
	text, code = output(t, "record", "--connect", "tcp://"+place, "--for", "1s", "--out", dir)
	require.Equal(t, exitFailed, code)
	require.Regexp(t, has+`.*--force connects all the same`, text)
	require.Empty(t, namesIn(t, dir))
	for _, e := range agent.seen() {
		require.NotEqual(t, "lanepost.device.offline.v1", e.Type)
	}
	text, _ = output(t, "record", "--connect", "tcp://"+place, "--for", "100ms", "--out", dir, "--force")
	require.NotRegexp(t, has, text)
}

func TestServiceProperties(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	before := unitFolders
	unitFolders = []string{lower, upper}
	t.Cleanup(func() { unitFolders = before })
	require.Empty(t, serviceProperties())
	write := func(path, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755)) //nolint:gosec // as systemd has them
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write(filepath.Join(lower, serviceUnit), "[Service]\nUser=lanepost\nSupplementaryGroups=dialout\n")
	write(filepath.Join(upper, serviceUnit+".d", "site.conf"), "[Service]\n# Group=x\nSupplementaryGroups=plugdev\nUser=lane\n")
	require.Equal(t, "lane", serviceProperties()["User"])
	require.Equal(t, []string{"dialout", "plugdev"}, strings.Fields(serviceProperties()["SupplementaryGroups"]))
	write(filepath.Join(upper, serviceUnit), "[Service]\nUser=other\n")
	write(filepath.Join(upper, serviceUnit+".d", "site.conf"), "[Service]\nSupplementaryGroups=\n")
	require.Equal(t, "other", serviceProperties()["User"])
	require.Empty(t, serviceProperties()["SupplementaryGroups"])
}

func TestClockRow(t *testing.T) {
	hour := []time.Duration{time.Hour, time.Hour + 5*time.Second}
	for name, c := range map[string]struct {
		synced  string
		offsets []time.Duration
		state   string
		says    string
	}{
		"right":                  {"yes", hour, isOK, "right to within 12ms"},
		"not synchronised":       {"no", nil, isWarning, "not synchronised"},
		"and one device differs": {"no", hour[:1], isWarning, "not synchronised"},
		"and all devices differ": {"no", hour, isFailed, "2 devices agree that it is 1 h behind theirs"},
		"and they disagree":      {"no", []time.Duration{time.Hour, -time.Hour}, isWarning, "not synchronised"},
		"and they are right":     {"no", []time.Duration{0, time.Second}, isWarning, "not synchronised"},
		"unknown":                {"unknown", nil, isSkipped, "does not tell"},
	} {
		row := clockRow(c.synced, 12*time.Millisecond, c.offsets)
		require.Equal(t, c.state, row.State, name)
		require.Contains(t, row.Detail, c.says, name)
		require.Equal(t, c.state == isWarning || c.state == isFailed, row.Hint != "", name)
	}
}

// No line is wider than the terminal, unless a single word is, and nothing is lost.
func TestTableFitsTheTerminal(t *testing.T) {
	rows := []result{
		{"configuration", "file", isOK, "short", ""},
		{"entry-1/rpm-1", "reachable", isFailed, strings.Repeat("word ", 60), strings.Repeat("hint ", 40)},
	}
	for _, width := range []int{40, 60, 80, 160} {
		text := layOut(rows, width)
		for _, l := range strings.Split(text, "\n") {
			require.LessOrEqual(t, len(l), width)
		}
		require.Equal(t, 60, strings.Count(text, "word"))
		require.Equal(t, 40, strings.Count(text, "hint"))
	}
	require.Equal(t, 3, strings.Count(layOut(rows, 0), "\n"), "without a terminal a row is a line")
}
