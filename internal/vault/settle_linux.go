package vault

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Close a socket with unread bytes in it, and the kernel sends a reset, upon
// which the peer throws away what it hasn't read of the answer. So the answer is
// followed by a FIN, and then the peer's bytes are read until its own FIN comes.

const (
	// quiet is how long a peer that has acknowledged everything may keep its
	// side open.
	quiet = 2 * time.Second
	// patience is for one that still reads, slowly, what it was sent.
	patience = 10 * time.Second
)

// ending is a connection on its way out.
type ending struct {
	fd   int
	left []byte // of the answer
}

// settle sees to the endings from one goroutine, and closes the channel when
// all are closed.
func settle(endings []*ending) <-chan struct{} {
	done := make(chan struct{})
	if len(endings) == 0 {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		settleAll(endings)
	}()
	return done
}

func settleAll(endings []*ending) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil { // no descriptor left: they go without the wait
		for _, e := range endings {
			e.write()
			unix.Close(e.fd)
		}
		return
	}
	defer unix.Close(ep)
	s := settlement{ep: ep, open: make(map[int32]*ending, len(endings)), begun: time.Now(), scratch: make([]byte, 64<<10)}
	for _, e := range endings {
		s.add(e)
	}
	for len(s.open) > 0 {
		s.wait()
	}
}

type settlement struct {
	ep      int
	open    map[int32]*ending
	begun   time.Time
	sweep   time.Time // when to look for those that take too long
	scratch []byte
}

func (s *settlement) add(e *ending) {
	unix.SetNonblock(e.fd, true)
	if e.write() != nil || unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, e.fd, e.events()) != nil {
		unix.Close(e.fd)
		return
	}
	s.open[int32(e.fd)] = e
}

func (s *settlement) wait() {
	if s.sweep.IsZero() {
		s.sweep = time.Now().Add(quiet)
	}
	var events [128]unix.EpollEvent
	// A millisecond more: rounded down, it would spin through the last one.
	timeout := max(0, int(time.Until(s.sweep)/time.Millisecond)+1)
	n, err := unix.EpollWait(s.ep, events[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		s.begun = time.Time{} // as if all time had passed
		s.expire()
		return
	}
	for _, ev := range events[:max(0, n)] {
		if e := s.open[ev.Fd]; e != nil {
			s.advance(e)
		}
	}
	if !time.Now().Before(s.sweep) {
		s.expire()
	}
}

func (s *settlement) advance(e *ending) {
	if len(e.left) == 0 {
		if e.drain(s.scratch) {
			s.close(e)
		}
		return
	}
	err := e.write()
	if err == nil && len(e.left) == 0 {
		err = unix.EpollCtl(s.ep, unix.EPOLL_CTL_MOD, e.fd, e.events())
	}
	if err != nil {
		s.close(e)
	}
}

// expire closes those that have had their time.
func (s *settlement) expire() {
	s.sweep = time.Time{}
	over := time.Since(s.begun) >= patience
	for _, e := range s.open {
		unsent, err := unix.IoctlGetInt(e.fd, unix.SIOCOUTQ)
		if over || err != nil || unsent == 0 {
			s.close(e)
		}
	}
}

func (s *settlement) close(e *ending) {
	delete(s.open, int32(e.fd))
	// A process being forked at this moment has a duplicate until its exec,
	// so closing doesn't end the watch.
	unix.EpollCtl(s.ep, unix.EPOLL_CTL_DEL, e.fd, nil)
	unix.Close(e.fd)
}

// events are level-triggered. The peer's bytes wait while the answer doesn't
// fit into the socket.
func (e *ending) events() *unix.EpollEvent {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(e.fd)}
	if len(e.left) > 0 {
		ev.Events = unix.EPOLLOUT
	}
	return &ev
}

// write writes what fits and, when that is all, the FIN.
func (e *ending) write() error {
	for len(e.left) > 0 {
		n, err := unix.SendmsgN(e.fd, e.left, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return err
		default:
			e.left = e.left[n:]
		}
	}
	return unix.Shutdown(e.fd, unix.SHUT_WR)
}

// drain throws away a portion of what has come, and tells whether the peer has
// ended its side.
func (e *ending) drain(scratch []byte) bool {
	n, err := unix.Read(e.fd, scratch)
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
		return false
	}
	return err != nil || n == 0
}
