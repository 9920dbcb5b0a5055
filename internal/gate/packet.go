package gate

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// packetGate holds back reads of a socket that is shared with another
// generation. It owns the read deadline, which it also uses to wake readers.
type packetGate struct {
	setDeadline func(time.Time) error

	mu       sync.Mutex
	cond     sync.Cond // open, closed or inside changed
	open     bool
	closed   bool
	inside   int
	deadline time.Time // the user's
}

func (g *packetGate) init(set func(time.Time) error) {
	g.setDeadline = set
	g.cond.L = &g.mu
}

// read runs f while the gate is open, again if f was only woken by Shut.
func (g *packetGate) read(f func() error) error {
	for {
		g.mu.Lock()
		for !g.open && !g.closed {
			g.cond.Wait()
		}
		g.inside++
		g.mu.Unlock()
		err := f()
		g.mu.Lock()
		g.inside--
		again := !g.open && !g.closed && errors.Is(err, os.ErrDeadlineExceeded)
		g.cond.Broadcast()
		g.mu.Unlock()
		if !again {
			return err
		}
	}
}

// Open lets reads through.
func (g *packetGate) Open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open || g.closed {
		return nil
	}
	g.open = true
	g.cond.Broadcast()
	return g.setDeadline(g.deadline)
}

// Shut holds reads back. When it returns none is under way.
func (g *packetGate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return
	}
	g.open = false
	g.setDeadline(time.Unix(1, 0))
	for g.inside > 0 {
		g.cond.Wait()
	}
}

// SetReadDeadline is the socket's; it doesn't end a wait for the gate.
func (g *packetGate) SetReadDeadline(t time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deadline = t
	if !g.open {
		return nil
	}
	return g.setDeadline(t)
}

func (g *packetGate) shutForGood() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.cond.Broadcast()
}

// UDP is a *net.UDPConn behind a gate, which is shut at first: reads wait while
// it is shut. Writes always pass.
type UDP struct {
	*net.UDPConn
	packetGate
	onDone func()
}

// NewUDP puts a gate before c, which it takes over; onClose may be nil.
func NewUDP(c *net.UDPConn, onClose func()) *UDP {
	u := &UDP{UDPConn: c, onDone: onClose}
	u.init(c.SetReadDeadline)
	return u
}

// Read is net.UDPConn's.
func (u *UDP) Read(b []byte) (n int, err error) {
	err = u.read(func() (e error) { n, e = u.UDPConn.Read(b); return })
	return
}

// ReadFrom is net.UDPConn's.
func (u *UDP) ReadFrom(b []byte) (n int, a net.Addr, err error) {
	err = u.read(func() (e error) { n, a, e = u.UDPConn.ReadFrom(b); return })
	return
}

// ReadFromUDP is net.UDPConn's.
func (u *UDP) ReadFromUDP(b []byte) (n int, a *net.UDPAddr, err error) {
	err = u.read(func() (e error) { n, a, e = u.UDPConn.ReadFromUDP(b); return })
	return
}

// ReadFromUDPAddrPort is net.UDPConn's.
func (u *UDP) ReadFromUDPAddrPort(b []byte) (n int, a netip.AddrPort, err error) {
	err = u.read(func() (e error) { n, a, e = u.UDPConn.ReadFromUDPAddrPort(b); return })
	return
}

// ReadMsgUDP is net.UDPConn's.
func (u *UDP) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, a *net.UDPAddr, err error) {
	err = u.read(func() (e error) { n, oobn, flags, a, e = u.UDPConn.ReadMsgUDP(b, oob); return })
	return
}

// ReadMsgUDPAddrPort is net.UDPConn's.
func (u *UDP) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, a netip.AddrPort, err error) {
	err = u.read(func() (e error) { n, oobn, flags, a, e = u.UDPConn.ReadMsgUDPAddrPort(b, oob); return })
	return
}

// SetReadDeadline is net.UDPConn's; it doesn't end a wait for the gate.
func (u *UDP) SetReadDeadline(t time.Time) error { return u.packetGate.SetReadDeadline(t) }

// SetDeadline is net.UDPConn's; it doesn't end a wait for the gate.
func (u *UDP) SetDeadline(t time.Time) error {
	return errors.Join(u.UDPConn.SetWriteDeadline(t), u.packetGate.SetReadDeadline(t))
}

// Close closes this process's descriptor, and ends reads.
func (u *UDP) Close() error {
	u.shutForGood()
	err := u.UDPConn.Close()
	if err == nil && u.onDone != nil {
		u.onDone()
	}
	return err
}

// Unixgram is a datagram *net.UnixConn behind a gate, which is shut at first:
// reads wait while it is shut. Writes always pass.
type Unixgram struct {
	*net.UnixConn
	packetGate
	onDone func()
}

// NewUnixgram puts a gate before c, which it takes over; onClose may be nil.
func NewUnixgram(c *net.UnixConn, onClose func()) *Unixgram {
	u := &Unixgram{UnixConn: c, onDone: onClose}
	u.init(c.SetReadDeadline)
	return u
}

// Read is net.UnixConn's.
func (u *Unixgram) Read(b []byte) (n int, err error) {
	err = u.read(func() (e error) { n, e = u.UnixConn.Read(b); return })
	return
}

// ReadFrom is net.UnixConn's.
func (u *Unixgram) ReadFrom(b []byte) (n int, a net.Addr, err error) {
	err = u.read(func() (e error) { n, a, e = u.UnixConn.ReadFrom(b); return })
	return
}

// ReadFromUnix is net.UnixConn's.
func (u *Unixgram) ReadFromUnix(b []byte) (n int, a *net.UnixAddr, err error) {
	err = u.read(func() (e error) { n, a, e = u.UnixConn.ReadFromUnix(b); return })
	return
}

// ReadMsgUnix is net.UnixConn's.
func (u *Unixgram) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, a *net.UnixAddr, err error) {
	err = u.read(func() (e error) { n, oobn, flags, a, e = u.UnixConn.ReadMsgUnix(b, oob); return })
	return
}

// SetReadDeadline is net.UnixConn's; it doesn't end a wait for the gate.
func (u *Unixgram) SetReadDeadline(t time.Time) error { return u.packetGate.SetReadDeadline(t) }

// SetDeadline is net.UnixConn's; it doesn't end a wait for the gate.
func (u *Unixgram) SetDeadline(t time.Time) error {
	return errors.Join(u.UnixConn.SetWriteDeadline(t), u.packetGate.SetReadDeadline(t))
}

// Close closes this process's descriptor, and ends reads.
func (u *Unixgram) Close() error {
	u.shutForGood()
	err := u.UnixConn.Close()
	if err == nil && u.onDone != nil {
		u.onDone()
	}
	return err
}
