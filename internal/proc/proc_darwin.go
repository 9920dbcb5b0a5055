package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Handle is a process, named by its PID.
type Handle struct {
	pid  int
	kq   int
	once sync.Once
	done chan struct{}
	stop chan struct{}
	end  sync.Once
}

// Open returns a handle for the process that pid names now; os.ErrProcessDone
// if there is none.
func Open(pid int) (*Handle, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return nil, fmt.Errorf("proc: kqueue: %w", err)
	}
	unix.CloseOnExec(kq)
	h := &Handle{pid: pid, kq: kq, done: make(chan struct{}), stop: make(chan struct{})}
	change := []unix.Kevent_t{{
		Ident: uint64(pid), Filter: unix.EVFILT_PROC,
		Flags: unix.EV_ADD | unix.EV_ONESHOT, Fflags: unix.NOTE_EXIT,
	}}
	if _, err := unix.Kevent(kq, change, nil, nil); err != nil {
		unix.Close(kq)
		if errors.Is(err, unix.ESRCH) {
			err = os.ErrProcessDone
		}
		return nil, fmt.Errorf("proc: watch %d: %w", pid, err)
	}
	go h.watch()
	return h, nil
}

// watch looks now and then whether the handle has been closed: closing a kqueue
// doesn't wake its waiter.
func (h *Handle) watch() {
	defer unix.Close(h.kq)
	events := make([]unix.Kevent_t, 1)
	for {
		pause := unix.NsecToTimespec(int64(time.Second))
		n, err := unix.Kevent(h.kq, nil, events, &pause)
		if n > 0 {
			close(h.done)
			return
		}
		select {
		case <-h.stop:
			return
		default:
		}
		if err != nil && err != unix.EINTR {
			return
		}
	}
}

// PID is what the handle was made of.
func (h *Handle) PID() int { return h.pid }

// Done returns a channel that is closed when the process has ended. It is not
// closed by Close.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Ended reports whether the process has ended.
func (h *Handle) Ended() bool {
	select {
	case <-h.done:
		return true
	default:
		return errors.Is(unix.Kill(h.pid, 0), unix.ESRCH)
	}
}

// Kill sends a signal; os.ErrProcessDone if the process has ended.
func (h *Handle) Kill(sig syscall.Signal) error {
	select {
	case <-h.done:
		return os.ErrProcessDone
	default:
	}
	err := unix.Kill(h.pid, sig)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("kill", err)
}

// Close ends the watching; the process is left alone.
func (h *Handle) Close() error {
	h.end.Do(func() { close(h.stop) })
	return nil
}

// Children returns the PIDs of the processes whose parent is pid, in ascending
// order.
func Children(pid int) ([]int, error) {
	all, err := unix.SysctlKinfoProcSlice("kern.proc.all")
	if err != nil {
		return nil, err
	}
	var children []int
	for i := range all {
		if int(all[i].Eproc.Ppid) == pid {
			children = append(children, int(all[i].Proc.P_pid))
		}
	}
	slices.Sort(children)
	return children, nil
}

func info(pid int) (*unix.KinfoProc, error) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(k.Proc.P_pid) != pid { // a missing process is an empty answer
		return nil, errors.Join(os.ErrProcessDone, err)
	}
	return k, nil
}

// Zombie reports whether pid has ended and is not waited for yet.
func Zombie(pid int) bool {
	const SZOMB = 5 // sys/proc.h
	k, err := info(pid)
	return err == nil && k.Proc.P_stat == SZOMB
}

// StartTime returns when a process was started.
func StartTime(pid int) (time.Time, error) {
	k, err := info(pid)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(k.Proc.P_starttime.Unix()), nil
}

// Executable returns the path of the file that a process was started from.
func Executable(pid int) (string, error) {
	const argc = 4 // bytes in front of the path
	data, err := unix.SysctlRaw("kern.procargs2", pid)
	if err != nil {
		return "", err
	}
	if len(data) < argc {
		return "", os.ErrProcessDone
	}
	path, _, _ := bytes.Cut(data[argc:], []byte{0})
	return string(path), nil
}

func describe(pid int) (name string, args []string) {
	k, err := info(pid)
	if err != nil {
		return "", nil
	}
	return unix.ByteSliceToString(k.Proc.P_comm[:]), nil
}
