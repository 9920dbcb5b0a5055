package keeper

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// check reports what must hold in every state.
func check(t testing.TB, s state) {
	t.Helper()
	if s.phase == idle {
		return
	}
	acting, coming, changing := map[int]int{}, map[int]int{}, map[int]int{}
	seen := map[int]bool{}
	s.each(func(g *generation, w *worker) {
		if seen[w.proc] {
			t.Errorf("process %d twice: %v", w.proc, s)
		}
		seen[w.proc] = true
		switch {
		case w.life == serving:
			acting[w.index]++
		case s.changes(g) && w.life != doomed:
			changing[w.index]++
		case !w.committed && w.life != doomed && w.life != draining:
			coming[w.index]++
		}
	})
	for i, n := range acting {
		if i >= s.policy.workers && n > 0 && s.change == nil {
			t.Errorf("%d serve as %d, of %d: %v", n, i, s.policy.workers, s)
		}
	}
	s.each(func(g *generation, w *worker) {
		if w.outdated && s.change != nil && s.change.number == g.number && s.change.failing == "" {
			t.Errorf("process %d is outdated, but its upgrade has not failed: %v", w.proc, s)
		}
		if s.change == nil && w.life == serving && !w.outdated && g.program != s.good {
			t.Errorf("process %d serves with g%d: %v", w.proc, g.program, s)
		}
	})
	for i := range s.policy.workers {
		if acting[i] > 1 || coming[i] > 1 || changing[i] > 1 {
			t.Errorf("worker %d: %d serve, %d replace, %d upgrade: %v", i, acting[i], coming[i], changing[i], s)
		}
		planned := acting[i]+coming[i] > 0 || s.change != nil || s.further != nil || s.waiting || s.retired[i]
		dying := false // its death will bring a successor
		s.each(func(_ *generation, w *worker) { dying = dying || w.index == i && w.life == doomed && !w.unwanted })
		if s.phase == running && !planned && !dying {
			t.Errorf("nobody serves as %d, and nobody will: %v", i, s)
		}
	}
	if s.phase == ended && len(s.generations) > 0 {
		t.Errorf("ended with processes: %v", s)
	}
	if (s.phase == stopping || s.phase == ended) && (s.change != nil || s.further != nil || len(acting) > 0) {
		t.Errorf("stopping, but there is more to come: %v", s)
	}
}

// walker is a world of processes that do what they like.
type walker struct {
	t        testing.TB
	r        *rand.Rand
	s        state
	at       time.Time
	alive    map[int]bool
	timers   []event
	asked    map[int]int // request → answers
	last     int
	exits    int
	commits  int
	tracelog []string
}

func (w *walker) feed(e event) {
	e.at = w.at
	w.tracelog = append(w.tracelog, fmt.Sprintf("%v proc=%d id=%d request=%d now=%v", e.kind, e.proc, e.id, e.request, e.now))
	var todo []action
	w.s, todo = next(w.s, e)
	check(w.t, w.s)
	for _, a := range todo {
		w.tracelog = append(w.tracelog, "    "+a.String())
		w.obey(a)
	}
	w.tracelog = append(w.tracelog, "  "+w.s.String())
}

func (w *walker) obey(a action) {
	switch a.kind {
	case doSpawn:
		if w.alive[a.proc] {
			w.t.Errorf("process %d spawned twice", a.proc)
		}
		w.alive[a.proc] = true
	case doCommit:
		w.commits++
		for _, p := range a.procs {
			if !w.alive[p] {
				w.t.Errorf("process %d committed, but it is dead", p)
			}
		}
	case doKill, doDrain:
		if !w.alive[a.proc] {
			w.t.Errorf("%v, but it is dead", a)
		}
	case doArm:
		w.timers = append(w.timers, event{kind: a.timer, proc: a.proc, id: a.id})
	case doAnswer:
		if a.request != 0 {
			if w.asked[a.request]++; w.asked[a.request] > 1 {
				w.t.Errorf("request %d answered twice", a.request)
			}
		}
	case doExit:
		w.exits++
	}
}

