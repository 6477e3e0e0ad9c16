package spool

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/lanepost/lanepost/protocol/event"
)

const (
	keyA = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	keyB = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=" // 20 to 3f
	// The first 8 bytes of SHA-256 over "lanepost spool key id", a zero and keyA,
	// by another program.
	keyAID = "2166ea6fbef9d4d8"
)

func keyring(t testing.TB, lines ...string) *Keyring {
	t.Helper()
	k, err := ParseKeyring([]byte(strings.Join(lines, "\n")))
	require.NoError(t, err)
	return k
}

// The sealed frame as seal.go describes it, put together by hand.
func TestSealedFormatIsFixed(t *testing.T) {
	nonce := unhex(t, "40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50 51 52 53 54 55 56 57")
	record := unhex(t, `
		f7 ff 4c 50  02  01  03 00  05 00 00 00  20 00  00 00
		15 cd 5b 07 00 00 00 00
		00 00 00 00 01 00 00 00
		00 00 00 00`)
	record = append(record, crcBitwise(record)...)
	header := bytes.Clone(record)
	record = append(record, unhex(t, keyAID)...)
	record = append(record, nonce...)
	aead, err := chacha20poly1305.NewX(unhex(t, keyA))
	require.NoError(t, err)
	record = aead.Seal(record, nonce, []byte("a/bhello"), header)
	record = append(record, crcBitwise(record)...)

	keys := keyring(t, keyB, keyA)
	require.Equal(t, keyAID, keys.Keys()[1].String())
	f, ok := parseFrame(record, 2)
	require.True(t, ok)
	require.Nil(t, f.payload, "nothing to be had without the key")
	require.NoError(t, keys.open(&f))
	require.Equal(t, "a/b hello", string(f.topic)+" "+string(f.payload))
	require.Equal(t, 8, f.content())
	require.Equal(t, uint64(123456789), f.seq)
	require.Equal(t, len(record), f.size)
	_, ok = parseFrame(record, 1)
	require.False(t, ok, "of the other class")

	ours := keyring(t, keyA).appendFrame([]byte("before"), 2, 123456789, time.Unix(4, 294967296), "a/b", []byte("hello"))
	require.Equal(t, header, ours[6:6+frameHeader])
	require.Len(t, ours, 6+len(record))
	f, ok = parseFrame(ours[6:], 2)
	require.True(t, ok)
	require.NoError(t, keys.open(&f))
	require.Equal(t, "a/b hello", string(f.topic)+" "+string(f.payload))

	h := segmentInfo{class: 1, sealed: true, first: 1, gen: 1}
	b := appendSegmentHeader(nil, h)
	require.Equal(t, byte(1), b[11])
	got, intact, known := parseSegmentHeader(b)
	require.True(t, got.sealed && intact && known)
	// Without keys, everything is as it was before there were any.
	var none *Keyring
	require.Equal(t, appendFrame(nil, 1, 5, day, "t", []byte("p")), none.appendFrame(nil, 1, 5, day, "t", []byte("p")))
}

