// Package report makes tables and plots of measurements.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tablecloth-go/tablecloth/bench/internal/measure"
	"github.com/tablecloth-go/tablecloth/internal/strict"
)

// sample is the same number of several events.
type sample []float64

func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	t := slices.Sorted(slices.Values(s))
	return (t[(len(t)-1)/2] + t[len(t)/2]) / 2
}

// String is the median, and the spread if there is one.
func (s sample) String() string {
	if len(s) == 0 {
		return "–"
	}
	low, high := slices.Min(s), slices.Max(s)
	if low == high {
		return number(low)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median()), number(low), number(high))
}

// interval is a 95 % confidence interval of the median, by ranks (the sign test
// turned round): it takes nothing for granted but that the rounds are independent.
// false: there are too few of them.
func (s sample) interval() (low, high float64, ok bool) {
	n := len(s)
	atMost, each := 0.0, math.Pow(0.5, float64(n)) // of n coins, k show heads
	k := 0
	for ; k < n/2 && atMost+each <= 0.025; k++ {
		atMost += each
		each *= float64(n-k) / float64(k+1)
	}
	if k == 0 {
		return 0, 0, false
	}
	t := slices.Sorted(slices.Values(s))
	return t[k-1], t[n-k], true
}

// estimate is the median with its confidence interval, or with the spread of few.
func (s sample) estimate() string {
	low, high, ok := s.interval()
	if !ok {
		return s.String()
	}
	return fmt.Sprintf("%.3f [%.3f, %.3f]", s.median(), low, high)
}

func number(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 10:
		return fmt.Sprintf("%.0f", v)
	case v >= 2:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// of collects f of events; false leaves one out.
func of(events []measure.Event, f func(*measure.Event) (float64, bool)) sample {
	var s sample
	for i := range events {
		if v, ok := f(&events[i]); ok {
			s = append(s, v)
		}
	}
	return s
}

func counts(events []measure.Event, f func(*measure.Event) int64) sample {
	return of(events, func(e *measure.Event) (float64, bool) { return float64(f(e)), true })
}

// millis leaves out what never came.
func millis(events []measure.Event, f func(*measure.Event) time.Duration) sample {
	return of(events, func(e *measure.Event) (float64, bool) {
		d := f(e)
		return float64(d) / float64(time.Millisecond), d != measure.Never
	})
}

// faults counts failed requests of these kinds of failure.
func faults(e *measure.Event, which ...strict.Fault) int64 {
	n := int64(0)
	for _, m := range e.Failed {
		for f, v := range m {
			if slices.Contains(which, f) {
				n += v
			}
		}
	}
	return n
}

// broken are requests that a connection took with it.
func broken(e *measure.Event) int64 {
	return faults(e, strict.Reset, strict.NoAnswer, strict.Cut, strict.CutReset, strict.Timeout, strict.Wrong, strict.Dropped)
}

func refused(e *measure.Event) int64 { return faults(e, strict.Refused) }
func status(e *measure.Event) int64  { return faults(e, strict.Status) }

// All that was measured, merged.
type All struct {
	Runs []measure.Results
}

// events of a system, of calls with or without blind clients.
func (a All) events(system, action string, blind bool) []measure.Event {
	var found []measure.Event
	for _, r := range a.Runs {
		for _, e := range r.Events {
			if e.System == system && e.Action == action && (r.Blind > 0) == blind {
				found = append(found, e)
			}
		}
	}
	return found
}

// mode of measuring what a request costs.
type mode int

const (
	byTurns mode = iota
	together
	saturated // whether together or by turns
)

func modeOf(r *measure.Results) mode {
	switch {
	case r.Saturated:
		return saturated
	case r.Together:
		return together
	}
	return byTurns
}

// steady are a system's rounds.
func (a All) steady(system string, m mode) []measure.Steady {
	var found []measure.Steady
	for _, r := range a.Runs {
		for _, s := range r.Steady {
			if s.System == system && modeOf(&r) == m {
				found = append(found, s)
			}
		}
	}
	return found
}

func (a All) version(system string) string {
	for _, r := range slices.Backward(a.Runs) {
		if v := r.Versions[system]; v != "" {
			return v
		}
	}
	return "–"
}

// example is the event whose timeline is drawn: the first that has one.
func (a All) example(system, action string) *measure.Event {
	for _, e := range a.events(system, action, false) {
		if len(e.Line) > 0 {
			return &e
		}
	}
	return nil
}

// better lists the systems whose median of f is lower than that of ours, best
// first.
func better(systems []string, ours string, f func(system string) sample) []string {
	mine := f(ours)
	if len(mine) == 0 {
		return nil
	}
	var found []string
	for _, s := range systems {
		if v := f(s); len(v) > 0 && v.median() < mine.median() {
			found = append(found, s)
		}
	}
	slices.SortStableFunc(found, func(x, y string) int { return cmp.Compare(f(x).median(), f(y).median()) })
	return found
}
