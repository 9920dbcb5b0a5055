package server

import (
	"context"
	"sync"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// intake takes the connections of other processes.
type intake struct {
	mu     sync.Mutex
	orders chan order         // to the door
	ended  chan struct{}      // the door is
	abort  context.CancelFunc // nil: begin was not called
	ctx    context.Context    // abort ends it
	work   group              // one for each process
}

// order opens or closes the door.
type order struct {
	open bool
	done chan struct{}
}

// begin listens to whoever wants to send connections, again after finish.
func (i *intake) begin(s *Server) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.abort != nil {
		i.order(true)
		return
	}
	i.ctx, i.abort = context.WithCancel(context.Background())
	i.orders, i.ended = make(chan order), make(chan struct{})
	// Asked for here and not in the goroutine: the generation refuses connections
	// if nobody has by the time it is ready.
	sources := s.gen.Predecessors()
	go func() {
		defer close(i.ended)
		i.door(sources, func(l *link.Conn) {
			i.work.run(func() { s.receiveFrom(i.ctx, l) })
		})
	}()
}

// order needs i.mu.
func (i *intake) order(open bool) {
	o := order{open, make(chan struct{})}
	select {
	case i.orders <- o:
		<-o.done
	case <-i.ended:
	}
}

// door lets in whoever comes while it is open. Others are turned away at once: they
// would wait for a greeting, with their connections.
func (i *intake) door(sources <-chan *link.Conn, in func(*link.Conn)) {
	refuse := func(l *link.Conn) { l.Close() }
	how := in
	for {
		select {
		case l := <-sources:
			how(l)
		case o := <-i.orders:
			each(sources, how) // they came before
			how = refuse
			if o.open {
				how = in
			}
			close(o.done)
		case <-i.ctx.Done():
			each(sources, refuse)
			return
		}
	}
}

// each calls f for what is in c already.
func each[T any](c <-chan T, f func(T)) {
	for {
		select {
		case x := <-c:
			f(x)
		default:
			return
		}
	}
}

// finish returns when all who send connections here have sent their last, or ctx
// is done: then they go on. Nobody new is listened to.
func (i *intake) finish(ctx context.Context) {
	i.close()
	ended := make(chan struct{})
	go func() {
		i.work.wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// end refuses what has not been acknowledged yet.
func (i *intake) end() {
	i.mu.Lock()
	if i.abort != nil {
		i.abort()
		<-i.ended
	}
	i.mu.Unlock()
	i.work.wait()
}

func (i *intake) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.abort != nil {
		i.order(false)
	}
}
