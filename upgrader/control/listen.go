package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ListenOptions of Listen and Adopt. The zero value works.
type ListenOptions struct {
	// Group is the name or number of a group whose members may talk to the
	// service too. "": root and the user of this process only.
	Group string
	// Identity is what Listener.Identity told the generation that made the
	// socket. It is for Adopt only; "": what lies at the path now is ours.
	Identity string
}

// Listener is a control socket. Accept returns only connections of peers which
// may talk to the service: root, the user of this process, members of the group.
// Others are told that they may not.
//
// Close leaves the path alone, as other generations may listen on the socket.
type Listener struct {
	*net.UnixListener
	path  string
	gid   int // -1: none
	ident string
}

// noGroup is no group's number.
const noGroup = -1

// Listen makes a control socket at path, with mode 0600, or 0660 if a group is
// given. What a service that has ended left there is replaced. If somebody
// listens there the error is ErrInUse; what isn't a socket is never removed. A
// path that begins with "@" is an abstract one, on Linux.
func Listen(path string, o ListenOptions) (*Listener, error) {
	gid, err := lookupGroup(o.Group)
	if err != nil {
		return nil, err
	}
	if path, err = absolute(path); err != nil {
		return nil, err
	}
	unlock := lockDirectory(path)
	defer unlock()
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	ln, err := bind(path, socketMode(gid))
	if err != nil {
		return nil, listenError(path, err)
	}
	l := &Listener{UnixListener: ln, path: path, gid: gid}
	if err := l.own(); err != nil {
		ln.Close()
		return nil, listenError(path, err)
	}
	return l, nil
}

// Adopt makes a Listener of a socket that another generation has made at path.
func Adopt(ln *net.UnixListener, path string, o ListenOptions) (*Listener, error) {
	gid, err := lookupGroup(o.Group)
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	if path, err = absolute(path); err != nil {
		return nil, err
	}
	l := &Listener{UnixListener: ln, path: path, gid: gid, ident: o.Identity}
	if l.ident == "" {
		l.ident, _ = identify(path)
	}
	return l, nil
}

// own gives the new socket file its mode and group, and remembers which it is.
func (l *Listener) own() error {
	l.SetUnlinkOnClose(false)
	if abstract(l.path) {
		return nil
	}
	if l.gid != noGroup {
		if err := os.Lchown(l.path, -1, l.gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(l.path, socketMode(l.gid)); err != nil && runtime.GOOS != "windows" {
		return err
	}
	var err error
	l.ident, err = identify(l.path)
	return err
}

// Path is where the socket lies: absolute.
func (l *Listener) Path() string { return l.path }

// Identity tells the socket's file from one that somebody else puts there. The
// next generation gives it to Adopt.
func (l *Listener) Identity() string { return l.ident }

// Accept waits for a connection of somebody who may talk to the service.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if allowed(c, l.gid) {
			return c, nil
		}
		go turnAway(c)
	}
}

const forbidden = `{"error":"permission denied","hint":"run it as root or as the user of the service, or give the service a control group"}`

// turnAway says why, and gives the peer a moment to read it.
func turnAway(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(c, "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n%s: %d\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s\n",
		versionHeader, Version, len(forbidden)+1, forbidden)
	if uc, ok := c.(*net.UnixConn); ok {
		uc.CloseWrite()
	}
	c.Read(make([]byte, 4096))
}

// Remove removes the path, if what lies there is still this socket: for the
// generation that stops the service. The Listener must not be closed yet, or the
// file's number could be another file's by now.
func (l *Listener) Remove() error {
	if abstract(l.path) || l.ident == "" {
		return nil
	}
	if ident, err := identify(l.path); err != nil || ident != l.ident {
		return nil
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Error{Message: "remove " + err.Error(), Err: err}
	}
	return nil
}

// makeRoom sees to it that path is free: a socket on which nobody listens is removed.
func makeRoom(path string) error {
	if abstract(path) {
		return nil
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return listenError(path, err)
	case !isSocket(info):
		return &Error{Message: fmt.Sprintf("%s: in the way of the control socket lies a %s", path, describe(info.Mode())),
			Hint: "remove it, or choose another path for the control socket"}
	}
	c, err := dialUnix(path, time.Second)
	if err == nil {
		c.Close()
		return inUse(path, nil)
	}
	if backlogFull(err) {
		return inUse(path, nil)
	}
	if !refused(err) {
		return inUse(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return listenError(path, err)
	}
	return nil
}

func inUse(path string, err error) error {
	msg := path + ": a service listens on this control socket already"
	if err != nil {
		msg = fmt.Sprintf("%s: can't tell whether a service listens on this control socket: %v", path, errno(err))
	}
	return &Error{Message: msg, Hint: "stop the other service, or choose another path for the control socket", Err: ErrInUse}
}

func listenError(path string, err error) error {
	e := &Error{Message: fmt.Sprintf("%s: can't make the control socket: %v", path, errno(err)), Err: err}
	switch {
	case addrInUse(err):
		return inUse(path, nil)
	case errors.Is(err, errTooLong):
		e.Hint = "choose a shorter path for the control socket"
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = fmt.Sprintf("make the directory %s first", filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "choose a directory for the control socket in which this user may write"
	}
	return e
}

var errTooLong = errors.New("the path is too long for a unix socket")

func abstract(path string) bool { return runtime.GOOS == "linux" && strings.HasPrefix(path, "@") }

func absolute(path string) (string, error) {
	if path == "" {
		return "", &Error{Message: "the path of the control socket is empty"}
	}
	if abstract(path) {
		return path, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", &Error{Message: fmt.Sprintf("%s: %v", path, err), Err: err}
	}
	return abs, nil
}

func socketMode(gid int) fs.FileMode {
	if gid == noGroup {
		return 0o600
	}
	return 0o660
}

func describe(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "file"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	default:
		return "device or pipe"
	}
}

// errno is the part of a system call's error that says something new.
func errno(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
