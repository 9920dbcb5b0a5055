package rawio

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// watch wakes the scheduler's monitor every period while there is much traffic. Who
// finds it on may compute at once, without a word to the scheduler: the monitor falls
// asleep only when the whole program is idle, and then until the next timer expires.
type watch struct {
	on    atomic.Bool
	calls atomic.Int64 // while it is off since begun, else since the last tick; not beyond enough
	begun atomic.Int64 // nanoseconds behind epoch

	mu    sync.Mutex
	timer *time.Timer
	few   int // ticks in a row with less than rest calls
}

// A tick costs a program that is idle otherwise up to 150 µs of processor time, and the
// monitor, woken for a request, 30: so the watch is for 250 requests per second or more.
const (
	// period is twice the monitor's own, which lets a goroutine run for 10 ms.
	period = 20 * time.Millisecond
	// window is how long there must be traffic for the watch to begin.
	window = 5 * period
	// enough calls in a window begin it: 500 requests per second, of two each.
	enough = 100
	// rest is what a period must have of them, and patience how many in a row may
	// have less.
	rest     = 10
	patience = 3
)

var (
	trafficWatch = newWatch()
	epoch        = time.Now()
)

func newWatch() *watch {
	w := new(watch)
	w.timer = time.AfterFunc(math.MaxInt64, w.tick)
	w.timer.Stop()
	return w
}

// count comes before kept, once for each read and write.
func (w *watch) count() {
	if w.calls.Load() < enough { // else all processors would write to one place
		w.calls.Add(1)
	}
}

// kept reports whether the monitor wakes by itself.
func (w *watch) kept() bool { return w.on.Load() }

// tell comes before a call that the scheduler is told of: by that word the monitor
// learns of the timer, if there is one from now on.
func (w *watch) tell() {
	now := int64(time.Since(epoch))
	if now-w.begun.Load() > int64(window) {
		w.begun.Store(now)
		w.calls.Store(1)
	}
	if w.calls.Load() >= enough {
		w.begin()
	}
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on.Load() {
		return
	}
	w.few = 0
	w.timer.Reset(period)
	w.on.Store(true)
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls.Swap(0) < rest {
		w.few++
	} else {
		w.few = 0
	}
	if w.few >= patience {
		w.on.Store(false) // whoever found it on just now isn't idle
		return
	}
	w.timer.Reset(period)
}
