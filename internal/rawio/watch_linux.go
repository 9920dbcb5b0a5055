package rawio

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// watch wakes the scheduler's monitor every period while there is traffic. Who finds
// that it does may compute at once, without a word to the scheduler: either a timer
// is still to expire, or its tick sees that it was used, and sets another.
type watch struct {
	on   atomic.Bool
	used atomic.Bool // since the last tick

	mu     sync.Mutex
	timer  *time.Timer
	unused int // ticks in a row

	// While it is off: how many calls there were since begun.
	begun atomic.Int64 // nanoseconds behind epoch
	calls atomic.Int64
}

const (
	// period is that of the monitor: it lets a goroutine run for as long.
	period = 10 * time.Millisecond
	// enough calls in a period begin the watch: it costs less then than the monitor
	// would. A request makes three.
	enough = 16
	// patience is how many ticks without a call end the watch.
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

// kept reports whether the monitor wakes by itself.
func (w *watch) kept() bool {
	if !w.used.Load() { // else all processors would write to one place
		w.used.Store(true) // before on is read: tick does both the other way round
	}
	return w.on.Load()
}

// saw counts a call that the scheduler is about to be told of. That is the word by
// which the monitor learns of the timer, if there is one from now on.
func (w *watch) saw() {
	now := int64(time.Since(epoch))
	if now-w.begun.Load() > int64(period) {
		w.begun.Store(now)
		w.calls.Store(0)
	}
	if w.calls.Add(1) >= enough {
		w.begin()
	}
}

func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on.Load() {
		return
	}
	w.calls.Store(0)
	w.unused = 0
	w.timer.Reset(period)
	w.on.Store(true)
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used.Swap(false) {
		w.unused = 0
	} else {
		w.unused++
	}
	if w.unused >= patience {
		w.on.Store(false)
		if !w.used.Load() {
			return
		}
		w.on.Store(true) // somebody has just found it on
	}
	w.timer.Reset(period)
}
