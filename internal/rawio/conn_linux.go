package rawio

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn makes the calls for one socket, which is given to each method, always the same
// one. The zero value is ready; after the first call it allocates nothing. It owns
// nothing: to close the socket, or to give it deadlines, works as ever.
type Conn struct {
	opening sync.Once
	raw     syscall.RawConn
	err     error // of opening
	in      incoming
	out     outgoing
}

// incoming is a read that is under way.
type incoming struct {
	sync.Mutex
	scattered bool
	try       func(fd uintptr) bool
	p         []byte
	n         int
	errno     unix.Errno

	parts  [2]unix.Iovec // instead of p, if it is scattered
	header unix.Msghdr
}

// outgoing is a write that is under way.
type outgoing struct {
	sync.Mutex
	try   func(fd uintptr) bool
	p     []byte
	n     int // bytes that were written
	errno unix.Errno
}

// refused: the system doesn't let us make these calls.
var refused atomic.Bool

// refuses reports whether errno is what a seccomp filter says.
func refuses(errno unix.Errno) bool {
	if errno != unix.ENOSYS && errno != unix.EPERM {
		return false
	}
	refused.Store(true)
	return true
}

func (c *Conn) open(s Socket) error {
	c.opening.Do(func() {
		c.in.try, c.out.try = c.in.once, c.out.once
		c.raw, c.err = s.SyscallConn()
	})
	return c.err
}

// Read is s.Read. It may be called by several goroutines.
func (c *Conn) Read(s Socket, p []byte) (int, error) {
	if !possible || len(p) == 0 || refused.Load() {
		return s.Read(p)
	}
	trafficWatch.count()
	if !trafficWatch.kept() {
		trafficWatch.tell()
		return s.Read(p)
	}
	if !c.in.TryLock() { // whoever else reads, has this memory
		return s.Read(p)
	}
	defer c.in.Unlock()
	c.in.p = p
	n, err := c.read(s)
	c.in.p = nil
	if refuses(c.in.errno) {
		return s.Read(p)
	}
	return n, err
}

// ReadScattered is Read, but the kernel puts the first bytes into first, and they are
// copied to p from there. Neither may be empty. If another goroutine reads at the same
// time, or these calls are refused, first isn't written.
func (c *Conn) ReadScattered(s Socket, first, p []byte) (int, error) {
	if len(p) <= len(first) {
		n, err := s.Read(first[:len(p)])
		return copy(p, first[:n]), err
	}
	if refused.Load() || !c.in.TryLock() {
		return s.Read(p)
	}
	defer c.in.Unlock()
	in, rest := &c.in, p[len(first):]
	in.parts[0].Base = &first[0]
	in.parts[0].SetLen(len(first))
	in.parts[1].Base = &rest[0]
	in.parts[1].SetLen(len(rest))
	in.header.Iov = &in.parts[0]
	in.header.SetIovlen(len(in.parts))
	in.scattered = true
	n, err := c.read(s)
	in.scattered, in.parts = false, [2]unix.Iovec{}
	if refuses(in.errno) {
		return s.Read(p)
	}
	copy(p, first[:min(len(first), n)])
	return n, err
}

func (c *Conn) read(s Socket) (int, error) {
	in := &c.in
	in.n, in.errno = 0, 0
	if err := c.open(s); err != nil {
		return 0, err
	}
	if err := c.raw.Read(in.try); err != nil || in.errno != 0 {
		return 0, failure(s, "read", err, in.errno)
	}
	if in.n == 0 {
		return 0, io.EOF
	}
	return in.n, nil
}

// once returns false when it is to be called again as soon as there is something to
// read.
func (in *incoming) once(fd uintptr) bool {
	for {
		var n uintptr
		if in.scattered {
			n, in.errno = call(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&in.header)), unix.MSG_DONTWAIT, 0)
		} else {
			n, in.errno = call(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(in.p))), uintptr(len(in.p)), unix.MSG_DONTWAIT)
		}
		switch in.errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			in.errno = 0 // a deadline may come first
			return false
		case 0:
			in.n = int(n)
		}
		return true
	}
}

// Write is s.Write. It may be called by several goroutines.
func (c *Conn) Write(s Socket, p []byte) (int, error) {
	if !possible || len(p) == 0 || refused.Load() {
		return s.Write(p)
	}
	trafficWatch.count()
	if !trafficWatch.kept() {
		trafficWatch.tell()
		return s.Write(p)
	}
	if !c.out.TryLock() {
		return s.Write(p) // which waits until the other one has written all
	}
	defer c.out.Unlock()
	if err := c.open(s); err != nil {
		return 0, err
	}
	o := &c.out
	o.p, o.n, o.errno = p, 0, 0
	err := c.raw.Write(o.try)
	o.p = nil
	switch {
	case refuses(o.errno):
		n, err := s.Write(p[o.n:])
		return o.n + n, err
	case err != nil || o.errno != 0:
		return o.n, failure(s, "write", err, o.errno)
	}
	return o.n, nil
}

// once returns false when it is to be called again as soon as there is room.
func (o *outgoing) once(fd uintptr) bool {
	for o.n < len(o.p) {
		rest := o.p[o.n:]
		var n uintptr
		n, o.errno = call(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(rest))), uintptr(len(rest)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch o.errno {
		case unix.EINTR:
		case unix.EAGAIN:
			o.errno = 0
			return false
		case 0:
			o.n += int(n)
		default:
			return true
		}
	}
	return true
}

// call makes a system call that doesn't wait. The scheduler isn't told if the watch
// sees to the monitor.
//
//go:uintptrescapes
func call(trap, fd, a, b, c uintptr) (uintptr, unix.Errno) {
	if possible && trafficWatch.kept() {
		n, _, errno := unix.RawSyscall6(trap, fd, a, b, c, 0, 0)
		return n, errno
	}
	n, _, errno := unix.Syscall6(trap, fd, a, b, c, 0, 0)
	return n, errno
}

// failure makes what net would have said of an error of a RawConn, or of a call.
func failure(s Socket, op string, err error, errno unix.Errno) error {
	if err == nil {
		return &net.OpError{Op: op, Net: s.RemoteAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
	}
	if e, ok := err.(*net.OpError); ok {
		e.Op = op // by which net/http knows it
	}
	return err
}
