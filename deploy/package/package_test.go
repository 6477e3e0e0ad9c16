// Package deploy_test installs the Debian package as dpkg does, in a directory of
// its own.
package deploy_test

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mostExposed is what systemd-analyze may say of the unit: below it is "OK", and the
// figure is in docs/install.md.
const mostExposed = "2.1"

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not here", name)
	}
	return path
}

// output runs a command in the root of the repository.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "../.."
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s:\n%s", name, strings.Join(args, " "), b)
	return string(b)
}

func TestUnit(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze")
	unit := "deploy/package/lanepost.service"
	text := output(t, analyze, "security", "--offline=true", "--no-pager", unit)
	found := regexp.MustCompile(`Overall exposure level for lanepost\.service: ([0-9.]+) `).FindStringSubmatch(text)
	require.NotNil(t, found, text)
	got, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	most, err := strconv.ParseFloat(mostExposed, 64)
	require.NoError(t, err)
	require.LessOrEqual(t, got, most, text)
	doc, err := os.ReadFile("../../docs/install.md")
	require.NoError(t, err)
	require.Contains(t, string(doc), "**"+mostExposed+"**", "docs/install.md names the score")

	// It finds unknown settings and values; the program is not installed here.
	out, _ := exec.Command(analyze, "verify", "--man=no", "lanepost.service").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "lanepost.service") {
			require.Contains(t, line, "/usr/bin/lanepost is not executable")
		}
	}
	require.NotEmpty(t, out, "it says at least that")
}

// machine is a directory into which dpkg installs.
type machine struct {
	t    *testing.T
	root string
	// fakeroot remembers owners where the test does not run as root.
	fakeroot []string
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, root: t.TempDir()}
	if os.Getuid() != 0 {
		state := filepath.Join(t.TempDir(), "owners")
		require.NoError(t, os.WriteFile(state, nil, 0o600))
		m.fakeroot = []string{tool(t, "fakeroot"), "-i", state, "-s", state, "--"}
	}
	require.NoError(t, os.Chmod(m.root, 0o755))
	require.NoError(t, os.Chmod(filepath.Dir(m.root), 0o755)) // for the agent's user
	for _, dir := range []string{"etc", "var/lib/dpkg/updates", "var/lib/dpkg/info"} {
		require.NoError(t, os.MkdirAll(m.at(dir), 0o755))
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\ndialout:x:20:\n",
		"var/lib/dpkg/available": "",
		// What the package depends on is the machine's own here.
		"var/lib/dpkg/status": "Package: systemd\nStatus: install ok installed\nArchitecture: " + arch() +
			"\nVersion: 252\nMaintainer: nobody\nDescription: stands for the machine's own\n\n",
	} {
		require.NoError(t, os.WriteFile(m.at(name), []byte(text), 0o644))
	}
	return m
}

func (m *machine) at(name string) string { return filepath.Join(m.root, name) }

// run runs a command as root, or as what looks like root.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	args = append(append([]string{}, m.fakeroot...), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C")
	b, err := cmd.CombinedOutput()
	require.NoError(m.t, err, "%s:\n%s", strings.Join(args, " "), b)
	return string(b)
}

func (m *machine) dpkg(args ...string) string {
	m.t.Helper()
	return m.run(append([]string{"dpkg", "--root=" + m.root, "--force-not-root", "--force-script-chrootless", "--log=/dev/null"}, args...)...)
}

// owner gives mode, user and group of a file by their numbers.
func (m *machine) owner(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.run("stat", "-c", "%a %u:%g", m.at(name)))
}

// id is the number of the agent's user or group in a file of the machine.
func (m *machine) id(file string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.at(file))
	require.NoError(m.t, err)
	found := regexp.MustCompile(`(?m)^lanepost:[^:]*:(\d+):`).FindSubmatch(b)
	require.NotNil(m.t, found, "%s: %s", file, b)
	return string(found[1])
}

func arch() string {
	if runtime.GOARCH == "arm" {
		return "armhf"
	}
	return runtime.GOARCH
}

func build(t *testing.T, version, archs string) string {
	t.Helper()
	dir := t.TempDir()
	output(t, "make", "-s", "package", "DIST="+dir, "ARCHS="+archs, "PACKAGE_VERSION="+version)
	return dir
}

