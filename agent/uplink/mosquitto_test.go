package uplink

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// mosquitto is a real broker in a process of its own.
type mosquitto struct {
	t    testing.TB
	path string
	addr string
	conf string
	cmd  *exec.Cmd
	mu   sync.Mutex
	log  strings.Builder
}

// startMosquitto starts one with the given lines in its configuration, which
// end with those of its only listener.
func startMosquitto(t testing.TB, lines ...string) *mosquitto {
	t.Helper()
	m := newMosquitto(t)
	_, port, err := net.SplitHostPort(m.addr)
	require.NoError(t, err)
	m.configure(fmt.Sprintf("listener %s 127.0.0.1\nmax_queued_messages 0\nset_tcp_nodelay true\n%s\n", port, strings.Join(lines, "\n")))
	m.start()
	return m
}

// newMosquitto is one that is not configured yet. The test is skipped where
// there is none.
func newMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("mosquitto is not installed")
		}
		t.Skip("mosquitto is not installed")
	}
	m := &mosquitto{t: t, path: path, addr: freeAddress(t), conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	t.Cleanup(m.kill)
	return m
}

// configure writes the configuration.
func (m *mosquitto) configure(text string) {
	m.t.Helper()
	if os.Geteuid() == 0 {
		text = "user root\n" + text // or it can't read the test's files
	}
	require.NoError(m.t, os.WriteFile(m.conf, []byte(text), 0o600))
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.path, "-c", m.conf)
	m.cmd.Stdout = &lockedWriter{&m.mu, &m.log}
	m.cmd.Stderr = m.cmd.Stdout
	require.NoError(m.t, m.cmd.Start())
	for deadline := time.Now().Add(patience); ; {
		nc, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = nc.Close()
			return
		}
		if time.Now().After(deadline) {
			m.mu.Lock()
			defer m.mu.Unlock()
			require.FailNowf(m.t, "mosquitto does not come up", "%s", m.log.String())
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}

// kill ends it as a power cut would.
func (m *mosquitto) kill() {
	if m.cmd != nil && m.cmd.ProcessState == nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	}
}

// subscribe collects everything that the broker hands out.
func (m *mosquitto) subscribe(change func(*mqtt.ClientOptions)) *ledger {
	m.t.Helper()
	l := &ledger{}
	o := mqtt.NewClientOptions().AddBroker("tcp://" + m.addr).SetClientID("central").SetAutoReconnect(false).SetProtocolVersion(4)
	if change != nil {
		change(o)
	}
	client := mqtt.NewClient(o)
	token := client.Connect()
	require.True(m.t, token.WaitTimeout(patience))
	require.NoError(m.t, token.Error())
	token = client.Subscribe("lanepost/#", 1, func(_ mqtt.Client, p mqtt.Message) {
		l.add(published{"", p.Topic(), p.Payload(), p.Retained(), p.Qos()})
	})
	require.True(m.t, token.WaitTimeout(patience))
	require.NoError(m.t, token.Error())
	m.t.Cleanup(func() { client.Disconnect(100) })
	return l
}

// TestMosquitto is the contract with a real broker.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t, "allow_anonymous true")
	sub := m.subscribe(nil)
	p := newProxy(t, m.addr).serve()
	s := newSpool(t)
	record(t, s, event.Routine, 2000, 600)
	record(t, s, event.Urgent, 500, 600)
	o := (&agent{devices: []Message{{deviceTopic, []byte("online")}}}).options(t, "tcp://"+p.addr)
	o.StopTimeout = patience
	u, stop := start(t, s, o)
	eventually(t, func() bool { return backlog(s) == 0 })
	p.cut()
	eventually(t, func() bool { return sub.has(stateTopic, stateBody(true, 2)) })
	require.True(t, sub.has(stateTopic, stateBody(false, 1)), "the last will of the first session")
	record(t, s, event.Urgent, 100, 600)
	eventuallyStatus(t, u, online)
	stop()
	eventually(t, func() bool { return sub.has(stateTopic, stateBody(false, 2)) })
	list := sub.all()
	require.Equal(t, stateBody(true, 1), list[0].payload, "birth comes first")
	require.Equal(t, deviceTopic, list[1].topic)
	require.Equal(t, stateBody(false, 2), list[len(list)-1].payload)
	requireEvents(t, list, event.Urgent, 600, 600)
	requireEvents(t, list, event.Routine, 2000, 600)
	late := m.subscribe(func(o *mqtt.ClientOptions) { o.SetClientID("late") })
	eventually(t, func() bool { return len(late.all()) == 2 })
	require.ElementsMatch(t, []published{
		{"", stateTopic, stateBody(false, 2), true, 1},
		{"", deviceTopic, []byte("online"), true, 1},
	}, late.all(), "what is retained")
}

