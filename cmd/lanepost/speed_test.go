package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// The benchmark of the whole way: lines of simulated devices, through an agent
// that is a process of its own, to a subscriber on mosquitto. The same lines go
// through a publisher that keeps nothing, in the same run: compare the two, not
// the figures with another machine's.

// asBarePublisher makes the test binary behave as that publisher.
const asBarePublisher = "LANEPOST_TEST_AS_BARE_PUBLISHER"

const (
	// floodDevices all talk as fast as they are read. One event is on disk before
	// a device's next one is looked at, so the load comes from their number.
	floodDevices = 128
	// bareWindow is the agent's default window.
	bareWindow = 64
	slowLines  = 1500 // at 50 a second
	eventBytes = 600
)

// cpuProfile names a file for a profile of the agent's processor time.
const cpuProfile = "PROFILE"

func profile(path string) (stop func()) {
	if path == "" {
		return func() {}
	}
	f, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close() // a profile that is cut off shows
	}
}

// barePublisher reads lines and publishes an event of the usual size for each,
// with a full window, and keeps nothing.
func barePublisher(broker string, devices []string) int {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("bare").
		SetAutoReconnect(false).SetOrderMatters(false).SetWriteTimeout(10 * time.Second))
	if t := client.Connect(); !t.WaitTimeout(patience) || t.Error() != nil {
		return 1
	}
	lines := make(chan int, bareWindow)
	var readers sync.WaitGroup
	for i, address := range devices {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return 1
		}
		readers.Go(func() {
			for s := bufio.NewScanner(conn); s.Scan(); {
				lines <- i
			}
		})
	}
	go func() { readers.Wait(); close(lines) }()
	topics := make([]string, len(devices))
	for i := range topics {
		topics[i] = speedTopic(i)
	}
	payload := bytes.Repeat([]byte("x"), eventBytes)
	var flying []mqtt.Token
	for i := range lines {
		if len(flying) == bareWindow {
			<-flying[0].Done()
			flying = flying[1:]
		}
		flying = append(flying, client.Publish(topics[i], 1, false, payload))
	}
	for _, f := range flying {
		<-f.Done()
		if f.Error() != nil {
			return 1
		}
	}
	client.Disconnect(100)
	return 0
}

// speedTopic is where the events of a device's tamper contact appear.
func speedTopic(device int) string {
	return event.Topic(event.Source("test", "entry-1", speedDevice(device)), event.RadiationTamper{}.Type())
}

func speedDevice(i int) string { return fmt.Sprintf("rpm-%03d", i) }

// talker is a device whose tamper contact is opened and closed: each line is an
// event.
type talker struct {
	listener net.Listener
	conn     net.Conn
	lines    int
	sent     []time.Time // of each line, if wanted
}

var tamperLines = [2]string{"TT,000000,000000,000000,000000\r\n", "TC,111111,111111,111111,111111\r\n"}

func newTalkers(b *testing.B, n int) []*talker {
	b.Helper()
	var list []*talker
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		t := &talker{listener: l}
		b.Cleanup(func() {
			_ = l.Close()
			if t.conn != nil {
				_ = t.conn.Close()
			}
		})
		list = append(list, t)
	}
	return list
}

func (t *talker) accept(b *testing.B) {
	b.Helper()
	require.NoError(b, t.listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience)))
	var err error
	t.conn, err = t.listener.Accept()
	require.NoError(b, err)
}

// flood sends n lines as fast as they are taken.
func (t *talker) flood(n int) error {
	w := bufio.NewWriterSize(t.conn, 4096)
	for range n {
		if _, err := w.WriteString(tamperLines[t.lines%2]); err != nil {
			return err
		}
		t.lines++
	}
	return w.Flush()
}

// tick sends n lines, evenly spaced, and notes when.
func (t *talker) tick(n int, every time.Duration, stop func() bool) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for range n {
		<-ticker.C
		if stop() {
			return nil
		}
		t.sent = append(t.sent, time.Now())
		if _, err := t.conn.Write([]byte(tamperLines[t.lines%2])); err != nil {
			return err
		}
		t.lines++
	}
	return nil
}

// arrivals notes what comes to a subscriber.
type arrivals struct {
	mu      sync.Mutex
	byTopic map[string][]time.Time
	total   atomic.Int64 // of tamper events
	other   atomic.Int64
	first   time.Time // of anything that is no state
	last    time.Time
	bytes   int64
}

var tamperLevel = "/" + strings.TrimSuffix(event.RadiationTamper{}.Type(), ".v1")

