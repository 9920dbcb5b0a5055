package server

import (
	"github.com/tablecloth-go/tablecloth/internal/live"
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
		g.Holdouts = s.holdouts().Oldest
	}
}

// holdouts are what a drain waits for.
func (s *Server) holdouts() *live.Holdouts {
	h := &live.Holdouts{Most: maxNamed}
	for _, r := range s.runners {
		r.holdouts(h)
	}
	return h
}
