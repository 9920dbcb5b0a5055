package upgrader

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Reason is why a generation drains.
type Reason string

const (
	Replaced Reason = "replaced" // by an upgrade
	Crashed  Reason = "crashed"  // replaced after a crash of its own
	Stopped  Reason = "stopped"  // the service ends
)

// Drain is how a generation is to end.
type Drain struct {
	Reason       Reason
	Deadline     time.Time
	SuccessorPID int // 0: none, or not known
	// Successor is where live connections can go; nil: nowhere.
	Successor *link.Conn
	// SuccessorDead is closed when the successor has died: what was on its way
	// to it is this generation's again. nil: not known.
	SuccessorDead <-chan struct{}
	// Successors gives others, in whose place the first one was: it has died.
	Successors <-chan Successor
	// Expired is closed at the deadline, or when somebody asked that the drain
	// end at once. What is left should be cut then, and the process end: if it
	// doesn't, its successor kills it a second later.
	Expired <-chan struct{}
	// Resumed is closed if the successor dies before this generation has
	// ended: it acts for the service again, and its listeners accept again.
	// Exit and Drain are other ones then.
	Resumed <-chan struct{}
}

// Successor is where live connections can go.
type Successor struct {
	PID  int
	Link *link.Conn
	Dead <-chan struct{} // closed when it has died
}

// Status is what Upgrader.Status tells.
type Status = control.Status

// Result of a successful upgrade.
type Result struct {
	Generation int
	PID        int
	Took       time.Duration // from the start of the process until it acted for the service
	Confirmed  bool          // the new process said itself that it is ready
}

// Upgrader is one generation of a service. Its methods may be called from many
// goroutines.
type Upgrader struct {
	o          Options
	log        logrus.FieldLogger
	generation int
	born       time.Time
	inventory  *inventory
	succession succession
	events     *control.Events
	outcomes   *control.Outcomes
	control    *controlSocket // nil: none
	kept       bool           // by a keeper

	worker     int
	broadcasts chan Broadcast

	sources chan *link.Conn // of Predecessors
	heirs   chan Successor  // of Drain.Successors

	served chan struct{} // closed: Ready has succeeded
	inbox  chan func(*life)
	over   chan struct{} // closed: the life's goroutine has ended
	closed atomic.Bool
	acts   atomic.Bool // Ready has succeeded
	wanted atomic.Bool // somebody has asked for Predecessors
	turn   sync.Mutex  // of Ready, from when it is certain that this generation is to act

	readyOnce sync.Once
	readyErr  error
	hearOut   func() // handles the signals that have come, and none from then on; nil: none are handled
	closeOnce sync.Once
	closeErr  error

	mu    sync.Mutex
	exit  chan struct{}
	drain *Drain
	fill  func(*control.Generation) // of OnStatus
	heir  heir                      // who goes on when this generation's life is over; nil: nobody
}

// maxSources is how many links may wait for somebody who asks for them.
const maxSources = 64

// New finds out how this process was started, and returns its Upgrader. It can
// be called once per process: call it early, before anything opens descriptors
// or starts programs. From then on the signals of Options are handled. A
// successor says hello to its predecessor here.
//
// It makes os.Args[0] an absolute path at the start of the program, and removes
// from the environment what the service manager has said to this process alone
// (LISTEN_*, NOTIFY_SOCKET, WATCHDOG_*).
//
// On Windows it returns a Plain one.
func New(o Options) (*Upgrader, error) {
	u := build(o)
	if err := u.begin(); err != nil {
		u.closed.Store(true)
		return nil, fmt.Errorf("upgrader: %w", err)
	}
	go u.live(&life{u: u})
	u.listenToSignals()
	return u, nil
}

// Plain returns an Upgrader which binds, serves and stops, but has no successor
// and no signals: for tests, any number of them, and where nothing else is
// possible. Crash counts and logs only.
func Plain() *Upgrader {
	u := build(Options{Log: Discard})
	u.generation = 1
	u.succession = none{}
	go u.live(&life{u: u})
	return u
}

func build(o Options) *Upgrader {
	o = o.withDefaults()
	return &Upgrader{
		o:          o,
		log:        o.Log,
		born:       time.Now(),
		inventory:  newInventory(),
		events:     control.NewEvents(0),
		outcomes:   new(control.Outcomes),
		broadcasts: make(chan Broadcast, maxBroadcasts),
		sources:    make(chan *link.Conn, maxSources),
		heirs:      make(chan Successor, maxSources),
		inbox:      make(chan func(*life), 64),
		served:     make(chan struct{}),
		over:       make(chan struct{}),
		exit:       make(chan struct{}),
	}
}

// Ready says that this generation could serve: all its listeners exist. It
// returns when this generation acts for the service, and listeners accept: for
// the first one at once, for a successor when its predecessor has stopped
// accepting. In this order the PID file is written, the predecessor and the
// service manager are told. What the predecessor passed on and nobody has asked
// for is closed.
//
// After an error the process should exit: its predecessor serves on. Later calls
// return what the first one did.
func (u *Upgrader) Ready() error {
	u.readyOnce.Do(func() {
		if err := u.ready(); err != nil {
			u.readyErr = fmt.Errorf("upgrader: %w", err)
		}
	})
	return u.readyErr
}