func TestKeyFile(t *testing.T) {
	raw := unhex(t, keyA)
	for _, c := range []struct{ text, want string }{
		{keyA, ""},
		{strings.ToUpper(keyA) + "\n", ""},
		{"# since May\n\n" + keyB + "\r\n  " + keyA + "\n", ""},
		{"", "no key in it; (umask"},
		{"# nothing\n", "no key in it"},
		{keyA[:62], "line 1 is no key: want 32 random bytes"},
		{"\n" + keyB[:40], "line 2 is no key"},
		{keyA + " " + keyA, "line 1 is no key"},
		{string(raw), "is no key"},
		{base64.StdEncoding.EncodeToString(make([]byte, 32)), "line 1 is all zeros"},
		{strings.Repeat(keyA+"\n", 33), "line 33: more than 32 keys"},
		{strings.Repeat("#", 20_000), "more than 16384 bytes"},
	} {
		k, err := ParseKeyring([]byte(c.text))
		if c.want == "" {
			require.NoError(t, err, c.text)
			require.Equal(t, keyAID, k.Keys()[len(k.Keys())-1].String())
			continue
		}
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), keyA[10:30])
		require.NotContains(t, err.Error(), keyB[10:30])
	}

	path := filepath.Join(t.TempDir(), "spool.key")
	_, err := ReadKeyring(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte(keyA), 0o600))
	for mode, want := range map[os.FileMode]string{0o600: "", 0o400: "", 0o640: "mode 0640", 0o604: "mode 0604", 0o440: "mode 0440"} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := ReadKeyring(path)
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, "chmod 0600 "+path)
		}
	}
	require.NoError(t, os.Chmod(path, 0o440))
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(path))
	_, err = ReadKeyring(path)
	require.NoError(t, err, "as systemd gives it")
	require.NoError(t, os.Chmod(path, 0o444))
	_, err = ReadKeyring(path)
	require.ErrorContains(t, err, "mode 0444")
	_, err = ReadKeyring(filepath.Dir(path))
	require.ErrorContains(t, err, "not a regular file")
}

func TestKeysAreNeverPrinted(t *testing.T) {
	k := keyring(t, keyA, keyB)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", k, "options", Options{Keys: k})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "keys", k)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		fmt.Fprintf(&log, verb, k)
		fmt.Fprintf(&log, verb, Options{Keys: k})
	}
	require.Contains(t, log.String(), keyAID)
	for _, key := range []string{keyA, keyB} {
		raw, ok := decodeKey([]byte(key))
		require.True(t, ok)
		require.NotContains(t, log.String(), hex.EncodeToString(raw[4:12]))
		require.NotContains(t, log.String(), fmt.Sprint(raw[4:12]))
		require.NotContains(t, log.String(), strings.Trim(fmt.Sprint(raw[4:12]), "[]"))
		require.NotContains(t, log.String(), key[8:24])
	}
}

// Plain, then sealed, then sealed with another key, then plain again: all is read
// in order as long as the keys are there.
func TestMixedSegmentsAreRead(t *testing.T) {
	dir := t.TempDir()
	var n uint64
	for _, keys := range []*Keyring{nil, keyring(t, keyA), keyring(t, keyB, keyA), nil} {
		s := open(t, nil, dir, Options{Keys: keys})
		for range 3 {
			n = put(t, s, event.Urgent, "personal")
		}
		require.NoError(t, s.Close())
	}
	s := open(t, nil, dir, Options{Keys: keyring(t, keyB, keyA)})
	require.Equal(t, count(1, n), drain(t, s.Reader(DefaultConsumer, event.Urgent)))
	require.Equal(t, day, s.Stats().Urgent.OldestUnacked)
	records, err := s.Reader(DefaultConsumer, event.Urgent).Next(1, 0)
	require.NoError(t, err)
	require.Empty(t, records)
	require.Empty(t, s.Losses())
}

func TestNothingReadableOnDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{Keys: keyring(t, keyA)})
	for range 20 {
		put(t, s, event.Urgent, "WA-12345")
	}
	require.NoError(t, s.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "urgent", "*.seg"))
	require.NoError(t, err)
	b, err := os.ReadFile(segments[0])
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(segments[0], b, 0o600))
	s = open(t, nil, dir, Options{Keys: keyring(t, keyA)})
	require.Len(t, drain(t, s.Reader(DefaultConsumer, event.Urgent)), 19)
	losses := s.Losses()
	require.Len(t, losses, 1)
	require.FileExists(t, losses[0].Quarantine, "a copy, sealed as it was")
	require.NoError(t, s.Close())
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		require.NotContains(t, string(b), "WA-12345")
		require.NotContains(t, string(b), "lanepost/v1")
		return err
	}))
	require.GreaterOrEqual(t, files, 4)
}

