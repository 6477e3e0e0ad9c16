package blobs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/protocol/event"
)

// childDir is set for a copy of the test binary that is to be killed: the
// store's directory.
const childDir = "LANEPOST_BLOBS_CHILD"

// errDead is what a process that is no more gets from its disk.
var errDead = errors.New("power is off")

// disk is a hook that lets a number of changes through and then none. It follows
// what was made durable, so that a power cut can undo the rest.
type disk struct {
	mu      sync.Mutex
	left    int
	files   map[string]*onDisk // by the name under which they were made
	names   map[string]*onDisk // as the process sees them
	durable map[string]*onDisk // as they are after a power cut
}

// onDisk is a file: where it is, and what of it was synced.
type onDisk struct {
	path   string
	dir    bool
	synced []byte
}

func newDisk(left int) *disk {
	return &disk{left: left, files: map[string]*onDisk{}, names: map[string]*onDisk{}, durable: map[string]*onDisk{}}
}

// hook is called before the change is made; no other changes the same file
// meanwhile.
func (d *disk) hook(op, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left--; d.left < 0 {
		return errDead
	}
	switch op {
	case "mkdir":
		if d.names[path] == nil {
			d.names[path] = &onDisk{path: path, dir: true}
		}
	case "create":
		f := &onDisk{path: path}
		d.files[path], d.names[path] = f, f
	case "sync":
		f := d.files[path]
		b, err := os.ReadFile(f.path)
		if err != nil {
			return err
		}
		f.synced = b
	case "rename":
		from, to, _ := strings.Cut(path, "\x00")
		f := d.names[from]
		delete(d.names, from)
		d.names[to], f.path = f, to
	case "remove":
		delete(d.names, path)
	case "syncdir":
		in := func(name string, _ *onDisk) bool { return filepath.Dir(name) == path }
		maps.DeleteFunc(d.durable, in)
		for name, f := range d.names {
			if in(name, f) {
				d.durable[name] = f
			}
		}
	}
	return nil
}

