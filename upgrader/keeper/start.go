//go:build linux

package keeper

import (
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

func (s *service) spawn(t action) {
	p := &process{proc: t.proc, index: t.index, generation: t.generation, why: t.why, started: time.Now(), since: time.Now(),
		conf: s.conf, probing: make(chan struct{}), estate: newEstate()}
	s.procs[t.proc] = p
	if s.began[t.generation].IsZero() {
		s.began[t.generation] = time.Now()
		s.announceChange(t)
	}
	if t.why == byDeath || t.why == byCrash || t.why == byLeave || t.why == byFailure {
		s.restarts++
	}
	if s.programs[t.program] == nil {
		if err := s.read(t); err != nil {
			s.a.later = append(s.a.later, func() { s.died(p, end{failed: err}) })
			return
		}
	}
	p.program = s.programs[t.program]
	p.conf, p.sockets = p.program.conf, p.program.sockets
	held := slices.Concat(p.sockets, s.stored, s.stagedBy(p.generation))
	s.a.os.start(&launch{
		conf: p.conf, program: p.program, generation: p.generation, index: p.index, env: s.environment(p, held), sockets: held, readyFD: p.conf.readyFD(),
		started: func(c child) { s.a.post(func() { s.startedAs(p, c) }) },
		dead:    func() *bequest { return p.estate.open(p.conf.rescueOptions()) },
		ended:   func(e end) { s.a.post(func() { s.died(p, e) }) },
	})
}

// read finds the program of a new generation, by its order's design.
func (s *service) read(t action) error {
	d, args := s.designs[t.design], t.args
	if d == nil {
		d = &design{conf: s.conf, sockets: s.sockets}
		if good := s.programs[s.state.good]; args == nil && good != nil {
			args = good.given
		}
	}
	found, err := s.a.os.prepare(d.conf, args)
	if err != nil {
		return err
	}
	found.conf, found.sockets = d.conf, d.sockets
	s.programs[t.program] = found
	return nil
}

// stagedBy are the sockets that workers of a generation have opened, which isn't
// committed yet: for those that start after them.
func (s *service) stagedBy(generation int) []*socket {
	var all []*socket
	for _, p := range s.procs {
		if p.generation == generation {
			all = append(all, p.staged...)
		}
	}
	return all
}

// announceChange says that a generation is about to start.
func (s *service) announceChange(t action) {
	if s.state.change == nil || s.state.change.number != t.generation || t.why == byStart {
		return
	}
	s.tell(control.Event{Kind: control.EventUpgrade, Generation: t.generation, Text: string(t.why)})
	s.a.os.announce(notice{kind: "reloading", text: s.conf.Name + ": upgrading"})
}

// environment is what a worker has beside its program's.
func (s *service) environment(p *process, held []*socket) []string {
	env := s.a.basics(p.conf)
	if p.conf.Foreign != Off {
		env = append(env, foreign(held, p.generation, s.a.ackPath)...)
	}
	return append(env,
		"TABLECLOTH_SERVICE="+s.conf.Name,
		"TABLECLOTH_GENERATION="+itoa(p.generation),
		"TABLECLOTH_WORKER="+itoa(p.index),
		markerKey+"="+s.marker(p))
}

func (s *service) startedAs(p *process, c child) {
	p.child = c
	s.a.born()
	s.tell(control.Event{Kind: control.EventStart, Generation: p.generation, PID: c.PID(), Text: string(p.why)})
	for _, sig := range p.signals {
		c.Signal(sig)
	}
	if s.procs[p.proc] == p && p.readyBy == "" {
		s.a.os.watch(c, &probe{mode: p.conf.readyMode(), alive: p.conf.aliveFor(), sockets: p.sockets, patient: s.spoke},
			func(by string, confirmed bool) { s.a.post(func() { s.found(p, by, confirmed) }) }, p.probing)
	}
}
