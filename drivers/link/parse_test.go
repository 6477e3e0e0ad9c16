package link

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	odd := map[string]string{"baud": "19200", "data": "8", "parity": "odd", "stop": "1"}
	for _, c := range []struct {
		connect  string
		defaults map[string]string
		want     string
	}{
		{"tcp://10.0.3.21:1600", nil, "tcp://10.0.3.21:1600"},
		{"TCP://portal-3.lane.local:1600/", nil, "tcp://portal-3.lane.local:1600"},
		{"tcp://10.0.3.21", map[string]string{"port": "1600"}, "tcp://10.0.3.21:1600"},
		{"tcp://10.0.3.21:1601", map[string]string{"port": "1600"}, "tcp://10.0.3.21:1601"},
		{"tcp://[fd00::21]:1600", nil, "tcp://[fd00::21]:1600"},
		{"tcp://[fd00::21]", map[string]string{"port": "1600"}, "tcp://[fd00::21]:1600"},
		{"tcp://[fe80::1%25eth0]:1600", nil, "tcp://[fe80::1%25eth0]:1600"},
		{"tcp://h:1?connect_timeout=10s&keepalive=15s&write_timeout=10s", nil, "tcp://h:1"},
		{"tcp://h:1?connect_timeout=2s", nil, "tcp://h:1?connect_timeout=2s"},
		{"tcp://h:1?keepalive=off", map[string]string{"keepalive": "1m"}, "tcp://h:1?keepalive=off"},
		{"tcp://h:1", map[string]string{"keepalive": "1m"}, "tcp://h:1?keepalive=1m0s"},
		// A profile for an instrument with both kinds of socket.
		{"tcp://h:1", odd, "tcp://h:1"},
		{
			"serial:/dev/ttyUSB0?baud=19200&data=8&parity=odd&stop=1", nil,
			"serial:/dev/ttyUSB0?baud=19200&data=8&parity=odd&stop=1&backend=go.bug.st",
		},
		{
			"serial:/dev/ttyUSB0", odd,
			"serial:/dev/ttyUSB0?baud=19200&data=8&parity=odd&stop=1&backend=go.bug.st",
		},
		{
			"serial:///dev/ttyUSB0?baud=9600&parity=none", odd,
			"serial:/dev/ttyUSB0?baud=9600&data=8&parity=none&stop=1&backend=go.bug.st",
		},
		{
			"serial:/dev/serial/by-id/usb-FTDI_USB+COM%20x:1-if00-port0?baud=14400&data=7&parity=mark&stop=2", nil,
			"serial:/dev/serial/by-id/usb-FTDI_USB+COM%20x:1-if00-port0?baud=14400&data=7&parity=mark&stop=2&backend=go.bug.st",
		},
		{
			"serial:/dev/ttyUSB0?baud=115200&data=8&parity=none&stop=1&backend=goserial&write_timeout=2s", nil,
			"serial:/dev/ttyUSB0?baud=115200&data=8&parity=none&stop=1&backend=goserial&write_timeout=2s",
		},
		{
			"serial:com3", map[string]string{"baud": "9600", "data": "8", "parity": "none", "stop": "1", "port": "1600"},
			"serial:COM3?baud=9600&data=8&parity=none&stop=1&backend=go.bug.st",
		},
	} {
		t.Run(c.connect, func(t *testing.T) {
			e, err := Parse(c.connect, c.defaults)
			require.NoError(t, err)
			require.Equal(t, c.want, e.String())
			require.Equal(t, strings.SplitN(c.want, ":", 2)[0], e.Scheme())
			again, err := Parse(c.want, nil)
			require.NoError(t, err)
			require.Equal(t, e, again)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const n81 = "serial:/dev/ttyUSB0?baud=9600&data=8&parity=none&stop=1"
	for _, c := range []struct {
		connect  string
		defaults map[string]string
		want     string // must be in the error
	}{
		{"", nil, "connect is empty; write for example tcp://"},
		{"/dev/ttyUSB0", nil, "write serial:/dev/ttyUSB0"},
		{"COM3", nil, "write serial:COM3"},
		{"10.0.3.21:1600", nil, "write tcp://10.0.3.21:1600"},
		{"10.0.3.21", nil, "write tcp://10.0.3.21"},
		{"portal.local:1600", nil, "write tcp://portal.local:1600"},
		{"fd00::21", nil, "write tcp://fd00::21"},
		{"opcuas://10.0.3.21", nil, "did you mean \"opcua\"? this version has folder, http, http-listen, https, modbus-rtu, modbus-rtu-tcp, modbus-tcp, mqtt, mqtts, opcua, serial, tcp and tcp-listen"},
		{"modbus-tcp:10.0.3.21", nil, "after modbus-tcp: two slashes and the host must follow and nothing else, for example modbus-tcp://10.0.3.61?unit=1"},
		{"modbus-tcp://10.0.3.21/1", nil, "nothing else"},
		{"modbus-tcp://10.0.3.21?unit=256", nil, "unit=256 is not a whole number from 0 to 255"},
		{"modbus-tcp://10.0.3.21?timeout=1", nil, "it needs a unit, such as s for seconds"},
		{"modbus-rtu-tcp://10.0.3.21?unit=1", nil, "port is not set"},
		{"modbus-rtu-tcp://10.0.3.21:4001?unit=0", nil, "unit=0 is not a whole number from 1 to 247"},
		{"modbus-rtu:/dev/ttyUSB0?unit=1", nil, "baud and parity are not set"},
		{"modbus-rtu:/dev/ttyUSB0?baud=9600&parity=even&data=7", nil, "data=7; Modbus RTU has data=8"},
		{"tpc://10.0.3.21:1600", nil, `no kind of link "tpc", did you mean "tcp"?`},
		{"gopher://10.0.3.21:1600", nil, `no kind of link "gopher"`},
		{"tcp:10.0.3.21:1600", nil, "two slashes"},
		{"tcp://10.0.3.21", nil, "port is not set"},
		{"tcp://10.0.3.21:", nil, "the port must follow"},
		{"tcp://:1600", nil, "the host is missing"},
		{"tcp://10.0.3.21:0", nil, "port=0 is not a whole number from 1 to 65535"},
		{"tcp://10.0.3.21:65536", nil, "from 1 to 65535"},
		{"tcp://10.0.3.21:+1600", nil, "from 1 to 65535"},
		{"tcp://10.0.3.21", map[string]string{"port": "tsa"}, "profile: port=tsa"},
		{"tcp://10.0.3.256:1600", nil, "not an IP address"},
		{"tcp://10.0.3:1600", nil, "not an IP address"},
		{"tcp://10.0.3.021:1600", nil, "not an IP address"},
		{"tcp://por tal:1600", nil, "space or control character at byte 10"},
		{"tcp://por%74al:1600", nil, "no host name"},
		{"tcp://fd00::21:1600", nil, "brackets"},
		{"tcp://[fd00::21:1600", nil, "closing ]"},
		{"tcp://[10.0.3.21]:1600", nil, "not an IPv6 address"},
		{"tcp://[fd00::21]1600", nil, "a colon and the port"},
		{"tcp://h:1/path", nil, "no path"},
		{"tcp://h:1#x", nil, "#"},
		{"tcp://h:1?baud=9600", nil, `no option "baud"; there are connect_timeout, keepalive and write_timeout`},
		{"tcp://h:1?keepalve=9s", nil, "did you mean keepalive?"},
		{"tcp://h:1?keepalive=9", nil, "it needs a unit"},
		{"tcp://h:1?keepalive=1500ms", nil, "whole seconds"},
		{"tcp://h:1?connect_timeout=off", nil, "not a duration from 100ms to 5m0s"},
		{"tcp://h:1?connect_timeout=0s", nil, "not a duration"},
		{"tcp://h:1?keepalive=9s&keepalive=9s", nil, "twice"},
		{"tcp://h:1?keepalive=", nil, "no value"},
		{"tcp://h:1?keepalive=%zz", nil, "hexadecimal"},
		{"tcp://h:1?", nil, `no option ""`},
		{"tcp://h:1", map[string]string{"bauds": "9600"}, `profile: there is no link default "bauds"; did you mean baud?`},
		{"tcp://h", map[string]string{"port": ""}, "port has no value"},
		{"serial:", nil, "serial port is missing"},
		{"serial:ttyUSB0", nil, "write for example serial:/dev/ttyUSB0"},
		{"serial://dev/ttyUSB0", nil, "has no host"},
		{"serial:/dev/", nil, "neither a device"},
		{"serial:/dev/tty%00", nil, "control character"},
		{"serial:COM0", nil, "neither"},
		{"serial:/dev/ttyUSB0", nil, "baud, data, parity and stop are not set, and the profile has no default; take the right values from the instrument's manual and add them, for example ?baud=19200&data=8&parity=odd&stop=1"},
		{"serial:/dev/ttyUSB0?data=8&stop=1&baud=9600", nil, "parity is not set, and the profile has no default; take the right values from the instrument's manual and add them, for example ?parity=odd"},
		{n81 + "&backend=bugst", nil, "backend=bugst is none of go.bug.st or goserial"},
		{n81 + "&backend=native", nil, "none of go.bug.st or goserial"},
		{n81 + "&rtscts=on", nil, `no option "rtscts"`},
		{"serial:/dev/ttyUSB0?baud=9600&data=8&parity=ood&stop=1", nil, "parity=ood is none of none, odd, even, mark or space; did you mean odd?"},
		{"serial:/dev/ttyUSB0?baud=9600&data=8&parity=O&stop=1", nil, "did you mean odd?"},
		{"serial:/dev/ttyUSB0?baud=0&data=8&parity=none&stop=1", nil, "baud=0 is not a whole number from 50"},
		{"serial:/dev/ttyUSB0?baud=9600&data=9&parity=none&stop=1", nil, "data=9"},
		{"serial:/dev/ttyUSB0?baud=9600&data=8&parity=none&stop=1.5", nil, "stop=1.5"},
		{"serial:/dev/ttyUSB0?baud=9600&data=5&parity=none&stop=2", nil, "stop=1"},
		{"serial:/dev/ttyUSB0?baud=19200&data=8&parity=odd&stop=1&backend=goserial", nil, "backend goserial can do data=8&parity=none&stop=1 only, and 19200 8O1 is asked for"},
		{"serial:/dev/ttyUSB0?baud=1200&data=8&parity=none&stop=1&backend=goserial", nil, "backend goserial cannot do baud=1200, only 2400, 4800, 9600, 19200, 38400, 57600 and 115200"},
		{"serial:/dev/ttyUSB0?backend=goserial", map[string]string{"baud": "9600", "data": "7", "parity": "even", "stop": "1"}, "9600 7E1 is asked for"},
		{"tcp://" + strings.Repeat("a", 254) + ":1", nil, "at most 253"},
		{"tcp://" + strings.Repeat("a", maxConnect), nil, "at most 2048"},
	} {
		t.Run(c.connect, func(t *testing.T) {
			e, err := Parse(c.connect, c.defaults)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, e)
		})
	}
}

// TestParseKeepsSecrets: whatever is wrong with a URL that has a password in it,
// the error does not repeat it.
func TestParseKeepsSecrets(t *testing.T) {
	for _, connect := range []string{
		"tcp://operator:hunter2@10.0.3.21:1600",
		"tcp://operator:hunter2@10.0.3.21",
		"tcp://operator:hu/nter2@10.0.3.21:1600",
		"tcp://operator:hu?nter2@10.0.3.21:1600",
		"tcp://operator:hu#nter2@10.0.3.21:1600",
		"tcp://operator:hu%nter2@10.0.3.21:1600",
		"tcp:operator:hunter2@10.0.3.21:1600",
		"operator:hunter2@10.0.3.21:1600",
		"mqtt://operator:hunter2@10.0.3.21:1600",
		"tpc://operator:hunter2@10.0.3.21:1600",
		"serial://operator:hunter2@10.0.3.21:1600",
		"http://operator:hu nter2@10.0.3.21:1600",
	} {
		_, err := Parse(connect, nil)
		require.Error(t, err, connect)
		require.NotContains(t, err.Error(), "nter2", connect)
		require.NotContains(t, err.Error(), "operator", connect)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"tcp://10.0.3.21:1600",
		"tcp://[fe80::1%25eth0]:1600?connect_timeout=2s&keepalive=off",
		"serial:/dev/serial/by-id/usb-FTDI_0001?baud=19200&data=8&parity=odd&stop=1&backend=go.bug.st",
		"serial:///dev/ttyUSB0?baud=115200&data=8&parity=none&stop=1&backend=goserial&write_timeout=2s",
		"serial:COM3", "10.0.3.21:1600", "/dev/ttyS0", "opcua://user:secret@host", "serial:%2F%2Fx?parity=mark",
	} {
		f.Add(seed, "baud", "9600")
		f.Add(seed, "port", "1600")
	}
	f.Fuzz(func(t *testing.T, connect, key, value string) {
		defaults := map[string]string{"data": "8", "parity": "none", "stop": "1", key: value}
		e, err := Parse(connect, defaults)
		if err != nil {
			require.Nil(t, e)
			require.Less(t, len(err.Error()), 4*maxConnect)
			for _, r := range err.Error() {
				require.True(t, r == '\n' || r >= ' ', "%q", err.Error())
			}
			return
		}
		// What was understood can be written down and understood again, alone.
		again, err := Parse(e.String(), nil)
		require.NoError(t, err, e.String())
		require.Equal(t, e, again)
		if e.Scheme() == "tcp" {
			require.NotContains(t, e.String(), "@")
		}
	})
}
