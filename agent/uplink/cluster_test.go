package uplink

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	nats "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// clusterNode names the environment variable with the configuration of the
// cluster's node that this process is to be.
const clusterNode = "LANEPOST_TEST_NATS_NODE"

// runClusterNode makes this process a node of the cluster, so that a test can
// kill it. It ends with its standard input at the latest.
func runClusterNode(config string) error {
	o, err := nats.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	o.NoSigs = true
	s, err := nats.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	_, err = io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	return err
}

// cluster is the example of deploy/nats-cluster on this machine.
type cluster struct {
	t     testing.TB
	ca    *authority
	nodes [3]*natsNode
}

// natsNode is one node in a process of its own.
type natsNode struct {
	t                  testing.TB
	name, config       string
	mqtt, route, watch string // addresses
	cmd                *exec.Cmd
	stdin              io.Closer
	mu                 sync.Mutex
	log                strings.Builder
}

// startCluster starts the example's three nodes. Of its files only addresses
// and paths are changed.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, ca: newAuthority(t)}
	for i := range c.nodes {
		c.nodes[i] = &natsNode{t: t, name: fmt.Sprintf("nats-%d", i+1), mqtt: freeAddress(t), route: freeAddress(t), watch: freeAddress(t)}
	}
	for i, n := range c.nodes {
		dir := t.TempDir()
		cert, key := c.ca.issue(n.name, "127.0.0.1", time.Now().Add(time.Hour))
		change := []string{
			"127.0.0.1:4222", freeAddress(t), "127.0.0.1:8222", n.watch, "0.0.0.0:6222", n.route, "0.0.0.0:8883", n.mqtt,
			"/var/lib/nats", filepath.Join(dir, "store"),
			"lanepost.v1.medyka.>", "lanepost.v1.test.>", `ack_wait: "30s"`, `ack_wait: "3s"`,
			"/etc/nats/tls/node.pem", cert, "/etc/nats/tls/node.key", key, "/etc/nats/tls/ca.pem", c.ca.file,
		}
		for j, other := range c.nodes {
			change = append(change, fmt.Sprintf("nats-%d.example:6222", j+1), other.route)
		}
		common := example(t, dir, "nats-cluster/cluster.conf", change...)
		require.Equal(t, filepath.Join(dir, "cluster.conf"), common)
		n.config = example(t, dir, fmt.Sprintf("nats-cluster/node-%d.conf", i+1))
		n.start()
	}
	for _, n := range c.nodes {
		n.ready()
	}
	return c
}

// example copies a file of deploy with some of its text changed, and returns
// the copy's path.
func example(t testing.TB, dir, name string, change ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	require.NoError(t, err)
	for i := 0; i < len(change); i += 2 {
		require.Contains(t, string(text), change[i], "what the test replaces in %s", name)
	}
	path := filepath.Join(dir, filepath.Base(name))
	require.NoError(t, os.WriteFile(path, []byte(strings.NewReplacer(change...).Replace(string(text))), 0o600))
	return path
}

func (n *natsNode) start() {
	n.t.Helper()
	n.cmd = exec.Command(os.Args[0])
	n.cmd.Env = append(os.Environ(), clusterNode+"="+n.config)
	n.cmd.Stdout = &lockedWriter{&n.mu, &n.log}
	n.cmd.Stderr = n.cmd.Stdout
	var err error
	n.stdin, err = n.cmd.StdinPipe()
	require.NoError(n.t, err)
	require.NoError(n.t, n.cmd.Start())
	n.t.Cleanup(n.kill)
}

// kill ends the node as a power cut of its machine's would.
func (n *natsNode) kill() {
	if n.cmd.ProcessState == nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		_ = n.stdin.Close()
	}
}

// get reads a page of the node's monitoring.
func (n *natsNode) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.watch+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// ready waits until the node's part of JetStream takes part in the cluster.
func (n *natsNode) ready() {
	n.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // between two looks
		var health struct{ Status string }
		if err = n.get("/healthz", &health); err == nil && health.Status == "ok" {
			return
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	require.FailNowf(n.t, "a node does not come up", "%s: %v\n%s", n.name, err, n.log.String())
}

// leader is the node that leads the stream of the events.
func (c *cluster) leader() *natsNode {
	c.t.Helper()
	var leader string
	eventually(c.t, func() bool {
		var page struct {
			Accounts []struct {
				Streams []struct {
					Name    string `json:"name"`
					Cluster struct {
						Leader string `json:"leader"`
					} `json:"cluster"`
				} `json:"stream_detail"`
			} `json:"account_details"`
		}
		if err := c.nodes[0].get("/jsz?streams=true", &page); err != nil {
			return false
		}
		for _, a := range page.Accounts {
			for _, s := range a.Streams {
				if s.Name == "$MQTT_msgs" {
					leader = s.Cluster.Leader
				}
			}
		}
		return leader != ""
	})
	for _, n := range c.nodes {
		if n.name == leader {
			return n
		}
	}
	require.FailNowf(c.t, "no such node", "%q", leader)
	return nil
}

// tls is what a client of the cluster shows and trusts.
func (c *cluster) tls(name string) *TLSOptions {
	cert, key := c.ca.issue(name, name, time.Now().Add(time.Hour))
	return &TLSOptions{CAFile: c.ca.file, CertFile: cert, KeyFile: key}
}

// subscriber takes events from a node as a central system does: with a session
// that the broker keeps, and connecting anew by itself.
func subscriber(t testing.TB, addr string, config *tls.Config, change func(*mqtt.ClientOptions)) *ledger {
	t.Helper()
	l := &ledger{}
	o := mqtt.NewClientOptions().AddBroker("tls://" + addr).SetTLSConfig(config).SetClientID("central").SetProtocolVersion(4).
		SetCleanSession(false).SetAutoReconnect(true).SetMaxReconnectInterval(200 * time.Millisecond).
		SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond). // a new cluster refuses at first
		SetDefaultPublishHandler(func(_ mqtt.Client, p mqtt.Message) {
			l.add(published{"", p.Topic(), p.Payload(), p.Retained(), p.Qos()})
		})
	if change != nil {
		change(o)
	}
	client := mqtt.NewClient(o)
	token := client.Connect()
	require.True(t, token.WaitTimeout(patience))
	require.NoError(t, token.Error())
	asked := client.Subscribe("lanepost/#", 1, nil).(*mqtt.SubscribeToken)
	require.True(t, asked.WaitTimeout(patience))
	require.NoError(t, asked.Error())
	require.Equal(t, map[string]byte{"lanepost/#": 1}, asked.Result(), "what the broker granted")
	t.Cleanup(func() { client.Disconnect(100) })
	return l
}

