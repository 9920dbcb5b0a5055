//go:build unix

package upgrader

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// manager is the service manager, systemd or our keeper, to which talking never
// fails: whether it listens is its own affair.
type manager struct {
	n        *sd.Notifier // nil: there is none
	watchdog time.Duration
	log      logrus.FieldLogger
	used     atomic.Bool
}

func newManager(env sd.Environment, log logrus.FieldLogger) (*manager, error) {
	n, err := env.Notifier()
	if err != nil {
		return nil, err
	}
	watchdog, err := env.Watchdog()
	return &manager{n: n, watchdog: watchdog, log: log}, err
}

func (m *manager) send(msg sd.Message) {
	m.used.Store(true)
	if err := m.n.Send(msg); err != nil {
		m.log.WithError(err).Warn("can't tell the service manager")
	}
}

func (m *manager) sent() bool { return m.n != nil && m.used.Load() }

// barrier waits until the manager has processed what was sent.
func (m *manager) barrier() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := m.n.Barrier(ctx); err != nil {
		m.log.WithError(err).Warn("the service manager has not confirmed what it was told")
	}
}

const (
	extendAfter = 5 * time.Second  // what is quicker needs no extension
	extendBy    = 15 * time.Second // so that a late message does no harm
)

// extend asks for more time again and again until done is closed, for at most
// bound: the manager's own limits are for services that hang.
func (m *manager) extend(done <-chan struct{}, bound time.Duration) {
	if m.n == nil {
		return
	}
	end := time.NewTimer(bound)
	defer end.Stop()
	tick := time.NewTicker(extendAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.send(sd.Message{}.ExtendTimeout(extendBy))
		case <-end.C:
			return
		case <-done:
			return
		}
	}
}

// pet tells the manager's watchdog that this process lives, as long as it is the
// one that acts: a draining generation must not hide that its successor hangs.
// The life's goroutine does it, so that a standstill there is noticed too. It
// begins at once: the last word of the generation before may be as old as it may
// get.
func (m *manager) pet(u *Upgrader) {
	if m.n == nil || m.watchdog <= 0 {
		return
	}
	tick := time.NewTicker(m.watchdog / 2)
	defer tick.Stop()
	for {
		u.ask(func(l *life) {
			if l.phase != draining {
				m.send(sd.Message{}.Watchdog())
			}
		})
		select {
		case <-tick.C:
		case <-u.over:
			return
		}
	}
}

// keep makes the manager hold the sockets of this generation, for a next one
// that has no predecessor alive, and let go of what isn't wanted any more. It
// is to be called when this process is believed, and has a right to: from its
// go on. Without a store (FileDescriptorStoreMax=) nothing is held, and nobody
// can tell.
func (m *manager) keep(v *inventory) {
	if m.n == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, it := range v.given {
		if it.Stored {
			m.send(sd.Message{}.FDStoreRemove(storeName(it.Key)))
		}
	}
	for _, it := range v.held {
		if it.Stored || it.Key.Kind != streams && it.Key.Kind != packets && it.Key.Kind != memories {
			continue
		}
		it.descriptor(func(fd int) { m.send(sd.Message{}.FDStore(storeName(it.Key), fd)) })
		it.Stored = true
	}
}

// letGo takes a socket out of the store that its user has closed.
func (m *manager) letGo(it *item) {
	if it.Stored {
		m.send(sd.Message{}.FDStoreRemove(storeName(it.Key)))
	}
}
