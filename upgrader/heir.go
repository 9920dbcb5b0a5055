//go:build unix

package upgrader

import (
	"time"

	"github.com/tablecloth-go/tablecloth/internal/link"
	"github.com/tablecloth-go/tablecloth/upgrader/control"
)

// successor is a child that acts for the service: from here on this process
// never kills it.
type successor struct {
	c    *child
	died chan struct{}
}

func (c *child) becomeHeir(u *Upgrader) heir {
	s := &successor{c: c, died: make(chan struct{})}
	go func() {
		if c.foreign {
			if h := c.handle(); h != nil {
				<-h.Done()
				close(s.died)
			}
			return
		}
		<-c.ended
		close(s.died)
	}()
	return s
}

func (s *successor) pid() int { return s.c.pid() }

func (s *successor) handover() *link.Conn {
	if s.c.foreign {
		return nil
	}
	return s.c.handover
}

func (s *successor) dead() <-chan struct{} { return s.died }

func (s *successor) kept() bool { return false }

// bury leaves the link for connections to who drains.
func (s *successor) bury() {
	s.c.link.Close()
	if h := s.c.handle(); h != nil {
		h.Close()
	}
}

func (s *successor) left() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.leaving
}

func (s *successor) expire() <-chan struct{} { return s.c.expired }

func (s *successor) forward(r control.UpgradeRequest) error {
	return s.tell(message{Type: msgUpgrade, Trigger: &r})
}

func (s *successor) stop() error { return s.tell(message{Type: msgStop}) }

func (s *successor) event(e control.Event) { s.tell(message{Type: msgEvent, Event: &e}) }

func (s *successor) status(g control.Generation) { s.tell(message{Type: msgStatus, Status: &g}) }

// tell doesn't wait for a successor that doesn't listen: it may be stopped.
func (s *successor) tell(m message) error {
	s.c.link.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	return send(s.c.link, m)
}
