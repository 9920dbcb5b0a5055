//go:build linux && (amd64 || arm64)

package vault

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/rawclone"
)

// This file runs between clone(2) and the end of the vault: package rawclone says
// what it may not do, and a test reads the compiled code to see that it doesn't.

// What the vault sleeps on. A descriptor of -1 is passed over.
const (
	watchSock   = iota
	watchKeeper // pidfd
	watchWorker // pidfd, until the keeper has the vault
)

// child is all the memory that the vault writes to, besides its stack.
var child struct {
	sock    uintptr
	watch   [3]unix.PollFd
	numbers uintptr // in reply
	rights  uintptr // in control
	unseen  int32   // open descriptors that a scan has yet to come to; below 1: not known
	request [maxScan + 2]int32
	reply   [maxScan + 2]int32
	control struct {
		header unix.Cmsghdr
		fds    [maxFetch + 3]int32
	}
	msg      unix.Msghdr
	iov      unix.Iovec
	value    int32 // for getsockopt
	valueLen uint32
	mask     uint64
	name     [16]byte
}

// prepare fills in everything that has a pointer in it.
func prepare(sock, worker int) {
	c := &child
	c.sock = uintptr(sock)
	c.watch[watchSock] = unix.PollFd{Fd: int32(sock), Events: unix.POLLIN}
	c.watch[watchWorker] = unix.PollFd{Fd: int32(worker), Events: unix.POLLIN}
	c.control.header.Level = unix.SOL_SOCKET
	c.control.header.Type = unix.SCM_RIGHTS
	c.iov.Base = (*byte)(unsafe.Pointer(&c.reply))
	c.msg.Iov = &c.iov
	c.msg.Iovlen = 1
	c.msg.Control = (*byte)(unsafe.Pointer(&c.control))
	copy(c.name[:], "tc-vault")
}

// launch makes the vault. In it, the call never returns, and all signals stay
// blocked. The caller is locked to its thread.
//
// The small functions keep the stack low: without a stack check there are 800
// bytes for all, also where nothing is optimised.
//
//go:noinline
//go:norace
//go:nosplit
func launch() (pid uintptr, errno syscall.Errno) {
	pid, errno = rawclone.Clone(unix.CLONE_FILES|unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, &child.mask)
	if errno == 0 && pid == 0 {
		serve()
	}
	return pid, errno
}

// serve is the vault's whole life. It ends when the keeper's end of the socket
// is closed. That alone wouldn't do: if the worker dies before it has closed its
// duplicate of that end, it stays open in the descriptors that the vault has
// from it. So the vault also ends with the keeper, and, unless the keeper has
// adopted it, with the worker.
//
// It stays dumpable: its memory is a copy of the worker's, so whoever may look
// into it may look into the worker as well.
//
//go:noinline
//go:norace
//go:nosplit
func serve() {
	introduce()
	watchParent()
	for await() {
		n, errno := receive()
		if errno == unix.EINTR || errno == unix.EAGAIN {
			continue
		}
		if errno != 0 || n < 4 || n > unsafe.Sizeof(child.request) || !handle(n/4-1) {
			break
		}
	}
	exit()
}

//go:noinline
//go:norace
//go:nosplit
func introduce() {
	syscall.RawSyscall6(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0)
	syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&child.name)), 0, 0, 0, 0)
}

//go:noinline
//go:norace
//go:nosplit
func exit() {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
	}
}

//go:noinline
//go:norace
//go:nosplit
func receive() (n uintptr, errno syscall.Errno) {
	n, _, errno = syscall.RawSyscall6(unix.SYS_RECVFROM, child.sock,
		uintptr(unsafe.Pointer(&child.request)), unsafe.Sizeof(child.request), unix.MSG_DONTWAIT, 0, 0)
	return n, errno
}

// watchParent takes a pidfd of the keeper. It fails where the keeper is in
// another PID namespace, and before Linux 5.3.
//
//go:noinline
//go:norace
//go:nosplit
func watchParent() {
	parent, _, _ := syscall.RawSyscall6(unix.SYS_GETPPID, 0, 0, 0, 0, 0, 0)
	child.watch[watchKeeper].Fd = -1
	fd, _, errno := syscall.RawSyscall6(unix.SYS_PIDFD_OPEN, parent, 0, 0, 0, 0, 0)
	if errno == 0 {
		child.watch[watchKeeper].Fd = int32(fd)
		child.watch[watchKeeper].Events = unix.POLLIN
	}
}

