package upgrader

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// history is what a service remembers over generations.
type history struct {
	Crashes     []time.Time     `json:"crashes,omitempty"` // within the window
	PausedUntil time.Time       `json:"paused_until,omitzero"`
	LastCrash   *control.Crash  `json:"last_crash,omitempty"`
	Upgrades    int             `json:"upgrades,omitempty"`
	Restarts    int             `json:"restarts,omitempty"`
	Outcomes    json.RawMessage `json:"outcomes,omitempty"` // of control.Outcomes
	Events      json.RawMessage `json:"events,omitempty"`   // of control.Events
}

// add adds a part of a history that has arrived.
func (h *history) add(packed json.RawMessage) error {
	var part history
	if err := json.Unmarshal(packed, &part); err != nil {
		return fmt.Errorf("garbled history: %w", err)
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
	return nil
}

// restore takes over what the service remembers, and knows the answer to the
// requests that have led to this generation.
func (u *Upgrader) restore(h history, o *control.Outcome, ids []string) {
	if h.Events != nil {
		if err := u.events.UnmarshalJSON(h.Events); err != nil {
			u.log.WithError(err).Warn("what has happened in generations before is forgotten")
		}
	}
	if h.Outcomes != nil {
		if err := u.outcomes.UnmarshalJSON(h.Outcomes); err != nil {
			u.log.WithError(err).Warn("the outcomes of earlier upgrades are forgotten")
		}
	}
	if o != nil && o.Trigger == triggerDeath { // it answers whoever has asked for something
		ids = u.outcomes.Pending()
	}
	if o != nil && len(ids) > 0 {
		u.outcomes.Finish(*o, ids...)
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
