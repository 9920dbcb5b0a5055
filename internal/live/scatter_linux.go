package live

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scatter reads from a socket into two places at once (readv(2)). It allocates
// nothing after the first time.
type scatter struct {
	raw   syscall.RawConn
	try   func(fd uintptr) bool
	parts [2]unix.Iovec
	n     int
	errno unix.Errno
}

// read is like s.Read(p), but the kernel puts the first bytes into first, and they
// are copied to p from there. Neither is empty.
func (r *scatter) read(s socket, first, p []byte) (int, error) {
	if len(p) <= len(first) {
		n, err := s.Read(first[:len(p)])
		return copy(p, first[:n]), err
	}
	if r.raw == nil {
		raw, err := s.SyscallConn()
		if err != nil {
			return 0, err
		}
		r.raw, r.try = raw, r.once
	}
	rest := p[len(first):]
	r.parts[0].Base = &first[0]
	r.parts[0].SetLen(len(first))
	r.parts[1].Base = &rest[0]
	r.parts[1].SetLen(len(rest))
	err := r.raw.Read(r.try)
	r.parts = [2]unix.Iovec{}
	if err == nil && r.errno != 0 {
		err = &net.OpError{Net: s.RemoteAddr().Network(), Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: os.NewSyscallError("read", r.errno)}
	}
	if err != nil {
		// Each request ends with such an error: net/http stops listening for
		// what comes behind it.
		if e, ok := err.(*net.OpError); ok {
			e.Op = "read" // by which net/http knows it
		}
		return 0, err
	}
	if r.n == 0 {
		return 0, io.EOF
	}
	copy(p, first[:min(len(first), r.n)])
	return r.n, nil
}

// once returns false when it is to be called again as soon as there is something
// to read.
func (r *scatter) once(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&r.parts[0])), uintptr(len(r.parts)))
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case 0:
			r.n = int(n)
		}
		r.errno = errno
		return true
	}
}
