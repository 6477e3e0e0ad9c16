package blobs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lanepost/lanepost/protocol/event"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

const source = "/medyka/entry-3/anpr-1"

var ctx = context.Background()

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	if o.Consumers == nil {
		o.Consumers = []string{"central"}
	}
	o.noSync = true
	o.ChunkBytes = max(o.ChunkBytes, minChunkBytes)
	s, err := Open(dir, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// picture makes content that is different for each seed.
func picture(seed uint64, size int) []byte {
	b := make([]byte, size)
	rnd := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func put(t *testing.T, s *Store, content []byte) event.Attachment {
	t.Helper()
	a, err := s.Put(ctx, bytes.NewReader(content), 1<<20)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	require.Equal(t, event.Attachment{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(content))}, a)
	a.MediaType, a.Name = "image/jpeg", "front.jpg"
	return a
}

func reference(eventID string, class event.Class, a event.Attachment) Reference {
	return Reference{EventID: eventID, Class: class, Source: source, Attachment: a}
}

// promised puts content and promises it.
func promised(t *testing.T, s *Store, eventID string, class event.Class, seq uint64, content []byte) event.Attachment {
	t.Helper()
	a := put(t, s, content)
	require.NoError(t, s.Announce(reference(eventID, class, a)))
	s.Refer(eventID, seq)
	return a
}

type message struct {
	topic   string
	payload []byte
	token   any
}

// next waits for the next chunk.
func next(t *testing.T, sd *Sender) message {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		changed := sd.Changed()
		if topic, payload, token, ok := sd.Next(); ok {
			return message{topic, payload, token}
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("no chunk comes")
		}
	}
}

// outcomes waits for n outcomes.
func outcomes(t *testing.T, s *Store, n int) (list []Outcome) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		changed := s.Changed()
		for more := s.Outcomes(); len(more) > 0; more = s.Outcomes() {
			list = append(list, more...)
		}
		if len(list) >= n {
			require.Len(t, list, n)
			return list
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("only %d outcomes come", len(list))
		}
	}
}

func nothing(t *testing.T, sd *Sender) {
	t.Helper()
	_, _, _, ok := sd.Next()
	require.False(t, ok)
}

// Chunks go out many at a time, are confirmed in any order, arrive shuffled and
// doubled, and are the content.
func TestDelivery(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	content := picture(1, 50*minChunkBytes+17)
	a := promised(t, s, "e1", event.Routine, 1, content)
	sd := s.Sender("central")
	var sent []message
	for range 51 {
		sent = append(sent, next(t, sd))
	}
	nothing(t, sd)
	require.Empty(t, s.Outcomes())

	receiver := event.NewAssembler(1 << 20)
	arriving := slices.Concat(sent, sent)
	rand.Shuffle(len(arriving), func(i, j int) { arriving[i], arriving[j] = arriving[j], arriving[i] })
	complete := 0
	for _, m := range arriving {
		got, done, err := receiver.Add(m.topic, m.payload)
		require.NoError(t, err)
		if done {
			require.Equal(t, content, got)
			complete++
		}
	}
	require.Equal(t, 1, complete)

	for _, i := range rand.Perm(len(sent)) {
		require.Empty(t, s.Outcomes())
		sd.Confirmed(sent[i].token)
		sd.Confirmed(sent[i].token)
	}
	got := outcomes(t, s, 1)[0]
	require.Equal(t, event.DeviceAttachment{
		SHA256: a.SHA256, Size: a.Size, MediaType: "image/jpeg", Name: "front.jpg", EventID: "e1", Uplink: "central",
		Chunks: 51, ChunkBytes: minChunkBytes, Outcome: "delivered",
	}, got.Data())
	require.Equal(t, source, got.Source)
	require.Equal(t, uint64(1), got.Sequence)
	s.OutcomeRecorded(got)
	st := s.Stats()
	require.Zero(t, st.Promises)
	require.Equal(t, 1, st.Idle)
	require.Equal(t, a.Size, st.Bytes)
}

