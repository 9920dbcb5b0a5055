//go:build linux

package keeper

import (
	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// bury adds what a worker has counted to what is known of those before it.
func (s *service) bury(p *process) {
	if p.status == nil || p.status.Conns == nil {
		return
	}
	if s.past == nil {
		s.past = &control.Conns{}
	}
	last := *p.status.Conns
	last.Open, last.Idle, last.Active, last.Pinned = 0, 0, 0, 0
	s.past.Add(&last)
}

// exhume replaces what a dead worker had told by its last word, which was on its
// way when it was buried.
func (s *service) exhume(p *process, last *kept.Status) {
	if s.procs[p.proc] == p || last.Conns == nil {
		return
	}
	if p.status != nil && p.status.Conns != nil && s.past != nil {
		s.past.Add(negated(p.status.Conns))
	}
	p.status = last
	s.bury(p)
}

func negated(c *control.Conns) *control.Conns {
	n := &control.Conns{Requests: -c.Requests, Moved: -c.Moved, Adopted: -c.Adopted, Panics: -c.Panics, Closed: map[string]int64{}}
	for why, k := range c.Closed {
		n.Closed[why] = -k
	}
	return n
}

// conns counts for all workers that there are and were; nil: none has told.
func (s *service) conns() *control.Conns {
	sum, told := control.Conns{}, s.past != nil
	if told {
		sum.Add(s.past)
	}
	for _, p := range s.procs {
		if p.status != nil && p.status.Conns != nil {
			sum.Add(p.status.Conns)
			told = true
		}
	}
	if !told {
		return nil
	}
	return &sum
}
