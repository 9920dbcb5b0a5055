package upgrader

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// phase is what a generation is at in its life.
type phase int

const (
	starting phase = iota // until Ready has returned
	serving
	draining // a successor acts
	stopping // the service ends
)

// life is the state of a generation. One goroutine owns it; others post to it.
type life struct {
	u     *Upgrader
	phase phase
	open  bool // starting: it accepts already

	now  *running  // the upgrade under way
	next []*waiter // whose trigger came meanwhile: they share one further upgrade

	heir    heir                // draining
	drain   *drainState         // draining, stopping
	before  *control.Generation // the predecessor, as it says itself; nil: it has ended
	pred    bool                // the predecessor still drains
	held    *waiter             // a crash that waits for the end of the pause
	last    *control.Outcome    // of an upgrade
	crashes int                 // of this generation
	caught  error               // the first one of them
	history history
	pause   *time.Timer // running: given up
}

// running is one attempt and those who wait for it.
type running struct {
	launch  launch
	cancel  context.CancelFunc
	waiters []*waiter
}

// waiter is one request for an upgrade.
type waiter struct {
	control.UpgradeRequest
	reply func(control.Outcome) // called exactly once, from the life's goroutine
	begun func()                // if set: called once, when something was started for it, or won't be
}

// post runs f on the life's goroutine; false: that has ended.
func (u *Upgrader) post(f func(*life)) bool {
	select {
	case u.inbox <- f:
		return true
	case <-u.over:
		return false
	}
}

