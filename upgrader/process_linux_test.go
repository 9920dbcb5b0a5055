package upgrader

import (
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// becomeSubreaper makes generations whose parent has ended children of the test.
func becomeSubreaper(t testing.TB) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}

// waitFor waits until a child has ended, and returns how. The first generation,
// which package os waits for, is not for it.
func waitFor(pid int) (status syscall.WaitStatus, err error) {
	for {
		_, err = syscall.Wait4(pid, &status, 0, nil)
		if err != syscall.EINTR {
			return status, err
		}
	}
}

// stopSelf stops this process before it returns: a signal to the process as a
// whole may be taken by another thread, some time later.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
