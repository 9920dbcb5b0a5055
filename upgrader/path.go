package upgrader

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pathID is a socket file as it was bound, so that it can be told from one that
// somebody else has put in its place since.
type pathID struct {
	Path string `json:"path,omitempty"` // absolute
	Dev  uint64 `json:"dev,omitempty"`
	Ino  uint64 `json:"ino,omitempty"`
}

// bound identifies the socket file of a unix address; zero if it has none.
func bound(addr string) pathID {
	if addr == "" || addr[0] == '@' || addr[0] == 0 {
		return pathID{}
	}
	abs, err := filepath.Abs(addr)
	if err != nil {
		abs = addr
	}
	id, _ := statPath(abs)
	return id
}

func statPath(path string) (pathID, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return pathID{}, err
	}
	dev, ino := inode(st)
	return pathID{path, dev, ino}, nil
}

func (p pathID) remove() error {
	if p.Path == "" {
		return nil
	}
	now, err := statPath(p.Path)
	if err != nil || now != p {
		return nil // gone, or another's
	}
	return os.Remove(p.Path)
}

// clearStale removes a socket file that nobody listens on any more.
func clearStale(network, path string) error {
	if path == "" || path[0] == '@' {
		return nil
	}
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is no socket: remove it, or listen elsewhere", path)
	}
	c, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: another server listens there: stop it, or listen elsewhere", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s: can't tell whether another server listens there: %w", path, err)
	}
	return os.Remove(path)
}

// isUnix reports whether addresses of a network can be paths.
func isUnix(network string) bool { return strings.HasPrefix(network, "unix") }
