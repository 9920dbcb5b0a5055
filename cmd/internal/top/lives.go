package top

import (
	"maps"
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// life is what is known of a generation: when its first worker began and served,
// and when none served any more, or was there. Times are zero where that hasn't
// happened.
type life struct {
	number                          int
	began, served, drained, endedAt time.Time
	how                             string                // it ended
	processes                       map[int]control.State // that are there: starting, serving or draining
	heard                           time.Time             // the last event of it
}

// lives are those of one service, oldest first.
type lives []*life

const maxLives = 64

// find returns the last generation of that number.
func (ls lives) find(number int) *life {
	for i := len(ls) - 1; i >= 0; i-- {
		if ls[i].number == number {
			return ls[i]
		}
	}
	return nil
}

// born returns the generation of that number, or a new one where it has ended
// before at: the next keeper counts from one again.
func (ls *lives) born(number int, at time.Time) *life {
	l := ls.find(number)
	if l == nil || !l.endedAt.IsZero() && at.After(l.endedAt) {
		l = &life{number: number, began: at, processes: map[int]control.State{}}
		*ls = append(*ls, l)
		if len(*ls) > maxLives {
			*ls = (*ls)[1:]
		}
	}
	return l
}

// hear takes account of an event.
func (ls *lives) hear(ev control.Event) {
	if ev.Generation == 0 && ev.Outcome == nil {
		return
	}
	var l *life
	switch ev.Kind {
	case control.EventStart, control.EventReady, control.EventRoll:
		l = ls.born(ev.Generation, ev.At)
	case control.EventFailed:
		l = ls.failed(ev)
	default:
		l = ls.find(ev.Generation)
	}
	if l == nil {
		return
	}
	l.heard = ev.At
	l.hear(ev)
}

// failed is the generation of an upgrade that has failed. Alone it is the old one
// that says so.
func (ls lives) failed(ev control.Event) *life {
	if ev.Outcome == nil || ev.Generation > ev.Outcome.Generation {
		return ls.find(ev.Generation)
	}
	for i := len(ls) - 1; i >= 0; i-- {
		if l := ls[i]; l.endedAt.IsZero() && l.served.IsZero() && l.number > ev.Outcome.Generation {
			return l
		}
	}
	return nil
}

func (l *life) hear(ev control.Event) {
	switch ev.Kind {
	case control.EventStart:
		l.is(ev.PID, control.Starting)
	case control.EventReady, control.EventRoll:
		if l.served.IsZero() {
			l.served = ev.At
		}
		l.is(ev.PID, control.Serving)
	case control.EventDrain:
		l.is(ev.PID, control.Draining)
		if l.drained.IsZero() && !l.any(control.Serving) {
			l.drained = ev.At
		}
	case control.EventResumed:
		l.is(ev.PID, control.Serving)
		l.drained = time.Time{}
	case control.EventFailed:
		l.fail(ev.At)
	case control.EventKill:
		if l.how == "" {
			l.how = "killed"
		}
	case control.EventGone, control.EventDeath:
		if delete(l.processes, ev.PID); len(l.processes) > 0 {
			return
		}
		how := "gone"
		if ev.Kind == control.EventDeath {
			how = "died"
		}
		l.end(ev.At, how)
	}
}

func (l *life) is(pid int, s control.State) {
	if pid != 0 {
		l.processes[pid] = s
	}
}

func (l *life) any(s control.State) bool {
	return slices.Contains(slices.Collect(maps.Values(l.processes)), s)
}

// fail: of those that have not begun to serve nothing more is told. The others
// are replaced, one after the other.
func (l *life) fail(at time.Time) {
	maps.DeleteFunc(l.processes, func(_ int, s control.State) bool { return s == control.Starting })
	if len(l.processes) == 0 || l.served.IsZero() {
		l.end(at, "failed")
	}
	l.how = "failed"
}

func (l *life) end(at time.Time, how string) {
	if l.how == "" || l.how == "gone" {
		l.how = how
	}
	if l.endedAt.IsZero() {
		l.endedAt = at
	}
}

// compare corrects what events have told by a status that was asked for then.
func (ls *lives) compare(s control.Service, asked time.Time) {
	there := map[int]bool{}
	for _, g := range s.Generations {
		there[g.Number] = true
		ls.meet(g, asked)
	}
	for _, l := range *ls {
		if !there[l.number] && l.endedAt.IsZero() && asked.Sub(l.heard) > time.Second {
			l.end(asked, "gone")
		}
	}
}

// meet learns of a generation that is there.
func (ls *lives) meet(g control.Generation, asked time.Time) {
	began, since := asked, asked
	for _, w := range g.Workers {
		began = earlier(began, w.Started)
		since = earlier(since, w.Since)
	}
	l := ls.find(g.Number)
	if l == nil || !l.endedAt.IsZero() && began.After(l.endedAt) {
		l = ls.born(g.Number, began)
	}
	l.began = earlier(l.began, began)
	if !l.endedAt.IsZero() && asked.Sub(l.endedAt) > time.Second {
		l.endedAt, l.how = time.Time{}, ""
	}
	if asked.After(l.heard) {
		for _, w := range g.Workers {
			l.is(w.PID, w.State)
		}
	}
	switch g.State {
	case control.Serving:
		if l.served.IsZero() {
			l.served = since
		}
	case control.Draining, control.Stopping:
		if l.drained.IsZero() && !l.any(control.Serving) {
			l.drained = since
		}
	}
}

// lost: nobody is there any more.
func (ls lives) lost(at time.Time) {
	for _, l := range ls {
		if l.endedAt.IsZero() {
			l.end(at, "gone")
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// state is what the generation was doing at a time; "": nothing.
func (l *life) state(at time.Time) control.State {
	switch {
	case at.Before(l.began), !l.endedAt.IsZero() && !at.Before(l.endedAt):
		return ""
	case !l.drained.IsZero() && !at.Before(l.drained):
		return control.Draining
	case !l.served.IsZero() && !at.Before(l.served):
		return control.Serving
	case l.served.IsZero() && !l.drained.IsZero(): // it served before anybody looked
		return control.Serving
	}
	return control.Starting
}
