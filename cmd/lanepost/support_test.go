package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console"
	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/firmware-profiles"
	"github.com/lanepost/lanepost/firmware-profiles/yamlfile"
	"github.com/lanepost/lanepost/protocol/capture"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// unpacked are the files of an archive by name, without the directory in front.
func unpacked(t *testing.T, path string) map[string]string {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		require.Equal(t, int64(0o600), h.Mode)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = string(b)
	}
}

// forms are the ways in which a secret may be written.
func forms(s string) []string {
	return []string{
		s, url.QueryEscape(s), url.PathEscape(s), hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s))),
		base64.StdEncoding.EncodeToString([]byte(s)), base64.RawStdEncoding.EncodeToString([]byte(s)), base64.RawURLEncoding.EncodeToString([]byte(s)),
	}
}

// whereIs names the files that hold a text in one of its forms; case does not count.
func whereIs(files map[string]string, secret string) (names []string) {
	for name, content := range files {
		for _, form := range forms(secret) {
			if strings.Contains(strings.ToLower(content), strings.ToLower(form)) {
				names = append(names, name+" holds "+form)
			}
		}
	}
	return names
}

// supportSite is a running agent with a portal, a camera that is read and one that posts,
// and a secret in each place that may have one.
type supportSite struct {
	agent          *process
	config         string
	secrets        map[string]string
	plates         []string
	profileVectors string
}

func startSupportSite(t *testing.T) supportSite {
	t.Helper()
	dir := t.TempDir()
	secrets := map[string]string{
		"password of the camera": "pw-Camera/7&xQ", "password of the broker": "pw-Broker=9zR", "user of the broker": "brokeruser-K3",
		"secret path": "c2VjcmV0LXBhdGg", "user of the camera": "cam-login-V8",
		"pseudonym key": strings.Repeat("5e3f", 16), "key of the spool": strings.Repeat("a91c", 16),
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		return path
	}
	line, err := console.UserLine("anna", "pw-Console-5tW")
	require.NoError(t, err)
	secrets["hash of a user"] = strings.TrimPrefix(strings.TrimSpace(line), "anna:")
	secrets["password of a user"] = "pw-Console-5tW"

	ca, door := newAuthority(t, "site"), freePort(t)
	ca.issue("box", "127.0.0.1")
	key, err := os.ReadFile(ca.path("box.key"))
	require.NoError(t, err)
	secrets["key of the console"] = strings.Split(string(key), "\n")[1]

	set, err := profiles.Load("")
	require.NoError(t, err)
	builtIn, ok := set.Get("serial-plate")
	require.True(t, ok)
	_, vectors, ok := strings.Cut(builtIn.Source(), "\nvectors:")
	require.True(t, ok)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "profiles"), 0o700))
	write("profiles/my-plates.yaml", strings.Replace(builtIn.Source(), "profile: serial-plate", "profile: my-plates", 1))

	camera := simulator.CameraSettings{Username: secrets["user of the camera"], Password: secrets["password of the camera"]}
	sim := simulator.Start(t, cameraScenario("hikvision", 10*time.Minute, camera))
	portals := quietLane(t, 20)
	devices := deviceYAML("rpm-1", "rapiscan-tsa", portals.Devices()[0].Connect) +
		deviceYAML("anpr-1", "hikvision-stream", sim.Devices()[0].Connect+"?username="+secrets["user of the camera"]+"&password_file="+write("camera.password", secrets["password of the camera"])) +
		deviceYAML("anpr-2", "vzen-push", fmt.Sprintf("http-listen://127.0.0.1:%d/camera/%s", freePort(t), secrets["secret path"]))
	path := writeConfig(t, devices,
		"  key_file: "+write("spool.key", secrets["key of the spool"])+"\n",
		fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n  username: %s\n  password_env: LANEPOST_TEST_SUPPORT\n", freePort(t), secrets["user of the broker"]),
		"plates: {pseudonym_key_file: "+write("pseudonym.key", secrets["pseudonym key"])+"}\n",
		// All that the console may ever show is shown.
		fmt.Sprintf("console: {listen: \"127.0.0.1:%d\", tls: {cert_file: %s, key_file: %s}, users_file: %s, plates: full}\n",
			door, ca.path("box.pem"), ca.path("box.key"), write("users", strings.TrimSpace(line))),
		"profiles: "+filepath.Join(dir, "profiles")+"\n",
		"log: {level: debug}\n",
	)
	cmd := lanepost("run", "--config", path, "--stdout")
	cmd.Env = append(cmd.Env, "LANEPOST_TEST_SUPPORT="+secrets["password of the broker"])
	p := startCommand(t, cmd)
	p.waitFor("lanepost.plate.read.v1", 5)
	p.waitFor("lanepost.radiation.background.v1", 1)
	require.NoError(t, sim.Wait())
	var plates []string
	for _, plate := range seen(sim.Truth()) {
		if plate != "" {
			plates = append(plates, plate)
		}
	}
	require.Greater(t, len(plates), 5)
	p.wait("every plate", func(list []event.Event) bool {
		n := 0
		for _, e := range list {
			if e.Type == "lanepost.plate.read.v1" {
				n++
			}
		}
		return n >= len(plates)
	})
	signing, err := os.ReadFile(filepath.Join(spoolOf(path), "signing-key.pem"))
	require.NoError(t, err)
	secrets["signing key"] = strings.Split(string(signing), "\n")[1]
	// Somebody is logged in.
	form := url.Values{"user": {"anna"}, "password": {secrets["password of a user"]}}
	base := fmt.Sprintf("https://127.0.0.1:%d", door)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/login", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", base)
	browser := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // it is this test's own agent
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer browser.CloseIdleConnections()
	answer, err := browser.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.NotEmpty(t, answer.Cookies())
	secrets["cookie of a login"] = answer.Cookies()[0].Value
	return supportSite{agent: p, config: path, secrets: secrets, plates: plates, profileVectors: vectors}
}

