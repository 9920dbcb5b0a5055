//go:build linux

package keeper

import (
	"math/rand/v2"
	"time"
)

type timerKey struct {
	kind eventKind
	id   int
}

// arm starts a timer; those of a backoff are given a jitter, so that services
// which died of the same cause don't all come back at once.
func (s *service) arm(t action) {
	after := t.after
	if t.timer == evBackoffOver {
		after = time.Duration(float64(after) * (0.75 + rand.Float64()/2))
	}
	if t.timer == evBackoffOver || t.timer == evPauseOver {
		s.retryAt = time.Now().Add(after)
	}
	key := timerKey{t.timer, t.proc + t.id}
	if old := s.timers[key]; old != nil {
		old.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(after, func() {
		s.a.post(func() {
			if s.timers[key] != timer { // stopped, or armed anew, when this was on its way already
				return
			}
			delete(s.timers, key)
			s.feed(event{kind: t.timer, proc: t.proc, id: t.id})
		})
	})
	s.timers[key] = timer
}

// tidy lets go of what no process needs any more.
func (s *service) tidy() {
	needed := map[int]bool{s.state.good: true}
	for _, g := range s.state.generations {
		needed[g.program] = true
	}
	for n := range s.designs {
		if !s.state.needs(n) {
			delete(s.designs, n)
			s.a.later = append(s.a.later, s.a.letGo)
		}
	}
	for n, p := range s.programs {
		if !needed[n] {
			p.close()
			delete(s.programs, n)
		}
	}
	for key, t := range s.timers {
		_, w := s.state.find(key.id)
		if key.kind == evKillTimeout && w == nil || key.kind == evReadyTimeout && !s.awaits(key.id) {
			t.Stop()
			delete(s.timers, key)
		}
	}
	for n := range s.began {
		if s.state.generation(n) == nil && n != s.current {
			delete(s.began, n)
			delete(s.failures, n)
		}
	}
}

// awaits reports whether a generation has workers that aren't ready yet.
func (s *service) awaits(number int) bool {
	g := s.state.generation(number)
	if g == nil {
		return false
	}
	for _, w := range g.workers {
		if w.life == starting || w.life == ready {
			return true
		}
	}
	return false
}
