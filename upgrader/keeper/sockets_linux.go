package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// socket is a descriptor that is held for a service, and given to each of its
// processes. It is blocking at first, as a service manager's is, and never made
// so again: the flag belongs to all who share it.
//
// It belongs to the actor, but starting a process and telling the service manager
// are done elsewhere, and take their time: whoever does has use of it, as its number
// would be another file's after the actor has closed it.
type socket struct {
	fd     int
	users  atomic.Int32 // the actor is one; with the last of them it is closed
	name   string       // in LISTEN_FDNAMES
	label  string       // "NAME=", if it was given a name
	listen string       // "network:address" as bound; "": not a listening socket
	path   string       // to be removed in the end; "": none
	inode  uint64
	stored bool    // pushed by a worker
	lent   bool    // nobody wants it, but a process that drains may have it: see actor.lent
	asked  address // for which it was made, or taken
}

// bind makes the socket of an address.
func bind(a address) (*socket, error) {
	path := ""
	if strings.HasPrefix(a.network, "unix") && a.addr[0] != '@' {
		abs, err := filepath.Abs(a.addr)
		if err != nil {
			return nil, err
		}
		a.addr, path = abs, abs
		if err := clear(a.network, path); err != nil {
			return nil, err
		}
		if a.mode != 0 || a.owner != "" { // nobody may connect before both are right
			defer syscall.Umask(syscall.Umask(0o177))
		}
	}
	fd, bound, err := open(a)
	if err != nil {
		return nil, explainBind(a, err)
	}
	s, err := hold(fd, sd.NameOf(a.key()))
	if err != nil {
		return nil, err
	}
	s.asked = a
	if a.name != "" {
		s.label = a.name + "="
	}
	s.listen, s.path = bound.Network()+":"+bound.String(), path
	if err := a.own(path); err != nil {
		s.close(true)
		return nil, fmt.Errorf("listen %s: %w", a.addr, err)
	}
	return s, nil
}

// open binds, and returns a descriptor that nothing of package net knows.
func open(a address) (int, net.Addr, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	var raw syscall.RawConn
	var bound net.Addr
	if isPacket(a.network) {
		pc, err := lc.ListenPacket(context.Background(), a.network, a.addr)
		if err != nil {
			return -1, nil, err
		}
		defer pc.Close()
		bound = pc.LocalAddr()
		raw, err = pc.(syscall.Conn).SyscallConn()
		if err != nil {
			return -1, nil, err
		}
	} else {
		ln, err := lc.Listen(context.Background(), a.network, a.addr)
		if err != nil {
			return -1, nil, err
		}
		if ul, ok := ln.(*net.UnixListener); ok {
			ul.SetUnlinkOnClose(false)
		}
		defer ln.Close()
		bound = ln.Addr()
		raw, err = ln.(syscall.Conn).SyscallConn()
		if err != nil {
			return -1, nil, err
		}
	}
	fd := -1
	var dupErr error
	err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(err, dupErr); err != nil {
		return -1, nil, err
	}
	return fd, bound, unix.SetNonblock(fd, false)
}

func isPacket(network string) bool {
	return strings.HasPrefix(network, "udp") || network == "unixgram"
}

// hold takes over a descriptor.
func hold(fd int, name string) (*socket, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	s := &socket{fd: fd, name: name, inode: st.Ino}
	s.users.Store(1)
	return s, nil
}

// close is the end of the actor's own use.
func (s *socket) close(remove bool) {
	if remove && s.path != "" {
		os.Remove(s.path)
	}
	s.release()
}

func (s *socket) release() {
	if s.users.Add(-1) == 0 {
		unix.Close(s.fd)
	}
}

// use is for the actor to call, before it hands sockets to somebody else.
func use(sockets []*socket) (done func()) {
	for _, s := range sockets {
		s.users.Add(1)
	}
	return func() {
		for _, s := range sockets {
			s.release()
		}
	}
}

// own gives the path its owner and mode, in this order: only an owner may change
// a mode, and a change of owner can clear bits of it.
func (a address) own(path string) error {
	if path == "" {
		return nil
	}
	if a.owner != "" {
		name, group, _ := strings.Cut(a.owner, ":")
		id, err := lookup(name, group)
		if err != nil {
			return err
		}
		if err := os.Lchown(path, id.uid, id.gid); err != nil {
			return err
		}
	}
	if a.mode == 0 && a.owner == "" {
		return nil
	}
	mode := a.mode
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(path, mode)
}

// clear removes what a dead service has left at path, and refuses anything else.
func clear(network, path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&os.ModeSocket == 0 {
		return hinted(fmt.Errorf("listen unix:%s: there is something that is no socket (%s)", path, fi.Mode()), "name another path, or remove it")
	}
	c, err := net.Dial(network, path)
	if err == nil {
		c.Close()
	}
	if err == nil || !errors.Is(err, syscall.ECONNREFUSED) {
		return hinted(fmt.Errorf("listen unix:%s: somebody listens there: %w", path, syscall.EADDRINUSE), "stop them, or name another path")
	}
	return os.Remove(path)
}

