package keeper

import (
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// next is the whole of what the keeper decides about a service. It is pure: the
// same state and event give the same result, and s is not changed.
func next(s state, e event) (state, []action) {
	m := &machine{state: s.clone(), at: e.at}
	m.handle(e)
	m.settle()
	return m.state, m.todo
}

// machine is a state in the middle of a transition.
type machine struct {
	state
	at   time.Time
	todo []action
}

func (m *machine) do(a action) { m.todo = append(m.todo, a) }

func (m *machine) handle(e event) {
	switch e.kind {
	case evStart:
		if m.phase == idle {
			m.phase = running
			if e.request != 0 {
				m.further = &order{why: byStart, sticky: true, requests: []int{e.request}}
			}
		}
	case evRequest:
		m.request(e)
	case evCancel:
		m.cancel(e.request)
	case evStop:
		m.stop(e)
	case evReady:
		m.ready(e.proc)
	case evDied:
		m.died(e)
	case evCrashed, evLeaving:
		m.distrust(e)
	case evHung:
		if _, w := m.find(e.proc); w != nil && w.life <= serving {
			m.do(action{kind: doKill, proc: w.proc, reason: "watchdog"}) // what follows, follows from its death
		}
	case evReadyTimeout:
		m.readyTimeout(e.id)
	case evKillTimeout:
		if _, w := m.find(e.proc); w != nil && w.life == draining {
			m.kill(w, "kill timeout")
		}
	case evBackoffOver:
		if e.id == m.lastTimer {
			m.waiting = false
		}
	case evPauseOver:
		if m.phase == paused && e.id == m.lastTimer {
			m.phase = running
			m.forgive()
		}
	}
}

// settle starts what is missing, once an event has had its effect.
func (m *machine) settle() {
	m.conclude()
	if m.phase == stopping && len(m.generations) == 0 {
		m.phase = ended
		m.do(action{kind: doExit})
	}
	if m.phase != running && m.phase != paused {
		return
	}
	if m.change == nil && m.further != nil && m.drains() < m.policy.maxDraining {
		m.begin()
	}
	if m.phase != running || m.waiting {
		return
	}
	if m.over() {
		m.phase = ended
		m.do(action{kind: doExit})
		return
	}
	if m.good == 0 {
		if m.change == nil && m.further == nil {
			m.further = &order{why: byStart, sticky: true}
			m.begin()
		}
		return
	}
	m.replace()
}

// over reports that the last worker has ended, and that the policy lets it be.
func (m *machine) over() bool {
	return len(m.generations) == 0 && m.change == nil && m.further == nil && !slices.Contains(m.retired, false)
}

// replace starts the last good program in the place of workers which are gone,
// or not to be trusted.
func (m *machine) replace() {
	var missing []int
	why := byDeath
	for i := range m.policy.workers {
		w := m.acting(i)
		switch {
		case m.retired[i] || m.coming(i):
			continue
		case w == nil && m.change != nil && m.change.alone && !m.change.goesBack():
			continue
		case w != nil && w.outdated:
			why = byFailure
		case w != nil && (!w.crashed && !w.leaving || m.change != nil || m.policy.restart == RestartNever):
			continue
		case w != nil && w.crashed:
			why = byCrash
		case w != nil:
			why = byLeave
		}
		missing = append(missing, i)
	}
	if len(missing) > 0 {
		m.spawn(m.good, why, nil, missing)
	}
}

// spawn starts a generation; program 0: what is on disk now.
func (m *machine) spawn(program int, why trigger, o *order, indices []int) int {
	m.lastNumber++
	g := generation{number: m.lastNumber, program: program, why: why}
	if program == 0 {
		g.program = g.number
	}
	m.generations = append(m.generations, g)
	m.launch(&m.generations[len(m.generations)-1], o, indices)
	return g.number
}

// launch starts workers of a generation.
func (m *machine) launch(g *generation, o *order, indices []int) {
	spawn := action{kind: doSpawn, generation: g.number, program: g.program, why: g.why}
	if o != nil {
		spawn.args, spawn.design = o.args, o.design
	}
	for _, i := range indices {
		m.lastProc++
		g.workers = append(g.workers, worker{proc: m.lastProc, index: i, born: m.at})
		spawn.proc, spawn.index = m.lastProc, i
		m.do(spawn)
	}
	timeout := m.policy.readyTimeout
	if o != nil && o.policy != nil {
		timeout = o.policy.readyTimeout
	}
	m.do(action{kind: doArm, timer: evReadyTimeout, id: g.number, after: timeout})
}

// ready counts a worker in, and commits when all that must be ready are.
func (m *machine) ready(proc int) {
	g, w := m.find(proc)
	if w == nil || w.life != starting {
		return
	}
	w.life = ready
	switch {
	case m.changes(g):
		m.advance(g, proc)
	default:
		m.commit(g, []int{proc})
		m.supersede([]int{proc}, false)
	}
}

// commit makes workers of g act for the service.
func (m *machine) commit(g *generation, procs []int) {
	partial := m.rolls(g)
	m.do(action{kind: doCommit, generation: g.number, program: g.program, procs: procs, why: g.why, partial: partial})
	if !partial {
		m.good = g.program
	}
	for _, proc := range procs {
		_, w := m.find(proc)
		w.life, w.committed = serving, true
		m.retire(w.index, false)
	}
}

// supersede ends those in whose place procs are now, and with an upgrade those
// who would have been.
func (m *machine) supersede(procs []int, upgrade bool) {
	for _, proc := range procs {
		_, w := m.find(proc)
		m.each(func(_ *generation, o *worker) {
			switch {
			case o == w || o.index != w.index:
			case o.life == serving:
				reason := kept.Replaced
				if o.crashed {
					reason = kept.Crashed
				}
				m.drain(o, reason, m.policy.killTimeout)
			case upgrade && (o.life == starting || o.life == ready):
				o.unwanted = true
				m.kill(o, "not needed any more")
			}
		})
	}
}

func (m *machine) drain(w *worker, reason string, timeout time.Duration) {
	w.life = draining
	m.do(action{kind: doDrain, proc: w.proc, reason: reason, after: timeout})
	m.do(action{kind: doArm, timer: evKillTimeout, proc: w.proc, after: timeout})
}

func (m *machine) kill(w *worker, reason string) {
	if w.life != doomed {
		w.life = doomed
		m.do(action{kind: doKill, proc: w.proc, reason: reason})
	}
}

func (m *machine) readyTimeout(number int) {
	g := m.generation(number)
	if g == nil {
		return
	}
	if m.changes(g) {
		m.fail(control.TimedOut, "not ready in time")
		return
	}
	for i := range g.workers {
		if g.workers[i].life == starting {
			m.kill(&g.workers[i], "not ready in time")
		}
	}
}

// distrust: a worker that still lives wants a successor.
func (m *machine) distrust(e event) {
	g, w := m.find(e.proc)
	switch {
	case w == nil || w.life > serving || w.crashed:
	case w.life < serving && m.changes(g):
		m.fail(control.Failed, "it crashed before it was ready")
	case m.rolls(g) && e.kind == evCrashed && m.change.failing == "":
		m.fail(control.Failed, "it crashed soon after it was ready")
	case w.life < serving:
		m.kill(w, "crashed before it was ready")
	case e.kind == evLeaving && m.policy.restart != RestartAlways:
		m.retire(w.index, true)
		m.drain(w, kept.Stopped, m.policy.stopTimeout)
	case e.kind == evLeaving:
		w.leaving = true
	default:
		w.crashed = true
		m.count(false)
	}
}

func (m *machine) stop(e event) {
	if m.phase == ended {
		return
	}
	timeout, reason := m.policy.stopTimeout, kept.Stopped
	if e.gently {
		timeout, reason = m.policy.killTimeout, kept.Replaced
	}
	if m.phase != stopping || m.gently && !e.gently {
		m.phase, m.waiting, m.gently = stopping, false, e.gently
		for _, o := range []*order{m.change, m.further} {
			if o != nil {
				m.answer(o.requests, control.Refused, "the service is being stopped")
			}
		}
		m.change, m.further = nil, nil
		m.each(func(_ *generation, w *worker) {
			if w.life < draining || w.life == draining && !e.gently {
				m.drain(w, reason, timeout)
			}
		})
	}
	if e.now {
		m.each(func(_ *generation, w *worker) { m.kill(w, "asked for") })
	}
}
