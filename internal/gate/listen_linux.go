package gate

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// unlisten takes a TCP socket out of the listening state. It stays bound.
func unlisten(s Socket) bool {
	if _, tcp := s.(*net.TCPListener); !tcp {
		return false // a unix socket could never listen again
	}
	return control(s, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) }) == nil
}

// relisten undoes it. A port that the kernel had chosen is bound anew: only one
// that was asked for stays bound over unlisten.
func relisten(s Socket) error {
	ap := s.Addr().(*net.TCPAddr).AddrPort()
	return control(s, func(fd int) error {
		if err := unix.Bind(fd, sockaddr(fd, ap)); err != nil && err != unix.EINVAL {
			return err
		}
		return unix.Listen(fd, unix.SOMAXCONN)
	})
}

func sockaddr(fd int, ap netip.AddrPort) unix.Sockaddr {
	domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	zone, _ := net.InterfaceByName(ap.Addr().Zone())
	sa := &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	if zone != nil {
		sa.ZoneId = uint32(zone.Index)
	}
	return sa
}

func control(s Socket, f func(fd int) error) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