func TestPackage(t *testing.T) {
	t.Parallel()
	tool(t, "dpkg")
	tool(t, "systemd-sysusers")
	tool(t, "deb-systemd-helper")
	older := filepath.Join(build(t, "1.0", arch()), "lanepost_1.0_"+arch()+".deb")
	newer := filepath.Join(build(t, "1.1~rc1", arch()), "lanepost_1.1~rc1_"+arch()+".deb")
	m := newMachine(t)

	out := m.dpkg("--install", older)
	require.Contains(t, out, "'sudo lanepost init' asks for the site and its lanes")
	uid, gid := m.id("etc/passwd"), m.id("etc/group")
	groups, err := os.ReadFile(m.at("etc/group"))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^dialout:x:20:lanepost$`, string(groups))
	for name, want := range map[string]string{
		"usr/bin/lanepost":                                                     "755 0:0",
		"usr/lib/systemd/system/lanepost.service":                              "644 0:0",
		"usr/share/doc/lanepost/install.md":                                    "644 0:0",
		"usr/share/doc/lanepost/operator.md":                                   "644 0:0",
		"usr/share/doc/lanepost/own-devices.md":                                "644 0:0",
		"usr/share/doc/lanepost/schemas/lanepost.event.v1.json":                "644 0:0",
		"usr/share/doc/lanepost/examples/alerts.yaml":                          "644 0:0",
		"usr/share/doc/lanepost/copyright":                                     "644 0:0",
		"usr/share/doc/lanepost/examples/lanepost.example.yaml":                "644 0:0",
		"usr/share/doc/lanepost/examples/mosquitto/mosquitto.conf":             "644 0:0",
		"usr/share/man/man8/lanepost.8.gz":                                     "644 0:0",
		"etc/lanepost":                                                         "2750 0:" + gid,
		"etc/lanepost/lanepost.yaml":                                           "640 0:" + gid,
		"etc/systemd/system/multi-user.target.wants/lanepost.service":          "777 0:0",
		"var/lib/systemd/deb-systemd-helper-enabled/lanepost.service.dsh-also": "644 0:0",
	} {
		require.Equal(t, want, m.owner(name), name)
	}
	require.NoFileExists(t, m.at("usr/bin/lanesim"))

	// The installed program on the installed configuration, and then with a lane, as
	// the agent's user if this is root.
	program := m.at("usr/bin/lanepost")
	require.Contains(t, output(t, program, "version"), "lanepost ")
	config, data := m.at("etc/lanepost/lanepost.yaml"), m.at("var/lib/lanepost")
	m.run("install", "-d", "-o", uid, "-g", gid, "-m", "0750", data) // as StateDirectory= does
	run := exec.Command(program, "run", "--config", config, "--stdout")
	if os.Getuid() == 0 {
		u, _ := strconv.ParseUint(uid, 10, 32)
		g, _ := strconv.ParseUint(gid, 10, 32)
		run.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}}
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()
	run.Stderr = log
	logged := func() string {
		b, err := os.ReadFile(log.Name())
		require.NoError(t, err)
		return string(b)
	}
	printed, err := run.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, run.Start())
	kill := time.AfterFunc(time.Minute, func() { _ = run.Process.Kill() })
	defer kill.Stop()
	require.Eventually(t, func() bool { return strings.Contains(logged(), "no lane is configured yet") }, time.Minute, 10*time.Millisecond)
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	edited := strings.NewReplacer("change-me", "medyka", "lanes: []", "lanes: [{id: entry-3, devices: []}]", "dir: /var/lib/lanepost", "dir: "+data).Replace(string(text))
	require.NoError(t, os.WriteFile(config, []byte(edited), 0o640))
	password := m.at("etc/lanepost/mqtt.password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o640))
	require.NoError(t, run.Process.Signal(syscall.SIGHUP))
	var started struct{ Type, Source string }
	line, err := bufio.NewReader(printed).ReadBytes('\n')
	require.NoError(t, err, "the agent's log: %s", logged())
	require.NoError(t, json.Unmarshal(line, &started))
	require.Equal(t, "lanepost.agent.started.v1", started.Type)
	require.Regexp(t, "^/medyka/", started.Source)
	require.NoError(t, run.Process.Signal(syscall.SIGTERM))
	require.NoError(t, run.Wait())
	if os.Getuid() == 0 {
		require.Equal(t, "640 0:"+gid, m.owner("etc/lanepost/mqtt.password"), "what is put there is the group's to read")
	}
	identity, err := os.ReadFile(filepath.Join(data, "agent.json"))
	require.NoError(t, err)

	kept := func() {
		t.Helper()
		now, err := os.ReadFile(filepath.Join(data, "agent.json"))
		require.NoError(t, err)
		require.Equal(t, string(identity), string(now))
		require.FileExists(t, password)
		require.Contains(t, output(t, "cat", m.at("etc/passwd")), "lanepost:")
	}
	configured := func() {
		t.Helper()
		now, err := os.ReadFile(config)
		require.NoError(t, err)
		require.Equal(t, edited, string(now))
	}

	// What somebody has set otherwise stays, files and service.
	m.run("chmod", "0600", config)
	m.run("chown", uid+":"+gid, config)
	require.NoError(t, os.Remove(m.at("etc/systemd/system/multi-user.target.wants/lanepost.service")))
	out = m.dpkg("--install", newer)
	require.NotContains(t, out, "lanepost init")
	require.Contains(t, m.dpkg("--status", "lanepost"), "Version: 1.1~rc1")
	require.Equal(t, "600 "+uid+":"+gid, m.owner("etc/lanepost/lanepost.yaml"))
	require.NoFileExists(t, m.at("etc/systemd/system/multi-user.target.wants/lanepost.service"))
	kept()
	configured()

	m.dpkg("--remove", "lanepost")
	require.NoFileExists(t, program)
	require.NoFileExists(t, m.at("usr/lib/systemd/system/lanepost.service"))
	kept()
	configured()

	out = m.dpkg("--purge", "lanepost")
	require.Contains(t, out, "lanepost: /var/lib/lanepost stays.")
	require.Contains(t, out, "lanepost: /etc/lanepost stays.")
	require.NotContains(t, out, "/var/lib/lanepost-daily stays")
	require.NoFileExists(t, config)
	require.NoFileExists(t, m.at("var/lib/systemd/deb-systemd-helper-enabled/lanepost.service.dsh-also"))
	kept()
	entries, err := os.ReadDir(m.at("etc/lanepost"))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// Each package has a program for its machine.
func TestPackagesOfEachMachine(t *testing.T) {
	if os.Getenv("LANEPOST_PACKAGES") == "" {
		t.Skip("the program for three machines takes minutes: this is for `make package-test`")
	}
	t.Parallel()
	tool(t, "dpkg-deb")
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "armhf": elf.EM_ARM}
	dir := build(t, "1.0", "amd64 arm64 armhf")
	for arch, want := range machines {
		deb := filepath.Join(dir, "lanepost_1.0_"+arch+".deb")
		require.Equal(t, arch+"\n", output(t, "dpkg-deb", "--field", deb, "Architecture"))
		into := t.TempDir()
		output(t, "dpkg-deb", "--extract", deb, into)
		f, err := elf.Open(filepath.Join(into, "usr/bin/lanepost"))
		require.NoError(t, err)
		require.Equal(t, want, f.Machine, arch)
		libraries, err := f.ImportedLibraries()
		require.NoError(t, err)
		require.Empty(t, libraries, "the program needs nothing but the kernel")
		require.NoError(t, f.Close())
	}
}

// Later builds have higher versions.
func TestPackageVersions(t *testing.T) {
	t.Parallel()
	tool(t, "dpkg")
	version := func(describe string) string {
		text := output(t, "make", "-sn", "package", "VERSION="+describe, "ARCHS=none")
		found := regexp.MustCompile(`PACKAGE_VERSION='([^']+)'`).FindStringSubmatch(text)
		require.NotNil(t, found, text)
		return found[1]
	}
	before := version("0123abc") // no tag yet
	require.Regexp(t, `^0\.0\.0\+\d+\.\w+$`, before)
	for _, describe := range []string{"v0.9.0", "v1.2.3-rc1", "v1.2.3-rc2", "v1.2.3", "v1.2.3-4-g0123abc", "v1.2.3-12-gabcdef0", "1.3", "1.3-dirty"} {
		next := version(describe)
		output(t, "dpkg", "--compare-versions", next, "gt", before)
		before = next
	}
}
