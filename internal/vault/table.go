package vault

import (
	"sync/atomic"
	"unsafe"
)

// State says whose a connection is.
type State uint32

const (
	// Free: no connection, or one that was accepted this very moment.
	Free State = iota
	// HTTP1: the line tells where its boundaries are.
	HTTP1
	// Pinned: it can't be rescued (TLS, HTTP/2, hijacked).
	Pinned
	// Sent: it is on its way to another process, which may own it already.
	Sent
	// Claimed: it came from another process, which may have it still, as it hasn't been
	// told yet that it has arrived. Nothing was read or written here.
	Claimed
)

const (
	lineSize = 64
	// maxLines bounds the table, which is virtual until it is used: 64 MB.
	// Connections on higher descriptors aren't rescued.
	maxLines = 1 << 20
	// unknown as brx: the boundary lies somewhere before what was consumed.
	unknown = ^uint64(0)
	// magic is in line 0, where no connection can be: the Go runtime sees to
	// it that descriptors 0 to 2 are open. The digit is the layout's version.
	magic = 0x3274_6c75_6176_6374 // "tcvault2"
)

// line is what the worker says of one descriptor. A process can be killed
// between any two stores, so their order is part of the format: every method
// of Table says why its order leaves no state that reads wrong. A plain store
// comes before the atomic one that follows it; among each other, plain ones
// come in any order.
type line struct {
	state  uint32
	act    uint32 // actRunning, actLast, a Kind
	brx    uint64 // consumed by the worker where the current request begins
	btx    uint64 // written by the worker at that moment
	end    uint64 // written when the current response is complete; 0: unknown
	reqEnd uint64 // consumed when the current request is complete; 0: unknown. Sent, Claimed: see there
	alt    uint64 // written after an interim response (1xx); stale when below btx
	server uint32
	first  uint32 // maxFirst bytes behind the boundary, where the kernel has put them; see First
	_      [8]byte
}

// maxFirst is more than the line ends that come behind a body.
const maxFirst = 4

// Line is a copy of a descriptor's line, as a keeper reads it.
type Line struct {
	FD      int
	State   State
	Running bool // a handler had the request
	Last    bool // the server closes the connection after this response
	Kind    Kind
	Server  uint32
	// Counts of bytes since the connection was accepted; see the line's
	// fields in the package's source.
	BRX, BTX, End, ReqEnd, Alt uint64
	First                      [maxFirst]byte
}

// Table is the worker's side: one line for every descriptor, written by whoever
// serves the connection, which is one goroutine at a time. All methods do
// nothing on a nil Table, and nothing for a descriptor beyond the table's end.
// They allocate nothing and make no system call.
//
// rx and tx are counts of bytes consumed and written since the connection was
// accepted by whichever process did so: what the kernel has counted. Who adopts
// a connection takes them from [Inspect].
type Table struct {
	lines []line
}

func newTable(mem []byte) *Table {
	lines := unsafe.Slice((*line)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/lineSize)
	lines[0].brx = magic
	return &Table{lines: lines}
}

func (t *Table) line(fd int) *line {
	if t == nil || uint(fd) >= uint(len(t.lines)) {
		return nil
	}
	return &t.lines[fd]
}

// Accepted begins a connection. server is the caller's own number for the
// server that it belongs to.
func (t *Table) Accepted(fd int, server uint32) { t.Adopted(fd, server, 0, 0) }

// Adopted begins a connection that another process accepted, at a request
// boundary at rx and tx. What it was handed of the next request is consumed but
// not part of rx.
func (t *Table) Adopted(fd int, server uint32, rx, tx uint64) {
	t.begin(fd, server, rx, tx, 0, HTTP1)
}

// Claimed is Adopted for a connection which that process may still believe to be its
// own; consumed as in Sent.
func (t *Table) Claimed(fd int, server uint32, rx, tx, consumed uint64) {
	t.begin(fd, server, rx, tx, consumed+1, Claimed)
}

func (t *Table) begin(fd int, server uint32, rx, tx, reqEnd uint64, s State) {
	l := t.line(fd)
	if l == nil {
		return
	}
	l.brx, l.btx = rx, tx
	l.end, l.reqEnd, l.alt = 0, reqEnd, 0
	l.act, l.server, l.first = 0, server, 0
	atomic.StoreUint32(&l.state, uint32(s)) // last: the others mean nothing before
}

