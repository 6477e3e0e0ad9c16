package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
	"github.com/lanepost/lanepost/simulator"
)

// subscriber collects every event that the broker hands out.
type subscriber struct {
	mu     sync.Mutex
	first  map[event.Class]map[uint64][]byte // by sequence, as first received
	order  map[event.Class][]uint64          // sequences in the order of their first arrival
	count  int
	broken []string
}

func subscribeTo(t *testing.T, port int) *subscriber {
	t.Helper()
	s := &subscriber{first: map[event.Class]map[uint64][]byte{}, order: map[event.Class][]uint64{}}
	for _, c := range event.Classes {
		s.first[c] = map[uint64][]byte{}
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("central").SetOrderMatters(true))
	token := client.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	token = client.Subscribe(event.TopicRoot+"/#", 1, func(_ mqtt.Client, m mqtt.Message) { s.receive(m.Topic(), m.Payload()) })
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	t.Cleanup(func() { client.Disconnect(100) })
	return s
}

func (s *subscriber) receive(topic string, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := event.Parse(payload)
	if err != nil {
		s.broken = append(s.broken, err.Error())
		return
	}
	if e.Sequence == "" {
		return // a retained state
	}
	if want := event.Topic(e.Source, e.Type); topic != want {
		s.broken = append(s.broken, "topic "+topic+" of an event for "+want)
	}
	seq, err := event.ParseSequence(e.Sequence)
	if err != nil {
		s.broken = append(s.broken, err.Error())
		return
	}
	s.count++
	payload = bytes.Clone(payload)
	before, again := s.first[e.Priority][seq]
	if !again {
		s.first[e.Priority][seq] = payload
		s.order[e.Priority] = append(s.order[e.Priority], seq)
		return
	}
	if !bytes.Equal(before, payload) {
		s.broken = append(s.broken, fmt.Sprintf("%s %d came with other bytes the second time:\n%s\n%s", e.Priority, seq, before, payload))
	}
}

func (s *subscriber) has(class event.Class, seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.first[class][seq]
	return ok
}

// TestKilledUnderLoad kills the agent at random moments while two portals talk
// as fast as they can, and starts it again, many times in a row. In the end a
// subscriber of a real broker must hold every event that any of the agents had
// acknowledged.
func TestKilledUnderLoad(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	rounds := 200
	if s := os.Getenv("LANEPOST_KILL_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		rounds = n
	}
	// Two boxes side by side: while one waits the other works.
	const boxes = 2
	for i := range boxes {
		t.Run(fmt.Sprintf("box %d", i+1), func(t *testing.T) {
			t.Parallel()
			killUnderLoad(t, (rounds+boxes-1)/boxes)
		})
	}
}

func killUnderLoad(t *testing.T, rounds int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))

	port := freePort(t)
	mosquitto(t, port, "max_queued_messages 0", "max_inflight_messages 0")
	sub := subscribeTo(t, port)

	scenario := simulator.MustLoad(t, "busy")
	scenario.Duration = 0 // without end
	lane := simulator.Start(t, scenario, simulator.Options{Speed: 2000})
	var devices string
	for i, d := range lane.Devices() {
		devices += deviceYAML(fmt.Sprintf("rpm-%d", i+1), "rapiscan-tsa", d.Connect)
	}
	config := writeConfig(t, devices, fmt.Sprintf("mqtt:\n  brokers: [tcp://127.0.0.1:%d]\n", port))

	// What was on disk before a kill, as the agents printed it.
	type key struct {
		class event.Class
		seq   uint64
	}
	recorded := map[key][]byte{}
	note := func(p *process) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i, e := range p.events {
			seq, err := event.ParseSequence(e.Sequence)
			require.NoError(t, err)
			k := key{e.Priority, seq}
			if before, ok := recorded[k]; ok {
				require.Equal(t, string(before), string(p.lines[i]), "sequence %d of %s was given twice", seq, e.Priority)
			}
			recorded[k] = p.lines[i]
		}
	}
	for range rounds {
		p := start(t, config)
		// Now and then the kill hits the start itself.
		if random.IntN(5) > 0 {
			p.waitFor("lanepost.agent.started.v1", 1)
		}
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // the moment of the kill is what is random here
		require.NoError(t, p.cmd.Process.Kill())
		<-p.done
		note(p)
	}
	// One more start, left alone until it has delivered what the killed ones
	// left behind.
	p := start(t, config)
	p.waitFor("lanepost.agent.started.v1", 1)
	started := decode[*event.AgentStarted](t, p.seen()[0])
	require.Equal(t, "unclean", started.PreviousStop)
	missing := func() (list []key) {
		for k := range recorded {
			if !sub.has(k.class, k.seq) {
				list = append(list, k)
			}
		}
		return list
	}
	require.Eventually(t, func() bool { return len(missing()) == 0 }, patience, 50*time.Millisecond,
		"acknowledged events are missing at the subscriber")
	p.stop()

	sub.mu.Lock()
	defer sub.mu.Unlock()
	require.Empty(t, sub.broken)
	for k, line := range recorded {
		require.Equal(t, string(line), string(sub.first[k.class][k.seq]), "%s %d", k.class, k.seq)
	}
	total := 0
	for _, class := range event.Classes {
		order := sub.order[class]
		require.True(t, slices.IsSorted(order), "%s events arrived out of order", class)
		for i, seq := range order {
			require.Equal(t, uint64(i+1), seq, "%s events have a gap", class)
		}
		total += len(order)
	}
	t.Logf("%d kills: %d events recorded before a kill or a stop, %d at the subscriber, %d of them twice",
		rounds, len(recorded), total, sub.count-total)
	require.Greater(t, len(recorded), 10*rounds, "there was no load")
}
