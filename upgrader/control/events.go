package control

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"time"
)

// DefaultEvents is how many events an Events holds.
const DefaultEvents = 1024

// Events holds the last events of a service. Its sequence numbers grow from 1
// over all generations, as its JSON form travels from one to the next. The zero
// value is ready, and holds DefaultEvents.
//
// Readers ask for what they have not seen, so that a slow one delays nobody and
// learns that it has missed something.
type Events struct {
	mu     sync.Mutex
	size   int
	ring   []Event       // of consecutive numbers, oldest first
	last   uint64        // number of the newest event ever published
	theirs uint64        // number of the newest one that came from another generation
	origin string        // tells this sequence from that of another life of the service
	news   chan struct{} // closed and replaced when there are new ones
	ended  chan struct{} // closed and replaced by EndStreams
}

// NewEvents returns an Events that holds the last size events; 0:
// DefaultEvents.
func NewEvents(size int) *Events { return &Events{size: size} }

// Publish numbers ev and appends it. At is now if it is zero; the stack of a crash
// is cut to 8 KiB. It never blocks.
func (e *Events) Publish(ev Event) Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	if ev.At.IsZero() {
		ev.At = time.Now()
	}
	if ev.Crash != nil && len(ev.Crash.Stack) > maxStack {
		crash := *ev.Crash
		crash.Stack = crash.Stack[:maxStack]
		ev.Crash = &crash
	}
	e.last++
	ev.Seq = e.last
	e.push(ev)
	e.tell()
	return ev
}

// maxStack keeps a storm of crashes from filling the memory.
const maxStack = 8 << 10

func (e *Events) tell() {
	close(e.news)
	e.news = make(chan struct{})
}

// push lets the slice slide along its array: append moves it to a new one once
// in a while, which is what drops the old events.
func (e *Events) push(ev Event) {
	if len(e.ring) >= e.size {
		drop := len(e.ring) - e.size + 1
		clear(e.ring[:drop])
		e.ring = e.ring[drop:]
	}
	e.ring = append(e.ring, ev)
}

func (e *Events) init() {
	if e.size <= 0 {
		e.size = DefaultEvents
	}
	if e.origin == "" {
		e.origin = rand.Text()[:8]
	}
	if e.news == nil {
		e.news, e.ended = make(chan struct{}), make(chan struct{})
	}
}

// Last is the number of the newest event; 0: there was none.
func (e *Events) Last() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// Since returns the events after number seq. If some of them are not held any
// more, the first one returned is of kind EventGap, and has the number of the
// last that is missing. A seq that is yet to come is one of another life of the
// service: all that is held is returned, after a gap.
func (e *Events) Since(seq uint64) []Event {
	evs, _ := e.since(seq)
	return evs
}

func (e *Events) since(seq uint64) (evs []Event, news <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	first := e.last - uint64(len(e.ring)) + 1 // number of the oldest held, or of the next
	switch {
	case seq > e.last:
		evs = append(evs, Event{Seq: first - 1, At: time.Now(), Kind: EventGap,
			Text: "the service was started anew: its events are numbered from 1 again"})
		seq = first - 1
	case seq+1 < first:
		evs = append(evs, e.gap(seq, first))
		seq = first - 1
	}
	return append(evs, e.ring[seq+1-first:]...), e.news
}

func (e *Events) gap(seq, first uint64) Event {
	missed := first - 1 - seq
	return Event{Seq: first - 1, At: time.Now(), Kind: EventGap,
		Text:   fmt.Sprintf("%d events are not held any more", missed),
		Counts: map[string]int{"missed": int(missed)}}
}

// Reader follows the events of an Events. It is for one goroutine.
type Reader struct {
	events *Events
	seq    uint64
	ended  <-chan struct{}
}

// Follow returns a Reader of the events after number seq.
func (e *Events) Follow(seq uint64) *Reader {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	return &Reader{e, seq, e.ended}
}

// Next returns the events that have come since the last call, at least one, as
// Since does. It blocks until there is one, and returns none when ctx is done or
// EndStreams was called after Follow.
func (r *Reader) Next(ctx context.Context) []Event {
	for {
		evs, news := r.events.since(r.seq)
		if len(evs) > 0 {
			r.seq = evs[len(evs)-1].Seq
			return evs
		}
		select {
		case <-news:
		case <-r.ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// EndStreams ends the Readers that there are, so that those who follow the events
// over a socket come back and are accepted by the generation that acts for the
// service now.
func (e *Events) EndStreams() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	close(e.ended)
	e.ended = make(chan struct{})
}

// Origin tells this sequence of numbers from that of an earlier life of the
// service, whose events did not travel here.
func (e *Events) Origin() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	return e.origin
}

type eventsTail struct {
	Origin string  `json:"origin"`
	Last   uint64  `json:"last"`
	Tail   []Event `json:"tail"`
}

// tailBytes keeps what travels to the next generation well below the size of
// one message.
const tailBytes = 32 << 10

// MarshalJSON gives what the next generation needs: the numbering and the
// newest events, at most 32 KiB of them.
func (e *Events) MarshalJSON() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	var tail []json.RawMessage
	room := tailBytes
	for i := len(e.ring) - 1; i >= 0; i-- {
		b, err := json.Marshal(e.ring[i])
		if err != nil {
			return nil, err
		}
		if room -= len(b); room < 0 {
			break
		}
		tail = append(tail, b)
	}
	for i, j := 0, len(tail)-1; i < j; i, j = i+1, j-1 {
		tail[i], tail[j] = tail[j], tail[i]
	}
	return json.Marshal(struct {
		Origin string            `json:"origin"`
		Last   uint64            `json:"last"`
		Tail   []json.RawMessage `json:"tail"`
	}{e.origin, e.last, tail})
}

// UnmarshalJSON goes on where another generation was. What was published here
// before follows its events, under new numbers. It may be called again with a
// later state of the same generation, which must have published its last event
// before the last of them.
func (e *Events) UnmarshalJSON(b []byte) error {
	var t eventsTail
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.init()
	own := e.ring[max(0, len(e.ring)-int(e.last-e.theirs)):]
	e.ring, e.last, e.theirs, e.origin = nil, t.Last, t.Last, t.Origin
	for _, ev := range t.Tail {
		e.push(ev)
	}
	for _, ev := range own {
		e.last++
		ev.Seq = e.last
		e.push(ev)
	}
	e.tell()
	return nil
}

// check sees to it that the numbers of the tail end at Last, one after the
// other: since relies on it.
func (t *eventsTail) check() error {
	if uint64(len(t.Tail)) > t.Last || t.Last > math.MaxInt64 {
		return fmt.Errorf("control: %d events, but the last number is %d", len(t.Tail), t.Last)
	}
	for i, ev := range t.Tail {
		if want := t.Last - uint64(len(t.Tail)-1-i); ev.Seq != want {
			return fmt.Errorf("control: event %d where %d belongs", ev.Seq, want)
		}
	}
	return nil
}
