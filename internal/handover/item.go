package handover

import (
	"errors"
	"io"
	"time"
)

// Item is one connection on its way.
type Item struct {
	// Server names the server that the connection belongs to.
	Server string
	// FD is the connection's descriptor. The item owns it, by Owner if that is
	// set.
	FD int
	// Owner is what closes FD: the net.Conn that FD was taken from. nil: FD is
	// bare.
	Owner io.Closer
	// Prefix are the bytes of the next request's head that were read from the
	// connection already.
	Prefix []byte
	// Since is when the connection fell idle, or was accepted.
	Since time.Time
	// HeadSince is when the time allowed for the next request's head began;
	// zero: it has not begun.
	HeadSince time.Time
	// Served says that a request was answered on the connection.
	Served bool

	settle func(*Item, error) // of the sender
}

// Close closes the connection's descriptor.
func (i *Item) Close() error {
	if i.Owner != nil {
		return i.Owner.Close()
	}
	return closeFD(i.FD)
}

// Why a connection was not moved: errors.Is of what Sender tells.
var (
	// ErrNoRoom means that the receiver has too few descriptors left.
	ErrNoRoom = errors.New("receiver has too few descriptors left (raise RLIMIT_NOFILE)")
	// ErrNoServer means that the receiver has no server of that name.
	ErrNoServer = errors.New("receiver has no server of that name")
	// ErrVersion means that the receiver speaks no version of this protocol
	// that the sender speaks.
	ErrVersion = errors.New("receiver speaks another version of the handover protocol")
	// ErrNoHello means that the receiver doesn't take connections: it has
	// closed the link, or said nothing.
	ErrNoHello = errors.New("receiver doesn't take connections")
	// ErrDead means that the receiver's process has ended.
	ErrDead = errors.New("receiver is dead")
	// ErrRefused means that the receiver would not have it, for a reason of
	// its own.
	ErrRefused = errors.New("receiver refused it")
	// ErrClosed means that the sender was closed before the connection was
	// sent.
	ErrClosed = errors.New("handover is over")
)
