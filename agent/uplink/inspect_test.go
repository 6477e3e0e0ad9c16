package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Probe gives the first failure of an inspection.
func Probe(ctx context.Context, o Options, site string) error {
	steps, err := Inspect(ctx, o, site, 0)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if s.Verdict == Bad {
			return s.Err
		}
	}
	return nil
}

// TestInspectMosquitto: what can be known of a real broker is told, and what can't be
// known is not told as if it were.
func TestInspectMosquitto(t *testing.T) {
	t.Parallel()
	const largest = 127 << 10
	access := func(text string) string {
		path := filepath.Join(t.TempDir(), "acl")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644)) //nolint:gosec // mosquitto's user reads it
		return "acl_file " + path
	}
	for name, c := range map[string]struct {
		lines []string
		want  []string // a pattern for each step
	}{
		"all well": {nil, []string{
			`^TCP ok: connected to 127.0.0.1`, `^login ok: logged in as lane-box`, `^publish ok: a message was confirmed`,
			`^passed on ok: .*came back`, `^packet size ok: 127 KiB in one message`,
		}},
		"may not publish": {[]string{access("topic read #\n")}, []string{
			`^TCP ok`, `^login ok`, `^publish ok`, `^passed on warning: .*may throw away what this user publishes`, `^packet size ok`,
		}},
		"may not read": {[]string{access("topic write #\n")}, []string{
			`^TCP ok`, `^login ok`, `^publish ok`, `^passed on warning: .*not let it read`, `^packet size ok`,
		}},
		"packets end the connection": {[]string{"max_packet_size 50000"}, []string{
			`^TCP ok`, `^login ok`, `^publish ok`, `^passed on ok`, `^packet size failed: .*ends the connection at messages above about 4[89] KiB`,
		}},
		"messages are thrown away": {[]string{"message_size_limit 50000"}, []string{
			`^TCP ok`, `^login ok`, `^publish ok`, `^passed on ok`, `^packet size failed: .*confirms and throws away messages above about 4[89] KiB`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			// With no limit (0) this version of mosquitto ends a session at what it does not allow.
			m := startMosquitto(t, append(c.lines, "allow_anonymous true", "max_queued_messages 1000")...)
			t.Parallel() // from here: two that look for a free port at once may find the same
			// Who reads events gets JSON, whatever its size.
			consumer := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + m.addr).SetClientID("consumer"))
			connected := consumer.Connect()
			require.True(t, connected.WaitTimeout(patience))
			require.NoError(t, connected.Error())
			t.Cleanup(func() { consumer.Disconnect(0) })
			var largestSeen atomic.Int64
			subscribed := consumer.Subscribe("lanepost/v1/#", 1, func(_ mqtt.Client, m mqtt.Message) {
				assert.True(t, json.Valid(m.Payload()))
				largestSeen.Store(max(largestSeen.Load(), int64(len(m.Payload()))))
			})
			require.True(t, subscribed.WaitTimeout(patience))
			require.NoError(t, subscribed.Error())
			steps, err := Inspect(context.Background(), Options{Brokers: []string{"tcp://" + m.addr}, ClientID: "lane-box"}, "test", largest)
			require.NoError(t, err)
			var got []string
			for _, s := range steps {
				got = append(got, fmt.Sprintf("%s %s: %s", s.Name, s.Verdict, s.Detail))
				require.Equal(t, s.Verdict != Good, s.Hint != "", "a hint where there is something to do: %+v", s)
				require.Equal(t, s.Verdict == Bad, s.Err != nil)
			}
			require.Len(t, got, len(c.want), "%s", strings.Join(got, "\n"))
			for i, want := range c.want {
				require.Regexp(t, want, got[i])
			}
			if name == "all well" {
				require.Eventually(t, func() bool { return largestSeen.Load() == largest }, patience, time.Millisecond)
			}
		})
	}
}

// TestInspectPutOut: with no limit of its queue this version of mosquitto confirms what
// it does not allow and ends the session. Which of the two comes first is chance.
func TestInspectPutOut(t *testing.T) {
	t.Parallel()
	acl := filepath.Join(t.TempDir(), "acl")
	require.NoError(t, os.WriteFile(acl, []byte("topic read #\n"), 0o600))
	m := startMosquitto(t, "acl_file "+acl, "allow_anonymous true")
	for range 10 {
		steps, err := Inspect(context.Background(), Options{Brokers: []string{"tcp://" + m.addr}, ClientID: "lane-box"}, "test", 127<<10)
		require.NoError(t, err)
		last := steps[len(steps)-1]
		require.Equal(t, Bad, last.Verdict, "%+v", last)
		require.Contains(t, last.Hint, "must let this user write to lanepost/v1/#")
		if last.Name != "publish" {
			require.Equal(t, "passed on", last.Name)
			require.Contains(t, last.Detail, "it does not let this user publish to lanepost/v1/test/agent/lane-box/lanepost.agent.probe")
		}
	}
}
