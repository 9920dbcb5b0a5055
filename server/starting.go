package server

import (
	"net"
	"sync"
	"time"
)

// starting is a listener that tells when its server has begun to accept: one
// that fails before (of a certificate that doesn't fit its key, say) must not
// make this generation ready.
type starting struct {
	net.Listener
	once  sync.Once
	began chan struct{}
}

func (l *starting) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.began) })
	return l.Listener.Accept()
}

func (s *Server) starting(ln net.Listener) net.Listener {
	l := &starting{Listener: ln, began: make(chan struct{})}
	s.starts = append(s.starts, l)
	return l
}

// maxStart bounds the wait for servers that take long until they accept.
const maxStart = 5 * time.Second

// waitStarted waits until all servers accept; an error is why one can't.
func (s *Server) waitStarted(stop <-chan struct{}) error {
	late := time.NewTimer(maxStart)
	defer late.Stop()
	for _, l := range s.starts {
		select {
		case <-l.began:
		case err := <-s.failed:
			return err
		case <-stop:
			return nil
		case <-late.C:
			s.log.Warnf("the server at %v doesn't accept yet", l.Addr())
			return nil
		}
	}
	return nil
}
