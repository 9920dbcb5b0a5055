package top

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// question is what has to be answered before something is done.
type question struct {
	text    string
	options []option
}

type option struct {
	key, label string
	chosen     func() []any
}

// press takes account of a key.
func (m *Model) press(key string) []any {
	switch key {
	case "ctrl-z":
		return []any{suspend{}}
	case "ctrl-l":
		return []any{repaint{}}
	}
	if m.question != nil {
		return m.reply(key)
	}
	switch key {
	case "q", "ctrl-c":
		if m.page != mainPage && key == "q" {
			m.turn(mainPage)
			return nil
		}
		return m.quit()
	case "esc":
		m.notice = nil
		m.turn(mainPage)
	case "?", "h", "f1":
		m.turn(helpPage)
	case "e":
		m.turn(eventsPage)
	case "w", "enter":
		m.turn(whyPage)
	case "+", "=":
		m.window = max(m.window-1, 0)
	case "-":
		m.window = min(m.window+1, len(windows)-1)
	case "c":
		return m.withdraw()
	case "u", "r", "s":
		return m.propose(key)
	default:
		m.move(key)
	}
	return nil
}

// turn opens a page, or closes it when it is open.
func (m *Model) turn(to pageName) {
	if m.page == to {
		to = mainPage
	}
	m.page, m.scroll = to, 0
}

// reply answers the question. Enter doesn't: nothing is done by accident.
func (m *Model) reply(key string) []any {
	q := m.question
	if key == "ctrl-c" && q.options[0].key == "q" {
		key = "q"
	}
	for _, o := range q.options {
		if o.key == strings.ToLower(key) {
			m.question = nil
			return o.chosen()
		}
	}
	if key == "n" || key == "N" || key == "esc" || key == "ctrl-c" || key == "q" {
		m.question = nil
	}
	return nil
}

func (m *Model) quit() []any {
	i := slices.IndexFunc(m.orders, func(p pending) bool { return p.what != stopping })
	if i < 0 {
		return []any{leave{}}
	}
	m.question = &question{
		text:    fmt.Sprintf("%s is not done, and ends if you quit.", m.orders[i]),
		options: []option{{"q", "quit", func() []any { return []any{leave{}} }}},
	}
	return nil
}

const (
	upgrading  = "upgrading"
	restarting = "restarting"
	stopping   = "stopping"
)

func (o order) String() string { return strings.TrimSpace(o.what + " " + o.service) }

// propose asks whether something is meant.
func (m *Model) propose(key string) []any {
	s := m.service()
	m.notice = nil
	switch {
	case s == nil || m.why != nil:
		m.notice = say("nobody is there to be asked", bad)
	case slices.ContainsFunc(m.orders, func(p pending) bool { return p.service == s.Name && p.what != stopping && key != "s" }):
		m.notice = say("it is being done: c cancels", busy)
	case key == "r" && m.status.Keeper == nil:
		m.notice = say("restart is for kept services; u starts what lies on disk", bad)
	case key == "u":
		m.ask(fmt.Sprintf("Upgrade %s: start what lies on disk now?", called(s)), m.yes(upgrading, s.Name, false))
	case key == "r":
		m.ask(fmt.Sprintf("Restart %s: start its last good program again?", called(s)), m.yes(restarting, s.Name, false))
	case key == "s":
		m.proposeStop(s)
	}
	return nil
}

func called(s *control.Service) string {
	if s.Name == "" {
		return "the service"
	}
	return s.Name
}

func (m *Model) proposeStop(s *control.Service) {
	name, what := s.Name, called(s)
	if !m.several() {
		name = "" // the keeper ends with its only service
		if m.status.Keeper != nil {
			what += ", and its keeper"
		}
	}
	now := option{"!", "yes, without waiting for requests", func() []any { return m.give(order{what: stopping, service: name, now: true}) }}
	options := []option{m.yes(stopping, name, false), now}
	if m.several() {
		options = append(options, option{"a", "all, and the keeper", func() []any { return m.give(order{what: stopping}) }})
	}
	m.ask(fmt.Sprintf("Stop %s?", what), options...)
}

func (m *Model) ask(text string, options ...option) {
	m.question = &question{text: text, options: append(options, option{"n", "no", func() []any { return nil }})}
}

func (m *Model) yes(what, service string, now bool) option {
	return option{"y", "yes", func() []any { return m.give(order{what: what, service: service, now: now}) }}
}

func (m *Model) give(o order) []any {
	o.id = m.newID()
	m.orders = append(m.orders, pending{o, m.now})
	return []any{o}
}

// withdraw cancels the last upgrade that was asked for.
func (m *Model) withdraw() []any {
	for _, p := range slices.Backward(m.orders) {
		if p.what != stopping {
			return []any{withdrawal{p.id}}
		}
	}
	return nil
}

// move selects a service, or scrolls a page.
func (m *Model) move(key string) {
	steps := map[string]int{"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -10, "pgdn": 10, " ": 10, "home": -1 << 20, "g": -1 << 20, "end": 1 << 20, "G": 1 << 20}
	step, known := steps[key]
	switch {
	case key == "tab":
		m.step(1, true)
	case !known:
	case m.page == mainPage:
		m.step(step, false)
	case m.page == eventsPage: // it begins with the last ones
		m.scroll = max(0, min(m.scroll-step, len(m.events)-1))
	default:
		m.scroll = max(0, m.scroll+step)
	}
}

func (m *Model) step(by int, around bool) {
	all := m.status.Services
	if len(all) == 0 {
		return
	}
	i := slices.IndexFunc(all, func(s control.Service) bool { return s.Name == m.selected }) + by
	if around {
		i %= len(all)
	}
	m.selected = all[max(0, min(i, len(all)-1))].Name
	m.notice = nil
}
