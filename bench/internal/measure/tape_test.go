package measure

import (
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/strict"
)

const ms = time.Millisecond

func at(d time.Duration, generation, pid int) strict.Answer {
	return strict.Answer{At: d, Took: ms, Kind: strict.Get, Generation: generation, PID: pid}
}

// upgraded: process 10 answers until 1040 ms, process 20 from 1030 ms on.
func upgraded() *tape {
	t := &tape{}
	for _, a := range []strict.Answer{at(900*ms, 1, 10), at(1010*ms, 1, 10), at(1030*ms, 2, 20), at(1040*ms, 1, 10), at(1100*ms, 2, 20)} {
		t.answer(a)
	}
	t.failure(strict.Failure{At: 1020 * ms, Kind: strict.Connect, Fault: strict.Refused})
	t.failure(strict.Failure{At: 1021 * ms, Kind: strict.Idle, Fault: strict.NoAnswer})
	t.failure(strict.Failure{At: 1500 * ms, Kind: strict.Get, Fault: strict.Reset})
	t.answer(strict.Answer{At: 1110 * ms, Took: ms, Kind: strict.Upgraded, Generation: 1, PID: 10})
	t.failure(strict.Failure{At: 1120 * ms, Kind: strict.Upgraded, Fault: strict.NoAnswer})
	return t
}

func TestTimesAreThoseFromTheTrigger(t *testing.T) {
	var e Event
	upgraded().fill(&e, 1000*ms, 200*ms, 200*ms, 1, 10)
	if e.FirstNew != 30*ms || e.LastOld != 40*ms || e.Next != 30*ms || e.Gap != 100*ms {
		t.Errorf("first new %v, last old %v, next %v, gap %v", e.FirstNew, e.LastOld, e.Next, e.Gap)
	}
	if e.Before.N != 1 || e.During.N != 4 {
		t.Errorf("%d answers before, %d during", e.Before.N, e.During.N)
	}
}

func TestWhatNeverCame(t *testing.T) {
	var e Event
	upgraded().fill(&e, 1000*ms, 200*ms, 200*ms, 2, 10)
	if e.FirstNew != Never || e.LastOld != 100*ms {
		t.Errorf("first new %v, last old %v", e.FirstNew, e.LastOld)
	}
	(&tape{}).fill(&e, 1000*ms, 200*ms, 300*ms, 1, 10)
	if e.FirstNew != Never || e.LastOld != Never || e.Next != Never || e.Gap != 300*ms {
		t.Errorf("of nothing: %+v", e)
	}
}

func TestFailuresByClassWithinTheWindow(t *testing.T) {
	var e Event
	upgraded().fill(&e, 1000*ms, 200*ms, 200*ms, 1, 10)
	if e.Lost() != 2 || e.LostOf(Fresh) != 1 || e.LostOf(Posts) != 1 || e.LostOf(Reused) != 0 {
		t.Errorf("%v", e.Failed)
	}
}

func TestEveryKindHasAClass(t *testing.T) {
	want := map[strict.Kind]Class{strict.Connect: Fresh, strict.Get: Reused, strict.Slow: Reused, strict.Post: Posts, strict.Idle: Posts}
	for _, g := range Mix() {
		if g.Kind == strict.Upgraded { // is left out
			continue
		}
		if classOf(g.Kind) != want[g.Kind] {
			t.Errorf("%s: %s", g.Kind, classOf(g.Kind))
		}
	}
}

func TestLineAddsUp(t *testing.T) {
	line := upgraded().line(1000*ms, 100*ms, 200*ms)
	ok, failed := 0, 0
	for i, p := range line {
		if p.At != i*50-100 {
			t.Errorf("point %d is at %d ms", i, p.At)
		}
		ok, failed = ok+p.OK, failed+p.Failed
	}
	if len(line) != 6 || ok != 5 || failed != 2 {
		t.Errorf("%d points, %d answers, %d failures: %+v", len(line), ok, failed, line)
	}
	if p := line[2]; p.OK != 3 || p.Failed != 2 || p.Max != 1 {
		t.Errorf("from the trigger on: %+v", p)
	}
}

func TestTheNewestGenerationServes(t *testing.T) {
	if pid := upgraded().serving(); pid != 20 {
		t.Errorf("process %d", pid)
	}
}

func TestCountsBetweenSnapshots(t *testing.T) {
	before := &strict.Report{Total: strict.Count{Requests: 5}, Kinds: map[strict.Kind]*strict.Count{
		strict.Idle:     {Connects: 3, Ends: map[strict.End]int64{strict.Ours: 1}},
		strict.Upgraded: {Connects: 11, Ends: map[strict.End]int64{strict.Lost: 1}},
	}}
	after := &strict.Report{Total: strict.Count{Requests: 9}, Kinds: map[strict.Kind]*strict.Count{
		strict.Idle:     {Connects: 5, Moved: 1, Ends: map[strict.End]int64{strict.Ours: 1, strict.ClosedIdle: 2}},
		strict.Get:      {Connects: 1, Ends: map[strict.End]int64{strict.Lost: 1}},
		strict.Connect:  {Connects: 9, Ends: map[strict.End]int64{strict.Lost: 9}},
		strict.Upgraded: {Connects: 14, Ends: map[strict.End]int64{strict.Lost: 2, strict.ClosedIdle: 2}},
	}}
	var e Event
	e.count(before, after)
	if e.Requests != 4 || e.Open != 2 || e.Moved != 1 || e.Closed() != 3 || len(e.Ends) != 2 || e.Long != 10 || e.LongCut != 3 {
		t.Errorf("%+v", e)
	}
}

func TestEarlier(t *testing.T) {
	for _, c := range [][3]time.Duration{{Never, Never, Never}, {Never, 3, 3}, {3, Never, 3}, {2, 3, 2}, {3, 2, 2}} {
		if got := earlier(c[0], c[1]); got != c[2] {
			t.Errorf("%v: %v", c, got)
		}
	}
}