func watchArrivals(b *testing.B, port int, filter string) *arrivals {
	b.Helper()
	a := &arrivals{byTopic: map[string][]time.Time{}}
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID(fmt.Sprintf("watch-%d", time.Now().UnixNano())).SetOrderMatters(true))
	token := client.Connect()
	require.True(b, token.WaitTimeout(patience))
	require.NoError(b, token.Error())
	token = client.Subscribe(filter, 1, func(_ mqtt.Client, m mqtt.Message) {
		now := time.Now()
		if strings.HasSuffix(m.Topic(), ".state") {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.first.IsZero() {
			a.first = now
		}
		a.last = now
		a.bytes += int64(len(m.Payload()))
		if !strings.HasSuffix(m.Topic(), tamperLevel) {
			a.other.Add(1)
			return
		}
		a.byTopic[m.Topic()] = append(a.byTopic[m.Topic()], now)
		a.total.Add(1)
	})
	require.True(b, token.WaitTimeout(patience))
	require.NoError(b, token.Error())
	b.Cleanup(func() { client.Disconnect(50) })
	return a
}

func (a *arrivals) wait(b *testing.B, what string, counter *atomic.Int64, n int64) {
	b.Helper()
	require.Eventually(b, func() bool { return counter.Load() >= n }, 5*time.Minute, time.Millisecond, "%s: %d of %d came", what, counter.Load(), n)
}

// latencies matches what a talker sent with what came of it.
func (a *arrivals) latencies(b *testing.B, device int, sent []time.Time, skip int) []time.Duration {
	b.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	came := a.byTopic[speedTopic(device)][skip:]
	require.Len(b, came, len(sent))
	var list []time.Duration
	for i, at := range came {
		list = append(list, at.Sub(sent[i]))
	}
	slices.Sort(list)
	return list
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measured is a process under measurement.
type measured struct {
	cmd *exec.Cmd
	log *syncBuffer
}

func startMeasured(b *testing.B, cmd *exec.Cmd) *measured {
	b.Helper()
	m := &measured{cmd: cmd, log: &syncBuffer{}}
	cmd.Stdout, cmd.Stderr = m.log, m.log
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill() })
	return m
}

// cpu is the processor time that the process has used.
func (m *measured) cpu(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	require.NoError(b, err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(f)
		require.NoError(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// peak is the highest resident memory so far, in MB.
func (m *measured) peak(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.cmd.Process.Pid))
	require.NoError(b, err)
	kb := regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(text)
	require.NotNil(b, kb)
	n, err := strconv.Atoi(string(kb[1]))
	require.NoError(b, err)
	return float64(n) / 1000
}

// writtenByKernel is what the process made the kernel write, in bytes.
func (m *measured) writtenByKernel(b *testing.B) int64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", m.cmd.Process.Pid))
	require.NoError(b, err)
	n, err := strconv.ParseInt(string(regexp.MustCompile(`(?m)^write_bytes: (\d+)`).FindSubmatch(text)[1]), 10, 64)
	require.NoError(b, err)
	return n
}

var diskLine = regexp.MustCompile(`syncs=(\d+) bytes_written=(\d+)`)

