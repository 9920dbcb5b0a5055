package vault

// Account keeps the line of one HTTP/1 connection from what passes through it.
// First, Read, Boundary, Unknown, Active, Own, Leave, Back, Pin and Close are called by one
// goroutine at a time; Write and Copied may be called beside Read.
type Account struct {
	table *Table
	fd    int
	over  bool   // pinned: the bytes mean nothing
	rx0   uint64 // the kernel's counts where those of the caller begin
	tx0   uint64

	// Of the reading side.
	read   uint64 // told so far
	ahead  uint64 // consumed, and to be told yet
	begin  uint64 // of read, where the current request begins
	phase  requestPhase
	active bool
	head   []byte // of the request, if it didn't come in one piece
	kind   Kind
	req    Request
	body   Chunks
	behind []byte            // of the requests behind it, as long as none was let go
	tail   [maxBuffered]byte // the last bytes told
	strays bool              // line ends may come that are no part of a request; see First
	posted bool              // a POST was read
	messy  bool              // line ends came that were no part of a request

	// Of the writing side.
	written uint64
	resp    Response
}

// maxBuffered is how many bytes before a boundary's report can belong to the
// request behind it: net/http peeks at four.
const maxBuffered = 3

type requestPhase int

const (
	readingHead requestPhase = iota
	readingChunks
	readAll // or it isn't known what is being read
)

// maxBehind is more than net/http ever reads ahead.
const maxBehind = 8 << 10

// Follow begins the account of a connection that nothing has passed through in
// this process, and its line. prefix is what another process has consumed, and
// will be told to Read again. It costs a few system calls. A connection which
// isn't TCP can't be rescued: its Account is pinned from the start.
func (t *Table) Follow(fd int, server uint32, prefix []byte) *Account {
	return t.follow(fd, server, prefix, HTTP1)
}

// FollowClaimed is Follow for a connection that comes from another process, which may
// have it still. Nothing may pass through it before Own.
func (t *Table) FollowClaimed(fd int, server uint32, prefix []byte) *Account {
	return t.follow(fd, server, prefix, Claimed)
}

func (t *Table) follow(fd int, server uint32, prefix []byte, s State) *Account {
	a := &Account{table: t, fd: fd, strays: true}
	rx, consumed := uint64(0), unknown
	c, ok := counts(fd)
	if a.over = !ok || c.Consumed < uint64(len(prefix)); !a.over {
		a.rx0, a.tx0 = c.Consumed-uint64(len(prefix)), c.Written
		a.ahead = uint64(len(prefix))
		// It may take a while until Read is told: with line ends only it is idle.
		rx, consumed = c.Consumed-uint64(len(trimLineEnds(prefix))), c.Consumed
	}
	switch {
	case s == Claimed:
		t.Claimed(fd, server, rx, a.tx0, consumed)
	case a.over:
		t.Adopted(fd, server, 0, 0)
		t.Pin(fd)
	default:
		t.Adopted(fd, server, rx, a.tx0)
	}
	return a
}

// Own says that nobody else has the connection.
func (a *Account) Own() {
	if a.over {
		a.table.Pin(a.fd)
		return
	}
	a.table.Owned(a.fd)
}

// FollowAccepted is Follow for a TCP connection that was accepted this very moment.
// It makes no system call.
func (t *Table) FollowAccepted(fd int, server uint32) *Account {
	t.Accepted(fd, server)
	return &Account{table: t, fd: fd}
}

// Boundary says that the connection is between two requests: of what was read
// since the beginning, read bytes belong to those before. It is called when the
// next byte is wanted, so at most three may have been told already.
func (a *Account) Boundary(read, written int64) {
	if a.over {
		return
	}
	a.begin, a.written = uint64(read), uint64(written)
	var head []byte
	if k := a.read - a.begin; a.begin < a.read && k <= maxBuffered {
		all := a.tail[maxBuffered-k:]
		head = trimLineEnds(all)
		a.pass(len(all) - len(head))
	}
	a.table.Boundary(a.fd, a.rx0+a.begin, a.tx0+a.written)
	a.next(readingHead)
	switch {
	case a.begin >= a.read:
		a.told(a.begin - a.read) // some were passed over
	case len(head) > 0:
		a.head = append(a.head, head...)
	default:
		a.phase, a.strays = readAll, true
	}
}

// trimLineEnds takes off what may come before a request, and is no part of it: some
// clients send an empty line after a body. A connection on which nothing else has
// come is idle.
func trimLineEnds(b []byte) []byte {
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}

// Unknown says the same of a connection on which bytes of the next request have
// been read, nobody knows how many. If it is known where the last one ended, and
// what was read behind it, the account goes on from there.
func (a *Account) Unknown(written int64) {
	if a.over {
		return
	}
	a.written = uint64(written)
	behind, end := a.behind, a.begin+a.req.End
	if len(behind) == 0 || end+uint64(len(behind)) != a.read {
		a.table.Unknown(a.fd, a.tx0+a.written)
		a.next(readAll)
		a.strays = true
		return
	}
	a.begin = end
	a.table.Boundary(a.fd, a.rx0+a.begin, a.tx0+a.written)
	a.next(readingHead)
	a.readHead(behind)
	a.readBehind(behind)
}

func (a *Account) next(p requestPhase) {
	a.phase, a.active = p, false
	a.head, a.kind, a.req, a.body, a.behind = nil, 0, Request{}, Chunks{}, nil
	a.resp.Begin(0)
}

// Read says that b was read.
func (a *Account) Read(b []byte) {
	if a.over || len(b) == 0 {
		return
	}
	at := a.read
	a.told(uint64(len(b)))
	a.keepTail(b)
	switch a.phase {
	case readingHead:
		a.readHead(b)
	case readingChunks:
		a.readChunks(b, at-a.begin)
	}
	a.readBehind(b)
}