// A record whose key is missing waits for it: nothing is skipped, lost or moved,
// for however long it is tried, and everything comes when the key does.
func TestMissingKeyIsNoLoss(t *testing.T) {
	dir := t.TempDir()
	s := open(t, nil, dir, Options{Keys: keyring(t, keyA)})
	for range 3 {
		put(t, s, event.Routine, "x")
	}
	require.NoError(t, s.Close())

	s = open(t, nil, dir, Options{}) // no keys at all
	put(t, s, event.Routine, "x")
	_, err := s.Reader(DefaultConsumer, event.Routine).Next(10, 1000)
	var missing *KeyError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, keyAID, missing.Key.String())
	require.ErrorContains(t, err, "routine sequence 1: the record is sealed with key "+keyAID+" and no key file is given")
	require.Error(t, s.SetKeys(keyring(t, keyA)))
	require.NoError(t, s.Close())

	s = open(t, nil, dir, Options{Keys: keyring(t, keyB)}) // the wrong ones
	require.Equal(t, uint64(5), put(t, s, event.Routine, "x"))
	r := s.Reader(DefaultConsumer, event.Routine)
	for range 3 {
		r.failing = time.Now().Add(-time.Hour) // as if it had been tried for so long
		records, err := r.Next(10, 1000)
		require.ErrorAs(t, err, &missing)
		require.ErrorContains(t, err, keyAID+", which is not in the key file")
		require.Empty(t, records)
		r.Rewind()
	}
	st := s.Stats().Routine
	require.Equal(t, uint64(5), st.Backlog)
	require.Equal(t, day, st.OldestUnacked)
	require.Empty(t, s.Losses())
	require.NoDirExists(t, filepath.Join(dir, "quarantine"))

	require.NoError(t, s.SetKeys(keyring(t, keyB, keyA)))
	require.Equal(t, count(1, 5), drain(t, r))
	require.Empty(t, s.Losses())
	require.NoError(t, r.Ack(5))
	require.NoError(t, s.Close())

	// What is delivered needs no key any more.
	s = open(t, nil, dir, Options{Keys: keyring(t, keyB)})
	put(t, s, event.Routine, "x")
	require.Equal(t, []uint64{6}, drain(t, s.Reader(DefaultConsumer, event.Routine)))
}

// Records before the one that can't be opened are given out first.
func TestMissingKeyInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	for _, keys := range []*Keyring{nil, keyring(t, keyA)} {
		s := open(t, nil, dir, Options{Keys: keys})
		put(t, s, event.Urgent, "x")
		require.NoError(t, s.Close())
	}
	s := open(t, nil, dir, Options{Keys: keyring(t, keyB)})
	r := s.Reader(DefaultConsumer, event.Urgent)
	records, err := r.Next(10, 1000)
	require.NoError(t, err)
	require.Len(t, records, 1)
	require.NoError(t, r.Ack(1))
	_, err = r.Next(10, 1000)
	require.ErrorContains(t, err, "urgent sequence 2")
}

// Altered with the checksums mended: only the seal tells. The record is damage,
// and what follows is delivered.
func TestAlteredRecordIsALoss(t *testing.T) {
	for _, at := range []int{16, 24, frameHeader + 10, frameHeader + sealExtension, -frameTrailer - 1} {
		m := newMemFS(1)
		s := open(t, m, "/spool", Options{Keys: keyring(t, keyA), SegmentBytes: 4096})
		for range 3 {
			put(t, s, event.Urgent, "x")
		}
		require.NoError(t, s.Close())
		for name, file := range m.names {
			if filepath.Ext(name) != ".seg" {
				continue
			}
			first, _, _, ok := parseFrameHeader(file.mem[segmentHeader:], 1)
			require.True(t, ok)
			f := file.mem[segmentHeader+first.size:][:first.size]
			if at == 16 {
				f[at] = 1 // the number of another record
			} else {
				f[(at+len(f))%len(f)] ^= 1
			}
			copy(f[36:], crcBitwise(f[:36]))
			copy(f[len(f)-4:], crcBitwise(f[:len(f)-4]))
		}
		s = open(t, m, "/spool", Options{Keys: keyring(t, keyA)})
		got := drain(t, s.Reader(DefaultConsumer, event.Urgent))
		losses := s.Losses()
		require.Len(t, losses, 1, "%d", at)
		require.Equal(t, [2]uint64{2, 2}, [2]uint64{losses[0].First, losses[0].Last})
		require.Equal(t, []uint64{1, 3}, got)
		require.NoError(t, s.Close())
	}
}

