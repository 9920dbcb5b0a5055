package link

import (
	"net"

	"golang.org/x/sys/unix"
)

func socketpair() ([2]int, error) {
	return unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// passCredentials asks the kernel to name the sender of each message: SO_PEERCRED
// names whoever made a socketpair, on both ends.
func passCredentials(c *net.UnixConn) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		})
	}
}

func credentialsPID(m *unix.SocketControlMessage) int {
	if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_CREDENTIALS {
		return 0
	}
	cred, err := unix.ParseUnixCredentials(m)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}
