package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/simulator"
)

// mistake is one that technicians make, with what they are to read about it.
type mistake struct {
	// config writes the configuration with the mistake in it.
	config func(t *testing.T) string
	// prepare changes how the program is run; nil for as it is.
	prepare func(t *testing.T, cmd *exec.Cmd)
	// says are patterns that the table of check must have, each in one line, with the mend
	// among them; running are those of the log of run.
	says, running []string
}

// TestMistakes: each of these gets a message that names the mend, from check before the
// agent runs and from the agent's own log.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]mistake{
		"wrong baud rate": {
			config: func(t *testing.T) string {
				port := chattering(t, garbled([]byte("GB,000401,000406,000436,000436\r\nNB,000000,000001,000000,000000\r\n")))
				return writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa-serial", "serial:"+port+"?baud=9600&parity=none", "silence: 2s"))
			},
			says: []string{
				`entry-1/rpm-1 +protocol +FAILED +\d+ bytes in .*none of them a record of rapiscan-tsa-serial`,
				`-> the line is set to 9600 8N1, and what comes looks like the noise of a wrong speed or parity: set baud, parity and stop as in the instrument's manual`,
			},
			running: []string{`device is silent.*the line is set to 9600 8N1, and what comes looks like the noise of a wrong speed or parity: set baud`},
		},
		"swapped ports": {
			config: func(t *testing.T) string {
				scenario := &simulator.Scenario{Name: "two", Seed: 7, Lanes: []simulator.Lane{{ID: "entry-1", Devices: []simulator.Device{
					{ID: "rpm-1", Model: "tsa-portal"},
					{ID: "scale-1", Model: "scale", Camera: &simulator.CameraSettings{Options: map[string]string{"format": "csv"}}},
				}, Traffic: simulator.Traffic{Random: &simulator.RandomTraffic{PerHour: 120}}}}}
				sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
				portal, scale := sim.Devices()[0].Connect, sim.Devices()[1].Connect
				return writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", scale, "silence: 2s")+deviceYAML("scale-1", "scale-csv", portal, "silence: 2s"))
			},
			says: []string{
				`entry-1/rpm-1 +protocol +FAILED`, `entry-1/scale-1 +protocol +FAILED`,
				`-> these are records of rapiscan-tsa, which entry-1/rpm-1 should send: the two are probably exchanged, so swap their cables`,
				`-> these are records of scale-csv, which entry-1/scale-1 should send: the two are probably exchanged`,
			},
			running: []string{`device is silent.*these are records of rapiscan-tsa, which entry-1/rpm-1 should send: the two are probably exchanged`},
		},
		"wrong profile": {
			config: func(t *testing.T) string {
				scenario := &simulator.Scenario{Name: "one", Seed: 7, Lanes: []simulator.Lane{{ID: "entry-1", Devices: []simulator.Device{
					{ID: "rpm-1", Model: "tsa-portal"},
				}, Traffic: simulator.Traffic{Random: &simulator.RandomTraffic{PerHour: 120}}}}}
				sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
				return writeConfig(t, deviceYAML("rpm-1", "scale-csv", sim.Devices()[0].Connect, "silence: 2s"))
			},
			says: []string{
				`entry-1/rpm-1 +protocol +FAILED`,
				`-> what comes is read by the profile rapiscan-tsa \(\d+ of \d+ records parsed\): write profile: rapiscan-tsa for this device, or connect the instrument that belongs here`,
			},
			running: []string{`device is silent.*what comes is text of another kind: another instrument answers there, or the profile is the wrong one`},
		},
		"wrong password": {
			config: func(t *testing.T) string {
				users, secret := filepath.Join(t.TempDir(), "users"), filepath.Join(t.TempDir(), "secret")
				passwords(t, users)
				require.NoError(t, os.WriteFile(secret, []byte("hunter3\n"), 0o600))
				port := freePort(t)
				mosquitto(t, port, "user root", "allow_anonymous false", "password_file "+users)
				return writeConfig(t, quietDevice(t), fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n  username: lane\n  password_file: %s\n", port, secret))
			},
			says:    []string{`broker +TCP +ok`, `broker +login +FAILED`, `-> check user name and password`},
			running: []string{`not authorised.*check user name and password`},
		},
		"expired certificate": {
			config: func(t *testing.T) string {
				a := newAuthority(t, "the post")
				a.make("broker", &x509.Certificate{
					SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "broker.test"}, DNSNames: []string{"broker.test"},
					NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(-48 * time.Hour),
					ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
				}, a)
				port := freePort(t)
				mosquitto(t, freePort(t), "user root", fmt.Sprintf("listener %d 127.0.0.1", port), "certfile "+a.path("broker.pem"), "keyfile "+a.path("broker.key"))
				return writeConfig(t, quietDevice(t), fmt.Sprintf("mqtt:\n  brokers: [tls://127.0.0.1:%d]\n  ca_file: %s\n  server_name: broker.test\n", port, a.path("ca.pem")))
			},
			says: []string{
				`broker +TLS +FAILED +the broker's certificate \(broker.test\) has expired on ` + time.Now().Add(-48*time.Hour).UTC().Format(time.DateOnly),
				`-> those who run the broker must renew it; until then events wait in the spool`,
				`\n1 of \d+ checks failed`,
			},
			running: []string{`certificate is not valid at this time.*the broker needs a new certificate`},
		},
		"clock an hour off": {
			config: func(t *testing.T) string {
				scenario := cameraScenario("hikvision", 0, simulator.CameraSettings{ClockOffset: time.Hour})
				// No vehicle: the time of a plate would drift away, as the simulator's time runs faster.
				scenario.Lanes[0].Traffic = simulator.Traffic{Vehicles: []simulator.Vehicle{{Kind: "car", Arrive: 20 * time.Hour}}}
				sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
				camera, err := url.Parse(sim.Devices()[0].Connect)
				require.NoError(t, err)
				// The web server of a camera goes by the camera's clock, the simulator's by ours.
				proxy := httputil.NewSingleHostReverseProxy(camera)
				proxy.FlushInterval = -1
				proxy.ModifyResponse = func(r *http.Response) error {
					r.Header.Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
					return nil
				}
				server := httptest.NewServer(proxy)
				t.Cleanup(server.Close)
				return writeConfig(t, deviceYAML("anpr-1", "hikvision-stream", server.URL))
			},
			says: []string{
				`entry-1/anpr-1 +clock +FAILED +its clock is 1 h ahead of this box's`,
				`-> that is a whole step of time zones: set the zone and summer time in the device, or the zone in its settings; and check the zone and clock of this box`,
			},
			running: []string{`the device's clock is wrong.*its clock is 1 h ahead of this box's.*set the zone and summer time in the device`},
		},
		"read-only disk": {
			config: func(t *testing.T) string {
				path := writeConfig(t, quietDevice(t))
				require.NoError(t, os.Mkdir(filepath.Join(filepath.Dir(path), "spool"), 0o700))
				return path
			},
			// In name spaces of its own, where the spool is on a disk that is mounted read-only.
			prepare: func(t *testing.T, cmd *exec.Cmd) {
				if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
					require.Empty(t, os.Getenv("CI"), "unshare: %s", out)
					t.Skipf("no name spaces to mount in: %s", out)
				}
				spool := filepath.Join(filepath.Dir(cmd.Args[len(cmd.Args)-1]), "spool")
				args := append([]string{"unshare", "-m", "sh", "-c", "mount -t tmpfs -o ro none " + spool + ` && exec "$0" "$@"`}, cmd.Args...)
				unshare, err := exec.LookPath("unshare")
				require.NoError(t, err)
				cmd.Path, cmd.Args = unshare, args
			},
			says: []string{
				`spool +writable +FAILED .*is on a disk that is mounted read-only`,
				`-> the disk is mounted read-only, which Linux also does by itself when a disk fails: look in dmesg, mount it writable`,
			},
			running: []string{`open spool .*read-only file system`, `what to do: the disk is mounted read-only.*mount it writable`},
		},
		"duplicate device id": {
			config: func(t *testing.T) string {
				return writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", "tcp://10.0.3.21")+deviceYAML("rpm-1", "rapiscan-tsa", "tcp://10.0.3.22"))
			},
			says:    []string{`lanepost.yaml:8:13: device id rpm-1 is used twice`, `hint: the first is in line 5; change one of the two`},
			running: []string{`device id rpm-1 is used twice`, `hint: the first is in line 5; change one of the two`},
		},
		"a tab in the YAML": {
			config: func(t *testing.T) string {
				path := writeConfig(t, quietDevice(t))
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(b), "        profile:", "\tprofile:", 1)), 0o600))
				return path
			},
			says:    []string{`lanepost.yaml:6:1: a tab in the indentation`, `hint: YAML is indented with spaces only; set the editor to insert two spaces`},
			running: []string{`a tab in the indentation`, `hint: YAML is indented with spaces only`},
		},
		"a port owned by another process": {
			config: func(t *testing.T) string {
				port := chattering(t, nil)
				holder := lanepost("run", "--config", writeConfig(t, deviceYAML("rpm-9", "rapiscan-tsa-serial", "serial:"+port+"?baud=9600&parity=none", "silence: 10m")))
				require.NoError(t, holder.Start())
				t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
				require.Eventually(t, func() bool { return held(port) }, patience, 10*time.Millisecond)
				return writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa-serial", "serial:"+port+"?baud=9600&parity=none", "silence: 2s"))
			},
			says:    []string{`entry-1/rpm-1 +reachable +FAILED`, `-> /dev/pts/\d+ is in use by .*lanepost.* \(pid \d+\).*: end that program, or give each device a port of its own`},
			running: []string{`device is offline.*is in use by .*\(pid \d+\).*: end that program, or give each device a port of its own`},
		},
		"no permission on the serial port": {
			config: func(t *testing.T) string {
				port := chattering(t, nil)
				require.NoError(t, os.Chmod(port, 0o600))
				path := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa-serial", "serial:"+port+"?baud=9600&parity=none", "silence: 2s"))
				spool := filepath.Join(filepath.Dir(path), "spool")
				require.NoError(t, os.Mkdir(spool, 0o700))
				for p := path; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
					require.NoError(t, os.Chmod(p, 0o755))
				}
				require.NoError(t, os.Chown(spool, nobody, nobody))
				return path
			},
			prepare: func(t *testing.T, cmd *exec.Cmd) {
				if os.Geteuid() != 0 {
					t.Skip("only root can become another user")
				}
				asNobody(t, cmd, filepath.Dir(cmd.Args[len(cmd.Args)-1]))
			},
			says:    []string{`entry-1/rpm-1 +reachable +FAILED .*permission denied`, `-> user nobody may not open /dev/pts/\d+: the port's group may not open it: sudo chgrp dialout /dev/pts/\d+ && sudo chmod 660 /dev/pts/\d+ && sudo usermod -aG dialout nobody, and start again`},
			running: []string{`device is offline.*may not open /dev/pts/\d+: the port's group may not open it: sudo chgrp dialout`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := m.config(t)
			t.Parallel()
			run := func(args ...string) (*exec.Cmd, *syncBuffer) {
				cmd, text := lanepost(args...), &syncBuffer{}
				if m.prepare != nil {
					m.prepare(t, cmd)
				}
				cmd.Stdout, cmd.Stderr = text, text
				return cmd, text
			}
			cmd, text := run("check", "--wait", "3s", "--config", path)
			err := cmd.Run()
			require.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), "%v\n%s", err, text)
			for _, want := range m.says {
				require.Regexp(t, want, text.String())
			}
			require.NotContains(t, text.String(), "hunter3")

			cmd, text = run("run", "--config", path)
			require.NoError(t, cmd.Start())
			ended := make(chan struct{})
			go func() { _ = cmd.Wait(); close(ended) }()
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
			for _, want := range m.running {
				require.Eventually(t, func() bool { return matches(want, text.String()) }, patience, 20*time.Millisecond, "the log lacks %s", want)
			}
		})
	}
}

// nobody is a user with no rights.
const nobody = 65534

// asNobody has a command run by nobody, who may read path and reach it.
func asNobody(t *testing.T, cmd *exec.Cmd, path string) *exec.Cmd {
	// The folder of a test's program is its owner's.
	program := filepath.Join(t.TempDir(), "lanepost")
	b, err := os.ReadFile(cmd.Path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, b, 0o755)) //nolint:gosec // another user runs it
	for _, p := range []string{program, path} {
		for ; p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
			require.NoError(t, os.Chmod(p, 0o755))
		}
	}
	cmd.Path = program
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}
