package pidfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// prepared is a file that has everything but a name, so that nothing of it is
// left if this process dies.
type prepared struct {
	pid  int
	file *os.File
}

// prepare makes and syncs the file. An error only means that nothing is gained:
// not every file system knows files without a name.
func prepare(path string, pid int) (*prepared, error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	p := &prepared{pid, os.NewFile(uintptr(fd), path)}
	_, err = p.file.Write(content(pid))
	if err := errors.Join(err, p.file.Chmod(0o644), p.file.Sync()); err != nil { // whatever the umask
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *prepared) close() { p.file.Close() }

// put gives the file the name path, in place of what is there. link(2) replaces
// nothing, so it has another name for a moment.
func (p *prepared) put(path string) error {
	from := fmt.Sprintf("/proc/self/fd/%d", p.file.Fd())
	for n := 0; ; n++ {
		name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid())+"."+strconv.Itoa(n))
		err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
		if errors.Is(err, unix.EEXIST) && n < 100 {
			continue
		}
		if err != nil {
			return os.NewSyscallError("linkat", err)
		}
		if err := os.Rename(name, path); err != nil {
			os.Remove(name)
			return err
		}
		return nil
	}
}