// The topic is written out by hand here; the rest of the tests trust it.
func TestTopicsOfChunks(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	promised(t, s, "e1", event.Routine, 1, bytes.Repeat([]byte("a"), 1500))
	first, second := next(t, s.Sender("central")), next(t, s.Sender("central"))
	require.Regexp(t, `^lanepost/v1/medyka/entry-3/anpr-1/blob/[0-9a-f]{64}/000000000000of1500$`, first.topic)
	require.Regexp(t, `^lanepost/v1/medyka/entry-3/anpr-1/blob/[0-9a-f]{64}/000000001024of1500$`, second.topic)
	require.Len(t, first.payload, 1024)
	require.Len(t, second.payload, 476)
}

// Content waits for its event; urgent content overtakes; events' order holds.
func TestOrder(t *testing.T) {
	var done [2]atomic.Uint64
	s := open(t, t.TempDir(), Options{Delivered: func(consumer string, class event.Class, seq uint64) bool {
		if consumer != "central" {
			return false
		}
		return seq <= done[slices.Index(event.Classes[:], class)].Load()
	}})
	sd := s.Sender("central")
	first := promised(t, s, "r1", event.Routine, 1, picture(1, 3*minChunkBytes))
	third := promised(t, s, "r3", event.Routine, 3, picture(3, 10))
	second := promised(t, s, "r2", event.Routine, 2, picture(2, 10))
	urgent := promised(t, s, "u1", event.Urgent, 1, picture(4, 10))
	nothing(t, sd)
	take := func(a event.Attachment, n int) {
		t.Helper()
		for range n {
			m := next(t, sd)
			require.Contains(t, m.topic, a.SHA256)
			sd.Confirmed(m.token)
		}
	}
	done[1].Store(1)
	take(first, 1)
	done[0].Store(1)
	// The first call has it verified; the routine one goes on meanwhile.
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		q := sd.queue(event.Urgent)
		sd.begin(q)
		if q.active[0].p.sums == nil {
			s.verify(q.active[0].p)
			return false
		}
		return true
	}, 10*time.Second, time.Millisecond)
	take(urgent, 1)
	take(first, 2)
	nothing(t, sd)
	done[1].Store(2)
	take(second, 1)
	nothing(t, sd)
	done[1].Store(3)
	take(third, 1)
	require.Len(t, outcomes(t, s, 4), 4)
}

func TestAnnouncedOnlyIsNotSent(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	a, b := put(t, s, picture(1, 10)), put(t, s, picture(2, 10))
	require.NoError(t, s.Announce(reference("e1", event.Routine, a), reference("e1", event.Routine, b)))
	nothing(t, s.Sender("central"))
	s.Withdraw("e1")
	s.Refer("e1", 1)
	nothing(t, s.Sender("central"))
	require.Empty(t, s.Outcomes())
	require.Zero(t, s.Stats().Promises)
	require.Equal(t, 2, s.Stats().Idle)
	// It can be promised again while it is there.
	require.NoError(t, s.Announce(reference("e2", event.Routine, a)))
	s.Refer("e2", 2)
	require.Contains(t, next(t, s.Sender("central")).topic, a.SHA256)
}

func TestSameContentIsStoredAndSentOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Consumers: []string{"central", "alarm-station"}})
	content := picture(1, 2*minChunkBytes)
	a := promised(t, s, "e1", event.Routine, 1, content)
	promised(t, s, "e2", event.Routine, 2, content)
	require.Equal(t, 1, s.Stats().Contents)
	require.Equal(t, a.Size, s.Stats().Bytes)

	other := put(t, s, content)
	r := reference("e3", event.Routine, other)
	r.Source = "/medyka/entry-4/anpr-1" // another device: another topic
	require.NoError(t, s.Announce(r))
	s.Refer("e3", 3)

	sd := s.Sender("central")
	m1, m2 := next(t, sd), next(t, sd)
	nothing(t, sd) // e2 waits for e1
	sd.Confirmed(m1.token)
	sd.Confirmed(m2.token)
	m3, m4 := next(t, sd), next(t, sd)
	require.Contains(t, m3.topic, "entry-4")
	sd.Confirmed(m3.token)
	sd.Confirmed(m4.token)
	nothing(t, sd)
	var events []string
	for _, o := range outcomes(t, s, 3) {
		require.Equal(t, "delivered", o.Outcome)
		require.Equal(t, "central", o.Consumer)
		events = append(events, o.EventID)
		s.OutcomeRecorded(o)
	}
	require.ElementsMatch(t, []string{"e1", "e2", "e3"}, events)
	require.Equal(t, 3, s.Stats().Promises, "the alarm station waits still")
	require.Zero(t, s.Stats().Idle)
	require.Contains(t, next(t, s.Sender("alarm-station")).topic, "entry-3")
}

