package upgrader

import (
	"context"

	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// Upgrade replaces this generation by a new one, of what lies at the program's
// path now. It blocks until the new one acts for the service, or it is certain
// that it won't; Exit is closed in the first case. If an upgrade is under way
// already, one more follows it, for all that have asked meanwhile.
//
// When ctx is done the new process is killed, unless others want the upgrade
// too, or it acts already.
//
// Errors: a *FailedError; ErrNotReady, ErrDraining, ErrStopping, ErrSupervised,
// ErrNotSupported if nothing was started.
func (u *Upgrader) Upgrade(ctx context.Context) (*Result, error) {
	if !u.acts.Load() && u.Drain() == nil {
		return nil, ErrNotReady
	}
	return result(u.request(ctx, control.UpgradeRequest{Trigger: "api"}))
}

// request asks for an upgrade, and waits for the outcome.
func (u *Upgrader) request(ctx context.Context, r control.UpgradeRequest) control.Outcome {
	if r.ID == "" {
		r.ID = control.NewID()
	}
	reply := make(chan control.Outcome, 1)
	w := &waiter{UpgradeRequest: r, reply: func(o control.Outcome) { reply <- o }}
	if !u.post(func(l *life) { l.trigger(w) }) {
		return u.tooLate(r)
	}
	done := ctx.Done()
	for {
		select {
		case o := <-reply:
			return o
		case <-done:
			done = nil
			u.post(func(l *life) { l.abandon(w) })
		case <-u.over:
			select {
			case o := <-reply: // the last thing that was done
				return o
			default:
				return u.tooLate(r)
			}
		}
	}
}

// tooLate is for a request that has reached a generation whose life is over: it is
// its successor's.
func (u *Upgrader) tooLate(r control.UpgradeRequest) control.Outcome {
	u.mu.Lock()
	h := u.heir
	u.mu.Unlock()
	o := refused(ErrStopping, "")
	if h != nil {
		o = u.forward(h, r)
	}
	o.ID, o.Trigger = r.ID, r.Trigger
	return o
}
