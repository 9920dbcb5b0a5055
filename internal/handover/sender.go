//go:build unix

package handover

import "context"

// Sender gives connections to a receiver.
type Sender struct{}

// Takes waits for the receiver's hello and returns nil if it has a server of
// that name. It returns ErrDead, ErrVersion, ErrNoServer, or ctx.Err().
func (*Sender) Takes(ctx context.Context, server string) error { return ErrDead }

// Reserve reports whether the receiver has room for one more connection, and
// keeps it. Each Reserve must be followed by a Put.
func (*Sender) Reserve() bool { return false }

// Put queues a connection, which is the sender's until settle is called: with
// nil when the receiver owns it, and its descriptor is to be closed; with an
// error if it didn't move and is the caller's again.
func (*Sender) Put(it *Item, settle func(*Item, error)) {}

// Failed is closed when nothing can be sent any more; Err tells why.
func (*Sender) Failed() <-chan struct{} { return nil }

// Err is why the sender has failed.
func (*Sender) Err() error { return nil }
