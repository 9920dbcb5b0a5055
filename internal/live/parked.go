package live

import (
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// sweepEvery is how exact the time limits of parked connections are: a tenth of
// the shortest one, between 10 ms and 1 s.
func (t *Table) sweepEvery() time.Duration {
	shortest := 10 * time.Second
	for _, d := range []time.Duration{t.idle, t.head} {
		if d > 0 {
			shortest = min(shortest, d)
		}
	}
	if d := t.drain.Load(); d != nil {
		shortest = min(shortest, d.grace)
	}
	return max(10*time.Millisecond, shortest/10)
}

// overdue reports whether a parked connection has been silent for too long.
func (t *Table) overdue(it *handover.Item) bool {
	limit, since := t.idle, it.Since
	if !it.Served {
		limit = t.head
	}
	if limit > 0 && time.Since(since) >= limit {
		return true
	}
	d := t.drain.Load()
	return d != nil && d.moving() == finish && now() >= d.graceEnd(stamp(since))
}

// parkedEnded is told when a parked connection was closed.
func (t *Table) parkedEnded(why string) {
	if t.drain.Load() != nil {
		t.countClosed(why)
	}
}