func TestMosquittoLogin(t *testing.T) {
	t.Parallel()
	passwords := filepath.Join(t.TempDir(), "passwords")
	require.NoError(t, os.WriteFile(passwords, nil, 0o600))
	m := startMosquitto(t, "allow_anonymous false", "password_file "+passwords)
	m.kill()
	require.NoError(t, exec.Command("mosquitto_passwd", "-b", passwords, "lane", "right").Run())
	m.start()
	var mu sync.Mutex
	password := "wrong"
	o := (&agent{}).options(t, "tcp://"+m.addr)
	s := newSpool(t)
	record(t, s, event.Urgent, 50, 600)
	u, _ := start(t, s, o)
	eventuallyStatus(t, u, func(s Status) bool { return s.LastError != "" })
	require.Equal(t, "the broker does not let this client in: not authorised", u.Status().LastError, "without a user")

	o.ClientID = "lanepost-a-2"
	o.Username = func() (string, error) { return "lane", nil }
	o.Password = func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return password, nil
	}
	u, _ = start(t, newSpool(t), o)
	eventuallyStatus(t, u, func(s Status) bool { return s.LastError != "" })
	require.Equal(t, "the broker does not let this client in: not authorised", u.Status().LastError, "with a wrong password")
	mu.Lock()
	password = "right"
	mu.Unlock()
	eventuallyStatus(t, u, online)
	require.EqualValues(t, 50, backlog(s))
}

func TestMosquittoTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	cert, key := ca.issue("broker", "mqtt.example", later)
	client, clientKey := ca.issue("client", "lane-1", later)
	strange, strangeKey := other.issue("strange", "lane-1", later)
	m := startMosquitto(t, "allow_anonymous true", "cafile "+ca.file, "certfile "+cert, "keyfile "+key,
		"require_certificate true", "use_identity_as_username true")
	s := newSpool(t)
	record(t, s, event.Urgent, 300, 600)
	o := (&agent{}).options(t, "tls://"+m.addr)
	o.StopTimeout = patience
	try := func(tls TLSOptions, want string) {
		t.Helper()
		o.TLS = &tls
		u, stop := start(t, s, o)
		defer stop()
		if want == "" {
			eventually(t, func() bool { return backlog(s) == 0 })
			return
		}
		eventuallyStatus(t, u, func(s Status) bool { return strings.Contains(s.LastError, want) })
		require.NotEmpty(t, u.Status().Hint)
	}
	good := TLSOptions{CAFile: ca.file, CertFile: client, KeyFile: clientKey, ServerName: "mqtt.example"}
	bad := good
	bad.ServerName = ""
	try(bad, "made out to another name")
	bad = good
	bad.CAFile = other.file
	try(bad, "not trusted here")
	bad = good
	bad.CertFile, bad.KeyFile = "", ""
	try(bad, "the broker refused the TLS connection")
	bad.CertFile, bad.KeyFile = strange, strangeKey
	try(bad, "the broker refused the TLS connection")
	require.EqualValues(t, 300, backlog(s))
	try(good, "")
}

// TestMosquittoSizeLimit: a broker with a packet size limit ends the connection
// at a larger message. The message is named, and what came before is through.
func TestMosquittoSizeLimit(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t, "allow_anonymous true", "max_packet_size 2000")
	s := newSpool(t)
	record(t, s, event.Routine, 5, 600)
	record(t, s, event.Routine, 1, 3000)
	u, _ := start(t, s, (&agent{}).options(t, "tcp://"+m.addr))
	eventuallyStatus(t, u, func(s Status) bool { return len(s.Stuck) > 0 })
	require.EqualValues(t, 5, s.Stats().Routine.Acked)
	stuck := u.Status().Stuck[0]
	require.EqualValues(t, 6, stuck.Sequence)
	require.Equal(t, 3000, stuck.Bytes)
	require.Contains(t, u.Status().Hint, "size limit")
}