// ask is post, and waits until f has run.
func (u *Upgrader) ask(f func(*life)) bool {
	done := make(chan struct{})
	if !u.post(func(l *life) { f(l); close(done) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-u.over:
		return false
	}
}

func (u *Upgrader) live(l *life) {
	defer close(u.over)
	for f := range u.inbox {
		f(l)
		if l.ended() {
			return
		}
	}
}

func (l *life) ended() bool { return l.u.closed.Load() }

// served is when Ready has made this generation the one that acts.
func (l *life) served() {
	if l.phase != starting { // it was stopped meanwhile
		l.u.succession.leave()
		return
	}
	l.phase = serving
	l.pred = true
	u := l.u
	go func() {
		<-u.succession.predecessorDone()
		u.post(func(l *life) { l.pred, l.before = false, nil; l.proceed() })
	}()
	for _, w := range l.next {
		l.hurry(w)
	}
	l.proceed()
}

// hurry ends the predecessor's drain for one who can't wait for it.
func (l *life) hurry(w *waiter) {
	if w.Now && l.pred && l.phase == serving {
		l.u.succession.hurry()
	}
}

// trigger takes a request for an upgrade.
func (l *life) trigger(w *waiter) {
	l.u.outcomes.Begin(w.ID)
	switch l.phase {
	case stopping:
		l.answer(w, refused(ErrStopping, ""))
	case draining:
		l.forward(w)
	default:
		l.next = append(l.next, w)
		l.hurry(w)
		l.proceed()
	}
}

func (l *life) forward(w *waiter) { l.answer(w, l.u.forward(l.heir, w.UpgradeRequest)) }

// forward hands a request on to the successor.
func (u *Upgrader) forward(to heir, r control.UpgradeRequest) control.Outcome {
	if err := to.forward(r); err != nil {
		return refused(ErrDraining, "ask the generation that serves now")
	}
	return control.Outcome{Result: control.Moved, Generation: u.generation + 1, PID: to.pid()}
}

func (l *life) answer(w *waiter, o control.Outcome) {
	o.ID, o.Trigger = w.ID, w.Trigger
	if o.At.IsZero() {
		o.At = time.Now()
	}
	if o.Result == control.Moved || o.Result == control.Refused {
		l.u.outcomes.Forget(w.ID)
	} else {
		l.u.outcomes.Finish(o)
	}
	w.reply(o)
}

// proceed starts the next upgrade if one is wanted and possible.
func (l *life) proceed() {
	if l.phase != serving || l.now != nil || l.pred || len(l.next) == 0 {
		return
	}
	waiters := l.next
	l.next = nil
	if waiters[0].Trigger != triggerCrash {
		l.endPause()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.now = &running{cancel: cancel, waiters: waiters, launch: l.launchFor(waiters)}
	l.event(control.Event{Kind: control.EventUpgrade, Text: "asked for by " + waiters[0].Trigger})
	u, launch := l.u, l.now.launch
	go func() {
		defer cancel()
		result := u.succession.attempt(ctx, launch)
		u.post(func(l *life) { l.attempted(result) })
	}()
}

func (l *life) launchFor(waiters []*waiter) launch {
	u := l.u
	la := launch{
		trigger:    waiters[0].Trigger,
		generation: u.generation + 1,
		request:    waiters[0].UpgradeRequest,
		event:      u.Event,
		started: func(pid int) {
			u.Event(control.Event{Kind: control.EventStart, Generation: u.generation + 1, PID: pid,
				Text: fmt.Sprintf("process %d was started", pid)})
			u.post(func(l *life) { begin(waiters) })
		},
		history: u.remember,
		accepting: func(accept bool) error {
			if accept {
				return u.inventory.reopenGates()
			}
			u.inventory.shutGates()
			return nil
		},
	}
	for _, w := range waiters {
		la.ids = append(la.ids, w.ID)
	}
	return la
}

func begin(waiters []*waiter) {
	for _, w := range waiters {
		if w.begun != nil {
			w.begun()
			w.begun = nil
		}
	}
}

// attempted is the end of an attempt.
func (l *life) attempted(r attempted) {
	now := l.now
	l.now = nil
	o := r.outcome
	o.Trigger, o.ID = now.launch.trigger, now.waiters[0].ID
	if o.PID == 0 {
		o.Generation, o.PID = l.u.generation, os.Getpid()
	}
	o.At = time.Now()
	l.last = &o
	l.tell(o)
	begin(now.waiters)
	for _, w := range now.waiters {
		l.answer(w, o)
	}
	if r.heir != nil {
		l.handOver(r.heir)
		return
	}
	if l.phase == stopping {
		l.u.stopNow(l)
		return
	}
	l.proceed()
}

// tell logs an outcome, and tells those who watch.
func (l *life) tell(o control.Outcome) {
	log := l.u.log.WithField("generation", l.u.generation)
	if o.Result == control.Ready {
		l.history.Upgrades++
		log.Infof("successor %d is ready", o.PID)
		l.event(control.Event{Kind: control.EventUpgraded, Generation: o.Generation, PID: o.PID, Outcome: &o})
		return
	}
	if o.Hint != "" {
		log = log.WithField("hint", o.Hint)
	}
	log.Errorf("upgrade %s: %s; pid %d serves on", o.Result, o.Reason, os.Getpid())
	for _, line := range o.Output {
		log.Error("new process: ", line)
	}
	l.event(control.Event{Kind: control.EventFailed, Outcome: &o, Text: o.Reason})
}

// abandon is when a requester doesn't want to wait any longer. The upgrade goes
// on if others want it too.
func (l *life) abandon(w *waiter) {
	gone := control.Outcome{Result: control.Refused, Reason: "cancelled", Generation: l.u.generation, PID: os.Getpid()}
	for i, n := range l.next {
		if n == w {
			l.next = append(l.next[:i:i], l.next[i+1:]...)
			l.answer(w, gone)
			return
		}
	}
	if l.now == nil {
		return
	}
	for i, n := range l.now.waiters {
		switch {
		case n != w:
		case len(l.now.waiters) == 1:
			l.now.cancel() // the outcome tells
		default:
			l.now.waiters = append(l.now.waiters[:i:i], l.now.waiters[i+1:]...)
			gone.Reason = "cancelled; the upgrade goes on, as others have asked for it too"
			l.answer(w, gone)
		}
	}
}

// event is Upgrader.Event, for the life's own goroutine.
func (l *life) event(e control.Event) {
	e = l.u.publish(e)
	if l.heir != nil {
		l.heir.event(e)
	}
}

// remember is what the next generation is to know.
func (u *Upgrader) remember() (h history) {
	u.ask(func(l *life) { h = l.history })
	h.Outcomes, _ = u.outcomes.MarshalJSON() // worth less than an upgrade
	h.Events, _ = u.events.MarshalJSON()
	return h
}
