package keeper

import (
	"fmt"
	"slices"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// begin carries out the order that waits.
func (m *machine) begin() {
	o := m.further
	m.change, m.further = o, nil
	p := m.policy
	if o.policy != nil {
		p = *o.policy
	}
	switch {
	case o.workers > 0:
		p.workers = o.workers
	case o.condition == toAdjust:
		p.workers = m.policy.workers
	}
	o.policy = &p
	if o.condition >= toScale && m.scaled(o) {
		return
	}
	if m.phase == paused {
		m.phase = running
		m.forgive()
		o.alone = true
	}
	program, first := m.good, 0
	switch o.condition {
	case toUpgrade:
		program = 0
	case toScale:
		first = m.policy.workers
	}
	for i := first; i < p.workers; i++ {
		o.waiting = append(o.waiting, i)
	}
	o.rolling = p.rolling && o.condition != toScale && m.good != 0 && m.serves()
	m.spawnNext(nil, program, o.rolling || p.serial || p.lead || o.lead)
}

// serves reports whether anybody does.
func (m *machine) serves() bool {
	found := false
	m.each(func(_ *generation, w *worker) { found = found || w.life == serving })
	return found
}

// scaled deals with an order to scale, or to adjust, for which nothing needs to be
// started.
func (m *machine) scaled(o *order) bool {
	result, reason := control.Ready, ""
	switch {
	case o.policy.workers <= m.policy.workers:
	case m.phase == paused:
		result, reason = control.Refused, "nothing is started until the pause after too many deaths is over"
	case m.good == 0:
	default:
		return false
	}
	m.change = nil
	if result == control.Ready {
		m.adopt(*o.policy)
	}
	m.conclusion(o, result, reason)
	return true
}

// spawnNext starts the next worker of the order under way, or all of them.
func (m *machine) spawnNext(g *generation, program int, one bool) {
	o := m.change
	n := len(o.waiting)
	if one {
		n = 1
	}
	indices := o.waiting[:n]
	o.waiting = o.waiting[n:]
	if g == nil {
		o.number = m.spawn(program, o.why, o, indices)
		return
	}
	m.launch(g, o, indices)
}

// advance goes on with the order under way after one more of its workers has got
// ready.
func (m *machine) advance(g *generation, proc int) {
	o := m.change
	if o.rolling {
		m.commit(g, []int{proc})
		o.replaced++
		m.supersede([]int{proc}, true)
	}
	var procs []int
	for _, w := range g.workers {
		switch w.life {
		case starting:
			return
		case ready:
			procs = append(procs, w.proc)
		}
	}
	if len(o.waiting) > 0 {
		m.spawnNext(g, 0, o.rolling || o.policy.serial)
		return
	}
	o.rolling = false
	m.commit(g, procs) // of an upgrade one by one nobody is left, but the program is good now
	m.change = nil
	m.conclusion(o, control.Ready, "") // a requester may be among those that drain now
	m.supersede(procs, true)
	m.adopt(*o.policy)
}

// adopt lets another policy rule, which may want fewer workers.
func (m *machine) adopt(p policy) {
	m.policy = p
	for len(m.retired) < p.workers {
		m.retired = append(m.retired, false)
	}
	m.retired = m.retired[:p.workers]
	m.each(func(g *generation, w *worker) {
		switch {
		case w.index < p.workers:
		case w.life == serving:
			m.drain(w, kept.Replaced, p.killTimeout)
		case w.life < serving:
			w.unwanted = true
			m.kill(w, "not needed any more")
		}
	})
}

// request puts an order behind the one under way.
func (m *machine) request(e event) {
	if m.phase != running && m.phase != paused {
		m.answer([]int{e.request}, control.Refused, "the service is being stopped")
		return
	}
	if m.further == nil {
		m.further = &order{condition: e.condition, why: e.why}
	}
	o := m.further
	o.merge(e)
	if e.condition < toScale {
		m.deaths, m.quick = nil, 0
	}
	if e.request == 0 {
		o.sticky = true
	} else {
		o.requests = append(o.requests, e.request)
	}
	if e.now {
		m.endDrains()
	}
}

// merge makes one order of two: an upgrade is more than a restart, that is more
// than a change of numbers, and that more than one of policy.
func (o *order) merge(e event) {
	if e.condition < o.condition {
		o.condition, o.why = e.condition, e.why
	}
	if e.args != nil {
		o.args = e.args
	}
	if e.workers > 0 {
		o.workers = e.workers
	}
	if e.policy != nil {
		o.policy, o.design = e.policy, e.design
	}
	o.lead = o.lead || e.lead
}

// endDrains makes room for another draining generation.
func (m *machine) endDrains() {
	for i := 0; m.drains() >= m.policy.maxDraining && i < len(m.generations); i++ {
		for j := range m.generations[i].workers {
			if w := &m.generations[i].workers[j]; w.life == draining {
				m.kill(w, "asked for")
			}
		}
	}
}

func (m *machine) cancel(request int) {
	for _, o := range []*order{m.change, m.further} {
		if o == nil || !slices.Contains(o.requests, request) {
			continue
		}
		if o == m.change && len(o.requests) == 1 && !o.sticky {
			m.fail(control.Failed, "cancelled")
			return
		}
		o.requests = slices.DeleteFunc(o.requests, func(r int) bool { return r == request })
		m.answer([]int{request}, control.Refused, "cancelled")
		if o == m.further && len(o.requests) == 0 && !o.sticky {
			m.further = nil
		}
		return
	}
}

// fail ends the order under way; it is answered when its processes are gone, and
// with them all that they had to say. Those that serve already, of an upgrade one
// by one, go when one of the last good program has taken their place.
func (m *machine) fail(r result, reason string) {
	o := m.change
	if o.failing == "" {
		o.failing, o.reason, o.waiting = r, reason, nil
	}
	if g := m.generation(o.number); g != nil {
		for i := range g.workers {
			switch w := &g.workers[i]; {
			case !w.committed:
				m.kill(w, o.reason)
			case w.life == serving && w.index < m.policy.workers:
				w.outdated = true
			case w.life == serving:
				m.drain(w, kept.Replaced, m.policy.killTimeout)
			}
		}
	}
	m.conclude()
}

// conclude answers an order that has failed, when there is nothing more to come.
func (m *machine) conclude() {
	o := m.change
	if o == nil || o.failing == "" {
		return
	}
	outdated := 0
	if g := m.generation(o.number); g != nil {
		for _, w := range g.workers {
			switch {
			case !w.committed:
				return
			case w.life == serving:
				outdated++
			}
		}
	}
	if o.replaced > 0 && !o.abandoned && m.phase == running && (outdated > 0 || m.incomplete()) {
		return
	}
	m.change = nil
	m.conclusion(o, o.failing, o.verdict(outdated))
}

// goesBack reports whether some workers of a failed order are to be replaced by
// the last good program.
func (o *order) goesBack() bool { return o.failing != "" && o.replaced > 0 }

// incomplete reports whether a worker is missing that will come.
func (m *machine) incomplete() bool {
	for i := range m.policy.workers {
		if m.acting(i) == nil && !m.retired[i] {
			return true
		}
	}
	return false
}

// verdict is why an order failed, and what became of those that it had replaced.
func (o *order) verdict(outdated int) string {
	switch {
	case o.replaced == 0:
		return o.reason
	case outdated > 0:
		return fmt.Sprintf("%s, after %d of %d workers; %d can't go back yet", o.reason, o.replaced, o.policy.workers, outdated)
	}
	return fmt.Sprintf("%s, after %d of %d workers; rolled back", o.reason, o.replaced, o.policy.workers)
}

// conclusion records how an order ended, and answers those who asked for it.
func (m *machine) conclusion(o *order, r result, reason string) {
	m.do(action{kind: doAnswer, result: r, reason: reason, generation: o.number, why: o.why, condition: o.condition, design: o.design})
	m.answer(o.requests, r, reason)
}

func (m *machine) answer(requests []int, r result, reason string) {
	for _, id := range requests {
		if id != 0 {
			m.do(action{kind: doAnswer, request: id, result: r, reason: reason})
		}
	}
}
