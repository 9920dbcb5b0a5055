package vault

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errNotTCP marks a socket whose counts, if it has any, aren't those of TCP.
// MPTCP is one.
var errNotTCP = errors.New("not a TCP socket")

// The states of a TCP socket (include/net/tcp_states.h).
const (
	tcpFinWait1 = 4
	tcpFinWait2 = 5
	tcpTimeWait = 6
	tcpClose    = 7
	tcpCloseW   = 8
	tcpLastAck  = 9
	tcpClosing  = 11
)

// Inspect reads the kernel's counts of an accepted TCP connection. They are
// exact as long as nobody reads or writes: bytes may go on arriving and being
// acknowledged meanwhile.
func Inspect(fd int) (Counters, error) {
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return Counters{}, fmt.Errorf("SO_PROTOCOL: %w", err)
	}
	if proto != unix.IPPROTO_TCP {
		return Counters{}, errNotTCP
	}
	// Several calls can't be one snapshot. Each queue only changes together
	// with its count, so it must be the same before and after. The state is read
	// before the kernel takes the lock for the counts, which a FIN is one of.
	for range 1000 {
		in, out, err := queues(fd)
		if err != nil {
			return Counters{}, err
		}
		info, err := tcpInfo(fd)
		if err != nil {
			return Counters{}, err
		}
		in2, out2, err := queues(fd)
		if err != nil {
			return Counters{}, err
		}
		after, err := tcpInfo(fd)
		if err != nil {
			return Counters{}, err
		}
		if in == in2 && out == out2 && info.State == after.State {
			return count(&info, uint64(in), uint64(out)), nil
		}
	}
	return Counters{}, errors.New("the counts don't come to rest")
}

func queues(fd int) (in, out int, err error) {
	if in, err = unix.IoctlGetInt(fd, unix.SIOCINQ); err != nil {
		return 0, 0, fmt.Errorf("SIOCINQ: %w", err)
	}
	if out, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil {
		return 0, 0, fmt.Errorf("SIOCOUTQ: %w", err)
	}
	return in, out, nil
}

// tcpInfo is like unix.GetsockoptTCPInfo without an allocation, and insists on
// the fields that older kernels don't have.
func tcpInfo(fd int) (info unix.TCPInfo, err error) {
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return info, fmt.Errorf("TCP_INFO: %w", errno)
	}
	if uintptr(size) < unsafe.Offsetof(info.Bytes_received)+8 {
		return info, fmt.Errorf("TCP_INFO has %d bytes only", size)
	}
	return info, nil
}

// count undoes what the kernel counts besides data: the peer's FIN takes one
// number in the receive sequence, and isn't in SIOCINQ.
func count(info *unix.TCPInfo, in, out uint64) Counters {
	c := Counters{
		Written: info.Bytes_acked + out,
		Unread:  in,
		Unsent:  out,
		Quiet:   time.Duration(min(info.Last_data_sent, info.Last_data_recv)) * time.Millisecond,
	}
	switch info.State {
	case tcpCloseW, tcpLastAck, tcpClosing, tcpTimeWait:
		c.PeerClosed = true
	}
	switch info.State {
	case tcpFinWait1, tcpFinWait2, tcpClosing, tcpLastAck, tcpTimeWait:
		c.ShutDown = true
	case tcpClose:
		c.Dead = true
	}
	c.Consumed = info.Bytes_received - in
	if c.PeerClosed {
		c.Consumed--
	}
	return c
}

// cookie identifies a socket among all of this boot.
func cookie(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}
