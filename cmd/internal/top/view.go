package top

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// view is the whole screen: exactly so many lines, none of them longer.
func (m *Model) view(columns, height int) []line {
	bottom := m.bottom(columns, height/2)
	var body []line
	room := height - 1 - len(bottom)
	switch {
	case columns < 20 || room < 2:
		body = []line{say("the terminal is too small", plain)}
	case m.page == mainPage:
		body = m.main(columns, room)
	default:
		body = m.paged(columns, room)
	}
	all := append([]line{m.head(columns)}, body...)
	for len(all) < height-len(bottom) {
		all = append(all, nil)
	}
	all = append(all[:max(0, height-len(bottom))], bottom...)
	for i := range all {
		all[i] = all[i].cut(columns)
	}
	return all[:min(len(all), height)]
}

// head says what all this is of, and whether it is true.
func (m *Model) head(columns int) line {
	clock := say(m.now.Format("15:04:05 "), faint)
	l := say(" tablecloth top", bold)
	for _, s := range m.status.Services[:min(1, len(m.status.Services))] {
		if !m.several() && s.Name != "" {
			l = l.and("  "+s.Name, bold)
		}
	}
	switch {
	case m.why != nil:
		return spread(l.and(fmt.Sprintf("  %s for %s", m.silence(), since(m.now, m.silent)), bad), clock, columns)
	case m.asked.IsZero():
		return spread(l.and("  asking …", faint), clock, columns)
	case m.now.Sub(m.asked) > unanswered:
		l = l.and(fmt.Sprintf("  no answer for %s", since(m.now, m.asked)), bad)
	case m.status.Keeper != nil:
		k := m.status.Keeper
		l = l.and(fmt.Sprintf("  keeper %d, up %s", k.PID, since(m.now, k.Started)), plain)
	default:
		l = l.and("  without a keeper", plain)
	}
	if m.several() {
		l = l.and(fmt.Sprintf(", %d services", len(m.status.Services)), plain)
	}
	return spread(l, clock, columns)
}

// unanswered is after how long it is said that there is no answer yet.
const unanswered = 5 * time.Second

func (m *Model) silence() string {
	if errors.Is(m.why, control.ErrNotRunning) {
		return "not running"
	}
	return complaint(m.why)
}

func since(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return phrase.Duration(now.Sub(t).Truncate(time.Second))
}

// section is a part of the screen that takes what room it gets.
type section struct {
	least, most int // lines
	draw        func(lines int) []line
}

func (m *Model) main(columns, room int) []line {
	s := m.service()
	if s == nil {
		return append([]line{nil}, m.news(columns, room-1)...)
	}
	detail := m.detail(s, columns)
	sections := []section{
		{1, len(detail), func(n int) []line { return clip(detail, n) }},
		m.timelineSection(s, columns),
		m.workersSection(s, columns),
		{min(2+room/7, max(2, len(m.events)+1)), max(2, len(m.events)+1), func(n int) []line { return m.news(columns, n) }},
	}
	if m.several() {
		n := len(m.status.Services) + 1
		sections = slices.Insert(sections, 0, section{min(n, 4), n, func(n int) []line { return m.services(columns, n) }})
	}
	return arrange(sections, room)
}

func (m *Model) timelineSection(s *control.Service, columns int) section {
	n := len(m.shownLives(s.Name, maxLives)) + 1
	return section{min(n, 3), min(n, 7), func(n int) []line { return m.timeline(s, columns, n) }}
}

func (m *Model) workersSection(s *control.Service, columns int) section {
	all := m.workers(s, columns, 1<<20)
	if len(all) == 1 { // its titles
		return section{}
	}
	return section{min(len(all), 3), len(all), func(n int) []line { return clip(all, n) }}
}

// arrange shares the room out: first what each section needs, as far down as
// there is room, then line by line what they could use.
func arrange(sections []section, room int) []line {
	gets := make([]int, len(sections))
	left := room
	for i, s := range sections {
		if s.least > 0 && left >= s.least {
			gets[i], left = s.least, left-s.least
		}
	}
	gaps := 0 // empty lines between, if there is plenty
	if room >= 20 {
		for _, n := range gets {
			if n > 0 && left > 0 {
				gaps, left = gaps+1, left-1
			}
		}
	}
	for more := true; more && left > 0; {
		more = false
		for i, s := range sections {
			if gets[i] > 0 && gets[i] < s.most && left > 0 {
				gets[i], left, more = gets[i]+1, left-1, true
			}
		}
	}
	var all []line
	for i, s := range sections {
		if gets[i] == 0 {
			continue
		}
		if gaps > 0 {
			all, gaps = append(all, nil), gaps-1
		}
		all = append(all, s.draw(gets[i])...)
	}
	return all
}

// detail is what is to be known of the service that is selected.
func (m *Model) detail(s *control.Service, columns int) []line {
	l := say(" ", plain)
	if m.several() {
		l = l.and(called(s)+" ", bold)
	}
	l = l.and(string(s.State), stateLook(s.State)).and(fmt.Sprintf(", generation %d, %s", s.Generation, workerWords(*s)), plain)
	if doing := m.doing(*s); doing != "" {
		l = l.and(", "+doing, busy)
	}
	if len(s.Listen) > 0 {
		l = l.and("  "+strings.Join(s.Listen, "  "), faint)
	}
	lines := []line{l}
	if o := s.LastOutcome; o != nil {
		as := plain
		if o.Result != control.Ready {
			as = bad
		}
		lines = append(lines, say(fmt.Sprintf(" upgrade %s ago: ", since(m.now, o.At)), faint).and(phrase.FirstLine(strings.TrimPrefix(phrase.Outcome(*o), "upgrade ")), as))
	}
	if c := s.LastCrash; c != nil {
		lines = append(lines, say(fmt.Sprintf(" crash %s ago: ", since(m.now, c.At)), faint).and(phrase.Crash(*c), plain))
	}
	for _, g := range s.Generations {
		if len(g.Holdouts) > 0 {
			h := g.Holdouts[0]
			lines = append(lines, say(fmt.Sprintf(" gen %d waits for ", g.Number), faint).
				and(fmt.Sprintf("%s: %s for %s %s", h.Peer, h.State, since(m.now, h.Since), h.Request), plain))
		}
	}
	for i := range lines {
		lines[i] = lines[i].cut(columns)
	}
	return lines
}

func workerWords(s control.Service) string {
	if text := workersText(s); text != "1" {
		return text + " workers"
	}
	return "1 worker"
}

// bottom is the question, or what has just happened, and the keys.
func (m *Model) bottom(columns, most int) []line {
	if m.question != nil {
		return m.inquiry(columns, most)
	}
	var lines []line
	if m.notice != nil {
		lines = append(lines, m.notice.cut(columns-1))
	} else if n := len(m.orders); n > 0 {
		p := m.orders[n-1]
		l := say(fmt.Sprintf(" %s for %s", p, since(m.now, p.since)), busy)
		if p.what != stopping {
			l = l.and("  c: cancel", bold)
		}
		lines = append(lines, l)
	}
	return append(lines, m.keys(columns))
}