// requireNothingPrivate looks for every secret and every plate in every file.
func (s supportSite) requireNothingPrivate(t *testing.T, files map[string]string) {
	t.Helper()
	for what, secret := range s.secrets {
		require.Empty(t, whereIs(files, secret), what)
	}
	for _, plate := range s.plates {
		require.Empty(t, whereIs(files, plate), "a plate")
	}
	for line := range strings.Lines(s.profileVectors) {
		if line = strings.TrimSpace(line); len(line) > 30 {
			require.Empty(t, whereIs(files, line), "a vector of a plate reader")
		}
	}
}

// Nothing secret and no plate is in an archive: with an agent that runs, with captures, and
// after it has stopped. What would find them finds them where they may be.
func TestSupportHoldsNoSecretAndNoPlate(t *testing.T) {
	t.Parallel()
	site := startSupportSite(t)
	// The search can fail: the console shows the plates here.
	c := dialAgent(t, spoolOf(site.config))
	r, err := client.Open(t.Context(), c, "GET", "/api/v1/status")
	require.NoError(t, err)
	shown, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NotEmpty(t, whereIs(map[string]string{"status": string(shown)}, site.plates[len(site.plates)-1]))
	raw, err := os.ReadFile(site.config)
	require.NoError(t, err)
	require.NotEmpty(t, whereIs(map[string]string{"config": string(raw)}, site.secrets["secret path"]))

	out := filepath.Join(t.TempDir(), "a.tar.gz")
	cmd := lanepost("support", "--config", site.config, "--captures", "2s", "--out", out)
	cmd.Env = append(cmd.Env, "LANEPOST_TEST_SUPPORT="+site.secrets["password of the broker"])
	said, err := cmd.CombinedOutput()
	text := string(said)
	require.NoError(t, err, text)
	require.Contains(t, text, "No secret and no plate is in it")
	require.Contains(t, text, "not in it: capture of entry-1/anpr-1")
	files := unpacked(t, out)
	for _, name := range []string{"config.yaml", "status.json", "metrics.txt", "log.txt", "box.txt", "spool.json", "spool-files.txt", "check.txt", "profiles/my-plates.yaml", "captures/entry-1_rpm-1.jsonl", "contents.txt"} {
		require.NotEmpty(t, files[name], "%s: %s", name, text)
	}
	site.requireNothingPrivate(t, files)
	site.requireNothingPrivate(t, map[string]string{"what is printed": text})
	// It is of use all the same.
	require.Contains(t, files["config.yaml"], "hikvision-stream")
	require.Contains(t, files["log.txt"], "device is online")
	require.Contains(t, files["metrics.txt"], "lanepost_plate_reads_total")
	require.Contains(t, files["status.json"], `"entry-1/anpr-1"`)
	require.Contains(t, files["check.txt"], "entry-1/rpm-1")
	require.Contains(t, files["profiles/my-plates.yaml"], "profile: my-plates")
	played, err := capture.Open(strings.NewReader(files["captures/entry-1_rpm-1.jsonl"]))
	require.NoError(t, err)
	n := 0
	for {
		e, err := played.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		n += bytes.Count(e.Bytes, []byte("\n"))
	}
	require.Positive(t, n)
	require.NotNil(t, played.End())

	// It never writes over a file.
	text, code := output(t, "support", "--config", site.config, "--out", out)
	require.Equal(t, 1, code)
	require.Contains(t, text, "exists already")

	// The variable with the password is the service's alone: the configuration can't be used here.
	out = filepath.Join(t.TempDir(), "d.tar.gz")
	text, code = output(t, "support", "--config", site.config, "--out", out)
	require.Zero(t, code, text)
	files = unpacked(t, out)
	require.Contains(t, files["check.txt"], "LANEPOST_TEST_SUPPORT is not set")
	require.NotEmpty(t, files["status.json"])
	require.NotEmpty(t, files["profiles/my-plates.yaml"])
	site.requireNothingPrivate(t, files)

	site.agent.stop()
	out = filepath.Join(t.TempDir(), "b.tar.gz")
	text, code = output(t, "support", "--config", site.config, "--out", out)
	require.Zero(t, code, text)
	require.Contains(t, text, "no agent is running")
	files = unpacked(t, out)
	require.NotContains(t, files, "status.json")
	require.Contains(t, files["spool.json"], `"urgent"`)
	site.requireNothingPrivate(t, files)

	// A configuration that can't be used is what help is asked for with.
	require.NoError(t, os.WriteFile(site.config, append(raw, []byte("mqqt: {password: pw-Misplaced-3}\n")...), 0o600))
	site.secrets["misplaced"] = "pw-Misplaced-3"
	out = filepath.Join(t.TempDir(), "c.tar.gz")
	text, code = output(t, "support", "--config", site.config, "--out", out)
	require.Zero(t, code, text)
	files = unpacked(t, out)
	require.Contains(t, files["config-problems.txt"], `unknown key "mqqt"`)
	require.NotEmpty(t, files["spool.json"], "the spool's directory is found nevertheless")
	site.requireNothingPrivate(t, files)
}

