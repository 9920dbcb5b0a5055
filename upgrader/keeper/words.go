//go:build linux

package keeper

import (
	"context"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// process finds the worker that has one of some PIDs.
func (a *actor) process(pids ...int) (*service, *process) {
	for _, s := range a.services {
		for _, p := range s.procs {
			if n := p.pid(); n != 0 && slices.Contains(pids, n) {
				return s, p
			}
		}
	}
	return nil, nil
}

// notified is a message of sd_notify(3) from a worker.
func (s *service) notified(p *process, m *sd.Received) {
	if text, ok := m.Get("STATUS"); ok {
		p.words = text
	}
	if m.Has("FDSTORE") {
		s.stage(p, m)
	}
	if name, ok := m.Get("FDNAME"); ok && m.Has("FDSTOREREMOVE") {
		p.removed = append(p.removed, name)
		s.applyIfServing(p)
	}
	if m.Has("READY") {
		s.ready(p, "notify", true)
	}
	switch v, _ := m.Get("WATCHDOG"); v {
	case "1":
		s.pet(p)
	case "trigger":
		s.feed(event{kind: evHung, proc: p.proc})
	}
}

// pet begins, or goes on with, watching that a worker is heard of.
func (s *service) pet(p *process) {
	if p.conf.Watchdog == 0 {
		return
	}
	if p.watchdog != nil {
		p.watchdog.Reset(p.conf.Watchdog)
		return
	}
	p.watchdog = time.AfterFunc(p.conf.Watchdog, func() {
		s.a.post(func() {
			if s.procs[p.proc] == p {
				s.feed(event{kind: evHung, proc: p.proc})
			}
		})
	})
}

// stage holds descriptors of a generation that may yet fail.
func (s *service) stage(p *process, m *sd.Received) {
	name, ok := m.Get("FDNAME")
	if !ok || !sd.ValidName(name) || name == "" {
		name = "stored"
	}
	for _, fd := range m.TakeFiles() {
		st, err := hold(fd, name)
		if err != nil {
			unix.Close(fd)
			continue
		}
		st.stored, st.listen = true, boundTo(fd)
		p.staged = append(p.staged, st)
	}
	s.applyIfServing(p)
}

func (s *service) applyIfServing(p *process) {
	if g, w := s.state.find(p.proc); w != nil && w.life == serving && !s.state.rolls(g) {
		s.applyStore(p)
	}
}

// maxStored bounds what workers can have held for them.
const maxStored = 512

// applyStore makes what a worker has staged count.
func (s *service) applyStore(p *process) {
	for _, name := range p.removed {
		s.stored = slices.DeleteFunc(s.stored, func(st *socket) bool {
			if st.name == name {
				st.close(false)
			}
			return st.name == name
		})
		s.a.unstore(name)
	}
	var fresh []*socket
	for _, st := range p.staged {
		if s.holds(st) || len(s.stored) >= maxStored {
			st.close(false)
			continue
		}
		s.stored = append(s.stored, st)
		fresh = append(fresh, st)
	}
	if len(fresh) > 0 {
		s.a.os.announce(notice{kind: "store", store: fresh})
	}
	p.staged, p.removed = nil, nil
}

// dropStored lets go of what the workers of a service that is gone have pushed.
func (s *service) dropStored() {
	stored := s.stored
	s.stored = nil
	for _, st := range stored {
		s.a.unstore(st.name)
		st.close(false)
	}
}

// holds reports whether the same open file is held already, as a service manager
// would drop it too.
func (s *service) holds(st *socket) bool {
	for _, h := range append(append([]*socket(nil), s.sockets...), s.stored...) {
		if h.inode == st.inode {
			return true
		}
	}
	return false
}

// heard is a message of a worker with this library in it.
func (s *service) heard(p *process, m kept.Message, files []int) {
	for _, fd := range files { // none of these messages has any
		unix.Close(fd)
	}
	switch m := m.(type) {
	case *kept.Hello:
		s.welcome(p, m)
	case *kept.Ready:
		s.ready(p, "library", true)
	case *kept.Crash:
		s.caught(p, m)
	case *kept.Leave:
		s.feed(event{kind: evLeaving, proc: p.proc})
	case *kept.Status:
		p.status, p.heard = m, time.Now()
		if m.Inquiry >= p.inquiries {
			p.answered()
		}
	case *kept.Broadcast:
		s.broadcast(p, m.Message)
	case *kept.Event:
		s.relay(p, m.Event)
	case *kept.Stop:
		s.a.stop(s.conf.Name, m.Now)
	case *kept.Upgrade:
		s.asks(p, m.UpgradeRequest)
	}
}

func (s *service) welcome(p *process, m *kept.Hello) {
	p.helloed, p.build, p.answers = true, m.Build, m.Version >= kept.VersionInquiry
	p.line.Send(&kept.Welcome{Version: kept.Version, Service: s.conf.Name, Generation: p.generation, Worker: p.index,
		Workers: s.state.policy.workers, KillTimeout: p.conf.KillTimeout, StopTimeout: p.conf.StopTimeout, Crashes: len(s.state.deaths),
		Rescue: p.conf.rescues()})
	if _, w := s.state.find(p.proc); w != nil && w.life == serving { // taken for ready before it said hello
		p.line.Send(&kept.Go{})
	}
	if p.drained != nil {
		p.line.Send(&kept.Drain{Reason: p.drained.Reason, Timeout: time.Until(p.deadline)})
	}
}

func (s *service) caught(p *process, m *kept.Crash) {
	if p.crashed != nil {
		return
	}
	p.crashed = m
	if _, w := s.state.find(p.proc); w != nil && w.life == serving {
		s.obituary(p, end{}, true)
	}
	s.feed(event{kind: evCrashed, proc: p.proc})
}

// relay passes on what only the worker can know; the rest the keeper tells.
func (s *service) relay(p *process, e control.Event) {
	switch e.Kind {
	case control.EventStart, control.EventReady, control.EventUpgrade, control.EventUpgraded, control.EventFailed,
		control.EventDrain, control.EventGone, control.EventCrash, control.EventDeath, control.EventStop, control.EventGiveUp:
		return
	}
	if e.Generation == 0 {
		e.Generation = p.generation
	}
	if e.PID == 0 {
		e.PID = p.pid()
	}
	e.Seq = 0
	s.tell(e)
}

// asks is a worker's wish for an upgrade of its own service.
func (s *service) asks(p *process, r control.UpgradeRequest) {
	if r.ID == "" {
		r.ID = control.NewID()
	}
	s.a.outcomes.Begin(r.ID)
	answer := func(o control.Outcome) {
		s.a.outcomes.Finish(o)
		if p.line != nil {
			p.line.Send(&kept.Outcome{Outcome: o})
		}
	}
	if s.a.reread != nil {
		r.Service, r.Services = s.name, nil
		go func() {
			o := backend{s.a}.dispatch(context.Background(), r)
			s.a.post(func() { answer(o) })
		}()
		return
	}
	why := byControl
	if r.Trigger != "" {
		why = trigger(r.Trigger)
	}
	s.request(r, why, s.await(&waiter{id: r.ID, trigger: r.Trigger, done: answer}))
}

// forward passes a signal on to all workers that serve.
func (a *actor) forward(sig syscall.Signal) {
	for _, s := range a.services {
		for _, p := range s.procs {
			p.signal(sig)
		}
	}
}
