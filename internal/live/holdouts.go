package live

import (
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Holdouts are the connections that a drain waits for. To describe each of very many
// takes long, and nobody reads it: only the oldest are.
type Holdouts struct {
	Most   int            // to be described
	All    int            // counted by Count
	Oldest []control.Conn // the oldest first
}

// Count counts a connection, and reports whether it is to be described: Add comes
// next then.
func (h *Holdouts) Count(since time.Time) bool {
	h.All++
	return len(h.Oldest) < h.Most || h.Most > 0 && since.Before(h.Oldest[h.Most-1].Since)
}

// Add takes the description of the connection that was counted last.
func (h *Holdouts) Add(c control.Conn) {
	i := len(h.Oldest)
	for i > 0 && c.Since.Before(h.Oldest[i-1].Since) {
		i--
	}
	h.Oldest = slices.Insert(h.Oldest, i, c)
	h.Oldest = h.Oldest[:min(len(h.Oldest), h.Most)]
}

// Holdouts adds the connections that a drain waits for. Those which wait for the
// receiver's acknowledgement are not among them.
func (t *Table) Holdouts(h *Holdouts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		if h.Count(at(c.since.Load())) {
			h.Add(c.describe())
		}
	}
}
