package drivers_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
)

// What came is told by what the driver makes of it; one that breaks on it does not know it,
// and breaks nothing else.
func TestRecognise(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		sample string
		want   bool
	}{
		"nothing":                         {"", false},
		"records":                         {"ok\nok\n", true},
		"a record":                        {"ok\n", true},
		"a record and a piece of another": {"xx\nok\n", false},
		"records and a piece of another":  {"xx\nok\nok\n", true},
		"rubbish":                         {"xx\n", false},
		"what breaks the driver":          {"ok\nok\n!", false},
	} {
		is := drivers.Recognise(func() (drivers.Instrument, error) {
			return instrument(func(_ context.Context, c link.Conn, h drivers.Host) error {
				b := make([]byte, 3)
				for {
					n, err := c.Read(b)
					switch {
					case err != nil:
						return err
					case b[0] == '!':
						panic("index out of range")
					case string(b[:n]) == "ok\n":
						h.Valid()
					default:
						h.Unparsed("not a record", b[:n])
					}
				}
			}), nil
		}, []byte(one.sample))
		require.Equal(t, one.want, is, name)
	}
	require.False(t, drivers.Recognise(func() (drivers.Instrument, error) { panic("made of nothing") }, []byte("ok\n")))
}