// cut leaves what is durable; with names, also the names that are not, of files
// that lack what was not synced.
func (d *disk) cut(t *testing.T, dir string, names bool) {
	t.Helper()
	left := d.durable
	if names {
		left = d.names
	}
	contents := map[string][]byte{}
	for name, f := range left {
		if above := filepath.Dir(name); !f.dir && (above == dir || left[above] != nil) {
			contents[name] = f.synced
		}
	}
	require.NoError(t, os.RemoveAll(dir))
	for name, b := range contents {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
}

// Whatever operation the process dies at, what it had promised is delivered or
// stated, and nothing comes that was not put.
func TestKilledAtAnyOperation(t *testing.T) {
	sub := filepath.Join(t.TempDir(), "store")
	for step := 0; ; step++ {
		power := newDisk(step)
		require.NoError(t, os.RemoveAll(sub))
		var promisedIDs, settledIDs []string
		contents := map[string][]byte{} // by event
		finished := func() bool {
			s, err := Open(sub, Options{noSync: true, Consumers: []string{"central"}, ChunkBytes: minChunkBytes, hook: power.hook})
			if err != nil {
				require.ErrorIs(t, err, errDead)
				return false
			}
			defer func() { _ = s.Close() }()
			for i := range 4 {
				id := fmt.Sprintf("e%d", i)
				content := picture(uint64(i%3), 2500) // the last is the first again
				contents[id] = content
				a, err := s.Put(ctx, bytes.NewReader(content), 1<<20)
				if err != nil {
					return false
				}
				a.MediaType = "image/jpeg"
				if err := s.Announce(reference(id, event.Classes[i%2], a)); err != nil {
					return false
				}
				promisedIDs = append(promisedIDs, id)
				s.Refer(id, uint64(i+1))
				if i == 1 { // the first, urgent one goes out
					sd := s.Sender("central")
					for range 3 {
						sd.Confirmed(next(t, sd).token)
					}
					o := outcomes(t, s, 1)[0]
					settledIDs = append(settledIDs, o.EventID)
					s.OutcomeRecorded(o)
					if s.flush(false) != nil {
						return false
					}
				}
				if i == 2 {
					s.mu.Lock()
					s.rewrite = true
					s.mu.Unlock()
				}
			}
			return s.Close() == nil
		}()

		s, err := Open(sub, Options{noSync: true, Consumers: []string{"central"}})
		require.NoError(t, err)
		require.Zero(t, s.Stats().DamagedRecords, "step %d", step)
		delivered := deliver(t, s, contents)
		for _, id := range promisedIDs {
			if !delivered[id] {
				require.Contains(t, settledIDs, id, "step %d: %s is lost", step, id)
			}
		}
		require.Zero(t, s.Stats().Promises)
		require.Equal(t, s.Stats().Contents, s.Stats().Idle)
		require.NoError(t, s.Close())
		if finished {
			require.Greater(t, step, 30)
			return
		}
	}
}

// deliver takes all that the store has and confirms it. It returns the events
// for which an outcome came, each of them "delivered".
func deliver(t *testing.T, s *Store, contents map[string][]byte) map[string]bool {
	t.Helper()
	sd := s.Sender("central")
	receiver := event.NewAssembler(1 << 30)
	byEvent := map[string]bool{}
	deadline := time.After(20 * time.Second)
	for {
		changed, stated := sd.Changed(), s.Changed()
		for topic, payload, token, ok := sd.Next(); ok; topic, payload, token, ok = sd.Next() {
			_, _, err := receiver.Add(topic, payload)
			require.NoError(t, err)
			sd.Confirmed(token)
		}
		for list := s.Outcomes(); len(list) > 0; list = s.Outcomes() {
			for _, o := range list {
				require.Equal(t, "delivered", o.Outcome, "%+v", o)
				require.Contains(t, contents, o.EventID)
				byEvent[o.EventID] = true
				s.OutcomeRecorded(o)
			}
		}
		if s.Stats().Promises == 0 {
			return byEvent
		}
		select {
		case <-changed:
		case <-stated:
		case <-deadline:
			t.Fatal("it is never delivered in full")
		}
	}
}

// The journal cut at every byte: every promise whose record is whole is there.
func TestJournalCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	a := put(t, s, picture(1, 3*minChunkBytes))
	require.NoError(t, s.Announce(reference("e1", event.Routine, a)))
	s.Refer("e1", 1)
	require.NoError(t, s.Announce(reference("e2", event.Urgent, a)))
	s.Refer("e2", 1)
	require.NoError(t, s.flush(true))
	require.NoError(t, s.Close())
	name := filepath.Join(dir, journalName)
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, 4, bytes.Count(whole, []byte("\n")))
	for n := range len(whole) {
		require.NoError(t, os.WriteFile(name, whole[:n], 0o600))
		want := 0
		for line := range bytes.Lines(whole[:n]) {
			if bytes.HasSuffix(line, []byte("\n")) && bytes.Contains(line, []byte(`"op":"promise"`)) {
				want++
			}
		}
		check := func(s *Store) {
			require.Len(t, s.promises, want, "cut at %d", n)
			require.Zero(t, s.damaged)
			for _, p := range s.promises {
				require.Equal(t, a.SHA256, p.blob.sum.String())
			}
		}
		o := Options{noSync: true, Consumers: []string{"central"}}
		if n%20 == 0 {
			s, err := Open(dir, o)
			require.NoError(t, err)
			require.Equal(t, 1, s.Stats().Contents)
			check(s)
			require.NoError(t, s.Close())
			continue
		}
		require.NoError(t, o.complete())
		s := newStore(dir, o)
		_, err := s.readJournal()
		require.NoError(t, err)
		check(s)
		require.NoError(t, s.journal.Close())
	}
}

