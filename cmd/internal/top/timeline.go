package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// How a bar shows what a generation was doing.
const (
	starting = "░"
	serving  = "█"
	draining = "▒"
	ended    = "│"
	died     = "×"
)

// windows are how much of the past is shown.
var windows = []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

const defaultWindow = 1

// shownLives are those that are there, or have been in the window: at most n,
// oldest first. Those that are there matter most, then the latest.
func (m *Model) shownLives(service string, n int) lives {
	begin := m.now.Add(-windows[m.window])
	var shown lives
	for _, l := range *m.livesOf(service) {
		if l.endedAt.IsZero() || l.endedAt.After(begin) {
			shown = append(shown, l)
		}
	}
	slices.SortStableFunc(shown, func(a, b *life) int { return a.began.Compare(b.began) })
	for len(shown) > max(n, 0) {
		i := slices.IndexFunc(shown, func(l *life) bool { return !l.endedAt.IsZero() })
		i = max(i, 0)
		shown = slices.Delete(shown, i, i+1)
	}
	return shown
}

// timeline shows generations as bars over time, in n lines at most.
func (m *Model) timeline(s *control.Service, columns, n int) []line {
	note := min(30, columns/3)
	bar := max(columns-14-1-note, 5)
	begin := "-" + windowText(windows[m.window])
	axis := say(fmt.Sprintf(" %-13s", "GENERATIONS"), faint).and(begin, faint).
		and(strings.Repeat("─", max(0, bar-len(begin)-3)), faint).and("now", faint)
	lines := []line{axis}
	for _, l := range m.shownLives(s.Name, n-1) {
		text, as := m.lifeState(s, l)
		row := say(fmt.Sprintf(" %4d ", l.number), plain).and(fmt.Sprintf("%-8s ", text), as)
		row = append(append(row[:2:2], m.bar(l, bar)...), span{" ", plain})
		lines = append(lines, append(row, m.lifeNote(s, l).cut(note)...))
	}
	return lines
}

func windowText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = text[:len(text)-2]
	}
	if strings.HasSuffix(text, "h0m") {
		text = text[:len(text)-2]
	}
	return text
}

// lifeState is what the status says; what events say of those that have ended.
func (m *Model) lifeState(s *control.Service, l *life) (string, look) {
	if !l.endedAt.IsZero() {
		if l.how == "gone" {
			return l.how, faint
		}
		return l.how, bad
	}
	state := l.state(m.now)
	for _, g := range s.Generations {
		if g.Number == l.number && m.asked.After(l.heard) {
			state = g.State
		}
	}
	return string(state), stateLook(state)
}

func stateLook(s control.State) look {
	switch s {
	case control.Serving:
		return good
	case control.GaveUp, control.Down, control.Stopped:
		return bad
	}
	return busy
}

// bar shows a life in so many columns. Nothing is too short to be seen: of what
// falls into one column the rarest is shown.
func (m *Model) bar(l *life, columns int) line {
	step := windows[m.window] / time.Duration(columns)
	var all line
	for i := range columns {
		from := m.now.Add(-step * time.Duration(columns-i))
		to := from.Add(step)
		if i == columns-1 {
			to = m.now.Add(time.Millisecond)
		}
		all = append(all, l.cell(from, to))
	}
	return all
}

func (l *life) cell(from, to time.Time) span {
	within := func(t time.Time) bool { return !t.IsZero() && !t.Before(from) && t.Before(to) }
	state := l.state(to.Add(-1))
	switch {
	case within(l.endedAt) && l.how != "gone":
		return span{died, bad}
	case within(l.endedAt):
		return span{ended, faint}
	case within(l.began):
		return span{starting, busy}
	case state == control.Starting:
		return span{starting, busy}
	case state == control.Draining:
		return span{draining, busy}
	case state == control.Serving:
		return span{serving, good}
	}
	return span{" ", plain}
}

// lifeNote is what a generation's line has room for beside its bar.
func (m *Model) lifeNote(s *control.Service, l *life) line {
	if !l.endedAt.IsZero() {
		return say(phrase.Duration(m.now.Sub(l.endedAt).Truncate(time.Second))+" ago", faint)
	}
	i := slices.IndexFunc(s.Generations, func(g control.Generation) bool { return g.Number == l.number })
	if i < 0 {
		return nil
	}
	g := s.Generations[i]
	var open, moved, adopted, flow int64
	told := false
	for _, w := range g.Workers {
		if c := w.Conns; c != nil {
			told = true
			open, moved, adopted = open+int64(c.Open), moved+c.Moved, adopted+c.Adopted
		}
		done, _, _ := m.rates.of(w.PID)
		flow += done.moved + done.adopted
	}
	var parts []string
	if g.Deadline != nil {
		if n := len(phrase.Drains(g)); n < len(g.Workers) {
			parts = append(parts, fmt.Sprintf("%d of %d drain", n, len(g.Workers)))
		}
		parts = append(parts, phrase.Duration(max(0, g.Deadline.Sub(m.now)).Truncate(time.Second))+" left")
	}
	if told {
		parts = append(parts, phrase.Count(open)+" open")
	}
	if moved > 0 {
		parts = append(parts, phrase.Count(moved)+" →")
	}
	if adopted > 0 {
		parts = append(parts, "→ "+phrase.Count(adopted))
	}
	if g.State == control.Serving && !g.Confirmed {
		parts = append(parts, "not confirmed")
	}
	as := plain
	if flow > 0 { // connections are moving now
		as = bold
	}
	return say(strings.Join(parts, ", "), as)
}
