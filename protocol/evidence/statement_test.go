package evidence

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/lanepost/lanepost/protocol/event"
)

func keyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func publicOf(n byte) ed25519.PublicKey { return keyOf(n).Public().(ed25519.PublicKey) }

// The key pair and signature of an empty message of RFC 8032, section 7.1, test 1:
// ours is that algorithm and no variant of it.
func TestRFC8032(t *testing.T) {
	public, err := ParseKey("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	require.NoError(t, err)
	const signature = "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw=="
	require.NoError(t, verify(public, "", signature))
	require.ErrorIs(t, verify(public, "x", signature), ErrSignature)
	require.Equal(t, "21fe-31df-a154-a261-626b-f854-046f-d227", Fingerprint(public))
}

// The examples of the event reference are real ones.
func TestExamples(t *testing.T) {
	for _, k := range event.Types() {
		switch d := k.Example.Data.(type) {
		case event.AgentCheckpoint:
			c, _, err := VerifyCheckpoint(d)
			require.NoError(t, err)
			require.Equal(t, k.Example.Header.Agent, c.Agent)
			require.Equal(t, k.Example.Header.Time, c.Time)
			require.Equal(t, uint64(1184), c.Urgent.Sequence)
			require.Equal(t, uint64(61), c.Routine.Count)
			require.Equal(t, int64(12), *c.ClockMaxErrorMs)
		case event.AgentKey:
			key, by, err := VerifyKey(d)
			require.NoError(t, err)
			require.Equal(t, d.PreviousPublicKey, FormatKey(by))
			require.Equal(t, k.Example.Header.Time, key.Time)
		}
	}
}

const (
	zeros  = "0000000000000000000000000000000000000000000000000000000000000000"
	someC  = "9392626593827bc9d57dea5cda11f27b87c80d0002b3c5adeccb704321defc99"
	sample = "lanepost checkpoint v1\nagent box-1\ntime 2026-03-14T08:25:00.000Z\nclock unknown -\n" +
		"urgent 00000000000000000002 " + someC + " 2\nroutine 00000000000000000000 " + zeros + " 0\n"
)

func TestParseCheckpoint(t *testing.T) {
	c, err := ParseCheckpoint(sample)
	require.NoError(t, err)
	want := Checkpoint{
		Agent: "box-1", Time: event.At(time.Date(2026, 3, 14, 8, 25, 0, 0, time.UTC)), ClockSync: "unknown",
		Urgent: Head{Sequence: 2, Count: 2, Hash: c.Urgent.Hash},
	}
	require.Equal(t, want, c)
	require.Equal(t, someC, c.Urgent.Hash.String())

	for _, bad := range [][2]string{
		{"\n", "\r\n"}, {"checkpoint v1", "checkpoint v2"}, {"box-1", ""}, {"box-1", "box 1"}, {"box-1", strings.Repeat("a", MaxName+1)},
		{"box-1", strings.Repeat("a", MaxStatement)}, {"clock", "Clock"}, {"unknown", "maybe"}, {"unknown -", "unknown"},
		{"unknown -", "unknown -1"}, {"unknown -", "unknown 01"}, {"unknown -", "unknown  -"}, {"unknown -", "unknown +1"},
		{":00.000Z", ":00Z"}, {":00.000Z", ":00.000+01:00"}, {"2026", "26"}, {" 2\n", " 3\n"}, {" 2\n", " 02\n"}, {" 2\n", "\n"},
		{"0002 ", "02 "}, {someC, strings.ToUpper(someC)}, {someC, someC[1:]}, {zeros, someC}, {"0 0\n", "0 1\n"},
		{"0 0\n", "0 0"}, {"0 0\n", "0 0\n\n"}, {"0 0\n", "0 0\nmore 1\n"},
	} {
		text := strings.Replace(sample, bad[0], bad[1], 1)
		require.NotEqual(t, sample, text)
		_, err := ParseCheckpoint(text)
		require.Error(t, err, text)
	}
}

func TestCheckpointRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := func(name string) Head {
			h := Head{Sequence: rapid.Uint64().Draw(t, name)}
			h.Count = rapid.Uint64Range(0, h.Sequence).Draw(t, name+" count")
			if h.Sequence > 0 {
				copy(h.Hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name+" hash"))
			}
			return h
		}
		c := Checkpoint{
			Agent:     rapid.StringMatching(`[a-zA-Z0-9._~-]{1,128}`).Draw(t, "agent"),
			Time:      event.At(time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "time")).UTC()),
			ClockSync: rapid.SampledFrom([]string{"yes", "no", "unknown"}).Draw(t, "sync"),
			Urgent:    head("urgent"), Routine: head("routine"),
		}
		if rapid.Bool().Draw(t, "known") {
			c.ClockMaxErrorMs = new(int64)
			*c.ClockMaxErrorMs = rapid.Int64Min(0).Draw(t, "ms")
		}
		back, err := ParseCheckpoint(c.Text())
		require.NoError(t, err)
		require.Equal(t, c, back)
		d, err := c.Sign(keyOf(1))
		require.NoError(t, err)
		back, by, err := VerifyCheckpoint(d)
		require.NoError(t, err)
		require.Equal(t, c, back)
		require.Equal(t, publicOf(1), by)
		at := rapid.IntRange(0, len(d.Statement)-1).Draw(t, "byte")
		forged := d
		forged.Statement = d.Statement[:at] + string(d.Statement[at]^1) + d.Statement[at+1:]
		_, _, err = VerifyCheckpoint(forged)
		require.ErrorIs(t, err, ErrSignature)
	})
}

