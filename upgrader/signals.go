package upgrader

import (
	"os"
	"os/signal"
	"slices"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// listenToSignals makes requests of signals, for as long as this process lives.
// Signals of one kind that come faster than they are read are one.
func (u *Upgrader) listenToSignals() {
	terminal := u.terminal()
	ups, downs := u.upgradeSignals(), u.o.StopSignals
	upgrades, stops := make(chan os.Signal, 1), make(chan os.Signal, 1)
	notify(upgrades, ups)
	notify(stops, downs)
	upgrade := func(s os.Signal) {
		if terminal.gone() {
			u.log.Info("the terminal is gone: stopping")
			u.Stop()
			return
		}
		u.signalled(s)
	}
	interrupted := false
	stop := func(s os.Signal) {
		again := s == os.Interrupt && interrupted && terminal.is()
		interrupted = interrupted || s == os.Interrupt
		u.log.Infof("%s: stopping", signalName(s))
		u.post(func(l *life) { l.stop(control.StopRequest{Now: again}, signalName(s)) })
	}
	last := make(chan chan struct{})
	go func() {
		for {
			select {
			case s := <-upgrades:
				upgrade(s)
			case s := <-stops:
				stop(s)
			case done := <-last:
				each(upgrades, upgrade)
				each(stops, stop)
				close(done)
			case <-u.over:
				return
			}
		}
	}()
	u.hearOut = func() {
		ignored := make(chan os.Signal, 1) // else they would have their default effect
		both := slices.Concat(ups, downs)
		notify(ignored, both)
		awaitPending(both)
		signal.Stop(upgrades) // returns when what this process has got is in the channel
		signal.Stop(stops)
		done := make(chan struct{})
		select {
		case last <- done:
			<-done
		case <-u.over:
		}
	}
}

func notify(c chan os.Signal, sigs []os.Signal) {
	if len(sigs) > 0 { // none would mean all
		signal.Notify(c, sigs...)
	}
}

// each calls f for what is in c already.
func each(c <-chan os.Signal, f func(os.Signal)) {
	for {
		select {
		case s := <-c:
			f(s)
		default:
			return
		}
	}
}

// upgradeSignals: SIGHUP which was ignored when the process was started (nohup)
// stays so, unless it was asked for by name.
func (u *Upgrader) upgradeSignals() []os.Signal {
	if u.o.Signals != nil {
		return u.o.Signals
	}
	if signal.Ignored(hangup) {
		return nil
	}
	return []os.Signal{hangup}
}

// signalled is a request for which nobody waits.
func (u *Upgrader) signalled(s os.Signal) {
	w := &waiter{
		UpgradeRequest: control.UpgradeRequest{ID: control.NewID(), Trigger: signalName(s)},
		reply: func(o control.Outcome) {
			if o.Result == control.Refused {
				u.log.WithField("hint", o.Hint).Errorf("upgrade refused: %s", o.Reason)
			}
		},
	}
	u.post(func(l *life) { l.trigger(w) })
}

// passedOn is a request that came to the predecessor.
func passedOn(r control.UpgradeRequest) *waiter {
	return &waiter{UpgradeRequest: r, reply: func(control.Outcome) {}}
}

// tty is the controlling terminal that this process had when it was started.
type tty struct{ had bool }

func (u *Upgrader) terminal() tty { return tty{had: openTerminal()} }

func (t tty) is() bool { return t.had && openTerminal() }

// gone reports whether a hangup was meant literally.
func (t tty) gone() bool { return t.had && !openTerminal() }

func openTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