func TestRewind(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	promised(t, s, "e1", event.Routine, 1, picture(1, 4*minChunkBytes))
	sd := s.Sender("central")
	m := []message{next(t, sd), next(t, sd), next(t, sd)}
	sd.Confirmed(m[1].token)
	sd.Rewind()
	require.Equal(t, m[0].topic, next(t, sd).topic)
	require.Equal(t, m[2], next(t, sd))
	fourth := next(t, sd)
	nothing(t, sd)
	sd.Confirmed(m[0].token) // late, and true
	sd.Confirmed(m[2].token)
	sd.Confirmed(fourth.token)
	require.Equal(t, "delivered", outcomes(t, s, 1)[0].Outcome)
}

// What the broker refuses does not hold up what comes behind it.
func TestRefused(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	promised(t, s, "e1", event.Routine, 1, picture(1, 3*minChunkBytes))
	b := promised(t, s, "e2", event.Routine, 2, picture(2, 10))
	sd := s.Sender("central")
	first, second := next(t, sd), next(t, sd)
	sd.Refused(second.token, "the packet is too large")
	sd.Confirmed(first.token)
	sd.Refused(first.token, "again")
	o := outcomes(t, s, 1)[0]
	require.Equal(t, "refused", o.Outcome)
	require.Equal(t, "the packet is too large", o.Detail)
	m := next(t, sd)
	require.Contains(t, m.topic, b.SHA256)
	sd.Confirmed(m.token)
	require.Equal(t, "delivered", outcomes(t, s, 1)[0].Outcome)
}

// A restart goes on where the last process was, and says again what may not have
// been recorded.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	o := Options{Consumers: []string{"central", "alarm-station"}}
	s := open(t, dir, o)
	content := picture(1, 70*minChunkBytes)
	promised(t, s, "e1", event.Routine, 1, content)
	promised(t, s, "e2", event.Urgent, 9, picture(2, 10))
	announced := put(t, s, picture(3, 10))
	require.NoError(t, s.Announce(reference("e3", event.Routine, announced)))
	sd := s.Sender("central")
	sd.Confirmed(next(t, sd).token)
	urgent := outcomes(t, s, 1)[0]
	require.Equal(t, "e2", urgent.EventID)
	confirmed := map[string]bool{}
	for i := range 70 {
		m := next(t, sd)
		if i%3 == 0 {
			sd.Confirmed(m.token)
			confirmed[m.topic] = true
		}
	}
	require.NoError(t, s.Close())

	for round := range 2 { // the second one reads a journal that was written anew
		o.ChunkBytes = 4096 // holds for new promises only
		o.Head = func(event.Class) uint64 { return 40 }
		o.Delivered = func(consumer string, class event.Class, seq uint64) bool { return consumer == "central" && seq < 40 }
		s = open(t, dir, o)
		require.Equal(t, []Outcome{urgent}, outcomes(t, s, 1))
		sd = s.Sender("central")
		seen := 0
		for range 70 - len(confirmed) {
			m := next(t, sd)
			require.Len(t, m.payload, minChunkBytes)
			require.NotContains(t, confirmed, m.topic)
			if seen++; round == 1 {
				sd.Confirmed(m.token)
			}
		}
		nothing(t, sd) // e3 waits for what was recorded when the agent died
		nothing(t, s.Sender("alarm-station"))
		require.Equal(t, uint64(40), s.promises[3].sequence)
		s.mu.Lock()
		s.rewrite = true
		s.mu.Unlock()
		if round == 1 {
			s.OutcomeRecorded(urgent)
			require.Equal(t, "e1", outcomes(t, s, 1)[0].EventID)
		}
		require.NoError(t, s.Close())
	}

	// The alarm station left the configuration.
	s = open(t, dir, Options{})
	last := outcomes(t, s, 1)[0]
	require.Equal(t, "e1", last.EventID)
	s.OutcomeRecorded(last)
	m := next(t, s.Sender("central"))
	require.Contains(t, m.topic, announced.SHA256)
	require.Equal(t, 1, s.Stats().Promises)
}

