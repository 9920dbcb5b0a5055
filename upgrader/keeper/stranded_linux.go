package keeper

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// bring gives connections to the actor, from elsewhere.
func (s *service) bring(conns []stranded) {
	if len(conns) > 0 && !s.a.post(func() { s.strand(conns) }) {
		s.finish(s.farewells(conns))
	}
}

// strand holds connections until a worker takes them.
func (s *service) strand(conns []stranded) {
	s.stranded = append(s.stranded, conns...)
	s.place()
}

// place deals out what is stranded over the workers that serve; or ends it, if
// none is going to.
func (s *service) place() {
	if len(s.stranded) == 0 {
		return
	}
	takers := s.takers()
	switch {
	case s.state.phase != running, len(takers) == 0 && !s.expects():
		s.abandon(s.stranded)
		s.stranded = nil
		return
	case len(takers) == 0:
		return
	}
	slices.SortFunc(s.stranded, sooner)
	shares := make([][]stranded, len(takers))
	for i, c := range s.stranded {
		shares[i%len(takers)] = append(shares[i%len(takers)], c)
	}
	s.stranded = nil
	for i, p := range takers {
		if len(shares[i]) > 0 {
			s.handOn(p, shares[i])
		}
	}
}

// sooner is the order in which workers get connections: who waits for an answer
// before who doesn't, and longest. So everybody has a turn, however short-lived the
// workers are.
func sooner(a, b stranded) int {
	switch {
	case a.Waits && b.Waits:
		return a.since.Compare(b.since)
	case a.Waits:
		return -1
	case b.Waits:
		return 1
	}
	return 0
}

// takers are the workers which connections can go to: those that aren't about to
// be replaced, if there are or will be any.
func (s *service) takers() (good []*process) {
	var others []*process
	for _, p := range s.procs {
		_, w := s.state.find(p.proc)
		switch {
		case w == nil || w.life != serving || p.line == nil || isClosed(p.estate.gone):
		case w.crashed || w.leaving:
			others = append(others, p)
		default:
			good = append(good, p)
		}
	}
	if len(good) == 0 && s.state.policy.restart == RestartNever {
		return others
	}
	return good
}

// lastBreath is how long after a worker has closed its line it may be about to die: it
// counts as dead only when it has closed all else.
const lastBreath = 5 * time.Second

// expects reports whether a worker is on its way, or will be.
func (s *service) expects() bool {
	if s.state.change != nil || s.state.further != nil {
		return true
	}
	for i := range s.state.policy.workers {
		w := s.state.acting(i)
		if s.state.coming(i) || w == nil && !s.state.retired[i] || w != nil && (w.crashed || w.leaving) {
			return true
		}
		if w == nil {
			continue
		}
		// Its death the state doesn't know yet.
		if p := s.procs[w.proc]; p == nil || isClosed(p.estate.gone) || p.line == nil && time.Since(p.hungUp) < lastBreath {
			return true
		}
	}
	return false
}

// handOn gives connections to a worker, over a link of their own.
func (s *service) handOn(p *process, conns []stranded) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		p.line.Send(&kept.Peer{Role: kept.Predecessor, Generation: p.generation, PID: os.Getpid()}, fds[1])
	}
	var l *link.Conn
	if err == nil {
		l, err = link.New(fds[0])
	}
	if err != nil {
		s.a.log.WithError(err).Error("make a link to a worker: connections don't live on")
		s.abandon(conns)
		return
	}
	h := &handing{to: p.estate, rights: s.rights, log: s.a.log}
	go func() {
		n := h.run(l, conns)
		if !s.a.post(func() {
			s.handed(p, n)
			s.abandon(h.unwanted)
		}) {
			s.finish(s.farewells(h.unwanted))
		}
		s.bring(h.back)
	}()
}

// abandon ends connections that nobody takes.
func (s *service) abandon(conns []stranded) {
	s.rescued.Untaken += int64(len(conns))
	s.finish(s.farewells(conns))
}

func (s *service) handed(p *process, n int) {
	if n > 0 {
		p.adopted += int64(n)
		s.tell(control.Event{Kind: control.EventHandover, Generation: p.generation, PID: p.pid(),
			Text: "took over rescued connections", Counts: map[string]int{"moved": n}})
	}
}

const (
	greeting    = 30 * time.Second // for a worker that serves
	maxRefusals = 3
)

// handing is one delivery of connections to one worker.
type handing struct {
	to     *estate
	rights *rights
	log    logrus.FieldLogger

	pending  sync.WaitGroup
	mu       sync.Mutex
	moved    int
	back     []stranded // to be tried again
	unwanted []stranded
}

// run returns when each connection is the worker's, or in back or unwanted.
func (h *handing) run(l *link.Conn, conns []stranded) int {
	s := handover.NewSender(l, handover.SenderConfig{Dead: h.to.gone, Log: h.log, HelloWait: greeting})
	takes := map[string]error{}
	for _, c := range conns {
		err, asked := takes[c.server]
		if !asked {
			err = s.Takes(context.Background(), c.server)
			takes[c.server] = err
		}
		if err == nil && !s.Reserve() {
			if err = s.Err(); err == nil {
				err = handover.ErrNoRoom
			}
		}
		if err != nil {
			h.returned(c, err)
			continue
		}
		h.pending.Add(1)
		h.rights.send(c.right, h.to)
		s.Put(&handover.Item{Server: c.server, FD: c.FD, Since: c.since, Served: c.TX > 0}, func(it *handover.Item, err error) {
			defer h.pending.Done()
			if err != nil {
				h.returned(c, err)
				return
			}
			it.Close()
			h.rights.drop(c.Cookie, c.right)
			h.mu.Lock()
			h.moved++
			h.mu.Unlock()
		})
	}
	h.pending.Wait() // before Close, which doesn't wait for those of a dead receiver
	s.Close(context.Background())
	return h.moved
}

// returned decides what to do with a connection that was not taken. What a dead
// worker had entered in its table, and not acknowledged, comes out of its vault as
// well.
func (h *handing) returned(c stranded, err error) {
	dead := isClosed(h.to.gone)
	twice := false
	if dead {
		<-h.to.opened
		h.to.mu.Lock()
		twice = h.to.left[c.Cookie]
		h.to.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !dead {
		c.refused++
	}
	switch {
	case twice:
		unix.Close(c.FD)
		h.rights.drop(c.Cookie, c.right)
	case !h.rights.back(c.Cookie, c.right):
		unix.Close(c.FD)
	case c.refused >= maxRefusals || errors.Is(err, handover.ErrNoServer) || errors.Is(err, handover.ErrVersion):
		h.unwanted = append(h.unwanted, c)
	default:
		h.back = append(h.back, c)
	}
}

func (s *service) farewells(conns []stranded) []vault.Farewell {
	all := make([]vault.Farewell, len(conns))
	for i, c := range conns {
		s.rights.drop(c.Cookie, c.right)
		all[i].FD = c.FD
	}
	return all
}

// finish ends connections in good order.
func (s *service) finish(all []vault.Farewell) {
	if len(all) > 0 {
		s.a.settling(vault.Finish(all))
	}
}
