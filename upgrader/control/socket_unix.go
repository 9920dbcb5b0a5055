//go:build unix

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bind listens at path. fchmod before bind gives the file its mode from its first
// moment on, on Linux; elsewhere the peer's credentials guard that moment.
func bind(path string, mode fs.FileMode) (*net.UnixListener, error) {
	addr, done, err := reach(path)
	if err != nil {
		return nil, err
	}
	defer done()
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.Fchmod(int(fd), uint32(mode)) })
	}}
	ln, err := lc.Listen(context.Background(), "unix", addr)
	if err != nil {
		return nil, err
	}
	return ln.(*net.UnixListener), nil
}

// dialUnix connects to path. Its timeout matters where the backlog is full.
func dialUnix(path string, timeout time.Duration) (net.Conn, error) {
	addr, done, err := reach(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.DialTimeout("unix", addr, timeout)
}

// maxPath is what fits into sun_path beside the NUL (unix(7)).
const maxPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// reach returns an address by which path can be bound or dialled until done is
// called: a path that is too long is reached through its directory's descriptor.
func reach(path string) (addr string, done func(), err error) {
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	if abstract(path) {
		return "", nil, errTooLong
	}
	dir, err := openDirectory(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	addr = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if len(addr) > maxPath {
		dir.Close()
		return "", nil, errTooLong
	}
	return addr, func() { dir.Close() }, nil
}

// lockDirectory keeps two processes from both finding the same stale socket and
// removing each other's new one. Where the directory can't be locked soon, as its
// owner doesn't let us or something else has locked it, it is done without.
func lockDirectory(path string) (unlock func()) {
	if abstract(path) {
		return func() {}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return func() {}
	}
	for range 50 {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() { dir.Close() }
}

// identify tells one file from another while both exist.
func identify(path string) (string, error) {
	if abstract(path) {
		return "", nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fmt.Sprintf("%d:%d", uint64(st.Dev), uint64(st.Ino)), nil
}

func isSocket(info fs.FileInfo) bool { return info.Mode().Type() == fs.ModeSocket }

func refused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

func addrInUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }

func lookupGroup(group string) (int, error) {
	if group == "" {
		return noGroup, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, &Error{Message: fmt.Sprintf("there is no group %q", group), Err: err}
	}
	return strconv.Atoi(g.Gid)
}

// credentials are those of a peer, by the kernel's word.
type credentials struct {
	uid    int
	groups []int
}

// allowed reports whether a peer may talk to the service. The file's mode says
// the same, but an abstract socket has none, and a mode is changed easily.
func allowed(c *net.UnixConn, gid int) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred credentials
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = peer(int(fd), gid != noGroup) }); err != nil || credErr != nil {
		return false
	}
	return cred.may(os.Geteuid(), gid)
}

func (c credentials) may(euid, gid int) bool {
	if c.uid == 0 || c.uid == euid {
		return true
	}
	for _, g := range c.groups {
		if gid != noGroup && g == gid {
			return true
		}
	}
	return false
}

// backlogFull: somebody listens, but has many to accept before us (connect(2)).
func backlogFull(err error) bool { return errors.Is(err, unix.EAGAIN) }
