package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Where several devices should send what came, all of them are named.
func TestBelongs(t *testing.T) {
	t.Parallel()
	c, err := Parse("c.yaml", []byte(`site: a
lanes:
  - id: entry-1
    devices:
      - {id: a-1, profile: rapiscan-tsa, connect: "tcp://10.0.0.1:1600"}
      - {id: sc-1, profile: rapiscan-tsa, connect: "tcp://10.0.0.2:1600"}
      - {id: p-1, profile: scale-toledo, connect: "tcp://10.0.0.3:1700"}
`))
	require.NoError(t, err)
	devices := c.Devices()
	sample := []byte("GB,000401,000406,000436,000436\r\nNB,000000,000001,000000,000000\r\nGB,000401,000406,000436,000436\r\n")
	require.Contains(t, Belongs(devices, devices[2], sample), "records of rapiscan-tsa, which entry-1/a-1 or entry-1/sc-1 should send")
	require.Empty(t, Belongs(devices, devices[0], sample))
	require.Empty(t, Belongs(devices, devices[2], []byte("hello\r\nhello\r\n")))
}
