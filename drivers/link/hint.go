package link

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
)

// maxHintPorts is how many ports a hint names.
const maxHintPorts = 8

// hints say what to do about an error, the first that fits. where is the device
// or the address, "it" if the error does not tell.
var hints = []struct {
	of error
	// on narrows the error down to a kind of link; "" is any.
	on  string
	say func(where string) string
}{
	{ErrClosed, "", func(string) string {
		return "this side closed the link: nothing to do"
	}},
	{context.Canceled, "", func(string) string {
		return "it was stopped from this side: nothing to do"
	}},
	{syscall.ECONNREFUSED, "", func(where string) string {
		return "the machine at " + where + " is there and takes no connection: check the port number, that the instrument's data output is switched on, and that no other program holds its only connection"
	}},
	{syscall.ENETUNREACH, "", func(where string) string {
		return "this machine has no way to " + where + ": check its own network cable, address and mask (ip addr, ip route)"
	}},
	{syscall.EHOSTUNREACH, "", func(where string) string {
		return "nothing answers at " + where + ": check the instrument's power, its network cable and its address"
	}},
	{syscall.ECONNRESET, "", func(string) string {
		return "the instrument broke the connection off: it may have restarted, or given its only connection to another program"
	}},
	{ErrLogin, "", func(string) string {
		return "check the user name and the password of the device: it is not tried again before the time that is named, since cameras lock out who guesses; a reload of the configuration with a corrected one tries at once"
	}},
	{errBrokerLogin, "", func(string) string {
		return "check username and password_file against the broker's, and that this user may connect from here"
	}},
	{errBrokerACL, "", func(string) string {
		return "let the broker's access list give this user the right to read the topic, and check the topics of the device"
	}},
	{errNotMQTT, "", func(string) string {
		return "this is probably not an MQTT port, or one that wants TLS: then write mqtts:// (usually port 8883)"
	}},
	{errNotOPCUA, "", func(string) string {
		return "this is probably not an OPC UA server's port (usually 4840): check it against the server's address, which begins with opc.tcp://"
	}},
	{errNoEndpoint, "", func(string) string {
		return "set security and mode to what the server offers, or have it offer what is set; its address may also need its path (opcua://HOST:4840/PATH)"
	}},
	{errNoToken, "", func(string) string {
		return "have a user with the right to read made on the server, and set username and password_file beside connect"
	}},
	{errClearText, "", func(string) string {
		return "take mode=sign_and_encrypt; security=none without a pin says that the password may be sent readable"
	}},
	{errUntrusted, "", func(string) string {
		return "compare the fingerprint with the one that the server's own tool shows (SHA-256, not SHA-1), and set pin to it; or name the site's authority by ca_file"
	}},
	{errServerCert, "", func(string) string {
		return "have the agent's certificate (cert_file) trusted on the server: most put it in a folder of rejected ones, from which it is moved to the trusted ones; check the clocks of both as well"
	}},
	{errManySession, "", func(string) string {
		return "another program holds the server's sessions: end it, or let the server have more of them; one of an agent that was killed is free again after two minutes"
	}},
	{errNoNode, "", func(string) string {
		return "check the node id in the settings against the server's own tool; the number after ns= may differ from server to server"
	}},
	{syscall.EADDRINUSE, "", func(string) string {
		return "another program listens on this port: end it (ss -ltnp shows which), or take another port here and in the instruments"
	}},
	{syscall.EADDRNOTAVAIL, "", func(string) string {
		return "this machine does not have this address: take one of its own (ip addr), or 0.0.0.0 for all of them"
	}},
	{errNotMounted, "", func(string) string {
		return "mount the share (mount, /etc/fstab) and check the machine that has it; as long as it is not there, scans are not seen"
	}},
	{errSentinel, "", func(string) string {
		return "mount the share, or put the file there that the option sentinel names"
	}},
	{ErrHangs, "", func(string) string {
		return "the machine that has the share may be off or not to be reached: check it, its network cable and the mount; it is looked at again as soon as it answers"
	}},
	{ErrUnplugged, "serial", func(where string) string {
		return "the serial adapter of " + where + " is gone: check its plug and its USB hub, it is opened again as soon as it is back"
	}},
	{ErrUnplugged, "", func(string) string {
		return "the instrument ended the connection: it may have restarted, lost power or cable, or given its only connection to another program"
	}},
	{errNoAnswer, "", func(string) string {
		return "check that the device is on, the unit number, and on a line its baud, parity and the two wires; if it is only slow, set a longer timeout"
	}},
	{errDamaged, "", func(string) string {
		return "check baud, parity and stop against the device's manual, the line's termination, and that no other program asks on the same line; over TCP, that it is Modbus TCP and not RTU over TCP (modbus-rtu-tcp:)"
	}},
	{errLineSettings, "", func(string) string {
		return "the adapter cannot do these line settings: check baud, data, parity and stop against the instrument's manual, or take another adapter"
	}},
	{syscall.EBUSY, "", func(where string) string {
		if users := usersOf(where); len(users) > 0 {
			return where + " is in use by " + list(users, "and") + ": end that program, or give each device a port of its own"
		}
		return where + " is in use by another program: end it (fuser -v " + where + " shows which), or give each device a port of its own"
	}},
	{fs.ErrPermission, "serial", notAllowed},
	{fs.ErrPermission, "", func(where string) string {
		return "this machine's own firewall does not let the connection to " + where + " out"
	}},
	{fs.ErrNotExist, "serial", noSuchPort},
	{syscall.ENOTTY, "", func(where string) string {
		return where + " is no serial port: check the name (lanepost ports lists them)"
	}},
	{syscall.EIO, "serial", func(where string) string {
		return "there is no hardware behind " + where + ": take another port (lanepost ports lists them)"
	}},
	{syscall.EMFILE, "", func(string) string {
		return "too many files are open: raise the limit (LimitNOFILE= in the service), or connect fewer devices"
	}},
}

