// Package pidfile owns a PID file on behalf of a service whose processes follow
// one another.
//
// The file itself is information, for people and service managers. Ownership is
// a lock (flock) on a second file beside it, path + ".lock". Such a lock belongs
// to the open file: every process of the service inherits it, and it is free
// when the last of them has closed it or has ended, however it ended. So a
// stale file can't be mistaken for a living service, nor can the number of a
// process that has since been given to another one.
//
// The lock file is never removed: whoever opened it before it was removed would
// hold a lock that says nothing to those who come after.
package pidfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// HeldError says that another instance of the service holds the lock.
type HeldError struct {
	Path string // of the PID file
	PID  int    // which the file names; 0: none, or it has ended
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("pidfile %s: held by another instance", e.Path)
	}
	return fmt.Sprintf("pidfile %s: held by another instance (pid %d)", e.Path, e.PID)
}

// Hint says what to do about it.
func (e *HeldError) Hint() string {
	if e.PID == 0 {
		return "another instance runs; stop it or use another --pidfile"
	}
	return fmt.Sprintf("another instance (pid %d) runs; stop it or use another --pidfile", e.PID)
}

// Is makes every HeldError errors.Is ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

var (
	// ErrHeld is what a HeldError is.
	ErrHeld = errors.New("held by another instance")
	// ErrGarbage means that a PID file has no PID in it.
	ErrGarbage = errors.New("no PID in it")
)

// maxSize bounds what Read looks at: a PID has at most 10 digits.
const maxSize = 64

// Read returns the PID in a PID file. The error is an fs.ErrNotExist if there is
// none, and an ErrGarbage if it has something else in it.
func Read(path string) (int, error) {
	if err := regular(path); err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return 0, err
	}
	pid, err := parse(data)
	if err != nil {
		return 0, fmt.Errorf("pidfile %s: %w", path, err)
	}
	return pid, nil
}

// regular keeps Read from waiting for a writer at a FIFO.
func regular(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case fi.IsDir():
		return fmt.Errorf("pidfile %s: is a directory: name a file in it", path)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("pidfile %s: is no regular file (%s)", path, fi.Mode().Type())
	}
	return nil
}

// parse takes one positive decimal number and white space around it.
func parse(data []byte) (int, error) {
	if len(data) > maxSize {
		return 0, ErrGarbage
	}
	text := strings.TrimSpace(string(data))
	pid, err := strconv.ParseInt(text, 10, 32)
	if err != nil || pid <= 0 || text[0] == '+' {
		return 0, fmt.Errorf("%w: %q", ErrGarbage, text)
	}
	return int(pid), nil
}

// absolute also checks what can be checked before anything is made.
func absolute(path string) (string, error) {
	if path == "" {
		return "", errors.New("pidfile: empty path: name a file")
	}
	if strings.HasSuffix(path, "/") {
		return "", fmt.Errorf("pidfile %s: is a directory: name a file in it", path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("pidfile %s: %w", path, err)
	}
	if fi, err := os.Lstat(path); err == nil && fi.IsDir() {
		return "", fmt.Errorf("pidfile %s: is a directory: name a file in it", path)
	}
	dir := filepath.Dir(path)
	switch fi, err := os.Stat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("pidfile %s: %w: create the directory %s (RuntimeDirectory= in a systemd unit), or name another file", path, os.ErrNotExist, dir)
	case err != nil:
		return "", explain(path, err)
	case !fi.IsDir():
		return "", fmt.Errorf("pidfile %s: %s is not a directory", path, dir)
	}
	return path, nil
}

// explain says what to do about err, which came from making a file beside path.
func explain(path string, err error) error {
	dir := filepath.Dir(path)
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("pidfile %s: %w: the user with uid %d must be able to write into %s; or name another file", path, err, os.Getuid(), dir)
	case readOnly(err):
		return fmt.Errorf("pidfile %s: %w: name a file on a file system that can be written to", path, err)
	}
	return fmt.Errorf("pidfile %s: %w", path, err)
}
