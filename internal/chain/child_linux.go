//go:build linux && (amd64 || arm64)

package chain

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/rawclone"
)

// This file runs between clone(2) and execve(2): package rawclone says what it
// may not do, and a test reads the compiled code to see that it doesn't.

// call is a system call that the new process makes. step is the number of what it
// is a step of, from 1; 0: it may fail.
type call struct {
	nr   uintptr
	args [4]uintptr
	step int32
}

// image is all that the new process needs to know.
type image struct {
	calls  []call
	parent uintptr
	death  uintptr // the signal if the parent is dead already; 0: none
	digits *[pidDigits]byte
	paths  [2]uintptr // 0: none
	argv   uintptr
	envp   uintptr
	step   int32 // of execve
	report uintptr

	mask   uint64
	pidfd  int32
	words  [2]int32 // errno and step
	action [4]uintptr
}

const (
	// listenPID has room for the digits of any PID; what is left of it is cut off.
	listenPID = "LISTEN_PID=0000000000"
	pidDigits = 10
)

var child image

// launch makes the new process; in it, the call never returns. The caller is locked
// to its thread.
//
//go:noinline
//go:norace
//go:nosplit
func launch() (pid uintptr, errno syscall.Errno) {
	pid, errno = rawclone.Clone(unix.CLONE_PIDFD|uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&child.pidfd)), &child.mask)
	if errno == 0 && pid == 0 {
		become()
	}
	return pid, errno
}

// become does what was planned, and becomes the program. Its parts are functions
// for the sake of the stack: without a stack check there are 800 bytes for all, also
// where nothing is optimised.
//
//go:noinline
//go:norace
//go:nosplit
func become() {
	carryOut()
	introduce()
	resetSignals()
	rawclone.SwapMask(&child.mask)
	execute()
}

//go:noinline
//go:norace
//go:nosplit
func carryOut() {
	for _, c := range child.calls {
		_, _, errno := syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], 0, 0)
		if errno != 0 && c.step != 0 {
			fail(errno, c.step)
		}
	}
}

//go:noinline
//go:norace
//go:nosplit
func execute() {
	var last syscall.Errno
	for _, path := range child.paths {
		if path != 0 && (last == 0 || last == unix.ENOENT || last == unix.EACCES) {
			_, _, last = syscall.RawSyscall6(unix.SYS_EXECVE, path, child.argv, child.envp, 0, 0, 0)
		}
	}
	fail(last, child.step)
}

// introduce is what depends on the process's own PID, and its parent's.
//
//go:noinline
//go:norace
//go:nosplit
func introduce() {
	pid, _, _ := syscall.RawSyscall6(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0)
	if child.digits != nil {
		write(pid)
	}
	if child.death == 0 {
		return
	}
	// If the parent died before it could be told, nobody tells. The signal is
	// blocked still.
	parent, _, _ := syscall.RawSyscall6(unix.SYS_GETPPID, 0, 0, 0, 0, 0, 0)
	if parent != child.parent {
		syscall.RawSyscall6(unix.SYS_KILL, pid, child.death, 0, 0, 0, 0)
	}
}

// write writes a number in decimal, and ends the string there.
//
//go:noinline
//go:norace
//go:nosplit
func write(pid uintptr) {
	n := uintptr(1)
	for p := pid; p >= 10; p /= 10 {
		n++
	}
	if n < pidDigits {
		child.digits[n] = 0
	}
	for n > 0 {
		n--
		if n < pidDigits {
			child.digits[n] = byte('0' + pid%10)
		}
		pid /= 10
	}
}

// resetSignals lets no signal reach a Go handler once they aren't blocked any
// more. Those that are ignored stay so.
//
//go:noinline
//go:norace
//go:nosplit
func resetSignals() {
	for sig := uintptr(1); sig <= 64; sig++ {
		child.action[0] = 0
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, 0, uintptr(unsafe.Pointer(&child.action)), 8, 0, 0)
		if child.action[0] <= 1 { // SIG_DFL, SIG_IGN
			continue
		}
		child.action = [4]uintptr{}
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&child.action)), 0, 8, 0, 0)
	}
}

// fail tells the parent, and ends as a shell would: 126 for what is there but
// can't be run, 127 for what isn't there.
//
//go:noinline
//go:norace
//go:nosplit
func fail(errno syscall.Errno, step int32) {
	child.words[0] = int32(errno)
	child.words[1] = step
	syscall.RawSyscall6(unix.SYS_WRITE, child.report, uintptr(unsafe.Pointer(&child.words)), 8, 0, 0, 0)
	status := uintptr(126)
	if errno == unix.ENOENT {
		status = 127
	}
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, status, 0, 0, 0, 0, 0)
	}
}
