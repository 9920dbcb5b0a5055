package keeper

import (
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// messenger is the line to one worker.
type messenger struct {
	conn  *kept.Conn
	queue chan letter
}

// letter is a message with its descriptors, which are ours until it is sent.
type letter struct {
	message kept.Message
	files   []int
}

func (l letter) close() {
	for _, fd := range l.files {
		unix.Close(fd)
	}
}

const (
	lineQueue   = 64
	lineTimeout = 5 * time.Second
)

func newMessenger(c *kept.Conn) *messenger {
	m := &messenger{conn: c, queue: make(chan letter, lineQueue)}
	go m.write()
	return m
}

// write leaves the reader, who closes the line, a moment for a dead worker's last
// words.
func (m *messenger) write() {
	defer func() { m.conn.Link().SetReadDeadline(time.Now().Add(lineTimeout)) }()
	broken := false
	for l := range m.queue {
		if !broken {
			m.conn.Link().SetWriteDeadline(time.Now().Add(lineTimeout))
			broken = m.conn.Send(l.message, l.files...) != nil
		}
		l.close()
	}
}

// Send is for the actor alone, as is Close. A worker that doesn't read loses
// messages, and is found out by its timeouts.
func (m *messenger) Send(msg kept.Message, files ...int) {
	l := letter{msg, files}
	select {
	case m.queue <- l:
	default:
		l.close()
	}
}

// introduce gives a worker and the one in whose place it is a link to each other,
// on which connections can move; and to one that drains and whose own successor
// has died.
func (s *service) introduce(p *process) {
	for _, q := range s.procs {
		_, w := s.state.find(q.proc)
		mine := q.index == p.index || q.index >= s.state.policy.workers && q.drained != nil
		if q == p || !mine || q.line == nil || w == nil || w.life != draining || q.drained != nil && !q.estate.bereft() {
			continue
		}
		s.connect(q, p)
	}
}

// connect lets connections move from q to p.
func (s *service) connect(q, p *process) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		s.a.log.WithError(err).Error("make a link between two workers: connections won't move")
		return
	}
	q.estate.bind(p.estate, fds[0])
	q.line.Send(&kept.Peer{Role: kept.Successor, Generation: p.generation, PID: p.pid()}, fds[0])
	p.line.Send(&kept.Peer{Role: kept.Predecessor, Generation: q.generation, PID: q.pid()}, fds[1])
}

// Roomy leaves half of the queue to what must arrive.
func (m *messenger) Roomy() bool { return len(m.queue) < lineQueue/2 }

func (m *messenger) Close() { close(m.queue) }

// listenLines makes the socket which workers with this library connect to.
func listenLines(id string) (*net.UnixListener, error) {
	return net.ListenUnix("unixpacket", &net.UnixAddr{Name: "@tablecloth/keeper/" + id, Net: "unixpacket"})
}

// acceptPause is for who can't accept for want of descriptors.
const acceptPause = 10 * time.Millisecond

func (a *actor) acceptLines(ln *net.UnixListener) {
	for {
		c, err := ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(acceptPause) // no descriptors left, say
			continue
		}
		go a.hearLine(c)
	}
}

// hearLine is one worker's line, if the caller is one.
func (a *actor) hearLine(uc *net.UnixConn) {
	who := peerOf(uc)
	c := kept.New(link.From(uc, false))
	defer c.Close()
	var s *service
	var p *process
	accepted := a.meet(who, func(ms *service, mp *process) bool {
		if mp.line != nil {
			return false
		}
		s, p = ms, mp
		p.line = newMessenger(c)
		return true
	})
	if !accepted {
		return
	}
	for {
		m, files, err := c.Recv()
		if err != nil {
			a.post(func() { s.hungUp(p) })
			return
		}
		switch m := m.(type) {
		case *kept.Vault: // here, as it takes a while
			s.adoptVault(p, m, files)
			continue
		case *kept.Listening:
			p.estate.hear(m)
		}
		heard := a.post(func() {
			if s.procs[p.proc] == p && p.line != nil {
				s.heard(p, m, files)
			} else if last, ok := m.(*kept.Status); ok {
				s.exhume(p, last)
			}
		})
		if !heard {
			return
		}
	}
}

// meet finds a peer's worker. One that was forked a moment ago may not be known to
// the actor yet: it has our marker, and is waited for. Strangers cost nobody time.
func (a *actor) meet(who peer, f func(*service, *process) bool) bool {
	for {
		found, ok := false, false
		var birth <-chan struct{}
		if !a.ask(func() {
			if s, p := a.process(who.pids...); p != nil {
				found, ok = true, f(s, p)
			} else {
				birth = a.birth()
			}
		}) || found {
			return ok
		}
		if birth == nil || !slices.ContainsFunc(who.pids, func(pid int) bool { return markedBy(pid, a.id) }) {
			return false
		}
		select {
		case <-birth:
		case <-a.done:
			return false
		}
	}
}

// birth returns what is closed when more is known of the processes that are being
// started; nil: none is.
func (a *actor) birth() <-chan struct{} {
	coming := false
	a.each(func(p *process) { coming = coming || p.child == nil })
	if !coming {
		return nil
	}
	if a.births == nil {
		a.births = make(chan struct{})
	}
	return a.births
}

// born tells those who wait for it.
func (a *actor) born() {
	if a.births != nil {
		close(a.births)
		a.births = nil
	}
}

// peer is who has spoken to us.
type peer struct {
	pids []int // its own, and its session's
	uid  uint32
}

func peerOf(c *net.UnixConn) (p peer) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
				p = peer{kin(int(cred.Pid)), cred.Uid}
			}
		})
	}
	return p
}

// kin are the PIDs by which the worker may be known that a process is, or belongs
// to.
func kin(pid int) []int {
	if sid, err := unix.Getsid(pid); err == nil {
		return []int{pid, sid}
	}
	return []int{pid}
}

// hungUp: the worker closed its line, or ended.
func (s *service) hungUp(p *process) {
	if s.procs[p.proc] == p && p.line != nil {
		p.line.Close()
		p.line, p.hungUp = nil, time.Now()
		p.answered() // no more
		time.AfterFunc(lastBreath, func() { s.a.post(s.place) })
	}
}

// hearNotices receives what workers say by sd_notify.
func (a *actor) hearNotices(r *sd.Receiver) {
	for {
		m, err := r.Recv()
		if err != nil {
			return
		}
		a.meet(peer{pids: kin(m.PID)}, func(s *service, p *process) bool {
			s.notified(p, m)
			return true
		})
		m.Done()
	}
}
