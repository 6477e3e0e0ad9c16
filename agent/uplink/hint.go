package uplink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Failure says why there is no session, in words for a person.
type Failure struct {
	// Reason is what happened.
	Reason string
	// Hint is what to do about it.
	Hint string
	// Err is the cause.
	Err error
}

func (f *Failure) Error() string { return f.Reason }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// Hint tells what to do about an error of this package; empty if nothing is
// known.
func Hint(err error) string {
	var f *Failure
	if errors.As(err, &f) {
		return f.Hint
	}
	return ""
}

// stage is how far a session had come when it failed.
type stage int

const (
	anyStage  stage = iota
	dialing         // name, TCP, TLS
	loggingIn       // CONNECT is sent, CONNACK is awaited
	running         // publishing
)

// closedUnderTLS is a connection that the broker closed at the login, after the
// handshake. With TLS 1.3 a client learns only then that its certificate is not
// accepted, and the alert that says so may be lost with the connection.
type closedUnderTLS struct{ error }

func (e *closedUnderTLS) Unwrap() error { return e.error }

// refused is the return code of a CONNACK.
type refused byte

func (r refused) Error() string {
	if text, ok := packets.ConnackReturnCodes[byte(r)]; ok && r <= packets.ErrRefusedNotAuthorised {
		return strings.ToLower(text)
	}
	return fmt.Sprintf("connection refused with code %d, which MQTT 3.1.1 does not know", byte(r))
}

// is makes a test for one error value.
func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// as makes a test for a type of error.
func as[T error]() func(error) bool {
	return func(err error) bool {
		var target T
		return errors.As(err, &target)
	}
}

// alert tests for a TLS alert from the broker that holds one of the words.
func alert(words ...string) func(error) bool {
	return func(err error) bool {
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "remote error" {
			return false
		}
		for _, w := range words {
			if strings.Contains(op.Err.Error(), w) {
				return true
			}
		}
		return len(words) == 0
	}
}

