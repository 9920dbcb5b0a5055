//go:build unix

package upgrader

import (
	"os"

	"golang.org/x/sys/unix"
)

// duplicate makes a close-on-exec duplicate of f. (*os.File).Fd would clear
// O_NONBLOCK, which is shared with whoever else holds the file.
func duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var inner error
	err = raw.Control(func(old uintptr) { fd, inner = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = inner
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