// stop ends an agent and returns what its spool asked of the disk.
func (m *measured) stop(b *testing.B) (syncs, written float64) {
	b.Helper()
	require.NoError(b, m.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(b, m.cmd.Wait(), "%s", m.log)
	found := diskLine.FindStringSubmatch(m.log.String())
	require.NotNil(b, found, "%s", m.log)
	syncs, err := strconv.ParseFloat(found[1], 64)
	require.NoError(b, err)
	written, err = strconv.ParseFloat(found[2], 64)
	require.NoError(b, err)
	return syncs, written
}

// course runs one publisher over a flood and over a slow stream.
type course struct {
	rate              float64 // events a second
	cpu               float64 // seconds for 100,000 events
	peak              float64 // MB
	p50, p99, p999    time.Duration
	max               time.Duration
	syncs, bytesEvent float64 // for 1,000 events; bytes written for each byte of event
	kernel            float64 // likewise, as the kernel counts
	eventBytes        float64
}

func BenchmarkEndToEnd(b *testing.B) {
	if os.Getenv("LANEPOST_END_TO_END") == "" {
		b.Skip("this is for `make bench-e2e`")
	}
	lines := 100_000
	if s := os.Getenv("LINES"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(b, err)
		lines = n
	}
	lines -= lines % floodDevices
	agentPath := program(b)
	port := freePort(b)
	mosquitto(b, port, "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true")
	broker := fmt.Sprintf("tcp://127.0.0.1:%d", port)

	sync, calm := fdatasyncs(b, 0), fdatasyncs(b, 20*time.Millisecond)
	fmt.Printf("\nbare fdatasync of %d bytes: p50 %.2f ms, p99 %.2f ms; 50 of them a second: p50 %.2f ms, p99 %.2f ms\n", eventBytes,
		ms(quantile(sync, .5)), ms(quantile(sync, .99)), ms(quantile(calm, .5)), ms(quantile(calm, .99)))

	bare := measure(b, port, lines, func(devices []string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], append([]string{broker}, devices...)...)
		cmd.Env = append(os.Environ(), asBarePublisher+"=1")
		return cmd
	}, nil)
	own := measure(b, port, lines, func(devices []string) *exec.Cmd {
		return exec.Command(agentPath, "run", "--config", speedConfig(b, devices, broker))
	}, func(m *measured) (float64, float64) { return m.stop(b) })
	if path := os.Getenv(cpuProfile); path != "" {
		measure(b, port, lines, func(devices []string) *exec.Cmd {
			return lanepost("run", "--config", speedConfig(b, devices, broker))
		}, func(m *measured) (float64, float64) { return m.stop(b) })
		fmt.Printf("profile of lanepost: %s\n", path)
	}

	fmt.Printf("%-34s %14s %14s %8s\n", "", "bare publisher", "lanepost", "ratio")
	row := func(name string, a, o float64) { fmt.Printf("%-34s %14.2f %14.2f %8.2f\n", name, a, o, o/a) }
	row("events/s", bare.rate, own.rate)
	row("CPU s per 100,000 events", bare.cpu, own.cpu)
	row("peak resident MB", bare.peak, own.peak)
	row("p50 ms at 50 lines/s", ms(bare.p50), ms(own.p50))
	row("p99 ms", ms(bare.p99), ms(own.p99))
	row("p99.9 ms", ms(bare.p999), ms(own.p999))
	row("max ms", ms(bare.max), ms(own.max))
	fmt.Printf("lanepost: %.0f bytes an event; %.2f bytes written per byte of event (%.2f as the kernel counts); %.1f fsyncs per 1,000 events\n",
		own.eventBytes, own.bytesEvent, own.kernel, own.syncs)
	more := float64(own.p50 - bare.p50)
	fmt.Printf("p50 above the bare publisher's: %.2f fdatasyncs, %.2f of those at 50 a second; p99/p50 %.1f\n",
		more/float64(quantile(sync, .5)), more/float64(quantile(calm, .5)), float64(own.p99)/float64(own.p50))
	drain(b, agentPath, lines, bare.rate)
}

func speedConfig(b *testing.B, devices []string, broker string) string {
	b.Helper()
	var text strings.Builder
	for i, d := range devices {
		text.WriteString(deviceYAML(speedDevice(i), "rapiscan-tsa", "tcp://"+d, "silence: 10m"))
	}
	return writeConfig(b, text.String(), fmt.Sprintf("mqtt:\n  brokers: [%s]\n", broker))
}

// measure measures one publisher: first slow, then as fast as it goes.
func measure(b *testing.B, port, lines int, command func(devices []string) *exec.Cmd, stop func(*measured) (float64, float64)) (c course) {
	b.Helper()
	talkers := newTalkers(b, floodDevices)
	var addresses []string
	for _, t := range talkers {
		addresses = append(addresses, t.listener.Addr().String())
	}
	a := watchArrivals(b, port, event.TopicRoot+"/#")
	m := startMeasured(b, command(addresses))
	for _, t := range talkers {
		t.accept(b)
	}
	// One line of each, so that what happens once is over.
	for _, t := range talkers {
		require.NoError(b, t.flood(1))
	}
	a.wait(b, "the first line of each device", &a.total, floodDevices)
	time.Sleep(time.Second) // the measured process comes to rest

	slow := talkers[0]
	require.NoError(b, slow.tick(slowLines, 20*time.Millisecond, func() bool { return false }))
	a.wait(b, "slow lines", &a.total, floodDevices+slowLines)
	l := a.latencies(b, 0, slow.sent, 1)
	c.p50, c.p99, c.p999, c.max = quantile(l, .5), quantile(l, .99), quantile(l, .999), l[len(l)-1]

	cpu, kernel := m.cpu(b), m.writtenByKernel(b)
	a.mu.Lock()
	a.first, a.bytes = time.Time{}, 0
	a.mu.Unlock()
	began := time.Now()
	var all sync.WaitGroup
	for _, t := range talkers {
		all.Go(func() {
			if err := t.flood(lines / floodDevices); err != nil {
				b.Errorf("flood: %v", err)
			}
		})
	}
	all.Wait()
	a.wait(b, "the flood", &a.total, int64(floodDevices+slowLines+lines))
	a.mu.Lock()
	took, size := a.last.Sub(began), a.bytes
	a.mu.Unlock()
	c.rate = float64(lines) / took.Seconds()
	c.cpu = (m.cpu(b) - cpu).Seconds() * 100_000 / float64(lines)
	c.peak = m.peak(b)
	c.eventBytes = float64(size) / float64(lines)
	c.kernel = float64(m.writtenByKernel(b)-kernel) / float64(size)
	if stop == nil {
		for _, t := range talkers {
			_ = t.conn.Close()
		}
		require.NoError(b, m.cmd.Wait())
		return c
	}
	syncs, written := stop(m)
	// The slow lines cost a sync each, and are no load.
	c.syncs = (syncs - slowLines) * 1000 / float64(lines)
	c.bytesEvent = written / (float64(size) * float64(lines+slowLines) / float64(lines))
	return c
}

