package main

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/lanepost/lanepost/agent/config"
	"github.com/lanepost/lanepost/drivers/registry"
	profiles "github.com/lanepost/lanepost/firmware-profiles"
)

// terminalSession is the program on a terminal, and the person at it.
type terminalSession struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File
	text *syncBuffer
	seen int // how much of the text has been answered
	done chan error
}

func initOnTerminal(t *testing.T, args ...string) *terminalSession {
	t.Helper()
	s := &terminalSession{t: t, cmd: lanepost(args...), text: &syncBuffer{}, done: make(chan error, 1)}
	master, slave, err := pty.Open()
	require.NoError(t, err)
	s.tty = master
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, s.cmd.Start())
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			_, _ = s.text.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = slave.Close()
		_ = master.Close()
		<-copied
	})
	return s
}

// asked waits for a question that has not been answered yet.
func (s *terminalSession) asked(question string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		text := s.text.String()
		return s.seen <= len(text) && strings.Contains(text[s.seen:], question)
	}, patience, patience/6000, "it does not ask %q", question)
	s.seen += strings.Index(s.text.String()[s.seen:], question) + len(question)
}

// answer waits for a question and types the answer.
func (s *terminalSession) answer(question, answer string) {
	s.t.Helper()
	s.asked(question)
	_, err := s.tty.WriteString(answer + "\n")
	require.NoError(s.t, err)
}

func (s *terminalSession) echoes() bool {
	state, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	require.NoError(s.t, err)
	return state.Lflag&unix.ECHO != 0
}

func TestInitAsks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "etc", "lanepost.yaml")
	s := initOnTerminal(t, "init", "--config", path)
	s.answer("Name of the crossing point", "Medyka Border")
	s.asked("can't be a name: use 1 to 40 lower-case letters")
	s.answer("Name of the crossing point", "\x1b[Dmedyka")
	s.asked("a key in it that makes no letter")
	s.answer("Name of the crossing point", "medyka")
	s.answer("Name of the lane", "")
	s.answer("What is it?", "3")
	s.asked("there is no list yet that 3 could be of: type a word to look for")
	s.answer("What is it?", "portal vm-250 tcp")
	s.asked("rapiscan-tsa")
	s.answer("What is it?", "99")
	s.asked("there is no number 99 in the list: type 1 to ")
	s.answer("What is it?", "1")
	s.answer("Number [1]", "")
	s.answer("Its address", "10.0.3.21:99999")
	s.asked("is no port")
	s.answer("Its address", "back")
	s.answer("What is it?", "rapiscan-tsa")
	s.answer("Number [1]", "1")
	s.answer("Its address", "10.0.3.21")
	s.answer("Name of this device [rpm-1]", "")
	s.answer("Another device", "yes")
	s.answer("What is it?", "rapiscan-tsa")
	s.answer("Number", "1")
	s.answer("Its address", "10.0.3.21")
	s.asked("which serves one client, is used twice")
	s.answer("Its address", "10.0.3.22")
	s.answer("Name of this device [rpm-2]", "rpm-1")
	s.asked("is there already: take another name")
	s.answer("Name of this device [rpm-2]", "")
	s.answer("Another device", "perhaps")
	s.asked("answer yes or no")
	s.answer("Another device", "y")
	s.answer("What is it?", "state-bus-modbus")
	s.asked("needs settings that only the site knows")
	s.answer("What is it?", "rapiscan-tsa-serial")
	s.answer("Number [2]", "")
	s.answer("Serial port", "/dev/ttyUSB7")
	s.answer("Line settings", "fast")
	s.asked("write the speed, the data bits, the parity")
	s.answer("Line settings", "19200 8o1")
	s.answer("Name of this device [rpm-3]", "")
	s.answer("Another device", "no")
	s.answer("Its address, for example mqtt.example", "mqtt.test")
	s.answer("Does it use TLS (yes/no) [yes]", "")
	s.answer("File with the certificate", filepath.Join(dir, "none.pem"))
	s.asked("no such file")
	s.answer("File with the certificate", "")
	s.answer("User name at the broker", "lane-3")
	s.asked("Password of lane-3 (it is not shown)")
	require.Eventually(t, func() bool { return !s.echoes() }, patience, patience/6000)
	s.seen -= len("(it is not shown)")
	s.answer("(it is not shown)", "correct horse")
	s.answer("Folder for them", filepath.Join(dir, "spool"))
	require.NoError(t, <-s.done, s.text.String())
	s.asked("Written: " + path)
	s.asked("lanepost check --config " + path)
	s.asked("lanepost run --config " + path)
	require.True(t, s.echoes())
	require.NotContains(t, s.text.String(), "correct horse")

	written, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotContains(t, string(written), "correct horse")
	cfg, err := config.Load(path)
	require.NoError(t, err)
	require.Empty(t, cfg.Warnings)
	require.Equal(t, "medyka", cfg.Site)
	var devices []string
	for _, d := range cfg.Devices() {
		devices = append(devices, d.Lane+"/"+d.ID+" "+d.Profile.Name+" "+d.Endpoint.String())
	}
	require.Equal(t, []string{
		"entry-1/rpm-1 rapiscan-tsa tcp://10.0.3.21:1600", "entry-1/rpm-2 rapiscan-tsa tcp://10.0.3.22:1600",
		"entry-1/rpm-3 rapiscan-tsa-serial serial:/dev/ttyUSB7?baud=19200&data=8&parity=odd&stop=1&backend=go.bug.st",
	}, trimmed(devices))
	require.Equal(t, []string{"tls://mqtt.test:8883"}, cfg.MQTT[0].Brokers)
	password, err := cfg.MQTT[0].ReadPassword()
	require.NoError(t, err)
	require.Equal(t, "correct horse", password)
	for _, f := range []string{path, cfg.MQTT[0].PasswordFile} {
		info, err := os.Stat(f)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(configMode), info.Mode().Perm(), f)
	}
	require.Equal(t, []string{"lanepost.yaml", "mqtt.password"}, namesIn(t, filepath.Dir(path)))
}

