package live

import (
	"crypto/tls"
	"io"
	"net"
	"syscall"
	"time"
)

// socket is what *net.TCPConn and *net.UnixConn have in common.
type socket interface {
	net.Conn
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// tcpConn is what net/http gets. Embedding keeps what handlers and net/http look
// for beyond net.Conn: SyscallConn, SetNoDelay, WriteTo (splice), and ReadFrom
// (sendfile), which is counted.
type tcpConn struct {
	*net.TCPConn
	c conn
}

// NetConn is the connection underneath, for who has hijacked it.
func (w *tcpConn) NetConn() net.Conn { return w.TCPConn }

func (w *tcpConn) Read(p []byte) (int, error)         { return w.c.read(p) }
func (w *tcpConn) Write(p []byte) (int, error)        { return w.c.write(p) }
func (w *tcpConn) Close() error                       { return w.c.close() }
func (w *tcpConn) CloseWrite() error                  { return w.c.closeWrite() }
func (w *tcpConn) SetDeadline(t time.Time) error      { return w.c.setDeadline(t) }
func (w *tcpConn) SetReadDeadline(t time.Time) error  { return w.c.setReadDeadline(t) }
func (w *tcpConn) SetWriteDeadline(t time.Time) error { return w.c.setWriteDeadline(t) }

// ReadFrom is how net/http sends files.
func (w *tcpConn) ReadFrom(r io.Reader) (int64, error) {
	if w.c.phase() == detached {
		return 0, errDetached
	}
	n, err := w.TCPConn.ReadFrom(r)
	w.c.copied(n)
	return n, err
}

// unixConn is tcpConn for unix stream sockets.
type unixConn struct {
	*net.UnixConn
	c conn
}

// NetConn is the connection underneath, for who has hijacked it.
func (w *unixConn) NetConn() net.Conn { return w.UnixConn }

func (w *unixConn) Read(p []byte) (int, error)         { return w.c.read(p) }
func (w *unixConn) Write(p []byte) (int, error)        { return w.c.write(p) }
func (w *unixConn) Close() error                       { return w.c.close() }
func (w *unixConn) CloseWrite() error                  { return w.c.closeWrite() }
func (w *unixConn) SetDeadline(t time.Time) error      { return w.c.setDeadline(t) }
func (w *unixConn) SetReadDeadline(t time.Time) error  { return w.c.setReadDeadline(t) }
func (w *unixConn) SetWriteDeadline(t time.Time) error { return w.c.setWriteDeadline(t) }

// wrap returns nc's wrapper as net/http and as the table see it; nil where nc is
// something that we know nothing of.
func (t *Table) wrap(nc net.Conn) (net.Conn, *conn) {
	switch s := nc.(type) {
	case *net.TCPConn:
		w := &tcpConn{TCPConn: s}
		w.c.init(t, s)
		return w, &w.c
	case *net.UnixConn:
		w := &unixConn{UnixConn: s}
		w.c.init(t, s)
		return w, &w.c
	}
	return nil, nil
}

// find returns the connection under nc, and what net/http has on top of it: nil
// if nothing.
func find(nc net.Conn) (c *conn, over net.Conn) {
	switch w := nc.(type) {
	case *tcpConn:
		return &w.c, nil
	case *unixConn:
		return &w.c, nil
	case interface{ NetConn() net.Conn }:
		c, _ = find(w.NetConn())
		return c, nc
	}
	return nil, nil
}

func isHTTP2(over net.Conn) bool {
	tc, ok := over.(*tls.Conn)
	return ok && tc.ConnectionState().NegotiatedProtocol == "h2"
}