// drain lets a backlog wait for a broker that is not there, and measures how
// fast it goes when there is one, and how live urgent events fare meanwhile.
func drain(b *testing.B, agentPath string, lines int, bareRate float64) {
	b.Helper()
	port := freePort(b)
	talkers := newTalkers(b, floodDevices)
	var addresses []string
	for _, t := range talkers {
		addresses = append(addresses, t.listener.Addr().String())
	}
	m := startMeasured(b, exec.Command(agentPath, "run", "--config", speedConfig(b, addresses, fmt.Sprintf("tcp://127.0.0.1:%d", port))))
	for _, t := range talkers {
		t.accept(b)
	}
	// Occupancies without an alarm are routine, if the portal told its background
	// and both kinds of samples.
	each := lines / (floodDevices - 1)
	var all sync.WaitGroup
	for _, t := range talkers[1:] {
		all.Go(func() {
			w := bufio.NewWriterSize(t.conn, 4096)
			for i := range each {
				_, err := fmt.Fprintf(w, "GB,000401,000406,000436,000436\r\nNB,000000,000000,000000,000000\r\n"+
					"GS,000083,000080,000088,000084\r\nNS,000000,000000,000000,000000\r\nGX,%06d,002341,000000,000000\r\n", i+1)
				if err != nil {
					b.Errorf("backlog: %v", err)
					return
				}
			}
			if err := w.Flush(); err != nil {
				b.Errorf("backlog: %v", err)
			}
		})
	}
	all.Wait()
	time.Sleep(2 * time.Second) // what is in the sockets is read
	idle := m.peak(b)
	mosquitto(b, port, "max_queued_messages 0", "max_inflight_messages 0", "set_tcp_nodelay true")
	// An alarm station has a subscription of its own: what the broker queues for a
	// slow archive is not the agent's.
	station := watchArrivals(b, port, speedTopic(0))
	a := watchArrivals(b, port, event.TopicRoot+"/+/+/+/"+strings.TrimSuffix(event.RadiationOccupancy{}.Type(), ".v1"))
	var done atomic.Bool
	ended := make(chan error, 1)
	go func() {
		ended <- talkers[0].tick(1_000_000, 20*time.Millisecond, done.Load)
	}()
	a.wait(b, "the backlog", &a.other, int64(each*(floodDevices-1)))
	a.mu.Lock()
	first := a.first
	took := a.last.Sub(first)
	n := a.other.Load()
	size := a.bytes
	a.mu.Unlock()
	done.Store(true)
	require.NoError(b, <-ended)
	station.wait(b, "the live lines", &station.total, int64(len(talkers[0].sent)))
	// Those that were sent before the broker was there don't count.
	var live []time.Duration
	station.mu.Lock()
	for i, at := range station.byTopic[speedTopic(0)] {
		if sent := talkers[0].sent[i]; sent.After(first) {
			live = append(live, at.Sub(sent))
		}
	}
	station.mu.Unlock()
	slices.Sort(live)
	rate := float64(n) / took.Seconds()
	fmt.Printf("drain of %d events of %.0f bytes: %.2f s, %.0f events/s, %.2f of the bare publisher; %d live urgent events meanwhile: p50 %.1f ms, p99 %.1f ms; peak resident %.1f MB (%.1f MB before)\n",
		n, float64(size)/float64(n), took.Seconds(), rate, rate/bareRate, len(live), ms(quantile(live, .5)), ms(quantile(live, .99)), m.peak(b), idle)
	m.stop(b)
}

// fdatasyncs measures single writes of an event's size to a file that has its
// size already, with a pause between them: a disk and a processor that rest
// meanwhile are slower.
func fdatasyncs(b *testing.B, pause time.Duration) []time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	require.NoError(b, err)
	defer f.Close()
	require.NoError(b, syscall.Fallocate(int(f.Fd()), 0, 0, 1<<20))
	require.NoError(b, f.Sync())
	payload := bytes.Repeat([]byte("x"), eventBytes)
	var list []time.Duration
	for i := range 500 {
		time.Sleep(pause)
		began := time.Now()
		_, err := f.WriteAt(payload, int64(i*eventBytes))
		require.NoError(b, err)
		require.NoError(b, syscall.Fdatasync(int(f.Fd())))
		list = append(list, time.Since(began))
	}
	slices.Sort(list)
	return list
}
