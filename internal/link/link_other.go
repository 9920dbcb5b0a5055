//go:build unix && !linux

package link

import (
	"net"

	"golang.org/x/sys/unix"
)

// socketpair makes streams: not every unix has SOCK_SEQPACKET for unix sockets.
func socketpair() ([2]int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return fds, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return fds, nil
}

func passCredentials(*net.UnixConn) {}

func credentialsPID(*unix.SocketControlMessage) int { return 0 }