// await sleeps until there is a request. It returns false when nobody is left
// to make one.
//
//go:noinline
//go:norace
//go:nosplit
func await() bool {
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&child.watch)), 3, 0, 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || child.watch[watchKeeper].Revents != 0 {
			return false
		}
		if child.watch[watchSock].Revents != 0 {
			return true
		}
		if child.watch[watchWorker].Revents != 0 {
			return false
		}
	}
}

// handle answers the request, which has n numbers besides the first one.
//
//go:noinline
//go:norace
//go:nosplit
func handle(n uintptr) bool {
	child.rights = 0
	child.numbers = 1
	child.reply[0] = 0
	switch child.request[0] {
	case requestAdopt:
		child.watch[watchWorker].Fd = -1
	case requestFetch:
		fetch(n)
	case requestScan:
		scan(n)
	default:
		child.reply[0] = -int32(unix.EINVAL)
	}
	errno := respond()
	if errno != 0 && child.rights != 0 && errno != unix.EPIPE {
		fail(-int32(errno))
		errno = respond()
	}
	return errno == 0
}

// fetch answers with one status for each descriptor that was asked for: itself,
// or a negative errno.
//
//go:noinline
//go:norace
//go:nosplit
func fetch(n uintptr) {
	if n > maxFetch {
		n = maxFetch
	}
	child.numbers = n
	for i := uintptr(0); i < n && i < maxFetch; i++ {
		fd := child.request[i+1]
		_, _, errno := syscall.RawSyscall6(unix.SYS_FCNTL, uintptr(fd), unix.F_GETFD, 0, 0, 0, 0)
		if errno != 0 {
			child.reply[i] = -int32(errno)
			continue
		}
		child.reply[i] = fd
		if child.rights < maxFetch {
			child.control.fds[child.rights] = fd
		}
		child.rights++
	}
}

// fail changes all statuses after one descriptor couldn't be sent. The keeper
// then asks in smaller portions.
//
//go:noinline
//go:norace
//go:nosplit
func fail(status int32) {
	for i := uintptr(0); i < child.numbers && i < maxFetch; i++ {
		child.reply[i] = status
	}
	child.rights = 0
}

// scan looks for TCP sockets among the descriptors from request[1] up to, and
// without, request[2]. The answer's first number is where to go on. The table of
// descriptors may be much larger than what is open: who knows when all has been
// seen needn't go through the rest of it.
//
//go:noinline
//go:norace
//go:nosplit
func scan(args uintptr) {
	n := uintptr(1)
	fd, to := child.request[1], child.request[2]
	if fd == 0 {
		child.unseen = 0
		if args > 2 {
			child.unseen = child.request[3]
		}
	}
	for ; fd < to && n < maxScan; fd++ {
		errno := option(fd, unix.SO_PROTOCOL)
		if errno == unix.EBADF {
			continue
		}
		if child.unseen--; child.unseen == 0 {
			to = fd + 1
		}
		if errno != 0 || child.value != unix.IPPROTO_TCP && child.value != unix.IPPROTO_MPTCP {
			continue
		}
		if option(fd, unix.SO_ACCEPTCONN) != 0 || child.value != 0 {
			continue
		}
		child.reply[n] = fd
		n++
	}
	if fd == to {
		fd = child.request[2]
	}
	child.reply[0] = fd
	child.numbers = n
}

// option reads a socket option into child.value.
//
//go:noinline
//go:norace
//go:nosplit
func option(fd int32, name uintptr) syscall.Errno {
	child.value = 0
	child.valueLen = 4
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, name,
		uintptr(unsafe.Pointer(&child.value)), uintptr(unsafe.Pointer(&child.valueLen)), 0)
	return errno
}

// respond sends the first numbers of reply and, with them, rights descriptors.
//
//go:noinline
//go:norace
//go:nosplit
func respond() syscall.Errno {
	child.iov.Len = uint64(child.numbers * 4)
	child.control.header.Len = uint64(unix.SizeofCmsghdr + child.rights*4)
	child.msg.Controllen = 0
	if child.rights != 0 {
		child.msg.Controllen = uint64(unix.SizeofCmsghdr + (child.rights*4+7)&^7)
	}
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDMSG, child.sock,
			uintptr(unsafe.Pointer(&child.msg)), unix.MSG_NOSIGNAL, 0, 0, 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}
