package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// table knows the connections of one service that can't move: TLS, HTTP/2,
// those of wrapped listeners, those of Conns.
type table struct {
	service string

	mu      sync.Mutex
	conns   map[net.Conn]*conn // by what the listener accepted
	idle    time.Duration      // of a connection that turns idle; < 0: no drain
	changed chan struct{}      // one token: a connection has gone
	closed  map[string]int64   // at a drain, by reason

	entries  atomic.Int32 // len(conns)
	requests atomic.Int64
}

// conn is one of them.
type conn struct {
	t     *table
	key   net.Conn
	c     net.Conn // what is to be closed: key, or TLS on it
	state string
	since time.Time

	elsewhere bool // another table counts it too
}

// States, as control.Conn has them.
const (
	stateNew      = "new"
	stateIdle     = "idle"
	stateActive   = "active"
	stateHTTP2    = "http2"
	stateHijacked = "hijacked"
	stateClosing  = "closing"
)

func newTable(service string) *table {
	return &table{service: service, conns: make(map[net.Conn]*conn), closed: make(map[string]int64), idle: -1, changed: make(chan struct{}, 1)}
}

// keyOf is the connection that the listener accepted.
func keyOf(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	// HTTP/2 without TLS comes in a tls.Conn too, of which only this works.
	if u, ok := c.(interface{ UnencryptedNetConn() net.Conn }); ok {
		c = u.UnencryptedNetConn()
	}
	return c
}

// add puts a connection in, or into another state. elsewhere: if it is new here,
// another table counts it too.
func (t *table) add(c net.Conn, state string, elsewhere bool) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := keyOf(c)
	e := t.conns[key]
	if e == nil {
		e = &conn{t: t, key: key, c: key, elsewhere: elsewhere}
		t.conns[key] = e
		t.entries.Add(1)
	}
	if tc, ok := c.(*tls.Conn); ok && tc.NetConn() == key {
		e.c = tc
	}
	e.state, e.since = state, time.Now()
	return e
}

func (t *table) find(c net.Conn) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.conns[keyOf(c)]
}

func (t *table) remove(e *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[e.key] == e {
		t.drop(e, whyClosed(e))
	}
}

// drop needs t.mu.
func (t *table) drop(e *conn, why string) {
	if t.idle >= 0 && !e.elsewhere {
		t.closed[why]++
	}
	delete(t.conns, e.key)
	t.entries.Add(-1)
	t.signal()
}

func whyClosed(e *conn) string {
	switch {
	case e.state == stateClosing:
		return live.ClosedIdle
	case e.state == stateNew: // it may be shaking hands
		return live.ClosedPeer
	case e.state == stateHijacked, e.state == stateHTTP2, isHTTP2(e.c):
		return live.ClosedPinned
	case e.state == stateActive:
		return live.ClosedAnswered
	}
	return live.ClosedPeer
}

// signal wakes the drain. t.mu is held.
func (t *table) signal() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// track is an http.Server's ConnState.
func (t *table) track(c net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		t.add(c, stateNew, false)
	case http.StateActive:
		t.requests.Add(1)
		t.set(c, stateActive)
	case http.StateIdle:
		t.set(c, stateIdle)
	case http.StateHijacked:
		t.set(c, stateHijacked)
	case http.StateClosed:
		if e := t.find(c); e != nil {
			t.remove(e)
		}
	}
}

func (t *table) set(c net.Conn, state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.conns[keyOf(c)]
	if e == nil || e.state == stateClosing {
		return
	}
	e.state, e.since = state, time.Now()
	if state == stateIdle && t.idle >= 0 {
		t.closeLater(e)
	}
}

// setHTTP2 is set for a connection that may be of HTTP/1, which this table
// doesn't know then.
func (t *table) setHTTP2(c net.Conn, s http.ConnState) {
	if t.entries.Load() == 0 {
		return
	}
	if s == http.StateActive {
		t.set(c, stateActive)
	} else {
		t.set(c, stateIdle)
	}
}

// closeIf closes a connection that is still in that state.
func (t *table) closeIf(e *conn, state string) {
	t.mu.Lock()
	idle := e.state == state && t.conns[e.key] == e && t.idle >= 0
	if idle {
		e.state = stateClosing
	}
	t.mu.Unlock()
	if idle {
		e.c.Close()
	}
}

// freshGrace is how long after it was accepted a connection's first request may
// begin, at a stop too: its client has hardly heard yet that it is connected.
// net/http's own Shutdown gives it five seconds.
const freshGrace = time.Second

// settle is how long, at a stop, a connection of HTTP/2 has which has not been told
// GOAWAY long enough: a request may be on its way already.
const settle = 50 * time.Millisecond

// begin closes what is idle, or will be, after a while.
func (t *table) begin(idle time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = idle
	for _, e := range t.conns {
		switch e.state {
		case stateIdle, stateNew, stateHTTP2:
			t.closeLater(e)
		}
	}
}

// closeLater needs t.mu.
func (t *table) closeLater(e *conn) {
	grace, state := t.idle, e.state
	switch {
	case state == stateNew: // it may be shaking hands
		grace = max(grace, time.Until(e.since.Add(freshGrace)))
	case isHTTP2(e.c):
		grace = max(grace, settle)
	}
	time.AfterFunc(grace, func() { t.closeIf(e, state) })
}

// wait returns when nothing is left, or ctx is done.
func (t *table) wait(ctx context.Context) error {
	for t.len() > 0 {
		select {
		case <-t.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// isHTTP2 is for connections that shake hands no more: it waits for the end of that,
// for which a client may never care.
func isHTTP2(c net.Conn) bool {
	t, ok := c.(*tls.Conn)
	return ok && t.ConnectionState().NegotiatedProtocol == "h2"
}

// resume undoes drain.
func (t *table) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = -1
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// cut closes everything without ceremony.
func (t *table) cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, e := range t.conns {
		key.Close()
		t.drop(e, live.ClosedCut)
	}
}

func (t *table) count(c *control.Conns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.conns {
		if e.elsewhere {
			continue
		}
		c.Open++
		c.Pinned++
		switch e.state {
		case stateIdle, stateNew:
			c.Idle++
		case stateActive:
			c.Active++
		}
	}
	c.Requests += t.requests.Load()
	for why, n := range t.closed {
		closedBy(c, why, n)
	}
}

func (t *table) holdouts(h *live.Holdouts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.conns {
		if !e.elsewhere && h.Count(e.since) {
			h.Add(control.Conn{Service: t.service, Peer: peer(e.key), State: e.state, Since: e.since})
		}
	}
}

// peer is "" for most clients of unix sockets.
func peer(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

func closedBy(c *control.Conns, why string, n int64) {
	if c.Closed == nil {
		c.Closed = make(map[string]int64)
	}
	c.Closed[why] += n
}
