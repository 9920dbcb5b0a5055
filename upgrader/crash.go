package upgrader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// triggerCrash is the trigger of an upgrade because of a crash.
const triggerCrash = "crash"

// triggerDeath is that of a generation which took over from one that died.
const triggerDeath = "death"

// What is kept of a crash's text, and of its error, in bytes: a report must fit into
// one message.
const (
	maxWords = 8 << 10
	maxError = 2 << 10
)

// Crash says that this process is not to be trusted any more: a successor is
// started, and when it acts this generation drains, with Reason Crashed. Until
// then it goes on as before; for good, if no successor gets ready. Later crashes
// of the same generation are counted and logged only. After too many crashes
// (Options.MaxCrashes) nothing is replaced for a while.
//
// err may be, or wrap, a *CrashError. Crash doesn't block.
func (u *Upgrader) Crash(err error) {
	if err == nil {
		err = errors.New("crash without an error")
	}
	var c *CrashError
	if !errors.As(err, &c) {
		c = &CrashError{Err: err}
	}
	u.post(func(l *life) { l.crash(err, c) })
}

// Go runs f in a goroutine of its own. A panic in it is a crash, but doesn't end
// the process; runtime.Goexit and fatal errors of the runtime are what they are.
func (u *Upgrader) Go(f func()) {
	go func() {
		defer func() {
			if v := recover(); v != nil {
				u.Crash(&CrashError{Value: v, Stack: debug.Stack()})
			}
		}()
		f()
	}()
}

// crash counts one, and sees to a replacement.
func (l *life) crash(err error, c *CrashError) {
	l.crashes++
	report := control.Crash{At: time.Now(), Generation: l.u.generation, PID: os.Getpid(),
		Uptime: time.Since(l.u.born), Caught: true, Error: err.Error(), Stack: string(c.Stack)}
	report.Stack = report.Stack[:min(len(report.Stack), maxWords)]
	report.Error = report.Error[:min(len(report.Error), maxError)]
	l.history.LastCrash = &report
	log := l.u.log.WithField("count", l.crashes).WithField("pid", os.Getpid())
	l.event(control.Event{Kind: control.EventCrash, Crash: &report, Text: report.Error})
	if l.caught != nil || l.phase != serving && l.phase != starting {
		log.Errorf("crash: %v; the replacement is under way", err)
		return
	}
	log.Errorf("crash: %v", err)
	if l.u.succession.handsUp(report) {
		l.caught = err
		l.hook(err, c)()
		return
	}
	l.replace(err, c)
}

// replace asks for a successor of a process that has crashed, unless there were
// too many.
func (l *life) replace(err error, c *CrashError) {
	w := &waiter{UpgradeRequest: control.UpgradeRequest{ID: control.NewID(), Trigger: triggerCrash}}
	w.reply = func(o control.Outcome) {
		if o.Result != control.Ready && o.Result != control.Moved {
			l.caught = nil // the next crash is a new chance
		}
	}
	if l.paused() {
		l.held = w
		return
	}
	if l.tooMany(time.Now()) {
		l.giveUp()
		l.held = w
		return
	}
	l.caught = err
	w.begun = l.hook(err, c)
	l.trigger(w)
}

// tooMany counts a crash, and reports whether it is one too many.
func (l *life) tooMany(now time.Time) bool {
	recent := l.history.Crashes[:0:0]
	for _, t := range l.history.Crashes {
		if now.Sub(t) < l.u.o.CrashWindow {
			recent = append(recent, t)
		}
	}
	l.history.Crashes = append(recent, now)
	l.u.succession.record(l.history, false)
	return l.u.o.MaxCrashes >= 0 && len(l.history.Crashes) > l.u.o.MaxCrashes
}

func (l *life) paused() bool { return l.pause != nil }

// giveUp stops replacing for a while.
func (l *life) giveUp() {
	n, pause := len(l.history.Crashes), l.u.o.GiveUpPause
	l.u.log.Errorf("giveup: %d crashes within %v: nothing is replaced for %v", n, l.u.o.CrashWindow, pause)
	l.event(control.Event{Kind: control.EventGiveUp, Text: fmt.Sprintf("%d crashes, pause %v", n, pause)})
	l.history.PausedUntil = time.Now().Add(pause)
	l.startPause(pause)
}

func (l *life) startPause(d time.Duration) {
	u := l.u
	l.pause = time.AfterFunc(d, func() { u.post((*life).pauseOver) })
}

// pauseOver tries again, if there still is something to replace.
func (l *life) pauseOver() {
	if l.pause == nil {
		return
	}
	w := l.held
	l.endPause()
	if w != nil && l.phase == serving {
		l.caught = errors.New("a crash before the pause")
		l.trigger(w)
	}
}

// endPause forgets the crashes.
func (l *life) endPause() {
	if l.pause != nil {
		l.pause.Stop()
	}
	l.pause, l.held = nil, nil
	l.history.Crashes, l.history.PausedUntil = nil, time.Time{}
	l.u.succession.record(l.history, false)
}

// hook returns what runs OnCrash beside everything else.
func (l *life) hook(err error, c *CrashError) func() {
	u, hook := l.u, l.u.o.OnCrash
	if hook == nil {
		return func() {}
	}
	crash := Crash{Err: err, Value: c.Value, Stack: c.Stack, Count: l.crashes, Request: c.Request}
	timeout := u.o.KillTimeout // a keeper may change it meanwhile
	return func() {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			defer func() {
				if v := recover(); v != nil {
					u.log.Errorf("OnCrash panicked: %v\n%s", v, debug.Stack())
				}
			}()
			hook(ctx, crash)
		}()
	}
}