func (u *Upgrader) ready() error {
	if err := u.openControl(); err != nil {
		u.succession.trouble(err)
		return err
	}
	if err := u.succession.announce(); err != nil {
		return err
	}
	u.turn.Lock()
	defer u.turn.Unlock()
	// First of all, as clients wait. Whoever asks how things are waits until
	// that is known here: the control socket is opened behind the others.
	if err := u.inventory.openServing(); err != nil {
		return err
	}
	u.succession.acting()
	u.inventory.closeUnclaimed()
	u.ask(func(l *life) { l.open = true })
	if err := u.inventory.openGates(); err != nil {
		return err
	}
	u.acts.Store(true)
	u.refuseConnections()
	close(u.served)
	u.Event(control.Event{Kind: control.EventReady, Text: fmt.Sprintf("generation %d acts for the service", u.generation)})
	u.ask((*life).served)
	return nil
}

// Exit returns a channel that is closed when this generation is to drain and
// end; Drain tells why and how.
func (u *Upgrader) Exit() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.exit
}

// Drain tells how to end; nil while Exit is open: again, where the successor has died
// since Exit was closed.
func (u *Upgrader) Drain() *Drain {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.drain
}

// Stop ends the service: Exit is closed with Reason Stopped, here or, if a
// successor acts already, there. An upgrade under way is cancelled.
func (u *Upgrader) Stop() { u.post(func(l *life) { l.stop(control.StopRequest{}, "") }) }

// Close is to be the last call of a generation, when everything is served. After
// a stop it waits for the end of a predecessor that still drains, which must come
// within the same timeout; then the PID file, the control socket and the paths of
// unix sockets are removed, unless they are another's by now.
func (u *Upgrader) Close() error {
	u.closeOnce.Do(func() {
		// Stopped as soon as others could take it for the one that acts, this
		// generation does act, and is the last.
		u.turn.Lock()
		defer u.turn.Unlock()
		last := false
		u.ask(func(l *life) { last = l.phase == stopping && u.acts.Load() })
		switch {
		case last:
			u.outlivePredecessor()
		case u.hearOut != nil:
			u.hearOut() // they mean the service, which lives on
		}
		u.ask(func(l *life) {
			if last {
				u.succession.record(l.history, true)
			}
			u.mu.Lock()
			u.heir = l.heir
			u.mu.Unlock()
			u.closed.Store(true)
		})
		var errs []error
		if last {
			errs = append(errs, u.inventory.removePaths())
		}
		u.closeControl(last)
		errs = append(errs, u.succession.close(last))
		u.closeErr = errors.Join(errs...)
	})
	return u.closeErr
}

// outlivePredecessor makes the process that acts the last one of a stopped
// service. Its predecessor is its parent, and would hide its end from the service
// manager; and nobody else ends a predecessor that hangs.
func (u *Upgrader) outlivePredecessor() {
	done := u.succession.predecessorDone()
	d := u.Drain()
	if d == nil {
		return
	}
	select {
	case <-done:
		return
	case <-d.Expired:
	}
	u.succession.hurry()
	select {
	case <-done:
	case <-time.After(2 * killGrace):
	}
}

// Generation is the number of this generation, from 1.
func (u *Upgrader) Generation() int { return u.generation }

// Predecessors gives a link for each generation, or keeper, from which live
// connections may come: one as soon as New has returned, more of them later. The
// channel is never closed.
//
// If nobody has asked for it when Ready returns, whoever wants to give a
// connection is told at once that none is taken.
func (u *Upgrader) Predecessors() <-chan *link.Conn {
	u.wanted.Store(true)
	return u.sources
}

// connectionsFrom adds to Predecessors.
func (u *Upgrader) connectionsFrom(l *link.Conn) {
	if u.acts.Load() && !u.wanted.Load() {
		l.Close()
		return
	}
	select {
	case u.sources <- l:
	default:
		u.log.Error("too many links for live connections at once")
		l.Close()
	}
}

// Vault returns the table in which this process writes down how far each of its
// connections is, so that a keeper can rescue them when the process dies; nil:
// nobody would, and that has been logged if it was wanted. servers are their
// names by number. It is to be called once, as early as they are known and
// before memory is filled: the vault is a copy of the process.
func (u *Upgrader) Vault(servers []string) *vault.Table { return u.succession.startVault(servers) }

// Listening tells the keeper where the servers of Vault, by number, accept
// connections, and where else this process does. It is to be called when all of
// that is known, before Ready.
func (u *Upgrader) Listening(servers [][]net.Addr, others []net.Addr) {
	u.succession.listening(servers, others)
}

// refuseConnections closes the links that nobody has asked for.
func (u *Upgrader) refuseConnections() {
	for !u.wanted.Load() {
		select {
		case l := <-u.sources:
			l.Close()
		default:
			return
		}
	}
}

// Event tells those who watch the service that something happened. Generation
// and PID are this one's if they are zero. It doesn't block.
func (u *Upgrader) Event(e control.Event) {
	e = u.publish(e)
	u.post(func(l *life) {
		if l.heir != nil {
			l.heir.event(e)
		}
		u.succession.event(e)
	})
}

func (u *Upgrader) publish(e control.Event) control.Event {
	if e.Generation == 0 {
		e.Generation = u.generation
	}
	if e.PID == 0 {
		e.PID = os.Getpid()
	}
	return u.events.Publish(e)
}
