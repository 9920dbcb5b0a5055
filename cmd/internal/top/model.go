// Package top shows live in a terminal what services do, and lets a person act
// on them. What is shown is a pure function of a Model, which changes by messages
// only; Run ties it to a terminal and to a control socket.
package top

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// What happens to a Model.
type (
	// answered is a status, or why there is none, that was asked for at a time.
	answered struct {
		status control.Status
		asked  time.Time
		err    error
	}
	// happened is an event of the service.
	happened struct{ control.Event }
	// concluded is how something that was asked for has ended.
	concluded struct {
		id      string
		outcome *control.Outcome // of an upgrade
		err     error
	}
	// pressed is a key: a character, or a name such as "up".
	pressed string
)

// What a Model wants to be done.
type (
	// order asks the service for something.
	order struct {
		id, what, service string // what: upgrading, restarting, stopping
		now               bool
	}
	// withdrawal cancels an order.
	withdrawal struct{ id string }
	// leave ends it all, suspend for a while, repaint draws everything anew.
	leave   struct{}
	suspend struct{}
	repaint struct{}
)

type pageName int

const (
	mainPage pageName = iota
	whyPage
	eventsPage
	helpPage
)

// maxEvents is how many are held to be looked at.
const maxEvents = 2000

// Model is all that is known, and what of it is looked at.
type Model struct {
	now time.Time

	status control.Status
	asked  time.Time // when the status was; zero: there is none yet
	silent time.Time // since when nobody answers; zero: somebody does
	why    error     // nobody answers
	events []control.Event
	lives  map[string]*lives
	rates  rates

	selected string // name of a service
	page     pageName
	scroll   int
	window   int // of windows
	question *question
	orders   []pending
	notice   line // what has just come of an order
	newID    func() string
}

// pending is an order that was given.
type pending struct {
	order
	since time.Time
}

// newModel returns a Model that knows nothing. newID makes names of upgrades.
func newModel(newID func() string) *Model {
	return &Model{lives: map[string]*lives{}, window: defaultWindow, newID: newID}
}

// update takes account of a message at a time. It returns what is to be done now.
func (m *Model) update(now time.Time, msg any) []any {
	m.now = now
	switch msg := msg.(type) {
	case answered:
		m.answer(msg)
	case happened:
		m.happen(msg.Event)
	case concluded:
		m.conclude(msg)
	case pressed:
		return m.press(string(msg))
	}
	return nil
}

func (m *Model) answer(a answered) {
	if a.err != nil {
		if m.silent.IsZero() {
			m.silent = a.asked
		}
		m.why = a.err
		if errors.Is(a.err, control.ErrNotRunning) {
			for _, ls := range m.lives {
				ls.lost(a.asked)
			}
		}
		return
	}
	m.silent, m.why = time.Time{}, nil
	m.status, m.asked = a.status, a.asked
	m.rates.sample(a.status, a.asked)
	for _, s := range a.status.Services {
		m.livesOf(s.Name).compare(s, a.asked)
	}
	if !slices.ContainsFunc(a.status.Services, func(s control.Service) bool { return s.Name == m.selected }) {
		m.selected = ""
		if len(a.status.Services) > 0 {
			m.selected = a.status.Services[0].Name
		}
	}
}

func (m *Model) livesOf(service string) *lives {
	ls := m.lives[service]
	if ls == nil {
		ls = &lives{}
		m.lives[service] = ls
	}
	return ls
}

// happen bears with events that come twice: after a service was gone, all that it
// remembers is asked for.
func (m *Model) happen(ev control.Event) {
	if n := len(m.events); n > 0 && ev.Kind != control.EventGap {
		if last := m.events[n-1]; ev.At.Before(last.At) || ev.At.Equal(last.At) && ev.Seq <= last.Seq {
			return
		}
	}
	if len(m.events) >= maxEvents {
		m.events = slices.Delete(m.events, 0, maxEvents/4)
	}
	m.events = append(m.events, ev)
	m.livesOf(ev.Service).hear(ev)
}

func (m *Model) conclude(c concluded) {
	i := slices.IndexFunc(m.orders, func(p pending) bool { return p.id == c.id })
	if i < 0 {
		return
	}
	p := m.orders[i]
	m.orders = slices.Delete(m.orders, i, i+1)
	name := ""
	if p.service != "" {
		name = p.service + ": "
	}
	switch out := c.outcome; {
	case c.err != nil:
		m.notice = say(name+complaint(c.err), bad)
	case out == nil:
		m.notice = say(name+"is being stopped", busy)
	case out.Result == control.Ready:
		m.notice = say(name+phrase.Outcome(*out), good)
	default:
		m.notice = say(name+phrase.Outcome(*out), bad).and("  w: why", bold)
	}
}

// complaint is an error for people, with what to do about it.
func complaint(err error) string {
	var told *control.Error
	if !errors.As(err, &told) {
		return phrase.FirstLine(err.Error())
	}
	if told.Hint == "" {
		return told.Message
	}
	return fmt.Sprintf("%s: %s", told.Message, told.Hint)
}

// service is the one that is selected; nil: there is none.
func (m *Model) service() *control.Service {
	for i := range m.status.Services {
		if s := &m.status.Services[i]; s.Name == m.selected {
			return s
		}
	}
	return nil
}

// several: names of services have to be shown.
func (m *Model) several() bool { return len(m.status.Services) > 1 }
