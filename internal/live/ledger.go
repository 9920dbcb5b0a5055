package live

// Ledger opens accounts of connections, from which somebody who outlives this
// process learns how far each of them got.
type Ledger interface {
	// Open begins the account of the connection with descriptor fd, of which
	// nothing was read or written in this process. prefix is how many bytes of
	// its next request's head have been consumed elsewhere, which this process
	// will count as read once more. nil: this connection has no account.
	Open(fd, prefix int) Account
}

// Account is what is known of one connection. read and written are totals of
// bytes since Open. The methods are called by one goroutine at a time, often,
// and must not block; Close is the last.
type Account interface {
	// Boundary: the connection is between two requests.
	Boundary(read, written int64)
	// Unknown: it may be, or not; until the next Boundary nobody can tell.
	Unknown()
	// Active: a request has been read, whose body ends when reqEnd bytes were
	// read (0: nobody can tell); its handler is about to run.
	Active(reqEnd int64)
	// Interim: an informational response is about to be written, and is
	// complete when end bytes are written.
	Interim(end int64)
	// Answer: the response will be complete when end bytes are written. It
	// comes before they are.
	Answer(end int64)
	// Pin: nothing is known of this connection any more.
	Pin()
	// Close comes before the descriptor is closed.
	Close()
}