func TestKeyStatement(t *testing.T) {
	k := Key{Agent: "box-1", Time: event.At(time.UnixMilli(1773476700000).UTC()), PublicKey: publicOf(2)}
	d, err := k.Event(ReasonRotated, keyOf(1))
	require.NoError(t, err)
	back, by, err := VerifyKey(d)
	require.NoError(t, err)
	require.Equal(t, k, back)
	require.Equal(t, publicOf(1), by)

	first, err := k.Event(ReasonFirst, nil)
	require.NoError(t, err)
	_, by, err = VerifyKey(first)
	require.NoError(t, err)
	require.Nil(t, by)

	for name, change := range map[string]func(*event.AgentKey){
		"another key":         func(d *event.AgentKey) { d.PublicKey = FormatKey(publicOf(3)) },
		"another endorser":    func(d *event.AgentKey) { d.PreviousPublicKey = FormatKey(publicOf(3)) },
		"no endorser":         func(d *event.AgentKey) { d.PreviousPublicKey = "" },
		"another statement":   func(d *event.AgentKey) { d.Statement = strings.Replace(d.Statement, "box-1", "box-2", 1) },
		"no statement":        func(d *event.AgentKey) { d.Statement = "" },
		"half an endorsement": func(d *event.AgentKey) { d.Endorsement = d.Endorsement[:44] },
	} {
		bad := d
		change(&bad)
		_, _, err := VerifyKey(bad)
		require.Error(t, err, name)
	}
	_, err = Checkpoint{}.Sign(keyOf(1))
	require.Error(t, err, "an agent without a name")
	_, err = Key{Agent: "a b", PublicKey: publicOf(1)}.Event(ReasonFirst, nil)
	require.Error(t, err)
}

// Each text has at most one reading, and that reading has no other text.
func FuzzParseCheckpoint(f *testing.F) {
	f.Add(sample)
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseCheckpoint(text); err == nil {
			require.Equal(t, text, c.Text())
		}
	})
}

func FuzzParseKeyStatement(f *testing.F) {
	f.Add(Key{Agent: "box-1", PublicKey: publicOf(2)}.Text())
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKeyStatement(text); err == nil {
			require.Equal(t, text, k.Text())
		}
	})
}

func BenchmarkSignCheckpoint(b *testing.B) {
	c, err := ParseCheckpoint(sample)
	require.NoError(b, err)
	key := keyOf(1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Sign(key); err != nil {
			b.Fatal(err)
		}
	}
}
