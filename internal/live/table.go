package live

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Config of New.
type Config struct {
	// Name of the server, by which a connection finds it in the next
	// generation.
	Name string
	// Log hears what becomes of connections at a drain. Required.
	Log logrus.FieldLogger
	// IdleTimeout is http.Server's for a connection between two requests:
	// IdleTimeout, or ReadTimeout where that is zero. 0: none.
	IdleTimeout time.Duration
	// HeadTimeout is http.Server's for a request's head: ReadHeaderTimeout, or
	// ReadTimeout where that is zero. 0: none.
	HeadTimeout time.Duration
	// Move says that connections may be handed over. It is off where SelfTest
	// fails.
	Move bool
	// Ledger counts along for a rescue after a crash; nil: nobody does.
	Ledger Ledger
}

// Table holds the connections of one http.Server. Its methods may be called from
// several goroutines.
type Table struct {
	name     string
	log      logrus.FieldLogger
	idle     time.Duration
	head     time.Duration
	move     func() error // whether connections can be handed over; nil: they are not to be
	ledger   Ledger
	injected *injected
	lot      *lot
	drain    atomic.Pointer[drain] // nil: serving
	cutting  atomic.Bool

	mu       sync.Mutex
	conns    map[*conn]struct{}
	open     int // conns that a drain waits for: HTTP/1 or not known yet
	pending  int // given to a sender, outcome unknown
	lives    int // how often Resume was called
	requests int64
	moved    int64
	adopted  int64
	closed   map[string]int64 // at a drain, by reason
}

// New returns an empty table.
func New(c Config) *Table {
	t := &Table{
		name:   c.Name,
		log:    c.Log,
		idle:   c.IdleTimeout,
		head:   c.HeadTimeout,
		ledger: c.Ledger,
		conns:  make(map[*conn]struct{}),
		closed: make(map[string]int64),
	}
	t.injected = newInjected()
	t.lot = newLot(t)
	if c.Move && canMove {
		t.move = SelfTest
		go tryMoving(c.Log)
	}
	return t
}

// tryMoving is beside all else that a start does: clients don't wait for it.
func tryMoving(log logrus.FieldLogger) {
	if err := SelfTest(); err != nil {
		log.WithError(err).Warn("connections can't be handed over: they will be drained")
	}
}

// Moves reports whether connections can be handed over at all; if not, why. It
// blocks until the self-test that New has begun is over.
func (t *Table) Moves() (bool, string) {
	switch {
	case !canMove:
		return false, "not supported on this system"
	case t.move == nil:
		return false, "switched off"
	}
	if err := t.move(); err != nil {
		return false, err.Error()
	}
	return true, ""
}

// moves is Moves without the reason.
func (t *Table) moves() bool { return t.move != nil && t.move() == nil }

// Wrap makes every connection that g accepts known to the table, before Accept
// returns it. The result is for http.Server.Serve or ServeTLS.
func (t *Table) Wrap(g *gate.Listener) net.Listener {
	multipath := mayBeMultipath(g)
	g.Track(func(nc net.Conn) net.Conn { return t.track(nc, multipath) })
	return g
}

// Injected returns the listener for a second Serve of the same http.Server: it
// gives out the connections that were adopted or taken back. Closing it closes
// those that nobody has accepted.
func (t *Table) Injected() net.Listener { return t.injected }

// track wraps a fresh connection.
func (t *Table) track(nc net.Conn, multipath bool) net.Conn {
	w, c := t.wrap(nc)
	if c == nil {
		return nc
	}
	c.stay.Store(multipath && isMultipath(c.sock))
	c.since.Store(now())
	c.headBegan = at(c.since.Load())
	_, tcp := nc.(*net.TCPConn)
	c.openAccount(tcp && !c.stay.Load())
	t.add(c)
	return w
}

func (t *Table) add(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = struct{}{}
	t.open++
}

// forget is the last that the table hears of a connection.
func (t *Table) forget(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[c]; !ok {
		return
	}
	delete(t.conns, c)
	t.requests += c.requests.Load()
	if !c.pinned {
		t.open--
	}
	t.tellDrain()
}

// pin says that a drain of HTTP/1 connections needn't wait for c any more.
func (t *Table) pin(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.conns[c]; ok && !c.pinned {
		c.pinned = true
		t.open--
		t.tellDrain()
	}
}

// State is for http.Server.ConnState: it must be called with every change. plain:
// net/http has the connection as the table gave it, so that it is no other's.
func (t *Table) State(nc net.Conn, s http.ConnState) (plain bool) {
	c, over := find(nc)
	if c == nil {
		return false
	}
	plain = over == nil
	switch s {
	case http.StateNew:
		c.setOver(over)
	case http.StateActive:
		if over != nil && c.phase() == fresh && isHTTP2(over) {
			c.pin(http2)
			return plain
		}
		c.setActive()
	case http.StateIdle:
		c.setIdle()
	case http.StateHijacked:
		c.pin(hijacked)
	}
	return plain
}

// Handle is one connection of a table, as its requests need it. That of a
// connection which is in no table is the zero Handle.
type Handle struct{ c *conn }

// Of returns nc's. nc is what http.Server.ConnContext was given.
func Of(nc net.Conn) Handle {
	c, _ := find(nc)
	return Handle{c}
}

// MayMove reports whether the connection outlives this generation, as far as is
// known now. While the table drains, a response on any other connection should
// say "Connection: close".
func (h Handle) MayMove() bool {
	if h.c == nil {
		return false
	}
	d := h.c.table.drain.Load()
	if d == nil {
		return h.c.movable()
	}
	return d.plan(h.c) != finish
}

// Request is what Holdouts tell of one.
type Request struct{ Method, URI string }

// Note remembers which request is being served. It costs one store. r must not
// change any more.
func (h Handle) Note(r *Request) {
	if h.c != nil {
		h.c.request.Store(r)
	}
}

// Counts tells how many connections there are, and what became of the others.
func (t *Table) Counts() control.Conns {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := control.Conns{
		Requests: t.requests,
		Moved:    t.moved,
		Adopted:  t.adopted,
		Idle:     t.lot.len() + t.pending,
	}
	for c := range t.conns {
		n.Requests += c.requests.Load()
		switch p := c.phase(); {
		case c.pinned || c.over != nil:
			n.Pinned++
		case p == active:
			n.Active++
		default:
			n.Idle++
		}
	}
	n.Open = n.Idle + n.Active + n.Pinned
	if len(t.closed) > 0 {
		n.Closed = make(map[string]int64, len(t.closed))
		for why, k := range t.closed {
			n.Closed[why] = k
		}
	}
	return n
}

var _ handover.Target = (*Table)(nil)
