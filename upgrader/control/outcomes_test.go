package control

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestOutcomesAreWaitedFor(t *testing.T) {
	var o Outcomes
	if _, ok := o.Wait(t.Context(), "a"); ok {
		t.Error("nobody has begun it")
	}
	o.Begin("a")
	o.Begin("b")
	o.Begin("c")
	got := make(chan Outcome)
	for _, id := range []string{"a", "b"} {
		go func() {
			out, _ := o.Wait(t.Context(), id)
			got <- out
		}()
	}
	o.Finish(Outcome{Result: Failed, Reason: "no"}, "a", "b") // coalesced
	ids := receive(t, got).ID + receive(t, got).ID
	if ids != "ab" && ids != "ba" {
		t.Error(ids)
	}
	if p := o.Pending(); fmt.Sprint(p) != "[c]" {
		t.Error(p)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := o.Wait(ctx, "c"); ok {
		t.Error("it is pending")
	}
	o.Forget("c")
	if _, ok := o.Wait(t.Context(), "c"); ok {
		t.Error("it is forgotten")
	}
}

func TestOnlyTheLastOutcomesAreKept(t *testing.T) {
	var o Outcomes
	for i := range KeptOutcomes + 3 {
		o.Finish(Outcome{ID: fmt.Sprint(i)})
	}
	if _, ok := o.Get("2"); ok {
		t.Error("2 is kept")
	}
	if _, ok := o.Get("3"); !ok {
		t.Error("3 is not kept")
	}
	if last, _ := o.Last(); last.ID != fmt.Sprint(KeptOutcomes+2) {
		t.Error(last.ID)
	}
}

func TestOutcomesTravel(t *testing.T) {
	var old, next Outcomes
	old.Finish(Outcome{ID: "done", Result: Failed, Output: []string{strings.Repeat("x", 20<<10)}})
	old.Finish(Outcome{ID: "new", Result: Failed, Output: []string{"why"}})
	old.Begin("waiting")
	next.Finish(Outcome{ID: "own"})
	b, err := json.Marshal(&old)
	if err == nil {
		err = json.Unmarshal(b, &next)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := next.Get("done"); !ok || out.Output != nil {
		t.Errorf("done: %+v", out)
	}
	if out, ok := next.Get("new"); !ok || len(out.Output) != 1 {
		t.Errorf("new: %+v", out)
	}
	if last, _ := next.Last(); last.ID != "own" {
		t.Errorf("last: %+v", last)
	}
	got := make(chan Outcome)
	go func() {
		out, _ := next.Wait(t.Context(), "waiting")
		got <- out
	}()
	next.Finish(Outcome{ID: "waiting", Result: Ready})
	if out := receive(t, got); out.Result != Ready {
		t.Errorf("%+v", out)
	}
}
