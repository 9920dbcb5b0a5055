package proctest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// Patience bounds what should be immediate: a clock that only ends a test which
// fails. It is generous, as the machine may be busy with other things, and leaves
// time to clean up before the deadline of all tests.
func Patience(t testing.TB) time.Duration {
	const least, most = 30 * time.Second, time.Minute
	limited, ok := t.(interface{ Deadline() (time.Time, bool) })
	if !ok { // a benchmark
		return most
	}
	d, ok := limited.Deadline()
	if !ok {
		return most
	}
	return min(max(time.Until(d)/4, least), most)
}

// Context ends with the test's patience. Unlike t.Context it is there for
// clean-ups, too.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience(t))
	t.Cleanup(cancel)
	return ctx
}

// Await waits until c is closed, or has a value.
func Await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	late := time.NewTimer(Patience(t))
	defer late.Stop()
	select {
	case v = <-c:
	case <-late.C:
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// pace of polling.
const pace = 2 * time.Millisecond

// Poll waits for what nobody tells of: it asks again and again.
func Poll(t testing.TB, what string, done func() bool) {
	t.Helper()
	missing := errors.New(what)
	Check(t, func() error {
		if done() {
			return nil
		}
		return missing
	})
}

// Check is Poll for what can be wrong in several ways: it waits until nothing is,
// and tells what still was in the end.
func Check(t testing.TB, wrong func() error) {
	t.Helper()
	if err := Settles(Patience(t), wrong); err != nil {
		t.Fatalf("waited in vain: %v", err)
	}
}

// Settles is Check where there is no test to fail: nil if within the limit nothing
// was wrong any more.
func Settles(limit time.Duration, wrong func() error) error {
	for late := time.Now().Add(limit); ; time.Sleep(pace) {
		// Asked after the clock, so that a process which was not run for long has
		// had its chance.
		over := time.Now().After(late)
		if err := wrong(); err == nil || over {
			return err
		}
	}
}

// Pace holds a client or a disturber back for d, which gives load its shape. No
// verdict hangs on how long it takes.
func Pace(d time.Duration) { time.Sleep(d) }

// Quiet lets d pass, in which something might happen that must not: an absence
// tells nobody. Whoever calls it looks afterwards. A machine that is slow makes
// the look less sharp, never wrong.
func Quiet(d time.Duration) { time.Sleep(d) }

// bell wakes those who wait for news.
type bell struct {
	mu   sync.Mutex
	next chan struct{}
}

// ring when there is something new.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// wait returns what the next ring closes.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// until looks again after each ring.
func (b *bell) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	late := time.NewTimer(Patience(t))
	defer late.Stop()
	for {
		news := b.wait() // before the look, so that nothing falls between
		if done() {
			return
		}
		select {
		case <-news:
		case <-late.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