func TestChainOverSealedRecords(t *testing.T) {
	m := newMemFS(1)
	var last event.Hash
	for _, keys := range []*Keyring{nil, keyring(t, keyA), keyring(t, keyB, keyA), keyring(t, keyB), nil} {
		s := open(t, m, "/spool", Options{Keys: keys})
		before, after := appendChained(t, s, "x")
		if keys == nil && !last.IsZero() {
			require.True(t, before.IsZero(), "without the key the last record's hash is not known")
		} else {
			require.Equal(t, last, before)
		}
		last = after
		m = m.clone() // as a kill leaves it
	}
}

// No two frames share a nonce, whatever is retried, restarted or rolled back.
func TestNoncesNeverRepeat(t *testing.T) {
	seen := map[string][]byte{}
	look := func(m *memFS) {
		for name, f := range m.names {
			if filepath.Ext(name) != ".seg" {
				continue
			}
			for at := 0; ; at++ {
				i := bytes.Index(f.mem[at:], []byte(frameMagic))
				if i < 0 {
					break
				}
				at += i
				fr, ok := parseFrame(f.mem[at:], 1)
				if !ok {
					continue
				}
				nonce := string(fr.sealed[frameHeader+8 : frameHeader+sealExtension])
				if was, ok := seen[nonce]; ok {
					require.Equal(t, was, fr.sealed, "the same nonce only in copies of the same bytes")
				}
				seen[nonce] = bytes.Clone(fr.sealed)
			}
		}
	}
	m := newMemFS(1)
	for range 5 {
		s := open(t, m, "/spool", Options{Keys: keyring(t, keyA), SegmentBytes: 4096})
		put(t, s, event.Urgent, "x")
		before := m.clone() // rolled back to here later
		m.mu.Lock()
		writes := 0
		m.hook = func(op, _ string) error {
			if writes++; op == "write" && writes%3 != 0 || op == "sync" && writes%2 == 0 {
				return os.ErrInvalid
			}
			return nil
		}
		m.mu.Unlock()
		for range 10 {
			_, _ = add(s, event.Urgent, "x")
		}
		look(m.clone())
		m.mu.Lock()
		m.hook = nil
		m.mu.Unlock()
		look(m.clone())
		m = before
	}
	require.GreaterOrEqual(t, len(seen), 10)
}

// A sealed log cut at each byte of its end: what is whole comes back, the rest
// was never there, and new records go on. Zeroed there instead, as a power cut
// leaves preallocated space, the same, or the number is given up.
func TestSealedLogCutAnywhere(t *testing.T) {
	m := newMemFS(1)
	s := open(t, m, "/spool", Options{Keys: keyring(t, keyA), SegmentBytes: 4096})
	for range 3 {
		put(t, s, event.Urgent, "x")
	}
	m = m.clone()
	var name string
	for n := range m.names {
		if filepath.Ext(n) == ".seg" {
			name = n
		}
	}
	whole := bytes.TrimRight(m.names[name].mem, "\x00")
	first, _, _, ok := parseFrameHeader(whole[segmentHeader:], 1)
	require.True(t, ok)
	for cut := segmentHeader; cut < segmentHeader+3*first.size; cut++ {
		for _, zeros := range []bool{false, true} {
			c := m.clone()
			for n := range c.names {
				if filepath.Base(n) == "cursor" {
					delete(c.names, n) // which would know the head
				}
			}
			f := c.names[name]
			if zeros {
				clear(f.mem[cut:])
			} else {
				f.mem = f.mem[:cut]
			}
			s := open(t, c, "/spool", Options{Keys: keyring(t, keyA), SegmentBytes: 4096})
			intact := uint64(cut-segmentHeader) / uint64(first.size)
			r := s.Reader(DefaultConsumer, event.Urgent)
			got := drain(t, r)
			require.GreaterOrEqual(t, uint64(len(got)), intact, "cut at %d", cut)
			if len(s.Losses()) == 0 {
				require.Equal(t, uint64(len(got))+1, put(t, s, event.Urgent, "x"))
			}
			require.NoError(t, s.Close())
		}
	}
}

