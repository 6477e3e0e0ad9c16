package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/lanepost/lanepost/simulator"
)

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

// chattering is a serial port at which somebody sends the same over and over; nil is
// somebody who is silent.
func chattering(t *testing.T, b []byte) (path string) {
	t.Helper()
	master, slave, err := pty.Open()
	require.NoError(t, err)
	_, err = term.MakeRaw(int(slave.Fd()))
	require.NoError(t, err)
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				if len(b) > 0 {
					// A port that nobody reads fills up; that is no fault of the test's.
					_ = master.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
					_, _ = master.Write(b)
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		_ = slave.Close()
		_ = master.Close()
		<-stopped
	})
	return slave.Name()
}

// garbled is what a receiver that is set to 9600 8N1 makes of bytes that were sent at
// 19200 8O1: it looks at every second bit. A wire has the levels for it, a
// pseudo-terminal has not.
func garbled(sent []byte) (received []byte) {
	wire := []bool{true, true}
	for _, b := range sent {
		ones := 0
		wire = append(wire, false) // start
		for i := range 8 {
			bit := b>>i&1 == 1
			if bit {
				ones++
			}
			wire = append(wire, bit)
		}
		wire = append(wire, ones%2 == 0, true) // odd parity, stop
	}
	for at := 1; at < len(wire); at++ {
		if wire[at] || !wire[at-1] {
			continue // no falling edge: no start
		}
		var b byte
		for i := range 8 {
			if sample := at + 3 + 2*i; sample >= len(wire) || wire[sample] {
				b |= 1 << i
			}
		}
		received = append(received, b)
		at += 18
	}
	return received
}

// held reports whether a program has locked a serial port for itself, which it does some
// moments after it has opened it.
func held(port string) bool {
	fd, err := unix.Open(port, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Is(err, unix.EBUSY)
	}
	defer unix.Close(fd)
	return errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// passwords makes mosquitto's file with the user lane and his password hunter2.
func passwords(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", path, "lane", "hunter2").CombinedOutput(); err != nil {
		require.Empty(t, os.Getenv("CI"), "mosquitto_passwd: %v: %s", err, out)
		t.Skipf("mosquitto_passwd: %v: %s", err, out)
	}
}

// quietDevice is a portal that is in order.
func quietDevice(t *testing.T) string {
	t.Helper()
	scenario := simulator.MustLoad(t, "busy")
	scenario.Duration = 0
	sim := simulator.Start(t, scenario, simulator.Options{Speed: 20})
	return deviceYAML("rpm-1", "rapiscan-tsa", sim.Devices()[0].Connect)
}
