package live

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/gate"
)

// option is one that net.FileConn sets to a value of its own, whatever the
// connection had.
type option struct{ level, name, goes int }

var options = [...]option{
	{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
}

// optionValues are those of one connection; -1: it has no such option.
type optionValues [len(options)]int

func readOptions(fd int) (v optionValues) {
	for i, o := range options {
		n, err := unix.GetsockoptInt(fd, o.level, o.name)
		if err != nil {
			n = -1
		}
		v[i] = n
	}
	return v
}

func (v optionValues) restore(fd int) {
	for i, o := range options {
		if v[i] >= 0 && v[i] != o.goes {
			unix.SetsockoptInt(fd, o.level, o.name, v[i])
		}
	}
}

// mayBeMultipath reports whether g may accept connections of Multipath TCP: such
// a socket is no plain TCP socket to the kernel.
func mayBeMultipath(g *gate.Listener) bool {
	return protocol(g) == unix.IPPROTO_MPTCP
}

func isMultipath(s socket) bool { return protocol(s) == unix.IPPROTO_MPTCP }

func protocol(s syscall.Conn) int {
	fd, err := fdOf(s)
	if err != nil {
		return -1
	}
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return -1
	}
	return n
}
