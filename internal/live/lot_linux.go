package live

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// lot is where connections without a request are parked: an epoll set instead of
// a goroutine each.
type lot struct {
	t *Table

	mu      sync.Mutex
	stopped bool
	set     *os.File // of epoll, which itself waits in the runtime's poller; nil: nothing was parked yet
	fd      int      // set's
	ended   chan struct{}
	items   map[int]*handover.Item // by descriptor
	waking  int                    // neither here nor in the table's hands
	kicked  bool                   // since the last sweep
}

func newLot(t *Table) *lot { return &lot{t: t, items: make(map[int]*handover.Item)} }

// park takes over a connection; false: it can't.
func (l *lot) park(it *handover.Item) bool {
	if _, bare := it.Owner.(leaving); bare {
		return false // its net.Conn sits in the runtime's poller already
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.open() != nil {
		return false
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(it.FD)}
	if unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, it.FD, &ev) != nil {
		return false
	}
	l.items[it.FD] = it
	return true
}

// open needs l.mu.
func (l *lot) open() error {
	if l.set != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	l.fd, l.set = fd, os.NewFile(uintptr(fd), "epoll")
	l.ended = make(chan struct{})
	go l.watch(l.set, l.fd, l.ended)
	return nil
}

// stop empties the lot, which takes nothing more until start.
func (l *lot) stop() []*handover.Item {
	l.mu.Lock()
	set, ended := l.set, l.ended
	l.set, l.stopped = nil, true
	l.mu.Unlock()
	if set != nil {
		set.Close()
		<-ended
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*handover.Item, 0, len(l.items))
	for _, it := range l.items {
		all = append(all, it)
	}
	clear(l.items)
	return all
}

func (l *lot) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = false
}

// kick makes the lot look for what is overdue.
func (l *lot) kick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kicked = true
	if l.set != nil {
		l.set.SetReadDeadline(past)
	}
}

// sleepUntil sets how long watch waits, unless it is to look at once.
func (l *lot) sleepUntil(set *os.File, t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kicked {
		t = past
	}
	set.SetReadDeadline(t)
}

func (l *lot) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.items) + l.waking
}

// watch runs until set is closed.
func (l *lot) watch(set *os.File, fd int, ended chan<- struct{}) {
	defer close(ended)
	raw, err := set.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 256)
	next := time.Now().Add(l.t.sweepEvery())
	for {
		n := 0
		l.sleepUntil(set, next)
		err := raw.Read(func(uintptr) bool {
			n, _ = unix.EpollWait(fd, events, 0)
			return n > 0
		})
		timeout := os.IsTimeout(err)
		if err != nil && !timeout {
			return
		}
		if timeout || !time.Now().Before(next) { // also if something happens all the time
			l.sweep()
			next = time.Now().Add(l.t.sweepEvery())
		}
		for _, ev := range events[:max(n, 0)] {
			l.wake(fd, int(ev.Fd))
		}
	}
}

// wake is called when something has happened on a parked connection.
func (l *lot) wake(epfd, fd int) {
	l.mu.Lock()
	it := l.items[fd]
	l.mu.Unlock()
	if it == nil {
		return
	}
	s := look(fd)
	if s == silent {
		return
	}
	// Both now: the number may be another connection's as soon as this one's
	// descriptor is closed.
	unix.EpollCtl(epfd, unix.EPOLL_CTL_DEL, fd, nil)
	l.mu.Lock()
	delete(l.items, fd)
	l.waking = 1 // a drain must see it somewhere
	l.mu.Unlock()
	if s == talks {
		l.t.inject(it, false)
	} else {
		it.Close()
		l.t.parkedEnded(ClosedPeer)
	}
	l.mu.Lock()
	l.waking = 0
	l.mu.Unlock()
	l.t.changed()
}

// sweep closes what has been idle for too long.
func (l *lot) sweep() {
	l.mu.Lock()
	l.kicked = false
	var out []*handover.Item
	for fd, it := range l.items {
		if l.t.overdue(it) && look(fd) != talks {
			out = append(out, it)
			delete(l.items, fd)
		}
	}
	l.mu.Unlock()
	for _, it := range out {
		it.Close()
		l.t.parkedEnded(ClosedIdle)
	}
}
