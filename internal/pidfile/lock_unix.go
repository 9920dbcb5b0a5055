//go:build unix

package pidfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// openLock returns the lock file of path, locked.
func openLock(path string) (*os.File, error) {
	for {
		f, err := createLock(path)
		if err != nil {
			return nil, err
		}
		if err := flock(path, f); err != nil {
			f.Close()
			return nil, err
		}
		// Somebody may have removed it between our open and our lock.
		if sameAsPath(f, lockPath(path)) {
			return f, nil
		}
		f.Close()
	}
}

func createLock(path string) (*os.File, error) {
	// O_NOFOLLOW: whoever may write into the directory must not have us create
	// files elsewhere. O_NONBLOCK: nor have us wait at a FIFO.
	f, err := os.OpenFile(lockPath(path), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("pidfile %s: the lock file %s is a symlink: remove it, or name another file", path, lockPath(path))
	case err != nil:
		return nil, explain(path, err)
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("pidfile %s: the lock file %s is no regular file: remove it, or name another file", path, lockPath(path))
	}
	return f, nil
}

// flock doesn't wait.
func flock(path string, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := raw.Control(func(fd uintptr) {
		for locked = unix.EINTR; locked == unix.EINTR; {
			locked = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
		}
	}); err != nil {
		return err
	}
	switch {
	case errors.Is(locked, unix.EWOULDBLOCK):
		return &HeldError{Path: path, PID: livingPID(path)}
	case locked != nil:
		return fmt.Errorf("pidfile %s: lock %s: %w", path, lockPath(path), locked)
	}
	return nil
}

// relock makes sure that an inherited file is locked: it costs nothing if it
// is, as the lock belongs to the open file.
func relock(path string, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("pidfile %s: %w", path, err)
	}
	raw.Control(func(fd uintptr) { unix.CloseOnExec(int(fd)) })
	return flock(path, f)
}

// livingPID keeps a stale PID out of messages: until an instance has become
// ready, the file may still name one that ended long ago.
func livingPID(path string) int {
	pid, err := Read(path)
	if err != nil || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0
	}
	return pid
}

func sameAsPath(f *os.File, path string) bool {
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := os.Lstat(path)
	return err == nil && os.SameFile(fi, at)
}

func replace(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path)), renameio.IgnoreUmask())
}

func readOnly(err error) bool { return errors.Is(err, unix.EROFS) }
