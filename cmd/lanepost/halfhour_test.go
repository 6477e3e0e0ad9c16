package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shellBlock is a block of shell commands of a page; stays is one that runs until it is ended.
type shellBlock struct {
	text  string
	stays bool
}

var fenced = regexp.MustCompile("(?ms)^```sh( stays)?\n(.*?)^```$")

func shellBlocks(page []byte) (list []shellBlock) {
	for _, m := range fenced.FindAllSubmatch(page, -1) {
		list = append(list, shellBlock{text: string(m[2]), stays: len(m[1]) > 0})
	}
	return list
}

// TestHalfHour follows docs/half-hour.md, command by command, with other ports.
func TestHalfHour(t *testing.T) {
	t.Parallel()
	for _, need := range []string{"/usr/sbin/mosquitto", "mosquitto_sub", "curl", "sh"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("no %s (Debian: mosquitto, mosquitto-clients, curl)", need)
		}
	}
	page, err := os.ReadFile("../../docs/half-hour.md")
	require.NoError(t, err)
	blocks := shellBlocks(page)
	require.Len(t, blocks, 9)
	require.Contains(t, blocks[0].text, "make build")

	// make build builds these; here they are put where it puts them.
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	build := exec.Command("go", "build", "-o", bin+"/", "../lanepost", "../lanesim")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	ports := map[string]string{}
	for _, p := range []string{"1600", "1601", "1883", "7480"} {
		ports[p] = fmt.Sprint(freePort(t))
	}
	number := regexp.MustCompile(`\b(1600|1601|1883|7480)\b`)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	shell := func(text string) (*exec.Cmd, *syncBuffer) {
		cmd := exec.CommandContext(ctx, "sh", "-ec", number.ReplaceAllStringFunc(text, func(p string) string { return ports[p] }))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		log := &syncBuffer{}
		cmd.Stdout, cmd.Stderr = log, log
		return cmd, log
	}
	answers := func(port string) {
		require.Eventually(t, func() bool {
			c, err := net.Dial("tcp", "127.0.0.1:"+ports[port])
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		}, patience, 50*time.Millisecond, "nothing at %s", port)
	}
	var said strings.Builder
	began := time.Now()
	for i, b := range blocks {
		t.Logf("%.1f s: %s", time.Since(began).Seconds(), strings.Split(strings.TrimSpace(b.text), "\n")[0])
		if i == 0 {
			b.text = strings.Replace(b.text, "make build\n", "", 1)
		}
		cmd, log := shell(b.text)
		if !b.stays {
			out := cmd.Run()
			require.NoError(t, out, "%s\n%s", b.text, log)
			said.WriteString(log.String())
			if strings.Contains(b.text, "lanepost init") {
				// The page's address is the agent's own one, which another test may have.
				path := filepath.Join(dir, "lanepost.yaml")
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				text = append(text, "\nconsole: {listen: 127.0.0.1:"+ports["7480"]+"}\n"...)
				require.NoError(t, os.WriteFile(path, text, 0o600))
			}
			continue
		}
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s\n%s", b.text, log)
			}
		})
		for word, port := range map[string]string{"lanesim run": "1600", "mosquitto": "1883", "lanepost run": "7480"} {
			if strings.Contains(b.text, word) {
				answers(port)
			}
		}
		if strings.Contains(b.text, "lanepost run") {
			require.Eventually(t, func() bool { return strings.Count(log.String(), "device is online") == 2 }, patience, 50*time.Millisecond)
		}
	}
	for _, want := range []string{
		"rapiscan-tsa: ", "thermo-radeye: ", "This is certain", "Nothing failed of",
		"lanepost/v1/medyka/entry-1/rpm-1/lanepost.device.state", "lanepost/v1/medyka/entry-1/area-1/lanepost.device.state",
		`"state":"online"`, `"site":"medyka"`, "DELIVERED",
	} {
		require.Contains(t, said.String(), want)
	}
}

// commandNamed finds a page's commands of lanepost: after line continuations are joined, what begins a
// line or stands after sudo or a pipe.
var commandNamed = regexp.MustCompile(`(?:^|[|;&(]\s*|sudo (?:-u \S+ )?|\x60)(lanepost(?: [^|;&>#\x60\n)]*)?)`)

// TestPagesNameCommandsThatExist looks at each command with its flags in the documentation.
func TestPagesNameCommandsThatExist(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	pages = append(pages, "../../README.md")
	require.Greater(t, len(pages), 5)
	help := map[string]string{}
	of := func(command string) string {
		if _, ok := help[command]; !ok {
			text, code := output(t, append(strings.Fields(command), "--help")...)
			require.Zero(t, code, text)
			help[command] = text
		}
		return help[command]
	}
	subcommand := func(of, word string) bool {
		return regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(word) + `  `).MatchString(of)
	}
	word := regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	found := 0
	for _, path := range pages {
		page, err := os.ReadFile(path)
		require.NoError(t, err)
		text := strings.ReplaceAll(string(page), "\\\n", " ")
		for _, line := range strings.Split(text, "\n") {
			for _, m := range commandNamed.FindAllStringSubmatch(line, -1) {
				fields := strings.Fields(m[1])[1:]
				if len(fields) == 0 || !word.MatchString(fields[0]) {
					continue // the name, not a command
				}
				if !strings.Contains(m[0], "`") && !inShell(text, line) {
					continue // prose that begins a line
				}
				if strings.HasPrefix(m[1], "lanepost checkpoint v1") {
					continue // what a signature begins with
				}
				found++
				require.True(t, subcommand(of(""), fields[0]), "%s: there is no command lanepost %s: %s", path, fields[0], line)
				command := fields[0]
				if more := of(command); len(fields) > 1 && strings.Contains(more, "Available Commands") && word.MatchString(fields[1]) {
					require.True(t, subcommand(more, fields[1]), "%s: there is no command lanepost %s %s: %s", path, command, fields[1], line)
					command += " " + fields[1]
				}
				for _, f := range fields {
					if strings.HasPrefix(f, "--") {
						name, _, _ := strings.Cut(f, "=")
						require.Regexp(t, `(?m)^\s+(-[a-z], )?`+regexp.QuoteMeta(name)+`\s`, of(command)+"\n  --help ", "%s: lanepost %s has no %s: %s", path, command, name, line)
					}
				}
			}
		}
	}
	require.Greater(t, found, 40)
}

// inShell reports whether a line stands in a block of shell commands.
func inShell(page, line string) bool {
	return slices.ContainsFunc(shellBlocks([]byte(page)), func(b shellBlock) bool {
		return slices.Contains(strings.Split(strings.TrimSuffix(b.text, "\n"), "\n"), line)
	})
}
