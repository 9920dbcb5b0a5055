package proc

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Handle is a process, and stays the same one when its PID is given to another:
// a pidfd.
type Handle struct {
	pid  int
	file *os.File // nonblocking, so that waiting costs no thread
	raw  syscall.RawConn

	once sync.Once
	done chan struct{}
}

// Open returns a handle for the process that pid names now; os.ErrProcessDone
// if there is none. Whether it still is the process that was meant must be
// certain from elsewhere: it is our child and not waited for yet, or it is our
// parent, and still so after Open.
func Open(pid int) (*Handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		err = os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("proc: pidfd_open %d: %w", pid, err)
	}
	return FromPidfd(pid, fd)
}

// FromPidfd makes a handle of a pidfd, which it takes over. It sets O_NONBLOCK,
// for every process that shares this open file.
func FromPidfd(pid, fd int) (*Handle, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("proc: pidfd of %d: %w", pid, err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), fmt.Sprintf("pidfd:%d", pid))
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("proc: pidfd of %d: %w", pid, err)
	}
	return &Handle{pid: pid, file: f, raw: raw}, nil
}

// PID is what the handle was made of.
func (h *Handle) PID() int { return h.pid }

// Done returns a channel that is closed when the process has ended, waited for
// by its parent or not. It is not closed by Close.
func (h *Handle) Done() <-chan struct{} {
	h.once.Do(func() {
		h.done = make(chan struct{})
		go h.watch()
	})
	return h.done
}

func (h *Handle) watch() {
	var ended bool
	h.raw.Read(func(fd uintptr) bool {
		ended = readable(int(fd))
		return ended
	})
	if ended {
		close(h.done)
	}
}

// Ended reports whether the process has ended; true as well after Close.
func (h *Handle) Ended() bool {
	ended := true
	h.raw.Control(func(fd uintptr) { ended = readable(int(fd)) })
	return ended
}

func readable(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err == nil && n == 1 && p[0].Revents&unix.POLLNVAL == 0
		}
	}
}

// Kill sends a signal; os.ErrProcessDone if the process has been waited for. A
// zombie takes any signal without an error. os.ErrClosed after Close.
func (h *Handle) Kill(sig syscall.Signal) error {
	var sent error
	if err := h.raw.Control(func(fd uintptr) {
		sent = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	}); err != nil {
		return os.ErrClosed // what Control fails with is internal to os
	}
	if errors.Is(sent, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", sent)
}

// SyscallConn gives access to the pidfd.
func (h *Handle) SyscallConn() (syscall.RawConn, error) { return h.raw, nil }

// Close ends the watching; the process is left alone.
func (h *Handle) Close() error { return h.file.Close() }
