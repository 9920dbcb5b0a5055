//go:build unix

package upgrader

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/tablecloth-go/tablecloth/internal/gate"
	"github.com/tablecloth-go/tablecloth/internal/pidfile"
	"github.com/tablecloth-go/tablecloth/internal/proc"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

// alone is the succession of a process that starts its own successor.
type alone struct {
	u          *Upgrader
	flip       *flip
	pred       *predecessor // nil: this is the first one, or foreign
	foreign    bool         // the predecessor has none of this library
	noPred     chan struct{}
	manager    *manager
	env        sd.Environment // of the manager, for successors
	pid        *pidfile.File  // nil: none
	supervisor string         // who started us and can't follow a changing PID
	moved      atomic.Bool    // the successor has its PID file elsewhere
	said       *message       // the predecessor's go; nil: it has died without it
}

// newAlone finds out what this process is: the first of its service or a
// successor.
func newAlone(u *Upgrader) (*alone, error) {
	f, err := newFlip()
	if err != nil {
		return nil, err
	}
	a := &alone{u: u, flip: f, noPred: make(chan struct{})}
	parent, err := f.parentLink()
	switch {
	case err != nil:
		return nil, fmt.Errorf("inherit from the generation before: %w", err)
	case parent != nil:
		err = a.succeed(parent)
	default:
		a.foreign = f.hasParent()
		err = a.first()
	}
	if err == nil {
		err = a.openPIDFile()
	}
	return a, err
}

// first is for a process that no generation of ours came before.
func (a *alone) first() error {
	a.u.generation = 1
	if !a.foreign {
		a.supervisor = proc.Supervised()
	}
	a.env = sd.Take()
	var err error
	if a.manager, err = newManager(a.env, a.u.log); err != nil {
		return err
	}
	sockets, err := a.env.Sockets()
	a.u.inventory.activate(sockets)
	a.env = a.env.ForSuccessor()
	a.remember()
	go a.manager.extend(a.u.served, a.u.o.ReadyTimeout)
	return err
}

// succeed takes over what the generation before has queued for this one.
func (a *alone) succeed(parent *os.File) error {
	sd.Take() // what the manager said to an ancestor comes in the state
	p, err := meet(a.u, parent)
	if err != nil {
		return err
	}
	a.pred, a.env = p, p.state.Manager
	if p.handover != nil {
		a.u.connectionsFrom(p.handover)
	}
	if a.manager, err = newManager(a.env, a.u.log); err != nil {
		return err
	}
	a.u.generation = p.state.Generation
	a.u.inventory.given = p.items
	if m := a.u.inventory.claimKey(memoryKey); m != nil {
		a.u.inventory.hold(m)
	}
	if w := a.u.inventory.claimKey(key{Kind: words}); w != nil {
		debug.SetCrashOutput(w.file, debug.CrashOptions{})
		w.file.Close() // it is duplicated
	}
	return nil
}

// openPIDFile makes sure that this is the only instance of the service.
func (a *alone) openPIDFile() error {
	path := a.u.o.PIDFile
	lock := a.u.inventory.claimKey(key{Kind: locks})
	if path == "" {
		if lock != nil {
			lock.close()
		}
		return nil
	}
	var err error
	if lock != nil {
		if a.pid, err = pidfile.Adopt(path, lock.file); err == nil {
			return nil
		}
		// The path is another one now.
	}
	if a.pid, err = pidfile.Acquire(path); err != nil {
		if errors.Is(err, pidfile.ErrHeld) {
			err = fmt.Errorf("%w: stop it, or name another PID file", err)
		}
		a.trouble(err)
		return err
	}
	return nil
}

// startVault: nobody would outlive this process.
func (a *alone) startVault([]string) *vault.Table { return nil }

func (a *alone) listening([][]net.Addr, []net.Addr) {}

func (a *alone) foreignListener(network, addr string) gate.Socket {
	if !a.foreign {
		return nil
	}
	return a.flip.foreignListener(network, addr)
}

func (a *alone) trouble(err error) {
	if a.pred != nil {
		a.pred.tell(message{Type: msgTrouble, Text: err.Error()})
	}
}

