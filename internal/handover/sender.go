//go:build unix

package handover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

// SenderConfig of NewSender.
type SenderConfig struct {
	// Dead is closed when the receiver's process has ended. Required: nothing
	// else allows to take back what was sent and not answered.
	Dead <-chan struct{}
	// Log hears of failures. Required.
	Log logrus.FieldLogger
	// HelloWait bounds the wait for the receiver's hello. 0: 5 s.
	HelloWait time.Duration

	endWait time.Duration // bounds the wait for the end of one that has hung up; 0: 1 s
}

const (
	defaultHelloWait = 5 * time.Second
	defaultEndWait   = time.Second
)

// Sender gives connections to a receiver. Its methods may be called from several
// goroutines.
type Sender struct {
	l       *link.Conn
	dead    <-chan struct{}
	log     logrus.FieldLogger
	wait    time.Duration
	endWait time.Duration

	greeted chan struct{} // closed when the hello has come
	failed  chan struct{}
	over    chan struct{} // closed by Close
	closed  sync.Once
	ended   sync.WaitGroup // of the two goroutines

	mu      sync.Mutex
	cond    sync.Cond // queue, flight, sending, err or closing changed
	err     error
	version int
	servers map[string]bool
	room    int // as the receiver told last
	due     int // reserved, and not answered
	queue   []*Item
	flight  []*batch // sent, and not answered, in order
	sending bool     // the last one in flight is being sent: its items must not be touched
	seq     uint32
	sent    uint32 // connections that the receiver owns
	refused int    // and that it would not have
	most    int    // items in one batch
	window  int    // batches in flight
	closing bool
}

// NewSender starts to listen to the receiver at the other end of l, which the
// sender takes over.
func NewSender(l *link.Conn, c SenderConfig) *Sender {
	s := &Sender{
		l: l, dead: c.Dead, log: c.Log,
		wait:    cmp.Or(c.HelloWait, defaultHelloWait),
		endWait: cmp.Or(c.endWait, defaultEndWait),
		greeted: make(chan struct{}),
		failed:  make(chan struct{}),
		over:    make(chan struct{}),
		most:    maxFiles,
		window:  window(),
	}
	s.cond.L = &s.mu
	s.ended.Go(s.listen)
	s.ended.Go(s.send)
	return s
}

// window is how many batches may be on their way: the kernel bounds the
// descriptors in flight of an unprivileged user by RLIMIT_NOFILE (unix(7),
// ETOOMANYREFS).
func window() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur <= 1024 {
		return 2
	}
	return 4
}

// Takes waits for the receiver's hello and returns nil if it has a server of
// that name. Errors: ErrNoServer, ErrVersion, ErrNoHello; ErrDead, on which the
// receiver may yet be replaced; ctx.Err().
func (s *Sender) Takes(ctx context.Context, server string) error {
	t := time.NewTimer(s.wait)
	defer t.Stop()
	select {
	case <-s.greeted:
	case <-s.failed:
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return ErrNoHello
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case !s.servers[server]:
		return fmt.Errorf("%w: %s", ErrNoServer, server)
	}
	return nil
}

// Reserve reports whether the receiver has room for one more connection, and
// keeps it. Each successful Reserve must be followed by a Put or a Release.
func (s *Sender) Reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.closing {
		return false
	}
	if s.due >= s.room {
		s.turnAway(1, ErrNoRoom)
		return false
	}
	s.due++
	return true
}

// turnAway needs s.mu.
func (s *Sender) turnAway(n int, why error) {
	if s.refused == 0 {
		s.log.WithError(why).Warn("handover: some connections don't move")
	}
	s.refused += n
}

// Refused is how many connections the receiver had no room for, or would not have.
func (s *Sender) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Release undoes a Reserve.
func (s *Sender) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due--
}

// Put queues a connection, which is the sender's until settle is called, from a
// goroutine of the sender's: with nil when the receiver owns the connection, and
// the item is to be closed; with an error if it didn't move and is the caller's
// again. A connection whose fate is unknown when this process ends is never
// settled. Put doesn't block.
func (s *Sender) Put(it *Item, settle func(*Item, error)) {
	it.settle = settle
	s.mu.Lock()
	err := s.err
	if err == nil && (len(it.Prefix) > MaxPrefix || len(it.Server) > maxName) {
		err = ErrRefused // it would fit in no batch
	}
	if err == nil {
		s.queue = append(s.queue, it)
		s.cond.Broadcast()
	} else {
		s.due--
	}
	s.mu.Unlock()
	if err != nil {
		settle(it, err)
	}
}

// Failed is closed when nothing can be sent any more.
func (s *Sender) Failed() <-chan struct{} { return s.failed }

