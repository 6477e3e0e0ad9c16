package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/protocol/plate"
)

// startBroker starts an embedded broker and returns its address.
func startBroker(t *testing.T) string {
	t.Helper()
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, server.AddHook(new(auth.AllowHook), nil))
	l := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	require.NoError(t, server.AddListener(l))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
	return l.Address()
}

// receiver assembles what comes from a broker.
type receiver struct {
	mu       sync.Mutex
	contents map[string][]byte
	events   []event.Event
	text     bytes.Buffer // of everything
}

func receiveFrom(t *testing.T, address string) *receiver {
	t.Helper()
	r := &receiver{contents: map[string][]byte{}}
	assembler := event.NewAssembler(1 << 24)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("central").SetAutoReconnect(false))
	token := client.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	t.Cleanup(func() { client.Disconnect(50) })
	token = client.Subscribe("#", 1, func(_ mqtt.Client, m mqtt.Message) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.text.Write(m.Payload())
		if strings.Contains(m.Topic(), "/blob/") {
			content, complete, err := assembler.Add(m.Topic(), m.Payload())
			if err != nil {
				t.Errorf("assemble: %v", err)
			}
			if complete {
				c, err := event.ParseChunkTopic(m.Topic())
				if err != nil {
					t.Errorf("topic: %v", err)
				}
				r.contents[c.SHA256] = content
			}
			return
		}
		if e, err := event.Parse(m.Payload()); err == nil {
			r.events = append(r.events, e)
		}
	})
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	return r
}

func (r *receiver) has(typ string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Type == typ {
			return true
		}
	}
	return false
}

// A picture goes after its event, whole, and the stream states it; to a receiver
// that must not see what is personal goes neither picture nor plate.
func TestAttachments(t *testing.T) {
	full, public := startBroker(t), startBroker(t)
	path := writeConfig(t, t.TempDir(), "tcp://127.0.0.1:1")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, fmt.Appendf(text,
		"plates:\n  pseudonym_key_file: pseudonym.key\nmqtt:\n  - name: full\n    brokers: [tcp://%s]\n  - name: public\n    brokers: [tcp://%s]\n    redact: true\n", full, public), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "pseudonym.key"), []byte(strings.Repeat("5a", 32)+"\n"), 0o600))
	all, redacted := receiveFrom(t, full), receiveFrom(t, public)
	b := newBench(t, path)
	a := b.startWith(b)
	b.waitFor("lanepost.agent.key.v1", 1)

	picture := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(picture)
	attachment := event.NewAttachment(picture, "image/jpeg", "front.jpg")
	read := event.PlateRead{
		ReadID: "019ceb6f-5a3f-7e04-a9d1-2f60b7c8534e", Attachments: []event.Attachment{attachment},
		Capture: event.PlateCapture{Revision: event.RevisionSingle, ReceivedTS: event.At(time.Now()), TimeSource: event.TimeFromDevice},
		Private: &event.PlatePrivate{Salt: "q83vASNFZ4kQMlR2mLrc/g==", Plate: "AA1234BB", MatchKey: "AA1234BB", PlateRaw: "AA 1234 BB"},
	}
	require.NoError(t, a.record("/test/entry-1/anpr-1", drivers.Observation{
		Data: read, Attachments: []drivers.Attachment{{Attachment: attachment, Content: picture}},
	}))
	outcome := b.waitFor("lanepost.device.attachment.v1", 1)
	require.Equal(t, "/test/entry-1/anpr-1", outcome.Source)
	d, err := event.DecodeData(outcome)
	require.NoError(t, err)
	require.Equal(t, "delivered", d.(*event.DeviceAttachment).Outcome)
	require.Equal(t, "full", d.(*event.DeviceAttachment).Uplink)
	require.Eventually(t, func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		return bytes.Equal(picture, all.contents[attachment.SHA256])
	}, patience, 5*time.Millisecond)

	require.Eventually(t, func() bool { return redacted.has("lanepost.device.attachment.v1") }, patience, 5*time.Millisecond)
	redacted.mu.Lock()
	// Not the digits alone: the text is full of random hashes.
	require.NotContains(t, redacted.text.String(), "1234BB")
	require.NotContains(t, redacted.text.String(), "AA 1234")
	require.Empty(t, redacted.contents)
	pseudonym, err := plate.Pseudonym(bytes.Repeat([]byte{0x5a}, 32), "AA1234BB")
	require.NoError(t, err)
	require.Contains(t, redacted.text.String(), `"pseudonym":"`+pseudonym+`"`, "in place of the plate")
	redacted.mu.Unlock()
	require.True(t, redacted.has("lanepost.plate.read.v1"))
	require.NoError(t, b.stop())
}

// What the attachment is not, the event says by its hash; the event is kept.
func TestAttachmentThatIsAnother(t *testing.T) {
	b := newBench(t, writeConfig(t, t.TempDir(), "tcp://127.0.0.1:1"))
	a := b.startWith(b)
	b.waitFor("lanepost.agent.key.v1", 1)
	other := event.NewAttachment([]byte("another"), "text/plain", "")
	require.NoError(t, a.record("/test/entry-1/x", drivers.Observation{
		Data: event.DeviceFault{Reason: "x"}, Attachments: []drivers.Attachment{{Attachment: other, Content: []byte("content")}, {Attachment: other}},
	}))
	b.waitFor("lanepost.device.fault.v1", 1)
	require.Contains(t, b.logged(), "an attachment is not what its event says")
	require.Contains(t, b.logged(), "an attachment can't be kept")
	require.NoError(t, b.stop())
}
