package server

import (
	"context"
	"sync"
)

// intake is the time in which connections of other processes are taken.
type intake struct {
	mu   sync.Mutex
	stop context.CancelFunc // nil: it is over
	work sync.WaitGroup
}

func (i *intake) begin(s *Server) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stop != nil {
		return // a drain was taken back before it had ended it
	}
	ctx, stop := context.WithCancel(context.Background())
	i.stop = stop
	// Asked for here and not in the goroutine: the generation refuses connections
	// if nobody has by the time it is ready.
	sources := s.gen.Predecessors()
	i.work.Go(func() { s.receive(ctx, sources) })
}

// end returns when nothing is acknowledged any more, and all that was has its
// place here. It does nothing when ctx is done.
func (i *intake) end(ctx context.Context) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stop != nil && ctx.Err() == nil {
		i.stop()
		i.work.Wait()
		i.stop = nil
	}
}