// trimmed takes the options of TCP links off, which are not of interest.
func trimmed(list []string) []string {
	for i, s := range list {
		if place, _, ok := strings.Cut(s, "?"); ok && strings.Contains(s, "tcp:") {
			list[i] = place
		}
	}
	return list
}

func namesIn(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Ctrl-C at a question, at the hidden one too, leaves no file, and the terminal as it was.
func TestInitBrokenOff(t *testing.T) {
	t.Parallel()
	for name, until := range map[string]func(*terminalSession){
		"at the first question": func(s *terminalSession) { s.asked("Name of the crossing point") },
		"at the password": func(s *terminalSession) {
			s.answer("User name at the broker", "lane-3")
			s.asked("(it is not shown)")
			require.Eventually(s.t, func() bool { return !s.echoes() }, patience, patience/6000)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "lanepost.yaml")
			args := []string{"init", "--config", path}
			if name == "at the password" {
				args = append(args, "--site", "a", "--lane", "b", "--device", "id=c,profile=rapiscan-tsa,connect=tcp://10.0.3.21")
			}
			s := initOnTerminal(t, args...)
			if name == "at the password" {
				s.answer("Its address, for example mqtt.example", "tcp://mqtt.test")
			}
			until(s)
			_, err := s.tty.WriteString("\x03")
			require.NoError(t, err)
			require.Error(t, <-s.done)
			require.Equal(t, exitFailed, s.cmd.ProcessState.ExitCode(), s.text.String())
			s.asked("nothing was written")
			require.True(t, s.echoes())
			require.Empty(t, namesIn(t, filepath.Dir(path)))
		})
	}
}

func TestInitFromFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "lanepost.yaml")
	args := []string{
		"init", "--config", path, "--site", "medyka", "--lane", "entry-3",
		"--device", "id=rpm-1,profile=rapiscan-tsa,connect=tcp://10.0.3.21",
		"--device", "id=anpr-1,profile=hikvision-push,connect=http-listen://0.0.0.0:8080/ab,allow=10.0.3.32,10.0.3.33,lane=entry-4",
		"--broker", "tcp://mqtt.test", "--spool-dir", filepath.Join(dir, "spool"),
	}
	text, code := output(t, args...)
	require.Zero(t, code, text)
	cfg, err := config.Load(path)
	require.NoError(t, err)
	require.Len(t, cfg.Devices(), 2)
	require.Equal(t, "entry-4", cfg.Devices()[1].Lane)
	require.Contains(t, cfg.Devices()[1].Endpoint.String(), "10.0.3.33")
	before, err := os.ReadFile(path)
	require.NoError(t, err)

	// What is there stays, unless it is asked for otherwise; then the old one is kept.
	text, code = output(t, args...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, text, "is there already and stays as it is")
	text, code = output(t, append(args, "--no-broker")...)
	require.Equal(t, exitUsage, code, text)
	text, code = output(t, "init", "--config", path, "--force", "--site", "other", "--lane", "entry-3", "--device", args[8], "--no-broker")
	require.Zero(t, code, text)
	old, err := os.ReadFile(path + ".old")
	require.NoError(t, err)
	require.Equal(t, string(before), string(old))
	cfg, err = config.Load(path)
	require.NoError(t, err)
	require.Equal(t, "other", cfg.Site)
	require.Equal(t, []string{"lanepost.yaml", "lanepost.yaml.old"}, namesIn(t, dir))

	// What would not be valid is not written, and not even its folder made.
	for want, bad := range map[string][]string{
		`there is no profile "rapiscan-tsx": did you mean "rapiscan-tsa"?`: {"--site", "a", "--lane", "b", "--device", "id=c,profile=rapiscan-tsx,connect=tcp://10.0.3.21", "--no-broker"},
		"device id c is used twice":                                        {"--site", "a", "--lane", "b", "--device", "id=c,profile=rapiscan-tsa,connect=tcp://h", "--device", "id=c,profile=rapiscan-tsa,connect=tcp://i", "--no-broker"},
		"it has no connect=...":                                            {"--site", "a", "--lane", "b", "--device", "id=c,profile=rapiscan-tsa", "--no-broker"},
		"this is no terminal to ask questions on, and there is no --lane":  {"--site", "a", "--no-broker"},
		"no such file": {"--site", "a", "--lane", "b", "--device", "id=c,profile=rapiscan-tsa,connect=tcp://h", "--broker", "tcp://h", "--username", "x", "--password-file", "/none"},
	} {
		nowhere := filepath.Join(dir, "nowhere", "lanepost.yaml")
		text, code := output(t, append([]string{"init", "--config", nowhere}, bad...)...)
		require.NotZero(t, code, text)
		require.Contains(t, text, want)
		require.NoDirExists(t, filepath.Dir(nowhere))
	}
}

