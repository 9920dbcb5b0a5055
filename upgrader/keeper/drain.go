//go:build linux

package keeper

import (
	"slices"
	"syscall"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// drain tells a process to end: by message if it understands that, else by the
// stop signal.
func (s *service) drain(p *process, reason string, timeout time.Duration) {
	p.settled()
	again := p.drained != nil
	p.since = time.Now()
	if reason == kept.Replaced && s.state.phase < stopping && p.index >= s.state.policy.workers {
		s.bequeath(p)
	}
	p.deadline = time.Now().Add(timeout)
	p.drained = &kept.Drain{Reason: reason, Timeout: timeout}
	p.replaced = p.replaced || reason != kept.Stopped
	s.tell(control.Event{Kind: control.EventDrain, Generation: p.generation, PID: p.pid(), Text: reason})
	if p.line != nil {
		p.line.Send(p.drained)
		return
	}
	if again { // many programs take a second one for impatience
		return
	}
	p.signal(p.stopSignal())
	p.signal(syscall.SIGCONT) // a stopped process couldn't end
}

// stopSignal is what the process takes for a wish to end in good order.
func (p *process) stopSignal() syscall.Signal {
	if p.einhorn && p.conf.StopSignal == nil {
		return syscall.SIGUSR2
	}
	return p.conf.stopSignal()
}

// bequeath has a worker that nobody replaces send its connections to one of the
// others.
func (s *service) bequeath(p *process) {
	if p.line == nil || p.conf.Handover == Off {
		return
	}
	var heirs []*process
	for _, q := range s.procs {
		_, w := s.state.find(q.proc)
		if q != p && q.line != nil && w != nil && w.life == serving && !w.crashed && !w.leaving {
			heirs = append(heirs, q)
		}
	}
	if len(heirs) > 0 {
		slices.SortFunc(heirs, func(a, b *process) int { return a.proc - b.proc })
		s.connect(p, heirs[p.index%len(heirs)])
	}
}

func (s *service) kill(p *process, reason string) {
	p.settled()
	p.killed = reason
	if reason == "kill timeout" || reason == "watchdog" {
		s.tell(control.Event{Kind: control.EventKill, Generation: p.generation, PID: p.pid(), Text: reason})
	}
	p.signal(syscall.SIGKILL)
}
