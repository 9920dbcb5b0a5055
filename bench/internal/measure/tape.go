package measure

import (
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// tape has all answers and failures of a load, in their order, but those on
// connections that are HTTP no more: they say nothing of who serves.
type tape struct {
	mu       sync.Mutex
	answers  []strict.Answer
	failures []strict.Failure
	newest   strict.Answer // of the highest generation
}

func (t *tape) answer(a strict.Answer) {
	if a.Kind == strict.Upgraded {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers = append(t.answers, a)
	if a.Generation >= t.newest.Generation {
		t.newest = a
	}
}

func (t *tape) failure(f strict.Failure) {
	if f.Kind == strict.Upgraded {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, f)
}

// serving is the process of the newest answer.
func (t *tape) serving() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.newest.PID
}

// cut returns what lies in [from, to).
func (t *tape) cut(from, to time.Duration) *tape {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &tape{}
	for _, a := range t.answers {
		if a.At >= from && a.At < to {
			c.answers = append(c.answers, a)
		}
	}
	for _, f := range t.failures {
		if f.At >= from && f.At < to {
			c.failures = append(c.failures, f)
		}
	}
	return c
}

// fill in what can be told from the answers. Generations above base are new;
// served is the process that answered before.
func (t *tape) fill(e *Event, trigger, window, watched time.Duration, base, served int) {
	e.Before = t.cut(trigger-window, trigger).latency()
	e.During = t.cut(trigger, trigger+window).latency()
	during := t.cut(trigger, trigger+watched)
	e.FirstNew, e.LastOld, e.Next = Never, Never, Never
	for _, a := range during.answers {
		since := a.At - trigger
		switch {
		case a.Generation <= base:
			e.LastOld = since
		case e.FirstNew == Never:
			e.FirstNew = since
		}
		if a.PID != served && e.Next == Never {
			e.Next = since
		}
	}
	e.Gap = during.gap(trigger, trigger+watched)
	e.Failed = during.lost()
}

func (t *tape) latency() strict.Latency {
	var h strict.Histogram
	for _, a := range t.answers {
		h.Add(a.Took)
	}
	return h.Latency()
}

// gap is the longest time without an answer.
func (t *tape) gap(from, to time.Duration) time.Duration {
	longest, last := time.Duration(0), from
	for _, a := range t.answers {
		longest, last = max(longest, a.At-last), a.At
	}
	return max(longest, to-last)
}

func (t *tape) lost() map[Class]map[strict.Fault]int64 {
	m := map[Class]map[strict.Fault]int64{}
	for _, f := range t.failures {
		c := classOf(f.Kind)
		if m[c] == nil {
			m[c] = map[strict.Fault]int64{}
		}
		m[c][f.Fault]++
	}
	return m
}

func classOf(k strict.Kind) Class {
	switch k {
	case strict.Connect:
		return Fresh
	case strict.Get, strict.Slow, strict.Long:
		return Reused
	}
	return Posts
}

// line is the timeline around trigger.
func (t *tape) line(trigger, before, after time.Duration) []Point {
	n := int((before + after) / Step)
	points := make([]Point, n)
	for i := range points {
		points[i].At = int((time.Duration(i)*Step - before) / time.Millisecond)
	}
	at := func(when time.Duration) *Point {
		return &points[int((when-trigger+before)/Step)]
	}
	c := t.cut(trigger-before, trigger-before+time.Duration(n)*Step)
	for _, a := range c.answers {
		p := at(a.At)
		p.OK++
		p.Max = max(p.Max, float64(a.Took.Microseconds())/1000)
	}
	for _, f := range c.failures {
		at(f.At).Failed++
	}
	return points
}