// However the question for a password ends, the terminal shows again what is typed.
func TestConsolePasswordOnATerminal(t *testing.T) {
	t.Parallel()
	s := initOnTerminal(t, "console", "password", "anna")
	s.asked("Password")
	require.Eventually(t, func() bool { return !s.echoes() }, patience, patience/6000)
	_, err := s.tty.WriteString("\x03")
	require.NoError(t, err)
	require.Error(t, <-s.done)
	require.Equal(t, exitFailed, s.cmd.ProcessState.ExitCode(), s.text.String())
	require.True(t, s.echoes())

	s = initOnTerminal(t, "console", "password", "anna")
	s.answer("Password", "cold hands at four")
	s.answer("The same again", "cold hands at five")
	s.asked("the two are not the same")
	require.Error(t, <-s.done)
	s = initOnTerminal(t, "console", "password", "anna")
	s.answer("Password", "cold hands at four")
	s.answer("The same again", "cold hands at four")
	s.asked("anna:$2")
	require.NoError(t, <-s.done)
	require.NotContains(t, s.text.String(), "cold hands")
}

// The commented silence limit is the one that holds without it.
func TestInitTellsTheProfilesSilence(t *testing.T) {
	t.Parallel()
	known, err := profiles.Load("")
	require.NoError(t, err)
	for _, name := range known.Names() {
		p, ok := known.Get(name)
		require.True(t, ok)
		s := starter{site: "a", lane: "b", devices: []starterDevice{{lane: "b", id: "c", profile: name, connect: "tcp://h:1"}}}
		text := string(s.yaml(nil))
		_, after, found := strings.Cut(text, "\n        # silence: ")
		require.True(t, found, name)
		limit, err := time.ParseDuration(strings.Fields(after)[0])
		require.NoError(t, err, name)
		driver, _ := registry.ByName(p.Driver)
		require.Equal(t, cmp.Or(p.Silence, driver.Silence), limit, name)
	}
}

func TestInitGuesses(t *testing.T) {
	t.Parallel()
	for address, clear := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:8883": true, "localhost": true, "[::1]:1234": true, "::1": true, "10.0.0.5:1883": true,
		"mqtt.example": false, "10.0.0.5": false, "10.0.0.5:8883": false,
	} {
		require.Equal(t, clear, inClear(address), address)
	}
	// A user who could not make the package's directory gets one that can be made.
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		require.NoError(t, os.Chmod(p, 0o755)) //nolint:gosec // another user comes here
	}
	require.NoError(t, os.Chown(dir, nobody, nobody))
	path := filepath.Join(dir, "lanepost.yaml")
	out, err := asNobody(t, lanepost("init", "--config", path, "--site", "a", "--lane", "b", "--device", "id=c,profile=rapiscan-tsa,connect=tcp://10.0.3.21", "--no-broker"), dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cfg, err := config.Load(path)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "spool"), cfg.Spool.Dir)
	require.Equal(t, defaultSpool, spoolFor(path), "as root")
}

// What YAML would read otherwise is quoted.
func TestStarterScalars(t *testing.T) {
	for _, text := range []string{"10", "1e3", "no", "~", "a: b", "# x", "it's", `a"b`, "@x", "%y", "-", "a:", "0x10", "null", "[a]", "x y", "ł/ó"} {
		s := starter{site: "a", lane: "b", devices: []starterDevice{{
			lane: "b", id: "c", profile: "rapiscan-tsa", connect: "tcp://h",
		}}, brokers: []string{"tcp://h"}, username: text}
		cfg, err := config.Parse("x.yaml", s.yaml(nil))
		require.NoError(t, err, text)
		require.Equal(t, text, cfg.MQTT[0].Username)
	}
}
