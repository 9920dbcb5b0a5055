package live

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
)

// DrainOptions say how connections end.
type DrainOptions struct {
	// Sender is where connections go; nil: nowhere.
	Sender *handover.Sender
	// IdleGrace is how long a connection that can't move may be idle before it
	// is closed.
	IdleGrace time.Duration
	// Stopping: idle connections are closed at once.
	Stopping bool
	// FreshGrace is how long after it was accepted the first request of a
	// connection may begin, also when stopping.
	FreshGrace time.Duration
	// Arrived is closed when Adopt is called no more; nil: it isn't any more. What
	// it still brings moves as well.
	Arrived <-chan struct{}
}

// ErrResumed is what Drain returns when Resume ended it.
var ErrResumed = errors.New("the successor is dead: serving again")

// Why a connection was closed at a drain: keys of Counts().Closed.
const (
	ClosedIdle     = "idle"     // by us, between two requests
	ClosedAnswered = "answered" // after a response
	ClosedPeer     = "peer"     // by the client, or by a time-out
	ClosedPinned   = "pinned"   // HTTP/2 or hijacked: whoever used it closed it
	ClosedCut      = "cut"      // at the end of the time for the drain
)

// plan is what a drain wants of a connection between two requests.
type plan int

const (
	serve  plan = iota // as ever
	move               // give it to the successor
	finish             // close it when its grace is over
)

// sender is what a drain needs of a handover.Sender.
type sender interface {
	Reserve() bool
	Release()
	Put(*handover.Item, func(*handover.Item, error))
	Failed() <-chan struct{}
	Err() error
}

// drain is one call of Table.Drain.
type drain struct {
	sender   sender // nil: nothing moves
	grace    time.Duration
	fresh    time.Duration
	stopping bool
	start    int64
	failed   atomic.Int64  // when the sender failed; 0: it has not
	changed  chan struct{} // something has gone
	resumed  chan struct{}
}

func (d *drain) plan(c *conn) plan {
	if d.sender == nil || !c.movable() {
		return finish
	}
	return d.moving()
}

// moving is the plan for connections that can move. When the successor has died
// they are served for a while, as this generation may be about to resume.
func (d *drain) moving() plan {
	switch failed := d.failed.Load(); {
	case d.sender == nil:
		return finish
	case failed == 0:
		return move
	case now() < failed+int64(d.grace):
		return serve
	}
	return finish
}

// reserve asks the successor for room for one connection. finish: it has none.
func (d *drain) reserve() plan {
	switch {
	case d.sender.Reserve():
		return move
	case d.sender.Err() != nil:
		d.failed.CompareAndSwap(0, now())
		return serve // Drain comes back to it
	}
	return finish
}

// graceEnd is when a connection that is idle since then may be closed.
func (d *drain) graceEnd(since int64) int64 {
	if d.stopping {
		return 0
	}
	return max(d.start, since) + int64(d.grace)
}

// silenceEnd is when a connection on which nothing has come since the last request,
// or ever, may be closed.
func (d *drain) silenceEnd(c *conn) int64 {
	since := c.since.Load()
	end := d.graceEnd(since)
	if c.phase() == fresh && !c.served {
		end = max(end, since+int64(d.fresh)) // its client has hardly heard that it is connected
	}
	return end
}