// explainBind says what to do about an address that can't be had.
func explainBind(a address, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(fmt.Errorf("listen %s: %w", a.key(), err), nameHolder(a))
	case errors.Is(err, syscall.EACCES):
		return hinted(fmt.Errorf("listen %s: %w", a.key(), err),
			"ports below 1024 need root or CAP_NET_BIND_SERVICE; for a path, the right to write into its directory")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hinted(fmt.Errorf("listen %s: %w", a.key(), err), "no interface of this machine has that address")
	}
	return fmt.Errorf("listen %s: %w", a.key(), err)
}

// ending reports whether a process has ended, or has begun to: it has lost its
// memory then, and with it its command line and environment, but perhaps not its
// descriptors yet.
func ending(pid int) bool {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return len(line) == 0
}

// holders finds the processes that have the socket of a, as far as we can see, and
// that will have it for a while.
func holders(a address) []int {
	var inodes []uint64
	if strings.HasPrefix(a.network, "unix") {
		inodes = unixInodes(a.addr)
	} else if _, port, err := net.SplitHostPort(a.addr); err == nil {
		n, _ := strconv.Atoi(port)
		for _, l := range listeners() {
			if l.port == n {
				inodes = append(inodes, l.inode)
			}
		}
	}
	var out []int
	for _, inode := range inodes {
		for _, pid := range everyone() {
			if has, _ := proc.HasSocket(pid, inode); !has {
				continue
			}
			if !ending(pid) {
				out = append(out, pid)
			}
		}
	}
	return out
}

// orphans reports whether all that have the socket are workers, whose keeper must
// be dead then: it would have it too.
func orphans(pids []int) bool {
	for _, pid := range pids {
		if !marked(pid) && !ending(pid) {
			return false
		}
	}
	return len(pids) > 0
}

// unixInodes finds the sockets bound to a path in /proc/net/unix: "Num RefCount
// Protocol Flags Type St Inode Path".
func unixInodes(path string) []uint64 {
	if abs, err := filepath.Abs(path); err == nil && path[0] != '@' {
		path = abs
	}
	data, _ := os.ReadFile("/proc/net/unix")
	var out []uint64
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) == 8 && f[7] == path {
			if n, err := strconv.ParseUint(f[6], 10, 64); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

func nameHolder(a address) string {
	for _, pid := range holders(a) {
		if !marked(pid) {
			return fmt.Sprintf("process %d (%s) listens there", pid, command(pid))
		}
	}
	return "another process listens there: ss -ltnp tells which"
}

// restore makes sockets of what a service manager has passed.
func restore(passed []sd.Socket) ([]*socket, error) {
	var out []*socket
	for _, p := range passed {
		name := p.Name
		if !sd.ValidName(name) || name == "" {
			name = sd.NameOf(name)
		}
		s, err := hold(p.FD, name)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d of the service manager: %w", p.FD, err)
		}
		s.listen = boundTo(p.FD)
		out = append(out, s)
	}
	return out, nil
}

// boundTo tells the address of a listening or datagram socket; "": it is none.
func boundTo(fd int) string {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return ""
	}
	accepts, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if accepts == 0 && typ != unix.SOCK_DGRAM {
		return ""
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	kind := map[int]string{unix.SOCK_STREAM: "tcp", unix.SOCK_DGRAM: "udp"}[typ]
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return kind + ":" + net.JoinHostPort(net.IP(sa.Addr[:]).String(), strconv.Itoa(sa.Port))
	case *unix.SockaddrInet6:
		return kind + ":" + net.JoinHostPort(net.IP(sa.Addr[:]).String(), strconv.Itoa(sa.Port))
	case *unix.SockaddrUnix:
		return map[int]string{unix.SOCK_STREAM: "unix:", unix.SOCK_DGRAM: "unixgram:", unix.SOCK_SEQPACKET: "unixpacket:"}[typ] + sa.Name
	}
	return ""
}

// fits reports whether s is the socket that a asks for: it has the name that we
// would give it, or the address.
func (s *socket) fits(a address) bool {
	if s.name == sd.NameOf(a.key()) {
		return true
	}
	want := a.network + ":" + a.addr
	if host, port, err := net.SplitHostPort(a.addr); err == nil {
		if port == "0" {
			return false
		}
		if host == "" {
			host = "::"
		}
		want = a.network + ":" + net.JoinHostPort(host, port)
	}
	for _, n := range []string{"4", "6"} {
		want = strings.Replace(want, "tcp"+n+":", "tcp:", 1)
		want = strings.Replace(want, "udp"+n+":", "udp:", 1)
	}
	return s.listen == want || s.listen == strings.Replace(want, "[::]", "0.0.0.0", 1)
}
