//go:build unix

package strict

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// look tells without waiting whether something came, or the connection ended.
// A read with a deadline can't: with one in the past nothing is read at all.
func (c *conn) look() error {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	cerr := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	switch {
	case cerr != nil:
		return cerr
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err == nil && n == 0:
		return io.EOF
	}
	return unasked(err)
}
