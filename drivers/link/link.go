// Package link is how instruments are reached: serial ports over two backends,
// TCP and HTTP in both directions, the topics of an MQTT broker, folders, registers and OPC UA nodes. It opens, reads, writes and
// closes; reconnecting is the agent's work (agent/supervise), meaning is the
// drivers'.
package link

import (
	"context"
	"errors"
	"time"
)

// Conn is an open link to an instrument. One goroutine reads; Close and
// SetReadDeadline may be called from any.
type Conn interface {
	// Read waits for at least one byte. It returns os.ErrDeadlineExceeded
	// (wrapped) when the read deadline passes, ErrClosed after Close, and
	// ErrUnplugged when the other side, or the adapter, went away. It never
	// returns 0, nil.
	Read(p []byte) (int, error)
	// Write writes all of p or fails.
	Write(p []byte) (int, error)
	// SetReadDeadline bounds the current and the later reads; the zero time
	// takes the bound away.
	SetReadDeadline(t time.Time) error
	// Close ends the link and makes a blocked Read return.
	Close() error
}

// Errors that every kind of link maps its own to.
var (
	// ErrClosed: this side closed the link.
	ErrClosed = errors.New("link closed")
	// ErrUnplugged: the other side ended the connection, or the serial adapter
	// is gone.
	ErrUnplugged = errors.New("the other side is gone")
)

// errEmptyRead: a read into nothing could only give 0, nil.
var errEmptyRead = errors.New("read into an empty buffer")

// An Endpoint is a parsed connect URL with its defaults filled in, ready to be
// opened any number of times.
type Endpoint interface {
	// Scheme is what the URL begins with: "tcp", "serial", "http" and so on.
	Scheme() string
	// String is the URL in full without secrets, for people.
	String() string
	// Open opens the link. ctx bounds the opening only.
	Open(ctx context.Context) (Conn, error)
}
