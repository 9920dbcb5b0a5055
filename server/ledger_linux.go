package server

import (
	"bytes"

	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/internal/vault"
)

// ledger writes down, in the table of a worker's vault, how far each connection
// of one server is.
type ledger struct {
	table  *vault.Table
	server uint32 // its number in the table
}

// Open implements live.Ledger.
func (l ledger) Open(fd, prefix int) live.Account {
	a := &account{table: l.table, fd: fd}
	if prefix == live.Accepted {
		l.table.Accepted(fd, l.server)
		return a
	}
	c, err := vault.Inspect(fd)
	if err != nil {
		l.table.Pin(fd) // no TCP: nothing is known of it
		return nil
	}
	a.rx, a.tx = c.Consumed-uint64(prefix), c.Written
	a.total = a.rx
	a.baseRX, a.baseTX = a.rx, a.tx
	l.table.Adopted(fd, l.server, a.rx, a.tx)
	return a
}

// account follows one connection. Its counts are the kernel's: of bytes since
// the connection was accepted, by whichever process.
type account struct {
	table *vault.Table
	fd    int

	baseRX, baseTX uint64 // when this process got it

	// Of the side that reads.
	total uint64        // consumed
	rx    uint64        // where the current request begins
	blind bool          // it isn't known where that is
	body  bool          // its head is through
	head  []byte        // what was read of it, if not all at once
	req   vault.Request // what it says
	done  bool          // req is complete
	kind  vault.Kind    // as far as it was told
	chunk vault.Chunks  // finds the end of its body
	tail  [3]byte       // the last bytes consumed

	// Of the side that writes.
	tx   uint64
	resp vault.Response
}

// Boundary implements live.Account. The first bytes of the next request may have
// been read with the last one.
func (a *account) Boundary(read, _ int64) {
	a.next(a.baseRX + uint64(read))
	a.table.Boundary(a.fd, a.rx, a.tx)
	a.total = max(a.total, a.rx) // of a prefix, line ends were left out
	if early := a.total - a.rx; early > 0 && early <= uint64(len(a.tail)) {
		a.seen(a.tail[uint64(len(a.tail))-early:])
	}
}

// Unknown implements live.Account.
func (a *account) Unknown(int64) {
	a.next(a.total)
	a.blind = true
	a.table.Unknown(a.fd, a.tx)
}

// next begins a request at rx.
func (a *account) next(rx uint64) {
	a.rx, a.blind, a.body, a.done = rx, false, false, false
	a.head, a.req, a.kind = a.head[:0], vault.Request{}, 0
}

// Read implements live.Account.
func (a *account) Read(b []byte) {
	a.total += uint64(len(b))
	if n := len(b); n >= len(a.tail) {
		copy(a.tail[:], b[n-len(a.tail):])
	} else {
		copy(a.tail[:], a.tail[n:])
		copy(a.tail[len(a.tail)-n:], b)
	}
	switch {
	case a.blind:
	case !a.body:
		a.seen(b)
	case a.req.Chunked:
		a.scan(b, a.total-uint64(len(b)))
	}
}

// maxHead bounds what is kept of a head that comes in pieces, in bytes. Of a
// longer one nothing is known.
const maxHead = 64 << 10

// seen takes bytes of the request's head. One that comes in one piece, as most
// do, isn't copied.
func (a *account) seen(b []byte) {
	if a.done {
		return // net/http doesn't read on before Active
	}
	all, from := b, 0
	if len(a.head) > 0 {
		from = max(0, len(a.head)-3) // where the end of the head may begin
		a.head = append(a.head, b...)
		all = a.head
	}
	switch {
	case headEnds(all[from:]):
		a.parse(all)
	case len(bytes.TrimLeft(all, "\r\n")) == 0:
		// Between two requests: it belongs to neither.
		a.next(a.rx + uint64(len(all)))
		a.table.Boundary(a.fd, a.rx, a.tx)
	case len(all) > maxHead:
		a.blind, a.head = true, nil
	default:
		if len(a.head) == 0 {
			a.head = append(a.head, b...)
		}
		a.tell(all, b)
	}
}

// headEnds reports whether there is an empty line in b.
func headEnds(b []byte) bool {
	return bytes.Contains(b, []byte("\n\r\n")) || bytes.Contains(b, []byte("\n\n"))
}

// tell says what kind of request it is once its first line is there.
func (a *account) tell(all, b []byte) {
	if a.kind == 0 && bytes.IndexByte(b, '\n') >= 0 {
		a.kind = vault.RequestKind(all)
		a.table.Begun(a.fd, a.kind)
	}
}

// parse takes a whole head, and what follows it.
func (a *account) parse(b []byte) {
	a.req = vault.ParseRequest(b)
	if a.req.Head == 0 {
		// Empty lines in front looked like its end.
		a.head = append(a.head[:0], b...)
		return
	}
	a.done = true
	if a.kind == 0 {
		a.kind = a.req.Kind
		a.table.Begun(a.fd, a.kind)
	}
	if a.req.Chunked {
		a.chunk = vault.Chunks{}
		a.scan(b[a.req.Head:], a.rx+a.req.Head)
	}
}

// scan looks for the end of a chunked body in b, which begins at the count at.
func (a *account) scan(b []byte, at uint64) {
	if a.req.End > 0 {
		return // found
	}
	if n, found := a.chunk.Scan(b); found {
		a.req.End = at + uint64(n) - a.rx
		if a.body {
			a.table.RequestEnd(a.fd, a.rx+a.req.End)
		}
	}
}

// Active implements live.Account.
func (a *account) Active() {
	a.body = true
	if a.blind || !a.done {
		a.table.Active(a.fd, 0, 0)
		a.resp.Begin(0)
		return
	}
	end := uint64(0)
	if a.req.End > 0 {
		end = a.rx + a.req.End
	}
	a.table.Active(a.fd, end, a.req.Kind)
	a.resp.Begin(a.req.Kind)
}

// Write implements live.Account.
func (a *account) Write(b []byte) {
	switch m := a.resp.Write(b); {
	case m.End == 0:
	case m.Interim:
		a.table.Interim(a.fd, a.tx+m.End)
	case m.Last:
		a.table.Last(a.fd, a.tx+m.End)
	default:
		a.table.Response(a.fd, a.tx+m.End)
	}
	a.tx += uint64(len(b))
}

// Copied implements live.Account.
func (a *account) Copied(n int64) { a.tx += uint64(n) }

// Leave implements live.Account.
func (a *account) Leave() { a.table.Sent(a.fd) }

// Back implements live.Account.
func (a *account) Back() { a.table.TakenBack(a.fd) }

// Pin implements live.Account.
func (a *account) Pin() { a.table.Pin(a.fd) }

// Close implements live.Account.
func (a *account) Close() { a.table.Close(a.fd) }
