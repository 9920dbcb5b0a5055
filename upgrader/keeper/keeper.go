//go:build linux

package keeper

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// actor is the goroutine which owns everything: the states of all services, and
// what belongs to them. Everybody else sends it functions to run.
type actor struct {
	id          string // random: of this keeper
	os          system
	inbox       chan func()
	done        chan struct{} // closed when every service has ended
	log         logrus.FieldLogger
	events      *control.Events
	outcomes    *control.Outcomes
	services    []*service
	lastService int
	held        holdings
	rounds      rounds
	reread      func() ([]Service, error)        // nil: the configuration is what it is
	basics      func(conf *Service) []string     // what is in the environment of all workers
	open        func(a address) (*socket, error) // binds
	ackPath     string                           // of einhorn's command socket; "": none
	births      chan struct{}                    // closed when a process has been started, or could not be; nil: nobody waits for it
	later       []func()                         // to be run after the one that runs
	started     time.Time
	onReady     func()
	mustStart   bool
	stopping    bool
	once        sync.Once
	endings     atomic.Int32 // groups of connections that are being ended
}

func newActor(os system, log logrus.FieldLogger) *actor {
	return &actor{os: os, inbox: make(chan func(), 64), done: make(chan struct{}), log: log,
		basics: func(*Service) []string { return nil }, open: bind,
		events: control.NewEvents(0), outcomes: &control.Outcomes{}, started: time.Now()}
}

// post has the actor run f; false: it has ended.
func (a *actor) post(f func()) bool {
	select {
	case a.inbox <- f:
		return true
	case <-a.done:
		return false
	}
}

// ask is post, and waits until f has run.
func (a *actor) ask(f func()) bool {
	ran := make(chan struct{})
	if !a.post(func() { f(); close(ran) }) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-a.done:
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// run is the actor's life.
func (a *actor) run() {
	for _, s := range a.services {
		s.feed(event{kind: evStart})
	}
	a.settle()
	for !a.over() {
		f := <-a.inbox
		f()
		a.settle()
	}
	for _, s := range a.services {
		s.release()
	}
	close(a.done)
}

func (a *actor) settle() {
	for len(a.later) > 0 {
		f := a.later[0]
		a.later = a.later[1:]
		f()
	}
	a.services = slices.DeleteFunc(a.services, func(s *service) bool {
		gone := s.leaving && s.state.phase == ended && len(a.services) > 1
		if gone {
			s.release()
			a.later = append(a.later, s.dropStored, a.letGo)
		}
		return gone
	})
	if len(a.later) > 0 {
		a.settle()
	}
}

func (a *actor) over() bool {
	for _, s := range a.services {
		if s.state.phase != ended {
			return false
		}
	}
	return true
}

func (a *actor) service(name string) *service {
	for _, s := range a.services {
		if s.name == name && !s.leaving {
			return s
		}
	}
	return nil
}

// stop begins the stop of one service, or of all.
func (a *actor) stop(name string, now bool) {
	if name == "" && !a.stopping {
		a.stopping = true
		a.os.announce(notice{kind: "stopping"})
	}
	for _, s := range a.services {
		if name == "" || name == s.conf.Name {
			if s.state.phase != stopping && s.state.phase != ended {
				s.tell(control.Event{Kind: control.EventStop})
			}
			s.feed(event{kind: evStop, now: now})
		}
	}
}

// ready tells those above, when every service has had a ready generation.
func (a *actor) ready() {
	for _, s := range a.services {
		if s.state.good == 0 && !s.leaving {
			return
		}
	}
	a.os.announce(notice{kind: "ready"})
	a.once.Do(func() {
		if a.onReady != nil {
			a.onReady()
		}
	})
}
