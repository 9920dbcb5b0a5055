//go:build unix && !linux

package live

import "golang.org/x/sys/unix"

// optionValues are those that net.FileConn changes, of one connection.
type optionValues struct{ noDelay, keepAlive int }

func readOptions(fd int) (v optionValues) {
	v.noDelay, v.keepAlive = 1, 1
	if n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); err == nil {
		v.noDelay = n
	}
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); err == nil {
		v.keepAlive = n
	}
	return v
}

func (v optionValues) restore(fd int) {
	if v.noDelay == 0 {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0)
	}
	if v.keepAlive == 0 {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)
	}
}
