package console

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/agent/console/client"
	"github.com/lanepost/lanepost/protocol/event"
)

// Who watches and does not read is dropped and told, and holds up neither those who
// record nor those who read.
func TestSlowWatcherIsDropped(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	c, _ := opened(t, Settings{Listen: address})
	await(t, address)
	watch := func(buffer int) *bufio.Reader {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(buffer))
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		fmt.Fprintf(conn, "GET /api/v1/events?whole=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			if strings.HasPrefix(line, ": events follow") {
				return r
			}
		}
	}
	slow, quick := watch(64<<10), watch(1<<20)
	got := make(chan int)
	const sent = 400
	turn := make(chan struct{}, sent)
	go func() { // reads all that is sent
		n := 0
		for n < sent {
			line, err := quick.ReadString('\n')
			if err != nil {
				break
			}
			if strings.HasPrefix(line, "data: ") {
				n++
				turn <- struct{}{}
			}
		}
		got <- n
	}()
	whole := []byte(`{"x":"` + strings.Repeat("x", 100_000) + `"}`)
	for i := range sent {
		began := time.Now()
		c.o.Events.Publish(Recorded{Event: Event{Text: fmt.Sprint(i), Priority: event.Routine}, Public: whole})
		require.Less(t, time.Since(began), time.Second)
		<-turn
	}
	require.Equal(t, sent, <-got)
	require.Equal(t, int32(1), c.o.Events.feed.count.Load())
	n, dropped := 0, false
	for !dropped {
		line, err := slow.ReadString('\n')
		require.NoError(t, err)
		if strings.HasPrefix(line, "event: recorded") {
			n++
		}
		dropped = strings.HasPrefix(line, "event: dropped")
	}
	line, err := slow.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "reads too slowly")
	require.Less(t, n, sent)
}

// There are places for so many, and one that is given back is free.
func TestPlacesOfWatchers(t *testing.T) {
	t.Parallel()
	var r Raw
	var all []*Listener
	for range maxListeners {
		l, err := r.Listen()
		require.NoError(t, err)
		all = append(all, l)
	}
	_, err := r.Listen()
	require.ErrorIs(t, err, errTooMany)
	all[0].Close()
	all[0].Close()
	l, err := r.Listen()
	require.NoError(t, err)
	b := []byte("abc")
	r.Received(time.Now(), b)
	b[0] = 'X'
	p := l.w.taken(<-l.w.c)
	require.Equal(t, "abc", string(p.bytes), "a copy of its own")
	// The bytes that wait are bounded too.
	for range 9 {
		r.Received(time.Now(), make([]byte, listenerBytes/8))
	}
	require.Zero(t, r.feed.count.Load())
	require.Equal(t, endedSlow, l.w.ended)
	r.Received(time.Now(), b)
	r.Parted(time.Now())
}

// Those who hold connections open can't take more than the places, at the door and at the
// socket.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	c, _ := opened(t, Settings{Listen: address})
	await(t, address)
	for network, at := range map[string]string{"tcp": address, "unix": filepath.Join(c.o.SpoolDir, client.Socket)} {
		var all []net.Conn
		for range maxConnections + 5 {
			conn, err := net.Dial(network, at)
			require.NoError(t, err)
			all = append(all, conn)
		}
		one := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, at)
			},
		}}
		_, err := one.Get("http://127.0.0.1/api/v1/status")
		require.Error(t, err, network)
		for _, c := range all {
			_ = c.Close()
		}
		require.Eventually(t, func() bool {
			answer, err := one.Get("http://127.0.0.1/api/v1/status")
			if err == nil {
				_ = answer.Body.Close()
			}
			return err == nil
		}, patience, 10*time.Millisecond)
	}
}

func TestLogs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLogs(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log := slog.New(l.Handler())
	portal := log.With("lane", "entry-1", "device", "rpm-1")
	other := log.With("lane", "entry-1").With("device", "rpm-2", "part", "x y")
	portal.Debug("one")
	log.Info("two", "tee", "entry-1/rpm-1", "err", fmt.Errorf("a=b"))
	l.SetLevels(Levels{All: slog.LevelWarn, Devices: map[string]slog.Level{"entry-1/rpm-1": slog.LevelDebug}})
	portal.Debug("three", "n", 3)
	other.Info("four")
	other.WithGroup("g").Warn("five", "device", "entry-9/x")
	log.Error("six", "device", "entry-1/rpm-1")
	messages := func(list []LogRecord) (texts []string) {
		for _, r := range list {
			texts = append(texts, r.Message)
		}
		return texts
	}
	all := l.Last(KeptLog, slog.LevelDebug, "", 0)
	require.Equal(t, []string{"two", "three", "five", "six"}, messages(all))
	require.Equal(t, `tee=entry-1/rpm-1 err="a=b"`, all[0].Details)
	require.Equal(t, "n=3", all[1].Details)
	require.Equal(t, "entry-1/rpm-2", all[2].Device)
	require.Equal(t, `part="x y" g.device=entry-9/x`, all[2].Details)
	require.Equal(t, []string{"three", "six"}, messages(l.Last(KeptLog, slog.LevelDebug, "entry-1/rpm-1", 0)))
	require.Equal(t, []string{"six"}, messages(l.Last(1, slog.LevelDebug, "", 0)))
	require.Equal(t, []string{"five", "six"}, messages(l.Last(9, slog.LevelWarn, "", all[0].Number)))
	require.Empty(t, l.Last(9, slog.LevelDebug, "", all[3].Number))
	require.NotContains(t, out.String(), "four")
	require.Contains(t, out.String(), "msg=three lane=entry-1 device=rpm-1 n=3")

	for i := range 3 * KeptLog {
		log.Error(strings.Repeat("é", maxLogText), "n", i, "long", strings.Repeat("x", maxLogText))
	}
	require.LessOrEqual(t, l.bytes, keptLogBytes)
	require.LessOrEqual(t, len(l.ring), KeptLog)
	last := l.Last(1, slog.LevelDebug, "", 0)[0]
	require.LessOrEqual(t, last.size(), 2*maxLogText+200)
	require.Equal(t, uint64(4+3*KeptLog), last.Number)
	for range 3 * KeptLog {
		log.Error("short")
	}
	require.Len(t, l.Last(9*KeptLog, slog.LevelDebug, "", 0), KeptLog)
}
