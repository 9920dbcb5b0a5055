//go:build unix && !linux

package sd

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const sendFlags = 0

// datagramSocket holds the fork lock, as nothing makes a socket close-on-exec
// from its birth.
func datagramSocket() (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	return fd, err
}
