package top

import (
	"fmt"

	"github.com/tablecloth-go/tablecloth/cmd/internal/phrase"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// news are the last events, in n lines at most.
func (m *Model) news(columns, n int) []line {
	if n < 2 {
		return nil
	}
	lines := []line{say(" EVENTS", faint)}
	if len(m.events) == 0 {
		return append(lines, say(" none yet", faint))
	}
	for _, ev := range m.events[max(0, len(m.events)-n+1):] {
		lines = append(lines, m.eventLine(ev).cut(columns))
	}
	return lines
}

func (m *Model) eventLine(ev control.Event) line {
	who := ""
	if m.several() && ev.Service != "" {
		who = ev.Service + " "
	}
	if ev.Generation != 0 {
		who += fmt.Sprintf("gen %d ", ev.Generation)
	}
	if ev.PID != 0 {
		who += fmt.Sprintf("pid %d ", ev.PID)
	}
	return say(ev.At.In(m.now.Location()).Format(" 15:04:05 "), faint).and(fmt.Sprintf("%-9s", ev.Kind), eventLook(ev.Kind)).
		and(who, plain).and(phrase.Event(ev), plain)
}

func eventLook(kind string) look {
	switch kind {
	case control.EventFailed, control.EventCrash, control.EventDeath, control.EventKill, control.EventGiveUp, control.EventGap:
		return bad
	case control.EventReady, control.EventUpgraded, control.EventResumed:
		return good
	}
	return busy
}

func (m *Model) allEvents(columns, room int) []line {
	lines := []line{say(" EVENTS", faint)}
	end := len(m.events) - m.scroll
	if end < room-1 { // scrolled to the first one
		end = min(room-1, len(m.events))
	}
	for _, ev := range m.events[max(0, end-room+1):end] {
		lines = append(lines, m.eventLine(ev).cut(columns))
	}
	return lines
}
