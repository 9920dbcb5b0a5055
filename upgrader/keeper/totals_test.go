//go:build linux

package keeper

import (
	"reflect"
	"testing"

	"github.com/tablecloth-go/tablecloth/internal/kept"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Counts of workers that are gone stay, once, up to their last word, whether that
// comes before their end is known or after; what was open then isn't.
func TestTotals(t *testing.T) {
	s := &service{procs: map[int]*process{}}
	if s.conns() != nil {
		t.Error("counted without a worker that counts")
	}
	told := func(n int64) *kept.Status {
		return &kept.Status{Conns: &control.Conns{Open: 3, Idle: 2, Active: 1, Requests: n, Moved: 2 * n, Adopted: 3 * n, Panics: 4 * n, Closed: map[string]int64{"idle": 5 * n}}}
	}
	want := func(open int, n int64) {
		t.Helper()
		w := &control.Conns{Open: open, Requests: n, Moved: 2 * n, Adopted: 3 * n, Panics: 4 * n, Closed: map[string]int64{"idle": 5 * n}}
		if open > 0 {
			w.Idle, w.Active = 2, 1
		}
		if got := s.conns(); !reflect.DeepEqual(got, w) {
			t.Errorf("%+v, want %+v", got, w)
		}
	}
	one, two := &process{proc: 1, status: told(10)}, &process{proc: 2}
	s.procs[1], s.procs[2] = one, two
	want(3, 10)
	s.exhume(one, told(1000)) // it lives: nothing to be corrected
	want(3, 10)
	delete(s.procs, 1)
	s.bury(one)
	want(0, 10)
	s.exhume(one, told(12))
	want(0, 12)
	s.exhume(one, told(13))
	want(0, 13)
	delete(s.procs, 2)
	s.bury(two) // never told anything
	s.exhume(two, told(1))
	want(0, 14)
}
