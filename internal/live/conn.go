package live

import (
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/rawio"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// phase of a connection's life.
type phase uint32

const (
	fresh    phase = iota // no request was read in full since it was accepted, or adopted
	active                // a request is being served
	idle                  // between two requests
	hijacked              // by a handler
	http2                 // or whatever else shares a connection between requests
	detached              // given away: this process must not touch it
	closed
)

var phaseNames = [...]string{"new", "active", "idle", "hijacked", "http2", "moving", "closed"}

// conn is the life of one connection.
type conn struct {
	sock    socket
	table   *Table
	account Account  // nil: none
	over    net.Conn // what net/http has on top: TLS, or a wrapper that we don't know; nil: nothing

	// What each request needs is together: it is seldom in the processor's caches
	// when a request comes.

	state    atomic.Uint32 // phase
	limited  atomic.Bool   // writes have, or had, a deadline
	since    atomic.Int64  // of the phase
	requests atomic.Int64
	request  atomic.Pointer[Request]
	written  atomic.Int64
	telling  sync.Mutex // of writes, to the account: the answer to a crash may meet a "100 Continue"

	mu       sync.Mutex
	kicked   bool          // the socket has a deadline of ours instead
	idling   bool          // adopted while idle, and silent since: net/http takes it for a new one
	sets     int           // how often net/http has set the deadline since StateIdle
	deadline time.Time     // of reads, as net/http wants it
	inside   int           // reads during a request that are in the socket
	hushed   bool          // such a read fails before it gets there
	spent    time.Duration // of the time for the first head, before it was adopted

	head   head // of the next request
	raw    rawio.Conn
	record record // of TLS

	allowed time.Duration // when idling ends: net/http's limit for the head; 0: none
	pinned  bool          // no drain of HTTP/1 connections waits for it; guarded by table.mu
	stay    atomic.Bool   // this one never moves
	culled  atomic.Bool   // closed by a drain, while idle

	// Where the connection stood when it was accepted or adopted.
	served    bool      // a request had been answered on it
	headBegan time.Time // see handover.Item.HeadSince
}

func (c *conn) init(t *Table, s socket) {
	c.table = t
	c.sock = s
	c.head.atBoundary = true
}

// openAccount is for a fresh connection; tcp: it surely is one of plain TCP.
func (c *conn) openAccount(tcp bool) {
	if c.table.ledger == nil {
		return
	}
	fd, err := fdOf(c.sock)
	switch {
	case err != nil:
	case tcp:
		c.account = c.table.ledger.Accepted(fd)
	default:
		c.account = c.table.ledger.Open(fd, nil)
	}
}

func (c *conn) phase() phase { return phase(c.state.Load()) }

// between reports whether only net/http's goroutine for the connection touches
// it, and no request is under way.
func (p phase) between() bool { return p == fresh || p == idle }

// movable reports whether the connection can ever move.
func (c *conn) movable() bool {
	return c.table.moves() && !c.stay.Load() && c.over == nil && c.phase() <= idle
}

// setOver comes before net/http's goroutine starts.
func (c *conn) setOver(over net.Conn) {
	if over == nil {
		return
	}
	c.table.mu.Lock() // Counts reads it
	c.over = over
	c.table.mu.Unlock()
	_, c.record.tls = over.(*tls.Conn)
	if c.account != nil {
		c.account.Pin()
	}
}

// setActive: a request's head has been read.
func (c *conn) setActive() {
	c.mu.Lock()
	if !c.phase().between() {
		c.mu.Unlock()
		return // net/http says so once more when a detached connection ends
	}
	c.unkickLocked()
	c.spent = 0
	c.enter(active)
	c.mu.Unlock()
	c.requests.Add(1)
	c.head.taken(c)
}

// setIdle: a response is complete.
func (c *conn) setIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase() != active {
		return
	}
	c.sets = 0
	c.head.atBoundary = true
	c.record.idle()
	c.request.Store(nil)
	c.enter(idle)
}

func (c *conn) enter(p phase) {
	c.state.Store(uint32(p))
	c.since.Store(now())
}

// pin makes the connection one that nobody but its user knows anything of.
func (c *conn) pin(p phase) {
	c.mu.Lock()
	if q := c.phase(); q > idle && q != p {
		c.mu.Unlock()
		return
	}
	c.unkickLocked()
	c.enter(p)
	c.mu.Unlock()
	if c.account != nil {
		c.account.Pin()
	}
	c.table.pin(c)
}

