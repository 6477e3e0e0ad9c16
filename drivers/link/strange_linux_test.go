package link

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStrange(t *testing.T) {
	serial, err := Parse("serial:/dev/ttyUSB0?baud=9600&parity=none&data=8&stop=1", nil)
	require.NoError(t, err)
	tcp, err := Parse("tcp://10.0.3.21:1600", nil)
	require.NoError(t, err)
	text := []byte(strings.Repeat("+0040260 kg\r\n", 10))
	// The same with a parity bit in the place of the eighth.
	odd, even := make([]byte, len(text)), make([]byte, len(text))
	for i, b := range text {
		odd[i], even[i] = b, b
		if ones(b)%2 == 0 {
			odd[i] |= 0x80
		} else {
			even[i] |= 0x80
		}
	}
	noise := []byte{0x86, 0x66, 0xe6, 0x1e, 0x80, 0xfe, 0x98, 0x9f, 0xf8, 0x06}
	for name, c := range map[string]struct {
		on     Endpoint
		sample []byte
		want   string
	}{
		"nothing":      {serial, nil, "check what is connected there"},
		"text":         {serial, text, "what comes is clean text, so the line (9600 8N1) is set right"},
		"odd parity":   {serial, odd, "set data=7 and parity=odd"},
		"even parity":  {serial, even, "set data=7 and parity=even"},
		"noise":        {serial, noise, "set to 9600 8N1, and what comes looks like the noise of a wrong speed or parity: set baud"},
		"half":         {serial, append(noise[:5:5], text[:12]...), "check baud, parity and stop (now 9600 8N1)"},
		"text by TCP":  {tcp, text, "text of another kind: another instrument answers there"},
		"noise by TCP": {tcp, noise, "line settings of a serial gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Strange(c.on, c.sample)
			require.Contains(t, got, c.want)
			require.NotContains(t, got, "40260", "it repeats what came")
		})
	}
}