// TestMosquittoKilled kills the broker again and again while events flow. A
// broker that dies takes with it what it has confirmed and not handed out, so
// what counts is what went over its line.
func TestMosquittoKilled(t *testing.T) {
	t.Parallel()
	const events, size, kills = 10_000, 600, 3
	m := startMosquitto(t, "allow_anonymous true")
	p := newProxy(t, m.addr)
	line := &tap{confirmed: map[uint64]bool{}}
	p.tap = line.connection
	p.serve()
	s := newSpool(t)
	record(t, s, event.Routine, events, size)
	u, _ := start(t, s, (&agent{}).options(t, "tcp://"+p.addr))
	for i := range kills {
		eventually(t, func() bool { return s.Stats().Routine.Acked > uint64(events*(i+1)/(kills+2)) })
		m.kill()
		acked := s.Stats().Routine.Acked
		require.Less(t, acked, uint64(events), "it was over too early")
		m.start()
	}
	eventually(t, func() bool { return backlog(s) == 0 })
	require.EqualValues(t, kills, u.Status().Reconnects)
	line.mu.Lock()
	defer line.mu.Unlock()
	require.NoError(t, line.err)
	duplicates := requireEvents(t, line.list, event.Routine, events, size)
	for seq := uint64(1); seq <= events; seq++ {
		require.True(t, line.confirmed[seq], "the broker never confirmed %d", seq)
	}
	t.Logf("%d duplicates after %d kills", duplicates, kills)
}

// TestMosquittoConfirmsWhatItDrops holds the limit of MQTT 3.1.1 that the
// documents warn of: a PUBACK is all there is, and mosquitto gives it for what
// it throws away, too. If this fails, the warning can go.
func TestMosquittoConfirmsWhatItDrops(t *testing.T) {
	t.Parallel()
	acl := filepath.Join(t.TempDir(), "acl")
	require.NoError(t, os.WriteFile(acl, []byte("topic read #\ntopic write "+stateTopic+"\n"), 0o600))
	for name, lines := range map[string][]string{
		"no right to the topic": {"allow_anonymous true", "acl_file " + acl},
		"size limit":            {"allow_anonymous true", "message_size_limit 100"},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMosquitto(t, lines...)
			sub := m.subscribe(nil)
			s := newSpool(t)
			record(t, s, event.Urgent, 3, 600)
			o := (&agent{}).options(t, "tcp://"+m.addr)
			o.StopTimeout = patience
			_, stop := start(t, s, o)
			eventually(t, func() bool { return backlog(s) == 0 })
			stop()
			eventually(t, func() bool { return sub.has(stateTopic, stateBody(false, 1)) })
			require.Zero(t, requireEvents(t, sub.all(), event.Urgent, 0, 600))
		})
	}
}

// TestMosquittoExample delivers through both listeners of the example in
// deploy/mosquitto. Of its files only addresses and paths are changed.
func TestMosquittoExample(t *testing.T) {
	t.Parallel()
	m := newMosquitto(t)
	web, dir := freeAddress(t), t.TempDir()
	ca := newAuthority(t)
	later := time.Now().Add(time.Hour)
	cert, key := ca.issue("broker", "127.0.0.1", later)
	acl := example(t, dir, "mosquitto/lanepost.acl", "lanepost/v1/medyka/#", "lanepost/v1/test/#")
	text, err := os.ReadFile(example(t, dir, "mosquitto/mosquitto.conf",
		"/var/lib/mosquitto/", dir+"/", "/etc/mosquitto/lanepost.acl", acl,
		"listener 8883", "listener "+port(m.addr)+" 127.0.0.1", "listener 443", "listener "+port(web)+" 127.0.0.1",
		"/etc/mosquitto/tls/ca.pem", ca.file, "/etc/mosquitto/tls/broker.pem", cert, "/etc/mosquitto/tls/broker.key", key))
	require.NoError(t, err)
	m.configure(string(text))
	m.start()
	identity := func(name string) *TLSOptions {
		cert, key := ca.issue(name, name, later)
		return &TLSOptions{CAFile: ca.file, CertFile: cert, KeyFile: key}
	}
	central, err := (&trust{}).configure(identity("central"), "127.0.0.1")
	require.NoError(t, err)
	sub := subscriber(t, m.addr, central, nil)
	s := newSpool(t)
	for i, broker := range []string{"tls://" + m.addr, "wss://" + web} {
		record(t, s, event.Urgent, 100, 600)
		o := (&agent{}).options(t, broker)
		o.TLS = identity("lane-3")
		_, stop := start(t, s, o)
		eventually(t, func() bool { return backlog(s) == 0 })
		stop()
		eventually(t, func() bool { return sub.has(eventTopic, body(event.Urgent, uint64(100*i+100), 600)) })
	}
	require.Zero(t, requireEvents(t, sub.all(), event.Urgent, 200, 600))

	// Who is not in the list of rights is put out at the first word.
	record(t, s, event.Urgent, 1, 600)
	o := (&agent{}).options(t, "tls://"+m.addr)
	o.TLS, o.ClientID = identity("stranger"), "stranger"
	u, _ := start(t, s, o)
	eventuallyStatus(t, u, failing("the broker closed the connection"))
	require.EqualValues(t, 1, backlog(s))
}