// Without anything to look at, and onto a disk that takes nothing.
func TestSupportOfAnEmptyBox(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "a.tar.gz")
	text, code := output(t, "support", "--config", filepath.Join(t.TempDir(), "none.yaml"), "--out", out)
	require.Equal(t, exitFailed, code, text)
	require.Contains(t, text, "It holds next to nothing: neither the configuration nor the agent nor the spool could be read.")
	files := unpacked(t, out)
	require.Contains(t, files["box.txt"], "lanepost development")
	require.Contains(t, files["contents.txt"], "no such file")

	text, code = output(t, "support", "--config", filepath.Join(t.TempDir(), "none.yaml"), "--out", filepath.Join(t.TempDir(), "gone", "a.tar.gz"))
	require.Equal(t, 1, code)
	require.Contains(t, text, "--out")
	text, code = output(t, "support", "--captures", "11m")
	require.Equal(t, 2, code, text)
}

// Who may not read it is told how, and so is one who records.
func TestSupportOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	path := writeConfig(t, quietDevice(t))
	dir := filepath.Join(filepath.Dir(path), "out")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Chown(dir, nobody, nobody))
	for _, args := range [][]string{{"support", "--out", filepath.Join(dir, "a.tar.gz")}, {"record", "rpm-1", "--out", dir}} {
		cmd := asNobody(t, lanepost(append(args, "--config", path)...), filepath.Dir(path))
		require.NoError(t, os.Chmod(path, 0o600))
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "run it with sudo, or as the agent's user", args[0])
	}
}

// What is secret in a profile is known before anything goes in, a profile that is too large
// does not go in cut, and beyond the bounds nothing goes in and the archive says why.
func TestSupportLearnsFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "profiles"), 0o700))
	const secret = "pw-Of-A-Profile-7"
	write("profiles/mine.yaml", "profile: mine\ndriver: dicos-network\nsettings: {password_file: "+write("dicos.password", secret)+"}\n")
	write("profiles/large.yaml", "profile: large\n#"+strings.Repeat(" ", yamlfile.MaxBytes))
	config := writeConfig(t, deviceYAML("rpm-1", "rapiscan-tsa", "tcp://127.0.0.1:1"), "# the scanner has "+secret+"\nprofiles: "+filepath.Join(dir, "profiles")+"\n")
	support := func() map[string]string {
		out := filepath.Join(t.TempDir(), "a.tar.gz")
		text, code := output(t, "support", "--config", config, "--out", out)
		require.Zero(t, code, text)
		files := unpacked(t, out)
		require.Empty(t, whereIs(files, secret))
		return files
	}
	files := support()
	require.Contains(t, files["config.yaml"], "# the scanner has ***")
	require.NotEmpty(t, files["profiles/mine.yaml"])
	require.NotContains(t, files, "profiles/large.yaml")
	require.Contains(t, files["contents.txt"], "large.yaml is too large: it has more than 1048576 bytes")

	for what, text := range map[string]string{
		"there are more secrets than can be looked for": strings.Join(numbered(maxSecrets/3+100), "\n") + "\n" + secret,
		"a file with secrets has more than":             strings.Repeat("x", maxSecretFile) + "\n" + secret,
	} {
		write("dicos.password", text)
		files = support()
		require.Contains(t, files["contents.txt"], "not in it: the content of every file: "+what)
		for name, content := range files {
			if name != "contents.txt" {
				require.Equal(t, withheldText+"\n", content, name)
			}
		}
	}
}

