package event

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTopic(t *testing.T) {
	for _, c := range []struct{ source, typ, want string }{
		{"/medyka/entry-3/rpm-1", "lanepost.radiation.occupancy.v1", "lanepost/v1/medyka/entry-3/rpm-1/lanepost.radiation.occupancy"},
		{"/medyka/agent/box-4c91ae", "lanepost.agent.state.v1", "lanepost/v1/medyka/agent/box-4c91ae/lanepost.agent.state"},
		{"/a/b/c", "lanepost.device.online.v12", "lanepost/v1/a/b/c/lanepost.device.online"},
		{"/a/b/c", "no-version", "lanepost/v1/a/b/c/no-version"},
	} {
		require.Equal(t, c.want, Topic(c.source, c.typ))
	}
	require.Equal(t, "/medyka/entry-3/rpm-1", Source("medyka", "entry-3", "rpm-1"))
	require.Equal(t, "https://lanepost.github.io/schemas/lanepost.agent.loss.v1.json", SchemaURI("lanepost.agent.loss.v1"))
}

func TestSequence(t *testing.T) {
	for n, s := range map[uint64]string{
		1: "00000000000000000001", 1184: "00000000000000001184", math.MaxUint64: "18446744073709551615",
	} {
		require.Equal(t, s, FormatSequence(n))
		back, err := ParseSequence(s)
		require.NoError(t, err)
		require.Equal(t, n, back)
	}
	for _, s := range []string{
		"", "1", "0000000000000000001", "000000000000000000001", "-0000000000000000001", "+0000000000000000001",
		"0000000000000000000x", " 0000000000000000001", "18446744073709551616", "0x00000000000000000f", "0000_0000_0000_0000_",
	} {
		_, err := ParseSequence(s)
		require.Error(t, err, "%q", s)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		require.Equal(t, a < b, FormatSequence(a) < FormatSequence(b), "it must sort as text")
	})
}

func TestTimeForm(t *testing.T) {
	east := time.FixedZone("east", 2*3600)
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2026, 3, 14, 8, 21, 7, 412e6, time.UTC), `"2026-03-14T08:21:07.412Z"`},
		{time.Date(2026, 3, 14, 1, 0, 0, 0, east), `"2026-03-13T23:00:00.000Z"`},
		{time.Date(2026, 12, 31, 23, 59, 59, 999_999_999, time.UTC), `"2026-12-31T23:59:59.999Z"`}, // cut, not rounded into next year
		{time.Time{}, `"0001-01-01T00:00:00.000Z"`},
	} {
		b, err := json.Marshal(At(c.at))
		require.NoError(t, err)
		require.Equal(t, c.want, string(b))
	}
	for _, year := range []int{-1, 10000} {
		_, err := json.Marshal(At(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)))
		require.ErrorContains(t, err, "can't be written")
	}
}

func TestTimeRead(t *testing.T) {
	for s, want := range map[string]time.Time{
		`"2026-03-14T08:21:07.412Z"`:       time.Date(2026, 3, 14, 8, 21, 7, 412e6, time.UTC),
		`"2026-03-14T10:21:07.5+02:00"`:    time.Date(2026, 3, 14, 8, 21, 7, 500e6, time.UTC),
		`"2026-03-14T08:21:07Z"`:           time.Date(2026, 3, 14, 8, 21, 7, 0, time.UTC),
		`"2026-03-14T08:21:07.123456789Z"`: time.Date(2026, 3, 14, 8, 21, 7, 123456789, time.UTC),
		`"2026\u002d03-14T08:21:07Z"`:      time.Date(2026, 3, 14, 8, 21, 7, 0, time.UTC),
	} {
		var got Time
		require.NoError(t, json.Unmarshal([]byte(s), &got), s)
		require.Equal(t, want, got.Time, s)
	}
	for _, s := range []string{
		`""`, `"now"`, `12`, `"2026-03-14"`, `"2026-03-14 08:21:07Z"`, `"2026-02-30T08:21:07Z"`, `{}`, `null`,
		`"0000-01-01T00:00:00+01:00"`, `"9999-12-31T23:59:59-01:00"`,
	} {
		var got Time
		require.Error(t, json.Unmarshal([]byte(s), &got), s)
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) time.Time {
			return time.UnixMilli(rapid.Int64Range(-62135596800000, 253402300799999).Draw(t, name)).UTC()
		}
		a, b := draw("a"), draw("b")
		textA, err := json.Marshal(At(a))
		require.NoError(t, err)
		textB, err := json.Marshal(At(b))
		require.NoError(t, err)
		require.Equal(t, a.Before(b), string(textA) < string(textB), "times must compare as text")
		var back Time
		require.NoError(t, json.Unmarshal(textA, &back))
		require.True(t, back.Equal(a))
	})
}

func TestRaw(t *testing.T) {
	// The hashes are those of sha256sum.
	require.Equal(t, Raw{
		Size: 3, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", Text: "abc",
	}, RawOf([]byte("abc")))
	require.Equal(t, Raw{
		Size: 0, SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	}, RawOf(nil))
	require.Equal(t, "GA,1\t2\r\n", RawOf([]byte("GA,1\t2\r\n")).Text)

	for _, binary := range []string{"\x00", "a\x7f", "\xff\xfe", "grün", "\x1b[0m"} {
		r := RawOf([]byte(binary))
		require.Empty(t, r.Text, "%q", binary)
		require.NotEmpty(t, r.Base64, "%q", binary)
	}
	require.Equal(t, "AP8=", RawOf([]byte{0, 0xff}).Base64)

	long := []byte(strings.Repeat("x", MaxRaw+1))
	r := RawOf(long)
	require.True(t, r.Truncated)
	require.Equal(t, MaxRaw+1, r.Size)
	require.Len(t, r.Text, MaxRaw)
	require.NotEqual(t, RawOf(long[:MaxRaw]).SHA256, r.SHA256, "the hash covers what is not carried")
	require.False(t, RawOf(long[:MaxRaw]).Truncated)
}

func TestRawGivesTheBytesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		b, err := json.Marshal(RawOf(in))
		require.NoError(t, err)
		var out struct {
			Text   string `json:"text"`
			Base64 []byte `json:"base64"` // decoded by encoding/json
		}
		require.NoError(t, json.Unmarshal(b, &out))
		require.Equal(t, string(in), out.Text+string(out.Base64))
	})
}

func TestValidName(t *testing.T) {
	for _, s := range []string{"medyka", "entry-3", "RPM_1", "a.b~c", "7"} {
		require.True(t, validName(s), s)
	}
	for _, s := range []string{"", "a/b", "a b", "+", "#", "$SYS", "é", "a\x00", "a\n", "%20", `"`, "a:b"} {
		require.False(t, validName(s), "%q", s)
	}
}

// An occupancy may be routine only when nothing at all was found or missed.
func TestOccupancyClass(t *testing.T) {
	require.Equal(t, Routine, RadiationOccupancy{Outcome: OutcomeNoAlarm}.Class())
	for _, o := range []Outcome{OutcomeAlarm, OutcomeIncomplete, "", "no-alarm"} {
		require.Equal(t, Urgent, RadiationOccupancy{Outcome: o}.Class(), "%q", o)
	}
}
