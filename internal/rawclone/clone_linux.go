//go:build amd64 || arm64

package rawclone

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clone makes a process, and returns in both: in the new one pid is 0. flags are
// those of clone(2); pidfd is the address for CLONE_PIDFD's, or 0.
//
// No signal may reach a Go handler in the new process, so all are blocked from
// before the clone on, and stay blocked there; SwapMask(mask) gives it the mask of
// the caller. That one must be locked to its thread, which has its mask back when
// Clone returns. The new process must never return from the function which has
// called Clone.
//
//go:noinline
//go:norace
//go:nosplit
func Clone(flags, pidfd uintptr, mask *uint64) (pid uintptr, errno syscall.Errno) {
	*mask = ^uint64(0)
	if errno = SwapMask(mask); errno != 0 {
		return 0, errno
	}
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, pidfd, 0, 0, 0)
	if errno != 0 || pid != 0 {
		SwapMask(mask)
	}
	return pid, errno
}

// SwapMask exchanges the thread's signal mask with *mask.
//
//go:noinline
//go:norace
//go:nosplit
func SwapMask(mask *uint64) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(mask)), uintptr(unsafe.Pointer(mask)), 8, 0, 0)
	return errno
}