// Damage within the journal: what it may have promised is delivered from the
// agent's own source, and the damaged journal is kept.
func TestJournalDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	a := promised(t, s, "e1", event.Routine, 1, picture(1, 10))
	b := promised(t, s, "e2", event.Routine, 2, picture(2, 10))
	require.NoError(t, s.Close())
	name := filepath.Join(dir, journalName)
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	text[60] ^= 0x20
	require.NoError(t, os.WriteFile(name, text, 0o600))

	s = open(t, dir, Options{Source: "/medyka/agent/box-1"})
	require.Equal(t, 1, s.Stats().DamagedRecords)
	sd := s.Sender("central")
	lost, known := next(t, sd), next(t, sd)
	require.Contains(t, lost.topic, "/medyka/agent/box-1/blob/"+a.SHA256)
	require.Contains(t, known.topic, source+"/blob/"+b.SHA256)
	sd.Confirmed(lost.token)
	o := outcomes(t, s, 1)[0]
	require.Equal(t, "delivered", o.Outcome)
	require.Empty(t, o.EventID)
	s.OutcomeRecorded(o)
	kept, err := filepath.Glob(filepath.Join(dir, "quarantine", "promises-*.log"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	copied, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	require.Equal(t, text, copied)
	require.NoError(t, s.Close())
	s = open(t, dir, Options{})
	require.Zero(t, s.Stats().DamagedRecords)
	require.Equal(t, 1, s.Stats().Promises)
}

// Whatever the journal holds, Open goes on.
func FuzzJournal(f *testing.F) {
	line := func(e entry) []byte { return e.appendLine(nil) }
	sum := strings.Repeat("ab", 32)
	made := line(entry{Op: opPromise, ID: 1, EventID: "e", Class: "urgent", Source: source, SHA256: sum, Size: 5000,
		MediaType: "x/y", ChunkBytes: 1024})
	f.Add(made)
	for _, e := range []entry{
		{Op: opRefer, ID: 1, Sequence: 7}, {Op: opChunk, ID: 1, Consumer: "central", Chunk: 99},
		{Op: opChunks, ID: 1, Consumer: "central", Bits: bits{1<<64 - 1}}, {Op: opWithdraw, ID: 1},
		{Op: opOutcome, ID: 1, Consumer: "central", Outcome: "refused"}, {Op: opRecorded, ID: 1, Consumer: "central"}, {Op: "?"},
	} {
		f.Add(append(bytes.Clone(made), line(e)...))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.MkdirAll(dir, 0o700))
		// The checksum is made right, so that the entries are reached.
		var whole []byte
		for part := range bytes.Lines(text) {
			part = bytes.TrimSuffix(part, []byte("\n"))
			if i := bytes.IndexByte(part, '{'); i >= 0 {
				whole = fmt.Appendf(whole, "%08x %s\n", crc32.Checksum(part[i:], castagnoli), part[i:])
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, journalName), whole, 0o600))
		s, err := Open(dir, Options{noSync: true, Consumers: []string{"central"}, Source: "/a/b/c"})
		require.NoError(t, err)
		for _, b := range s.blobs {
			require.GreaterOrEqual(t, b.needs, 0)
		}
		require.Zero(t, s.Stats().Bytes, "there is no content")
		for list := s.Outcomes(); len(list) > 0; list = s.Outcomes() {
			for _, o := range list {
				s.OutcomeRecorded(o)
			}
		}
		require.NoError(t, s.Close())
	})
}

// child puts, promises, sends and records until it is killed. It says what is
// promised and what is recorded.
func child(dir string) {
	s, err := Open(dir, Options{Consumers: []string{"central"}, ChunkBytes: minChunkBytes, MaxBytes: 4 << 20})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	say := func(args ...any) {
		if _, err := os.Stdout.WriteString(fmt.Sprintln(args...)); err != nil {
			os.Exit(1) // the parent is gone
		}
	}
	say("open", s.Stats().DamagedRecords)
	for i := range 3 {
		go func() {
			for {
				id := fmt.Sprintf("%x", rand.Uint64())
				a, err := s.Put(ctx, bytes.NewReader(picture(rand.Uint64N(50), 1+rand.IntN(20_000))), 1<<20)
				if errors.Is(err, ErrFull) {
					time.Sleep(time.Millisecond)
					continue
				}
				if err == nil {
					a.MediaType = "image/jpeg"
					err = s.Announce(reference(id, event.Classes[i%2], a))
				}
				if err != nil {
					say("error", err)
					return
				}
				say("promised", id)
				s.Refer(id, rand.Uint64N(1000))
			}
		}()
	}
	sd := s.Sender("central")
	for {
		changed, stated := sd.Changed(), s.Changed()
		topic, payload, token, ok := sd.Next()
		if ok {
			say("chunk", topic, hex.EncodeToString(payload))
			sd.Confirmed(token)
		}
		for _, o := range s.Outcomes() {
			if o.Outcome != "delivered" {
				say("error", o.Outcome, o.Detail)
			}
			say("recorded", o.EventID)
			s.OutcomeRecorded(o)
		}
		if !ok {
			select {
			case <-changed:
			case <-stated:
			}
		}
	}
}

