package simulator

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/dicos"
)

// freePort is a port of this machine that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().(*net.TCPAddr).Port
}

// storescp runs dcmtk's receiver and gives its address and the folder of what it stores.
func storescp(t *testing.T, args ...string) (address, dir string) {
	t.Helper()
	program, err := exec.LookPath("storescp")
	if err != nil {
		t.Skip("storescp is not there; install the Debian package dcmtk")
	}
	dir = t.TempDir()
	port := freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, append(args, "--output-directory", dir, "+xa", fmt.Sprint(port))...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	address = fmt.Sprintf("127.0.0.1:%d", port)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	return address, dir
}

// What a scanner sends is received by dcmtk, however it sends it.
func TestStorescpReceivesFromScanner(t *testing.T) {
	for name, switches := range map[string][]string{
		"in many ways":   {"echo-first", "one-association-each", "small-pdu", "implicit"},
		"cut and packed": {"cut-mid-object", "twice", "no-analysis", "jpeg-lossless"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, dir := storescp(t, "--aetitle", "LANEPOST")
			camera := CameraSettings{Push: address, Switches: switches}
			s := MustParse(t, "name: dicos\nseed: 7\nduration: 2m\nlanes:\n  - id: l\n    traffic: {random: {per_hour: 150}}\n    devices:\n      - {id: x, model: dicos-scanner}\n")
			s.Lanes[0].Devices[0].Camera = &camera
			sim := Start(t, s)
			require.NoError(t, sim.Wait())
			made := map[string]bool{}
			finished := 0
			for _, x := range sim.Truth().Scans {
				made[x.ScanID] = true
				if x.What == "finished" {
					finished++
				}
			}
			require.Greater(t, len(made), 1)
			require.Equal(t, len(made), finished)
			each := 3
			if camera.Has("no-analysis") {
				each = 2
			}
			list, err := os.ReadDir(dir)
			require.NoError(t, err)
			objects := map[string]int{}
			for _, e := range list {
				b, err := os.ReadFile(filepath.Join(dir, e.Name()))
				require.NoError(t, err)
				o, err := dicos.Decode(b)
				require.NoError(t, err)
				require.True(t, o.Whole())
				objects[o.ScanInstance]++
			}
			for id := range made {
				require.Equal(t, each, objects[id])
			}
			require.Len(t, objects, len(made))
		})
	}
}