// Err is why the sender has failed; nil: it has not.
func (s *Sender) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close waits until everything that was Put is settled, tells the receiver that
// this was all, and closes the link. It returns the number of connections moved,
// and ctx.Err() or why the sender had failed: then what is in flight may be settled
// later, as soon as it is certain whose it is.
func (s *Sender) Close(ctx context.Context) (int, error) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cond.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	s.closing = true
	s.cond.Broadcast()
	for s.err == nil && ctx.Err() == nil && len(s.queue)+len(s.flight) > 0 {
		s.cond.Wait()
	}
	n, v, err := int(s.sent), s.version, s.err
	left := len(s.queue) + len(s.flight)
	if err == nil && left == 0 {
		s.failLocked(ErrClosed) // now: who has reserved must not put any more
	}
	s.mu.Unlock()
	if left > 0 { // the link stays: it may still be answered, or prove to be nobody else's
		return n, cmp.Or(err, ctx.Err())
	}
	if err == nil && v > 0 {
		err = s.l.Send(appendEnd(nil, v, uint32(n)))
	}
	s.closed.Do(func() { close(s.over) })
	s.l.Close()
	s.ended.Wait()
	return n, err
}

// fail gives back what was not sent. What was sent stays in flight.
func (s *Sender) fail(err error) {
	s.mu.Lock()
	back := s.failLocked(err)
	s.mu.Unlock()
	for _, it := range back {
		it.settle(it, err)
	}
}

// failLocked needs s.mu. It returns what is to be given back.
func (s *Sender) failLocked(err error) (back []*Item) {
	if s.err != nil {
		return nil
	}
	s.err = err
	back, s.queue = s.queue, nil
	s.due -= len(back)
	close(s.failed)
	s.cond.Broadcast()
	return back
}

// send runs until the sender fails or is closed.
func (s *Sender) send() {
	for refused := 0; ; {
		b := s.take()
		if b == nil {
			return
		}
		err := s.sendBatch(b)
		if errors.Is(err, unix.ETOOMANYREFS) { // surely not sent
			if refused++; refused < 100 {
				s.untake(b)
				s.pause()
				continue
			}
			s.untake(b)
		} else {
			s.wasSent()
		}
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded) {
			return // listen hears of it, too, and finds out what it means
		}
		if err != nil {
			s.fail(fmt.Errorf("send: %w", err)) // what is in flight stays there: who knows
			return
		}
		refused = 0
	}
}

// take makes the next batch when the window is open; nil: there will be none.
func (s *Sender) take() *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && (len(s.queue) == 0 || len(s.flight) >= s.window) {
		s.cond.Wait()
	}
	if s.err != nil {
		return nil
	}
	b := &batch{seq: s.seq}
	s.queue = b.fill(s.queue, s.most)
	s.seq++
	s.flight = append(s.flight, b)
	s.sending = true
	return b
}

// wasSent ends what take has begun.
func (s *Sender) wasSent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending = false
	s.cond.Broadcast()
}

// untake undoes take, as the kernel says that too many descriptors of this user
// are on their way.
func (s *Sender) untake(b *batch) {
	s.mu.Lock()
	s.flight = s.flight[:len(s.flight)-1]
	s.sending = false
	s.cond.Broadcast()
	s.seq--
	s.most = max(1, len(b.items)/2)
	err := s.err
	if err == nil {
		s.queue = append(b.items, s.queue...)
	} else {
		s.due -= len(b.items)
	}
	s.mu.Unlock()
	if err != nil {
		for _, it := range b.items {
			it.settle(it, err)
		}
	}
}

// pause waits until fewer descriptors may be on their way: ours, or somebody
// else's.
func (s *Sender) pause() {
	t := time.AfterFunc(10*time.Millisecond, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cond.Broadcast()
	})
	defer t.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.cond.Wait()
	}
}

func (s *Sender) sendBatch(b *batch) error {
	for _, m := range b.prefixMessages(s.version) {
		if err := s.l.Send(m); err != nil {
			return err
		}
	}
	fds := make([]int, len(b.items))
	for i, it := range b.items {
		fds[i] = it.FD
	}
	return s.l.Send(b.append(make([]byte, 0, 4096), s.version), fds...)
}

// settle tells what the receiver did with a batch, the first in flight.
func (s *Sender) settle(b *batch, a answer) {
	errs := make([]error, len(b.items))
	if a.all != 0 {
		for i := range errs {
			errs[i] = a.all.err()
		}
	}
	for _, r := range a.refused {
		errs[r.index] = r.code.err()
	}
	moved := 0
	var refused error
	for _, err := range errs {
		if err == nil {
			moved++
		} else {
			refused = err
		}
	}
	s.mu.Lock()
	if refused != nil {
		s.turnAway(len(errs)-moved, refused)
	}
	s.flight = slices.Delete(s.flight, 0, 1)
	s.due -= len(b.items)
	s.room = a.room
	s.sent += uint32(moved)
	s.cond.Broadcast() // the window is open before the descriptors are closed
	s.mu.Unlock()
	for i, it := range b.items {
		it.settle(it, errs[i])
	}
}
