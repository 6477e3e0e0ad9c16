package opcua

import (
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the protocol names certificates by it
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrSecurity says that a signature does not fit, or what was encrypted cannot be opened.
var ErrSecurity = errors.New("the message is not signed or encrypted as it should be")

// Channel is one side of a secure channel (IEC 62541-6 6.7): it makes chunks of
// messages and messages of chunks. It is used by one goroutine.
type Channel struct {
	// Policy is what is agreed upon; None secures nothing.
	Policy Policy
	// Mode is ModeNone, ModeSign or ModeSignAndEncrypt.
	Mode uint32
	// Key and Certificate (DER) are this side's, Peer (DER) is the other side's. They
	// are not needed without security.
	Key         *rsa.PrivateKey
	Certificate []byte
	Peer        *x509.Certificate
	// Server: this side is the server.
	Server bool
	// Rand gives random bytes, for padding that cannot be guessed.
	Rand io.Reader
	// Send is the largest chunk that the other side takes, in bytes.
	Send int

	// ID and Token name the channel and its keys.
	ID, Token uint32
	sequence  uint32
	heard     uint32 // the number of the chunk that came last
	began     bool   // one came
	out, in   keys

	// Of the message that is being put together.
	parts   []byte
	chunks  int
	request uint32
}

// Received is a message that came.
type Received struct {
	Kind    Kind
	Request uint32
	Body    []byte
}

// Rekey derives the keys of a token from the nonces of both sides.
func (c *Channel) Rekey(token uint32, client, server []byte) {
	c.Token = token
	if c.Policy.none() {
		return
	}
	// IEC 62541-6 6.7.5: the secret is the nonce of the other side.
	mine, theirs := deriveKeys(server, client), deriveKeys(client, server)
	if c.Server {
		mine, theirs = theirs, mine
	}
	c.out, c.in = mine, theirs
}

// Seal makes the chunks of one message, one after the other.
func (c *Channel) Seal(kind Kind, request uint32, body []byte) ([]byte, error) {
	head := &coder{}
	head.u32(&c.ID)
	asymmetric := kind == Open
	if asymmetric {
		uri := c.Policy.URI
		var own, thumbprint []byte
		if !c.Policy.none() {
			sum := sha1.Sum(c.Peer.Raw) //nolint:gosec // the protocol names certificates by it
			own, thumbprint = c.Certificate, sum[:]
		}
		head.text(&uri)
		head.bytes(&own)
		head.bytes(&thumbprint)
	} else {
		head.u32(&c.Token)
	}
	if head.err != nil {
		return nil, head.err
	}
	seal := c.sealer(asymmetric)
	room := seal.room(min(max(c.Send, MinFrame), MaxFrame) - HeadLength - len(head.b))
	if room <= 0 {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrBound, len(head.b))
	}
	var all []byte
	for n := 0; n == 0 || len(body) > 0; n++ {
		part := body[:min(room, len(body))]
		body = body[len(part):]
		final := byte('F')
		if len(body) > 0 {
			final = 'C'
		}
		if n >= MaxChunks || final == 'C' && kind != Service {
			return nil, fmt.Errorf("%w: a message of too many chunks", ErrBound)
		}
		c.sequence++
		plain := binary.LittleEndian.AppendUint32(nil, c.sequence)
		plain = binary.LittleEndian.AppendUint32(plain, request)
		plain = append(plain, part...)
		chunk, err := seal.seal(c.Rand, frame(kind, final, head.b), plain)
		if err != nil {
			return nil, err
		}
		all = append(all, chunk...)
	}
	return all, nil
}

// Take takes one chunk. It gives nothing while a message is not complete.
func (c *Channel) Take(chunk []byte) (*Received, error) {
	n, err := FrameLength(chunk)
	switch {
	case err != nil:
		return nil, err
	case n != len(chunk):
		return nil, ErrShort
	}
	kind, final := Kind(chunk[:3]), chunk[3]
	if kind == Failure {
		_, err := body(Service, chunk)
		return nil, err
	}
	if kind != Open && kind != Service && kind != Close {
		return nil, fmt.Errorf("%w: %s within a channel", ErrFormat, kind)
	}
	head := &coder{b: chunk[HeadLength:], reading: true}
	var id uint32
	head.u32(&id)
	if kind == Open {
		err = c.openHeader(head)
	} else {
		var token uint32
		if head.u32(&token); head.err == nil && (id != c.ID || token != c.Token) {
			err = fmt.Errorf("%w: it is of the channel %d with the keys %d, and this is %d with %d", ErrFormat, id, token, c.ID, c.Token)
		}
	}
	if err = errors.Join(err, head.err); err != nil {
		return nil, err
	}
	plain, err := c.sealer(kind == Open).open(chunk, len(chunk)-len(head.b))
	if err != nil {
		return nil, err
	}
	rest := &coder{b: plain, reading: true}
	var sequence, request uint32
	rest.u32(&sequence)
	if rest.u32(&request); rest.err != nil {
		return nil, rest.err
	}
	if err := c.next(sequence); err != nil {
		return nil, err
	}
	return c.put(kind, final, request, rest.b)
}

// next checks that no chunk was left out, repeated or moved on the way, which a signature
// alone does not show. Numbers go up by one, and begin anew below 1024 once they are within the
// last 1024 (IEC 62541-6 6.7.2.4).
func (c *Channel) next(sequence uint32) error {
	const anew = 1024
	again := c.heard > math.MaxUint32-anew && sequence < anew
	if c.began && sequence != c.heard+1 && !again {
		return fmt.Errorf("%w: the chunk %d came after the chunk %d", ErrSecurity, sequence, c.heard)
	}
	c.heard, c.began = sequence, true
	return nil
}

// put puts a message together.
func (c *Channel) put(kind Kind, final byte, request uint32, part []byte) (*Received, error) {
	if c.chunks > 0 && request != c.request {
		return nil, fmt.Errorf("%w: a part of the message %d within the message %d", ErrFormat, request, c.request)
	}
	c.request = request
	if final == 'A' {
		c.parts, c.chunks = nil, 0
		e := &FailureError{}
		b := &coder{b: part, reading: true}
		if e.fields(b); b.err != nil {
			return nil, b.err
		}
		return nil, e
	}
	c.chunks++
	if c.chunks > MaxChunks || len(c.parts)+len(part) > MaxMessage {
		return nil, fmt.Errorf("%w: a message of more than %d chunks or %d bytes", ErrBound, MaxChunks, MaxMessage)
	}
	c.parts = append(c.parts, part...)
	switch final {
	case 'C':
		return nil, nil //nolint:nilnil // the message is not complete
	case 'F':
		r := &Received{Kind: kind, Request: request, Body: c.parts}
		c.parts, c.chunks = nil, 0
		return r, nil
	}
	return nil, fmt.Errorf("%w: a chunk of the type %q", ErrFormat, final)
}

// openHeader checks that the other side means the same security.
func (c *Channel) openHeader(head *coder) error {
	var uri string
	var certificate, thumbprint []byte
	head.text(&uri)
	head.bytes(&certificate)
	head.bytes(&thumbprint)
	switch {
	case head.err != nil:
		return nil
	case uri != c.Policy.URI:
		return fmt.Errorf("%w: the channel has the policy %.80q instead of %s", ErrSecurity, uri, c.Policy.URI)
	case c.Policy.none():
		return nil
	case len(certificate) < len(c.Peer.Raw) || string(certificate[:len(c.Peer.Raw)]) != string(c.Peer.Raw):
		return fmt.Errorf("%w: the channel is opened by another certificate than the one that was shown before", ErrSecurity)
	}
	return nil
}