// Hint says in one sentence, for the person in front of the instrument, what to
// do about an error of Open, Read or Write. It is "" if there is nothing better
// to say than the error itself.
func Hint(err error) string {
	if err == nil {
		return ""
	}
	where, kind := "it", "tcp"
	var path *fs.PathError
	var op *net.OpError
	switch {
	case errors.As(err, &path):
		where, kind = path.Path, "serial"
	case errors.As(err, &op) && op.Addr != nil:
		where = op.Addr.String()
	}
	for _, h := range hints {
		if (h.on == "" || h.on == kind) && errors.Is(err, h.of) {
			return h.say(where)
		}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		if dns.IsNotFound {
			return "no machine is called " + echo(dns.Name) + " here: check the spelling, or write the IP address"
		}
		return "the name server does not answer: check this machine's network, or write the IP address instead of " + echo(dns.Name)
	}
	var certificate *tls.CertificateVerificationError
	var pin *pinError
	switch {
	case errors.As(err, &pin):
		return "if the device was replaced or given a new certificate, set pin to the new fingerprint; otherwise find out what answers there"
	case errors.As(err, &certificate):
		return "nobody that this machine knows vouches for the device's certificate: cameras make their own; pin it with pin=FINGERPRINT (openssl s_client -connect HOST:443 | openssl x509 -noout -fingerprint -sha256), or name the site's authority with ca_file"
	}
	// Opening and reading run out of time by errors that look alike.
	var timeout net.Error
	switch {
	case op != nil && op.Op == "dial" && op.Timeout():
		return "no answer from " + where + ": check the instrument's power, cable and address, and whether a firewall is in between (ping " + hostOf(where) + ")"
	case kind == "serial" && errors.Is(err, os.ErrDeadlineExceeded) && path.Op == "write":
		return where + " takes no more bytes: unplug the adapter and plug it in again"
	case kind == "serial" && errors.Is(err, os.ErrDeadlineExceeded):
		return where + " is open and silent: check that the instrument is on and set to send, the cable (crossed or not), and the line settings"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the connection is open and silent: check that the instrument is set to send"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "it took too long: check the instrument's power and cable"
	}
	return ""
}

// plainError is an error in words for a person; what it is made of is kept for Hint.
type plainError struct {
	text string
	error
}

func (e plainError) Error() string { return e.text }
func (e plainError) Unwrap() error { return e.error }

// plainWords say what the system's words for a failed connection mean. The system's stand
// behind them.
var plainWords = map[syscall.Errno]string{
	syscall.ECONNREFUSED: "it takes no connection",
	syscall.ECONNRESET:   "it broke the connection off",
	syscall.EHOSTUNREACH: "nothing answers there",
	syscall.ENETUNREACH:  "this machine has no way there",
	syscall.ETIMEDOUT:    "no answer",
}

// plain takes the names of calls, and the addresses that are told already, out of an error
// of the network.
func plain(err error) error {
	var dns *net.DNSError
	var number syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return plainError{"the host name " + echo(dns.Name) + " is unknown", err}
	case errors.As(err, &dns):
		return plainError{"the name server does not answer for " + echo(dns.Name), err}
	case errors.As(err, &op) && errors.As(err, &number):
		if words := plainWords[number]; words != "" {
			return plainError{words + " (" + number.Error() + ")", err}
		}
		return plainError{number.Error(), err}
	case errors.As(err, &op) && op.Timeout():
		return plainError{"no answer in time", err}
	}
	return err
}

func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// noSuchPort names the ports that there are instead.
func noSuchPort(where string) string {
	ports, err := Ports()
	var names []string
	for _, p := range ports {
		if !p.Console && len(names) < maxHintPorts {
			names = append(names, p.Stable())
		}
	}
	if err != nil || len(names) == 0 {
		return "there is no " + where + ", nor any other serial port for an instrument: check that the adapter is plugged in"
	}
	return "there is no " + where + ": check that the adapter is plugged in, or take one of the ports that are there: " + strings.Join(names, ", ")
}
