package rpm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/protocol/event"
)

// A case is a folder in testdata with what the portal sends and what must come
// of it, both written by hand.
//
// wire.txt has one line for each thing that happens: a time in seconds, or with
// a plus sign seconds after the line before, and then
//
//	a record, which is sent with CR LF,
//	"bytes" and a Go string, sent as it is,
//	"wait", which lets time pass, or
//	"hang up", which ends the connection; the next line opens another.
//
// expect.yaml lists every event in order, each with the fields that matter.
type expectation struct {
	Settings yaml.MapSlice               `yaml:"settings"`
	Events   []map[string]map[string]any `yaml:"events"`
	// Unparsed lists what the reasons begin with.
	Unparsed []string `yaml:"unparsed"`
	Valid    *int     `yaml:"valid"`
}

// connection is what the portal sends over one connection.
type connection []drivers.Chunk

func readWire(t testing.TB, text string) (list []connection) {
	t.Helper()
	var at time.Duration
	var c connection
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		when, what, ok := strings.Cut(line, " ")
		require.True(t, ok, "wire.txt:%d: %q", n+1, line)
		seconds, err := strconv.ParseFloat(when, 64)
		require.NoError(t, err, "wire.txt:%d", n+1)
		d := time.Duration(math.Round(seconds*1000)) * time.Millisecond
		if when[0] == '+' {
			d += at
		}
		require.GreaterOrEqual(t, d, at, "wire.txt:%d goes back in time", n+1)
		at = d
		what = strings.TrimSpace(what)
		switch {
		case what == "hang up":
			list = append(list, append(c, drivers.Chunk{At: at}))
			c = nil
		case what == "wait":
			c = append(c, drivers.Chunk{At: at})
		case strings.HasPrefix(what, "bytes "):
			b, err := strconv.Unquote(strings.TrimPrefix(what, "bytes "))
			require.NoError(t, err, "wire.txt:%d", n+1)
			c = append(c, drivers.Chunk{At: at, Bytes: []byte(b)})
		default:
			c = append(c, drivers.Chunk{At: at, Bytes: []byte(what + "\r\n")})
		}
	}
	if len(c) > 0 {
		list = append(list, c)
	}
	return list
}

// merged puts all bytes of one moment into one chunk.
func (c connection) merged() (list connection) {
	for i, k := range c {
		if n := len(list); n > 0 && c[i-1].At == k.At {
			list[n-1].Bytes = append(list[n-1].Bytes, k.Bytes...)
			continue
		}
		list = append(list, drivers.Chunk{At: k.At, Bytes: bytes.Clone(k.Bytes)})
	}
	return list
}

// cut splits each chunk where size says.
func (c connection) cut(size func() int) (list connection) {
	for _, k := range c {
		if len(k.Bytes) == 0 {
			list = append(list, k)
		}
		for b := k.Bytes; len(b) > 0; {
			n := min(size(), len(b))
			list = append(list, drivers.Chunk{At: k.At, Bytes: b[:n]})
			b = b[n:]
		}
	}
	return list
}

// play runs a new portal over the connections, one after the other.
func play(t testing.TB, settings any, list []connection) drivers.Played {
	t.Helper()
	p := newTestPortal(t, settings)
	var all drivers.Played
	for _, c := range list {
		got, err := drivers.Play(t.Context(), p, c)
		require.NoError(t, err)
		all.Observations = append(all.Observations, got.Observations...)
		all.Unparsed = append(all.Unparsed, got.Unparsed...)
		all.Valid += got.Valid
	}
	return all
}

func newTestPortal(t testing.TB, settings any) drivers.Instrument {
	t.Helper()
	p, err := TSAPortal().New(func(to any) error { return decode(settings, to) })
	require.NoError(t, err)
	return p
}

// decode fills settings as the agent does: strictly, from YAML.
func decode(settings, to any) error {
	if settings == nil {
		return nil
	}
	b, err := yaml.Marshal(settings)
	if err != nil {
		return err
	}
	return yaml.NewDecoder(bytes.NewReader(b), yaml.DisallowUnknownField()).Decode(to)
}

