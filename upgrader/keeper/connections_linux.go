package keeper

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hasAccepted reports whether a process has a connection to a port of ours. A busy
// one may have each for a millisecond only: so its sockets are looked at
// themselves, and the table of all connections, whose reading takes longer, is
// the way out where that isn't allowed.
func hasAccepted(pid int, sockets []*socket) bool {
	ports := map[int]bool{}
	for _, k := range sockets {
		if _, port, err := net.SplitHostPort(strings.TrimPrefix(k.listen, "tcp:")); err == nil {
			n, _ := strconv.Atoi(port)
			ports[n] = true
		}
	}
	if len(ports) == 0 {
		return false
	}
	all := family(pid)
	for _, p := range all {
		found, allowed := connectedTo(p, ports)
		if !allowed {
			return tableHas(all, ports)
		}
		if found {
			return true
		}
	}
	return false
}

// connectedTo looks at duplicates of a process's sockets, one after the other.
func connectedTo(pid int, ports map[int]bool) (found, allowed bool) {
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, err == unix.ESRCH
	}
	defer unix.Close(handle)
	for fd := range socketsOf(pid) {
		d, err := unix.PidfdGetfd(handle, fd, 0)
		if err == unix.EPERM || err == unix.ENOSYS {
			return false, false
		}
		if err != nil { // closed meanwhile
			continue
		}
		found = isConnection(d, ports)
		unix.Close(d)
		if found {
			return true, true
		}
	}
	return false, true
}

// isConnection reports whether a socket is a connection to one of the ports.
func isConnection(fd int, ports map[int]bool) bool {
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n != 0 {
		return false
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return ports[a.Port]
	case *unix.SockaddrInet6:
		return ports[a.Port]
	}
	return false
}

// socketsOf lists a process's sockets: descriptor and inode.
func socketsOf(pid int) map[int]uint64 {
	all := map[int]uint64{}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		target, err := os.Readlink(dir + "/" + e.Name())
		if in, ok := strings.CutPrefix(target, "socket:["); ok && err == nil {
			fd, _ := strconv.Atoi(e.Name())
			all[fd], _ = strconv.ParseUint(strings.TrimSuffix(in, "]"), 10, 64)
		}
	}
	return all
}

// tableHas is hasAccepted by the table of all connections.
func tableHas(pids []int, ports map[int]bool) bool {
	connected := map[uint64]bool{}
	eachTCP(func(l listener, listens bool) {
		if !listens && ports[l.port] && l.inode != 0 {
			connected[l.inode] = true
		}
	})
	for _, p := range pids {
		for _, inode := range socketsOf(p) {
			if connected[inode] {
				return true
			}
		}
	}
	return false
}

// listener is a TCP socket: its own address.
type listener struct {
	addr  string
	port  int
	inode uint64
}

// listeners reads /proc/net/tcp and tcp6.
func listeners() []listener {
	var out []listener
	eachTCP(func(l listener, listens bool) {
		if listens {
			out = append(out, l)
		}
	})
	return out
}

// eachTCP calls f for all TCP sockets of this network namespace.
func eachTCP(f func(l listener, listens bool)) {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(file)
		for sc.Scan() {
			row := strings.Fields(sc.Text())
			if len(row) < 10 {
				continue
			}
			host, port, _ := strings.Cut(row[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			inode, err2 := strconv.ParseUint(row[9], 10, 64)
			if err == nil && err2 == nil {
				f(listener{hexIP(host), int(n), inode}, row[3] == "0A") // TCP_LISTEN
			}
		}
		file.Close()
	}
}

// hexIP reads an address of /proc/net: words in the machine's order.
func hexIP(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		return ""
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	zero := true
	for _, c := range b {
		zero = zero && c == 0
	}
	if zero {
		return ""
	}
	if len(b) == 4 {
		return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
	}
	var parts []string
	for i := 0; i+2 <= len(b); i += 2 {
		parts = append(parts, strconv.FormatUint(uint64(b[i])<<8|uint64(b[i+1]), 16))
	}
	return "[" + strings.Join(parts, ":") + "]"
}