// Boundary says that all requests before have been answered, and that the next
// one begins at rx. Bytes which are consumed but belong to no request, such as
// an empty line after a body, should be counted in rx.
func (t *Table) Boundary(fd int, rx, tx uint64) {
	l := t.line(fd)
	if l == nil {
		return
	}
	// As long as end stands, it decides. Where it was unknown, the old btx
	// reads as a response of unknown length; the new one must not appear
	// while the handler still seems to run.
	l.first = 0
	l.brx, l.act = rx, 0
	atomic.StoreUint64(&l.btx, tx)
	zero(&l.end)
	zero(&l.reqEnd)
}

// zero saves the locked instruction where there is nothing to clear.
func zero(v *uint64) {
	if *v != 0 {
		atomic.StoreUint64(v, 0)
	}
}

// Unknown says that all requests before have been answered, and that some bytes
// of the next one have been consumed, but not how many.
func (t *Table) Unknown(fd int, tx uint64) { t.Boundary(fd, unknown, tx) }

// First is where the first bytes that are read behind a request should go at once,
// by the same read(2): a process that is killed right after it can't tell any more
// what they were. nil: there is no such place.
func (t *Table) First(fd int) []byte {
	l := t.line(fd)
	if l == nil {
		return nil
	}
	return (*[maxFirst]byte)(unsafe.Pointer(&l.first))[:]
}

// Begun says what is known of a request whose first bytes were read; see
// [RequestKind].
func (t *Table) Begun(fd int, k Kind) {
	if l := t.line(fd); l != nil {
		atomic.StoreUint32(&l.act, uint32(k))
	}
}

// Active says that a handler is about to get the request, which ends at reqEnd;
// see [ParseRequest]. 0 means that its end is not known yet.
func (t *Table) Active(fd int, reqEnd uint64, k Kind) {
	if l := t.line(fd); l != nil {
		l.reqEnd, l.first = reqEnd, 0
		atomic.StoreUint32(&l.act, uint32(k)|actRunning)
	}
}

// RequestEnd says where the current request ends, when it has turned out.
func (t *Table) RequestEnd(fd int, reqEnd uint64) {
	if l := t.line(fd); l != nil {
		atomic.StoreUint64(&l.reqEnd, reqEnd)
	}
}

// Interim must come before an interim response (1xx) is written; tx is the
// count after it.
func (t *Table) Interim(fd int, tx uint64) {
	l := t.line(fd)
	if l == nil {
		return
	}
	// Both counts mean that the final response hasn't begun: before this
	// write, and after it.
	if l.alt > l.btx {
		atomic.StoreUint64(&l.btx, l.alt)
	}
	atomic.StoreUint64(&l.alt, tx)
}

// Response says at which count of written bytes the response is complete. It
// must come before the write that reaches it, best before the first.
func (t *Table) Response(fd int, end uint64) {
	if l := t.line(fd); l != nil {
		atomic.StoreUint64(&l.end, end)
	}
}

// Last is Response for one after which the server closes the connection.
func (t *Table) Last(fd int, end uint64) {
	if l := t.line(fd); l != nil {
		l.act |= actLast
		atomic.StoreUint64(&l.end, end)
	}
}

// Pin says that the connection can't be rescued from now on: it isn't HTTP/1,
// or someone else has taken it over. Still, what was sent on it arrives.
func (t *Table) Pin(fd int) { t.setState(fd, Pinned) }

// Sent must come before the connection is sent to another process, so that no
// keeper gives it to a third. rx tells from now on whether that process has touched
// it; unknown: nobody can tell.
func (t *Table) Sent(fd int, rx uint64) {
	if l := t.line(fd); l != nil {
		l.reqEnd = rx + 1 // no request is open; 0, as of workers that say nothing here: unknown
		atomic.StoreUint32(&l.state, uint32(Sent))
	}
}

// Owned says that the connection is this process's now: it was Claimed, and its sender
// has been told so; or it was Sent, and the receiver is dead, or refused it.
func (t *Table) Owned(fd int) {
	if l := t.line(fd); l != nil {
		l.reqEnd = 0
		atomic.StoreUint32(&l.state, uint32(HTTP1))
	}
}

// Close must come before close(2), after which the number may already be
// another connection's.
func (t *Table) Close(fd int) { t.setState(fd, Free) }

func (t *Table) setState(fd int, s State) {
	if l := t.line(fd); l != nil {
		atomic.StoreUint32(&l.state, uint32(s))
	}
}