func timedOut(err error) bool {
	var t net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func nameUnknown(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func certificateTime(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// diagnoses are tried from the top. {host}, {port}, {broker}, {client} and {err}
// are filled in.
var diagnoses = []struct {
	stage        stage
	is           func(error) bool
	reason, hint string
}{
	{anyStage, as[*localError](), "{err}",
		"check the file's name in the mqtt section, what is in it, and that the agent's user may read it"},

	{dialing, nameUnknown, "the name {host} does not exist",
		"check the broker's name for a typing error; if it is right, the DNS server of this box does not know it: give the address instead"},
	{dialing, as[*net.DNSError](), "the name {host} can't be looked up: {err}",
		"the DNS server of this box does not answer: check the network cable and the DNS setting, or give the broker's address instead of its name"},
	{dialing, is(syscall.ECONNREFUSED), "{host} refuses connections on port {port}",
		"check the port (1883 is usual without TLS, 8883 with it) and whether the broker runs"},
	{dialing, is(syscall.ENETUNREACH), "there is no way to {host} from this box",
		"check the network cable, the address of this box and its default gateway"},
	{dialing, is(syscall.EHOSTUNREACH), "{host} can't be reached",
		"check the network cable and the broker's address; if both are right, the broker is off or cut off"},
	{dialing, certificateTime, "the broker's certificate is not valid at this time: {err}",
		"compare the clock of this box with the certificate's dates; if the clock is right, the broker needs a new certificate"},
	{dialing, as[x509.HostnameError](), "the broker's certificate is made out to another name: {err}",
		"use the name of the certificate in the broker's URL, or set it as the server name in the tls section"},
	{dialing, as[x509.UnknownAuthorityError](), "the broker's certificate comes from an authority that is not trusted here: {err}",
		"set the CA file to the certificate of the authority that signed the broker's certificate"},
	{dialing, as[tls.RecordHeaderError](), "port {port} of {host} does not speak TLS",
		"use the broker's TLS port (usually 8883), or tcp:// if it has none"},
	{dialing, alert("no application protocol"), "the broker takes none of the protocol names that this agent offers (ALPN)",
		"set the name that the broker wants on port {port}, mqtt in general, or none"},
	{dialing, alert("protocol version", "handshake failure"), "the broker and this box have no TLS version or cipher in common: {err}",
		"the broker must offer TLS 1.2 or later"},
	{anyStage, alert(), "the broker refused the TLS connection: {err}",
		"it probably wants a client certificate, or does not accept this one: check the certificate's file, its issuer and its expiry"},
	{dialing, as[*tls.CertificateVerificationError](), "the broker's certificate can't be verified: {err}",
		"check the CA file and the broker's certificate"},
	{dialing, func(err error) bool { return as[*handshakeError]()(err) && timedOut(err) }, "{host} took the connection on port {port} and said nothing",
		"this is probably not a TLS port: use the broker's TLS port (usually 8883), or tcp:// if it has none"},
	{dialing, func(err error) bool { return as[*handshakeError]()(err) && closedByPeer(err) }, "{host} closed the connection during the TLS handshake",
		"this is probably not a TLS port: use the broker's TLS port (usually 8883), or tcp:// if it has none"},
	{dialing, as[*upgradeError](), "{host} opens no websocket on port {port}: {err}",
		"check the path in the broker's URL (often /mqtt) and the port: it must be the broker's for websockets"},
	{dialing, closedByPeer, "{host} closed the connection before the websocket was open",
		"check the port: it must be the broker's for websockets; without them use tls:// or tcp://"},
	{dialing, timedOut, "{host} does not answer on port {port}",
		"check the address, and that no firewall on the way drops port {port}"},

	{loggingIn, is(refused(packets.ErrRefusedBadUsernameOrPassword)), "the broker does not accept the user name or the password",
		"check the user name and the password file, and whether the broker knows this user"},
	{loggingIn, is(refused(packets.ErrRefusedNotAuthorised)), "the broker does not let this client in: not authorised",
		"check user name and password, and that the broker allows the client id {client}; with client certificates, that it knows this one"},
	{loggingIn, is(refused(packets.ErrRefusedIDRejected)), "the broker does not accept the client id {client}",
		"set another client id, or allow this one at the broker"},
	{loggingIn, is(refused(packets.ErrRefusedServerUnavailable)), "the broker says that it is not available",
		"the broker starts, stops or is overloaded: look there; the agent keeps trying"},
	{loggingIn, is(refused(packets.ErrRefusedBadProtocolVersion)), "the broker does not speak MQTT 3.1.1",
		"allow protocol version 3.1.1 at the broker"},
	{loggingIn, as[refused](), "the broker refused the login: {err}",
		"look in the broker's log for the client id {client}"},
	{loggingIn, timedOut, "{host} took the connection on port {port} and did not answer the login",
		"this is probably not an MQTT port, or one that wants TLS: then use tls:// (usually port 8883)"},
	{loggingIn, as[*closedUnderTLS](), "{host} closed the connection at the login",
		"the broker probably wants a client certificate, or does not accept this one: check its file, its issuer and its expiry; or the broker refuses this client without saying so: look in its log"},
	{loggingIn, closedByPeer, "{host} closed the connection at the login",
		"this is probably not an MQTT port, or one that wants TLS (tls://, usually port 8883); or the broker refuses this client without saying so: look in its log"},
	{loggingIn, is(errProtocol), "{host} does not speak MQTT on port {port}: {err}",
		"check the port: 1883 is usual without TLS, 8883 with it"},

	{running, is(errNoAck), "the broker took messages and confirms none",
		"the broker is overloaded or its disk is full: look there; events wait in the spool"},
	{running, is(errSilent), "nothing comes from the broker any more, not even the answer to a ping",
		"the line is down or the broker hangs: check cable, modem and router between this box and {host}"},
	{running, closedByPeer, "the broker closed the connection",
		"if this comes again and again, look in the broker's log: another client may use the client id {client}, or this client may not publish to its topics, or a message is above the broker's size limit"},
	{running, timedOut, "the line to the broker takes no data any more",
		"check cable, modem and router between this box and {host}"},
	// paho closes the connection by itself in this case only.
	{running, is(errEnded), "the broker broke the protocol: it sent a message that can't be decoded", "look in the broker's log for the client id {client}"},
	{running, is(errProtocol), "the broker broke the protocol: {err}", "look in the broker's log for the client id {client}"},
}

// explain turns an error of a session into words.
func explain(at stage, err error, broker *url.URL, clientID string) error {
	fill := strings.NewReplacer("{host}", broker.Hostname(), "{port}", broker.Port(), "{broker}", broker.String(),
		"{client}", clientID, "{err}", err.Error())
	for _, d := range diagnoses {
		if (d.stage == anyStage || d.stage == at) && d.is(err) {
			return &Failure{Reason: fill.Replace(d.reason), Hint: fill.Replace(d.hint), Err: err}
		}
	}
	return &Failure{Reason: err.Error(), Hint: "look in the broker's log for the client id " + clientID, Err: err}
}