func (c *conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.phase()
	if p == detached {
		return nil
	}
	if p == fresh && c.idling {
		c.allowed = max(0, time.Until(t))
		return nil
	}
	if p == fresh && !t.IsZero() {
		t = t.Add(-c.spent)
	}
	c.sets++
	c.hushed = false
	switch {
	case t.IsZero() && c.deadline.IsZero() && !c.kicked && p <= idle:
		return nil // as it is: of what net/http sets for each request, most
	case p == active && c.inside == 0 && c.over == nil && t.Equal(past):
		c.hushed = true
		return nil // see goIn
	}
	c.deadline = t
	c.kicked = false
	return c.sock.SetReadDeadline(t)
}

func (c *conn) setDeadline(t time.Time) error {
	if err := c.setReadDeadline(t); err != nil {
		return err
	}
	return c.setWriteDeadline(t)
}

func (c *conn) setWriteDeadline(t time.Time) error {
	p := c.phase()
	if p == detached {
		return nil
	}
	if !t.IsZero() {
		c.limited.Store(true)
	} else if p <= idle && !c.limited.Load() {
		return nil // net/http takes away what nobody has set, after each request
	}
	return c.sock.SetWriteDeadline(t)
}

// idleSince makes the connection subject to the limit for idle ones, until its
// client talks.
func (c *conn) idleSince(since time.Time) {
	c.idling = true
	if limit := c.table.idle; limit > 0 {
		c.deadline = since.Add(limit)
		c.sock.SetReadDeadline(c.deadline)
	}
}

// talks ends idling: the time for the head begins.
func (c *conn) talks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idling = false
	c.deadline = time.Time{}
	if c.allowed > 0 {
		c.deadline = time.Now().Add(c.allowed)
	}
	c.kicked = false
	c.sock.SetReadDeadline(c.deadline)
}

var past = time.Unix(1, 0)

// kick ends a Read between two requests, so that its goroutine looks at the
// table's drain. It never takes a byte from the socket: with a deadline in the
// past the runtime's poller fails before it reads.
func (c *conn) kick() { c.kickAt(past) }

// kickAt is kick at a time to come, unless net/http's deadline is earlier.
func (c *conn) kickAt(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phase().between() {
		return
	}
	if !c.deadline.IsZero() && c.deadline.Before(t) {
		t = c.deadline
	}
	c.kicked = true
	c.sock.SetReadDeadline(t)
}

// unkick gives the socket net/http's deadline again, and reports whether a
// timeout was of our making only.
func (c *conn) unkick() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := c.kicked && (c.deadline.IsZero() || time.Now().Before(c.deadline))
	c.unkickLocked()
	return ours
}

func (c *conn) unkickLocked() {
	if c.kicked {
		c.kicked = false
		c.sock.SetReadDeadline(c.deadline)
	}
}

func (c *conn) write(p []byte) (int, error) {
	if c.phase() == detached {
		return len(p), nil // a "400 Bad Request" for half a head, at most
	}
	if c.account != nil {
		c.telling.Lock()
		c.account.Write(p)
		c.telling.Unlock()
	}
	n, err := c.raw.Write(c.sock, p)
	c.written.Add(int64(n))
	return n, err
}

// copied is told of bytes that passed by write.
func (c *conn) copied(n int64) {
	c.written.Add(n)
	if c.account != nil {
		c.telling.Lock()
		c.account.Copied(n)
		c.telling.Unlock()
	}
}

func (c *conn) closeWrite() error {
	if c.phase() == detached {
		return nil
	}
	return c.sock.CloseWrite()
}

func (c *conn) close() error {
	c.mu.Lock()
	was := c.phase()
	if was == detached {
		c.mu.Unlock()
		return nil // by net/http; the socket lives on
	}
	c.enter(closed)
	c.mu.Unlock()
	if was != closed && c.account != nil {
		c.account.Close()
	}
	err := c.sock.Close()
	if was != closed {
		c.table.ended(c, was)
	}
	return err
}

// describe needs table.mu.
func (c *conn) describe() control.Conn {
	d := control.Conn{
		Service: c.table.name,
		Peer:    peer(c.sock),
		State:   phaseNames[c.phase()],
		Since:   at(c.since.Load()),
	}
	if c.over != nil && c.phase() <= idle {
		d.State = "tls"
	}
	if r := c.request.Load(); r != nil {
		path, _, _ := strings.Cut(r.URI, "?")
		d.Request = short(r.Method + " " + path)
	}
	return d
}

// maxRequest bounds what is told of a request, in bytes: several descriptions must fit
// into one message.
const maxRequest = 500

func short(s string) string {
	if len(s) <= maxRequest {
		return s
	}
	return strings.ToValidUTF8(s[:maxRequest], "") + "…"
}

// peer names the other side; most clients of unix sockets have no name.
func peer(s socket) string {
	if a := s.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