// FuzzSealed parses any bytes as frames and opens what is sealed: no panic, and
// nothing opens that was not sealed with the key.
func FuzzSealed(f *testing.F) {
	keys := keyring(f, keyA)
	whole := keys.appendFrame(nil, 1, 7, day, "topic", []byte("payload"))
	f.Add(whole)
	f.Add(keys.appendFrame(appendFrame(nil, 1, 6, day, "t", []byte("plain")), 1, 7, day, "", nil))
	f.Add(appendFrameHeader(nil, 1, flagSealed, sealExtension, 1, day, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksums are mended, so that the seal alone decides.
		if len(b) >= frameHeader {
			copy(b[36:], crcBitwise(b[:36]))
			if fr, _, _, ok := parseFrameHeader(b, 1); ok && len(b) >= fr.size {
				copy(b[fr.size-4:], crcBitwise(b[:fr.size-4]))
			}
		}
		s := scanner{file: bytes.NewReader(b), class: 1, end: int64(len(b))}
		for {
			fr, ok, err := s.peek()
			require.NoError(t, err)
			if !ok {
				break
			}
			require.GreaterOrEqual(t, fr.content(), 0)
			err = keys.open(&fr)
			var missing *KeyError
			switch {
			case err == nil && fr.sealed != nil:
				require.Equal(t, fr.content(), len(fr.topic)+len(fr.payload))
				require.Contains(t, []string{"topicpayload", ""}, string(fr.topic)+string(fr.payload))
			case err != nil:
				require.True(t, errors.Is(err, errSeal) || errors.As(err, &missing))
			}
			s.take(fr)
		}
		_, _ = ParseKeyring(b)
	})
}

// BenchmarkFrame encodes and opens a frame of an event of 600 bytes.
func BenchmarkFrame(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 600)
	for name, keys := range map[string]*Keyring{"plain": nil, "sealed": keyring(b, keyA)} {
		b.Run("encode/"+name, func(b *testing.B) {
			b.SetBytes(600)
			b.ReportAllocs()
			var buf []byte
			for b.Loop() {
				buf = keys.appendFrame(buf[:0], 1, 1, day, benchTopic, payload)
			}
		})
		b.Run("open/"+name, func(b *testing.B) {
			b.SetBytes(600)
			b.ReportAllocs()
			whole := keys.appendFrame(nil, 1, 1, day, benchTopic, payload)
			for b.Loop() {
				f, ok := parseFrame(whole, 1)
				if err := keys.open(&f); err != nil || !ok {
					b.Fatal(err)
				}
				_ = f.record(event.Urgent)
			}
		})
	}
}

// BenchmarkAppendSealed is BenchmarkAppend with 64 callers, in the clear and
// sealed.
func BenchmarkAppendSealed(b *testing.B) {
	for name, keys := range map[string]*Keyring{"plain": nil, "sealed": keyring(b, keyA)} {
		b.Run(name, func(b *testing.B) {
			fs := &benchFS{FS: osFS{}}
			s := open(b, fs, b.TempDir(), Options{Keys: keys})
			b.ReportAllocs()
			b.SetBytes(600)
			b.ResetTimer()
			fill(b, s, event.Routine, b.N, 600)
			b.ReportMetric(float64(fs.written.Load())/float64(b.N), "written-B/event")
		})
	}
}
