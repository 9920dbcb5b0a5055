//go:build unix

package upgrader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
	"github.com/tablecloth-go/tablecloth/upgrader/sd"
)

var (
	errTimedOut  = errors.New("not ready in time: killed")
	errCancelled = errors.New("cancelled: killed")
)

// actingTimeout is how long the outcome waits for the successor's word that it
// acts, after go. It is no condition: from go on only the successor acts.
const actingTimeout = 5 * time.Second

// attempt is one upgrade, from the old generation's side: start, await ready,
// commit.
func (a *alone) attempt(ctx context.Context, l launch) attempted {
	if o, ok := a.refuse(); !ok {
		return attempted{outcome: o}
	}
	a.manager.send(sd.Message{}.Reloading().Status(fmt.Sprintf("starting generation %d", l.generation)))
	done := make(chan struct{})
	defer close(done)
	go a.manager.extend(done, a.u.o.ReadyTimeout+actingTimeout)
	c, err := a.start(l)
	if err != nil {
		return a.failed(l, nil, err)
	}
	defer c.words.Close()
	l.started(c.pid())
	if a.pid != nil {
		defer a.pid.Prepare(0)
		a.pid.Prepare(c.likely()) // while it starts
	}
	ready, err := a.awaitReady(ctx, c)
	if err == nil {
		err = a.commit(l, c, ready)
	}
	if err != nil {
		return a.failed(l, c, err)
	}
	return attempted{outcome: c.outcome(l), heir: c.becomeHeir(a.u)}
}

// refuse checks what speaks against any upgrade of this process.
func (a *alone) refuse() (control.Outcome, bool) {
	if a.supervisor != "" {
		o := refused(ErrSupervised, hintSupervised)
		o.Reason += " (" + a.supervisor + ")"
		return o, false
	}
	if st, err := os.Stat(initialDir); err != nil || !st.IsDir() {
		return control.Outcome{Result: control.Refused,
			Reason: fmt.Sprintf("the directory in which the service was started is gone: %s", initialDir),
			Hint:   "make it again, or restart the service in a directory that stays, such as /"}, false
	}
	return control.Outcome{}, true
}

// start starts the new process, and queues everything for it meanwhile. Should
// this process die in between, the new one finds its queue too short, and ends:
// to fill the queue first would take as long, and leave nobody if this process
// died in that time.
func (a *alone) start(l launch) (*child, error) {
	ours, theirs, err := link.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &child{a: a, began: time.Now(), link: ours, generation: l.generation, ended: make(chan struct{}),
		messages: make(chan message, 4), acts: make(chan struct{}), expired: make(chan struct{})}
	dup, err := duplicate(theirs)
	if err != nil {
		c.close()
		return nil, err
	}
	marker, err := fromFile(dup)
	if err != nil {
		c.close()
		return nil, err
	}
	c.inode = inodeOf(theirs)
	go c.await(a.flip.start(theirs), marker)
	runtime.Gosched() // first of all the process: it takes longer than all that follows
	step("started")
	if err := a.queue(c, l); err != nil {
		c.kill()
		c.close()
		c.words.Close()
		return nil, fmt.Errorf("queue what the next generation needs: %w", err)
	}
	return c, nil
}

// queueTimeout bounds what takes no time at all, but on a machine that is busy with
// other things.
const queueTimeout = 10 * time.Second

// queue sends the state, all descriptors and the history.
func (a *alone) queue(c *child, l launch) error {
	past := l.history() // asks the life, which must not wait for the lock meanwhile
	v := a.u.inventory
	v.mu.Lock()
	defer v.mu.Unlock()
	items := append([]*item(nil), v.held...)
	var err error
	if c.words, err = lastWords(); err != nil {
		return err
	}
	items = append(items, &item{Key: key{Kind: words}, file: c.words})
	if a.pid != nil {
		items = append(items, &item{Key: key{Kind: locks}, file: a.pid.LockFile()})
	}
	var far *os.File
	if c.handover, far, err = link.Pair(); err != nil {
		return err
	}
	defer far.Close()
	items = append(items, &item{Key: key{Kind: handovers}, file: far})
	st := &state{Generation: l.generation, KillTimeout: a.u.o.KillTimeout, Manager: a.env, Files: len(items)}
	if a.pid != nil {
		st.PIDFile = a.pid.Path()
	}
	// All of it must fit in the socket's queue: nobody may read yet.
	c.link.SetWriteDeadline(time.Now().Add(queueTimeout))
	defer c.link.SetWriteDeadline(time.Time{})
	if err := send(c.link, message{Type: msgState, Protocol: protocol, Oldest: protocolOldest, PID: os.Getpid(), State: st}); err != nil {
		return err
	}
	if err := sendFiles(c.link, items); err != nil {
		return err
	}
	return sendHistory(c.link, past)
}

