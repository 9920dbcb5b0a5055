package server

import (
	"slices"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// status fills in what the upgrader can't know.
func (s *Server) status(g *control.Generation) {
	if len(g.Workers) == 0 {
		g.Workers = make([]control.Worker, 1)
	}
	c := new(control.Conns)
	for _, r := range s.runners {
		r.count(c)
	}
	c.Panics = s.panics.Load()
	g.Workers[0].Conns = c
	if s.draining.Load() {
		left := s.holdouts()
		g.Holdouts = left[:min(len(left), maxNamed)]
	}
}

// holdouts lists what a drain waits for, oldest first.
func (s *Server) holdouts() []control.Conn {
	var all []control.Conn
	for _, r := range s.runners {
		all = append(all, r.holdouts()...)
	}
	slices.SortStableFunc(all, func(a, b control.Conn) int { return a.Since.Compare(b.Since) })
	return all
}
