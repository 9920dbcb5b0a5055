package upgrader

import (
	"os"
	"os/signal"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// listenToSignals makes requests of signals, for as long as this process lives.
// Signals of one kind that come faster than they are read are one.
func (u *Upgrader) listenToSignals() {
	terminal := u.terminal()
	upgrades := make(chan os.Signal, 1)
	if sigs := u.upgradeSignals(); len(sigs) > 0 {
		signal.Notify(upgrades, sigs...)
	}
	stops := make(chan os.Signal, 1)
	if len(u.o.StopSignals) > 0 {
		signal.Notify(stops, u.o.StopSignals...)
	}
	go func() {
		interrupted := false
		for {
			select {
			case s := <-upgrades:
				if terminal.gone() {
					u.log.Info("the terminal is gone: stopping")
					u.Stop()
					continue
				}
				u.signalled(s)
			case s := <-stops:
				again := s == os.Interrupt && interrupted && terminal.is()
				interrupted = interrupted || s == os.Interrupt
				u.log.Infof("%s: stopping", signalName(s))
				u.post(func(l *life) { l.stop(control.StopRequest{Now: again}, signalName(s)) })
			case <-u.over:
				return
			}
		}
	}()
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