func TestDamagedContent(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"altered": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[2000] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
		},
		"cut":     func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 100)) },
		"missing": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
	} {
		for _, when := range []string{"before", "between", "stopped"} {
			t.Run(name+" "+when, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir, Options{})
				content := picture(1, 3*minChunkBytes)
				a := promised(t, s, "e1", event.Routine, 1, content)
				path := filepath.Join(dir, a.SHA256[:2], a.SHA256)
				if when == "between" {
					next(t, s.Sender("central"))
				}
				damage(t, path)
				if when == "stopped" {
					require.NoError(t, s.Close())
					s = open(t, dir, Options{})
				}
				sd := s.Sender("central")
				nothing(t, sd)
				o := outcomes(t, s, 1)[0]
				require.Equal(t, "damaged", o.Outcome)
				require.NotEmpty(t, o.Detail)
				require.Equal(t, "e1", o.EventID)
				require.Zero(t, s.Stats().Contents)
				require.Zero(t, s.Stats().Bytes)
				require.NoFileExists(t, path)
				if name != "missing" {
					require.FileExists(t, filepath.Join(dir, "quarantine", a.SHA256))
				}
				// Whole again, it is delivered.
				promised(t, s, "e2", event.Routine, 2, content)
				require.Equal(t, content[:minChunkBytes], next(t, sd).payload)
			})
		}
	}
}

// The same content put again heals a damaged file.
func TestPutHeals(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	content := picture(1, 100)
	a := promised(t, s, "e1", event.Routine, 1, content)
	require.NoError(t, os.WriteFile(filepath.Join(dir, a.SHA256[:2], a.SHA256), []byte("nonsense"), 0o600))
	put(t, s, content)
	require.Equal(t, content, next(t, s.Sender("central")).payload)
	require.Empty(t, s.Outcomes())
}

func TestPutRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{MaxBytes: 1 << 20})
	broken := errors.New("the camera hung up")
	ended, end := context.WithCancel(ctx)
	end()
	for _, x := range []struct {
		ctx   context.Context
		r     io.Reader
		limit int64
		want  error
	}{
		{ctx, bytes.NewReader(nil), 10, ErrEmpty},
		{ctx, bytes.NewReader(make([]byte, 11)), 10, ErrTooLarge},
		{ctx, bytes.NewReader(make([]byte, 1<<20+1)), 1 << 40, ErrTooLarge},
		{ctx, io.MultiReader(bytes.NewReader(make([]byte, 600_000)), iotest.ErrReader(broken)), 1 << 20, broken},
		{ended, bytes.NewReader(make([]byte, 10)), 10, context.Canceled},
	} {
		_, err := s.Put(x.ctx, x.r, x.limit)
		require.ErrorIs(t, err, x.want)
	}
	require.Zero(t, s.Stats().Bytes)
	temps, err := os.ReadDir(filepath.Join(dir, "tmp"))
	require.NoError(t, err)
	require.Empty(t, temps)

	a := put(t, s, picture(1, 10))
	for _, change := range []func(*Reference){
		func(r *Reference) { r.EventID = "" },
		func(r *Reference) { r.Class = "soon" },
		func(r *Reference) { r.Source = "/a/b" },
		func(r *Reference) { r.Source = "/a/b/#" },
		func(r *Reference) { r.Attachment.MediaType = "" },
		func(r *Reference) { r.Attachment.Name = string(make([]byte, maxText+1)) },
		func(r *Reference) { r.Attachment.Size++ },
	} {
		r := reference("e1", event.Routine, a)
		change(&r)
		require.Error(t, s.Announce(r))
	}
	unknown := reference("e1", event.Routine, a)
	unknown.Attachment.SHA256 = a.SHA256[:63] + "0"
	if unknown.Attachment.SHA256 == a.SHA256 {
		unknown.Attachment.SHA256 = a.SHA256[:63] + "1"
	}
	require.ErrorIs(t, s.Announce(reference("e1", event.Routine, a), unknown), ErrUnknown)
	require.Zero(t, s.Stats().Promises)
}

