package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tablecloth-go/tablecloth/internal/handover"
	"github.com/tablecloth-go/tablecloth/upgrader"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// drain ends this generation, whose gates are shut already. It reports whether
// the successor died and this one serves again instead. stop ends the service.
func (s *Server) drain(d *upgrader.Drain, stop <-chan struct{}) (resumed bool) {
	ctx, cancel := drainContext(d)
	defer cancel()
	s.log.Infof("close %s: %s", plural(len(s.runners), "server"), d.Reason)

	// 1. The application hears of it first.
	to := s.sender(d.Successor, d.SuccessorDead)
	all := senders{all: []*handover.Sender{to}}
	s.moving.Store(to != nil)
	s.draining.Store(true)
	s.epoch.Load().end()
	var hooks, work, moving sync.WaitGroup
	if s.o.OnDrain != nil {
		hooks.Go(func() { s.onDrain(ctx) })
	}
	// 2. What is idle moves or closes; what is in flight comes to its end.
	how := ending{stopping: d.Reason == upgrader.Stopped, sender: to, arrived: s.arrivals(ctx, d), moved: moving.Done}
	for _, r := range s.runners {
		if _, moves := r.(*httpRunner); moves {
			moving.Add(1)
		}
		work.Go(func() { r.drain(ctx, how) })
	}
	done := make(chan struct{})
	go func() {
		// A successor that drains itself waits for this word, and needn't wait for
		// what can't move.
		moving.Wait()
		told := s.sendLast(ctx, &all, 0)
		work.Wait()
		s.sendLast(ctx, &all, told)
		hooks.Wait()
		s.hooks.wait()
		close(done)
	}()
	// 3. Whichever comes first.
	s.awaitEnd(ctx, d, done, stop, &all)
	select {
	case <-d.Resumed:
		cancel()
		work.Wait()
		s.resume()
		s.intake.begin(s)
		return true
	default:
	}
	if ctx.Err() != nil {
		s.expire(d)
	}
	return false
}

// awaitEnd returns when all is done, the time is over, or the drain is taken back.
func (s *Server) awaitEnd(ctx context.Context, d *upgrader.Drain, done, stop <-chan struct{}, all *senders) {
	for {
		select {
		case <-stop: // whoever ends any generation means the service
			stop = nil
			s.gen.Stop()
		case next := <-d.Successors: // the one before is dead
			s.redirect(all, next)
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-d.Resumed:
			return
		}
	}
}

// senders are those of one drain: the last one works.
type senders struct {
	mu  sync.Mutex
	all []*handover.Sender
}

func (s *senders) list() []*handover.Sender {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func (s *senders) add(to *handover.Sender) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, to)
}

// arrivals is closed when no more connections of other processes come. Generations
// before this one may still drain: what they send moves on from here.
func (s *Server) arrivals(ctx context.Context, d *upgrader.Drain) <-chan struct{} {
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		if d.Reason == upgrader.Stopped {
			s.intake.end()
		} else {
			s.intake.finish(ctx)
		}
	}()
	return arrived
}

// sendLast ends the handovers except for the first ones. It returns their number.
func (s *Server) sendLast(ctx context.Context, all *senders, first int) int {
	list := all.list()
	for _, to := range list[first:] {
		s.sent(ctx, to)
	}
	return len(list)
}

// redirect lets connections go to another successor.
func (s *Server) redirect(all *senders, next upgrader.Successor) {
	to := s.sender(next.Link, next.Dead)
	all.add(to)
	s.moving.Store(true)
	for _, r := range s.runners {
		r.redirect(to)
	}
}

// drainContext is done at the deadline, or when somebody asked that the drain
// end at once.
func drainContext(d *upgrader.Drain) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	if !d.Deadline.IsZero() {
		ctx, cancel = context.WithDeadline(context.Background(), d.Deadline)
	}
	if d.Expired != nil {
		go func() {
			select {
			case <-d.Expired:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

func (s *Server) onDrain(ctx context.Context) {
	defer s.contain("OnDrain")
	s.o.OnDrain(withServer{ctx, s})
}

// maxNamed is how many of those that hold up a drain are named.
const maxNamed = 16

// keeperKills is how long a keeper may take to end this process at its timeout:
// then what is left of its requests is answered, while here it could only be cut.
const keeperKills = 2 * time.Second

// expire is what happens at the kill timeout.
func (s *Server) expire(d *upgrader.Drain) {
	left := s.holdouts()
	for _, h := range left.Oldest {
		s.log.Warn(describe(h, time.Now()))
	}
	if more := left.All - len(left.Oldest); more > 0 {
		s.log.Warnf("and %d more", more)
	}
	name := "kill"
	if d.Reason == upgrader.Stopped {
		name = "stop"
	}
	if s.vault {
		s.log.Warnf("%s timeout: the keeper sees to %s", name, plural(left.All, "connection"))
		time.Sleep(keeperKills)
	}
	s.log.Warnf("%s timeout, exit now: %s cut", name, plural(left.All, "connection"))
	for _, r := range s.runners {
		r.cut()
	}
}

func describe(h control.Conn, now time.Time) string {
	text := fmt.Sprintf("still open: %s %s for %v", h.Service, h.State, now.Sub(h.Since).Round(time.Millisecond))
	if h.Request != "" {
		text += ": " + h.Request
	}
	if h.Peer != "" {
		text += " from " + h.Peer
	}
	return text
}

// resume takes the service back: the successor is dead, and the gates are open.
func (s *Server) resume() {
	s.epoch.Store(newEpoch())
	s.draining.Store(false)
	var ended []string
	for i, r := range s.runners {
		if !r.resume() {
			ended = append(ended, s.names[i])
		}
	}
	if len(ended) == 0 {
		s.log.Warn("the successor is gone: serve again")
		return
	}
	s.log.Warnf("the successor is gone, and %q can't serve again after a graceful stop: upgrade once more", ended)
	go s.replaceEnded(ended)
}

// replaceEnded starts another generation, because a part of this one has ended
// for good. Until it is ready clients of that part wait in the backlog.
func (s *Server) replaceEnded(ended []string) {
	if _, err := s.gen.Upgrade(context.Background()); err != nil {
		s.fail(fmt.Errorf("%q has ended, and nothing could take its place: %w", ended, err))
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
