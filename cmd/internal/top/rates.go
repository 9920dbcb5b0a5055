package top

import (
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// rates compares one status with the next.
type rates struct {
	at, before time.Time
	now, then  map[int]sample // by PID
}

// sample is what a process had done.
type sample struct {
	requests, moved, adopted int64
	cpu                      float64
}

// minSpan: shorter ones say nothing.
const minSpan = 500 * time.Millisecond

func (r *rates) sample(st control.Status, at time.Time) {
	if at.Sub(r.at) < minSpan {
		return
	}
	r.before, r.then = r.at, r.now
	r.at, r.now = at, map[int]sample{}
	for _, s := range st.Services {
		for _, g := range s.Generations {
			for _, w := range g.Workers {
				x := sample{cpu: w.CPU}
				if c := w.Conns; c != nil {
					x.requests, x.moved, x.adopted = c.Requests, c.Moved, c.Adopted
				}
				r.now[w.PID] = x
			}
		}
	}
}

// of returns what a process has done since the status before, and for how long.
func (r *rates) of(pid int) (done sample, over time.Duration, known bool) {
	a, was := r.then[pid]
	b, is := r.now[pid]
	over = r.at.Sub(r.before)
	if !was || !is || over <= 0 {
		return sample{}, 0, false
	}
	return sample{
		requests: max(0, b.requests-a.requests), moved: max(0, b.moved-a.moved), adopted: max(0, b.adopted-a.adopted),
		cpu: max(0, b.cpu-a.cpu),
	}, over, true
}
