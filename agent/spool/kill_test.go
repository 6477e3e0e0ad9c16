package spool

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// childDir is set for a copy of the test binary that is to be killed: the
// spool's directory.
const childDir = "LANEPOST_SPOOL_CHILD"

// child appends, reads and acknowledges until it is killed. It says what was
// confirmed, in lines, and what it is about to acknowledge.
func child(dir string) {
	s, err := Open(dir, Options{SegmentBytes: 64 << 10})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	say := func(args ...any) {
		if _, err := os.Stdout.WriteString(fmt.Sprintln(args...)); err != nil {
			os.Exit(1) // the parent is gone
		}
	}
	var n atomic.Uint64
	start := rand.Uint64()
	for i := range 8 {
		go func() {
			class := event.Classes[i%2]
			for {
				text := fmt.Sprintf("%x-%d-%s", start, n.Add(1), strings.Repeat("x", rand.IntN(1000)))
				seq, err := s.Append(ctx, class, day, "t", func(seq uint64, _ event.Hash) ([]byte, error) {
					return fmt.Append(nil, seq, " ", text), nil
				})
				if err != nil {
					say("error", err)
					return
				}
				say("stored", class, seq, text)
			}
		}()
	}
	r := s.Reader(DefaultConsumer, event.Urgent)
	for {
		records, err := r.Next(50, 1<<20)
		if err != nil || len(s.Losses()) > 0 {
			say("error", "next", err)
		}
		if len(records) == 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		seq := records[rand.IntN(len(records))].Sequence
		say("ack", event.Urgent, seq, "")
		if err := r.Ack(seq); err != nil {
			say("error", err)
		}
		if rand.IntN(10) == 0 {
			r.Rewind()
		}
	}
}

// Killed with SIGKILL at any moment under load, again and again: whatever was
// confirmed is there, numbers have no gap and are given once.
func TestKilled(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	var stored [2]map[uint64]string
	var acked [2]uint64
	stored[0], stored[1] = map[uint64]string{}, map[uint64]string{}
	total := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() }) // should it never begin
		lines := bufio.NewScanner(out)
		for first := true; lines.Scan(); first = false {
			if first {
				kill.Reset(time.Duration(rand.IntN(80_000)) * time.Microsecond)
			}
			f := strings.SplitN(lines.Text(), " ", 4)
			require.Len(t, f, 4, "%q", lines.Text())
			require.NotEqual(t, "error", f[0], lines.Text())
			class := 0
			if f[1] == string(event.Routine) {
				class = 1
			}
			var seq uint64
			_, err := fmt.Sscan(f[2], &seq)
			require.NoError(t, err)
			switch f[0] {
			case "ack":
				acked[class] = max(acked[class], seq)
			case "stored":
				require.NotContains(t, stored[class], seq, "round %d: given twice", round)
				stored[class][seq] = f[3]
				total++
			}
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		require.True(t, errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL, "%v", err)

		s := open(t, nil, dir, Options{SegmentBytes: 64 << 10})
		for class := range stored {
			r := s.Reader(DefaultConsumer, event.Classes[class])
			head, next := uint64(0), uint64(0)
			for {
				records, err := r.Next(1000, 1<<22)
				require.NoError(t, err)
				if len(records) == 0 {
					break
				}
				for _, rec := range records {
					if next != 0 {
						require.Equal(t, next, rec.Sequence, "no gap")
					} else {
						require.LessOrEqual(t, rec.Sequence, acked[class]+1)
					}
					next = rec.Sequence + 1
					seq, text, _ := strings.Cut(string(rec.Payload), " ")
					require.Equal(t, fmt.Sprint(rec.Sequence), seq)
					if confirmed, ok := stored[class][rec.Sequence]; ok {
						require.Equal(t, confirmed, text)
					}
					stored[class][rec.Sequence] = text // written, and killed before it was confirmed
					head = rec.Sequence
				}
			}
			for seq := range stored[class] {
				require.LessOrEqual(t, seq, max(head, acked[class]), "round %d: confirmed and gone", round)
			}
			require.Empty(t, s.Losses())
			if head > 2000 { // let it not grow for ever
				require.NoError(t, r.Ack(head-1000))
				acked[class] = max(acked[class], head-1000)
			}
		}
		require.NoError(t, s.Close())
	}
	t.Logf("%d records confirmed in %d rounds", total, rounds)
	require.Greater(t, total, rounds)
}
