package live

// Ledger opens accounts of connections, from which somebody who outlives this
// process learns how far each of them got.
type Ledger interface {
	// Accepted begins the account of a TCP connection with descriptor fd that
	// was accepted this very moment: nothing has passed in any process. It makes
	// no system call. nil: this connection has no account.
	Accepted(fd int) Account
	// Open begins the account of the connection with descriptor fd, from and to
	// which nothing has passed in this process. prefix are the bytes of its
	// next request's head that were consumed by another process; they will be
	// told to Read once more. nil: this connection has no account.
	Open(fd int, prefix []byte) Account
	// Claim is Open for a connection that comes from another process, which may have
	// it still. Nothing passes before Own.
	Claim(fd int, prefix []byte) Account
}

// Account follows one connection that speaks HTTP/1 in plaintext. read and
// written are totals of bytes since Open. Its methods are called often, by
// one goroutine at a time except for Write and Copied, which a handler may call
// beside Read. They must not block, nor keep what they are given. Close is the
// last.
type Account interface {
	// Own: nobody else has the connection.
	Own()
	// Boundary: the connection is between two requests.
	Boundary(read, written int64)
	// Unknown: it has answered one, and some bytes of the next were read, but
	// nobody can tell how many.
	Unknown(written int64)
	// First is memory which outlives this process: the first bytes of the next
	// read should go there at once, in the same system call. nil: it doesn't
	// matter where they go, as it doesn't for most requests.
	First() []byte
	// Read: b was read.
	Read(b []byte)
	// Active: the head of a request has been read; its handler is about to run.
	Active()
	// Write: b is about to be written.
	Write(b []byte)
	// Copied: n bytes were written without Write (sendfile).
	Copied(n int64)
	// Leave: the connection is about to be sent to another process, which may
	// own it from now on. Back undoes that: the last prefix bytes will be told to
	// Read once more.
	Leave()
	Back(prefix int)
	// Pin: nothing is known of the connection any more.
	Pin()
	// Close comes before the descriptor is closed.
	Close()
}
