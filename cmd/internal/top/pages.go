package top

import (
	"fmt"
	"strings"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// inquiry is the question with its options, in as many lines as it takes.
func (m *Model) inquiry(columns, most int) []line {
	words := []string{m.question.text}
	for _, o := range m.question.options {
		words = append(words, fmt.Sprintf("[%s] %s", o.key, o.label))
	}
	var lines []line
	text := ""
	flush := func() {
		broken := []string{text}
		if len([]rune(text)) > columns-2 {
			broken = wrapped(text, columns-2)
		}
		for _, l := range broken {
			lines = append(lines, say(" "+l, plain).filled(columns).in(inverse))
		}
	}
	for _, w := range words {
		if text != "" && len([]rune(text))+3+len([]rune(w)) > columns-2 {
			flush()
			text = ""
		}
		text = strings.TrimSpace(text + "   " + w)
	}
	flush()
	return lines[:min(len(lines), max(most, 1))]
}

// keys are those that do something, as many as there is room for.
func (m *Model) keys(columns int) line {
	type key struct{ name, does string }
	all := []key{{"u", "upgrade"}, {"r", "restart"}, {"s", "stop"}, {"w", "why"}, {"e", "events"}, {"+-", "time"}}
	last := []key{{"?", "help"}, {"q", "quit"}}
	if m.status.Keeper == nil {
		all = append(all[:1:1], all[2:]...)
	}
	if m.several() {
		all = append([]key{{"↑↓", "service"}}, all...)
	}
	if m.page != mainPage {
		all = []key{{"↑↓", "scroll"}}
		last = []key{{"q", "back"}}
	}
	render := func(keys []key) line {
		l := line{}
		for _, k := range keys {
			l = l.and(" "+k.name, bold).and(" "+k.does+" ", plain)
		}
		return l
	}
	for {
		l := render(append(all[:len(all):len(all)], last...))
		if l.width() <= columns || len(all) == 0 {
			return l.cut(columns)
		}
		all = all[:len(all)-1]
	}
}

// paged is a page of its own, as far as it was scrolled.
func (m *Model) paged(columns, room int) []line {
	if m.page == eventsPage {
		return m.allEvents(columns, room)
	}
	all := m.help()
	if m.page == whyPage {
		all = m.because(columns)
	}
	m.scroll = min(m.scroll, max(0, len(all)-room))
	shown := all[m.scroll:]
	if len(shown) > room {
		shown = clip(shown, room)
	}
	return shown
}

func (m *Model) help() []line {
	rows := [][2]string{
		{"", "Generations are bars over time; numbers beside them are connections:"},
		{"", "what is left of a drain's time, open, moved to the next one (212 →),"},
		{"", "taken from the last one (→ 212)."},
		{"", ""},
		{starting + serving + draining, "starting, serving, draining;  " + ended + " ended   " + died + " failed, died or was killed"},
		{"OPEN", "connections: IDLE between requests, BUSY with a request in flight"},
		{"MOVED", "went to the next process, TAKEN came from the last one"},
		{"RESCUED", "came from a process that had died"},
		{"", ""},
		{"↑ ↓", "choose the service"},
		{"u", "upgrade it: start what lies on disk now"},
		{"r", "restart it: start the last good program again (kept services)"},
		{"s", "stop it"},
		{"c", "cancel the upgrade that was asked for here"},
		{"w", "why: the last upgrade and crash with their output, what drains wait for"},
		{"e", "all events"},
		{"+ -", "less, more of the past"},
		{"q", "quit; the services go on"},
		{"", ""},
		{"", "u, r and s ask first."},
	}
	var lines []line
	for _, r := range rows {
		if r[0] == "" {
			lines = append(lines, say(" "+r[1], plain))
			continue
		}
		lines = append(lines, say(fmt.Sprintf(" %-8s", r[0]), bold).and(r[1], plain))
	}
	return lines
}

// because tells all that is known of what went wrong.
func (m *Model) because(columns int) []line {
	s := m.service()
	if s == nil {
		return []line{say(" nothing is known yet", faint)}
	}
	p := &prose{columns: columns}
	p.title("The last upgrade of " + called(s))
	if o := s.LastOutcome; o == nil {
		p.text("there was none", faint)
	} else {
		m.explainOutcome(p, o)
	}
	p.title("The last crash")
	if c := s.LastCrash; c == nil {
		p.text("there was none", faint)
	} else {
		p.text(fmt.Sprintf("%s ago: %s", since(m.now, c.At), phrase.Crash(*c)), bad)
		p.quote(c.Output)
		if c.Stack != "" {
			p.quote(strings.Split(strings.TrimSpace(c.Stack), "\n"))
		}
	}
	m.explainRest(p, s)
	return p.lines
}

func (m *Model) explainOutcome(p *prose, o *control.Outcome) {
	as := good
	if o.Result != control.Ready {
		as = bad
	}
	p.text(fmt.Sprintf("%s ago (%s): %s", since(m.now, o.At), o.Trigger, phrase.Outcome(*o)), as)
	if len(o.Output) > 0 {
		p.text("its last lines:", faint)
		p.quote(o.Output)
	}
	if o.Hint != "" {
		p.text("hint: "+o.Hint, bold)
	}
	if o.Result != control.Ready && o.Generation != 0 {
		p.text(fmt.Sprintf("generation %d (pid %d) still serves", o.Generation, o.PID), plain)
	}
}

func (m *Model) explainRest(p *prose, s *control.Service) {
	waiting := false
	for _, g := range s.Generations {
		for _, h := range g.Holdouts {
			if !waiting {
				p.title("Drains wait for")
				waiting = true
			}
			p.text(fmt.Sprintf("gen %d: %s, %s for %s %s", g.Number, h.Peer, h.State, since(m.now, h.Since), h.Request), plain)
		}
	}
	var notes []string
	notes = append(notes, s.Notes...)
	for _, g := range s.Generations {
		for _, w := range g.Workers {
			if w.Changed {
				notes = append(notes, fmt.Sprintf("%s has changed on disk since pid %d was started", w.Binary, w.PID))
			}
			if w.Status != "" {
				notes = append(notes, fmt.Sprintf("pid %d says: %s", w.PID, phrase.FirstLine(w.Status)))
			}
		}
	}
	notes = append(notes, fmt.Sprintf("upgrades %d, restarts %d, recent crashes %d", s.Upgrades, s.Restarts, s.Crashes))
	if r := s.Rescued; r != nil {
		notes = append(notes, fmt.Sprintf("rescued from %s: %d connections went on, %d got a 500, %d a 503, %d were cut, %d closed, %d lost",
			phrase.Counted(r.Workers, "dead worker"), r.Idle, r.S500, r.S503, r.Cut, r.Closed+r.Ended, r.Lost))
	}
	p.title("Beside that")
	for _, n := range notes {
		p.text(n, plain)
	}
}

// prose is lines under titles.
type prose struct {
	columns int
	lines   []line
}

func (p *prose) title(text string) {
	if len(p.lines) > 0 {
		p.lines = append(p.lines, nil)
	}
	p.lines = append(p.lines, say(" "+text, bold))
}

func (p *prose) text(text string, as look) {
	for _, l := range wrapped(text, p.columns-4) {
		p.lines = append(p.lines, say("   "+l, as))
	}
}

// quote doesn't wrap: what stands in a column belongs there.
func (p *prose) quote(lines []string) {
	for _, l := range lines {
		p.lines = append(p.lines, say("   │ "+l, plain).cut(p.columns))
	}
}