// Drain ends this generation's use of its connections. The listeners must accept
// nothing any more (gate.Shut): then it returns nil when no HTTP/1 connection is
// left here, plaintext or TLS, and ctx.Err() when ctx is done before that. HTTP/2
// and hijacked connections are not waited for.
//
// With a Sender, connections on plaintext move to the successor: those between
// two requests at once, the others after their response. Without one, or where
// it can't take them, they are closed by their own goroutine, between two
// requests, when they have been idle for the grace and no byte of a next request
// has come.
//
// If the successor dies, what it has not acknowledged is taken back. A call of
// Resume ends the drain with ErrResumed; without it, connections are closed as
// without a Sender when the grace is over.
func (t *Table) Drain(ctx context.Context, o DrainOptions) error {
	d, err := t.begin(ctx, o)
	if err != nil {
		return err
	}
	if d.moving() == move {
		for _, it := range t.lot.stop() {
			t.give(d, it)
		}
		t.kickByHerds(ctx, d)
	} else {
		t.kick()
	}
	var failed <-chan struct{}
	if d.sender != nil {
		failed = d.sender.Failed()
	}
	var graceOver <-chan time.Time
	arrived := o.Arrived
	for arrived != nil || !t.empty() {
		select {
		case <-d.changed:
		case <-arrived:
			arrived = nil
		case <-failed:
			failed = nil
			t.log.WithError(d.sender.Err()).Warn("handover has failed: connections stay for now")
			d.failed.CompareAndSwap(0, now())
			graceOver = time.After(d.grace)
		case <-graceOver:
			t.kick()
		case <-d.resumed:
			return ErrResumed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// begin waits until the receiver has said whom it takes, and makes the drain
// visible to all connections.
func (t *Table) begin(ctx context.Context, o DrainOptions) (*drain, error) {
	t.mu.Lock()
	life := t.lives
	t.mu.Unlock()
	d := &drain{
		grace:    o.IdleGrace,
		fresh:    o.FreshGrace,
		stopping: o.Stopping,
		changed:  make(chan struct{}, 1),
		resumed:  make(chan struct{}),
	}
	if o.Sender != nil && t.moves() {
		err := o.Sender.Takes(ctx, t.name)
		switch {
		case err == nil:
			d.sender = o.Sender
		case errors.Is(err, handover.ErrDead):
			d.sender = o.Sender
			d.failed.Store(now())
		case ctx.Err() != nil: // called off, or begun anew with another sender
		default:
			t.log.WithError(err).Warn("connections are not handed over")
		}
	}
	d.start = now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lives != life {
		return nil, ErrResumed
	}
	t.drain.Store(d)
	return d, nil
}

// Resume ends a drain whose successor is dead: the table serves as before. What
// the successor has not acknowledged comes back by itself.
func (t *Table) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lives++
	if d := t.drain.Swap(nil); d != nil {
		close(d.resumed)
	}
	t.lot.start()
}

// kick makes each connection look at the drain.
func (t *Table) kick() {
	for _, c := range t.all() {
		c.kick()
	}
	t.lot.kick()
}

// There may be thousands of idle connections, and as long as goroutines are ready
// to run the runtime doesn't ask the network for requests. So one herd is kicked at
// a time, and requests have their turn; until their own is kicked connections are
// served as ever.
const (
	herd  = 16 // connections at least
	herds = 64 // at most
)

func (t *Table) kickByHerds(ctx context.Context, d *drain) {
	all := t.all()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for part := range slices.Chunk(all, max(herd, len(all)/herds)) {
		select {
		case <-pause.C:
		case <-d.resumed:
			return
		case <-ctx.Done():
			return
		}
		for _, c := range part {
			c.kick()
		}
		pause.Reset(time.Millisecond)
	}
}

func (t *Table) all() []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*conn, 0, len(t.conns))
	for c := range t.conns {
		all = append(all, c)
	}
	return all
}

// empty reports whether a drain has nothing left to wait for.
func (t *Table) empty() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open+t.pending+t.lot.len() == 0
}

// changed wakes a drain.
func (t *Table) changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tellDrain()
}

// tellDrain needs t.mu.
func (t *Table) tellDrain() {
	if d := t.drain.Load(); d != nil {
		select {
		case d.changed <- struct{}{}:
		default:
		}
	}
}

// give queues a connection for the successor; its room is reserved.
func (t *Table) give(d *drain, it *handover.Item) {
	t.mu.Lock()
	t.pending++
	t.mu.Unlock()
	if a := accountOf(it); a != nil {
		a.Leave()
	}
	d.sender.Put(it, t.settle)
}

// settle hears from the sender what became of an item.
func (t *Table) settle(it *handover.Item, err error) {
	if err == nil {
		it.Close()
	} else {
		t.takeBack(it, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending--
	if err == nil {
		t.moved++
	}
	t.tellDrain()
}

// ended is told when net/http has closed a connection.
func (t *Table) ended(c *conn, was phase) {
	if t.drain.Load() != nil {
		t.countClosed(t.whyClosed(c, was)) // before the drain can end
	}
	t.forget(c)
}

// Cut says that what is closed from now on is cut.
func (t *Table) Cut() { t.cutting.Store(true) }

func (t *Table) whyClosed(c *conn, was phase) string {
	switch {
	case t.cutting.Load():
		return ClosedCut
	case c.culled.Load():
		return ClosedIdle
	case was == active:
		return ClosedAnswered
	case was.between():
		return ClosedPeer
	}
	return ClosedPinned
}

func (t *Table) countClosed(why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed[why]++
	t.tellDrain()
}
