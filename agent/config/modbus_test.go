package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Behind one gateway there are several units, and each of them is one device.
func TestUnitsBehindOneGateway(t *testing.T) {
	text := func(first, second string) []byte {
		return []byte(`site: demo
lanes:
  - id: entry-1
    devices:
      - id: plc-1
        profile: state-bus-modbus
        connect: ` + first + `
        settings: {signals: {scanning: {at: "discrete:0", debounce: 80ms}, mode: {at: "holding:4", values: {"1": operational}}}}
      - id: plc-2
        profile: lane-inputs-modbus
        connect: ` + second + `
        settings: {signals: {loop_1: {at: "holding:7", bit: 3}}}
`)
	}
	_, err := Parse("c.yaml", text("modbus-tcp://10.0.3.61?unit=1", "modbus-tcp://10.0.3.61?unit=2"))
	require.NoError(t, err)
	_, err = Parse("c.yaml", text("modbus-tcp://10.0.3.61", "modbus-tcp://10.0.3.61:502?unit=1"))
	require.ErrorContains(t, err, "is used twice")
	_, err = Parse("c.yaml", text("modbus-rtu:/dev/ttyUSB0?baud=9600&parity=even&unit=1", "modbus-rtu:/dev/ttyUSB0?baud=9600&parity=even&unit=1&timeout=300ms"))
	require.ErrorContains(t, err, "is used twice")
	for _, line := range []string{"modbus-rtu:/dev/ttyUSB0?baud=9600&parity=even", "modbus-rtu:/dev/null?baud=9600&parity=even", "modbus-rtu-tcp://10.0.3.61:4001?keepalive=30s"} {
		c, err := Parse("c.yaml", text(line+"&unit=3", line+"&unit=4"))
		require.NoError(t, err)
		require.NotContains(t, warnings(c), "same port")
	}
}