// numbered are texts that have three forms each.
func numbered(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("s%05d", i))
	}
	return list
}

// Of a device that may tell of persons the table has what was checked and how it went; what
// the device or its link said is in neither of the two places.
func TestSupportRows(t *testing.T) {
	t.Parallel()
	s := &supported{status: &console.Status{Lanes: []console.Lane{{Devices: []console.Device{
		{Device: "a/rpm", Driver: "tsa-portal"}, {Device: "a/anpr", Driver: "axis-lpv"},
	}}}}}
	rows := func() []result {
		return []result{
			{"a/rpm", "protocol", isFailed, "no record\x1b[2J", "see to it"}, {"a/anpr", "protocol", isFailed, "plate AA1234", "look at AA1234"},
			{"a/anpr", "reachable", isOK, "AA1234", ""}, {"spool", "inodes", isOK, "room", ""},
		}
	}
	text := layOut(s.impersonalRows(rows()), 0)
	require.NotContains(t, text, "AA1234")
	require.NotContains(t, text, "\x1b")
	require.Equal(t, 3, strings.Count(text, leftOut))
	require.Contains(t, text, "no record")
	require.Contains(t, text, "room")
	s.o.personal = true
	require.Contains(t, layOut(s.impersonalRows(rows()), 0), "look at AA1234")
}

// The second lock: a secret that got past the first is taken out in each form.
func TestScrubber(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("pw/one&two\n"), 0o600))
	var c scrubber
	c.learn("connect: http://cam/?username=lane-user&password_file=" + file + "\npassword: in-clear-9\nurl: tcp://login7:pass-8@host:1\n")
	for _, secret := range []string{"pw/one&two", "in-clear-9", "pass-8", "login7", "lane-user"} {
		for _, form := range forms(secret) {
			require.NotContains(t, string(c.clean([]byte("a "+form+" b"))), form)
		}
	}
	require.Equal(t, "connect to host", string(c.clean([]byte("connect to host"))))
}

func TestWithoutVectors(t *testing.T) {
	t.Parallel()
	text, whole := withoutVectors("profile: a\nvectors:\n  - {bytes: AA1234}\n- {bytes: BB}\n\nlink: {}\n")
	require.False(t, whole)
	require.NotContains(t, text, "AA1234")
	require.NotContains(t, text, "BB")
	require.Contains(t, text, "link: {}")
	text, whole = withoutVectors("profile: a\n")
	require.True(t, whole)
	require.Equal(t, "profile: a\n", text)
	text, whole = withoutVectors("{profile: a, vectors: [{bytes: AA1234}]}\n")
	require.False(t, whole)
	require.NotContains(t, text, "AA1234")
}

// What is known of a device decides what is told of it: of one that nobody knows, nothing.
func TestSupportKnowsWhoMayTellOfPersons(t *testing.T) {
	t.Parallel()
	s := &supported{status: &console.Status{Lanes: []console.Lane{{Devices: []console.Device{
		{Device: "a/rpm", Driver: "tsa-portal", Connect: "tcp://x:1"},
		{Device: "a/anpr", Driver: "axis-lpv", Connect: "tcp://x:2", Reason: "refused", LastEvent: &console.Event{Text: "plate AA1234"}},
		{Device: "a/own", Driver: "own-device", Connect: "tcp://x:3"},
		{Device: "a/xray", Driver: "xray-folder", Connect: "folder:/scans", Reason: "read AA1234.xml: denied", Scan: &console.Scan{ID: "AA1234"}},
	}}}, Problems: []console.Problem{{Device: "a/xray", What: "read AA1234.xml: denied"}, {Device: "a/anpr", What: "refused"}}}}
	for device, may := range map[string]bool{"a/rpm": false, "a/anpr": true, "a/own": true, "a/xray": true, "a/gone": true, "spool": false, "": false} {
		require.Equal(t, may, s.mayTellPersons(device), device)
	}
	b, err := json.Marshal(s.depersonalised(*s.status))
	require.NoError(t, err)
	require.NotContains(t, string(b), "AA1234")
	require.Contains(t, string(b), "refused")
	require.Equal(t, "AA1234", s.status.Lanes[0].Devices[3].Scan.ID, "what was asked is as it was")
	for line, device := range map[string]string{
		`level=WARN msg="x" lane=a device=xray err="AA"`:  "a/xray",
		`{"msg":"x","lane":"a","device":"xray","err":""}`: "a/xray",
		`msg=x device=a/xray`:                             "a/xray",
		`msg=x device=xray`:                               "unknown/xray",
		`msg="agent started" devices=3`:                   "",
	} {
		require.Equal(t, device, deviceOfLine(line), line)
	}
	s.o.personal = true
	require.False(t, s.mayTellPersons("a/xray"))
}
