//go:build linux

package agent

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// A reload that changes how long daily files are kept, in the middle of a line, loses
// nothing of it; one that takes them out keeps the half line in a note.
func TestDailyChangedInALine(t *testing.T) {
	p := newPortal(t)
	dir, address := t.TempDir(), freeAddress(t)
	path, days := filepath.Join(dir, "lanepost.yaml"), filepath.Join(dir, "days")
	// Who reads along shows that the agent has it.
	tee := "        tee: {listen: \"tcp://" + address + "\"}\n"
	write := func(daily string) {
		t.Helper()
		writeTaps(t, path, filepath.Join(dir, "spool"), "tcp://"+p.ln.Addr().String(), tee, daily)
	}
	write("daily: {dir: " + days + ", keep: 400d, zone: UTC}\n")
	b := newBench(t, path)
	a := b.startWith(b)
	reader := attachTo(t, address)
	attachedTo(t, a, 1)
	p.accept()
	say := func(text string) {
		t.Helper()
		_, err := io.WriteString(p.conn, text)
		require.NoError(t, err)
		hears(t, reader, text)
	}
	reload := func(n int) {
		t.Helper()
		b.reload <- struct{}{}
		b.waitFor("lanepost.agent.config-changed.v1", n)
	}
	say(background + "\r\nNA,000009,0000")
	write("daily: {dir: " + days + ", keep: 300d, zone: UTC}\n")
	reload(1)
	say("01,000000,000000\r\n" + background + "\r\nNA,0000")
	write("")
	reload(2)
	say("10,000001,000000,000000\r\n")
	require.NoError(t, b.stop())

	files, err := filepath.Glob(filepath.Join(days, "*.csv"))
	require.NoError(t, err)
	var all []byte
	for _, f := range files { // two if the day ended meanwhile
		one, err := os.ReadFile(f)
		require.NoError(t, err)
		all = append(all, one...)
	}
	times := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+00`)
	require.Equal(t, background+",TIME\r\nNA,000009,000001,000000,000000,TIME\r\n"+background+",TIME\r\n"+
		"# lanepost: TIME the recording ended in a line of 7 bytes, which begins with \"NA,0000\"\r\n", times.ReplaceAllString(string(all), "TIME"))
}
