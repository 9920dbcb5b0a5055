package server

import (
	"context"
	"sync"
)

// intake takes the connections of other processes.
type intake struct {
	mu    sync.Mutex
	shut  context.CancelFunc // nil: nobody new is listened to
	door  sync.WaitGroup     // who listens for them
	abort context.CancelFunc // nil: begin was not called
	ctx   context.Context    // abort ends it
	work  group              // one for each process
}

func (i *intake) begin(s *Server) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.shut != nil {
		return // a drain was taken back before it had ended it
	}
	if i.abort == nil {
		i.ctx, i.abort = context.WithCancel(context.Background())
	}
	var open context.Context
	open, i.shut = context.WithCancel(i.ctx)
	// Asked for here and not in the goroutine: the generation refuses connections
	// if nobody has by the time it is ready.
	sources := s.gen.Predecessors()
	i.door.Go(func() { s.receive(open, sources) })
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
	i.close()
	i.mu.Lock()
	abort := i.abort
	i.mu.Unlock()
	if abort != nil {
		abort()
	}
	i.work.wait()
}

func (i *intake) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.shut != nil {
		i.shut()
		i.door.Wait()
		i.shut = nil
	}
}
