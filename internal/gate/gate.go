// Package gate holds back a listening socket that is shared with another
// generation: while the gate is shut nothing is accepted, and the socket with
// its backlog stays open for whoever acts for the service.
package gate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Socket is a listener that can be held back: *net.TCPListener,
// *net.UnixListener.
type Socket interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// Listener is a Socket behind a gate, which is shut at first.
type Listener struct {
	sock Socket

	mu     sync.Mutex
	cond   sync.Cond // open, closed or accepting changed
	open   bool
	closed bool
	inside int  // Accept calls between the gate and the tracker's return
	refuse bool // the kernel refuses connections, see Refuse
	track  func(net.Conn) net.Conn
	onDone func() // runs once, after Close
}

// New puts a gate before sock, which it takes over.
func New(sock Socket) *Listener {
	l := &Listener{sock: sock}
	l.cond.L = &l.mu
	return l
}

// Accept waits while the gate is shut, then for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		track, err := l.enter()
		if err != nil {
			return nil, err
		}
		c, err := l.sock.Accept()
		if err == nil && track != nil {
			c = track(c)
		}
		if again := l.leave(err); !again {
			return c, err
		}
	}
}

func (l *Listener) enter() (func(net.Conn) net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.open && !l.closed {
		l.cond.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.inside++
	return l.track, nil
}

// leave reports whether Accept only failed because the gate was shut under it.
func (l *Listener) leave(err error) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside--
	l.cond.Broadcast()
	return !l.closed && errors.Is(err, os.ErrDeadlineExceeded)
}

// Open lets connections in.
func (l *Listener) Open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open || l.closed {
		return nil
	}
	if l.refuse {
		if err := relisten(l.sock); err != nil {
			return fmt.Errorf("listen again on %s: %w", l.Addr(), err)
		}
		l.refuse = false
	}
	l.sock.SetDeadline(time.Time{})
	l.open = true
	l.cond.Broadcast()
	return nil
}

// Refuse makes the kernel refuse connections to a shut gate's TCP socket, in
// all processes that hold it, until the gate is opened again: nobody serves this
// address any more, so nobody shall wait for an answer in its backlog. Other
// sockets stay as they are.
func (l *Listener) Refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open && !l.closed {
		l.refuse = unlisten(l.sock)
	}
}

// Shut keeps connections out. When it returns no Accept is under way, and each
// connection that was accepted has been seen by the tracker.
func (l *Listener) Shut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	l.sock.SetDeadline(time.Unix(1, 0))
	for l.inside > 0 {
		l.cond.Wait()
	}
}

// Track sets what sees, and may wrap, every connection before Accept returns it.
func (l *Listener) Track(f func(net.Conn) net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.track = f
}

// OnClose sets what runs after the first Close.
func (l *Listener) OnClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onDone = f
}

// Close closes this process's descriptor of the socket, and ends Accept.
func (l *Listener) Close() error {
	l.mu.Lock()
	done := l.onDone
	l.onDone = nil
	l.closed = true
	l.cond.Broadcast()
	l.mu.Unlock()
	err := l.sock.Close()
	if done != nil {
		done()
	}
	return err
}

// Addr is the socket's address.
func (l *Listener) Addr() net.Addr { return l.sock.Addr() }

// Socket is the listener behind the gate.
func (l *Listener) Socket() Socket { return l.sock }

// SyscallConn gives access to the socket's descriptor.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return l.sock.SyscallConn() }
