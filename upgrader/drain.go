package upgrader

import (
	"errors"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// drainState is a Drain as its owner sees it.
type drainState struct {
	Drain
	timer   *time.Timer
	expired chan struct{}
	resumed chan struct{}
	done    bool // expired is closed
}

func (d *drainState) expire() {
	d.timer.Stop()
	if !d.done {
		d.done = true
		close(d.expired)
	}
}

// handOver makes this generation drain: its successor acts.
func (l *life) handOver(h heir) {
	stop := l.phase == stopping
	l.phase, l.heir = draining, h
	reason := Replaced
	if l.caught != nil {
		reason = Crashed
	}
	l.beginDrain(reason, l.u.o.KillTimeout, h)
	l.u.events.EndStreams() // they come back to the successor
	for _, w := range l.next {
		if w.Trigger == triggerCrash || h.kept() { // of this process, which is being replaced
			l.answer(w, control.Outcome{Result: control.Moved, Generation: l.u.generation + 1, PID: h.pid()})
		} else {
			l.forward(w)
		}
	}
	l.next = nil
	if stop {
		h.stop()
	}
	go l.u.watch(h)
	l.reportDrain(h)
}

// watch hears an heir for as long as it lives.
func (u *Upgrader) watch(h heir) {
	expire := h.expire()
	for {
		select {
		case <-expire:
			expire = nil
			u.post((*life).expire)
		case <-h.dead():
			if isClosed(expire) {
				u.post((*life).expire)
			}
			u.post(func(l *life) { l.bereft(h) })
			return
		case <-u.over:
			return
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// beginDrain closes Exit.
func (l *life) beginDrain(reason Reason, timeout time.Duration, h heir) {
	d := &drainState{expired: make(chan struct{}), resumed: make(chan struct{})}
	d.Drain = Drain{Reason: reason, Deadline: time.Now().Add(timeout), Expired: d.expired, Resumed: d.resumed,
		Successors: l.u.heirs}
	u := l.u
	d.timer = time.AfterFunc(timeout, func() {
		u.post(func(l *life) {
			if l.drain == d {
				d.expire()
			}
		})
	})
	if h != nil {
		d.Successor = h.handover()
		d.SuccessorPID, d.SuccessorDead = h.pid(), h.dead()
	}
	l.drain = d
	l.event(control.Event{Kind: control.EventDrain, Text: string(reason)})
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drain = &d.Drain
	close(u.exit)
}

// expire ends a drain at once.
func (l *life) expire() {
	if l.drain != nil {
		l.drain.expire()
	}
}

// bereft is when the successor has died: unless the service is being stopped,
// this generation acts again.
func (l *life) bereft(h heir) {
	if l.heir != h || l.phase != draining || h.kept() {
		return
	}
	if h.left() {
		l.expireBy(l.u.o.StopTimeout)
		return
	}
	l.u.log.WithField("successor", h.pid()).Error("the successor died: serving again")
	l.drain.timer.Stop()
	l.phase, l.heir, l.drain = serving, nil, l.resumeDrain()
	l.caught = nil
	h.bury()
	// Only now, so that no connection is accepted into a drain that is over.
	if err := errors.Join(l.u.inventory.reopenGates(), l.u.succession.resume()); err != nil {
		l.u.log.WithError(err).Error("serving again, but not all is as it was")
	}
	l.event(control.Event{Kind: control.EventResumed, Text: "the successor died, the old generation serves again"})
	l.proceed()
}

// dismissed is the keeper's word that this worker is to drain.
func (l *life) dismissed(reason Reason, timeout time.Duration, h heir) {
	if l.drain != nil {
		l.expireBy(timeout)
		return
	}
	if reason == Stopped {
		l.phase = stopping
		l.beginDrain(Stopped, timeout, nil)
		return
	}
	if reason == Crashed && l.caught == nil {
		l.caught = errors.New("the keeper says so")
	}
	l.u.inventory.shutGates()
	l.u.o.KillTimeout = timeout
	l.handOver(h)
}

// orphaned is when the keeper has died: its successor must be able to bind, so
// nothing listens here any more, and what is being served is finished.
func (l *life) orphaned() {
	if l.u.closed.Load() {
		return
	}
	l.u.log.Error("the keeper died: finishing what is being served")
	if l.drain == nil {
		l.phase = stopping
		l.beginDrain(Stopped, l.u.o.KillTimeout, nil)
	}
	l.u.inventory.closeSockets()
}

// resumeDrain takes Exit back.
func (l *life) resumeDrain() *drainState {
	u := l.u
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drain, u.exit = nil, make(chan struct{})
	close(l.drain.resumed)
	return nil
}

// expireBy shortens a drain.
func (l *life) expireBy(d time.Duration) {
	if l.drain != nil && time.Until(l.drain.Deadline) > d {
		l.drain.timer.Reset(d)
	}
}

// stop ends the service.
func (l *life) stop(r control.StopRequest, signal string) {
	switch {
	case l.phase == draining && l.heir.kept():
	case l.phase == draining:
		// Whoever ends any generation means the service.
		if err := l.heir.stop(); err != nil {
			l.u.log.WithError(err).Warn("can't tell the successor to stop")
		}
	case l.phase == stopping:
		if r.Now {
			l.expire()
		}
	case l.u.succession.stopService(r, signal):
	default:
		l.phase = stopping
		for _, w := range l.next {
			l.answer(w, refused(ErrStopping, ""))
		}
		l.next = nil
		if l.now != nil {
			l.now.cancel() // and go on when it has ended, one way or the other
			return
		}
		l.u.stopNow(l)
		if r.Now {
			l.expire()
		}
	}
}

func (u *Upgrader) stopNow(l *life) {
	if u.acts.Load() { // else whoever acts goes on
		u.succession.leave()
	}
	if l.pause != nil {
		l.pause.Stop()
	}
	l.event(control.Event{Kind: control.EventStop, Text: "the service is being stopped"})
	l.beginDrain(Stopped, u.o.StopDelay+u.o.StopTimeout, nil)
}
