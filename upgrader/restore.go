package upgrader

import (
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// history is what a service remembers over generations.
type history struct {
	Crashes     []time.Time       `json:"crashes,omitempty"` // within the window
	PausedUntil time.Time         `json:"paused_until,omitzero"`
	LastCrash   *control.Crash    `json:"last_crash,omitempty"`
	Upgrades    int               `json:"upgrades,omitempty"`
	Restarts    int               `json:"restarts,omitempty"`
	Outcomes    *control.Outcomes `json:"outcomes,omitempty"`
	Events      *control.Events   `json:"events,omitempty"`
}

// merge adds a part of a history that has arrived.
func (h *history) merge(part *history) {
	if part == nil {
		return
	}
	if part.Crashes != nil || part.Upgrades+part.Restarts > 0 || !part.PausedUntil.IsZero() {
		h.Crashes, h.PausedUntil, h.Upgrades, h.Restarts = part.Crashes, part.PausedUntil, part.Upgrades, part.Restarts
	}
	if part.LastCrash != nil {
		h.LastCrash = part.LastCrash
	}
	if part.Outcomes != nil {
		h.Outcomes = part.Outcomes
	}
	if part.Events != nil {
		h.Events = part.Events
	}
}

// restore takes over what the service remembers, and knows the answer to the
// requests that have led to this generation.
func (u *Upgrader) restore(h history, o *control.Outcome, ids []string) {
	if h.Events != nil {
		if b, err := h.Events.MarshalJSON(); err == nil {
			u.events.UnmarshalJSON(b)
		}
	}
	if h.Outcomes != nil {
		if b, err := h.Outcomes.MarshalJSON(); err == nil {
			u.outcomes.UnmarshalJSON(b)
		}
	}
	if o != nil {
		for _, id := range ids {
			known := *o
			known.ID = id
			u.outcomes.Finish(known)
		}
	}
	u.post(func(l *life) {
		h.Crashes = append(h.Crashes, l.history.Crashes...) // it serves already
		if l.history.LastCrash != nil {
			h.LastCrash = l.history.LastCrash
		}
		l.history, l.last = h, o
		if o != nil && o.Trigger != triggerCrash && o.Trigger != triggerDeath {
			l.history.Upgrades++
		} else {
			l.history.Restarts++
		}
		if left := time.Until(h.PausedUntil); left > 0 && l.pause == nil {
			l.startPause(left)
		}
	})
}