// Killed with SIGKILL at any moment under load, again and again: every promise
// comes to its outcome, and what the receiver got are whole contents.
func TestKilled(t *testing.T) {
	rounds := 15
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	open := map[string]bool{}
	receiver := event.NewAssembler(1 << 30)
	total, complete := 0, 0
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // should it never begin
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			f := strings.Fields(lines.Text())
			switch f[0] {
			case "open":
				require.Equal(t, "0", f[1])
				kill.Reset(50*time.Millisecond + time.Duration(rand.IntN(150_000))*time.Microsecond)
			case "promised":
				open[f[1]] = true
				total++
			case "recorded":
				open[f[1]] = false
			case "chunk":
				if len(f) < 3 {
					break // the line was cut by the kill
				}
				payload, err := hex.DecodeString(f[2])
				if err != nil {
					break
				}
				_, done, err := receiver.Add(f[1], payload)
				if err == nil && done {
					complete++
				}
			default:
				require.Fail(t, lines.Text())
			}
		}
		require.Error(t, cmd.Wait())
	}
	require.Greater(t, total, rounds)
	require.Positive(t, complete)

	s, err := Open(dir, Options{noSync: true, Consumers: []string{"central"}})
	require.NoError(t, err)
	sd := s.Sender("central")
	waiting := map[string]bool{}
	for id, is := range open {
		if is {
			waiting[id] = true
		}
	}
	deadline := time.After(30 * time.Second)
	for s.Stats().Promises > 0 {
		changed, stated := sd.Changed(), s.Changed()
		_, _, token, ok := sd.Next()
		for ; ok; _, _, token, ok = sd.Next() {
			sd.Confirmed(token)
		}
		for list := s.Outcomes(); len(list) > 0; list = s.Outcomes() {
			for _, o := range list {
				require.Equal(t, "delivered", o.Outcome)
				delete(waiting, o.EventID)
				s.OutcomeRecorded(o)
			}
		}
		if s.Stats().Promises == 0 {
			break
		}
		select {
		case <-changed:
		case <-stated:
		case <-deadline:
			require.Fail(t, "not all is delivered")
		}
	}
	require.Empty(t, waiting, "promised, and never stated")
	require.NoError(t, s.Close())
	t.Logf("%d promises, %d contents received", total, complete)
}

// Power is cut at any operation: what was not synced is gone.
func TestPowerCutAtAnyOperation(t *testing.T) {
	sub := filepath.Join(t.TempDir(), "store")
	for step := 0; ; step++ {
		finished := false
		for _, names := range []bool{false, true} {
			require.NoError(t, os.RemoveAll(sub))
			power := newDisk(step)
			var made []string
			contents := map[string][]byte{}
			finished = func() bool {
				s, err := Open(sub, Options{noSync: true, Consumers: []string{"central"}, ChunkBytes: minChunkBytes, hook: power.hook})
				if err != nil {
					return false
				}
				defer func() { _ = s.Close() }()
				for i := range 3 {
					id := fmt.Sprintf("e%d", i)
					contents[id] = picture(uint64(i), 2500)
					a, err := s.Put(ctx, bytes.NewReader(contents[id]), 1<<20)
					if err != nil {
						return false
					}
					a.MediaType = "image/jpeg"
					if s.Announce(reference(id, event.Routine, a)) != nil {
						return false
					}
					made = append(made, id)
					s.Refer(id, uint64(i+1))
					s.mu.Lock()
					s.rewrite = s.rewrite || i == 1
					s.mu.Unlock()
				}
				return true
			}()
			power.cut(t, sub, names)
			s, err := Open(sub, Options{noSync: true, Consumers: []string{"central"}})
			require.NoError(t, err)
			got := deliver(t, s, contents)
			for _, id := range made {
				require.True(t, got[id], "step %d: %s is lost", step, id)
			}
			require.NoError(t, s.Close())
		}
		if finished {
			require.Greater(t, step, 15)
			return
		}
	}
}