// asMaps writes observations for comparison: times as seconds since the start
// of the script, and occupancy ids as "occupancy 1", "occupancy 2".
func asMaps(t testing.TB, list []drivers.Observation) (kinds []string, maps []map[string]any) {
	t.Helper()
	ids := map[string]string{}
	name := func(id string) string {
		if id != "" && ids[id] == "" {
			ids[id] = fmt.Sprintf("occupancy %d", len(ids)+1)
		}
		return ids[id]
	}
	seconds := func(v time.Time) float64 { return round3(v.Sub(drivers.ScriptStart()).Seconds()) }
	for _, o := range list {
		b, err := json.Marshal(o.Data)
		require.NoError(t, err)
		m := map[string]any{}
		require.NoError(t, json.Unmarshal(b, &m))
		for k, v := range m {
			if strings.HasSuffix(k, "_ts") {
				at, err := time.Parse(event.TimeLayout, v.(string))
				require.NoError(t, err)
				m[k] = seconds(at)
			}
		}
		if id, ok := m["occupancy_id"].(string); ok {
			m["occupancy_id"] = name(id)
		}
		m["at"] = seconds(o.Time)
		if o.Subject != "" {
			m["subject"] = name(o.Subject)
		}
		m["device_time"] = nil
		if !o.DeviceTime.IsZero() {
			m["device_time"] = o.DeviceTime.Format(time.RFC3339Nano)
		}
		m["class"] = string(o.Data.Class())
		kind := strings.TrimSuffix(strings.TrimPrefix(o.Data.Type(), "lanepost.radiation."), ".v1")
		kinds, maps = append(kinds, kind), append(maps, m)
	}
	return kinds, maps
}

// normal turns what YAML gives into what JSON gives.
func normal(t testing.TB, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	var n any
	require.NoError(t, json.Unmarshal(b, &n))
	return n
}

// requireWithin checks that got has all that want has. Maps may have more,
// lists may not.
func requireWithin(t testing.TB, path string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		require.True(t, ok, "%s: want an object, got %v", path, got)
		for k, v := range w {
			value, ok := g[k]
			require.True(t, ok, "%s: no %s in %v", path, k, got)
			requireWithin(t, path+"."+k, v, value)
		}
	case []any:
		g, ok := got.([]any)
		require.True(t, ok, "%s: want a list, got %v", path, got)
		require.Len(t, g, len(w), path)
		for i := range w {
			requireWithin(t, fmt.Sprintf("%s[%d]", path, i), w[i], g[i])
		}
	default:
		require.Equal(t, want, got, path)
	}
}

func TestCases(t *testing.T) {
	dirs, err := filepath.Glob("testdata/cases/*")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			wire, err := os.ReadFile(filepath.Join(dir, "wire.txt"))
			require.NoError(t, err)
			text, err := os.ReadFile(filepath.Join(dir, "expect.yaml"))
			require.NoError(t, err)
			var want expectation
			require.NoError(t, yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(&want))
			list := readWire(t, string(wire))
			got := play(t, want.Settings, list)

			kinds, maps := asMaps(t, got.Observations)
			var wantKinds []string
			for _, e := range want.Events {
				for kind := range e {
					wantKinds = append(wantKinds, kind)
				}
			}
			require.Equal(t, wantKinds, kinds, "%s", summary(maps, kinds))
			for i, e := range want.Events {
				requireWithin(t, fmt.Sprintf("event %d, %s", i, kinds[i]), normal(t, e[kinds[i]]), normal(t, maps[i]))
			}
			require.Len(t, got.Unparsed, len(want.Unparsed), "%q", got.Unparsed)
			for i, u := range got.Unparsed {
				require.True(t, strings.HasPrefix(u.Reason, want.Unparsed[i]), "unparsed %d: %s", i, u.Reason)
			}
			if want.Valid != nil {
				require.Equal(t, *want.Valid, got.Valid)
			}

			// However the bytes are cut into reads, the same comes of it.
			random := rand.New(rand.NewPCG(1, 2))
			for name, chunking := range map[string]func(connection) connection{
				"merged":      connection.merged,
				"single byte": func(c connection) connection { return c.cut(func() int { return 1 }) },
				"random":      func(c connection) connection { return c.merged().cut(func() int { return 1 + random.IntN(40) }) },
			} {
				var other []connection
				for _, c := range list {
					other = append(other, chunking(c))
				}
				again := play(t, want.Settings, other)
				_, againMaps := asMaps(t, again.Observations)
				require.Equal(t, maps, againMaps, name)
				require.Len(t, again.Unparsed, len(got.Unparsed), name)
				require.Equal(t, got.Valid, again.Valid, name)
			}
		})
	}
}

func summary(maps []map[string]any, kinds []string) string {
	var b strings.Builder
	for i, m := range maps {
		fmt.Fprintf(&b, "%v %s %v %v %v\n", m["at"], kinds[i], m["kind"], m["end"], m["outcome"])
	}
	return b.String()
}

// playText plays a stream that comes all at once.
func playText(t testing.TB, settings any, text string) drivers.Played {
	t.Helper()
	got, err := drivers.Play(context.Background(), newTestPortal(t, settings), []drivers.Chunk{{Bytes: []byte(text)}})
	require.NoError(t, err)
	return got
}
