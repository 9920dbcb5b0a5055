package upgrader

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// stopSelf stops this process before it returns: a signal to the process as a
// whole may be taken by another thread, some time later.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