func TestCap(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 1000})
	sd := s.Sender("central")
	first := promised(t, s, "e1", event.Routine, 1, picture(1, 400))
	promised(t, s, "e2", event.Routine, 2, picture(2, 400))
	_, err := s.Put(ctx, bytes.NewReader(picture(3, 300)), 1000)
	require.ErrorIs(t, err, ErrFull)
	require.True(t, s.Stats().Full)
	require.Equal(t, int64(800), s.Stats().Bytes)

	m := next(t, sd)
	require.Contains(t, m.topic, first.SHA256)
	sd.Confirmed(m.token)
	put(t, s, picture(3, 300)) // in place of the delivered one
	require.Equal(t, int64(700), s.Stats().Bytes)
	require.False(t, s.Stats().Full)
	require.Equal(t, "delivered", outcomes(t, s, 1)[0].Outcome)
	// What is put and not yet announced is not thrown away for another.
	_, err = s.Put(ctx, bytes.NewReader(picture(4, 400)), 1000)
	require.ErrorIs(t, err, ErrFull)
}

// What was not needed for the longest goes first.
func TestOldestIdleGoesFirst(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{MaxBytes: 1000})
	var sums []string
	for i := range 3 {
		a := put(t, s, picture(uint64(i), 300))
		sums = append(sums, a.SHA256)
	}
	for _, i := range []int{1, 0, 2} {
		s.Release(event.Attachment{SHA256: sums[i]})
	}
	put(t, s, picture(9, 300))
	require.NoFileExists(t, filepath.Join(dir, sums[1][:2], sums[1]))
	require.FileExists(t, filepath.Join(dir, sums[0][:2], sums[0]))
	put(t, s, picture(10, 300))
	require.NoFileExists(t, filepath.Join(dir, sums[0][:2], sums[0]))
	require.FileExists(t, filepath.Join(dir, sums[2][:2], sums[2]))
}

func TestEvict(t *testing.T) {
	s := open(t, t.TempDir(), Options{MaxBytes: 1000, Evict: true})
	sd := s.Sender("central")
	urgent := promised(t, s, "u1", event.Urgent, 1, picture(1, 300))
	oldest := promised(t, s, "r1", event.Routine, 1, picture(2, 300))
	second := promised(t, s, "r2", event.Routine, 2, picture(3, 300))
	third := promised(t, s, "r3", event.Routine, 3, picture(4, 300))
	o := outcomes(t, s, 1)[0]
	require.Equal(t, "evicted", o.Outcome)
	require.Equal(t, "r1", o.EventID)
	require.Equal(t, oldest.SHA256, o.Attachment.SHA256)
	require.Contains(t, o.Detail, "room")
	_, err := s.Put(ctx, bytes.NewReader(picture(5, 701)), 1000)
	require.ErrorIs(t, err, ErrFull, "urgent ones are never evicted")
	for _, o := range outcomes(t, s, 2) {
		require.Equal(t, "evicted", o.Outcome)
		require.Contains(t, []string{second.SHA256, third.SHA256}, o.Attachment.SHA256)
	}
	require.Contains(t, next(t, sd).topic, urgent.SHA256)
	nothing(t, sd)
}

func TestMinFree(t *testing.T) {
	s := open(t, t.TempDir(), Options{MinFree: 1 << 60})
	_, err := s.Put(ctx, bytes.NewReader(picture(1, 10)), 1000)
	require.ErrorIs(t, err, ErrFull)
}

func TestKeep(t *testing.T) {
	dir := t.TempDir()
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	o := Options{Keep: time.Hour, Now: func() time.Time { return time.Unix(0, now.Load()) }}
	s := open(t, dir, o)
	orphan := put(t, s, picture(1, 10))
	needed := promised(t, s, "e1", event.Routine, 1, picture(2, 10))
	now.Add(int64(59 * time.Minute))
	s.collect()
	require.Equal(t, 2, s.Stats().Contents)
	require.NoError(t, s.Close())
	s = open(t, dir, o)
	require.Equal(t, 2, s.Stats().Contents)
	require.Equal(t, int64(20), s.Stats().Bytes)
	now.Add(int64(2 * time.Minute))
	s.collect()
	require.Equal(t, 1, s.Stats().Contents)
	require.NoFileExists(t, filepath.Join(dir, orphan.SHA256[:2], orphan.SHA256))
	forgotten := put(t, s, picture(3, 10))
	now.Add(int64(61 * time.Minute))
	s.collect()
	require.ErrorIs(t, s.Announce(reference("e2", event.Routine, forgotten)), ErrUnknown)
	require.Contains(t, next(t, s.Sender("central")).topic, needed.SHA256)
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	_, err = s.Put(ctx, bytes.NewReader([]byte("x")), 10)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, s.Announce(), ErrClosed)
	nothing(t, s.Sender("central"))
	open(t, dir, Options{})
}

