package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

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

	requests atomic.Int64
	closed   atomic.Int64 // idle ones, by a drain
}

// conn is one of them.
type conn struct {
	t       *table
	key     net.Conn
	c       net.Conn // what is to be closed: key, or TLS on it
	state   string
	since   time.Time
	request atomic.Pointer[request] // HTTP/1; the last one
}

// States, as control.Conn has them.
const (
	stateNew      = "new"
	stateIdle     = "idle"
	stateActive   = "active"
	stateHijacked = "hijacked"
	stateClosing  = "closing"
)

func newTable(service string) *table {
	return &table{service: service, conns: make(map[net.Conn]*conn), idle: -1, changed: make(chan struct{}, 1)}
}

// keyOf is the connection that the listener accepted.
func keyOf(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// accept is the tracker of a gate: nothing that was accepted escapes a drain.
func (t *table) accept(c net.Conn) net.Conn {
	t.add(c, stateNew)
	return c
}

func (t *table) add(c net.Conn, state string) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := keyOf(c)
	e := t.conns[key]
	if e == nil {
		e = &conn{t: t, key: key, since: time.Now()}
		t.conns[key] = e
	}
	e.c = c
	e.state = state
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
		delete(t.conns, e.key)
		t.signal()
	}
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
		t.add(c, stateNew)
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
		time.AfterFunc(t.idle, func() { t.closeIf(e, stateIdle) })
	}
}

// closeIf closes a connection that is still in that state.
func (t *table) closeIf(e *conn, state string) {
	t.mu.Lock()
	idle := e.state == state && t.conns[e.key] == e && t.idle >= 0
	if idle {
		e.state = stateClosing
		t.closed.Add(1)
	}
	t.mu.Unlock()
	if idle {
		e.c.Close()
	}
}

// settle is how long, at a stop, a connection has whose request may be on its
// way already: a new one, or one of HTTP/2 which has not been told GOAWAY long
// enough.
const settle = 50 * time.Millisecond

// drain closes what is idle for a while, and waits until nothing is left.
func (t *table) drain(ctx context.Context, idle time.Duration) {
	t.mu.Lock()
	t.idle = idle
	for _, e := range t.conns {
		grace := idle
		if e.state == stateNew || isHTTP2(e.c) {
			grace = max(grace, settle)
		}
		state := e.state
		if state == stateNew || state == stateIdle {
			time.AfterFunc(grace, func() { t.closeIf(e, state) })
		}
	}
	t.mu.Unlock()
	for t.len() > 0 {
		select {
		case <-t.changed:
		case <-ctx.Done():
			return
		}
	}
}

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
	for key := range t.conns {
		key.Close()
	}
}

func (t *table) count(c *control.Conns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.conns {
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
	if n := t.closed.Load(); n > 0 {
		if c.Closed == nil {
			c.Closed = make(map[string]int64)
		}
		c.Closed[stateIdle] += n
	}
}

func (t *table) holdouts() []control.Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []control.Conn
	for _, e := range t.conns {
		all = append(all, e.describe())
	}
	return all
}

func (e *conn) describe() control.Conn {
	c := control.Conn{Service: e.t.service, Peer: e.key.RemoteAddr().String(), State: e.state, Since: e.since}
	if x := e.request.Load(); x != nil && e.state == stateActive {
		c.Request = x.r.Method + " " + x.r.RequestURI
	}
	return c
}

// hijackedConn tells the table when the application closes it.
type hijackedConn struct {
	net.Conn
	entry *conn
}

func (c *hijackedConn) Close() error {
	defer c.entry.t.remove(c.entry)
	return c.Conn.Close()
}

// NetConn is the connection under it.
func (c *hijackedConn) NetConn() net.Conn { return c.Conn }
