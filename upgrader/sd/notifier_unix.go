//go:build unix

package sd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sender is an unconnected datagram socket: a connected one would have to be
// made anew when a manager binds its socket again.
type sender struct{ *socket }

type socket struct {
	mu sync.RWMutex // held for reading while fd is in use
	fd int          // -1: closed
	to string

	timeout time.Duration
}

func newSender(address string, timeout time.Duration) (sender, error) {
	if address[0] == '@' && runtime.GOOS != "linux" {
		return sender{}, errors.New("abstract sockets are there on Linux only")
	}
	if len(address) >= len(unix.RawSockaddrUnix{}.Path) {
		return sender{}, fmt.Errorf("longer than a unix socket's address can be (%d bytes)", len(unix.RawSockaddrUnix{}.Path)-1)
	}
	fd, err := datagramSocket()
	if err != nil {
		return sender{}, os.NewSyscallError("socket", err)
	}
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		unix.Close(fd)
		return sender{}, os.NewSyscallError("setsockopt", err)
	}
	return sender{&socket{fd: fd, to: address, timeout: timeout}}, nil
}

func (s *socket) send(data []byte, files []int) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.fd < 0 {
		return os.ErrClosed
	}
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	to := &unix.SockaddrUnix{Name: s.to} // one for each call: Sendmsg writes into it
	for {
		err := unix.Sendmsg(s.fd, data, oob, to, sendFlags)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			return fmt.Errorf("the manager has not read for %v: %w", s.timeout, os.ErrDeadlineExceeded)
		default:
			return os.NewSyscallError("sendmsg", err)
		}
	}
}

func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	fd := s.fd
	s.fd = -1
	return unix.Close(fd)
}

func (n *Notifier) barrier(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = sendWith(n.sender, w)
	w.Close() // the manager's copy is the only one now
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })()
	_, err = r.Read(make([]byte, 1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return context.Cause(ctx)
	case err == nil:
		return errors.New("the manager wrote into the pipe instead of closing it")
	}
	return nil
}

func sendWith(s sender, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = s.send([]byte("BARRIER=1\n"), []int{int(fd)}) })
	return errors.Join(err, sent)
}

func monotonicUSec() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / int64(time.Microsecond)
}

func setCloseOnExec(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags|syscall.FD_CLOEXEC)
	return err
}