func TestWrongOptions(t *testing.T) {
	for _, o := range []Options{
		{ChunkBytes: 1}, {ChunkBytes: maxChunkBytes + 1}, {MaxBytes: -1}, {MinFree: -1}, {Keep: -1},
		{Consumers: []string{""}}, {Consumers: []string{"a", "a"}},
	} {
		_, err := Open(t.TempDir(), o)
		require.Error(t, err)
	}
}

// A full disk: what nobody needs makes room, then Put is refused, and it works
// again by itself.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	var full atomic.Bool
	s := open(t, dir, Options{hook: func(op, path string) error {
		if full.Load() && (op == "write" || op == "create") {
			return &os.PathError{Op: op, Path: path, Err: syscall.ENOSPC}
		}
		return nil
	}})
	a := put(t, s, picture(1, 10))
	full.Store(true)
	_, err := s.Put(ctx, bytes.NewReader(picture(2, 10)), 100)
	require.ErrorIs(t, err, ErrFull)
	require.ErrorIs(t, s.Announce(reference("e1", event.Routine, a)), ErrFull)
	require.Zero(t, s.Stats().Promises)
	full.Store(false)
	require.NoError(t, s.Announce(reference("e2", event.Routine, a)), "it is still there")
	s.Refer("e2", 1)
	require.NoError(t, s.Close())
	s = open(t, dir, Options{})
	require.Contains(t, next(t, s.Sender("central")).topic, a.SHA256)
	require.Equal(t, 1, s.Stats().Promises)
}

// Several sources put and several consumers take at the same time.
func TestAtOnce(t *testing.T) {
	s := open(t, t.TempDir(), Options{Consumers: []string{"central", "alarm-station"}, MaxBytes: 1 << 20})
	const each, producers = 40, 4
	var wg sync.WaitGroup
	for i := range producers {
		wg.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", i, n)
				a, err := s.Put(ctx, bytes.NewReader(picture(uint64(n), 1000+n*200)), 1<<20) // the same from each
				if errors.Is(err, ErrFull) {
					t.Error(err)
					return
				}
				a.MediaType = "image/jpeg"
				r := reference(id, event.Classes[n%2], a)
				r.Source = fmt.Sprintf("/site/lane/device-%d", i)
				if err := s.Announce(r); err != nil {
					t.Error(err)
					return
				}
				s.Refer(id, uint64(n+1))
			}
		})
	}
	for _, name := range []string{"central", "alarm-station"} {
		wg.Go(func() {
			sd := s.Sender(name)
			receivers := map[string]*event.Assembler{}
			for got := 0; got < each*producers; {
				changed := sd.Changed()
				topic, payload, token, ok := sd.Next()
				if !ok {
					<-changed
					continue
				}
				c, err := event.ParseChunkTopic(topic)
				if err != nil {
					t.Error(err)
					return
				}
				if receivers[c.Source] == nil {
					receivers[c.Source] = event.NewAssembler(1 << 30)
				}
				_, complete, err := receivers[c.Source].Add(topic, payload)
				if err != nil {
					t.Error(err)
					return
				}
				if complete {
					got++
				}
				sd.Confirmed(token)
			}
		})
	}
	wg.Wait()
	for _, o := range outcomes(t, s, 2*each*producers) {
		require.Equal(t, "delivered", o.Outcome)
		s.OutcomeRecorded(o)
	}
	require.Zero(t, s.Stats().Promises)
	require.Equal(t, each, s.Stats().Idle)
	require.Equal(t, each, s.Stats().Contents)
}

// Directories that somebody deletes under the store are made anew.
func TestDeletedDirectoriesAreMadeAnew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	content := picture(1, 100)
	put(t, s, content)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	sum, ok := parseHash(put(t, s, content).SHA256)
	require.True(t, ok)
	stored, err := os.ReadFile(s.path(sum))
	require.NoError(t, err)
	require.Equal(t, content, stored)
}
