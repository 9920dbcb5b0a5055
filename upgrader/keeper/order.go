package keeper

import (
	"slices"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// begin carries out the order that waits.
func (m *machine) begin() {
	o := m.further
	m.change, m.further = o, nil
	program := m.good
	if o.condition == toUpgrade {
		program = 0
	}
	all := make([]int, m.policy.workers)
	for i := range all {
		all[i] = i
	}
	if m.phase == paused {
		m.phase = running
		m.forgive()
		o.alone = true
	}
	o.number = m.spawn(program, o.why, o.args, all)
}

// request puts an order behind the one under way.
func (m *machine) request(e event) {
	if m.phase != running && m.phase != paused {
		m.answer([]int{e.request}, control.Refused, "the service is being stopped")
		return
	}
	m.deaths, m.quick = nil, 0
	if m.further == nil {
		m.further = &order{condition: e.condition, why: e.why}
	}
	o := m.further
	if e.condition == toUpgrade {
		o.condition = toUpgrade
	}
	if e.args != nil {
		o.args = e.args
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
// with them all that they had to say.
func (m *machine) fail(r result, reason string) {
	o := m.change
	if o.failing == "" {
		o.failing, o.reason = r, reason
	}
	g := m.generation(o.number)
	if g == nil {
		m.change = nil
		m.do(action{kind: doAnswer, request: 0, result: o.failing, reason: o.reason, generation: o.number, why: o.why})
		m.answer(o.requests, o.failing, o.reason)
		return
	}
	for i := range g.workers {
		m.kill(&g.workers[i], o.reason)
	}
}

func (m *machine) answer(requests []int, r result, reason string) {
	for _, id := range requests {
		if id != 0 {
			m.do(action{kind: doAnswer, request: id, result: r, reason: reason})
		}
	}
}
