package diag

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layouts of sock_diag(7).
const (
	sockDiagByFamily = 20
	inetDiagInfo     = 2
	requestSize      = 56 // struct inet_diag_req_v2
	messageSize      = 72 // struct inet_diag_msg
	stateEstablished = 1
	stateListen      = 10
)

// Sockets are all that listen, or are connected.
func Sockets() ([]Socket, error) {
	var all []Socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		some, err := dump(family)
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func dump(family byte) ([]Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err := unix.Sendto(fd, request(family), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	var all []Socket
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return all, nil
			case unix.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					return nil, syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
				}
				return nil, syscall.EINVAL
			}
			if s, ok := parse(m.Data); ok {
				all = append(all, s)
			}
		}
	}
}

func request(family byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN+requestSize)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	r := b[unix.NLMSG_HDRLEN:]
	r[0], r[1], r[2] = family, unix.IPPROTO_TCP, 1<<(inetDiagInfo-1)
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // all states
	return b
}

func parse(b []byte) (Socket, bool) {
	if len(b) < messageSize {
		return Socket{}, false
	}
	s := Socket{
		Listening: b[1] == stateListen, Established: b[1] == stateEstablished,
		Local: address(b[0], b[8:24], b[4:6]), Peer: address(b[0], b[24:40], b[6:8]),
		Waiting: int(binary.NativeEndian.Uint32(b[56:])), Room: int(binary.NativeEndian.Uint32(b[60:])),
		Inode: uint64(binary.NativeEndian.Uint32(b[68:])),
	}
	for attrs := b[messageSize:]; len(attrs) >= 4; {
		length := int(binary.NativeEndian.Uint16(attrs))
		if length < 4 || length > len(attrs) {
			break
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == inetDiagInfo {
			s.readInfo(attrs[4:length])
		}
		attrs = attrs[min((length+3)&^3, len(attrs)):]
	}
	return s, true
}

// readInfo takes from struct tcp_info what has been there since its beginning.
func (s *Socket) readInfo(b []byte) {
	var info unix.TCPInfo
	if sent := unsafe.Offsetof(info.Last_data_sent); len(b) >= int(sent)+16 {
		s.Sent = time.Duration(binary.NativeEndian.Uint32(b[sent:])) * time.Millisecond
		s.Received = time.Duration(binary.NativeEndian.Uint32(b[unsafe.Offsetof(info.Last_data_recv):])) * time.Millisecond
	}
}

func address(family byte, ip, port []byte) netip.AddrPort {
	n := 4
	if family == unix.AF_INET6 {
		n = 16
	}
	a, _ := netip.AddrFromSlice(ip[:n])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}
