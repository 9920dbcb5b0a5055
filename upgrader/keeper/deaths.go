package keeper

import (
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

const (
	quickDeath  = time.Second // a worker that dies before is no use to start again at once
	firstDelay  = 100 * time.Millisecond
	longestWait = 10 * time.Second
)

func (m *machine) died(e event) {
	g, w := m.find(e.proc)
	if w == nil {
		return
	}
	dead, change := *w, m.changes(g) && !(w.committed && w.life == draining)
	m.remove(e.proc)
	switch {
	case m.phase == stopping:
	case change:
		m.fail(control.Failed, reasonOr(e.reason, "it ended before it was ready"))
		switch {
		case m.good != 0 || m.change != nil:
		case e.absent: // it never ran: to try again would only hide a mistake
			m.retireAll()
		default:
			m.lost(dead, e.clean)
		}
	case dead.unwanted:
	case dead.life == serving || !dead.committed:
		if m.change != nil && m.change.failing != "" && !dead.committed {
			m.change.abandoned = true
		}
		m.lost(dead, e.clean)
	}
}

func reasonOr(reason, otherwise string) string {
	if reason != "" {
		return reason
	}
	return otherwise
}

func (m *machine) remove(proc int) {
	for i := range m.generations {
		g := &m.generations[i]
		g.workers = slices.DeleteFunc(g.workers, func(w worker) bool { return w.proc == proc })
	}
	m.generations = slices.DeleteFunc(m.generations, func(g generation) bool { return len(g.workers) == 0 })
}

// lost decides whether, and when, a worker that died is started again.
func (m *machine) lost(w worker, clean bool) {
	if m.policy.restart == RestartNever || m.policy.restart == RestartOnFailure && clean {
		m.retire(w.index, true)
		if m.good == 0 {
			m.retireAll()
		}
		return
	}
	if w.crashed { // it has been counted, and its successor is on its way
		return
	}
	m.count(!w.committed || m.at.Sub(w.born) < quickDeath)
}

func (m *machine) retireAll() {
	for i := range m.retired {
		m.retired[i] = true
	}
}

// count is one more death: it gives up, or waits, or lets settle start at once.
func (m *machine) count(quick bool) {
	m.deaths = slices.DeleteFunc(m.deaths, func(t time.Time) bool { return m.at.Sub(t) > m.policy.deathWindow })
	m.deaths = append(m.deaths, m.at)
	if !quick {
		m.quick = 0
	} else {
		m.quick++
	}
	switch {
	case m.phase == paused:
	case m.policy.maxDeaths >= 0 && len(m.deaths) > m.policy.maxDeaths:
		m.giveUp()
	case m.quick > 1 && !m.waiting:
		m.waiting = true
		m.lastTimer++
		m.do(action{kind: doArm, timer: evBackoffOver, id: m.lastTimer, after: backoff(m.quick)})
	}
}

// backoff is how long to wait after that many quick deaths in a row.
func backoff(n int) time.Duration {
	d := firstDelay
	for ; n > 2 && d < longestWait; n-- {
		d *= 2
	}
	return min(d, longestWait)
}

func (m *machine) giveUp() {
	m.do(action{kind: doGiveUp, after: m.policy.pause})
	if m.policy.exitOnGiveUp {
		m.stop(event{})
		return
	}
	m.phase, m.waiting = paused, false
	m.lastTimer++
	m.do(action{kind: doArm, timer: evPauseOver, id: m.lastTimer, after: m.policy.pause})
}

// forgive forgets the deaths that lead to giving up.
func (m *machine) forgive() { m.deaths, m.quick, m.waiting = nil, 0, false }
