package examples_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/proctest"
)

// What clients count.
const (
	answered = "answered"
	told     = "told to come back" // and nothing was lost by it
	refused  = "refused"           // nobody listened
	apology  = "500 or 503"        // instead of an answer
	lost     = "lost"              // sent, and the connection ended without an answer, or before its time
	wrong    = "wrong"             // an answer to something else, or out of order
)

// tally is what all clients of a service have counted.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	why    []error // of the first that were lost
}

func (t *tally) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what]++
}

// fail counts an error: as refused, or as what the caller takes it for.
func (t *tally) fail(what string, err error) {
	if errors.Is(err, syscall.ECONNREFUSED) {
		what = refused
	}
	t.add(what)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.why) < 5 {
		t.why = append(t.why, fmt.Errorf("%s: %w", what, err))
	}
}

func (t *tally) get(what string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[what]
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprint(maps.Clone(t.counts), " ", errors.Join(t.why...))
}

// client uses a service until ctx is done, and counts.
type client func(ctx context.Context, addr string, t *tally)

// load runs n of each of the clients until stop is called.
func load(t *testing.T, addr string, n int, clients ...client) (counts *tally, stop func()) {
	counts = &tally{counts: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, c := range clients {
		for range n {
			all.Go(func() { c(ctx, addr, counts) })
		}
	}
	stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	t.Cleanup(stop)
	return counts, stop
}

// goesOn waits until there are more answers.
func (b *bed) goesOn(t *tally) {
	b.Helper()
	before := t.get(answered)
	proctest.Poll(b, "answers", func() bool { return t.get(answered) > before+50 })
}

// pause between two requests of a client.
func pause(ctx context.Context) {
	select {
	case <-time.After(2 * time.Millisecond):
	case <-ctx.Done():
	}
}
