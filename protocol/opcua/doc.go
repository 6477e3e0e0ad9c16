// Package opcua is the part of OPC UA that reading values takes: the messages of
// the binary protocol (IEC 62541-6, "UA-TCP, UA-SC, UA Binary") for opening a
// secure channel and a session and for the service Read, and nothing that could
// change a server: there is no Write, no Call, no Browse and no subscription in it.
//
// Numbers are little-endian. A text and a byte string have their length before
// them as Int32, -1 for none; so has an array its number of elements.
package opcua

import "errors"

// Bounds of what is taken. What goes beyond is an error, and never an allocation.
const (
	// MaxFrame is the largest chunk in bytes, header included: what is offered as
	// the receive buffer. IEC 62541-6 wants at least 8192.
	MaxFrame = 64 << 10
	// MinFrame is the smallest buffer that the other side may offer.
	MinFrame = 8192
	// MaxMessage is the largest message in bytes, put together from its chunks.
	MaxMessage = 1 << 20
	// MaxChunks is how many chunks a message may have.
	MaxChunks = 128
	// MaxRead is how many nodes one request reads, and so how many results are taken.
	MaxRead = 500
	// MaxEndpoints is how many endpoints of a server are looked at.
	MaxEndpoints = 100
	// maxList bounds every other array of a message in elements.
	maxList = 1000
	// maxDepth bounds values within values.
	maxDepth = 8
	// MaxText is the longest text that is written or taken, in bytes.
	MaxText = 64 << 10
	// MaxNodeID is the longest name in a node id, in characters (IEC 62541-3 8.2.4).
	MaxNodeID = 4096
)

// Errors of the decoder.
var (
	// ErrShort: the message ends in the middle of a field.
	ErrShort = errors.New("the message ends too early")
	// ErrBound: a length, a count or a depth is beyond what is taken.
	ErrBound = errors.New("the message is beyond what is taken")
	// ErrFormat: the bytes are not what the protocol has there.
	ErrFormat = errors.New("this is not OPC UA")
)