func (w *walker) anyone() int {
	for p := range w.alive {
		return p
	}
	return 0
}

func (w *walker) step() {
	w.at = w.at.Add(time.Duration(w.r.IntN(3000)) * time.Millisecond)
	switch w.r.IntN(10) {
	case 0, 1, 2:
		w.feed(event{kind: evReady, proc: w.anyone()})
	case 3, 4:
		if p := w.anyone(); p != 0 {
			delete(w.alive, p)
			w.feed(event{kind: evDied, proc: p, clean: w.r.IntN(2) == 0})
		}
	case 5:
		w.feed(event{kind: []eventKind{evCrashed, evLeaving, evHung}[w.r.IntN(3)], proc: w.anyone()})
	case 6, 7:
		w.last++
		w.asked[w.last] = 0
		w.feed(w.request())
	case 8:
		w.feed(event{kind: evCancel, request: 1 + w.r.IntN(w.last+1)})
	case 9:
		if len(w.timers) > 0 {
			i := w.r.IntN(len(w.timers))
			e := w.timers[i]
			w.timers = append(w.timers[:i], w.timers[i+1:]...)
			w.feed(e)
		}
	}
}

// request is any order: each third one changes the number of workers, and some the
// policy with it.
func (w *walker) request() event {
	e := event{kind: evRequest, request: w.last, why: byControl, condition: condition(w.r.IntN(4)), now: w.r.IntN(4) == 0, lead: w.r.IntN(8) == 0}
	if e.condition == toScale || w.r.IntN(8) == 0 {
		e.workers = 1 + w.r.IntN(6)
	}
	if e.condition == toAdjust || e.condition == toUpgrade && w.r.IntN(6) == 0 {
		p := w.s.policy
		p.workers, p.rolling, p.serial = 1+w.r.IntN(6), w.r.IntN(2) == 0, w.r.IntN(4) == 0
		e.policy, e.design = &p, w.last
	}
	return e
}

// finish lets every timer run out and every process that was killed die; then
// nothing may be left undone.
func (w *walker) finish() {
	w.feed(event{kind: evStop})
	for len(w.timers) > 0 {
		e := w.timers[0]
		w.timers = w.timers[1:]
		w.feed(e)
	}
	for p := range w.alive {
		delete(w.alive, p)
		w.feed(event{kind: evDied, proc: p})
	}
	if w.s.phase != ended || w.exits != 1 {
		w.t.Errorf("after a stop and all deaths: %v, %d exits", w.s, w.exits)
	}
	for id, n := range w.asked {
		if n != 1 {
			w.t.Errorf("request %d answered %d times", id, n)
		}
	}
}

// TestRandomWalks: whatever happens, in whatever order, the invariants hold, each
// request is answered exactly once, and a stop ends everything.
func TestRandomWalks(t *testing.T) {
	policies := []policy{testPolicy, two, never, failing, exits,
		with(func(p *policy) { p.workers = 4; p.maxDraining = 1; p.maxDeaths = -1 }),
		with(func(p *policy) { p.workers = 4; p.rolling = true; p.maxDeaths = -1 }),
		with(func(p *policy) { p.workers = 3; p.rolling = true }),
		with(func(p *policy) { p.workers = 3; p.rolling = true; p.restart = RestartNever }),
		with(func(p *policy) { p.workers = 3; p.serial = true; p.restart = RestartOnFailure }),
		with(func(p *policy) { p.workers = 4; p.lead = true })}
	commits := 0
	for seed := range uint64(6000) {
		w := &walker{t: t, r: rand.New(rand.NewPCG(seed, 1)), s: newState(policies[seed%uint64(len(policies))]),
			at: time.Unix(1000, 0), alive: map[int]bool{}, asked: map[int]int{}}
		w.feed(event{kind: evStart})
		for range 60 {
			w.step()
		}
		w.finish()
		commits += w.commits
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(w.tracelog, "\n"))
		}
	}
	if commits < 4000 {
		t.Errorf("only %d generations got ready in all walks: they show nothing", commits)
	}
}
