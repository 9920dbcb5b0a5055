//go:build unix

package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tablecloth-go/tablecloth/internal/link"
)

var errAborted = errors.New("receiver gave up")

// listen is the sender's ear. It settles what is in flight as soon as it is
// certain whose it is.
func (s *Sender) listen() {
	defer s.l.Close() // Close doesn't while something is in flight
	woken := make(chan struct{})
	s.ended.Go(func() {
		select {
		case <-s.dead:
			s.l.SetDeadline(time.Unix(1, 0)) // its end of the link may be open elsewhere
		case <-woken:
		}
	})
	err := s.converse()
	close(woken)
	if errors.Is(err, errAborted) {
		s.fail(err)
		s.recover(err)
		return
	}
	err = s.diagnose(err)
	s.fail(err)
	if n := s.unanswered(); n > 0 && !errors.Is(err, ErrDead) && !errors.Is(err, ErrClosed) {
		s.log.WithError(err).Warnf("handover: %d connections were sent and not answered: nobody serves them until the receiver has ended", n)
	}
	select {
	case <-s.dead: // and nothing it has said is left in the link
		s.recover(ErrDead)
	case <-s.over:
	}
}

// unanswered is the number of connections in flight.
func (s *Sender) unanswered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, b := range s.flight {
		n += len(b.items)
	}
	return n
}

// diagnose finds out whether the conversation ended because the receiver is
// dead: a process closes its descriptors a little before it counts as ended.
func (s *Sender) diagnose(err error) error {
	t := time.NewTimer(s.endWait)
	defer t.Stop()
	select {
	case <-s.dead:
	case <-s.over:
	case <-t.C:
	}
	select {
	case <-s.dead: // also if this process has slept through all of it
		return ErrDead
	default:
	}
	select {
	case <-s.greeted:
		return fmt.Errorf("link to the receiver: %w", err)
	default:
		return fmt.Errorf("%w: %w", ErrNoHello, err)
	}
}

// recover gives back what is in flight, which nobody else owns.
func (s *Sender) recover(why error) {
	s.l.SetWriteDeadline(time.Unix(1, 0)) // nobody reads any more
	s.mu.Lock()
	for s.sending {
		s.cond.Wait()
	}
	back := s.flight
	s.flight = nil
	s.cond.Broadcast()
	s.mu.Unlock()
	for _, b := range back {
		for _, it := range b.items {
			it.settle(it, why)
		}
	}
}

// converse returns when nothing can be heard any more, always with an error.
func (s *Sender) converse() error {
	m, err := s.recv()
	if err != nil {
		return err
	}
	if err := s.greet(m); err != nil {
		return err
	}
	for {
		m, err := s.recv()
		if err != nil {
			return err
		}
		if err := s.hear(m); err != nil {
			return err
		}
	}
}

// recv returns io.EOF when the receiver is dead and all that it has said was
// heard. EOF itself tells neither: the other end may be held open elsewhere.
func (s *Sender) recv() (link.Message, error) {
	m, err := s.l.Recv()
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return m, err
	}
	if !readable(s.l) {
		return link.Message{}, io.EOF
	}
	s.l.SetReadDeadline(time.Now().Add(5 * time.Second))
	defer s.l.SetReadDeadline(time.Unix(1, 0))
	return s.l.Recv()
}

// readable reports whether a Recv would return at once.
func readable(l *link.Conn) bool {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	some := false
	raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		some = err == nil && n > 0
	})
	return some
}

func (s *Sender) greet(m link.Message) error {
	m.Close() // there should be no descriptors
	h, err := decodeHello(m.Data)
	if err != nil {
		return err
	}
	v, err := h.version()
	if err != nil {
		s.fail(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v
	s.room = h.room
	s.servers = make(map[string]bool, len(h.servers))
	for _, name := range h.servers {
		s.servers[name] = true
	}
	close(s.greeted)
	return nil
}

// hear takes one message after the hello.
func (s *Sender) hear(m link.Message) error {
	m.Close()
	d := decoder{b: m.Data}
	switch kind(d.u8()) {
	case kindAnswer:
		a, err := decodeAnswer(d.b)
		if err != nil {
			return err
		}
		b, err := s.answered(a)
		if err != nil {
			return err
		}
		s.settle(b, a)
		return nil
	case kindAbort:
		return fmt.Errorf("%w: %s", errAborted, d.str())
	}
	return fmt.Errorf("from the receiver: %w", errGarbled)
}

// answered returns the batch that a belongs to.
func (s *Sender) answered(a answer) (*batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sending && len(s.flight) == 1 {
		s.cond.Wait() // the receiver was faster than send
	}
	if len(s.flight) == 0 || s.flight[0].seq != a.seq {
		return nil, fmt.Errorf("answer %d to no batch: %w", a.seq, errGarbled)
	}
	b := s.flight[0]
	for _, r := range a.refused {
		if r.index >= len(b.items) || r.code == 0 {
			return nil, fmt.Errorf("answer %d: %w", a.seq, errGarbled)
		}
	}
	return b, nil
}
