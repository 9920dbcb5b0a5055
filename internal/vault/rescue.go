package vault

import (
	"net/netip"
	"time"
)

// DefaultTimeout is how long a dead worker's vault may live, unless
// Options.Timeout says otherwise.
const DefaultTimeout = time.Second

// Options of a rescue.
type Options struct {
	// Timeout bounds the time until the vault is dead; what has not been
	// fetched by then is lost. 0: DefaultTimeout.
	Timeout time.Duration
	// Listen has the addresses of the service's TCP listeners, by which a
	// connection is known that was accepted but not yet in the table. The
	// unspecified address stands for all.
	Listen []netip.AddrPort
	// Others has the addresses of the worker's other TCP listeners: what was
	// accepted there is none of the table's, but it ends in good order.
	Others []netip.AddrPort
	// Doubt: another process may have been sending connections to the dead one. One
	// that looks as if it was just being accepted counts as claimed.
	Doubt bool
	// Page is the answer's body; nil: a line of text.
	Page *Page
	// NoIdle ends idle connections instead of returning them: no worker is
	// going to take them.
	NoIdle bool
}

// Conn is a connection that the next worker goes on with. It has unread bytes
// where the next request has begun to arrive.
type Conn struct {
	FD     int    // the receiver's to close, non-blocking and close-on-exec
	Server uint32 // as the worker numbered it
	Marked bool   // the worker had it in its table; else Server isn't known
	RX, TX uint64 // consumed and written so far, for Table.Adopted
	Local  netip.AddrPort
	Cookie uint64        // SO_COOKIE
	Else   Judgment      // in Sent and Claimed only: what it is if nobody else has it
	Taken  bool          // in Sent and Claimed only: somebody else has read from it, or written to it
	Quiet  time.Duration // nothing has been sent or received for so long
	Waits  bool          // for an answer: some of the next request was there
}

// Counts says what became of the connections of a worker.
type Counts struct {
	Idle   int `json:"idle"`   // go on: those that were idle, and Done
	Done   int `json:"done"`   // of Idle: answered, and the worker died before it took note
	S500   int `json:"s500"`   // answered with 500
	S503   int `json:"s503"`   // answered with 503
	Cut    int `json:"cut"`    // a part of the response was out
	Ended  int `json:"ended"`  // nothing was open on them
	Closed int `json:"closed"` // not HTTP/1 over TCP: sent bytes arrive, then it ends
	Sent   int `json:"sent"`   // on their way to another process
	Lost   int `json:"lost"`   // not fetched: reset by the kernel if bytes were unread
}

// Rescued is the result of a rescue. Whoever gets it owns the descriptors in
// Idle, Sent and Claimed.
type Rescued struct {
	Idle []Conn
	// Sent were on their way to another process. While that one lives, close
	// them plainly, without a shutdown.
	Sent []Conn
	// Claimed came from another process, which may have them still: to be treated
	// likewise. They are not counted.
	Claimed []Conn
	Ended   []uint64 // cookies of all others that were connections of the worker
	Counts  Counts
	Took    time.Duration // until the vault was dead
	// Err says why connections were lost, if any were. syscall.EMFILE: the
	// keeper's RLIMIT_NOFILE is too low for a worker with so many.
	Err error
	// Settled is closed when the last answer is through and its connection
	// closed: at most 10 s later, mostly at once.
	Settled <-chan struct{}
}

// Add counts one.
func (c *Counts) Add(v Verdict) {
	switch v {
	case Idle:
		c.Idle++
	case Done:
		c.Idle++
		c.Done++
	case Answer500:
		c.S500++
	case Answer503:
		c.S503++
	case Cut:
		c.Cut++
	case Ended, Drop:
		c.Ended++
	case Close:
		c.Closed++
	case Leave:
		c.Sent++
	}
}
