package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func seqs(evs []Event) string {
	var parts []string
	for _, ev := range evs {
		if ev.Kind == EventGap {
			parts = append(parts, fmt.Sprintf("gap%d", ev.Seq))
			continue
		}
		parts = append(parts, fmt.Sprint(ev.Seq))
	}
	return strings.Join(parts, " ")
}

func publish(e *Events, n int) {
	for range n {
		e.Publish(Event{Kind: EventReady, Text: "x"})
	}
}

func TestEventsSince(t *testing.T) {
	for _, c := range []struct {
		size, published int
		since           uint64
		want            string
	}{
		{3, 0, 0, ""},
		{3, 2, 0, "1 2"},
		{3, 3, 0, "1 2 3"},
		{3, 3, 3, ""},
		{3, 4, 1, "2 3 4"},
		{3, 4, 0, "gap1 2 3 4"},
		{3, 9, 2, "gap6 7 8 9"},
		{3, 9, 8, "9"},
		{3, 9, 10, "gap6 7 8 9"},
		{3, 0, 7, "gap0"},
		{1, 2, 0, "gap1 2"},
	} {
		e := NewEvents(c.size)
		publish(e, c.published)
		if got := seqs(e.Since(c.since)); got != c.want {
			t.Errorf("size %d, %d published, since %d: %q, want %q", c.size, c.published, c.since, got, c.want)
		}
	}
}

func TestAGapSaysHowManyAreMissing(t *testing.T) {
	e := NewEvents(2)
	publish(e, 10)
	if ev := e.Since(3)[0]; ev.Counts["missed"] != 5 || ev.Seq != 8 {
		t.Errorf("%+v", ev)
	}
}

// travel hands events over to another generation.
func travel(t *testing.T, from, to *Events) {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatal(err)
	}
}

func TestEventNumbersGrowOverGenerations(t *testing.T) {
	old := NewEvents(4)
	publish(old, 6)
	var next Events
	next.Publish(Event{Kind: EventStart}) // before it knows of the others
	travel(t, old, &next)
	if got := seqs(next.Since(0)); got != "gap2 3 4 5 6 7" {
		t.Errorf("%q", got)
	}
	publish(old, 1) // between the first state and the last
	travel(t, old, &next)
	if got := seqs(next.Since(5)); got != "6 7 8" {
		t.Errorf("after the last state: %q", got)
	}
	if evs := next.Since(7); len(evs) != 1 || evs[0].Kind != EventStart {
		t.Errorf("its own event: %+v", evs)
	}
	if old.Origin() != next.Origin() {
		t.Error("another origin")
	}
}

func TestTheTailThatTravelsIsBounded(t *testing.T) {
	old := NewEvents(0)
	for range 100 {
		old.Publish(Event{Text: strings.Repeat("x", 1000)})
	}
	b, _ := json.Marshal(old)
	var next Events
	travel(t, old, &next)
	if evs := next.Since(0); len(b) > tailBytes+100 || len(evs) < 20 || evs[0].Kind != EventGap || next.Last() != 100 {
		t.Errorf("%d bytes, %s", len(b), seqs(evs))
	}
}

func TestStacksAreCut(t *testing.T) {
	e := NewEvents(0)
	crash := &Crash{Stack: strings.Repeat("x", 1<<20)}
	e.Publish(Event{Crash: crash})
	if n := len(e.Since(0)[0].Crash.Stack); n != maxStack || len(crash.Stack) != 1<<20 {
		t.Errorf("%d, and the caller's %d", n, len(crash.Stack))
	}
}

func TestOddTailsAreRefused(t *testing.T) {
	for _, s := range []string{
		`{"last":1,"tail":[{"seq":1},{"seq":2}]}`,
		`{"last":9,"tail":[{"seq":7},{"seq":9}]}`,
		`{"last":18446744073709551615}`,
		`[]`, `{"last":-1}`,
	} {
		e := NewEvents(3)
		publish(e, 1)
		if err := json.Unmarshal([]byte(s), e); err == nil {
			t.Errorf("%s: no error", s)
		}
		if got := seqs(e.Since(0)); got != "1" {
			t.Errorf("%s: %q is left", s, got)
		}
	}
}

func TestReadersSeeEveryEventOnce(t *testing.T) {
	const n = 2000
	e := NewEvents(n)
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			r := e.Follow(0)
			for want := uint64(1); want <= n; {
				for _, ev := range r.Next(t.Context()) {
					if ev.Seq != want {
						t.Errorf("%d, want %d", ev.Seq, want)
						return
					}
					want++
				}
			}
		})
	}
	for range 4 {
		writers.Go(func() { publish(e, n/4) })
	}
	writers.Wait()
	readers.Wait()
}

func TestASlowReaderDelaysNobodyAndLearnsOfIt(t *testing.T) {
	e := NewEvents(8)
	r := e.Follow(0)
	publish(e, 100)
	if got := seqs(r.Next(t.Context())); got != "gap92 93 94 95 96 97 98 99 100" {
		t.Errorf("%q", got)
	}
}

func TestEndStreamsEndsReadersAfterWhatTheyHaveNotSeen(t *testing.T) {
	e := NewEvents(0)
	r := e.Follow(0)
	publish(e, 2)
	e.EndStreams()
	if got := seqs(r.Next(t.Context())); got != "1 2" {
		t.Errorf("%q", got)
	}
	if evs := r.Next(soon(t)); evs != nil {
		t.Errorf("%+v", evs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if evs := e.Follow(2).Next(ctx); evs != nil {
		t.Errorf("a new reader: %+v", evs)
	}
}

// follow streams the events that a client sees.
func follow(t *testing.T, c *Client) <-chan Event {
	ch := make(chan Event, 64)
	go func() {
		defer close(ch)
		for ev, err := range c.Follow(t.Context(), 0) {
			if err != nil {
				if !errors.Is(err, context.Canceled) && !errors.Is(err, ErrNotRunning) {
					t.Errorf("Follow: %v", err)
				}
				return
			}
			ch <- ev
		}
	}()
	return ch
}
