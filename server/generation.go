package server

import (
	"context"
	"net"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/internal/live"
	"github.com/tablecloth-go/tablecloth/internal/vault"
	"github.com/tablecloth-go/tablecloth/upgrader"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// generation is what a Server needs of *upgrader.Upgrader.
type generation interface {
	ListenNamed(name, network, addr string) (net.Listener, error)
	Ready() error
	Exit() <-chan struct{}
	Drain() *upgrader.Drain
	Upgrade(context.Context) (*upgrader.Result, error)
	Crash(error)
	Stop()
	Close() error
	OnStatus(func(*control.Generation))
	Predecessors() <-chan *link.Conn
	Event(control.Event)
	Vault(servers []string) *vault.Table
	Listening(servers [][]net.Addr, others []net.Addr)
}

// runner is a Service at work.
type runner interface {
	// bind takes the listeners, in the order of Service.Listen, then
	// Service.Listeners. Nothing is accepted before serve.
	bind([]net.Listener)
	// serve starts and returns. fail is called when it goes wrong later, except
	// after finish, or after a drain that it can't come back from.
	serve(fail func(error))
	// drain returns when nothing is left to do, or ctx is done.
	drain(ctx context.Context, how ending)
	// redirect lets a drain go on with another sender, as its own has failed.
	redirect(*handover.Sender)
	// resume serves again after a drain; false: it can't.
	resume() bool
	// cut ends what is left, at once.
	cut()
	// finish ends what serve started. Nothing is accepted any more.
	finish()
	// target is where connections of the generation before go; nil: nowhere.
	target() handover.Target
	count(*control.Conns)
	holdouts(*live.Holdouts)
}

// ending is how a runner is to drain.
type ending struct {
	stopping bool             // nobody follows
	sender   *handover.Sender // nil: connections can't move
	arrived  <-chan struct{}  // closed when no more connections of others come
	moved    func()           // httpRunners call it when nothing is left that can move
}
