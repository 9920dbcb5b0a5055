package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// maxPath is what fits into sun_path beside the NUL.
const maxPath = 107

func bind(path string, _ fs.FileMode) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, errTooLong
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

func dialUnix(path string, timeout time.Duration) (net.Conn, error) {
	if len(path) > maxPath {
		return nil, errTooLong
	}
	return net.DialTimeout("unix", path, timeout)
}

func lockDirectory(string) (unlock func()) { return func() {} }

// identify goes by the time of creation: the file's number can't be asked for
// without opening what can't be opened.
func identify(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(info.ModTime().UnixNano()), nil
}

// isSocket can't tell a socket from another reparse point.
func isSocket(info fs.FileInfo) bool {
	return info.Mode()&(fs.ModeSocket|fs.ModeIrregular) != 0
}

func refused(err error) bool {
	return errors.Is(err, windows.WSAECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

func addrInUse(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

func lookupGroup(group string) (int, error) {
	if group != "" {
		return 0, &Error{Message: "control groups don't exist on Windows", Err: errors.ErrUnsupported}
	}
	return noGroup, nil
}

// allowed leaves it to the directory's access control list: Windows doesn't tell
// who a peer is.
func allowed(*net.UnixConn, int) bool { return true }

func backlogFull(error) bool { return false }
