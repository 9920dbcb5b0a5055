package keeper

import (
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// herald tells the service manager above, and the PID files, in the order in
// which things happened, without holding up the keeper.
type herald struct {
	queue    chan notice
	notifier *sd.Notifier // nil: there is no manager
	log      logrus.FieldLogger
	was      string // "": nothing said yet; "ready", "reloading", "stopping"
	done     chan struct{}
}

func newHerald(n *sd.Notifier, log logrus.FieldLogger) *herald {
	h := &herald{queue: make(chan notice, 1024), notifier: n, log: log, done: make(chan struct{})}
	go h.run()
	return h
}

// announce drops what a manager that doesn't read has left no room for.
func (h *herald) announce(n notice) {
	n.stored = use(n.store)
	select {
	case h.queue <- n:
	default:
		n.over()
	}
}

// over ends the use of what n has.
func (n notice) over() {
	n.stored()
	if n.told != nil {
		close(n.told)
	}
}

// end waits until everything has been said.
func (h *herald) end() {
	close(h.queue)
	<-h.done
}

func (h *herald) run() {
	defer close(h.done)
	for n := range h.queue {
		if err := h.tell(n); err != nil {
			h.log.WithError(err).Warn("tell the service manager")
		}
		n.over()
	}
}

func (h *herald) tell(n notice) error {
	if n.pidfile != nil && n.worker != 0 {
		if err := n.pidfile.Write(n.worker); err != nil {
			h.log.WithError(err).Error("write the worker's PID file")
		}
	}
	m := sd.Message{}
	switch {
	case n.kind == "store":
		return h.store(n)
	case n.kind == "forget":
		n.pidfile.Remove()
		return n.pidfile.Close()
	case n.kind == "ready" && (h.was != "ready" || n.text != ""):
		m, h.was = m.Ready().MainPID(os.Getpid()), "ready"
	case n.kind == "reloading" && h.was == "ready":
		m, h.was = m.Reloading(), "reloading"
	case n.kind == "stopping":
		m, h.was = m.Stopping(), "stopping"
	case n.kind == "watchdog":
		m = m.Watchdog()
	}
	if n.text != "" {
		m = m.Status(n.text)
	}
	if len(m.Fields) == 0 {
		return nil
	}
	return h.notifier.Send(m)
}

// store gives sockets to the manager, one a message: their order within one isn't
// kept.
func (h *herald) store(n notice) error {
	for _, name := range n.remove {
		if err := h.notifier.Send(sd.Message{}.FDStoreRemove(name)); err != nil {
			return err
		}
	}
	for _, s := range n.store {
		if err := h.notifier.Send(sd.Message{}.FDStore(s.name, s.fd)); err != nil {
			return err
		}
	}
	return nil
}

// heralded waits, for a while, until what was announced has been told: whoever
// hears of an outcome finds the PID file as it should be.
func (a *actor) heralded() {
	n := notice{told: make(chan struct{})}
	a.os.announce(n)
	late := time.NewTimer(time.Second) // a disk may hang
	defer late.Stop()
	select {
	case <-n.told:
	case <-late.C:
	}
}

// pet sends the keeper's own sign of life, which the actor has to give: a
// keeper that hangs shall be found out.
func (a *actor) pet(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-a.done:
			return
		case <-t.C:
			a.ask(func() { a.os.announce(notice{kind: "watchdog"}) })
		}
	}
}
