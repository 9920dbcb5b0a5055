//go:build linux && (amd64 || arm64)

package vault

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func start() (h Handle, err error) {
	defer func() {
		if err != nil {
			h.Close()
			h = Handle{PID: h.PID}
		}
	}()
	if h.Memory, h.Table, err = newMemory(); err != nil {
		return h, fmt.Errorf("table: %w", err)
	}
	// The vault's end has no os.File, nor has the pidfd: nothing in this
	// process may ever close them.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return h, fmt.Errorf("socketpair: %w", err)
	}
	h.Sock = os.NewFile(uintptr(pair[1]), "vault")
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		unix.Close(pair[0])
		return h, fmt.Errorf("pidfd_open: %w", err)
	}
	prepare(pair[0], self)
	runtime.LockOSThread()
	pid, errno := launch()
	runtime.UnlockOSThread()
	if errno != 0 {
		unix.Close(pair[0])
		unix.Close(self)
		return h, fmt.Errorf("clone: %w", reason(errno))
	}
	h.PID = int(pid)
	if err := selfTest(&h); err != nil {
		return h, fmt.Errorf("self-test: %w", err)
	}
	return h, nil
}

// reason adds what the bare errno doesn't say.
func reason(errno unix.Errno) error {
	switch errno {
	case unix.EINVAL:
		return fmt.Errorf("%w (as PID 1 of a namespace there is no parent to rescue anything)", errno)
	case unix.EPERM, unix.ENOSYS:
		return fmt.Errorf("%w (forbidden by a sandbox): %w", errno, errors.ErrUnsupported)
	}
	return errno
}