// announce: the PID file, the predecessor.
func (a *alone) announce() error {
	if a.pred == nil {
		return a.announceFirst()
	}
	path := ""
	if a.pid != nil {
		path = a.pid.Path()
	}
	var err error
	if a.said, err = a.pred.awaitGo(message{Type: msgReady, Unwanted: a.u.inventory.unclaimed(), PIDFile: path}); err != nil {
		return err
	}
	if a.pid != nil && (a.said == nil || a.pred.state.PIDFile != path) {
		if err := a.pid.Write(os.Getpid()); err != nil {
			a.trouble(err)
			return err
		}
	}
	return nil
}

func (a *alone) announceFirst() error {
	if a.pid != nil {
		if err := a.pid.Write(os.Getpid()); err != nil {
			return err
		}
	}
	// A predecessor without this library exits as soon as it hears this.
	return a.flip.settle()
}

// acting: clients are answered already; now the service manager learns of it, then
// the predecessor, and with it whoever asked for the upgrade. What has happened
// since this process was started is least urgent.
func (a *alone) acting() {
	m := sd.Message{}.Ready().Status(fmt.Sprintf("generation %d serving", a.u.generation))
	if a.said == nil {
		m = m.MainPID(os.Getpid())
	}
	a.keep()
	a.manager.send(m)
	if a.pred != nil {
		a.pred.acting()
		a.pred.restore(a.said)
		a.u.ask(func(l *life) { a.record(l.history, false) })
	}
	go a.manager.pet(a.u)
	go a.afterPredecessor()
}

// keep leaves in the manager's store what the next life of the service needs if
// this one ends without a word: before READY, on which it may end at once.
func (a *alone) keep() {
	a.manager.keep(a.u.inventory)
	a.u.ask(func(l *life) {
		h := l.history
		if a.pred != nil {
			h = a.pred.known()
		}
		a.record(h, false)
	})
}

// afterPredecessor waits for the predecessor's end, and then makes upgrades
// possible.
func (a *alone) afterPredecessor() {
	defer close(a.noPred)
	if a.pred == nil {
		if a.foreign {
			a.flip.waitParent()
		}
		return
	}
	a.pred.awaitEnd()
	if err := a.u.inventory.removeDropped(); err != nil {
		a.u.log.WithError(err).Warn("the path of a socket that is not wanted any more stays")
	}
	if err := a.flip.settle(); err != nil {
		a.u.log.WithError(err).Error("this process may not be able to upgrade")
	}
}

// resume: with NotifyAccess=main the manager doesn't believe this process any
// more, and nothing can be done about that here.
func (a *alone) resume() error {
	var err error
	if a.pid != nil {
		a.moved.Store(false)
		err = a.pid.Write(os.Getpid())
	}
	a.manager.send(sd.Message{}.MainPID(os.Getpid()).Ready().
		Status(fmt.Sprintf("generation %d serving again: its successor died", a.u.generation)))
	if a.manager.watchdog > 0 {
		a.manager.send(sd.Message{}.Watchdog()) // the successor's last word may be old
	}
	return err
}

func (a *alone) predecessorDone() <-chan struct{} { return a.noPred }

func (a *alone) hurry() {
	if a.pred != nil {
		a.pred.tell(message{Type: msgEnd})
		a.pred.killIn(killGrace)
	}
}

func (a *alone) leave() {
	if a.pred != nil {
		a.pred.tell(message{Type: msgLeaving})
	}
	a.manager.send(sd.Message{}.Stopping().Status("stopping"))
	go a.manager.extend(a.u.over, a.u.o.StopDelay+a.u.o.StopTimeout+killGrace)
}

func (a *alone) letGo(it *item) { a.manager.letGo(it) }

func (a *alone) handsUp(control.Crash) bool { return false }

func (a *alone) stopService(control.StopRequest, string) bool { return false }

func (a *alone) event(control.Event) {} // the heir is told

func (a *alone) close(last bool) error {
	var errs []error
	if a.pid != nil {
		if last || a.moved.Load() {
			errs = append(errs, a.pid.Remove())
		}
		errs = append(errs, a.pid.Close())
	}
	if a.manager.sent() {
		// Once we are gone the manager can't tell who has said what we said.
		a.manager.barrier()
	}
	return errors.Join(errs...)
}