// told counts n more bytes.
func (a *Account) told(n uint64) {
	a.read += n
	a.ahead -= min(a.ahead, n)
}

// readBehind keeps what b has of the requests behind this one. Line ends it takes
// for a part of this one.
func (a *Account) readBehind(b []byte) {
	end := a.begin + a.req.End
	if a.req.End == 0 || a.read <= end {
		return
	}
	more := b[uint64(len(b))-min(a.read-end, uint64(len(b))):]
	switch kept := len(a.behind); {
	case end+uint64(kept+len(more)) != a.read: // some were let go
	case kept+len(more) > maxBehind:
		a.behind = nil
	case kept > 0 || len(trimLineEnds(more)) > 0:
		a.behind = append(a.behind, more...)
	default:
		a.messy = true
		a.req.End += uint64(len(more))
		if a.active {
			a.table.RequestEnd(a.fd, a.end())
		}
	}
}

// First is where the first bytes of the next read should go at once; nil: it
// doesn't matter. See [Table.First]. It matters behind a POST, after which net/http
// forgives line ends, or where it isn't known what came before; but not where a request
// has come behind a POST without any: a client always sends them, or never does.
func (a *Account) First() []byte {
	if !a.strays || a.over || !a.active && (a.phase != readingHead || a.read != a.begin) {
		return nil
	}
	return a.table.First(a.fd)
}

func (a *Account) keepTail(b []byte) {
	if len(b) >= maxBuffered {
		copy(a.tail[:], b[len(b)-maxBuffered:])
		return
	}
	copy(a.tail[:], a.tail[len(b):])
	copy(a.tail[maxBuffered-len(b):], b)
}

func (a *Account) readHead(b []byte) {
	if n := len(a.head); n > 0 {
		a.head = append(a.head, b...)
		b = a.head
		if a.kind != 0 && !hasEmptyLine(b[max(0, n-2):]) {
			a.partOfHead(b) // nothing new: to read all of it for every byte would take long
			return
		}
	} else if b = a.skipLineEnds(b); len(b) == 0 {
		return
	}
	a.req.parse(b)
	if a.req.Head == 0 {
		a.partOfHead(b)
		return
	}
	a.head = nil
	a.phase = readAll
	a.strays = a.req.Post && (a.messy || !a.posted)
	a.posted = a.posted || a.req.Post
	a.begun(a.req.Kind)
	if a.req.Chunked {
		a.phase = readingChunks
		a.readChunks(b[a.req.Head:], a.req.Head)
	}
}

func (a *Account) skipLineEnds(b []byte) []byte {
	rest := trimLineEnds(b)
	if n := len(b) - len(rest); n > 0 {
		a.pass(n)
		a.table.Boundary(a.fd, a.rx0+a.begin, a.tx0+a.written)
	}
	return rest
}

// pass goes by n bytes of line ends.
func (a *Account) pass(n int) {
	a.begin += uint64(n)
	a.messy = a.messy || n > 0
}

func (a *Account) partOfHead(b []byte) {
	a.begun(a.req.Kind)
	if len(b) > maxHead {
		a.head, a.phase, a.strays = nil, readAll, true
		return
	}
	if len(a.head) == 0 {
		a.head = append(a.head, b...)
	}
}

func (a *Account) begun(k Kind) {
	if a.kind != k {
		a.kind = k
		a.table.Begun(a.fd, k)
	}
}

// readChunks takes b, which lies at bytes behind the request's first.
func (a *Account) readChunks(b []byte, at uint64) {
	n, found := a.body.Scan(b)
	if !found {
		return
	}
	a.phase = readAll
	a.req.End = at + uint64(n)
	if a.active {
		a.table.RequestEnd(a.fd, a.end())
	}
}

func (a *Account) end() uint64 {
	if a.req.End == 0 {
		return 0
	}
	return a.rx0 + a.begin + a.req.End
}

// Active says that a handler is about to get the request.
func (a *Account) Active() {
	if a.over {
		return
	}
	a.active = true
	a.table.Active(a.fd, a.end(), a.kind)
	a.resp.Begin(a.kind)
}

// Write says that b is about to be written.
func (a *Account) Write(b []byte) {
	if a.over {
		return
	}
	switch m := a.resp.Write(b); {
	case m.End == 0:
	case m.Interim:
		a.table.Interim(a.fd, a.tx0+a.written+m.End)
	case m.Last:
		a.table.Last(a.fd, a.tx0+a.written+m.End)
	default:
		a.table.Response(a.fd, a.tx0+a.written+m.End)
	}
	a.written += uint64(len(b))
}

// Copied says that n bytes were written that Write wasn't told of.
func (a *Account) Copied(n int64) { a.written += uint64(n) }

// Leave says that the connection is about to be sent to another process, which
// may own it from now on.
func (a *Account) Leave() {
	if a.over {
		a.table.Sent(a.fd, unknown)
		return
	}
	a.table.Sent(a.fd, a.rx0+a.read+a.ahead)
}

// Back undoes Leave. The last prefix bytes that were read will be told again.
func (a *Account) Back(prefix int) {
	if a.over {
		a.table.Pin(a.fd)
		return
	}
	a.read, a.ahead = a.read-uint64(prefix), a.ahead+uint64(prefix)
	a.begin = a.read
	a.next(readingHead)
	a.table.Owned(a.fd) // its boundary is right, though begin may be before line ends now
}

// Pin says that nothing is known of the connection any more.
func (a *Account) Pin() {
	a.over = true
	a.head = nil
	a.table.Pin(a.fd)
}

// Close comes before the descriptor is closed.
func (a *Account) Close() { a.table.Close(a.fd) }
