package server

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
)

// hijack watches a connection which is the application's now: the drain waits
// until it is closed.
func (t *table) hijack(c net.Conn) net.Conn {
	e := t.add(c, stateHijacked, true)
	if s, ok := c.(stream); ok {
		return &hijackedStream{s, e}
	}
	return &hijackedConn{c, e}
}

// hijackedConn tells the table when the application closes it.
type hijackedConn struct {
	net.Conn
	entry *conn
}

func (c *hijackedConn) Close() error { return closeHijacked(c.Conn, c.entry) }

// NetConn is the connection under it: *net.TCPConn, *net.UnixConn, *tls.Conn, or
// what a listener of the application's has accepted.
func (c *hijackedConn) NetConn() net.Conn { return unwrap(c.Conn) }

// stream is what a *net.TCPConn offers beyond net.Conn: splice(2), options,
// half-close.
type stream interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// hijackedStream is a hijackedConn that keeps it.
type hijackedStream struct {
	stream
	entry *conn
}

func (c *hijackedStream) Close() error { return closeHijacked(c.stream, c.entry) }

// NetConn is as that of hijackedConn.
func (c *hijackedStream) NetConn() net.Conn { return unwrap(c.stream) }

func closeHijacked(c net.Conn, e *conn) error {
	defer e.t.remove(e)
	return c.Close()
}

func unwrap(c net.Conn) net.Conn {
	if _, ok := c.(*tls.Conn); ok {
		return c
	}
	if w, ok := c.(interface{ NetConn() net.Conn }); ok {
		return w.NetConn()
	}
	return c
}
