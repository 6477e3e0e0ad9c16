package rpm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lanepost/lanepost/drivers"
	"github.com/lanepost/lanepost/drivers/link"
	"github.com/lanepost/lanepost/protocol/ratemeter"
)

// readings is an instrument that tells readings as they are.
type readings []ratemeter.Reading

func (list readings) Run(_ context.Context, _ link.Conn, h drivers.Host) error {
	r, err := NewRates(DefaultRatesSettings())
	if err != nil {
		return err
	}
	r.Begin(h)
	for _, x := range list {
		if err := r.Take(x, true, nil); err != nil {
			return err
		}
	}
	return r.End(link.ErrUnplugged)
}

// No value is not one that is low: it ends no overload.
func TestNoValueEndsNoOverload(t *testing.T) {
	p, err := drivers.Play(t.Context(), readings{{Status: true, Over: true}, {Status: true, NoValue: true}}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"overload  raised by instrument", "rate 1 no_reading overload", "rate 1 no_reading"}, said(t, p.Observations))
	low := ratemeter.Reading{Status: true, Values: []ratemeter.Value{{Channel: ratemeter.Gamma, Value: 1, Unit: "uSv/h"}}}
	p, err = drivers.Play(t.Context(), readings{{Status: true, Over: true}, low}, nil)
	require.NoError(t, err)
	require.Contains(t, said(t, p.Observations), "overload  cleared by instrument")
}