// awaitReady waits until the new process is ready or won't be.
func (a *alone) awaitReady(ctx context.Context, c *child) (message, error) {
	timeout := time.NewTimer(a.u.o.ReadyTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-c.ended:
			return a.foreignReady(c)
		case m := <-c.messages:
			if m.Type == msgReady {
				step("ready heard")
				return m, nil
			}
			if err := compatible(m); err != nil {
				c.kill()
				return message{}, err
			}
			if a.pid != nil {
				a.pid.Prepare(c.pid())
			}
		case <-ctx.Done():
			c.kill()
			return message{}, errCancelled
		case <-timeout.C:
			c.kill()
			return message{}, errTimedOut
		}
	}
}

// foreignReady is when tableflip's Upgrade has returned: the process has died,
// or has none of this library, and said to tableflip that it is ready.
func (a *alone) foreignReady(c *child) (message, error) {
	if c.exit != nil {
		select {
		case m := <-c.messages: // heard before its end, and says more
			if err := compatible(m); m.Type == msgHello && err != nil {
				return message{}, err
			}
		default:
		}
		return message{}, c.exit
	}
	c.foreign = true
	close(c.acts) // it does already
	return message{}, nil
}

// commit is the point of no return. Before go only this generation acts for the
// service, after it only the new one. The order matters:
//
//  1. the PID file names the new process
//  2. so does the service manager, for certain
//  3. this generation accepts nothing more
//  4. go
func (a *alone) commit(l launch, c *child, ready message) error {
	step("before commit")
	if a.pid != nil && c.pid() != 0 && (ready.PIDFile == a.pid.Path() || c.foreign) {
		if err := a.pid.Write(c.pid()); err != nil {
			c.kill()
			return fmt.Errorf("can't write the PID file: %w", err)
		}
	}
	if c.pid() != 0 {
		a.manager.send(sd.Message{}.MainPID(c.pid()))
		a.manager.barrier()
	}
	l.accepting(false)
	a.u.inventory.refuse(ready.Unwanted)
	a.moved.Store(a.pid != nil && ready.PIDFile != a.pid.Path())
	step("before go")
	err := a.sayGo(l, c)
	if err == nil {
		step("go said")
		err = a.awaitActing(c)
	}
	if err == nil {
		return nil
	}
	c.kill()
	l.accepting(true)
	if a.pid != nil {
		a.moved.Store(false)
		err = errors.Join(err, a.pid.Write(os.Getpid()))
	}
	a.manager.send(sd.Message{}.MainPID(os.Getpid()))
	return err
}

func (a *alone) sayGo(l launch, c *child) error {
	if c.foreign {
		return nil
	}
	o := c.outcome(l)
	if err := send(c.link, message{Type: msgGo, Outcome: &o, IDs: l.ids, More: true}); err != nil {
		return err
	}
	step("go sent")
	// From here on it serves; without a history if it must be.
	err := sendHistory(c.link, l.history())
	if err == nil {
		err = send(c.link, message{Type: msgTold})
	}
	if err != nil {
		a.u.log.WithError(err).Warn("the successor has not got the whole history")
	}
	return nil
}

// awaitActing waits until the new process acts. An error: it has died before.
func (a *alone) awaitActing(c *child) error {
	timeout := time.NewTimer(actingTimeout)
	defer timeout.Stop()
	select {
	case <-c.acts:
		return nil
	case <-c.ended:
		return c.exit
	case <-timeout.C:
		return nil
	}
}

// failed is the outcome of an attempt after which this generation serves on.
func (a *alone) failed(l launch, c *child, err error) attempted {
	o := control.Outcome{Result: control.Failed, Reason: err.Error(), Generation: a.u.generation, PID: os.Getpid()}
	if errors.Is(err, errTimedOut) {
		o.Result = control.TimedOut
		o.Reason = fmt.Sprintf("not ready within %v: killed", a.u.o.ReadyTimeout)
		o.Hint = "look into its log for what it was waiting for, or raise ReadyTimeout"
	}
	if c != nil {
		c.explain(&o, err)
		c.close()
	}
	a.manager.send(sd.Message{}.Ready().Status(fmt.Sprintf("generation %d serving; upgrade failed: %s", a.u.generation, o.Reason)))
	return attempted{outcome: o}
}