// TestClusterNodeKilled kills the node of a NATS cluster to which the uplink is
// connected, and which leads the stream of the events, while events flow. When the
// node is back, the uplink returns to it.
func TestClusterNodeKilled(t *testing.T) {
	t.Parallel()
	const size, writers = 600, 4
	c := startCluster(t)
	config, err := (&trust{}).configure(c.tls("central"), "127.0.0.1")
	require.NoError(t, err)
	login := func(o *mqtt.ClientOptions) { o.SetUsername("central").SetPassword("replace-central") }
	// The first client makes the streams and has no part in what follows.
	subscriber(t, c.nodes[0].mqtt, config, func(o *mqtt.ClientOptions) {
		login(o)
		o.SetClientID("first").SetCleanSession(true)
	})
	first := c.leader()
	var others []*natsNode
	for _, n := range c.nodes {
		if n != first {
			others = append(others, n)
		}
	}
	sub := subscriber(t, others[1].mqtt, config, login)

	s := newSpool(t)
	record(t, s, event.Routine, 2000, size) // so that the window is full when the node dies
	o := (&agent{}).options(t, "tls://"+first.mqtt, "tls://"+others[0].mqtt, "tls://"+others[1].mqtt)
	o.TLS = c.tls("lane-3")
	o.Username = func() (string, error) { return "lane-3", nil }
	o.Password = func() (string, error) { return "replace-lane-3", nil }
	// A cluster without a leader takes logins and does not answer them.
	o.ConnectTimeout, o.AckTimeout, o.StopTimeout = time.Second, 2*time.Second, patience
	o.ReturnAfter = 3 * time.Second
	u, stop := start(t, s, o)
	eventuallyStatus(t, u, online)
	require.Equal(t, "tls://"+first.mqtt, u.Status().Broker)

	// Several goroutines record all the while.
	var group sync.WaitGroup
	enough := make(chan struct{})
	finish := sync.OnceFunc(func() {
		close(enough)
		group.Wait()
	})
	t.Cleanup(finish)
	for i := range writers {
		class := event.Classes[i%len(event.Classes)]
		group.Go(func() {
			for {
				select {
				case <-enough:
					return
				case <-time.After(20 * time.Millisecond): // the pace of the events
					record(t, s, class, 1, size)
				}
			}
		})
	}
	acked := func() uint64 { return u.Status().Acked }
	eventually(t, func() bool { return acked() > 500 })
	first.kill()
	killed, before := time.Now(), acked()
	eventuallyStatus(t, u, func(st Status) bool {
		return st.State == Online && st.Broker != "tls://"+first.mqtt && st.Acked > before
	})
	t.Logf("the first event was confirmed by another node %s after the kill", time.Since(killed).Round(time.Millisecond))
	first.start()
	first.ready()
	// A node that is just back may refuse at first; the uplink goes back in the end.
	eventuallyStatus(t, u, func(st Status) bool { return st.State == Online && st.Broker == "tls://"+first.mqtt })
	before = acked()
	eventually(t, func() bool { return acked() > before+100 })
	finish()
	eventually(t, func() bool { return backlog(s) == 0 })
	stop()
	eventually(t, func() bool { return sub.has(stateTopic, stateBody(false, u.Status().Session)) })
	// What was on its way when the node died may come again after ack_wait, and so
	// behind later events: everything is kept, the order of first copies not.
	stats := s.Stats()
	for class, n := range map[event.Class]uint64{event.Urgent: stats.Urgent.Acked, event.Routine: stats.Routine.Acked} {
		var copies, late int
		eventually(t, func() bool {
			var arrived int
			arrived, copies, late = census(t, sub.all(), class, size)
			return arrived == int(n)
		})
		t.Logf("%s: %d events, %d copies more, %d late", class, n, copies-int(n), late)
	}
}

// census counts what arrived of a class, each with its bytes every time: how
// many events, how many copies, and how many of which a later one came before
// their first copy.
func census(t testing.TB, list []published, class event.Class, size int) (arrived, copies, late int) {
	t.Helper()
	seen := map[uint64]bool{}
	highest := uint64(0)
	for _, p := range list {
		var c event.Class
		var seq uint64
		if p.topic != eventTopic {
			continue
		}
		_, err := fmt.Sscanf(string(p.payload), "%s %d ", &c, &seq)
		require.NoError(t, err)
		if c != class {
			continue
		}
		require.Equal(t, string(body(class, seq, size)), string(p.payload), "the bytes of %s %d", class, seq)
		copies++
		if !seen[seq] && seq < highest {
			late++
		}
		seen[seq], highest = true, max(highest, seq)
	}
	return len(seen), copies, late
}
